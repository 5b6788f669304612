//! `symbolize` and `summarize`, by the binary itself: no root, no BPF, and any
//! architecture's reports. What they write is compared byte by byte with files in
//! tests/golden/; `UPDATE_GOLDEN=1 cargo test --test desk` rewrites them.

#[path = "host/mod.rs"]
mod host;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const REPORTS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/golden/desk_reports.json"
);

/// What a run left behind.
struct Outcome {
    status: i32,
    stdout: Vec<u8>,
    stderr: String,
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_segfault_analyzer"));
    command.args(args).env("TZ", "UTC").env_remove("HOME");
    command
}

fn run(args: &[&str], input: &[u8]) -> Outcome {
    let mut child = command(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("our own binary");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    // It may end without having read all.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("our own child");
    writer.join().expect("no panic");
    Outcome {
        status: output.status.code().expect("it was not killed"),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).expect("messages are UTF-8"),
    }
}

/// A directory of one test's own, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("desk-{name}"));
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
fn compare(name: &str, actual: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, actual).expect("tests/golden/ can be written");
        return;
    }
    let expected = fs::read(&path).unwrap_or_default();
    assert!(
        expected == actual,
        "{name} differs\n--- expected\n{}\n--- actual\n{}\n---",
        String::from_utf8_lossy(&expected),
        String::from_utf8_lossy(actual),
    );
}

#[test]
fn a_summary_for_people_and_one_for_programs() {
    let reports = fs::read(REPORTS).expect("a golden file");
    let text = run(&["summarize"], &reports);
    assert_eq!(text.status, 0);
    assert!(
        text.stderr
            .contains("2 lines were skipped, each not a report"),
        "{}",
        text.stderr
    );
    let plain = |byte: &u8| *byte == b'\n' || !byte.is_ascii_control();
    assert!(text.stdout.iter().all(plain));
    compare("desk_summary.txt", &text.stdout);
    let json = run(&["summarize", "--json", "-"], &reports);
    assert_eq!(json.status, 0);
    compare("desk_summary.json", &json.stdout);
    for line in json
        .stdout
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let row: serde_json::Value = serde_json::from_slice(line).expect("JSON");
        assert!(row["deaths"].is_u64() && row["calls"].is_array());
    }
}

/// What only a desk build has, other builds refuse with its name.
#[test]
#[cfg(not(feature = "desk"))]
fn other_builds_name_the_desk_build() {
    for args in [&["diff", "a", "b"][..], &["summarize", "--by", "cause"]] {
        let outcome = run(args, b"");
        assert_eq!(
            (outcome.status, &*outcome.stdout),
            (2, &b""[..]),
            "{args:?}"
        );
        assert!(outcome.stderr.contains("make desk"), "{}", outcome.stderr);
    }
}

#[test]
#[cfg(feature = "desk")]
fn crashes_are_counted_by_each_field() {
    let reports = fs::read_to_string(REPORTS).expect("a golden file");
    let reports = reports.replacen(
        "\"pid\":10,",
        "\"pid\":10,\"host\":\"router-7\",\"version\":\"0.1.0\",",
        1,
    );
    let (mut text, mut json) = (Vec::new(), Vec::new());
    for field in ["build", "host", "version", "cause", "program"] {
        for (args, all) in [
            (&["summarize", "--by", field][..], &mut text),
            (&["summarize", "--json", "--by", field], &mut json),
        ] {
            let outcome = run(args, reports.as_bytes());
            assert_eq!(outcome.status, 0, "{}", outcome.stderr);
            all.extend(outcome.stdout);
        }
    }
    compare("desk_by.txt", &text);
    compare("desk_by.json", &json);
    let wrong = run(&["summarize", "--by", "weather"], b"");
    assert_eq!(wrong.status, 2);
    assert!(
        wrong.stderr.contains("--by: expected one of build, host"),
        "{}",
        wrong.stderr
    );
}

