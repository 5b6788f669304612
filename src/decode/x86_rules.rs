//! Every x86 opcode with an operand in memory, or with more after it, as a list
//! of rules: which opcodes, in which encoding, how wide, read or written.
//!
//! A line reads like the manual's opcode table (SDM volume 2, appendix A, and the
//! instruction pages for VEX and EVEX). The first line that fits is taken; if none
//! does, the bytes are not an instruction that is known here. Widths are given as kinds,
//! because they mostly follow from prefixes. The width of an EVEX operand is also the N
//! that scales its 8-bit displacement.

use super::Class;

/// One line: the opcodes `first..=last`, if ModRM.reg has a value whose bit is in
/// `regs`. Eight bytes, as there are hundreds of them.
pub(super) struct Rule {
    pub(super) when: u16,
    pub(super) how: u16,
    pub(super) first: u8,
    pub(super) last: u8,
    pub(super) regs: u8,
    pub(super) width: Width,
}

const _: () = assert!(size_of::<Rule>() == 8);

pub(super) const fn r(when: u16, first: u8, last: u8, width: Width, how: u16) -> Rule {
    Rule {
        when,
        how,
        first,
        last,
        regs: 0xff,
        width,
    }
}

// `when`: mandatory prefixes; NP is none of them.
pub(super) const NP: u16 = 1;
pub(super) const P66: u16 = 2;
pub(super) const PF3: u16 = 4;
pub(super) const PF2: u16 = 8;
pub(super) const ANY: u16 = NP | P66 | PF3 | PF2;
pub(super) const NP66: u16 = NP | P66;
// `when`: encodings: legacy, VEX, EVEX.
pub(super) const L: u16 = 0x10;
pub(super) const V: u16 = 0x20;
pub(super) const E: u16 = 0x40;
pub(super) const LV: u16 = L | V;
pub(super) const VE: u16 = V | E;
pub(super) const LVE: u16 = L | V | E;
// `when`: only with these, if any is named. W is REX.W, VEX.W or EVEX.W.
pub(super) const W0: u16 = 0x80;
pub(super) const W1: u16 = 0x100;
pub(super) const LONG: u16 = 0x200;
pub(super) const SHORT: u16 = 0x400;
pub(super) const MEM: u16 = 0x800;
pub(super) const REG: u16 = 0x1000;
/// `when`: 66; or, only in the legacy encoding, no prefix: MMX.
pub(super) const MM: u16 = NP66 | 0x2000;

/// The size of the operand in memory, or which memory is implied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Width {
    B1,
    B2,
    B4,
    B8,
    B10,
    B16,
    B32,
    B48,
    B64,
    B512,
    /// None that is known, or none at all.
    No,
    /// The operand size: 2, 4 or 8.
    Op,
    /// 1 if the opcode is even, the operand size otherwise.
    ByteOp,
    /// The operand size of a push or pop: in 64-bit code never 4.
    Stack,
    /// That of a near jump: always 8 in 64-bit code.
    Near,
    /// 4, or 8 with W in 64-bit code: a general register.
    Y,
    /// 4, or 8 with W: a scalar; 2 of half precision.
    S,
    /// The whole vector, and fractions of it.
    X,
    Half,
    Quarter,
    /// Fractions by opcode: half, quarter, eighth, half, quarter, half.
    Narrow,
    /// The whole vector if the opcode is even, a scalar otherwise.
    OddS,
    /// Half, but the whole with EVEX.W: for values that are widened to 64 bits.
    HalfX,
    /// Without prefix an MMX register, otherwise the whole vector.
    Mmx,
    /// The same, but 16 bytes instead of the whole: a count of shifts.
    Mmx16,
    /// The whole vector, but with F3 a single (or a half), with F2 a double.
    Fp,
    /// 8 of 16 bytes, or the whole of a longer vector.
    Dup,
    /// A mask: 2 or 8, with 66 1 or 4.
    Mask,
    /// A selector after an offset.
    Far,
    /// A limit and a base of a descriptor table.
    Table,
    /// Two of the operand size.
    Bounds,
    /// x87 environment, and all of its state.
    Environment,
    State,
    // From here on no ModRM follows.
    /// No memory.
    Bare,
    /// At an address that comes after the opcode; as wide as `ByteOp`.
    Fixed,
    Push,
    /// The same, and a look at where the stack pointer will be.
    Enter,
    /// A return address, and one with a selector.
    PushNear,
    PushFar,
    /// Eight registers.
    PushAll,
    Pop,
    /// 2 bytes of a word, into a segment register.
    PopSegment,
    PopFar,
    PopAll,
    /// The frame that an interrupt left.
    PopFrame,
    /// The word at the frame pointer.
    Leave,
    /// String instructions: at si, at di, at both; wide as `ByteOp`.
    From,
    To,
    FromTo,
    /// A byte at bx + al.
    Table256,
}

