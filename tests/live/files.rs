//! Where reports are kept: files, their links and modes, a disk that is full, and
//! files that are moved away for rotation.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{mount, umount2, MntFlags, MsFlags};
use nix::sys::signal::Signal;

use crate::harness::{binary, complete_lines, crash, eventually, run, Monitor, PATIENCE};
use crate::programs::{directory, public_directory, wait_file, wait_lines, Program};
use crate::report::{only, Report};
use crate::statistics::Block;
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        file_is_private,
        file_is_truncated,
        file_is_appended_to,
        file_exists_before_anything_else,
        file_link_is_refused,
        file_link_of_root_is_followed,
        file_in_no_directory,
        file_has_each_report_at_once,
        file_is_reopened_by_sighup,
        file_is_not_truncated_by_sighup,
        file_beside_others,
        file_on_a_full_disk,
        file_on_a_disk_full_to_the_end,
    ],
}

fn start(program: &Program, path: &Path, options: &[&str]) -> Monitor {
    let fixed = ["-n", &program.name, "--format", "json", "-o"].map(OsStr::new);
    let options: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
    Monitor::start([&fixed[..], &[path.as_os_str()], &options].concat())
}

fn file_is_private() {
    let program = Program::new("quick.c");
    let path = directory().join("log");
    let monitor = start(&program, &path, &[]);
    let mode = fs::metadata(&path)
        .expect("opened at once")
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600, "{mode:o}");
    crash(&mut program.command());
    assert_eq!(monitor.stop().text(), "", "nothing on stdout");
    only(
        wait_lines(&path, 1)
            .iter()
            .map(|line| Report::parse(line))
            .collect(),
    );
}

fn file_is_truncated() {
    let program = Program::new("quick.c");
    let path = directory().join("log");
    fs::write(&path, "old\n".repeat(10_000)).expect("our directory");
    let monitor = start(&program, &path, &[]);
    crash(&mut program.command());
    monitor.stop();
    let text = fs::read_to_string(&path).expect("the file");
    assert_eq!(text.lines().count(), 1, "{text}");
    Report::parse(text.trim_end());
}

fn file_is_appended_to() {
    let program = Program::new("quick.c");
    let path = directory().join("log");
    for _ in 0..3 {
        let monitor = start(&program, &path, &["-a"]);
        crash(&mut program.command());
        monitor.stop();
    }
    let lines = complete_lines(&fs::read(&path).expect("the file"));
    assert_eq!(lines.len(), 3);
    lines.iter().for_each(|line| drop(Report::parse(line)));
}

/// Also where nothing else works: a script follows the file from the start.
fn file_exists_before_anything_else() {
    let path = directory().join("log");
    let mut command = Command::new(crate::programs::wrapper("no_bpf.c"));
    command
        .arg("all")
        .arg(binary())
        .args(["--capture", "ring", "-d", "1", "-o"])
        .arg(&path);
    let outcome = Monitor::spawn(command).wait();
    assert_ne!(outcome.status.code(), Some(0));
    assert!(
        path.exists(),
        "opened before the kernel was asked for anything"
    );
}

/// Whoever can write to the directory could point root's output anywhere.
fn file_link_is_refused() {
    let dir = public_directory();
    fs::set_permissions(&dir, Permissions::from_mode(0o1777)).expect("our own directory");
    let target = directory().join("precious");
    fs::write(&target, "precious\n").expect("our directory");
    let link = dir.join("log");
    symlink(&target, &link).expect("our own directory");
    for options in [&[][..], &["-a"]] {
        let args = [
            &[
                "-d",
                "1",
                "-n",
                "nobody-has-this",
                "-o",
                link.to_str().expect("ASCII"),
            ],
            options,
        ]
        .concat();
        let outcome = run(args);
        assert!(
            matches!(outcome.status.code(), Some(1..=3)),
            "{options:?}: {:?}",
            outcome.status
        );
        assert!(
            outcome.stderr.contains("log"),
            "names the file: {}",
            outcome.stderr
        );
        assert_eq!(
            fs::read_to_string(&target).expect("still there"),
            "precious\n",
            "{options:?}"
        );
    }
    fs::remove_dir_all(dir).expect("our own directory");
}

