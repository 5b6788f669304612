//! One instruction of T32 (Thumb), by the tables of DDI 0487, section F3: two bytes, or
//! four if the first five bits say so. The loads and stores of several registers, of
//! vectors and of coprocessors have the same fields as in A32, and are read there.

use super::aarch64_fields::{bits, signed};
use super::arm::{
    at, coprocessor, exception_state, immediate, jump_to_loaded, other, read_if, reg, several,
    structure, to_register, Offset, PC, SP,
};
use super::{Class, Decoded, Extend, Index, Operand, Reg, Target, Touch};

/// The instruction at an address, which decides where a literal lies: the pc is rounded down.
pub(super) fn decode(address: u64, code: &[u8]) -> Option<Decoded> {
    let first = u16::from_le_bytes(code.get(..2)?.try_into().ok()?);
    // From the instruction to the pc, rounded down to a word.
    let ahead = 4 - (address & 2) as i64;
    if first >> 11 < 0b11101 {
        return Some(short(first.into(), ahead));
    }
    let second = u16::from_le_bytes(code.get(2..4)?.try_into().ok()?);
    long(u32::from(first) << 16 | u32::from(second), ahead)
}

/// A low register: three bits.
fn low(word: u32, from: u32) -> Reg {
    Reg(bits(word, from, 3) as u8)
}

fn short(word: u32, ahead: i64) -> Decoded {
    let mut decoded = other(2);
    let near = |distance: i64| Some(Target::Near(distance + 4));
    let mut memory = None;
    match bits(word, 12, 4) {
        0b0100 if bits(word, 11, 1) == 1 => memory_literal(word, ahead, &mut memory),
        0b0100 => to_high_register(word, &mut decoded),
        0b0101..=0b1001 => memory = Some(loaded_or_stored(word)),
        0b1011 => return of_stack_or_state(word),
        0b1100 => {
            let list = word & 0xff | bits(word, 11, 1) << 20;
            several(list | 1 << 23 | bits(word, 8, 3) << 16, &mut decoded);
        }
        0b1101 => match bits(word, 8, 4) {
            14 => decoded.class = Class::Undefined,
            15 => decoded.class = Class::SystemCall,
            _ => {
                decoded.class = Class::Jump;
                decoded.target = near(signed(word, 0, 8) * 2);
            }
        },
        0b1110 => {
            decoded.class = Class::Jump;
            decoded.target = near(signed(word, 0, 11) * 2);
        }
        _ => {}
    }
    if memory.is_some() {
        decoded.operands[0] = memory;
    }
    decoded
}

fn memory_literal(word: u32, ahead: i64, memory: &mut Option<Operand>) {
    let mut operand = at(PC);
    operand.displacement = ahead + i64::from(bits(word, 0, 8)) * 4;
    operand.accesses(Touch::Read, 4);
    *memory = Some(operand);
}

/// bx, blx, mov to pc
fn to_high_register(word: u32, decoded: &mut Decoded) {
    match bits(word, 8, 4) {
        0b0111 => to_register(decoded, reg(word, 3), bits(word, 7, 1) == 1),
        0b0110 if word & 0x87 == 0x87 => to_register(decoded, reg(word, 3), false),
        _ => {}
    }
}

/// ldr, str and their like at a low register or at sp
fn loaded_or_stored(word: u32) -> Operand {
    let number = i64::from(bits(word, 6, 5));
    let load = bits(word, 11, 1);
    let mut operand = at(low(word, 3));
    let (touch, bytes) = match bits(word, 12, 4) {
        0b0101 => {
            operand.index = Some(Index {
                register: low(word, 6),
                extend: Extend::Whole,
                shift: 0,
            });
            let kind = bits(word, 9, 3);
            (
                read_if(u32::from(kind > 2)),
                [4, 2, 1, 1, 4, 2, 1, 2][kind as usize],
            )
        }
        0b0110 => (read_if(load), 4),
        0b0111 => (read_if(load), 1),
        0b1000 => (read_if(load), 2),
        _ => {
            operand.base = Some(SP);
            operand.displacement = i64::from(bits(word, 0, 8)) * 4;
            operand.accesses(read_if(load), 4);
            return operand;
        }
    };
    if operand.index.is_none() {
        operand.displacement = number * i64::from(bytes);
    }
    operand.accesses(touch, bytes);
    operand
}

