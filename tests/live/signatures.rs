//! Equal crashes have one signature, others have others. Without call-frame
//! information (a build without the feature `dwarf`) there are none.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::harness::{binary, crash, status_of, Monitor};
use crate::json::report_of;
use crate::programs::{copy, directory, unique, Program, NO_PIE, PIE, STATIC};
use crate::raised::{ABORTING, CHECKED, MATH};
use crate::report::{only, Report};
use crate::skip::need_call_frame_information;
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        signatures_of_other_bugs_are_others,
        signatures_of_other_callers_are_others,
        signatures_need_a_stack,
        signatures_need_call_frame_information,
        signatures_do_not_depend_on_the_depth,
        signatures_are_the_same_behind_a_handler,
        signatures_are_the_same_from_two_builds,
        signatures_of_deaths_are_as_many_as_bugs,
        signatures_of_callers_of_the_c_library,
        signatures_of_two_executables_in_one_library,
        signatures_do_not_depend_on_files_that_are_gone,
    ],
    Needs::Tool("unshare") => [signatures_wherever_the_file_is],
    Needs::Alone => [signatures_of_many_runs_are_one],
    Needs::Tool("objcopy") => [
        signatures_do_not_depend_on_symbols,
        signatures_do_not_depend_on_debug_files,
        signatures_groups_are_those_of_the_names_at_the_desk,
    ],
}

const NONE: bool = cfg!(not(feature = "dwarf"));

