//! What an x86 instruction does to the stack pointer, and what runs next.
//!
//! In comes an instruction as [`x86`](super::x86) decoded it; out comes its [`Effect`].
//! Every write of the stack pointer is one of them: a register that is written is found by
//! the opcode, as the manual's instruction pages have it (SDM volume 2). Writes of its
//! lowest byte alone are not looked for.

use super::x86::{Head, Instruction, BP, SP};
use super::x86_rules::{self as rules, Width};
use super::{Class, Effect, Target};

/// `None` where it depends on bytes that are not there.
pub(super) fn effect(it: &Instruction) -> Option<Effect> {
    let (head, length) = (&it.head, i64::from(it.decoded.length));
    match (it.decoded.class, it.decoded.target) {
        // How 32-bit code learns its own address: the word stays.
        (Class::Call, Some(Target::Near(to))) if to == length => Some(it.pushes(None)),
        (Class::Call, _) => Some(Effect::Call),
        (Class::Return, _) if matches!(head.opcode, 0xc2 | 0xc3) => Some(Effect::Return),
        // Far ones, and those from an interrupt, return from no call of a function.
        (Class::Return | Class::Undefined, _) => Some(Effect::Stop),
        (Class::Privileged, _) if (head.map, head.opcode) == (0, 0xf4) => Some(Effect::Stop),
        (Class::Jump, Some(Target::Near(to))) => Some(match (head.map, head.opcode) {
            (0, 0xe9 | 0xeb) => Effect::Jump(to - length),
            _ => Effect::Branch(to - length),
        }),
        (Class::Jump, Some(_)) => Some(Effect::Leave),
        (Class::Jump, None) if it.rule.how & rules::IMMEDIATE == rules::FAR => Some(Effect::Leave),
        (Class::Jump, None) if it.rule.is_bare() || head.map == 1 => None,
        (Class::Jump, None) => Some(Effect::Leave),
        _ => it.moves(),
    }
}

impl Instruction {
    fn moves(&self) -> Option<Effect> {
        let (head, opcode) = (&self.head, self.head.opcode);
        let in_opcode = (opcode & 7) + head.base_high;
        let is_numbered = matches!((head.map, opcode), (0, 0x50..=0x5f));
        Some(match self.rule.width {
            Width::Push => self.pushes(is_numbered.then_some(in_opcode)),
            Width::Pop => self.pops(is_numbered.then_some(in_opcode)),
            Width::PopSegment => self.pops(None),
            // All registers come and go with these, and are not followed.
            Width::PushAll | Width::PopAll | Width::Enter => Effect::Set,
            Width::Leave => Effect::Frame,
            _ if self.rule.is_bare() => {
                let written = match (head.map, opcode) {
                    // inc and dec, xchg, mov
                    (0, 0x40..=0x4f | 0x91..=0x97 | 0xb8..=0xbf) => in_opcode,
                    // bswap
                    (1, 0xc8..=0xcf) => in_opcode,
                    _ => return Some(Effect::None),
                };
                set_if(written == SP)
            }
            _ => return self.moves_by_modrm(),
        })
    }

    fn moves_by_modrm(&self) -> Option<Effect> {
        let (head, opcode) = (&self.head, self.head.opcode);
        let (reg, rm) = (self.reg(), self.rm());
        // Half of a stack pointer.
        let whole = head.size() != 2;
        Some(match (head.map, opcode) {
            (0, 0xff) if self.modrm >> 3 & 7 == 6 => self.pushes(rm),
            (0, 0x8f) => self.pops(rm),
            (0, 0x81 | 0x83) if rm == Some(SP) => match self.modrm >> 3 & 7 {
                0 if whole => Effect::Take(-self.immediate?),
                5 if whole => Effect::Take(self.immediate?),
                7 => Effect::None,
                _ => Effect::Set,
            },
            (0, 0x8d) if reg == SP && whole => self.loads_address(),
            (0, 0x89) if rm == Some(SP) && whole => moved_from(reg),
            (0, 0x8b) if reg == SP && whole => rm.map_or(Effect::Set, moved_from),
            _ => set_if(
                reg == SP && self.writes_reg()
                    || rm == Some(SP) && self.writes_rm()
                    || head.second == SP && self.writes_second(),
            ),
        })
    }

    /// `lea` to the stack pointer.
    fn loads_address(&self) -> Effect {
        let Some(operand) = self.decoded.operands[0].filter(|it| it.index.is_none()) else {
            return Effect::Set;
        };
        match operand.base {
            Some(base) if base == self.head.register(SP) => Effect::Take(-operand.displacement),
            Some(base) if base == self.head.register(BP) => Effect::Frame,
            _ => Effect::Set,
        }
    }

