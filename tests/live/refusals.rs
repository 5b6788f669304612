//! Where the tool cannot work it says what is missing and what to do, with a
//! status that scripts can tell apart: 3 not permitted, 4 the kernel lacks it.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::chains::DEEP;
use crate::harness::{binary, crash, eventually, run, Monitor, Outcome, PATIENCE};
use crate::programs::{compile, copy, public_directory, unique, wrapper, Program, PIE};
use crate::report::only;
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        refused_without_root,
        refused_with_cap_bpf_alone,
        refused_with_cap_perfmon_alone,
        permitted_with_both,
        check_says_that_it_works,
        check_says_what_is_missing,
        refused_without_bpf,
        without_bpf_calls_are_found_all_the_same,
        without_sysfs_btf_comes_from_the_kernel,
        refused_without_any_btf,
        refused_for_want_of_descriptors,
    ],
    Needs::Tool("unshare") => [refused_in_a_user_namespace],
}

const NOBODY: u32 = 65_534;

/// A directory that anybody can reach, with a copy of the binary.
struct Reachable(PathBuf);

impl Reachable {
    fn new() -> Reachable {
        let dir = public_directory();
        copy(&binary(), &dir.join("segfault_analyzer"));
        Reachable(dir)
    }

    fn binary(&self) -> PathBuf {
        self.0.join("segfault_analyzer")
    }

    /// The binary as nobody, with the capabilities in `mask`.
    fn with_capabilities(&self, mask: &str) -> Command {
        let helper = self.0.join("only_capabilities");
        if !helper.exists() {
            copy(&wrapper("only_capabilities.c"), &helper);
        }
        let mut command = Command::new(helper);
        command.arg(mask).arg(self.binary());
        command
    }
}

