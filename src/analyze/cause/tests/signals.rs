//! Signals that are no page fault: sent, made, traps; and two deliveries of one death.

use super::*;

const OWN: u64 = 77;
const ROOT: u64 = 0;

fn x86(code: &[u8], registers: &[(&str, u64)]) -> Made {
    Made::new(Arch::X86_64).at(code, registers)
}

fn arm(code: u32) -> Made {
    Made::new(Arch::Aarch64).at(&code.to_le_bytes(), &[])
}

fn sent(code: i32, pid: u64, uid: u64) -> Made {
    let mut made = x86(&[], &[]).signal(signal::SIGSEGV, code, 0);
    made.says(uid << 32 | pid);
    made
}

/// The system call that the thread is in.
fn in_call(made: &mut Made, number: u64) {
    let mut words = [0; WORDS];
    words[15] = number;
    let mut registers = Registers::new(Arch::X86_64, words);
    set(&mut registers, "rip", PC);
    set(&mut registers, "rsp", STACK + 0x2_0000);
    made.event.registers = Some(registers);
}

#[test]
fn senders() {
    sent(code::SI_USER, 5, 1000).is(
        Cause::Sent,
        "no fault: sent by process 5 of user 1000, with kill",
    );
    sent(code::SI_TKILL, OWN, ROOT).is(
        Cause::Sent,
        "no fault: sent by the process itself, with tkill or raise",
    );
    sent(code::SI_QUEUE, 0, ROOT).is(
        Cause::Sent,
        "no fault: sent by the kernel, or by a process outside the receiver's pid namespace, with sigqueue",
    );
    sent(code::SI_TIMER, 3, ROOT).is(
        Cause::Sent,
        "no fault: a timer of the process sent the signal",
    );
}

/// `rt_sigqueueinfo` with a kernel's code.
#[test]
fn forged_codes() {
    let said = "no fault: the process made this signal itself; it has a kernel's code, but no trap matches it, in system call 129 (rt_sigqueueinfo)";
    for code in [code::SEGV_MAPERR, code::SI_KERNEL] {
        let mut made = x86(&[], &[]).signal(signal::SIGSEGV, code, 0);
        made.says(0x1234);
        in_call(&mut made, 129);
        made.is(Cause::Sent, said);
    }
    // By another thread, while this one was computing: nothing was at that address.
    let mut made = x86(&[], &[]).page_fault(code::SEGV_MAPERR, 0x1000, Access::Read);
    made.says(0x1234);
    assert_eq!(made.verdict().cause, Cause::Sent);
    // The same on aarch64, where the thread never had a fault.
    let mut made = arm(0xf940_0000);
    made.says(0x1234);
    assert_eq!(made.verdict().cause, Cause::Sent);
    // dc cvau, x0
    let mut made =
        Made::new(Arch::Aarch64).at(&0xd50b_7b20_u32.to_le_bytes(), &[("x0", 0x12_3456)]);
    made.says(0x12_3456);
    assert_eq!(made.verdict().cause, Cause::Unknown, "is no trap");
    // mov x8, #138; svc #0
    let mut made = Made::new(Arch::Aarch64).at(&[], &[("x8", 138)]);
    made.event.code_bytes.bytes[12..16].copy_from_slice(&0xd400_0001_u32.to_le_bytes());
    made.says(0x1234);
    assert_eq!(made.verdict().cause, Cause::Sent);
}

/// A kernel's code without a trap is not always a forgery.
#[test]
fn the_kernels_own_signals() {
    let mut made = x86(&[], &[]).signal(signal::SIGSEGV, code::SI_KERNEL, 0);
    made.is(
        Cause::Unknown,
        "the kernel raised the signal itself, not because an instruction faulted: \
         the frame of a signal handler was bad or had no room",
    );
    in_call(&mut made, 15);
    made.is(
        Cause::Unknown,
        "the kernel raised the signal itself, not because an instruction faulted: \
         in system call 15 (rt_sigreturn)",
    );
    in_call(&mut made, 59);
    made.event.exe = Some(b"/srv/new".to_vec());
    made.is(
        Cause::Unknown,
        "exec of /srv/new failed after the old program was gone: probably a part of the file or its interpreter could not be mapped, or memory ran out",
    );
}

