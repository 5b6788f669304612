#!/usr/bin/env python3
"""The same crashes, seen by this project and by its peers at the same time.

    compare.py [PATTERN]     PATTERN is part of "source:scenario build"

Every program of the corpus crashes once; the monitor, perf and bpftrace watch,
gdb and eu-stack get the core file. Prints how many chains each has right, as
Markdown, and how often each had not all calls but ended as if it had. Ends with 1 if
a peer is right where we are not, or if we claim so wrongly. Needs root, and the
host's core pattern, which is put back at the end.

Peers are judged by their calls from the crash up to main. What a peer's frame
in the program is called does not count: all are named by the twin that has its
symbols, so that a stripped program is no disadvantage.
"""

import atexit
import os
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import check
import corpus
from corpus import DEPTH, Frame
from monitor import Monitor, frames

# For a peer to begin, on a machine that is busy.
PATIENCE_S = 60
PEERS = ["gdb", "eu-stack", "perf", "bpftrace"]
# Where programs lie that are not put at random places.
PIE_BASE = 0x555555554000


def private_mounts():
    """Runs this script again where a tracefs may be mounted."""
    if os.environ.get("CORPUS_PRIVATE"):
        return
    environment = {**os.environ, "CORPUS_PRIVATE": "1"}
    os.execvpe("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv],
               environment)


def mount_tracefs():
    for place, kind in (("/sys/kernel/tracing", "tracefs"), ("/sys/kernel/debug", "debugfs")):
        if Path(place).is_dir() and not os.listdir(place):
            subprocess.run(["mount", "-t", kind, kind, place], capture_output=True)


def cores_into(directory):
    pattern = Path("/proc/sys/kernel/core_pattern")
    before = pattern.read_text()
    atexit.register(lambda: pattern.write_text(before))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    # %P: as the first pid namespace numbers it, as reports do.
    pattern.write_text(f"{directory}/core.%P\n")
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def output(command, timeout=30):
    try:
        done = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, timeout=timeout)
        return done.stdout.decode(errors="replace")
    except subprocess.TimeoutExpired:
        return ""


def base_of(program):
    with open(program.twin, "rb") as file:
        header = file.read(18)
    return PIE_BASE if header[16] == 3 else 0


def renamed(program, found):
    """Frames in the program, by its twin's names."""
    base = base_of(program)
    first, last = program.extent()
    exact = True
    for frame in found:
        address = frame.address
        if address is not None and base + first <= address < base + last:
            frame.name = program.symbol(address - base - (0 if exact else 1)) or frame.name
        exact = bool(frame.name) and re.search("signal handler|restore_rt", frame.name) is not None
    for frame, name in zip(found, corpus.demangle([frame.name or "" for frame in found])):
        frame.name = name or None
    return found


GDB_FRAME = re.compile(r"^#\d+\s+(?:(0x[0-9a-f]+) in )?(.*)")


def gdb(program, core):
    text = output(["gdb", "-nx", "-batch", "-ex", "set debuginfod enabled off",
                   "-ex", f"bt {DEPTH}", program.twin, core])
    found = []
    for line in text.splitlines():
        match = GDB_FRAME.match(line)
        if match:
            # It prints the first frame when it opens the core, too.
            found = [] if line.startswith("#0 ") else found
            # <signal handler called> stands alone.
            name = re.split(r" \(| at | from ", match[2])[0] if " (" in match[2] else match[2]
            found.append(Frame(None if name == "??" else name, int(match[1], 16) if match[1] else None))
    return found


def eu_stack(program, core):
    text = output(["eu-stack", f"--core={core}", "-e", program.twin, "-n", DEPTH, "-r"])
    found, threads = [], 0
    for line in text.splitlines():
        threads += line.startswith("TID ")
        match = re.match(r"#\d+\s+(0x[0-9a-f]+)(?:\s+-\s+\d+)?(?:\s+(\S.*))?", line)
        if match and threads == 1:
            name = match[2].split(" ")[0] if match[2] else None
            found.append(Frame(name, int(match[1], 16)))
    return found


