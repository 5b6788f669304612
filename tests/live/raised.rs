//! Why it ended, of other signals than SIGSEGV: `--signals all`. The header names the
//! signal, the code has its name, and every number of a sentence is a true one.

use std::os::unix::process::ExitStatusExt;

use regex_lite::Regex;

use crate::causes::{assert_cause, assert_registers_are_true, number_after};
use crate::harness::{crash, status_of, Monitor};
use crate::programs::{Program, PIE, STATIC};
use crate::report::{only, Report};
use crate::skip::need_x86_64;
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        raised_by_the_processor_and_the_kernel,
        raised_headers_in_text,
        raised_by_glibc,
        raised_by_uncaught_exceptions,
        raised_by_panics,
        raised_again_is_no_fault,
    ],
    Needs::Tool("musl-gcc") => [raised_by_musl],
}

/// How the crash programs are built.
pub const MATH: &[&str] = &["-fPIE", "-pie", "-lm"];
pub const ABORTING: &[&str] = &["-Cpanic=abort"];
pub const CHECKED: &[&str] = &[
    "-fPIE",
    "-pie",
    "-fstack-protector-all",
    "-U_FORTIFY_SOURCE",
    "-D_FORTIFY_SOURCE=2",
];

/// The one report of a program that dies by whatever signal.
fn death(program: &Program, kind: &str, options: &[&str]) -> Report {
    let all = [
        "-n",
        &program.name,
        "--format",
        "json",
        "--signals",
        "all",
        "--stats",
    ];
    let monitor = Monitor::start([&all[..], options].concat());
    let status = status_of(program.command().arg(kind));
    assert!(status.signal().is_some(), "{kind}: {status:?}");
    only(monitor.stop().reports())
}

/// Kind, signal, code, cause, and the sentence.
type Trap = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

/// What the numbers in the sentences are follows from tests/crashers/traps.c.
const TRAPS: &[Trap] = &[
    (
        "zero",
        "SIGFPE",
        "FPE_INTDIV",
        "division_by_zero",
        r"^division by zero: (the divisor is [A-Z0-9]+|by any other number the quotient would fit)$",
    ),
    (
        "least",
        "SIGFPE",
        "FPE_INTDIV",
        "division_overflow",
        "^the quotient -2147483648 / -1 does not fit into 4 bytes; the divisor is [A-Z0-9]+$",
    ),
    (
        "wide",
        "SIGFPE",
        "FPE_INTDIV",
        "division_by_zero",
        r"^division by zero: (the divisor is [A-Z0-9]+|by any other number the quotient would fit)$",
    ),
    (
        "byte",
        "SIGFPE",
        "FPE_INTDIV",
        "division_by_zero",
        "^division by zero: the divisor is RCX$",
    ),
    (
        "large",
        "SIGFPE",
        "FPE_INTDIV",
        "division_overflow",
        "^the quotient of a division by 3 does not fit into 8 bytes; the divisor is R9$",
    ),
    (
        "float",
        "SIGFPE",
        "FPE_FLTDIV",
        "floating_point",
        "^floating-point division by zero: the program has enabled a signal for it$",
    ),
    (
        "invalid",
        "SIGFPE",
        "FPE_FLTINV",
        "floating_point",
        "^an invalid floating-point operation: the program has enabled a signal for it$",
    ),
    (
        "huge",
        "SIGFPE",
        "FPE_FLTOVF",
        "floating_point",
        "^a floating-point result that is too large: the program has enabled a signal for it$",
    ),
    (
        "x87",
        "SIGFPE",
        "FPE_FLTDIV",
        "floating_point",
        "^floating-point division by zero: the program has enabled a signal for it$",
    ),
    (
        "ud2",
        "SIGILL",
        "ILL_ILLOPN",
        "undefined_instruction",
        "^the instruction 0f 0b always traps: probably a failed check, an abort, ",
    ),
    (
        "none",
        "SIGILL",
        "ILL_ILLOPN",
        "undefined_instruction",
        "^not an instruction that the processor knows: 06( [0-9a-f]{2}){7}$",
    ),
    (
        "int3",
        "SIGTRAP",
        "SI_KERNEL",
        "breakpoint",
        "^a breakpoint instruction without a debugger: probably a failed check or an abort$",
    ),
    (
        "int_3",
        "SIGTRAP",
        "SI_KERNEL",
        "breakpoint",
        "^a breakpoint instruction without a debugger: probably a failed check or an abort$",
    ),
    (
        "step",
        "SIGTRAP",
        "TRAP_TRACE",
        "breakpoint",
        "^a single step without a debugger$",
    ),
    (
        "seccomp",
        "SIGSYS",
        "SYS_SECCOMP",
        "forbidden_system_call",
        r"^system call 110 \(getppid, x86_64\) was refused by a seccomp filter$",
    ),
    (
        "bus",
        "SIGBUS",
        "BUS_ADRERR",
        "beyond_file",
        "^read of 1 byte at 0x[0-9a-f]+010, offset 0x1010 of /memfd:short, which has 100 bytes: 4012 bytes past its end$",
    ),
    (
        "write",
        "SIGBUS",
        "BUS_ADRERR",
        "beyond_file",
        "^write of 1 byte at 0x[0-9a-f]+020, offset 0x1020 of /memfd:short, which has 100 bytes: 4028 bytes past its end$",
    ),
    (
        "aligned",
        "SIGBUS",
        "BUS_ADRALN",
        "misaligned",
        r"^read of 4 bytes at 0x[0-9a-f]+2 without the alignment that it needs: [A-Z0-9]+ \(0x[0-9a-f]+0\) \+ 0x2$",
    ),
    (
        "segment",
        "SIGBUS",
        "SI_KERNEL",
        "non_canonical",
        r#"^write of 8 bytes at 0x424242424242423a, which is not a canonical address: RSP \(0x4242424242424242\) - 0x8; RSP looks like the text "BBBBBBBB"$"#,
    ),
];

