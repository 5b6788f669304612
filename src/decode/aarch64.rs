//! One aarch64 instruction, by the tables of DDI 0487, section C4.1.
//!
//! ```text
//! bits 28..25   0000  reserved (udf), SME        101x  branches, system
//!               0010  scalable vectors           x1x0  loads and stores
//! ```
//!
//! All the others compute with registers: of them only the length is known, and
//! whether there is such an instruction is not looked at. Loads and stores that
//! are not allocated give `None`.

use super::{aarch64_sve, Class, Decoded, Extend, Index, Operand, Reg, Target, Touch};

const PC: Reg = Reg(32);
/// As a number of a register: sp where an address is made of it, zero elsewhere.
const SP: u32 = 31;
const LINK: Reg = Reg(30);
/// Pairs of registers begin with an even one.
const EVEN: u32 = 1 << 16 | 1;

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

/// Memory that bits 9..5 point to, sp among them.
pub(super) fn at(word: u32, touch: Touch, width: u16) -> Operand {
    Operand {
        segment: None,
        base: Some(reg(word, 5)),
        index: None,
        displacement: 0,
        bit_offset: None,
        address_bytes: 8,
        width: Some(width),
        alignment: 1,
        touch,
        partial: false,
        opaque: false,
    }
}

fn plain(class: Class) -> Decoded {
    Decoded {
        length: 4,
        class,
        target: None,
        operands: [None, None],
    }
}

pub(super) fn decode(word: u32) -> Option<Decoded> {
    let operand = match bits(word, 25, 4) {
        0b0000 if word >> 16 == 0 => return Some(plain(Class::Undefined)),
        // Computing with tiles and vectors, or nothing at all.
        0b0000 if word >> 31 == 0 => return None,
        0b0000 => aarch64_sve::tiles(word),
        0b0001 | 0b0011 => return None,
        0b0010 => aarch64_sve::vectors(word),
        0b1010 | 0b1011 => return branch_or_system(word),
        0b0100 | 0b0110 | 0b1100 | 0b1110 => return load_or_store(word),
        _ => None,
    };
    Some(Decoded {
        operands: [operand, None],
        ..plain(Class::Other)
    })
}

fn branch_or_system(word: u32) -> Option<Decoded> {
    let jump = |class, target| {
        Some(Decoded {
            target: Some(target),
            ..plain(class)
        })
    };
    let near = |class, from, count| jump(class, Target::Near(signed(word, from, count) * 4));
    match word >> 24 {
        0x14..=0x17 => near(Class::Jump, 0, 26),
        0x94..=0x97 => near(Class::Call, 0, 26),
        // cbz, cbnz; tbz, tbnz; b.cond
        0x34 | 0x35 | 0xb4 | 0xb5 | 0x54 => near(Class::Jump, 5, 19),
        0x36 | 0x37 | 0xb6 | 0xb7 => near(Class::Jump, 5, 14),
        // retaasppc, retabsppc
        0x55 if bits(word, 22, 2) == 0 && word & 31 == 31 => {
            jump(Class::Return, Target::Register(LINK))
        }
        0xd4 => match (bits(word, 21, 3), word & 31) {
            (0, 1) => Some(plain(Class::SystemCall)),
            // hvc, smc; dcps
            (0, 2 | 3) | (5, 1..=3) => Some(plain(Class::Privileged)),
            // brk, hlt
            (1 | 2, 0) => Some(plain(Class::Breakpoint)),
            // tcancel
            (3, 0) => Some(plain(Class::Other)),
            _ => None,
        },
        0xd5 => Some(system(word)),
        0xd6 | 0xd7 => {
            // How a code of authentication is made; where 31 is its other source
            // it is zero.
            let signed = bits(word, 11, 5) == 1;
            if bits(word, 16, 5) != 31 || !signed && bits(word, 10, 6) != 0 {
                return None;
            }
            let class = match bits(word, 21, 4) {
                0 | 8 => Class::Jump,
                1 | 9 => Class::Call,
                2 if signed => return jump(Class::Return, Target::Register(LINK)),
                2 => Class::Return,
                // eret, drps
                4 | 5 => return Some(plain(Class::Privileged)),
                _ => return None,
            };
            let to_zero = bits(word, 5, 5) == 31;
            Some(Decoded {
                target: (!to_zero).then_some(Target::Register(reg(word, 5))),
                ..plain(class)
            })
        }
        _ => None,
    }
}

