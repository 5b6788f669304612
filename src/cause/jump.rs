//! The pc could not be fetched: where the program went instead of code.

use super::page::NULL_BYTES;
use super::words::{mapping_at, Words};
use super::{Scene, Verdict};
use crate::address::ProcessAddress;
use crate::decode::MAX_LENGTH;
use crate::fault::code;
use crate::report::Cause;

/// The verdict on a fetch that failed.
pub(super) fn verdict(scene: &Scene<'_>) -> Verdict {
    let (address, pc) = (scene.address(), scene.fault.pc.0);
    let mut words = Words::default();
    if address != pc {
        return ran_on(scene, address, pc);
    }
    // Whoever runs past the end of the code has not jumped there.
    let before = ProcessAddress(pc.wrapping_sub(1));
    let ran_on = scene
        .event
        .mapping(before)
        .is_some_and(|mapping| mapping.flags.executable());
    words.text(if ran_on { "the program reached " } else { "jump to " });
    words.hex(pc);
    if pc < NULL_BYTES {
        words.text(match pc {
            0 => ": a null function pointer was called",
            _ => ": probably a function pointer that was taken from a null pointer",
        });
        return Verdict::new(Cause::NullCall, words);
    }
    if scene.non_canonical(pc) {
        words.text(", which is no canonical address");
    }
    let mut like = Words::default();
    if like.resemblance(pc) {
        words.text("; it ").bytes(&like.0);
    }
    match (scene.fault.code, mapping_at(scene.event, pc)) {
        (code::SEGV_ACCERR, Ok(Some(mapping))) => {
            words.text(", which is in ").mapping(scene.event, mapping);
            words.text(if mapping.flags.executable() {
                ": it may be executed now, perhaps another thread has changed that"
            } else {
                " and may not be executed"
            });
            let changed = mapping.flags.executable();
            Verdict::new(
                if changed {
                    Cause::Unknown
                } else {
                    Cause::ExecuteProtected
                },
                words,
            )
        }
        (code::SEGV_ACCERR, _) => {
            words.text(", in a mapping that may not be executed");
            Verdict::new(Cause::ExecuteProtected, words)
        }
        _ => {
            if pc >> 63 != 0 {
                words.text(", in the kernel's half of all addresses");
            } else {
                words.text(", where the kernel found nothing mapped");
            }
            let mut beside = Words::default();
            if !scene.non_canonical(pc) && beside.beside(scene.event, pc) {
                words.text("; ").bytes(&beside.0);
            }
            Verdict::new(Cause::WildJump, words)
        }
    }
}

/// The instruction begins in one page, and goes on in one that cannot be fetched.
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
        .text(" goes on at ")
        .hex(address);
    if scene.fault.code == code::SEGV_ACCERR {
        words.text(", which may not be executed: the program ran past the end of its code");
        return Verdict::new(Cause::ExecuteProtected, words);
    }
    words.text(", where nothing is mapped: the program ran past the end of its code");
    let mut beside = Words::default();
    if beside.beside(scene.event, address) {
        words.text("; ").bytes(&beside.0);
    }
    Verdict::new(Cause::Unmapped, words)
}
