//! The writers of reports.
//!
//! A [`Report`] comes in, one buffer goes out that is written as a whole:
//! [`text`] for people, [`json`] for programs. Both are pure and escape
//! everything that comes from the crashed process. [`sink`] writes the buffers.

pub mod escape;
mod json;
mod nearby;
pub mod outputs;
pub mod sink;
mod text;
mod threads;

use crate::config::CppNames;
use crate::crash::frame::{Stop, Trust};
use crate::report::{Location, Report, StackFrame};
use crate::symbols::demangle::known;

/// The host on which the tool monitors, for JSON: which one of a fleet it is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Host {
    /// As `uname -n` has it.
    pub name: String,
    /// Differs after each boot; if /proc has it.
    pub boot_id: Option<String>,
    /// As `uname -r` and `uname -m` have it.
    pub kernel: String,
    pub machine: String,
}

/// What the reports of one run have in common.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Options {
    /// `-r`: a section of registers, even if they are unknown.
    pub registers: bool,
    /// `-t`: a section of calls, and paths behind symbols in text.
    pub stack_trace: bool,
    /// Seconds that local time was ahead of UTC when it happened; text only.
    pub utc_offset_s: i32,
    pub cpp_names: CppNames,
    /// While monitoring; JSON only.
    pub host: Option<Host>,
    /// A line of JSON has less than [`SHORT_BYTES`], unless one call alone is longer: where
    /// it would not, arguments are cut off and outer calls left out.
    pub is_short: bool,
}

/// The usual limit of what a collector of logs accepts as one message: rsyslog's.
pub const SHORT_BYTES: usize = 8192;

/// In place of the reason why a stack ends, if there is no stack.
pub const NO_STACK: &str = "nothing is known about it";

/// Why a walk ended, in the words of both formats.
#[must_use]
pub fn stop_reason(stop: Stop) -> String {
    text::stop_reason(stop)
}

/// The report as text: its lines, and an empty one at the end.
#[must_use]
pub fn text(report: &Report, options: &Options) -> Vec<u8> {
    text::report(report, options).into_bytes()
}

/// The line that stands for reports that were held back, and an empty line. `report` is
/// the last of them.
#[must_use]
pub fn repeats(report: &Report, options: &Options) -> Vec<u8> {
    text::repeats(report, options).into_bytes()
}

/// The report as one line of JSON, pure ASCII.
#[must_use]
pub fn json(report: &Report, options: &Options) -> Vec<u8> {
    json::report(report, options).into_bytes()
}

/// A frame's line in the stack trace of a report as text.
#[must_use]
pub fn text_frame(index: usize, frame: &StackFrame, cpp_names: CppNames) -> Vec<u8> {
    let mut out = String::new();
    text::numbered_frame(&mut out, index, frame, cpp_names);
    out.into_bytes()
}

/// The mark in brackets after such a line, by the way in which the frame was found.
pub const MARKS: [(Trust, &str); 6] = text::MARKS;

/// `YYYY-MM-DD HH:MM:SS.mmm` of a time of the Unix clock in milliseconds, in a time
/// zone that many seconds ahead of UTC.
#[must_use]
pub fn date_time(unix_ms: u64, utc_offset_s: i32) -> String {
    text::date_time(i128::from(unix_ms) + i128::from(utc_offset_s) * 1000)
}

/// The symbol's name as it is in the file, if [`symbol`] shows another one.
#[must_use]
pub fn mangled(location: &Location) -> Option<&[u8]> {
    let name = &location.symbol.as_ref()?.name;
    known::cpp(name, false).is_some().then_some(name)
}

/// `name+0xoff`, and ` (/path)` where the path is wanted and known; raw bytes. A C++ name
/// is readable. `None` if no symbol is known.
#[must_use]
pub fn symbol(location: &Location, cpp_names: CppNames, with_path: bool) -> Option<Vec<u8>> {
    let symbol = location.symbol.as_ref()?;
    let readable = known::cpp(&symbol.name, cpp_names == CppNames::Whole);
    let mut bytes = readable.as_deref().unwrap_or(&symbol.name).to_vec();
    bytes.extend_from_slice(format!("+{:#x}", symbol.offset).as_bytes());
    if let (true, Some(path)) = (with_path, &location.module) {
        bytes.extend_from_slice(b" (");
        bytes.extend_from_slice(path);
        bytes.push(b')');
    }
    Some(bytes)
}
