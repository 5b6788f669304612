//! i386: what differs from x86_64.
//!
//! Words have 4 bytes; the psABI for i386, table 2.14, numbers the registers as
//! instructions do. Calls, jumps and pushed frame pointers are those of x86_64.
//! The signal frames are `struct sigframe_ia32` and, for handlers with
//! SA_SIGINFO, `struct rt_sigframe_ia32` of `arch/x86/include/asm/sigframe.h`.
//!
//! With glibc, handlers return to code in the vDSO, which is in no file. The kernel still
//! writes the same instructions into each signal frame, where they were run in the past.
//! Debuggers recognize a signal frame by them, and so do we.

use std::ops::RangeInclusive;

use super::architecture::{Architecture, Caller, Site, State};
use super::depth::{self, Depth, Mode};
use super::stack::{offset, word};
use super::x86_64::{self, X86_64};
use super::AddressSpace;
use crate::base::address::ProcessAddress;
use crate::crash::registers::Arch;

pub(super) struct I386;

const EBX: u16 = 3;
const ESP: u16 = 4;
const EBP: u16 = 5;
const ESI: u16 = 6;
const EDI: u16 = 7;
const EIP: u16 = 8;

/// `pop %eax; mov $119, %eax; int $0x80`: sigreturn, in the vDSO, glibc and musl.
const RESTORER: [u8; 8] = [0x58, 0xb8, 0x77, 0x00, 0x00, 0x00, 0xcd, 0x80];
/// `mov $173, %eax; int $0x80`: rt_sigreturn.
const RT_RESTORER: [u8; 7] = [0xb8, 0xad, 0x00, 0x00, 0x00, 0xcd, 0x80];

/// How far into its code a restorer may be interrupted, and how far the registers are then
/// from the stack pointer. The handler's return has popped the first word of the frame.
const INSIDE: [(&[u8], u64, u64); 7] = [
    (&RESTORER, 0, SIGCONTEXT_AT),
    (&RT_RESTORER, 0, RT_SIGCONTEXT_AT),
    (&RESTORER, 1, SIGCONTEXT_AT - 4),
    (&RESTORER, 6, SIGCONTEXT_AT - 4),
    (&RESTORER, 8, SIGCONTEXT_AT - 4),
    (&RT_RESTORER, 5, RT_SIGCONTEXT_AT),
    (&RT_RESTORER, 7, RT_SIGCONTEXT_AT),
];
/// `sig`, then the registers.
const SIGCONTEXT_AT: u64 = 4;
/// `sig`, `pinfo`, `puc`, 128 bytes of `info`, 20 of the `ucontext`.
const RT_SIGCONTEXT_AT: u64 = 160;

/// The same code in the frame (`retcode`), where it is, and the registers.
const MARKS: [(&[u8], u64, u64); 2] = [
    (&RESTORER, 720, SIGCONTEXT_AT),
    (&RT_RESTORER, 256, RT_SIGCONTEXT_AT),
];

/// Words of `struct sigcontext_32`, by DWARF number.
const SIGCONTEXT: [(u16, u64); 9] = [
    (EDI, 4),
    (ESI, 5),
    (EBP, 6),
    (ESP, 7),
    (EBX, 8),
    (2, 9),
    (1, 10),
    (0, 11),
    (EIP, 14),
];

/// `hlt` in `_start`, and `mov %eax, %ebx; xor %eax, %eax; inc %eax; int $0x80`
/// in musl's `__clone`.
const HLT: u8 = 0xf4;
const EXIT: [u8; 7] = [0x89, 0xc3, 0x31, 0xc0, 0x40, 0xcd, 0x80];

/// Registers that are saved below the frame pointer: edi, esi, ebx, ecx.
const SAVED_WORDS: u64 = 4;
/// The largest alignment of a stack: a page.
const MAX_ALIGNMENT: u64 = 4096;

const RET: u8 = 0xc3;
/// `pop %ebp; pop %edx; pop %ecx; ret`: after every system call in the vDSO.
const AFTER_CALL: [u8; 4] = [0x5d, 0x5a, 0x59, RET];
/// How many instructions of an epilogue are read: it can pop seven registers.
const EPILOGUE: usize = 8;

impl Architecture for I386 {
    const ARCH: Arch = Arch::I386;
    const WORD: u64 = 4;
    const STACK_POINTER: u16 = ESP;
    const FRAME_POINTER: u16 = EBP;
    const PROGRAM_COUNTER: u16 = EIP;
    const PRESERVED: u64 = 1 << EBX | 1 << EBP | 1 << ESI | 1 << EDI;

    fn code_pointer(_: &dyn AddressSpace, value: u64) -> ProcessAddress {
        ProcessAddress(value)
    }

    fn site(space: &dyn AddressSpace, address: ProcessAddress) -> Site {
        x86_64::around::<Self>(space, address, |after| {
            let restorer = after.starts_with(&RESTORER) || after.starts_with(&RT_RESTORER);
            let ends = after.first() == Some(&HLT) || after.starts_with(&EXIT);
            (restorer, ends)
        })
    }

    fn inside_restorer(space: &dyn AddressSpace, pc: ProcessAddress) -> bool {
        by_code(space, pc).is_some()
    }

    fn is_marked(space: &dyn AddressSpace, state: &State) -> bool {
        let pc = state.get(EIP).map(ProcessAddress);
        pc.is_some_and(|pc| space.is_executable(pc)) && by_mark(space, state).is_some()
    }

    fn interrupted(space: &dyn AddressSpace, state: &State) -> Result<Caller, ProcessAddress> {
        let sp = Self::stack_pointer(state).ok_or(ProcessAddress(0))?;
        let pc = ProcessAddress(state.get(EIP).unwrap_or(0));
        let at = by_code(space, pc)
            .or_else(|| by_mark(space, state))
            .ok_or(sp)?;
        x86_64::saved::<Self>(space, state, offset(sp, at), &SIGCONTEXT)
    }

