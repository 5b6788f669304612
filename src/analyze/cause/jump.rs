//! The code at the pc could not be fetched: what the program jumped to.

use super::words::{mapping_at, Words};
use super::{Scene, Verdict};
use crate::base::address::ProcessAddress;
use crate::crash::fault::NULL_BYTES;
use crate::crash::registers::Arch;
use crate::crash::signals::code;
use crate::decode::MAX_LENGTH;
use crate::report::Cause;

/// The verdict on a fetch that failed.
pub(super) fn verdict(scene: &Scene<'_>) -> Verdict {
    let (address, pc) = (scene.address(), scene.fault.pc.0);
    let mut words = Words::default();
    if address != pc {
        return ran_on(scene, address, pc);
    }
    let event = scene.event;
    // A program that runs past the end of the code has not jumped there.
    let before = event.mapping(ProcessAddress(pc.wrapping_sub(1)));
    words.text(
        match before.is_some_and(|mapping| mapping.flags.executable()) {
            true => "the program reached ",
            false => "jump to ",
        },
    );
    words.hex(pc);
    let cause = match (scene.fault.code, mapping_at(event, pc)) {
        _ if pc < NULL_BYTES => {
            words.text(match pc {
                0 => ": probably through a null function pointer",
                _ => ": probably through a function pointer of a null object",
            });
            Cause::NullCall
        }
        (code::SEGV_ACCERR, Ok(Some(mapping))) if mapping.flags.executable() => {
            words.text(", which is in ").mapping(event, mapping);
            words.text(": it is executable now; perhaps another thread has changed the mapping");
            Cause::Unknown
        }
        (code::SEGV_ACCERR, found) => {
            words.text(", which is in ");
            match found {
                Ok(Some(mapping)) => words.mapping(event, mapping).text(" and"),
                _ => words.text("a mapping that"),
            };
            words.text(" is not executable");
            Cause::ExecuteProtected
        }
        _ if scene.arch == Arch::X86_64 && is_vsyscall(pc) => {
            words.text(", in the vsyscall page, which this kernel does not have (vsyscall=none)");
            Cause::WildJump
        }
        _ if scene.non_canonical(pc) => {
            words.text(", which is not a canonical address");
            Cause::WildJump
        }
        _ if pc >> 63 != 0 => {
            words.text(", in the kernel's half of the address space");
            Cause::WildJump
        }
        _ => {
            words.text(", where the kernel found nothing mapped");
            words.beside(event, pc);
            Cause::WildJump
        }
    };
    words.resemblance("; it ", pc, scene.evidence.quotes);
    Verdict::new(cause, words)
}

/// Whether an address is in the page with three system calls that x86_64 had before
/// the vDSO: VSYSCALL_ADDR in arch/x86/include/uapi/asm/vsyscall.h.
#[must_use]
pub fn is_vsyscall(address: u64) -> bool {
    const VSYSCALL: u64 = 0xffff_ffff_ff60_0000;
    address & !0xfff == VSYSCALL
}

/// The kernel emulates the code in that page, and refused to.
pub(super) fn of_vsyscall(scene: &Scene<'_>) -> Verdict {
    let pc = scene.fault.pc.0;
    let mut words = Words::default();
    words.text("call of the vsyscall page at ").hex(pc);
    let cause = match pc & 0xfff {
        // gettimeofday, time, getcpu
        0 | 0x400 | 0x800 => {
            words.text(": the kernel could not write to where the pointer leads that the function there was given");
            Cause::Unknown
        }
        _ => {
            words.text(": none of its functions begins there");
            Cause::WildJump
        }
    };
    Verdict::new(cause, words)
}

/// The instruction begins in one page and continues in one that cannot be fetched.
fn ran_on(scene: &Scene<'_>, address: u64, pc: u64) -> Verdict {
    let mut words = Words::default();
    if address.wrapping_sub(pc) >= MAX_LENGTH as u64 {
        words
            .text("fetch at ")
            .hex(address)
            .text(", but the pc is ")
            .hex(pc);
        return Verdict::new(Cause::Unknown, words);
    }
    words
        .text("the instruction at ")
        .hex(pc)
        .text(" continues at ")
        .hex(address);
    let cause = if scene.fault.code == code::SEGV_ACCERR {
        words.text(", which is not executable");
        Cause::ExecuteProtected
    } else {
        words.text(", where the kernel found nothing mapped");
        Cause::Unmapped
    };
    words.text(": the program ran past the end of its code");
    if cause == Cause::Unmapped {
        words.beside(scene.event, address);
    }
    Verdict::new(cause, words)
}
