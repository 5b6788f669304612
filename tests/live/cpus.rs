//! Where each CPU has a ring of its own: how many there are, and one that comes up.

use std::fs;
use std::process::Command;

use crate::harness::{binary, crash, eventually, Monitor, PATIENCE};
use crate::programs::Program;
use crate::report::only;
use crate::skip::{not_applicable, skip};
use crate::statistics::Block;
use crate::{cases, Needs};

cases! {
    Needs::Bpf => [cpus_that_come_up_have_rings_within_what_is_kept],
    Needs::Tool("taskset") => [cpus_that_we_may_not_run_on_count_too],
}

const CAP_SYS_ADMIN: u32 = 21;
/// What is written here, the kernel announces of the CPU.
const UEVENT: &str = "/sys/devices/system/cpu/cpu0/uevent";

/// Rings that are as large as the user said, so that the rest of the memory is enough.
fn cpus_that_we_may_not_run_on_count_too() {
    let program = Program::new("quick.c");
    for method in ["chain", "perf"] {
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(binary());
        command.args(["-n", &program.name, "--format", "json", "--stats"]);
        command.args(["--capture", method, "--ring-buffer", "65536"]);
        let monitor = Monitor::start_as(command);
        let pid = crash(&mut program.command());
        monitor.wait_reports(1);
        let outcome = monitor.stop();
        assert_eq!(only(outcome.reports())["pid"], pid);
        let block = Block::last(&outcome.stderr);
        let kilobytes = block.count("Ring buffer size (fixed)");
        assert!(kilobytes <= 65536, "{method}: {block:?}");
    }
}

/// The kernel says once more of a CPU that it is there: it gets a new ring, without
/// more privileges than that takes, and however little memory may be locked.
fn cpus_that_come_up_have_rings_within_what_is_kept() {
    let Ok(paranoid) = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid") else {
        not_applicable("this kernel has no perf events");
    };
    let paranoid: i32 = paranoid.trim().parse().expect("a number");
    let program = Program::new("quick.c");
    for method in ["ring", "chain", "tracepoint", "perf"] {
        let mut command = Command::new("sh");
        command.arg("-c").arg("ulimit -l 64 && exec \"$@\"");
        command.arg("sh").arg(binary());
        command.args(["-n", &program.name, "--format", "json", "--stats"]);
        command.args(["-t", "--capture", method, "--ring-buffer", "8192"]);
        command.args(["--stats-interval", "1"]);
        let monitor = Monitor::start_as(command);
        let status = fs::read_to_string(format!("/proc/{}/status", monitor.id()));
        let status = status.expect("it runs");
        let kept = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
        let kept = u64::from_str_radix(kept.expect("a line of it").trim(), 16);
        let has_all = kept.expect("a number") >> CAP_SYS_ADMIN & 1 != 0;
        assert_eq!(has_all, method != "ring" && paranoid > 2, "{method}");
        if let Err(error) = fs::write(UEVENT, "online") {
            skip(format_args!("{UEVENT}: {error}"));
        }
        // When the next page comes it has been heard.
        let pages = Block::all(&monitor.stderr()).len();
        eventually("two more pages", PATIENCE, || {
            (Block::all(&monitor.stderr()).len() >= pages + 2).then_some(())
        });
        let pid = crash(&mut program.command());
        monitor.wait_reports(1);
        let outcome = monitor.stop();
        assert!(!outcome.stderr.contains("Warning"), "{}", outcome.stderr);
        assert_eq!(only(outcome.reports())["pid"], pid);
    }
}
