//! x86 instructions.

use super::Decoded;

pub(super) fn decode(_long: bool, _code: &[u8]) -> Option<Decoded> {
    None
}