/// A link of root's, where only root can write, is a decision of root's.
fn file_link_of_root_is_followed() {
    let program = Program::new("quick.c");
    let dir = directory();
    fs::set_permissions(&dir, Permissions::from_mode(0o755)).expect("our own directory");
    let target = dir.join("elsewhere");
    fs::write(&target, "").expect("our directory");
    let link = dir.join("log");
    symlink(&target, &link).expect("our own directory");
    let monitor = start(&program, &link, &[]);
    crash(&mut program.command());
    monitor.stop();
    assert_eq!(wait_lines(&target, 1).len(), 1);
}

fn file_in_no_directory() {
    let outcome = run(["-d", "1", "-o", "/no/such/directory/log"]);
    assert!(
        matches!(outcome.status.code(), Some(1..=3)),
        "{:?}",
        outcome.status
    );
    assert!(
        outcome.stderr.contains("/no/such/directory/log"),
        "{}",
        outcome.stderr
    );
    assert!(
        outcome.stderr.contains("No such file"),
        "{}",
        outcome.stderr
    );
}

/// Nothing waits in a buffer for the report after it.
fn file_has_each_report_at_once() {
    let program = Program::new("null_deep.c");
    let path = directory().join("log");
    let monitor = start(&program, &path, &["-t", "-r"]);
    for count in 1..=5 {
        let pid = crash(&mut program.command());
        let lines = wait_lines(&path, count);
        assert_eq!(lines.len(), count);
        assert_eq!(
            Report::parse(&lines[count - 1])["pid"],
            pid,
            "in the order of the crashes"
        );
    }
    monitor.stop();
}

/// logrotate: rename, then SIGHUP.
fn file_is_reopened_by_sighup() {
    for options in [&[][..], &["-a"]] {
        let program = Program::new("quick.c");
        let dir = directory();
        let (path, old) = (dir.join("log"), dir.join("log.1"));
        let monitor = start(&program, &path, options);
        let first = crash(&mut program.command());
        wait_lines(&path, 1);
        fs::rename(&path, &old).expect("our directory");
        monitor.signal(Signal::SIGHUP);
        wait_file(&path, "the new file", |_| path.exists());
        let second = crash(&mut program.command());
        let lines = wait_lines(&path, 1);
        monitor.stop();
        assert_eq!(Report::parse(&lines[0])["pid"], second);
        assert_eq!(
            fs::metadata(&path)
                .expect("the new file")
                .permissions()
                .mode()
                & 0o7777,
            0o600
        );
        let lines = wait_lines(&old, 1);
        assert_eq!(lines.len(), 1, "nothing more goes to the old file");
        assert_eq!(Report::parse(&lines[0])["pid"], first);
    }
}

fn file_is_not_truncated_by_sighup() {
    let program = Program::new("quick.c");
    let path = directory().join("log");
    let monitor = start(&program, &path, &[]);
    for count in 1..=3 {
        crash(&mut program.command());
        assert_eq!(
            wait_lines(&path, count).len(),
            count,
            "what was there stays"
        );
        monitor.signal(Signal::SIGHUP);
    }
    monitor.stop();
    assert_eq!(wait_lines(&path, 3).len(), 3);
}

