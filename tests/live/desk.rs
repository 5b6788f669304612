//! `symbolize`: a stripped program's crash, named elsewhere from the file that it was
//! stripped from, by a user without rights.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{binary, crash, Monitor};
use crate::programs::{copy, public_directory, Program, PIE};
use crate::report::{only, parse_hex, Report};
use crate::skip::{need_call_frame_information, need_lines};
use crate::{cases, Needs};

cases! {
    Needs::Tool("gdb") => [desk_lines_are_those_of_gdb],
    Needs::Tool("addr2line") => [desk_lines_of_a_handlers_stack, desk_text_from_a_debug_file],
}

const NOBODY: u32 = 65_534;

/// A stripped program, and a directory with what it was before and the binary.
struct Stripped {
    program: Program,
    desk: PathBuf,
    whole: PathBuf,
}

impl Stripped {
    fn new(source: &str) -> Stripped {
        let flags = [PIE, &["-g", "-gz=none", "-Wl,--build-id=sha1"]].concat();
        let program = Program::built(source, &flags);
        let desk = public_directory();
        let whole = desk.join("whole");
        copy(&program.path, &whole);
        copy(&binary(), &desk.join("segfault_analyzer"));
        succeeds(Command::new("objcopy").args(["--strip-all", program.path()]));
        Stripped {
            program,
            desk,
            whole,
        }
    }

    /// What the monitor writes of a crash of it.
    fn crashed(&self, options: &[&str]) -> String {
        let name = ["-n", &self.program.name, "-t", "--fatal-only"];
        let monitor = Monitor::start([&name[..], options].concat());
        crash(&mut self.program.command());
        monitor.stop().text().to_owned()
    }

    /// What becomes of it at the desk.
    fn symbolized(&self, options: &[&str], report: &str) -> String {
        let input = self.desk.join("input");
        fs::write(&input, report).expect("our own file");
        let mut symbolize = Command::new(self.desk.join("segfault_analyzer"));
        symbolize.uid(NOBODY).gid(NOBODY).arg("symbolize");
        succeeds(symbolize.args(options).arg(input))
    }

    fn whole(&self) -> &str {
        self.whole.to_str().expect("names made here are ASCII")
    }
}

impl Drop for Stripped {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.desk);
    }
}

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// The frames in the program itself that are not inlined: where to look up, and
/// `function file:line` of all calls there.
fn own_frames(report: &Report, program: &Program) -> Vec<(u64, Vec<String>)> {
    let mut found = Vec::new();
    let mut calls = Vec::new();
    for (frame, name) in report.frames().iter().zip(report.functions()) {
        if frame["module"] != program.path() {
            continue;
        }
        let file = Path::new(frame["file"].as_str().unwrap_or("?"));
        let file = file.file_name().expect("a name").to_string_lossy();
        calls.push(format!(
            "{name} {file}:{}",
            frame["line"].as_u64().unwrap_or(0)
        ));
        if frame["inlined"] == true {
            continue;
        }
        let trust = frame["trust"].as_str().expect("it always has one");
        let exact = frame["exact"] == true || ["context", "signal"].contains(&trust);
        let at = parse_hex(&frame["module_offset"]).expect("a place");
        found.push((at - u64::from(!exact), std::mem::take(&mut calls)));
    }
    found
}

/// The same as addr2line has it.
fn by_addr2line(file: &str, at: u64) -> Vec<String> {
    let at = format!("{at:#x}");
    let lines = succeeds(Command::new("addr2line").args(["-i", "-f", "-e", file, &at]));
    let lines: Vec<&str> = lines.lines().collect();
    let call = |pair: &[&str]| {
        let (name, place) = (pair[0], pair[1].rsplit('/').next().expect("a part"));
        let place = place.split(' ').next().expect("a part").replace(":?", ":0");
        format!("{name} {}", place.replace("??", "?"))
    };
    lines.chunks(2).map(call).collect()
}

