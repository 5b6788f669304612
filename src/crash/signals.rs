//! Every signal, `si_code` and x86 trap that the tool knows: number, name and meaning,
//! defined once.
//!
//! Signals and codes: include/uapi/asm-generic/signal.h and siginfo.h of Linux, whose numbers
//! x86 and arm64 share. A number without a name keeps its number: `SIG34`, `code 77`.

use std::borrow::Cow;

use signal::{SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};

/// Numbers of signals, from include/uapi/asm-generic/signal.h.
pub mod signal {
    pub const SIGILL: i32 = 4;
    pub const SIGTRAP: i32 = 5;
    pub const SIGABRT: i32 = 6;
    pub const SIGBUS: i32 = 7;
    pub const SIGFPE: i32 = 8;
    pub const SIGSEGV: i32 = 11;
    pub const SIGSYS: i32 = 31;
}

/// `si_code` values, from include/uapi/asm-generic/siginfo.h.
pub mod code {
    pub const SI_USER: i32 = 0;
    pub const SI_QUEUE: i32 = -1;
    pub const SI_TIMER: i32 = -2;
    pub const SI_MESGQ: i32 = -3;
    pub const SI_TKILL: i32 = -6;
    pub const SI_KERNEL: i32 = 0x80;
    pub const SEGV_MAPERR: i32 = 1;
    pub const SEGV_ACCERR: i32 = 2;
    pub const SEGV_PKUERR: i32 = 4;
    pub const SEGV_MTEAERR: i32 = 8;
    pub const SEGV_MTESERR: i32 = 9;
    pub const SEGV_CPERR: i32 = 10;
    pub const BUS_ADRALN: i32 = 1;
    pub const BUS_ADRERR: i32 = 2;
    pub const FPE_INTDIV: i32 = 1;
    pub const TRAP_BRKPT: i32 = 1;
    pub const TRAP_TRACE: i32 = 2;
    pub const TRAP_HWBKPT: i32 = 4;
    pub const SYS_SECCOMP: i32 = 1;
    pub const SYS_USER_DISPATCH: i32 = 2;
}

/// Numbers of x86 traps, from arch/x86/include/asm/trapnr.h.
pub mod trap {
    pub const DIVISION: u64 = 0;
    pub const BREAKPOINT: u64 = 3;
    pub const UNDEFINED: u64 = 6;
    pub const STACK_SEGMENT: u64 = 12;
    pub const GENERAL_PROTECTION: u64 = 13;
    pub const PAGE_FAULT: u64 = 14;
    pub const CONTROL_PROTECTION: u64 = 21;
}

type Code = (i32, &'static str, &'static str);

const SEGV_CODES: [Code; 10] = [
    (code::SEGV_MAPERR, "SEGV_MAPERR", "Address not mapped"),
    (code::SEGV_ACCERR, "SEGV_ACCERR", "Access violation"),
    (3, "SEGV_BNDERR", "Bounds check failed"),
    (code::SEGV_PKUERR, "SEGV_PKUERR", "Protection key violation"),
    (
        5,
        "SEGV_ACCADI",
        "Data integrity not enabled for the address",
    ),
    (6, "SEGV_ADIDERR", "Data integrity mismatch, disrupting"),
    (7, "SEGV_ADIPERR", "Data integrity mismatch, precise"),
    (
        code::SEGV_MTEAERR,
        "SEGV_MTEAERR",
        "Memory tag mismatch, asynchronous",
    ),
    (code::SEGV_MTESERR, "SEGV_MTESERR", "Memory tag mismatch"),
    (
        code::SEGV_CPERR,
        "SEGV_CPERR",
        "Control protection violation",
    ),
];

const BUS_CODES: [Code; 5] = [
    (code::BUS_ADRALN, "BUS_ADRALN", "Address not aligned"),
    (
        code::BUS_ADRERR,
        "BUS_ADRERR",
        "No memory behind the address",
    ),
    (3, "BUS_OBJERR", "Hardware error"),
    (4, "BUS_MCEERR_AR", "Memory failure at the access"),
    (5, "BUS_MCEERR_AO", "Memory failure found elsewhere"),
];

const ILL_CODES: [Code; 11] = [
    (1, "ILL_ILLOPC", "Illegal opcode"),
    (2, "ILL_ILLOPN", "Illegal operand"),
    (3, "ILL_ILLADR", "Illegal addressing mode"),
    (4, "ILL_ILLTRP", "Illegal trap"),
    (5, "ILL_PRVOPC", "Privileged opcode"),
    (6, "ILL_PRVREG", "Privileged register"),
    (7, "ILL_COPROC", "Coprocessor error"),
    (8, "ILL_BADSTK", "Internal stack error"),
    (9, "ILL_BADIADDR", "Unimplemented instruction address"),
    (10, "ILL_BREAK", "Illegal break"),
    (11, "ILL_BNDMOD", "Bundle update in progress"),
];

const FPE_CODES: [Code; 15] = [
    (code::FPE_INTDIV, "FPE_INTDIV", "Integer division by zero"),
    (2, "FPE_INTOVF", "Integer overflow"),
    (3, "FPE_FLTDIV", "Floating-point division by zero"),
    (4, "FPE_FLTOVF", "Floating-point overflow"),
    (5, "FPE_FLTUND", "Floating-point underflow"),
    (6, "FPE_FLTRES", "Floating-point inexact result"),
    (7, "FPE_FLTINV", "Invalid floating-point operation"),
    (8, "FPE_FLTSUB", "Subscript out of range"),
    (9, "FPE_DECOVF", "Decimal overflow"),
    (10, "FPE_DECDIV", "Decimal division by zero"),
    (11, "FPE_DECERR", "Packed decimal error"),
    (12, "FPE_INVASC", "Invalid ASCII digit"),
    (13, "FPE_INVDEC", "Invalid decimal digit"),
    (14, "FPE_FLTUNK", "Undiagnosed floating-point exception"),
    (15, "FPE_CONDTRAP", "Trap on condition"),
];

