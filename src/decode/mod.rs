//! What the instruction at a crash's pc does to memory, and where it goes.
//!
//! The input is the captured bytes at the pc; the output is a [`Decoded`]: up to two
//! memory [`Operand`]s, each with its address as a sum of registers, the target of a
//! call or jump, and the [`Class`] of those instructions that crash without accessing
//! memory. [`Operand::address`] then takes the registers and computes the address as the
//! processor does: for a general-protection fault this is the only source of it.
//!
//! It is not a disassembler: it knows no mnemonics, and only the registers that form an
//! address. It leaves out what it does not know for certain: bytes that it does not know
//! as an instruction, or that end before the operands do, give `None`; an address that
//! depends on vector registers is marked [`opaque`](Operand::opaque) and never computed.
//! It does not check validity: it may decode bytes that a processor refuses.
//!
//! ```text
//! decode ──> x86 (prefixes, ModRM) ──> x86_rules, x86_table (widths, directions)
//!   │         └───> x86_implied (the stack, strings, targets)
//!   ├──────> aarch64 ──> aarch64_sve        aarch64_fields: bits of a word
//!   └──────> thumb ──> arm                  32-bit tasks of aarch64
//! step ────> x86 ──> x86_stack (the stack pointer; x86 only)
//! ```
//!
//! x86 by the Intel 64 and IA-32 Architectures Software Developer's Manual,
//! volume 2, with AMD's 3DNow!, FMA4, XOP and SVM; aarch64 by the Arm Architecture
//! Reference Manual (DDI 0487), section C4, 32-bit ARM by its sections F3 and F4. `make check-decoder` compares all with
//! disassemblers, on whole libraries and on every form of every opcode, and x86 with
//! the processor itself.

mod aarch64;
mod aarch64_fields;
mod aarch64_sve;
mod arm;
#[cfg(test)]
mod arm_tests;
#[cfg(test)]
mod tests;
mod thumb;
mod x86;
mod x86_implied;
mod x86_rules;
mod x86_stack;
mod x86_table;

use crate::base::address::ProcessAddress;
use crate::crash::registers::{Arch, Registers};

/// The longest instruction, in bytes (x86; those of aarch64 have four).
pub const MAX_LENGTH: usize = 15;

/// A general register by its DWARF number, as [`Registers::dwarf`] takes it. The
/// pc is one too: 16 on x86_64, 8 on i386, 32 on aarch64, 15 on arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reg(pub u8);

impl Reg {
    /// The pc: an operand with this base lies at a distance from the instruction
    /// itself.
    #[must_use]
    pub fn pc(arch: Arch) -> Reg {
        match arch {
            Arch::X86_64 => Reg(16),
            Arch::I386 => Reg(8),
            Arch::Aarch64 => Reg(32),
            Arch::Arm => Reg(15),
        }
    }

    /// The lower-case name, as in a report.
    #[must_use]
    pub fn name(self, arch: Arch) -> Option<&'static str> {
        arch.dwarf_name(u16::from(self.0))
    }
}

/// The x86 segments whose bases a thread may choose; those of all others are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    Fs,
    Gs,
}

/// The bases of the segments; `None` if not known. A 32-bit task's segments are entries
/// of its descriptor table, not the bases that the kernel keeps for 64-bit code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentBases {
    pub fs: Option<u64>,
    pub gs: Option<u64>,
}

/// The part of an index register that goes into the sum, before it is shifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extend {
    /// All of it.
    Whole,
    /// The lowest byte (x86: `xlat`).
    Byte,
    /// The low 32 bits (aarch64: `uxtw`).
    UnsignedWord,
    /// The low 32 bits, with their sign (aarch64: `sxtw`).
    SignedWord,
    /// All of it, subtracted (arm: `[r1, -r2]`).
    Negated,
}

/// A second register of an address: extended, then shifted left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index {
    pub register: Reg,
    pub extend: Extend,
    /// The index is multiplied by 2 to the power of this.
    pub shift: u8,
}

/// What is done to the memory of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// The address is computed and no more, or used for a hint that cannot
    /// fault: `lea`, `prefetch`, `nop`, `invlpg`.
    Nothing,
    Read,
    Write,
    /// Read, and written again: x86 needs permission to write for both at once.
    ReadWrite,
}

