//! One aarch64 instruction, by the tables of DDI 0487, section C4.1.
//!
//! ```text
//! bits 28..25   0000  reserved (udf), SME        101x  branches, system
//!               0010  scalable vectors           x1x0  loads and stores
//! ```
//!
//! All the others compute with registers: only their length is known, and they are not
//! checked to be allocated. Loads and stores that are not allocated give `None`.

use super::aarch64_fields::{bits, reg, signed};
use super::{aarch64_sve, Class, Decoded, Extend, Index, Operand, Reg, Target, Touch};

const PC: Reg = Reg(32);
/// In an address; elsewhere the same number means zero.
const SP: Reg = Reg(31);
const LINK: Reg = Reg(30);
/// Set if one of two pairs of registers begins with an odd one, as none may.
const ODD: u32 = 1 << 16 | 1;

impl Operand {
    pub(super) fn accesses(&mut self, touch: Touch, bytes: u32) {
        self.touch = touch;
        self.width = Some(bytes as u16);
    }

    /// The same, if all of its bytes are one.
    pub(super) fn is_atomic(&mut self, touch: Touch, bytes: u32) {
        self.accesses(touch, bytes);
        self.alignment = bytes as u16;
    }
}

pub(super) fn decode(word: u32) -> Option<Decoded> {
    let mut decoded = Decoded {
        length: 4,
        class: Class::Other,
        target: None,
        operands: [None, None],
    };
    // Memory that bits 9..5 point to, sp among them.
    let mut operand = Operand {
        segment: None,
        base: Some(reg(word, 5)),
        index: None,
        displacement: 0,
        bit_offset: None,
        address_bytes: 8,
        width: None,
        alignment: 1,
        touch: Touch::Nothing,
        partial: false,
        opaque: false,
    };
    let in_memory = match bits(word, 25, 4) {
        0b0000 if word >> 16 == 0 => {
            decoded.class = Class::Undefined;
            false
        }
        // Computing with tiles and vectors, or nothing at all.
        0b0000 if word >> 31 == 1 => aarch64_sve::tiles(word, &mut operand),
        0b0000 | 0b0001 | 0b0011 => return None,
        0b0010 => aarch64_sve::vectors(word, &mut operand),
        0b1010 | 0b1011 => match word >> 24 {
            0xd5 => system(word, &mut decoded, &mut operand),
            _ => {
                (decoded.class, decoded.target) = branch(word)?;
                false
            }
        },
        0b0100 | 0b0110 | 0b1100 | 0b1110 => {
            load_or_store(word, &mut decoded, &mut operand)?;
            true
        }
        _ => false,
    };
    if in_memory {
        decoded.operands[0] = Some(operand);
    }
    Some(decoded)
}

#[inline(never)]
fn branch(word: u32) -> Option<(Class, Option<Target>)> {
    let (class, from, count) = match word >> 24 {
        0x14..=0x17 => (Class::Jump, 0, 26),
        0x94..=0x97 => (Class::Call, 0, 26),
        // cbz, cbnz, b.cond; tbz, tbnz
        0x34 | 0x35 | 0xb4 | 0xb5 | 0x54 => (Class::Jump, 5, 19),
        0x36 | 0x37 | 0xb6 | 0xb7 => (Class::Jump, 5, 14),
        // retaasppc, retabsppc
        0x55 if word & 0x00c0_001f == 31 => {
            return Some((Class::Return, Some(Target::Register(LINK))));
        }
        0xd4 => return Some((exception(word)?, None)),
        0xd6 | 0xd7 => return to_register(word),
        _ => return None,
    };
    Some((class, Some(Target::Near(signed(word, from, count) * 4))))
}

fn exception(word: u32) -> Option<Class> {
    Some(match (bits(word, 21, 3), word & 31) {
        (0, 1) => Class::SystemCall,
        // hvc, smc; dcps
        (0, 2 | 3) | (5, 1..=3) => Class::Privileged,
        // brk, hlt
        (1 | 2, 0) => Class::Breakpoint,
        // tcancel
        (3, 0) => Class::Other,
        _ => return None,
    })
}

/// br, blr, ret, and the same of an address with a code of authentication
fn to_register(word: u32) -> Option<(Class, Option<Target>)> {
    let coded = bits(word, 11, 5) == 1;
    if bits(word, 16, 5) != 31 || !coded && bits(word, 10, 6) != 0 {
        return None;
    }
    let mut register = reg(word, 5);
    let class = match bits(word, 21, 4) {
        0 | 8 => Class::Jump,
        1 | 9 => Class::Call,
        2 => Class::Return,
        // eret, drps
        4 | 5 => return Some((Class::Privileged, None)),
        _ => return None,
    };
    if class == Class::Return && coded {
        register = LINK;
    }
    // 31 is zero there.
    Some((
        class,
        (register != SP).then_some(Target::Register(register)),
    ))
}

