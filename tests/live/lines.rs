//! Lines, inlined calls, and names of code that is in no file.

use std::fs;

use crate::harness::{crash, Monitor};
use crate::programs::{compile, directory, Program};
use crate::report::{only, Report};
use crate::skip::need_lines;
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        lines_and_inlined_calls_in_json,
        lines_and_inlined_calls_in_text,
        lines_that_are_compressed,
        lines_of_split_units,
        lines_are_not_of_the_walks_depth,
        compiled_code_by_its_perf_map,
        compiled_code_with_an_old_map,
        compiled_code_without_a_map,
    ],
    Needs::Tool("objcopy") => [lines_from_a_debug_directory],
    Needs::Tool("dwz") => [lines_with_names_in_a_supplementary_file],
}

/// Not compressed, which a compiler may be set to.
const DEBUG: &[&str] = &["-fPIE", "-pie", "-g", "-gz=none", "-Wl,--build-id=sha1"];

/// Whether the binary under test was built to know lines.
fn knows_lines() -> bool {
    cfg!(feature = "lines")
}

fn report_of(program: &Program, options: &[&str], args: &[&str]) -> Report {
    let fixed = ["-n", &program.name, "-t", "--format", "json"];
    let monitor = Monitor::start([&fixed[..], options].concat());
    crash(program.command().args(args));
    only(monitor.stop().reports())
}

/// `function file:line`, and ` inlined`, of the innermost calls.
fn innermost(report: &Report, count: usize) -> Vec<String> {
    let names = report.functions();
    let show = |(frame, name): (&serde_json::Value, &String)| {
        let file = frame["file"].as_str().unwrap_or("?");
        let file = file.rsplit('/').next().unwrap_or(file);
        let inlined = if frame["inlined"] == true {
            " inlined"
        } else {
            ""
        };
        format!("{name} {file}:{}{inlined}", frame["line"])
    };
    let frames = report.frames().iter().zip(&names);
    frames.take(count).map(show).collect()
}

const CALLS: &[&str] = &[
    "store_value inlined.c:11 inlined",
    "add_value inlined.c:16 inlined",
    "holder inlined.c:22",
    "main inlined.c:30",
];

fn lines_and_inlined_calls_in_json() {
    need_lines();
    let report = report_of(&Program::built("inlined.c", DEBUG), &[], &[]);
    assert_eq!(innermost(&report, 4), CALLS, "{}", report.line);
    let frames = report.frames();
    assert_eq!(frames[0]["address"], frames[2]["address"]);
    assert_eq!(frames[0]["trust"], frames[2]["trust"]);
    assert!(report.str("instruction_symbol").starts_with("holder+0x"));
}

fn lines_and_inlined_calls_in_text() {
    need_lines();
    let program = Program::built("inlined.c", DEBUG);
    let monitor = Monitor::start(["-n", &program.name, "-t"]);
    crash(&mut program.command());
    let outcome = monitor.stop();
    let line = |needle: &str| {
        let found = outcome.text().lines().find(|line| line.contains(needle));
        found.unwrap_or_else(|| panic!("no {needle}")).to_owned()
    };
    assert!(line(" store_value+0x").ends_with("inlined.c:11 (inlined)"));
    assert!(line("#2  ").ends_with("inlined.c:22"));
}

/// A stripped program, whose debug file is where `--debug-dir` says.
fn lines_from_a_debug_directory() {
    let program = Program::built("inlined.c", DEBUG);
    let objcopy = |args: &[&str]| {
        let status = std::process::Command::new("objcopy").args(args).status();
        assert!(status.expect("objcopy").success(), "objcopy {args:?}");
    };
    let dir = directory();
    let debug = dir.join("debug").display().to_string();
    objcopy(&["--only-keep-debug", program.path(), &debug]);
    objcopy(&["--strip-all", program.path()]);
    let report = report_of(&program, &[], &[]);
    assert!(report["instruction_symbol"].is_null(), "{}", report.line);
    let build_id = report.frames()[0]["build_id"].as_str().expect("has one");
    let place = dir.join(".build-id").join(&build_id[..2]);
    fs::create_dir_all(&place).expect("our own directory");
    let file = place.join(format!("{}.debug", &build_id[2..]));
    fs::rename(&debug, file).expect("our own file");
    let dir = dir.display().to_string();
    let options = ["--debug-dir", "/nowhere", "--debug-dir", &dir];
    let report = report_of(&program, &options, &[]);
    assert!(report.str("instruction_symbol").starts_with("holder+0x"));
    if knows_lines() {
        assert_eq!(innermost(&report, 4), CALLS, "{}", report.line);
    }
}

