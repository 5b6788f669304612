//! Every form of every x86 opcode: each opcode of each map under each prefix that
//! may choose another instruction, with each value of ModRM.reg, with memory and
//! with registers. Whether it is an instruction the disassemblers say.

use super::listing::Machine;

/// Each form has so many bytes, of which it takes the first.
pub const SLOT: usize = 32;

/// Prefixes without end, so that whatever goes astray is back at the next slot.
const PAD: u8 = 0x66;
const NOP: u8 = 0x90;

/// ModRM without reg, and what follows it: a byte of displacement, four from pc
/// or from 0, base and index, one byte behind base and index, a register.
const FORMS: [&[u8]; 5] = [
    &[0x43, 0x12],
    &[0x05, 0x78, 0x56, 0x34, 0x12],
    &[0x84, 0x75, 0x88, 0xff, 0xff, 0xff],
    &[0x44, 0xb3, 0xf3],
    &[0xc1],
];

/// The same with the stack pointer as a register, and as a base without and with an
/// index; and with the frame pointer as one.
const STACK_FORMS: [&[u8]; 4] = [
    &[0xc4],
    &[0x44, 0x24, 0xf0],
    &[0x44, 0x0c, 0x10],
    &[0x45, 0xf8],
];

pub fn all(machine: Machine) -> Vec<u8> {
    let mut slots = Slots(opcodes(machine));
    addresses(machine == Machine::X86_64, &mut slots);
    legacy(machine == Machine::X86_64, &STACK_FORMS, &mut slots);
    vex_registers(&mut slots);
    slots.0
}

/// Each opcode, with a few addresses.
pub fn opcodes(machine: Machine) -> Vec<u8> {
    let mut slots = Slots(Vec::new());
    legacy(machine == Machine::X86_64, &FORMS, &mut slots);
    vex(&mut slots);
    evex(&mut slots);
    slots.0
}

struct Slots(Vec<u8>);

impl Slots {
    fn push(&mut self, parts: &[&[u8]]) {
        let from = self.0.len();
        for part in parts {
            self.0.extend_from_slice(part);
        }
        while self.0.len() < from + SLOT {
            let left = from + SLOT - self.0.len();
            let byte = if left == 1 || left == 11 { NOP } else { PAD };
            self.0.push(byte);
        }
    }

    /// The same with each reg.
    fn push_forms(&mut self, before: &[u8], forms: &[&[u8]], regs: std::ops::Range<u8>) {
        for form in forms {
            for reg in regs.clone() {
                self.push(&[before, &[form[0] | reg << 3], &form[1..]]);
            }
        }
    }
}

fn legacy(long: bool, forms: &[&[u8]], slots: &mut Slots) {
    const ESCAPES: [&[u8]; 4] = [&[], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]];
    const PREFIXES: [&[u8]; 6] = [&[], &[0x66], &[0xf3], &[0xf2], &[0x66, 0xf2], &[0x67]];
    const REX: [&[u8]; 3] = [&[], &[0x48], &[0x47]];
    let rex = if long { &REX[..] } else { &REX[..1] };
    for escape in ESCAPES {
        for opcode in 0..=255 {
            for prefix in PREFIXES {
                // Two of them at once choose only there.
                if prefix.len() > 1 && escape != [0x0f, 0x38] {
                    continue;
                }
                for rex in rex {
                    let before = [prefix, rex, escape, &[opcode]].concat();
                    slots.push_forms(&before, forms, 0..8);
                }
            }
        }
    }
}

fn vex(slots: &mut Slots) {
    for map in 1..=3 {
        for opcode in 0..=255 {
            for bits in 0..16 {
                // W, vvvv, L, pp
                let second = (bits & 8) << 4 | 0x78 | bits & 7;
                let before = [0xc4, 0xe0 | map, second, opcode];
                slots.push_forms(&before, &FORMS[..1], 0..8);
                slots.push_forms(&before, &FORMS[4..], 0..8);
                slots.push_forms(&before, &FORMS[1..4], 2..3);
            }
        }
    }
    for map in 8..=10 {
        for opcode in 0..=255 {
            for bits in [0, 4, 0x80, 0x84] {
                let before = [0x8f, 0xe0 | map, 0x78 | bits, opcode];
                slots.push_forms(&before, &[FORMS[0], FORMS[1], FORMS[4]], 0..8);
            }
        }
    }
    // The short form, which has registers above 7 in reg only.
    for opcode in 0..=255 {
        for bits in 0..8 {
            slots.push_forms(&[0xc5, 0xf8 | bits, opcode], &FORMS, 1..2);
        }
    }
}

/// The stack pointer where VEX names it beside ModRM, and in ModRM.
fn vex_registers(slots: &mut Slots) {
    for map in 1..=3 {
        for opcode in 0..=255 {
            for bits in 0..16 {
                let second = (bits & 8) << 4 | bits & 7;
                for other in [0x58, 0x70] {
                    let before = [0xc4, 0xe0 | map, second | other, opcode];
                    slots.push_forms(&before, &STACK_FORMS[..1], 0..8);
                }
            }
        }
    }
}

fn evex(slots: &mut Slots) {
    for map in [1, 2, 3, 5, 6] {
        for opcode in 0..=255 {
            for bits in 0..8 {
                // W, vvvv, pp
                let second = (bits & 4) << 5 | 0x7c | bits & 3;
                for third in 0..16 {
                    // L'L, b, V' and k1 or none
                    let third = (third & 0xe) << 4 | 0x08 | third & 1;
                    let third = third & 0x7f | (third & 0x80) >> 3;
                    let before = [0x62, 0xf0 | map, second, third, opcode];
                    slots.push_forms(&before, &FORMS[3..], 1..2);
                    let groups = map == 1 && (0x71..=0x73).contains(&opcode)
                        || map == 2 && (0xc6..=0xc7).contains(&opcode);
                    if groups {
                        slots.push_forms(&before, &FORMS[3..4], 0..8);
                    }
                    if third & 0x70 == 0 {
                        slots.push_forms(&before, &FORMS[..3], 1..2);
                    }
                }
            }
        }
    }
}

/// Addresses of every shape, segments, and prefixes in odd places.
fn addresses(long: bool, slots: &mut Slots) {
    let prefixes: [&[u8]; 8] = [
        &[],
        &[0x64],
        &[0x65],
        &[0x67],
        &[0x64, 0x67],
        &[0x2e],
        &[0xf0],
        &[0x66, 0x64],
    ];
    let rex: &[&[u8]] = match long {
        true => &[
            &[],
            &[0x41],
            &[0x42],
            &[0x43],
            &[0x4f],
            &[0x48, 0x66],
            &[0x43, 0x65],
        ],
        false => &[&[]],
    };
    for prefix in prefixes {
        for rex in rex {
            for form in 0..3 {
                for rm in 0..8 {
                    for sib in 0..=255 {
                        let modrm = form << 6 | rm;
                        slots.push(&[prefix, rex, &[0x01, modrm, sib, 0x9c, 0x31, 0x80, 0x77]]);
                    }
                }
            }
        }
    }
}
