//! Reports of every kind, with files that are right, wrong, or not there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::files::Places;
use super::json::{self, Object, Span};
use super::json_report;
use super::naming::Desk;
use super::regroup;
use super::text_report::TextReport;
use super::{hexadecimal, unhex};
use crate::analyze::located::Located;
use crate::base::address::FileAddress;
use crate::config::CppNames;
use crate::crash::frame::Trust;
use crate::report::signature::{Crash, Place, Signature};
use crate::report::{Location, Symbol};
use crate::symbols::elf::testing::{symbol, Synth, FUNC, GLOBAL};
use crate::symbols::elf::DebugDirs;

/// A directory of one test's own, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sa-desk-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A program with functions `first` 0x1100..0x1200 and `second` 0x1200..0x1300.
    fn program(&self, name: &str, build_id: &[u8]) -> PathBuf {
        let mut synth = Synth::new();
        synth.build_id = build_id.to_vec();
        synth.symtab = vec![
            symbol("first", 0x1100, 0x100, GLOBAL | FUNC),
            symbol("second", 0x1200, 0x100, GLOBAL | FUNC),
        ];
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, synth.build()).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const MEMORY: usize = 64 << 20;
const ID: &[u8] = &[0xab, 0xcd, 0x01];

/// With these files, and directories to look through.
fn desk(given: &[PathBuf]) -> Desk {
    Desk::new(Places::new(
        DebugDirs::default(),
        Vec::new(),
        given.to_vec(),
        MEMORY,
    ))
}

fn with_root(root: &Path) -> Desk {
    Desk::new(Places::new(
        DebugDirs::default(),
        vec![root.to_owned()],
        Vec::new(),
        MEMORY,
    ))
}

fn named(desk: &mut Desk, line: &str) -> String {
    let mut out = Vec::new();
    assert!(json_report::symbolize(line.as_bytes(), desk, &mut out));
    String::from_utf8(out).unwrap()
}

fn is_passed_on(desk: &mut Desk, line: &str) -> bool {
    let mut out = b"before".to_vec();
    let ours = json_report::symbolize(line.as_bytes(), desk, &mut out);
    assert_eq!(out, [b"before", line.as_bytes()].concat());
    !ours
}

fn text(desk: &mut Desk, report: &str) -> String {
    let mut reader = TextReport::default();
    let mut out = Vec::new();
    for line in report.split_inclusive('\n') {
        reader.take(line.as_bytes(), desk, &mut out);
    }
    reader.flush(desk, &mut out);
    String::from_utf8(out).unwrap()
}

/// A frame as the tool writes it. `symbol` is JSON.
fn frame(symbol: &str, offset: &str, build_id: &str, trust: &str) -> String {
    format!(
        "{{\"address\":\"0x5555{}\",\"symbol\":{symbol},\"module\":\"/srv/app\",\
         \"module_offset\":\"{offset}\",\"build_id\":\"{build_id}\",\"trust\":\"{trust}\",\
         \"file\":null,\"line\":null,\"inlined\":false}}",
        &offset[2..]
    )
}

/// Keys that every report has, and a stack.
fn report(instruction: &str, frames: &[String], lost: &str) -> String {
    format!(
        "{{\"timestamp\":1,\"pid\":2,\"instruction_symbol\":{instruction},\
         \"fault_type\":\"map_error\",\"stack_trace\":[{}],\"lost\":[{lost}]}}\n",
        frames.join(",")
    )
}

#[test]
fn frames_without_names_get_them_and_nothing_else_changes() {
    let scratch = Scratch::new("names");
    let mut desk = desk(&[scratch.program("app", ID)]);
    let id = "abcd01";
    let before = [
        frame("null", "0x1110", id, "context"),
        // A call that is the last instruction of its function.
        frame("null", "0x1200", id, "cfi"),
        frame("null", "0x1200", id, "signal"),
        frame("null", "0x1500", id, "cfi"),
        frame("\"older+0x1 (/srv/app)\"", "0x1210", id, "scan"),
    ];
    let after = [
        frame("\"first+0x10 (/srv/app)\"", "0x1110", id, "context"),
        frame("\"first+0x100 (/srv/app)\"", "0x1200", id, "cfi"),
        frame("\"second+0x0 (/srv/app)\"", "0x1200", id, "signal"),
        before[3].clone(),
        before[4].clone(),
    ];
    let line = report("null", &before, "");
    let expected = report("\"first+0x10 (/srv/app)\"", &after, "");
    assert_eq!(named(&mut desk, &line), expected);
    assert_eq!(named(&mut desk, &expected), expected, "once more");

    // Unknown keys, spaces, and values of any kind stay where they are.
    let odd = |symbol: &str, name: &str| {
        format!(
            " {{ \"pid\" : -1.5e3, \"new\":[{{\"a\":[]}}] ,\"fault_type\":null,\"timestamp\":\"\\ud83d\",\
             \"stack_trace\" :[{{\"trust\":\"cfi\", \"exact\":true ,\"more\":\"\\u00e9\",\
             \"build_id\":\"ABCD01\",\"module_offset\":\"0x1100\",\"symbol\":{symbol}}}], \
             \"lost\":null,\"instruction_symbol\":{name}}} \t\n"
        )
    };
    assert_eq!(
        named(&mut desk, &odd("null", "null")),
        odd("\"first+0x0\"", "null"),
        "no module, and not the crash itself"
    );
}

