//! File systems whose servers do not answer: nothing waits for them but what nobody waits
//! for, and reports say what they lack.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{umount2, MntFlags};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use crate::harness::{crash, eventually, Monitor, PATIENCE};
use crate::programs::{command, directory, wrapper, Program};
use crate::report::Report;
use crate::skip::skip;
use crate::{cases, Needs};

cases! {
    Needs::Alone => [
        unanswered_executable,
        unanswered_library,
        unanswered_reads,
        unanswered_debug_directory,
        unanswered_is_asked_again_once_it_answers,
        unanswered_when_the_time_is_over,
    ],
}

const NO_ANSWER: &str = "its file system did not answer within 400 ms";
/// In which another crash must be reported, meanwhile.
const SOON: Duration = Duration::from_secs(1);
/// In which the tool must end.
const END: Duration = Duration::from_secs(2);

/// A mounted file system, and its server.
struct Files {
    server: Child,
    place: PathBuf,
}

impl Files {
    fn new(files: &[&Path]) -> Files {
        if !Path::new("/dev/fuse").exists() {
            skip("no /dev/fuse");
        }
        let place = directory();
        let mut server = Command::new(wrapper("silent_files.c"));
        server.arg(&place).args(files);
        server.stdin(Stdio::piped()).stdout(Stdio::piped());
        let server = server.spawn().expect("the server");
        let mut files = Files { server, place };
        files.tell(b'a');
        files
    }

    /// Returns when it is so.
    fn tell(&mut self, what: u8) {
        let to = self.server.stdin.as_mut().expect("a pipe");
        to.write_all(&[what]).expect("a server that reads");
        let mut said = [0];
        let from = self.server.stdout.as_mut().expect("a pipe");
        from.read_exact(&mut said).expect("a server that answers");
        assert_eq!(said[0], what);
    }

    fn path(&self, file: &Path) -> PathBuf {
        self.place.join(file.file_name().expect("a name"))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // Its end lets go whoever waits for it.
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = umount2(&self.place, MntFlags::MNT_DETACH);
    }
}

/// A process that crashes when it is told to.
struct Victim(Child);

impl Victim {
    fn start(mut command: Command) -> Victim {
        command.stdin(Stdio::piped());
        let child = command.spawn().expect("wait.c");
        let syscall = format!("/proc/{}/syscall", child.id());
        let reads = format!("{} 0x0 ", libc::SYS_read);
        eventually("a process that reads", PATIENCE, || {
            fs::read_to_string(&syscall)
                .is_ok_and(|text| text.starts_with(&reads))
                .then_some(())
        });
        Victim(child)
    }

