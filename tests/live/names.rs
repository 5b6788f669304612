//! Names and arguments of any bytes: nothing of them reaches a terminal or breaks
//! a line, and JSON gives them back.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::harness::{crash, Monitor};
use crate::programs::{command, compile, copy, directory, unique, PIE};
use crate::report::only;
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        name_of_a_file_in_json,
        name_of_a_file_in_text,
        name_by_prctl_in_json,
        name_by_prctl_in_text,
        name_cut_in_the_middle_of_a_character,
    ],
}

/// What may stand at the end of a name, in five bytes at most.
pub const ODD: &[&[u8]] = &[
    b"\n}{",
    b"\"",
    b"\\",
    b"\\n\\\"",
    b"\x1b[31m",
    b"\xff",
    b"\xc3\xa9",
    b"\xe2\x86\x92",
    b"\xc2\x9b1m",
    b"\t\r",
    b"'$()",
    b" (/x)",
    b"\x7f",
    b"\x01\x02",
    b"\xe2\x80\xae",
];

/// A copy of the crasher odd_name whose file's name ends in `odd`.
pub fn odd_program(odd: &[u8]) -> (String, PathBuf) {
    let name = unique("o");
    let mut file = name.clone().into_bytes();
    // A file's name cannot hold a slash; the path of the program may.
    file.extend(odd.iter().filter(|&&byte| byte != b'/'));
    let path = directory().join(OsString::from_vec(file));
    copy(&compile("odd_name.c", PIE), &path);
    (name, path)
}

/// The text that JSON gives for bytes: itself, or `\xNN` for what is not UTF-8.
fn spelled(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk
            .invalid()
            .iter()
            .for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

fn with_odd_end(name: &str, odd: &[u8]) -> OsString {
    OsString::from_vec([name.as_bytes(), odd].concat())
}

fn name_of_a_file_in_json() {
    for odd in ODD {
        let (name, path) = odd_program(odd);
        let monitor = Monitor::start(["-n", &name, "--format", "json", "-r", "-t"]);
        crash(&mut command(&path));
        let report = only(monitor.stop().reports());
        let file = path.file_name().expect("it has one").as_bytes();
        assert_eq!(
            report.str("comm"),
            spelled(&file[..file.len().min(15)]),
            "{odd:?}"
        );
        assert_eq!(
            report.str("exe"),
            spelled(path.as_os_str().as_bytes()),
            "{odd:?}"
        );
        assert_eq!(
            report.str("cmdline"),
            spelled(path.as_os_str().as_bytes()),
            "{odd:?}"
        );
        assert_eq!(
            report.frames()[0]["module"],
            spelled(path.as_os_str().as_bytes()),
            "{odd:?}"
        );
        assert!(
            report.str("instruction_symbol").starts_with("odd_crash+0x"),
            "{}",
            report.line
        );
    }
}

fn name_by_prctl_in_json() {
    for odd in ODD {
        let (name, path) = odd_program(b"");
        let renamed = with_odd_end(&name, odd);
        let monitor = Monitor::start(["-n", &name, "--format", "json", "-r", "-t"]);
        crash(command(&path).arg(&renamed));
        let report = only(monitor.stop().reports());
        assert_eq!(report.str("comm"), spelled(renamed.as_bytes()), "{odd:?}");
        assert_eq!(report.str("thread"), spelled(renamed.as_bytes()), "{odd:?}");
        let cmdline = [path.as_os_str().as_bytes(), b" ", renamed.as_bytes()].concat();
        assert_eq!(report.str("cmdline"), spelled(&cmdline), "{odd:?}");
        assert_eq!(report["fault_type"], "access_error");
    }
}

/// Text that a terminal shows as it is: no control characters (neither C0 nor C1),
/// no bidirectional overrides, valid UTF-8, and one header for one report.
fn assert_harmless(output: &[u8], odd: &[u8]) {
    let text = std::str::from_utf8(output).unwrap_or_else(|e| panic!("{odd:?}: {e}: {output:?}"));
    for character in text.chars() {
        let control = character.is_control() && character != '\n';
        let bidirectional = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        assert!(
            !control && !bidirectional,
            "{odd:?}: {character:?} in {text:?}"
        );
    }
    assert_eq!(
        text.matches("] SEGFAULT in process ").count(),
        1,
        "{odd:?}: {text}"
    );
    let (header, rest) = text.split_once('\n').expect("lines");
    assert!(
        header.starts_with('[') && header.contains(" (PID: "),
        "{odd:?}: {header}"
    );
    for line in rest.lines() {
        assert!(
            line.is_empty() || line.starts_with("  "),
            "{odd:?}: {line:?} in {text}"
        );
    }
}

fn name_of_a_file_in_text() {
    for odd in ODD {
        let (name, path) = odd_program(odd);
        let monitor = Monitor::start(["-n", &name, "-r", "-t"]);
        crash(&mut command(&path));
        assert_harmless(&monitor.stop().stdout, odd);
    }
}

fn name_by_prctl_in_text() {
    for odd in ODD {
        let (name, path) = odd_program(b"");
        let monitor = Monitor::start(["-n", &name, "-r", "-t", "-v"]);
        crash(command(&path).arg(with_odd_end(&name, odd)));
        let outcome = monitor.stop();
        assert_harmless(&outcome.stdout, odd);
        assert!(
            !outcome.stderr.chars().any(|c| c.is_control() && c != '\n'),
            "{:?}",
            outcome.stderr
        );
    }
}

/// The kernel cuts at 15 bytes, wherever that is.
fn name_cut_in_the_middle_of_a_character() {
    let (name, path) = odd_program(b"");
    assert_eq!(name.len(), 10, "room for four bytes, and the first of two");
    let monitor = Monitor::start(["-n", &name, "--format", "json"]);
    crash(command(&path).arg(OsStr::new(&format!("{name}1234\u{e9}"))));
    assert_eq!(
        only(monitor.stop().reports()).str("comm"),
        format!("{name}1234\\xc3")
    );
}
