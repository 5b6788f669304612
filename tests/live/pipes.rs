//! Reports on standard output: whole ones, at once, until the reader has gone.

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::harness::{binary, complete_lines, crash, eventually, status_of, Monitor, PATIENCE};
use crate::programs::{directory, wait_lines, Program};
use crate::report::{only, Report};
use crate::statistics::Block;
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        pipe_by_its_name,
        pipe_gets_each_report_in_one_write,
        pipe_ends_with_sighup,
        pipe_closed_ends_with_0,
        pipe_with_a_stopped_reader_ends,
    ],
    Needs::Alone => [
        pipe_with_a_stopped_reader_loses_nothing,
        pipe_with_a_stopped_reader_and_no_room_costs_nothing,
    ],
}

fn pipe_by_its_name() {
    let program = Program::new("quick.c");
    let monitor = Monitor::start(["-n", &program.name, "--format", "json", "-o", "/dev/stdout"]);
    crash(&mut program.command());
    only(monitor.stop().reports());

    let path = directory().join("redirected");
    let mut command = Command::new(binary());
    command.args(["-n", &program.name, "--format", "json", "-o", "/dev/stdout"]);
    command.stdout(File::create(&path).expect("our directory"));
    let mut monitor = Monitor::spawn_redirected(command);
    monitor.wait_attached();
    crash(&mut program.command());
    wait_lines(&path, 1);
    monitor.stop();
}

/// A socket that keeps the borders between writes shows them.
fn pipe_gets_each_report_in_one_write() {
    for options in [&["--format", "json", "-t", "-r"][..], &["-t", "-r"], &[]] {
        let program = Program::new("null_deep.c");
        let (ours, theirs) = UnixDatagram::pair().expect("a socket pair");
        ours.set_nonblocking(true).expect("our socket");
        let mut command = Command::new(binary());
        command
            .args(["-n", &program.name])
            .args(options)
            .stdout(Stdio::from(OwnedFd::from(theirs)));
        let mut monitor = Monitor::spawn_redirected(command);
        monitor.wait_attached();
        for _ in 0..3 {
            let pid = crash(&mut program.command()).to_string();
            let mut buffer = vec![0; 1 << 20];
            let length = eventually("a report", PATIENCE, || ours.recv(&mut buffer).ok());
            let text = std::str::from_utf8(&buffer[..length]).expect("UTF-8");
            assert!(
                text.ends_with('\n') && text.contains(&pid),
                "{options:?}: not a whole report: {text}"
            );
            if options.contains(&"json") {
                Report::parse(text.strip_suffix('\n').expect("checked"));
            } else {
                assert_eq!(text.matches("SEGFAULT").count(), 1, "{text}");
                assert!(
                    !options.contains(&"-t") || text.contains("main+0x"),
                    "to its last line: {text}"
                );
            }
        }
        monitor.stop();
    }
}

/// Without a file to open anew, the terminal is gone.
fn pipe_ends_with_sighup() {
    let program = Program::new("quick.c");
    let monitor = Monitor::start(["-n", &program.name, "--format", "json"]);
    crash(&mut program.command());
    monitor.signal(Signal::SIGHUP);
    let outcome = monitor.wait();
    assert_eq!(outcome.status.code(), Some(0), "{:?}", outcome.status);
    assert_eq!(outcome.reports().len(), 1, "drained");
}

/// As in `segfault_analyzer | head -1`.
fn pipe_closed_ends_with_0() {
    for options in [&["--format", "json"][..], &[]] {
        let program = Program::new("quick.c");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let mut command = Command::new(binary());
        command
            .args(["-n", &program.name])
            .args(options)
            .stdout(writer);
        let mut monitor = Monitor::spawn_redirected(command);
        monitor.wait_attached();
        crash(&mut program.command());
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line).expect("a line");
        assert!(!line.is_empty());
        crash(&mut program.command());
        let outcome = monitor.wait();
        assert_eq!(
            outcome.status.code(),
            Some(0),
            "{:?}: {}",
            outcome.status,
            outcome.stderr
        );
    }
}

