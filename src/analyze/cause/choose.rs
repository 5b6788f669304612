//! Chooses the fault that a process died of, and decides whether it was a fault at all.
//!
//! A fatal delivery may say nothing about the fault: a handler took the fault first and
//! raised the signal again, or the handler's frame could not be written. Then the cause
//! is that of the handled fault. And a process may send itself a signal with any code
//! and address (`rt_sigqueueinfo`). The processor's data about the thread's last fault,
//! and the system call that the thread is in, expose such a signal.

use super::words::Words;
use super::{calls, jump};
use super::{Chosen, Earlier, Fault, Scene, Verdict};
use crate::base::address::ProcessAddress;
use crate::crash::event::{EarlierFault, Event, MemoryWindow, Siginfo, Trap};
use crate::crash::fault::{self};
use crate::crash::frame::Stop;
use crate::crash::registers::Arch;
use crate::crash::signals::{code, signal, trap};
use crate::report::Cause;
use crate::unwind::Walk;

/// How old an earlier fault may be, when only its age supports it.
const RECENT_NS: u64 = 10_000_000_000;
/// The same if nothing is known about the stack: then the program may have survived the
/// fault. A handler that raises the signal again does so at once.
const AT_ONCE_NS: u64 = 50_000_000;

impl Fault {
    /// The delivery's own.
    #[must_use]
    pub fn of(event: &Event) -> Fault {
        Fault {
            signal: event.signal,
            code: event.code,
            siginfo: event.siginfo,
            trap: event.trap,
            pc: event.registers.map_or(ProcessAddress(0), |regs| regs.pc()),
        }
    }

    fn earlier(first: &EarlierFault) -> Fault {
        Fault {
            signal: first.signal,
            code: first.code,
            siginfo: first.siginfo,
            trap: first.trap,
            pc: first.pc,
        }
    }
}

/// The fault that the cause is to be looked for in: the delivery's own, or the one before.
/// `code` is around the instruction pointer; `walk` is `None` where no stack was walked.
#[must_use]
pub fn choose(event: &Event, own: &Fault, code: &MemoryWindow, walk: Option<&Walk>) -> Chosen {
    let made = is_made(event, own, code);
    let chosen = Chosen {
        fault: *own,
        registers: event.registers,
        earlier: None,
        made,
    };
    let Some(first) = event.first_fault else {
        return chosen;
    };
    if fault::is_sent_by_another(event) || !(made || is_empty(own)) {
        return chosen;
    }
    let fault = Fault::earlier(&first);
    let interrupted = walk.and_then(|walk| walk.interrupted);
    let found = walk.is_some_and(|walk| {
        let mut frames = walk.frames.iter();
        frames.any(|frame| frame.code.address() == first.pc)
    });
    let recent_ns = match walk {
        Some(_) => RECENT_NS,
        None => AT_ONCE_NS,
    };
    let earlier = if own.code == code::SI_KERNEL && own.pc == first.pc {
        Earlier::NoFrame
    } else if own.pc == first.pc || found {
        // A signal that a handler raises is usually blocked until it returns, to the fault.
        Earlier::Handled
    } else if walk.is_some_and(|walk| walk.stop == Stop::Outermost)
        || walk.is_none() && event.signal != first.signal
        || event.boot_ns.saturating_sub(first.boot_ns) > recent_ns
    {
        // The handler is no longer on the stack: the program survived that fault.
        return chosen;
    } else {
        Earlier::Recent
    };
    let candidates = [event.registers, interrupted];
    let registers = match earlier {
        Earlier::Recent => None,
        _ => candidates
            .into_iter()
            .flatten()
            .find(|regs| regs.pc() == first.pc),
    };
    Chosen {
        made: contradicts(kernel_arch(event), &fault),
        fault,
        registers,
        earlier: Some(earlier),
    }
}

fn kernel_arch(event: &Event) -> Arch {
    event
        .registers
        .map_or(Arch::NATIVE, |registers| registers.arch())
}

