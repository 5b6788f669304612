//! The files of programs that are gone: in containers, below other roots, on file
//! systems of their own, deleted and replaced. A file that is not the one that ran
//! names nothing, and the report says what became of it.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;

use crate::chains::DEEP;
use crate::harness::{crash, eventually, Monitor, PATIENCE};
use crate::programs::{compile, copy, directory, wrapper, Program, PIE, STATIC};
use crate::report::{only, Report};
use crate::{cases, Needs};

cases! {
    Needs::Tool("chroot") => [
        namespace_below_another_root,
    ],
    Needs::Tool("unshare") => [
        namespace_with_a_file_system_of_its_own,
        namespace_with_an_overlay,
        namespace_with_an_overlay_that_goes_too,
        namespace_with_a_file_in_the_upper_layer,
        namespace_with_a_bind_mount,
        namespace_with_a_bind_mount_that_goes_too,
        namespace_of_processes,
    ],
    Needs::Bpf => [
        file_deleted_before_the_crash,
        file_replaced_before_the_crash,
        file_deleted_since_the_crash,
        file_replaced_since_the_crash,
        file_changed_since_the_crash,
        file_without_a_name,
        file_without_a_name_of_a_living_process,
    ],
}

/// A static program: below another root there are no libraries.
fn deep() -> Program {
    Program::built("null_deep.c", STATIC)
}

fn monitor(program: &Program) -> Monitor {
    Monitor::start(["-n", &program.name, "-t", "--format", "json"])
}

/// Runs a script in a mount namespace of its own. `$P` is the program's path, `$N`
/// its name, the working directory an empty one. The script's shell lives until
/// the report is there.
fn unshared(flags: &[&str], script: &str) -> Report {
    let program = deep();
    let monitor = monitor(&program);
    let mut command = script_command(&program, flags, script);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("unshare");
    let reports = monitor.wait_reports(1);
    drop(child.stdin.take());
    child.wait().expect("our own child");
    monitor.stop();
    only(reports)
}