class Perf:
    """perf, with the largest copy of the stack that it can take."""

    def __init__(self, directory):
        self.data = directory / "perf.data"
        # It begins without events, and answers when it has enabled them.
        (orders, to_perf), (from_perf, answers) = os.pipe(), os.pipe()
        self.process = subprocess.Popen(
            ["perf", "record", "-a", "-q", "-m", "4096", "-e", "signal:signal_deliver", "--filter", "sig==11",
             "--call-graph", "dwarf,65528", "--delay=-1", f"--control=fd:{orders},{answers}", "-o", self.data],
            pass_fds=(orders, answers), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        os.close(orders)
        os.close(answers)
        os.write(to_perf, b"enable\n")
        ready, _, _ = select.select([from_perf], [], [], PATIENCE_S)
        if not ready or not os.read(from_perf, 16).startswith(b"ack"):
            self.process.kill()
            raise SystemExit("compare: perf did not start: " + self.process.communicate()[1].decode())
        os.close(from_perf)
        # With its other end closed it would stop.
        self.orders = to_perf

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.communicate()
        text = output(["perf", "script", "--no-inline", "-i", self.data, "-F", "pid,ip,sym"], timeout=600)
        stacks, current = {}, []
        for line in text.splitlines():
            if re.match(r"^\s+[0-9a-f]+ \S", line):
                address, name = line.split(None, 1)
                current.append(Frame(None if name.startswith("[unknown]") else name.split("+")[0], int(address, 16)))
            elif line.strip():
                current = stacks[int(line.split()[0])] = []
        # The kernel's own part comes first.
        return {pid: [f for f in found if f.address < 1 << 63] for pid, found in stacks.items()}


class Bpftrace:
    PROGRAM = """tracepoint:signal:signal_deliver /args->sig == 11/
        { printf("SAMPLE %d\\n%s\\n", pid, ustack(perf, 64)); }"""

    def __init__(self, directory):
        self.log = open(directory / "bpftrace.log", "w+")
        self.process = subprocess.Popen(["bpftrace", "-B", "line", "-e", self.PROGRAM], stdout=self.log,
                                        stderr=subprocess.STDOUT)
        # It says what it is going to attach, but not when it has: it has when it sees a crash.
        log, deadline = Path(self.log.name), time.monotonic() + PATIENCE_S
        while "SAMPLE " not in log.read_text(errors="replace"):
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.process.kill()
                raise SystemExit("compare: bpftrace did not start: " + log.read_text(errors="replace"))
            subprocess.run(["sh", "-c", "kill -SEGV $$"], cwd=directory)
            time.sleep(0.05)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        self.log.seek(0)
        stacks, current = {}, []
        for line in self.log:
            match = re.match(r"^\s+([0-9a-f]+) (\S+)", line)
            if line.startswith("SAMPLE "):
                current = stacks[int(line.split()[1])] = []
            elif match:
                name = None if match[2].startswith(("[unknown]", "0x")) else match[2].split("+")[0]
                current.append(Frame(name, int(match[1], 16)))
        return stacks


def comparable(case):
    """Crashes that end with a core of the same moment."""
    build = case.program.build
    return build.compared and build.language != "go" and "<gone>" not in case.chain \
        and (case.program.source.name, case.scenario) != ("memory.rs", "overflow")


# Where a process's or thread's first function is: whoever prints it and no error says
# that nothing is missing. What it is called does not matter where it has no name.
FIRST = re.compile(r"^(_start(_c)?|clone3?|__clone3?|start_thread|__libc_start_main.*|__start_context|start)$")


def claims_wrongly(tool, case, found):
    """Whether a peer says that it has all calls, and has not. None has a word for it;
    each ends without one where it believes to be at the outermost call, so that a chain
    counts that ends at a first function."""
    ended = bool(found) and bool(found[-1].name) and bool(FIRST.match(found[-1].name))
    lost = any(token in ("<lost>", "<cut>", "<gone>") for token in case.chain)
    return ended and not lost and not corpus.agrees(case.chain, found, case.program.own, False, False)


def version(command):
    line = output(command).splitlines()
    found = re.findall(r"\d+\.\d[\w.]*", line[0]) if line else []
    return found[-1] if found else "?"


def main():
    private_mounts()
    mount_tracefs()
    sys.setrecursionlimit(10000)
    directory = Path(os.environ.get("CORPUS_DIR", corpus.ROOT / "target/corpus"))
    pattern = sys.argv[1] if len(sys.argv) > 1 else ""
    cases, missing = corpus.cases(directory, pattern)
    missing |= {peer for peer in PEERS if not shutil.which(peer)}
    if missing:
        print("compare: not installed:", ", ".join(sorted(missing)))
        if os.environ.get("CI") == "true":
            return 1
    cases = [case for case in cases if comparable(case)]
    scratch = Path(tempfile.mkdtemp(prefix="corpus-"))
    atexit.register(shutil.rmtree, scratch, True)
    cores_into(scratch)

    watchers = {}
    if shutil.which("perf"):
        watchers["perf"] = Perf(scratch)
    if shutil.which("bpftrace"):
        watchers["bpftrace"] = Bpftrace(scratch)
    monitor = Monitor()
    check.PREFIX = ["setarch", "-R"]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(check.run_case, enumerate(cases)))
    reports = check.by_case(monitor.stop())
    seen = {name: watcher.stop() for name, watcher in watchers.items()}

    tools = ["segfault_analyzer"]
    core_tools = {name: tool for name, program, tool in
                  (("gdb", "gdb", gdb), ("eu-stack", "eu-stack", eu_stack)) if shutil.which(program)}

    def judge(numbered):
        number, case = numbered
        own, report = case.program.own, reports.get(number)
        what, ours = check.wrong(case, report)
        results = {"segfault_analyzer": (what is None, ours, check.claims_wrongly(case, report))}
        # The report's own number, where the process sees another.
        pid = report and (report.get("host_pid") or report["pid"])
        core = scratch / f"core.{pid}"
        for name, tool in core_tools.items():
            found = renamed(case.program, tool(case.program, core)) if pid and core.exists() else []
            results[name] = found
        for name, stacks in seen.items():
            results[name] = renamed(case.program, stacks.get(pid, []))
        for name in results.keys() - {"segfault_analyzer"}:
            found = results[name]
            while found and found[-1].name is None and case.chain[len(found) - 1:len(found)] != ["?"]:
                found.pop()
            results[name] = (bool(found) and corpus.agrees(case.chain, found, own, False, False), found,
                             claims_wrongly(name, case, found))
        core.unlink(missing_ok=True)
        return results

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        judged = list(pool.map(judge, enumerate(cases)))
    tools += [*core_tools, *seen]
    worse = 0
    for case, results in zip(cases, judged):
        right, ours, claims = results["segfault_analyzer"]
        worse += claims
        if claims:
            print(f"{case}: complete claimed wrongly")
        better = [tool for tool in tools[1:] if results[tool][0]]
        if not right:
            worse += bool(better) and not case.gap
            print(f"{case}: {'wrong, but right by ' + ', '.join(better) if better else 'wrong'}"
                  + (f" (known gap: {case.gap})" if case.gap else ""))
            print(f"    expected {' '.join(case.chain)}")
            print(f"    ours     {' '.join(map(str, ours))}")
            for tool in better:
                print(f"    {tool:8} {' '.join(map(str, results[tool][1]))}")
        elif os.environ.get("V") == "1":
            for tool in tools[1:]:
                if not results[tool][0]:
                    print(f"{case}: {tool}: {' '.join(map(str, results[tool][1]))}")
    print_table(tools, cases, judged)
    return 1 if worse else 0