/// Several reports wait for the reader, and one signal is enough.
fn pipe_with_a_stopped_reader_ends() {
    let program = Program::new("quick.c");
    let (_reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = Command::new(binary());
    command
        .args(["-n", &program.name, "--format", "json", "-t", "-r"])
        .stdout(writer);
    let mut monitor = Monitor::spawn_redirected(command);
    monitor.wait_attached();
    // More than the 64 KB that a pipe holds.
    for _ in 0..60 {
        crash(&mut program.command());
    }
    monitor.signal(Signal::SIGTERM);
    let outcome = monitor.wait();
    assert_eq!(outcome.status.code(), Some(1), "{:?}", outcome.status);
    assert!(
        outcome.stderr.contains("could not be written"),
        "{}",
        outcome.stderr
    );
}

/// A monitor whose output nobody reads yet, and what reads it.
fn unread(program: &Program, method: &str, options: &[&str]) -> (Monitor, PipeReader) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = Command::new(binary());
    command
        .args(["-n", &program.name, "--format", "json", "-t", "--stats"])
        .args(["--stats-interval", "1", "--capture", method])
        .args(["--stack-snapshot", "8"])
        .args(options)
        .stdout(writer);
    let mut monitor = Monitor::spawn_redirected(command);
    monitor.wait_attached();
    (monitor, reader)
}

fn storm(program: &Program, crashes: u64) {
    let mut command = program.command();
    command.args([&crashes.to_string(), "1"]);
    assert!(status_of(&mut command).success());
}

/// Reads what has come and what is still to come; how many reports that were, once the
/// monitor has ended, and its last page of statistics.
fn read_again(monitor: Monitor, mut reader: PipeReader) -> (u64, Block) {
    let all = std::thread::spawn(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).map(|_| all)
    });
    // Without one more crash: what takes reports again wakes it by itself.
    eventually("what waited to be written", PATIENCE, || {
        let pages = Block::all(&monitor.stderr());
        let page = pages.last()?;
        let is_done = page.count("Reports not written") == 0
            && page.count("Events processed") == page.count("Events submitted to userspace");
        is_done.then_some(())
    });
    let outcome = monitor.stop();
    let all = all.join().expect("it ends").expect("it reads");
    let lines = complete_lines(&all);
    lines.iter().for_each(|line| {
        Report::parse(line);
    });
    (lines.len() as u64, Block::last(&outcome.stderr))
}

/// More than the ring holds, while the memory that is allowed holds far more.
fn pipe_with_a_stopped_reader_loses_nothing() {
    const CRASHES: u64 = 800;
    let program = Program::new("storm.c");
    // With perf events each CPU has a quarter of it, and all of a stack comes with each crash.
    for (method, ring_kb) in [("ring", "1024"), ("chain", "1024"), ("perf", "16384")] {
        let (monitor, reader) = unread(&program, method, &["--ring-buffer", ring_kb]);
        storm(&program, CRASHES);
        let pages = Block::all(&monitor.stderr()).len();
        eventually("statistics meanwhile", PATIENCE, || {
            let pages = Block::all(&monitor.stderr()).len() - pages;
            (pages >= 3).then_some(())
        });
        let page = Block::last(&monitor.stderr());
        let submitted = page.count("Events submitted to userspace");
        assert_eq!(submitted, CRASHES, "{method}: {page:?}");
        assert!(
            page.count("Events processed") < CRASHES / 2,
            "{method}: nobody reads: {page:?}"
        );
        let (reports, page) = read_again(monitor, reader);
        page.assert_balanced();
        assert_eq!(reports, CRASHES, "{method}: {page:?}");
        assert_eq!(page.count("Events dropped"), 0, "{method}: {page:?}");
        assert!(page.number("Memory usage (% of limit)") <= 100.0);
    }
}

/// With all memory taken the rings fill up; that is no reason to run.
fn pipe_with_a_stopped_reader_and_no_room_costs_nothing() {
    const CRASHES: u64 = 1500;
    let program = Program::new("storm.c");
    for method in ["ring", "chain", "perf"] {
        let options = ["--ring-buffer", "256", "--memory-limit", "5"];
        let (monitor, reader) = unread(&program, method, &options);
        storm(&program, CRASHES);
        let before = ticks(monitor.id());
        std::thread::sleep(std::time::Duration::from_secs(2));
        let taken = ticks(monitor.id()) - before;
        assert!(taken < 20, "{method}: {taken} ticks in 2 s");
        let page = Block::last(&monitor.stderr());
        assert!(
            page.number("Memory usage (% of limit)") <= 100.0,
            "{page:?}"
        );
        let (reports, page) = read_again(monitor, reader);
        page.assert_balanced();
        let dropped = page.count("Events dropped");
        assert_eq!(reports + dropped, CRASHES, "{method}: {page:?}");
        assert!(
            dropped > 0,
            "{method}: {CRASHES} were to be too many: {page:?}"
        );
    }
}

/// Processor time in user and in kernel mode: hundredths of a second.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, rest) = stat.rsplit_once(')').expect("the name's end");
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| fields[at].parse::<u64>().expect("a number");
    number(11) + number(12)
}
