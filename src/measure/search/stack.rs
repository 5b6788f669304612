//! The kernel stack of a child: its end, with the user registers, and its size.

use crate::base::bytes::{self, Cursor};
use crate::measure::facts::{Child, Fact};

/// The offset in `struct pt_regs` of the first register that a child sets, and of the stack
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

/// The distance from the end of the kernel stack down to the user registers, if they are there
/// once, and at the same place for all children.
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
