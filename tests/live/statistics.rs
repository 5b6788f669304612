//! `--stats`: the manual's layout to the blank, on stderr, and numbers that are
//! true.

use std::fmt;
use std::time::{Duration, Instant};

use regex_lite::Regex;

use crate::harness::{crash, eventually, status_of, Monitor};
use crate::programs::Program;
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        stats_layout,
        stats_go_to_stderr,
        stats_only_when_asked_for,
        stats_each_interval_and_at_the_end,
        stats_default_interval,
        stats_balance,
        stats_rates,
        stats_cache,
        stats_ring_size,
        stats_count_handled_too,
    ],
}

const TITLE: &str = "=== Segfault Analyzer Statistics ===";

/// The manual's sample, each value as a pattern.
const LAYOUT: &[&str] = &[
    r"=== Segfault Analyzer Statistics ===",
    r"Runtime: \d+\.\ds",
    r"",
    r"Event Counts:",
    r"  Total segfaults detected:     \d+",
    r"  Segfaults filtered out:       \d+",
    r"  Events captured:              \d+",
    r"  Events processed:             \d+",
    r"  Events submitted to userspace: \d+",
    r"  Events dropped:               \d+",
    r"",
    r"Performance Metrics:",
    r"  Event drop rate:              \d+\.\d\d%",
    r"  Fault info capture rate:      \d+\.\d\d%",
    r"  Events per second:            \d+\.\d",
    r"",
    r"Feature Statistics:",
    r"  Register capture failures:    \d+",
    r"  Stack trace failures:         \d+",
    r"  Fault info captured:          \d+",
    r"  Fault info missed:            \d+",
    r"",
    r"Symbol Resolution:",
    r"  Symbol cache hits:            \d+",
    r"  Symbol cache misses:          \d+",
    r"  Symbol cache hit rate:        \d+\.\d\d%",
    r"",
    r"Memory Usage:",
    r"  Estimated memory usage:       \d+\.\d\d MB",
    r"  Memory usage \(% of limit\):    \d+\.\d%",
    r"  Ring buffer size \(fixed\):     \d+ KB",
    r"  Symbol cache entries:         \d+",
];

/// One printing of the statistics.
pub struct Block(Vec<String>);

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{}", self.0.join("\n"))
    }
}

impl Block {
    pub fn all(stderr: &str) -> Vec<Block> {
        let lines: Vec<String> = stderr.lines().map(str::to_owned).collect();
        let starts = (0..lines.len()).filter(|&at| lines[at] == TITLE);
        starts
            .map(|start| {
                let end = lines[start + 1..].iter().position(|line| line == TITLE);
                Block(lines[start..end.map_or(lines.len(), |end| start + 1 + end)].to_vec())
            })
            .collect()
    }

    /// The printing at the end.
    pub fn last(stderr: &str) -> Block {
        Block::all(stderr)
            .pop()
            .unwrap_or_else(|| panic!("no statistics on stderr:\n{stderr}"))
    }

    /// The number that stands after `label:`.
    pub fn number(&self, label: &str) -> f64 {
        let rest = self
            .0
            .iter()
            .find_map(|line| line.trim_start().strip_prefix(label)?.strip_prefix(':'));
        let rest = rest.unwrap_or_else(|| panic!("no {label:?} in {self:?}"));
        let digits = rest.trim().trim_end_matches(|c: char| !c.is_ascii_digit());
        digits
            .parse()
            .unwrap_or_else(|e| panic!("{label}: {rest:?}: {e}"))
    }

    pub fn count(&self, label: &str) -> u64 {
        self.number(label) as u64
    }

    /// `detected = filtered + submitted + dropped`, to the event.
    pub fn assert_balanced(&self) {
        let total = self.count("Total segfaults detected");
        let parts = [
            "Segfaults filtered out",
            "Handled faults counted",
            "Events submitted to userspace",
            "Events dropped",
        ];
        let sum: u64 = parts.iter().map(|part| self.count(part)).sum();
        assert_eq!(total, sum, "the books do not balance: {self:?}");
    }
}

fn after_crashes(count: usize, options: &[&str]) -> Block {
    let program = Program::new("null_deep.c");
    let monitor = Monitor::start([&["-n", &program.name, "--stats"], options].concat());
    for _ in 0..count {
        crash(&mut program.command());
    }
    Block::last(&monitor.stop().stderr)
}

fn stats_layout() {
    let block = after_crashes(2, &["-r", "-t"]);
    for (number, pattern) in LAYOUT.iter().enumerate() {
        let line = block.0.get(number).map_or("(nothing)", String::as_str);
        let matches = Regex::new(&format!("^{pattern}$"))
            .expect("a pattern of this file")
            .is_match(line);
        assert!(
            matches,
            "line {} {line:?} does not match {pattern:?}: {block:?}",
            number + 1
        );
    }
}

fn stats_go_to_stderr() {
    let program = Program::new("quick.c");
    let monitor = Monitor::start(["-n", &program.name, "--stats", "--stats-interval", "1"]);
    crash(&mut program.command());
    monitor.wait_stderr(TITLE);
    let outcome = monitor.stop();
    assert!(!outcome.text().contains("Statistics"), "{}", outcome.text());
    assert_eq!(outcome.text().matches("SEGFAULT").count(), 1);
}

