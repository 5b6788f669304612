//! The start: whatever a kernel refuses, the next way of capture is taken, and said;
//! and nothing is called monitoring before a fault on purpose was reported rightly.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::chains::DEEP;
use crate::harness::{binary, crash, Monitor, Outcome};
use crate::programs::{unique, wrapper, Program};
use crate::report::only;
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        starting_goes_on_after_a_refusal,
        starting_prints_all_that_the_verifier_said,
        starting_says_what_a_forced_way_lacks,
        starting_is_proved_by_a_fault,
        starting_refuses_types_of_another_kernel,
        starting_without_children_is_said,
        starting_with_rings_smaller_than_a_record,
        starting_leaves_nothing_behind,
    ],
}

/// A verifier's complaint, as tests/live/wrappers/refuse.c makes it.
const COMPLAINT: &str = "R2 min value is negative";
const FIRST_LINE_OF_LOG: &str = "; the first line of a long log";

/// The tool on a kernel that refuses.
fn refusing(error: &str, what: &str) -> Command {
    let mut command = Command::new(wrapper("refuse.c"));
    command.arg(error).arg(what).arg(binary());
    command
}

fn warnings(stderr: &str) -> Vec<&str> {
    stderr
        .lines()
        .filter(|line| line.starts_with("Warning:"))
        .collect()
}

/// Reports a crash whole; what it said on standard error.
#[track_caller]
fn works(mut command: Command, options: &[&str]) -> String {
    let program = Program::new("null_deep.c");
    command.args(["-n", &program.name, "--format", "json", "-t"]);
    command.args(options);
    let monitor = Monitor::start_as(command);
    let pid = crash(&mut program.command());
    let outcome = monitor.stop();
    let report = only(outcome.reports());
    assert_eq!(report["pid"], pid);
    assert_eq!(report["comm"], program.name.as_str());
    report.assert_chain(DEEP);
    outcome.stderr
}

#[track_caller]
fn check(mut command: Command) -> Outcome {
    command.arg("--check");
    Monitor::spawn(command).wait()
}

#[track_caller]
fn refused(mut command: Command, words: &[&str]) {
    command.args(["-d", "5"]);
    let outcome = Monitor::spawn(command).wait();
    let stderr = &outcome.stderr;
    assert_eq!(outcome.status.code(), Some(4), "{stderr}");
    assert!(!stderr.contains("Monitoring"), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is missing in: {stderr}");
    }
    assert_eq!(stderr.lines().count(), 2, "what and what to do: {stderr}");
}

fn starting_goes_on_after_a_refusal() {
    for (what, method, lacks) in [
        ("ring", "chain", "names of mapped files beyond 256"),
        ("ring,old", "tracepoint", "sender"),
        ("ring,old,tracepoint", "perf", "sender"),
    ] {
        for error in ["EACCES", "EINVAL", "E2BIG"] {
            let said = works(refusing(error, what), &[]);
            let warned = warnings(&said);
            assert_eq!(warned.len(), 1, "{what}, {error}: {said}");
            for word in [COMPLAINT, lacks, "-v prints"] {
                assert!(warned[0].contains(word), "{what}, {error}: {said}");
            }
            assert_eq!(said.lines().count(), 2, "{said}");
        }
        let outcome = check(refusing("EACCES", what));
        let page = outcome.text();
        assert_eq!(outcome.status.code(), Some(0), "{page}");
        let row = format!("\n  Capture method         {method}, ");
        assert!(page.contains(&row), "{what}: {page}");
        assert!(page.ends_with("\nMonitoring works here.\n"), "{page}");
    }
    for error in ["EACCES", "EINVAL", "E2BIG", "ENOSYS", "EPERM"] {
        let said = works(refusing(error, "programs"), &[]);
        assert_eq!(warnings(&said).len(), 1, "{error}: {said}");
        let outcome = check(refusing(error, "programs"));
        assert_eq!(outcome.status.code(), Some(0), "{}", outcome.text());
    }
}