/// Moves of system registers, cache maintenance, hints and barriers. An op1 of 3
/// is what the architecture gives to user code, if the kernel does not take it.
fn system(word: u32) -> Decoded {
    let op1 = bits(word, 16, 3);
    let n = bits(word, 12, 4);
    let m = bits(word, 8, 4);
    let op2 = bits(word, 5, 3);
    let class = |privileged| {
        plain(if privileged {
            Class::Privileged
        } else {
            Class::Other
        })
    };
    match bits(word, 19, 5) {
        // msr of a field of the state; cfinv, xaflag and axflag are there too,
        // and of op1 3 only DAIF is not for all.
        0 if n == 4 => class(match op1 {
            0 => op2 > 2,
            3 => op2 >= 6,
            _ => true,
        }),
        0 => plain(Class::Other),
        // dc, ic
        1 if op1 == 3 && n == 7 => {
            // zva, gva, gzva; ic ivau; to a point of coherency and the like
            let touch = match (m, op2) {
                (4, 1 | 3 | 4) => Touch::Write,
                (5 | 11, 1) | (10 | 12..=14, 1 | 3 | 5) => Touch::Read,
                _ => return plain(Class::Other),
            };
            // How many bytes a register tells that is not the user's.
            let line = Operand {
                base: (word & 31 != 31).then_some(reg(word, 0)),
                width: None,
                ..at(word, touch, 0)
            };
            Decoded {
                operands: [Some(line), None],
                ..plain(Class::Other)
            }
        }
        // sys, sysl
        1 | 5 | 9 | 13 => class(op1 != 3),
        // msr, mrs: of op1 3 the performance counters are not for all.
        _ => class(op1 != 3 || n == 9 || n == 14 && m >= 8),
    }
}

fn load_or_store(word: u32) -> Option<Decoded> {
    let vector = bits(word, 26, 1) == 1;
    let operand = match (bits(word, 27, 3), bits(word, 24, 2)) {
        (0b001, 0) if !vector => exclusive(word)?,
        (0b001, 0) => structures(word)?,
        (0b001, 1) if vector => structure(word)?,
        (0b011, 0) => literal(word, vector)?,
        (0b011, 1) => return ordered_or_tagged(word, vector),
        (0b101, 0 | 1) => pair(word, vector)?,
        (0b111, 0 | 1) => single(word, vector)?,
        _ => return None,
    };
    Some(Decoded {
        operands: [Some(operand), None],
        ..plain(Class::Other)
    })
}

fn read_if(load: bool) -> Touch {
    if load {
        Touch::Read
    } else {
        Touch::Write
    }
}

/// An access that must be aligned to all of its bytes.
fn atomic(word: u32, touch: Touch, width: u16) -> Operand {
    Operand {
        alignment: width,
        ..at(word, touch, width)
    }
}

/// ldxr, stxr, ldxp, stxp, ldar, stlr, cas, casp
fn exclusive(word: u32) -> Option<Operand> {
    let size = bits(word, 30, 2);
    let load = bits(word, 22, 1) == 1;
    let no_second = bits(word, 10, 5) == 31;
    let even = word & EVEN == 0;
    Some(match (bits(word, 23, 1), bits(word, 21, 1)) {
        (0, 0) => Operand {
            partial: !load,
            ..atomic(word, read_if(load), 1 << size)
        },
        (0, 1) if size >= 2 => Operand {
            partial: !load,
            ..atomic(word, read_if(load), 2 << size)
        },
        (0, 1) if no_second && even => atomic(word, Touch::ReadWrite, 8 << size),
        (1, 0) => atomic(word, read_if(load), 1 << size),
        (1, 1) if no_second => atomic(word, Touch::ReadWrite, 1 << size),
        _ => return None,
    })
}

/// ld1 to ld4 and their stores, of whole registers
fn structures(word: u32) -> Option<Operand> {
    let registers = match bits(word, 12, 4) {
        0b0000 | 0b0010 => 4,
        0b0100 | 0b0110 => 3,
        0b1000 | 0b1010 => 2,
        0b0111 => 1,
        _ => return None,
    };
    // Elements of 8 bytes are alone in a short register, and not selected.
    let one = bits(word, 13, 1) == 1;
    if bits(word, 10, 2) == 3 && bits(word, 30, 1) == 0 && !one {
        return None;
    }
    let indexed = bits(word, 23, 1) == 1;
    if word >> 31 != 0 || bits(word, 21, 1) != 0 || !indexed && bits(word, 16, 5) != 0 {
        return None;
    }
    let bytes = 8 << bits(word, 30, 1);
    Some(at(word, read_if(bits(word, 22, 1) == 1), registers * bytes))
}

