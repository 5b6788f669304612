//! Whether a fault is the end of a stack.
//!
//! ```text
//! first stack            a thread's                 a frame larger than the guard
//!
//! ┌─────────┐            ┌─────────┐                ┌─────────┐
//! │ [stack] │            │  rw-    │                │  rw-    │
//! ├─────────┤ ◁ sp       ├─────────┤ ◁ sp           ├─────────┤
//!    limit    ◁ fault    │  ---    │ ◁ fault        │  ---    │ ◁ fault
//!                        └─────────┘                └─────────┘
//!                                                       ...     ◁ sp
//! ```
//!
//! The stack is the one that the stack pointer points into: the first one, a thread's, a
//! coroutine's, an alternate one for signals. A fault is at the end of the stack if it
//! lies at or above the stack pointer but below the stack, or a little below both.

use super::operand::Placed;
use super::words::Words;
use super::{Scene, Verdict};
use crate::base::address::ProcessAddress;
use crate::crash::event::Mapping;
use crate::crash::kinds::Access;
use crate::crash::registers::Arch;
use crate::crash::signals::code;
use crate::decode::Class;
use crate::report::Cause;

/// How far below the stack pointer a function may access memory: as far as a stack probe
/// or a red zone reaches, or, through the stack pointer itself, the frame that one
/// instruction allocates.
const BELOW_BYTES: u64 = 4096;
const PUSHED_BYTES: u64 = 65_536 + 256;
/// A stack pointer so far below the next mapping is not an overflow, but wrong.
const FRAME_BYTES: u64 = 256 << 20;

/// The stack that a stack pointer is in or below.
struct Stack<'a> {
    mapping: &'a Mapping,
    /// The stack pointer is in no mapping, or in one that may not be accessed.
    left: bool,
    certain: bool,
}

/// The verdict, if the stack overflowed.
pub(super) fn overflow(
    scene: &Scene<'_>,
    access: Option<Access>,
    placed: Option<&Placed>,
) -> Option<Verdict> {
    let address = scene.address();
    let Some(sp) = scene.stack_pointer() else {
        return below_first_stack(scene, access, address);
    };
    // An instruction that leaves a frame finds its stack pointer wrong, not the stack full.
    if scene
        .decoded
        .is_some_and(|decoded| decoded.class == Class::Return)
    {
        return None;
    }
    let through_sp = placed.is_some_and(|placed| is_frame(scene, placed, sp, address));
    let below = if through_sp {
        PUSHED_BYTES
    } else {
        BELOW_BYTES
    };
    if address < sp.saturating_sub(below) {
        return None;
    }
    let stack = stack_of(scene, sp, address, access, through_sp)
        .or_else(|| left_far(scene, sp, address, access));
    if stack.is_none() && !is_unreadable(scene, sp, address) {
        return None;
    }
    let certain = stack.as_ref().is_some_and(|stack| stack.certain);
    let mut words = Words::default();
    words.text(if certain { "" } else { "probably " });
    words
        .text("stack overflow: ")
        .touch(access, placed, address)
        .text(", ");
    match (address.checked_sub(sp), sp - address.min(sp)) {
        (Some(0), _) => words.text("at"),
        (Some(above), _) => words.distance(above).text(" above"),
        (None, below) => words.distance(below).text(" below"),
    };
    words.text(" the stack pointer ").hex(sp);
    match &stack {
        Some(stack) => end(scene, stack, sp, &mut words),
        None => {
            words.text(", where nothing can be read");
        }
    }
    calls_itself(scene, &mut words);
    Some(Verdict::new(Cause::StackOverflow, words))
}

/// Whether the stack pointer points to no known memory, if it is not known what is mapped
/// there.
fn is_unreadable(scene: &Scene<'_>, sp: u64, address: u64) -> bool {
    let event = scene.event;
    let lacks = event.lacks("data_mappings") && event.lacks("stack");
    lacks && event.windows.is_empty() && address.abs_diff(sp) < BELOW_BYTES
}

/// Its DWARF number.
fn frame_pointer(arch: Arch) -> u16 {
    match arch {
        Arch::X86_64 => 6,
        Arch::I386 => 5,
        Arch::Aarch64 => 29,
        Arch::Arm => 11,
    }
}

