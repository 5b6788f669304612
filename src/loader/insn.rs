//! BPF instructions: eight bytes each, decoded, patched, encoded.
//!
//! A [`Fixup`] that the CO-RE engine computed comes in here and is applied; so do
//! the references to maps and functions. Applying checks that the instruction
//! still holds the value that the compiler put there, as libbpf does: if it does
//! not, the object and its relocations do not belong together.
//!
//! This file knows nothing of types or of the kernel. The encoding is
//! `Documentation/bpf/standardization/instruction-set.rst`.

use std::fmt;

use crate::base::bytes::Cursor;
use crate::loader::relo::Fixup;

/// Bytes of one instruction slot; `LDIMM64` takes two slots.
pub const SIZE: usize = 8;

const CLASS: u8 = 0x07;
const CLASS_LD: u8 = 0x00;
const CLASS_LDX: u8 = 0x01;
const CLASS_ST: u8 = 0x02;
const CLASS_STX: u8 = 0x03;
const CLASS_ALU: u8 = 0x04;
const CLASS_ALU64: u8 = 0x07;
const SOURCE_REGISTER: u8 = 0x08;
const SIZE_MASK: u8 = 0x18;

const LDIMM64: u8 = 0x18;
const CALL: u8 = 0x85;

/// `src_reg` of a load that names a map by descriptor.
pub const PSEUDO_MAP_FD: u8 = 1;
/// `src_reg` of a load that names a place inside an array map's value.
pub const PSEUDO_MAP_VALUE: u8 = 2;
/// `src_reg` of a load that names a function of the same program.
pub const PSEUDO_FUNC: u8 = 4;
/// `src_reg` of a call to a function of the same program.
pub const PSEUDO_CALL: u8 = 1;

/// The helper number that a poisoned instruction calls: libbpf's 0xbad2310, "bad relo".
pub const POISON_HELPER: i32 = 0x0bad_2310;

/// One instruction slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Instruction {
    pub code: u8,
    pub destination: u8,
    pub source: u8,
    pub offset: i16,
    pub immediate: i32,
}

impl Instruction {
    /// True for the first slot of a 64-bit immediate load.
    #[must_use]
    pub fn is_wide_load(&self) -> bool {
        self.code == LDIMM64
    }

    /// True for a call to another function of the object.
    #[must_use]
    pub fn is_local_call(&self) -> bool {
        self.code == CALL && self.source == PSEUDO_CALL
    }

    fn poisoned() -> Self {
        Instruction {
            code: CALL,
            destination: 0,
            source: 0,
            offset: 0,
            immediate: POISON_HELPER,
        }
    }

    fn access_bytes(self) -> u32 {
        match self.code & SIZE_MASK {
            0x00 => 4,
            0x08 => 2,
            0x10 => 1,
            _ => 8,
        }
    }
}

fn size_bits(bytes: u32) -> Option<u8> {
    match bytes {
        1 => Some(0x10),
        2 => Some(0x08),
        4 => Some(0x00),
        8 => Some(0x18),
        _ => None,
    }
}

/// Instructions from a section's bytes; an incomplete last slot is left out.
#[must_use]
pub fn decode(bytes: &[u8]) -> Vec<Instruction> {
    let mut cursor = Cursor::new(bytes);
    let mut decoded = Vec::with_capacity(bytes.len() / SIZE);
    while let (Ok(code), Ok(registers), Ok(offset), Ok(immediate)) =
        (cursor.u8(), cursor.u8(), cursor.u16(), cursor.i32())
    {
        decoded.push(Instruction {
            code,
            destination: registers & 0x0f,
            source: registers >> 4,
            offset: offset.cast_signed(),
            immediate,
        });
    }
    decoded
}

/// The bytes that the kernel wants.
#[must_use]
pub fn encode(instructions: &[Instruction]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(instructions.len() * SIZE);
    for insn in instructions {
        bytes.push(insn.code);
        bytes.push(insn.destination & 0x0f | insn.source << 4);
        bytes.extend_from_slice(&insn.offset.to_le_bytes());
        bytes.extend_from_slice(&insn.immediate.to_le_bytes());
    }
    bytes
}

/// Why an instruction cannot take a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsnError {
    /// The index lies outside of the program.
    Outside { index: usize },
    /// The instruction holds another value than the relocation was made for.
    Unexpected {
        index: usize,
        held: u64,
        expected: u64,
    },
    /// The new value does not fit into the instruction.
    TooBig { index: usize, value: u64 },
    /// No instruction accesses so many bytes.
    BadSize { index: usize, bytes: u32 },
    /// This kind of instruction carries no relocatable value.
    NotRelocatable { index: usize, code: u8 },
}

