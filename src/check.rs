//! `--check`: what this host offers, which capture method it leads to, and what reports
//! will lack. `-v` prints the same while attaching.
//!
//! The rows are facts that were looked up. To find out whether monitoring works, the
//! capture is really started, and stopped again.

use std::fs;
use std::path::Path;

use crate::base::error::{Error, Kind};
use crate::capture::Started;
use crate::crash::event::Lost;
use crate::loader;
use crate::loader::probe::Features;
use crate::sys::confine;
use crate::sys::mmap::page_bytes;
use crate::sys::opener;
use crate::sys::process::{self, capability};
use crate::sys::tracefs;

const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
const PARANOID: &str = "/proc/sys/kernel/perf_event_paranoid";
const JIT: &str = "/proc/sys/net/core/bpf_jit_enable";

/// The purpose of each capability here, beyond those that are always needed.
const CAPABILITIES: [(u32, &str, &str); 7] = [
    (capability::BPF, "BPF", "to load the capture program"),
    (
        capability::PERFMON,
        "PERFMON",
        "to load and attach the capture program",
    ),
    (
        capability::SYS_ADMIN,
        "SYS_ADMIN",
        "to load and attach the capture program",
    ),
    (
        capability::SYS_PTRACE,
        "SYS_PTRACE",
        "to name functions of running programs in containers",
    ),
    (
        capability::DAC_READ_SEARCH,
        "DAC_READ_SEARCH",
        "to name functions of programs that this user may not read",
    ),
    (
        capability::CHECKPOINT_RESTORE,
        "CHECKPOINT_RESTORE",
        "to name functions of running programs whose file is deleted",
    ),
    (
        capability::SYS_RESOURCE,
        "SYS_RESOURCE",
        "to lock memory for the rings",
    ),
];

/// Whether it is good for anything on this kernel.
fn matters(capability: u32, kernel: (u64, u64)) -> bool {
    match capability {
        capability::BPF | capability::PERFMON => kernel >= (5, 8),
        capability::SYS_ADMIN => kernel < (5, 8),
        capability::CHECKPOINT_RESTORE => kernel >= (5, 9),
        capability::SYS_RESOURCE => kernel < (5, 11),
        _ => true,
    }
}

/// A page of rows, label and value, and of headings.
#[derive(Debug, Default)]
pub struct Page {
    lines: Vec<String>,
}

impl Page {
    fn heading(&mut self, text: &str) {
        self.lines.push(format!("{text}:"));
    }

    fn row(&mut self, label: &str, value: &str) {
        self.lines.push(format!("  {label:<22} {value}"));
    }

    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}

/// What the host offers, without an attempt to capture anything.
#[must_use]
pub fn host(btf: Option<&Path>) -> Page {
    let mut page = Page::default();
    page.heading("Host");
    let kernel = process::kernel_name();
    let pages_kb = page_bytes() / 1024;
    let cpus = process::cpus();
    page.row(
        "Kernel",
        &format!("{kernel}, {cpus} CPUs, pages of {pages_kb} KB"),
    );
    page.row("User", &user());
    page.row("Lockdown", &lockdown());
    let types = match loader::kernel_types(btf) {
        Ok(types) => types.to_string(),
        Err(error) => format!("none: {}", error.hint().unwrap_or_default()),
    };
    page.row("Kernel types (BTF)", &types);
    let features = Features::new();
    page.row("bpf_loop (5.17)", answer(&features.callbacks()));
    page.row("Ring buffer (5.8)", answer(&features.ring_buffer()));
    page.row("Raw tracepoints", answer(&features.raw_tracepoints()));
    page.row("BPF JIT", jit());
    page.row("tracefs", tracefs::mounted());
    page.row("Perf events", &perf_events());
    page.row("/proc", proc());
    page
}

/// What was attached, what its reports will lack, and what the user could change.
#[must_use]
pub fn capture(started: &Started) -> Page {
    let mut page = Page::default();
    page.heading("Capture");
    for line in started.describe() {
        let (label, value) = line.split_once(": ").unwrap_or(("", &line));
        page.row(label, value);
    }
    page.heading("Reports lack");
    let lacks = started.lacks();
    for Lost { detail, reason } in &lacks {
        page.row(detail, reason);
    }
    if lacks.is_empty() {
        page.row("(none)", "");
    }
    page
}

/// What the tool keeps of its privileges once it monitors: these capabilities, and with an
/// opener that one's.
#[must_use]
pub fn privileges(kept: &[u32], has_opener: bool) -> Page {
    let mut page = Page::default();
    page.heading("Privileges while monitoring");
    page.row("Kept", &named(kept));
    if has_opener {
        page.row("Kept to open files", &named(&opener::capabilities()));
    }
    let calls = match confine::is_supported() {
        true => "those that are needed, and no others",
        false => "all: this kernel has no seccomp filters",
    };
    page.row("System calls", calls);
    page
}

/// Those of these capabilities that are there.
fn named(kept: &[u32]) -> String {
    let known = [
        (capability::DAC_OVERRIDE, "DAC_OVERRIDE"),
        (capability::IPC_LOCK, "IPC_LOCK"),
    ];
    let all = CAPABILITIES
        .iter()
        .map(|(number, name, _)| (*number, *name));
    let names: Vec<&str> = all
        .chain(known)
        .filter(|(number, _)| kept.contains(number) && process::has_capability(*number))
        .map(|(_, name)| name)
        .collect();
    match names.is_empty() {
        true => "nothing".to_string(),
        false => format!("CAP_{}", names.join(", CAP_")),
    }
}