fn is_digest(report: &Report, key: &str) -> bool {
    let digest = report[key].as_str().unwrap_or("");
    digest.len() == 16 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Every run has its own addresses, process ids and neighbours.
fn signatures_of_many_runs_are_one() {
    need_call_frame_information();
    const RUNS: usize = 1000;
    for (source, kind) in [
        ("access.c", "write"),
        ("classics.c", "freed"),
        ("overflow.c", "plain"),
    ] {
        let program = Program::new(source);
        let monitor = Monitor::start(["-n", &program.name, "--format", "json", "-t"]);
        for _ in 0..RUNS {
            crash(program.command().arg(kind));
        }
        let reports = monitor.stop().reports();
        assert_eq!(reports.len(), RUNS);
        let all = |key: &str| -> BTreeSet<&str> {
            reports.iter().map(|report| report.str(key)).collect()
        };
        assert_eq!(
            all("signature").len(),
            1,
            "{source}: {:?}",
            all("signature")
        );
        assert_eq!(all("group").len(), 1, "{source}: {:?}", all("group"));
        let places = all("instruction_pointer").len();
        assert!(places > RUNS / 2, "the runs differ: {places}");
        assert!(is_digest(&reports[0], "signature"), "{}", reports[0].line);
        assert!(is_digest(&reports[0], "group"), "{}", reports[0].line);
    }
}

fn signatures_of_other_bugs_are_others() {
    need_call_frame_information();
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (source, kinds) in [
        (
            "access.c",
            "read write readonly execute null_call noncanonical",
        ),
        (
            "classics.c",
            "munmap past before guard thread frame freed poison strcpy jump overwritten run",
        ),
        ("forged.c", "raise kill queue"),
    ] {
        let program = Program::new(source);
        for kind in kinds.split(' ') {
            let report = report_of(&program, &[kind], &["-t"]);
            let other = seen.insert(report.str("signature").to_owned(), kind.to_owned());
            assert_eq!(other, None, "the same as {kind}: {}", report.line);
        }
    }
}

/// Two calls of null, by functions that one function calls.
fn signatures_of_other_callers_are_others() {
    need_call_frame_information();
    let program = Program::new("callers.c");
    let [one, other] = ["first", "second"].map(|kind| report_of(&program, &[kind], &["-t"]));
    assert_eq!(one["cause"], "null_call", "{}", one.line);
    assert_ne!(one["signature"], other["signature"], "{}", other.line);
    assert_ne!(one["group"], other["group"], "{}", other.line);
}

fn signatures_need_call_frame_information() {
    let report = report_of(&Program::new("null_deep.c"), &[], &["-t"]);
    assert_eq!(report["signature"].is_null(), NONE, "{}", report.line);
    assert_eq!(report["group"].is_null(), NONE, "{}", report.line);
}

/// What the tests' own build of the tool has, and the one that is to be shipped.
fn signatures_are_the_same_from_two_builds() {
    let builds = [
        binary(),
        Path::new(env!("CARGO_BIN_EXE_segfault_analyzer")).to_owned(),
    ];
    for (program, kind) in [
        (Program::new("null_deep.c"), ""),
        (Program::new("access.c"), "null_call"),
        (Program::new("classics.c"), "thread"),
        (Program::new("reraise.c"), ""),
        (Program::built("aborts.c", CHECKED), "smash"),
    ] {
        let values = builds.each_ref().map(|build| {
            let mut command = Command::new(build);
            command.args([
                "-n",
                &program.name,
                "-t",
                "--format",
                "json",
                "--fatal-only",
            ]);
            let monitor = Monitor::start_as({
                command.args(["--signals", "all"]);
                command
            });
            status_of(program.command().arg(kind));
            let report = only(monitor.stop().reports());
            assert_eq!(report["signature"].is_null(), NONE, "{}", report.line);
            [report["signature"].clone(), report["group"].clone()]
        });
        assert_eq!(values[0], values[1], "{} {kind}", program.name);
    }
}

fn signatures_need_a_stack() {
    let report = report_of(&Program::new("quick.c"), &[], &["-r"]);
    assert!(report["signature"].is_null() && report["group"].is_null());
    assert!(report.keys().contains(&"signature"), "{}", report.line);
}

fn signatures_do_not_depend_on_the_depth() {
    need_call_frame_information();
    let program = Program::new("null_deep.c");
    let whole = report_of(&program, &[], &["-t"]);
    for depth in ["1", "3", "100"] {
        let report = report_of(&program, &[], &["-t", "--max-stack-depth", depth]);
        assert_eq!(report["signature"], whole["signature"], "{}", report.line);
        assert_eq!(report["group"], whole["group"], "{}", report.line);
        let frames: usize = depth.parse().expect("a number");
        assert!(report.frames().len() <= frames, "{}", report.line);
    }
}

/// A handler that raises the signal anew leaves its own frames on the stack.
fn signatures_are_the_same_behind_a_handler() {
    need_call_frame_information();
    for (source, args) in [
        ("reraise.c", &[][..]),
        ("overflow.c", &["handler"]),
        ("overflow.c", &["altstack"]),
    ] {
        let program = Program::new(source);
        let monitor = Monitor::start(["-n", &program.name, "--format", "json", "-t"]);
        crash(program.command().args(args));
        let reports = monitor.stop().reports();
        assert_eq!(reports.len(), 2);
        assert_eq!(
            reports[0]["signature"], reports[1]["signature"],
            "{source} {args:?}"
        );
    }
}

fn succeeds(command: &mut Command) {
    assert!(command.status().expect("a program").success());
}

/// A stripped copy has the same build; another build has the same functions.
fn signatures_do_not_depend_on_symbols() {
    need_call_frame_information();
    let program = Program::built("null_deep.c", &[PIE, &["-Wl,--build-id"]].concat());
    let named = report_of(&program, &[], &["-t"]);
    let named_program = program.name.clone();
    let name = unique("strip");
    let path = directory().join(&name);
    copy(&program.path, &path);
    succeeds(Command::new("objcopy").arg("--strip-all").arg(&path));
    let monitor = Monitor::start(["-n", &name, "--format", "json", "-t"]);
    crash(&mut Command::new(&path));
    let stripped = only(monitor.stop().reports());
    assert!(
        stripped["instruction_symbol"].is_null(),
        "{}",
        stripped.line
    );
    assert_eq!(
        named["signature"], stripped["signature"],
        "{}",
        stripped.line
    );
    assert_ne!(named["group"], stripped["group"], "{}", stripped.line);

    // Nothing has a name there, and yet it crashes in two places.
    let program = Program::new("access.c");
    succeeds(Command::new("objcopy").args(["--strip-all", program.path()]));
    let one = report_of(&program, &["read"], &["-t"]);
    let other = report_of(&program, &["write"], &["-t"]);
    assert!(one["instruction_symbol"].is_null(), "{}", one.line);
    assert_ne!(one["group"], other["group"], "{}", other.line);

    let rebuilt = Program::built("null_deep.c", NO_PIE).named(&named_program);
    let rebuilt = report_of(&rebuilt, &[], &["-t"]);
    assert_ne!(named["signature"], rebuilt["signature"], "{}", rebuilt.line);
    assert_eq!(named["group"], rebuilt["group"], "{}", rebuilt.line);
}

#[track_caller]
fn objcopy(args: &[&str]) {
    let status = Command::new("objcopy").args(args).status();
    assert!(status.expect("objcopy").success(), "objcopy {args:?}");
}

/// The one report of a program that dies by whatever signal.
fn death(program: &Program, kind: &str, options: &[&str]) -> Report {
    let all = [
        "-n",
        &program.name,
        "-t",
        "--format",
        "json",
        "--fatal-only",
    ];
    let monitor = Monitor::start([&all[..], &["--signals", "all"], options].concat());
    status_of(program.command().arg(kind));
    only(monitor.stop().reports())
}

/// A package's debug file gives names, perhaps call-frame information, and nothing
/// else changes.
fn signatures_do_not_depend_on_debug_files() {
    need_call_frame_information();
    let usual = [PIE, &["-g", "-gz=none", "-Wl,--build-id=sha1"]].concat();
    let without_tables = ["-fno-asynchronous-unwind-tables", "-fno-unwind-tables"];
    for flags in [usual.clone(), [&usual[..], &without_tables].concat()] {
        signature_without_its_debug_file(&flags);
    }
}

fn signature_without_its_debug_file(flags: &[&str]) {
    let program = Program::built("null_deep.c", flags);
    let named = death(&program, "", &[]);
    let id = named.frames()[0]["build_id"].as_str().expect("a build-id");
    let packages = directory();
    let of_id = packages.join(".build-id").join(&id[..2]);
    fs::create_dir_all(&of_id).expect("our own directory");
    let debug = of_id.join(format!("{}.debug", &id[2..]));
    let debug = debug.to_str().expect("ASCII");
    objcopy(&["--only-keep-debug", program.path(), debug]);
    objcopy(&["--strip-all", program.path()]);
    let packages = packages.to_str().expect("ASCII");
    let with = death(&program, "", &["--debug-dir", packages]);
    let without = death(&program, "", &[]);
    assert!(with["instruction_symbol"].is_string(), "{}", with.line);
    assert!(without["instruction_symbol"].is_null(), "{}", without.line);
    for report in [&with, &without] {
        assert_eq!(report["signature"], named["signature"], "{}", report.line);
    }
    assert_eq!(with["group"], named["group"], "{}", with.line);
}

/// What `symbolize` makes of a stripped program's report is what the monitor says
/// of the program with its names.
fn signatures_groups_are_those_of_the_names_at_the_desk() {
    need_call_frame_information();
    let with_id = ["-Wl,--build-id=sha1"];
    for (source, flags, kind) in [
        ("null_deep.c", PIE, ""),
        ("access.c", PIE, "null_call"),
        ("access.c", PIE, "execute"),
        ("classics.c", PIE, "thread"),
        ("classics.c", PIE, "overwritten"),
        ("reraise.c", PIE, ""),
        ("overflow.c", PIE, "handler"),
        ("overflow.c", PIE, "plain"),
        ("aborts.c", CHECKED, "smash"),
        ("aborts.c", CHECKED, "assert"),
        #[cfg(target_arch = "x86_64")]
        ("traps.c", MATH, "zero"),
    ] {
        let program = Program::built(source, &[flags, &with_id].concat());
        let whole = directory().join("whole");
        copy(&program.path, &whole);
        let whole = whole.to_str().expect("ASCII");
        let named = death(&program, kind, &[]);
        objcopy(&["--strip-all", program.path()]);
        for depth in ["16", "1"] {
            let before = death(&program, kind, &["--max-stack-depth", depth]);
            let after = at_the_desk(whole, &before.line);
            assert_eq!(after["signature"], named["signature"], "{}", after.line);
            // It may be made from one frame even if there are more.
            let is_found = after["group"] == named["group"];
            assert!(
                is_found || depth == "1" && after["group"] == before["group"],
                "{source} {kind}: {}",
                after.line
            );
            let is_named = after["instruction_symbol"] != before["instruction_symbol"];
            let lost = after["lost"].to_string().contains("group: ");
            assert_eq!(lost, is_named && !is_found, "{}", after.line);
        }
    }
}

fn at_the_desk(whole: &str, line: &str) -> Report {
    let input = directory().join("input");
    fs::write(&input, line).expect("our own file");
    let mut command = Command::new(binary());
    command.args(["symbolize", "--file", whole]).arg(input);
    let output = command.output().expect("the binary");
    Report::parse(&String::from_utf8(output.stdout).expect("text"))
}

/// Each way to die, from two places of one program: neither the way nor the place may
/// be lost, with and without symbols, whatever the C library is linked to.
fn signatures_of_deaths_are_as_many_as_bugs() {
    need_call_frame_information();
    let optimized = ["-O2", "-fstack-protector-all"];
    let fixed = [STATIC, &optimized].concat();
    let stripped = [PIE, &optimized, &["-s"]].concat();
    let fixed_stripped = [&fixed[..], &["-s"]].concat();
    let whole = [PIE, &optimized].concat();
    for flags in [&whole, &stripped, &fixed, &fixed_stripped] {
        deaths_differ(&Program::built("deaths.c", flags), DEATHS);
    }
    for flags in [PIE, &[PIE, &["-s"]].concat()] {
        deaths_differ(&Program::built("thrown.cc", flags), THROWN);
    }
    let [stripped, plain] = ["-Cstrip=symbols", "-Copt-level=0"];
    for flags in [
        ABORTING,
        &[ABORTING, &[stripped]].concat(),
        &[ABORTING, &[plain]].concat(),
    ] {
        deaths_differ(&Program::built("panicking.rs", flags), PANICS);
    }
}

const DEATHS: &str = "abort assert smash twice middle fortify";
const THROWN: &str = "thrown noexcept at terminate";
const PANICS: &str = "index unwrap slice message drop thread abort";

/// Each of the kinds twice, from its first place and from its second.
fn deaths_differ(program: &Program, kinds: &str) {
    let places = |kind: &str| [format!("{kind}1"), format!("{kind}2")];
    let kinds: Vec<String> = kinds.split(' ').flat_map(places).collect();
    let reports = deaths(program, kinds.iter().flat_map(|kind| [kind; 2]));
    for key in ["signature", "group"] {
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for (kind, both) in kinds.iter().zip(reports.chunks(2)) {
            assert!(is_digest(&both[0], key), "{kind}: {}", both[0].line);
            assert_eq!(both[0][key], both[1][key], "{kind}: {}", both[1].line);
            let other = seen.insert(both[0].str(key), kind);
            assert_eq!(other, None, "{key} of {kind}: {}", both[0].line);
        }
    }
}

/// One report of each kind, in their order.
fn deaths<'a>(program: &Program, kinds: impl Iterator<Item = &'a String>) -> Vec<Report> {
    let options = ["-t", "--format", "json", "--fatal-only", "--signals", "all"];
    let monitor = Monitor::start([&["-n", &*program.name][..], &options].concat());
    let mut count = 0;
    for kind in kinds {
        status_of(program.command().arg(kind));
        count += 1;
    }
    let reports = monitor.stop().reports();
    assert_eq!(reports.len(), count, "{}", program.name);
    reports
}