#[test]
fn what_the_instruction_is_called_follows_its_frame() {
    let scratch = Scratch::new("instruction");
    let mut desk = desk(&[scratch.program("app", ID)]);
    let stack = [frame("null", "0x1110", "abcd01", "context")];
    let other = report("\"other+0x1 (/x)\"", &stack, "");
    assert!(named(&mut desk, &other).contains("\"instruction_symbol\":\"other+0x1 (/x)\""));
    let without = "{\"timestamp\":1,\"pid\":2,\"fault_type\":\"\",\"instruction_symbol\":null}\n";
    assert_eq!(named(&mut desk, without), without);
}

#[test]
fn a_file_of_another_build_is_not_used_and_that_is_said_once() {
    let scratch = Scratch::new("other");
    let mut desk = desk(&[scratch.program("app", &[0xab, 0xcd, 0x02])]);
    let stack = [
        frame("null", "0x1110", "abcd01", "context"),
        frame("null", "0x1210", "abcd01", "cfi"),
    ];
    let lost = "\"symbols: no file has its build-id abcd01\"";
    let expected = report("null", &stack, lost);
    assert_eq!(named(&mut desk, &report("null", &stack, "")), expected);
    assert_eq!(desk.said(), ["/srv/app: no file has its build-id abcd01"]);
    assert_eq!(named(&mut desk, &expected), expected, "once more");
    assert!(desk.said().is_empty());
    let both = format!("\"callers: gone\",{lost}");
    let line = report("null", &stack, "\"callers: gone\"");
    assert_eq!(named(&mut desk, &line), report("null", &stack, &both));
    // Nothing is lost if there is a name.
    let stack = [frame(
        "\"known+0x1 (/srv/app)\"",
        "0x1110",
        "abcd01",
        "context",
    )];
    let line = report("null", &stack, "");
    assert_eq!(named(&mut desk, &line), line);
    // Neither build-id nor place; and what is in no file.
    let gone = "{\"trust\":\"cfi\",\"module\":\"/gone\",\"build_id\":null,\"module_offset\":null}";
    let anonymous = "{\"trust\":\"cfi\",\"module\":\"[anon]\",\"symbol\":null}";
    let stack = [gone.to_owned(), anonymous.to_owned(), "{}".to_owned()];
    assert_eq!(
        named(&mut desk, &report("null", &stack, "")),
        report("null", &stack, "\"symbols: the file has no build-id\"")
    );
}

/// What a report can make the desk remember.
#[test]
fn what_no_module_can_have_is_not_remembered() {
    let mut desk = desk(&[]);
    let long = "ab".repeat(1000);
    for number in 0..5000 {
        let stack = [
            frame("null", "0x1110", &long, "context"),
            frame("null", "0x1110", &format!("{number:04x}"), "cfi"),
            frame("null", "0x1110", "", "cfi").replace("/srv", &format!("/{}", "x".repeat(20_000))),
        ];
        named(&mut desk, &report("null", &stack, ""));
        desk.said();
    }
    assert!(desk.modules_known() <= 4100, "{}", desk.modules_known());
}

