//! Reports on standard output: whole ones, at once, until the reader has gone.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::harness::{binary, crash, eventually, Monitor, PATIENCE};
use crate::programs::{directory, wait_lines, Program};
use crate::report::{only, Report};
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        pipe_by_its_name,
        pipe_gets_each_report_in_one_write,
        pipe_ends_with_sighup,
        pipe_closed_ends_with_0,
        pipe_with_a_stopped_reader_ends,
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
