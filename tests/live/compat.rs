//! Programs of 32 bits on a 64-bit kernel: registers by their own names, stacks
//! of words of 4 bytes.
//!
//! They need a compiler that links such programs (`cc -m32`; Debian's
//! gcc-multilib), which x86_64 has.

use crate::harness::{crash, Monitor};
use crate::programs::Program;
use crate::report::{only, parse_hex, Report};
use crate::{cases, Needs};

use super::chains::DEEP;

cases! {
    Needs::Compat => [
        compat_deep_in_each_build,
        compat_registers,
        compat_handlers,
        compat_handler_that_interrupts_code,
        compat_handler_that_interrupts_a_system_call,
        compat_callback_of_qsort,
        compat_thread,
        compat_handlers_on_an_alternate_stack,
        compat_call_of_null,
        compat_signal_sent_to_itself,
        compat_without_tables,
    ],
}

const BUILDS: [&[&str]; 4] = [
    &["-m32", "-O0"],
    &["-m32", "-fPIE", "-pie"],
    &["-m32", "-fno-pie", "-no-pie"],
    &["-m32", "-static"],
];
const KILL: [&str; 4] = ["kill", "__kill", "__GI_kill", "__GI___kill"];

fn report_of(source: &str, flags: &[&str], args: &[&str], options: &[&str]) -> Report {
    let program = Program::built(source, flags);
    let depth = ["--max-stack-depth", "64"];
    let fixed = ["-n", &program.name, "-t", "--format", "json"];
    let monitor = Monitor::start([&fixed[..], &depth, options].concat());
    crash(program.command().args(args));
    only(monitor.stop().reports())
}

/// The report of each build, and its functions.
fn each_build(kind: &str, check: impl Fn(&Report, &[String])) {
    for flags in BUILDS {
        let report = report_of("compat.c", flags, &[kind], &[]);
        report.assert_chain(&["fault", "work"]);
        assert_eq!(report["access"], "write", "{}", report.line);
        if cfg!(feature = "dwarf") {
            check(&report, &report.functions());
        }
    }
}

/// The kernel's own frame, which has no name.
fn assert_vdso(report: &Report, index: usize) {
    let frame = &report.frames()[index];
    assert_eq!(frame["module"], "[vdso]", "#{index}: {}", report.line);
    assert!(frame["symbol"].is_null(), "#{index}: {}", report.line);
}

fn compat_deep_in_each_build() {
    for flags in BUILDS {
        let report = report_of("null_deep.c", flags, &[], &[]);
        report.assert_chain(DEEP);
        report.assert_reaches_start();
        assert_eq!(report["access"], "write", "{}", report.line);
        assert_eq!(report["fault_address"], "0x0000000000000000");
    }
}

fn compat_registers() {
    let report = report_of("null_deep.c", BUILDS[1], &[], &["-r"]);
    let registers = report["registers"].as_object().expect("registers");
    let names: Vec<&str> = registers.keys().map(String::as_str).collect();
    let expected = [
        "eip", "esp", "eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "eflags",
    ];
    assert_eq!(names, expected);
    for value in registers.values() {
        let digits = value.as_str().map(str::len);
        assert_eq!(digits, Some(10), "8 digits: {}", report.line);
    }
    assert_eq!(
        parse_hex(&registers["eip"]),
        Some(report.hex("instruction_pointer"))
    );

    let program = Program::built("null_deep.c", BUILDS[1]);
    let monitor = Monitor::start(["-n", &program.name, "-r"]);
    crash(&mut program.command());
    let outcome = monitor.stop();
    let lines: Vec<&str> = outcome.text().lines().collect();
    let header = lines
        .iter()
        .position(|line| *line == "  Registers (i386):")
        .unwrap_or_else(|| panic!("{lines:#?}"));
    assert!(lines[header + 1].starts_with("    EIP: 0x"), "{lines:#?}");
    assert!(lines[header + 1].contains("    ESP: 0x"), "{lines:#?}");
}

fn compat_handlers() {
    for (kind, handler) in [("plain", "plain_handler"), ("info", "info_handler")] {
        each_build(kind, |report, functions| {
            report.assert_chain(&["fault", "work", handler]);
            // What the signal handler returns to, and the system call.
            assert_vdso(report, 3);
            assert_vdso(report, 4);
            assert!(KILL.contains(&functions[5].as_str()), "{functions:?}");
            assert_eq!(functions[6..8], ["raiser", "main"], "{}", report.line);
            report.assert_reaches_start();
        });
    }
}

