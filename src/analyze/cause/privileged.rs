//! Instructions that user code may not run: what C libraries crash with on purpose.

use super::abort::MUSL_HEAP;
use super::words::Words;
use super::{Scene, Verdict};
use crate::crash::registers::Arch;
use crate::decode::Decoded;
use crate::report::dying::is_one_of;
use crate::report::Cause;

/// How many bytes of an instruction are shown that has no known length.
const SHOWN_BYTES: usize = 8;

/// The bytes of the faulting instruction, as far as they are known.
pub(super) fn bytes(scene: &Scene<'_>, words: &mut Words) {
    let len = match (&scene.decoded, scene.arch) {
        (Some(decoded), _) => usize::from(decoded.length),
        (None, Arch::Aarch64) => 4,
        _ => SHOWN_BYTES,
    };
    let code = scene.evidence.code;
    for byte in &code[..len.min(code.len())] {
        words.text(&format!(" {byte:02x}"));
    }
}

/// The verdict on an instruction that user code may not run, as far as its bytes show it.
pub(super) fn not_for_users(scene: &Scene<'_>) -> Verdict {
    let mut words = Words::default();
    words.text("the instruction");
    bytes(scene, &mut words);
    words.text(" is for the kernel only");
    Verdict::new(Cause::PrivilegedInstruction, words)
}

/// The verdict on an instruction that user code may not run.
pub(super) fn privileged(scene: &Scene<'_>, decoded: &Decoded) -> Verdict {
    const HLT: u8 = 0xf4;
    let x86 = matches!(scene.arch, Arch::X86_64 | Arch::I386);
    let halts = x86 && decoded.length == 1 && scene.evidence.code.first() == Some(&HLT);
    let mut words = Words::default();
    if !halts {
        return not_for_users(scene);
    }
    let function = scene.function();
    words.text("hlt, which is for the kernel only: ");
    let mut cause = Cause::PrivilegedInstruction;
    if function == b"__stack_chk_fail" {
        words.text("musl's stack protector found an overwritten canary");
        if let Some(caller) = scene
            .evidence
            .functions
            .get(1)
            .filter(|name| !name.is_empty())
        {
            words.text(" in ").bytes(caller);
        }
        cause = Cause::StackSmashing;
    } else if is_one_of(function, MUSL_HEAP) {
        words.text("probably musl's heap check, which crashes on purpose, in ");
        words.bytes(function);
    } else {
        words.text("C libraries use it to end a program that cannot continue");
    }
    let mut verdict = Verdict::new(cause, words);
    verdict.nameless = Cause::PrivilegedInstruction;
    verdict
}
