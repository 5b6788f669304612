//! Other threads in core files: of the kernel, of gdb and of ours, as `core --threads`
//! reports them and as gdb sees them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use segfault_analyzer::analyze::Analyzer;
use segfault_analyzer::config::AnalysisConfig;
use segfault_analyzer::corefile::read::Core;
use segfault_analyzer::corefile::recall::{identify, recall};
use segfault_analyzer::corefile::threads;
use segfault_analyzer::crash::event::{Event, FileIdentity};
use segfault_analyzer::symbols::elf::Source;
use segfault_analyzer::sys::file::RegularFile;
use serde_json::Value;

use crate::harness::{binary, crash};
use crate::programs::{installed, Program, NO_PIE, PIE, STATIC};
use crate::report::{function, Report};
use crate::skip::{need_call_frame_information, skip};
use crate::{cases, Needs};

cases! {
    Needs::Tool("gdb") => [
        thread_cores_of_the_kernel_as_gdb_sees_them,
        thread_cores_of_gdb,
        thread_cores_of_ours_for_gdb,
    ],
    Needs::Nothing => [
        thread_cores_are_read_if_asked_for,
        thread_cores_show_who_holds_a_lock,
        thread_cores_of_musl_programs,
        thread_cores_within_the_time_of_a_report,
    ],
    Needs::Compat => [thread_cores_of_32_bit_programs],
}

/// A crashed program, and the kernel's core of it.
struct Dead {
    program: Program,
    core: PathBuf,
}

/// The system's setting for core files stays as it is.
fn dead(program: Program, how: &str) -> Dead {
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").expect("core_pattern");
    let pattern = pattern.trim();
    if pattern.starts_with(['|', '/']) || pattern.contains('%') {
        skip(format_args!("the kernel's cores go elsewhere: {pattern}"));
    }
    let place = program.path.parent().expect("its directory").to_owned();
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -c unlimited && exec \"$0\" \"$@\""])
        .arg(&program.path)
        .arg(how)
        .current_dir(&place);
    let pid = crash(&mut command);
    let cores = [place.join("core"), place.join(format!("core.{pid}"))];
    let Some(core) = cores.into_iter().find(|path| path.exists()) else {
        skip("the kernel wrote no core");
    };
    Dead { program, core }
}

/// What `core` writes.
fn written(core: &Path, options: &[&str]) -> String {
    let output = Command::new(binary())
        .arg("core")
        .args(options)
        .arg(core)
        .output();
    let output = output.expect("the binary");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).expect("ASCII")
}

fn reported(core: &Path) -> Report {
    Report::parse(written(core, &["--json", "--threads"]).trim_end())
}

pub fn others(report: &Report) -> &[Value] {
    report["threads"].as_array().expect("other threads")
}

pub fn names(thread: &Value) -> Vec<String> {
    let frames = thread["stack_trace"].as_array().expect("a stack");
    let name = |frame: &Value| frame["symbol"].as_str().map_or("?".into(), function);
    frames.iter().map(name).collect()
}

/// The thread that is in this function.
pub fn thread_in<'a>(report: &'a Report, function: &str) -> &'a Value {
    let mut found = others(report).iter();
    let found = found.find(|thread| names(thread).iter().any(|name| name == function));
    found.unwrap_or_else(|| panic!("no thread in {function}: {}", report.line))
}

/// One name for aliases: gdb and our reports choose differently.
pub fn plain(name: &str) -> String {
    let name = name.trim_start_matches("__GI_").trim_start_matches('_');
    name.trim_start_matches("libc_").to_owned()
}

/// For each thread the functions that have a frame of their own on the stack: no inlined calls,
/// and no tail calls, which gdb works out and which left nothing there.
const LIST: &str = "python
for thread in gdb.selected_inferior().threads():
    thread.switch()
    frame = gdb.newest_frame()
    names = []
    while frame is not None:
        if frame.type() not in (gdb.INLINE_FRAME, gdb.TAILCALL_FRAME):
            names.append(str(frame.name()))
        frame = frame.older()
    print('THREAD', thread.ptid[1] or thread.ptid[2], ' '.join(names))
