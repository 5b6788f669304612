//! What a program that is made to be slow to read costs the binary as it is shipped, whose
//! reports have a time limit.

use std::time::{Duration, Instant};

use crate::harness::{crash, Monitor};
use crate::programs::Program;
use crate::skip::need_lines;
use crate::{cases, Needs};

cases! {
    Needs::Static => [hostile_debug_information_costs_no_more_than_its_time],
}

/// What one step on one file may take: half of `--report-time`.
const LIMIT: Duration = Duration::from_millis(50);
/// The same on a machine that is busy elsewhere. Without a limit it would be minutes.
const SOON: Duration = Duration::from_secs(5);

fn hostile_debug_information_costs_no_more_than_its_time() {
    need_lines();
    let program = Program::new("slow_lines.c");
    let other = program.sibling("null_deep.c");
    let monitor = Monitor::start(["-n", &program.name, "-t", "--format", "json"]);
    for number in 0..3 {
        let begin = Instant::now();
        let pid = crash(&mut program.command());
        let report = monitor.wait_report_of(pid);
        let took = begin.elapsed();
        assert!(took < SOON, "crash {number}: {took:?}");
        // The first one shows that the limit is what ended it.
        assert!(number > 0 || took >= LIMIT, "{took:?}");
        let lost = report["lost"].to_string();
        assert!(
            lost.contains("lines: time limit: debug information not read to its end"),
            "{}",
            report.line
        );
        report.assert_chain(&["main"]);
    }
    // Nobody else's report suffers.
    let pid = crash(&mut other.command());
    let report = monitor.wait_report_of(pid);
    report.assert_chain(&["level_five", "level_four", "level_three"]);
    assert!(
        !report["lost"].to_string().contains("lines"),
        "{}",
        report.line
    );
    monitor.stop();
}
