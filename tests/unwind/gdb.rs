//! What gdb makes of the same crash.

use std::path::Path;
use std::process::{Command, Stdio};

/// The names of its frames, innermost first; `None` where there is no gdb.
pub fn backtrace(program: &Path, scenario: &str, fatal: usize) -> Option<Vec<String>> {
    let mut command = Command::new("gdb");
    command.args(["-nx", "-batch", "-ex", "set debuginfod enabled off"]);
    command.args(["-ex", "set backtrace past-main off", "-ex", "run"]);
    for _ in 1..fatal {
        command.args(["-ex", "continue"]);
    }
    command
        .args(["-ex", "bt 64", "--args"])
        .arg(program)
        .arg(scenario);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Some(text.lines().filter_map(name).collect())
}

/// `#2  0x000055555555523d in null_call () at calls.c:12`
fn name(line: &str) -> Option<String> {
    let rest = line.strip_prefix('#')?;
    let (_, rest) = rest.split_once(' ')?;
    let rest = rest.trim_start();
    let rest = match rest.split_once(" in ") {
        Some((address, rest)) if address.starts_with("0x") => rest,
        _ => rest,
    };
    if rest.starts_with('<') {
        return Some("<signal handler>".to_owned());
    }
    let name = rest.split([' ', '(', '@']).next()?;
    Some(name.to_owned())
}
