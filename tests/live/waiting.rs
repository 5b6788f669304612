//! Other threads, live: what a report says of them, beside what gdb sees in the kernel's core
//! of the same crash, and in ours.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cores::{crash_with, Crash};
use crate::harness::{crash, Monitor};
use crate::programs::{Program, NO_PIE, PIE, STATIC};
use crate::report::only;
use crate::skip::need_call_frame_information;
use crate::thread_cores::{check_deadlock, names, of_gdb, others, plain, thread_in, CALLS};
use crate::{cases, Needs};

cases! {
    Needs::Tool("gdb") => [
        waiting_threads_as_gdb_sees_them,
        waiting_for_each_other_in_a_core,
    ],
    Needs::Bpf => [
        waiting_threads_in_text,
        waiting_threads_beyond_the_limit,
        waiting_threads_only_if_asked_for,
    ],
}

/// The functions of each other thread, by its number in the first namespace.
fn calls(crash: &Crash) -> BTreeMap<u64, Vec<String>> {
    let list = others(&crash.report).iter();
    let of = |thread: &Value| {
        let names = names(thread).iter().map(|name| plain(name)).collect();
        (thread["tid"].as_u64().expect("a number"), names)
    };
    list.map(of).collect()
}

fn waiting_threads_as_gdb_sees_them() {
    need_call_frame_information();
    for flags in [PIE, NO_PIE, STATIC] {
        let crash = crash_with(
            &["--threads"],
            Program::built("blocked.c", flags),
            &["calls"],
        );
        let report = &crash.report;
        assert_eq!(report["thread_count"], 10, "{}", report.line);
        assert_eq!(others(report).len(), 9, "{}", report.line);
        let path = &crash.program.path;
        let [kernels, ours] = [&crash.kernels, &crash.ours].map(|core| of_gdb(path, core));
        let calls = calls(&crash);
        for (function, call) in CALLS {
            let thread = thread_in(report, function);
            let tid = thread["tid"].as_u64().expect("a number");
            assert_eq!(calls[&tid], kernels[&tid], "the kernel's core: {thread}");
            assert_eq!(calls[&tid], ours[&tid], "our core: {thread}");
            assert_eq!(thread["state"], "sleeping", "{thread}");
            assert_eq!(thread["stack_complete"], true, "{thread}");
            let name = thread["syscall"]["name"].as_str().expect("a name");
            // arm64 has fewer calls.
            let others = [("poll", "ppoll"), ("epoll_wait", "epoll_pwait")];
            let same = name == call || others.contains(&(call, name));
            assert!(same, "{function}: {thread}");
        }
        let mut spinning = others(report)
            .iter()
            .filter(|thread| thread["state"] != "sleeping");
        let spinning = spinning.next().expect("one that spins");
        assert!(spinning["syscall"].is_null(), "{spinning}");
        let tid = spinning["tid"].as_u64().expect("a number");
        match spinning["state"].as_str() {
            // On another processor: no stack is claimed.
            Some("running") => assert_eq!(spinning["stack_trace"].as_array().unwrap().len(), 0),
            Some("runnable") => assert_eq!(calls[&tid], kernels[&tid]),
            _ => panic!("{spinning}"),
        }
        assert_eq!(
            ours.keys().collect::<Vec<_>>(),
            kernels.keys().collect::<Vec<_>>()
        );
    }
}

fn waiting_for_each_other_in_a_core() {
    need_call_frame_information();
    for how in ["locks", "recursive"] {
        let crash = crash_with(&["--threads"], Program::new("blocked.c"), &[how]);
        check_deadlock(&crash.report, ["mutex_a+0x0 (/", "mutex_b+0x0 (/"]);
        let gdb = of_gdb(&crash.program.path, &crash.ours);
        for (tid, calls) in calls(&crash) {
            assert_eq!(calls, gdb[&tid], "{}", crash.report.line);
        }
    }
}

fn waiting_threads_in_text() {
    need_call_frame_information();
    let program = Program::new("blocked.c");
    let monitor = Monitor::start(["-n", &program.name, "-t", "--threads"]);
    crash(program.command().arg("locks"));
    let outcome = monitor.stop();
    let text = outcome.text();
    assert!(text.contains("\n  Other Threads (2):\n"), "{text}");
    assert!(text.contains(" in futex(0x"), "{text}");
    assert!(
        text.contains(" may be deadlocked: each waits for a lock"),
        "{text}"
    );
    for function in ["a_then_b+0x", "b_then_a+0x", "crash_now+0x"] {
        assert!(text.contains(function), "{function}: {text}");
    }
}

fn waiting_threads_beyond_the_limit() {
    let program = Program::new("blocked.c");
    let monitor = Monitor::start(["-n", &program.name, "--threads=3", "--format", "json"]);
    crash(program.command().arg("calls"));
    let report = only(monitor.stop().reports());
    assert_eq!(others(&report).len(), 3, "{}", report.line);
    assert_eq!(report["thread_count"], 10, "{}", report.line);
    let lost = report.lost();
    assert!(
        lost.iter().any(|lost| lost.starts_with("threads: ")),
        "{lost:?}"
    );
    // Without -t there are no stacks, and no reason for that.
    for thread in others(&report) {
        assert!(thread["stack_trace"].is_null(), "{thread}");
        assert!(!thread["syscall"].is_null(), "{thread}");
    }
}

fn waiting_threads_only_if_asked_for() {
    let program = Program::new("blocked.c");
    let monitor = Monitor::start(["-n", &program.name, "-t", "--format", "json"]);
    crash(program.command().arg("locks"));
    let report = only(monitor.stop().reports());
    for key in ["threads", "thread_count", "waits_for", "deadlock"] {
        assert!(!report.keys().contains(&key), "{key}: {}", report.line);
    }
}