/// Whether a delivery says nothing about a fault of its own.
fn is_empty(own: &Fault) -> bool {
    match own.code {
        code::SI_KERNEL => {
            own.signal == signal::SIGSEGV && own.trap.is_some_and(|trap| !has_own_trap(&trap))
        }
        code => code <= code::SI_USER,
    }
}

/// Whether the kernel turns this x86 trap into a SIGSEGV without an address: overflow,
/// bounds, segments, general protection.
fn has_own_trap(trap: &Trap) -> bool {
    matches!(trap.number, 4 | 5 | 9 | 10 | trap::GENERAL_PROTECTION)
}

/// The system call that an x86 thread is in: orig_ax is -1 at a trap.
fn system_call(event: &Event) -> Option<u64> {
    let registers = event.registers?;
    registers.system_call()
}

/// `rt_sigqueueinfo` and `rt_tgsigqueueinfo`, with which a process may send
/// itself any siginfo.
fn sends_any(arch: Arch, number: u64) -> bool {
    match arch {
        Arch::X86_64 => matches!(number, 129 | 297),
        Arch::I386 => matches!(number, 178 | 335),
        Arch::Aarch64 => matches!(number, 138 | 240),
        Arch::Arm => matches!(number, 178 | 363),
    }
}

/// Whether a system call made this signal, though its code is a kernel's.
fn is_made(event: &Event, own: &Fault, code: &MemoryWindow) -> bool {
    let arch = kernel_arch(event);
    // Memory failures and seccomp are reported in the middle of system calls.
    let raised_by_traps = match own.signal {
        signal::SIGSEGV | signal::SIGILL | signal::SIGFPE => true,
        signal::SIGBUS => own.code <= code::BUS_ADRERR,
        _ => false,
    };
    if own.code <= code::SI_USER || !raised_by_traps || own.trap.is_none() {
        return false;
    }
    let in_call = match arch {
        Arch::Aarch64 => sent_before_pc(event, code),
        Arch::Arm => None,
        _ => system_call(event),
    };
    match in_call {
        // The kernel itself has SI_KERNEL for calls that went wrong.
        Some(number) if own.code == code::SI_KERNEL => sends_any(arch, number),
        Some(_) => true,
        None => contradicts(arch, own),
    }
}

/// The number of one of those two system calls, if an arm64 thread has just
/// made it.
fn sent_before_pc(event: &Event, code: &MemoryWindow) -> Option<u64> {
    const SVC: [u8; 4] = [0x01, 0, 0, 0xd4];
    let registers = event.registers?;
    let before = ProcessAddress(registers.pc().0.wrapping_sub(4));
    let number = registers.dwarf(8)?;
    let sent = code.get(before, 4) == Some(&SVC) && sends_any(Arch::Aarch64, number);
    sent.then_some(number)
}

/// Whether an arm64 processor reported nothing at all.
pub(super) fn is_silent(arch: Arch, trap: &Trap) -> bool {
    let arm = matches!(arch, Arch::Aarch64 | Arch::Arm);
    arm && trap.error_code == 0 && trap.address == 0
}

/// Whether the processor's data contradict the signal.
fn contradicts(arch: Arch, fault: &Fault) -> bool {
    let Fault {
        signal, code, pc, ..
    } = *fault;
    let Some(trap) = &fault.trap else {
        return false;
    };
    let named = fault.siginfo.address();
    let is_at = named.is_some_and(|address| fault::is_at(trap, address.0));
    let x86 = matches!(arch, Arch::X86_64 | Arch::I386);
    let page_fault = !x86 || trap.number == trap::PAGE_FAULT;
    // Judged by the instruction, see page::silent.
    let silent = is_silent(arch, trap);
    match (signal, code) {
        (signal::SIGSEGV, code::SEGV_MAPERR | code::SEGV_ACCERR)
        | (signal::SIGBUS, code::BUS_ADRERR) => !(silent || page_fault && is_at),
        (signal::SIGSEGV, code::SEGV_PKUERR) => !(page_fault && is_at),
        (signal::SIGSEGV, code::SEGV_CPERR) => x86 && trap.number != trap::CONTROL_PROTECTION,
        (signal::SIGSEGV, code::SI_KERNEL) => false,
        (signal::SIGILL, code) if code != code::SI_KERNEL => {
            named != Some(pc) || x86 && trap.number != trap::UNDEFINED
        }
        (signal::SIGFPE, code) if code != code::SI_KERNEL => {
            named != Some(pc) || x86 && !matches!(trap.number, 0 | 16 | 19)
        }
        _ => false,
    }
}

