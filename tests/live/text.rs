//! The text format, line by line against the samples of the user's manual.

use regex_lite::Regex;

use crate::harness::{crash, Monitor};
use crate::programs::Program;
use crate::skip::need_x86_64;
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        text_basic,
        text_basic_access_violation,
        text_basic_without_symbol,
        text_registers_and_stack,
        text_stack_alone,
        text_registers_alone,
        text_reports_stand_apart,
        text_unknown_address,
        text_general_protection,
        text_long_stack,
    ],
}

const HEADER: &str = r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\] SEGFAULT in process (\S+) \(PID: (\d+), TID: (\d+)\)$";
const MAPERR: &str = r"^  Fault Type:    Address not mapped \(SEGV_MAPERR\)$";
const ACCERR: &str = r"^  Fault Type:    Access violation \(SEGV_ACCERR\)$";

/// One crash of `source`, as text under `options`.
fn text_of(program: &Program, args: &[&str], options: &[&str]) -> String {
    let monitor = Monitor::start([&["-n", &program.name], options].concat());
    crash(program.command().args(args));
    monitor.stop().text().to_owned()
}

fn matches(line: &str, pattern: &str) -> bool {
    Regex::new(pattern)
        .expect("a pattern of this file")
        .is_match(line)
}

/// Panics unless the text begins with lines of these patterns.
fn assert_lines(text: &str, patterns: &[&str]) {
    let lines: Vec<&str> = text.lines().collect();
    for (number, pattern) in patterns.iter().enumerate() {
        let line = lines
            .get(number)
            .unwrap_or_else(|| panic!("line {} is missing in:\n{text}", number + 1));
        assert!(
            matches(line, pattern),
            "line {} {line:?} does not match {pattern}:\n{text}",
            number + 1
        );
    }
}

/// The block that begins with a line matching `title`, its lines until a blank one
/// or one that is indented less.
fn block<'a>(text: &'a str, title: &str) -> (&'a str, Vec<&'a str>) {
    let mut lines = text.lines().skip_while(|line| !matches(line, title));
    let title = lines
        .next()
        .unwrap_or_else(|| panic!("no line matches {title}:\n{text}"));
    (
        title,
        lines.take_while(|line| line.starts_with("    ")).collect(),
    )
}

fn text_basic() {
    let program = Program::new("null_deep.c");
    let monitor = Monitor::start(["-n", &program.name]);
    let pid = crash(&mut program.command()).to_string();
    let outcome = monitor.stop();
    let text = outcome.text();
    assert_lines(
        text,
        &[
            HEADER,
            "^  Fault Address: 0x0000000000000000$",
            r"^  Instruction:   0x[1-9a-f][0-9a-f]* \(level_five\+0x[0-9a-f]+\)$",
            MAPERR,
        ],
    );
    let header = Regex::new(HEADER)
        .expect("a pattern")
        .captures(text.lines().next().expect("checked"))
        .expect("checked");
    assert_eq!(
        (&header[1], &header[2], &header[3]),
        (&*program.name, &*pid, &*pid)
    );
    assert!(
        !text.contains("Registers") && !text.contains("Stack Trace"),
        "only with -r and -t:\n{text}"
    );
    assert_eq!(
        text.matches("SEGFAULT").count(),
        1,
        "one crash, one report:\n{text}"
    );
}

fn text_basic_access_violation() {
    let program = Program::new("access.c");
    let text = text_of(&program, &["readonly"], &[]);
    let instruction = r"^  Instruction:   0x[1-9a-f][0-9a-f]* \(do_readonly\+0x[0-9a-f]+\)$";
    assert_lines(
        &text,
        &[
            HEADER,
            "^  Fault Address: 0x0000[0-9a-f]{9}000$",
            instruction,
            ACCERR,
        ],
    );
}

/// The second report of the manual's first sample: no symbol, nothing invented.
fn text_basic_without_symbol() {
    let program = Program::built("null_deep.c", &["-fPIE", "-pie", "-s"]);
    let text = text_of(&program, &[], &[]);
    let instruction = format!(
        r"^  Instruction:   0x[1-9a-f][0-9a-f]*( \(/\S*/{}\+0x[0-9a-f]+\))?$",
        program.name
    );
    assert_lines(
        &text,
        &[HEADER, "^  Fault Address: 0x0{16}$", &instruction, MAPERR],
    );
}