impl fmt::Display for InsnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            InsnError::Outside { index } => write!(f, "instruction {index} is outside the program"),
            InsnError::Unexpected {
                index,
                held,
                expected,
            } => write!(
                f,
                "instruction {index} holds {held}, the relocation expects {expected}"
            ),
            InsnError::TooBig { index, value } => {
                write!(f, "instruction {index} has no room for {value}")
            }
            InsnError::BadSize { index, bytes } => {
                write!(f, "instruction {index} cannot access {bytes} bytes")
            }
            InsnError::NotRelocatable { index, code } => {
                write!(
                    f,
                    "instruction {index} (code {code:#04x}) is not relocatable"
                )
            }
        }
    }
}

impl std::error::Error for InsnError {}

/// The result of a fix-up for an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    Patched,
    /// It calls a helper that does not exist now: an error if it can be reached.
    Poisoned,
}

/// Puts a fix-up's value into the instruction at `index`, or poisons it.
pub fn apply(
    program: &mut [Instruction],
    index: usize,
    fixup: &Fixup,
) -> Result<Applied, InsnError> {
    let insn = *program.get(index).ok_or(InsnError::Outside { index })?;
    if fixup.poison {
        return poison(program, index);
    }
    match insn.code & CLASS {
        CLASS_ALU | CLASS_ALU64 if insn.code & SOURCE_REGISTER == 0 => {
            // The immediate is sign-extended to 64 bits in both readings.
            let held = i64::from(insn.immediate).cast_unsigned();
            expect(
                index,
                fixup,
                held,
                u64::from(insn.immediate.cast_unsigned()),
            )?;
            let value = i32::try_from(fixup.target)
                .or_else(|_| u32::try_from(fixup.target).map(u32::cast_signed))
                .or_else(|_| i32::try_from(fixup.target.cast_signed()))
                .map_err(|_| InsnError::TooBig {
                    index,
                    value: fixup.target,
                })?;
            program[index].immediate = value;
            Ok(Applied::Patched)
        }
        CLASS_LDX | CLASS_ST | CLASS_STX => apply_access(program, index, fixup),
        CLASS_LD if insn.is_wide_load() => apply_wide(program, index, fixup),
        _ => Err(InsnError::NotRelocatable {
            index,
            code: insn.code,
        }),
    }
}

/// The second reading is for values that the compiler cut to 32 bits.
fn expect(index: usize, fixup: &Fixup, held: u64, also: u64) -> Result<(), InsnError> {
    if !fixup.validate || held == fixup.local || also == fixup.local {
        return Ok(());
    }
    Err(InsnError::Unexpected {
        index,
        held,
        expected: fixup.local,
    })
}

fn poison(program: &mut [Instruction], index: usize) -> Result<Applied, InsnError> {
    if program.get(index).is_some_and(Instruction::is_wide_load) {
        let second = program
            .get_mut(index + 1)
            .ok_or(InsnError::Outside { index: index + 1 })?;
        *second = Instruction::poisoned();
    }
    program[index] = Instruction::poisoned();
    Ok(Applied::Poisoned)
}

fn apply_access(
    program: &mut [Instruction],
    index: usize,
    fixup: &Fixup,
) -> Result<Applied, InsnError> {
    let mut insn = program[index];
    let held = i64::from(insn.offset).cast_unsigned();
    expect(index, fixup, held, held)?;
    if fixup.unsafe_resize {
        return poison(program, index);
    }
    insn.offset = i16::try_from(fixup.target).map_err(|_| InsnError::TooBig {
        index,
        value: fixup.target,
    })?;
    if fixup.target_size != fixup.local_size {
        if insn.access_bytes() != fixup.local_size {
            return Err(InsnError::Unexpected {
                index,
                held: u64::from(insn.access_bytes()),
                expected: u64::from(fixup.local_size),
            });
        }
        let bits = size_bits(fixup.target_size).ok_or(InsnError::BadSize {
            index,
            bytes: fixup.target_size,
        })?;
        insn.code = insn.code & !SIZE_MASK | bits;
    }
    program[index] = insn;
    Ok(Applied::Patched)
}

fn apply_wide(
    program: &mut [Instruction],
    index: usize,
    fixup: &Fixup,
) -> Result<Applied, InsnError> {
    let (low, high) = wide_slots(program, index)?;
    if low.source != 0 || low.offset != 0 || high.code != 0 {
        return Err(InsnError::NotRelocatable {
            index,
            code: low.code,
        });
    }
    let held =
        u64::from(low.immediate.cast_unsigned()) | u64::from(high.immediate.cast_unsigned()) << 32;
    expect(index, fixup, held, held)?;
    set_wide(program, index, fixup.target);
    Ok(Applied::Patched)
}