const TRAP_CODES: [Code; 6] = [
    (code::TRAP_BRKPT, "TRAP_BRKPT", "Breakpoint"),
    (code::TRAP_TRACE, "TRAP_TRACE", "Trace trap"),
    (3, "TRAP_BRANCH", "Branch trap"),
    (
        code::TRAP_HWBKPT,
        "TRAP_HWBKPT",
        "Hardware breakpoint or watchpoint",
    ),
    (5, "TRAP_UNK", "Undiagnosed trap"),
    (6, "TRAP_PERF", "Performance event"),
];

const SYS_CODES: [Code; 2] = [
    (
        code::SYS_SECCOMP,
        "SYS_SECCOMP",
        "System call forbidden by seccomp",
    ),
    (
        code::SYS_USER_DISPATCH,
        "SYS_USER_DISPATCH",
        "System call dispatched to the user",
    ),
];

/// In place of the words for it, if an address is known all the same.
pub const KERNELS_BUT_WORKED_OUT: &str =
    "Raised by the kernel, address derived from the instruction (SI_KERNEL)";

/// Codes that every signal can have.
const COMMON_CODES: [Code; 10] = [
    (
        code::SI_KERNEL,
        "SI_KERNEL",
        "Raised by the kernel, no address",
    ),
    (code::SI_USER, "SI_USER", "Sent by kill"),
    (code::SI_QUEUE, "SI_QUEUE", "Sent by sigqueue"),
    (code::SI_TIMER, "SI_TIMER", "Sent by a timer"),
    (code::SI_MESGQ, "SI_MESGQ", "Sent by a message queue"),
    (-4, "SI_ASYNCIO", "Sent by asynchronous I/O"),
    (-5, "SI_SIGIO", "Sent by queued SIGIO"),
    (code::SI_TKILL, "SI_TKILL", "Sent by tkill"),
    (-7, "SI_DETHREAD", "Sent by execve to another thread"),
    (-60, "SI_ASYNCNL", "Sent by asynchronous name lookup"),
];

/// The signals that a crash can raise, in the order in which `--signals` names them.
pub const CRASH_SIGNALS: [i32; 7] = [SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS];

/// Names from 1 on, as include/uapi/asm-generic/signal.h has them.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// A signal's name without its `SIG`, which `--signals` takes too.
#[must_use]
pub fn short_name(number: i32) -> Option<&'static str> {
    let index = usize::try_from(number).ok()?.checked_sub(1)?;
    NAMES.get(index).copied()
}

/// A signal's name.
#[must_use]
pub fn signal_name(number: i32) -> String {
    match short_name(number) {
        Some(name) => format!("SIG{name}"),
        None => format!("SIG{number}"),
    }
}

fn find(signal: i32, code: i32) -> Option<&'static Code> {
    let own: &[Code] = match signal {
        SIGSEGV => &SEGV_CODES,
        SIGBUS => &BUS_CODES,
        SIGILL => &ILL_CODES,
        SIGFPE => &FPE_CODES,
        SIGTRAP => &TRAP_CODES,
        SIGSYS => &SYS_CODES,
        _ => &[],
    };
    own.iter()
        .chain(&COMMON_CODES)
        .find(|known| known.0 == code)
}

/// A code's name, as the kernel's header has it.
#[must_use]
pub fn code_name(signal: i32, code: i32) -> Cow<'static, str> {
    match find(signal, code) {
        Some((_, name, _)) => (*name).into(),
        None => format!("code {code}").into(),
    }
}

/// The manual's Fault Type: `Access violation (SEGV_ACCERR)`.
#[must_use]
pub fn fault_type(signal: i32, code: i32) -> String {
    match find(signal, code) {
        Some((_, name, meaning)) => format!("{meaning} ({name})"),
        None => format!("Unknown (code {code})"),
    }
}

/// The word that the manual's JSON has for it.
#[must_use]
pub fn fault_type_token(signal: i32, code: i32) -> &'static str {
    match (signal, code) {
        (SIGSEGV, code::SEGV_MAPERR) => "map_error",
        (SIGSEGV, code::SEGV_ACCERR) => "access_error",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manuals_words() {
        assert_eq!(fault_type(SIGSEGV, 1), "Address not mapped (SEGV_MAPERR)");
        assert_eq!(fault_type(SIGSEGV, 2), "Access violation (SEGV_ACCERR)");
        assert_eq!(fault_type(SIGSEGV, 77), "Unknown (code 77)");
        assert_eq!(code_name(SIGSEGV, 77), "code 77");
        assert_eq!(fault_type_token(SIGSEGV, 1), "map_error");
        assert_eq!(fault_type_token(SIGSEGV, 0x80), "unknown");
        assert_eq!(fault_type_token(SIGBUS, 2), "unknown");
    }

    #[test]
    fn codes_of_one_signal_have_names_of_their_own() {
        for signal_number in [SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGABRT] {
            let mut names: Vec<_> = (-100..200)
                .filter(|&number| find(signal_number, number).is_some())
                .map(|number| code_name(signal_number, number))
                .collect();
            let count = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), count);
        }
        assert_eq!(signal_name(34), "SIG34");
        assert_eq!(code_name(SIGBUS, 2), "BUS_ADRERR");
        assert_eq!(code_name(SIGABRT, -6), "SI_TKILL");
    }
}
