//! `-p`, `-n` and none: who is reported, and that the rest is left out in the
//! kernel, where it is counted.

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::harness::{binary, crash, Monitor};
use crate::programs::{compile, copy, directory, unique, wrapper, Program, PIE};
use crate::report::only;
use crate::statistics::Block;
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        filter_by_pid,
        filter_by_pid_sees_all_threads,
        filter_by_pid_of_its_own_namespace,
        filter_by_process_name,
        filter_by_part_of_a_name,
        filter_by_thread_name,
        filter_by_executable_name,
        filter_by_name_and_pid,
        filter_leaves_out_in_the_kernel,
        filter_none_reports_everybody,
        filter_sees_the_process_of_another_namespace,
    ],
}

fn waiting(program: &Program) -> Child {
    program
        .command()
        .stdin(Stdio::piped())
        .spawn()
        .expect("start wait")
}

fn release(child: &mut Child) {
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(b"x")
        .expect("it reads");
    child.wait().expect("our child");
}

fn filter_by_pid() {
    let program = Program::new("wait.c");
    let (mut other, mut wanted) = (waiting(&program), waiting(&program));
    let pid = wanted.id().to_string();
    let monitor = Monitor::start(["-p", &pid, "--format", "json", "--stats"]);
    release(&mut other);
    release(&mut wanted);
    let outcome = monitor.stop();
    assert_eq!(only(outcome.reports())["pid"], wanted.id());
    let statistics = Block::last(&outcome.stderr);
    assert_eq!(statistics.count("Events submitted to userspace"), 1);
    assert!(
        statistics.count("Segfaults filtered out") >= 1,
        "{statistics:?}"
    );
}

