//! Kernels without type information, as `--capture measured` makes any kernel:
//! offsets are measured at start, and what comes of them is right or not said.

use std::time::{Duration, Instant};

use crate::harness::{binary, crash, run, Monitor};
use crate::programs::Program;
use crate::report::parse_hex;
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [measured_offsets_are_announced, measured_offsets_cost_what_they_lose],
    Needs::Alone => [measured_offsets_are_right_100_times, measured_offsets_are_there_at_once],
}

const CRASHES: u64 = 100;
/// From the start of the program to the line that scripts wait for.
const MOST: Duration = Duration::from_millis(150);

/// The registers that the crashing program sets, and the one that holds its address.
const REGISTERS: [&str; 5] = match cfg!(target_arch = "aarch64") {
    true => ["x19", "x20", "x21", "x22", "x23"],
    false => ["rbx", "r12", "r13", "r14", "r15"],
};

/// Offsets are measured; the method is as named, or the kernel's choice.
fn measured(method: Option<&str>, program: &Program) -> Monitor {
    let method = method.into_iter().flat_map(|method| ["--capture", method]);
    let options = ["--capture", "measured"].into_iter().chain(method);
    let details = ["-r", "-t", "--format", "json", "-n", &program.name];
    Monitor::start(options.chain(details))
}

fn measured_offsets_are_right_100_times() {
    for method in [None, Some("chain"), Some("tracepoint")] {
        let program = Program::new("registers.c");
        let monitor = measured(method, &program);
        for number in 0..CRASHES {
            crash(program.command().arg(number.to_string()));
        }
        let reports = monitor.wait_reports(CRASHES as usize);
        monitor.stop();
        assert_eq!(reports.len() as u64, CRASHES, "{method:?}");
        for (report, number) in reports.iter().zip(0..) {
            let line = &report.line;
            assert_eq!(
                report.hex("fault_address"),
                0x5e_adbe_0000 + 16 * number,
                "{line}"
            );
            assert_eq!(report["access"], "write", "{line}");
            assert_eq!(report["comm"], program.name.as_str(), "{line}");
            for (place, name) in (1..).zip(REGISTERS) {
                let value = parse_hex(&report["registers"][name]);
                assert_eq!(value, Some(number | place << 56), "{name} in {line}");
            }
            report.assert_chain(&["set_and_write", "main"]);
            assert_eq!(report["exe"], program.path(), "{line}");
            for frame in &report.frames()[..2] {
                assert_eq!(frame["module"], program.path(), "{line}");
            }
            // Where the cgroup stands is not searched for.
            let lost = report.lost();
            assert!(
                lost.iter().all(|lost| lost.starts_with("cgroup: ")),
                "{line}"
            );
        }
    }
}

fn measured_offsets_are_announced() {
    let outcome = run(["--capture", "measured", "--check"]);
    let page = outcome.text();
    assert_eq!(outcome.status.code(), Some(0), "{page}");
    assert!(
        page.contains("Kernel types           measured at start"),
        "{page}"
    );
    assert!(page.contains("  cgroup "), "what reports lack: {page}");
}

fn measured_offsets_cost_what_they_lose() {
    let program = Program::new("quick.c");
    let monitor = measured(Some("tracepoint"), &program);
    crash(&mut program.command());
    let report = monitor.wait_reports(1).remove(0);
    monitor.stop();
    assert!(report["cgroup"].is_null(), "{}", report.line);
    let lost = report["lost"].to_string();
    assert!(lost.contains("cgroup: not looked for"), "{lost}");
    report.assert_chain(&["quick_crash", "main"]);
}

/// The best of some: other work on the machine is not the tool's.
fn measured_offsets_are_there_at_once() {
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let mut command = std::process::Command::new(binary());
        command.args(["--capture", "measured"]);
        let began = Instant::now();
        let mut monitor = Monitor::spawn(command);
        monitor.wait_attached();
        best = best.min(began.elapsed());
        monitor.stop();
    }
    println!("attached after {best:?}");
    assert!(best < MOST, "attached after {best:?} at best");
}