    fn crash(&mut self) -> u32 {
        let mut to = self.0.stdin.take().expect("a pipe");
        to.write_all(b"x").expect("a process that reads");
        self.0.id()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn monitor(name: &str, options: &[&str]) -> Monitor {
    let fixed = ["-n", name, "-t", "--format", "json"];
    Monitor::start(fixed.iter().chain(options))
}

/// How long it takes until another crash is reported, and its function's name is there.
fn assert_others_are_reported(monitor: &Monitor, other: &Program) {
    let began = Instant::now();
    let pid = crash(&mut other.command());
    let report = monitor.report_of_within(pid, SOON);
    let report = report.unwrap_or_else(|| panic!("{:?} without a report", began.elapsed()));
    assert!(
        report.str("instruction_symbol").starts_with("quick_crash+"),
        "{report:?}"
    );
}

fn assert_says_so(report: &Report) {
    let lost = report["lost"].to_string();
    assert!(lost.contains(NO_ANSWER), "{report:?}");
}

fn assert_ends(monitor: Monitor) {
    let began = Instant::now();
    monitor.signal(Signal::SIGTERM);
    let outcome = monitor.wait();
    let took = began.elapsed();
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    assert!(took < END, "{took:?}");
}

fn unanswered_executable() {
    let program = Program::new("wait.c");
    let other = program.sibling("quick.c");
    let mut files = Files::new(&[&program.path]);
    let monitor = monitor(&program.name, &[]);
    let path = files.path(&program.path);
    let mut victims: Vec<Victim> = (0..3).map(|_| Victim::start(command(&path))).collect();
    files.tell(b's');
    for victim in &mut victims {
        let pid = victim.0.id();
        kill(Pid::from_raw(pid as i32), Signal::SIGSEGV).expect("our own child");
        assert_others_are_reported(&monitor, &other);
        let report = monitor.wait_report_of(pid);
        assert_says_so(&report);
        // What is elsewhere is read all the same.
        assert!(
            report.str("instruction_symbol").contains("read+"),
            "{report:?}"
        );
    }
    assert_ends(monitor);
}

fn unanswered_library() {
    let program = Program::new("wait.c");
    let other = program.sibling("quick.c");
    let libc = fs::read_to_string("/proc/self/maps").expect("our own");
    let libc = libc.lines().find_map(|line| {
        let at = line.find('/')?;
        line.ends_with("/libc.so.6")
            .then(|| PathBuf::from(&line[at..]))
    });
    let libc = libc.unwrap_or_else(|| skip("no libc.so.6 here"));
    let mut files = Files::new(&[&libc]);
    let monitor = monitor(&program.name, &[]);
    let mut command = program.command();
    command.env("LD_LIBRARY_PATH", &files.place);
    let mut victim = Victim::start(command);
    files.tell(b's');
    let pid = victim.crash();
    assert_others_are_reported(&monitor, &other);
    let report = monitor.wait_report_of(pid);
    assert_says_so(&report);
    assert!(
        report.str("instruction_symbol").starts_with("late_crash+"),
        "{report:?}"
    );
    assert_ends(monitor);
}

/// It is found and opened, and then nothing comes.
fn unanswered_reads() {
    let program = Program::new("wait.c");
    let other = program.sibling("quick.c");
    let mut files = Files::new(&[&program.path]);
    let monitor = monitor(&program.name, &[]);
    let mut victim = Victim::start(command(&files.path(&program.path)));
    files.tell(b'r');
    let pid = victim.crash();
    assert_others_are_reported(&monitor, &other);
    assert_says_so(&monitor.wait_report_of(pid));
    assert_ends(monitor);
}

fn unanswered_debug_directory() {
    let program = Program::new("wait.c");
    let other = program.sibling("quick.c");
    let stripped = directory().join(format!("{}c", program.name));
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&stripped).arg(&program.path);
    match strip.status() {
        Ok(status) => assert!(status.success()),
        Err(_) => skip("strip is not installed"),
    }
    let mut files = Files::new(&[&program.path]);
    let place = files.place.clone();
    let options = ["--debug-dir", place.to_str().expect("ASCII")];
    let monitor = monitor(&program.name, &options);
    let mut victim = Victim::start(command(&stripped));
    files.tell(b's');
    let pid = victim.crash();
    assert_others_are_reported(&monitor, &other);
    assert_says_so(&monitor.wait_report_of(pid));
    assert_ends(monitor);
}

fn unanswered_is_asked_again_once_it_answers() {
    let program = Program::new("wait.c");
    let mut files = Files::new(&[&program.path]);
    let monitor = monitor(&program.name, &[]);
    let path = files.path(&program.path);
    let mut victims: Vec<Victim> = (0..2).map(|_| Victim::start(command(&path))).collect();
    files.tell(b's');
    let pid = victims[0].crash();
    assert_says_so(&monitor.wait_report_of(pid));
    files.tell(b'a');
    // What was not found is not looked for again in the same second.
    let named = eventually("a report with names", PATIENCE, || {
        let mut victim = Victim::start(command(&path));
        let report = monitor.wait_report_of(victim.crash());
        let symbol = report["instruction_symbol"].to_string();
        symbol.contains("late_crash").then_some(report)
    });
    assert!(!named["lost"].to_string().contains(NO_ANSWER), "{named:?}");
    assert_eq!(openers(&monitor), 1, "the one that waited has ended");
    assert_ends(monitor);
}

/// Processes that open files for it.
fn openers(monitor: &Monitor) -> usize {
    let children = |pid: &str| {
        let path = format!("/proc/{pid}/task/{pid}/children");
        let text = fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let makers = children(&monitor.id().to_string());
    makers.iter().map(|maker| children(maker).len()).sum()
}

fn unanswered_when_the_time_is_over() {
    let program = Program::new("wait.c");
    let mut files = Files::new(&[&program.path]);
    let mut victim = Victim::start(command(&files.path(&program.path)));
    files.tell(b's');
    const DURATION: Duration = Duration::from_secs(2);
    let began = Instant::now();
    let monitor = monitor(&program.name, &["-d", "2"]);
    let pid = victim.crash();
    assert_says_so(&monitor.wait_report_of(pid));
    assert_eq!(openers(&monitor), 1, "one waits for ever");
    let outcome = monitor.wait();
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    let took = began.elapsed();
    assert!(took < DURATION + END, "{took:?}");
}