";

/// The functions of each thread, as gdb sees them.
pub fn of_gdb(program: &Path, core: &Path) -> BTreeMap<u64, Vec<String>> {
    let script = program.with_extension("gdb");
    fs::write(&script, LIST).expect("our own file");
    let output = Command::new("gdb")
        .args(["-batch", "-nx", "-iex", "set auto-load no"])
        .args(["-ex", "set debuginfod enabled off"])
        .arg(program)
        .arg(core)
        .arg("-x")
        .arg(&script)
        .output()
        .expect("gdb");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("Python scripting is not supported") {
        skip("gdb has no Python");
    }
    let lines = text.lines().filter_map(|line| line.strip_prefix("THREAD "));
    let threads: BTreeMap<u64, Vec<String>> = lines
        .map(|line| {
            let mut words = line.split(' ');
            let tid = words.next().and_then(|word| word.parse().ok());
            (tid.expect("a number"), words.map(plain).collect())
        })
        .collect();
    assert!(!threads.is_empty(), "{text}\n{said}");
    threads
}

/// Every other thread has the calls that gdb sees. Returns how many there are.
fn check_as_gdb(program: &Path, core: &Path) -> usize {
    let report = reported(core);
    let gdb = of_gdb(program, core);
    let list = others(&report);
    assert_eq!(report["thread_count"], gdb.len(), "{}", report.line);
    assert_eq!(list.len() + 1, gdb.len(), "{}", report.line);
    for thread in list {
        let tid = thread["tid"].as_u64().expect("a number");
        let own: Vec<String> = names(thread).iter().map(|name| plain(name)).collect();
        assert_eq!(own, gdb[&tid], "thread {tid}: {}", report.line);
        assert_eq!(thread["stack_complete"], true, "{thread}");
    }
    list.len()
}

/// Where each of the eight threads waits.
pub const CALLS: [(&str, &str); 8] = [
    ("in_lock", "futex"),
    ("in_read", "read"),
    ("in_poll", "poll"),
    ("in_sleep", "clock_nanosleep"),
    ("in_join", "futex"),
    ("in_epoll", "epoll_wait"),
    ("in_accept", "accept"),
    ("in_condition", "futex"),
];

fn check_calls(report: &Report) {
    for (function, call) in CALLS {
        let thread = thread_in(report, function);
        // On arm64 a core does not say it, and some of these calls have other names there.
        if cfg!(target_arch = "x86_64") {
            assert_eq!(thread["syscall"]["name"], call, "{function}: {thread}");
        }
    }
    let spinning = thread_in(report, "in_user_code");
    assert!(spinning["syscall"].is_null(), "{spinning}");
    assert_eq!(others(report).len(), 9, "{}", report.line);
}

fn thread_cores_of_the_kernel_as_gdb_sees_them() {
    need_call_frame_information();
    for flags in [PIE, NO_PIE, STATIC, &["-O0"]] {
        let dead = dead(Program::built("blocked.c", flags), "calls");
        assert_eq!(check_as_gdb(&dead.program.path, &dead.core), 9);
        check_calls(&reported(&dead.core));
    }
}