fn raised_by_the_processor_and_the_kernel() {
    need_x86_64();
    let program = Program::built("traps.c", MATH);
    for (kind, signal, code, cause, text) in TRAPS {
        let report = death(&program, kind, &["-r", "-t"]);
        assert_eq!(report["signal"], *signal, "{}", report.line);
        assert_eq!(report["signal_code"], *code, "{}", report.line);
        assert_cause(&report, cause, text);
        assert_registers_are_true(&report);
        if *signal == "SIGBUS" {
            let address = number_after(&report, " at ");
            assert_eq!(address, report.hex("fault_address"), "{}", report.line);
        }
        // Behind the instruction; and a call that is refused has no other.
        let behind = matches!(*signal, "SIGTRAP" | "SIGSYS");
        assert_eq!(
            report["code"]["operands"].is_null(),
            behind || *kind == "none",
            "{}",
            report.line
        );
        if *kind != "seccomp" && *kind != "segment" {
            let function = format!("do_{kind}");
            assert_eq!(report.functions()[0], function, "{}", report.line);
        }
    }
}

fn raised_headers_in_text() {
    need_x86_64();
    let program = Program::built("traps.c", MATH);
    let monitor = Monitor::start(["-n", &program.name, "--signals", "all"]);
    for (kind, ..) in TRAPS {
        status_of(program.command().arg(kind));
    }
    let outcome = monitor.stop();
    let reports: Vec<&str> = outcome.text().trim_end().split("\n\n").collect();
    assert_eq!(reports.len(), TRAPS.len(), "{}", outcome.text());
    for (report, (_, signal, code, cause, _)) in reports.iter().zip(TRAPS) {
        let header = format!(
            r"^\[[-0-9 :.]+\] {signal} in process {} \(PID: \d+, TID: \d+\)\n",
            program.name
        );
        let fault = format!(r"\n  Fault Type:    [^\n]+ \({code}\)\n");
        let why = format!(r"  Cause:         [^\n]+ \({cause}\)");
        let whole = format!("(?s){header}.*{fault}(.*\n)?{why}");
        assert!(
            Regex::new(&whole).expect("a pattern").is_match(report),
            "{report}"
        );
    }
}

/// Kind, cause, and the sentence. Names of functions that a C library keeps to itself
/// are known only where it has a symbol table.
const GLIBC: &[(&str, &str, &str)] = &[
    ("abort", "abort", "^abort was called by do_abort$"),
    ("assert", "abort", "^an assertion failed, in do_assert$"),
    (
        "smash",
        "stack_smashing",
        "^the stack protector found an overwritten canary, in do_smash$",
    ),
    (
        "fortify",
        "abort",
        "^_FORTIFY_SOURCE found a buffer overflow, in __strcpy_chk, called by do_fortify$",
    ),
    (
        "twice",
        "abort",
        "^(probably )?the C library's heap check failed, in free, called by do_twice$",
    ),
    (
        "middle",
        "abort",
        "^(probably )?the C library's heap check failed, in free, called by do_middle$",
    ),
    (
        "beyond",
        "abort",
        "^(probably )?the C library's heap check failed, in free, called by do_beyond$",
    ),
];