#[test]
fn files_are_found_below_roots_and_nowhere_else() {
    let scratch = Scratch::new("roots");
    scratch.program("root/srv/app", ID);
    scratch.program("secret", &[0xab, 0xcd, 0x03]);
    let root = scratch.path("root");
    symlink("/srv/app", root.join("absolute")).unwrap();
    symlink("../../secret", root.join("escape")).unwrap();
    let mut desk = with_root(&root);
    let mut symbol = |module: &str, build_id: &str| {
        let frame = format!(
            "{{\"symbol\":null,\"module\":\"{module}\",\"module_offset\":\"0x1110\",\
             \"build_id\":\"{build_id}\",\"trust\":\"context\"}}"
        );
        let line = named(&mut desk, &report("null", &[frame], ""));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        match value["lost"][0].as_str() {
            Some(lost) => lost.rsplit(": ").next().unwrap().to_owned(),
            None => value["instruction_symbol"].as_str().unwrap().to_owned(),
        }
    };
    assert_eq!(symbol("/srv/app", "abcd01"), "first+0x10 (/srv/app)");
    let deleted = symbol("/srv/app (deleted)", "abcd01");
    assert_eq!(deleted, "first+0x10 (/srv/app (deleted))");
    assert_eq!(symbol("/absolute", "abcd01"), "first+0x10 (/absolute)");
    assert_eq!(
        symbol("/srv/app", "abcd02"),
        "the file has a different build-id"
    );
    // It is there, but outside.
    for path in ["/escape", "/../secret", "/srv/../../secret"] {
        let said = symbol(path, "abcd03");
        assert_eq!(said, "no file has its build-id abcd03", "{path}");
    }
    assert_eq!(symbol("/srv", "abcd04"), "not a regular file");
}

