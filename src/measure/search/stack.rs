//! The kernel's stack of a child: its end, with the user's registers, and its size.

use crate::bytes::Cursor;
use crate::measure::facts::{Child, Fact};

/// Where in `struct pt_regs` the first of the registers is that a child sets, and how far
/// behind it the stack pointer: arch/x86/include/asm/ptrace.h, arch/arm64/include/asm/ptrace.h.
const FIRST_AT: usize = if cfg!(target_arch = "aarch64") {
    19 * 8
} else {
    0
};
const SP_AT: usize = if cfg!(target_arch = "aarch64") {
    31 * 8
} else {
    19 * 8
};

/// Whether a kernel stack may have so many bytes.
pub(super) fn is_size(bytes: u64) -> bool {
    bytes.is_power_of_two() && (8 << 10..=128 << 10).contains(&bytes)
}

/// From the end of the kernel's stack down to the user's registers, if they stand there once,
/// and for all children at the same place.
pub(super) fn registers(children: &[Child]) -> Option<u32> {
    let mut from_top = None;
    for child in children {
        let word = |at: usize| Cursor::at(&child.top, at).u64().ok();
        let sp = child.seen.facts.get(Fact::Sp);
        let mut here = None;
        for start in (0..child.top.len()).step_by(8) {
            let mut at = start + FIRST_AT;
            let mut holds = word(start + SP_AT) == Some(sp);
            for value in child.seen.known.registers() {
                holds &= word(at) == Some(value);
                at += 8;
            }
            if holds && here.replace(child.top.len() - start).is_some() {
                return None;
            }
        }
        if here.is_none() || from_top.is_some() && from_top != here {
            return None;
        }
        from_top = here;
    }
    from_top.map(|bytes| bytes as u32)
}
