//! The user's manual on a system that has busybox alone: its commands, started,
//! watched and stopped by busybox's shell with busybox's tools; its scripts, the
//! alert script with jq besides, as the manual has it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::examples::{alert_script, workplace, Group};
use crate::harness::{complete_lines, crash, eventually, status_of, Monitor, PATIENCE};
use crate::programs::{copy, Program};
use crate::report::Report;
use crate::{cases, Needs};

cases! {
    Needs::Tool("busybox") => [
        busybox_runs_every_command,
        busybox_rotates_files,
    ],
    Needs::Tool("jq") => [
        busybox_runs_the_alert_script,
    ],
}

/// `$COMMAND` is a line of the manual, `$P` a program that crashes; everything that it
/// reports has to be there when it has ended. A command without a filter sees the crashes of
/// the other tests too (`$UNFILTERED`), and of a burst of those some may be dropped: there
/// `$P` may crash thrice.
const DRIVER: &str = r#"
eval "$COMMAND" '>stdout 2>stderr &'
until grep -q ^Monitoring stderr; do
	kill -0 $! && ! grep -q '^State:.Z' /proc/$!/status || { cat stderr; exit 100; }
	usleep 10000
done
if [ -n "$VICTIM" ]; then kill -SEGV "$VICTIM"; else "$P" 2>/dev/null; fi
looks=0
until cat stdout *.log *.json 2>/dev/null | grep -q "$WANTED"; do
	usleep 10000
	looks=$((looks + 1))
	if [ -n "$UNFILTERED" ] && [ $looks = 500 -o $looks = 1000 ]; then "$P" 2>/dev/null; fi
done
kill -INT $!
wait $!
"#;

/// The manual's workplace, and a PATH of busybox's tools alone.
fn busybox_place() -> (PathBuf, PathBuf) {
    let dir = workplace();
    let tools = dir.join("stubs");
    let mut install = Command::new("busybox");
    install.args(["--install", "-s"]).arg(&tools);
    assert!(status_of(&mut install).success(), "busybox --install");
    (dir, tools)
}

fn shell(dir: &Path, tools: &Path) -> Command {
    let mut command = Command::new(tools.join("sh"));
    command
        .env_clear()
        .env("PATH", tools)
        .current_dir(dir)
        .stdin(Stdio::null());
    command
}

fn busybox_runs_every_command() {
    let commands = include_str!("manual/commands.sh");
    let mut count = 0;
    for line in commands.lines().filter(|line| !line.starts_with('#')) {
        runs_command(line);
        count += 1;
    }
    assert_eq!(count, 26, "all of them");
}

fn runs_command(line: &str) {
    let (dir, tools) = busybox_place();
    let program = Program::new("null_deep.c");
    // What `-n` of the manual's examples looks for.
    let path = dir.join(match line {
        _ if line.contains("-n my_buggy_app") => "my_buggy_app",
        _ if line.contains("-n myapp") => "myapp_server",
        _ if line.contains("-n test") => "my_test",
        _ => &program.name,
    });
    copy(&program.path, &path);
    let mut victim = Command::new("sleep").arg("600").spawn().expect("sleep");
    let pid = victim.id().to_string();
    let command = line.replace("-p 1234", &format!("-p {pid}"));
    let is_pid = command != line;
    let is_filtered = is_pid || line.contains("-n ");
    // In text and in JSON.
    let wanted = match is_pid {
        true => format!("PID: {pid},"),
        false if line.contains("json") => format!("\"exe\":\"{}\"", path.display()),
        false => format!("Command:       {}", path.display()),
    };
    let mut shell = shell(&dir, &tools);
    shell
        .args(["-c", DRIVER])
        .env("COMMAND", command.split("  #").next().unwrap_or(&command))
        .env("P", &path)
        .env("VICTIM", if is_pid { &*pid } else { "" })
        .env("UNFILTERED", if is_filtered { "" } else { "1" })
        .env("WANTED", wanted);
    let outcome = Monitor::spawn(shell).wait();
    let _ = victim.kill();
    let _ = victim.wait();
    assert_eq!(
        outcome.status.code(),
        Some(0),
        "{line}: {}{}",
        outcome.text(),
        outcome.stderr
    );
}

/// With shorter times; else as it stands in the manual.
fn busybox_rotates_files() {
    let (dir, tools) = busybox_place();
    let manual = include_str!("manual/rotation.sh");
    let text = manual
        .replace("-d 3600", "-d 1")
        .replace("sleep 60", "sleep 1");
    fs::write(dir.join("rotation.sh"), text).expect("our directory");
    let mut command = shell(&dir, &tools);
    command.arg("rotation.sh");
    let group = Group::start_with_path(command, &dir);
    let program = Program::new("null_deep.c");
    eventually("a report in each of two files", PATIENCE, || {
        crash(&mut program.command());
        std::thread::sleep(Duration::from_millis(50));
        let with_report = logs(&dir).filter(|lines| {
            let reports = lines.iter().map(|line| Report::parse(line));
            reports
                .filter(|report| report["comm"] == *program.name)
                .count()
                > 0
        });
        (with_report.count() >= 2).then_some(())
    });
    drop(group);
}

fn logs(dir: &Path) -> impl Iterator<Item = Vec<String>> {
    let files = fs::read_dir(dir).expect("our directory");
    let paths = files.map(|file| file.expect("our directory").path());
    let logs = paths.filter(|path| path.extension().is_some_and(|end| end == "log"));
    logs.map(|path| complete_lines(&fs::read(path).expect("our file")))
}

fn busybox_runs_the_alert_script() {
    let (dir, tools) = busybox_place();
    let jq = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .map(|dir| dir.join("jq"))
        .find(|jq| jq.exists());
    symlink(jq.expect("it is installed"), tools.join("jq")).expect("our directory");
    let start = |mut command: Command| {
        command.env("PATH", &tools);
        Group::start_with_path(command, &dir)
    };
    alert_script(&dir, start, &["busybox", "sh"]);
}
