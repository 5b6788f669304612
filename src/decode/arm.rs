//! One instruction of 32-bit ARM: A32 by the tables of DDI 0487, section F4, and what it
//! shares with T32, whose own forms are in `thumb`.
//!
//! ```text
//! bits 27..25   000  LDRH, LDRD, LDREX, BX      100  LDM, STM
//!               010  LDR, STR, immediate        101  B, BL
//!               011  the same, register         110  VLDR, VLDM, LDC
//! ```
//!
//! A condition counts as met: an instruction whose condition fails does not fault. All the
//! others compute with registers: only their length is known, and they are not checked to
//! be allocated.

use super::aarch64_fields::{bits, signed};
use super::{Class, Decoded, Extend, Index, Operand, Reg, Target, Touch};

pub(super) const SP: Reg = Reg(13);
pub(super) const LINK: Reg = Reg(14);
pub(super) const PC: Reg = Reg(15);

pub(super) fn decode(code: &[u8]) -> Option<Decoded> {
    let word = u32::from_le_bytes(code.get(..4)?.try_into().ok()?);
    let mut decoded = other(4);
    let unconditional = word >> 28 == 15;
    match bits(word, 25, 3) {
        0b000 if !unconditional => miscellaneous(word, &mut decoded)?,
        0b010 if unconditional && bits(word, 24, 1) == 0 && bits(word, 20, 1) == 0 => {
            decoded.operands[0] = Some(structure(word)?);
        }
        // pld, pli, pldw; the barriers are among them.
        0b010 | 0b011 if unconditional => hint(word, &mut decoded),
        0b010 => decoded.operands[0] = Some(single(word, immediate(word, bits(word, 0, 12)))),
        0b011 if bits(word, 4, 1) == 0 => {
            decoded.operands[0] = Some(single(word, shifted(word)));
        }
        0b011 if word & 0x01f0_00f0 == 0x01f0_00f0 => decoded.class = Class::Undefined,
        0b100 if unconditional => exception_state(word, &mut decoded),
        0b100 => {
            several(word, &mut decoded);
            // With registers of another mode, or to another one.
            if bits(word, 22, 1) == 1 {
                decoded.class = Class::Privileged;
            }
        }
        0b101 => {
            let half = i64::from(unconditional) * i64::from(bits(word, 24, 1)) * 2;
            let call = unconditional || bits(word, 24, 1) == 1;
            decoded.class = if call { Class::Call } else { Class::Jump };
            decoded.target = Some(Target::Near(signed(word, 0, 24) * 4 + half + 8));
        }
        0b110 => decoded.operands[0] = coprocessor(word, 8)?,
        0b111 if !unconditional && bits(word, 24, 1) == 1 => decoded.class = Class::SystemCall,
        _ => {}
    }
    if let (Class::Other, Some(operand)) = (decoded.class, &decoded.operands[0]) {
        let loads_pc = bits(word, 25, 3) == 0b100 && bits(word, 15, 1) == 1
            || bits(word, 26, 2) == 0b01 && bits(word, 12, 4) == 15;
        if loads_pc && operand.touch == Touch::Read {
            jump_to_loaded(&mut decoded);
        }
    }
    Some(decoded)
}

pub(super) fn other(length: u8) -> Decoded {
    Decoded {
        length,
        class: Class::Other,
        target: None,
        operands: [None, None],
    }
}

/// The word is loaded into the pc: from the stack that is a return.
pub(super) fn jump_to_loaded(decoded: &mut Decoded) {
    let base = decoded.operands[0].and_then(|operand| operand.base);
    decoded.class = match base {
        Some(SP) => Class::Return,
        _ => Class::Jump,
    };
    decoded.target = Some(Target::Loaded);
}

/// bx, blx, mov to pc: to what a register holds.
pub(super) fn to_register(decoded: &mut Decoded, register: Reg, call: bool) {
    decoded.class = match register {
        _ if call => Class::Call,
        LINK => Class::Return,
        _ => Class::Jump,
    };
    decoded.target = Some(Target::Register(register));
}

pub(super) fn reg(word: u32, from: u32) -> Reg {
    Reg(bits(word, from, 4) as u8)
}

pub(super) fn read_if(load: u32) -> Touch {
    match load {
        0 => Touch::Write,
        _ => Touch::Read,
    }
}

/// Memory at a register, not accessed yet.
pub(super) fn at(base: Reg) -> Operand {
    Operand {
        segment: None,
        base: Some(base),
        index: None,
        displacement: 0,
        bit_offset: None,
        address_bytes: 4,
        width: None,
        alignment: 1,
        touch: Touch::Nothing,
        partial: false,
        opaque: false,
    }
}

