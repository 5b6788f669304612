"""Runs the real binary beside the crash programs and reads its reports."""

import atexit
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

from corpus import DEPTH, NAME, ROOT, Frame, demangle


def binary():
    given = os.environ.get("SEGFAULT_ANALYZER")
    return given or str(ROOT / f"target/{os.uname().machine}-unknown-linux-musl/release/segfault_analyzer")


class Monitor:
    """One instance. `lines` grows while it runs: (time it came, text)."""

    def __init__(self, *options, name=NAME, depth=DEPTH):
        # Each scenario is one crash, however much it looks like another.
        command = [binary(), "-t", "--format", "json", "--max-stack-depth", str(depth), "--fold-handled", "0",
                   *options]
        if name:
            command += ["-n", name]
        # As for the live tests: to try another method with the same crashes.
        command += os.environ.get("SEGFAULT_ANALYZER_ARGS", "").split()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.lines = []
        self.said = []
        for line in self.process.stderr:
            self.said.append(line.decode())
            if line.startswith(b"Monitoring"):
                break
        else:
            raise SystemExit("corpus: the monitor did not start: " + "".join(self.said))
        atexit.register(self.process.kill)
        self.readers = [threading.Thread(target=read, daemon=True) for read in (self._read, self._listen)]
        for reader in self.readers:
            reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append((time.clock_gettime(time.CLOCK_BOOTTIME), line))

    def _listen(self):
        for line in self.process.stderr:
            self.said.append(line.decode())

    def memory_kb(self, field="VmHWM"):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1])
        return None

    def stop(self):
        """All its reports."""
        self.process.send_signal(signal.SIGINT)
        for reader in self.readers:
            reader.join()
        if self.process.wait():
            raise SystemExit("corpus: the monitor failed: " + "".join(self.said))
        return [json.loads(line) for _, line in self.lines]


def hexadecimal(text):
    return None if text is None else int(text, 16)


def frames(report, program):
    """A report's calls. Those of a stripped program are named by its twin."""
    found, names = [], []
    for frame in report.get("stack_trace") or []:
        if frame["inlined"]:
            continue  # the chains are of calls
        name, module = frame["symbol"], frame["module"]
        if name is not None:
            path = name.rfind(" (/")
            name = name[:path] if path >= 0 else name
            name = name[:name.rfind("+0x")] if "+0x" in name else name
        elif module is not None and not module.startswith(("[anon", "[heap", "[stack")):
            name = "??"
            offset = hexadecimal(frame["module_offset"])
            # A scenario may run a copy, named by its process.
            own = module.split("/")[-1].split(" ")[0].split(".")[0] == program.path.name or "memfd:" in module
            if program.build.strip and offset is not None and own:
                exact = frame["trust"] in ("context", "signal")
                name = program.symbol(offset if exact else offset - 1) or name
        names.append(name or "")
        found.append(Frame(name, hexadecimal(frame["address"]), frame["trust"]))
    for frame, name in zip(found, demangle(names)):
        if frame.name is not None:
            frame.name = name
    return found
