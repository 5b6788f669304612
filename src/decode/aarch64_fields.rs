//! The fields of an instruction word of aarch64 or arm: bits, signed numbers, registers.

use super::Reg;

/// Bits `from` to `from + count - 1`.
pub(super) fn bits(word: u32, from: u32, count: u32) -> u32 {
    word >> from & ((1 << count) - 1)
}

/// The same with their sign.
pub(super) fn signed(word: u32, from: u32, count: u32) -> i64 {
    i64::from((word << (32 - from - count)) as i32 >> (32 - count))
}

pub(super) fn reg(word: u32, from: u32) -> Reg {
    Reg(bits(word, from, 5) as u8)
}