/// What is added to the base: a number, or a register.
pub(super) enum Offset {
    Number(i64),
    Register(Index),
    /// A register whose value is shifted to the right, or rotated.
    Unknown,
}

impl Operand {
    pub(super) fn moved(&mut self, offset: Offset) {
        match offset {
            Offset::Number(number) => self.displacement += number,
            Offset::Register(index) => self.index = Some(index),
            Offset::Unknown => self.opaque = true,
        }
    }
}

/// A number with the sign that bit 23 says.
pub(super) fn immediate(word: u32, number: u32) -> Offset {
    Offset::Number(match bits(word, 23, 1) {
        1 => i64::from(number),
        _ => -i64::from(number),
    })
}

fn register(word: u32, shift: u8) -> Offset {
    Offset::Register(Index {
        register: reg(word, 0),
        extend: match bits(word, 23, 1) {
            1 => Extend::Whole,
            _ => Extend::Negated,
        },
        shift,
    })
}

fn shifted(word: u32) -> Offset {
    match bits(word, 5, 2) {
        0 => register(word, bits(word, 7, 5) as u8),
        _ => Offset::Unknown,
    }
}

/// The memory at bits 19..16, moved unless post-indexed.
fn indexed(word: u32, offset: Offset) -> Operand {
    let mut operand = at(reg(word, 16));
    if operand.base == Some(PC) {
        operand.displacement = 8;
    }
    if bits(word, 24, 1) == 1 {
        operand.moved(offset);
    }
    operand
}

/// ldr, str, ldrb, strb
fn single(word: u32, offset: Offset) -> Operand {
    let mut operand = indexed(word, offset);
    let bytes = if bits(word, 22, 1) == 1 { 1 } else { 4 };
    operand.accesses(read_if(bits(word, 20, 1)), bytes);
    operand
}

fn hint(word: u32, decoded: &mut Decoded) {
    // clrex, dsb, dmb, isb, sb; hints that have no meaning yet
    let barrier = bits(word, 20, 8) == 0x57 || bits(word, 20, 1) == 0;
    let free = bits(word, 24, 1) | bits(word, 22, 1) == 0;
    if barrier || free || bits(word, 25, 1) == 1 && bits(word, 4, 1) == 1 {
        return;
    }
    // pli alone has 0 in bit 24, and is not post-indexed.
    let word = word | 1 << 24;
    let offset = match bits(word, 25, 1) {
        0 => immediate(word, bits(word, 0, 12)),
        _ => shifted(word),
    };
    decoded.operands[0] = Some(indexed(word, offset));
}

/// What is not computing with registers among bits 27..25 of 000
#[inline(never)]
fn miscellaneous(word: u32, decoded: &mut Decoded) -> Option<()> {
    match (bits(word, 20, 8), bits(word, 4, 4)) {
        (0x12, 1 | 2) => to_register(decoded, reg(word, 0), false),
        (0x12, 3) => to_register(decoded, reg(word, 0), true),
        (0x12, 7) => decoded.class = Class::Breakpoint,
        (0x10, 7) => decoded.class = Class::Breakpoint,
        // hvc, smc; eret
        (0x14 | 0x16, 7) | (0x16, 6) => decoded.class = Class::Privileged,
        // mov pc
        (0x1a, 0) if word & 0x000f_ff00 == 0xf000 => to_register(decoded, reg(word, 0), false),
        (0x00..=0x0f, 9) => {}
        (_, 9) => decoded.operands[0] = Some(synchronization(word)?),
        (_, 11 | 13 | 15) => decoded.operands[0] = Some(extra(word)),
        _ => {}
    }
    Some(())
}

/// ldrex, strex, lda, stl in their sizes, swp
fn synchronization(word: u32) -> Option<Operand> {
    let mut operand = at(reg(word, 16));
    let load = bits(word, 20, 1);
    if bits(word, 23, 1) == 0 {
        let bytes = if bits(word, 22, 1) == 1 { 1 } else { 4 };
        operand.is_atomic(Touch::ReadWrite, bytes);
        return (bits(word, 20, 2) == 0).then_some(operand);
    }
    let bytes = [4, 8, 1, 2][bits(word, 21, 2) as usize];
    operand.is_atomic(read_if(load), bytes);
    // A store of exclusives may be none.
    operand.partial = load == 0 && bits(word, 9, 1) == 1;
    Some(operand)
}

