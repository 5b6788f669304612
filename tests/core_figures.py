#!/usr/bin/env python3
"""Size of core files, and the time from a crash until the parent can go on.

    python3 tests/core_figures.py BINARY        as root; needs cc

Prints a table: without anything, with the tool's --core, and with the kernel's own core in
the working directory (core_pattern must be relative; it is not changed).
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = r"""
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void *wait_here(void *nothing) { pause(); return nothing; }
int main(int argc, char **argv)
{
	size_t bytes = strtoul(argv[1], 0, 10) << 20;
	if (bytes)
		memset(malloc(bytes), 1, bytes);
	for (int count = atoi(argv[2]); count > 0; count--) {
		pthread_t thread;
		pthread_create(&thread, 0, wait_here, 0);
	}
	char ready = 'r';
	write(1, &ready, 1);
	read(0, &ready, 1);
	*(volatile int *)8 = argc;
}
"""
KINDS = {"small": (0, 0), "100 MB of heap": (100, 0), "64 threads": (0, 64)}
RUNS = 21


def crash(program, kind, directory, limit):
    """Milliseconds from the byte that lets it crash until wait4 returns."""
    def before():
        resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
    child = subprocess.Popen([program, *map(str, KINDS[kind])], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             cwd=directory, preexec_fn=before)
    child.stdout.read(1)
    begin = time.perf_counter()
    child.stdin.write(b"x")
    child.stdin.flush()
    os.waitpid(child.pid, 0)
    taken = time.perf_counter() - begin
    child.returncode = 0
    child.stdin.close()
    child.stdout.close()
    return taken * 1000


def sizes(directory, prefix):
    files = [path for path in Path(directory).iterdir() if path.is_file() and path.name.startswith(prefix)]
    found = [path.stat().st_size for path in files]
    for path in files:
        path.unlink()
    return statistics.median(found) if found else None


def measure(program, kind, directory, limit, prefix, cores):
    taken, found = [], []
    for _ in range(RUNS):
        taken.append(crash(program, kind, directory, limit))
        if prefix == "core":
            found.append(sizes(directory, "core"))
    if cores:
        time.sleep(1)
        found.append(sizes(cores, "core"))
    found = [size for size in found if size]
    return statistics.median(taken), statistics.median(found) if found else None


def main():
    binary = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        (work / "ours").mkdir()
        (work / "p.c").write_text(PROGRAM)
        program = work / "figures_crash"
        subprocess.run(["cc", "-O2", "-w", "-pthread", "-o", program, work / "p.c"], check=True)
        rows = {}
        for kind in KINDS:
            nothing = measure(program, kind, work, 0, None, None)
            kernels = measure(program, kind, work, resource.RLIM_INFINITY, "core", None)
            with subprocess.Popen([binary, "-t", "-n", "figures_crash", "--core", work / "ours"],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as monitor:
                while not monitor.stderr.readline().startswith(b"Monitoring"):
                    pass
                ours = measure(program, kind, work, 0, None, work / "ours")
                monitor.terminate()
            rows[kind] = (nothing, ours, kernels)
    print("| Program | Without a core | `--core` | `--core`, bytes | The kernel's core | The kernel's, bytes |")
    print("|---|---|---|---|---|---|")
    for kind, (nothing, ours, kernels) in rows.items():
        size = lambda found: f"{int(found):,}" if found else "none"
        print(f"| {kind} | {nothing[0]:.2f} ms | {ours[0]:.2f} ms | {size(ours[1])} "
              f"| {kernels[0]:.2f} ms | {size(kernels[1])} |")


if __name__ == "__main__":
    main()
