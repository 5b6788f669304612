//! The crash programs themselves, without the monitor: each dies the way its
//! comment says. A test that fails elsewhere is then not their fault.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use crate::harness::status_of;
use crate::programs::{compile, Program, NO_PIE, PIE, STATIC};
use crate::raised::{ABORTING, CHECKED, MATH};
use crate::{cases, Needs};

cases! {
    Needs::Nothing => [
        crashers_die_by_sigsegv,
        crashers_die_by_other_signals,
        crashers_survive_what_they_handle,
        storm_counts_its_dead,
        wait_crashes_on_request,
        every_source_is_tested,
    ],
}

const DEADLY: &[(&str, &[&str], &[&str])] = &[
    ("null_deep.c", PIE, &[]),
    ("null_deep.c", NO_PIE, &[]),
    ("null_deep.c", STATIC, &[]),
    ("fresh_page.c", PIE, &[]),
    ("recovered.c", PIE, &["exec"]),
    ("recovered.c", PIE, &["killed"]),
    ("quick.c", PIE, &[]),
    ("quick.c", STATIC, &[]),
    ("known.c", PIE, &[]),
    ("known.c", STATIC, &[]),
    ("access.c", PIE, &["read"]),
    ("access.c", PIE, &["write"]),
    ("access.c", PIE, &["readonly"]),
    ("access.c", PIE, &["execute"]),
    ("access.c", PIE, &["null_call"]),
    ("access.c", PIE, &["noncanonical"]),
    ("classics.c", PIE, &["munmap"]),
    ("classics.c", PIE, &["past"]),
    ("classics.c", PIE, &["before"]),
    ("classics.c", PIE, &["guard"]),
    ("classics.c", PIE, &["marked"]),
    ("classics.c", PIE, &["thread"]),
    ("classics.c", PIE, &["frame"]),
    ("classics.c", PIE, &["threadframe"]),
    ("classics.c", PIE, &["freed"]),
    ("classics.c", PIE, &["poison"]),
    ("classics.c", PIE, &["strcpy"]),
    ("classics.c", PIE, &["jump"]),
    ("classics.c", PIE, &["overwritten"]),
    ("classics.c", PIE, &["run"]),
    #[cfg(target_arch = "x86_64")]
    ("classics.c", PIE, &["aligned"]),
    ("blocked.c", PIE, &["calls"]),
    ("blocked.c", PIE, &["locks"]),
    ("blocked.c", PIE, &["recursive"]),
    ("blocked.c", PIE, &["inherit"]),
    ("forged.c", PIE, &["raise"]),
    ("forged.c", PIE, &["kill"]),
    ("forged.c", PIE, &["queue"]),
    ("forged.c", PIE, &["fault"]),
    ("forged.c", PIE, &["kernel"]),
    ("forged.c", PIE, &["thread"]),
    ("kill_self.c", PIE, &[]),
    ("callers.c", PIE, &["first"]),
    ("callers.c", PIE, &["second"]),
    ("reraise.c", PIE, &[]),
    ("resethand.c", PIE, &[]),
    ("threads.c", PIE, &[]),
    ("named_thread.c", PIE, &["renamed"]),
    ("overflow.c", PIE, &["plain"]),
    ("overflow.c", PIE, &["handler"]),
    ("overflow.c", PIE, &["altstack"]),
    ("deep.c", PIE, &["100"]),
    ("strings.c", PIE, &["pointers"]),
    ("strings.c", PIE, &["jump"]),
    ("strings.c", PIE, &["stack"]),
    ("strings.c", PIE, &["frame"]),
    ("strings.c", PIE, &["title"]),
    ("strings.c", PIE, &["all"]),
    ("strings.c", PIE, &["inside"]),
    ("strings.c", PIE, &["swapped"]),
    ("strings.c", PIE, &["taken"]),
    ("strings.c", PIE, &["start"]),
    ("strings.c", PIE, &["low"]),
    ("strings.c", PIE, &["moved"]),
    ("frames.c", PIE, &["bare"]),
    ("frames.c", PIE, &["over"]),
    ("frames.c", PIE, &["into"]),
    ("frames.c", PIE, &["coroutine"]),
    ("frames.c", PIE, &["alternate"]),
    ("frames.c", PIE, &["alloca"]),
    ("frames.c", PIE, &["beside"]),
    #[cfg(target_arch = "x86_64")]
    ("vsyscall.c", PIE, &[]),
    ("switched.c", PIE, &["main"]),
    ("switched.c", PIE, &["thread"]),
    ("switched.c", PIE, &["ahead"]),
    ("switched.c", PIE, &["handler"]),
    ("compat.c", PIE, &["plain"]),
    ("compat.c", PIE, &["info"]),
    ("compat.c", PIE, &["spin"]),
    ("compat.c", PIE, &["sleep"]),
    ("compat.c", PIE, &["qsort"]),
    ("compat.c", PIE, &["thread"]),
    ("compat.c", PIE, &["onstack"]),
    ("compat.c", PIE, &["oninfo"]),
    ("compat.c", PIE, &["main"]),
    ("big_maps.c", PIE, &["3000"]),
    ("many_codes.c", PIE, &["anonymous", "300"]),
    ("many_codes.c", PIE, &["one_file", "300"]),
    ("many_codes.c", PIE, &["files", "300"]),
    ("inlined.c", PIE, &[]),
    ("locals.c", PIE, &[]),
    ("in_handler.c", PIE, &[]),
    ("compiled.c", PIE, &[]),
    ("odd_name.c", PIE, &["a \"name\"\n"]),
    ("generic.rs", &[], &[]),
    ("secret.c", PIE, &[]),
    ("registers.c", PIE, &["7"]),
    ("waiting.c", PIE, &["calls"]),
    ("waiting.c", PIE, &["many", "100"]),
    ("waiting.c", PIE, &["churn"]),
    ("waiting.c", PIE, &["orphan"]),
    ("waiting.c", PIE, &["locked"]),
];

