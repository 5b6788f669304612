//! Calls that tail calls replaced, by a desk build: those that gdb shows of the same core, for
//! programs of gcc and clang; and the known ones of a program for the other architecture.
#![cfg(feature = "desk")]

#[path = "host/mod.rs"]
mod host;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Each argument is a way to the crash. `one` and `two` have one way, `three` has two, and
/// `pointer` goes through a pointer. `deep` has tail calls on two levels.
const SOURCE: &str = r#"
#include <string.h>
#define KEEP __attribute__((noinline, noclone))
volatile int *volatile nowhere;
volatile int which;
KEEP static int die(int x) { return *nowhere + x; }
KEEP static int die_too(int x) { return *nowhere - x; }
KEEP static int one(int x) { which = 1; return die(x + 1); }
KEEP static int two(int x) { which = 2; return one(x + 2); }
KEEP static int left(int x) { which = 3; return die(x + 3); }
KEEP static int right(int x) { which = 4; return die(x + 4); }
KEEP static int three(int x) { if (x > 1) return left(x * 3); return right(x * 5); }
KEEP static int same(int x) { if (x > 1) { which = 5; return die_too(x * 3); } which = 6; return die_too(x * 5); }
KEEP static int direct(int x) { int y = die(x) + 1; which = y; return y; }
typedef int (*step)(int);
volatile step jump = die;
KEEP static int pointer(int x) { which = 7; return jump(x + 5); }
KEEP static int middle(int x) { int y = two(x) * 3; which = y; return y + 1; }
KEEP static int deep(int x) { which = 8; return middle(x + 7); }
__attribute__((always_inline)) static inline int within(int x) { which = 9; return die(x ^ 9); }
KEEP static int inlined(int x) { which = 10; return within(x + 1); }
KEEP int external(int x);
KEEP static int outside(int x) { which = 11; return external(x + 1); }
int main(int argc, char **argv) {
    static const struct { const char *name; step start; } ways[] = { { 0, 0 } };
    const char *way = argc > 1 ? argv[1] : "";
    int x = 0;
    if (!strcmp(way, "one")) x = one(argc) + 1;
    if (!strcmp(way, "two")) x = two(argc) + 2;
    if (!strcmp(way, "three")) x = three(argc) + 3;
    if (!strcmp(way, "same")) x = same(argc) + 4;
    if (!strcmp(way, "direct")) x = direct(argc) + 5;
    if (!strcmp(way, "pointer")) x = pointer(argc) + 6;
    if (!strcmp(way, "deep")) x = deep(argc) + 7;
    if (!strcmp(way, "inlined")) x = inlined(argc) + 8;
    if (!strcmp(way, "outside")) x = outside(argc) + 9;
    (void)ways;
    which = x;
    return x & 1;
}
"#;

/// Another unit, whose functions are known by their names alone.
const OTHER: &str = r#"
extern volatile int *volatile nowhere;
extern volatile int which;
__attribute__((noinline)) int last(int x) { return *nowhere + x; }
__attribute__((noinline)) int external(int x) { which = 12; return last(x + 1); }
"#;

/// Each way, and the calls that are shown of it.
const WAYS: &[(&str, &[&str])] = &[
    ("one", &["die", "one", "main"]),
    ("two", &["die", "one", "two", "main"]),
    ("three", &["die", "main"]),
    ("same", &["die_too", "main"]),
    ("direct", &["die", "direct", "main"]),
    ("pointer", &["die", "main"]),
    ("deep", &["die", "one", "two", "middle", "deep", "main"]),
    ("inlined", &["die", "within", "inlined", "main"]),
    ("outside", &["last", "external", "outside", "main"]),
];

