//! Why the row of a call-frame table gives no caller.

use crate::base::address::ProcessAddress;

/// Why a row gives nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Memory that it needs was not captured.
    NotCaptured(ProcessAddress),
    /// It needs a register that is not known, or makes no sense.
    Unusable,
}