/// A mounted file system that goes when the test does.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(kilobytes: u32) -> SmallDisk {
        let dir = directory();
        let size = format!("size={kilobytes}k");
        mount(
            Some("none"),
            &dir,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(&*size),
        )
        .expect("mount a tmpfs");
        SmallDisk(dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// Each has its format, and one that takes nothing does not hold up the others.
fn file_beside_others() {
    let directory = directory();
    let name = |name: &str| directory.join(name).display().to_string();
    let program = Program::new("null_deep.c");
    let fifo = name("fifo");
    nix::unistd::mkfifo(fifo.as_str(), nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    // Nobody reads there.
    let held = fs::OpenOptions::new().read(true).write(true).open(&fifo);
    let held = held.expect("the FIFO opens");
    let outputs = [
        "json:/dev/full".to_owned(),
        format!("text:{}", name("text")),
        format!("text:{fifo}"),
        format!("json:{}", name("json")),
    ];
    let mut options = vec!["-n", &program.name, "-t", "--stats"];
    options.extend(outputs.iter().flat_map(|output| ["-o", output]));
    let monitor = Monitor::start(options);
    let mut pids: Vec<u64> = (0..40)
        .map(|_| crash(&mut program.command()).into())
        .collect();
    pids.sort_unstable();
    let json = Path::new(&name("json")).to_owned();
    let lines = wait_lines(&json, pids.len());
    monitor.signal(Signal::SIGINT);
    let outcome = monitor.wait();
    drop(held);
    let mut reported: Vec<_> = lines
        .iter()
        .filter_map(|line| Report::parse(line)["pid"].as_u64())
        .collect();
    // Perf events may change the order of crashes on two processors.
    reported.sort_unstable();
    assert_eq!(reported, pids);
    let text = fs::read_to_string(name("text")).expect("text");
    assert_eq!(text.matches("SEGFAULT in process").count(), pids.len());
    assert_eq!(outcome.status.code(), Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("/dev/full"), "{}", outcome.stderr);
    Block::last(&outcome.stderr).assert_balanced();
}

/// One message, no half line, and what waited is written when there is room.
fn file_on_a_full_disk() {
    let program = Program::new("null_deep.c");
    let disk = SmallDisk::new(64);
    let (path, ballast) = (disk.0.join("log"), disk.0.join("ballast"));
    fs::write(&ballast, vec![0; 52 << 10]).expect("most of the disk");
    let monitor = start(&program, &path, &["-t", "-r", "--stats"]);
    let mut pids = Vec::new();
    while !monitor.stderr().contains("No space left on device") {
        assert!(pids.len() < 100, "the disk should be full by now");
        pids.push(crash(&mut program.command()));
        eventually("the report or a message", PATIENCE, || {
            let lines = complete_lines(&fs::read(&path).expect("the file")).len();
            let full = monitor.stderr().contains("No space left on device");
            (full || lines == pids.len()).then_some(())
        });
    }
    assert!(
        monitor.stderr().contains("log"),
        "names the file: {}",
        monitor.stderr()
    );
    // Each attempt writes what fits, and removes it again.
    let whole = || fs::read(&path).expect("the file");
    let full = eventually("the end of half a line", PATIENCE, || {
        Some(whole()).filter(|text| text.ends_with(b"\n"))
    });
    let kept = complete_lines(&full);
    assert_eq!(kept.len(), pids.len() - 1, "all before the last fitted");
    kept.iter().for_each(|line| drop(Report::parse(line)));

    // The disk stays full for a while: the file is soon as it was.
    for _ in 0..3 {
        pids.push(crash(&mut program.command()));
    }
    eventually("the file of before", PATIENCE, || {
        (whole() == full).then_some(())
    });
    fs::remove_file(&ballast).expect("our own file");
    pids.push(crash(&mut program.command()));
    let lines = wait_lines(&path, pids.len());
    let written: Vec<u64> = lines
        .iter()
        .filter_map(|line| Report::parse(line)["pid"].as_u64())
        .collect();
    assert!(written.iter().eq(pids
        .iter()
        .map(|&pid| u64::from(pid))
        .collect::<Vec<_>>()
        .iter()));
    let block = Block::last(&monitor.stop().stderr);
    assert!(block.count("Failed writes") >= 1, "{block:?}");
    assert_eq!(block.count("Reports not written"), 0, "{block:?}");
}

/// A disk that stays full to the end: what is lost is counted.
fn file_on_a_disk_full_to_the_end() {
    const CRASHES: usize = 20;
    let program = Program::new("null_deep.c");
    let disk = SmallDisk::new(64);
    let path = disk.0.join("log");
    fs::write(disk.0.join("ballast"), vec![0; 56 << 10]).expect("most of the disk");
    let monitor = start(&program, &path, &["-t", "-r", "--stats"]);
    for _ in 0..CRASHES {
        crash(&mut program.command());
    }
    monitor.signal(Signal::SIGTERM);
    let outcome = monitor.wait();
    let bytes = fs::read(&path).expect("the file");
    assert!(
        bytes.is_empty() || bytes.ends_with(b"\n"),
        "half a line stayed"
    );
    let written = complete_lines(&bytes).len();
    let lost = Block::last(&outcome.stderr).count("Reports not written") as usize;
    assert_eq!(written + lost, CRASHES, "{}", outcome.stderr);
    assert!(lost > 0, "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("No space left on device"),
        "{}",
        outcome.stderr
    );
}