/// push, pop, cbz, bkpt, hlt
fn of_stack_or_state(word: u32) -> Decoded {
    let mut decoded = other(2);
    let list = word & 0xff;
    let more = bits(word, 8, 1);
    match bits(word, 8, 4) {
        4 | 5 => several(2 << 23 | 13 << 16 | more << 14 | list, &mut decoded),
        12 | 13 => {
            several(
                1 << 23 | 1 << 20 | 13 << 16 | more << 15 | list,
                &mut decoded,
            );
            if more == 1 {
                jump_to_loaded(&mut decoded);
            }
        }
        14 => decoded.class = Class::Breakpoint,
        10 if bits(word, 6, 2) == 2 => decoded.class = Class::Breakpoint,
        1 | 3 | 9 | 11 => {
            decoded.class = Class::Jump;
            let distance = bits(word, 9, 1) << 6 | bits(word, 3, 5) << 1;
            decoded.target = Some(Target::Near(i64::from(distance) + 4));
        }
        _ => {}
    }
    decoded
}

fn long(word: u32, ahead: i64) -> Option<Decoded> {
    let mut decoded = other(4);
    match bits(word, 25, 4) {
        0b0100 => several_or_exclusive(word, ahead, &mut decoded)?,
        0b0110 | 0b1110 => decoded.operands[0] = coprocessor(word, ahead)?,
        0b1000..=0b1011 if bits(word, 15, 1) == 1 => branch(word, ahead, &mut decoded),
        0b1100 if bits(word, 24, 1) == 1 && bits(word, 20, 1) == 0 => {
            decoded.operands[0] = Some(structure(word)?);
        }
        0b1100 => {
            decoded.operands[0] = single(word, ahead)?;
            let load = bits(word, 20, 1) == 1;
            if load && bits(word, 21, 2) == 2 && bits(word, 12, 4) == 15 {
                jump_to_loaded(&mut decoded);
            }
        }
        _ => {}
    }
    Some(decoded)
}

#[inline(never)]
fn several_or_exclusive(word: u32, ahead: i64, decoded: &mut Decoded) -> Option<()> {
    if bits(word, 22, 1) == 1 {
        decoded.operands[0] = Some(doubled_or_exclusive(word, ahead, decoded)?);
        return Some(());
    }
    match bits(word, 23, 2) {
        0b01 | 0b10 => {
            several(word, decoded);
            if word & 0x0010_8000 == 0x0010_8000 {
                jump_to_loaded(decoded);
            }
        }
        // Here 00 is downwards and before, 11 upwards and behind.
        0b00 => exception_state(word | 0b10 << 23, decoded),
        _ => exception_state(word & !(0b10 << 23), decoded),
    }
    Some(())
}

/// ldrd, strd, ldrex, strex, lda, stl, tbb, tbh
fn doubled_or_exclusive(word: u32, ahead: i64, decoded: &mut Decoded) -> Option<Operand> {
    let mut operand = at(reg(word, 16));
    let touch = read_if(bits(word, 20, 1));
    let (before, add, back) = (bits(word, 24, 1), bits(word, 23, 1), bits(word, 21, 1));
    let number = bits(word, 0, 8) * 4;
    if before | back == 1 {
        if operand.base == Some(PC) {
            operand.displacement = ahead;
        }
        if before == 1 {
            operand.moved(immediate(word, number));
        }
        operand.accesses(touch, 8);
        operand.alignment = 4;
        return Some(operand);
    }
    operand.partial = touch == Touch::Write;
    if add == 0 {
        operand.displacement = number.into();
        operand.is_atomic(touch, 4);
        return Some(operand);
    }
    let kind = bits(word, 4, 4);
    if kind < 2 {
        operand.moved(Offset::Register(Index {
            register: reg(word, 0),
            extend: Extend::Whole,
            shift: kind as u8,
        }));
        if operand.base == Some(PC) {
            operand.displacement = 4;
        }
        operand.accesses(Touch::Read, 1 << kind);
        // The word is a distance, not an address.
        decoded.class = Class::Jump;
        return (touch == Touch::Read).then_some(operand);
    }
    if kind < 4 {
        return None;
    }
    // Stores of 8 to 11 are no exclusives.
    operand.partial &= !(8..12).contains(&kind);
    operand.is_atomic(touch, 1 << (kind & 3));
    Some(operand)
}