/// What this build does not read is named for what its user has built, and for nothing else.
fn lines_that_are_compressed() {
    need_lines();
    let reason = "lines: compressed debug information (zlib)";
    let program = Program::built("inlined.c", &["-g", "-gz=zlib"]);
    let report = report_of(&program, &[], &[]);
    assert!(report.str("instruction_symbol").starts_with("holder+0x"));
    if cfg!(feature = "zlib") {
        assert_eq!(innermost(&report, 4), CALLS, "{}", report.line);
        report.assert_nothing_lost();
    } else {
        let lost = report["lost"].to_string();
        assert!(lost.contains(reason), "{}", report.line);
    }
    // The loader calls what a library says it begins with.
    let flags = ["-g", "-gz=zlib", "-shared", "-fPIC", "-Wl,-init,main"];
    let library = compile("inlined.c", &flags);
    let program = Program::new("wait.c");
    let monitor = Monitor::start(["-n", &program.name, "-t", "--format", "json"]);
    crash(program.command().env("LD_PRELOAD", &library));
    let report = only(monitor.stop().reports());
    assert!(report.str("instruction_symbol").starts_with("holder+0x"));
    report.assert_nothing_lost();
}

/// What dwz moved away is read where the build has its feature, and is named where not.
fn lines_with_names_in_a_supplementary_file() {
    need_lines();
    let program = Program::built("inlined.c", DEBUG);
    let common = directory().join("common").display().to_string();
    let other = format!("{}.other", program.path());
    fs::copy(program.path(), &other).expect("our own file");
    let mut dwz = std::process::Command::new("dwz");
    let status = dwz.args(["-m", &common, program.path(), &other]).status();
    assert!(status.expect("dwz").success());
    let report = report_of(&program, &[], &[]);
    let is_read = cfg!(feature = "dwz");
    let names = innermost(&report, 4);
    if is_read {
        assert_eq!(names, CALLS, "{}", report.line);
        report.assert_nothing_lost();
        fs::remove_file(&common).expect("our own file");
    }
    let report = report_of(&program, &[], &[]);
    let lost = report["lost"].to_string();
    assert!(
        lost.contains("lines: no supplementary file (dwz)"),
        "{lost}"
    );
    for (line, known) in innermost(&report, 4).iter().zip(CALLS) {
        let place = known.split_once(' ').expect("a name and a place").1;
        assert!(line.ends_with(place), "{line}");
    }
}

/// Objects beside the program are read where the build has their feature; without them
/// nothing is known, and that is said.
fn lines_of_split_units() {
    need_lines();
    let executable = compile("inlined.c", &["-g", "-gz=none", "-gsplit-dwarf"]);
    let program = Program::of("inlined.c", &executable);
    let report = report_of(&program, &[], &[]);
    if cfg!(feature = "split") {
        assert_eq!(innermost(&report, 4), CALLS, "{}", report.line);
        report.assert_nothing_lost();
        fs::remove_file(executable.with_extension("dwo")).expect("the compiler has written it");
    }
    let report = report_of(&program, &[], &[]);
    assert_eq!(innermost(&report, 1), ["holder ?:null"], "{}", report.line);
    let lost = report["lost"].to_string();
    assert!(lost.contains("lines: split DWARF: "), "{lost}");
}

fn lines_are_not_of_the_walks_depth() {
    need_lines();
    let program = Program::built("inlined.c", DEBUG);
    let report = report_of(&program, &["--max-stack-depth", "2"], &[]);
    assert_eq!(innermost(&report, 9), CALLS, "{}", report.line);
}

fn compiled_code_by_its_perf_map() {
    let report = report_of(&Program::new("compiled.c"), &[], &["0"]);
    let names = report.functions();
    assert_eq!(names[..3], ["compiled_function", "run", "main"]);
    assert_eq!(report.frames()[0]["module"], "[anon]");
    let _ = fs::remove_file(format!("/tmp/perf-{}.map", report["pid"]));
}

/// A map of a process that had the number before.
fn compiled_code_with_an_old_map() {
    let report = report_of(&Program::new("compiled.c"), &[], &["60"]);
    assert!(report["instruction_symbol"].is_null(), "{}", report.line);
    let lost = report["lost"].to_string();
    assert!(lost.contains("older than the process"), "{lost}");
    let _ = fs::remove_file(format!("/tmp/perf-{}.map", report["pid"]));
}

fn compiled_code_without_a_map() {
    let report = report_of(&Program::new("compiled.c"), &[], &[]);
    assert!(report["instruction_symbol"].is_null(), "{}", report.line);
    assert!(!report["lost"].to_string().contains("perf"));
    assert_eq!(report.functions()[1..3], ["run", "main"]);
}
