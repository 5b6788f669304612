//! What one instruction of 32-bit ARM does to the stack pointer, to what is saved on the
//! stack, and to the order in which code runs.
//!
//! By the Arm Architecture Reference Manual for ARMv7-A (DDI 0406C): A32 in chapter A5, T32
//! in chapter A6. Only what compilers put into prologues, epilogues and branches is
//! decoded; all other instructions have no effect here.

/// The two instruction sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    Arm,
    Thumb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    /// The stack pointer is lowered by so many bytes, and registers (as bits) stored
    /// from there on upwards.
    Push {
        mask: u16,
        bytes: i64,
    },
    /// Registers are loaded from the stack pointer on upwards, and it is raised.
    Pop {
        mask: u16,
        bytes: i64,
    },
    /// `to = from + bytes`; either may be the stack pointer.
    Add {
        to: u8,
        from: u8,
        bytes: i64,
    },
    /// `to = from +- by`, a register.
    AddRegister {
        to: u8,
        from: u8,
        by: u8,
        down: bool,
    },
    /// A register gets a constant, all of it or its upper half.
    Constant {
        to: u8,
        value: u32,
    },
    Upper {
        to: u8,
        value: u32,
    },
    /// Registers are loaded from so many bytes beside another one.
    Load {
        mask: u16,
        from: u8,
        bytes: i64,
    },
    /// The stack pointer gets a value that the instruction alone does not say.
    Lose,
    Call,
    /// To so many bytes from the instruction's first.
    Jump(i64),
    Branch(i64),
    /// A jump to what a register or memory holds.
    Leave,
    /// `bx lr`
    Return,
    /// What stands behind it does not run after it.
    Stop,
    /// Thumb: so many instructions that follow depend on conditions.
    Conditions(u8),
}

/// An instruction's length and effect, and whether it depends on a condition of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) length: usize,
    pub(super) effect: Effect,
    pub(super) conditional: bool,
}

const SP: u8 = 13;
const LR: u8 = 14;
const PC: u8 = 15;

/// The instruction that these bytes begin with; `None` if they do not have all of it.
pub(super) fn step(set: Set, code: &[u8]) -> Option<Step> {
    match set {
        Set::Arm => {
            let word = u32::from_le_bytes(*code.first_chunk()?);
            Some(Step {
                length: 4,
                effect: arm(word),
                conditional: word >> 28 < 0xe,
            })
        }
        Set::Thumb => {
            let first = u16::from_le_bytes(*code.first_chunk()?);
            if first >> 11 < 0b11101 {
                return Some(Step {
                    length: 2,
                    effect: thumb(first.into()),
                    conditional: false,
                });
            }
            let second = u16::from_le_bytes(*code.get(2..)?.first_chunk()?);
            Some(Step {
                length: 4,
                effect: wide(first.into(), second.into()),
                conditional: false,
            })
        }
    }
}

fn bits(word: u32, from: u32, count: u32) -> u32 {
    word >> from & ((1 << count) - 1)
}

fn register(word: u32, from: u32) -> u8 {
    bits(word, from, 4) as u8
}

/// A number of so many bits, the lowest ones, with its sign.
fn signed(value: u32, count: u32) -> i64 {
    i64::from((value << (32 - count)) as i32 >> (32 - count))
}

fn push(mask: u32) -> Effect {
    Effect::Push {
        mask: mask as u16,
        bytes: i64::from(mask.count_ones()) * 4,
    }
}

fn pop(mask: u32) -> Effect {
    Effect::Pop {
        mask: mask as u16,
        bytes: i64::from(mask.count_ones()) * 4,
    }
}

fn two(word: u32, first: u32, second: u32) -> u16 {
    1 << bits(word, first, 4) | 1 << bits(word, second, 4)
}