/// The same of one element of each, and ld1r to ld4r
fn structure(word: u32) -> Option<Operand> {
    let load = bits(word, 22, 1) == 1;
    let size = bits(word, 10, 2);
    let selected = bits(word, 12, 1);
    let count = (bits(word, 13, 1) << 1 | bits(word, 21, 1)) + 1;
    let log = match (bits(word, 14, 2), size) {
        (0, _) => 0,
        (1, 0 | 2) => 1,
        (2, 0) => 2,
        (2, 1) if selected == 0 => 3,
        (3, _) if load && selected == 0 => size,
        _ => return None,
    };
    let operand = at(word, read_if(load), (count << log) as u16);
    match bits(word, 16, 5) {
        _ if word >> 31 != 0 => None,
        0 => Some(operand),
        _ if bits(word, 23, 1) == 1 => Some(operand),
        // ldap1, stl1
        1 if count == 1 && bits(word, 13, 3) == 4 && log == 3 => Some(Operand {
            alignment: 8,
            ..operand
        }),
        _ => None,
    }
}

/// ldr, ldrsw and prfm at a distance from pc
fn literal(word: u32, vector: bool) -> Option<Operand> {
    let (touch, width) = match (bits(word, 30, 2), vector) {
        (0, _) | (2, false) => (Touch::Read, 4),
        (1, _) => (Touch::Read, 8),
        (2, true) => (Touch::Read, 16),
        (_, false) => (Touch::Nothing, 0),
        _ => return None,
    };
    Some(Operand {
        base: Some(PC),
        displacement: signed(word, 5, 19) * 4,
        width: (width != 0).then_some(width),
        ..at(word, touch, width)
    })
}

/// ldp, stp, ldnp, stnp, ldpsw, stgp
fn pair(word: u32, vector: bool) -> Option<Operand> {
    let load = bits(word, 22, 1) == 1;
    let mode = bits(word, 23, 2);
    let tag = !vector && !load && bits(word, 30, 2) == 1;
    let bytes: u16 = match (bits(word, 30, 2), vector) {
        (0, _) => 4,
        // Without a hint, in these two.
        (1, false) if mode == 0 => return None,
        (1, false) if tag => 8,
        (1, false) => 4,
        (1, true) | (2, false) => 8,
        (2, true) => 16,
        _ => return None,
    };
    let scale = if tag { 16 } else { bytes };
    Some(Operand {
        // 1 is post-indexed.
        displacement: if mode == 1 {
            0
        } else {
            signed(word, 15, 7) * i64::from(scale)
        },
        alignment: if tag { 16 } else { 1 },
        ..at(word, read_if(load), 2 * bytes)
    })
}

/// ldr and str in their sizes and modes, prfm, atomics, ldraa
fn single(word: u32, vector: bool) -> Option<Operand> {
    let size = bits(word, 30, 2);
    let opc = bits(word, 22, 2);
    let offset = bits(word, 24, 2) == 1;
    let mode = bits(word, 10, 2);
    if !offset && bits(word, 21, 1) == 1 && mode != 2 {
        return match mode {
            _ if vector => None,
            0 => atomic_operation(word, size),
            _ if size == 3 => Some(Operand {
                // With a code of authentication, which is taken off.
                opaque: true,
                displacement: (signed(word, 22, 1) * 512 + i64::from(bits(word, 12, 9))) * 8,
                ..at(word, Touch::Read, 8)
            }),
            _ => None,
        };
    }
    let log = match (size, opc, vector) {
        (0, 2 | 3, true) => 4,
        (_, 2 | 3, true) | (2 | 3, 3, false) => return None,
        _ => size,
    };
    let hint = !vector && size == 3 && opc == 2;
    let touch = match opc {
        _ if hint => Touch::Nothing,
        0 => Touch::Write,
        2 if vector => Touch::Write,
        _ => Touch::Read,
    };
    let mut operand = at(word, touch, 1 << log);
    if hint {
        operand.width = None;
    }
    if offset {
        operand.displacement = i64::from(bits(word, 10, 12)) << log;
    } else if bits(word, 21, 1) == 0 {
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
        let shift = if bits(word, 12, 1) == 1 { log } else { 0 };
        // rprfm, where it is no index: of a range of addresses.
        let range = hint && bits(word, 3, 2) == 3;
        operand.index = (bits(word, 16, 5) != SP && !range).then_some(Index {
            register: reg(word, 16),
            extend,
            shift: shift as u8,
        });
    }
    Some(operand)
}

