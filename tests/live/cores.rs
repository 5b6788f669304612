//! Core files of the tool, beside the kernel's own core of the same crash: what gdb and
//! eu-stack see in both, and what `core` reports of both.

use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::mount::{mount, umount2, MntFlags, MsFlags};

use crate::harness::{binary, crash, options_for_all, Monitor};
use crate::programs::{directory, public_directory, Program, NO_PIE, PIE, STATIC};
use crate::report::{only, Report};
use crate::skip::{need_call_frame_information, skip};
use crate::{cases, Needs};

cases! {
    Needs::Tool("gdb") => [
        core_for_gdb_in_each_build,
        core_for_gdb_of_a_musl_program,
    ],
    Needs::Compat => [core_for_gdb_of_32_bits],
    Needs::Tool("eu-stack") => [core_for_eu_stack],
    Needs::Bpf => [
        core_reports_what_was_reported,
        core_reports_other_stacks,
        core_files_are_private,
        core_files_are_kept_to_a_number,
        core_files_are_kept_to_a_size,
        core_on_a_full_disk,
        core_once_for_folded_reports,
        core_of_handled_faults_is_not_written,
        core_is_read_by_anybody,
    ],
    Needs::Nothing => [core_refuses_other_files],
}

const NOBODY: u32 = 65_534;

/// One crash: its report, our core, and the kernel's.
pub struct Crash {
    pub report: Report,
    pub ours: PathBuf,
    pub kernels: PathBuf,
    pub program: Program,
}

/// Crashes a program so that the kernel writes a core, too. The system's setting stays as it is.
fn crash_for_both(program: Program, args: &[&str]) -> Crash {
    crash_with(&[], program, args)
}

/// The same with further options.
pub fn crash_with(options: &[&str], program: Program, args: &[&str]) -> Crash {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").expect("core_pattern");
    let pattern = pattern.trim();
    if pattern.starts_with(['|', '/']) || pattern.contains('%') {
        skip(format_args!("the kernel's cores go elsewhere: {pattern}"));
    }
    let cores = directory();
    let dir = cores.to_str().expect("an ASCII path");
    let of_both = ["-n", &program.name, "-t", "--format", "json"];
    let of_both = [&of_both[..], &["--max-stack-depth", "64", "--core", dir]];
    let monitor = Monitor::start(of_both.concat().iter().chain(options));
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -c unlimited && exec \"$0\" \"$@\""])
        .arg(&program.path)
        .args(args)
        .current_dir(program.path.parent().expect("its directory"));
    let pid = crash(&mut command);
    let mut reports = monitor.stop().reports();
    reports.retain(Report::is_fatal);
    let report = only(reports);
    let ours = PathBuf::from(report.str("core"));
    assert_eq!(ours.parent(), Some(&*cores));
    let place = program.path.parent().expect("its directory");
    let kernels = [place.join("core"), place.join(format!("core.{pid}"))];
    let Some(kernels) = kernels.into_iter().find(|path| path.exists()) else {
        skip("the kernel wrote no core");
    };
    Crash {
        report,
        ours,
        kernels,
        program,
    }
}

/// What gdb prints for these commands, without the lines that name the core.
fn gdb(program: &Program, core: &Path, commands: &[&str]) -> Vec<String> {
    let mut gdb = Command::new("gdb");
    gdb.args(["-batch", "-nx", "-ex", "set debuginfod enabled off"]);
    gdb.args(["-iex", "set auto-load no"]);
    for command in commands {
        gdb.args(["-ex", command]);
    }
    let output = gdb.arg(&program.path).arg(core).output().expect("gdb");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let begin = text.find("\n#0").expect("a first frame");
    // Of a library one core has the path, the other a link to it.
    let line = |line: &str| line.split(" from /").next().unwrap_or(line).to_owned();
    text[begin + 1..].lines().map(line).collect()
}

/// Names of functions in a backtrace of gdb.
fn functions(lines: &[String]) -> Vec<String> {
    // `#3  0x1234 in name (...`, `#3  name (...`
    let name = |line: &String| {
        let rest = line.strip_prefix('#')?;
        let rest = rest
            .split_once("  ")
            .map_or(rest, |(_, rest)| rest)
            .trim_start();
        let rest = match rest.split_once(" in ") {
            Some((address, rest)) if address.starts_with("0x") => rest,
            _ => rest,
        };
        rest.split(" (").next().map(str::to_owned)
    };
    lines.iter().filter_map(name).collect()
}

