//! Which crashes are reported, how often, and what of the process's memory: `--signals`,
//! `--fold`, `--fold-handled`, `--max-per-minute`, `--memory`, `--maps`, `--no-memory`.

use std::ffi::OsStr;
use std::fs;

use crate::harness::{crash, run, status_of, Monitor, Outcome};
use crate::programs::{directory, Program};
use crate::report::{only, Report};
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        signals_others_are_left_out,
        signals_of_every_kind_by_name,
        folding_of_handled_faults_counts_each,
        folding_of_handled_faults_ends_with_its_window,
        folding_of_handled_faults_may_be_turned_off,
        folding_of_equal_crashes,
        folding_of_equal_crashes_in_text,
        folding_counts_deaths_of_processes,
        folding_keeps_different_crashes_apart,
        folding_is_off_by_default,
        limit_of_reports_a_minute,
        memory_around_registers,
        memory_without_arguments_and_environment,
        memory_kept_out_of_reports,
        maps_nearby,
    ],
}

fn json_of(program: &Program, options: &[&str]) -> Monitor {
    Monitor::start([&["-n", &program.name, "--format", "json"], options].concat())
}

/// How many crashes a report stands for.
fn stands_for(report: &Report) -> u64 {
    let number = |key| report[key].as_u64().unwrap_or(0);
    1 + number("repeats") + number("suppressed")
}

fn counts(outcome: &Outcome) -> Vec<u64> {
    outcome.reports().iter().map(stands_for).collect()
}

fn signals_others_are_left_out() {
    let program = Program::new("signals.c");
    let monitor = json_of(&program, &[]);
    for kind in ["ill", "abrt"] {
        status_of(program.command().arg(kind));
    }
    assert!(monitor.stop().reports().is_empty());
    let monitor = json_of(&program, &["--signals", "abrt,SIGILL"]);
    for kind in ["ill", "abrt", "trap"] {
        status_of(program.command().arg(kind));
    }
    let reports = monitor.stop().reports();
    let signals: Vec<&str> = reports.iter().map(|report| report.str("signal")).collect();
    assert_eq!(signals, ["SIGILL", "SIGABRT"]);
}

fn signals_of_every_kind_by_name() {
    let program = Program::new("signals.c");
    let mut table = vec![
        ("bus", "SIGBUS", "BUS_ADRERR", "die_bus"),
        ("ill", "SIGILL", "ILL_ILLOPN", "die_ill"),
        ("abrt", "SIGABRT", "SI_TKILL", "die_abrt"),
        ("sys", "SIGSYS", "SYS_SECCOMP", "die_sys"),
    ];
    if cfg!(target_arch = "x86_64") {
        table.push(("fpe", "SIGFPE", "FPE_INTDIV", "die_fpe"));
        table.push(("trap", "SIGTRAP", "SI_KERNEL", "die_trap"));
    } else {
        table[1].2 = "ILL_ILLOPC";
        table.push(("trap", "SIGTRAP", "TRAP_BRKPT", "die_trap"));
    }
    for (kind, signal, code, function) in table {
        let monitor = json_of(&program, &["--signals", "all", "-t"]);
        status_of(program.command().arg(kind));
        let report = only(monitor.stop().reports());
        assert_eq!(report["signal"], signal, "{}", report.line);
        assert_eq!(report["signal_code"], code, "{}", report.line);
        assert!(
            report.functions().iter().any(|name| name == function),
            "{function}: {}",
            report.line
        );
    }
    let monitor = Monitor::start(["-n", &program.name, "--signals", "BUS"]);
    status_of(program.command().arg("bus"));
    let outcome = monitor.stop();
    assert!(
        outcome.text().contains("] SIGBUS in process "),
        "{}",
        outcome.text()
    );
    let said = format!(
        "Monitoring SIGBUS of programs whose name contains \"{}\"",
        program.name
    );
    assert!(outcome.stderr.starts_with(&said), "{}", outcome.stderr);
}

fn folding_of_handled_faults_counts_each() {
    let program = Program::new("handled.c");
    let monitor = json_of(&program, &["-t"]);
    status_of(program.command().arg("1000"));
    let outcome = monitor.stop();
    assert_eq!(
        counts(&outcome),
        [1, 999],
        "one at once, the rest at the end"
    );
    let last = &outcome.reports()[1];
    assert_eq!(last["disposition"], "handled");
}

