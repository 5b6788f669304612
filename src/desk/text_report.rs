//! Reports as text: adds names to frames that have a build-id, and copies everything else.
//!
//! In: lines, one after the other. Out: the same lines. The lines of a report come out
//! after its stack trace, because the instruction and the number of calls come before the
//! calls. A frame without a name is written with its module's build-id,
//!
//! ```text
//!     #1  0x401234 /usr/lib/libstripped.so.1+0x1234 (build-id abcd0123) [leaf]
//! ```
//!
//! A frame with a name keeps it: it has no build-id with which to find a file. Other lines
//! of a report are not read. The section of other threads is taken like a report of its own.

use super::naming::Desk;
#[cfg(feature = "desk")]
use super::naming::Replaced;
use super::{add, find_last, hexadecimal, is_header, unhex};
#[cfg(feature = "desk")]
use crate::analyze::located::Located;
use crate::base::address::{FileAddress, ProcessAddress};
use crate::base::bytes::find;
use crate::config::CppNames;
use crate::crash::frame::{CodeAddress, Frame, Trust};
use crate::report::output::{self, escape};
use crate::report::Location;
#[cfg(feature = "desk")]
use crate::report::StackFrame;

/// Bytes of a report that are held until its end.
const MAX_HELD: usize = 16 << 20;

const INSTRUCTION: &[u8] = b"  Instruction:   ";
const STACK: &[u8] = b"  Stack Trace (";
const THREADS: &[u8] = b"  Other Threads (";
const THREAD: &[u8] = b"  Thread";
const FRAME: &[u8] = b"    #";
/// The last line of a stack that ends early.
const END: &[u8] = b"    (";
const BUILD_ID: &[u8] = b" (build-id ";

/// What the lines before the next one belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Within {
    #[default]
    Nothing,
    /// A header, and the lines after it up to the calls.
    Report,
    Calls,
    /// The calls of other threads, up to the end of their section.
    Threads,
}

/// The report that is being read.
#[derive(Debug, Default)]
pub(super) struct TextReport {
    within: Within,
    held: Vec<u8>,
}

impl TextReport {
    /// Takes a line, and appends to `out` what can be written. False for a line that belongs
    /// to no report.
    pub(super) fn take(&mut self, line: &[u8], desk: &mut Desk, out: &mut Vec<u8>) -> bool {
        let indented = line.starts_with(b"  ") || line == b"\n";
        let goes_on = match self.within {
            Within::Nothing => false,
            Within::Report => indented,
            Within::Calls => line.starts_with(FRAME),
            Within::Threads => [FRAME, THREAD, END].iter().any(|it| line.starts_with(it)),
        };
        if !goes_on || self.held.len() > MAX_HELD {
            self.flush(desk, out);
        }
        if is_header(line) {
            self.within = Within::Report;
        } else if line.starts_with(THREADS) {
            self.within = Within::Threads;
        } else if self.within == Within::Nothing {
            add(out, &[line]);
            return indented;
        } else if line.starts_with(STACK) {
            self.within = Within::Calls;
        }
        add(&mut self.held, &[line]);
        true
    }

    /// Appends the lines that are held.
    pub(super) fn flush(&mut self, desk: &mut Desk, out: &mut Vec<u8>) {
        if matches!(self.within, Within::Calls | Within::Threads) {
            symbolize(&self.held, desk, out);
        } else {
            add(out, &[&self.held]);
        }
        self.held.clear();
        self.within = Within::Nothing;
    }
}