fn earlier(pc: u64, address: u64, boot_ns: u64) -> EarlierFault {
    EarlierFault {
        signal: signal::SIGSEGV,
        code: code::SEGV_MAPERR,
        siginfo: Siginfo::Address(ProcessAddress(address)),
        pc: ProcessAddress(pc),
        trap: Some(Trap {
            address,
            error_code: 6,
            number: trap::PAGE_FAULT,
        }),
        boot_ns,
    }
}

#[test]
fn a_fault_whose_handler_raised_the_signal_anew() {
    let mut made = sent(code::SI_TKILL, OWN, ROOT);
    made.event.first_fault = Some(earlier(PC + 4, 0x18, 999_000_000));
    made.is(
        Cause::NullDereference,
        "write at 0x18: probably a null pointer + 0x18; \
         probably a handler took this fault shortly before the signal",
    );
    // So long ago that the program must have survived it.
    for age_ns in [100_000_000, 60_000_000_000] {
        made.event.boot_ns += age_ns;
        assert_eq!(made.verdict().cause, Cause::Sent);
        made.event.boot_ns -= age_ns;
    }
    // abort(), or kill() of another program, has nothing to do with it.
    made.event.signal = signal::SIGABRT;
    assert_eq!(made.verdict().cause, Cause::Abort);
    made.event.signal = signal::SIGSEGV;
    made.says(5);
    assert_eq!(made.verdict().cause, Cause::Sent, "killed by another");
}

/// The siginfo may be handed on as it came (`rt_tgsigqueueinfo`).
#[test]
fn a_fault_that_was_queued_anew() {
    let mut made = x86(&[], &[]).page_fault(code::SEGV_MAPERR, 0x18, Access::Write);
    in_call(&mut made, 297);
    made.event.first_fault = Some(earlier(PC + 4, 0x18, 999_000_000));
    assert_eq!(made.verdict().cause, Cause::NullDereference);
}

/// The registers are still those of the fault.
#[test]
fn an_overflow_that_leaves_no_room_for_its_handler() {
    // push %rbp
    let mut made = x86(&[0x55], &[("rsp", STACK)]).protection();
    made.event.trap = earlier(PC, STACK - 8, 0).trap;
    made.event.first_fault = Some(earlier(PC, STACK - 8, 999_000_000));
    made.is(
        Cause::StackOverflow,
        "stack overflow: write of 8 bytes at 0x7ffcfffffff8, 8 bytes below the stack pointer \
         0x7ffd00000000; its stack, [stack] (rw-), ends at 0x7ffd00000000 and has 132 KB; \
         the signal's handler could not be run",
    );
}

#[test]
fn frames_tell_whether_a_handler_is_still_there() {
    use crate::crash::frame::{Frame, Stop, Trust};
    use crate::unwind::Walk;
    let mut made = sent(code::SI_TKILL, OWN, ROOT);
    made.event.first_fault = Some(earlier(PC + 4, 0x18, 999_000_000));
    let frame = |address| Frame {
        code: crate::crash::frame::CodeAddress::Exact(ProcessAddress(address)),
        trust: Trust::Signal,
    };
    let mut walk = Walk {
        frames: vec![frame(PC), frame(PC + 4)],
        stop: Stop::Outermost,
        uncertain: false,
        certain: 0,
        interrupted: None,
    };
    assert_eq!(made.chosen_of(Some(&walk)).earlier, Some(Earlier::Handled));
    walk.frames.pop();
    assert_eq!(made.chosen_of(Some(&walk)).earlier, None);
}