/// A process id is not a thread id: any thread of the process counts.
fn filter_by_pid_sees_all_threads() {
    let dir = directory();
    let gate = dir.join("gate");
    mkfifo(&gate, Mode::S_IRWXU).expect("a fifo");
    let program = Program::new("named_thread.c");
    // `exec` keeps the process id that the shell has while it waits at the gate.
    let mut child = Command::new("sh")
        .args(["-c", r#"read byte < "$1"; exec "$2""#, "sh"])
        .args([&gate, &program.path])
        .current_dir(&dir)
        .spawn()
        .expect("sh");
    let monitor = Monitor::start(["--pid", &child.id().to_string(), "--format", "json"]);
    fs::write(&gate, "x\n").expect("the shell reads");
    child.wait().expect("our child");
    let report = only(monitor.stop().reports());
    assert_eq!(report["pid"], child.id());
    assert_ne!(report["tid"], child.id());
}

/// Inside a container the tool is given, and gives, the container's process ids.
fn filter_by_pid_of_its_own_namespace() {
    let gate = directory().join("gate");
    mkfifo(&gate, Mode::S_IRWXU).expect("a fifo");
    let program = Program::new("wait.c");
    let mut command = Command::new(wrapper("pid_namespace.c"));
    command.args([
        "sh",
        "-c",
        r#""$1" < "$2" & exec "$3" -p $! --format json"#,
        "sh",
    ]);
    command.args([&program.path, &gate, &binary()]);
    let monitor = Monitor::start_as(command);
    fs::write(&gate, "x").expect("the program reads");
    let report = only(monitor.wait_reports(1));
    assert_eq!(report["comm"], *program.name);
    let pid = report["pid"].as_u64().expect("a pid");
    assert!(
        (2..20).contains(&pid),
        "a small id in a new namespace: {}",
        report.line
    );
    let host = report["host_pid"]
        .as_u64()
        .unwrap_or_else(|| panic!("no host_pid: {}", report.line));
    assert!(host > pid, "{}", report.line);
    monitor.stop();
}

/// A process in another namespace has the id that the tool can see.
fn filter_sees_the_process_of_another_namespace() {
    let program = Program::new("quick.c");
    let monitor = Monitor::start(["-n", &program.name, "--format", "json", "-t"]);
    let status = Command::new(wrapper("pid_namespace.c"))
        .arg(&program.path)
        .status()
        .expect("start");
    assert_eq!(status.code(), Some(128 + libc::SIGSEGV));
    let report = only(monitor.stop().reports());
    // Perf events alone have it only of a process that is still there when they are read.
    let is_gone = report.line.contains("\"ns_pid: perf events do not have it");
    assert!(
        report["ns_pid"] == 1 || is_gone,
        "the first process of its namespace: {}",
        report.line
    );
    assert_ne!(report["pid"], 1, "{}", report.line);
    report.assert_chain(&["quick_crash", "main"]);
}

/// The leader's name, which the process itself has changed.
fn filter_by_process_name() {
    let program = Program::new("odd_name.c");
    let name = unique("renam");
    let monitor = Monitor::start(["--process-name", &name, "--format", "json"]);
    crash(&mut program.command());
    crash(program.command().arg(&name));
    let report = only(monitor.stop().reports());
    assert_eq!(report["comm"], *name);
    assert_eq!(report["exe"], program.path());
}

fn filter_by_part_of_a_name() {
    let program = Program::new("quick.c");
    let part = &program.name[2..program.name.len() - 1];
    let monitor = Monitor::start(["-n", part, "--format", "json"]);
    crash(&mut program.command());
    let reports = monitor.stop().reports();
    assert!(
        reports.iter().any(|report| report["comm"] == *program.name),
        "{reports:#?}"
    );
    assert!(
        reports
            .iter()
            .all(|report| report.str("exe").contains(part)),
        "{reports:#?}"
    );
}

fn filter_by_thread_name() {
    let program = Program::new("named_thread.c");
    let thread = unique("thr");
    let monitor = Monitor::start(["-n", &thread, "--format", "json"]);
    crash(&mut program.command());
    crash(program.command().arg(&thread));
    let report = only(monitor.stop().reports());
    assert_eq!(
        (report.str("comm"), report.str("thread")),
        (&*program.name, &*thread)
    );
}

/// Beyond the 15 bytes that the kernel keeps of a name.
fn filter_by_executable_name() {
    let name = unique("exe");
    let path = directory().join(format!("a_long_name_with_its_mark_at_the_end_{name}"));
    copy(&compile("quick.c", PIE), &path);
    let monitor = Monitor::start(["-n", &name, "--format", "json"]);
    crash(&mut crate::programs::command(&path));
    let report = only(monitor.stop().reports());
    assert_eq!(report["comm"], "a_long_name_wit");
    assert_eq!(report["exe"], path.to_str().expect("ASCII"));
}

/// Both given: both must match.
fn filter_by_name_and_pid() {
    let program = Program::new("wait.c");
    let (mut other, mut wanted) = (waiting(&program), waiting(&program));
    let (pid, absent) = (wanted.id().to_string(), unique("none"));
    let both = Monitor::start(["-p", &pid, "-n", &program.name, "--format", "json"]);
    let neither = Monitor::start(["-p", &pid, "-n", &absent, "--format", "json"]);
    release(&mut other);
    release(&mut wanted);
    assert_eq!(only(both.stop().reports())["pid"], wanted.id());
    assert_eq!(neither.stop().reports().len(), 0);
}

fn filter_leaves_out_in_the_kernel() {
    let program = Program::new("quick.c");
    let absent = unique("none");
    let monitor = Monitor::start(["-n", &absent, "--stats"]);
    for _ in 0..7 {
        crash(&mut program.command());
    }
    let outcome = monitor.stop();
    assert_eq!(outcome.text(), "");
    let statistics = Block::last(&outcome.stderr);
    assert!(
        statistics.count("Segfaults filtered out") >= 7,
        "{statistics:?}"
    );
    assert_eq!(statistics.count("Events captured"), 0);
    assert_eq!(statistics.count("Events submitted to userspace"), 0);
    assert_eq!(statistics.count("Events dropped"), 0);
    statistics.assert_balanced();
}

fn filter_none_reports_everybody() {
    let programs = [
        Program::new("quick.c"),
        Program::new("null_deep.c"),
        Program::new("odd_name.c"),
    ];
    let monitor = Monitor::start(["--format", "json"]);
    for program in &programs {
        crash(&mut program.command());
    }
    let reports = monitor.stop().reports();
    for program in &programs {
        let found = reports
            .iter()
            .filter(|report| report["comm"] == *program.name)
            .count();
        assert_eq!(found, 1, "{} in {reports:#?}", program.name);
    }
}
