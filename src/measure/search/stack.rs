//! The kernel's stack of a child: its end, with the user's registers, and its size.

use crate::base::bytes::{self, Cursor};
use crate::measure::facts::{Child, Fact};

/// Where in `struct pt_regs` the first of the registers is that a child sets, and the stack
/// pointer: arch/x86/include/asm/ptrace.h, arch/arm64/include/asm/ptrace.h.
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
        let registers = child.seen.known.registers();
        let start = bytes::find(&child.top, &registers)?;
        if bytes::find(&child.top[start + 1..], &registers).is_some() {
            return None;
        }
        let start = start.checked_sub(FIRST_AT)?;
        let sp = Cursor::at(&child.top, start + SP_AT).u64().ok()?;
        let here = child.top.len() - start;
        if sp != child.seen.facts.get(Fact::Sp) || *from_top.get_or_insert(here) != here {
            return None;
        }
    }
    from_top.map(|bytes| bytes as u32)
}