/// Moves of system registers, cache maintenance, hints and barriers; whether
/// there is an operand. The architecture permits an op1 of 3 to user code, unless the
/// kernel forbids it.
#[inline(never)]
fn system(word: u32, decoded: &mut Decoded, operand: &mut Operand) -> bool {
    let op1 = bits(word, 16, 3);
    let n = bits(word, 12, 4);
    let m = bits(word, 8, 4);
    let op2 = bits(word, 5, 3);
    let privileged = match bits(word, 19, 5) {
        // msr of a field of the state; cfinv, xaflag and axflag are there too,
        // and of op1 3 only DAIF is not for all.
        0 => {
            let allowed = match op1 {
                0 => op2 <= 2,
                3 => op2 < 6,
                _ => false,
            };
            n == 4 && !allowed
        }
        // dc, ic
        1 if op1 == 3 && n == 7 => {
            // zva, gva, gzva; ic ivau; to a point of coherency and the like
            operand.touch = match (m, op2) {
                (4, 1 | 3 | 4) => Touch::Write,
                (5 | 11, 1) | (10 | 12..=14, 1 | 3 | 5) => Touch::Read,
                _ => return false,
            };
            // The number of bytes is in a register that is not the user's.
            operand.base = (word & 31 != 31).then_some(reg(word, 0));
            return true;
        }
        // sys, sysl
        1 | 5 | 9 | 13 => op1 != 3,
        // msr, mrs: of op1 3 the performance counters are not for all.
        _ => op1 != 3 || n == 9 || n == 14 && m >= 8,
    };
    if privileged {
        decoded.class = Class::Privileged;
    }
    false
}

#[inline(never)]
fn load_or_store(word: u32, decoded: &mut Decoded, operand: &mut Operand) -> Option<()> {
    let vector = bits(word, 26, 1) == 1;
    match (bits(word, 27, 3), bits(word, 24, 2)) {
        (0b001, 0) if !vector => exclusive(word, operand),
        (0b001, 0) => structures(word, operand),
        (0b001, 1) if vector => structure(word, operand),
        (0b011, 0) => literal(word, vector, operand),
        (0b011, 1) => ordered_or_tagged(word, vector, decoded, operand),
        (0b101, 0 | 1) => pair(word, vector, operand),
        (0b111, 0 | 1) => single(word, vector, operand),
        _ => None,
    }
}

fn read_if(load: u32) -> Touch {
    match load {
        0 => Touch::Write,
        _ => Touch::Read,
    }
}

/// ldxr, stxr, ldxp, stxp, ldar, stlr, cas, casp
fn exclusive(word: u32, operand: &mut Operand) -> Option<()> {
    let bytes = 1 << bits(word, 30, 2);
    let load = bits(word, 22, 1);
    let ordered = bits(word, 23, 1) == 1;
    let pair = bits(word, 21, 1) == 1;
    let swap = pair && (ordered || bytes < 4);
    let odd = !ordered && word & ODD != 0;
    if swap && (odd || bits(word, 10, 5) != 31) {
        return None;
    }
    let touch = if swap {
        Touch::ReadWrite
    } else {
        read_if(load)
    };
    let bytes = match (pair && !ordered, swap) {
        // casp has but one bit of size.
        (true, true) => 8 * bytes,
        (true, false) => 2 * bytes,
        _ => bytes,
    };
    operand.is_atomic(touch, bytes);
    operand.partial = !ordered && !swap && load == 0;
    Some(())
}

/// ld1 to ld4 and their stores, of whole registers
fn structures(word: u32, operand: &mut Operand) -> Option<()> {
    let kind = bits(word, 12, 4);
    let registers = match kind {
        0b0000 | 0b0010 => 4,
        0b0100 | 0b0110 => 3,
        0b1000 | 0b1010 => 2,
        0b0111 => 1,
        _ => return None,
    };
    // Elements of 8 bytes are alone in a short register, and not selected.
    let selected = kind & 2 == 0;
    let short = bits(word, 30, 1) == 0;
    let fixed = bits(word, 23, 1) == 0 && bits(word, 16, 5) != 0;
    if word & 0x8020_0000 != 0 || fixed || selected && short && bits(word, 10, 2) == 3 {
        return None;
    }
    let bytes = if short { 8 } else { 16 };
    operand.accesses(read_if(bits(word, 22, 1)), registers * bytes);
    Some(())
}

