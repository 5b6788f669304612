//! Reports as text, for a summary: each becomes a line of JSON with the fields that
//! [`super::sighting`] reads.
//!
//! In: lines. Out: such a line when the next report begins, or at the end. Times are local
//! ones, as the tool prints them. A report that is cut off has the fields that it has.

use super::json;
use super::recall::signal;
use super::show::unix_ms;
use super::{add, find_last, is_header};
use crate::base::bytes::find;
use crate::cli::moment;
use crate::report::output::escape;
use crate::report::Exit;

/// Innermost calls that are kept.
const CALLS: usize = 3;
/// The longest value; a longer one is left out.
const MAX_VALUE: usize = 1024;

/// The report that is being read.
#[derive(Debug, Default)]
pub(super) struct TextSighting {
    /// The members of its object; empty between reports.
    members: Vec<u8>,
    calls: Vec<Vec<u8>>,
    exe: bool,
    ended: bool,
}

impl TextSighting {
    /// Takes a line; false if it belongs to no report. If it begins a report, the one before
    /// is appended to `out` as a line of JSON.
    pub(super) fn take(&mut self, line: &[u8], out: &mut Vec<u8>) -> bool {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        if is_header(line) {
            self.finish(out);
            return self.begin(line);
        }
        if self.members.is_empty() || !(line.is_empty() || line.starts_with(b"  ")) {
            self.finish(out);
            return line.is_empty();
        }
        if line.starts_with(b"  Other Threads (") {
            self.ended = true;
        } else if let Some(frame) = line.strip_prefix(b"    #") {
            if !self.ended && self.calls.len() < CALLS {
                self.calls.extend(call(frame));
            }
        } else if let Some((label, value)) = line.get(2..).and_then(split) {
            self.field(label, value);
        }
        true
    }

    /// Appends the report, if there is one.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        if self.members.is_empty() {
            return;
        }
        add(out, &[b"{", &self.members]);
        if !self.calls.is_empty() {
            add(out, &[b",\"stack_trace\":[", &self.calls.join(&b','), b"]"]);
        }
        add(out, &[b"}\n"]);
        *self = TextSighting::default();
    }

    /// `[2024-02-15 10:35:12.789] SEGFAULT in process my_app (PID: 9876, TID: 9876)`
    fn begin(&mut self, line: &[u8]) -> bool {
        let parts = || {
            let (time, rest) = line
                .get(1..)?
                .split_at_checked("2024-02-15 10:35:12.789".len())?;
            let moment = moment::read(std::str::from_utf8(time).ok()?)?;
            let rest = rest.strip_prefix(b"] ")?;
            let (signal, name) = rest.split_at_checked(find(rest, b" in process ")?)?;
            let name = &name[b" in process ".len()..];
            let comm = &name[..find_last(name, b" (PID: ")?];
            Some((unix_ms(moment), signal, comm))
        };
        let Some((time_ms, signal, comm)) = parts() else {
            return false;
        };
        let signal = match signal {
            b"SEGFAULT" => b"SIGSEGV",
            other => other,
        };
        let always = format!("\"timestamp\":{time_ms},\"pid\":0,\"fault_type\":\"unknown\"");
        add(&mut self.members, &[always.as_bytes()]);
        self.put("signal", signal);
        self.put("comm", comm);
        true
    }

    fn field(&mut self, label: &[u8], value: &[u8]) {
        match label {
            b"Fault Address" => self.put("disposition", b"fatal"),
            b"Instruction" => {
                let at = find(value, b" (").map_or(value.len(), |at| at + 2);
                if let Some(place) = value[at..].strip_suffix(b")") {
                    self.put("instruction_symbol", place);
                }
            }
            b"Cause" => {
                let at = find_last(value, b" (").map_or(value.len(), |at| at + 2);
                if let Some(word) = value[at..].strip_suffix(b")") {
                    self.put("cause", word);
                }
            }
            b"Disposition" => self.put("disposition", value),
            b"Exit" => {
                let death = exit(value).is_death();
                let member = format!(",\"exit\":{{\"death\":{death}}}");
                add(&mut self.members, &[member.as_bytes()]);
            }
            b"Same Death" => add(&mut self.members, &[b",\"same_death\":true"]),
            b"Signature" => self.put("signature", value),
            b"Executable" => {
                self.exe = true;
                self.put("exe", value);
            }
            // It begins with the path of the executable, if that has no line of its own.
            b"Command" if !self.exe && value.starts_with(b"/") => {
                let end = find(value, b" ").unwrap_or(value.len());
                self.put("exe", &value[..end]);
            }
            b"Repeats" | b"Suppressed" => self.count(label, value),
            _ => {}
        }
    }

    /// `41 equal ones before`, `42 more of signature 6552d0fcc0dbcab3 at …, since …`
    fn count(&mut self, label: &[u8], value: &[u8]) {
        let end = find(value, b" ").unwrap_or(value.len());
        let number = json::number(&value[..end]).unwrap_or(0);
        let is_held = value[end..].starts_with(b" more");
        if is_held {
            self.put("disposition", b"fatal");
            let mark = b" of signature ";
            if let Some(at) = find(value, mark) {
                let rest = &value[at + mark.len()..];
                self.put("signature", &rest[..rest.len().min(16)]);
            }
        }
        let key = match label {
            b"Repeats" => "repeats",
            _ => "suppressed",
        };
        // Held ones include the last, which is the report itself.
        let number = number.saturating_sub(u64::from(is_held));
        let member = format!(",\"{key}\":{number}");
        add(&mut self.members, &[member.as_bytes()]);
    }

    /// Appends a member; of two with one key the last one counts.
    fn put(&mut self, key: &str, value: &[u8]) {
        if value.len() <= MAX_VALUE {
            let member = [b",", &*quoted(key.as_bytes()), b":", &quoted(value)].concat();
            add(&mut self.members, &[&member]);
        }
    }
}