fn compat_handler_that_interrupts_code() {
    each_build("spin", |report, functions| {
        report.assert_chain(&["fault", "work", "plain_handler"]);
        assert_vdso(report, 3);
        assert_eq!(report.frames()[4]["trust"], "signal", "{}", report.line);
        assert_eq!(functions[4..6], ["spinner", "main"], "{}", report.line);
        report.assert_reaches_start();
    });
}

fn compat_handler_that_interrupts_a_system_call() {
    each_build("sleep", |report, functions| {
        report.assert_chain(&["fault", "work", "plain_handler"]);
        assert_vdso(report, 3);
        assert_vdso(report, 4);
        let sleeper = functions.iter().position(|f| f == "sleeper");
        let sleeper = sleeper.unwrap_or_else(|| panic!("{functions:?}"));
        assert!((6..=8).contains(&sleeper), "libc's own: {functions:?}");
        assert_eq!(functions[sleeper + 1], "main");
        report.assert_reaches_start();
    });
}

fn compat_callback_of_qsort() {
    each_build("qsort", |report, functions| {
        report.assert_chain(&["fault", "work", "compare"]);
        let qsort = functions.iter().position(|f| f == "qsort");
        let qsort = qsort.unwrap_or_else(|| panic!("{functions:?}"));
        assert_eq!(functions[qsort + 1..qsort + 3], ["sorter", "main"]);
        report.assert_reaches_start();
    });
}

fn compat_thread() {
    each_build("thread", |report, _| {
        report.assert_chain(&["fault", "work", "body"]);
        assert_eq!(report["stack_complete"], true, "{}", report.line);
    });
}

/// In a thread: of the first stack something is kept in any case.
fn compat_handlers_on_an_alternate_stack() {
    for (kind, handler) in [("onstack", "plain_handler"), ("oninfo", "info_handler")] {
        each_build(kind, |report, functions| {
            report.assert_chain(&["fault", "work", handler]);
            assert_vdso(report, 3);
            let thrower = functions.iter().position(|f| f == "thrower");
            let thrower = thrower.unwrap_or_else(|| panic!("{functions:?}"));
            assert!((5..=9).contains(&thrower), "libc's own: {functions:?}");
            assert_eq!(functions[thrower + 1], "throws");
            assert_eq!(report["stack_complete"], true, "{}", report.line);
        });
    }
}

fn compat_call_of_null() {
    for flags in BUILDS {
        let report = report_of("access.c", flags, &["null_call"], &[]);
        assert_eq!(report["access"], "execute", "{}", report.line);
        assert_eq!(report.hex("instruction_pointer"), 0, "{}", report.line);
        if cfg!(feature = "dwarf") {
            let functions = report.functions();
            assert_eq!(functions[1..3], ["do_null_call", "main"], "{}", report.line);
            report.assert_reaches_start();
        }
    }
}

/// The pc is in the vDSO, behind the system call: the 64-bit one is not asked.
fn compat_signal_sent_to_itself() {
    for flags in BUILDS {
        let report = report_of("kill_self.c", flags, &[], &[]);
        assert_eq!(report["signal_code"], "SI_USER", "{}", report.line);
        assert_vdso(&report, 0);
        if cfg!(feature = "dwarf") {
            let functions = report.functions();
            assert!(KILL.contains(&functions[1].as_str()), "{functions:?}");
            assert_eq!(functions[2..4], ["send_segv", "main"], "{}", report.line);
            report.assert_reaches_start();
        }
    }
}

/// Frames of the program itself are found by the frame pointer and by scanning:
/// all of them, and none that is not there.
fn compat_without_tables() {
    let none = ["-fno-asynchronous-unwind-tables", "-fno-unwind-tables"];
    for flags in [&["-m32", "-O0"][..], &["-m32", "-O2"]] {
        let report = report_of("null_deep.c", &[flags, &none].concat(), &[], &[]);
        report.assert_chain(DEEP);
        report.assert_reaches_start();
        let runtime = report.frames().len() - DEEP.len();
        assert!(!cfg!(feature = "dwarf") || runtime == 3, "{}", report.line);
    }
}