#[test]
fn a_fault_of_its_own_is_not_blamed_on_an_earlier_one() {
    let mut made = x86(&[0x48, 0x8b, 0x00], &[("rax", 8)]);
    made = made.page_fault(code::SEGV_MAPERR, 8, Access::Read);
    made.event.first_fault = Some(earlier(PC + 4, 0x18, 999_000_000));
    assert!(made.verdict().text.starts_with(b"read of 8 bytes at 0x8"));
}

#[test]
fn bus_errors() {
    let at = |address| {
        // mov (%rax), %rax
        let made = x86(&[0x48, 0x8b, 0x00], &[("rax", address)]);
        let made = made.page_fault(code::BUS_ADRERR, address, Access::Read);
        made.signal(signal::SIGBUS, code::BUS_ADRERR, trap::PAGE_FAULT)
    };
    // The file has 0x1800 bytes; the mapping has those from 0x1000.
    at(DATA + 0x1000).is(
        Cause::BeyondFile,
        "read of 8 bytes at 0x7f0020001000, offset 0x2000 of /tmp/data, \
         which has 6144 bytes: 2048 bytes past its end",
    );
    assert_eq!(at(DATA + 0x100).verdict().cause, Cause::Unknown);
    assert_eq!(at(HEAP).verdict().cause, Cause::Unknown);
    // push %rbp with a stack pointer that is not an address
    x86(&[0x55], &[("rsp", 0x4141_4141_4141_4141)])
        .signal(signal::SIGBUS, code::SI_KERNEL, trap::STACK_SEGMENT)
        .is(
            Cause::NonCanonical,
            "write of 8 bytes at 0x4141414141414139, which is not a canonical address: \
             RSP (0x4141414141414141) - 0x8; RSP looks like the text \"AAAAAAAA\"",
        );
}

#[test]
fn missing_alignment() {
    // ldaxr w0, [x1]
    let mut made = Made::new(Arch::Aarch64).at(&0x885f_fc20_u32.to_le_bytes(), &[("x1", HEAP + 2)]);
    made.event.signal = signal::SIGBUS;
    made.event.code = code::BUS_ADRALN;
    made.says(HEAP + 2);
    made.event.trap = Some(Trap {
        address: HEAP + 2,
        error_code: 0x9200_0021,
        number: 0,
    });
    made.is(
        Cause::Misaligned,
        "read of 4 bytes at 0x555555570002 without the alignment that it needs: \
         X1 (0x555555570002)",
    );
    made.trap().error_code = 0x9a00_0000;
    made.is(
        Cause::Misaligned,
        "the stack pointer 0x7ffd00020000 is not a multiple of 16",
    );
}

#[test]
fn divisions() {
    let trap = |code: &[u8], registers: &[(&str, u64)]| {
        let mut made = x86(code, registers).signal(signal::SIGFPE, code::FPE_INTDIV, 0);
        made.says(PC);
        made
    };
    // idiv %ecx
    trap(&[0xf7, 0xf9], &[("rcx", 0xffff_ffff_0000_0000)]).is(
        Cause::DivisionByZero,
        "division by zero: the divisor is RCX",
    );
    // div %r9
    trap(&[0x49, 0xf7, 0xf1], &[("r9", 0)])
        .is(Cause::DivisionByZero, "division by zero: the divisor is R9");
    // idiv %ecx
    trap(
        &[0xf7, 0xf9],
        &[
            ("rcx", 0xffff_ffff),
            ("rax", 0x8000_0000),
            ("rdx", 0xffff_ffff),
        ],
    )
    .is(
        Cause::DivisionOverflow,
        "the quotient -2147483648 / -1 does not fit into 4 bytes; the divisor is RCX",
    );
    // div %ah
    trap(&[0xf6, 0xf4], &[("rax", 0x0012)]).is(
        Cause::DivisionByZero,
        "division by zero: the divisor is RAX",
    );
    // idivl -8(%rbp), not captured: 7 divided by anything else would fit.
    let mut made = trap(
        &[0xf7, 0x7d, 0xf8],
        &[("rax", 7), ("rdx", 0), ("rbp", STACK + 0x100)],
    );
    made.is(
        Cause::DivisionByZero,
        "division by zero: with any other divisor the quotient would fit",
    );
    made = made.at(&[], &[("rax", 0x8000_0000), ("rdx", 0xffff_ffff)]);
    assert_eq!(made.verdict().cause, Cause::Unknown);
    made.event.windows.push(MemoryWindow {
        address: ProcessAddress(STACK + 0xf8),
        bytes: vec![0; 4],
    });
    made.is(
        Cause::DivisionByZero,
        "division by zero: the divisor is the 4 bytes at 0x7ffd000000f8",
    );
    made.event.windows[0].bytes = vec![0xff; 4];
    made.is(
        Cause::DivisionOverflow,
        "the quotient -2147483648 / -1 does not fit into 4 bytes; \
         the divisor is the 4 bytes at 0x7ffd000000f8",
    );
    // div %rcx
    trap(&[0x48, 0xf7, 0xf1], &[("rcx", 3), ("rax", 0), ("rdx", 3)]).is(
        Cause::DivisionOverflow,
        "the quotient of a division by 3 does not fit into 8 bytes; the divisor is RCX",
    );
}

