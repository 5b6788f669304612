//! Many crashes, a reader that does not read, records that do not fit: everything
//! is reported or counted as dropped, and afterwards all is well again. These load
//! the machine, so they run alone.

use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::chains::DEEP;
use crate::harness::{crash, eventually, status_of, Monitor, Outcome, PATIENCE};
use crate::limits::resident_kb;
use crate::programs::{Program, PIE, STATIC};
use crate::statistics::Block;
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [books_of_a_record_with_many_mappings, books_of_records_with_much_code_below_libc, books_of_a_record_larger_than_the_ring],
    Needs::Alone => [
        books_of_1000_short_lived_crashes,
        books_of_1000_short_lived_static_crashes,
        books_of_a_storm,
        books_of_a_storm_on_a_small_ring,
        books_of_a_stopped_reader,
        books_of_a_reader_stopped_for_10_seconds,
        books_of_names_that_were_lost,
    ],
}

fn run_storm(command: &mut Command) {
    assert!(
        status_of(command).success(),
        "a child of the storm did not die by SIGSEGV: {command:?}"
    );
}

/// To the event: each of `crashes` was reported or counted, and the totals agree.
fn assert_books(outcome: &Outcome, crashes: u64) -> u64 {
    let block = Block::last(&outcome.stderr);
    block.assert_balanced();
    let reported = outcome.reports().len() as u64;
    let dropped = block.count("Events dropped");
    assert_eq!(
        reported,
        block.count("Events submitted to userspace"),
        "what was submitted was reported: {block:?}"
    );
    assert_eq!(reported, block.count("Events processed"), "{block:?}");
    assert_eq!(
        reported + dropped,
        crashes,
        "{reported} reported, {dropped} dropped: {block:?}"
    );
    dropped
}

fn thousand(flags: &[&str]) {
    const CRASHES: usize = 1000;
    let storm = Program::new("storm.c");
    let quick = Program::built("quick.c", flags);
    let monitor = Monitor::start(["-n", &quick.name, "-t", "--format", "json", "--stats"]);
    run_storm(
        storm
            .command()
            .args([&CRASHES.to_string(), "1"])
            .arg(&quick.path),
    );
    let outcome = monitor.stop();
    assert_eq!(
        assert_books(&outcome, CRASHES as u64),
        0,
        "none was dropped"
    );
    for report in outcome.reports() {
        report.assert_chain(&["quick_crash", "main"]);
        report.assert_reaches_start();
        report.assert_nothing_lost();
    }
}

fn books_of_1000_short_lived_crashes() {
    thousand(PIE);
}

fn books_of_1000_short_lived_static_crashes() {
    thousand(STATIC);
}

/// As fast as this machine can fork and crash, with the default ring for stacks.
fn books_of_a_storm() {
    const CRASHES: u64 = 5000;
    let storm = Program::new("storm.c");
    let monitor = Monitor::start([
        "-n",
        &storm.name,
        "-t",
        "--format",
        "json",
        "--stats",
        "--memory-limit",
        "32",
    ]);
    run_storm(storm.command().args([&CRASHES.to_string(), "4"]));
    let high_water = resident_kb(monitor.id(), "VmHWM");
    let outcome = monitor.stop();
    assert_books(&outcome, CRASHES);
    assert!(high_water < 32 * 1024, "{high_water} KB resident");
    let reports = outcome.reports();
    // A report may lack what did not fit, and then says so; what it has is right.
    let whole: Vec<_> = reports.iter().filter(|r| r.lost().is_empty()).collect();
    assert!(!whole.is_empty(), "{} reports, none whole", reports.len());
    for report in whole {
        report.assert_chain(&["child_crash", "main"]);
    }
}

fn books_of_a_storm_on_a_small_ring() {
    const CRASHES: u64 = 2000;
    let storm = Program::new("storm.c");
    let after = storm.sibling("null_deep.c");
    let args = [
        "-n",
        &storm.name,
        "-t",
        "-r",
        "--format",
        "json",
        "--stats",
        "--ring-buffer",
        "64",
    ];
    let monitor = Monitor::start(args);
    run_storm(storm.command().args([&CRASHES.to_string(), "4"]));
    let (outcome, more) = and_then_all_is_well(monitor, &after);
    assert_books(&outcome, CRASHES + more);
}

/// Crashes `program` until one is reported: from then on the ring has room. Then once more:
/// that report comes without a signal or another crash to wake the reader, and is whole.
/// Gives the number of crashes too.
fn and_then_all_is_well(monitor: Monitor, program: &Program) -> (Outcome, u64) {
    let mut crashes = 0;
    eventually("a report after the backlog", PATIENCE, || {
        let pid = crash(&mut program.command());
        crashes += 1;
        monitor.report_of_within(pid, Duration::from_millis(500))
    });
    let pid = crash(&mut program.command());
    crashes += 1;
    let report = monitor.wait_report_of(pid);
    report.assert_chain(DEEP);
    report.assert_reaches_start();
    report.assert_nothing_lost();
    (monitor.stop(), crashes)
}

fn books_of_a_stopped_reader() {
    const CRASHES: u64 = 300;
    let storm = Program::new("storm.c");
    let after = storm.sibling("null_deep.c");
    let args = [
        "-n",
        &storm.name,
        "-t",
        "--format",
        "json",
        "--stats",
        "--ring-buffer",
        "64",
    ];
    let monitor = Monitor::start(args);
    monitor.signal(Signal::SIGSTOP);
    run_storm(storm.command().args([&CRASHES.to_string(), "2"]));
    monitor.signal(Signal::SIGCONT);
    let (outcome, more) = and_then_all_is_well(monitor, &after);
    let dropped = assert_books(&outcome, CRASHES + more);
    assert!(dropped > 0, "300 records do not fit into 64 KB");
    let rate = Block::last(&outcome.stderr).number("Event drop rate");
    assert!(rate > 0.0 && rate < 100.0, "{rate}");
}

