//! What goes wrong around the tool: it is killed, it runs out of descriptors or memory, there
//! are two of it, it is the parent of what it watches. docs/security.md has the table.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::{sysconf, SysconfVar};

use crate::chains::DEEP;
use crate::harness::{binary, crash, eventually, status_of, Monitor, PATIENCE};
use crate::programs::{directory, Program};
use crate::report::{only, Report};
use crate::skip::skip;
use crate::statistics::Block;
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        fault_of_two_instances,
        fault_of_another_start,
        fault_of_few_descriptors,
        fault_of_little_address_space,
        fault_of_being_the_parent,
        fault_of_a_vanished_directory,
        fault_of_a_little_cgroup,
    ],
    Needs::Tool("prlimit") => [fault_of_descriptors_that_run_out],
    Needs::Alone => [fault_of_a_kill_at_any_moment],
}

/// A shell that sets a limit before it becomes the tool.
fn limited(limit: &str, options: &[&str]) -> Monitor {
    let mut command = Command::new("sh");
    let script = format!("{limit}; exec \"$0\" \"$@\"");
    command.args(["-c", &script]).arg(binary()).args(options);
    Monitor::start_as(command)
}

/// The kernel ends a write where a page of the file ends if the signal comes then. No other
/// line is cut off, and the next report with `--append` begins a line of its own.
fn fault_of_a_kill_at_any_moment() {
    let storm = Program::new("storm.c");
    let path = directory().join("reports");
    let text = path.to_str().expect("names made here are ASCII");
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    let page = usize::try_from(page.expect("known to each kernel")).expect("not negative");
    let options = [
        "-n",
        &storm.name,
        "-t",
        "--format",
        "json",
        "-a",
        "-o",
        text,
    ];
    let (mut begin, mut cut) = (0, 0);
    for milliseconds in [3, 7, 20, 60, 150] {
        let monitor = Monitor::start(options);
        let mut storming = storm
            .command()
            .args(["400", "4"])
            .stderr(Stdio::null())
            .spawn()
            .expect("a storm");
        eventually("a first report", PATIENCE, || {
            // One byte may be the end of the line that was cut off.
            (fs::metadata(&path).ok()?.len() > begin + 1).then_some(())
        });
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(milliseconds) {
            std::thread::sleep(Duration::from_millis(1));
        }
        monitor.signal(Signal::SIGKILL);
        let _ = monitor.wait();
        storming.wait().expect("our own child");
        let written = fs::read_to_string(&path).expect("JSON is ASCII");
        begin = written.len() as u64;
        if !written.ends_with('\n') {
            assert_eq!(
                written.len() % page,
                0,
                "half a line after {milliseconds} ms"
            );
            cut += 1;
        }
    }
    let monitor = Monitor::start(options);
    let mut once = storm.command();
    let once = once.args(["1", "1"]).stderr(Stdio::null()).status();
    once.expect("a single crash");
    monitor.stop();
    let written = fs::read_to_string(&path).expect("JSON is ASCII");
    assert!(written.ends_with('\n'), "the last report is cut off");
    let last_field = concat!(r#""version":""#, env!("CARGO_PKG_VERSION"), r#""}"#);
    let is_whole = |line: &&str| line.ends_with(last_field);
    let whole = written.lines().filter(is_whole).map(Report::parse).count();
    assert!(whole >= 5, "{whole}");
    assert_eq!(written.lines().count() - whole, cut);
}

fn fault_of_two_instances() {
    let program = Program::new("null_deep.c");
    let start = || Monitor::start(["-n", &program.name, "-t", "--format", "json", "--stats"]);
    let (one, other) = (start(), start());
    let pid = crash(&mut program.command());
    for monitor in [one, other] {
        let report = monitor.wait_report_of(pid);
        report.assert_chain(DEEP);
        report.assert_reaches_start();
        let page = Block::last(&monitor.stop().stderr);
        page.assert_balanced();
        assert_eq!(page.count("Events dropped"), 0, "{page:?}");
    }
}

/// Each start faults on purpose.
fn fault_of_another_start() {
    let program = Program::new("null_deep.c");
    let options = ["--signals", "all", "--format", "json", "--stats"];
    let monitor = Monitor::start(options);
    for method in ["auto", "measured"] {
        Monitor::start(["--signals", "all", "--capture", method]).stop();
    }
    let pid = crash(&mut program.command());
    monitor.wait_report_of(pid);
    let outcome = monitor.stop();
    let own = binary().display().to_string();
    for report in outcome.reports() {
        assert_ne!(report["exe"], own.as_str(), "{}", report.line);
    }
    Block::last(&outcome.stderr).assert_balanced();
}

fn fault_of_few_descriptors() {
    let program = Program::new("null_deep.c");
    let options = ["-n", &program.name, "-t", "--format", "json"];
    let monitor = limited("ulimit -n 24", &options);
    let pid = crash(&mut program.command());
    let report = monitor.wait_report_of(pid);
    // As many files as there are descriptors for; the others are missing for that reason.
    report.assert_chain(&["level_five", "level_four"]);
    let line = &report.line;
    let is_whole = report["stack_complete"] == true;
    assert!(
        is_whole || line.contains("no file descriptor left"),
        "{line}"
    );
    let outcome = monitor.stop();
    let said = "a file system that does not answer will stop this tool: the limit of open files";
    assert_eq!(
        outcome.stderr.matches(said).count(),
        1,
        "{}",
        outcome.stderr
    );
}

/// What is missing is missing for want of descriptors, and says so.
fn fault_of_descriptors_that_run_out() {
    let program = Program::new("null_deep.c");
    let options = ["-n", &program.name, "-t", "--format", "json"];
    let monitor = Monitor::start(options);
    let is_open = |number: &u32| {
        let entry = format!("/proc/{}/fd/{number}", monitor.id());
        fs::symlink_metadata(entry).is_ok()
    };
    let free = (0..).find(|number| !is_open(number)).expect("it runs");
    let pid = monitor.id().to_string();
    let limit = format!("--nofile={free}:");
    let limited = status_of(Command::new("prlimit").args(["--pid", &pid, &limit]));
    assert!(limited.success());
    let pid = crash(&mut program.command());
    let report = monitor.wait_report_of(pid);
    assert!(
        report.line.contains("no file descriptor left"),
        "{}",
        report.line
    );
    monitor.stop();
}

fn fault_of_little_address_space() {
    let program = Program::new("null_deep.c");
    let options = [
        "-n",
        &program.name,
        "-t",
        "--format",
        "json",
        "--memory-limit",
        "16",
    ];
    let monitor = limited("ulimit -v 65536", &options);
    let pid = crash(&mut program.command());
    monitor.wait_report_of(pid).assert_reaches_start();
    monitor.stop();
}

fn fault_of_a_little_cgroup() {
    let program = Program::new("null_deep.c");
    let roots = ["", "unified", "memory"];
    let group = roots.into_iter().find_map(|root| {
        let root = Path::new("/sys/fs/cgroup").join(root);
        let is_one = root.join("cgroup.procs").exists();
        let group = root.join(&program.name);
        if !is_one || fs::create_dir(&group).is_err() {
            return None;
        }
        let limits = ["memory.max", "memory.limit_in_bytes"].map(|name| group.join(name));
        let mut limits = limits.iter().filter(|limit| limit.exists());
        let is_limited = limits.any(|limit| fs::write(limit, "24M").is_ok());
        if !is_limited {
            let _ = fs::remove_dir(&group);
        }
        is_limited.then_some(group)
    });
    let Some(group) = group else {
        skip("no cgroup with a memory limit can be made here");
    };
    let join = format!("echo $$ >{}/cgroup.procs", group.display());
    let options = [
        "-n",
        &program.name,
        "-t",
        "--format",
        "json",
        "--memory-limit",
        "16",
    ];
    let monitor = limited(&join, &options);
    let pids: Vec<u32> = (0..50).map(|_| crash(&mut program.command())).collect();
    for pid in pids {
        monitor.wait_report_of(pid).assert_reaches_start();
    }
    monitor.stop();
    // The tool does not wait for the end of its openers.
    eventually("an empty group", PATIENCE, || fs::remove_dir(&group).ok());
}

/// A shell that becomes the tool has started the program before.
fn fault_of_being_the_parent() {
    let program = Program::new("null_deep.c");
    let child = format!("(sleep 1; exec {}) &", program.path());
    let mut command = Command::new("sh");
    let script = format!("{child} exec \"$0\" \"$@\"");
    let options = ["-n", &program.name, "-t", "--format", "json", "-d", "4"];
    command.args(["-c", &script]).arg(binary()).args(options);
    command.process_group(0);
    let monitor = Monitor::start_as(command);
    let outcome = monitor.wait();
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    only(outcome.reports()).assert_reaches_start();
}

/// The file is written on, though it has no name any more.
fn fault_of_a_vanished_directory() {
    let program = Program::new("null_deep.c");
    let place = directory();
    let path = place.join("reports");
    let text = path.to_str().expect("names made here are ASCII");
    let monitor = Monitor::start(["-n", &program.name, "--stats", "-o", text]);
    fs::remove_dir_all(&place).expect("our own directory");
    crash(&mut program.command());
    monitor.signal(Signal::SIGHUP);
    crash(&mut program.command());
    let outcome = monitor.stop();
    let page = Block::last(&outcome.stderr);
    page.assert_balanced();
    assert_eq!(page.count("Events processed"), 2, "{page:?}");
}