fn starting_prints_all_that_the_verifier_said() {
    for what in ["ring", "ring,old,tracepoint"] {
        let said = works(refusing("EACCES", what), &["-v"]);
        assert!(said.contains(FIRST_LINE_OF_LOG), "{what}: {said}");
        let said = works(refusing("EACCES", what), &[]);
        assert!(!said.contains(FIRST_LINE_OF_LOG), "{what}: {said}");
    }
}

fn starting_says_what_a_forced_way_lacks() {
    for (kernel, method, lack) in [
        ("raw", "chain", "no raw tracepoints (4.17)"),
        ("raw", "ring", "no bpf_loop (5.17)"),
        ("loop", "ring", "no bpf_loop (5.17)"),
    ] {
        let mut command = refusing("EINVAL", kernel);
        command.args(["--capture", method]);
        refused(command, &[lack, method, "without --capture"]);
        let mut command = refusing("EINVAL", kernel);
        command.args(["--capture", method]);
        let outcome = check(command);
        let page = outcome.text();
        assert_eq!(outcome.status.code(), Some(4), "{page}");
        assert!(page.contains(lack), "{page}");
        assert!(!page.contains("--btf"), "{page}");
        assert!(
            page.contains("\n  bpf_loop (5.17)        no\n"),
            "{kernel}: {page}"
        );
    }
    // Nothing is amiss: such kernels have no more.
    for kernel in ["raw", "loop"] {
        let said = works(refusing("EINVAL", kernel), &[]);
        assert!(warnings(&said).is_empty(), "{kernel}: {said}");
    }
}

/// Attached, and nothing arrives: as with the interpreter of Linux 6.12.
fn starting_is_proved_by_a_fault() {
    for (deaf, word) in [
        ("deaf", "programs at the tracepoint"),
        ("deaf,deaf_tracepoint", "perf events"),
    ] {
        let said = works(refusing("EACCES", deaf), &[]);
        let warned = warnings(&said);
        assert_eq!(warned.len(), 1, "{said}");
        assert!(warned[0].contains("was not captured"), "{said}");
        assert!(warned[0].contains(word), "{said}");
    }
    for method in ["ring", "chain"] {
        let mut command = refusing("EACCES", "deaf");
        command.args(["--capture", method]);
        refused(command, &["was not captured"]);
    }
    for method in ["ring", "chain", "tracepoint", "perf"] {
        let said = works(Command::new(binary()), &["--capture", method]);
        assert!(warnings(&said).is_empty(), "{method}: {said}");
    }
    let said = works(Command::new(binary()), &["--capture", "measured"]);
    assert!(warnings(&said).is_empty(), "{said}");
}

/// This kernel's types with all that follows a field in its structure moved by a word.
fn moved(structure: &str, field: &str, to: &Path) {
    let mut bytes = fs::read("/sys/kernel/btf/vmlinux").expect("this kernel's types");
    let word = |bytes: &[u8], at: usize| {
        u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
    };
    let header = word(&bytes, 4);
    let types = header + word(&bytes, 8);
    let (end, strings) = (types + word(&bytes, 12), header + word(&bytes, 16));
    let is_name = |bytes: &[u8], offset: usize, name: &str| {
        let from = strings + offset;
        bytes[from..].starts_with(name.as_bytes()) && bytes[from + name.len()] == 0
    };
    let mut at = types;
    while at < end {
        let (name, info) = (word(&bytes, at), word(&bytes, at + 4));
        let (kind, count) = (info >> 24 & 0x1f, info & 0xffff);
        let more = match kind {
            1 | 14 | 17 => 4,
            3 => 12,
            4 | 5 | 15 | 19 => 12 * count,
            6 | 13 => 8 * count,
            _ => 0,
        };
        if kind == 4 && is_name(&bytes, name, structure) {
            let members: Vec<usize> = (0..count).map(|one| at + 12 + 12 * one).collect();
            let first = members
                .iter()
                .position(|place| is_name(&bytes, word(&bytes, *place), field));
            for place in &members[first.expect("the field")..] {
                let moved = word(&bytes, place + 8) as u32 + 64;
                bytes[place + 8..place + 12].copy_from_slice(&moved.to_le_bytes());
            }
        }
        at += 12 + if kind == 19 { 12 * count } else { more };
    }
    fs::write(to, bytes).expect("our directory");
}