fn stats_only_when_asked_for() {
    let program = Program::new("quick.c");
    let monitor = Monitor::start(["-n", &program.name]);
    crash(&mut program.command());
    let outcome = monitor.stop();
    assert!(!outcome.stderr.contains("Statistics") && !outcome.text().contains("Statistics"));
}

fn stats_each_interval_and_at_the_end() {
    let begin = Instant::now();
    let monitor = Monitor::start(["-n", "nobody-has-this", "--stats", "--stats-interval", "1"]);
    eventually("three printings", Duration::from_secs(10), || {
        (Block::all(&monitor.stderr()).len() >= 3).then_some(())
    });
    assert!(
        begin.elapsed() >= Duration::from_millis(2900),
        "three in {:?}",
        begin.elapsed()
    );
    let printed = Block::all(&monitor.stderr()).len();
    let blocks = Block::all(&monitor.stop().stderr);
    assert!(blocks.len() > printed, "one more at the end");
    let runtimes: Vec<f64> = blocks.iter().map(|block| block.number("Runtime")).collect();
    for (runtime, expected) in runtimes.iter().zip(1..=3) {
        assert!(
            (runtime - f64::from(expected)).abs() < 0.5,
            "each second: {runtimes:?}"
        );
    }
}

fn stats_default_interval() {
    let begin = Instant::now();
    let monitor = Monitor::start(["-n", "nobody-has-this", "--stats"]);
    monitor.wait_stderr(TITLE);
    let waited = begin.elapsed();
    assert!(
        waited > Duration::from_secs(4) && waited < Duration::from_secs(9),
        "5 s, not {waited:?}"
    );
}

fn stats_balance() {
    let block = after_crashes(5, &["-t"]);
    block.assert_balanced();
    for label in [
        "Events captured",
        "Events processed",
        "Events submitted to userspace",
    ] {
        assert_eq!(block.count(label), 5, "{label}: {block:?}");
    }
    assert_eq!(block.count("Events dropped"), 0);
    assert_eq!(block.count("Register capture failures"), 0);
    assert_eq!(block.count("Stack trace failures"), 0);
    assert!(block.count("Fault info captured") >= 5, "{block:?}");
}

/// The rates follow from the counts as in the manual's sample.
fn stats_rates() {
    let block = after_crashes(6, &[]);
    let percent = |part: f64, whole: f64| {
        if whole == 0.0 {
            0.0
        } else {
            100.0 * part / whole
        }
    };
    let near = |label: &str, expected: f64, by: f64| {
        let found = block.number(label);
        assert!(
            (found - expected).abs() <= by,
            "{label}: {found}, not {expected}: {block:?}"
        );
    };
    let captured = block.number("Fault info captured");
    near(
        "Fault info capture rate",
        percent(captured, captured + block.number("Fault info missed")),
        0.006,
    );
    near("Event drop rate", 0.0, 0.0);
    // Runtime is printed with one digit.
    let (processed, runtime) = (block.number("Events processed"), block.number("Runtime"));
    let rate = block.number("Events per second");
    assert!(rate >= processed / (runtime + 0.06), "{block:?}");
    assert!(
        runtime <= 0.06 || rate <= processed / (runtime - 0.06),
        "{block:?}"
    );
    let memory = block.number("Estimated memory usage");
    near("Memory usage (% of limit)", percent(memory, 100.0), 0.06);
    assert!(memory > 0.0 && memory < 100.0, "{block:?}");
}

fn stats_cache() {
    let once = after_crashes(1, &["-t"]);
    let often = after_crashes(5, &["-t"]);
    for block in [&once, &often] {
        let (hits, misses) = (
            block.number("Symbol cache hits"),
            block.number("Symbol cache misses"),
        );
        let expected = if hits + misses == 0.0 {
            0.0
        } else {
            100.0 * hits / (hits + misses)
        };
        let found = block.number("Symbol cache hit rate");
        assert!(
            (found - expected).abs() <= 0.006,
            "{found}, not {expected}: {block:?}"
        );
        assert!(block.count("Symbol cache entries") >= 1, "{block:?}");
        assert!(misses >= 1.0, "the first look-up cannot hit: {block:?}");
    }
    assert!(
        often.count("Symbol cache hits") > once.count("Symbol cache hits"),
        "{once:?}{often:?}"
    );
    assert_eq!(
        often.count("Symbol cache misses"),
        once.count("Symbol cache misses"),
        "{once:?}{often:?}"
    );
}

/// 256 KB as the manual has it; more where stacks travel, or what the user says.
fn stats_ring_size() {
    for (options, kilobytes) in [
        (&[][..], 256),
        (&["-t"], 4096),
        (&["--ring-buffer", "64"], 64),
        (&["-t", "--ring-buffer=512"], 512),
    ] {
        let block = after_crashes(1, options);
        assert_eq!(
            block.count("Ring buffer size (fixed)"),
            kilobytes,
            "{options:?}: {block:?}"
        );
    }
}

fn stats_count_handled_too() {
    let program = Program::new("handled.c");
    for (options, captured) in [(&[][..], 1), (&["--fold-handled", "0"], 9)] {
        let monitor = Monitor::start([&["-n", &program.name, "--stats"], options].concat());
        assert!(status_of(program.command().arg("9")).success());
        let block = Block::last(&monitor.stop().stderr);
        assert!(block.count("Total segfaults detected") >= 9, "{block:?}");
        assert_eq!(block.count("Events captured"), captured, "{block:?}");
        assert_eq!(block.count("Handled faults counted"), 9 - captured);
        block.assert_balanced();
    }
}
