//! Why it crashed, of real crashes: the token, and a sentence whose numbers are
//! those of the registers and the mappings.

use regex_lite::Regex;

use crate::harness::{crash, Monitor};
use crate::json::report_of;
use crate::programs::{Program, PIE};
use crate::report::{parse_hex, Report};
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        causes_of_the_classics,
        causes_of_each_access,
        causes_of_signals_that_nothing_raised,
        causes_are_the_same_whatever_is_shown,
        causes_behind_handlers,
        causes_of_a_stack_that_is_full,
        causes_in_text,
        causes_and_notes_on_registers,
        causes_and_code,
    ],
}

pub const X86: bool = cfg!(target_arch = "x86_64");

/// Panics unless the report has this cause, and a sentence like this.
#[track_caller]
pub fn assert_cause(report: &Report, cause: &str, text: &str) {
    assert_eq!(report["cause"], cause, "{}", report.line);
    let pattern = Regex::new(text).expect("a pattern of this file");
    assert!(
        pattern.is_match(report.str("cause_text")),
        "{:?} does not match {text}: {}",
        report.str("cause_text"),
        report.line
    );
}

/// Panics unless each `REGISTER (0x...)` of the sentence is that register's value.
pub fn assert_registers_are_true(report: &Report) {
    let named = Regex::new(r"\b([A-Z][A-Z0-9]+) \((0x[0-9a-f]+)\)").expect("a pattern");
    for found in named.captures_iter(report.str("cause_text")) {
        let name = found[1].to_lowercase();
        let said = u64::from_str_radix(&found[2][2..], 16).ok();
        let is = parse_hex(&report["registers"][&name]);
        assert_eq!(said, is, "{name}: {}", report.line);
    }
}

/// Address of the fault, then of the first `0x` number behind some words.
pub fn number_after(report: &Report, words: &str) -> u64 {
    let pattern = format!("{words}(0x[0-9a-f]+)");
    let pattern = Regex::new(&pattern).expect("a pattern of this file");
    let text = report.str("cause_text");
    let found = pattern
        .captures(text)
        .unwrap_or_else(|| panic!("{words:?} is not in {text:?}"));
    u64::from_str_radix(&found[1][2..], 16).expect("digits")
}

/// Kind, cause, and the sentence.
const CLASSICS: &[(&str, &str, &str)] = &[
    (
        "munmap",
        "unmapped",
        r"^read of 4 bytes at 0x[0-9a-f]+10: .* is \d+ bytes (before|past the end of) ",
    ),
    (
        "past",
        "unmapped",
        r"^write of 1 byte at 0x[0-9a-f]+000: .* is the first byte past the end of \[anon\] \(rw-\)$",
    ),
    (
        "before",
        "unmapped",
        r"^read of 1 byte at 0x[0-9a-f]+fff: .* is 1 byte before \[anon\] \(rw-\)$",
    ),
    (
        "guard",
        "access_protected",
        r"^write of 1 byte at .* is in \[anon\] \(---\), which forbids every access: ",
    ),
    (
        "marked",
        "access_protected",
        r"^write of 1 byte at .* is in \[anon\] \((---\), which nobody|rw-\), probably in a guard)",
    ),
    (
        "thread",
        "stack_overflow",
        r"^stack overflow: write of \d+ bytes? at .* the stack pointer .* has 256 KB; dig calls itself$",
    ),
    (
        "frame",
        "stack_overflow",
        r"^stack overflow: write of \d+ bytes? at .* more than 63 MB below \[stack\] \(rw-\) of \d+ KB$",
    ),
    (
        "threadframe",
        "stack_overflow",
        r"^probably stack overflow: write of \d+ bytes? at .* more than 3 MB below \[anon\] \(---\)$",
    ),
    ("freed", "unmapped", r"^read of 8 bytes at 0x[0-9a-f]+: "),
    (
        "poison",
        "non_canonical",
        r"^read of 8 bytes at 0xa5.*, which is not a canonical address: .* looks like the fill pattern 0xa5 ",
    ),
    (
        "strcpy",
        "write_protected",
        r"^write of \d+ bytes? at .* the address is in /.* \(r--\) at file offset 0x[0-9a-f]+, which is not writable$",
    ),
    (
        "jump",
        "wild_jump",
        r#"^jump to 0x4040404040404040, which is not a canonical address.*; it looks like the text "@@@@@@@@"$"#,
    ),
    (
        "overwritten",
        "wild_jump",
        r#"^jump to 0x4444444444444444, which is not a canonical address.*; it looks like the text "DDDDDDDD"$"#,
    ),
    (
        "run",
        "wild_jump",
        r"^the program reached 0x[0-9a-f]+000, .* is the first byte past the end of \[anon\] \(r-x\)$",
    ),
];