    fn pushes(&self, register: Option<u8>) -> Effect {
        match self.is_word() {
            true => Effect::Push(register.map(|number| self.head.register(number))),
            false => Effect::Take(self.head.stack_size().into()),
        }
    }

    fn pops(&self, register: Option<u8>) -> Effect {
        match register {
            Some(SP) => Effect::Set,
            _ if !self.is_word() => Effect::Take(-i64::from(self.head.stack_size())),
            _ => Effect::Pop(register.map(|number| self.head.register(number))),
        }
    }

    /// Whether what is pushed or popped is as wide as the stack's words.
    fn is_word(&self) -> bool {
        self.head.stack_size() == if self.head.long { 8 } else { 4 }
    }

    fn reg(&self) -> u8 {
        (self.modrm >> 3 & 7) + self.head.reg_high
    }

    /// The register of the form without memory, which control registers have no other of.
    fn rm(&self) -> Option<u8> {
        let is_register = self.decoded.operands[0].is_none() || self.modrm >= 0xc0;
        is_register.then_some((self.modrm & 7) + self.head.base_high)
    }

    /// Whether ModRM.reg is a general register that is written.
    fn writes_reg(&self) -> bool {
        let Head {
            map,
            opcode,
            prefix,
            encoding,
            long,
            ..
        } = self.head;
        let (legacy, scalar) = (encoding == rules::L, prefix >= 2);
        match (map, opcode) {
            (0, 0..=0x37) => opcode & 7 == 3,
            (0, 0x63) => long,
            (0, 0x69 | 0x6b | 0x87 | 0x8b | 0x8d | 0xc4 | 0xc5) => true,
            (1, 0x02 | 0x03 | 0x40..=0x4f | 0xaf | 0xb2 | 0xb4..=0xb8 | 0xbc..=0xbf | 0xc1) => {
                legacy
            }
            // From vectors and their masks.
            (1 | 5, 0x2c | 0x2d) => scalar,
            (1 | 5, 0x78 | 0x79) => scalar && encoding == rules::E,
            (1, 0x50 | 0xc5 | 0xd7) => true,
            (1, 0x93) => !legacy,
            // movbe, crc32, adcx and adox, encodekey
            (2, 0xf0) => legacy,
            (2, 0xf1) => legacy && prefix == 3,
            (2, 0xf6) if legacy => matches!(prefix, 1 | 2),
            (2, 0xfa | 0xfb) => legacy && prefix == 2,
            // Those of bits, which VEX and XOP alone have.
            (2, 0xf2 | 0xf5..=0xf7) => encoding == rules::V,
            (3, 0xf0) => encoding == rules::V,
            (10, 0x10) => true,
            _ => false,
        }
    }

    /// Whether ModRM.rm is a general register that is written.
    fn writes_rm(&self) -> bool {
        let Head {
            map,
            opcode,
            prefix,
            ..
        } = self.head;
        let group = self.modrm >> 3 & 7;
        match (map, opcode) {
            // rdssp, movd, rdrand and its like, rdfsbase
            (1, 0x1e) => prefix == 2 && group == 1,
            (1, 0x7e) => prefix < 2,
            (1, 0xc7) => !(self.head.long && prefix == 2 && group == 6),
            (1, 0xae) => prefix == 2 && group < 2,
            // Of control registers.
            (1, 0x20 | 0x21) => true,
            // pextr and extractps
            (3, 0x14..=0x17) => true,
            // x87
            (0, 0xd8..=0xdf) => false,
            (0 | 1, _) => {
                let is_general = match self.rule.width {
                    Width::ByteOp => opcode & 1 != 0,
                    Width::Op | Width::Stack | Width::B2 => true,
                    _ => false,
                };
                is_general && self.rule.how & rules::WRITE != 0
            }
            _ => false,
        }
    }

    /// Whether the register that VEX names beside ModRM is written.
    fn writes_second(&self) -> bool {
        match (self.head.map, self.head.opcode) {
            (2, 0xf3 | 0xf6) => self.head.encoding == rules::V,
            (9, 0x01 | 0x02) => true,
            _ => false,
        }
    }
}

fn moved_from(register: u8) -> Effect {
    match register {
        SP => Effect::None,
        BP => Effect::Frame,
        _ => Effect::Set,
    }
}

fn set_if(is_written: bool) -> Effect {
    match is_written {
        true => Effect::Set,
        false => Effect::None,
    }
}