fn desk_lines_are_those_of_gdb() {
    let stripped = Stripped::new("inlined.c");
    let line = stripped.crashed(&["--format", "json"]);
    assert!(
        Report::parse(&line)["instruction_symbol"].is_null(),
        "{line}"
    );
    let report = stripped.symbolized(&["--file", stripped.whole()], &line);
    let report = Report::parse(&report);
    assert!(report.str("instruction_symbol").starts_with("holder+0x"));
    let frames = own_frames(&report, &stripped.program);
    assert_eq!(frames.len(), 3, "holder, main, _start: {}", report.line);
    for (at, calls) in frames {
        if !cfg!(feature = "lines") {
            continue;
        }
        assert_eq!(calls, by_addr2line(stripped.whole(), at), "{at:#x}");
        // Line 11 of "inlined.c" starts at address 0x1147 <holder+7> and ends at …
        let question = format!("info line *{at:#x}");
        let mut gdb = Command::new("gdb");
        let answer = succeeds(gdb.args(["-nx", "-batch", "-ex", &question, stripped.whole()]));
        let words: Vec<&str> = answer.split_whitespace().collect();
        match words[..] {
            ["Line", number, "of", ..] => {
                assert!(
                    calls[0].ends_with(&format!(".c:{number}")),
                    "{answer} {calls:?}"
                );
            }
            _ => assert!(calls[0].ends_with(" ?:0"), "{answer} {calls:?}"),
        }
    }
    // Without call-frame information there is none.
    if cfg!(feature = "dwarf") {
        assert_ne!(report["group"], Report::parse(&line)["group"]);
    }
    // Nothing else is another than before.
    let mut before = Report::parse(&line).value;
    let mut after = report.value.clone();
    for key in ["instruction_symbol", "stack_trace", "group"] {
        before[key].take();
        after[key].take();
    }
    assert_eq!(before, after);
}

/// Where a signal interrupted it, an instruction is looked up itself, and not the
/// one before it.
fn desk_lines_of_a_handlers_stack() {
    need_lines();
    need_call_frame_information();
    let stripped = Stripped::new("in_handler.c");
    let line = stripped.crashed(&["--format", "json"]);
    let report = only(vec![Report::parse(&line)]);
    let report = stripped.symbolized(&["--file", stripped.whole()], &report.line);
    let report = Report::parse(&report);
    let frames = own_frames(&report, &stripped.program);
    for (at, calls) in &frames {
        assert_eq!(
            *calls,
            by_addr2line(stripped.whole(), *at),
            "{}",
            report.line
        );
    }
    let calls: Vec<&str> = frames
        .iter()
        .flat_map(|(_, calls)| calls)
        .map(|call| &**call)
        .collect();
    let expected = [
        "on_trap in_handler.c:13",
        "interrupted in_handler.c:19",
        "main in_handler.c:28",
    ];
    assert_eq!(calls[..3], expected);
    // The report must say so for the restorer: nobody ever called it.
    let restorer = &report.frames()[1];
    assert!(
        restorer["trust"] == "signal" || restorer["exact"] == true,
        "{}",
        report.line
    );
}

/// Text, as users send it, and the debug file that a package has.
fn desk_text_from_a_debug_file() {
    let stripped = Stripped::new("inlined.c");
    let report = stripped.crashed(&[]);
    assert!(report.contains("(build-id "), "{report}");
    let debug = stripped.desk.join("tree/any/name");
    fs::create_dir_all(debug.parent().expect("it has one")).expect("our own directory");
    let debug = debug.to_str().expect("ASCII");
    succeeds(Command::new("objcopy").args(["--only-keep-debug", stripped.whole(), debug]));
    fs::remove_file(&stripped.whole).expect("our own file");
    let tree = stripped.desk.join("tree").display().to_string();
    let named = stripped.symbolized(&["--debug-dir", &tree], &report);
    let line = |needle: &str| {
        let found = named.lines().find(|line| line.contains(needle));
        found
            .unwrap_or_else(|| panic!("no {needle}: {named}"))
            .to_owned()
    };
    assert!(line("  Instruction: ").contains("(holder+0x"), "{named}");
    assert!(!named.contains("(build-id"), "{named}");
    if cfg!(feature = "lines") {
        assert!(line("#0  ").ends_with("inlined.c:11 (inlined)"), "{named}");
        assert!(line("#1  ").ends_with("inlined.c:16 (inlined)"), "{named}");
        assert!(line("#2  ").ends_with("inlined.c:22"), "{named}");
        let count = named
            .lines()
            .filter(|line| line.starts_with("    #"))
            .count();
        assert!(named.contains(&format!("Stack Trace ({count} frames):")));
    }
}
