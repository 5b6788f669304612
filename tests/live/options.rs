//! Every option in each of its spellings does what it does, and nothing else by
//! default.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{crash, run, Monitor};
use crate::programs::{directory, Program};
use crate::report::{only, Report};
use crate::statistics::Block;
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        option_defaults,
        option_duration,
        option_pid,
        option_pid_of_nobody,
        option_process_name,
        option_registers,
        option_stack_trace,
        option_max_stack_depth,
        option_output,
        option_format,
        option_append,
        option_stats,
        option_stats_interval,
        option_limits,
        option_verbose,
        option_fatal_only,
        option_ring_buffer,
        option_letters_together,
        option_count,
        option_rotate,
        option_output_to_a_fifo_without_a_reader,
        statistics_on_request,
    ],
}

/// Runs one crash under each spelling, and gives stdout and stderr to `check`.
fn each(spellings: &[&[&str]], more: &[&str], check: impl Fn(&str, &str)) {
    for spelling in spellings {
        let program = Program::new("null_deep.c");
        let monitor = Monitor::start([&["-n", &program.name], more, *spelling].concat());
        crash(&mut program.command());
        let outcome = monitor.stop();
        check(outcome.text(), &outcome.stderr);
    }
}

fn option_defaults() {
    each(&[&[]], &[], |stdout, stderr| {
        assert!(stdout.starts_with('['), "text, on stdout: {stdout}");
        assert!(
            !stdout.contains("Registers") && !stdout.contains("Stack Trace"),
            "{stdout}"
        );
        assert!(!stderr.contains("Statistics"), "{stderr}");
        assert!(stderr.lines().count() <= 2, "no chatter: {stderr}");
    });
}

fn option_duration() {
    for spelling in [
        &["-d", "1"][..],
        &["-d1"],
        &["--duration", "1"],
        &["--duration=1"],
    ] {
        let begin = Instant::now();
        let outcome = run(spelling);
        assert_eq!(
            outcome.status.code(),
            Some(0),
            "{spelling:?}: {}",
            outcome.stderr
        );
        let took = begin.elapsed();
        assert!(
            took >= Duration::from_millis(990) && took < Duration::from_secs(4),
            "{spelling:?}: {took:?}"
        );
    }
}

fn option_pid() {
    let program = Program::new("null_deep.c");
    // Nobody has this id: the kernel counts to 4,194,304 at most.
    for spelling in [
        &["-p", "4194304"][..],
        &["--pid", "4194304"],
        &["--pid=4194304"],
    ] {
        let monitor = Monitor::start(spelling);
        crash(&mut program.command());
        assert_eq!(monitor.stop().text(), "", "{spelling:?}");
    }
}

fn option_pid_of_nobody() {
    let mut child = std::process::Command::new("true").spawn().expect("true");
    child.wait().expect("our own child");
    let pid = child.id().to_string();
    let outcome = Monitor::start(["-p", &pid]).stop();
    let warning = format!("Warning: no process {pid} exists now\n");
    assert!(outcome.stderr.starts_with(&warning), "{}", outcome.stderr);
    let own = std::process::id().to_string();
    let outcome = Monitor::start(["-p", &own]).stop();
    assert!(!outcome.stderr.contains("Warning"), "{}", outcome.stderr);
}

fn option_process_name() {
    let program = Program::new("null_deep.c");
    let joined = format!("--process-name={}", program.name);
    for spelling in [
        &["-n", &program.name][..],
        &["--process-name", &program.name],
        &[&joined],
    ] {
        let monitor = Monitor::start([spelling, &["--format", "json"]].concat());
        crash(&mut Program::new("quick.c").command());
        crash(&mut program.command());
        assert_eq!(
            only(monitor.stop().reports())["comm"],
            *program.name,
            "{spelling:?}"
        );
    }
}

fn option_registers() {
    each(&[&["-r"], &["--registers"]], &[], |stdout, _| {
        assert_eq!(stdout.matches("  Registers (").count(), 1, "{stdout}");
    });
}

