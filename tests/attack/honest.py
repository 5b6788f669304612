"""What reports of large honest programs cost: the limit is for attacks, and none of these
may come near it.

    honest.py [PROGRAM...]

Run it as root. Programs that are not installed are left out. Each is ended by SIGSEGV
while it works, once with its files cached and once without."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from run import LIMIT_MS, Tool

BUSY = {
    "gdb": "gdb -q -nx -batch -ex 'python i = 0' -ex 'python while True: i += 1'",
    "node": "node -e 'for (;;) JSON.parse(JSON.stringify([1, [2, [3]]]))'",
    "python3": "python3 -c 'while True: sorted(str(n) for n in range(1000))'",
    "clang-19": "clang-19 -cc1 -O3 -emit-llvm -o /dev/null -x c {work}/large.c",
    "terraform": "terraform console",
    "anthoscli": "/usr/lib/google-cloud-sdk/bin/anthoscli help",
    "go": "go vet std",
}


def programs(work):
    (work / "large.c").write_text("".join(f"int f{n}(int x) {{ int y = x; for (int i = 0; i < x; i++) y += i * {n} ^ y;"
                                          f" return y * f{n - 1 if n else n}(y); }}\n" for n in range(20_000)))
    found = {name: shlex.split(line.format(work=work)) for name, line in BUSY.items()}
    for name in os.environ.get("HONEST", "").split(";"):
        if name:
            found[Path(shlex.split(name)[0]).name] = shlex.split(name)
    return {name: line for name, line in found.items() if shutil.which(line[0])}


class Subject:
    program = Path("none")


def drop(pid_files):
    for name in pid_files:
        try:
            fd = os.open(name, os.O_RDONLY)
        except OSError:
            continue
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def mapped(pid):
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {line.split(None, 5)[5] for line in lines if "/" in line}


def measure(command, cold, work):
    program = subprocess.Popen(command, cwd=work, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    time.sleep(1.5)
    subject = Subject()
    subject.options = ["-p", str(program.pid), "--max-stack-depth", "64"]
    subject.program = None
    tool = Tool(subject)
    files = mapped(program.pid)
    tool.process.send_signal(signal.SIGSTOP)
    before = tool.cpu_ms()
    program.send_signal(signal.SIGSEGV)
    try:
        program.wait(5)
    except subprocess.TimeoutExpired:
        program.kill()
        program.wait()
    if cold:
        drop(files)
    tool.process.send_signal(signal.SIGCONT)
    line = tool.line()
    took = tool.cpu_ms() - before
    tool.stop()
    if line is None:
        return None, 0, "no report"
    report = json.loads(line)
    names = sum(frame["symbol"] is not None for frame in report["stack_trace"])
    late = [lost["reason"] if isinstance(lost, dict) else lost for lost in report["lost"]]
    late = [reason for reason in late if "time limit" in str(reason) or "too long" in str(reason)]
    return took, f"{names} of {len(report['stack_trace'])}", "; ".join(late)


def main():
    work = Path(tempfile.mkdtemp(prefix="honest."))
    over = []
    try:
        print("| Program | Cached, ms | Not cached, ms | Frames named |\n|---|--:|--:|--:|")
        for name, command in programs(work).items():
            if len(sys.argv) > 1 and name not in sys.argv[1:]:
                continue
            results = [measure(command, cold, work) for cold in (False, True)]
            shown = " | ".join("-" if took is None else f"{took:.1f}" for took, _, _ in results)
            print(f"| {name} | {shown} | {results[0][1]} |", *{late for _, _, late in results if late}, flush=True)
            over += [name for took, _, late in results if took is None or took > LIMIT_MS / 2 or late]
    finally:
        shutil.rmtree(work)
    if over:
        raise SystemExit("honest: near the limit: " + ", ".join(over))


if __name__ == "__main__":
    main()
