//! The JSON format: one object a line, the keys and their order, what the values
//! look like and what stands for the unknown.

use regex_lite::Regex;

use crate::chains::DEEP;
use crate::harness::{crash, Monitor};
use crate::programs::Program;
use crate::report::{only, parse_hex, Report};
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        json_is_one_object_a_line,
        json_keys_in_order,
        json_manual_fields,
        json_registers,
        json_frames,
        json_without_options_has_no_details,
        json_is_ascii,
    ],
}

/// The keys of the manual, in the order of its sample.
const MANUAL: &[&str] = &[
    "timestamp",
    "pid",
    "tid",
    "comm",
    "fault_address",
    "instruction_pointer",
    "instruction_symbol",
    "fault_type",
    "registers",
    "stack_trace",
];

/// The keys that follow, in the order of the format's table.
const OURS: &[&str] = &[
    "host_pid",
    "thread",
    "stack_complete",
    "stack_end",
    "instruction_place",
    "signal",
    "signal_code",
    "access",
    "disposition",
    "first_fault",
    "same_death",
    "sender",
    "uptime_ms",
    "ppid",
    "uid",
    "exe",
    "cmdline",
    "ns_pid",
    "cgroup",
    "cause",
    "cause_text",
    "signature",
    "group",
    "register_notes",
    "code",
    "repeats",
    "deaths",
    "suppressed",
    "since",
    "lost",
    "time",
    "argv",
    "host",
    "boot_id",
    "kernel",
    "machine",
    "version",
];

/// The one report of a crash of `program` with `args`, under `options`.
pub fn report_of(program: &Program, args: &[&str], options: &[&str]) -> Report {
    let monitor = Monitor::start([&["-n", &program.name, "--format", "json"], options].concat());
    crash(program.command().args(args));
    only(monitor.stop().reports())
}

fn json_is_one_object_a_line() {
    let program = Program::new("null_deep.c");
    let monitor = Monitor::start([
        "-n",
        &program.name,
        "--format",
        "json",
        "-r",
        "-t",
        "-v",
        "--stats",
    ]);
    for _ in 0..3 {
        crash(&mut program.command());
    }
    // Messages and statistics go to stderr: `reports` parses every line of stdout.
    let outcome = monitor.stop();
    assert_eq!(outcome.reports().len(), 3);
    assert!(outcome
        .text()
        .lines()
        .all(|line| line.starts_with('{') && line.ends_with('}')));
}

fn json_keys_in_order() {
    let report = report_of(&Program::new("null_deep.c"), &[], &["-r", "-t"]);
    let keys = report.keys();
    assert_eq!(
        keys.get(..MANUAL.len()),
        Some(MANUAL),
        "the manual's keys come first: {}",
        report.line
    );
    let ours: Vec<&str> = keys[MANUAL.len()..]
        .iter()
        .copied()
        .filter(|key| OURS.contains(key))
        .collect();
    let expected: Vec<&str> = OURS
        .iter()
        .copied()
        .filter(|key| ours.contains(key))
        .collect();
    assert_eq!(ours, expected, "then ours: {}", report.line);
    let mut unique = keys.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), keys.len(), "no key twice: {}", report.line);
    for key in [
        "thread",
        "stack_complete",
        "signal",
        "signal_code",
        "access",
        "disposition",
        "uptime_ms",
        "ppid",
        "uid",
        "exe",
        "cmdline",
    ] {
        assert!(
            !report[key].is_null(),
            "{key} is known here: {}",
            report.line
        );
    }
}

fn json_manual_fields() {
    let program = Program::new("null_deep.c");
    let monitor = Monitor::start(["-n", &program.name, "--format", "json", "-t"]);
    let pid = crash(&mut program.command());
    let report = only(monitor.stop().reports());
    assert_eq!(report["pid"], pid);
    assert_eq!(report["tid"], pid);
    assert_eq!(report["comm"], *program.name);
    assert_eq!(report["fault_address"], "0x0000000000000000");
    assert_eq!(report["fault_type"], "map_error");
    let pointer = Regex::new("^0x[1-9a-f][0-9a-f]*$").expect("a pattern");
    assert!(
        pointer.is_match(report.str("instruction_pointer")),
        "short, lower case: {}",
        report.line
    );
    let symbol = format!(
        r"^level_five\+0x[0-9a-f]+ \({}\)$",
        regex_lite::escape(program.path())
    );
    let symbol = Regex::new(&symbol).expect("a pattern");
    assert!(
        symbol.is_match(report.str("instruction_symbol")),
        "{}",
        report.line
    );
    assert_eq!(report.frames()[0]["address"], report["instruction_pointer"]);
    assert_eq!(report.frames()[0]["symbol"], report["instruction_symbol"]);
}

