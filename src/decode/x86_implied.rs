//! The memory that an x86 instruction accesses without an explicit operand (the stack,
//! strings), and the targets of calls and jumps.

use super::x86::{Head, AX, BP, BX, DI, SI, SP};
use super::x86_rules::{self as rules, Rule, Width};
use super::{Class, Decoded, Extend, Index, Operand, Target, Touch};

/// Memory that a register points to: the register's number, the access, bytes or 0.
type Implied = (u8, Touch, u16);

/// Set with the number of a register: it is the stack pointer. Only two registers can be.
const STACK: u8 = 0x80;
const TOP: u8 = STACK | SP;
const FRAME: u8 = STACK | BP;

impl Head {
    /// A push writes below the top of the stack. For all operands but the stack, a prefix may
    /// choose the segment.
    #[inline(never)]
    fn at(&self, (number, touch, width): Implied) -> Operand {
        let stack = number & STACK != 0;
        let push = stack && touch == Touch::Write;
        Operand {
            segment: self.segment.filter(|_| !stack),
            base: Some(self.register(number & !STACK)),
            index: None,
            displacement: if push { -i64::from(width) } else { 0 },
            bit_offset: None,
            address_bytes: match (stack, self.long) {
                (false, _) => self.address_bytes(),
                (true, true) => 8,
                (true, false) => 4,
            },
            width: (width != 0).then_some(width),
            alignment: 1,
            touch,
            partial: false,
            opaque: false,
        }
    }

    /// The operands of opcodes without ModRM. `immediate` is at the end; `None` if it is
    /// needed and missing.
    #[inline(never)]
    pub(super) fn implied(
        &self,
        rule: &Rule,
        immediate: Option<i64>,
        decoded: &mut Decoded,
    ) -> Option<()> {
        let size = self.size();
        let stack = self.stack_size();
        let touch = match rule.how & rules::BOTH {
            rules::WRITE => Touch::Write,
            _ => Touch::Read,
        };
        // Ports have no more than 4 bytes.
        let string = match self.opcode {
            even if even & 1 == 0 => 1,
            0x6d | 0x6f => size.min(4),
            _ => size,
        };
        let mut operand = self.at(match rule.width {
            Width::Push | Width::Enter => (TOP, Touch::Write, stack),
            Width::PushNear => (TOP, Touch::Write, self.near_size()),
            Width::PushFar => (TOP, Touch::Write, 2 * size),
            Width::PushAll => (TOP, Touch::Write, 8 * size),
            Width::Pop => (TOP, Touch::Read, stack),
            Width::PopSegment => (TOP, Touch::Read, 2),
            Width::PopFar => (TOP, Touch::Read, 2 * size),
            Width::PopAll => (TOP, Touch::Read, 8 * size),
            // 32-bit code stays on its stack.
            Width::PopFrame => (TOP, Touch::Read, if self.long { 5 } else { 3 } * size),
            Width::Leave => (FRAME, Touch::Read, stack),
            Width::From | Width::FromTo => (SI, Touch::Read, string),
            Width::To => (DI, touch, string),
            Width::Table256 => (BX, Touch::Read, 1),
            Width::Fixed => (AX, touch, string),
            _ => {
                if self.map == 0 && self.opcode == 0xcd {
                    decoded.class = match immediate? as u8 {
                        // These have gates that user code may use.
                        3 => Class::Breakpoint,
                        4 => Class::Other,
                        0x80 => Class::SystemCall,
                        _ => Class::Privileged,
                    };
                }
                return Some(());
            }
        });
        match rule.width {
            Width::Fixed => {
                operand.base = None;
                operand.displacement = immediate?;
            }
            Width::Table256 => {
                operand.index = Some(Index {
                    register: self.register(AX),
                    extend: Extend::Byte,
                    shift: 0,
                });
            }
            Width::Enter => {
                // Bytes to reserve, and how many frames are nested.
                if let Some(immediate) = immediate {
                    let frames = 1 + (immediate >> 16 & 31);
                    let mut second = operand;
                    second.displacement = -(immediate & 0xffff) - frames * i64::from(stack);
                    decoded.operands[1] = Some(second);
                }
            }
            Width::From | Width::To | Width::FromTo => {
                operand.partial = self.repeat;
                if rule.width == Width::FromTo {
                    let mut second = self.at((DI, touch, string));
                    second.segment = None;
                    second.partial = self.repeat;
                    decoded.operands[1] = Some(second);
                } else if rule.width == Width::To {
                    operand.segment = None;
                }
            }
            _ => {}
        }
        if decoded.class == Class::Return {
            decoded.target = Some(Target::Loaded);
        }
        decoded.operands[0] = Some(operand);
        Some(())
    }

    /// The implied operands of opcodes with ModRM, once their length is known.
    #[inline(never)]
    pub(super) fn implied_beside(&self, modrm: u8, decoded: &mut Decoded) {
        let reg = modrm >> 3 & 7;
        let rm = (modrm & 7) + self.base_high;
        let stack = self.stack_size();
        let [first, second] = &mut decoded.operands;
        let mut alignment = 1;
        let implied = match (self.map, self.opcode, &mut *first) {
            (0, 0x8f, _) => (TOP, Touch::Read, stack),
            (0, 0xff, named) => {
                if (2..6).contains(&reg) {
                    decoded.target = Some(match named {
                        Some(_) => Target::Loaded,
                        None => Target::Register(self.register(rm)),
                    });
                }
                let width = match reg {
                    2 => self.near_size(),
                    3 => 2 * self.size(),
                    6 => stack,
                    _ => return,
                };
                (TOP, Touch::Write, width)
            }
            (1, 0x01, None) => {
                // A bit for each ModRM from c0 on: vmcall and more of virtual
                // machines, monitor, clac, encls, xsetbv, SVM, lmsw, swapgs,
                // rdtscp, invlpgb and more; setssbsy has a prefix.
                const PRIVILEGED: u64 = 0xc3ff_0000_fd02_8f7f;
                let privileged = PRIVILEGED >> (modrm & 0x3f) & 1 != 0;
                // tdcall and seamcall
                let guarded = self.prefix == 1 && (0xcc..=0xcf).contains(&modrm);
                if privileged || guarded || modrm == 0xe8 && self.prefix == 2 {
                    decoded.class = Class::Privileged;
                }
                // monitorx, clzero: of the line of the cache that it lies in.
                match modrm {
                    0xfa => (AX, Touch::Read, 0),
                    0xfc => (AX, Touch::Write, 0),
                    _ => return,
                }
            }
            // bt and its like, by a register
            (1, 0xa3 | 0xab | 0xb3 | 0xbb, Some(operand)) => {
                operand.bit_offset = Some(self.register(reg + self.reg_high));
                return;
            }
            // umonitor
            (1, 0xae, None) if reg == 6 && self.prefix == 2 => (rm, Touch::Read, 0),
            // maskmovq, maskmovdqu
            (1, 0xf7, None) => (DI, Touch::Write, if self.prefix == 0 { 8 } else { 16 }),
            // movdir64b and its like: to where a register points.
            (2, 0xf8, Some(_)) => {
                alignment = 64;
                (reg + self.reg_high, Touch::Write, 64)
            }
            _ => return,
        };
        let mut implied = self.at(implied);
        implied.alignment = alignment;
        if first.is_some() {
            implied.segment = None;
            *second = Some(implied);
        } else {
            implied.partial = self.opcode == 0xf7;
            *first = Some(implied);
        }
    }
}