/// The same of one element of each, and ld1r to ld4r
fn structure(word: u32, operand: &mut Operand) -> Option<()> {
    let load = bits(word, 22, 1);
    let size = bits(word, 10, 2);
    let selected = bits(word, 12, 1);
    let log = match (bits(word, 14, 2), size) {
        (0, _) => 0,
        (1, 0 | 2) => 1,
        (2, 0) => 2,
        (2, 1) if selected == 0 => 3,
        (3, _) if load == 1 && selected == 0 => size,
        _ => return None,
    };
    let count = (bits(word, 13, 1) << 1 | bits(word, 21, 1)) + 1;
    operand.accesses(read_if(load), count << log);
    // ldap1, stl1
    let ordered = word & 0x001f_fc00 == 0x0001_8400;
    if ordered && bits(word, 23, 1) == 0 {
        operand.alignment = 8;
    } else if bits(word, 23, 1) == 0 && bits(word, 16, 5) != 0 {
        return None;
    }
    (word >> 31 == 0).then_some(())
}

/// ldr, ldrsw and prfm at a distance from pc
fn literal(word: u32, vector: bool, operand: &mut Operand) -> Option<()> {
    operand.base = Some(PC);
    operand.displacement = signed(word, 5, 19) * 4;
    let bytes = match (bits(word, 30, 2), vector) {
        (3, true) => return None,
        (3, false) => return Some(()),
        (2, false) => 4,
        (log, _) => 4 << log,
    };
    operand.accesses(Touch::Read, bytes);
    Some(())
}

/// ldp, stp, ldnp, stnp, ldpsw, stgp
fn pair(word: u32, vector: bool, operand: &mut Operand) -> Option<()> {
    let load = bits(word, 22, 1);
    let mode = bits(word, 23, 2);
    let kind = bits(word, 30, 2);
    let tag = !vector && kind == 1 && load == 0;
    let (bytes, scale) = match (kind, vector) {
        (3, _) => return None,
        // Not without a hint, these two.
        (1, false) if mode == 0 => return None,
        (1, false) if tag => (8, 16),
        (1, false) => (4, 4),
        (2, false) => (8, 8),
        (log, _) => (4 << log, 4 << log),
    };
    operand.accesses(read_if(load), 2 * bytes);
    // 1 is post-indexed.
    if mode != 1 {
        operand.displacement = signed(word, 15, 7) * scale;
    }
    if tag {
        operand.alignment = 16;
    }
    Some(())
}

/// ldr and str in their sizes and modes, prfm, atomics, ldraa
#[inline(never)]
fn single(word: u32, vector: bool, operand: &mut Operand) -> Option<()> {
    let size = bits(word, 30, 2);
    let opc = bits(word, 22, 2);
    let offset = bits(word, 24, 1) == 1;
    let high = bits(word, 21, 1) == 1;
    let mode = bits(word, 10, 2);
    if !offset && high && mode != 2 {
        return match mode {
            _ if vector => None,
            0 => atomic_operation(word, size, operand),
            _ if size == 3 => {
                // With a code of authentication, which is taken off.
                operand.opaque = true;
                operand.displacement =
                    (signed(word, 22, 1) * 512 + i64::from(bits(word, 12, 9))) * 8;
                operand.accesses(Touch::Read, 8);
                Some(())
            }
            _ => None,
        };
    }
    let log = match (size, opc, vector) {
        (0, 2 | 3, true) => 4,
        (_, 2 | 3, true) | (2 | 3, 3, false) => return None,
        _ => size,
    };
    let hint = !vector && size == 3 && opc == 2;
    if !hint {
        let load = if vector { opc & 1 } else { opc };
        operand.accesses(read_if(load), 1 << log);
    }
    if offset {
        operand.displacement = i64::from(bits(word, 10, 12)) << log;
    } else if !high {
        match mode {
            1 | 3 if hint => return None,
            2 if hint || vector => return None,
            1 => {}
            _ => operand.displacement = signed(word, 12, 9),
        }
    } else {
        let extend = match bits(word, 13, 3) {
            2 => Extend::UnsignedWord,
            6 => Extend::SignedWord,
            3 | 7 => Extend::Whole,
            _ => return None,
        };
        // rprfm, where it is not an index: of a range of addresses.
        let range = hint && bits(word, 3, 2) == 3;
        let register = reg(word, 16);
        operand.index = (register != SP && !range).then_some(Index {
            register,
            extend,
            shift: (bits(word, 12, 1) * log) as u8,
        });
    }
    Some(())
}