#[test]
fn directories_are_looked_through_or_looked_up_in() {
    let scratch = Scratch::new("dirs");
    scratch.program("tree/deep/er/any name", ID);
    scratch.program("packages/.build-id/ab/cd02.debug", &[0xab, 0xcd, 0x02]);
    scratch.program("packages/.build-id/ab/cd03.debug", ID);
    scratch.program("cache/abcd04/debuginfo", &[0xab, 0xcd, 0x04]);
    fs::write(scratch.path("tree/text"), "no ELF file").unwrap();
    symlink(scratch.path("tree"), scratch.path("tree/deep/loop")).unwrap();
    nix::unistd::mkfifo(&scratch.path("tree/fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let dirs = DebugDirs {
        packages: vec![scratch.path("packages")],
        debuginfod: vec![scratch.path("cache")],
    };
    let mut desk = Desk::new(Places::new(
        dirs,
        Vec::new(),
        vec![scratch.path("tree")],
        MEMORY,
    ));
    for (build_id, found) in [
        ("abcd01", true),
        ("abcd02", true),
        ("abcd03", false),
        ("abcd04", true),
        ("abcd05", false),
    ] {
        let stack = [frame("null", "0x1110", build_id, "context")];
        let line = named(&mut desk, &report("null", &stack, ""));
        assert_eq!(line.contains("\"first+0x10"), found, "{line}");
        assert_eq!(line.contains("symbols: "), !found, "{line}");
    }
}

#[test]
fn what_is_no_report_is_passed_on() {
    let mut desk = desk(&[]);
    for line in [
        "{}\n",
        "{\"timestamp\":1,\"pid\":2}\n",
        "{\"timestamp\":1,\"pid\":2,\"fault_type\":\"\"",
        "{\"timestamp\":1,\"pid\":2,\"fault_type\":\"\",\"stack_trace\":5}\n",
        "{\"timestamp\":1,\"pid\":2,\"fault_type\":\"\",\"stack_trace\":[5]}\n",
        "{\"timestamp\":1,\"pid\":2,\"fault_type\":\"\"} x\n",
        "\n",
        "",
    ] {
        assert!(is_passed_on(&mut desk, line), "{line}");
    }
}

const TEXT: &str = "\
[2024-02-15 10:35:12.789] SEGFAULT in process app (PID: 9876, TID: 9876)
  Fault Address: 0x0000000000000008
  Instruction:   0x5111 (/srv/a b+0x1110)
  Fault Type:    Address not mapped (SEGV_MAPERR)
  Lost:          stack (some)

  Registers (x86_64):
    RIP: 0x5111    RSP: 0x7ffe12345678

  Stack Trace (6 frames):
    #0  0x5111 /srv/a b+0x1110 (build-id abcd01)
    #1  0x5200 /srv/a b+0x1200 (build-id abcd01) [scan, fits the next call]
    #2  0x5200 /srv/a b+0x1200 (build-id abcd01, exact)
    #3  0x5300 lonely+0x0 (/srv/a b) [leaf]
    #4  0x6000 /lib/x+0x10 (build-id 0102) at x.c:5
    #5  0x6000 /lib/x+0x10 (build-id 0102)
    (stack ends here: nothing is known about it)

";

#[test]
fn text_is_named_where_it_has_a_build_id() {
    let scratch = Scratch::new("text");
    let mut desk = desk(&[scratch.program("app", ID)]);
    let expected = TEXT
        .replace("0x5111 (/srv/a b+0x1110)", "0x5111 (first+0x10 (/srv/a b))")
        .replace(
            "  Lost:          stack (some)\n",
            "  Lost:          stack (some)\n  Lost:          symbols (no file has its build-id 0102)\n",
        )
        .replace("/srv/a b+0x1110 (build-id abcd01)", "first+0x10 (/srv/a b)")
        .replace("/srv/a b+0x1200 (build-id abcd01) [", "first+0x100 (/srv/a b) [")
        .replace("/srv/a b+0x1200 (build-id abcd01, exact)", "second+0x0 (/srv/a b)");
    assert_eq!(text(&mut desk, TEXT), expected);
    assert_eq!(text(&mut desk, &expected), expected, "once more");
    let cut =
        |text: &str| text[..text.find("/lib/x+0x10 (build-id 0102)\n").unwrap() + 9].to_owned();
    let (before, after) = (cut(TEXT), cut(&expected));
    let after = after.replace(
        "  Lost:          symbols (no file has its build-id 0102)\n",
        "",
    );
    assert_eq!(text(&mut desk, &before), after, "cut off in a line");
    let unnumbered = TEXT.replace("(build-id", "(id").replace("#2", "#7");
    assert_eq!(text(&mut desk, &unnumbered), unnumbered);
    let twice = format!("first\n\n{TEXT}  between\n{TEXT}");
    let expected = format!("first\n\n{expected}  between\n{expected}");
    assert_eq!(text(&mut desk, &twice), expected);
}

#[test]
fn text_is_written_when_a_report_is_over() {
    let mut desk = desk(&[]);
    let mut reader = TextReport::default();
    let mut out = Vec::new();
    let mut foreign = 0;
    let end = TEXT.find("    (stack").unwrap();
    for line in TEXT[..end].split_inclusive('\n') {
        assert!(reader.take(line.as_bytes(), &mut desk, &mut out));
        assert!(out.is_empty(), "{line}");
    }
    for line in [
        "    (stack ends)\n",
        "\n",
        "other\n",
        "  indented\n",
        "[x]\n",
    ] {
        foreign += u32::from(!reader.take(line.as_bytes(), &mut desk, &mut out));
        assert!(out.ends_with(line.as_bytes()), "{line}");
    }
    assert_eq!(foreign, 2);
    // One without a stack is over when the next begins.
    out.clear();
    let (first, second) = (
        "[1] SEGFAULT in process a (PID: 1",
        "[2] SEGFAULT in process b",
    );
    reader.take(first.as_bytes(), &mut desk, &mut out);
    assert!(out.is_empty());
    reader.take(second.as_bytes(), &mut desk, &mut out);
    assert_eq!(out, first.as_bytes());
}

/// Reports with some bytes changed.
#[test]
fn reports_of_any_content_do_no_harm() {
    let scratch = Scratch::new("harm");
    let mut desk = desk(&[scratch.program("app", ID)]);
    let id = "abcd01";
    let stack = [
        frame("null", "0x1110", id, "context"),
        frame("\"x+0x1 (/srv/app)\"", "0x1200", id, "cfi").replace("false", "true"),
        frame("null", "0x1200", id, "cfi"),
    ];
    let json = report("null", &stack, "\"callers: gone\"");
    let mut state = 5u64;
    let mut below = |end: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % end
    };
    let (mut right, mut changed) = (0, 0);
    for round in 0..40_000 {
        let original = if round % 2 == 0 {
            json.as_bytes()
        } else {
            TEXT.as_bytes()
        };
        let mut bytes = original.to_vec();
        for _ in 0..below(5) {
            let (at, from) = (below(bytes.len()), below(bytes.len()));
            match below(4) {
                0 => bytes[at] = below(256) as u8,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, original[from % original.len()]),
                _ => {
                    drop(bytes.drain(
                        at.min(from)..at.min(from) + below(20).min(bytes.len() - at.max(from)),
                    ))
                }
            }
            if bytes.is_empty() {
                bytes.push(b'x');
            }
        }
        let mut out = Vec::new();
        if round % 2 == 0 {
            desk.said();
            let was_json = serde_json::from_slice::<serde_json::Value>(&bytes).is_ok();
            let ours = json_report::symbolize(&bytes, &mut desk, &mut out);
            right += u32::from(ours);
            changed += u32::from(out != bytes);
            assert!(ours || out == bytes);
            if was_json {
                let still = serde_json::from_slice::<serde_json::Value>(&out);
                assert!(still.is_ok(), "{}", out.escape_ascii());
            }
        } else {
            let mut reader = TextReport::default();
            for line in bytes.split_inclusive(|&byte| byte == b'\n') {
                reader.take(line, &mut desk, &mut out);
            }
            reader.flush(&mut desk, &mut out);
            let said = desk.said().concat();
            assert!(!said.chars().any(char::is_control), "{said:?}");
            let lines = |text: &[u8]| text.iter().filter(|&&byte| byte == b'\n').count();
            assert!(lines(&out) >= lines(&bytes));
        }
    }
    assert!(right > 5000 && changed > 5000, "{right} {changed}");
}

