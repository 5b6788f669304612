//! The fields of a report that a summary uses.
//!
//! In: a line of JSON. Out: values that are read from it only on request, because most of
//! a million reports are about crashes that are already in the table. Values stay encoded
//! as in JSON.

#[cfg(feature = "desk")]
use super::find_last;
use super::json::{self, Object, Span};
use super::{add, is_report};
use crate::base::bytes::find;
#[cfg(feature = "desk")]
use crate::cli::desk::Field;

/// The longest value; a longer one is left out.
const MAX_VALUE: usize = 1024;
/// Innermost calls that are shown.
const CALLS: usize = 3;

/// One report.
#[derive(Debug)]
pub(super) struct Sighting<'a>(Object<'a>);

impl<'a> Sighting<'a> {
    /// `None` for a line that is not a report.
    pub(super) fn read(line: &'a [u8]) -> Option<Self> {
        let report = Object::read(line, Span::whole(line)).filter(is_report)?;
        Some(Sighting(report))
    }

    /// Equal for equal crashes: the signature, if there is one.
    pub(super) fn identity(&self) -> Vec<u8> {
        let [program, signal, cause, signature, _] = self.values();
        let mut out = Vec::new();
        if signature.is_empty() {
            let symbol = self.0.value("instruction_symbol");
            add(&mut out, &[program, signal, cause, symbol]);
        }
        add(&mut out, &[signature]);
        out.truncate(MAX_VALUE);
        out
    }

    /// Equal for equal crashes of different builds: the group, if there is one.
    #[cfg(feature = "desk")]
    pub(super) fn group_identity(&self) -> Vec<u8> {
        let [program, signal, cause, _, group] = self.values();
        let mut out = Vec::new();
        if group.is_empty() {
            let symbol = self.0.value("instruction_symbol");
            // Without the place in the function, which differs from build to build.
            let end = find_last(symbol, b"+0x").unwrap_or(symbol.len());
            add(&mut out, &[program, signal, cause, &symbol[..end]]);
        }
        add(&mut out, &[group]);
        out.truncate(MAX_VALUE);
        out
    }

