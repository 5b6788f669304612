//! What a delivery was: a fault or a sent signal, of which kind, and what became
//! of it. And the two deliveries of one death.

use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use crate::harness::{crash, eventually, status_of, Monitor, PATIENCE};
use crate::programs::{command, directory, unique, Program};
use crate::report::{only, Report};
use crate::skip::need_x86_64;
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        delivery_of_each_access,
        delivery_of_a_general_protection_fault,
        delivery_of_a_signal_sent_to_itself,
        delivery_of_a_signal_sent_by_another,
        delivery_handled,
        delivery_handled_is_left_out_by_fatal_only,
        delivery_raised_again,
        delivery_raised_again_with_fatal_only,
        delivery_with_resethand,
        delivery_long_after_a_fault_that_was_overcome,
        delivery_on_a_fresh_page_of_stack,
        delivery_ignored_is_never_made,
        delivery_ignored_after_unblocking,
        delivery_of_a_stack_overflow,
        delivery_of_a_stack_overflow_without_room_for_its_handler,
        delivery_of_a_stack_overflow_on_an_alternate_stack,
    ],
    Needs::Tool("python3") => [delivery_under_faulthandler],
}

fn reports_of(program: &Program, args: &[&str], options: &[&str]) -> Vec<Report> {
    let monitor =
        Monitor::start([&["-n", &program.name, "--format", "json", "-t"], options].concat());
    crash(program.command().args(args));
    monitor.stop().reports()
}

fn is_null(report: &Report, keys: &[&str]) {
    for key in keys {
        assert!(
            report[*key].is_null(),
            "{key} is not known: {}",
            report.line
        );
    }
}

fn delivery_of_each_access() {
    let program = Program::new("access.c");
    let table = [
        ("read", "read", "map_error", "SEGV_MAPERR", Some(0x8)),
        ("write", "write", "map_error", "SEGV_MAPERR", Some(0x18)),
        ("readonly", "write", "access_error", "SEGV_ACCERR", None),
        ("execute", "execute", "access_error", "SEGV_ACCERR", None),
        ("null_call", "execute", "map_error", "SEGV_MAPERR", Some(0)),
    ];
    for (kind, access, fault_type, code, address) in table {
        let report = only(reports_of(&program, &[kind], &[]));
        assert_eq!(report["access"], access, "{kind}: {}", report.line);
        assert_eq!(report["fault_type"], fault_type, "{kind}: {}", report.line);
        assert_eq!(report["signal_code"], code, "{kind}: {}", report.line);
        assert_eq!(report["disposition"], "fatal", "{kind}: {}", report.line);
        let found = report.hex("fault_address");
        assert!(
            address.map_or(found > 0xffff && found & 0xfff == 0, |a| a == found),
            "{kind}: {}",
            report.line
        );
        assert_eq!(
            report.str("fault_address").len(),
            18,
            "16 digits: {}",
            report.line
        );
        if access == "execute" {
            assert_eq!(
                report.hex("instruction_pointer"),
                found,
                "{kind}: {}",
                report.line
            );
        } else {
            report.assert_chain(&[&format!("do_{kind}"), "main"]);
        }
    }
}

fn delivery_of_a_general_protection_fault() {
    need_x86_64();
    let report = only(reports_of(
        &Program::new("access.c"),
        &["noncanonical"],
        &[],
    ));
    assert_eq!(report["signal_code"], "SI_KERNEL");
    assert_eq!(report["fault_type"], "unknown");
    assert_eq!(report["disposition"], "fatal");
    // The kernel says 0, which would be a lie; the instruction tells the truth.
    let address = &report["fault_address"];
    assert_eq!(*address, "0x4141414141414141", "{}", report.line);
    is_null(&report, &["sender", "first_fault"]);
    report.assert_chain(&["do_noncanonical", "main"]);
}

fn delivery_of_a_signal_sent_to_itself() {
    let report = only(reports_of(&Program::new("kill_self.c"), &[], &[]));
    assert_eq!(report["signal_code"], "SI_USER");
    assert_eq!(report["fault_type"], "unknown");
    assert_eq!(report["sender"]["pid"], report["pid"]);
    assert_eq!(report["sender"]["uid"], 0);
    is_null(&report, &["fault_address", "access", "first_fault"]);
}

fn delivery_of_a_signal_sent_by_another() {
    let program = Program::new("wait.c");
    let monitor = Monitor::start(["-n", &program.name, "--format", "json"]);
    let mut child = program
        .command()
        .stdin(Stdio::piped())
        .spawn()
        .expect("start wait");
    eventually("its exec", PATIENCE, || {
        let exe = std::fs::read_link(format!("/proc/{}/exe", child.id())).ok();
        (exe.as_deref() == Some(&*program.path)).then_some(())
    });
    kill(Pid::from_raw(child.id() as i32), Signal::SIGSEGV).expect("our child");
    child.wait().expect("our child");
    let report = only(monitor.stop().reports());
    assert_eq!(report["disposition"], "fatal");
    assert_eq!(report["signal_code"], "SI_USER");
    assert_eq!(report["sender"]["pid"], std::process::id());
    assert_eq!(report["sender"]["uid"], 0);
    is_null(&report, &["fault_address", "access"]);
}

