//! One x86 instruction: prefixes, opcode, ModRM and SIB, and the operand that they give
//! by the rules of [`x86_rules`](super::x86_rules).
//!
//! ```text
//! [prefixes] [REX]  [0F [38|3A]] opcode [ModRM [SIB] [displacement]] [immediate]
//! [prefixes] C5|C4 VEX, 8F XOP   opcode  ModRM …
//! [prefixes] 62 EVEX             opcode  ModRM …         displacement8 counts by N
//! ```
//!
//! The bytes after the displacement are measured and hardly ever read, so that an
//! instruction whose end was not captured can still be decoded. REX2 and the other
//! extensions of APX, and operand forms that no processor accepts, give `None`.
//! If vendors differ, this follows Intel: near calls and jumps of 64-bit code
//! have 64 bits even with a prefix 66, far ones a 64-bit offset with REX.W.

use super::x86_rules::{self as rules, Rule, Width};
use super::x86_table::find;
use super::{Decoded, Extend, Index, Operand, Reg, Segment, Target, Touch, MAX_LENGTH};

// Registers as instructions number them.
pub(super) const AX: u8 = 0;
pub(super) const BX: u8 = 3;
pub(super) const SP: u8 = 4;
pub(super) const BP: u8 = 5;
pub(super) const SI: u8 = 6;
pub(super) const DI: u8 = 7;

/// Everything before the opcode, and what it determines.
pub(super) struct Head {
    pub(super) long: bool,
    /// 66 was there.
    small: bool,
    /// 67 was there.
    other_address: bool,
    pub(super) segment: Option<Segment>,
    /// F3 or F2 was there.
    pub(super) repeat: bool,
    /// As VEX has it: none, 66, F3, F2.
    pub(super) prefix: u8,
    /// The bit W of REX, VEX or EVEX.
    wide: bool,
    /// The number that is added to ModRM.reg, SIB.index, and SIB.base or ModRM.rm: 8 or 0.
    pub(super) reg_high: u8,
    index_high: u8,
    pub(super) base_high: u8,
    pub(super) encoding: u16,
    pub(super) map: u8,
    /// The second operand that VEX names.
    pub(super) second: u8,
    /// Bytes of a vector.
    vector: u16,
    broadcast: bool,
    masked: bool,
    pub(super) opcode: u8,
}

struct Code<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Code<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    /// Little-endian, with its sign.
    fn signed(&mut self, bytes: usize) -> Option<i64> {
        let field = self.bytes.get(self.at..self.at + bytes)?;
        self.at += bytes;
        let negative = field.last().is_some_and(|last| *last >= 0x80);
        Some(
            field
                .iter()
                .rev()
                .fold(-i64::from(negative), |value, byte| {
                    value << 8 | i64::from(*byte)
                }),
        )
    }
}

/// One instruction, and what it was decoded from.
pub(super) struct Instruction {
    pub(super) head: Head,
    pub(super) rule: &'static Rule,
    /// 0 for those without one.
    pub(super) modrm: u8,
    /// What stands at the end; `None` if its bytes are not there.
    pub(super) immediate: Option<i64>,
    pub(super) decoded: Decoded,
}

/// The instruction at the start of these bytes, in 64-bit or in 32-bit code.
pub(super) fn instruction(long: bool, bytes: &[u8]) -> Option<Instruction> {
    let bytes = &bytes[..bytes.len().min(MAX_LENGTH)];
    let mut code = Code { bytes, at: 0 };
    let head = head(long, &mut code)?;
    let looked_up = match (head.map, head.opcode) {
        // 00 to 37 repeat the same six forms.
        (0, opcode) if opcode < 0x38 && opcode & 7 < 6 => opcode & 7,
        (_, opcode) => opcode,
    };
    // The next byte may belong to another instruction; then the rule takes any.
    let next = code.peek().unwrap_or(0);
    let rule = find(head.map, looked_up, head.when(next), next >> 3 & 7)?;
    let mut decoded = Decoded {
        length: 0,
        class: rule.class(),
        target: None,
        operands: [None, None],
    };
    let mut modrm = 0;
    if !rule.is_bare() {
        modrm = code.byte()?;
        // Moves of control registers have no other form.
        if modrm < 0xc0 && !(head.map == 1 && matches!(head.opcode, 0x20..=0x23)) {
            let mut operand = head.operand(rule);
            head.memory(modrm, rule, &mut code, &mut operand)?;
            decoded.operands[0] = Some(operand);
        }
    }
    let size = head.immediate(rule);
    let length = code.at + size;
    if length > MAX_LENGTH {
        return None;
    }
    decoded.length = length as u8;
    let immediate = code.signed(size);
    if rule.how & rules::IMMEDIATE >= rules::REL8 {
        decoded.target = immediate.map(|value| Target::Near(length as i64 + value));
    }
    if rule.is_bare() {
        head.implied(rule, immediate, &mut decoded)?;
    } else {
        head.named(modrm, &mut decoded);
    }
    Some(Instruction {
        head,
        rule,
        modrm,
        immediate,
        decoded,
    })
}

