//! What an x86 instruction does to memory without naming it: the stack, strings,
//! and where calls and jumps go.

use super::x86::{Head, AX, BP, BX, DI, SI, SP};
use super::{Class, Decoded, Extend, Index, Operand, Segment, Target, Touch};

impl Head {
    /// Memory that a register points to.
    pub(super) fn at(&self, number: u8, touch: Touch, width: Option<u16>) -> Operand {
        Operand {
            segment: None,
            base: Some(self.register(number)),
            index: None,
            displacement: 0,
            bit_offset: None,
            address_bytes: self.address_bytes(),
            width,
            alignment: 1,
            touch,
            partial: false,
            opaque: false,
        }
    }

    fn stack(&self, touch: Touch, displacement: i64, width: u16) -> Operand {
        Operand {
            displacement,
            address_bytes: if self.long { 8 } else { 4 },
            ..self.at(SP, touch, Some(width))
        }
    }

    fn push(&self, width: u16) -> Option<Operand> {
        Some(self.stack(Touch::Write, -i64::from(width), width))
    }

    fn pop(&self, width: u16) -> Option<Operand> {
        Some(self.stack(Touch::Read, 0, width))
    }

    /// Of a string instruction, whose opcode is odd for all but bytes. Only the
    /// source is in a segment of choice.
    fn string(&self, number: u8, touch: Touch) -> Option<Operand> {
        let width = match self.opcode & 1 {
            0 => 1,
            // Ports have no more than 4 bytes.
            _ if self.opcode < 0x70 => self.size().min(4),
            _ => self.size(),
        };
        let source: Option<Segment> = self.segment.filter(|_| number == SI);
        Some(Operand {
            segment: source,
            partial: self.repeat,
            ..self.at(number, touch, Some(width))
        })
    }

    /// Of opcodes without escape. `register` is ModRM where that names no memory,
    /// `immediate` what stands at the end. `None` where it is needed and missing.
    pub(super) fn implied(
        &self,
        reg: u8,
        register: Option<u8>,
        immediate: Option<i64>,
        decoded: &mut Decoded,
    ) -> Option<()> {
        let size = self.size();
        let stack = self.stack_size();
        let near = self.near_size();
        let source = self.string(SI, Touch::Read);
        let target = match register {
            Some(modrm) => Target::Register(self.register((modrm & 7) + self.base_high)),
            None => Target::Loaded,
        };
        let [first, second] = &mut decoded.operands;
        match self.opcode {
            // push es, cs, ss, ds; pop
            0x06 | 0x0e | 0x16 | 0x1e | 0x50..=0x57 | 0x68 | 0x6a | 0x9c => {
                *first = self.push(stack);
            }
            0x07 | 0x17 | 0x1f | 0x58..=0x5f | 0x9d => *first = self.pop(stack),
            0x60 => *first = self.push(8 * size),
            0x61 => *first = self.pop(8 * size),
            0x6c | 0x6d => *first = self.string(DI, Touch::Write),
            0x6e | 0x6f => *first = source,
            0x8f => {
                // The address is that after the pop.
                if let Some(operand) = first {
                    if operand.base == Some(self.register(SP)) {
                        operand.displacement += i64::from(stack);
                    }
                }
                *second = self.pop(stack);
            }
            0x9a => *first = self.push(2 * size),
            0xa4 | 0xa5 => {
                *first = source;
                *second = self.string(DI, Touch::Write);
            }
            0xa6 | 0xa7 => {
                *first = source;
                *second = self.string(DI, Touch::Read);
            }
            0xaa | 0xab => *first = self.string(DI, Touch::Write),
            0xac | 0xad => *first = source,
            0xae | 0xaf => *first = self.string(DI, Touch::Read),
            0xc2 | 0xc3 => {
                *first = self.pop(stack);
                decoded.target = Some(Target::Loaded);
            }
            0xc8 => *first = self.push(stack),
            0xc9 => {
                *first = Some(Operand {
                    base: Some(self.register(BP)),
                    ..self.stack(Touch::Read, 0, stack)
                });
            }
            0xca | 0xcb => {
                *first = self.pop(2 * size);
                decoded.target = Some(Target::Loaded);
            }
            // 3, 4 and 0x80 have gates that user code may use.
            0xcd => match immediate? as u8 {
                3 => decoded.class = Class::Breakpoint,
                4 => decoded.class = Class::Other,
                0x80 => decoded.class = Class::SystemCall,
                _ => {}
            },
            // 32-bit code stays on its stack.
            0xcf => {
                *first = self.pop(if self.long { 5 } else { 3 } * size);
                decoded.target = Some(Target::Loaded);
            }
            0xd7 => {
                *first = Some(Operand {
                    segment: self.segment,
                    index: Some(Index {
                        register: self.register(AX),
                        extend: Extend::Byte,
                        shift: 0,
                    }),
                    ..self.at(BX, Touch::Read, Some(1))
                });
            }
            0xe8 => *first = self.push(near),
            0xff => match reg {
                2 => {
                    decoded.target = Some(target);
                    *if first.is_some() { second } else { first } = self.push(near);
                }
                3 => {
                    decoded.target = Some(target);
                    *second = self.push(2 * size);
                }
                4 | 5 => decoded.target = Some(target),
                6 => *if first.is_some() { second } else { first } = self.push(stack),
                _ => {}
            },
            _ => {}
        }
        Some(())
    }

    /// Of opcodes behind 0F alone.
    pub(super) fn implied_0f(&self, reg: u8, register: Option<u8>, decoded: &mut Decoded) {
        let first = &mut decoded.operands[0];
        match (self.opcode, register) {
            (0x01, Some(modrm)) => {
                // vmcall and more of virtual machines, monitor, clac, encls,
                // xsetbv, SVM, lmsw, swapgs, rdtscp, invlpgb and on.
                let privileged = matches!(
                    modrm,
                    0xc0..=0xc6 | 0xc8..=0xcb | 0xcf | 0xd1 | 0xd8 | 0xda..=0xdf
                        | 0xf0..=0xf9 | 0xfe | 0xff
                );
                // setssbsy
                if privileged || modrm == 0xe8 && self.prefix == 2 {
                    decoded.class = Class::Privileged;
                }
                // monitorx, clzero: the line of the cache that it lies in.
                if let 0xfa | 0xfc = modrm {
                    let touch = if modrm == 0xfa {
                        Touch::Read
                    } else {
                        Touch::Write
                    };
                    *first = Some(Operand {
                        segment: self.segment,
                        ..self.at(AX, touch, None)
                    });
                }
            }
            (0xa0 | 0xa8, _) => *first = self.push(self.stack_size()),
            (0xa1 | 0xa9, _) => *first = self.pop(self.stack_size()),
            (0xa3 | 0xab | 0xb3 | 0xbb, None) => {
                if let Some(operand) = first {
                    operand.bit_offset = Some(self.register(reg + self.reg_high));
                }
            }
            // umonitor
            (0xae, Some(modrm)) if reg == 6 && self.prefix == 2 => {
                *first = Some(Operand {
                    segment: self.segment,
                    ..self.at((modrm & 7) + self.base_high, Touch::Read, None)
                });
            }
            // maskmovq, maskmovdqu
            (0xf7, Some(_)) => {
                let width = if self.prefix == 0 { 8 } else { 16 };
                *first = Some(Operand {
                    segment: self.segment,
                    partial: true,
                    ..self.at(DI, Touch::Write, Some(width))
                });
            }
            _ => {}
        }
    }
}
