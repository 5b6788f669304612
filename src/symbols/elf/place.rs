//! The place of a section, in memory and in the file.

use super::source::FileRange;

/// A section: where it is in memory and in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) address: u64,
    pub(crate) range: FileRange,
}

/// A section that holds code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CodeSection {
    pub(crate) index: usize,
    pub(crate) end: u64,
}