fn wide_slots(
    program: &[Instruction],
    index: usize,
) -> Result<(Instruction, Instruction), InsnError> {
    match (program.get(index), program.get(index + 1)) {
        (Some(low), Some(high)) if low.is_wide_load() => Ok((*low, *high)),
        (Some(other), Some(_)) => Err(InsnError::NotRelocatable {
            index,
            code: other.code,
        }),
        _ => Err(InsnError::Outside { index: index + 1 }),
    }
}

fn set_wide(program: &mut [Instruction], index: usize, value: u64) {
    // Both halves of a split 64-bit value fit by construction.
    program[index].immediate = (value as u32).cast_signed();
    program[index + 1].immediate = ((value >> 32) as u32).cast_signed();
}

/// Makes the wide load at `index` yield a kernel object: `source` is its kind, `low` and
/// `high` are the two immediates.
pub fn set_pseudo(
    program: &mut [Instruction],
    index: usize,
    source: u8,
    low: u32,
    high: u32,
) -> Result<(), InsnError> {
    wide_slots(program, index)?;
    set_wide(program, index, u64::from(low) | u64::from(high) << 32);
    program[index].source = source;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{apply, decode, encode, Applied, InsnError, Instruction, POISON_HELPER};
    use crate::loader::relo::{Fixup, RelocationKind};

    fn fixup(local: u64, target: u64) -> Fixup {
        Fixup {
            kind: RelocationKind::ByteOffset,
            local,
            target,
            poison: false,
            validate: true,
            local_size: 8,
            target_size: 8,
            unsafe_resize: false,
        }
    }

    // r1 = *(u64 *)(r2 + 16)
    const LOAD: [u8; 8] = [0x79, 0x21, 16, 0, 0, 0, 0, 0];
    // r3 = 0x1_0000_0002 ll
    const WIDE: [u8; 16] = [0x18, 3, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];

    #[test]
    fn what_is_decoded_encodes_to_the_same_bytes() {
        let all = [&LOAD[..], &WIDE[..]].concat();
        assert_eq!(encode(&decode(&all)), all);
        assert_eq!(decode(&LOAD[..7]), []);
    }

    #[test]
    fn a_load_takes_a_new_offset_and_a_new_width() {
        let mut program = decode(&LOAD);
        let mut fix = fixup(16, 24);
        fix.target_size = 4;
        assert_eq!(apply(&mut program, 0, &fix), Ok(Applied::Patched));
        assert_eq!(encode(&program), [0x61, 0x21, 24, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_value_that_is_not_the_compilers_is_refused() {
        let mut program = decode(&LOAD);
        assert_eq!(
            apply(&mut program, 0, &fixup(8, 24)),
            Err(InsnError::Unexpected {
                index: 0,
                held: 16,
                expected: 8
            })
        );
        assert_eq!(
            apply(&mut program, 0, &fixup(16, 40_000)),
            Err(InsnError::TooBig {
                index: 0,
                value: 40_000
            })
        );
    }

    #[test]
    fn poison_takes_both_slots_of_a_wide_load() {
        let mut program = decode(&WIDE);
        let mut fix = fixup(0, 0);
        fix.poison = true;
        assert_eq!(apply(&mut program, 0, &fix), Ok(Applied::Poisoned));
        for insn in &program {
            assert_eq!(
                (insn.code, insn.immediate),
                (0x85, POISON_HELPER),
                "{insn:?}"
            );
        }
    }

    #[test]
    fn a_wide_load_takes_all_64_bits() {
        let mut program = decode(&WIDE);
        apply(&mut program, 0, &fixup(0x1_0000_0002, u64::MAX - 1)).unwrap();
        assert_eq!(program[0].immediate, -2);
        assert_eq!(program[1].immediate, -1);
        let cut = &mut program[..1];
        assert_eq!(
            apply(cut, 0, &fixup(0, 1)),
            Err(InsnError::Outside { index: 1 })
        );
    }

    #[test]
    fn a_jump_carries_nothing_relocatable() {
        let mut program = [Instruction {
            code: 0x05,
            ..Instruction::default()
        }];
        assert_eq!(
            apply(&mut program, 0, &fixup(0, 1)),
            Err(InsnError::NotRelocatable {
                index: 0,
                code: 0x05
            })
        );
    }
}
