"""What a guest said on its console: facts, and what the tool wrote."""

import json
import re

import methods


class Scenario:
    """One run of the tool."""

    def __init__(self, name):
        self.name = name
        self.facts = {}
        self.crashes = []
        self.files = {}

    def number(self, key):
        assert key in self.facts, f"the guest does not say {key}"
        return int(self.facts[key])

    @property
    def status(self):
        return self.number("status")

    @property
    def stdout(self):
        return self.files.get("stdout", "")

    @property
    def stderr(self):
        return self.files.get("stderr", "")

    @property
    def error(self):
        """The tool's own first words when it ended with an error."""
        found = re.search(r"^Error: (.*)", self.stderr, re.MULTILINE)
        return found[1] if found else self.stderr.strip().partition("\n")[0]

    def reports(self, count=None):
        """Each line of stdout as a report; there are `count`."""
        reports = []
        for line in self.stdout.splitlines():
            try:
                reports.append(json.loads(line, object_pairs_hook=no_key_twice))
            except ValueError as error:
                raise AssertionError(f"{self.name}: not JSON: {error}: {line[:200]}") from error
        assert count in (None, len(reports)), f"{self.name}: {len(reports)} reports, not {count}"
        return reports

    def statistics(self):
        """The last block of statistics: a number for each label."""
        block = self.stderr.rpartition("=== Segfault Analyzer Statistics ===")[2]
        lines = re.findall(r"^\s*([^:\n]+):\s+([\d.]+)", block, re.MULTILINE)
        return {label: float(value) for label, value in lines}


class Run:
    """All scenarios on one method."""

    def __init__(self, which, facts):
        # What --capture asked for; empty for the first run. And how the
        # kernel ran its programs, where that was changed.
        self.forced, _, self.how = which.partition(" ")
        # Those of the guest.
        self.facts = facts
        self.scenarios = {}

    def __getitem__(self, name):
        assert name in self.scenarios, f"the guest did not get to {name}"
        return self.scenarios[name]

    @property
    def is_refused(self):
        """The tool ended instead of watching, and the guest left it at that."""
        facts = self["attach"].facts if "attach" in self.scenarios else {}
        return "status" in facts and "attached_cs" not in facts

    @property
    def taken(self):
        """The methods that the tool was on."""
        return methods.taken(self["attach"].stderr)

    @property
    def lacks(self):
        """Details that a report may lack on these, if it says so."""
        return {detail for method in self.taken for detail in method.lacks}


class Guest:
    """Everything that one boot said."""

    def __init__(self, console):
        self.console = console
        self.facts = {}
        self.runs = []
        # Rungs that the tool does not know.
        self.unknown = []
        self._read(console.replace("\r", "").split("\n"))

    @property
    def is_done(self):
        return "done" in self.facts

    def _read(self, lines):
        scenario, file = None, None
        for line in lines:
            words = line[3:].split(" ", 1) if line.startswith("@@ ") else []
            key, value = (words + ["", ""])[:2]
            if file is not None:
                if key == "end":
                    # The guest ends each file with an empty line of its own.
                    scenario.files[file[0]] = "\n".join(file[1:-1])
                    file = None
                else:
                    file.append(line)
            elif key == "run":
                self.runs.append(Run(value, self.facts))
            elif key == "scenario":
                scenario = self.runs[-1].scenarios.setdefault(value, Scenario(value))
            elif key == "file":
                file = [value]
            elif key == "crash":
                pid, status, command = value.split(" ", 2)
                scenario.crashes.append((int(pid), int(status), command))
            elif key == "unknown":
                self.unknown.append(value)
            elif key in ("kernel", "machine", "btf", "checksum", "done"):
                self.facts[key] = value
            elif key:
                scenario.facts[key] = value


def no_key_twice(pairs):
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a key twice")
    return keys