fn arm(word: u32) -> Effect {
    let low = word & 0x0fff_ffff;
    let imm12 = i64::from(word & 0xfff);
    let to = register(word, 12);
    let from = register(word, 16);
    if word >> 28 == 0xf {
        // blx to Thumb code.
        return match word >> 25 & 7 {
            0b101 => Effect::Call,
            _ => Effect::None,
        };
    }
    match low >> 20 {
        // push, pop; of one register.
        0x92 if from == SP => return push(word & 0xffff),
        0x8b if from == SP => return pop(word & 0xffff),
        0x52 if from == SP => {
            return Effect::Push {
                mask: 1 << to,
                bytes: imm12,
            }
        }
        0x49 if from == SP => {
            return Effect::Pop {
                mask: 1 << to,
                bytes: imm12,
            }
        }
        // strd and ldrd of a pair.
        0x16 | 0x0c if from == SP && matches!(word & 0xf0, 0xf0 | 0xd0) => {
            let mask = 3 << (to & 14);
            let bytes = i64::from(word >> 4 & 0xf0 | word & 0xf);
            return match (low >> 20, word & 0xf0) {
                (0x16, 0xf0) => Effect::Push { mask, bytes },
                (0x0c, 0xd0) => Effect::Pop { mask, bytes },
                _ => Effect::None,
            };
        }
        0xa0..=0xaf => return Effect::Jump(signed(word, 24) * 4 + 8).or_branch(word >> 28 < 0xe),
        0xb0..=0xbf => return Effect::Call,
        _ => {}
    }
    // vpush, vpop
    match word & 0x0fbf_0e00 {
        0x0d2d_0a00 => return by(SP, SP, -i64::from(word & 0xff) * 4),
        0x0cbd_0a00 => return by(SP, SP, i64::from(word & 0xff) * 4),
        _ => {}
    }
    match low & 0xfff_fff0 {
        0x12f_ff10 if word & 0xf == u32::from(LR) => return Effect::Return,
        0x12f_ff10 => return Effect::Leave,
        0x12f_ff30 => return Effect::Call,
        _ => {}
    }
    match low & 0xff0_00f0 {
        0x7f0_00f0 => return Effect::Stop,
        _ if low == 0x1a0_f00e => return Effect::Return,
        _ => {}
    }
    match low >> 25 {
        // A block of registers: only where it returns is of interest.
        0b100 if word >> 20 & 1 == 1 && word >> 15 & 1 == 1 => block(word),
        0b100 if from == SP && word >> 21 & 1 == 1 => Effect::Lose,
        0b001 => immediate(word, to, from),
        // Multiplications and the like have both of these bits.
        0b000 if word & 0x90 == 0x90 => Effect::None,
        0b000 => by_register(word, to, from),
        0b010 | 0b011 if word >> 20 & 1 == 1 && to == PC => Effect::Leave,
        _ => Effect::None,
    }
}

impl Effect {
    fn or_branch(self, conditional: bool) -> Self {
        match self {
            Effect::Jump(distance) if conditional => Effect::Branch(distance),
            effect => effect,
        }
    }
}

fn by(to: u8, from: u8, bytes: i64) -> Effect {
    Effect::Add { to, from, bytes }
}

/// `ldm` with the pc among its registers.
fn block(word: u32) -> Effect {
    let mask = word & 0xffff;
    let bytes = i64::from(mask.count_ones()) * 4;
    let (before, up) = (word >> 24 & 1 == 1, word >> 23 & 1 == 1);
    let lowest = match (before, up) {
        (false, true) => 0,
        (true, true) => 4,
        (true, false) => -bytes,
        (false, false) => 4 - bytes,
    };
    Effect::Load {
        mask: mask as u16,
        from: register(word, 16),
        bytes: lowest,
    }
}

/// Data processing with a constant.
fn immediate(word: u32, to: u8, from: u8) -> Effect {
    let value = (word & 0xff).rotate_right(bits(word, 8, 4) * 2);
    let half = word >> 4 & 0xf000 | word & 0xfff;
    match word >> 20 & 0x1f {
        0x08 | 0x09 => by(to, from, i64::from(value)),
        0x04 | 0x05 => by(to, from, -i64::from(value)),
        0x10 => Effect::Constant { to, value: half },
        0x14 => Effect::Upper { to, value: half },
        0x1a | 0x1b => Effect::Constant { to, value },
        0x1e | 0x1f => Effect::Constant { to, value: !value },
        operation => other(operation, to),
    }
}

