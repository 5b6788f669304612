//! Stacks of ordinary programs, from the crash to `_start`, with every name.

use regex_lite::Regex;

use crate::harness::{crash, Monitor};
use crate::programs::{Program, NO_PIE, PIE, STATIC};
use crate::report::{only, Report};
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        chain_of_a_pie_program,
        chain_of_a_no_pie_program,
        chain_of_a_static_program,
        chain_of_a_static_pie_program,
        chain_through_libc,
        chain_of_a_rust_program,
        chain_of_short_lived_programs,
        chain_of_a_deleted_program,
        chain_of_a_call_of_null,
        chain_cut_by_depth,
        chain_of_two_crashes_at_once,
        chain_from_one_stack_to_another,
        chain_in_a_handler_from_one_stack_to_another,
    ],
}

/// The chain of null_deep.c.
pub const DEEP: &[&str] = &[
    "level_five",
    "level_four",
    "level_three",
    "level_two",
    "level_one",
    "main",
];

fn stack_of(program: &Program, args: &[&str]) -> Report {
    let monitor = Monitor::start([
        "-n",
        &program.name,
        "-t",
        "--format",
        "json",
        "--max-stack-depth",
        "64",
    ]);
    crash(program.command().args(args));
    only(monitor.stop().reports())
}

fn check_deep(flags: &[&str]) {
    let report = stack_of(&Program::built("null_deep.c", flags), &[]);
    report.assert_chain(DEEP);
    report.assert_reaches_start();
}

fn chain_of_a_pie_program() {
    check_deep(PIE);
}

fn chain_of_a_no_pie_program() {
    check_deep(NO_PIE);
}

fn chain_of_a_static_program() {
    check_deep(STATIC);
}

fn chain_of_a_static_pie_program() {
    check_deep(&["-fPIE", "-static-pie"]);
}

/// The innermost frame is libc's: `kill`, under one of its aliases.
fn chain_through_libc() {
    let report = stack_of(&Program::new("kill_self.c"), &[]);
    let functions = report.functions();
    assert!(
        ["kill", "__kill", "__GI_kill", "__GI___kill"].contains(&functions[0].as_str()),
        "{functions:?}"
    );
    if cfg!(feature = "dwarf") {
        assert_eq!(functions[1..3], ["send_segv", "main"], "{}", report.line);
    }
    report.assert_reaches_start();
}

/// Two deliveries: Rust's runtime has a handler, for stack overflows only; to other
/// faults it restores the default action and returns.
fn chain_of_a_rust_program() {
    let program = Program::built("generic.rs", &[]);
    let args = [
        "-n",
        &program.name,
        "-t",
        "--format",
        "json",
        "--max-stack-depth",
        "64",
    ];
    let monitor = Monitor::start(args);
    crash(&mut program.command());
    let reports = monitor.stop().reports();
    let dispositions: Vec<&str> = reports.iter().map(|r| r.str("disposition")).collect();
    assert_eq!(dispositions, ["handled", "fatal"]);
    reports.iter().for_each(check_rust_chain);
}

fn check_rust_chain(report: &Report) {
    let functions = report.functions();
    let mangled = Regex::new(r"_ZN|_R[A-Z]|::h[0-9a-f]{16}").expect("a pattern");
    for function in &functions {
        assert!(
            !mangled.is_match(function),
            "{function} is not demangled: {functions:?}"
        );
    }
    assert!(functions[0].starts_with("generic::poke"), "{functions:?}");
    if cfg!(feature = "dwarf") {
        let names = [
            "generic::poke",
            "closure",
            "generic::call_it",
            "generic::main",
            "short_backtrace",
        ];
        for (function, name) in functions.iter().zip(names) {
            assert!(function.contains(name), "expected {name}: {functions:?}");
        }
        assert!(
            functions
                .iter()
                .any(|function| function.starts_with("std::rt::lang_start")),
            "{functions:?}"
        );
    }
    report.assert_reaches_start();
}

/// Nothing in /proc is left of these when anybody looks.
fn chain_of_short_lived_programs() {
    for flags in [PIE, STATIC] {
        let program = Program::built("quick.c", flags);
        let monitor = Monitor::start(["-n", &program.name, "-t", "--format", "json"]);
        for _ in 0..20 {
            crash(&mut program.command());
        }
        let reports = monitor.stop().reports();
        assert_eq!(reports.len(), 20);
        for report in reports {
            report.assert_chain(&["quick_crash", "main"]);
            report.assert_reaches_start();
            assert_eq!(report["exe"], program.path());
        }
    }
}

