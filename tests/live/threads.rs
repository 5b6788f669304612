//! Several threads of one process.

use std::collections::{HashMap, HashSet};

use crate::harness::{crash, Monitor};
use crate::programs::{unique, Program};
use crate::report::{only, Report};
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [threads_eight_at_once_are_one_death, threads_have_names],
}

/// Each of the deliveries that the kernel made is reported; one of them is the
/// death, the others say that they belong to it.
fn threads_eight_at_once_are_one_death() {
    const RUNS: usize = 25;
    let program = Program::new("threads.c");
    let monitor = Monitor::start(["-n", &program.name, "--format", "json", "-t"]);
    let pids: HashSet<u64> = (0..RUNS)
        .map(|_| u64::from(crash(&mut program.command())))
        .collect();
    assert_eq!(
        pids.len(),
        RUNS,
        "process ids were used again; the counts below need them different"
    );
    let mut deaths: HashMap<u64, Vec<Report>> = HashMap::new();
    for report in monitor.stop().reports() {
        deaths
            .entry(report["pid"].as_u64().expect("a pid"))
            .or_default()
            .push(report);
    }
    assert_eq!(
        deaths.keys().copied().collect::<HashSet<u64>>(),
        pids,
        "each death is reported"
    );
    for reports in deaths.values() {
        let same: Vec<bool> = reports
            .iter()
            .map(|report| report["same_death"] == true)
            .collect();
        assert!(!same[0], "the first report of a death: {reports:#?}");
        assert!(
            same[1..].iter().all(|&same| same),
            "the others belong to it: {reports:#?}"
        );
        let tids: HashSet<u64> = reports
            .iter()
            .filter_map(|report| report["tid"].as_u64())
            .collect();
        assert_eq!(
            tids.len(),
            reports.len(),
            "a thread dies once: {reports:#?}"
        );
        for report in reports {
            assert!(report.is_fatal(), "{}", report.line);
            assert_ne!(report["tid"], report["pid"], "{}", report.line);
            report.assert_chain(&["thread_crash", "thread_body"]);
            assert!(
                !cfg!(feature = "dwarf") || report["stack_complete"] == true,
                "{}",
                report.line
            );
        }
    }
}

fn threads_have_names() {
    let program = Program::new("named_thread.c");
    let thread = unique("thr");
    let monitor = Monitor::start(["-n", &program.name, "--format", "json", "-t"]);
    let pid = crash(program.command().arg(&thread));
    let report = only(monitor.stop().reports());
    assert_eq!(
        report["comm"], *program.name,
        "the process's name: {}",
        report.line
    );
    assert_eq!(
        report["thread"], *thread,
        "the thread's own: {}",
        report.line
    );
    assert_eq!(report["pid"], pid);
    assert_ne!(report["tid"], pid);
    report.assert_chain(&["worker_crash", "worker"]);
}