/// The same with a register.
fn by_register(word: u32, to: u8, from: u8) -> Effect {
    let plain = word & 0xff0 == 0;
    let with = register(word, 0);
    match word >> 20 & 0x1f {
        0x08 | 0x09 if plain => by_another(to, from, with, false),
        0x04 | 0x05 if plain => by_another(to, from, with, true),
        0x1a | 0x1b if plain && to != PC => by(to, with, 0),
        operation => other(operation, to),
    }
}

fn by_another(to: u8, from: u8, by: u8, down: bool) -> Effect {
    match to {
        PC => Effect::Leave,
        _ => Effect::AddRegister { to, from, by, down },
    }
}

/// Any other operation; those that only compare have no result.
fn other(operation: u32, to: u8) -> Effect {
    let compares = matches!(operation, 0x10..=0x17);
    match to {
        SP if !compares => Effect::Lose,
        PC if !compares => Effect::Leave,
        _ => Effect::None,
    }
}

fn thumb(half: u32) -> Effect {
    let imm8 = i64::from(half & 0xff);
    let low = |from| bits(half, from, 3) as u8;
    match half >> 8 {
        0x1c | 0x1d => by(low(0), low(3), i64::from(bits(half, 6, 3))),
        0x1e | 0x1f => by(low(0), low(3), -i64::from(bits(half, 6, 3))),
        0x20..=0x27 => Effect::Constant {
            to: low(8),
            value: half & 0xff,
        },
        0x30..=0x37 => by(low(8), low(8), imm8),
        0x38..=0x3f => by(low(8), low(8), -imm8),
        0x44 | 0x46 => {
            let to = (half >> 4 & 8 | half & 7) as u8;
            let with = register(half, 3);
            match (half >> 8, to) {
                (0x46, PC) if with == LR => Effect::Return,
                (_, PC) => Effect::Leave,
                (0x46, _) => by(to, with, 0),
                _ => Effect::AddRegister {
                    to,
                    from: to,
                    by: with,
                    down: false,
                },
            }
        }
        0x47 if half & 0x80 != 0 => Effect::Call,
        0x47 if register(half, 3) == LR => Effect::Return,
        0x47 => Effect::Leave,
        0xa8..=0xaf => by(low(8), SP, imm8 * 4),
        0xb0 if half & 0x80 == 0 => by(SP, SP, i64::from(half & 0x7f) * 4),
        0xb0 => by(SP, SP, -i64::from(half & 0x7f) * 4),
        0xb1 | 0xb3 | 0xb9 | 0xbb => {
            let distance = half >> 3 & 0x40 | half >> 2 & 0x3e;
            Effect::Branch(i64::from(distance) + 4)
        }
        0xb4 | 0xb5 => push(half & 0xff | half << 6 & 1 << LR),
        0xbc | 0xbd => pop(half & 0xff | half << 7 & 1 << PC),
        0xbf if half & 0xf != 0 => Effect::Conditions(4 - (half & 0xf).trailing_zeros() as u8),
        0xd0..=0xdd => Effect::Branch(signed(half, 8) * 2 + 4),
        0xde => Effect::Stop,
        0xe0..=0xe7 => Effect::Jump(signed(half, 11) * 2 + 4),
        _ => Effect::None,
    }
}

