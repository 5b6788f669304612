//! Loads and stores of scalable vectors and of tiles (SVE, SME).
//!
//! Their width depends on a length that no general register holds, and which
//! lanes are touched on a mask; so does an immediate displacement, which counts
//! by vectors, unless it is zero. Of gathers and scatters not even the base is
//! told: it may be a vector.

use super::aarch64::{at, bits, reg, signed};
use super::{Extend, Index, Operand, Touch};

/// What lies at the base of bits 9..5, as far as that goes.
fn opaque(word: u32, touch: Touch) -> Operand {
    Operand {
        width: None,
        partial: true,
        opaque: true,
        ..at(word, touch, 0)
    }
}

fn with_index(word: u32, touch: Touch, shift: u32) -> Operand {
    Operand {
        index: (bits(word, 16, 5) != 31).then_some(Index {
            register: reg(word, 16),
            extend: Extend::Whole,
            shift: shift as u8,
        }),
        opaque: false,
        ..opaque(word, touch)
    }
}

/// With a displacement in vectors.
fn with_vectors(word: u32, touch: Touch) -> Operand {
    Operand {
        opaque: bits(word, 16, 4) != 0,
        ..opaque(word, touch)
    }
}

/// The memory operand of an SVE instruction, if it has one.
pub(super) fn vectors(word: u32) -> Option<Operand> {
    let size = bits(word, 23, 2);
    let form = bits(word, 13, 3);
    let structure = bits(word, 21, 2);
    let scattered = |touch| Operand {
        base: None,
        ..opaque(word, touch)
    };
    Some(match word >> 25 {
        // Contiguous loads.
        0b101_0010 => match form {
            // ld1rq, ld1ro: 16 or 32 bytes for every vector.
            1 if bits(word, 20, 1) == 1 => with_vectors(word, Touch::Read),
            0 | 1 => {
                let bytes = 16 << bits(word, 21, 1);
                let mut operand = with_index(word, Touch::Read, size);
                if form == 1 {
                    operand.index = None;
                    operand.displacement = signed(word, 16, 4) * i64::from(bytes);
                }
                operand.width = Some(bytes);
                operand
            }
            2 | 3 => {
                // By what is loaded, and as what.
                const LOG: [u8; 16] = [0, 0, 0, 0, 2, 1, 1, 1, 1, 1, 2, 2, 0, 0, 0, 3];
                let log = LOG[bits(word, 21, 4) as usize];
                with_index(word, Touch::Read, u32::from(log))
            }
            6 => with_index(word, Touch::Read, size),
            5 | 7 => with_vectors(word, Touch::Read),
            _ => opaque(word, Touch::Read),
        },
        // Stores: contiguous ones, and then all others.
        0b111_0010 => match form {
            // str of a vector, of a mask
            0 | 2 if bits(word, 22, 3) == 6 => opaque(word, Touch::Write),
            2 => with_index(word, Touch::Write, size),
            3 => with_index(word, Touch::Write, size),
            7 => with_vectors(word, Touch::Write),
            _ => scattered(Touch::Write),
        },
        // Gathers, prefetches, ldr, and loads of one element for all lanes.
        0b100_0010 | 0b110_0010 => {
            let of_64 = word >> 30 & 1 == 1;
            let high = bits(word, 15, 1) == 1;
            let hint = match (size, structure) {
                (_, 0) if form == 7 => true,
                (_, 0) if form == 6 => !of_64,
                (0, 1 | 3) if !high => true,
                (0, 3) => of_64,
                (3, 2 | 3) => !of_64 && !high && bits(word, 22, 1) == 1,
                _ => false,
            };
            scattered(if hint { Touch::Nothing } else { Touch::Read })
        }
        _ => return None,
    })
}

/// The same of SME, and of SVE's loads and stores of several vectors.
pub(super) fn tiles(word: u32) -> Option<Operand> {
    let touch = match bits(word, 21, 1) {
        0 => Touch::Read,
        _ => Touch::Write,
    };
    let several = word >> 25 == 0b101_0000 && bits(word, 23, 1) == 0;
    (several || word >> 25 == 0b111_0000).then(|| opaque(word, touch))
}