/// ldrh, strh, ldrsb, ldrsh, ldrd, strd
fn extra(word: u32) -> Operand {
    let offset = match bits(word, 22, 1) {
        1 => immediate(word, bits(word, 8, 4) << 4 | bits(word, 0, 4)),
        _ => register(word, 0),
    };
    let mut operand = indexed(word, offset);
    let (touch, bytes) = match (bits(word, 20, 1), bits(word, 5, 2)) {
        (load, 1) => (read_if(load), 2),
        (0, 2) => (Touch::Read, 8),
        (0, _) => (Touch::Write, 8),
        (_, 2) => (Touch::Read, 1),
        _ => (Touch::Read, 2),
    };
    operand.accesses(touch, bytes);
    if bytes == 8 {
        operand.alignment = 4;
    }
    operand
}

/// ldm, stm, push, pop: bit 23 says whether upwards, bit 24 whether the first word lies
/// a word further. In T32 they are the same.
pub(super) fn several(word: u32, decoded: &mut Decoded) {
    let bytes = (word & 0xffff).count_ones() * 4;
    let mut operand = at(reg(word, 16));
    operand.displacement = match bits(word, 23, 2) {
        0b00 => 4 - i64::from(bytes),
        0b01 => 0,
        0b10 => -i64::from(bytes),
        _ => 4,
    };
    operand.accesses(read_if(bits(word, 20, 1)), bytes);
    operand.alignment = 4;
    decoded.operands[0] = Some(operand);
}

/// rfe, srs
pub(super) fn exception_state(word: u32, decoded: &mut Decoded) {
    decoded.class = Class::Privileged;
    if bits(word, 20, 1) == 1 {
        several(word & 0xffff_0000 | 0b11, decoded);
    }
}

/// vldr, vldm, ldc and their stores: in T32 they are the same, but the pc is rounded
/// there: `ahead` is from the instruction to it. `None` inside if only registers are moved.
#[inline(never)]
pub(super) fn coprocessor(word: u32, ahead: i64) -> Option<Option<Operand>> {
    let (add, back) = (bits(word, 23, 1), bits(word, 21, 1));
    let before = bits(word, 24, 1);
    let kind = bits(word, 8, 4);
    if word >> 28 == 15 && kind & 0b1010 == 0b1000 {
        // vcmla, vdot and their like
        return Some(None);
    }
    if before | add | back == 0 {
        // mrrc, mcrr, vmov of two registers
        return (bits(word, 22, 1) == 1).then_some(None);
    }
    let number = bits(word, 0, 8);
    let half = kind == 9;
    let offset = immediate(word, if half { number * 2 } else { number * 4 });
    let mut operand = at(reg(word, 16));
    if operand.base == Some(PC) {
        operand.displacement = ahead;
    }
    let touch = read_if(bits(word, 20, 1));
    let float = (9..=11).contains(&kind) && word >> 28 != 15;
    if before == 1 && (!float || back == 0) || float && add == 0 {
        operand.moved(offset);
    }
    if !float {
        // Whoever is asked knows how many words.
        operand.touch = touch;
    } else if before == 1 && back == 0 {
        operand.accesses(touch, [2, 4, 8][kind as usize - 9]);
    } else {
        // fldmx has one more word than there is.
        let words = if kind == 11 { number & !1 } else { number };
        operand.accesses(touch, words * 4);
    }
    if !half {
        operand.alignment = 4;
    }
    Some(Some(operand))
}

/// vld1 to vld4 and their stores: whole registers, one element of each, or one element into
/// all. The same in T32.
#[inline(never)]
pub(super) fn structure(word: u32) -> Option<Operand> {
    let mut operand = at(reg(word, 16));
    let touch = read_if(bits(word, 21, 1));
    let kind = bits(word, 8, 4);
    if bits(word, 23, 1) == 0 {
        let registers = match kind {
            0..=3 => 4,
            4..=6 => 3,
            7 => 1,
            8..=10 => 2,
            _ => return None,
        };
        operand.accesses(touch, 8 * registers);
        operand.alignment = match bits(word, 4, 2) {
            0 => 1,
            log => 4 << log,
        };
        return Some(operand);
    }
    let count = (kind & 3) + 1;
    let all = kind >> 2 == 3;
    let size = if all { bits(word, 6, 2) } else { kind >> 2 };
    // Elements of 4 bytes that are aligned to 16.
    let widest = all && size == 3 && count == 4;
    let element = if widest { 4 } else { 1 << size };
    let aligned = match (all, size) {
        (true, _) => bits(word, 4, 1),
        (_, 2) => bits(word, 4, 2),
        _ => bits(word, 4, 1),
    };
    operand.accesses(touch, count * element);
    operand.alignment = match (aligned, count) {
        (0, _) => 1,
        (_, 4) if widest => 16,
        (_, 4) if size == 2 && all => 8,
        (log, 4) if size == 2 => 4 << log,
        _ => (count * element) as u16,
    };
    Some(operand)
}