// `how`: two bits for the access, three for alignment.
pub(super) const READ: u16 = 1;
pub(super) const WRITE: u16 = 2;
pub(super) const BOTH: u16 = 3;
/// The vector need not be aligned in any encoding. Without this flag, a whole vector of a
/// legacy instruction must be.
pub(super) const LOOSE: u16 = 0x04;
/// A vector must be aligned to its width in every encoding.
pub(super) const TIGHT: u16 = 0x08;
pub(super) const TO16: u16 = 0x0c;
pub(super) const TO64: u16 = 0x10;
pub(super) const ALIGNMENT: u16 = 0x1c;
// `how`: other properties, two bits.
/// Lanes may be left out.
pub(super) const PART: u16 = 0x20;
/// The index is a vector.
pub(super) const LANES: u16 = 0x40;
/// The displacement counts in elements; only some of the elements are packed in memory.
pub(super) const PACKED: u16 = 0x60;
pub(super) const SPECIAL: u16 = 0x60;
/// Elements that are broadcast have 4 bytes, or 8 with W, although those of this
/// map have 2.
pub(super) const WIDE: u16 = 0x80;
// `how`: the bytes after ModRM and displacement, four bits.
/// A byte, or two.
pub(super) const IB: u16 = 0x100;
pub(super) const IW: u16 = 0x200;
/// 2 or 4 bytes.
pub(super) const IZ: u16 = 0x300;
/// 1 byte if the opcode is even, otherwise as `IZ`.
pub(super) const IBZ: u16 = 0x400;
/// 2, 4 or 8 bytes.
pub(super) const IV: u16 = 0x500;
/// A selector after 2 or 4 bytes.
pub(super) const FAR: u16 = 0x600;
/// Three bytes: of enter.
pub(super) const ENTER: u16 = 0x700;
/// An address.
pub(super) const MOFFS: u16 = 0x800;
/// A distance: 1, or else 2 or 4 bytes (in 64-bit code always 4).
pub(super) const REL8: u16 = 0x900;
pub(super) const REL: u16 = 0xa00;
pub(super) const IMMEDIATE: u16 = 0xf00;
// `how`: the class, four bits.
pub(super) const CALL: u16 = class(Class::Call);
pub(super) const JUMP: u16 = class(Class::Jump);
pub(super) const RETURN: u16 = class(Class::Return);
pub(super) const SYSTEM: u16 = class(Class::SystemCall);
pub(super) const BREAK: u16 = class(Class::Breakpoint);
pub(super) const UNDEFINED: u16 = class(Class::Undefined);
pub(super) const DIVISION: u16 = class(Class::Division);
pub(super) const PRIVILEGED: u16 = class(Class::Privileged);

const CLASSES: [Class; 9] = [
    Class::Other,
    Class::Call,
    Class::Jump,
    Class::Return,
    Class::SystemCall,
    Class::Breakpoint,
    Class::Undefined,
    Class::Division,
    Class::Privileged,
];

const fn class(class: Class) -> u16 {
    assert!(CLASSES[class as usize] as u16 == class as u16);
    (class as u16) << 12
}

impl Rule {
    pub(super) const fn regs(mut self, regs: u8) -> Rule {
        self.regs = regs;
        self
    }

    pub(super) fn class(&self) -> Class {
        *CLASSES
            .get(usize::from(self.how >> 12))
            .unwrap_or(&Class::Other)
    }

    pub(super) fn is_bare(&self) -> bool {
        self.width >= Width::Bare
    }
}
