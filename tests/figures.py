#!/usr/bin/env python3
"""Measures the binary on this machine, and prints the table of
docs/performance.md.

    tests/figures.py BINARY [OTHER-ARCHITECTURE'S-BINARY...]

Needs root, a C compiler, and a machine that is otherwise idle: figures drift
from run to run, so each is a median (of 31 runs where not said otherwise).
"""

import glob
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

RUNS = 31
FAULTS_A_SECOND = 10_000
HERE = os.path.dirname(os.path.abspath(__file__))
STATS = "/proc/sys/kernel/bpf_stats_enabled"

TIMED_CRASH = r"""
#include <time.h>
#include <unistd.h>
int main(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    write(1, &now, sizeof now);
    *(volatile int *)0 = 1;
}
"""


class Monitor:
    """A running tool; `seconds` is the time from exec to its word that it is attached."""

    def __init__(self, binary, *options):
        self.stdout_read, stdout_write = os.pipe()
        began = time.monotonic()
        self.process = subprocess.Popen(
            [binary, *options], stdout=stdout_write, stderr=subprocess.PIPE, bufsize=0
        )
        os.close(stdout_write)
        line = b""
        while not line.startswith(b"Monitoring"):
            line = self.process.stderr.readline()
            if not line:
                sys.exit(f"{binary} {' '.join(options)}: ended before it was attached")
        self.seconds = time.monotonic() - began

    def memory_kb(self, key):
        """A line of /proc/PID/status."""
        with open(f"/proc/{self.process.pid}/status") as status:
            return int(re.search(rf"{key}:\s+(\d+)", status.read())[1])

    def ring_kb(self):
        """What of the mapped ring is resident: it counts as ours, and is the kernel's."""
        with open(f"/proc/{self.process.pid}/smaps") as smaps:
            text = smaps.read()
        sizes = re.findall(r"^\S+ \S+ \S+ \S+ \S+\s+anon_inode:bpf-map.*?^Rss:\s+(\d+)", text, re.M | re.S)
        return sum(map(int, sizes))

    def program(self):
        """Run time and count of the BPF program, as the kernel has them."""
        for path in glob.glob(f"/proc/{self.process.pid}/fdinfo/*"):
            with open(path) as info:
                text = info.read()
            if "prog_type" in text:
                find = lambda key: int(re.search(rf"{key}:\s+(\d+)", text)[1])
                return find("run_time_ns"), find("run_cnt")
        sys.exit("no BPF program among the tool's descriptors")

    def processor_ns(self):
        """What its threads have used of processors."""
        total = 0
        for path in glob.glob(f"/proc/{self.process.pid}/task/*/schedstat"):
            with open(path) as times:
                total += int(times.read().split()[0])
        return total

    def end(self):
        self.process.send_signal(signal.SIGINT)
        errors = self.process.stderr.read().decode()
        self.process.wait()
        os.close(self.stdout_read)
        return errors


def compile_c(directory, name, source, *flags):
    path = os.path.join(directory, name)
    subprocess.run(
        [os.environ.get("CC", "cc"), "-O2", *flags, "-x", "c", "-I", f"{HERE}/crashers", "-o", path, "-"],
        input=source.encode(), check=True,
    )
    return path


def read(name):
    with open(f"{HERE}/crashers/{name}") as source:
        return source.read()


def set_stats(value):
    with open(STATS, "w") as stats:
        stats.write(value)


def start_up(binary, *options):
    seconds, peak, idle = [], [], []
    for _ in range(RUNS):
        monitor = Monitor(binary, *options)
        seconds.append(monitor.seconds)
        peak.append(monitor.memory_kb("VmHWM") - monitor.ring_kb())
        time.sleep(0.05)
        idle.append(monitor.memory_kb("VmRSS") - monitor.ring_kb())
        monitor.end()
        # To attach right behind a detach waits for the kernel to be done with that.
        time.sleep(0.2)
    return map(statistics.median, (seconds, peak, idle))


def in_the_kernel(binary, program):
    """Median over the runs of one crash each: the kernel's own figure."""
    monitor = Monitor(binary, "-t", "-o", "/dev/null", "--stats", "--stats-interval", "3600")
    times = []
    for _ in range(RUNS * 5):
        before, runs_before = monitor.program()
        subprocess.run([program], stdout=subprocess.DEVNULL)
        after, runs_after = monitor.program()
        # Deliveries of other signals meanwhile would be counted too.
        if runs_after - runs_before <= 2:
            times.append(after - before)
    own = re.search(r"Mean time in the kernel:\s+(\S+) us", monitor.end())[1]
    return statistics.median(times) / 1000, float(own)