fn causes_of_the_classics() {
    let program = Program::new("classics.c");
    for (kind, cause, text) in CLASSICS {
        let report = report_of(&program, &[kind], &["-r", "-t"]);
        assert_cause(&report, cause, text);
        assert_registers_are_true(&report);
        if !report["fault_address"].is_null() && *cause != "wild_jump" {
            let address = number_after(&report, "at ");
            assert_eq!(address, report.hex("fault_address"), "{}", report.line);
        }
    }
    if X86 {
        let report = report_of(&program, &["aligned"], &["-r", "-t"]);
        assert_cause(
            &report,
            "misaligned",
            "^write of 16 bytes at 0x[0-9a-f]+8, which is not a multiple of 16",
        );
        assert_eq!(report["access"], "write", "{}", report.line);
        assert_eq!(number_after(&report, "at "), report.hex("fault_address"));
    }
}

fn causes_of_each_access() {
    let program = Program::new("access.c");
    let table = [
        (
            "read",
            "null_dereference",
            r"^read of 4 bytes at 0x8: [A-Z0-9]+ \(0x8\), probably an offset from a null pointer$",
        ),
        (
            "write",
            "null_dereference",
            r"^write of 4 bytes at 0x18: [A-Z0-9]+ \(0x18\), probably an offset from a null pointer$",
        ),
        (
            "readonly",
            "write_protected",
            r"^write of 4 bytes at 0x[0-9a-f]+000: .* in \[anon\] \(r--\), which is not writable$",
        ),
        (
            "execute",
            "execute_protected",
            r"^jump to 0x[0-9a-f]+000, which is in \[anon\] \(rw-\) and is not executable$",
        ),
        (
            "null_call",
            "null_call",
            "^jump to 0x0: probably through a null function pointer$",
        ),
        (
            "noncanonical",
            "non_canonical",
            r#"^read of 4 bytes at 0x(41)+, which is not a canonical address: .* looks like the text "AAAAAAAA"$"#,
        ),
    ];
    for (kind, cause, text) in table {
        let report = report_of(&program, &[kind], &["-r"]);
        assert_cause(&report, cause, text);
        assert_registers_are_true(&report);
    }
    // The kernel says nothing of the address nor of the access.
    if X86 {
        let report = report_of(&program, &["noncanonical"], &[]);
        assert_eq!(report["fault_address"], "0x4141414141414141");
        assert_eq!(report["access"], "read", "{}", report.line);
    }
}

fn causes_of_signals_that_nothing_raised() {
    let program = Program::new("forged.c");
    let made = "^no fault: the process made this signal itself; it has a kernel's code, but no trap matches it";
    let table = [
        (
            "raise",
            "^no fault: sent by the process itself, with tkill or raise$",
        ),
        ("kill", "^no fault: sent by the process itself, with kill$"),
        (
            "queue",
            "^no fault: sent by the process itself, with sigqueue$",
        ),
        ("fault", made),
        ("kernel", made),
        ("thread", made),
    ];
    for (kind, text) in table {
        let report = report_of(&program, &[kind], &["-t"]);
        assert_cause(&report, "sent", text);
        assert!(report["access"].is_null(), "{}", report.line);
    }
}

/// Options show more of the evidence; they do not change the verdict.
fn causes_are_the_same_whatever_is_shown() {
    let program = Program::new("classics.c");
    for (kind, cause, _) in CLASSICS {
        for options in [&[][..], &["-r"], &["-t"], &["-t", "--max-stack-depth", "1"]] {
            let report = report_of(&program, &[kind], options);
            assert_eq!(
                report["cause"], *cause,
                "{kind} {options:?}: {}",
                report.line
            );
        }
    }
}

/// The last report of a program that handles its first fault.
fn last_of(source: &str, args: &[&str], options: &[&str]) -> Report {
    let program = Program::built(source, PIE);
    let monitor = Monitor::start([&["-n", &program.name, "--format", "json"], options].concat());
    crash(program.command().args(args));
    monitor.stop().reports().pop().expect("a report")
}

/// The cause of the second delivery is the first one's.
fn causes_behind_handlers() {
    for options in [&[][..], &["-t"], &["-r", "-t"]] {
        let report = last_of("reraise.c", &[], options);
        assert_eq!(report["signal_code"], "SI_TKILL", "{}", report.line);
        assert_cause(
            &report,
            "null_dereference",
            "^write of 4 bytes at 0x20: .*; a handler of the program took this fault first$",
        );
        for kind in ["handler", "altstack"] {
            let report = last_of("overflow.c", &[kind], options);
            assert_cause(
                &report,
                "stack_overflow",
                "; (the signal's handler could not be run|a handler of the program took this fault first)$",
            );
        }
    }
    // What a thread got over long ago is not why another kills it.
    let report = last_of("recovered.c", &["killed"], &["-t"]);
    assert_eq!(report["cause"], "sent", "{}", report.line);
}

