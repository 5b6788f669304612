//! Where there is next to nothing beside the tool: an empty root, no /proc, no /dev,
//! nothing to write to, closed streams; a container, a user who is not root.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::chains::DEEP;
use crate::harness::{
    binary, complete_lines, crash, eventually, options_for_all, status_of, Monitor, PATIENCE,
};
use crate::programs::{
    compile, copy, directory, public_directory, unique, wrapper_built, Program, STATIC,
};
use crate::report::{only, Report};
use crate::{cases, Needs};

cases! {
    Needs::Static => [
        surroundings_of_an_empty_root,
        surroundings_without_streams,
        surroundings_without_standard_output,
        surroundings_without_randomness,
    ],
    Needs::StaticAndTool("nsenter") => [
        surroundings_that_are_read_only,
    ],
    Needs::StaticAndTool("busybox") => [
        surroundings_of_a_container,
        surroundings_of_a_first_process,
    ],
    Needs::Tool("setcap") => [
        surroundings_of_a_user_with_file_capabilities,
    ],
}

const NOBODY: u32 = 65_534;
const RUN: &str = "exec chroot $R /segfault_analyzer \"$@\"";

/// A directory with the tool, a static program that crashes, and nothing else.
struct Root {
    dir: PathBuf,
    name: String,
}

impl Root {
    fn new() -> Root {
        let root = Root {
            dir: directory(),
            name: unique("root"),
        };
        root.add("segfault_analyzer", &binary());
        root.add(&root.name, &compile("null_deep.c", STATIC));
        root
    }

    fn add(&self, name: &str, file: &std::path::Path) {
        copy(file, &self.dir.join(name));
    }

    /// A shell script in a mount namespace of its own, with options for the tool as its
    /// arguments. `$R` is the directory, `$N` the program's name.
    fn script(&self, script: &str) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c", &format!("set -e; {script}"), "sh"])
            .args(["-n", &self.name, "-t", "--format", "json"])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("R", &self.dir)
            .env("N", &self.name)
            .stdin(Stdio::null());
        command
    }

    /// The same, for every method.
    fn script_on_each_rung(&self, script: &str) -> Command {
        let mut command = self.script(script);
        command.args(options_for_all());
        command
    }

    /// Crashes the program, whose root this directory is too.
    fn crash(&self) -> u32 {
        let mut command = Command::new("chroot");
        crash(command.arg(&self.dir).arg(format!("/{}", self.name)))
    }
}

fn whole(report: &Report, pid: u32) {
    assert_eq!(report["pid"], pid, "{}", report.line);
    assert_eq!(report["lost"].to_string(), "[]", "{}", report.line);
    report.assert_chain(DEEP);
}

/// No /proc, /sys, /dev, /tmp, /etc or locale; where the root lies is not known either.
fn surroundings_of_an_empty_root() {
    let root = Root::new();
    let monitor = Monitor::start_as(root.script_on_each_rung(RUN));
    let pid = root.crash();
    whole(&only(monitor.stop().reports()), pid);
}

/// Nothing can be written to, and nothing is mounted that was not before.
fn surroundings_that_are_read_only() {
    let root = Root::new();
    fs::create_dir(root.dir.join("proc")).expect("our directory");
    let mounts = directory().join("mounts");
    let script = format!(
        "mount --bind $R $R; mount -o remount,bind,ro $R; mount -t proc proc $R/proc; \
         ! touch $R/file 2>/dev/null; cat /proc/self/mounts >{}; {RUN}",
        mounts.display()
    );
    let monitor = Monitor::start_as(root.script_on_each_rung(&script));
    let pid = root.crash();
    let reports = monitor.wait_reports(1);
    let mut look = Command::new("nsenter");
    look.args(["-t", &monitor.id().to_string(), "-m", "cat"]);
    let now = look.arg("/proc/self/mounts").output().expect("nsenter");
    let before = fs::read(&mounts).expect("the script's file");
    assert_eq!(
        String::from_utf8_lossy(&now.stdout),
        String::from_utf8_lossy(&before)
    );
    monitor.stop();
    whole(&only(reports), pid);
}

