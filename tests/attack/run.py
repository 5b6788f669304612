"""Crashes programs that are made to be costly to report, and measures what they cost.

    run.py [--table] [ATTACK...]

Run it as root; the programs run as nobody. The binary is SEGFAULT_ANALYZER, else the
one that `make` builds. For each attack: processor time of the first report and of the
next one of the same program, and how long the tool takes to end when it is asked to in
the middle of a report. It fails if one of them is above its budget."""

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import files  # noqa: E402

ROOT = Path(__file__).parents[2]
LIMIT_MS = 100  # --report-time
# What is not a part of a report's analysis, and the step that the limit is met in.
SLACK_MS = 40
STOP_S = 2
# For the tool to report at all; not a budget.
PATIENCE_S = float(os.environ.get("ATTACK_PATIENCE", "30"))
NOBODY = 65534


def binary():
    given = os.environ.get("SEGFAULT_ANALYZER")
    return given or str(ROOT / f"target/{os.uname().machine}-unknown-linux-musl/release/segfault_analyzer")


def prepare(work):
    program = work / "attack"
    subprocess.run([os.environ.get("CC", "cc"), "-O1", "-o", program, Path(__file__).with_name("crash.c")], check=True)
    found = []
    for make in files.ATTACKS:
        if len(sys.argv) > 1 and make.__name__ not in sys.argv[1:]:
            continue
        place = work / make.__name__
        place.mkdir()
        made = make(lambda name, place=place: str(place / name))
        if not isinstance(made, files.Attack):
            made = files.Attack(make.__name__, made)
        made.program = place / f"at_{make.__name__[:10]}"
        shutil.copy(program, made.program)
        found.append(made)
    for path in work.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.chown(path, NOBODY, NOBODY)
    work.chmod(0o755)
    return found


class Tool:
    def __init__(self, attack):
        command = [binary(), "-t", "-r", "--format", "json", *attack.options]
        if attack.program:
            command += ["-n", attack.program.name]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        for line in self.process.stderr:
            if line.startswith(b"Monitoring"):
                break
        os.set_blocking(self.process.stdout.fileno(), False)
        self.seen = b""

    def cpu_ms(self):
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0]) / 1e6

    def line(self):
        """The next report, or None where it takes too long."""
        deadline = time.monotonic() + PATIENCE_S
        while b"\n" not in self.seen:
            left = deadline - time.monotonic()
            if left < 0:
                return None
            if select.select([self.process.stdout], [], [], left)[0]:
                self.seen += self.process.stdout.read() or b""
        line, self.seen = self.seen.split(b"\n", 1)
        return line

    def stop(self):
        """Seconds until it has ended."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        # A full pipe is not what is measured.
        while self.process.poll() is None and time.monotonic() - began < PATIENCE_S:
            select.select([self.process.stdout], [], [], 0.01)
            try:
                self.process.stdout.read()
            except OSError:
                pass
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        return time.monotonic() - began


def crash(attack):
    command = [str(attack.program), str(attack.places), *attack.files]
    environment = {"PATH": "/usr/bin:/bin", **attack.environment}
    process = subprocess.Popen(command, user=NOBODY, group=NOBODY, extra_groups=[], env=environment,
                               cwd=attack.program.parent, stderr=subprocess.DEVNULL)
    status = process.wait()
    if status != -signal.SIGSEGV:
        raise SystemExit(f"attack: {attack.name} did not crash: {status}")
    return process.pid


def report_ms(tool, attack):
    """Processor time of the report of one crash; None where it did not come."""
    before = tool.cpu_ms()
    pid = crash(attack)
    line = tool.line()
    after = tool.cpu_ms()
    Path(f"/tmp/perf-{pid}.map").unlink(missing_ok=True)
    return (None if line is None else after - before), line


def measure(attack):
    tool = Tool(attack)
    first, line = report_ms(tool, attack)
    second = None
    if line is not None:
        second, line = report_ms(tool, attack)
    tool.stop() if line is not None else (tool.process.kill(), tool.process.wait())
    # Asked to end in the middle of a report.
    tool = Tool(attack)
    pid = crash(attack)
    time.sleep(0.02)
    stop = tool.stop()
    Path(f"/tmp/perf-{pid}.map").unlink(missing_ok=True)
    return first, second, stop


def shown(value):
    return f"over {PATIENCE_S * 1000:.0f}" if value is None else f"{value:.0f}"


def main():
    if os.geteuid():
        raise SystemExit("attack: root is needed")
    work = Path(tempfile.mkdtemp(prefix="attack."))
    broken = []
    try:
        attacks = prepare(work)
        print("| Attack | First report, ms | Next, ms | To the end, s |\n|---|--:|--:|--:|")
        for attack in attacks:
            first, second, stop = measure(attack)
            print(f"| `{attack.name}` | {shown(first)} | {shown(second)} | {stop:.1f} |", flush=True)
            over = any(took is None or took > LIMIT_MS + SLACK_MS for took in (first, second))
            if over or stop > STOP_S:
                broken.append(attack.name)
    finally:
        shutil.rmtree(work)
    if broken:
        raise SystemExit("attack: above the budget: " + ", ".join(broken))


if __name__ == "__main__":
    main()