fn books_of_a_reader_stopped_for_10_seconds() {
    let storm = Program::new("storm.c");
    let after = storm.sibling("null_deep.c");
    let monitor = Monitor::start(["-n", &storm.name, "-t", "--format", "json", "--stats"]);
    monitor.signal(Signal::SIGSTOP);
    let begin = Instant::now();
    let mut crashes = 0;
    while begin.elapsed() < Duration::from_secs(10) {
        if crashes < 4000 {
            run_storm(storm.command().args(["500", "2"]));
            crashes += 500;
        } else {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    monitor.signal(Signal::SIGCONT);
    let (outcome, more) = and_then_all_is_well(monitor, &after);
    assert_books(&outcome, crashes + more);
}

/// Perf events say in records of their own what a process is called. If those find no
/// room its crash may match `-n`: it was not filtered out, it was dropped.
fn books_of_names_that_were_lost() {
    // Which records find no room is a matter of time, and at times none of these is lost.
    let are_lost = |_| names_were_lost(3000);
    assert!((0..5).any(are_lost), "no record of a name was lost");
}

/// Whether records of names were lost in a storm. The books are right in any case.
fn names_were_lost(crashes: u64) -> bool {
    let storm = Program::new("storm.c");
    let quick = Program::new("quick.c");
    let arguments = ["--capture", "perf", "--ring-buffer", "1024"];
    let options = ["-n", &quick.name, "--format", "json", "--stats"];
    let monitor = Monitor::start(options.iter().chain(&arguments));
    monitor.signal(Signal::SIGSTOP);
    run_storm(
        storm
            .command()
            .args([&crashes.to_string(), "4"])
            .arg(&quick.path),
    );
    monitor.signal(Signal::SIGCONT);
    // The kernel says how many records were lost with the next one that finds room, on
    // the same CPU.
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(10));
        let status = Command::new("true").status();
        assert!(status.is_ok_and(|status| status.success()));
    }
    let outcome = monitor.stop();
    let block = Block::last(&outcome.stderr);
    assert!(assert_books(&outcome, crashes) > 0, "{block:?}");
    assert_eq!(block.count("Segfaults filtered out"), 0, "{block:?}");
    block.count("Record parts lost") > 0
}

/// Thousands of mappings fit into the ring that `-t` brings.
fn books_of_a_record_with_many_mappings() {
    let program = Program::new("big_maps.c");
    let monitor = Monitor::start([
        "-n",
        &program.name,
        "-t",
        "-r",
        "--format",
        "json",
        "--stats",
    ]);
    crash(program.command().args(["3000", "4"]));
    let reports = monitor.wait_reports(1);
    reports[0].assert_chain(&[
        "big_crash",
        "use_stack",
        "use_stack",
        "use_stack",
        "use_stack",
        "main",
    ]);
    assert_eq!(reports[0]["fault_address"], "0x0000000000000000");
    assert_eq!(assert_books(&monitor.stop(), 1), 0);
}

/// Code that lies below libc takes no place from it, however much there is: made at run
/// time, of one file, or of as many files.
fn books_of_records_with_much_code_below_libc() {
    let program = Program::new("many_codes.c");
    for method in ["auto", "chain", "tracepoint"] {
        let forced = ["--capture", method];
        let options = ["-n", &program.name, "-t", "--format", "json"];
        let forced = forced.iter().filter(|_| method != "auto");
        let monitor = Monitor::start(options.iter().chain(forced));
        let kinds = ["anonymous", "one_file", "files"];
        let crashes: Vec<_> = kinds
            .iter()
            .flat_map(|kind| ["3", "300", "1200"].map(|count| [*kind, count]))
            .collect();
        for arguments in &crashes {
            crash(program.command().args(arguments));
        }
        let reports = monitor.wait_reports(crashes.len());
        monitor.stop();
        for (report, arguments) in reports.iter().zip(&crashes) {
            let line = &report.line;
            report.assert_chain(&["crash_here"]);
            report.assert_reaches_start();
            let functions = report.functions();
            let has_main = functions.iter().any(|name| name == "main");
            assert!(has_main, "{method} {arguments:?}: {line}");
            let modules = report.frames().iter().map(|frame| frame["module"].as_str());
            let in_libc = modules
                .flatten()
                .filter(|module| module.contains("libc.so"));
            assert!(in_libc.count() >= 2, "{method} {arguments:?}: {line}");
        }
    }
}

/// The parts that did not fit are named; the crash after it is whole.
fn books_of_a_record_larger_than_the_ring() {
    let program = Program::new("big_maps.c");
    let after = program.sibling("null_deep.c");
    for ring in ["64", "128"] {
        let args = [
            "-n",
            &program.name,
            "-t",
            "-r",
            "--format",
            "json",
            "--stats",
            "--ring-buffer",
            ring,
        ];
        let monitor = Monitor::start(args);
        crash(program.command().args(["5000", "200"]));
        let reports = monitor.wait_reports(1);
        let first = &reports[0];
        assert_eq!(
            first["fault_address"], "0x0000000000000000",
            "{}",
            first.line
        );
        assert_eq!(first["comm"], *program.name);
        if ring != "128" {
            let lost = first["lost"].as_array();
            assert!(
                lost.is_some_and(|lost| !lost.is_empty()),
                "{ring} KB: says what is missing: {}",
                first.line
            );
        }
        let (outcome, more) = and_then_all_is_well(monitor, &after);
        assert_eq!(assert_books(&outcome, 1 + more), 0, "{ring} KB");
    }
}