/// The three innermost frames with their locals, and all others.
const SHOW: [&str; 8] = [
    "bt",
    "frame 0",
    "info locals",
    "p *node",
    "p *node->next",
    "frame 1",
    "info locals",
    "info args",
];

fn check_gdb(program: Program) {
    let crash = crash_for_both(program, &[]);
    let ours = gdb(&crash.program, &crash.ours, &SHOW);
    let kernels = gdb(&crash.program, &crash.kernels, &SHOW);
    assert_eq!(ours, kernels, "{}", crash.report.line);
    let text = ours.join("\n");
    assert!(text.contains("text = \"depth-3"), "{text}");
    assert!(text.contains("name = \"first\\000"), "{text}");
    // Where gdb gets through, our report has the same functions.
    let seen = functions(&gdb(&crash.program, &crash.ours, &["bt"])[1..]);
    let seen: Vec<&String> = seen.iter().filter(|name| !name.contains("sort")).collect();
    let reported = crash.report.functions();
    let own = ["leaf", "compare", "caller", "main"];
    let reported = reported.iter().filter(|name| own.contains(&name.as_str()));
    if seen.iter().any(|name| *name == "main") {
        let seen = seen.into_iter().filter(|name| own.contains(&name.as_str()));
        assert_eq!(
            seen.collect::<Vec<_>>(),
            reported.collect::<Vec<_>>(),
            "{text}"
        );
    }
    let size = |path: &Path| fs::metadata(path).expect("a core").len();
    assert!(size(&crash.ours) < 64 << 10, "{} bytes", size(&crash.ours));
    assert!(size(&crash.ours) < size(&crash.kernels));
}

fn core_for_gdb_in_each_build() {
    need_call_frame_information();
    let builds = [PIE, NO_PIE, STATIC, &["-fPIE", "-static-pie"], &["-O0"]];
    for flags in builds {
        check_gdb(Program::built("locals.c", &[&["-g"], flags].concat()));
    }
}

fn core_for_gdb_of_a_musl_program() {
    need_call_frame_information();
    if Command::new("musl-gcc").arg("--version").output().is_err() {
        skip("no musl-gcc");
    }
    check_gdb(Program::built_by("musl-gcc", "locals.c", &["-g"]));
}

fn core_for_gdb_of_32_bits() {
    if Command::new("gdb").arg("--version").output().is_err() {
        skip("no gdb");
    }
    need_call_frame_information();
    for flags in [&["-m32", "-g", "-O0"][..], &["-m32", "-g", "-static"]] {
        check_gdb(Program::built("locals.c", flags));
    }
}

fn core_for_eu_stack() {
    need_call_frame_information();
    for flags in [PIE, NO_PIE, STATIC] {
        let crash = crash_for_both(Program::built("locals.c", flags), &[]);
        let calls = |core: &Path| {
            let output = Command::new("eu-stack").arg("--core").arg(core).output();
            let text = String::from_utf8(output.expect("eu-stack").stdout).expect("ASCII");
            let calls = text.lines().filter(|line| line.starts_with('#'));
            calls.map(str::to_owned).collect::<Vec<_>>()
        };
        let ours = calls(&crash.ours);
        assert_eq!(ours, calls(&crash.kernels));
        assert!(ours.iter().any(|call| call.ends_with(" main")), "{ours:?}");
    }
}

/// What `core` reports.
fn reported(core: &Path) -> Report {
    let output = Command::new(binary())
        .args(["core", "--json"])
        .arg(core)
        .output();
    let output = output.expect("the binary");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    Report::parse(
        std::str::from_utf8(&output.stdout)
            .expect("ASCII")
            .trim_end(),
    )
}

const SAME: [&str; 16] = [
    "pid",
    "tid",
    "comm",
    "fault_address",
    "instruction_pointer",
    "instruction_symbol",
    "fault_type",
    "stack_trace",
    "stack_complete",
    "signal",
    "signal_code",
    "access",
    "disposition",
    "exe",
    "cause",
    "signature",
];

/// The cores of which `core` is to report what was reported: perf events alone tell less than
/// the kernel's core.
fn told_alike(crash: &Crash) -> Vec<&PathBuf> {
    match options_for_all().iter().any(|option| option == "perf") {
        true => vec![&crash.ours],
        false => vec![&crash.ours, &crash.kernels],
    }
}