def latency(binary, program):
    """From the fault to the report in the reader's hands, program known."""
    monitor = Monitor(binary, "-t", "-n", os.path.basename(program))
    micros = []
    for _ in range(RUNS):
        time.sleep(0.02)
        crash = subprocess.Popen([program], stdout=subprocess.PIPE)
        report = b""
        while b"_start+" not in report and not report.endswith(b"\n\n"):
            report += os.read(monitor.stdout_read, 65536)
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        seconds, nanos = memoryview(crash.stdout.read(16)).cast("q")
        crash.wait()
        micros.append((now - seconds * 10**9 - nanos) / 1000)
    monitor.end()
    return statistics.median(micros[1:])


def storm(binary, directory, *arguments):
    program = compile_c(directory, "storm", read("storm.c"))
    log = os.path.join(directory, "log")
    monitor = Monitor(binary, "-t", "--format", "json", "-o", log, "--stats", "--stats-interval", "3600")
    began = time.monotonic()
    subprocess.run([program, *arguments], check=True, stdout=subprocess.DEVNULL)
    seconds = time.monotonic() - began
    peak = monitor.memory_kb("VmHWM") - monitor.ring_kb()
    errors = monitor.end()
    count = lambda label: int(re.search(rf"{label}:\s+(\d+)", errors)[1])
    with open(log) as lines:
        whole = sum(json.loads(line)["stack_complete"] for line in lines)
    return int(arguments[0]) / seconds, count("Events dropped"), count("Events processed"), whole, peak


def folding(binary, directory, *options):
    """Share of one core that handled faults cost: what the kernel says of the program,
    and what the tool itself used. Median of five times ten seconds."""
    program = compile_c(directory, "paced", read("paced.c"))
    shares = []
    for _ in range(5):
        monitor = Monitor(binary, *options, "-o", "/dev/null")
        before = monitor.program()[0] + monitor.processor_ns()
        began = time.monotonic()
        taken = int(subprocess.run([program, str(FAULTS_A_SECOND), "10"], check=True, capture_output=True).stdout)
        used = monitor.program()[0] + monitor.processor_ns() - before
        seconds = time.monotonic() - began
        monitor.end()
        if taken / seconds < 0.98 * FAULTS_A_SECOND:
            sys.exit(f"only {taken / seconds:.0f} handled faults a second: not an idle machine")
        shares.append(used / seconds / 1e9)
    return statistics.median(shares)


def main():
    binaries = sys.argv[1:]
    binary = os.path.abspath(binaries[0])
    rows = [(f"Size of `{os.path.basename(os.path.dirname(os.path.dirname(b)))}`",
             f"{os.path.getsize(b):,} bytes") for b in binaries]
    with tempfile.TemporaryDirectory() as directory:
        small = compile_c(directory, "small_dynamic", TIMED_CRASH)
        fixed = compile_c(directory, "small_static", TIMED_CRASH, "-static")
        seconds, peak, idle = start_up(binary)
        rows += [
            ("From exec to attached", f"{seconds * 1000:.1f} ms"),
            ("Resident at the peak of start-up, without the ring", f"{peak / 1024:.1f} MB"),
            ("Resident while idle, without the ring", f"{idle / 1024:.1f} MB"),
        ]
        with open(STATS) as stats:
            before = stats.read()
        set_stats("1")
        try:
            for name, program in (("dynamic", small), ("static", fixed)):
                whole, own = in_the_kernel(binary, program)
                rows.append((f"In the kernel for a crash of a small {name} C program, `-t`",
                             f"{whole:.1f} µs ({own:.1f} µs by the program's own clock, mean)"))
            rows.append((f"{FAULTS_A_SECOND:,} handled faults a second, `-t`",
                         f"{100 * folding(binary, directory, '-t'):.2f} % of one core"))
        finally:
            set_stats(before)
        rows.append(("From the fault to the report read, program known, `-t`", f"{latency(binary, small):.0f} µs"))
        for arguments in (["20000", "2"], ["3000", "2", small]):
            rate, dropped, processed, whole, peak = storm(binary, directory, *arguments)
            what = "fork and crash" if len(arguments) == 2 else "exec and crash"
            rows.append((f"{arguments[0]} times {what}, as fast as two processes can",
                         f"{rate:,.0f} a second: {processed} reports, {whole} with the whole chain, "
                         f"{dropped} dropped, {peak / 1024:.1f} MB at the peak"))
    print("| what | median |\n|---|---|")
    for row in rows:
        print("| {} | {} |".format(*row))


if __name__ == "__main__":
    main()