/// Reads up to the opcode. `None` if the bytes end, and for prefixes that
/// cannot be together.
fn head(long: bool, code: &mut Code<'_>) -> Option<Head> {
    let mut head = Head {
        long,
        small: false,
        other_address: false,
        segment: None,
        repeat: false,
        prefix: 0,
        wide: false,
        reg_high: 0,
        index_high: 0,
        base_high: 0,
        encoding: rules::L,
        map: 0,
        second: 0,
        vector: 16,
        broadcast: false,
        masked: false,
        opcode: 0,
    };
    let mut rex = 0;
    let mut locked = false;
    loop {
        let byte = code.byte()?;
        if long && byte >> 4 == 4 {
            rex = byte;
            continue;
        }
        match byte {
            // No effect in 64-bit code, where these segments begin at 0.
            0x26 | 0x2e | 0x36 | 0x3e if long => {}
            0x26 | 0x2e | 0x36 | 0x3e => head.segment = None,
            0x64 => head.segment = Some(Segment::Fs),
            0x65 => head.segment = Some(Segment::Gs),
            0x66 => head.small = true,
            0x67 => head.other_address = true,
            0xf0 => locked = true,
            0xf2 | 0xf3 => head.prefix = 0xf5 - byte,
            _ => {
                head.opcode = byte;
                break;
            }
        }
        // Only the last prefix can be a REX.
        rex = 0;
    }
    let escape = head.opcode;
    let vector = match escape {
        0x62 | 0xc4 | 0xc5 => long || code.peek()? >= 0xc0,
        // pop, if its map is less than 8.
        0x8f => code.peek()? & 0x1f >= 8,
        _ => false,
    };
    if vector {
        if rex != 0 || head.small || head.prefix != 0 || locked {
            return None;
        }
        head.vector_prefix(escape, code)?;
        return Some(head);
    }
    head.repeat = head.prefix != 0;
    if head.prefix == 0 && head.small {
        head.prefix = 1;
    }
    head.wide = rex & 8 != 0;
    head.extend(rex);
    if escape == 0x0f {
        head.map = 1;
        head.opcode = code.byte()?;
        if let 0x38 | 0x3a = head.opcode {
            head.map = 2 + (head.opcode >> 1 & 1);
            head.opcode = code.byte()?;
        }
    }
    Some(head)
}

impl Head {
    /// What follows from the length and from opcodes with ModRM.
    fn named(&self, modrm: u8, decoded: &mut Decoded) {
        if let Some(operand) = &mut decoded.operands[0] {
            // Relative to the next instruction, or as a pop leaves the stack pointer.
            if operand.base == Some(self.pc()) {
                operand.displacement += i64::from(decoded.length);
            } else if self.map == 0
                && self.opcode == 0x8f
                && operand.base == Some(self.register(SP))
            {
                operand.displacement += i64::from(self.stack_size());
            }
        }
        self.implied_beside(modrm, decoded);
    }

    /// R, X and B as REX has them.
    fn extend(&mut self, bits: u8) {
        self.reg_high = (bits & 4) << 1;
        self.index_high = (bits & 2) << 2;
        self.base_high = (bits & 1) << 3;
    }

    /// The bytes after 62, C4, C5 or 8F, up to the opcode.
    fn vector_prefix(&mut self, escape: u8, code: &mut Code<'_>) -> Option<()> {
        self.encoding = rules::V;
        let first = code.byte()?;
        let mut second = first;
        // Inverted, all of them.
        let mut extensions = !first >> 5;
        if escape == 0xc5 {
            self.map = 1;
            extensions &= 4;
            second &= 0x7f;
        } else {
            self.map = first & 0x1f;
            second = code.byte()?;
        }
        self.vector = 16 << (second >> 2 & 1);
        if escape == 0x62 {
            let third = code.byte()?;
            self.encoding = rules::E;
            self.map = first & 7;
            // Other values are those of APX.
            if first & 8 != 0 || second & 4 == 0 {
                return None;
            }
            self.vector = 16 << (third >> 5 & 3);
            self.broadcast = third & 0x10 != 0;
            self.masked = third & 7 != 0;
        } else if !(if escape == 0x8f { 8..=10 } else { 1..=3 }).contains(&self.map) {
            return None;
        }
        if self.long {
            self.extend(extensions);
        }
        self.wide = second & 0x80 != 0;
        self.prefix = second & 3;
        self.second = !second >> 3 & 15;
        self.opcode = code.byte()?;
        // No opcode of these maps is without them.
        (self.map != 0).then_some(())
    }

