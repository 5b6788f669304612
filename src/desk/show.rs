//! `segfault_analyzer show`: reports as JSON in, the same reports as text out.
//!
//! The text is what the tool would have printed for the crash, in the time zone of the
//! reader. Text before the report in its line, as loggers add it, is passed over.

use std::collections::VecDeque;

use super::input::{Input, Next};
use super::recall::{Reader, Recalled};
use super::{add, report_of, say};
use crate::base::error::{Error, Result};
use crate::cli::desk::Task;
use crate::cli::moment::Moment;
use crate::config::CppNames;
use crate::report::output;
use crate::sys::messages::print;
use crate::sys::time;

/// The size of one write, if there is as much.
const WRITE_BYTES: usize = 64 << 10;
/// Bytes of the last reports that are held.
const MAX_HELD: usize = 256 << 20;

pub(super) fn run(task: Task) -> Result<()> {
    time::settle_time_zone();
    let since_ms = task.since.map(unix_ms);
    let mut input = Input::new(task.inputs.clone());
    if task.follow {
        input.follow();
    }
    let mut reader = Reader::default();
    let mut last = Last::new(task.last);
    let mut found = 0u64;
    let mut shown = 0u64;
    let mut out = Vec::new();
    loop {
        let report = match input.next() {
            Next::Line(line) => reader.read(report_of(line)),
            Next::Piece(_) => continue,
            Next::End => {
                last.put(&mut out);
                print(&out)?;
                out.clear();
                if task.follow && input.wait() {
                    continue;
                }
                break;
            }
        };
        let Some(report) = report else {
            input.foreign += 1;
            continue;
        };
        found += 1;
        let is_late = since_ms.is_none_or(|since_ms| report.report.time.unix_ms >= since_ms);
        let signature = report.report.why.signature;
        let is_it = task.signature.is_none() || task.signature == signature;
        if !(is_late && is_it) {
            continue;
        }
        shown += 1;
        last.take(text(report, task.cpp_names), &mut out);
        if input.is_idle() || out.len() > WRITE_BYTES {
            print(&out)?;
            out.clear();
        }
    }
    if last.dropped > 0 {
        say("older ones of the last reports were left out: they take more than 256 MB");
    }
    input.finish()?;
    match (found, shown) {
        (0, _) => Err(Error::failed(
            "no reports found: show reads the JSON lines that --format json writes",
        )),
        (_, 0) => Err(Error::failed("no report matches")),
        _ => Ok(()),
    }
}

/// The last reports, until all are read.
struct Last {
    /// How many are wanted; `None` once they are out, or if all are wanted.
    wanted: Option<usize>,
    held: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Wanted ones that took too much memory.
    dropped: u64,
}

impl Last {
    fn new(wanted: Option<usize>) -> Self {
        Last {
            wanted,
            held: VecDeque::new(),
            bytes: 0,
            dropped: 0,
        }
    }

    fn take(&mut self, text: Vec<u8>, out: &mut Vec<u8>) {
        let Some(wanted) = self.wanted else {
            return add(out, &[&text]);
        };
        self.bytes += text.len();
        self.held.push_back(text);
        while self.held.len() > wanted || self.bytes > MAX_HELD {
            self.dropped += u64::from(self.held.len() <= wanted);
            let oldest = self.held.pop_front();
            self.bytes -= oldest.map_or(0, |text| text.len());
        }
    }

    fn put(&mut self, out: &mut Vec<u8>) {
        self.wanted = None;
        for text in self.held.drain(..) {
            add(out, &[&text]);
        }
    }
}

fn text(recalled: Recalled, cpp_names: CppNames) -> Vec<u8> {
    let Recalled {
        report,
        mut options,
        is_held,
        tail_calls,
    } = recalled;
    options.utc_offset_s = offset_s(report.time.unix_ms);
    if cpp_names == CppNames::Whole {
        options.cpp_names = cpp_names;
    }
    if is_held {
        return output::repeats(&report, &options);
    }
    let text = output::text(&report, &options);
    match tail_calls.contains(&true) {
        true => mark(&text, &tail_calls),
        false => text,
    }
}

/// Marks the calls of the crash's own stack, the first one, that tail calls replaced.
fn mark(text: &[u8], tail_calls: &[bool]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut tail_calls = tail_calls.iter();
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(frame) if line.starts_with(b"    #") && tail_calls.next() == Some(&true) => {
                add(&mut out, &[frame, b" (tail call)\n"]);
            }
            _ => add(&mut out, &[line]),
        }
    }
    out
}

fn offset_s(unix_ms: u64) -> i32 {
    time::utc_offset_s((unix_ms / 1000) as i64)
}

/// A moment by the Unix clock.
pub(super) fn unix_ms(moment: Moment) -> u64 {
    let now_ms = time::realtime_ns() / 1_000_000;
    let ms = match moment {
        Moment::Ago(ms) => now_ms.saturating_sub(i64::try_from(ms).unwrap_or(i64::MAX)),
        Moment::Utc(ms) => ms,
        Moment::Local(ms) => {
            // The offset of a time near it, and then of itself.
            let guess = ms - i64::from(time::utc_offset_s(ms / 1000)) * 1000;
            ms - i64::from(time::utc_offset_s(guess / 1000)) * 1000
        }
    };
    u64::try_from(ms).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_loggers_put_before_a_report_is_passed_over() {
        let line = b"Nov 30 20:00:00 host segfault_analyzer[7]: {\"timestamp\":1}\n";
        assert_eq!(report_of(line), b"{\"timestamp\":1}\n");
        assert_eq!(report_of(b"other"), b"other");
    }

    #[test]
    fn the_last_ones_are_held_until_all_are_read() {
        let mut last = Last::new(Some(2));
        let mut out = Vec::new();
        for text in [b"a", b"b", b"c"] {
            last.take(text.to_vec(), &mut out);
        }
        assert!(out.is_empty());
        last.put(&mut out);
        last.take(b"d".to_vec(), &mut out);
        assert_eq!(out, b"bcd");
    }

    #[test]
    fn replaced_calls_are_marked() {
        let text = b"  Stack Trace (2 frames):\n    #0  0x1 f\n    #1  0x2 g\n\n";
        let marked = mark(text, &[false, true]);
        assert!(marked.ends_with(b"    #0  0x1 f\n    #1  0x2 g (tail call)\n\n"));
    }
}
