//! The part of the faulting instruction in the cause: which memory it accesses, through
//! which registers, and for a general-protection fault why the processor refused it.
//!
//! The processor reports no address for such a fault, and one signal covers accesses and
//! jumps through values that cannot be addresses, missing alignment and privileged
//! instructions (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 3,
//! 6.15, interrupts 12 and 13).

use super::choose;
use super::privileged::privileged;
use super::words::Words;
use super::{Scene, Verdict};
use crate::base::address::ProcessAddress;
use crate::base::bytes::little_endian;
use crate::crash::event::Event;
use crate::crash::fault::{NULL_BYTES, UNTAGGED};
use crate::crash::kinds::Access;
use crate::crash::registers::{Arch, Registers};
use crate::crash::signals::trap;
use crate::decode::{Class, Decoded, Extend, Operand, Reg, Segment, SegmentBases, Target, Touch};
use crate::report::Cause;

pub(super) fn touched(touch: Touch) -> Option<Access> {
    match touch {
        Touch::Nothing => None,
        Touch::Read => Some(Access::Read),
        Touch::Write | Touch::ReadWrite => Some(Access::Write),
    }
}

fn bases(event: &Event, arch: Arch) -> SegmentBases {
    // No process that has thread-local variables has 0 there: it was not captured.
    let known = arch == Arch::X86_64 && event.fs_base != 0;
    SegmentBases {
        fs: known.then_some(event.fs_base),
        gs: known.then_some(event.gs_base),
    }
}

/// The memory operands with their addresses, each as text: `write of 4 bytes at
/// 0x18: RBX (0x0) + 0x18`.
#[must_use]
pub fn describe(event: &Event, registers: &Registers, decoded: &Decoded) -> Vec<u8> {
    let mut words = Words::default();
    let arch = registers.arch();
    for operand in decoded.memory() {
        if !words.0.is_empty() {
            words.text(", ");
        }
        words.text(match operand.touch {
            Touch::Nothing => "address",
            Touch::Read => "read",
            Touch::Write => "write",
            Touch::ReadWrite => "read and write",
        });
        if let (Some(width), true) = (operand.width, operand.touch != Touch::Nothing) {
            words.text(if operand.partial {
                " of up to "
            } else {
                " of "
            });
            words.distance(width.into());
        }
        match operand.address(registers, bases(event, arch)) {
            Some(address) => words.text(" at ").hex(address.0),
            None => words.text(" at several or unknown addresses"),
        };
        let mut sum = Words::default();
        if sum.sum(event, registers, operand) {
            words.text(": ").bytes(&sum.0);
        }
    }
    words.0
}

/// An operand of the faulting instruction, and where it lies.
#[derive(Clone, Copy)]
pub(super) struct Placed {
    pub(super) operand: Operand,
    /// Perhaps with a tag.
    pub(super) address: u64,
}

impl Scene<'_> {
    /// The operands whose addresses can be computed, without those that are not accessed.
    pub(super) fn placed(&self) -> impl Iterator<Item = Placed> + '_ {
        let operands = self.decoded.iter().flat_map(Decoded::memory);
        operands.filter_map(|operand| {
            touched(operand.touch)?;
            let registers = self.registers?;
            let address = operand.address(registers, bases(self.event, self.arch))?;
            Some(Placed {
                operand: *operand,
                address: address.0,
            })
        })
    }

    /// The operand that the fault came of.
    pub(super) fn faulting_operand(&self) -> Option<Placed> {
        let (address, access) = (self.address(), self.access());
        let fits = |placed: &Placed| {
            let into = address.wrapping_sub(self.untagged(placed.address));
            let width = u64::from(placed.operand.width.unwrap_or(1));
            let reads = matches!(placed.operand.touch, Touch::Read | Touch::ReadWrite);
            let writes = matches!(placed.operand.touch, Touch::Write | Touch::ReadWrite);
            into < width
                && match access {
                    Some(Access::Read) => reads,
                    Some(Access::Write) => writes,
                    _ => true,
                }
        };
        self.placed().find(fits)
    }
}

impl Words {
    /// `write of 4 bytes at 0x18`; without the width if it is not known.
    pub(super) fn touch(
        &mut self,
        access: Option<Access>,
        placed: Option<&Placed>,
        address: u64,
    ) -> &mut Self {
        self.access(access);
        let width = placed
            .filter(|placed| !placed.operand.partial || placed.address != address)
            .and_then(|placed| Some((placed.operand.width?, placed)));
        let Some((
            width,
            &Placed {
                operand,
                address: start,
            },
        )) = width
        else {
            return self.text(" at ").hex(address);
        };
        self.text(if operand.partial {
            " of up to "
        } else {
            " of "
        });
        self.distance(width.into()).text(" at ");
        self.hex(start);
        // Across pages: the first is there, the second is not.
        let into = address.wrapping_sub(start) & UNTAGGED;
        if (1..u64::from(width)).contains(&into) {
            self.text(", of which ")
                .hex(address)
                .text(" is not accessible");
        }
        self
    }