/// A place in memory that an instruction names or implies.
///
/// ```text
/// address = segment + base + (extend(index) << shift) + displacement
///         + width * floor(bit_offset / bits of width)        all modulo 2^(8 * address_bytes)
/// ```
///
/// (The segment's base is added last, and not cut.) Registers have the values
/// from before the instruction: if the instruction changes one and uses the new value
/// (`push`, `pop [rsp]`, pre-indexed forms), the displacement has the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    pub segment: Option<Segment>,
    pub base: Option<Reg>,
    pub index: Option<Index>,
    /// With the pc as base it counts from the instruction's first byte, whatever the
    /// encoding counts from: on x86 [`Decoded::length`] is in, on arm 8, 4 or 2.
    pub displacement: i64,
    /// The register of x86 `bt`, `bts`, `btr`, `btc`: a signed number of bits
    /// from the address, which may lie far away.
    pub bit_offset: Option<Reg>,
    /// Addresses are computed in so many bytes: 8, 4 or 2.
    pub address_bytes: u8,
    /// Bytes accessed, from the address upwards; `None` if the instruction does not say
    /// (`xsave`, scalable vectors).
    pub width: Option<u16>,
    /// The alignment that the processor demands of the address; 1 if none. On x86 a violation is
    /// a general-protection fault; arm64 cores with FEAT_LSE2 refuse atomics only if they
    /// cross 16 bytes.
    pub alignment: u16,
    pub touch: Touch,
    /// Perhaps only some of the bytes are accessed, or none: masked and
    /// conditional forms, string instructions under `rep`.
    pub partial: bool,
    /// The address has further parts that are not here: a vector of indices, the length of
    /// scalable vectors, an authentication code, the progress of a copy. The base is one part
    /// of the address, if it is known.
    pub opaque: bool,
}

impl Operand {
    /// The address before paging: maybe not canonical, on aarch64 maybe with a
    /// tag. `None` if it is [`opaque`](Self::opaque), or if the base of its
    /// segment or a register is not known.
    #[must_use]
    pub fn address(&self, registers: &Registers, bases: SegmentBases) -> Option<ProcessAddress> {
        if self.opaque {
            return None;
        }
        let value = |register: Reg| registers.dwarf(u16::from(register.0));
        let mut sum = self.displacement as u64;
        if let Some(base) = self.base {
            sum = sum.wrapping_add(value(base)?);
        }
        if let Some(index) = self.index {
            let whole = value(index.register)?;
            let extended = match index.extend {
                Extend::Whole => whole,
                Extend::Byte => whole & 0xff,
                Extend::UnsignedWord => whole & 0xffff_ffff,
                Extend::SignedWord => whole as i32 as u64,
                Extend::Negated => whole.wrapping_neg(),
            };
            sum = sum.wrapping_add(extended << (index.shift & 63));
        }
        if let Some(register) = self.bit_offset {
            let bytes = i64::from(self.width?);
            let bits = match bytes {
                2 => i64::from(value(register)? as i16),
                4 => i64::from(value(register)? as i32),
                _ => value(register)? as i64,
            };
            sum = sum.wrapping_add((bits.div_euclid(bytes * 8) * bytes) as u64);
        }
        match self.address_bytes {
            2 => sum &= 0xffff,
            4 => sum &= 0xffff_ffff,
            _ => {}
        }
        let segment = match self.segment {
            None => 0,
            Some(Segment::Fs) => bases.fs?,
            Some(Segment::Gs) => bases.gs?,
        };
        sum = sum.wrapping_add(segment);
        if registers.is_32_bit() {
            sum &= 0xffff_ffff;
        }
        Some(ProcessAddress(sum))
    }
}