fn folding_of_handled_faults_ends_with_its_window() {
    let program = Program::new("handled.c");
    let monitor = json_of(&program, &["--fold-handled", "1"]);
    status_of(program.command().arg("10"));
    let reports = monitor.wait_reports(2);
    assert_eq!(reports.iter().map(stands_for).sum::<u64>(), 10);
    status_of(program.command().arg("5"));
    let outcome = monitor.stop();
    assert_eq!(counts(&outcome).iter().sum::<u64>(), 15);
}

fn folding_of_handled_faults_may_be_turned_off() {
    let program = Program::new("handled.c");
    let monitor = json_of(&program, &["--fold-handled", "0"]);
    status_of(program.command().arg("20"));
    let reports = monitor.stop().reports();
    assert_eq!(reports.len(), 20);
    assert!(reports.iter().all(|report| report["repeats"].is_null()));
}

fn folding_of_equal_crashes() {
    let program = Program::new("quick.c");
    let monitor = json_of(&program, &["--fold", "600"]);
    for _ in 0..30 {
        crash(&mut program.command());
    }
    let outcome = monitor.stop();
    assert_eq!(counts(&outcome), [1, 29]);
}

fn folding_of_equal_crashes_in_text() {
    let program = Program::new("quick.c");
    let monitor = Monitor::start(["-n", &program.name, "--fold", "1"]);
    for _ in 0..3 {
        crash(&mut program.command());
    }
    let outcome = monitor.stop();
    let text = outcome.text();
    assert_eq!(text.matches("Fault Address:").count(), 1, "{text}");
    let line = text.lines().find(|line| line.starts_with("  Repeats:"));
    let line = line.expect("what was held back");
    assert!(
        line.starts_with("  Repeats:       2 more at ") && line.contains("+0x"),
        "{line}"
    );
    let since = line.rsplit_once(", since ").expect("a time").1;
    let first = text.split(&[' ', '.']).nth(1).expect("the time of day");
    assert_eq!(since, first, "{text}");
}

/// Several threads of one process count once, though each has a report.
fn folding_counts_deaths_of_processes() {
    const RUNS: u64 = 20;
    let program = Program::new("threads.c");
    let monitor = json_of(&program, &["--fold", "600", "-t"]);
    for _ in 0..RUNS {
        crash(&mut program.command());
    }
    let outcome = monitor.stop();
    let reports = outcome.reports();
    let deaths = reports.iter().map(|report| report["deaths"].as_u64());
    let deaths: u64 = deaths.map(|deaths| deaths.expect("a number")).sum();
    assert_eq!(deaths, RUNS);
    assert!(counts(&outcome).iter().sum::<u64>() >= RUNS);
    let path = directory().join("reports");
    fs::write(&path, &outcome.stdout).expect("our own file");
    let summary = run([
        OsStr::new("summarize"),
        OsStr::new("--json"),
        path.as_os_str(),
    ]);
    let rows = summary.text().lines().map(Report::parse);
    let rows: u64 = rows
        .map(|row| row["deaths"].as_u64().expect("a number"))
        .sum();
    assert_eq!(rows, RUNS, "{}", summary.text());
}

fn folding_keeps_different_crashes_apart() {
    let program = Program::new("access.c");
    let monitor = json_of(&program, &["--fold", "600", "-t"]);
    for kind in ["read", "write", "read", "null_call"] {
        crash(program.command().arg(kind));
    }
    let outcome = monitor.stop();
    assert_eq!(counts(&outcome), [1, 1, 1, 1]);
    assert_eq!(outcome.reports()[3]["access"], "read", "the one held back");
}

fn folding_is_off_by_default() {
    let program = Program::new("quick.c");
    let monitor = json_of(&program, &[]);
    for _ in 0..5 {
        crash(&mut program.command());
    }
    let reports = monitor.stop().reports();
    assert_eq!(reports.len(), 5);
    assert!(reports.iter().all(|report| report["repeats"].is_null()));
}