/// The file is gone too: addresses and modules stay right, and no name is made up
/// from whatever file has its place now.
fn chain_of_a_deleted_program() {
    let program = Program::new("wait.c");
    let other = Program::new("deep.c");
    let monitor = Monitor::start(["-n", &program.name, "-t", "--format", "json"]);
    let mut child = program
        .command()
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("start wait");
    std::fs::rename(&other.path, &program.path).expect("replace it while it runs");
    drop(std::io::Write::write_all(
        &mut child.stdin.take().expect("piped"),
        b"x",
    ));
    child.wait().expect("our child");
    let report = only(monitor.stop().reports());
    let functions = report.functions();
    assert!(
        !functions.iter().any(|f| f == "descend" || f == "bottom"),
        "from another file: {}",
        report.line
    );
    assert!(report.hex("instruction_pointer") != 0, "{}", report.line);
}

/// The pc is nowhere; who called is known.
fn chain_of_a_call_of_null() {
    let report = stack_of(&Program::new("access.c"), &["null_call"]);
    assert_eq!(report["access"], "execute", "{}", report.line);
    assert_eq!(report.hex("instruction_pointer"), 0, "{}", report.line);
    assert!(report["instruction_symbol"].is_null(), "{}", report.line);
}

fn chain_cut_by_depth() {
    let program = Program::new("deep.c");
    for (depth, expected) in [(None, 16), (Some("1"), 1), (Some("8"), 8), (Some("40"), 40)] {
        let mut args = vec!["-n", &program.name, "-t", "--format", "json"];
        if let Some(depth) = depth {
            args.extend(["--max-stack-depth", depth]);
        }
        let monitor = Monitor::start(args);
        crash(program.command().arg("60"));
        let report = only(monitor.stop().reports());
        report.assert_chain(&["bottom"]);
        if cfg!(feature = "dwarf") {
            assert_eq!(
                report.frames().len(),
                expected,
                "{depth:?}: {}",
                report.line
            );
            assert!(
                report.functions()[1..].iter().all(|f| f == "descend"),
                "{}",
                report.line
            );
        }
        assert_eq!(
            report["stack_complete"], false,
            "{depth:?}: {}",
            report.line
        );
    }
}

/// Two programs, released together, each with its own chain.
fn chain_of_two_crashes_at_once() {
    let storm = Program::new("storm.c");
    let deep = storm.sibling("null_deep.c");
    let monitor = Monitor::start(["-n", &storm.name, "-t", "--format", "json"]);
    let mut forks = storm
        .command()
        .args(["10", "2"])
        .spawn()
        .expect("start storm");
    let mut programs = storm
        .command()
        .args(["10", "2"])
        .arg(&deep.path)
        .spawn()
        .expect("start storm");
    assert!(
        forks.wait().expect("our child").success() && programs.wait().expect("our child").success()
    );
    let (forked, run): (Vec<Report>, Vec<Report>) = monitor
        .stop()
        .reports()
        .into_iter()
        .partition(|report| report["exe"] == storm.path());
    assert_eq!((forked.len(), run.len()), (10, 10));
    for report in forked {
        report.assert_chain(&["child_crash", "main"]);
        report.assert_reaches_start();
    }
    for report in run {
        report.assert_chain(DEEP);
        report.assert_reaches_start();
    }
}

/// From a stack that the program made, in optimized code and in code that has a frame
/// pointer in each function.
fn chain_from_one_stack_to_another() {
    for flags in [&["-O2", "-fPIE", "-pie"][..], &["-O0"]] {
        let program = Program::built("switched.c", flags);
        for (place, above) in [("main", "main"), ("thread", "body"), ("ahead", "body")] {
            let report = stack_of(&program, &[place]);
            report.assert_chain(&["crash", "on_stack"]);
            if cfg!(feature = "dwarf") {
                report.assert_chain(&["crash", "on_stack", "call_on", "switches", above]);
                assert_eq!(report["stack_complete"], true, "{}", report.line);
            }
        }
    }
}

/// There the registers that the signal interrupted say where to look.
fn chain_in_a_handler_from_one_stack_to_another() {
    let program = Program::new("switched.c");
    let monitor = Monitor::start(["-n", &program.name, "-t", "--format", "json"]);
    crash(program.command().arg("handler"));
    let reports = monitor.stop().reports();
    assert_eq!(reports.len(), 2, "{reports:#?}");
    let fatal = &reports[1];
    fatal.assert_chain(&["crash", "on_signal"]);
    if cfg!(feature = "dwarf") {
        let functions = fatal.functions();
        let chain = ["crash", "on_stack", "call_on", "switches", "main"];
        assert_eq!(functions[3..8], chain, "{}", fatal.line);
        assert_eq!(fatal["stack_complete"], true, "{}", fatal.line);
    }
}