/// Bad pointers given to it: which function of it took them is not what counts.
fn signatures_of_callers_of_the_c_library() {
    need_call_frame_information();
    let kinds = "length1 length2 copy1 copy2 print1 print2";
    deaths_of(&Program::new("deaths.c"), &format!("{kinds} sort1 sort2"));
    // Nothing tells a static library's recursion from the program's.
    deaths_of(&Program::built("deaths.c", STATIC), kinds);
}

fn deaths_of(program: &Program, kinds: &str) {
    let kinds: Vec<String> = kinds.split(' ').map(str::to_owned).collect();
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for (kind, report) in kinds.iter().zip(deaths(program, kinds.iter())) {
        let other = seen.insert(report.str("signature").to_owned(), kind);
        assert_eq!(other, None, "the same as {kind}: {}", report.line);
    }
}

/// Where every frame that counts lies in a library, the executable tells them apart.
fn signatures_of_two_executables_in_one_library() {
    need_call_frame_information();
    let program = Program::new("deaths.c");
    let other = Program::of("deaths.c", &program.path);
    let [one, other] = [&program, &other].map(|program| death(program, "thread1", &[]));
    assert_ne!(one["signature"], other["signature"], "{}", other.line);
    assert_ne!(one["group"], other["group"], "{}", other.line);
}