fn delivery_handled() {
    let program = Program::new("handled.c");
    let monitor = Monitor::start(["-n", &program.name, "--format", "json", "-t"]);
    assert!(status_of(program.command().arg("5")).success());
    let reports = monitor.stop().reports();
    for report in &reports {
        assert_eq!(report["disposition"], "handled", "{}", report.line);
        assert_eq!(report.hex("fault_address"), 0x10, "{}", report.line);
        assert_eq!(report["access"], "read", "{}", report.line);
        report.assert_chain(&["risky", "main"]);
    }
    // Equal handled faults may be folded into one report that counts them.
    if reports.iter().all(|report| report["repeats"].is_null()) {
        assert_eq!(reports.len(), 5);
    }
    assert!(!reports.is_empty());
}

fn delivery_handled_is_left_out_by_fatal_only() {
    let program = Program::new("handled.c");
    let deadly = program.sibling("quick.c");
    let monitor = Monitor::start([
        "-n",
        &program.name,
        "--format",
        "json",
        "--fatal-only",
        "--stats",
    ]);
    assert!(status_of(program.command().arg("5")).success());
    crash(&mut deadly.command());
    let outcome = monitor.stop();
    let report = only(outcome.reports());
    assert_eq!(report["exe"], deadly.path());
    assert!(report.is_fatal(), "{}", report.line);
    // In the kernel: what is left out was never submitted.
    let statistics = crate::statistics::Block::last(&outcome.stderr);
    assert_eq!(statistics.count("Events submitted to userspace"), 1);
    assert!(
        statistics.count("Segfaults filtered out") >= 5,
        "{statistics:?}"
    );
}

/// The second delivery says what the first one was.
fn assert_first_fault(fatal: &Report, handled: &Report) {
    let first = &fatal["first_fault"];
    assert_eq!(first["code"], handled["signal_code"], "{}", fatal.line);
    assert_eq!(first["address"], handled["fault_address"], "{}", fatal.line);
    assert_eq!(
        first["pc"], handled["instruction_pointer"],
        "{}",
        fatal.line
    );
    assert_eq!(first["access"], handled["access"], "{}", fatal.line);
}

fn two(reports: Vec<Report>) -> (Report, Report) {
    let [handled, fatal] = <[Report; 2]>::try_from(reports)
        .unwrap_or_else(|all| panic!("expected two deliveries, got {}: {all:#?}", all.len()));
    assert_eq!(handled["disposition"], "handled", "{}", handled.line);
    assert_eq!(fatal["disposition"], "fatal", "{}", fatal.line);
    assert_eq!(
        (&handled["pid"], &handled["tid"]),
        (&fatal["pid"], &fatal["tid"])
    );
    is_null(&handled, &["first_fault"]);
    (handled, fatal)
}

fn delivery_raised_again() {
    let (handled, fatal) = two(reports_of(&Program::new("reraise.c"), &[], &[]));
    assert_eq!(handled["signal_code"], "SEGV_MAPERR");
    assert_eq!(handled.hex("fault_address"), 0x20);
    assert_eq!(handled["access"], "write");
    handled.assert_chain(&["bad_store", "main"]);
    assert_eq!(fatal["signal_code"], "SI_TKILL");
    assert_eq!(fatal["sender"]["pid"], fatal["pid"]);
    is_null(&fatal, &["fault_address", "access"]);
    assert_first_fault(&fatal, &handled);
}

/// The first delivery is filtered out, yet remembered.
fn delivery_raised_again_with_fatal_only() {
    let fatal = only(reports_of(
        &Program::new("reraise.c"),
        &[],
        &["--fatal-only"],
    ));
    assert_eq!(fatal["disposition"], "fatal");
    assert_eq!(
        fatal["first_fault"]["code"], "SEGV_MAPERR",
        "{}",
        fatal.line
    );
    assert_eq!(
        fatal["first_fault"]["address"], "0x0000000000000020",
        "{}",
        fatal.line
    );
    assert_eq!(fatal["first_fault"]["access"], "write", "{}", fatal.line);
}

