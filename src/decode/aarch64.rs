//! aarch64 instructions.

use super::Decoded;

pub(super) fn decode(_word: u32) -> Option<Decoded> {
    None
}