#[test]
fn numbers_as_reports_write_them() {
    assert_eq!(hexadecimal(b"0x0"), Some(0));
    assert_eq!(hexadecimal(b"0xffffffffffffffff"), Some(u64::MAX));
    for wrong in ["", "0x", "12", "0x1g", "0x+1", "0x10000000000000000", "0X1"] {
        assert_eq!(hexadecimal(wrong.as_bytes()), None, "{wrong}");
    }
    assert_eq!(unhex(b"00fFa1"), Some(vec![0, 0xff, 0xa1]));
    assert_eq!(unhex(b""), Some(vec![]));
    assert_eq!(
        (unhex(b"0"), unhex(b"0g"), unhex(b"+1")),
        (None, None, None)
    );
}

/// What is shown is readable; what a group is made of is the whole name.
#[test]
fn cpp_names_are_shown_readable_and_grouped_raw() {
    let scratch = Scratch::new("cpp");
    let mut synth = Synth::new();
    synth.build_id = ID.to_vec();
    synth.symtab = vec![symbol("_ZN3foo3barEi", 0x1100, 0x100, GLOBAL | FUNC)];
    fs::write(scratch.path("app"), synth.build()).unwrap();
    let mut desk = desk(&[scratch.path("app")]);
    let readable = "\"foo::bar+0x10 (/srv/app)\"";
    let before = report("null", &[frame("null", "0x1110", "abcd01", "context")], "");
    let both = format!("{readable},\"mangled\":\"_ZN3foo3barEi\"");
    let call = frame(&both, "0x1110", "abcd01", "context");
    let after = report(readable, std::slice::from_ref(&call), "");
    assert_eq!(named(&mut desk, &before), after);
    assert_eq!(named(&mut desk, &after), after, "once more");
    desk.cpp_names = CppNames::Whole;
    let whole = named(&mut desk, &before);
    assert_eq!(whole, after.replace("foo::bar+", "foo::bar(int)+"));
    desk.cpp_names = CppNames::Short;

    let location = |name: Option<&str>| Location {
        symbol: name.map(|name| Symbol {
            name: name.into(),
            offset: 0x10,
        }),
        module: Some(b"/srv/app".to_vec()),
        module_offset: Some(FileAddress(0x1110)),
        build_id: Some(ID.to_vec()),
        ..Location::default()
    };
    let crash = Crash {
        signal: 11,
        cause: b"wild_jump",
        exe: Some(b"/srv/app"),
    };
    let raw = location(Some("_ZN3foo3barEi"));
    let place = Place {
        trust: Trust::Context,
        fault: false,
        unread: false,
        proven: false,
        keeps_frame_pointers: false,
        function: None,
        location: &raw,
    };
    let of_raw = Signature::of(&crash, &[place]);
    let located = [Located {
        location: location(None),
        ..Located::default()
    }];
    let group = |call: &str| {
        let line = format!(
            "{{\"signature\":\"{:016x}\",\"group\":\"{:016x}\",\"signal\":\"SIGSEGV\",\
             \"cause\":\"wild_jump\",\"exe\":\"/srv/app\",\"stack_trace\":[{call}]}}",
            of_raw.signature.unwrap(),
            of_raw.group.unwrap(),
        );
        let report = Object::read(line.as_bytes(), Span::whole(line.as_bytes())).unwrap();
        let frames = json::objects(line.as_bytes(), report.place("stack_trace").unwrap()).unwrap();
        regroup::group(&report, frames.iter(), &located)
    };
    assert_eq!(group(&call), of_raw.group);
    assert_eq!(group(&frame(readable, "0x1110", "abcd01", "context")), None);
}

#[path = "threads_tests.rs"]
mod threads;