/// What a thread got over is not why it dies: not for what it executes later, and
/// not for whoever kills it.
fn delivery_long_after_a_fault_that_was_overcome() {
    for (way, code) in [("exec", "SEGV_MAPERR"), ("killed", "SI_USER")] {
        let (handled, fatal) = two(reports_of(&Program::new("recovered.c"), &[way], &[]));
        assert_eq!(handled["fault_address"], "0x0000000000000010");
        assert_eq!(fatal["signal_code"], code, "{}", fatal.line);
        is_null(&fatal, &["first_fault"]);
    }
}

/// The red zone in the page below cannot be read there, the stack can.
fn delivery_on_a_fresh_page_of_stack() {
    let report = only(reports_of(&Program::new("fresh_page.c"), &[], &[]));
    let lost = report["lost"].to_string();
    assert!(!lost.contains("not readable"), "{}", report.line);
}

/// Both deliveries are true faults, at one place.
fn delivery_with_resethand() {
    let (handled, fatal) = two(reports_of(&Program::new("resethand.c"), &[], &[]));
    for key in [
        "signal_code",
        "fault_address",
        "instruction_pointer",
        "access",
        "fault_type",
    ] {
        assert_eq!(handled[key], fatal[key], "{key}: {}", fatal.line);
    }
    assert_eq!(fatal.hex("fault_address"), 0x30);
    handled.assert_chain(&["bad_store", "main"]);
    fatal.assert_chain(&["bad_store", "main"]);
}

fn delivery_ignored_is_never_made() {
    let program = Program::new("ignored.c");
    let deadly = program.sibling("quick.c");
    let monitor = Monitor::start(["-n", &program.name, "--format", "json"]);
    assert!(status_of(&mut program.command()).success());
    crash(&mut deadly.command());
    assert_eq!(only(monitor.stop().reports())["exe"], deadly.path());
}

fn delivery_ignored_after_unblocking() {
    let program = Program::new("ignored.c");
    let monitor = Monitor::start(["-n", &program.name, "--format", "json"]);
    assert!(status_of(program.command().arg("blocked")).success());
    let report = only(monitor.stop().reports());
    assert_eq!(report["disposition"], "ignored", "{}", report.line);
    assert_eq!(report["signal_code"], "SI_USER");
}

fn delivery_of_a_stack_overflow() {
    let report = only(reports_of(&Program::new("overflow.c"), &["plain"], &["-r"]));
    assert_eq!(report["signal_code"], "SEGV_MAPERR");
    report.assert_chain(&["recurse", "recurse", "recurse"]);
    let sp = if cfg!(target_arch = "x86_64") {
        "rsp"
    } else {
        "sp"
    };
    let sp = crate::report::parse_hex(&report["registers"][sp]).expect("a stack pointer");
    assert!(
        report.hex("fault_address").abs_diff(sp) < 0x1_0000,
        "near the stack pointer: {}",
        report.line
    );
}

fn delivery_of_a_stack_overflow_without_room_for_its_handler() {
    let (handled, fatal) = two(reports_of(&Program::new("overflow.c"), &["handler"], &[]));
    assert_eq!(handled["signal_code"], "SEGV_MAPERR");
    handled.assert_chain(&["recurse", "recurse", "recurse"]);
    assert_eq!(fatal["signal_code"], "SI_KERNEL");
    assert!(
        fatal["fault_address"] != "0x0000000000000000",
        "not known, not zero: {}",
        fatal.line
    );
    assert_first_fault(&fatal, &handled);
}

fn delivery_of_a_stack_overflow_on_an_alternate_stack() {
    let (handled, fatal) = two(reports_of(&Program::new("overflow.c"), &["altstack"], &[]));
    assert_eq!(handled["signal_code"], "SEGV_MAPERR");
    handled.assert_chain(&["recurse", "recurse", "recurse"]);
    assert_eq!(fatal["signal_code"], "SI_TKILL");
    assert_first_fault(&fatal, &handled);
}

/// Python's own crash handler prints its traceback and raises the signal anew.
fn delivery_under_faulthandler() {
    let path = Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .output();
    let path = String::from_utf8(path.expect("python3").stdout).expect("a path");
    let name = unique("py");
    let link = directory().join(&name);
    std::os::unix::fs::symlink(Path::new(path.trim()), &link).expect("our own directory");
    let monitor = Monitor::start(["-n", &name, "--format", "json"]);
    let mut python = command(&link);
    python.args([
        "-X",
        "faulthandler",
        "-c",
        "import faulthandler; faulthandler._read_null()",
    ]);
    let output = python.stdin(Stdio::null()).output().expect("python3");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("Fatal Python error"),
        "{output:?}"
    );
    let (handled, fatal) = two(monitor.stop().reports());
    assert_eq!(handled["signal_code"], "SEGV_MAPERR");
    assert_eq!(handled["fault_address"], "0x0000000000000000");
    assert_eq!(handled["access"], "read");
    assert_first_fault(&fatal, &handled);
}
