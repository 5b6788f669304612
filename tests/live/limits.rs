//! `--symbol-cache-limit` and `--memory-limit` hold, by forgetting and by dropping
//! detail, never by dying or by naming things wrong.

use std::fs;

use crate::chains::DEEP;
use crate::harness::{crash, eventually, Monitor, PATIENCE};
use crate::programs::{compile, copy, Program, STATIC};
use crate::statistics::Block;
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [limit_of_the_symbol_cache, limit_of_memory],
}

fn limit_of_the_symbol_cache() {
    let program = Program::new("null_deep.c");
    let other = program.sibling("deep.c");
    let args = [
        "-n",
        &program.name,
        "-t",
        "--format",
        "json",
        "--stats",
        "--symbol-cache-limit",
        "3",
    ];
    let monitor = Monitor::start(args);
    for _ in 0..3 {
        crash(&mut program.command());
        crash(other.command().arg("3"));
    }
    let outcome = monitor.stop();
    let reports = outcome.reports();
    assert_eq!(reports.len(), 6);
    for report in reports {
        if report["exe"] == program.path() {
            report.assert_chain(DEEP);
        } else {
            report.assert_chain(&["bottom", "descend", "descend", "descend", "main"]);
        }
    }
    let block = Block::last(&outcome.stderr);
    let entries = block.count("Symbol cache entries");
    assert!((1..=3).contains(&entries), "{block:?}");
}

/// Four hundred static programs, one after another: what is worth keeping of them
/// is more than the limit (10 MB where the limit is 1,000).
fn limit_of_memory() {
    const LIMIT_MB: u64 = 8;
    let limit = LIMIT_MB.to_string();
    let source = compile("null_deep.c", STATIC);
    let program = Program::built("null_deep.c", STATIC);
    let next = program.path.with_extension("next");
    let monitor = Monitor::start([
        "-n",
        &program.name,
        "-t",
        "--format",
        "json",
        "--stats",
        "--memory-limit",
        &limit,
        "--ring-buffer",
        "1024",
        "--symbol-cache-limit",
        "1000000",
    ]);
    for _ in 0..400 {
        // Not the same file to any cache: another inode, another time.
        copy(&source, &next);
        fs::rename(&next, &program.path).expect("our directory");
        let pid = crash(&mut program.command());
        // Before its file goes.
        eventually("its report", PATIENCE, || {
            monitor.last_report().filter(|report| report["pid"] == pid)
        });
    }
    let high_water = resident_kb(monitor.id(), "VmHWM");
    let outcome = monitor.stop();
    let reports = outcome.reports();
    assert_eq!(reports.len(), 400);
    for report in reports {
        report.assert_chain(DEEP);
    }
    assert!(
        high_water < LIMIT_MB * 1024,
        "{high_water} KB resident at the peak"
    );
    let block = Block::last(&outcome.stderr);
    assert!(
        block.number("Estimated memory usage") <= LIMIT_MB as f64,
        "{block:?}"
    );
    assert!(
        block.number("Memory usage (% of limit)") <= 100.0,
        "{block:?}"
    );
}

pub fn resident_kb(pid: u32, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status
        .lines()
        .find(|line| line.starts_with(key))
        .unwrap_or_else(|| panic!("no {key}"));
    line.split_whitespace()
        .nth(1)
        .expect("a number")
        .parse()
        .expect("a number")
}