    /// As a rule asks for it.
    fn when(&self, modrm: u8) -> u16 {
        let either = |is, yes, no| if is { yes } else { no };
        rules::NP << self.prefix
            | self.encoding
            | either(self.wide, rules::W1, rules::W0)
            | either(self.long, rules::LONG, rules::SHORT)
            | either(modrm >= 0xc0, rules::REG, rules::MEM)
    }

    pub(super) fn register(&self, number: u8) -> Reg {
        match [0, 2, 1, 3, 7, 6, 4, 5].get(usize::from(number)) {
            Some(&dwarf) if self.long => Reg(dwarf),
            _ => Reg(number),
        }
    }

    fn pc(&self) -> Reg {
        Reg(if self.long { 16 } else { 8 })
    }

    /// Bytes of an operand of general size.
    pub(super) fn size(&self) -> u16 {
        match self {
            Head { wide: true, .. } => 8,
            Head { small: true, .. } => 2,
            _ => 4,
        }
    }

    /// The size of a push or pop.
    pub(super) fn stack_size(&self) -> u16 {
        match self.size() {
            4 if self.long => 8,
            size => size,
        }
    }

    /// Bytes of a return address.
    pub(super) fn near_size(&self) -> u16 {
        if self.long {
            8
        } else {
            self.size()
        }
    }

    pub(super) fn address_bytes(&self) -> u8 {
        match (self.long, self.other_address) {
            (true, false) => 8,
            (true, true) | (false, false) => 4,
            (false, true) => 2,
        }
    }

    /// Bytes of an immediate operand.
    fn immediate(&self, rule: &Rule) -> usize {
        let size = self.size();
        let z = size.min(4);
        let bytes = match rule.how & rules::IMMEDIATE {
            _ if matches!(self.map, 3 | 8) => 1,
            _ if self.map == 10 => 4,
            rules::IB | rules::REL8 => 1,
            rules::IBZ if self.opcode & 1 == 0 => 1,
            rules::IW => 2,
            rules::IZ | rules::IBZ => z,
            rules::IV => size,
            rules::REL => self.near_size().min(4),
            rules::FAR => z + 2,
            rules::ENTER => 3,
            rules::MOFFS => u16::from(self.address_bytes()),
            _ => 0,
        };
        usize::from(bytes)
    }

    /// Bytes of an element, if a vector is filled with one.
    fn element(&self, rule: &Rule) -> u16 {
        let half = match self.map {
            // There it has no prefix, or F3.
            3 => self.encoding == rules::E && self.prefix & 1 == 0,
            map => matches!(map, 5 | 6),
        };
        match self.wide {
            _ if half && rule.how & rules::WIDE == 0 => 2,
            false => 4,
            true => 8,
        }
    }

    fn width(&self, rule: &Rule) -> Option<u16> {
        /// Widths of the kinds that come first.
        const FIXED: [u16; 10] = [1, 2, 4, 8, 10, 16, 32, 48, 64, 512];
        let size = self.size();
        let vector = self.vector;
        let element = self.element(rule);
        let prefix = self.prefix;
        let odd = self.opcode & 1 != 0;
        if let (Some(bytes), false) = (FIXED.get(rule.width as usize), self.broadcast) {
            return Some(*bytes);
        }
        Some(match rule.width {
            Width::No => return None,
            _ if self.broadcast => element,
            Width::ByteOp | Width::Fixed if !odd => 1,
            Width::Op | Width::ByteOp | Width::Fixed => size,
            Width::Stack => self.stack_size(),
            Width::Near => self.near_size(),
            Width::Y if self.wide && self.long => 8,
            Width::Y => 4,
            Width::S => element,
            Width::OddS if odd => element,
            Width::Half => vector / 2,
            Width::Quarter => vector / 4,
            // A nibble for each opcode, from the last to the first.
            Width::Narrow => vector >> (0x12_1321 >> (4 * (self.opcode & 7)) & 0xf),
            Width::HalfX if self.encoding != rules::E || !self.wide => vector / 2,
            Width::Mmx | Width::Mmx16 if prefix == 0 => 8,
            Width::Mmx16 => 16,
            Width::Fp if prefix == 2 => element.min(4),
            Width::Fp if prefix == 3 => 8,
            Width::Dup if vector == 16 => 8,
            Width::Mask => [2, 8, 1, 4][usize::from(prefix << 1 & 2 | u8::from(self.wide))],
            Width::Far => size + 2,
            Width::Table if self.long => 10,
            Width::Table => 6,
            Width::Bounds => 2 * size,
            Width::Environment => 28 >> u8::from(size == 2),
            Width::State => 108 - 14 * u16::from(size == 2),
            _ => vector,
        })
    }