/// A directory of one test's own, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tail-{name}"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a directory below target/");
        Scratch(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn symbolize(program: &str, reports: &str) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_segfault_analyzer"))
        .args(["symbolize", "--file", program])
        .env_remove("HOME")
        .env_remove("DEBUGINFOD_URLS")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("our own binary");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(reports.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("our own child");
    String::from_utf8(output.stdout).expect("text")
}

/// A call: its function, and the line that it is on.
type Call = (String, Option<u64>);

/// The calls up to `main`, and how many tail calls are among them.
fn ours(report: &str) -> (Vec<Call>, usize) {
    let report: serde_json::Value = serde_json::from_str(report).expect("JSON");
    let (mut calls, mut tail_calls) = (Vec::new(), 0);
    for frame in report["stack_trace"].as_array().expect("a stack") {
        let symbol = frame["symbol"].as_str().unwrap_or("");
        let name = symbol.split("+0x").next().unwrap_or("").to_owned();
        tail_calls += usize::from(frame["tail_call"] == true);
        let is_main = name == "main";
        calls.push((name, frame["line"].as_u64()));
        if is_main {
            break;
        }
    }
    (calls, tail_calls)
}

/// `#1  0x000055 in one (x=2) at main.c:11`
fn gdbs(text: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    for line in text.lines().filter(|line| line.starts_with('#')) {
        let rest = line.split_once(" in ").map_or_else(
            || {
                line.split_whitespace()
                    .skip(1)
                    .collect::<Vec<_>>()
                    .join(" ")
            },
            |(_, rest)| rest.to_owned(),
        );
        let name = rest.split(' ').next().unwrap_or("").to_owned();
        let number = line
            .rsplit_once(':')
            .and_then(|(_, digits)| digits.parse().ok());
        let is_main = name == "main";
        calls.push((name, number));
        if is_main {
            break;
        }
    }
    calls
}

fn sources(scratch: &Scratch) -> [String; 2] {
    let paths = [scratch.path("main.c"), scratch.path("other.c")];
    fs::write(&paths[0], SOURCE).expect("our own file");
    fs::write(&paths[1], OTHER).expect("our own file");
    paths
}

#[test]
#[cfg(target_arch = "x86_64")]
fn tail_calls_are_those_that_gdb_shows() {
    if !["gdb", "gcc", "clang-19"].into_iter().all(host::has) {
        return;
    }
    let scratch = Scratch::new("gdb");
    let [main, other] = sources(&scratch);
    for (number, (compiler, flags)) in [
        ("gcc", &["-O2", "-gdwarf-5"][..]),
        ("gcc", &["-O2", "-gdwarf-4"]),
        ("gcc", &["-O2", "-g", "-flto"]),
        ("clang-19", &["-O2", "-g"]),
    ]
    .into_iter()
    .enumerate()
    {
        let program = scratch.path(&format!("prog{number}"));
        let link = ["-Wl,--build-id", "-o", &program, &main, &other];
        output(compiler, &[flags, &link].concat());
        for (way, expected) in WAYS {
            let core = scratch.path(&format!("core.{number}.{way}"));
            let save = format!("generate-core-file {core}");
            let gdb = [
                "-nx",
                "-batch",
                "-ex",
                "set debuginfod enabled off",
                "-ex",
                "run",
                "-ex",
                "bt",
                "-ex",
                &save,
                "--args",
                &program,
                way,
            ];
            let text = output("gdb", &gdb);
            let theirs = gdbs(&text);
            if theirs.is_empty() || !Path::new(&core).exists() {
                host::skip(format_args!("gdb cannot run programs here: {text}"));
                return;
            }
            let binary = env!("CARGO_BIN_EXE_segfault_analyzer");
            let report = output(binary, &["core", "--json", &core]);
            let named = symbolize(&program, &report);
            let (mine, count) = ours(&named);
            println!("{compiler} {flags:?} {way}: {mine:?} ({count})\n   {theirs:?}");
            let names: Vec<&str> = mine.iter().map(|(name, _)| &**name).collect();
            // Of the two tail calls clang makes one.
            let expected = match (compiler, *way) {
                ("clang-19", "same") => &["die_too", "same", "main"][..],
                _ => expected,
            };
            assert_eq!(names, expected, "{compiler} {flags:?} {way}");
            // gdb does not show tail calls as clang describes them, and of a tail call in an
            // inlined function it leaves out the one around that.
            if compiler == "gcc" && *way != "inlined" {
                assert_eq!(mine, theirs, "{compiler} {flags:?} {way}");
            }
            // Once more it is the same.
            assert_eq!(symbolize(&program, &named), named);
        }
    }
}

/// With the chain of calls as the source has it, because nothing here runs the program.
#[test]
fn tail_calls_of_another_architecture() {
    let tools = [
        "clang-19",
        "llvm-objdump-19",
        "llvm-readelf-19",
        "ld.lld-19",
    ];
    if !tools.into_iter().all(host::has) {
        return;
    }
    let scratch = Scratch::new("aarch64");
    let [main, other] = sources(&scratch);
    let freestanding = fs::read_to_string(&main).expect("our own file");
    let freestanding = freestanding.replace(
        "#include <string.h>",
        "int strcmp(const char *, const char *);",
    );
    fs::write(&main, freestanding).expect("our own file");
    let program = scratch.path("prog");
    let mut objects = Vec::new();
    for source in [&main, &other] {
        let object = format!("{source}.o");
        let flags = [
            "--target=aarch64-linux-gnu",
            "-O2",
            "-g",
            "-fno-builtin",
            "-c",
            source,
            "-o",
            &object,
        ];
        output("clang-19", &flags);
        objects.push(object);
    }
    let link = [
        "-static",
        "--build-id",
        "--entry=main",
        "--defsym=strcmp=0",
        "-o",
        &program,
    ];
    let objects: Vec<&str> = objects.iter().map(String::as_str).collect();
    output("ld.lld-19", &[&link[..], &objects].concat());
    let notes = output("llvm-readelf-19", &["-n", &program]);
    let build_id = notes.split("Build ID: ").nth(1).expect("--build-id");
    let build_id = build_id.split_whitespace().next().expect("digits");
    let listing = output("llvm-objdump-19", &["-d", "--no-show-raw-insn", &program]);
    // Where a function begins, and where each call of it returns to.
    let start = |name: &str| {
        let line = listing
            .lines()
            .find(|line| line.ends_with(&format!(" <{name}>:")));
        let digits = line
            .and_then(|line| line.split(' ').next())
            .expect("a function");
        u64::from_str_radix(digits, 16).expect("an address")
    };
    let returns = |name: &str| {
        let call = format!("<{name}>");
        let mut lines = listing
            .lines()
            .filter(|line| line.contains("\tbl\t") && line.ends_with(&call));
        let line = lines.next().unwrap_or_else(|| panic!("no call of {name}"));
        let digits = line.trim_start().split(':').next().expect("an address");
        u64::from_str_radix(digits, 16).expect("an address") + 4
    };
    for (callee, called, expected) in [
        ("die", "one", &["die", "one", "main"][..]),
        ("die", "two", &["die", "one", "two", "main"]),
        ("die", "three", &["die", "main"]),
        ("die_too", "same", &["die_too", "same", "main"]),
        ("die", "pointer", &["die", "main"]),
        ("die", "direct", &["die", "main"]),
        ("middle", "deep", &["middle", "deep", "main"]),
        ("die", "inlined", &["die", "within", "inlined", "main"]),
        ("last", "outside", &["last", "external", "outside", "main"]),
        // What nobody calls has no way.
        ("main", "one", &["main", "main"]),
    ] {
        let frame = |at: u64, trust: &str| {
            format!(
                "{{\"address\":\"{at:#x}\",\"symbol\":null,\"module\":\"/srv/app\",\"module_offset\":\"{at:#x}\",\
                 \"build_id\":\"{build_id}\",\"trust\":\"{trust}\",\"file\":null,\"line\":null,\"inlined\":false}}"
            )
        };
        for (trust, is_certain) in [("cfi", true), ("leaf", true), ("scan", false)] {
            let frames = [
                frame(start(callee) + 4, "context"),
                frame(returns(called), trust),
            ]
            .join(",");
            let report = format!(
                "{{\"timestamp\":1,\"pid\":2,\"instruction_symbol\":null,\"fault_type\":\"map_error\",\
                 \"stack_trace\":[{frames}],\"lost\":[]}}\n"
            );
            let named = symbolize(&program, &report);
            let report: serde_json::Value = serde_json::from_str(&named).expect("JSON");
            let frames = report["stack_trace"].as_array().expect("a stack");
            let names: Vec<&str> = frames
                .iter()
                .map(|frame| {
                    frame["symbol"]
                        .as_str()
                        .unwrap_or("")
                        .split('+')
                        .next()
                        .unwrap_or("")
                })
                .collect();
            match is_certain {
                true => assert_eq!(names, expected, "{callee} from the call of {called}"),
                false => assert_eq!(names.len(), 2, "{callee} by {trust}"),
            }
        }
    }
}

/// As text the frames are marked, counted and numbered.
#[test]
fn tail_calls_in_text_are_marked() {
    if !["gcc", "nm", "objdump", "readelf"]
        .into_iter()
        .all(host::has)
    {
        return;
    }
    let scratch = Scratch::new("text");
    let [main, other] = sources(&scratch);
    let program = scratch.path("prog");
    output(
        "gcc",
        &["-O2", "-g", "-Wl,--build-id", "-o", &program, &main, &other],
    );
    let notes = output("readelf", &["-n", &program]);
    let build_id = notes.split("Build ID: ").nth(1).expect("--build-id");
    let build_id = build_id.split_whitespace().next().expect("digits");
    let number = |digits: &str| u64::from_str_radix(digits.trim(), 16).expect("an address");
    let symbols = output("nm", &[&program]);
    let die = symbols
        .lines()
        .find(|line| line.ends_with(" t die"))
        .expect("a function");
    let die = number(die.split(' ').next().expect("an address"));
    let listing = output("objdump", &["-d", "--no-show-raw-insn", "-w", &program]);
    let mut lines = listing.lines();
    lines
        .find(|line| line.ends_with("<two>") && line.contains("call"))
        .expect("a call");
    let back = number(
        lines
            .next()
            .and_then(|line| line.split(':').next())
            .expect("an address"),
    );
    let frame = |at: u64| {
        format!(
            "0x{:x} /srv/app+{at:#x} (build-id {build_id})",
            0x7000_0000 + at
        )
    };
    let report = format!(
        "[2026-11-23 08:50:03.330] SEGFAULT in process app (PID: 1, TID: 1)\n\
         \x20 Stack Trace (3 frames):\n    #0  {}\n    #1  {}\n    #2  0x1234 start+0x1 (/srv/libc)\n\n",
        frame(die),
        frame(back)
    );
    let named = symbolize(&program, &report);
    let lines: Vec<&str> = named.lines().collect();
    assert_eq!(lines[1], "  Stack Trace (5 frames):", "{named}");
    for (line, (begin, end)) in lines[2..].iter().zip([
        ("    #0  0x7000", "main.c:6"),
        ("    #1  0x7000", "main.c:8 (tail call)"),
        ("    #2  0x7000", "main.c:9 (tail call)"),
        ("    #3  0x7000", "main.c:29"),
        ("    #4  0x1234 start+0x1", "(/srv/libc)"),
    ]) {
        assert!(line.starts_with(begin) && line.ends_with(end), "{named}");
    }
}