/// Kinds of instruction that a crash is read by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Other,
    /// Pushes or keeps the return address, and goes to the target.
    Call,
    /// Goes to the target, perhaps on a condition.
    Jump,
    Return,
    /// `syscall`, `sysenter`, `int 0x80`, `svc`.
    SystemCall,
    /// `int3`, `int1`, `brk`: made to stop in a debugger.
    Breakpoint,
    /// `ud2`, `udf` and their like: made to be no instruction.
    Undefined,
    /// Integer division, whose divisor may be zero or too small. (Division does
    /// not trap on aarch64, and has no class there.)
    Division,
    /// Instructions that user code may not run, or only if the kernel permits it: `hlt`,
    /// `cli`, ports, control registers, `rdpmc`, `rdtsc`, `int n` without a gate;
    /// system registers of a higher level.
    Privileged,
}

/// Where a call, jump or return goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// So many bytes from the first byte of this instruction.
    Near(i64),
    /// To the value of a register; on aarch64 perhaps with a code that is taken
    /// off.
    Register(Reg),
    /// To the value in the first operand; so does `ret`.
    Loaded,
}

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of it. Perhaps more than were given: an immediate value at its end
    /// need not be there.
    pub length: u8,
    pub class: Class,
    pub target: Option<Target>,
    /// The explicit operand, then the implied ones; in a copy, the source first.
    pub operands: [Option<Operand>; 2],
}

impl Decoded {
    /// The operands that are there.
    pub fn memory(&self) -> impl Iterator<Item = &Operand> {
        self.operands.iter().flatten()
    }
}

/// The instruction at the pc of these registers, which begins with these bytes: of a 32-bit
/// ARM task it depends on the mode, which they have. `None` if that is not known, and as
/// [`decode`] has it.
#[must_use]
pub fn decode_at_pc(registers: &Registers, code: &[u8]) -> Option<Decoded> {
    match registers.arch() {
        Arch::Arm => decode_arm(registers.is_thumb()?, registers.pc(), code),
        arch => decode(arch, code),
    }
}

/// The instruction of 32-bit ARM at this address. `None` also in builds that meet no such tasks.
#[must_use]
pub fn decode_arm(thumb: bool, at: ProcessAddress, code: &[u8]) -> Option<Decoded> {
    match thumb {
        _ if !Arch::MEETS_ARM => None,
        true => thumb::decode(at.0, code),
        false => arm::decode(code),
    }
}

/// The instruction that begins with these bytes; more may follow it. `None` if it is not
/// known here, if its operands are cut off, and for 32-bit ARM, whose mode is not known.
#[must_use]
pub fn decode(arch: Arch, code: &[u8]) -> Option<Decoded> {
    match arch {
        Arch::X86_64 => Some(x86::instruction(true, code)?.decoded),
        Arch::I386 => Some(x86::instruction(false, code)?.decoded),
        Arch::Aarch64 => {
            let word = code.get(..4)?.try_into().ok()?;
            aarch64::decode(u32::from_le_bytes(word))
        }
        Arch::Arm => None,
    }
}

/// What an instruction does to the stack pointer, and what runs after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// A word is pushed: a register's, or another one.
    Push(Option<Reg>),
    /// A word is popped: into a register, or elsewhere.
    Pop(Option<Reg>),
    /// So many bytes are taken from the stack; negative ones are given back.
    Take(i64),
    /// The stack pointer is set from the frame pointer.
    Frame,
    /// It is set to what the instruction alone does not say.
    Set,
    /// A function is called; when it returns the stack pointer is what it was.
    Call,
    /// To a place so many bytes behind the end of the instruction.
    Jump(i64),
    /// The same, or not.
    Branch(i64),
    /// A jump to what a register or memory holds, or to another segment.
    Leave,
    Return,
    /// What stands behind it does not run after it.
    Stop,
}

/// The length of an instruction, and its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Perhaps more bytes than were given, as in [`Decoded::length`].
    pub length: u8,
    pub effect: Effect,
}

/// The same instruction as [`decode`] has it, seen from the stack pointer. `None` also
/// for other processors than x86, and for a cut distance.
#[must_use]
pub fn step(arch: Arch, code: &[u8]) -> Option<Step> {
    let long = match arch {
        Arch::X86_64 => true,
        Arch::I386 => false,
        Arch::Aarch64 | Arch::Arm => return None,
    };
    let instruction = x86::instruction(long, code)?;
    Some(Step {
        length: instruction.decoded.length,
        effect: x86_stack::effect(&instruction)?,
    })
}