/// Names are those of the stack; without call-frame information few frames are sure.
#[track_caller]
fn assert_aborted(report: &Report, cause: &str, text: &str) {
    assert_eq!(report["signal"], "SIGABRT", "{}", report.line);
    assert_eq!(report["signal_code"], "SI_TKILL", "{}", report.line);
    if cfg!(feature = "dwarf") {
        assert_cause(report, cause, text);
    } else {
        let known = ["abort", cause].contains(&report.str("cause"));
        assert!(known, "{}", report.line);
    }
}

fn raised_by_glibc() {
    let checked_and_static = [STATIC, &["-fstack-protector-all", "-O2"]].concat();
    for flags in [CHECKED, &checked_and_static] {
        let program = Program::built("aborts.c", flags);
        for (kind, cause, text) in GLIBC {
            if *kind != "fortify" || flags == CHECKED {
                assert_aborted(&death(&program, kind, &["-t"]), cause, text);
            }
        }
    }
}

fn raised_by_uncaught_exceptions() {
    let program = Program::built("uncaught.cc", PIE);
    let thrown = "^a C\\+\\+ exception that nothing caught was thrown, in ";
    let ended = "^C\\+\\+ code called std::terminate, in ";
    for (kind, text, function) in [
        ("thrown", thrown, "do_thrown$"),
        ("noexcept", thrown, "throws$"),
        ("terminate", ended, "do_terminate$"),
        ("pure", ended, "__cxa_pure_virtual, called by Base::early$"),
    ] {
        let report = death(&program, kind, &["-t"]);
        assert_aborted(&report, "abort", &format!("{text}{function}"));
    }
}

fn raised_by_panics() {
    let program = Program::built("panics.rs", ABORTING);
    for (kind, text) in [
        (
            "index",
            "core::panicking::panic_bounds_check, called by panics::do_index$",
        ),
        ("unwrap", "unwrap_failed, called by panics::do_unwrap$"),
        ("abort", "process::abort, called by panics::do_abort$"),
    ] {
        let text = format!("^Rust code panicked or aborted, in .*{text}");
        assert_aborted(&death(&program, kind, &["-t"]), "abort", &text);
    }
}

/// Its checks do not abort: they crash, by an instruction that is not for users.
fn raised_by_musl() {
    need_x86_64();
    let heap = "^hlt, which is for the kernel only: probably musl's heap check, which crashes on purpose, in ";
    for (flags, named) in [(PIE, false), (STATIC, true)] {
        let flags = [flags, &["-fstack-protector-all"]].concat();
        let program = Program::built_by("musl-gcc", "aborts.c", &flags);
        for (kind, cause, text) in &GLIBC[..2] {
            assert_aborted(&death(&program, kind, &["-t"]), cause, text);
        }
        let smashed = death(&program, "smash", &["-t"]);
        assert_eq!(smashed["signal_code"], "SI_KERNEL", "{}", smashed.line);
        let text = match cfg!(feature = "dwarf") {
            true => "stack protector found an overwritten canary in do_smash$",
            false => "stack protector found an overwritten canary",
        };
        assert_cause(&smashed, "stack_smashing", text);
        // The function that looks is one of the library's own.
        for kind in ["middle", "beyond"] {
            let report = death(&program, kind, &["-t"]);
            let text = if named {
                heap
            } else {
                "^hlt, which is for the kernel only: "
            };
            assert_cause(&report, "privileged_instruction", text);
        }
    }
}

/// A program may send itself any of them.
fn raised_again_is_no_fault() {
    let program = Program::new("forged.c");
    let monitor = Monitor::start([
        "-n",
        &program.name,
        "--format",
        "json",
        "--signals",
        "all",
        "-r",
    ]);
    crash(program.command().arg("raise"));
    let report = only(monitor.stop().reports());
    assert_eq!(report["cause"], "sent", "{}", report.line);
    assert!(report["code"]["operands"].is_null(), "{}", report.line);
}