fn check_same(crash: &Crash) {
    for core in told_alike(crash) {
        let again = reported(core);
        for key in SAME {
            // The kernel's core does not say it, and an instruction that was not fetched neither.
            if key == "access" && again[key].is_null() && core == &crash.kernels {
                continue;
            }
            assert_eq!(
                again[key], crash.report[key],
                "{key} of {core:?}: {}",
                crash.report.line
            );
        }
    }
    let again = reported(&crash.ours);
    assert_eq!(again["timestamp"], crash.report["timestamp"]);
    assert_eq!(again["cause_text"], crash.report["cause_text"]);
    assert_eq!(again["group"], crash.report["group"]);
}

fn core_reports_what_was_reported() {
    for flags in [PIE, NO_PIE, STATIC, &["-fPIE", "-static-pie"]] {
        check_same(&crash_for_both(Program::built("locals.c", flags), &[]));
    }
    for kind in ["write", "readonly", "execute", "null_call", "noncanonical"] {
        check_same(&crash_for_both(Program::new("access.c"), &[kind]));
    }
    // The kernel's core has more of the stack, and so more calls.
    let crash = crash_for_both(Program::new("overflow.c"), &["plain"]);
    for core in told_alike(&crash) {
        let again = reported(core);
        for key in ["cause", "signature", "fault_address", "instruction_symbol"] {
            assert_eq!(again[key], crash.report[key], "{key} of {core:?}");
        }
    }
    check_same(&crash_for_both(
        Program::new("named_thread.c"),
        &["renamed"],
    ));
}

/// A handler on an alternate stack that crashes, a coroutine.
fn core_reports_other_stacks() {
    need_call_frame_information();
    check_same(&crash_for_both(Program::new("in_handler.c"), &[]));
    check_same(&crash_for_both(Program::new("switched.c"), &["handler"]));
}

fn monitor(program: &Program, dir: &Path, options: &[&str]) -> Monitor {
    let dir = dir.to_str().expect("an ASCII path");
    let fixed = ["-n", &program.name, "--format", "json", "--core", dir];
    Monitor::start([&fixed[..], options].concat())
}

fn cores_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("the directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = names
        .map(|name| name.into_string().expect("ASCII"))
        .collect();
    names.sort();
    names
}

/// Mode 0600, and nothing that was planted is written to; what an earlier run left goes.
fn core_files_are_private() {
    let program = Program::new("null_deep.c");
    let dir = public_directory();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o1777)).expect("our own");
    let victim = directory().join("victim");
    fs::write(&victim, "untouched").expect("a file");
    symlink(&victim, dir.join("core.planted.1.2")).expect("a link");
    fs::write(dir.join(".core.left.1.2"), "half").expect("a file");
    fs::write(dir.join(".core.other"), "no core of ours").expect("a file");
    let monitor = monitor(&program, &dir, &["--core-keep", "1"]);
    crash(&mut program.command());
    let report = only(monitor.stop().reports());
    let core = PathBuf::from(report.str("core"));
    let mode = fs::metadata(&core).expect("the core").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(fs::read(&victim).expect("it stays"), b"untouched");
    let name = core
        .file_name()
        .and_then(|name| name.to_str())
        .expect("ASCII");
    assert_eq!(cores_in(&dir), [".core.other", name, "core.planted.1.2"]);
    let stamp = format!(
        "core.{}.{}.{}",
        program.name, report["pid"], report["timestamp"]
    );
    assert_eq!(name, stamp);
    fs::remove_dir_all(dir).expect("our own");
}

fn core_files_are_kept_to_a_number() {
    let program = Program::new("null_deep.c");
    let dir = directory();
    fs::write(dir.join("core.1"), "not ours").expect("a file");
    fs::write(dir.join("core.earlier.7.1000"), "the oldest").expect("a file");
    let monitor = monitor(&program, &dir, &["--core-keep", "2"]);
    for count in 1..=4 {
        crash(&mut program.command());
        monitor.wait_reports(count);
        // Names have milliseconds.
        std::thread::sleep(Duration::from_millis(2));
    }
    let reports = monitor.stop().reports();
    let name = |report: &Report| {
        let path = PathBuf::from(report.str("core"));
        path.file_name().unwrap().to_str().unwrap().to_owned()
    };
    let mut expected = vec!["core.1".to_owned(), name(&reports[2]), name(&reports[3])];
    expected.sort();
    assert_eq!(cores_in(&dir), expected);
}

