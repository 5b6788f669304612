//! `-- COMMAND`: a command that the tool runs and watches, and `-p` more than once.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::harness::{binary, crash, eventually, options_for_all, Monitor, Outcome, PATIENCE};
use crate::programs::{directory, Program};
use crate::report::{only, Report};
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        command_passes_its_status_on,
        command_has_its_streams_and_rights,
        command_is_the_only_one_reported,
        command_with_orphans,
        command_gets_signals,
        command_that_cannot_run,
        command_outlives_the_duration,
        several_processes_and_the_end_of_the_last,
    ],
    Needs::Nothing => [
        command_is_not_run_without_capture,
    ],
}

/// The tool around a shell script, with the paths of programs as `$0`, `$1` and so on.
fn around(options: &[&str], script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(options_for_all()).args(options);
    command.args(["--", "sh", "-c", script]).args(arguments);
    command
}

fn run(options: &[&str], script: &str, arguments: &[&str]) -> Outcome {
    Monitor::spawn(around(options, script, arguments)).wait()
}

/// The reports among what was written to standard error.
fn reports(outcome: &Outcome) -> Vec<Report> {
    let lines = outcome.stderr.lines();
    let lines = lines.filter(|line| line.starts_with('{'));
    lines.map(Report::parse).collect()
}

fn command_passes_its_status_on() {
    for status in [0, 1, 7, 255] {
        let outcome = run(&[], &format!("exit {status}"), &[]);
        assert_eq!(outcome.status.code(), Some(status), "{}", outcome.stderr);
    }
    let outcome = run(&[], "kill -TERM $$", &[]);
    assert_eq!(outcome.status.code(), Some(128 + libc::SIGTERM));
    let program = Program::new("null_deep.c");
    let mut command = Command::new(binary());
    command.args(options_for_all());
    command.args(["--format", "json", "--"]).arg(&program.path);
    let outcome = Monitor::spawn(command).wait();
    assert_eq!(outcome.status.code(), Some(128 + libc::SIGSEGV));
    let report = only(reports(&outcome));
    assert_eq!(report["comm"], *program.name);
}

/// As without the tool: what it reads and writes, its signals, its limits, its rights.
fn command_has_its_streams_and_rights() {
    let script = "cat; echo error >&2; ulimit -n; \
        grep -E '^(Sig(Blk|Ign)|Cap|NoNewPrivs)' /proc/self/status";
    let input = directory().join("input");
    fs::write(&input, "read\n").expect("our directory");
    let open = || fs::File::open(&input).expect("our file");
    let mut alone = Command::new("sh");
    let alone = alone.args(["-c", script]).stdin(open());
    let alone = alone.output().expect("sh");
    let mut command = around(&[], script, &[]);
    command.stdin(open());
    let outcome = Monitor::spawn(command).wait();
    assert_eq!(outcome.text(), String::from_utf8_lossy(&alone.stdout));
    assert!(outcome.text().starts_with("read\n"), "{}", outcome.text());
    let messages = |line: &&str| !line.starts_with("Warning: ");
    let said: Vec<&str> = outcome.stderr.lines().filter(messages).collect();
    assert_eq!(said, ["error"], "{}", outcome.stderr);
}

fn command_is_the_only_one_reported() {
    let (inside, outside) = (Program::new("null_deep.c"), Program::new("null_deep.c"));
    let reports = directory().join("reports");
    let gate = directory().join("gate");
    let options = ["--format", "json", "-o", reports.to_str().expect("a path")];
    let script = "sh -c '$0; exit 1' \"$0\"; echo ready; until test -e \"$1\"; do sleep 0.02; done";
    let arguments = [inside.path(), gate.to_str().expect("a path")];
    let monitor = Monitor::spawn(around(&options, script, &arguments));
    eventually("the command", PATIENCE, || {
        monitor.stdout().starts_with(b"ready").then_some(())
    });
    crash(&mut outside.command());
    fs::write(&gate, "").expect("our directory");
    let outcome = monitor.wait();
    assert_eq!(outcome.text(), "ready\n");
    let text = fs::read_to_string(&reports).expect("reports");
    let names: Vec<String> = text
        .lines()
        .map(|line| Report::parse(line).str("comm").to_owned())
        .collect();
    // Without the ring the parent may have ended when the tool looks for it.
    let is_ring = options_for_all().is_empty();
    assert!(
        names == [inside.name.clone()] || !is_ring && names.is_empty(),
        "{names:?}"
    );
}