/// The verdict on a signal that was sent, and says so.
pub(super) fn sent(scene: &Scene<'_>) -> Verdict {
    let fault = &scene.fault;
    let mut words = Words::default();
    words.text("no fault: ");
    if fault.siginfo == Siginfo::Unknown {
        words.text("the signal was sent; this kernel does not report by whom");
        return Verdict::new(Cause::Sent, words);
    }
    let Some(sender) = fault.siginfo.sender() else {
        words.text(match fault.code {
            code::SI_TIMER => "a timer of the process sent the signal",
            _ => "the signal was sent; its code does not say by whom",
        });
        return Verdict::new(Cause::Sent, words);
    };
    words.text("sent by ");
    match sender.pid {
        Some(pid) if pid == scene.event.ns_pid => {
            words.text("the process itself");
        }
        Some(pid) => {
            words.text("process ").number(pid.into());
        }
        None => {
            words.text("the kernel, or by a process outside the receiver's pid namespace");
        }
    }
    let other = sender.pid.is_some_and(|pid| pid != scene.event.ns_pid);
    if let (true, Some(uid)) = (other, sender.uid) {
        words.text(" of user ").number(uid.into());
    }
    words.text(match fault.code {
        code::SI_USER => ", with kill",
        code::SI_QUEUE => ", with sigqueue",
        code::SI_TKILL => ", with tkill or raise",
        _ => ", through a message queue",
    });
    Verdict::new(Cause::Sent, words)
}

/// The verdict on a signal that says it was not sent, but was.
pub(super) fn made(scene: &Scene<'_>) -> Verdict {
    let mut words = Words::default();
    words.text("no fault: the process made this signal itself; it has a kernel's code, but no trap matches it");
    if let Some(number) = system_call(scene.event) {
        words.text(", in system call ");
        words.system_call(kernel_arch(scene.event), number);
    }
    Verdict::new(Cause::Sent, words)
}

/// Words for a SIGSEGV that the kernel raised without a trap.
pub(super) fn without_trap(scene: &Scene<'_>) -> Verdict {
    let mut words = Words::default();
    let call = system_call(scene.event).or_else(|| unfinished_call(scene));
    let arch = kernel_arch(scene.event);
    if call.is_some_and(|number| calls::is_exec(arch, number)) {
        words.text("exec of ");
        match &scene.event.exe {
            Some(exe) => words.bytes(exe),
            None => words.text("a program"),
        };
        words.text(" failed after the old program was gone: probably a part of the file or its interpreter could not be mapped, or memory ran out");
        return Verdict::new(Cause::Unknown, words);
    }
    if scene.arch == Arch::X86_64 && jump::is_vsyscall(scene.fault.pc.0) {
        return jump::of_vsyscall(scene);
    }
    words.text("the kernel raised the signal itself, not because an instruction faulted: ");
    match call {
        Some(number) => words.text("in system call ").system_call(arch, number),
        None => words.text("the frame of a signal handler was bad or had no room"),
    };
    Verdict::new(Cause::Unknown, words)
}

/// arm64: the system call of a process that has no memory layout yet: the previous program
/// in this process made it.
fn unfinished_call(scene: &Scene<'_>) -> Option<u64> {
    let own = scene.arch == Arch::Aarch64 && scene.evidence.chosen.earlier.is_none();
    let number = scene
        .register(8)
        .filter(|_| own && !scene.event.is_laid_out)?;
    calls::is_exec(Arch::Aarch64, number).then_some(number)
}
