//! What a report says about the process and the moment, and how it says that it
//! does not know.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::harness::{crash, Monitor};
use crate::json::report_of;
use crate::programs::Program;
use crate::report::{only, parse_hex};
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        context_of_a_process,
        context_time,
        context_unknown_is_null,
        context_without_symbol,
    ],
}

fn context_of_a_process() {
    let program = Program::new("quick.c");
    let report = report_of(&program, &["first", "second word", "-x"], &[]);
    assert_eq!(report["signal"], "SIGSEGV");
    assert_eq!(report["signal_code"], "SEGV_MAPERR");
    assert_eq!(report["access"], "write");
    assert_eq!(report["disposition"], "fatal");
    assert_eq!(report["thread"], *program.name);
    assert_eq!(report["ppid"], std::process::id());
    assert_eq!(report["uid"], 0);
    assert_eq!(report["exe"], program.path());
    assert_eq!(
        report["cmdline"],
        format!("{} first second word -x", program.path())
    );
    // Ours is the program's too; in a cgroup namespace we see its end alone.
    let cgroups = fs::read_to_string("/proc/self/cgroup").expect("/proc is mounted");
    let unified = cgroups.lines().find_map(|line| line.strip_prefix("0::/"));
    let cgroup = report.str("cgroup");
    assert!(
        cgroup.starts_with('/') && cgroup.ends_with(unified.unwrap_or("")),
        "{unified:?}: {}",
        report.line
    );
    // Its own number is the one that we see; the host's is another, or not there.
    assert!(report["ns_pid"].is_null(), "{}", report.line);
    assert_ne!(report["host_pid"], report["pid"], "{}", report.line);
    assert!(
        report["first_fault"].is_null() && report["sender"].is_null(),
        "{}",
        report.line
    );
    assert!(report["same_death"] != true, "{}", report.line);
    report.assert_nothing_lost();
}

fn context_time() {
    let program = Program::new("quick.c");
    let monitor = Monitor::start(["-n", &program.name, "--format", "json"]);
    let wall = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
            .as_millis() as u64
    };
    let uptime = || -> u64 {
        let text = fs::read_to_string("/proc/uptime").expect("/proc");
        let seconds: f64 = text
            .split(' ')
            .next()
            .expect("two numbers")
            .parse()
            .expect("a number");
        (seconds * 1000.0) as u64
    };
    let before = (wall(), uptime());
    crash(&mut program.command());
    let after = (wall(), uptime());
    let report = only(monitor.stop().reports());
    let timestamp = report["timestamp"]
        .as_u64()
        .unwrap_or_else(|| panic!("{}", report.line));
    let uptime_ms = report["uptime_ms"]
        .as_u64()
        .unwrap_or_else(|| panic!("{}", report.line));
    // Clocks are read at different moments; /proc/uptime has hundredths.
    assert!(
        (before.0 - 20..=after.0 + 20).contains(&timestamp),
        "{before:?} {after:?}: {}",
        report.line
    );
    assert!(
        (before.1 - 20..=after.1 + 20).contains(&uptime_ms),
        "{before:?} {after:?}: {}",
        report.line
    );
}

/// A signal that somebody sent has no fault address and no access.
fn context_unknown_is_null() {
    let report = report_of(&Program::new("kill_self.c"), &[], &[]);
    assert!(
        report["fault_address"].is_null(),
        "never zero: {}",
        report.line
    );
    assert!(report["access"].is_null(), "{}", report.line);
    assert_eq!(report["fault_type"], "unknown");
    assert_eq!(report["signal_code"], "SI_USER");
}

/// A stripped program: module and offset, or nothing, but no name from nowhere.
fn context_without_symbol() {
    let program = Program::built("null_deep.c", &["-fPIE", "-pie", "-s"]);
    let report = report_of(&program, &[], &["-t"]);
    let own = format!("{}+0x", program.name);
    for frame in report
        .frames()
        .iter()
        .filter(|frame| frame["module"] == program.path())
    {
        let named = frame["symbol"].as_str();
        assert!(
            named.is_none_or(|symbol| symbol.starts_with(&own) || symbol.starts_with("_start+0x")),
            "{frame}"
        );
        assert!(
            parse_hex(&frame["module_offset"]).is_some(),
            "to be named at a desk: {frame}"
        );
    }
    assert_eq!(report.frames()[0]["module"], program.path());
    if cfg!(feature = "dwarf") {
        assert!(
            report.frames().len() >= 6,
            "stripped programs keep .eh_frame: {}",
            report.line
        );
    }
}
