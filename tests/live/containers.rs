//! Containers: which one a report is about, as real runtimes name them, and what the tool
//! says when it runs in one itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::harness::{binary, is_static, Monitor};
use crate::programs::{compile, copy, directory, wrapper, Program, STATIC};
use crate::report::only;
use crate::skip::skip;
use crate::{cases, Needs};

cases! {
    Needs::Tool("podman") => [
        container_of_podman_is_named,
        container_without_the_host_is_told_what_it_lacks,
        container_with_a_seccomp_filter_is_told_the_option,
    ],
    Needs::Bpf => [
        container_is_absent_elsewhere,
        container_like_namespace_says_the_remedy,
    ],
}

/// A container of podman whose root holds one program.
struct Container {
    root: PathBuf,
    /// Where podman writes the id of the last one that was started.
    id: PathBuf,
    options: Vec<String>,
}

impl Container {
    fn new(name: &str) -> Self {
        let root = directory().join("root");
        fs::create_dir(&root).expect("our directory");
        copy(&compile("null_deep.c", STATIC), &root.join(name));
        Container {
            id: directory().join("id"),
            root,
            options: Vec::new(),
        }
    }

    /// With more files: this one, by this name.
    fn with(self, file: &std::path::Path, name: &str) -> Self {
        copy(file, &self.root.join(name));
        self
    }

    fn option(mut self, option: &str) -> Self {
        self.options.push(option.into());
        self
    }

    /// Runs a program of the root. The limits are those that any user may have.
    fn command(&self, program: &[&str]) -> Command {
        let _ = fs::remove_file(&self.id);
        let mut command = Command::new("podman");
        command
            .args(["--runtime", "runc", "--cgroup-manager", "cgroupfs", "run"])
            .args(["--rm", "--network", "none", "--cidfile"])
            .arg(&self.id)
            .args(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=512:512"])
            .args(&self.options)
            .arg("--rootfs")
            .arg(&self.root)
            .args(program);
        command
    }

    /// Ends the test if podman cannot start a container on this host.
    fn works(self) -> Self {
        let shell = PathBuf::from("/bin/busybox");
        if !shell.exists() {
            skip("busybox is not installed");
        }
        let this = self.with(&shell, "busybox");
        let tried = this.command(&["/busybox", "true"]).output();
        let Output { status, stderr, .. } = tried.expect("podman");
        if !status.success() {
            let stderr = String::from_utf8_lossy(&stderr).into_owned();
            skip(format!("podman runs no containers here: {stderr}"));
        }
        this
    }
}

fn container_of_podman_is_named() {
    let program = Program::built("null_deep.c", STATIC);
    let container = Container::new(&program.name).works();
    let monitor = Monitor::start(["-n", &program.name, "-t", "--format", "json"]);
    let text = Monitor::start(["-n", &program.name]);
    let mut command = container.command(&[&format!("/{}", program.name)]);
    let status = command.status().expect("podman");
    assert_eq!(status.code(), Some(128 + libc::SIGSEGV));
    let report = only(monitor.stop().reports());
    let id = fs::read_to_string(&container.id).expect("podman's file");
    if report["lost"].to_string().contains("\"cgroup: perf events") {
        // A process that ends at once takes its cgroup along before perf events are read.
        assert!(report["container"].is_null(), "{}", report.line);
        return;
    }
    let container = &report["container"];
    assert_eq!(container["runtime"], "podman", "{}", report.line);
    assert_eq!(container["id"], id.trim(), "{}", report.line);
    assert!(container["pod"].is_null(), "{}", report.line);
    let line = format!("\n  Container:     podman {}\n", id.trim());
    let text = text.stop();
    assert!(text.text().contains(&line), "{}", text.text());
}

/// The tool in a container, which must run without libraries.
fn tool() -> Container {
    if !is_static() {
        skip("SEGFAULT_ANALYZER is not the path of the static binary");
    }
    let container = Container::new("crash").with(&binary(), "tool");
    let tool = container.root.join("tool");
    fs::set_permissions(tool, fs::Permissions::from_mode(0o755)).expect("our file");
    container.works()
}

fn output(command: &mut Command) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("podman");
    let text = [stdout, stderr].concat();
    (status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn container_without_the_host_is_told_what_it_lacks() {
    let container = tool().option("--privileged");
    let (status, page) = output(&mut container.command(&["/tool", "--check"]));
    assert_eq!(status, Some(0), "{page}");
    assert!(
        page.contains("of other containers: this is a pid"),
        "{page}"
    );
    assert!(page.contains("--pid=host"), "{page}");
    assert!(!page.contains("--cap-add"), "it has all: {page}");
    let container = tool().option("--privileged").option("--pid=host");
    let (status, page) = output(&mut container.command(&["/tool", "--check"]));
    assert_eq!(status, Some(0), "{page}");
    assert!(!page.contains("--pid=host"), "{page}");
}

/// The profile that podman has by default permits bpf(2) to who has the capability; one
/// that refuses it must be named.
fn container_with_a_seccomp_filter_is_told_the_option() {
    let profile = directory().join("profile.json");
    let rule = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["bpf","perf_event_open"],"action":"SCMP_ACT_ERRNO"}]}"#;
    fs::write(&profile, rule).expect("our directory");
    let container = tool()
        .option("--cap-add=all")
        .option(&format!("--security-opt=seccomp={}", profile.display()));
    let (status, said) = output(&mut container.command(&["/tool", "-d", "5"]));
    assert_eq!(status, Some(3), "{said}");
    assert!(said.contains("--security-opt seccomp="), "{said}");
}

fn container_is_absent_elsewhere() {
    let report = crate::json::report_of(&Program::new("null_deep.c"), &[], &[]);
    assert!(!report.keys().contains(&"container"), "{}", report.line);
}

fn container_like_namespace_says_the_remedy() {
    let mut command = Command::new(wrapper("pid_namespace.c"));
    command.arg(binary());
    let outcome = Monitor::start_as(command).stop();
    let warning = "Warning: reports will lack symbols of other containers: this is a pid namespace of its own; start this container with --pid=host";
    assert!(outcome.stderr.contains(warning), "{}", outcome.stderr);
    let outside = Monitor::start(["-n", "nobody-has-this"]).stop();
    assert!(!outside.stderr.contains("--pid=host"), "{}", outside.stderr);
}