/// Not that of a library, and not that of the tool, which the report says.
#[test]
#[cfg(feature = "desk")]
fn a_version_is_that_of_the_executable() {
    let frame = |module: &str, version: &str| {
        format!("{{\"module\":\"{module}\",\"version\":\"{version}\"}}")
    };
    let frames = [frame("/lib/libc.so.6", "2.36"), frame("/srv/bill", "1.7")].join(",");
    let report = format!(
        "{{\"timestamp\":1,\"pid\":1,\"fault_type\":\"\",\"exe\":\"/srv/bill\",\"version\":\"0.1\",\"stack_trace\":[{frames}]}}\n"
    );
    let outcome = run(
        &["summarize", "--json", "--by", "version"],
        report.as_bytes(),
    );
    let row: serde_json::Value = serde_json::from_slice(&outcome.stdout).expect("one line");
    assert_eq!((&row["value"], &row["reports"]), (&"1.7".into(), &1.into()));
}

#[test]
#[cfg(feature = "desk")]
fn two_sets_of_reports_are_compared() {
    let scratch = Scratch::new("diff");
    let old = fs::read_to_string(REPORTS).expect("a golden file");
    let lines: Vec<&str> = old.lines().filter(|line| line.starts_with('{')).collect();
    let is_of = |program: &str| {
        let key = format!("\"exe\":\"{program}");
        lines
            .iter()
            .copied()
            .find(move |line| line.contains(&key))
            .expect("a report")
    };
    let (web, bill) = (is_of("/opt/web"), is_of("/srv/bill"));
    // A day later: one crash more often and once elsewhere, one less often, one as often.
    let new = [bill; 6].join("\n") + "\n" + &web.replace("17954", "17956") + "\n";
    let other_place = bill
        .replace("91b7c04e12aa6d58", "0c2f9d8e6b5a4173")
        .replace("null_dereference", "abort");
    let new = (new + &other_place + "\n").replace("\"timestamp\":17954", "\"timestamp\":17955");
    let (before, after) = (scratch.path("before"), scratch.path("after"));
    fs::create_dir(&after).expect("our own directory");
    fs::write(&before, lines.join("\n") + "\n").expect("our own file");
    fs::write(scratch.path("after/1.json"), &new).expect("our own file");
    for (name, args) in [
        ("desk_diff.txt", &["diff", &before, &after][..]),
        ("desk_diff.json", &["diff", "--json", &before, &after]),
        ("desk_diff_days.txt", &["diff", "--per-day", &after, "-"]),
    ] {
        let outcome = run(args, old.as_bytes());
        assert_eq!(outcome.status, 0, "{}", outcome.stderr);
        compare(name, &outcome.stdout);
    }
    // The other way round what was new is gone.
    let back = run(&["diff", &after, &before], b"");
    let text = String::from_utf8(back.stdout).expect("ASCII");
    assert!(
        text.contains("\ngone           1         0  bill             abort"),
        "{text}"
    );
}

