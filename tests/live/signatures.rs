//! Equal crashes have one signature, others have others.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::harness::{crash, Monitor};
use crate::json::report_of;
use crate::programs::{copy, directory, unique, Program, NO_PIE, PIE};
use crate::report::{only, Report};
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        signatures_of_other_bugs_are_others,
        signatures_need_a_stack,
        signatures_do_not_depend_on_the_depth,
        signatures_are_the_same_behind_a_handler,
    ],
    Needs::Alone => [signatures_of_many_runs_are_one],
    Needs::Tool("objcopy") => [signatures_do_not_depend_on_symbols],
}

fn is_digest(report: &Report, key: &str) -> bool {
    let digest = report[key].as_str().unwrap_or("");
    digest.len() == 16 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Every run has its own addresses, process ids and neighbours.
fn signatures_of_many_runs_are_one() {
    const RUNS: usize = 100;
    for (source, kind) in [
        ("access.c", "write"),
        ("classics.c", "freed"),
        ("overflow.c", "plain"),
    ] {
        let program = Program::new(source);
        let monitor = Monitor::start(["-n", &program.name, "--format", "json", "-t"]);
        for _ in 0..RUNS {
            crash(program.command().arg(kind));
        }
        let reports = monitor.stop().reports();
        assert_eq!(reports.len(), RUNS);
        let all = |key: &str| -> BTreeSet<&str> {
            reports.iter().map(|report| report.str(key)).collect()
        };
        assert_eq!(
            all("signature").len(),
            1,
            "{source}: {:?}",
            all("signature")
        );
        assert_eq!(all("group").len(), 1, "{source}: {:?}", all("group"));
        let places = all("instruction_pointer").len();
        assert!(places > RUNS / 2, "the runs differ: {places}");
        assert!(is_digest(&reports[0], "signature"), "{}", reports[0].line);
        assert!(is_digest(&reports[0], "group"), "{}", reports[0].line);
    }
}

fn signatures_of_other_bugs_are_others() {
    // Without call-frame information the crash's own frame is all there is to go by.
    if !cfg!(feature = "dwarf") {
        return;
    }
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (source, kinds) in [
        (
            "access.c",
            "read write readonly execute null_call noncanonical",
        ),
        (
            "classics.c",
            "munmap past before guard thread frame freed poison strcpy jump",
        ),
        ("forged.c", "raise kill queue"),
    ] {
        let program = Program::new(source);
        for kind in kinds.split(' ') {
            let report = report_of(&program, &[kind], &["-t"]);
            let other = seen.insert(report.str("signature").to_owned(), kind.to_owned());
            assert_eq!(other, None, "the same as {kind}: {}", report.line);
        }
    }
}

fn signatures_need_a_stack() {
    let report = report_of(&Program::new("quick.c"), &[], &["-r"]);
    assert!(report["signature"].is_null() && report["group"].is_null());
    assert!(report.keys().contains(&"signature"), "{}", report.line);
}

fn signatures_do_not_depend_on_the_depth() {
    let program = Program::new("null_deep.c");
    let whole = report_of(&program, &[], &["-t"]);
    for depth in ["1", "3", "100"] {
        let report = report_of(&program, &[], &["-t", "--max-stack-depth", depth]);
        assert_eq!(report["signature"], whole["signature"], "{}", report.line);
        assert_eq!(report["group"], whole["group"], "{}", report.line);
        let frames: usize = depth.parse().expect("a number");
        assert!(report.frames().len() <= frames, "{}", report.line);
    }
}

/// A handler that raises the signal anew leaves its own frames on the stack.
fn signatures_are_the_same_behind_a_handler() {
    for (source, args) in [
        ("reraise.c", &[][..]),
        ("overflow.c", &["handler"]),
        ("overflow.c", &["altstack"]),
    ] {
        let program = Program::new(source);
        let monitor = Monitor::start(["-n", &program.name, "--format", "json", "-t"]);
        crash(program.command().args(args));
        let reports = monitor.stop().reports();
        assert_eq!(reports.len(), 2);
        assert_eq!(
            reports[0]["signature"], reports[1]["signature"],
            "{source} {args:?}"
        );
    }
}

fn succeeds(command: &mut Command) {
    assert!(command.status().expect("a program").success());
}

/// A stripped copy has the same build; another build has the same functions.
fn signatures_do_not_depend_on_symbols() {
    let program = Program::built("null_deep.c", &[PIE, &["-Wl,--build-id"]].concat());
    let named = report_of(&program, &[], &["-t"]);
    let name = unique("strip");
    let path = directory().join(&name);
    copy(&program.path, &path);
    succeeds(Command::new("objcopy").arg("--strip-all").arg(&path));
    let monitor = Monitor::start(["-n", &name, "--format", "json", "-t"]);
    crash(&mut Command::new(&path));
    let stripped = only(monitor.stop().reports());
    assert!(
        stripped["instruction_symbol"].is_null(),
        "{}",
        stripped.line
    );
    assert_eq!(
        named["signature"], stripped["signature"],
        "{}",
        stripped.line
    );
    assert_ne!(named["group"], stripped["group"], "{}", stripped.line);

    // Nothing has a name there, and yet it crashes in two places.
    let program = Program::new("access.c");
    succeeds(Command::new("objcopy").args(["--strip-all", program.path()]));
    let one = report_of(&program, &["read"], &["-t"]);
    let other = report_of(&program, &["write"], &["-t"]);
    assert!(one["instruction_symbol"].is_null(), "{}", one.line);
    assert_ne!(one["group"], other["group"], "{}", other.line);

    let rebuilt = report_of(&Program::built("null_deep.c", NO_PIE), &[], &["-t"]);
    assert_ne!(named["signature"], rebuilt["signature"], "{}", rebuilt.line);
    assert_eq!(named["group"], rebuilt["group"], "{}", rebuilt.line);
}