/// An instruction of 32 bits.
fn wide(first: u32, second: u32) -> Effect {
    let from = register(first, 0);
    let to = register(second, 8);
    let imm8 = i64::from(second & 0xff);
    match first {
        0xe92d => return push(second & 0x5fff),
        0xe8bd => return pop(second & 0xdfff),
        // str rt, [sp, #-n]!; ldr rt, [sp], #n
        0xf84d if second & 0xf00 == 0xd00 => {
            return Effect::Push {
                mask: 1 << bits(second, 12, 4),
                bytes: imm8,
            }
        }
        0xf85d if second & 0xf00 == 0xb00 => {
            return Effect::Pop {
                mask: 1 << bits(second, 12, 4),
                bytes: imm8,
            }
        }
        0xe96d => {
            return Effect::Push {
                mask: two(second, 12, 8),
                bytes: imm8 * 4,
            }
        }
        0xe8fd => {
            return Effect::Pop {
                mask: two(second, 12, 8),
                bytes: imm8 * 4,
            }
        }
        // tbb, tbh
        0xe8d0..=0xe8df if second & 0xffe0 == 0xf000 => return Effect::Leave,
        _ => {}
    }
    match (first & 0xffbf, second & 0xe00) {
        (0xed2d, 0xa00) => return by(SP, SP, -imm8 * 4),
        (0xecbd, 0xa00) => return by(SP, SP, imm8 * 4),
        _ => {}
    }
    // Branches and calls.
    if first >> 11 == 0b11110 && second >> 15 == 1 {
        return branch(first, second);
    }
    // Loads of the pc: a register, or a block in either direction.
    let loads = first & 0xff7f == 0xf85f || first & 0xff70 == 0xf850;
    if loads && second >> 12 == u32::from(PC) {
        return Effect::Leave;
    }
    if matches!(first >> 4, 0xe89 | 0xe8b | 0xe91 | 0xe93) && second >> 15 == 1 {
        return block(first << 16 & 0x01ff_0000 | second);
    }
    let imm12 = first << 1 & 0x800 | second >> 4 & 0x700 | second & 0xff;
    let value = expanded(imm12);
    match first & 0xfbf0 {
        0xf100 | 0xf110 => by(to, from, i64::from(value)),
        0xf1a0 | 0xf1b0 if to != PC => by(to, from, -i64::from(value)),
        0xf200 => by(to, from, i64::from(imm12)),
        0xf2a0 => by(to, from, -i64::from(imm12)),
        0xf040 | 0xf050 if from == PC => Effect::Constant { to, value },
        0xf060 | 0xf070 if from == PC => Effect::Constant { to, value: !value },
        0xf240 => Effect::Constant {
            to,
            value: first << 12 & 0xf000 | imm12,
        },
        0xf2c0 => Effect::Upper {
            to,
            value: first << 12 & 0xf000 | imm12,
        },
        _ => match first & 0xffe0 {
            0xea40 if from == PC && second & 0x70f0 == 0 => by(to, register(second, 0), 0),
            0xeb00 | 0xeba0 if second & 0x70f0 == 0 && to != PC => Effect::AddRegister {
                to,
                from,
                by: register(second, 0),
                down: first & 0xa0 != 0,
            },
            0xea00..=0xebe0 if to == SP => Effect::Lose,
            _ => Effect::None,
        },
    }
}

fn branch(first: u32, second: u32) -> Effect {
    let sign = first >> 10 & 1;
    let (j1, j2) = (second >> 13 & 1, second >> 11 & 1);
    match (second >> 14 & 1, second >> 12 & 1) {
        (1, _) => Effect::Call,
        (_, 1) => {
            let (i1, i2) = (1 ^ j1 ^ sign, 1 ^ j2 ^ sign);
            let high = sign << 23 | i1 << 22 | i2 << 21 | bits(first, 0, 10) << 11;
            Effect::Jump(signed(high | second & 0x7ff, 24) * 2 + 4)
        }
        // udf, hints and the like have a condition that is none.
        _ if first >> 7 & 7 == 7 => match first >> 4 == 0xf7f && second >> 12 == 0xa {
            true => Effect::Stop,
            false => Effect::None,
        },
        _ => {
            let high = sign << 19 | j2 << 18 | j1 << 17 | bits(first, 0, 6) << 11;
            Effect::Branch(signed(high | second & 0x7ff, 20) * 2 + 4)
        }
    }
}

/// A constant of 12 bits, as `ThumbExpandImm` has it.
fn expanded(imm12: u32) -> u32 {
    let byte = imm12 & 0xff;
    match imm12 >> 8 {
        0 => byte,
        1 => byte << 16 | byte,
        2 => byte << 24 | byte << 8,
        3 => byte << 24 | byte << 16 | byte << 8 | byte,
        _ => (byte | 0x80).rotate_right(imm12 >> 7),
    }
}

#[cfg(test)]
#[path = "arm_step_tests.rs"]
mod tests;