fn core_files_are_kept_to_a_size() {
    let program = Program::new("null_deep.c");
    let dir = directory();
    fs::write(dir.join("core.old.7.1000"), vec![0; 700 << 10]).expect("a file");
    fs::write(dir.join("core.old.7.2000"), vec![0; 700 << 10]).expect("a file");
    let monitor = monitor(&program, &dir, &["--core-max-size", "1"]);
    crash(&mut program.command());
    let report = only(monitor.stop().reports());
    let name = PathBuf::from(report.str("core"));
    let name = name.file_name().unwrap().to_str().unwrap().to_owned();
    let mut expected = vec!["core.old.7.2000".to_owned(), name];
    expected.sort();
    assert_eq!(cores_in(&dir), expected);
}

/// A mounted file system that goes when the test does.
struct SmallDisk(PathBuf);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// The core is lost and counted, the report is not.
fn core_on_a_full_disk() {
    let program = Program::new("null_deep.c");
    let disk = SmallDisk(directory());
    let size = Some("size=4k");
    mount(Some("none"), &disk.0, Some("tmpfs"), MsFlags::empty(), size).expect("a tmpfs");
    fs::write(disk.0.join("ballast"), vec![0; 4096]).expect("the whole disk");
    let monitor = monitor(&program, &disk.0, &["--stats"]);
    for _ in 0..2 {
        crash(&mut program.command());
    }
    let outcome = monitor.stop();
    let reports = outcome.reports();
    assert_eq!(reports.len(), 2);
    for report in &reports {
        assert!(report["core"].is_null());
        assert!(
            report.lost().iter().any(|lost| lost.starts_with("core: ")),
            "{}",
            report.line
        );
    }
    assert_eq!(outcome.stderr.matches("No space left on device").count(), 1);
    assert!(
        outcome
            .stderr
            .contains("  Core files lost:              2\n"),
        "{}",
        outcome.stderr
    );
    assert_eq!(cores_in(&disk.0), ["ballast"]);
}

fn core_once_for_folded_reports() {
    let program = Program::new("null_deep.c");
    let dir = directory();
    let monitor = monitor(&program, &dir, &["--fold", "60"]);
    for _ in 0..3 {
        crash(&mut program.command());
    }
    let reports = monitor.stop().reports();
    assert_eq!(cores_in(&dir).len(), 1);
    let with_core = reports.iter().filter(|report| !report["core"].is_null());
    assert_eq!(with_core.count(), 1);
}

fn core_of_handled_faults_is_not_written() {
    let program = Program::new("recovered.c");
    let dir = directory();
    let monitor = monitor(&program, &dir, &[]);
    crash(program.command().arg("exec"));
    let reports = monitor.stop().reports();
    let fatal = reports.iter().filter(|report| report.is_fatal()).count();
    assert_eq!(cores_in(&dir).len(), fatal);
    assert!(reports.len() > fatal);
}

/// It needs no rights but those to read the file.
fn core_is_read_by_anybody() {
    let program = Program::new("null_deep.c");
    let dir = public_directory();
    let path = dir.join("program");
    crate::programs::copy(&program.path, &path);
    let monitor = Monitor::start([
        "-n",
        "program",
        "--format",
        "json",
        "--core",
        dir.to_str().unwrap(),
    ]);
    let pid = crash(&mut crate::programs::command(&path));
    let report = monitor.wait_report_of(pid);
    monitor.stop();
    let core = PathBuf::from(report.str("core"));
    fs::set_permissions(&core, fs::Permissions::from_mode(0o644)).expect("our own");
    let copied = dir.join("binary");
    crate::programs::copy(binary().as_path(), &copied);
    let mut command = Command::new(&copied);
    command
        .args(["core", "--json"])
        .arg(&core)
        .uid(NOBODY)
        .gid(NOBODY)
        .current_dir("/");
    let output = command.output().expect("the binary");
    let text = String::from_utf8(output.stdout).expect("ASCII");
    Report::parse(text.trim_end()).assert_chain(&["level_five"]);
    fs::remove_dir_all(dir).expect("our own");
}

fn core_refuses_other_files() {
    let dir = directory();
    let cut = dir.join("cut");
    fs::write(&cut, b"\x7fELF\x02\x01\x01").expect("a file");
    let fifo = dir.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).expect("a FIFO");
    for (path, reason) in [
        (binary().as_path(), "an ELF file, but not a core file"),
        (Path::new("/etc/passwd"), "not an ELF file"),
        (cut.as_path(), "a malformed core file"),
        (fifo.as_path(), "not a regular file"),
        (Path::new("/nowhere"), "file not found"),
    ] {
        let output = Command::new(binary())
            .arg("core")
            .arg(path)
            .output()
            .expect("the binary");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(reason), "{path:?}: {said}");
        assert_eq!(output.status.code(), Some(1));
    }
}