#[inline(never)]
fn branch(word: u32, ahead: i64, decoded: &mut Decoded) {
    let sign = bits(word, 26, 1);
    // J1 and J2 are the next two bits if they are equal to the sign.
    let same = |from| u32::from(bits(word, from, 1) == sign);
    let low = bits(word, 16, 10) << 12 | bits(word, 0, 11) << 1;
    let wide = sign << 24 | same(13) << 23 | same(11) << 22 | low;
    let (class, distance) = match (bits(word, 14, 1), bits(word, 12, 1)) {
        (1, 1) => (Class::Call, signed(wide, 0, 25) + 4),
        (1, _) => (Class::Call, (signed(wide, 0, 25) & !3) + ahead),
        (_, 1) => (Class::Jump, signed(wide, 0, 25) + 4),
        _ if bits(word, 23, 3) != 7 => {
            let number = sign << 20 | bits(word, 11, 1) << 19 | bits(word, 13, 1) << 18;
            let number = number | bits(word, 16, 6) << 12 | bits(word, 0, 11) << 1;
            (Class::Jump, signed(number, 0, 21) + 4)
        }
        _ => {
            decoded.class = match (bits(word, 20, 7), bits(word, 12, 4)) {
                (0x7f, 0xa) => Class::Undefined,
                // hvc, smc; subs pc, lr
                (0x7e, 8) | (0x7f, 8) | (0x3d, _) => Class::Privileged,
                (0x3c, _) => {
                    to_register(decoded, reg(word, 16), false);
                    return;
                }
                (0x78, 8) => Class::Privileged,
                _ => Class::Other,
            };
            return;
        }
    };
    decoded.class = class;
    decoded.target = Some(Target::Near(distance));
}

/// ldr, str in their sizes and modes; pld, pli. `None` inside for a hint without memory.
#[inline(never)]
fn single(word: u32, ahead: i64) -> Option<Option<Operand>> {
    let load = bits(word, 20, 1);
    let size = bits(word, 21, 2);
    let sign = bits(word, 24, 1);
    if size == 3 || sign == 1 && size == 2 {
        return None;
    }
    let mut operand = at(reg(word, 16));
    let long = bits(word, 23, 1) == 1;
    let mode = bits(word, 6, 6);
    let (before, back) = (bits(word, 10, 1), bits(word, 8, 1));
    if operand.base == Some(PC) {
        if load == 0 {
            return None;
        }
        operand.displacement = ahead;
        operand.moved(immediate(word, bits(word, 0, 12)));
    } else if long {
        operand.displacement = bits(word, 0, 12).into();
    } else if mode == 0 {
        operand.moved(Offset::Register(Index {
            register: reg(word, 0),
            extend: Extend::Whole,
            shift: bits(word, 4, 2) as u8,
        }));
    } else if bits(word, 11, 1) == 0 || before | back == 0 {
        return None;
    } else if before == 1 {
        // Bit 9 has the sign.
        operand.moved(immediate(word << 14, bits(word, 0, 8)));
    }
    // Without writing back there is no register to load.
    let hint = load == 1 && size < 2 && bits(word, 12, 4) == 15;
    let changes =
        !long && mode != 0 && operand.base != Some(PC) && (back == 1 || bits(word, 9, 1) == 1);
    if hint && !changes {
        return Some((sign == 0 || size == 0).then_some(operand));
    }
    operand.accesses(read_if(load), 1 << size);
    Some(Some(operand))
}