/// A core of a process that lives on.
fn thread_cores_of_gdb() {
    need_call_frame_information();
    if !installed("gcore") {
        skip("no gcore");
    }
    let program = Program::new("blocked.c").path;
    let mut child = Command::new(&program)
        .args(["calls", "stay"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("our own program");
    let mut line = [0; 9];
    let mut stdout = child.stdout.take().expect("a pipe");
    stdout.read_exact(&mut line).expect("a line");
    let pid = child.id();
    let core = program.with_extension("gcore");
    let made = Command::new("gcore")
        .arg("-o")
        .arg(&core)
        .arg(pid.to_string())
        .output();
    child.kill().expect("our own child");
    child.wait().expect("our own child");
    let made = made.expect("gcore");
    assert!(made.status.success(), "{made:?}");
    let core = PathBuf::from(format!("{}.{pid}", core.display()));
    assert_eq!(check_as_gdb(&program, &core), 9);
    let report = reported(&core);
    assert_eq!(report["pid"], pid);
    check_calls(&report);
}

fn look(path: &[u8]) -> Option<FileIdentity> {
    let status = fs::metadata(std::str::from_utf8(path).ok()?).ok()?;
    Some(FileIdentity {
        inode: status.ino(),
        size: status.size(),
        mtime_s: status.mtime(),
        mtime_ns: status.mtime_nsec() as u32,
        ..FileIdentity::default()
    })
}

/// What a core has, as an event with threads: what the capture program would have captured.
fn event(core: &Path) -> Event {
    let file = RegularFile::open(core).expect("a core");
    let mut core = Core::read(Source::file(file).expect("a file")).expect("a core");
    let mut event = recall(&core).event;
    threads::recall(&mut core, &mut event);
    identify(&mut event, i64::MAX, &|_| true, &look);
    event
}

fn analyzer(report_time: Duration) -> Analyzer {
    let mut config = AnalysisConfig::of_cores(false, 64, Vec::new());
    config.report_time = report_time;
    Analyzer::new(&config, 64 << 20)
}

/// Windows of 8 KB, the kernel's default for a live capture, are enough.
fn thread_cores_of_ours_for_gdb() {
    need_call_frame_information();
    for flags in [PIE, NO_PIE, STATIC] {
        let dead = dead(Program::built("blocked.c", flags), "calls");
        let mut event = event(&dead.core);
        for thread in &mut event.threads.as_mut().expect("threads").list {
            thread.name = b"captured".to_vec();
            for window in &mut thread.windows {
                window.bytes.truncate(8 << 10);
            }
        }
        let mut analyzer = analyzer(Duration::from_secs(10));
        let _ = analyzer.report(&event);
        let ours = dead.core.with_extension("ours");
        let bytes = analyzer.core(&event, 1_700_000_000_000).expect("registers");
        assert!(bytes.len() < 256 << 10, "{} bytes", bytes.len());
        fs::write(&ours, bytes).expect("our own file");
        assert_eq!(check_as_gdb(&dead.program.path, &ours), 9);
        let report = reported(&ours);
        check_calls(&report);
        assert!(others(&report).iter().all(|it| it["name"] == "captured"));
        let kernels = reported(&dead.core);
        for key in ["signature", "group", "cause_text", "stack_trace"] {
            assert_eq!(report[key], kernels[key], "{key}");
        }
    }
}

fn thread_cores_are_read_if_asked_for() {
    need_call_frame_information();
    let dead = dead(Program::new("blocked.c"), "calls");
    let with = reported(&dead.core);
    let without = Report::parse(written(&dead.core, &["--json"]).trim_end());
    for key in ["threads", "thread_count", "waits_for", "deadlock"] {
        assert!(with.keys().contains(&key) && !without.keys().contains(&key));
    }
    for key in ["signature", "group", "stack_trace", "cause_text", "lost"] {
        assert_eq!(with[key], without[key], "{key}");
    }
    let text = written(&dead.core, &["--threads"]);
    assert!(
        text.contains("\n\n  Other Threads (9):\n  Thread "),
        "{text}"
    );
    if cfg!(target_arch = "x86_64") {
        assert!(text.contains(", in read(3):\n    #0  0x"), "{text}");
        assert!(text.contains(", FUTEX_WAIT) on mutex_a+0x0 (/"), "{text}");
    }
    assert!(!written(&dead.core, &[]).contains("Other Threads"));
}

fn check_lock(report: &Report, waits: &str, holds: &str, variable: &str) {
    let (waits, holds) = (thread_in(report, waits), thread_in(report, holds));
    let lock = &waits["waits_for"];
    let place = lock["place"].as_str().expect("a place");
    assert!(place.starts_with(variable), "{waits}");
    assert_eq!(lock["owner"], holds["tid"], "{waits}");
}

pub fn check_deadlock(report: &Report, variables: [&str; 2]) {
    check_lock(report, "a_then_b", "b_then_a", variables[1]);
    check_lock(report, "b_then_a", "a_then_b", variables[0]);
    let mut circle = report["deadlock"].as_array().expect("a list").clone();
    circle.sort_by_key(Value::as_u64);
    let tids = others(report).iter().map(|thread| thread["tid"].clone());
    assert_eq!(circle, tids.collect::<Vec<_>>(), "{}", report.line);
}

fn thread_cores_show_who_holds_a_lock() {
    need_call_frame_information();
    if cfg!(not(target_arch = "x86_64")) {
        skip("a core of this architecture does not say what a thread waits for");
    }
    for (flags, how) in [(PIE, "locks"), (STATIC, "locks"), (NO_PIE, "recursive")] {
        let dead = dead(Program::built("blocked.c", flags), how);
        let report = reported(&dead.core);
        check_deadlock(&report, ["mutex_a+0x0 (/", "mutex_b+0x0 (/"]);
        let text = written(&dead.core, &["--threads"]);
        assert!(text.contains("\n  Deadlock:      threads "), "{text}");
        assert!(
            text.contains(" may be deadlocked: each waits for a lock"),
            "{text}"
        );
    }
    let dead = dead(Program::new("blocked.c"), "inherit");
    let report = reported(&dead.core);
    check_lock(&report, "a_then_b", "b_then_sleep", "mutex_b+0x0 (/");
    assert!(report["deadlock"].as_array().is_some_and(Vec::is_empty));
}

fn thread_cores_of_musl_programs() {
    need_call_frame_information();
    if !installed("musl-gcc") || cfg!(not(target_arch = "x86_64")) {
        skip("no musl-gcc, or another architecture");
    }
    let built = |how| dead(Program::built_by("musl-gcc", "blocked.c", STATIC), how);
    check_deadlock(
        &reported(&built("recursive").core),
        ["mutex_a+0x4 (/", "mutex_b+0x4 (/"],
    );
    // Mutexes of the type normal have no owner.
    let report = reported(&built("locks").core);
    let waits = &thread_in(&report, "a_then_b")["waits_for"];
    assert!(
        waits["owner"].is_null() && !waits.is_null(),
        "{}",
        report.line
    );
}

fn thread_cores_of_32_bit_programs() {
    need_call_frame_information();
    let dead = dead(Program::built("blocked.c", &["-m32"]), "locks");
    check_deadlock(&reported(&dead.core), ["mutex_a+0x0 (/", "mutex_b+0x0 (/"]);
}

/// Other threads get what the crashed one leaves, and the report says what that was too little
/// for.
fn thread_cores_within_the_time_of_a_report() {
    need_call_frame_information();
    let dead = dead(Program::new("blocked.c"), "calls");
    let event = event(&dead.core);
    let about_threads = |report: &segfault_analyzer::report::Report| {
        let lost = report.lost.iter().filter(|lost| lost.detail == "threads");
        lost.count()
    };
    let whole = analyzer(Duration::from_secs(10)).report(&event);
    assert_eq!(about_threads(&whole), 0, "{:?}", whole.lost);
    let cut = analyzer(Duration::from_nanos(1)).report(&event);
    assert_eq!(about_threads(&cut), 1, "{:?}", cut.lost);
    let list = &cut.threads.expect("threads").list;
    assert_eq!(list.len(), 9, "what needs no time is there");
    assert!(list.iter().any(|thread| thread.call.is_some()) || cfg!(not(target_arch = "x86_64")));
}