/// Appends a report with its frames named.
fn symbolize(report: &[u8], desk: &mut Desk, out: &mut Vec<u8>) {
    let lines: Vec<&[u8]> = report.split_inclusive(|&byte| byte == b'\n').collect();
    // The crash itself is the first that has a frame of its own.
    let mut context = true;
    let mut count = 0;
    let mut unnamed = Vec::new();
    desk.clear();
    for (number, line) in lines.iter().enumerate() {
        if !line.starts_with(FRAME) {
            context |= line.starts_with(THREAD);
            continue;
        }
        count += 1;
        if let Some((frame, place, location)) = parse(line, context) {
            desk.ask(location, matches!(frame.code, CodeAddress::Exact(_)), false);
            #[cfg(feature = "desk")]
            {
                let before: Option<&(usize, Frame, &[u8])> = unnamed.last();
                let follows = before.is_some_and(|before| before.0 + 1 == number);
                if follows && matches!(frame.trust, Trust::Cfi | Trust::Leaf) {
                    desk.last_is_caller();
                }
            }
            unnamed.push((number, frame, place));
        }
        context &= find(line, b" (inlined)").is_some();
    }
    if unnamed.is_empty() {
        return add(out, &[report]);
    }
    desk.name();
    for located in &desk.located {
        count += located.inlined.len();
    }
    #[cfg(feature = "desk")]
    for call in desk.tail_calls.iter().flatten() {
        count += call.located.inlined.len() + 1;
    }
    let (mut next, mut next_frame) = (0, 0);
    let mut in_summary = true;
    for (number, line) in lines.iter().enumerate() {
        if in_summary && *line == b"\n" {
            in_summary = false;
            lose(report, &desk.lost, out);
        }
        if line.starts_with(STACK) {
            add(
                out,
                &[format!("  Stack Trace ({count} frames):\n").as_bytes()],
            );
        } else if let Some(rest) = behind_number(line) {
            let Some((_, frame, _)) = unnamed.get(next).filter(|frame| frame.0 == number) else {
                add(out, &[format!("    #{next_frame:<2} ").as_bytes(), rest]);
                next_frame += 1;
                continue;
            };
            #[cfg(feature = "desk")]
            {
                let calls = desk.tail_calls.get(next).into_iter().flatten();
                for call in calls.flat_map(|call| tail_call(frame, &desk.located[next], call)) {
                    let mut line = output::text_frame(next_frame, &call, desk.cpp_names);
                    if !call.inlined {
                        line.pop();
                        add(&mut line, &[b" (tail call)\n"]);
                    }
                    add(out, &[&line]);
                    next_frame += 1;
                }
            }
            let mut calls = Vec::new();
            desk.located[next].frames(frame, &mut calls);
            for call in calls {
                add(
                    out,
                    &[&output::text_frame(next_frame, &call, desk.cpp_names)],
                );
                next_frame += 1;
            }
            next += 1;
        } else {
            if line.starts_with(THREAD) {
                next_frame = 0;
            }
            let first = unnamed.first().zip(desk.located.first());
            let new = first.and_then(|((_, frame, place), located)| {
                instruction(line, place, &located.location, desk.cpp_names)
                    .filter(|_| frame.trust == Trust::Context)
            });
            add(out, &[new.as_deref().unwrap_or(line)]);
        }
    }
}

/// The frames of a call that a tail call replaced; `frame` called it, and is `found`.
#[cfg(feature = "desk")]
fn tail_call(frame: &Frame, found: &Located, call: &Replaced) -> Vec<StackFrame> {
    let place = |located: &Located| located.location.module_offset.unwrap_or_default().0;
    let moved = place(&call.located).wrapping_sub(place(found));
    let at = ProcessAddress(frame.code.address().0.wrapping_add(moved));
    let own = Frame {
        code: match call.is_exact {
            true => CodeAddress::Exact(at),
            false => CodeAddress::Return(at),
        },
        trust: Trust::Cfi,
    };
    let mut calls = Vec::new();
    call.located.frames(&own, &mut calls);
    calls
}

/// The line of a frame that has a build-id instead of a name: what was found, its
/// `/path+0xoffset`, and where that is. `context`: no frame before it is one of its own.
fn parse(line: &[u8], context: bool) -> Option<(Frame, &[u8], Location)> {
    let rest = behind_number(line)?.strip_suffix(b"\n")?;
    let place_end = find_last(rest, BUILD_ID)?;
    let place_start = find(rest, b" ")? + 1;
    let place = rest.get(place_start..place_end)?;
    let offset = find_last(place, b"+")?;
    let end = &rest[place_end + BUILD_ID.len()..];
    let (id, mark) = end.split_at(find(end, b")")?);
    let mut trust = if context { Trust::Context } else { Trust::Cfi };
    if mark != b")" {
        let is_it = |(_, word): &&(Trust, &str)| *mark == *format!(") [{word}]").as_bytes();
        trust = output::MARKS.iter().find(is_it)?.0;
    }
    let exact = id.strip_suffix(b", exact");
    let at = ProcessAddress(hexadecimal(&rest[..place_start - 1])?);
    let code = match exact.is_some() || trust.is_exact() {
        true => CodeAddress::Exact(at),
        false => CodeAddress::Return(at),
    };
    let location = Location {
        module: Some(place[..offset].to_vec()),
        module_offset: Some(FileAddress(hexadecimal(&place[offset + 1..])?)),
        build_id: Some(unhex(exact.unwrap_or(id))?),
        ..Location::default()
    };
    Some((Frame { code, trust }, place, location))
}

/// A frame's line after `#N `.
fn behind_number(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(FRAME)?;
    Some(&rest[find(rest, b"0x")?..])
}

/// The line of the instruction with a name, if it has the place instead.
fn instruction(
    line: &[u8],
    place: &[u8],
    location: &Location,
    cpp_names: CppNames,
) -> Option<Vec<u8>> {
    let before = line.strip_suffix(b")\n")?.strip_suffix(place)?;
    if !line.starts_with(INSTRUCTION) {
        return None;
    }
    let mut name = String::new();
    escape::text(&mut name, &output::symbol(location, cpp_names, true)?);
    Some([before, name.as_bytes(), b")\n"].concat())
}

/// Appends what a report lacks and does not say already.
fn lose(report: &[u8], lost: &[(&str, String)], out: &mut Vec<u8>) {
    for (detail, reason) in lost {
        let line = format!("  Lost:          {detail} ({reason})\n");
        if find(report, line.as_bytes()).is_none() {
            add(out, &[line.as_bytes()]);
        }
    }
}