VERSIONS = {"segfault_analyzer": ("this one, on the live crash", None), "gdb": ("`bt` on a core", ["gdb", "--version"]),
            "eu-stack": ("on a core", ["eu-stack", "--version"]),
            "perf": ("`--call-graph dwarf,65528`", ["perf", "--version"]),
            "bpftrace": ("`ustack`", ["bpftrace", "--version"])}


def print_table(tools, cases, judged):
    groups = {}
    for index, case in enumerate(cases):
        build = case.program.build
        group = {"rs": "Rust", "cc": "C++", "i386": "32-bit"}.get(build.language) or \
            ("musl" if build.libc == "musl" else "no unwind tables" if build.name == "no_tables" else "glibc")
        groups.setdefault(group, []).append(index)
    print(f"\nRight chains of {len(cases)}, {date.today()}, Linux {os.uname().release}:\n")
    print("| tool | version | " + " | ".join(f"{name} ({len(found)})" for name, found in groups.items()) + " | all | complete claimed wrongly |")
    print("|---|---|" + "---:|" * (len(groups) + 2))
    for tool in tools:
        how, command = VERSIONS[tool]
        counts = [sum(judged[index][tool][0] for index in found) for found in groups.values()]
        label = f"{tool}, {how}"
        print(f"| {label} | {version(command) if command else ''} | " + " | ".join(map(str, counts)) + f" | {sum(counts)} | {sum(results[tool][2] for results in judged)} |")


if __name__ == "__main__":
    sys.exit(main())
