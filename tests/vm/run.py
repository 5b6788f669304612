#!/usr/bin/env python3
"""Boots kernels in QEMU, each with the static binary and programs that crash, and
prints a table of kernels and features. Status 1 when anything is not as it should be.

    run.py --binaries FOLDER [NAME...]         those of `--list`; all of them without NAME
    run.py --binaries FOLDER --kernel FILE [--arch amd64|arm64]
"""

import argparse
import os
import subprocess
import sys
import time

import emulator
import judge
import kernels
import programs
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
    parser.add_argument("--arch", choices=[*kernels.MACHINES, *kernels.MACHINES.values()], default="amd64", help="its architecture [amd64]")
    parser.add_argument("--binaries", metavar="FOLDER", help="holds MACHINE-unknown-linux-musl/release/segfault_analyzer")
    parser.add_argument("--options", default="", help="options for the tool in every run of it")
    parser.add_argument("--cache", default=os.path.join(TARGET, "vm-kernels"), help="where downloads are kept")
    parser.add_argument("--work", default=os.path.join(TARGET, "vm"), help="where consoles' logs go")
    return parser.parse_args()


def main():
    asked = arguments()
    if asked.list:
        print("\n".join(kernels.names()))
        return 0
    cache = Cache(os.path.abspath(asked.cache))
    bench = Bench(asked, cache)
    rows = []
    if asked.kernel:
        name = os.path.basename(asked.kernel)
        rows.append(bench.try_kernel(name, lambda: kernels.given(name, asked.arch, asked.kernel)))
    else:
        for name in asked.names or kernels.names():
            rows.append(bench.try_kernel(name, lambda name=name: kernels.find(cache, name)))
    print_table(rows, asked.options)
    return 1 if any(row.failures for row in rows) else 0


class Row:
    """What came of one kernel."""

    def __init__(self, name):
        self.name = name
        self.release = ""
        self.machine = ""
        self.checksum = ""
        self.cells = []
        self.refused = None
        self.failures = []

    def title(self, options):
        """The kernel as it calls itself, and what makes this row another one."""
        words = [self.release or self.name]
        if not any(arch in words[0] for arch in kernels.MACHINES):
            words.append(self.machine)
        return " ".join([*words, options]).strip()


class Bench:
    def __init__(self, asked, cache):
        self.asked = asked
        self.cache = cache
        self.work = os.path.abspath(asked.work)
        self.initramfs = {}
        os.makedirs(self.work, exist_ok=True)

    def try_kernel(self, name, find):
        """Boots it and judges; what is wrong is said at once and kept in the row."""
        row = Row(name)
        try:
            kernel = find()
            row.machine = kernel.machine
            log = os.path.join(self.work, f"{name}.log")
            begin = time.monotonic()
            console, took_s = emulator.boot(kernel, self.initramfs_for(kernel), log)
            self.judge(row, Guest(console), took_s)
            said = "refused" if row.refused else f"{len(row.failures)} failures"
            note(f"{name}: {row.release}: {said} in {time.monotonic() - begin:.0f} s; console in {log}")
        except (LookupError, OSError, ValueError, subprocess.CalledProcessError) as error:
            row.failures.append(f"{error}")
        for failure in row.failures:
            note(f"  {name}: {failure}")
        return row

    def judge(self, row, guest, took_s):
        row.release = guest.facts.get("kernel", "")
        row.checksum = guest.facts.get("checksum", "")
        if guest.is_refused:
            refusal = guest["attach"]
            row.refused = refusal.error
            if not kernels.may_refuse(guest):
                row.failures.append(f"refused: {refusal.stderr}")
            elif refusal.status != 4:
                row.failures.append(f"refused with status {refusal.status}: {refusal.stderr[:2000]}")
        elif guest.is_done:
            row.cells, row.failures = judge.judge(guest)
        if not guest.is_done:
            how = "was stopped" if took_s is None else "ended"
            last = "\n    ".join(guest.console.splitlines()[-15:])
            row.failures.append(f"the guest {how} before the last check:\n    {last}")

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
        target = f"{kernel.machine}-unknown-linux-musl"
        archive.copy("segfault_analyzer", os.path.join(self.asked.binaries, target, "release", "segfault_analyzer"))
        programs.add(archive, kernel.machine, folder)
        path = os.path.join(folder, "initramfs.cpio")
        archive.write(path)
        return path


def note(line):
    print(line, file=sys.stderr, flush=True)


def print_table(rows, options):
    titles = [title for title, _ in judge.FEATURES]
    print(f"| Kernel | {' | '.join(titles)} |")
    print(f"|---|{'---|' * len(titles)}")
    for row in rows:
        cells = row.cells or ["–"] * len(titles)
        if row.refused:
            cells[0] = f"refused: {row.refused}"
        elif not row.cells:
            cells[0] = "**no boot**"
        print(f"| {row.title(options)} | {' | '.join(cells)} |")
    print()
    for machine in sorted({row.machine for row in rows if row.checksum}):
        sums = {row.checksum for row in rows if row.machine == machine and row.checksum}
        print(f"{machine}: the same file everywhere, SHA-256 {' and '.join(sorted(sums))}")


if __name__ == "__main__":
    sys.exit(main())