fn option_stack_trace() {
    each(&[&["-t"], &["--stack-trace"]], &[], |stdout, _| {
        assert_eq!(stdout.matches("  Stack Trace (").count(), 1, "{stdout}");
    });
}

fn option_max_stack_depth() {
    each(
        &[&["--max-stack-depth", "3"], &["--max-stack-depth=3"]],
        &["-t"],
        |stdout, _| {
            assert!(
                !cfg!(feature = "dwarf") || stdout.contains("  Stack Trace (3 frames):"),
                "{stdout}"
            );
            assert!(!stdout.contains("#3"), "{stdout}");
        },
    );
}

fn option_output() {
    for (number, letter) in [&["-o"][..], &["--output"], &["--output="]]
        .into_iter()
        .enumerate()
    {
        let path = directory().join(format!("log{number}"));
        let path = path.to_str().expect("ASCII");
        let joined = format!("{}{path}", letter[0]);
        let spelling = if letter[0].ends_with('=') {
            vec![joined.as_str()]
        } else {
            vec![letter[0], path]
        };
        each(&[&spelling], &[], |stdout, _| {
            assert_eq!(stdout, "", "it goes to the file");
            let text = fs::read_to_string(path).expect("the file");
            assert_eq!(text.matches("SEGFAULT").count(), 1, "{text}");
        });
    }
}

fn option_format() {
    each(
        &[&["--format", "json"], &["--format=json"]],
        &[],
        |stdout, _| assert!(stdout.starts_with('{')),
    );
    each(
        &[&["--format", "text"], &["--format=text"]],
        &[],
        |stdout, _| assert!(stdout.starts_with('[')),
    );
}

fn option_append() {
    for spelling in ["-a", "--append"] {
        let path = directory().join("log");
        fs::write(&path, "what was there\n").expect("our directory");
        each(
            &[&[spelling, "-o", path.to_str().expect("ASCII")]],
            &[],
            |_, _| {},
        );
        let text = fs::read_to_string(&path).expect("the file");
        assert!(
            text.starts_with("what was there\n") && text.contains("SEGFAULT"),
            "{spelling}: {text}"
        );
    }
}

fn option_stats() {
    each(&[&["--stats"]], &[], |_, stderr| {
        assert!(
            stderr.contains("=== Segfault Analyzer Statistics ==="),
            "{stderr}"
        );
    });
}

fn option_stats_interval() {
    for spelling in [&["--stats-interval", "1"][..], &["--stats-interval=1"]] {
        let outcome = run([&["-d", "3", "--stats", "-n", "nobody-has-this"], spelling].concat());
        let printed = outcome
            .stderr
            .matches("=== Segfault Analyzer Statistics ===")
            .count();
        assert!(
            (3..=4).contains(&printed),
            "{spelling:?}: {printed} printings in 3 s"
        );
    }
}

fn option_limits() {
    let spellings: &[&[&str]] = &[
        &["--symbol-cache-limit", "2000", "--memory-limit", "200"],
        &["--symbol-cache-limit=2000", "--memory-limit=200"],
    ];
    each(spellings, &["--stats"], |stdout, stderr| {
        assert_eq!(stdout.matches("SEGFAULT").count(), 1, "{stdout}");
        let block = crate::statistics::Block::last(stderr);
        let expected = block.number("Estimated memory usage") / 2.0;
        let found = block.number("Memory usage (% of limit)");
        assert!((found - expected).abs() < 0.06, "of 200 MB: {block:?}");
    });
}

fn option_verbose() {
    let mut quiet = 0;
    each(&[&[]], &["--format", "json"], |_, stderr| {
        assert!(!stderr.is_empty())
    });
    let program = Program::new("quick.c");
    for spelling in [&[][..], &["-v"], &["--verbose"]] {
        let monitor =
            Monitor::start([&["-n", &program.name, "--format", "json"], spelling].concat());
        crash(&mut program.command());
        let outcome = monitor.stop();
        only(outcome.reports());
        let lines = outcome.stderr.lines().count();
        if spelling.is_empty() {
            quiet = lines;
        } else {
            assert!(lines > quiet, "{spelling:?} says more: {}", outcome.stderr);
        }
    }
}

