//! What the tool keeps of its privileges while it monitors, and that this suffices.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::harness::{binary, crash, eventually, options_for_all, run, Monitor, PATIENCE};
use crate::programs::{copy, directory, public_directory, wait_lines, wrapper, Program};
use crate::report::Report;
use crate::skip::{need_x86_64, not_applicable};
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        privileges_are_few,
        privileges_are_printed,
        privileges_refuse_calls,
        privileges_of_openers_refuse_calls,
        privileges_suffice_without_openers,
        privileges_without_filters,
    ],
    Needs::Tool("setpriv") => [
        privileges_suffice,
        privileges_of_a_command_are_whole,
    ],
}

const DAC_OVERRIDE: u64 = 1 << 1;
const DAC_READ_SEARCH: u64 = 1 << 2;
const IPC_LOCK: u64 = 1 << 14;
const SYS_PTRACE: u64 = 1 << 19;
const SYS_ADMIN: u64 = 1 << 21;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;
const CHECKPOINT_RESTORE: u64 = 1 << 40;

/// A line of /proc/PID/status.
fn status(pid: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim_start_matches(':').trim().to_string())
}

fn mask(pid: &str, name: &str) -> u64 {
    let value = status(pid, name).expect("each kernel has it");
    u64::from_str_radix(&value, 16).expect("a mask")
}

fn children(pid: &str) -> Vec<String> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(path).expect("it runs");
    text.split_whitespace().map(str::to_owned).collect()
}

/// The process that makes openers, and the first opener.
fn openers(monitor: &Monitor) -> [String; 2] {
    let maker = children(&monitor.id().to_string()).remove(0);
    // The tool has it made last of all.
    let opener = eventually("an opener", PATIENCE, || children(&maker).pop());
    // It comes to rest once it has limited itself.
    eventually("an opener that waits", PATIENCE, || {
        let sleeps = |pid| status(pid, "State").is_some_and(|state| state.starts_with('S'));
        (sleeps(&maker) && sleeps(&opener)).then_some(())
    });
    [maker, opener]
}

/// The tool's process id, once it waits for crashes.
fn limited(monitor: &Monitor) -> String {
    let pid = monitor.id().to_string();
    openers(monitor);
    eventually("a tool that waits", PATIENCE, || {
        let state = status(&pid, "State")?;
        state.starts_with('S').then_some(())
    });
    pid
}

fn need_filters() {
    if status("self", "Seccomp").is_none() {
        not_applicable("this kernel has no seccomp filters");
    }
}

fn assert_limited(pid: &str) {
    assert_eq!(status(pid, "Seccomp").as_deref(), Some("2"), "{pid}");
    assert_eq!(status(pid, "NoNewPrivs").as_deref(), Some("1"), "{pid}");
    assert_eq!(mask(pid, "CapInh"), 0, "{pid}");
    assert_eq!(mask(pid, "CapBnd"), 0, "{pid}");
    assert_eq!(mask(pid, "CapAmb"), 0, "{pid}");
    assert_eq!(mask(pid, "CapEff"), mask(pid, "CapPrm"), "{pid}");
}

fn privileges_are_few() {
    need_filters();
    let mut methods = vec![options_for_all()];
    if methods[0].is_empty() {
        let named = ["ring", "chain", "tracepoint", "perf"];
        methods = named
            .map(|method| vec!["--capture".into(), method.into()])
            .to_vec();
    }
    for options in methods {
        let method = options[1].as_str();
        let mut command = Command::new(binary());
        command.args(&options).args(["-n", "nothing has this name"]);
        let monitor = Monitor::start_as(command);
        let tool = limited(&monitor);
        assert_limited(&tool);
        let (needs, may) = match method {
            "ring" => (SYS_PTRACE | BPF, 0),
            "perf" => (SYS_PTRACE | PERFMON, IPC_LOCK | SYS_ADMIN),
            _ => (SYS_PTRACE | BPF | PERFMON, IPC_LOCK | SYS_ADMIN),
        };
        let has = mask(&tool, "CapEff");
        // Before Linux 5.8 one stands for two.
        let needs = match mask("self", "CapEff") & BPF {
            0 => SYS_PTRACE | SYS_ADMIN,
            _ => needs,
        };
        assert_eq!(has & !may, needs & !may, "{method}: {has:x}");
        let opens = SYS_PTRACE | DAC_READ_SEARCH | CHECKPOINT_RESTORE;
        for pid in openers(&monitor) {
            assert_limited(&pid);
            let has = mask(&pid, "CapEff");
            let had = mask("self", "CapEff");
            let instead = if had & CHECKPOINT_RESTORE == 0 {
                SYS_ADMIN
            } else {
                0
            };
            assert_eq!(has, opens & had | instead, "{method}: {has:x}");
        }
        monitor.stop();
    }
}

