//! At a desk: reports from other hosts, and files that those hosts did not have.
//!
//! ```text
//! symbolize  lines of reports ──json_report, text_report──▶ frames ──naming──▶ names, lines
//!                                                             │
//!                                     unstripped files ──files┘    found by build-id
//! summarize  lines of reports ──text_sighting, sighting──▶ table               how often, since when
//! show       lines of reports ──recall──▶ reports ──▶ text
//! diff       two sets of reports ──sighting──▶ table           what is new, what is gone
//! core       core files ──corefile──▶ events ──analyze──▶ reports
//! ```
//!
//! None of them needs privileges, a kernel with BPF, or the architecture that the program
//! crashed on. Reports come as files or through a pipe, a line at a time. They are as
//! hostile as the crashed programs: [`json`] reads them in place. Lines that are not
//! reports are passed on unchanged (`symbolize`) or counted (`summarize`).

#[cfg(feature = "desk")]
mod by;
#[cfg(feature = "desk")]
mod debuginfod;
#[cfg(feature = "desk")]
mod diff;
mod files;
mod input;
pub mod json;
mod json_report;
mod naming;
mod postmortem;
mod recall;
mod regroup;
mod show;
mod sighting;
mod summarize;
mod symbolize;
mod table;
mod text_report;
mod text_sighting;

use crate::base::bytes::find;
use crate::base::error::Result;
use crate::cli::desk::{Command, Task};
use crate::sys::messages;
use json::Object;

/// Runs a subcommand.
pub fn run(task: Task) -> Result<()> {
    match task.command {
        Command::Symbolize => symbolize::run(task),
        #[cfg(feature = "desk")]
        Command::Summarize if task.by.is_some() => by::run(task),
        Command::Summarize => summarize::run(task),
        Command::Show => show::run(task),
        #[cfg(feature = "desk")]
        Command::Diff => diff::run(task),
        Command::Core => postmortem::run(&task),
    }
}

/// A message for the user.
fn say(text: &str) {
    messages::say(&format!("Warning: {text}"));
}

/// Whether an object is one of the tool's reports: keys that all of them have.
fn is_report(object: &Object<'_>) -> bool {
    let keys = ["timestamp", "pid", "fault_type"];
    keys.iter().all(|key| object.place(key).is_some())
}

/// With what a report in JSON begins.
const BEGIN: &[u8] = b"{\"timestamp\":";

/// The part of a line that may be a report in JSON: loggers put text before it.
fn report_of(line: &[u8]) -> &[u8] {
    &line[find(line, BEGIN).unwrap_or(0)..]
}

/// Whether a line is the first one of a report as text:
/// `[2024-02-15 10:35:12.789] SEGFAULT in process my_app (PID: 9876, TID: 9876)`
fn is_header(line: &[u8]) -> bool {
    line.starts_with(b"[") && find(line, b" in process ").is_some()
}

/// An address as reports write it: `0x` and digits.
fn hexadecimal(text: &[u8]) -> Option<u64> {
    match text.strip_prefix(b"0x")? {
        digits @ [_, ..] if digits.len() <= 16 => digits.iter().try_fold(0, |value, &digit| {
            Some(value << 4 | u64::from(hex_digit(digit)?))
        }),
        _ => None,
    }
}

/// A build-id as reports write it: two digits a byte.
fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for pair in text.chunks(2) {
        let [high, low] = *pair else {
            return None;
        };
        bytes.push(hex_digit(high)? << 4 | hex_digit(low)?);
    }
    Some(bytes)
}

fn hex_digit(digit: u8) -> Option<u8> {
    Some(match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => return None,
    })
}

/// Appends parts, one after the other.
fn add(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// The last place of a word.
fn find_last(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).rposition(|part| part == word)
}

#[cfg(test)]
mod tests;