    fn alignment(&self, rule: &Rule, width: Option<u16>) -> u16 {
        let whole = matches!(rule.width, Width::X | Width::Mmx | Width::Mmx16 | Width::Fp);
        match (rule.how & rules::ALIGNMENT, width) {
            (rules::TO16, _) => 16,
            (rules::TO64, _) => 64,
            // MMX has none.
            (rules::TIGHT, Some(width)) if width != 8 || self.encoding != rules::L => width,
            (0, Some(16)) if whole && self.encoding == rules::L => 16,
            _ => 1,
        }
    }

    /// The operand of a rule, all but its address.
    fn operand(&self, rule: &Rule) -> Operand {
        let width = self.width(rule);
        let special = rule.how & rules::SPECIAL;
        Operand {
            segment: self.segment,
            base: None,
            index: None,
            displacement: 0,
            bit_offset: None,
            address_bytes: self.address_bytes(),
            width,
            alignment: self.alignment(rule, width),
            touch: match rule.how & rules::BOTH {
                rules::READ => Touch::Read,
                rules::WRITE => Touch::Write,
                rules::BOTH => Touch::ReadWrite,
                _ => Touch::Nothing,
            },
            partial: self.masked || special != 0,
            opaque: special == rules::LANES,
        }
    }

    /// The operand that ModRM names.
    #[inline(never)]
    fn memory(
        &self,
        modrm: u8,
        rule: &Rule,
        code: &mut Code<'_>,
        operand: &mut Operand,
    ) -> Option<()> {
        let form = modrm >> 6;
        let rm = modrm & 7;
        let mut displaced = [0, 1, 4][usize::from(form)];
        if operand.address_bytes == 2 {
            const PAIRS: [(u8, u8); 4] = [(BX, SI), (BX, DI), (BP, SI), (BP, DI)];
            displaced = displaced.min(2);
            match rm {
                0..=3 => {
                    let (base, index) = PAIRS[usize::from(rm)];
                    operand.base = Some(self.register(base));
                    operand.index = self.index(index, 0);
                }
                6 if form == 0 => displaced = 2,
                _ => operand.base = Some(self.register([SI, DI, BP, BX][usize::from(rm & 3)])),
            }
        } else {
            let mut base = rm;
            if rm == SP {
                let sib = code.byte()?;
                base = sib & 7;
                let index = (sib >> 3 & 7) + self.index_high;
                if !operand.opaque && index != SP {
                    operand.index = self.index(index, sib >> 6);
                }
            } else if operand.opaque {
                return None;
            }
            if base != BP || form != 0 {
                operand.base = Some(self.register(base + self.base_high));
            } else {
                displaced = 4;
                // Without SIB, where 32-bit code has an absolute address.
                operand.base = (self.long && rm != SP).then_some(self.pc());
            }
        }
        operand.displacement = code.signed(displaced)?;
        if self.encoding == rules::E {
            // A form that no processor accepts.
            if self.vector > 64 {
                return None;
            }
            if displaced == 1 {
                operand.displacement *= i64::from(self.unit(rule, operand.width));
            }
        }
        Some(())
    }

    /// Bytes by which an 8-bit displacement counts in EVEX.
    fn unit(&self, rule: &Rule, width: Option<u16>) -> u16 {
        match rule.how & rules::SPECIAL {
            rules::PACKED if self.opcode < 0x80 => self.element(rule) / 4,
            rules::PACKED => self.element(rule),
            _ => width.unwrap_or(1),
        }
    }

    fn index(&self, number: u8, shift: u8) -> Option<Index> {
        Some(Index {
            register: self.register(number),
            extend: Extend::Whole,
            shift,
        })
    }
}