#[test]
fn floating_point() {
    let mut made = x86(&[], &[]).signal(signal::SIGFPE, 3, 19);
    made.says(PC);
    made.is(
        Cause::FloatingPoint,
        "floating-point division by zero: the program has enabled a signal for it",
    );
}

#[test]
fn undefined_instructions() {
    let trap = |code: &[u8]| {
        let mut made = x86(code, &[]).signal(signal::SIGILL, 2, trap::UNDEFINED);
        made.says(PC);
        made
    };
    trap(&[0x0f, 0x0b]).is(
        Cause::UndefinedInstruction,
        "the instruction 0f 0b always traps: probably a failed check, an abort, or code that the compiler considered unreachable",
    );
    let mut made = trap(&[0x0f, 0x0b]);
    made.says(PC + 1);
    assert_eq!(made.verdict().cause, Cause::Sent, "not where it was");
    let mut made = arm(0).signal(signal::SIGILL, 1, 0);
    made.says(PC);
    made.is(
        Cause::UndefinedInstruction,
        "not an instruction that the processor knows: 00 00 00 00",
    );
    // msr ttbr0_el1, x0
    let mut made = arm(0xd518_2000).signal(signal::SIGILL, 1, 0);
    made.says(PC);
    made.trap().error_code = 0x6200_0000;
    made.is(
        Cause::PrivilegedInstruction,
        "the instruction 00 20 18 d5 is for the kernel only",
    );
}

#[test]
fn breakpoints() {
    let made = x86(&[], &[]).signal(signal::SIGTRAP, code::SI_KERNEL, trap::BREAKPOINT);
    assert_eq!(made.verdict().cause, Cause::Breakpoint);
    for code in [code::TRAP_BRKPT, code::TRAP_TRACE, code::TRAP_HWBKPT] {
        let made = arm(0xd420_0020).signal(signal::SIGTRAP, code, 0);
        assert_eq!(made.verdict().cause, Cause::Breakpoint);
    }
}

#[test]
fn forbidden_system_calls() {
    x86(&[], &[("rax", 59)])
        .signal(signal::SIGSYS, code::SYS_SECCOMP, 0)
        .is(
            Cause::ForbiddenSystemCall,
            "system call 59 (execve, x86_64) was refused by a seccomp filter",
        );
    let mut reported = x86(&[], &[]).signal(signal::SIGSYS, code::SYS_SECCOMP, 0);
    reported.event.siginfo_more = Some([0xc000_003e_0000_006e, 0]);
    reported.is(
        Cause::ForbiddenSystemCall,
        "system call 110 (getppid, x86_64) was refused by a seccomp filter",
    );
    Made::new(Arch::Aarch64)
        .at(&[], &[("x8", 221)])
        .signal(signal::SIGSYS, code::SYS_SECCOMP, 0)
        .is(
            Cause::ForbiddenSystemCall,
            "system call 221 (execve, aarch64) was refused by a seccomp filter",
        );
}