    /// The value of a field, as JSON; empty if it is not known.
    #[cfg(feature = "desk")]
    pub(super) fn field(&self, field: Field) -> &'a [u8] {
        let [program, _, cause, ..] = self.values();
        let value = match field {
            Field::Build => self.of_executable("build_id"),
            Field::Host => self.0.value("host"),
            // The report's own field is the version of the tool.
            Field::Version => self.of_executable("version"),
            Field::Cause => cause,
            Field::Program => program,
        };
        if value.len() > MAX_VALUE {
            return b"";
        }
        value
    }

    /// What a frame in the executable says about its file.
    #[cfg(feature = "desk")]
    fn of_executable(&self, key: &str) -> &'a [u8] {
        let exe = self.0.value("exe");
        let stack = self.0.place("stack_trace");
        let frames = stack.and_then(|stack| json::objects(self.0.text(), stack));
        let mut frames = frames.unwrap_or_default().into_iter();
        let own = frames.find(|frame| !exe.is_empty() && frame.value("module") == exe);
        own.map_or(b"", |frame| frame.value(key))
    }

    /// Processes that died: none for a handled fault after which the process lived on, and none
    /// for a further thread of a process that another report covers. If equal reports were folded
    /// into this one, it says how many died; if it does not, each of them counts as a death.
    pub(super) fn deaths(&self) -> u64 {
        if let Some(deaths) = json::number(self.0.value("deaths")) {
            return deaths;
        }
        // A handler took the fault, and the process died of it: one death, whatever
        // else was folded.
        let died = find(self.0.value("exit"), b"\"death\":true").is_some();
        if self.0.value("disposition") != b"\"fatal\"" {
            return u64::from(died && self.0.value("same_death") != b"true");
        }
        let own = u64::from(self.0.value("same_death") != b"true");
        own.saturating_add(self.repeats())
    }

    /// Equal ones that were folded into this report.
    pub(super) fn repeats(&self) -> u64 {
        json::number(self.0.value("repeats")).unwrap_or(0)
    }

    /// Other crashes, of any kind, that `--max-per-minute` held back with this one.
    pub(super) fn suppressed(&self) -> u64 {
        json::number(self.0.value("suppressed")).unwrap_or(0)
    }

    /// Unix time in milliseconds.
    pub(super) fn time_ms(&self) -> Option<u64> {
        json::number(self.0.value("timestamp"))
    }

    /// The values for [`TEXTS`]. The program is the executable, or else the name of the
    /// process. The cause is the signal's code if there is no cause.
    fn values(&self) -> [&'a [u8]; TEXTS.len()] {
        let first = |key, other| match self.0.value(key) {
            b"" => self.0.value(other),
            value => value,
        };
        [
            first("exe", "comm"),
            self.0.value("signal"),
            first("cause", "signal_code"),
            self.0.value("signature"),
            self.0.value("group"),
        ]
    }

    /// The shown values of the crash, as an object.
    pub(super) fn crash(&self) -> Vec<u8> {
        let mut out = vec![b'{'];
        for (name, value) in TEXTS.iter().zip(self.values()) {
            add(&mut out, &[b"\"", name.as_bytes(), b"\":"]);
            put(&mut out, &[value]);
            out.push(b',');
        }
        add(&mut out, &[b"\"calls\":["]);
        self.put_calls(&mut out);
        add(&mut out, &[b"]}"]);
        out
    }

    /// The innermost calls as they are reported; of one without a name its file and the
    /// place in it.
    fn put_calls(&self, out: &mut Vec<u8>) {
        let stack = self.0.place("stack_trace");
        let Some(frames) = stack.and_then(|stack| json::objects(self.0.text(), stack)) else {
            let symbol = self.0.value("instruction_symbol");
            return if !symbol.is_empty() {
                put(out, &[symbol]);
            };
        };
        for (number, frame) in frames.iter().take(CALLS).enumerate() {
            if number > 0 {
                out.push(b',');
            }
            let module = frame.value("module").strip_suffix(b"\"");
            let offset = |key| frame.value(key).strip_prefix(b"\"");
            // For a file that could not be read, the place in the file: the address differs in each
            // run.
            let (offset, sign) = match (offset("module_offset"), offset("file_offset")) {
                (None, Some(offset)) => (Some(offset), &b"@"[..]),
                (offset, _) => (offset, &b"+"[..]),
            };
            match (frame.value("symbol"), module, offset) {
                (b"", Some(module), Some(offset)) => put(out, &[module, sign, offset]),
                (b"", ..) => put(out, &[frame.value("address")]),
                (symbol, ..) => put(out, &[symbol]),
            }
        }
    }
}

/// The values of a crash in addition to its calls.
const TEXTS: [&str; 5] = ["program", "signal", "cause", "signature", "group"];

/// Appends the parts of a value; null if it is not known, or too long.
fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    let begin = out.len();
    add(out, parts);
    if out.len() == begin || out.len() > begin + MAX_VALUE {
        out.truncate(begin);
        add(out, &[b"null"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_in_files_that_could_not_be_had() {
        let frame = |module: &str, more: &str| {
            format!("{{\"address\":\"0x7f00\",\"symbol\":null,\"module\":{module},{more}}}")
        };
        let unknown = "\"module_offset\":null";
        let frames = [
            frame(
                "\"/srv/bill (deleted)\"",
                &format!("{unknown},\"file_offset\":\"0x1a3\""),
            ),
            frame("\"/srv/bill\"", "\"module_offset\":\"0x11a3\""),
            frame("null", unknown),
        ];
        let keys = "\"timestamp\":1,\"pid\":1,\"fault_type\":\"\"";
        let line = format!("{{{keys},\"stack_trace\":[{}]}}", frames.join(","));
        let sighting = Sighting::read(line.as_bytes()).expect("a report");
        let crash = String::from_utf8(sighting.crash()).expect("text");
        let calls = r#"["/srv/bill (deleted)@0x1a3","/srv/bill+0x11a3","0x7f00"]"#;
        assert!(crash.contains(calls), "{crash}");
    }
}
