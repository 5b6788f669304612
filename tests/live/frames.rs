//! Stacks that end in other ways than the kernel's and glibc's own, and faults near a
//! stack that are no overflow.

use crate::harness::{crash, options_for_all, Monitor};
use crate::programs::{Program, PIE};
use crate::report::only;
use crate::skip::need_x86_64;
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [
        frames_that_leave_their_stack,
        frames_that_do_not,
        frames_of_the_vsyscall_page,
    ],
}

/// Perf events do not tell addresses, nor mappings of data.
fn tells_addresses() -> bool {
    options_for_all().iter().all(|option| option != "perf")
}

fn causes(hows: &[(&str, &str)]) {
    let program = Program::built("frames.c", PIE);
    for options in [&[][..], &["-r", "-t"]] {
        for (how, cause) in hows {
            let mut all = vec!["-n", &*program.name, "--format", "json"];
            all.extend(options);
            let monitor = Monitor::start(all);
            crash(program.command().arg(how));
            let report = only(monitor.stop().reports());
            if tells_addresses() {
                assert_eq!(report["cause"], *cause, "{how}: {}", report.line);
            }
        }
    }
}

fn frames_that_leave_their_stack() {
    causes(&[
        ("bare", "stack_overflow"),
        ("over", "stack_overflow"),
        ("into", "stack_overflow"),
    ]);
}

fn frames_that_do_not() {
    causes(&[
        ("coroutine", "access_protected"),
        ("alternate", "access_protected"),
        ("alloca", "null_dereference"),
        ("beside", "unmapped"),
    ]);
}

fn frames_of_the_vsyscall_page() {
    need_x86_64();
    let program = Program::new("vsyscall.c");
    let monitor = Monitor::start(["-n", &program.name, "-t", "--format", "json"]);
    crash(&mut program.command());
    let report = only(monitor.stop().reports());
    let frame = &report["stack_trace"][0];
    assert_eq!(frame["module"], "[vsyscall]", "{}", report.line);
    assert_eq!(
        report["stack_trace"][1]["symbol"]
            .as_str()
            .map(|it| it.starts_with("main+")),
        Some(true)
    );
    if tells_addresses() {
        assert!(
            report.str("cause_text").contains("vsyscall page"),
            "{}",
            report.line
        );
    }
}