/// Whether the kernel can say otherwise, or only the fault on purpose shows it.
fn starting_refuses_types_of_another_kernel() {
    let dir = crate::programs::directory();
    let other = dir.join("other.btf");
    let foreign = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/btf");
    let foreign = foreign.join(format!("{}-5.10.btf", std::env::consts::ARCH));
    for (structure, field) in [
        ("task_struct", "comm"),
        ("task_struct", "thread_pid"),
        ("nsproxy", "mnt_ns"),
        ("vm_area_struct", "vm_file"),
    ] {
        moved(structure, field, &other);
        let mut command = Command::new(binary());
        command.arg("--btf").arg(&other);
        let words = ["other.btf describes another kernel: struct ", structure];
        refused(command, &words);
        // Without tracefs the tracepoint is refused before.
        for method in ["ring", "chain"] {
            let mut command = Command::new(wrapper("no_sys.c"));
            command.arg(wrapper("no_bpf.c")).arg("btf").arg(binary());
            command.arg("--btf").arg(&other);
            command.args(["--capture", method, "-t", "-r"]);
            refused(command, &["other.btf describes another kernel"]);
        }
    }
    let mut command = Command::new(binary());
    command.arg("--btf").arg(&foreign);
    refused(command, &["5.10.btf"]);
    // The kernel's own, under another name.
    fs::copy("/sys/kernel/btf/vmlinux", &other).expect("a copy");
    let mut command = Command::new(binary());
    command.arg("--btf").arg(&other);
    assert!(warnings(&works(command, &[])).is_empty());
}

fn starting_without_children_is_said() {
    for method in ["ring", "chain", "perf"] {
        let mut command = Command::new(wrapper("no_children.c"));
        command.arg(binary());
        let said = works(command, &["--capture", method]);
        let warned = warnings(&said);
        assert_eq!(warned.len(), 1, "{method}: {said}");
        for what in ["cannot verify", "; a file system that does not answer"] {
            assert!(warned[0].contains(what), "{method}: {said}");
        }
    }
}

/// The child has the tool's command line, which is part of its record.
fn starting_with_rings_smaller_than_a_record() {
    for method in ["chain", "tracepoint", "perf"] {
        let mut command = Command::new(binary());
        for _ in 0..100 {
            command.args(["--debug-dir", "/nowhere/with-a-name-that-is-long"]);
        }
        let said = works(command, &["--capture", method, "-t", "--ring-buffer", "64"]);
        assert!(warnings(&said).is_empty(), "{method}: {said}");
    }
}

/// Neither a count, nor a report, here or with another monitor; nor a child.
fn starting_leaves_nothing_behind() {
    let witness = Monitor::start(["-n", "-child5", "--format", "json"]);
    let nobody = unique("nobody");
    for method in ["ring", "chain", "tracepoint", "perf"] {
        for options in [
            &["-n", &nobody, "--signals", "all"][..],
            &["-p", "1", "--fatal-only"],
            &["-n", &nobody, "--signals", "ABRT", "-r", "--maps", "-t"],
        ] {
            let mut command = Command::new(binary());
            command.args([
                "--stats",
                "-d",
                "1",
                "--capture",
                method,
                "--format",
                "json",
            ]);
            command.args(options);
            let outcome = Monitor::spawn(command).wait();
            let said = &outcome.stderr;
            assert_eq!(
                outcome.status.code(),
                Some(0),
                "{method} {options:?}: {said}"
            );
            assert_eq!(outcome.text(), "", "{method} {options:?}");
            assert!(warnings(said).is_empty(), "{method} {options:?}: {said}");
            let counted = |label: &str| -> u64 {
                let line = said.lines().find(|line| line.contains(label));
                let count = line.and_then(|line| line.rsplit(' ').next());
                count.and_then(|count| count.parse().ok()).expect(label)
            };
            assert_eq!(counted("captured:"), 0, "{method} {options:?}: {said}");
            let [detected, filtered] = ["detected:", "filtered out:"].map(counted);
            assert_eq!(detected, filtered, "{method} {options:?}: {said}");
        }
    }
    assert_eq!(witness.stop().text(), "");
}