impl Drop for Reachable {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn refused(mut command: Command, status: i32, words: &[&str]) -> Outcome {
    command.args(["-d", "5"]).current_dir("/");
    let outcome = Monitor::spawn(command).wait();
    assert_eq!(
        outcome.status.code(),
        Some(status),
        "{:?}: {}",
        outcome.status,
        outcome.stderr
    );
    assert_eq!(outcome.text(), "", "nothing on stdout");
    for word in words {
        assert!(
            outcome.stderr.contains(word),
            "{word:?} is missing in: {}",
            outcome.stderr
        );
    }
    assert!(
        outcome.stderr.lines().count() <= 6,
        "a few lines, not a log: {}",
        outcome.stderr
    );
    assert!(!outcome.stderr.contains("Monitoring"), "{}", outcome.stderr);
    outcome
}

/// The manual's own words for it come first.
fn refused_without_root() {
    let place = Reachable::new();
    let mut command = Command::new(place.binary());
    command.uid(NOBODY).gid(NOBODY);
    let outcome = refused(command, 3, &["root", "CAP_BPF"]);
    let first = outcome.stderr.lines().next().unwrap_or("");
    assert!(
        first.starts_with("Error: Permission denied when loading BPF program"),
        "{first}"
    );
}

fn check_says_that_it_works() {
    let outcome = run(["--check"]);
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    let page = outcome.text();
    for word in [
        "Linux ",
        "root",
        "Capture method ",
        "segfault_",
        "Reports lack:",
    ] {
        assert!(page.contains(word), "{word:?} is missing in: {page}");
    }
    assert!(page.ends_with("\nMonitoring works here.\n"), "{page}");
}

fn check_says_what_is_missing() {
    let place = Reachable::new();
    let mut command = place.with_capabilities("8000000000");
    command.arg("--check").current_dir("/");
    let outcome = Monitor::spawn(command).wait();
    assert_eq!(outcome.status.code(), Some(3), "{}", outcome.stderr);
    let page = outcome.text();
    assert!(page.contains("\n  CAP_PERFMON "), "{page}");
    assert!(!page.contains("\n  CAP_BPF "), "{page}");
    if Path::new("/sys/kernel/tracing/events").exists() {
        assert!(!page.contains("not mounted"), "it is: {page}");
    }
    assert!(
        page.contains("\nMonitoring is not permitted here: "),
        "{page}"
    );
}

fn refused_with_cap_bpf_alone() {
    let place = Reachable::new();
    refused(
        place.with_capabilities("8000000000"),
        3,
        &["Permission denied", "CAP_PERFMON"],
    );
}

fn refused_with_cap_perfmon_alone() {
    let place = Reachable::new();
    refused(
        place.with_capabilities("4000000000"),
        3,
        &["Permission denied", "CAP_BPF"],
    );
}

/// Not root, but the two capabilities: what a service file would give.
fn permitted_with_both() {
    let place = Reachable::new();
    let name = unique("caps");
    let program = place.0.join(&name);
    copy(&compile("null_deep.c", PIE), &program);
    let mut command = place.with_capabilities("c000000000");
    command
        .args(["-n", &name, "--format", "json", "-t"])
        .current_dir("/");
    let monitor = Monitor::start_as(command);
    let pid = crash(&mut crate::programs::command(&program));
    let report = only(monitor.stop().reports());
    assert_eq!(report["pid"], pid);
    report.assert_chain(&["level_five", "level_four", "level_three"]);
}

fn refused_without_bpf() {
    let mut command = Command::new(wrapper("no_bpf.c"));
    command.arg("all").arg(binary());
    command.args(["--capture", "ring"]);
    refused(command, 4, &["CONFIG_BPF_SYSCALL"]);
}

/// As on a kernel that was built without it: perf events to do.
fn without_bpf_calls_are_found_all_the_same() {
    let program = Program::new("null_deep.c");
    let mut command = Command::new(wrapper("no_bpf.c"));
    command.arg("all").arg(binary());
    command.args(["-n", &program.name, "--format", "json", "-t"]);
    let monitor = Monitor::start_as(command);
    let pid = crash(&mut program.command());
    let report = only(monitor.stop().reports());
    assert_eq!(report["pid"], pid);
    report.assert_chain(&["level_five", "level_four", "level_three"]);
    // It is what the instruction says.
    assert_eq!(report.hex("fault_address"), 0, "{}", report.line);
}

/// Works, or says which file it missed; but does not report nonsense.
fn works_or_names_btf(mut command: Command) {
    let program = Program::new("null_deep.c");
    command.args(["-d", "20", "-n", &program.name, "--format", "json", "-t"]);
    let mut monitor = Monitor::spawn(command);
    let attached = eventually("attached or refused", PATIENCE, || {
        if monitor.stderr().contains("Monitoring") {
            return Some(true);
        }
        monitor.has_ended().then_some(false)
    });
    if !attached {
        let outcome = monitor.wait();
        assert_eq!(
            outcome.status.code(),
            Some(4),
            "{:?}: {}",
            outcome.status,
            outcome.stderr
        );
        assert!(outcome.stderr.contains("BTF"), "{}", outcome.stderr);
        return;
    }
    let pid = crash(&mut program.command());
    let report = only(monitor.wait_reports(1));
    assert_eq!(report["pid"], pid);
    assert_eq!(report["signal_code"], "SEGV_MAPERR");
    report.assert_chain(DEEP);
    monitor.stop();
}

fn without_sysfs_btf_comes_from_the_kernel() {
    let mut command = Command::new(wrapper("no_sys.c"));
    command.arg(binary());
    works_or_names_btf(command);
}

/// Neither /sys nor bpf(2) gives it.
fn refused_without_any_btf() {
    let mut command = Command::new(wrapper("no_sys.c"));
    command.arg(wrapper("no_bpf.c")).arg("btf").arg(binary());
    works_or_names_btf(command);
}

/// With too few of them it says so, and not before that it monitors.
fn refused_for_want_of_descriptors() {
    let mut is_enough = false;
    for method in ["ring", "chain", "perf"] {
        for limit in 6..60 {
            let mut command = Command::new("sh");
            command.arg("-c").arg("ulimit -n $0 && exec \"$@\"");
            command.arg(limit.to_string()).arg(binary());
            command.args(["-n", "nobody-has-this", "--capture", method]);
            let mut monitor = Monitor::spawn(command);
            is_enough = eventually("attached or refused", PATIENCE, || {
                let has_ended = monitor.has_ended();
                let is_attached = monitor.stderr().contains("Monitoring");
                (has_ended || is_attached).then_some(is_attached)
            });
            if is_enough {
                monitor.stop();
                break;
            }
            let outcome = monitor.wait();
            let said = &outcome.stderr;
            assert_eq!(outcome.status.code(), Some(1), "{method}, {limit}: {said}");
            assert!(said.contains("os error 24"), "{method}, {limit}: {said}");
            assert!(!said.contains("Monitoring"), "{method}, {limit}: {said}");
        }
        assert!(is_enough, "{method}: 60 are not enough");
    }
}

fn refused_in_a_user_namespace() {
    let mut command = Command::new("unshare");
    command.arg("-Ur").arg(binary());
    refused(command, 3, &["Permission denied", "user namespace"]);
}
