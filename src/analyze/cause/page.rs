//! Faults whose address the kernel reports: what lies there, and which access failed.

use super::operand::Placed;
use super::words::{mapping_at, Words};
use super::{choose, jump, stack, Scene, Verdict};
use crate::base::address::ProcessAddress;
use crate::crash::event::Mapping;
use crate::crash::fault::NULL_BYTES;
use crate::crash::kinds::Access;
use crate::crash::registers::Arch;
use crate::crash::signals::code;
use crate::decode::{Operand, SegmentBases};
use crate::report::Cause;

/// The verdict on a SIGSEGV with an address.
pub(super) fn verdict(scene: &Scene<'_>) -> Verdict {
    match scene.fault.code {
        code::SEGV_MAPERR | code::SEGV_ACCERR => {}
        code::SEGV_PKUERR => return protection_key(scene),
        code::SEGV_MTESERR => return at(scene, Cause::MemoryTag, MEMORY_TAG),
        code::SEGV_MTEAERR => return Verdict::plain(Cause::MemoryTag, MEMORY_TAG_LATE),
        code::SEGV_CPERR => return Verdict::plain(Cause::ShadowStack, SHADOW_STACK),
        _ => {
            return Verdict::plain(
                Cause::Unknown,
                "the signal code is one that this tool does not interpret",
            )
        }
    }
    if scene.is_silent() {
        return silent(scene);
    }
    let access = scene.access();
    let pc = scene.fault.pc.0;
    // Without an error code (or without NX) only the address shows a fetch.
    let fetch = access == Some(Access::Execute) || access.is_none() && scene.address() == pc;
    if fetch {
        return jump::verdict(scene);
    }
    data(scene, access)
}

const MEMORY_TAG: &str =
    ", whose memory has a different tag than the pointer: probably used after \
                          free, or beyond its end";
const MEMORY_TAG_LATE: &str =
    "an access through a pointer whose tag did not match the memory, reported \
                               late: perhaps by an earlier instruction";
const SHADOW_STACK: &str =
    "the shadow stack refused a return, or a jump did not lead to a landing pad: \
                            a return address or a function pointer was overwritten";

fn protection_key(scene: &Scene<'_>) -> Verdict {
    let mut words = Words::default();
    words.text(", which the thread's rights for protection key ");
    match scene.own_siginfo(1).map(|word| word & 0xffff_ffff) {
        // Key 0 is the default of all memory, and hardly ever forbidden.
        Some(key @ 1..) => words.number(key),
        _ => words.text("0 (or another one, which is not known)"),
    };
    words.text(" forbid");
    at(
        scene,
        Cause::ProtectionKey,
        &String::from_utf8_lossy(&words.0),
    )
}

/// arm64 has two faults without a trap: a signal's frame that could not be written, and
/// memory that was to be cleaned from the cache (arch/arm64/kernel/traps.c,
/// arm64_notify_segfault). Otherwise the signal was sent.
fn silent(scene: &Scene<'_>) -> Verdict {
    let address = scene.address();
    let named = |operand: &Operand| {
        let of = scene.registers;
        of.and_then(|registers| operand.address(registers, SegmentBases::default()))
            .is_some_and(|named| scene.untagged(named.0) == address)
    };
    let operand = scene.decoded.is_some_and(|it| it.memory().any(named));
    if !operand && scene.stack_pointer() != Some(address) {
        return choose::made(scene);
    }
    let mut words = Words::default();
    words.text("the kernel refused a signal frame or a cache operation at ");
    words.hex(address);
    Verdict::new(Cause::Unknown, words)
}

/// `write of 4 bytes at 0x18`, and then where that comes from.
fn at(scene: &Scene<'_>, cause: Cause, after: &str) -> Verdict {
    let (access, address) = (scene.access(), scene.named_address());
    let placed = scene.faulting_operand();
    let mut words = Words::default();
    words.touch(access, placed.as_ref(), address).text(after);
    words.origin(scene, placed.as_ref(), address);
    Verdict::new(cause, words)
}