/// ldadd and its like, swp, ldapr, ld64b and st64b, rcwclr and its like
fn atomic_operation(word: u32, size: u32, operand: &mut Operand) -> Option<()> {
    let ordering = bits(word, 22, 2);
    let none = bits(word, 16, 5) == 31;
    let plain = size == 3 && ordering == 0;
    let (touch, bytes) = match bits(word, 12, 4) {
        0..=8 => (Touch::ReadWrite, 1 << size),
        9..=11 if size < 2 => (Touch::ReadWrite, 8),
        12 if ordering == 2 && none => (Touch::Read, 1 << size),
        10 | 11 if plain => (Touch::Write, 64),
        9 if plain && none => (Touch::Write, 64),
        13 if plain && none => (Touch::Read, 64),
        _ => return None,
    };
    operand.is_atomic(touch, bytes);
    Some(())
}

/// ldapur and stlur, ldiapp and stilp, memory copies and sets, tags, and atomics
/// of 16 bytes
#[inline(never)]
fn ordered_or_tagged(
    word: u32,
    vector: bool,
    decoded: &mut Decoded,
    operand: &mut Operand,
) -> Option<()> {
    let size = bits(word, 30, 2);
    let opc = bits(word, 22, 2);
    let function = bits(word, 12, 4);
    let (touch, bytes) = match (bits(word, 21, 1), bits(word, 10, 2)) {
        // Memory copies and sets. What their registers mean changes on the way.
        (0, 1) if size == 0 => {
            operand.partial = true;
            operand.opaque = true;
            operand.base = Some(reg(word, 0));
            operand.touch = Touch::Write;
            if opc != 3 {
                decoded.operands[1] = Some(*operand);
                operand.base = Some(reg(word, 16));
                operand.touch = Touch::Read;
            }
            return Some(());
        }
        (0, 2) if vector => {
            operand.displacement = signed(word, 12, 9);
            let log = match (size, opc) {
                (0, 2 | 3) => 4,
                (_, 2 | 3) => return None,
                _ => size,
            };
            (read_if(opc & 1), 1 << log)
        }
        (0, 0) if !vector && size + opc < 5 => {
            operand.displacement = signed(word, 12, 9);
            (read_if(opc), 1 << size)
        }
        // Stores go down before, loads up after. Pairs need not.
        (0, 2) if size >= 2 => {
            let pair = opc < 2;
            if function > u32::from(pair) || !pair && bits(word, 16, 5) != 0 {
                return None;
            }
            let bytes = if pair { 2 << size } else { 1 << size };
            if function == 0 && opc & 1 == 0 {
                operand.displacement = -i64::from(bytes);
            }
            (read_if(opc & 1), bytes)
        }
        // gcsstr, gcssttr
        (0, 3) if word & 0xffff_ec00 == 0xd91f_0c00 => (Touch::Write, 8),
        (1, mode) if size == 3 && !vector => return tag(word, opc, mode, decoded, operand),
        // ldclrp, ldsetp, swpp; rcw and rcws
        (1, 0) if !vector => match (size, function) {
            (0, 1 | 3 | 8) | (0 | 1, 9..=11) => (Touch::ReadWrite, 16),
            _ => return None,
        },
        (1, 2) if size < 2 && !vector && function == 0 => (Touch::ReadWrite, 8),
        (1, 3) if size < 2 && !vector && function == 0 && word & ODD == 0 => (Touch::ReadWrite, 16),
        _ => return None,
    };
    operand.is_atomic(touch, bytes);
    Some(())
}

/// stg, stzg, st2g, stz2g, ldg, and the instructions for many tags at once
fn tag(word: u32, opc: u32, mode: u32, decoded: &mut Decoded, operand: &mut Operand) -> Option<()> {
    // 1 is post-indexed.
    if mode != 1 {
        operand.displacement = signed(word, 12, 9) * 16;
    }
    match (mode, opc) {
        // The granule that it lies in.
        (0, 1) => operand.touch = Touch::Read,
        (0, _) if operand.displacement == 0 => {
            decoded.class = Class::Privileged;
            operand.touch = read_if(opc & 1);
        }
        (0, _) => return None,
        _ => {
            operand.accesses(Touch::Write, if opc >= 2 { 32 } else { 16 });
            operand.alignment = 16;
        }
    }
    Some(())
}
