#!/usr/bin/env python3
"""Boots kernels in QEMU, each with the static binary and programs that crash, tries
every way of capture there, and prints a table of kernels and features. Status 1 when
anything is not as it should be.

    run.py --binaries FOLDER [NAME...]         those of `--list`; all of them without
                                               NAME; `extremes` for the oldest, the
                                               newest and the one without BTF
    run.py --binaries FOLDER --kernel FILE     an image of your own
    run.py --fetch [NAME...]                   the kernels alone, for later
"""

import argparse
import concurrent.futures
import os
import subprocess
import sys
import threading
import time

import emulator
import judge
import kernels
import programs
import methods
from debian import Cache
from guest import Guest
from initramfs import Archive

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.path.join(HERE, "..", "..", "target")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a kernel of --list")
    parser.add_argument("--list", action="store_true", help="name the kernels")
    parser.add_argument("--kernel", metavar="FILE", help="an image of your own")
    parser.add_argument("--fetch", action="store_true", help="download and build the kernels, and no more")
    parser.add_argument("--machine-of", metavar="FILE", help="say which machine an image is for")
    parser.add_argument("--binaries", metavar="FOLDER", help="holds MACHINE-unknown-linux-musl/release/segfault_analyzer")
    parser.add_argument("--options", default="", help="options for the tool in every run of it")
    parser.add_argument("--jobs", type=int, default=2, help="guests at a time [2]")
    parser.add_argument("--cache", default=os.path.join(TARGET, "vm-kernels"), help="where downloads are kept")
    parser.add_argument("--work", default=os.path.join(TARGET, "vm"), help="where consoles' logs go")
    return parser.parse_args()


def main():
    asked = arguments()
    if asked.list:
        print("\n".join(kernels.names()))
        return 0
    if asked.machine_of:
        print(kernels.MACHINES[kernels.arch_of(asked.machine_of)])
        return 0
    bench = Bench(asked, Cache(os.path.abspath(asked.cache)))
    if asked.kernel:
        find = [(os.path.basename(asked.kernel), lambda name: kernels.given(name, asked.kernel))]
    else:
        names = kernels.EXTREMES if asked.names == ["extremes"] else asked.names or kernels.names()
        find = [(name, lambda name: kernels.find(bench.cache, name)) for name in names]
    if asked.fetch:
        for name, fetch in find:
            fetch(name)
        return 0
    with concurrent.futures.ThreadPoolExecutor(asked.jobs) as guests:
        tried = list(guests.map(lambda item: bench.try_kernel(*item), find))
    rows = [row for rows in tried for row in rows]
    print_table(rows)
    several = several_signatures(rows)
    return 1 if several or any(row.failures for row in rows) else 0


def several_signatures(rows):
    """Whether one crash of one file has several, on whatever kernel and method; said so."""
    known = {}
    for row in rows:
        for program, cause, signature in row.signatures:
            known.setdefault((row.machine, program, cause), set()).add(signature)
    several = {crash: found for crash, found in known.items() if len(found) > 1}
    for (machine, program, cause), found in several.items():
        note(f"{machine}: {program}, {cause}: signatures {', '.join(sorted(found))}")
    if known and not several:
        print(f"{len(known)} crashes: each has one signature on all kernels and methods")
    return bool(several)


class Row:
    """What came of one kernel on one method; or of a kernel that did not get that far."""

    def __init__(self, title):
        self.title = title
        self.method = ""
        self.machine = ""
        self.checksum = ""
        self.cells = []
        # Program, cause and signature of each crash.
        self.signatures = set()
        self.refused = None
        self.failures = []