const OTHERS: &[(&str, &[&str], &str, i32)] = &[
    ("deaths.c", PIE, "abort1", libc::SIGABRT),
    ("signals.c", PIE, "bus", libc::SIGBUS),
    ("signals.c", PIE, "ill", libc::SIGILL),
    ("signals.c", PIE, "abrt", libc::SIGABRT),
    ("signals.c", PIE, "trap", libc::SIGTRAP),
    ("signals.c", PIE, "sys", libc::SIGSYS),
    #[cfg(target_arch = "x86_64")]
    ("signals.c", PIE, "fpe", libc::SIGFPE),
    ("aborts.c", CHECKED, "abort", libc::SIGABRT),
    ("aborts.c", CHECKED, "assert", libc::SIGABRT),
    ("aborts.c", CHECKED, "smash", libc::SIGABRT),
    ("aborts.c", CHECKED, "fortify", libc::SIGABRT),
    ("aborts.c", CHECKED, "twice", libc::SIGABRT),
    ("aborts.c", CHECKED, "middle", libc::SIGABRT),
    ("aborts.c", CHECKED, "beyond", libc::SIGABRT),
    ("overcome.c", PIE, "abort", libc::SIGABRT),
    ("overcome.c", PIE, "killed", libc::SIGKILL),
    ("uncaught.cc", PIE, "thrown", libc::SIGABRT),
    ("uncaught.cc", PIE, "noexcept", libc::SIGABRT),
    ("uncaught.cc", PIE, "terminate", libc::SIGABRT),
    ("uncaught.cc", PIE, "pure", libc::SIGABRT),
    ("panics.rs", ABORTING, "index", libc::SIGABRT),
    ("panics.rs", ABORTING, "unwrap", libc::SIGABRT),
    ("panics.rs", ABORTING, "abort", libc::SIGABRT),
    #[cfg(target_arch = "x86_64")]
    ("traps.c", MATH, "zero", libc::SIGFPE),
    #[cfg(target_arch = "x86_64")]
    ("traps.c", MATH, "step", libc::SIGTRAP),
    #[cfg(target_arch = "x86_64")]
    ("traps.c", MATH, "segment", libc::SIGBUS),
];

const HARMLESS: &[(&str, &[&str])] = &[
    ("handled.c", &["25"]),
    ("flood.c", &["1"]),
    ("paced.c", &["1000", "1"]),
    ("ignored.c", &[]),
    ("ignored.c", &["blocked"]),
    ("overcome.c", &["well"]),
];

fn crashers_die_by_sigsegv() {
    for (source, flags, args) in DEADLY {
        let program = Program::built(source, flags);
        let status = status_of(program.command().args(*args));
        assert_eq!(
            status.signal(),
            Some(libc::SIGSEGV),
            "{source} {args:?}: {status:?}"
        );
    }
}

fn crashers_die_by_other_signals() {
    for (source, flags, kind, signal) in OTHERS {
        let status = status_of(Program::built(source, flags).command().arg(kind));
        assert_eq!(
            status.signal(),
            Some(*signal),
            "{source} {kind}: {status:?}"
        );
    }
}

fn crashers_survive_what_they_handle() {
    for (source, args) in HARMLESS {
        let status = status_of(Program::new(source).command().args(*args));
        assert_eq!(status.code(), Some(0), "{source} {args:?}: {status:?}");
    }
}

fn storm_counts_its_dead() {
    let storm = Program::new("storm.c");
    assert_eq!(status_of(storm.command().args(["50", "4"])).code(), Some(0));
    let quick = compile("quick.c", PIE);
    assert_eq!(
        status_of(storm.command().args(["20", "2"]).arg(quick)).code(),
        Some(0)
    );
    let ignored = compile("ignored.c", PIE);
    assert_eq!(
        status_of(storm.command().args(["2", "1"]).arg(ignored)).code(),
        Some(1)
    );
}

fn wait_crashes_on_request() {
    let program = Program::new("wait.c");
    assert_eq!(
        status_of(&mut program.command()).code(),
        Some(0),
        "at end of file"
    );
    let mut child = program
        .command()
        .stdin(Stdio::piped())
        .spawn()
        .expect("start wait");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(b"x")
        .expect("it reads");
    assert_eq!(
        child.wait().expect("our child").signal(),
        Some(libc::SIGSEGV)
    );
}

/// A new crash program without an entry above would be trusted unchecked.
fn every_source_is_tested() {
    // The last two are for x86_64 alone; others of another compiler or build have tests of their own.
    let own = [
        "storm.c",
        "wait.c",
        "panicking.rs",
        "thrown.cc",
        "slow_lines.c",
        "traps.c",
        "vsyscall.c",
    ];
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/crashers");
    for entry in std::fs::read_dir(dir).expect("tests/crashers") {
        let name = entry
            .expect("a directory entry")
            .file_name()
            .into_string()
            .expect("ASCII");
        let known = name.ends_with(".h")
            || own.contains(&name.as_str())
            || DEADLY.iter().any(|(source, ..)| *source == name)
            || OTHERS.iter().any(|(source, ..)| *source == name)
            || HARMLESS.iter().any(|(source, _)| *source == name);
        assert!(
            known,
            "tests/crashers/{name} is not run by tests/live/crashers.rs"
        );
    }
}