    /// System calls are made in the vDSO: the pc is then before some pops and `ret`. The popped
    /// registers are restored.
    fn leaf(space: &dyn AddressSpace, state: &State) -> Option<Caller> {
        let mut popped = *state;
        let mut slot = Self::stack_pointer(state)?;
        let mut code = [0; EPILOGUE];
        let pc = ProcessAddress(state.get(EIP)?);
        let mut len = space.read_code(pc, &mut code).min(code.len());
        if len == 0 && space.is_executable(pc) {
            // Only code around the crash was captured, and the vDSO is in no file.
            len = AFTER_CALL.len();
            code[..len].copy_from_slice(&AFTER_CALL);
        }
        let pops = code[..len].iter().take_while(|code| **code & 0xf8 == 0x58);
        let pops = pops.count();
        if code[..len].get(pops) == Some(&RET) {
            for code in &code[..pops] {
                popped.set(u16::from(code & 7), word::<Self>(space, slot).ok()?);
                slot = offset(slot, Self::WORD);
            }
        }
        let pc = word::<Self>(space, slot).ok()?;
        Some(Self::returned_through(space, &popped, slot, pc))
    }

    fn frame_pointer(
        space: &dyn AddressSpace,
        state: &State,
        floor: ProcessAddress,
    ) -> Option<Caller> {
        let mut caller = x86_64::frame_pointer::<Self>(space, state, floor)?;
        if let Some(sp) = realigned(space, state, &caller) {
            caller.state.set(ESP, sp.0);
            caller.floor = sp;
        }
        Some(caller)
    }

    fn returned_through(
        _: &dyn AddressSpace,
        state: &State,
        slot: ProcessAddress,
        value: u64,
    ) -> Caller {
        x86_64::returned_through::<Self>(state, slot, value)
    }

    /// `call *%gs:0x10`: glibc keeps the address of `__kernel_vsyscall` there.
    fn proves_system_call(
        space: &dyn AddressSpace,
        pc: ProcessAddress,
        returns: ProcessAddress,
    ) -> bool {
        const CALL: [u8; 7] = [0x65, 0xff, 0x15, 0x10, 0, 0, 0];
        let mut before = [0; CALL.len()];
        let start = ProcessAddress(returns.0.wrapping_sub(CALL.len() as u64));
        let mut code = [0; AFTER_CALL.len()];
        let len = space.read_code(pc, &mut code).min(code.len());
        let is_after_call = len == 0 || code == AFTER_CALL;
        is_after_call && space.read_code(start, &mut before) >= CALL.len() && before == CALL
    }

    /// Also `jmp *n(%ebx)`, after `endbr32`.
    fn is_jump(code: &[u8]) -> bool {
        let code = code.strip_prefix(&[0xf3, 0x0f, 0x1e, 0xfb]).unwrap_or(code);
        code.starts_with(&[0xff, 0xa3]) || X86_64::is_jump(code)
    }

    /// `mov %esp, %ebp`, in both of its encodings.
    fn sets_frame_pointer(code: &[u8]) -> bool {
        code.windows(2)
            .any(|bytes| matches!(bytes, [0x89, 0xe5] | [0x8b, 0xec]))
    }

    fn depth(code: &[u8]) -> Option<Depth> {
        depth::of(Mode::Bits32, code)
    }

    fn depth_ahead(code: &[u8]) -> Option<Depth> {
        depth::ahead(Mode::Bits32, code)
    }

    fn leaves_by_frame(code: &[u8]) -> bool {
        depth::leaves_by_frame(Mode::Bits32, code)
    }

    fn jumps_into(code: &[u8], distance: RangeInclusive<i64>) -> bool {
        X86_64::jumps_into(code, distance)
    }
}

/// The beginning of the caller's stack, for a function that aligned its own, as `main`
/// does: it pushed a copy of its return address, and saved the end of the original below
/// the frame pointer. The two copies confirm each other.
fn realigned(space: &dyn AddressSpace, state: &State, caller: &Caller) -> Option<ProcessAddress> {
    let fp = state.get(EBP)?;
    let copied = caller.floor;
    (1..=SAVED_WORDS).find_map(|index| {
        let saved = ProcessAddress(fp.wrapping_sub(index * I386::WORD));
        let sp = ProcessAddress(word::<I386>(space, saved).ok()?);
        let above = sp.offset_from(copied)?;
        let first = sp.checked_sub(I386::WORD)?;
        let same =
            (1..MAX_ALIGNMENT).contains(&above) && word::<I386>(space, first) == Ok(caller.pc.0);
        same.then_some(sp)
    })
}

/// The offset of the saved registers from the stack pointer, if the pc is in a restorer.
fn by_code(space: &dyn AddressSpace, pc: ProcessAddress) -> Option<u64> {
    let found = INSIDE.iter().find(|(restorer, back, _)| {
        let mut code = [0; RESTORER.len()];
        let code = &mut code[..restorer.len()];
        let start = ProcessAddress(pc.0.wrapping_sub(*back));
        space.read_code(start, code) >= code.len() && code == *restorer
    });
    found.map(|(.., at)| *at)
}

/// The same by the kernel's mark in the frame.
fn by_mark(space: &dyn AddressSpace, state: &State) -> Option<u64> {
    let sp = I386::stack_pointer(state)?;
    let found = MARKS.iter().find(|(mark, at, _)| {
        let mut bytes = [0; RESTORER.len()];
        let bytes = &mut bytes[..mark.len()];
        space.read_memory(offset(sp, *at), bytes).is_some() && bytes == *mark
    });
    found.map(|(.., at)| *at)
}