fn option_fatal_only() {
    each(&[&["--fatal-only"]], &[], |stdout, _| {
        assert_eq!(stdout.matches("SEGFAULT").count(), 1)
    });
}

fn option_ring_buffer() {
    each(
        &[&["--ring-buffer", "128"], &["--ring-buffer=128"]],
        &["--stats"],
        |stdout, stderr| {
            assert_eq!(stdout.matches("SEGFAULT").count(), 1, "{stdout}");
            assert!(
                stderr.contains("  Ring buffer size (fixed):     128 KB\n"),
                "{stderr}"
            );
        },
    );
}

fn option_letters_together() {
    each(&[&["-rt"], &["-tr"], &["-rtv"]], &[], |stdout, _| {
        assert!(
            stdout.contains("  Registers (") && stdout.contains("  Stack Trace ("),
            "{stdout}"
        );
    });
}

fn option_count() {
    let program = Program::new("null_deep.c");
    let monitor = Monitor::start(["-n", &program.name, "--format", "json", "--count", "2"]);
    for _ in 0..4 {
        crash(&mut program.command());
    }
    let outcome = monitor.wait();
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    assert_eq!(outcome.reports().len(), 2);
}

/// Each report is whole, in one of the files.
fn option_rotate() {
    let program = Program::new("null_deep.c");
    let path = directory().join("reports");
    let file = path.to_str().expect("a path");
    let options = ["--format", "json", "-t", "-o", file, "--rotate", "5K,2"];
    let monitor = Monitor::start([&["-n", &program.name], &options[..]].concat());
    for _ in 0..4 {
        crash(&mut program.command());
    }
    monitor.stop();
    let sizes = [file.to_owned(), format!("{file}.1"), format!("{file}.2")].map(|name| {
        let text = fs::read_to_string(&name).unwrap_or_else(|error| panic!("{name}: {error}"));
        text.lines().for_each(|line| drop(Report::parse(line)));
        text.len()
    });
    assert!(
        sizes.iter().all(|size| (1..=5 << 10).contains(size)),
        "{sizes:?}"
    );
    assert!(!path.with_extension("3").exists());
}

/// It says so, and ends in time although nobody ever reads.
fn option_output_to_a_fifo_without_a_reader() {
    let program = Program::new("null_deep.c");
    let fifo = directory().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    let file = fifo.to_str().expect("a path");
    let options = [
        "-n",
        &program.name,
        "-r",
        "-t",
        "--format",
        "json",
        "-o",
        file,
        "-d",
        "3",
    ];
    let begin = Instant::now();
    let monitor = Monitor::start(options);
    let said = format!("Warning: {file} has no reader yet; reports wait for one");
    assert!(monitor.stderr().contains(&said), "{}", monitor.stderr());
    // More than fits into a pipe.
    for _ in 0..20 {
        crash(&mut program.command());
    }
    let outcome = monitor.wait();
    assert!(
        begin.elapsed() < Duration::from_secs(8),
        "{:?}",
        begin.elapsed()
    );
    assert!(
        outcome.stderr.contains("were not read"),
        "{}",
        outcome.stderr
    );
}

fn statistics_on_request() {
    let program = Program::new("null_deep.c");
    let monitor = Monitor::start(["-n", &program.name, "--format", "json"]);
    crash(&mut program.command());
    monitor.wait_reports(1);
    monitor.signal(Signal::SIGUSR1);
    monitor.wait_stderr("Failed writes");
    assert_eq!(Block::last(&monitor.stderr()).count("Events processed"), 1);
    crash(&mut program.command());
    assert_eq!(monitor.stop().reports().len(), 2, "it goes on");
}