/// As a service of a rescue system may be started; there is no /dev/null.
fn surroundings_without_streams() {
    let root = Root::new();
    let mut command = root.script_on_each_rung(&format!("{RUN} <&- >&- 2>&-"));
    command.args(["-o", "/reports"]);
    let monitor = Monitor::spawn(command);
    let path = root.dir.join("reports");
    // It cannot say when it is attached.
    let begin = Instant::now();
    let mut pids = Vec::new();
    let lines = loop {
        pids.push(root.crash());
        let lines = complete_lines(&fs::read(&path).unwrap_or_default());
        if !lines.is_empty() {
            break lines;
        }
        assert!(begin.elapsed() < PATIENCE, "no report in {path:?}");
    };
    let outcome = monitor.stop();
    assert_eq!((outcome.text(), &*outcome.stderr), ("", ""));
    let report = Report::parse(&lines[0]);
    let pid = report["pid"].as_u64().expect("a number") as u32;
    assert!(pids.contains(&pid), "{}", report.line);
    whole(&report, pid);
}

/// Reports would go nowhere, and that is said.
fn surroundings_without_standard_output() {
    let root = Root::new();
    let outcome = Monitor::spawn(root.script(&format!("{RUN} >&-"))).wait();
    assert_eq!(outcome.status.code(), Some(1), "{}", outcome.stderr);
    assert!(
        outcome.stderr.starts_with("Error: standard output: "),
        "{}",
        outcome.stderr
    );
}

/// As early after boot, on kernels before 5.6: getrandom(2) would have to wait, and there
/// is no /dev/urandom; or there is no getrandom(2) at all.
fn surroundings_without_randomness() {
    for errno in ["EAGAIN", "ENOSYS"] {
        let root = Root::new();
        root.add("no_random", &wrapper_built("no_random.c", STATIC));
        let exec = |arguments: &str| format!("exec chroot $R /no_random {errno} {arguments}");
        let script = exec("/segfault_analyzer \"$@\"");
        let mut monitor = root.script_on_each_rung(&script);
        monitor.args(["-r", "--maps", "--fold", "600", "-o", "/reports"]);
        let monitor = Monitor::start_as(monitor);
        let pid = root.crash();
        eventually("a report", PATIENCE, || {
            let reports = fs::read(root.dir.join("reports")).unwrap_or_default();
            reports.ends_with(b"\n").then_some(())
        });
        monitor.stop();
        let reports = fs::read(root.dir.join("reports")).expect("reports");
        whole(&Report::parse(&complete_lines(&reports)[0]), pid);
        for desk in ["symbolize --file /$N", "summarize"] {
            let script = exec(&format!("/segfault_analyzer {desk} /reports"));
            let outcome = Monitor::spawn(root.script(&script)).wait();
            assert_eq!(outcome.status.code(), Some(0), "{desk}: {}", outcome.stderr);
            assert!(outcome.text().contains("null_dereference"), "{desk}");
        }
    }
}

/// Namespaces of its own, another root, and two capabilities.
const CONTAINER: &str = r#"
cd /
/only_capabilities c000000000 /segfault_analyzer "$@" 2>/messages &
until grep -q ^Monitoring /messages; do
	kill -0 $! 2>/dev/null || { cat /messages >&2; exit 1; }
	usleep 10000
done
/$N 2>/dev/null
kill -INT $!
wait $! || exit
/only_capabilities c000000000 /segfault_analyzer --check >&2
"#;

