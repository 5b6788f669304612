//! Names of signals and of their codes, and what the codes mean.
//!
//! Numbers are those of the kernel, include/uapi/asm-generic/siginfo.h and
//! signal.h, which x86 and arm64 share. A number without a name keeps its
//! number: `SIG34`, `code 77`.

use std::borrow::Cow;

// include/uapi/asm-generic/signal.h, and arch/x86/include/uapi/asm/signal.h
const SIGILL: i32 = 4;
const SIGTRAP: i32 = 5;
const SIGBUS: i32 = 7;
const SIGFPE: i32 = 8;
pub(super) const SIGSEGV: i32 = 11;
const SIGSYS: i32 = 31;

// include/uapi/asm-generic/siginfo.h
const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;

type Code = (i32, &'static str, &'static str);

const SEGV_CODES: [Code; 10] = [
    (SEGV_MAPERR, "SEGV_MAPERR", "Address not mapped"),
    (SEGV_ACCERR, "SEGV_ACCERR", "Access violation"),
    (3, "SEGV_BNDERR", "Bounds check failed"),
    (4, "SEGV_PKUERR", "Protection key violation"),
    (
        5,
        "SEGV_ACCADI",
        "Data integrity not enabled for the address",
    ),
    (6, "SEGV_ADIDERR", "Data integrity mismatch, disrupting"),
    (7, "SEGV_ADIPERR", "Data integrity mismatch, precise"),
    (8, "SEGV_MTEAERR", "Memory tag mismatch, asynchronous"),
    (9, "SEGV_MTESERR", "Memory tag mismatch"),
    (10, "SEGV_CPERR", "Control protection violation"),
];

const BUS_CODES: [Code; 5] = [
    (1, "BUS_ADRALN", "Address not aligned"),
    (2, "BUS_ADRERR", "No memory behind the address"),
    (3, "BUS_OBJERR", "Hardware error of the object"),
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
    (1, "FPE_INTDIV", "Integer division by zero"),
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
    (1, "TRAP_BRKPT", "Breakpoint"),
    (2, "TRAP_TRACE", "Trace trap"),
    (3, "TRAP_BRANCH", "Branch trap"),
    (4, "TRAP_HWBKPT", "Hardware breakpoint or watchpoint"),
    (5, "TRAP_UNK", "Undiagnosed trap"),
    (6, "TRAP_PERF", "Performance event"),
];

const SYS_CODES: [Code; 2] = [
    (1, "SYS_SECCOMP", "System call forbidden by seccomp"),
    (2, "SYS_USER_DISPATCH", "System call dispatched to the user"),
];

pub(super) const SI_KERNEL: i32 = 0x80;
/// In place of the words for it, where an address is known all the same.
pub(super) const KERNELS_BUT_WORKED_OUT: &str =
    "Raised by the kernel, address worked out from the instruction (SI_KERNEL)";

/// Codes that every signal can have.
const COMMON_CODES: [Code; 10] = [
    (SI_KERNEL, "SI_KERNEL", "Raised by the kernel, no address"),
    (0, "SI_USER", "Sent by kill"),
    (-1, "SI_QUEUE", "Sent by sigqueue"),
    (-2, "SI_TIMER", "Sent by a timer"),
    (-3, "SI_MESGQ", "Sent by a message queue"),
    (-4, "SI_ASYNCIO", "Sent by asynchronous I/O"),
    (-5, "SI_SIGIO", "Sent by queued SIGIO"),
    (-6, "SI_TKILL", "Sent by tkill"),
    (-7, "SI_DETHREAD", "Sent by execve to another thread"),
    (-60, "SI_ASYNCNL", "Sent by asynchronous name lookup"),
];

/// A signal's name.
pub fn signal(number: i32) -> Cow<'static, str> {
    match number {
        1..=30 => format!("SIG{}", NAMES[number as usize - 1]).into(),
        SIGSYS => "SIGSYS".into(),
        other => format!("SIG{other}").into(),
    }
}

/// Names from 1 on, as include/uapi/asm-generic/signal.h has them.
const NAMES: [&str; 30] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR",
];

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
pub fn code(signal: i32, code: i32) -> Cow<'static, str> {
    match find(signal, code) {
        Some((_, name, _)) => (*name).into(),
        None => format!("code {code}").into(),
    }
}

/// The manual's Fault Type: `Access violation (SEGV_ACCERR)`.
pub fn fault_type(signal: i32, code: i32) -> String {
    match find(signal, code) {
        Some((_, name, meaning)) => format!("{meaning} ({name})"),
        None => format!("Unknown (code {code})"),
    }
}

/// The token that the manual's JSON has for it.
pub fn fault_type_token(signal: i32, code: i32) -> &'static str {
    match (signal, code) {
        (SIGSEGV, SEGV_MAPERR) => "map_error",
        (SIGSEGV, SEGV_ACCERR) => "access_error",
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
        assert_eq!(code(SIGSEGV, 77), "code 77");
        assert_eq!(fault_type_token(SIGSEGV, 1), "map_error");
        assert_eq!(fault_type_token(SIGSEGV, 0x80), "unknown");
        assert_eq!(fault_type_token(SIGBUS, 2), "unknown");
    }

    #[test]
    fn codes_of_one_signal_have_names_of_their_own() {
        for signal_number in [SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, 6] {
            let mut names: Vec<_> = (-100..200)
                .filter(|&number| find(signal_number, number).is_some())
                .map(|number| code(signal_number, number))
                .collect();
            let count = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), count);
        }
        assert_eq!(signal(34), "SIG34");
        assert_eq!(code(SIGBUS, 2), "BUS_ADRERR");
        assert_eq!(code(6, -6), "SI_TKILL");
    }
}
