//! What one user crashes does not cost another user a report: each victim's crash is
//! reported within a second beside floods of another user, whose own drops are counted.
//! Stopping takes two seconds at most, whatever is left.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{crash, Monitor};
use crate::programs::{copy, directory, public_directory, Program};
use crate::skip::need_lines;
use crate::statistics::Block;
use crate::{cases, Needs};

cases! {
    Needs::Alone => [
        fairness_beside_faults_at_many_places,
        fairness_beside_quick_crashes,
        fairness_of_executables_of_one_user,
        fairness_of_the_end,
    ],
}

const NOBODY: u32 = 65534;
const VICTIMS: usize = 100;
/// What the machine needs besides, if it is busy.
const SOON: Duration = Duration::from_secs(1);

/// Processes that are ended when the test is.
struct Running(Vec<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn start(command: &mut Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().expect("start a program of this test")
}

/// `program` where nobody can run it, as nobody.
fn as_nobody(program: &Program) -> Command {
    let path = public_directory().join(&program.name);
    copy(&program.path, &path);
    let mut command = Command::new(path);
    command.uid(NOBODY).gid(NOBODY).current_dir("/tmp");
    command
}

/// The reports in a file that grows, by process.
struct Reported {
    file: File,
    unread: Vec<u8>,
    pids: HashSet<u32>,
}

impl Reported {
    fn has(&mut self, pid: u32) -> bool {
        self.file
            .read_to_end(&mut self.unread)
            .expect("our own file");
        while let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line[..line.len().min(400)]);
            let pid = line.split_once("\"pid\":").expect("a pid").1;
            let pid = pid.split(',').next().and_then(|pid| pid.parse().ok());
            self.pids.insert(pid.expect("a number"));
        }
        self.pids.contains(&pid)
    }
}

/// A monitor of all programs of a test, with its reports in a file.
fn watch(flood: &Program, options: &[&str]) -> (Monitor, Reported) {
    let path = directory().join("reports");
    let path_text = path.to_str().expect("names made here are ASCII");
    let fixed = [
        "-t",
        "--format",
        "json",
        "--stats",
        "--stats-interval",
        "3600",
        "-n",
        &flood.name,
        "-o",
        path_text,
    ];
    let monitor = Monitor::start(fixed.iter().chain(options));
    let reported = Reported {
        file: File::open(path).expect("the tool has made it"),
        unread: Vec::new(),
        pids: HashSet::new(),
    };
    (monitor, reported)
}

/// Crashes the victim again and again; how many reports did not come in time.
fn late_victims(reported: &mut Reported, victim: &Program, each: &mut dyn FnMut()) -> usize {
    let mut late = 0;
    for _ in 0..VICTIMS {
        let pid = crash(&mut victim.command());
        let crashed = Instant::now();
        while crashed.elapsed() < SOON && !reported.has(pid) {
            std::thread::sleep(Duration::from_millis(2));
        }
        late += usize::from(!reported.has(pid));
        each();
    }
    late
}

fn end(monitor: Monitor) -> Block {
    let page = Block::last(&monitor.stop().stderr);
    page.assert_balanced();
    page
}

fn fairness_beside_faults_at_many_places() {
    let flood = Program::new("flood.c");
    let victim = flood.sibling("quick.c");
    let (monitor, mut reported) = watch(&flood, &[]);
    let uid = NOBODY.to_string();
    let flooding = (0..2).map(|_| start(flood.command().args(["600", &uid])));
    let flooding = Running(flooding.collect());
    let late = late_victims(&mut reported, &victim, &mut || {});
    drop(flooding);
    let page = end(monitor);
    assert_eq!(late, 0, "late of {VICTIMS}: {page:?}");
    let dropped = page.count("Events dropped");
    assert!(dropped > 1000, "was no flood: {page:?}");
    let of_flood = page.count(&format!("Dropped, user {NOBODY}"));
    assert_eq!(of_flood, dropped, "{page:?}");
}

fn fairness_beside_quick_crashes() {
    let storm = Program::new("storm.c");
    let victim = storm.sibling("quick.c");
    let slow = Program::new("slow_lines.c").named(&format!("{}c", storm.name));
    let (monitor, mut reported) = watch(&storm, &["--memory-limit", "24"]);
    crash(&mut as_nobody(&slow));
    let mut command = as_nobody(&storm);
    command.args(["3000", "4"]);
    let mut storming = Running(vec![start(&mut command)]);
    let late = late_victims(&mut reported, &victim, &mut || {
        if !matches!(storming.0[0].try_wait(), Ok(None)) {
            storming.0[0] = start(&mut command);
        }
    });
    drop(storming);
    let page = end(monitor);
    assert_eq!(late, 0, "late of {VICTIMS}: {page:?}");
}

/// On a device everything may be root.
fn fairness_of_executables_of_one_user() {
    let flood = Program::new("flood.c");
    let victim = flood.sibling("quick.c");
    let (monitor, mut reported) = watch(&flood, &[]);
    let flooding = Running(vec![start(flood.command().arg("600"))]);
    let late = late_victims(&mut reported, &victim, &mut || {});
    drop(flooding);
    let page = end(monitor);
    assert_eq!(late, 0, "late of {VICTIMS}: {page:?}");
}

/// Each of them takes as long as a report may.
fn fairness_of_the_end() {
    need_lines();
    const COPIES: usize = 80;
    let slow = Program::new("slow_lines.c");
    let (monitor, _) = watch(&slow, &[]);
    let directory = directory();
    let copies: Vec<_> = (0..COPIES)
        .map(|number| directory.join(format!("{}{number:02}", slow.name)))
        .collect();
    copies.iter().for_each(|path| copy(&slow.path, path));
    monitor.signal(Signal::SIGSTOP);
    copies
        .iter()
        .for_each(|path| assert!(crash(&mut Command::new(path)) > 0));
    let begin = Instant::now();
    monitor.signal(Signal::SIGINT);
    monitor.signal(Signal::SIGCONT);
    let outcome = monitor.wait();
    let took = begin.elapsed();
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    assert!(took < Duration::from_secs(3), "{took:?}");
    let page = Block::last(&outcome.stderr);
    page.assert_balanced();
    assert!(page.count("Dropped, at the end") > 0, "{page:?}");
    let all = page.count("Events processed") + page.count("Events dropped");
    assert_eq!(all, COPIES as u64, "{page:?}");
    assert!(outcome.stderr.contains("captured crashes are not reported"));
}