    fn register(&mut self, arch: Arch, register: Reg) -> &mut Self {
        self.named(register.name(arch))
    }

    /// Writes where an operand's address comes from: `null pointer in RBX + 0x18`, `RAX
    /// (0x7f00) + RCX (0x4) * 8`. Writes nothing and returns false if no register is in it,
    /// or if not all of it is known.
    pub(super) fn sum(&mut self, event: &Event, registers: &Registers, operand: &Operand) -> bool {
        let arch = registers.arch();
        let value = |register: Reg| registers.dwarf(u16::from(register.0)).unwrap_or(0);
        let base = operand.base.filter(|&base| base != Reg::pc(arch));
        let addressed = operand.address(registers, bases(event, arch)).is_some();
        let anything = base.is_some() || operand.index.is_some() || operand.segment.is_some();
        if !addressed || !anything {
            return false;
        }
        // An array's place may be the displacement, or the index if that is not scaled.
        let is_pointer = operand.segment.is_none()
            && operand.index.is_none_or(|index| index.shift > 0)
            && operand.displacement.unsigned_abs() < NULL_BYTES;
        if let Some(segment) = operand.segment {
            let (name, start) = match segment {
                Segment::Fs => ("FS (", event.fs_base),
                Segment::Gs => ("GS (", event.gs_base),
            };
            self.text(name).hex(start).text(")");
            if base.is_some() || operand.index.is_some() {
                self.text(" + ");
            }
        }
        if let Some(base) = base {
            match value(base) {
                0 if is_pointer => {
                    self.text("null pointer in ").register(arch, base);
                }
                value => {
                    self.register(arch, base).text(" (").hex(value).text(")");
                }
            }
        }
        if let Some(index) = operand.index {
            if index.extend == Extend::Negated {
                self.text(" - ");
            } else if base.is_some() {
                self.text(" + ");
            }
            let whole = value(index.register);
            let (part, value) = match index.extend {
                Extend::Whole | Extend::Negated => ("", whole),
                Extend::Byte => ("low byte of ", whole & 0xff),
                Extend::UnsignedWord => ("low half of ", whole & 0xffff_ffff),
                Extend::SignedWord => ("sign-extended low half of ", whole as i32 as u64),
            };
            self.text(part).register(arch, index.register);
            self.text(" (").hex(value).text(")");
            if index.shift > 0 {
                self.text(" * ").number(1 << (index.shift & 63));
            }
        }
        if let Some(register) = operand.bit_offset {
            self.text(" + the bytes of bit number ")
                .register(arch, register);
            self.text(" (").hex(value(register)).text(")");
        }
        match operand.displacement {
            0 => {}
            more @ 1.. => {
                self.text(" + ").hex(more.unsigned_abs());
            }
            less => {
                self.text(" - ").hex(less.unsigned_abs());
            }
        }
        if is_pointer && base.is_some_and(|base| (1..NULL_BYTES).contains(&value(base))) {
            self.text(", probably an offset from a null pointer");
        }
        true
    }

    /// Writes a colon, the registers that an address comes from, and what they look like.
    pub(super) fn origin(&mut self, scene: &Scene<'_>, placed: Option<&Placed>, address: u64) {
        if let (Some(placed), Some(registers)) = (placed, scene.registers) {
            let operand = &placed.operand;
            let mut sum = Words::default();
            if sum.sum(scene.event, registers, operand) {
                self.text(": ").bytes(&sum.0);
            }
            let index = operand.index.map(|index| index.register);
            for register in [operand.base, index].into_iter().flatten() {
                let value = registers.dwarf(register.0.into()).unwrap_or(0);
                let before = self.0.len();
                self.text("; ").register(scene.arch, register);
                if self.resemblance(" ", value, scene.evidence.quotes) {
                    return;
                }
                self.0.truncate(before);
            }
        }
        self.resemblance("; the address ", address, scene.evidence.quotes);
    }
}