/// Whether an operand is a fixed place in the frame: at the stack pointer, or
/// between it and the frame pointer.
fn is_frame(scene: &Scene<'_>, placed: &Placed, sp: u64, address: u64) -> bool {
    let stack_pointer = match scene.arch {
        Arch::X86_64 => 7,
        Arch::I386 => 4,
        Arch::Aarch64 => 31,
        Arch::Arm => 13,
    };
    let frame_pointer = frame_pointer(scene.arch);
    let Some(base) = placed.operand.base else {
        return false;
    };
    let number = u16::from(base.0);
    let in_frame = number == frame_pointer
        && address >= sp
        && scene
            .register(frame_pointer)
            .is_some_and(|frame| frame > address);
    placed.operand.index.is_none() && (number == stack_pointer || in_frame)
}

fn stack_of<'a>(
    scene: &Scene<'a>,
    sp: u64,
    address: u64,
    access: Option<Access>,
    through_sp: bool,
) -> Option<Stack<'a>> {
    let event = scene.event;
    let of = |at: u64| event.mapping(ProcessAddress(at));
    let untouchable = |mapping: &Mapping| !mapping.flags.readable() && !mapping.flags.writable();
    if let Some(mapping) = of(sp) {
        let guard = untouchable(mapping);
        if !guard && address < mapping.start.0 {
            return Some(Stack {
                mapping,
                left: false,
                certain: true,
            });
        }
        // In the guard; or in pages of the stack that are marked as one
        // (MADV_GUARD_INSTALL), which the kernel calls not mapped.
        let marked = through_sp
            && address.abs_diff(sp) < BELOW_BYTES
            && scene.fault.code == code::SEGV_MAPERR
            && mapping.flags.writable();
        if address < mapping.end.0 && (guard || marked) {
            return Some(Stack {
                mapping,
                left: true,
                certain: guard,
            });
        }
        // Past it: a frame reaches over the whole guard.
        let over = of(address).filter(|over| untouchable(over) && over.start >= mapping.end);
        return over.filter(|_| through_sp).map(|mapping| Stack {
            mapping,
            left: true,
            certain: true,
        });
    }
    if event.lacks("mappings") || event.lacks("data_mappings") {
        return None;
    }
    let above = event
        .mappings
        .partition_point(|mapping| mapping.start.0 <= sp);
    let mapping = event.mappings.get(above)?;
    let first = mapping.contains(event.start_stack);
    let in_gap = address < mapping.start.0 || (untouchable(mapping) && address < mapping.end.0);
    // The guard at the end of a thread's stack, which is next above a frame that reaches over it.
    let guard = mapping.file.is_none() && untouchable(mapping);
    let below = mapping.start.0 - sp;
    let own = own_stack(scene).is_some_and(|own| own.start == mapping.start);
    // A stack without a guard; whose it is, is not known.
    let bare = is_memory(mapping) && below <= PUSHED_BYTES;
    let plausible = first
        || own && below < FRAME_BYTES
        || bare
        || guard && access == Some(Access::Write) && below < FRAME_BYTES;
    (in_gap && plausible).then_some(Stack {
        mapping,
        left: true,
        certain: first || own,
    })
}

fn is_memory(mapping: &Mapping) -> bool {
    mapping.file.is_none() && mapping.flags.readable() && mapping.flags.writable()
}

/// The stack that the thread was started with: the first thread's, or the one at whose top
/// the C library has put its data about the thread. On x86_64 the base of FS points to
/// these.
fn own_stack<'a>(scene: &Scene<'a>) -> Option<&'a Mapping> {
    let event = scene.event;
    if event.host_pid == event.host_tid {
        return event.mapping(event.start_stack);
    }
    let thread = ProcessAddress(event.fs_base);
    event.mapping(thread).filter(|mapping| is_memory(mapping))
}

