//! The user's manual's own programs, unchanged but for paths, around the binary:
//! the alert script and the metrics reader. `sudo`, `mail` and prometheus_client
//! are stubs that write down what they are given.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::{symlink, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{killpg, Signal};
use nix::unistd::Pid;

use crate::harness::{binary, crash, Monitor};
use crate::names::{odd_program, ODD};
use crate::programs::{command, directory, wait_file, wait_lines, Program};
use crate::report::Report;
use crate::{cases, Needs};

cases! {
    Needs::Tool("jq") => [example_alert_script],
    Needs::Tool("python3") => [example_metrics_reader],
}

const SUDO: &str = "#!/bin/sh\nexec \"$@\"\n";
const MAIL: &str = "#!/bin/sh\n{ echo \"mail $*\"; cat; } >> \"$MAILS\"\n";
const PROMETHEUS: &str = r#"
import contextlib, json, os
class Counter:
    def __init__(self, *args): self.args = args
    def labels(self, **labels):
        self.last = labels
        return self
    def inc(self):
        with open(os.environ["COUNTED"], "a") as counted:
            counted.write(json.dumps(self.last) + "\n")
class Histogram:
    def __init__(self, *args): pass
    @contextlib.contextmanager
    def time(self): yield
def start_http_server(port): pass
"#;

pub fn script(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::write(&path, text).expect("our directory");
    fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("our own file");
}

/// A directory as the manual assumes it: ./target/release/segfault_analyzer.
pub fn workplace() -> PathBuf {
    let dir = directory();
    fs::create_dir_all(dir.join("target/release")).expect("our directory");
    symlink(binary(), dir.join("target/release/segfault_analyzer")).expect("our directory");
    fs::create_dir(dir.join("stubs")).expect("our directory");
    script(&dir.join("stubs"), "sudo", SUDO);
    dir
}

/// Runs in a process group of its own, which is ended with the value.
pub struct Group(pub Monitor);

impl Group {
    fn start(mut command: Command, dir: &Path) -> Group {
        let path = env::var_os("PATH").unwrap_or_default();
        let stubs = [dir.join("stubs")]
            .into_iter()
            .chain(env::split_paths(&path));
        command.env("PATH", env::join_paths(stubs).expect("no colon"));
        Group::start_with_path(command, dir)
    }

    /// With the PATH that the command has.
    pub fn start_with_path(mut command: Command, dir: &Path) -> Group {
        command.current_dir(dir).process_group(0);
        let mut group = Group(Monitor::spawn(command));
        group.0.wait_attached();
        group
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM);
    }
}

fn example_alert_script() {
    let dir = workplace();
    alert_script(&dir, |command| Group::start(command, &dir), &["bash"]);
}

/// The script, given to a shell; each crash that it is about has one mail.
pub fn alert_script(dir: &Path, start: impl FnOnce(Command) -> Group, shell: &[&str]) {
    let logs = dir.join("logs");
    fs::create_dir(&logs).expect("our directory");
    script(&dir.join("stubs"), "mail", MAIL);
    let manual = include_str!("manual/crash_monitor.sh");
    assert_eq!(manual.matches("/var/log/segfaults").count(), 1);
    script(
        dir,
        "crash_monitor.sh",
        &manual.replace("/var/log/segfaults", logs.to_str().expect("ASCII")),
    );
    // The script starts the monitor and follows its file in the same moment; that
    // the file is there for `tail` is not left to chance here.
    let today = Command::new("date")
        .arg("+%Y%m%d")
        .output()
        .expect("date")
        .stdout;
    let today = String::from_utf8(today).expect("digits");
    fs::write(logs.join(format!("segfaults_{}.json", today.trim())), "").expect("our directory");

    let mails = dir.join("mails");
    let mut interpreter = Command::new(shell[0]);
    interpreter.args(&shell[1..]);
    interpreter.arg("crash_monitor.sh").env("MAILS", &mails);
    let group = start(interpreter);
    let silent = Program::new("quick.c");
    crash(&mut silent.command());
    let mut names = Vec::new();
    for odd in ODD {
        let (name, path) = odd_program(odd);
        // The same bytes as an argument, and so as the name set by prctl.
        let argument = path.file_name().expect("it has one").to_owned();
        crash(command(&path).arg(argument));
        names.push(name);
    }
    let all_came = |bytes: &[u8]| {
        // Whole lines: the last one may be on its way.
        let text = String::from_utf8_lossy(bytes);
        text.ends_with('\n') && names.iter().all(|name| text.contains(name))
    };
    let text = wait_file(&mails, "a mail for each crash", all_came);
    drop(group);
    let text = String::from_utf8(text).expect("ASCII");
    assert!(
        !text.contains(&silent.name),
        "a null pointer is no access violation"
    );
    for name in names {
        let about: Vec<&str> = text.lines().filter(|line| line.contains(&name)).collect();
        assert_eq!(about.len(), 1, "one mail of one line for {name}: {about:?}");
        // `read` without -r took the backslashes; what is left is JSON still.
        let json = about[0].strip_prefix("Critical segfault detected: ");
        let report = Report::parse(json.unwrap_or_else(|| panic!("{about:?}")));
        assert_eq!(report["fault_type"], "access_error");
        assert!(report.str("comm").starts_with(&name), "{}", report.line);
    }
    assert!(
        text.contains("mail -s Segfault Alert admin@company.com"),
        "{text}"
    );
}

fn example_metrics_reader() {
    let dir = workplace();
    fs::write(
        dir.join("segfault_metrics.py"),
        include_str!("manual/segfault_metrics.py"),
    )
    .expect("our directory");
    fs::create_dir(dir.join("modules")).expect("our directory");
    fs::write(dir.join("modules/prometheus_client.py"), PROMETHEUS).expect("our directory");
    let counted = dir.join("counted");
    let mut python = Command::new("python3");
    python
        .arg("segfault_metrics.py")
        .env("COUNTED", &counted)
        .env("PYTHONPATH", dir.join("modules"));
    let group = Group::start(python, &dir);
    let null = Program::new("null_deep.c");
    crash(&mut null.command());
    let mut expected = vec![(null.name, "map_error")];
    for odd in ODD {
        let (name, path) = odd_program(odd);
        crash(&mut command(&path));
        expected.push((name, "access_error"));
    }
    wait_file(&counted, "a count for each crash", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        expected.iter().all(|(name, _)| text.contains(name))
    });
    drop(group);
    let counts: Vec<Report> = wait_lines(&counted, expected.len())
        .iter()
        .map(|line| Report::of_another_kind(line))
        .collect();
    for (name, fault_type) in expected {
        let own: Vec<&Report> = counts
            .iter()
            .filter(|count| count.str("process").starts_with(&name))
            .collect();
        assert_eq!(own.len(), 1, "{name}: {own:?}");
        assert_eq!(own[0]["fault_type"], fault_type, "{name}");
    }
}