/// The verdict on a SIGSEGV of the kernel's without an address.
pub(super) fn protection(scene: &Scene<'_>) -> Verdict {
    match (scene.arch, scene.fault.trap.map_or(0, |trap| trap.number)) {
        (Arch::X86_64 | Arch::I386, trap::GENERAL_PROTECTION) => refused(scene),
        (Arch::X86_64 | Arch::I386, number @ (4 | 5 | 9 | 10)) => {
            let mut words = Words::default();
            words
                .text("x86 trap ")
                .number(number)
                .text(", about which nothing more is known");
            Verdict::new(Cause::Unknown, words)
        }
        _ => choose::without_trap(scene),
    }
}

/// Why the processor refused the instruction (x86 traps 12 and 13).
pub(super) fn refused(scene: &Scene<'_>) -> Verdict {
    let pc = scene.fault.pc.0;
    if scene.non_canonical(pc) {
        // AMD's processors are there already, Intel's still at the jump.
        return wild(scene, Some(pc), "", None);
    }
    let Some(decoded) = scene.decoded else {
        return Verdict::plain(
            Cause::Unknown,
            "general-protection fault; the instruction was not captured or could not be decoded",
        );
    };
    if decoded.class == Class::Privileged {
        return privileged(scene, &decoded);
    }
    if let Some(verdict) = bad_operand(scene) {
        return verdict;
    }
    match (decoded.class, decoded.target) {
        (Class::Call | Class::Jump, Some(Target::Register(register))) => {
            let value = scene.register(register.0.into());
            if let Some(target) = value.filter(|&target| scene.non_canonical(target)) {
                return wild(scene, Some(target), ", from ", register.name(scene.arch));
            }
        }
        // The operand itself was good: its content was not.
        (class @ (Class::Call | Class::Jump | Class::Return), Some(Target::Loaded)) => {
            if let Some(verdict) = loaded(scene, class) {
                return verdict;
            }
        }
        _ => {}
    }
    let mut words = Words::default();
    words.text("general-protection fault that the instruction's operands do not explain");
    Verdict::new(Cause::Unknown, words)
}

/// The target of a near call, jump or return was not an address. For a far one, the
/// segment that it loads may be wrong instead.
fn loaded(scene: &Scene<'_>, class: Class) -> Option<Verdict> {
    let placed = scene.placed().next()?;
    // Two times four bytes: lret without a prefix.
    let far = placed.operand.width != Some(8) || matches!(scene.evidence.code, [0xca | 0xcb, ..]);
    if far || scene.arch != Arch::X86_64 {
        return None;
    }
    let bytes = scene.event.memory(ProcessAddress(placed.address), 8);
    let target = bytes.map(little_endian);
    if target.is_some_and(|target| !scene.non_canonical(target)) {
        return None;
    }
    let from = match class {
        Class::Return => ", from the stack: a return address was overwritten",
        _ => ", loaded from memory",
    };
    Some(wild(scene, target, from, None))
}

/// An operand that is not an address, or is not aligned.
fn bad_operand(scene: &Scene<'_>) -> Option<Verdict> {
    for placed in scene.placed() {
        let Placed { operand, address } = placed;
        let last = address.wrapping_add(u64::from(operand.width.unwrap_or(1)).saturating_sub(1));
        let outside = scene.non_canonical(address) || scene.non_canonical(last);
        let alignment = u64::from(operand.alignment.max(1));
        if !outside && address % alignment == 0 {
            continue;
        }
        let access = touched(operand.touch);
        let mut words = Words::default();
        words.touch(access, Some(&placed), address);
        let cause = if outside {
            if scene.non_canonical(address) {
                words.text(", which is");
            } else {
                words.text(", of which ").hex(last).text(" is");
            }
            words.text(" not a canonical address");
            Cause::NonCanonical
        } else {
            words
                .text(", which is not a multiple of ")
                .number(alignment);
            Cause::Misaligned
        };
        words.origin(scene, Some(&placed), address);
        let mut verdict = Verdict::new(cause, words);
        verdict.access = access;
        verdict.address = Some(ProcessAddress(address));
        return Some(verdict);
    }
    None
}

/// A jump to a value that cannot be an address.
fn wild(scene: &Scene<'_>, target: Option<u64>, from: &str, register: Option<&str>) -> Verdict {
    let mut words = Words::default();
    match target {
        Some(target) => words.text("jump to ").hex(target).text(", which is"),
        None => words.text("jump to"),
    };
    words.text(" not a canonical address").text(from);
    if register.is_some() {
        words.named(register);
    }
    words.resemblance("; it ", target.unwrap_or(0), scene.evidence.quotes);
    let mut verdict = Verdict::new(Cause::WildJump, words);
    verdict.access = Some(Access::Execute);
    verdict.address = target.map(ProcessAddress);
    verdict
}
