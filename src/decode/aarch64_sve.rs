//! Loads and stores of scalable vectors and of tiles (SVE, SME).
//!
//! Their width depends on the vector length, which no general register holds, and the
//! accessed lanes depend on a mask. An immediate displacement counts in vectors, so it
//! depends on the length too, unless it is zero. For gathers and scatters not even the
//! base is known: it may be a vector.

use super::aarch64_fields::{bits, reg, signed};
use super::{Extend, Index, Operand, Touch};

/// What is known of an address.
enum Address {
    /// Nothing.
    Scattered,
    /// The base.
    Opaque,
    /// Base and index, shifted by this.
    Indexed(u32),
    /// The base, and how many vectors from there.
    Vectors,
    /// Base and displacement, in units of this.
    Bytes(u32),
}

/// The memory operand of an SVE instruction; whether it has one. The base is
/// there.
#[inline(never)]
pub(super) fn vectors(word: u32, operand: &mut Operand) -> bool {
    let size = bits(word, 23, 2);
    let form = bits(word, 13, 3);
    let structure = bits(word, 21, 2);
    operand.touch = Touch::Read;
    operand.partial = true;
    // ld1rq, ld1ro: the same for every 16 or 32 bytes of a vector.
    let bytes = 16 << bits(word, 21, 1);
    let repeated = form < 2 && !(form == 1 && bits(word, 20, 1) == 1);
    let address = match word >> 25 {
        // Contiguous loads.
        0b101_0010 => {
            if repeated {
                operand.width = Some(bytes as u16);
            }
            match form {
                0 => Address::Indexed(size),
                1 if repeated => Address::Bytes(bytes),
                // By the size in memory and the size in the register: two bits for each.
                2 | 3 => Address::Indexed(0xc0a5_5600 >> (2 * bits(word, 21, 4)) & 3),
                6 => Address::Indexed(size),
                1 | 5 | 7 => Address::Vectors,
                _ => Address::Opaque,
            }
        }
        // Stores: of a whole vector or mask, contiguous ones, and all others.
        0b111_0010 => {
            operand.touch = Touch::Write;
            match form {
                0 | 2 if bits(word, 22, 3) == 6 => Address::Opaque,
                2 | 3 => Address::Indexed(size),
                7 => Address::Vectors,
                _ => Address::Scattered,
            }
        }
        // Gathers, prefetches, ldr, and loads of one element for all lanes.
        0b100_0010 | 0b110_0010 => {
            let of_64 = word >> 30 & 1 == 1;
            let high = bits(word, 15, 1) == 1;
            let hint = match (size, structure) {
                (_, 0) if form == 7 => true,
                (_, 0) if form == 6 => !of_64,
                (0, 1 | 3) if !high => true,
                (0, 3) => of_64,
                (3, 2 | 3) => !of_64 && !high,
                _ => false,
            };
            if hint {
                operand.touch = Touch::Nothing;
            }
            Address::Scattered
        }
        _ => return false,
    };
    operand.opaque = match address {
        Address::Scattered => {
            operand.base = None;
            true
        }
        Address::Opaque => true,
        Address::Vectors => bits(word, 16, 4) != 0,
        Address::Bytes(unit) => {
            operand.displacement = signed(word, 16, 4) * i64::from(unit);
            false
        }
        Address::Indexed(shift) => {
            operand.index = (bits(word, 16, 5) != 31).then_some(Index {
                register: reg(word, 16),
                extend: Extend::Whole,
                shift: shift as u8,
            });
            false
        }
    };
    true
}

/// The same of SME, and of SVE's loads and stores of several vectors.
pub(super) fn tiles(word: u32, operand: &mut Operand) -> bool {
    operand.touch = match bits(word, 21, 1) {
        0 => Touch::Read,
        _ => Touch::Write,
    };
    operand.partial = true;
    operand.opaque = true;
    let several = word >> 25 == 0b101_0000 && bits(word, 23, 1) == 0;
    several || word >> 25 == 0b111_0000
}
