//! How monitoring begins and ends: the line that scripts wait for, the end of the
//! time, signals, and that the last events are not lost.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{crash, eventually, Monitor, PATIENCE};
use crate::programs::Program;
use crate::skip::{not_applicable, skip};
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        lifetime_is_infinite_by_default,
        lifetime_ends_with_its_duration,
        lifetime_ends_on_sigint,
        lifetime_ends_on_sigterm,
        lifetime_sees_what_happens_once_attached,
    ],
    Needs::Alone => [
        lifetime_ends_with_the_last_events,
        lifetime_goes_on_when_a_cpu_comes_back,
    ],
}

/// The second CPU, where it can be switched off; on again in any case.
struct SecondCpu;

impl SecondCpu {
    const SWITCH: &str = "/sys/devices/system/cpu/cpu1/online";

    fn turn(on: bool) -> std::io::Result<()> {
        std::fs::write(Self::SWITCH, if on { "1" } else { "0" })
    }
}

impl Drop for SecondCpu {
    fn drop(&mut self) {
        let _ = Self::turn(true);
    }
}

/// What has a ring for each CPU must give it a new one.
fn lifetime_goes_on_when_a_cpu_comes_back() {
    if !std::path::Path::new(SecondCpu::SWITCH).exists() {
        not_applicable("no second CPU here that can be switched off");
    }
    let program = Program::new("quick.c");
    let on_second_cpu = || {
        let mut command = std::process::Command::new("taskset");
        command.args(["-c", "1", "sh", "-c", "exec \"$0\""]);
        command.arg(program.path());
        crash(&mut command)
    };
    for method in ["ring", "chain", "tracepoint"] {
        let args = ["-n", &program.name, "--format", "json"];
        let monitor = Monitor::start([&args[..], &["--capture", method]].concat());
        let _second = SecondCpu;
        if let Err(error) = SecondCpu::turn(false) {
            skip(format_args!("{}: {error}", SecondCpu::SWITCH));
        }
        let pid = crash(&mut program.command());
        monitor.wait_report_of(pid);
        SecondCpu::turn(true).expect("it was on before");
        // The kernel announces it; then the ring is made. Until it is there, a crash on
        // that CPU may be missed.
        eventually("a ring for the CPU that came back", PATIENCE, || {
            let pid = on_second_cpu();
            monitor.report_of_within(pid, Duration::from_millis(200))
        });
        for _ in 0..2 {
            monitor.wait_report_of(on_second_cpu());
        }
        monitor.stop();
    }
}

fn lifetime_is_infinite_by_default() {
    for args in [&[][..], &["-d", "0"]] {
        let program = Program::new("quick.c");
        let begin = Instant::now();
        let monitor = Monitor::start([&["-n", &program.name, "--format", "json"], args].concat());
        while begin.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(50));
        }
        crash(&mut program.command());
        monitor.wait_reports(1);
        monitor.stop();
    }
}

fn lifetime_ends_with_its_duration() {
    let program = Program::new("quick.c");
    let begin = Instant::now();
    let monitor = Monitor::start([
        "-d",
        "2",
        "-n",
        &program.name,
        "--format",
        "json",
        "--stats",
    ]);
    crash(&mut program.command());
    let outcome = monitor.wait();
    let took = begin.elapsed();
    assert_eq!(outcome.status.code(), Some(0), "{:?}", outcome.status);
    assert!(
        took >= Duration::from_millis(1990) && took < Duration::from_secs(6),
        "{took:?}"
    );
    assert_eq!(outcome.reports().len(), 1);
    assert!(
        outcome.stderr.contains("Statistics"),
        "also at the end: {}",
        outcome.stderr
    );
}

fn ends_on(signal: Signal) {
    let program = Program::new("quick.c");
    let monitor = Monitor::start(["-n", &program.name, "--format", "json"]);
    crash(&mut program.command());
    monitor.signal(signal);
    let outcome = monitor.wait();
    assert_eq!(outcome.status.code(), Some(0), "{:?}", outcome.status);
    assert_eq!(
        outcome.reports().len(),
        1,
        "the crash came before the signal"
    );
}

fn lifetime_ends_on_sigint() {
    ends_on(Signal::SIGINT);
}

fn lifetime_ends_on_sigterm() {
    ends_on(Signal::SIGTERM);
}

/// When the monitor runs again it finds twenty events and the request to end. Alone, because
/// what other tests start meanwhile fills the rings of perf events too.
fn lifetime_ends_with_the_last_events() {
    let program = Program::new("quick.c");
    let monitor = Monitor::start(["-n", &program.name, "--format", "json"]);
    monitor.signal(Signal::SIGSTOP);
    for _ in 0..20 {
        crash(&mut program.command());
    }
    monitor.signal(Signal::SIGINT);
    monitor.signal(Signal::SIGCONT);
    let outcome = monitor.wait();
    assert_eq!(outcome.status.code(), Some(0), "{:?}", outcome.status);
    assert_eq!(outcome.reports().len(), 20);
}

/// `Monitoring` is said after the attachment, not before.
fn lifetime_sees_what_happens_once_attached() {
    let program = Program::new("quick.c");
    for _ in 0..10 {
        let monitor = Monitor::start(["-n", &program.name, "--format", "json"]);
        crash(&mut program.command());
        let outcome = monitor.stop();
        assert_eq!(outcome.reports().len(), 1);
        let lines = outcome
            .stderr
            .lines()
            .filter(|line| line.starts_with("Monitoring"))
            .count();
        assert_eq!(lines, 1, "said once: {}", outcome.stderr);
    }
}