fn script_command(program: &Program, flags: &[&str], script: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(flags)
        .args(["sh", "-c", &format!("set -e; {script}")])
        .env("P", &program.path)
        .env("N", &program.name)
        .current_dir(directory())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

const OVERLAY: &str = "mkdir lower upper merged; mount -t tmpfs none upper; \
    mkdir upper/u upper/w; cp $P lower/; \
    mount -t overlay none -o lowerdir=lower,upperdir=upper/u,workdir=upper/w merged";

fn namespace_below_another_root() {
    let program = deep();
    let monitor = monitor(&program);
    crash(
        Command::new("chroot")
            .arg(program.path.parent().expect("a directory"))
            .arg(format!("/{}", program.name)),
    );
    only(monitor.stop().reports()).assert_chain(DEEP);
}

fn namespace_with_a_file_system_of_its_own() {
    let script = "mkdir root; mount -t tmpfs none root; cp $P root/; \
        chroot root /$N || read forever";
    unshared(&["-m"], script).assert_chain(DEEP);
}

fn namespace_with_an_overlay() {
    let script = format!("{OVERLAY}; chroot merged /$N || read forever");
    unshared(&["-m"], &script).assert_chain(DEEP);
}

/// As a container whose first process crashes: when the monitor looks, the mount
/// namespace is gone, and only the layer is left.
fn namespace_with_an_overlay_that_goes_too() {
    let script = format!("{OVERLAY}; exec chroot merged /$N");
    gone(&["-m", "-p", "-f", "--mount-proc"], &script).assert_chain(DEEP);
}

/// As `unshared`, with everything gone before the monitor looks.
fn gone(flags: &[&str], script: &str) -> Report {
    let program = deep();
    let monitor = monitor(&program);
    monitor.signal(Signal::SIGSTOP);
    let status = script_command(&program, flags, script).status();
    status.expect("unshare");
    monitor.signal(Signal::SIGCONT);
    only(monitor.stop().reports())
}

fn namespace_with_a_file_in_the_upper_layer() {
    let script =
        format!("{OVERLAY}; rm merged/$N; cp $P merged/; chroot merged /$N || read forever");
    unshared(&["-m"], &script).assert_chain(DEEP);
}

fn namespace_with_a_bind_mount() {
    let script = "mkdir one two; cp $P one/; mount --bind one two; two/$N || read forever";
    unshared(&["-m"], script).assert_chain(DEEP);
}

/// The mounts are gone with their namespace; where the file is in its file system
/// is not.
fn namespace_with_a_bind_mount_that_goes_too() {
    let script = "mkdir one two; cp $P one/; mount --bind one two; exec two/$N";
    gone(&["-m"], script).assert_chain(DEEP);
}

fn namespace_of_processes() {
    let script = "mkdir root; cp $P root/; exec chroot root /$N";
    let report = unshared(&["-m", "-p", "-f", "--mount-proc"], script);
    assert_eq!(report["ns_pid"], 1, "{}", report.line);
    report.assert_chain(DEEP);
}

/// A program that waits for a request to crash.
struct Waiting {
    program: Program,
    child: Child,
}

impl Waiting {
    fn start() -> Self {
        let program = Program::new("wait.c");
        let child = program.command().stdin(Stdio::piped()).spawn();
        let mut waiting = Waiting {
            child: child.expect("start wait"),
            program,
        };
        let exe = PathBuf::from(format!("/proc/{}/exe", waiting.child.id()));
        eventually("the program to run", PATIENCE, || {
            assert!(waiting.child.try_wait().expect("our child").is_none());
            (fs::read_link(&exe).ok()? == waiting.program.path).then_some(())
        });
        waiting
    }

    fn crash(mut self) -> Program {
        let mut stdin = self.child.stdin.take().expect("piped");
        stdin.write_all(b"x").expect("it reads");
        self.child.wait().expect("our child");
        self.program
    }
}

/// Another program takes its place under the same name.
fn replace(program: &Program) {
    let new = program.path.with_extension("new");
    copy(&compile("null_deep.c", PIE), &new);
    fs::rename(new, &program.path).expect("our directory");
}

fn assert_refused(report: &Report, reason: &str) {
    assert!(report["instruction_symbol"].is_null(), "{}", report.line);
    let frame = &report.frames()[0];
    assert!(frame["symbol"].is_null(), "{}", report.line);
    let lost = report["lost"].to_string();
    assert!(lost.contains(&format!("symbols: {reason}")), "{lost}");
}

fn before_the_crash(change: impl FnOnce(&Program)) -> Report {
    let waiting = Waiting::start();
    let monitor = monitor(&waiting.program);
    change(&waiting.program);
    let program = waiting.crash();
    let report = only(monitor.stop().reports());
    let module = format!("{} (deleted)", program.path());
    assert_eq!(report.frames()[0]["module"], module);
    report
}

fn file_deleted_before_the_crash() {
    let report = before_the_crash(|program| fs::remove_file(&program.path).expect("our file"));
    assert_refused(&report, "file deleted before the crash");
}

fn file_replaced_before_the_crash() {
    assert_refused(&before_the_crash(replace), "file replaced before the crash");
}

/// The monitor sleeps while the program crashes and its file changes.
fn since_the_crash(change: impl FnOnce(&Program)) -> Report {
    let program = Program::new("null_deep.c");
    let monitor = monitor(&program);
    monitor.signal(Signal::SIGSTOP);
    crash(&mut program.command());
    change(&program);
    monitor.signal(Signal::SIGCONT);
    only(monitor.stop().reports())
}

fn file_deleted_since_the_crash() {
    let report = since_the_crash(|program| fs::remove_file(&program.path).expect("our file"));
    assert_refused(&report, "file deleted since the crash");
}

fn file_replaced_since_the_crash() {
    let report = since_the_crash(replace);
    assert_refused(&report, "file replaced since the crash");
}

fn file_changed_since_the_crash() {
    let report = since_the_crash(|program| {
        let file = fs::OpenOptions::new().append(true).open(&program.path);
        file.expect("our file").write_all(b"\0").expect("room");
    });
    assert_refused(&report, "file changed since the crash");
}

fn file_without_a_name() {
    let program = deep();
    let monitor = monitor(&program);
    crash(Command::new(wrapper("memfd.c")).arg(&program.path));
    let report = only(monitor.stop().reports());
    assert_refused(&report, "the file has no name, and its process is gone");
    let module = report.frames()[0]["module"].as_str().unwrap_or("");
    assert_eq!(module, format!("/memfd:{}", program.name));
}

fn file_without_a_name_of_a_living_process() {
    let program = Program::built("handled.c", STATIC);
    let monitor = monitor(&program);
    let mut command = Command::new(wrapper("memfd.c"));
    // So often that it still is at it when its first fault is looked into.
    let child = command
        .arg(&program.path)
        .arg("100000")
        .stdout(Stdio::null());
    let mut child = child.spawn().expect("our wrapper");
    let reports = monitor.wait_reports(1);
    child.wait().expect("our child");
    monitor.stop();
    let symbol = reports[0]["instruction_symbol"].as_str().unwrap_or("");
    assert!(symbol.contains("+0x"), "{}", reports[0].line);
}
