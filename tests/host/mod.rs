//! What a test asks of the host, and what it says where the host cannot run it.
//!
//! The library and every test program include this file. A test that lacks a tool or
//! a privilege here calls [`skip`] and returns. What can never hold in this build, such
//! as a test of another architecture, is compiled out by `cfg` instead: that is no gap.
#![allow(dead_code, reason = "no test program needs all of it")]

use std::fmt::Display;
use std::io::Write;

/// Whether a test that is left out is a failure.
pub(crate) fn must_not_skip() -> bool {
    std::env::var_os("CI").is_some_and(|ci| ci == "true")
}

/// Says why this test, or a part of it, is left out. Panics with CI=true.
#[track_caller]
pub(crate) fn skip(reason: impl Display) {
    assert!(!must_not_skip(), "skipped, and CI must not skip: {reason}");
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Not by `eprintln!`, which the harness keeps for itself when the test passes.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {reason}");
}

/// Whether such a program can be run; skips where it cannot.
#[track_caller]
pub(crate) fn has(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join(tool).is_file());
    if !found {
        skip(format_args!("{tool} is not installed"));
    }
    found
}

/// Whether this process is root; skips where it is not.
#[track_caller]
pub(crate) fn is_root() -> bool {
    let root = std::os::unix::fs::MetadataExt::uid(
        &std::fs::metadata("/proc/self").expect("/proc is mounted"),
    ) == 0;
    if !root {
        skip("needs root");
    }
    root
}

/// The C library that this process has mapped: a real library whose name differs from
/// one distribution and architecture to the next. Skips where it is linked statically.
#[track_caller]
pub(crate) fn libc() -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc is mounted");
    let found = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .find(|path| path.ends_with("/libc.so.6"));
    if found.is_none() {
        skip("the tests are not linked to glibc");
    }
    found.map(str::to_owned)
}