fn causes_of_a_stack_that_is_full() {
    let report = report_of(&Program::new("overflow.c"), &["plain"], &["-r", "-t"]);
    let stack = r"^stack overflow: write of \d+ bytes? at 0x[0-9a-f]+, (\d+ bytes? (above|below)|at) the stack pointer 0x";
    assert_cause(&report, "stack_overflow", stack);
    let text = report.str("cause_text");
    if cfg!(feature = "dwarf") {
        assert!(text.ends_with("; recurse calls itself"), "{text}");
    }
    let sp = if X86 { "rsp" } else { "sp" };
    let sp = parse_hex(&report["registers"][sp]).expect("a stack pointer");
    assert_eq!(number_after(&report, "the stack pointer "), sp, "{text}");
    let distance = Regex::new(r", (\d+) bytes? (above|below) the stack").expect("a pattern");
    // Without the two words it is at the stack pointer.
    let said = distance
        .captures(text)
        .map_or(0, |found| found[1].parse::<u64>().expect("digits"));
    assert_eq!(report.hex("fault_address").abs_diff(sp), said, "{text}");
}

fn causes_in_text() {
    let program = Program::new("access.c");
    let monitor = Monitor::start(["-n", &program.name]);
    crash(program.command().arg("write"));
    let outcome = monitor.stop();
    let lines: Vec<&str> = outcome.text().lines().collect();
    assert_eq!(lines[4], "  Access:        write");
    let cause = Regex::new(r"^  Cause:         write of 4 bytes at 0x18: .* \(null_dereference\)$")
        .expect("a pattern");
    assert!(cause.is_match(lines[5]), "{lines:#?}");
}

fn causes_and_notes_on_registers() {
    let program = Program::new("null_deep.c");
    let report = report_of(&program, &[], &["-r"]);
    let notes = report["register_notes"].as_object().expect("notes");
    let (pc, sp) = if X86 { ("rip", "rsp") } else { ("pc", "sp") };
    assert_eq!(
        notes[pc], report["instruction_symbol"],
        "what the pc is in: {}",
        report.line
    );
    let stack = notes[sp].as_str().expect("a note");
    assert!(stack.starts_with("[stack]+0x"), "{stack}");
    for (name, note) in notes {
        let value = parse_hex(&report["registers"][name]).expect("a register");
        assert_eq!(value == 0, note == "null", "{name}: {}", report.line);
    }
    let report = report_of(&program, &[], &[]);
    assert!(report["register_notes"].is_null() && report["code"].is_null());
}

/// The bytes are those of the file, and the faulting instruction is marked.
fn causes_and_code() {
    let program = Program::new("access.c");
    let report = report_of(&program, &["write"], &["-r"]);
    let code = &report["code"];
    let bytes = code["bytes"].as_str().expect("bytes");
    let into = code["instruction"].as_u64().expect("a number");
    let address = parse_hex(&code["address"]).expect("an address");
    assert_eq!(address + into, report.hex("instruction_pointer"));
    assert!(bytes.len() as u64 > 2 * into, "{}", report.line);
    // What was to be executed and is data has none, whatever its bytes would mean.
    let fetched = report_of(&Program::new("access.c"), &["execute"], &["-r"]);
    assert_eq!(fetched["access"], "execute", "{}", fetched.line);
    assert!(fetched["code"]["operands"].is_null(), "{}", fetched.line);
    let operands = code["operands"].as_str().expect("operands");
    assert!(
        operands.starts_with("write of 4 bytes at 0x18: "),
        "{operands}"
    );
    let binary = std::fs::read(&program.path).expect("our own program");
    let bytes: Vec<u8> = (0..bytes.len() / 2)
        .map(|at| u8::from_str_radix(&bytes[2 * at..2 * at + 2], 16).expect("digits"))
        .collect();
    assert!(
        binary.windows(bytes.len()).any(|window| window == bytes),
        "not in the file: {}",
        report.line
    );

    let monitor = Monitor::start(["-n", &program.name, "-r"]);
    crash(program.command().arg("write"));
    let outcome = monitor.stop();
    let marked = Regex::new(
        r"(?m)^  Code:          0x[0-9a-f]+:( [0-9a-f]{2})* <[0-9a-f]{2}>( [0-9a-f]{2})*$",
    );
    assert!(
        marked.expect("a pattern").is_match(outcome.text()),
        "{}",
        outcome.text()
    );
}