/// All that happens while it monitors: reports with names, another user's program that is
/// deleted meanwhile, statistics, a new output file, cores.
fn privileges_suffice() {
    let program = Program::new("null_deep.c");
    let deleted = program.sibling("wait.c");
    let place = directory();
    let file = place.join("reports");
    let cores = place.join("cores");
    fs::create_dir(&cores).expect("our directory");
    // Of another user, as SIGHUP finds it.
    nix::unistd::chown(&place, Some(65_534.into()), None).expect("we are root");
    nix::unistd::chown(&cores, Some(65_534.into()), None).expect("we are root");
    let text = |path: &std::path::Path| path.to_str().expect("ASCII").to_owned();
    let options = ["-t", "-r", "--format", "json", "--stats"].map(String::from);
    let monitor = Monitor::start(
        ["-n".to_string(), program.name.clone()]
            .into_iter()
            .chain(options)
            .chain(["-o".to_string(), text(&file), "--core".to_string()])
            .chain([text(&cores)]),
    );
    assert_ne!(mask(&monitor.id().to_string(), "CapEff") & DAC_OVERRIDE, 0);
    crash(&mut program.command());
    let line = wait_lines(&file, 1).remove(0);
    assert!(Report::parse(&line)
        .str("instruction_symbol")
        .starts_with("level_five+"));
    fs::rename(&file, place.join("old")).expect("our directory");
    monitor.signal(Signal::SIGHUP);
    eventually("a new file", PATIENCE, || file.exists().then_some(()));
    let mut child = Command::new("setpriv")
        .args(["--reuid=65534", "--clear-groups"])
        .arg(&deleted.path)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("setpriv");
    let exe = format!("/proc/{}/exe", child.id());
    eventually("the program", PATIENCE, || {
        fs::read_link(&exe)
            .is_ok_and(|path| path == deleted.path)
            .then_some(())
    });
    fs::remove_file(&deleted.path).expect("our file");
    let mut to = child.stdin.take().expect("a pipe");
    to.write_all(b"x").expect("a process that reads");
    let _ = child.wait();
    let line = wait_lines(&file, 1).remove(0);
    let report = Report::parse(&line);
    assert!(report.str("comm").starts_with(&program.name[..8]), "{line}");
    monitor.signal(Signal::SIGUSR1);
    monitor.wait_stderr("Segfault Analyzer Statistics");
    let outcome = monitor.stop();
    assert!(!outcome.stderr.contains("Warning"), "{}", outcome.stderr);
    assert_ne!(fs::read_dir(&cores).expect("ours").count(), 0);
}

fn privileges_are_printed() {
    let outcome = run(["--check"]);
    let page = outcome.text();
    assert!(page.contains("Privileges while monitoring:"), "{page}");
    let row = |label: &str| {
        let line = page
            .lines()
            .find(|line| line.trim_start().starts_with(label));
        line.unwrap_or_else(|| panic!("{label}: {page}")).to_owned()
    };
    assert!(row("Kept ").contains("CAP_SYS_PTRACE"), "{page}");
    assert!(
        row("Kept to open files").contains("CAP_DAC_READ_SEARCH"),
        "{page}"
    );
    let expected = match status("self", "Seccomp") {
        Some(_) => "those that are needed, and no others",
        None => "all: this kernel has no seccomp filters",
    };
    assert!(row("System calls").ends_with(expected), "{page}");
}