fn text_registers_and_stack() {
    let program = Program::new("null_deep.c");
    let text = text_of(&program, &[], &["-r", "-t"]);
    let path = regex_lite::escape(program.path());
    let instruction =
        format!(r"^  Instruction:   0x[1-9a-f][0-9a-f]* \(level_five\+0x[0-9a-f]+ \({path}\)\)$");
    assert_lines(
        &text,
        &[
            HEADER,
            "^  Fault Address: 0x0000000000000000$",
            &instruction,
            MAPERR,
        ],
    );
    check_registers(&text);
    check_stack(&text, &path);
    let registers = text.find("  Registers (").expect("checked");
    let stack = text.find("  Stack Trace (").expect("checked");
    assert!(registers < stack, "registers come first:\n{text}");
    let before = text[..stack].lines().next_back().unwrap_or("?");
    assert!(
        before.trim().is_empty(),
        "a blank line before the stack:\n{text}"
    );
}

fn text_registers_alone() {
    let text = text_of(&Program::new("null_deep.c"), &[], &["-r"]);
    check_registers(&text);
    assert!(!text.contains("Stack Trace"), "only with -t:\n{text}");
    assert_lines(&text, &[HEADER, "", r"\(level_five\+0x[0-9a-f]+\)$"]);
}

fn text_stack_alone() {
    let program = Program::new("null_deep.c");
    let text = text_of(&program, &[], &["-t"]);
    check_stack(&text, &regex_lite::escape(program.path()));
    assert!(!text.contains("Registers"), "only with -r:\n{text}");
}

/// RIP and RSP short; the others with 16 digits, two on a line; all of them.
fn check_registers(text: &str) {
    let (title, lines) = block(text, r"^  Registers \(");
    let before = text[..text.find(title).expect("found above")]
        .lines()
        .next_back()
        .unwrap_or("?");
    assert!(
        before.trim().is_empty(),
        "a blank line before the registers:\n{text}"
    );
    if !cfg!(target_arch = "x86_64") {
        assert!(matches(title, r"^  Registers \([a-z0-9_]+\):$"), "{title}");
        return;
    }
    assert_eq!(title, "  Registers (x86_64):");
    let short = r"^    RIP: 0x[1-9a-f][0-9a-f]*    RSP: 0x[1-9a-f][0-9a-f]*$";
    assert!(
        matches(lines[0], short),
        "{:?} does not match {short}:\n{text}",
        lines[0]
    );
    // A blank more after the short names R8 and R9 keeps the columns.
    let pair = r"^    [A-Z0-9_]+: {1,2}0x[0-9a-f]{16}    [A-Z0-9_]+: {1,2}0x[0-9a-f]{16}$";
    let last = r"^    [A-Z0-9_]+: {1,2}0x[0-9a-f]{16}(    [A-Z0-9_]+: {1,2}0x[0-9a-f]{16})?$";
    for (number, line) in lines.iter().enumerate().skip(1) {
        let pattern = if number + 1 == lines.len() {
            last
        } else {
            pair
        };
        assert!(
            matches(line, pattern),
            "{line:?} does not match {pattern}:\n{text}"
        );
    }
    assert!(
        matches(lines[1], "^    RAX: .*    RBX: "),
        "{:?} should be RAX and RBX",
        lines[1]
    );
    assert!(
        matches(lines[2], "^    RCX: .*    RDX: "),
        "{:?} should be RCX and RDX",
        lines[2]
    );
    let all = lines.join("\n");
    for name in [
        "RSI", "RDI", "RBP", "R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15",
    ] {
        assert!(
            all.contains(&format!("    {name}: ")),
            "{name} is missing:\n{text}"
        );
    }
    let rip = Regex::new("RIP: (0x[0-9a-f]+)")
        .expect("a pattern")
        .captures(lines[0])
        .expect("checked")[1]
        .to_owned();
    assert!(
        text.contains(&format!("  Instruction:   {rip} ")),
        "RIP is the instruction:\n{text}"
    );
}