class Bench:
    def __init__(self, asked, cache):
        self.asked = asked
        self.cache = cache
        self.work = os.path.abspath(asked.work)
        self.initramfs = {}
        # For one guest at a time: the next may need the same.
        self.compiling = threading.Lock()
        os.makedirs(self.work, exist_ok=True)

    def try_kernel(self, name, find):
        """Boots it and judges; what is wrong is said at once and kept in the rows."""
        try:
            kernel = find(name)
            with self.compiling:
                initramfs = self.initramfs_for(kernel)
            log = os.path.join(self.work, f"{name}.log")
            begin = time.monotonic()
            console, was_stopped = emulator.boot(kernel, initramfs, log)
            if emulator.has_garbled(console):
                os.replace(log, f"{log}.garbled")
                note(f"{name}: QEMU garbled an instruction, see {log}.garbled; booted once more")
                console, was_stopped = emulator.boot(kernel, initramfs, log)
            took_s = time.monotonic() - begin
            guest = Guest(console)
            rows = [judged(kernel, guest, run) for run in guest.runs] or [Row(name)]
            if guest.unknown:
                note(f"{name}: --capture does not know {', '.join(guest.unknown)}")
            if not guest.is_done:
                how = "was silent for too long" if was_stopped else "ended"
                last = "\n    ".join(guest.console.splitlines()[-15:])
                rows[-1].failures.append(f"the guest {how} before its last check:\n    {last}")
            note(f"{name}: {rows[0].title}: {len(rows)} runs in {took_s:.0f} s; console in {log}")
        except (LookupError, OSError, ValueError, subprocess.CalledProcessError) as error:
            rows = [Row(name)]
            rows[0].failures.append(f"{error}")
        for row in rows:
            for failure in row.failures:
                note(f"  {name} {row.method}: {failure}")
        return rows

    def initramfs_for(self, kernel):
        """Built once for an architecture."""
        if kernel.arch not in self.initramfs:
            self.initramfs[kernel.arch] = self.build_initramfs(kernel)
        return self.initramfs[kernel.arch]

    def build_initramfs(self, kernel):
        folder = os.path.join(self.work, kernel.arch)
        os.makedirs(folder, exist_ok=True)
        archive = Archive()
        archive.device("dev/console", 5, 1)
        archive.device("dev/null", 1, 3)
        archive.directory("proc")
        busybox = self.cache.newest(kernels.BUSYBOX_SUITE, kernel.arch, "busybox-static")
        archive.copy("bin/busybox", self.cache.unpack(busybox, "bin/busybox"))
        for name in ("init", "checks"):
            archive.copy(name, os.path.join(HERE, name))
        archive.file("options", f"{self.asked.options}\n".encode())
        archive.file("methods", methods.lines().encode())
        # Twice as long: everything once more with BPF programs interpreted.
        if os.environ.get("VM_INTERPRETER"):
            archive.file("interpreter", b"")
        target = f"{kernel.machine}-unknown-linux-musl"
        archive.copy("segfault_analyzer", os.path.join(self.asked.binaries, target, "release", "segfault_analyzer"))
        programs.add(archive, kernel.machine, folder)
        path = os.path.join(folder, "initramfs.cpio")
        archive.write(path)
        return path


def judged(kernel, guest, run):
    """The row of one method of a guest."""
    row = Row(guest.facts.get("kernel", kernel.name))
    row.machine = kernel.machine
    row.checksum = guest.facts.get("checksum", "")
    if not any(arch in row.title for arch in kernels.MACHINES):
        row.title += f" {kernel.machine}"
    if guest.facts.get("btf") == "no":
        row.title += " without BTF"
    row.method = f"{run.forced}, forced" if run.forced else ""
    if run.is_refused:
        attach = run["attach"]
        row.refused = f"refused, status {attach.status}: {attach.error}"
        # Where the tool itself falls back to perf events there is no BPF to force.
        has_no_bpf = any(method.name == "perf" for method in guest.runs[0].taken)
        is_right = has_no_bpf if run.forced else kernels.is_to_refuse(guest.facts)
        is_right |= kernels.lacks(guest.facts, run.forced)
        if not is_right or attach.status != 4:
            row.failures.append(f"{row.refused}\n{attach.stderr[:2000]}")
    elif guest.is_done or run is not guest.runs[-1]:
        row.method = row.method or ", ".join(method.name for method in run.taken)
        row.cells, row.failures = judge.judge(run)
        if not row.failures:
            row.signatures = judge.signatures(run)
        if kernels.is_to_refuse(guest.facts):
            row.failures.append("was to be refused: see REFUSED_WITHOUT_BTF")
    row.method = ", ".join(filter(None, [row.method, run.how]))
    return row


def note(line):
    print(line, file=sys.stderr, flush=True)


def print_table(rows):
    titles = ["Kernel", "Method", *judge.COLUMNS]
    print(f"| {' | '.join(titles)} |")
    print(f"|{'---|' * len(titles)}")
    for row in rows:
        cells = row.cells or [row.refused or "**did not end**", *["–"] * (len(judge.COLUMNS) - 1)]
        print(f"| {row.title} | {row.method or '–'} | {' | '.join(cells)} |")
    print()
    for machine in sorted({row.machine for row in rows if row.checksum}):
        sums = {row.checksum for row in rows if row.machine == machine and row.checksum}
        same = "the same file everywhere" if len(sums) == 1 else "**several files**"
        print(f"{machine}: {same}, SHA-256 {' and '.join(sorted(sums))}")


if __name__ == "__main__":
    sys.exit(main())