fn json_registers() {
    let report = report_of(&Program::new("null_deep.c"), &[], &["-r"]);
    let registers = report["registers"]
        .as_object()
        .unwrap_or_else(|| panic!("no registers: {}", report.line));
    let value = Regex::new("^0x[0-9a-f]{16}$").expect("a pattern");
    for (name, text) in registers {
        assert_eq!(*name, name.to_lowercase(), "register names are lower case");
        assert!(
            value.is_match(text.as_str().unwrap_or("")),
            "{name}: {text}"
        );
    }
    let wanted: &[&str] = if cfg!(target_arch = "x86_64") {
        &[
            "rip", "rsp", "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10",
            "r11", "r12", "r13", "r14", "r15",
        ]
    } else {
        &["pc", "sp", "x0", "x29", "x30"]
    };
    for name in wanted {
        assert!(
            registers.contains_key(*name),
            "{name} is missing: {}",
            report.line
        );
    }
    assert_eq!(
        parse_hex(&registers[wanted[0]]),
        Some(report.hex("instruction_pointer"))
    );
    assert_ne!(parse_hex(&registers[wanted[1]]), Some(0), "a stack pointer");
    assert!(
        report["stack_trace"].is_null(),
        "only with -t: {}",
        report.line
    );
}

fn json_frames() {
    let program = Program::built("null_deep.c", &["-fPIE", "-pie", "-Wl,--build-id=sha1"]);
    let report = report_of(&program, &[], &["-t"]);
    report.assert_chain(DEEP);
    let build_id = Regex::new("^[0-9a-f]{40}$").expect("a pattern");
    // A scan has three grades; see the unwinder.
    let trusts = [
        "context",
        "cfi",
        "signal",
        "leaf",
        "frame_pointer",
        "scan_direct",
        "scan_cfi",
        "scan",
    ];
    for (number, frame) in report.frames().iter().enumerate() {
        assert!(parse_hex(&frame["address"]).is_some(), "{frame}");
        assert!(
            frame["module"]
                .as_str()
                .is_some_and(|module| module.starts_with('/')),
            "{frame}"
        );
        assert!(parse_hex(&frame["module_offset"]).is_some(), "{frame}");
        let trust = frame["trust"].as_str().unwrap_or("");
        assert!(trusts.contains(&trust), "{frame}");
        assert_eq!(
            trust == "context",
            number == 0,
            "only the innermost frame comes from registers: {frame}"
        );
        assert!(
            frame["build_id"].is_null()
                || build_id.is_match(frame["build_id"].as_str().unwrap_or("")),
            "{frame}"
        );
    }
    let first = &report.frames()[0];
    assert_eq!(first["module"], program.path());
    assert!(
        !first["build_id"].is_null(),
        "it was linked with one: {first}"
    );
    // A position-independent program: its offsets are what `nm` prints, far below
    // the address where it was loaded.
    let (address, offset) = (
        parse_hex(&first["address"]),
        parse_hex(&first["module_offset"]),
    );
    assert!(
        offset < Some(0x10_0000) && address > Some(0x10_0000),
        "{first}"
    );
    assert_eq!(
        address.map(|a| a & 0xfff),
        offset.map(|o| o & 0xfff),
        "loaded by pages: {first}"
    );
}

fn json_without_options_has_no_details() {
    let report = report_of(&Program::new("null_deep.c"), &[], &[]);
    assert!(
        report["registers"].is_null() && report["stack_trace"].is_null(),
        "{}",
        report.line
    );
    assert!(
        report
            .str("instruction_symbol")
            .starts_with("level_five+0x"),
        "{}",
        report.line
    );
}

/// Also where it need not be: the alert script's `read` eats every backslash.
fn json_is_ascii() {
    let program = Program::new("quick.c");
    let report = report_of(
        &program,
        &["\u{e9}\u{2192}", "a\"b\\c", "\n\t\u{1b}[31m"],
        &["-r", "-t"],
    );
    assert!(
        report.line.bytes().all(|byte| (0x20..0x7f).contains(&byte)),
        "{}",
        report.line
    );
    let escape = Regex::new(r"^u[0-9a-f]{4}").expect("a pattern");
    let mut rest = report.line.as_str();
    while let Some(at) = rest.find('\\') {
        assert!(
            escape.is_match(&rest[at + 1..]),
            "only \\u00XX: {}",
            report.line
        );
        rest = &rest[at + 1..];
    }
    let cmdline = format!("{} \u{e9}\u{2192} a\"b\\c \n\t\u{1b}[31m", program.path());
    assert_eq!(
        report["cmdline"], cmdline,
        "parsing gives the arguments back"
    );
}