fn check_stack(text: &str, path: &str) {
    let (title, lines) = block(text, r"^  Stack Trace \(");
    let count = Regex::new(r"^  Stack Trace \((\d+) frames?\):$").expect("a pattern");
    let count: usize = count.captures(title).unwrap_or_else(|| panic!("{title:?}"))[1]
        .parse()
        .expect("digits");
    let frames: Vec<&&str> = lines
        .iter()
        .filter(|line| line.starts_with("    #"))
        .collect();
    assert_eq!(frames.len(), count, "the title counts the frames:\n{text}");
    let functions = [
        "level_five",
        "level_four",
        "level_three",
        "level_two",
        "level_one",
        "main",
    ];
    let promised = if cfg!(feature = "dwarf") {
        functions.len()
    } else {
        1
    };
    for (number, function) in functions.iter().enumerate().take(promised) {
        let pattern =
            format!(r"^    #{number}  0x[1-9a-f][0-9a-f]* {function}\+0x[0-9a-f]+ \({path}\)$");
        assert!(
            matches(frames[number], &pattern),
            "{:?} does not match {pattern}:\n{text}",
            frames[number]
        );
    }
    let frame = r"^    #\d+ {1,2}0x[0-9a-f]+( \S.*)?$";
    for line in frames {
        assert!(
            matches(line, frame),
            "{line:?} does not match {frame}:\n{text}"
        );
    }
}

/// Between two reports stands one blank line, as in the manual's first sample.
fn text_reports_stand_apart() {
    let program = Program::new("quick.c");
    let monitor = Monitor::start(["-n", &program.name]);
    crash(&mut program.command());
    crash(&mut program.command());
    let outcome = monitor.stop();
    let lines: Vec<&str> = outcome.text().lines().collect();
    let headers: Vec<usize> = (0..lines.len())
        .filter(|&at| matches(lines[at], HEADER))
        .collect();
    assert_eq!(headers.len(), 2, "two reports:\n{}", outcome.text());
    assert_eq!(
        headers[0],
        0,
        "nothing before the first:\n{}",
        outcome.text()
    );
    assert_eq!(
        lines[headers[1] - 1],
        "",
        "a blank line before the second:\n{}",
        outcome.text()
    );
    assert_ne!(
        lines[headers[1] - 2].trim(),
        "",
        "but only one:\n{}",
        outcome.text()
    );
}

fn text_unknown_address() {
    let text = text_of(&Program::new("kill_self.c"), &[], &[]);
    let kind = r"^  Fault Type:    \S.* \(SI_USER\)$";
    assert_lines(
        &text,
        &[
            HEADER,
            "^  Fault Address: unknown$",
            r"^  Instruction:   0x[0-9a-f]+ \(\S*kill\+0x",
            kind,
        ],
    );
}

fn text_general_protection() {
    need_x86_64();
    let text = text_of(&Program::new("access.c"), &["noncanonical"], &[]);
    // The kernel gives no address; the instruction and its registers may.
    let address = "^  Fault Address: 0x4141414141414141$";
    let kind = r"^  Fault Type:    .*, address derived from the instruction \(SI_KERNEL\)$";
    assert_lines(
        &text,
        &[
            HEADER,
            address,
            r"^  Instruction:   0x[0-9a-f]+ \(do_noncanonical\+0x",
            kind,
        ],
    );
}

/// Addresses stay in one column when the numbers get a second digit.
fn text_long_stack() {
    let text = text_of(&Program::new("deep.c"), &["30"], &["-t"]);
    let (title, lines) = block(&text, r"^  Stack Trace \(");
    if cfg!(feature = "dwarf") {
        assert_eq!(
            title, "  Stack Trace (16 frames):",
            "16 is the default depth:\n{text}"
        );
        assert!(
            matches(lines[9], r"^    #9  0x[0-9a-f]+ descend\+0x"),
            "{:?}",
            lines[9]
        );
        assert!(
            matches(lines[15], r"^    #15 {1,2}0x[0-9a-f]+ descend\+0x"),
            "{:?}",
            lines[15]
        );
    }
}
