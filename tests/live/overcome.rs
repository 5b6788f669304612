//! Faults that a handler takes and that the process dies of all the same: the report
//! says how it ended, and it is one death.

use std::time::{Duration, Instant};

use crate::harness::{options_for_all, run, status_of, Monitor};
use crate::programs::{directory, Program};
use crate::report::{only, Report};
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        overcome_fault_and_how_it_ended,
        overcome_fault_of_a_process_that_lives_on,
        overcome_fault_with_fatal_only,
        overcome_fault_as_text,
        overcome_fault_is_one_death_in_a_summary,
        overcome_fault_that_was_only_counted,
    ],
}

const ENDS: &[(&str, &str, bool)] = &[
    ("exit", r#"{"status":2,"death":true}"#, true),
    ("thread", r#"{"status":6,"death":true}"#, true),
    ("later", r#"{"status":3,"death":true}"#, true),
    ("well", r#"{"status":0,"death":false}"#, false),
    ("abort", r#"{"signal":"SIGABRT","death":true}"#, true),
    ("killed", r#"{"signal":"SIGKILL","death":false}"#, false),
];

/// Perf events alone do not tell how: the kernel does from 6.15 on, or nobody.
fn reports_ends() -> bool {
    options_for_all().iter().all(|option| option != "perf")
}

fn reports_of(how: &str, options: &[&str]) -> Vec<Report> {
    let program = Program::new("overcome.c");
    let mut all = vec!["-n", &*program.name, "--format", "json"];
    all.extend(options);
    let monitor = Monitor::start(all);
    status_of(program.command().arg(how));
    monitor.stop().reports()
}

fn overcome_fault_and_how_it_ended() {
    for (how, exit, _) in ENDS {
        let report = only(reports_of(how, &[]));
        assert_eq!(report["disposition"], "handled", "{how}");
        if reports_ends() {
            assert!(
                report.line.contains(&format!("\"exit\":{exit}")),
                "{how}: {}",
                report.line
            );
        }
    }
}

/// A second later at most, and nothing is said of an end.
fn overcome_fault_of_a_process_that_lives_on() {
    let program = Program::new("overcome.c");
    let monitor = Monitor::start(["-n", &program.name, "--format", "json"]);
    let began = Instant::now();
    let mut child = program
        .command()
        .arg("on")
        .spawn()
        .expect("our own program");
    let report = only(monitor.wait_reports(1));
    assert!(report["exit"].is_null(), "{}", report.line);
    assert!(began.elapsed() < Duration::from_secs(30));
    child.wait().expect("our own child");
    assert_eq!(monitor.stop().reports().len(), 1);
}

fn overcome_fault_with_fatal_only() {
    for (how, _, is_death) in ENDS {
        let reports = reports_of(how, &["--fatal-only"]);
        if reports_ends() {
            assert_eq!(reports.len(), usize::from(*is_death), "{how}");
        }
    }
    assert_eq!(reports_of("on", &["--fatal-only"]).len(), 0);
}

fn overcome_fault_as_text() {
    let program = Program::new("overcome.c");
    let monitor = Monitor::start(["-n", &program.name]);
    status_of(program.command().arg("exit"));
    let outcome = monitor.stop();
    if reports_ends() {
        let line = "\n  Exit:          exited with status 2\n";
        assert!(outcome.text().contains(line), "{}", outcome.text());
    }
}

fn overcome_fault_is_one_death_in_a_summary() {
    let program = Program::new("overcome.c");
    let file = directory().join("reports");
    let file = file.to_str().expect("ASCII");
    let monitor = Monitor::start(["-n", &program.name, "--format", "json", "-t", "-o", file]);
    for how in ["exit", "well", "abort"] {
        status_of(program.command().arg(how));
    }
    monitor.stop();
    let summary = run(["summarize", "--json", file]);
    let deaths: u64 = summary
        .text()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
        .map(|row| row["deaths"].as_u64().expect("a number"))
        .sum();
    if reports_ends() {
        assert_eq!(deaths, 2, "{}", summary.text());
    }
}

/// The fourth fault at one place is counted by the capture program alone.
fn overcome_fault_that_was_only_counted() {
    for options in [&[][..], &["--fatal-only"]] {
        let reports = reports_of("again", options);
        let last = reports.last().expect("a report");
        if reports_ends() {
            let died = last.line.contains(r#""exit":{"status":5,"death":true}"#);
            assert!(died, "{}", last.line);
            let number = |report: &Report| 1 + report["repeats"].as_u64().unwrap_or(0);
            let sum: u64 = reports.iter().map(number).sum();
            // The first may have gone out before, or not at all.
            assert!((1..=4).contains(&sum), "{reports:?}");
        }
    }
}