fn data(scene: &Scene<'_>, access: Option<Access>) -> Verdict {
    let address = scene.address();
    let placed = scene.faulting_operand();
    if scene.arch == Arch::X86_64 && jump::is_vsyscall(scene.fault.pc.0) {
        return jump::of_vsyscall(scene);
    }
    if address < NULL_BYTES {
        return null(scene, access, placed.as_ref());
    }
    if let Some(verdict) = stack::overflow(scene, access, placed.as_ref()) {
        return verdict;
    }
    let mut words = Words::default();
    let named = scene.named_address();
    words.touch(access, placed.as_ref(), named);
    let cause = if scene.non_canonical(address) {
        words.text(", which is not a canonical address");
        words.origin(scene, placed.as_ref(), named);
        Cause::NonCanonical
    } else if scene.fault.code == code::SEGV_MAPERR {
        words.origin(scene, placed.as_ref(), address);
        unmapped(scene, address, &mut words)
    } else {
        words.origin(scene, placed.as_ref(), address);
        protected(scene, address, access, &mut words)
    };
    Verdict::new(cause, words)
}

fn null(scene: &Scene<'_>, access: Option<Access>, placed: Option<&Placed>) -> Verdict {
    let address = scene.address();
    let mut words = Words::default();
    words.touch(access, placed, address);
    let before = words.0.len();
    words.origin(scene, placed, address);
    if words.0.len() == before {
        words.text(": probably a null pointer");
        if address > 0 {
            words.text(" + ").hex(address);
        }
    }
    Verdict::new(Cause::NullDereference, words)
}

fn unmapped(scene: &Scene<'_>, address: u64, words: &mut Words) -> Cause {
    if scene.arch == Arch::X86_64 && jump::is_vsyscall(address) {
        words.text("; the address is in the vsyscall page, which may only be called");
        return Cause::AccessProtected;
    }
    if address >> 63 != 0 {
        words.text("; the address is in the kernel's half of the address space");
        return Cause::Unmapped;
    }
    if let Ok(Some(mapping)) = mapping_at(scene.event, address) {
        // The mapping came later, or its pages are marked (MADV_GUARD_INSTALL).
        words
            .text("; the address is in ")
            .mapping(scene.event, mapping);
        words.text(", probably in a guard area there");
        return Cause::AccessProtected;
    }
    if !words.beside(scene.event, address) {
        words.text("; the kernel found nothing mapped there");
    }
    Cause::Unmapped
}

/// The kernel says that a mapping is there and forbids it.
fn protected(scene: &Scene<'_>, address: u64, access: Option<Access>, words: &mut Words) -> Cause {
    let write = access == Some(Access::Write);
    let Some(mapping) = scene.event.mapping(ProcessAddress(address)) else {
        words.text(if write {
            "; a mapping that was not captured forbids writing there"
        } else {
            "; a mapping that was not captured forbids it"
        });
        return if write {
            Cause::WriteProtected
        } else {
            Cause::AccessProtected
        };
    };
    words
        .text("; the address is in ")
        .mapping(scene.event, mapping);
    place(scene, mapping, address, words);
    let flags = mapping.flags;
    match access {
        _ if !flags.readable() && !flags.writable() && !flags.executable() => {
            words.text(", which forbids every access: a guard page or reserved memory");
            Cause::AccessProtected
        }
        Some(Access::Write) if !flags.writable() => {
            words.text(", which is not writable");
            Cause::WriteProtected
        }
        Some(Access::Read) if !flags.readable() => {
            words.text(", which is not readable");
            Cause::AccessProtected
        }
        _ => {
            words.text(", which permits it: perhaps another thread has changed the mapping since");
            Cause::Unknown
        }
    }
}

/// What is at the address in a file that is mapped there.
fn place(scene: &Scene<'_>, mapping: &Mapping, address: u64, words: &mut Words) {
    if scene.evidence.place.symbol.is_some() {
        words.text(", at ").symbol(scene.evidence.place);
    } else if let Some(file) = &mapping.file {
        let into = address.wrapping_sub(mapping.start.0);
        words
            .text(" at file offset ")
            .hex(file.offset.0.wrapping_add(into));
    }
}