/// ldadd and its like, swp, ldapr, ld64b and st64b, rcwclr and its like
fn atomic_operation(word: u32, size: u32) -> Option<Operand> {
    let ordering = bits(word, 22, 2);
    let other = bits(word, 16, 5);
    Some(match (bits(word, 15, 1), bits(word, 12, 3)) {
        (0, _) | (1, 0) => atomic(word, Touch::ReadWrite, 1 << size),
        (1, 1..=3) if size < 2 => atomic(word, Touch::ReadWrite, 8),
        (1, 4) if ordering == 2 && other == 31 => atomic(word, Touch::Read, 1 << size),
        (1, 1) if size == 3 && ordering == 0 && other == 31 => atomic(word, Touch::Write, 64),
        (1, 2 | 3) if size == 3 && ordering == 0 => atomic(word, Touch::Write, 64),
        (1, 5) if size == 3 && ordering == 0 && other == 31 => atomic(word, Touch::Read, 64),
        _ => return None,
    })
}

/// ldapur and stlur, ldiapp and stilp, memory copies and sets, tags, and atomics
/// of 16 bytes
fn ordered_or_tagged(word: u32, vector: bool) -> Option<Decoded> {
    let size = bits(word, 30, 2);
    let opc = bits(word, 22, 2);
    let mode = bits(word, 10, 2);
    let mut class = Class::Other;
    let mut second = None;
    let first = match (bits(word, 21, 1), mode) {
        (0, 1) if size == 0 => {
            let place = |from, touch| Operand {
                base: Some(reg(word, from)),
                width: None,
                partial: true,
                // What the registers mean changes on the way.
                opaque: true,
                ..at(word, touch, 0)
            };
            if opc == 3 {
                place(0, Touch::Write)
            } else {
                second = Some(place(0, Touch::Write));
                place(16, Touch::Read)
            }
        }
        (0, 2) if vector => {
            let log = match (size, opc) {
                (0, 2 | 3) => 4,
                (_, 2 | 3) => return None,
                _ => size,
            };
            Operand {
                displacement: signed(word, 12, 9),
                ..atomic(word, read_if(opc & 1 == 1), 1 << log)
            }
        }
        (0, 0) if !vector && !(size >= 2 && opc == 3 || size == 3 && opc == 2) => Operand {
            displacement: signed(word, 12, 9),
            ..atomic(word, read_if(opc != 0), 1 << size)
        },
        // Stores go down before, loads up after.
        (0, 2) if size >= 2 => {
            let pair = opc < 2;
            let updates = bits(word, 12, 4) == 0;
            if bits(word, 12, 4) > u32::from(pair) || !pair && bits(word, 16, 5) != 0 {
                return None;
            }
            let width = if pair { 2 << size } else { 1 << size };
            let load = opc & 1 == 1;
            Operand {
                displacement: if updates && !load {
                    -i64::from(width)
                } else {
                    0
                },
                ..atomic(word, read_if(load), width)
            }
        }
        // gcsstr, gcssttr
        (0, 3) if word & 0xffff_ec00 == 0xd91f_0c00 => atomic(word, Touch::Write, 8),
        (1, _) if size == 3 && !vector => tag(word, opc, mode, &mut class)?,
        // ldclrp, ldsetp, swpp; rcw and rcws
        (1, 0) if !vector => match (size, bits(word, 12, 4)) {
            (0, 1 | 3 | 8) | (0 | 1, 9..=11) => atomic(word, Touch::ReadWrite, 16),
            _ => return None,
        },
        (1, 2) if size < 2 && !vector && bits(word, 12, 4) == 0 => {
            atomic(word, Touch::ReadWrite, 8)
        }
        (1, 3) if size < 2 && !vector && bits(word, 12, 4) == 0 && word & EVEN == 0 => {
            atomic(word, Touch::ReadWrite, 16)
        }
        _ => return None,
    };
    Some(Decoded {
        operands: [Some(first), second],
        ..plain(class)
    })
}

/// stg, stzg, st2g, stz2g, ldg, and those that take many tags at once
fn tag(word: u32, opc: u32, mode: u32, class: &mut Class) -> Option<Operand> {
    let displacement = match mode {
        1 => 0,
        _ => signed(word, 12, 9) * 16,
    };
    Some(match (mode, opc) {
        // Of the granule that it lies in.
        (0, 1) => Operand {
            displacement,
            width: None,
            ..at(word, Touch::Read, 16)
        },
        (0, _) if displacement == 0 => {
            *class = Class::Privileged;
            Operand {
                width: None,
                ..at(word, read_if(opc == 3), 0)
            }
        }
        (0, _) => return None,
        _ => Operand {
            displacement,
            alignment: 16,
            ..at(word, Touch::Write, if opc >= 2 { 32 } else { 16 })
        },
    })
}