fn limit_of_reports_a_minute() {
    let program = Program::new("access.c");
    let monitor = json_of(&program, &["--max-per-minute", "2"]);
    for kind in ["read", "write", "read", "null_call", "execute"] {
        crash(program.command().arg(kind));
    }
    let outcome = monitor.stop();
    assert_eq!(counts(&outcome), [1, 1, 3]);
    let reports = outcome.reports();
    assert!(reports[0]["suppressed"].is_null(), "{}", reports[0].line);
    assert_eq!(reports[2]["suppressed"].as_u64(), Some(2));
    assert_eq!(reports[2]["repeats"].as_u64(), Some(0), "unlike the others");
    let monitor = Monitor::start(["-n", &program.name, "--max-per-minute", "1"]);
    for kind in ["read", "write", "null_call"] {
        crash(program.command().arg(kind));
    }
    let outcome = monitor.stop();
    let text = outcome.text();
    let line = "  Suppressed:    2 more crashes of this executable (--max-per-minute)\n";
    assert!(text.contains(line), "{text}");
    assert!(!text.contains("Repeats:"), "{text}");
}

const TEXT: &str = "in plain sight";

/// The text as JSON's `memory` has it.
fn in_hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn memory_around_registers() {
    let program = Program::new("secret.c");
    let monitor = json_of(&program, &["--memory"]);
    crash(&mut program.command());
    let report = only(monitor.stop().reports());
    let windows = report["memory"].as_array().expect("windows");
    let holds = |text: &str| {
        windows
            .iter()
            .any(|window| window["bytes"].as_str().unwrap().contains(&in_hex(text)))
    };
    assert!(holds(TEXT), "{}", report.line);
    let monitor = Monitor::start(["-n", &program.name, "--memory"]);
    crash(&mut program.command());
    let outcome = monitor.stop();
    assert!(outcome.text().contains(TEXT), "{}", outcome.text());
}

fn memory_without_arguments_and_environment() {
    let program = Program::new("secret.c");
    let monitor = json_of(&program, &["--memory"]);
    let mut command = program.command();
    command.args(["argumentargumentargument"; 8]);
    command.env("LETTER", "environmentenvironment");
    crash(&mut command);
    let report = only(monitor.stop().reports());
    let memory = report["memory"].to_string();
    for text in ["argument", "environment"] {
        assert!(!memory.contains(&in_hex(text)), "{}", report.line);
    }
}

fn memory_kept_out_of_reports() {
    let program = Program::new("secret.c");
    for format in ["json", "text"] {
        let options = ["-n", &program.name, "--no-memory", "-r", "-t", "--maps"];
        let monitor = Monitor::start([&options[..], &["--format", format]].concat());
        crash(program.command().arg("argumentargument"));
        let outcome = monitor.stop();
        assert!(outcome.text().contains("use_secret"), "{}", outcome.text());
        for text in ["argumentargument", TEXT] {
            assert!(!outcome.text().contains(text), "{}", outcome.text());
        }
        assert!(outcome.text().contains("--no-memory"), "{}", outcome.text());
    }
    // Nor as the value of a register.
    let program = Program::new("access.c");
    let monitor = Monitor::start(["-n", &program.name, "--no-memory", "-r", "-t"]);
    crash(program.command().arg("noncanonical"));
    let outcome = monitor.stop();
    assert!(!outcome.text().contains("AAAA"), "{}", outcome.text());
}

fn maps_nearby() {
    let program = Program::new("secret.c");
    let monitor = json_of(&program, &["--maps"]);
    crash(&mut program.command());
    let report = only(monitor.stop().reports());
    let maps = report["maps"].as_array().expect("mappings");
    let name = |name: &str| maps.iter().any(|mapping| mapping["name"] == name);
    assert!(name(program.path()) && name("[stack]"), "{}", report.line);
    let pc = report.hex("instruction_pointer");
    let holds_pc = maps.iter().any(|mapping| {
        let bound = |key: &str| {
            let text = mapping[key].as_str().expect("an address");
            u64::from_str_radix(&text[2..], 16).expect("hexadecimal")
        };
        (bound("start")..bound("end")).contains(&pc) && mapping["permissions"] == "r-xp"
    });
    assert!(holds_pc, "{}", report.line);
}