fn surroundings_of_a_container() {
    let root = Root::new();
    root.add(
        "only_capabilities",
        &wrapper_built("only_capabilities.c", STATIC),
    );
    let script = "mkdir $R/proc $R/sys $R/dev $R/bin; mount -t sysfs -o ro sysfs $R/sys; touch $R/dev/null; \
        mount --bind /dev/null $R/dev/null; cp $(command -v busybox) $R/bin/busybox; \
        exec unshare -p -f -i -u -n sh -c 'mount -t proc proc $R/proc && exec \"$@\"' sh \
        chroot $R /bin/busybox sh -c '/bin/busybox --install -s /bin; eval \"$SCRIPT\"' sh \"$@\"";
    let mut command = root.script(script);
    command.env("SCRIPT", CONTAINER);
    let outcome = Monitor::spawn(command).wait();
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    let report = only(outcome.reports());
    report.assert_chain(DEEP);
    assert!(report["pid"].as_u64() < Some(1000), "{}", report.line);
    let page = &outcome.stderr;
    for missing in ["CAP_SYS_PTRACE ", "CAP_DAC_READ_SEARCH "] {
        assert!(page.contains(missing), "{missing:?} is missing in: {page}");
    }
    for there in ["\n  CAP_BPF ", "\n  CAP_PERFMON "] {
        assert!(!page.contains(there), "{there:?} is not missing: {page}");
    }
    assert!(
        page.contains("65534, with CAP_BPF, CAP_PERFMON\n"),
        "{page}"
    );
    assert!(page.ends_with("\nMonitoring works here.\n"), "{page}");
}

/// As what a container runs: the first process of its pid namespace gets no signal that
/// it has not asked for.
fn surroundings_of_a_first_process() {
    let root = Root::new();
    let script = "exec unshare -p -f --kill-child chroot $R /segfault_analyzer \"$@\"";
    let monitor = Monitor::start_as(root.script_on_each_rung(script));
    let pid = root.crash();
    let report = only(monitor.wait_reports(1));
    assert!(
        [&report["pid"], &report["host_pid"]].contains(&&pid.into()),
        "{}",
        report.line
    );
    report.assert_chain(DEEP);
    let id = monitor.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
    let child = children.expect("/proc").trim().to_owned();
    status_of(Command::new("kill").args(["-TERM", &child]));
    let outcome = monitor.wait();
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
}

fn surroundings_of_a_user_with_file_capabilities() {
    let dir = public_directory();
    let tool = dir.join("segfault_analyzer");
    copy(&binary(), &tool);
    let capabilities = "cap_bpf,cap_perfmon+ep";
    let status = status_of(Command::new("setcap").arg(capabilities).arg(&tool));
    assert!(status.success(), "setcap: {status}");
    let as_nobody = || {
        let mut command = Command::new(&tool);
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
        command
    };
    // Its file is below a directory that this user may not look into.
    // Another build than the one that may be seen: equal ones are taken for each other.
    let hidden = Program::built("null_deep.c", &["-O0", "-fno-inline", "-pie", "-fPIE"]);
    let open = Program::new("null_deep.c");
    let closed = hidden.path.parent().expect("a directory");
    fs::set_permissions(closed, Permissions::from_mode(0o700)).expect("our directory");
    let name = format!("{}b", hidden.name);
    let seen = dir.join(&name);
    copy(&open.path, &seen);

    let mut command = as_nobody();
    command.args(["-n", &hidden.name, "--format", "json", "-t"]);
    let monitor = Monitor::start_as(command);
    let pid = crash(&mut crate::programs::command(&seen));
    crash(&mut hidden.command());
    let reports = monitor.stop().reports();
    let [seen, hidden] = &reports[..] else {
        panic!("not two: {reports:#?}");
    };
    whole(seen, pid);
    seen.assert_reaches_start();
    assert_eq!(hidden["instruction_symbol"], Value::Null);
    assert!(
        hidden["lost"]
            .to_string()
            .contains("symbols: no permission to read the file"),
        "{}",
        hidden.line
    );

    let mut check = as_nobody();
    check.arg("--check");
    let outcome = Monitor::spawn(check).wait();
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    let page = outcome.text();
    for missing in ["SYS_PTRACE", "DAC_READ_SEARCH"] {
        let row = format!("\n  CAP_{missing} ");
        assert!(page.contains(&row), "{row:?} is missing in: {page}");
    }
    assert!(
        page.contains("65534, with CAP_BPF, CAP_PERFMON\n"),
        "{page}"
    );
    assert!(
        page.contains("  /proc                  mounted\n"),
        "{page}"
    );
    let _ = fs::remove_dir_all(dir);
}