/// A process whose parent has ended is the command's all the same.
fn command_with_orphans() {
    let program = Program::new("null_deep.c");
    let done = directory().join("done");
    // In a session of its own, and its parent is gone before it crashes.
    let script = "(setsid sh -c 'sleep 0.2; \"$0\"; : >\"$1\"' \"$0\" \"$1\" &); \
        until test -e \"$1\"; do sleep 0.02; done";
    let arguments = [program.path(), done.to_str().expect("a path")];
    let outcome = run(&["--format", "json"], script, &arguments);
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    assert_eq!(only(reports(&outcome))["comm"], *program.name);
}

fn command_gets_signals() {
    let script = "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.02; done";
    let monitor = Monitor::spawn(around(&[], script, &[]));
    eventually("the command", PATIENCE, || {
        monitor.stdout().starts_with(b"ready").then_some(())
    });
    monitor.signal(Signal::SIGTERM);
    let outcome = monitor.wait();
    assert_eq!(outcome.text(), "ready\ncaught\n");
    assert_eq!(outcome.status.code(), Some(9), "{}", outcome.stderr);
}

fn command_that_cannot_run() {
    for (command, status) in [("/nonexistent/program", 127), ("/etc/passwd", 126)] {
        let mut tool = Command::new(binary());
        tool.args(options_for_all()).args(["--", command]);
        let outcome = Monitor::spawn(tool).wait();
        assert_eq!(outcome.status.code(), Some(status), "{}", outcome.stderr);
        let said = format!("Error: cannot run {command}: ");
        assert!(outcome.stderr.contains(&said), "{}", outcome.stderr);
    }
}

fn command_outlives_the_duration() {
    let outcome = run(&["-d", "1"], "sleep 2; echo done; exit 5", &[]);
    assert_eq!(outcome.text(), "done\n");
    assert_eq!(outcome.status.code(), Some(5), "{}", outcome.stderr);
}

/// Nobody is to believe that a command was watched.
fn command_is_not_run_without_capture() {
    let mut tool = Command::new(binary());
    tool.args(["--btf", "/nonexistent", "--", "echo", "run"]);
    let outcome = Monitor::spawn(tool).wait();
    assert_ne!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    assert_eq!(outcome.status.signal(), None);
    assert_eq!(outcome.text(), "");
}

fn several_processes_and_the_end_of_the_last() {
    let programs = [(); 3].map(|()| Program::new("wait.c"));
    let mut children = programs.each_ref().map(|program| {
        let child = program.command().stdin(Stdio::piped()).spawn();
        child.expect("a program")
    });
    let pids = children.each_ref().map(|child| child.id().to_string());
    let options = ["-p", &pids[0], "-p", &pids[1], "--format", "json"];
    let mut monitor = Monitor::start(options.into_iter().chain(["--stats"]));
    assert!(
        monitor
            .stderr()
            .contains(&format!("of process {}, {}", pids[0], pids[1])),
        "{}",
        monitor.stderr()
    );
    let mut die = |child: usize| {
        let mut stdin = children[child].stdin.take().expect("piped");
        stdin.write_all(b"x").expect("it reads");
        let status = children[child].wait().expect("our child");
        assert_eq!(status.signal(), Some(libc::SIGSEGV));
    };
    die(2);
    die(0);
    monitor.wait_reports(1);
    assert!(!monitor.has_ended(), "one of them lives");
    die(1);
    let outcome = monitor.wait();
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    let found: Vec<String> = outcome
        .reports()
        .iter()
        .map(|report| report["pid"].to_string())
        .collect();
    assert_eq!(found, [&pids[0][..], &pids[1]]);
    let statistics = crate::statistics::Block::last(&outcome.stderr);
    assert!(statistics.count("Segfaults filtered out") >= 1);
    assert_eq!(statistics.count("Events submitted to userspace"), 2);
}