/// What more privileges would improve, whether it works now or not.
#[must_use]
pub fn advice(failed: Option<&Error>) -> Page {
    let mut page = Page::default();
    page.heading("Possible improvements");
    if let Some(hint) = failed.and_then(Error::hint) {
        page.row("To make it work", hint);
    }
    if !is_all_powerful() {
        let kernel = version(&process::kernel_name());
        for (number, name, purpose) in CAPABILITIES {
            if matters(number, kernel) && !process::has_capability(number) {
                page.row(&format!("CAP_{name}"), purpose);
            }
        }
    }
    if fs::read(JIT).is_ok_and(|enabled| enabled.starts_with(b"0")) {
        page.row(
            "bpf_jit_enable",
            "set it to 1: the capture then runs several times as fast",
        );
    }
    if proc() != "mounted" {
        page.row(
            "/proc",
            "mount it: it gives access to files of containers and deleted files",
        );
    }
    if !process::sees_all_processes() {
        page.row("Other containers", &process::container_hint());
    }
    if page.lines.len() == 1 {
        page.row("(none)", "");
    }
    page
}

/// The last line: whether it works.
#[must_use]
pub fn verdict(failed: Option<&Error>) -> String {
    match failed {
        None => "Monitoring works here.".to_string(),
        Some(error) => match error.kind() {
            Kind::NotPermitted => format!("Monitoring is not permitted here: {error}"),
            _ => format!("Monitoring does not work here: {error}"),
        },
    }
}

/// 6.1 of `Linux 6.1.0-50-cloud-amd64 x86_64`; if it cannot be read, the newest.
fn version(kernel: &str) -> (u64, u64) {
    let mut numbers = kernel.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.find(|digits| !digits.is_empty())?.parse().ok();
    let major = next().unwrap_or(u64::MAX);
    (major, next().unwrap_or(0))
}

fn is_all_powerful() -> bool {
    let has = process::has_capability;
    has(capability::SYS_ADMIN) && has(capability::DAC_READ_SEARCH) && has(capability::SYS_PTRACE)
}

fn user() -> String {
    let uid = process::user();
    let mut text = match uid {
        0 => "root".to_string(),
        uid => format!("{uid}"),
    };
    let has: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(number, ..)| process::has_capability(*number))
        .map(|(_, name, _)| *name)
        .collect();
    text.push_str(match has.len() {
        0 => ", without capabilities",
        _ => ", with CAP_",
    });
    text.push_str(&has.join(", CAP_"));
    text
}

/// The word in brackets of `none [integrity] confidentiality`.
fn lockdown() -> String {
    let modes = fs::read_to_string(LOCKDOWN).unwrap_or_default();
    let mode = modes
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    match mode {
        Some((mode, _)) => mode.to_string(),
        None => "unknown".to_string(),
    }
}

fn answer(answer: &crate::base::error::Result<bool>) -> &'static str {
    match answer {
        Ok(true) => "yes",
        Ok(false) => "no",
        Err(error) if error.kind() == Kind::NotPermitted => "unknown: not permitted to ask",
        Err(_) => "no BPF",
    }
}

fn jit() -> &'static str {
    match fs::read(JIT).unwrap_or_default().first() {
        Some(b'0') => "off, BPF programs are interpreted",
        Some(_) => "on",
        None => "unknown",
    }
}

fn perf_events() -> String {
    match fs::read_to_string(PARANOID) {
        Ok(level) => format!("yes, perf_event_paranoid {}", level.trim()),
        Err(_) => "no".to_string(),
    }
}

fn proc() -> &'static str {
    if fs::metadata("/proc/self/maps").is_ok() {
        "mounted"
    } else {
        "not mounted"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(kernel: &str) -> Vec<&'static str> {
        let kernel = version(kernel);
        let mut named = CAPABILITIES.to_vec();
        named.retain(|(number, ..)| matters(*number, kernel));
        named.iter().map(|(_, name, _)| *name).collect()
    }

    #[test]
    fn only_what_would_matter_on_this_kernel() {
        let always = ["SYS_PTRACE", "DAC_READ_SEARCH"];
        let new = ["BPF", "PERFMON", always[0], always[1], "CHECKPOINT_RESTORE"];
        assert_eq!(names("Linux 6.18.3 x86_64"), new);
        assert_eq!(names("Linux 5.11.0-1 x86_64"), new);
        let debian = names("Linux 5.10.0-32-cloud-amd64 x86_64");
        assert_eq!(debian[..5], new);
        assert_eq!(debian[5..], ["SYS_RESOURCE"]);
        let old = ["SYS_ADMIN", always[0], always[1], "SYS_RESOURCE"];
        assert_eq!(names("Linux 4.19 aarch64"), old);
        assert_eq!(names(""), new);
    }

    #[test]
    fn labels_stay_in_their_column() {
        let mut page = Page::default();
        for (_, name, purpose) in CAPABILITIES {
            page.row(&format!("CAP_{name}"), purpose);
        }
        let begins = |line: &String| line.find("to ").expect("a purpose");
        let columns: Vec<usize> = page.lines.iter().map(begins).collect();
        assert_eq!(columns, [columns[0]; CAPABILITIES.len()]);
    }
}