/// How a process ended, from the words of the report.
fn exit(words: &[u8]) -> Exit {
    let after = |mark: &[u8]| find(words, mark).map(|at| &words[at + mark.len()..]);
    let status = after(b"with status ").and_then(json::number);
    let signal = after(b"killed by ").and_then(|name| signal(&quoted(name)));
    match (status.and_then(|it| u8::try_from(it).ok()), signal) {
        (Some(status), _) => Exit::Status(status),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Unknown,
    }
}

/// `Label:   value`
fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = find(line, b":")?;
    Some((&line[..at], line[at + 1..].trim_ascii_start()))
}

/// A frame's line after `    #`, as a frame with the fields of a summary.
fn call(line: &[u8]) -> Option<Vec<u8>> {
    let at = find(line, b"0x")?;
    let line = &line[at..];
    let end = find(line, b" ").unwrap_or(line.len());
    let (address, place) = (&line[..end], line[end..].trim_ascii_start());
    let address = quoted(address);
    // A file that could not be read has offsets of its own: `@0xoff`.
    let place = &place[..find(place, b" (build-id ").unwrap_or(place.len())];
    let marked = |mark: &'static str, key: &'static str| {
        let at = find_last(place, mark.as_bytes()).filter(|_| place.starts_with(b"/"))?;
        let end = find(&place[at..], b" ").map_or(place.len(), |end| at + end);
        Some((&place[..at], key, &place[at + 1..end]))
    };
    let known = marked("@0x", "file_offset").or_else(|| marked("+0x", "module_offset"));
    if let Some((module, key, offset)) = known {
        let (module, offset) = (quoted(module), quoted(offset));
        let mut frame = [b"{\"address\":", &*address, b",\"module\":", &module].concat();
        add(&mut frame, &[b",\"", key.as_bytes(), b"\":", &offset, b"}"]);
        return Some(frame);
    }
    let mut frame = [b"{\"address\":", &*address].concat();
    if let Some(at) = find(place, b"+0x") {
        let path = find(&place[at..], b")").map_or(place.len(), |end| at + end + 1);
        add(&mut frame, &[b",\"symbol\":", &quoted(&place[..path])]);
    }
    frame.push(b'}');
    Some(frame)
}

fn quoted(text: &[u8]) -> Vec<u8> {
    let mut out = String::from("\"");
    escape::json(&mut out, text);
    out.push('"');
    out.into_bytes()
}