/// A frame that is so large that it reaches past the end of the stack, so that the stack
/// pointer is in another mapping. That mapping could also be a stack that the program
/// made. So something must show where the frame ends: its frame pointer, or the instruction
/// that allocated it. And the fault must lie in between: at the end of that mapping, or at
/// the stack pointer if no stack can be there.
fn left_far<'a>(
    scene: &Scene<'a>,
    sp: u64,
    address: u64,
    access: Option<Access>,
) -> Option<Stack<'a>> {
    let event = scene.event;
    let other = event.mapping(ProcessAddress(sp))?;
    let holds = |at: u64| other.contains(ProcessAddress(at));
    if holds(event.fs_base) || holds(event.start_stack.0) {
        return None;
    }
    let is_end = |end: &u64| {
        let above = event.mapping(ProcessAddress(*end));
        *end > address.max(other.end.0) && *end - sp < FRAME_BYTES && above.is_none_or(is_memory)
    };
    let frame_pointer = scene.register(frame_pointer(scene.arch));
    let aligned = frame_pointer.filter(|at| at % 8 == 0).filter(is_end);
    aligned.or_else(|| made_frame(scene, sp).filter(is_end))?;
    let inside = event.mapping(ProcessAddress(address));
    let at_end = match inside {
        Some(guard) => {
            let flags = guard.flags;
            !flags.readable() && !flags.writable() && guard.start >= other.end
        }
        None => address.wrapping_sub(other.end.0) < BELOW_BYTES,
    };
    let at_sp = access == Some(Access::Write) && !other.flags.writable() && holds(address);
    (at_end || at_sp).then_some(Stack {
        mapping: inside.unwrap_or(other),
        left: true,
        certain: false,
    })
}

/// The end of the frame that the code before the instruction has just allocated:
/// `sub $size, %rsp`, and `sub sp, sp, #size` in units of 4 KB.
fn made_frame(scene: &Scene<'_>, sp: u64) -> Option<u64> {
    let before = scene.evidence.before;
    let size = match scene.arch {
        Arch::X86_64 => before.windows(7).rev().find_map(|bytes| match *bytes {
            [0x48, 0x81, 0xec, a, b, c, d] => Some(u32::from_le_bytes([a, b, c, d])),
            _ => None,
        }),
        Arch::Aarch64 => before.chunks_exact(4).rev().find_map(|bytes| {
            let word = u32::from_le_bytes(bytes.try_into().ok()?);
            (word & 0xffc0_03ff == 0xd140_03ff).then_some((word >> 10 & 0xfff) << 12)
        }),
        Arch::I386 | Arch::Arm => None,
    };
    sp.checked_add(size?.into())
}

/// What the stack is, and where it ends.
fn end(scene: &Scene<'_>, stack: &Stack<'_>, sp: u64, words: &mut Words) {
    let Stack { mapping, left, .. } = *stack;
    let mut own = (!left).then_some(mapping);
    if left && mapping.contains(ProcessAddress(sp)) {
        words.text(", which is in ").mapping(scene.event, mapping);
        words.text(match mapping.flags.readable() {
            true => ", below a frame that reaches over the end of its stack",
            false => ", probably the guard of its stack",
        });
        let above = scene.event.mapping(mapping.end);
        own = above.filter(|above| above.flags.writable());
    } else if left {
        words
            .text(", which is ")
            .distance(mapping.start.0.saturating_sub(sp));
        words.text(" below ").mapping(scene.event, mapping);
        if mapping.contains(scene.event.start_stack) {
            words.text(" of ").number(kilobytes(mapping)).text(" KB");
        }
    }
    if let Some(own) = own {
        words.text("; its stack, ").mapping(scene.event, own);
        words.text(", ends at ").hex(own.start.0);
        words.text(" and has ").number(kilobytes(own)).text(" KB");
    }
}

fn kilobytes(mapping: &Mapping) -> u64 {
    (mapping.end.0 - mapping.start.0) >> 10
}

/// The function with the most consecutive calls. Functions that it called last, such as one
/// of the C library, may come before these.
fn calls_itself(scene: &Scene<'_>, words: &mut Words) {
    let mut most: &[&[u8]] = &[];
    for run in scene.evidence.functions.chunk_by(|one, next| one == next) {
        if run.len() > most.len().max(2) && !run[0].is_empty() {
            most = run;
        }
    }
    if let Some(name) = most.first() {
        words.text("; ").bytes(name).text(" calls itself");
    }
}

/// For a stack pointer that is not known any more: the first stack could not grow.
fn below_first_stack(scene: &Scene<'_>, access: Option<Access>, address: u64) -> Option<Verdict> {
    if scene.fault.code != code::SEGV_MAPERR {
        return None;
    }
    let stack = scene.event.mapping(scene.event.start_stack)?;
    let below = stack.start.0.checked_sub(address)?;
    if below == 0 || below > PUSHED_BYTES {
        return None;
    }
    let mut words = Words::default();
    words
        .text("probably stack overflow: ")
        .touch(access, None, address);
    words
        .text(", ")
        .distance(below)
        .text(" below ")
        .mapping(scene.event, stack);
    words.text(" of ").number(kilobytes(stack)).text(" KB");
    Some(Verdict::new(Cause::StackOverflow, words))
}