/// A frame has its build-id and its place in the file when that is gone, and no other
/// signature than with it.
fn signatures_do_not_depend_on_files_that_are_gone() {
    need_call_frame_information();
    let program = Program::built("null_deep.c", &[PIE, &["-Wl,--build-id"]].concat());
    let named = death(&program, "", &[]);
    let monitor = Monitor::start(["-n", &program.name, "-t", "--format", "json"]);
    monitor.signal(Signal::SIGSTOP);
    crash(&mut program.command());
    fs::remove_file(&program.path).expect("our own file");
    monitor.signal(Signal::SIGCONT);
    let gone = only(monitor.stop().reports());
    for key in ["build_id", "module_offset"] {
        assert_eq!(
            gone.frames()[0][key],
            named.frames()[0][key],
            "{}",
            gone.line
        );
    }
    assert!(gone["instruction_symbol"].is_null(), "{}", gone.line);
    assert!(
        gone["signature"].is_null() && gone["group"].is_null(),
        "{}",
        gone.line
    );
    assert!(
        gone["lost"].to_string().contains("signature: "),
        "{}",
        gone.line
    );
}

/// The same crash in places from which the monitor can open the file, and in others: one
/// value, or none and a word about it.
fn signatures_wherever_the_file_is() {
    need_call_frame_information();
    let flags = [PIE, &["-Wl,--build-id"]].concat();
    let program = Program::built("deaths.c", &flags);
    let here = death(&program, "length1", &[]);
    let options = [
        "--fatal-only",
        "-t",
        "--format",
        "json",
        "-n",
        &program.name,
    ];
    for script in [
        "mkdir d; cp $P d/; d/$N length1",
        "mkdir d; mount -t tmpfs none d; cp $P d/; d/$N length1",
        "mkdir d; mount -t tmpfs none d; cp $P d/; exec d/$N length1",
        "mkdir -p d; cp $P d/; exec 3<d/$N; rm d/$N; /proc/self/fd/3 length1",
        "mkdir l u m; mount -t tmpfs none u; mkdir u/u u/w; cp $P l/; mount -t overlay none \
            -o lowerdir=l,upperdir=u/u,workdir=u/w m; exec m/$N length1",
        "mkdir l u m; mount -t tmpfs none u; mkdir u/u u/w; cp $P l/; mount -t overlay none \
            -o lowerdir=l,upperdir=u/u,workdir=u/w m; touch m/$N; exec m/$N length1",
    ] {
        let monitor = Monitor::start(options);
        let mut command = Command::new("unshare");
        command
            .args(["-m", "sh", "-c", script])
            .current_dir(directory());
        command.env("P", &program.path).env("N", &program.name);
        status_of(&mut command);
        let report = only(monitor.stop().reports());
        if report["signature"].is_null() {
            assert!(
                report["lost"].to_string().contains("signature: "),
                "{}",
                report.line
            );
            assert!(report["group"].is_null(), "{}", report.line);
        } else {
            assert_eq!(
                report["signature"], here["signature"],
                "{script}: {}",
                report.line
            );
            assert_eq!(report["group"], here["group"], "{script}: {}", report.line);
        }
        assert!(!report.frames().is_empty(), "{script}: {}", report.line);
        for frame in report.frames() {
            let in_file = frame["module"]
                .as_str()
                .is_some_and(|name| name.starts_with('/'));
            let placed = frame["module_offset"].is_string() && frame["build_id"].is_string();
            assert!(placed || !in_file, "{script}: {}", report.line);
        }
    }
}