#[test]
#[cfg(feature = "desk")]
fn sets_that_cannot_be_read_are_not_compared() {
    let scratch = Scratch::new("unread");
    let reports = fs::read(REPORTS).expect("a golden file");
    let empty = scratch.path("empty");
    fs::create_dir(&empty).expect("our own directory");
    for (args, word) in [
        (&["diff", "/nonexistent", "-"][..], "nothing is compared"),
        (&["diff", "-", &empty], "no files are in it"),
        (
            &["diff", "--per-day", "-", "/dev/null"],
            "the reports of NEW are from less",
        ),
    ] {
        let outcome = run(args, &reports);
        assert_eq!(
            (outcome.status, &*outcome.stdout),
            (1, &b""[..]),
            "{args:?}"
        );
        assert!(outcome.stderr.contains(word), "{}", outcome.stderr);
    }
    for (args, word) in [
        (&["diff", "-", "-"][..], "only one of OLD and NEW"),
        (&["diff", "a"], "diff needs OLD and NEW"),
        (&["diff", "a", "b", "c"], "diff needs OLD and NEW"),
    ] {
        let outcome = run(args, b"");
        assert_eq!(outcome.status, 2, "{args:?}");
        assert!(outcome.stderr.contains(word), "{}", outcome.stderr);
    }
    // Not a single crash is something else than a set that is no set.
    let outcome = run(&["diff", "-", "/dev/null"], &reports);
    assert_eq!(outcome.status, 0);
    let outcome = run(&["diff", "/dev/null", "-"], b"no report\n");
    assert!(
        outcome.stderr.contains("a set has no reports"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn files_are_read_one_after_the_other() {
    let scratch = Scratch::new("files");
    let (one, two) = (scratch.path("one"), scratch.path("two"));
    fs::write(&one, "one\n{\"timestamp\"").expect("our own file");
    fs::write(&two, "two").expect("our own file");
    let outcome = run(&["symbolize", &one, "-", &two], b"between\n");
    assert_eq!(outcome.status, 0);
    assert_eq!(outcome.stdout, b"one\n{\"timestamp\"between\ntwo");
    assert!(
        outcome
            .stderr
            .contains("4 lines were skipped, each not a report"),
        "{}",
        outcome.stderr
    );
    // What cannot be read does not keep the rest from being read.
    let outcome = run(&["symbolize", "/nonexistent", &two, "/"], b"");
    assert_eq!((outcome.status, &outcome.stdout[..]), (1, &b"two"[..]));
    for word in [
        "/nonexistent: ",
        "/: ",
        "some of the input could not be read",
    ] {
        assert!(outcome.stderr.contains(word), "{}", outcome.stderr);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_and_no_empty_table() {
    let scratch = Scratch::new("missing");
    let (missing, empty) = (scratch.path("missing"), scratch.path("empty"));
    fs::write(&empty, "").expect("our own file");
    let heading = b"Deaths  First seen";
    let is_said = |outcome: &Outcome| {
        assert_eq!(outcome.status, 1, "{}", outcome.stderr);
        for line in [
            format!("Warning: {missing}: No such file or directory"),
            "Error: some of the input could not be read".to_owned(),
        ] {
            assert!(outcome.stderr.contains(&line), "{}", outcome.stderr);
        }
    };
    for args in [
        &["summarize", &missing][..],
        &["summarize", "--json", &missing],
        &["summarize", &empty, &missing],
        &["symbolize", &missing],
    ] {
        let outcome = run(args, b"");
        is_said(&outcome);
        assert_eq!(outcome.stdout, b"", "{args:?}");
    }
    // The others are summarized all the same.
    let all = run(&["summarize", REPORTS], b"");
    assert!(all.stdout.starts_with(heading) && all.status == 0);
    for args in [[&missing, REPORTS], [REPORTS, &missing]] {
        let outcome = run(&["summarize", args[0], args[1]], b"");
        is_said(&outcome);
        assert!(outcome.stdout == all.stdout, "{args:?}");
    }
    // There were no crashes: that is a table without a line.
    let none = run(&["summarize", &empty], b"");
    assert!(none.stdout.starts_with(heading) && none.status == 0);
}

/// The same crashes in both formats give the same lines.
#[test]
fn text_reports_are_counted_as_those_in_json() {
    let row = |name: &str| {
        let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
        let outcome = run(&["summarize", "--json", &path], b"");
        assert_eq!((outcome.status, &*outcome.stderr), (0, ""), "{name}");
        let mut row: serde_json::Value = serde_json::from_slice(&outcome.stdout).expect("one row");
        // Text does not have it.
        row.as_object_mut().expect("a row").remove("group");
        row
    };
    for name in [
        "every_frame",
        "registers_i386",
        "threads",
        "unknown_plain",
        "nearby",
    ] {
        let (mut json, mut text) = (row(&format!("{name}.json")), row(&format!("{name}.txt")));
        if name == "nearby" {
            // Of folded reports it has the number alone.
            assert_eq!((&json["deaths"], &text["deaths"]), (&40.into(), &42.into()));
            for row in [&mut json, &mut text] {
                row["deaths"] = serde_json::Value::Null;
            }
        }
        if name == "every_frame" {
            // The text is from another time zone.
            for row in [&mut json, &mut text] {
                row["first_seen"] = serde_json::Value::Null;
                row["last_seen"] = serde_json::Value::Null;
            }
        }
        assert_eq!(json, text, "{name}");
    }
    let held = fs::read("tests/golden/repeats.txt").expect("a golden file");
    let outcome = run(&["summarize", "--json"], &held);
    let shown = String::from_utf8(outcome.stdout).expect("UTF-8");
    assert!(
        shown.contains(r#""reports":84"#) && shown.contains("6552d0fcc0dbcab3"),
        "{shown}"
    );
    let logged = [
        b"node-7 segfault_analyzer[3]: ",
        &*fs::read(REPORTS).expect("a file"),
    ]
    .concat();
    assert_eq!(run(&["summarize"], &logged).status, 0);
}

#[test]
fn lines_of_any_length_are_passed_on() {
    let long = format!("{{\"timestamp\":\"{}\"}}\n", "x".repeat(40 << 20));
    let input = format!("a\n{long}b\n{long}c");
    let outcome = run(&["symbolize"], input.as_bytes());
    assert_eq!(outcome.status, 0);
    assert!(outcome.stdout == input.as_bytes());
    assert!(
        outcome
            .stderr
            .contains("3 lines were skipped, each not a report"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_report_is_out_before_the_next_one_comes() {
    let mut child = command(&["symbolize"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("our own binary");
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let reports = fs::read_to_string(REPORTS).expect("a golden file");
    for line in reports.lines().take(3) {
        writeln!(stdin, "{line}").expect("it reads");
        let mut answer = String::new();
        stdout.read_line(&mut answer).expect("it answers");
        assert_eq!(answer.trim_end(), line);
    }
    // A reader that has gone is an end like any other.
    drop(stdout);
    let _ = stdin.write_all(reports.as_bytes());
    drop(stdin);
    assert_eq!(child.wait().expect("our own child").code(), Some(0));
}

#[test]
fn command_lines_and_their_statuses() {
    for subcommand in ["symbolize", "summarize", "show"] {
        let outcome = run(&[subcommand, "--help"], b"");
        let help = String::from_utf8(outcome.stdout).expect("ASCII");
        assert_eq!((outcome.status, &*outcome.stderr), (0, ""));
        assert!(help.contains(&format!("Usage: segfault_analyzer {subcommand}")));
        assert!(
            help.lines().all(|line| line.chars().count() <= 80),
            "{help}"
        );
        let help = run(&["--help"], b"");
        let line = format!("segfault_analyzer {subcommand} ");
        assert!(String::from_utf8_lossy(&help.stdout).contains(&line));
    }
    for wrong in [
        &["symbolize", "--json"][..],
        &["symbolize", "--file"],
        &["symbolize", "--debug-dir="],
        &["symbolize", "-t"],
        &["summarize", "--file", "x"],
        &["summarize", "--json=1"],
        &["-t", "symbolize"],
        &["summary"],
    ] {
        let outcome = run(wrong, b"");
        assert_eq!(outcome.status, 2, "{wrong:?}: {}", outcome.stderr);
        assert_eq!(
            outcome.stderr.lines().count(),
            1,
            "{wrong:?}: {}",
            outcome.stderr
        );
    }
    let stderr = run(&["frobnicate", "x"], b"").stderr;
    let expected = match cfg!(feature = "desk") {
        true => "symbolize, summarize, show, diff or core",
        false => "symbolize, summarize, show or core",
    };
    assert!(stderr.contains(expected), "{stderr}");
    let other = run(&["summarize"], b"[    4.2] bill[7]: segfault at 0\n");
    assert_eq!((other.status, other.stdout.len()), (1, 0));
    let stderr = other.stderr;
    assert!(
        stderr.contains("no reports found: summarize reads"),
        "{stderr}"
    );
    let reports = fs::read(REPORTS).expect("a golden file");
    let stderr = run(&["summarize"], &reports).stderr;
    assert!(!stderr.contains("no reports found"), "{stderr}");
    for failing in [
        &["symbolize", "--file", "/etc/passwd"][..],
        &["symbolize", "--file", "/nonexistent"],
        &["symbolize", "--debug-dir", "/nonexistent"],
        &["symbolize", "--sysroot", "/etc/passwd"],
    ] {
        let outcome = run(failing, b"x\n");
        assert_eq!(
            (outcome.status, &outcome.stdout[..]),
            (1, &b""[..]),
            "{failing:?}"
        );
        assert!(outcome.stderr.contains(failing[2]), "{}", outcome.stderr);
    }
}

/// Runs a program that must succeed; what it prints.
fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect(program);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {said}");
    String::from_utf8(output.stdout).expect("text")
}

/// The linker that comes with Rust.
fn linker() -> String {
    let sysroot = output("rustc", &["--print", "sysroot"]);
    let host = output("rustc", &["-vV"]);
    let host = host.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.expect("rustc tells its host");
    format!("{}/lib/rustlib/{host}/bin/rust-lld", sysroot.trim_end())
}

/// A report of 64-bit ARM, named on whatever this runs on, as LLVM names it: with
/// its inlined calls, which the feature `lines` reads.
#[test]
#[cfg_attr(
    not(feature = "lines"),
    ignore = "the feature `lines` is not in this build"
)]
fn a_report_of_another_architecture() {
    let tools = [
        "clang-19",
        "llvm-symbolizer-19",
        "llvm-nm-19",
        "llvm-readelf-19",
    ];
    if !tools.into_iter().all(host::has) {
        return;
    }
    let scratch = Scratch::new("aarch64");
    let (object, program) = (scratch.path("calls.o"), scratch.path("calls"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/crashers/inlined.c");
    let target = "--target=aarch64-linux-gnu";
    output(
        "clang-19",
        &[
            target,
            "-O2",
            "-g",
            "-gz=none",
            "-ffreestanding",
            "-c",
            source,
            "-o",
            &object,
        ],
    );
    let link = [
        "-flavor",
        "gnu",
        "-pie",
        "--build-id=sha1",
        "--entry=main",
        &object,
        "-o",
        &program,
    ];
    output(&linker(), &link);
    let notes = output("llvm-readelf-19", &["-n", &program]);
    let build_id = notes.split("Build ID: ").nth(1).expect("--build-id");
    let build_id = build_id.split_whitespace().next().expect("digits");

    let symbols = output("llvm-nm-19", &["--print-size", &program]);
    let function = |name: &str| {
        let line = symbols
            .lines()
            .find(|line| line.ends_with(&format!(" {name}")));
        let mut numbers = line.expect("a function").split(' ');
        let mut next = || u64::from_str_radix(numbers.next().expect("a number"), 16).expect("hex");
        (next(), next())
    };
    // Every instruction of two functions, as a crash and as a return address.
    let mut addresses = Vec::new();
    for name in ["holder", "main"] {
        let (start, size) = function(name);
        addresses.extend(
            (start..start + size)
                .step_by(4)
                .flat_map(|at| [(at, true), (at + 4, false)]),
        );
    }
    let frames: Vec<String> = addresses
        .iter()
        .map(|(at, exact)| {
            let trust = if *exact { "context" } else { "cfi" };
            format!(
                "{{\"address\":\"{at:#x}\",\"symbol\":null,\"module\":\"/srv/app\",\
                 \"module_offset\":\"{at:#x}\",\"build_id\":\"{build_id}\",\"trust\":\"{trust}\",\
                 \"file\":null,\"line\":null,\"inlined\":false}}"
            )
        })
        .collect();
    let frames = frames.join(",");
    let report = format!(
        "{{\"timestamp\":1,\"pid\":2,\"instruction_symbol\":null,\"fault_type\":\"map_error\",\
         \"registers\":{{\"pc\":\"0x1\"}},\"stack_trace\":[{frames}],\"lost\":[]}}\n"
    );
    let outcome = run(&["symbolize", "--file", &program], report.as_bytes());
    assert_eq!((outcome.status, &*outcome.stderr), (0, ""));
    let named: serde_json::Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    let named = named["stack_trace"].as_array().expect("a stack");

    let mut expected = Vec::new();
    for (at, exact) in &addresses {
        let lookup = format!("{:#x}", at - u64::from(!exact));
        let lines = output(
            "llvm-symbolizer-19",
            &["--inlining", "-e", &program, &lookup],
        );
        let lines: Vec<&str> = lines.lines().filter(|line| !line.is_empty()).collect();
        for call in lines.chunks(2) {
            expected.push((call[0].to_owned(), call[1].to_owned()));
        }
    }
    let text = |frame: &serde_json::Value| {
        let symbol = frame["symbol"].as_str().expect("a name");
        let name = symbol.split("+0x").next().expect("a name").to_owned();
        let line = frame["line"].as_u64().unwrap_or(0);
        (
            name,
            format!("{}:{line}", frame["file"].as_str().unwrap_or("??")),
        )
    };
    assert_eq!(named.len(), expected.len());
    for (frame, (name, place)) in named.iter().zip(&expected) {
        let place = place.rsplit_once(':').expect("a column").0;
        let ours = text(frame);
        assert_eq!((&*ours.0, &*ours.1), (&**name, place));
    }
    assert!(named.iter().any(|frame| frame["inlined"] == true));
}