/// The results of calls that a process is made to make.
fn calls(pid: &str, calls: &[(libc::c_long, [i64; 6])]) -> Vec<i64> {
    let mut call = Command::new(wrapper("call.c"));
    call.arg(pid).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut call = call.spawn().expect("call.c");
    let lines = calls.iter().map(|(number, arguments)| {
        let arguments = arguments.map(|argument| argument.to_string());
        format!("{number} {}\n", arguments.join(" "))
    });
    let mut to = call.stdin.take().expect("a pipe");
    to.write_all(lines.collect::<String>().as_bytes())
        .expect("it reads");
    drop(to);
    let output = call.wait_with_output().expect("call.c");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("numbers");
    text.lines()
        .map(|line| line.parse().expect("one"))
        .collect()
}

/// Without a filter each of these succeeds, or fails in another way.
#[cfg(target_arch = "x86_64")]
const NEVER: [(libc::c_long, [i64; 6]); 16] = [
    (libc::SYS_execve, [0; 6]),
    (libc::SYS_execveat, [-1, 0, 0, 0, 0, 0]),
    (libc::SYS_clone, [libc::CLONE_THREAD as i64, 0, 0, 0, 0, 0]),
    (libc::SYS_ptrace, [-1, 0, 0, 0, 0, 0]),
    (libc::SYS_process_vm_writev, [0, 0, 0, 0, 0, -1]),
    (libc::SYS_socket, [libc::AF_INET as i64, 2, 0, 0, 0, 0]),
    (libc::SYS_socket, [libc::AF_UNIX as i64, 1, 0, 0, 0, 0]),
    (libc::SYS_socketpair, [libc::AF_INET as i64, 1, 0, 0, 0, 0]),
    (libc::SYS_keyctl, [-1, 0, 0, 0, 0, 0]),
    (libc::SYS_io_uring_setup, [0; 6]),
    (libc::SYS_memfd_create, [0; 6]),
    (libc::SYS_mmap, [0, 4096, 7, 0x22, -1, 0]),
    (libc::SYS_kill, [0x3fff_ffff, 9, 0, 0, 0, 0]),
    (libc::SYS_ioctl, [-1, libc::TIOCSTI as i64, 0, 0, 0, 0]),
    // BPF_PROG_LOAD
    (libc::SYS_bpf, [5, 0, 0, 0, 0, 0]),
    (libc::SYS_unshare, [-1, 0, 0, 0, 0, 0]),
];
#[cfg(not(target_arch = "x86_64"))]
const NEVER: [(libc::c_long, [i64; 6]); 0] = [];

const REFUSED: i64 = -(libc::EPERM as i64);
const UNKNOWN: (libc::c_long, [i64; 6]) = (100_000, [0; 6]);

fn privileges_refuse_calls() {
    need_x86_64();
    need_filters();
    let program = Program::new("quick.c");
    let monitor = Monitor::start(["-n", &program.name, "--format", "json", "-t"]);
    let tool = limited(&monitor);
    assert_eq!(calls(&tool, &NEVER), [REFUSED; NEVER.len()]);
    let others = [
        UNKNOWN,
        (libc::SYS_getpid, [0; 6]),
        (libc::SYS_mmap, [0, 4096, 3, 2, -1, 0]),
    ];
    let (enosys, ebadf) = (-i64::from(libc::ENOSYS), -i64::from(libc::EBADF));
    assert_eq!(calls(&tool, &others), [enosys, monitor.id().into(), ebadf]);
    let pid = crash(&mut program.command());
    let report = monitor.wait_report_of(pid);
    assert!(
        report.str("instruction_symbol").starts_with("quick_crash+"),
        "{report:?}"
    );
    monitor.stop();
}

fn privileges_of_openers_refuse_calls() {
    need_x86_64();
    need_filters();
    let program = Program::new("quick.c");
    let monitor = Monitor::start(["-n", &program.name, "--format", "json", "-t"]);
    let [maker, opener] = openers(&monitor);
    let mut never = NEVER.to_vec();
    never.extend([
        (libc::SYS_write, [-1, 0, 0, 0, 0, 0]),
        (libc::SYS_unlinkat, [-1, 0, 0, 0, 0, 0]),
        (libc::SYS_kill, [0x3fff_ffff, 0, 0, 0, 0, 0]),
        (libc::SYS_bpf, [1, 0, 0, 0, 0, 0]),
        (libc::SYS_perf_event_open, [0; 6]),
    ]);
    assert_eq!(calls(&opener, &never), vec![REFUSED; never.len()]);
    // That one may make processes.
    never.retain(|(call, _)| *call != libc::SYS_clone);
    assert_eq!(calls(&maker, &never), vec![REFUSED; never.len()]);
    assert_eq!(calls(&opener, &[UNKNOWN]), [-i64::from(libc::ENOSYS)]);
    let pid = crash(&mut program.command());
    let report = monitor.wait_report_of(pid);
    assert!(
        report.str("instruction_symbol").starts_with("quick_crash+"),
        "{report:?}"
    );
    monitor.stop();
}

/// Only `-v` says so.
/// Somebody ends them, as a kernel does that has no memory left.
fn privileges_suffice_without_openers() {
    let program = Program::new("null_deep.c");
    let monitor = Monitor::start(["-n", &program.name, "-t", "--format", "json"]);
    for pid in openers(&monitor) {
        let pid = nix::unistd::Pid::from_raw(pid.parse().expect("a number"));
        nix::sys::signal::kill(pid, Signal::SIGKILL).expect("it runs");
        let is_there = || nix::sys::signal::kill(pid, None).is_ok();
        eventually("its end", PATIENCE, || (!is_there()).then_some(()));
    }
    for _ in 0..2 {
        let pid = crash(&mut program.command());
        monitor.wait_report_of(pid).assert_reaches_start();
    }
    let said = monitor.stop().stderr;
    let warnings = said.matches("process that makes openers has ended").count();
    assert_eq!(warnings, 1, "{said}");
}

fn privileges_without_filters() {
    need_filters();
    const SAID: &str = "this kernel has no seccomp filters";
    for verbose in [false, true] {
        let program = Program::new("quick.c");
        let mut command = Command::new(wrapper("no_filters.c"));
        command.arg(binary()).args(options_for_all());
        command.args(["-n", &program.name, "--format", "json", "-t"]);
        command.args(verbose.then_some("-v"));
        let monitor = Monitor::start_as(command);
        let tool = monitor.id().to_string();
        // That of the wrapper; Linux 5.9 began to count them.
        let filters = status(&tool, "Seccomp_filters");
        assert!(filters.is_none_or(|count| count == "1"));
        assert_eq!(mask(&tool, "CapBnd"), 0);
        let pid = crash(&mut program.command());
        let report = monitor.wait_report_of(pid);
        assert!(
            report.str("instruction_symbol").starts_with("quick_crash+"),
            "{report:?}"
        );
        let said = monitor.stop().stderr;
        assert_eq!(said.contains(SAID), verbose, "{said}");
        assert!(!said.contains("Warning"), "{said}");
    }
}

/// A program of root's with the bit that makes its users root.
fn privileges_of_a_command_are_whole() {
    let who = public_directory().join("who");
    copy(&wrapper("who.c"), &who);
    fs::set_permissions(&who, fs::Permissions::from_mode(0o4755)).expect("our file");
    let alone = Command::new("setpriv")
        .args(["--reuid=65534", "--clear-groups"])
        .arg(&who)
        .output()
        .expect("setpriv");
    let alone = String::from_utf8(alone.stdout).expect("numbers");
    if !alone.starts_with("0 0 0") {
        not_applicable("a setuid program gains nothing here");
    }
    let mut command = Command::new(binary());
    command.args(options_for_all()).arg("--");
    command.args(["setpriv", "--reuid=65534", "--clear-groups"]);
    let outcome = Monitor::spawn({
        command.arg(&who);
        command
    })
    .wait();
    assert_eq!(outcome.text(), alone, "{}", outcome.stderr);
}
