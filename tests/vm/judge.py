"""Says of each feature whether a run's output shows it.

A judge takes the run and gives what the table says, or raises AssertionError with
the evidence. `MAIN` are columns of the table, `OTHERS` are counted in one. What a
report lacks, and names in `lost`, is no failure where the method is known to lack it;
a wrong value always is one.
"""

import re

import kernels
from guest import Run

DEEP = ["level_five", "level_four", "level_three", "level_two", "level_one", "main"]
REGISTERS = {
    "x86_64": ["rip", "rsp", "rbp", "rax", "rbx", "rcx", "rdx", "rsi", "rdi"]
    + [f"r{n}" for n in range(8, 16)],
    "aarch64": ["pc", "sp"] + [f"x{n}" for n in range(31)],
}
# What tests/crashers/known.c puts into registers: an address, and what follows.
ADDRESS = {"x86_64": "rax", "aarch64": "x0"}
KNOWN = {
    "x86_64": ["rbx", "rdx", "rsi", "rdi", "rbp", *(f"r{n}" for n in range(8, 16))],
    "aarch64": [f"x{n}" for n in range(1, 29)],
}
# What the entry of a system call does not save on x86_64.
UNSAVED = {"rbx", "rbp", "r12", "r13", "r14", "r15"}
# User space ends here: 57 bits with five-level page tables, 52 on aarch64.
USER_END = {"x86_64": 1 << 56, "aarch64": 1 << 52}
# A memory limit's default is 100 MB; without one crash after another it stays far below.
RESIDENT_MAX_KB = 24 * 1024
SIGSEGV_STATUS = 128 + 11


class Tally:
    """Of how many reports a feature is right, and how many lack it and say so."""

    def __init__(self, run):
        self.lacks = run.lacks
        self.right = 0
        self.lost = 0

    def known(self, report, detail, found, wanted):
        """`found` is as wanted; or is nothing, because the report lost the detail."""
        if found is None and wanted is not None and detail in self.lacks and detail in lost(report):
            self.lost += 1
            return
        expect(detail, found, wanted, report)
        self.right += 1

    def cell(self):
        if self.right == 0:
            return "lost"
        return f"{self.right} of {self.right + self.lost}"


def lost(report):
    """The details that a report says it lacks."""
    return {reason.partition(": ")[0] for reason in report["lost"]}


def number(hexadecimal):
    return None if hexadecimal is None else int(hexadecimal, 16)


def expect(what, found, wanted, report=None):
    shown = f"\n    {report}" if report is not None else ""
    assert found == wanted, f"{what}: {found!r}, not {wanted!r}{shown}"


def functions(report):
    """Each frame's function, `?` without a symbol."""
    symbols = (frame["symbol"] for frame in report["stack_trace"])
    return [re.sub(r"\+0x[0-9a-f]+( \(/.*\))?$", "", symbol or "?") for symbol in symbols]


def chain(report, wanted, to_start=True):
    found = functions(report)
    expect("the calls", found[: len(wanted)], wanted, report)
    if to_start:
        expect("the outermost call", found[-1], "_start", report)
        expect("stack_complete", report["stack_complete"], True, report)


def whole(report, run):
    expect("lost", lost(report) - run.lacks, set(), report)


def deep_reports(run):
    """Of a null write in a static and in a dynamic program."""
    scenario = run["attach"]
    expect("status", scenario.status, 0)
    for _, status, command in scenario.crashes:
        expect(f"how {command} ended", status, SIGSEGV_STATUS)
    expect("crashes", len(scenario.crashes), 2)
    return list(zip(scenario.reports(2), ["/static/null_deep", "/dynamic/null_deep"]))


def hundreds(run):
    """100 short-lived programs of each kind, four at a time, whose values follow from
    the process id."""
    found = []
    for how in ("static", "dynamic"):
        scenario = run[f"hundred_{how}"]
        expect("the storm", scenario.facts.get("storm"), "ok")
        reports = scenario.reports(100)
        expect("processes", len({report["pid"] for report in reports}), 100)
        found += [(report, f"/{how}/known") for report in reports]
    return found


def attach(run: Run):
    # A verifier that gives up on the best program goes unnoticed otherwise. An interpreter
    # has no callbacks.
    said = run["attach"].stderr
    is_new = kernels.version(run.facts["kernel"]) >= kernels.SINCE["ring"]
    if is_new and not any(words in said for words in ("as --capture says", "non-JITed programs")):
        expect("method", [method.name for method in run.taken][:1], ["ring"])
    return f"{run['attach'].number('attached_cs') / 100:.2f} s"


def address(run):
    tally = Tally(run)
    for report, _ in deep_reports(run):
        tally.known(report, "fault_address", number(report["fault_address"]), 0)
        expect("fault_type", report["fault_type"], "map_error", report)
        expect("signal_code", report["signal_code"], "SEGV_MAPERR", report)
    for report, _ in hundreds(run):
        wanted = 0x100000000008 + report["pid"] * 4096
        tally.known(report, "fault_address", number(report["fault_address"]), wanted)
    return tally.cell()


def access(run):
    """Kinds of access, each with its address; and the writes of all others."""
    tally = Tally(run)
    for report, _ in [*deep_reports(run), *hundreds(run)]:
        tally.known(report, "access", report["access"], "write")
    scenario = run["access"]
    expect("status", scenario.status, 0)
    # Reports that had to wait together come in an order that is fair, not in that of time.
    in_time = sorted(scenario.reports(6), key=lambda report: report["timestamp"])
    read, write, readonly, execute, call, far = in_time
    addresses = Tally(run)
    for report, kind, at in [(read, "read", 8), (write, "write", 0x18), (call, "execute", 0)]:
        tally.known(report, "access", report["access"], kind)
        addresses.known(report, "fault_address", number(report["fault_address"]), at)
    for report, kind in [(readonly, "write"), (execute, "execute")]:
        tally.known(report, "access", report["access"], kind)
        expect("signal_code", report["signal_code"], "SEGV_ACCERR", report)
    pc = number(execute["instruction_pointer"])
    addresses.known(execute, "fault_address", number(execute["fault_address"]), pc)
    expect("pc", number(call["instruction_pointer"]), 0, call)
    chain(call, ["?", "do_null_call", "main"] if functions(call)[0] == "?" else ["do_null_call", "main"])
    found, wanted = number(far["fault_address"]), 0x4141414141414141
    if run.facts["machine"] == "x86_64":
        # The kernel tells neither: both are read from the instruction.
        expect("general protection", far["signal_code"], "SI_KERNEL", far)
    else:
        # The kernel reports a tagged address without its tag.
        found, wanted = found and found & ~(0xFF << 56), wanted & ~(0xFF << 56)
    tally.known(far, "access", far["access"], "read")
    addresses.known(far, "fault_address", found, wanted)
    return tally.cell()


def registers(run):
    """All there and sensible; those of 200 programs right to the last bit."""
    arch = run.facts["machine"]
    tally = Tally(run)
    for report, _ in [*deep_reports(run), *hundreds(run)]:
        found = report["registers"]
        if found is None:
            tally.known(report, "registers", None, {})
            continue
        missing = {name for name in REGISTERS[arch] if name not in found}
        # Samples of kernels before 5.11 have no others, and reports say so.
        may_miss = UNSAVED if "registers" in tally.lacks & lost(report) else set()
        expect("missing registers", missing - may_miss, set(), report)
        values = {name: int(value, 16) for name, value in found.items()}
        pc, sp = (values[name] for name in REGISTERS[arch][:2])
        expect("pc", pc, int(report["instruction_pointer"], 16), report)
        assert 4096 < pc < USER_END[arch], f"pc {pc:#x}: {report}"
        assert 4096 < sp < USER_END[arch] and sp % 8 == 0, f"sp {sp:#x}: {report}"
        if arch == "aarch64":
            expect("sp % 16", sp % 16, 0, report)
        if report["comm"] == "known":
            known_registers(report, values, arch)
        tally.right += 1
    return tally.cell()


def known_registers(report, values, arch):
    """As tests/crashers/known.c has it."""
    expect("the address", values[ADDRESS[arch]], 0x100000000008 + report["pid"] * 4096, report)
    first = (report["pid"] << 32) + 0x5EED0000
    for place, name in enumerate(KNOWN[arch]):
        if name in values:
            expect(name, values[name], first + place, report)


def stack(run):
    tally = Tally(run)
    for report, _ in deep_reports(run):
        chain(report, DEEP)
        whole(report, run)
        tally.right += 1
    for report, _ in hundreds(run):
        chain(report, ["known_crash", "main"])
        whole(report, run)
        tally.right += 1
    return tally.cell()


def modules(run):
    """Named although nothing is left of the process in /proc."""
    tally = Tally(run)
    deep = [(report, program, len(DEEP)) for report, program in deep_reports(run)]
    for report, program, own in deep + [(report, program, 2) for report, program in hundreds(run)]:
        expect("exe", report["exe"], program, report)
        tally.known(report, "cmdline", report["cmdline"], program)
        expect("comm", report["comm"], program.rpartition("/")[2], report)
        for frame in report["stack_trace"][:own]:
            expect("module", frame["module"], program, report)
            assert frame["module_offset"], f"no offset: {report}"
        for frame in report["stack_trace"]:
            assert frame["module"], f"no module: {report}"
        tally.right += 1
    return tally.cell()


def json_lines(run):
    """Every line of every JSON scenario is one object."""
    lines = 0
    for scenario in run.scenarios.values():
        if "json" in scenario.facts.get("options", ""):
            lines += len(scenario.reports())
    assert lines > 200, f"{lines} lines"
    return f"{lines} of {lines}"


def text(run):
    scenario = run["text"]
    expect("status", scenario.status, 0)
    patterns = [
        r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\] SEGFAULT in process null_deep \(PID: \d+, TID: \d+\)$",
        r"^  Fault Address: 0x0000000000000000$",
        r"^  Instruction:   0x[0-9a-f]+ \(level_five\+0x[0-9a-f]+ \(/dynamic/null_deep\)\)$",
        r"^  Registers \(%s\):$" % re.escape(run.facts["machine"]),
        r"^    #5  0x[0-9a-f]+ main\+0x[0-9a-f]+ \(/dynamic/null_deep\)$",
    ]
    for pattern in patterns:
        assert re.search(pattern, scenario.stdout, re.MULTILINE), f"text lacks {pattern}:\n{scenario.stdout}"


def threads(run):
    for report in run["threads"].reports(2):
        expect("thread", (report["comm"], report["thread"]), ("named_thread", "worker-7"), report)
        assert report["tid"] != report["pid"], f"tid: {report}"
        chain(report, ["worker_crash", "worker"], to_start=False)
        whole(report, run)


def overflow(run):
    (report,) = run["overflow"].reports(1)
    if "stack" in run.lacks & lost(report):
        expect("the calls", set(functions(report)), {"recurse"}, report)
    else:
        expect("the calls", functions(report), ["recurse"] * 16, report)
    fault, arch = number(report["fault_address"]), run.facts["machine"]
    sp = number(report["registers"][REGISTERS[arch][1]])
    if fault is None:
        expect("lost", "fault_address" in run.lacks & lost(report), True, report)
        return
    assert abs(fault - sp) < 8192, f"fault {fault:#x}, sp {sp:#x}: {report}"


def switched(run):
    """Stacks that the program made itself, and what it came to them from."""
    *fatal, first, second = run["switched"].reports(5)
    if "other_stacks" in run.lacks:
        for report in [*fatal, first]:
            chain(report, ["crash", "on_stack"], to_start=False)
        return "not seen"
    calls = ["crash", "on_stack", "call_on", "switches"]
    for report, above in zip([*fatal, first], ["main", "body", "body", "main"]):
        chain(report, [*calls, above], to_start=above == "main")
        expect("stack_complete", report["stack_complete"], True, report)
    expect("disposition", second["disposition"], "fatal", second)
    chain(second, ["crash", "on_signal"])
    expect("the calls before the signal", functions(second)[3:8], [*calls, "main"], second)


def handled(run):
    tally = Tally(run)
    # A handled fault is reported when its process has ended, or a second later.
    in_order = sorted(run["handled"].reports(5), key=lambda report: (report["disposition"] == "fatal", report["timestamp"]))
    *three, first, second = in_order
    for report in [*three, first]:
        expect("disposition", report["disposition"], "handled", report)
    for report in three:
        tally.known(report, "fault_address", number(report["fault_address"]), 0x10)
        chain(report, ["risky", "main"])
    expect("raised anew", (second["disposition"], second["signal_code"]), ("fatal", "SI_TKILL"), second)
    assert second["first_fault"], f"no first fault: {second}"
    tally.known(second, "fault_address", number(second["first_fault"]["address"]), 0x20)
    # Where it is not known how a process ended, that counts as a death.
    ended = [report for report in run["fatal_only"].reports() if set(report.get("exit") or {}) != {"death"}]
    (fatal,) = ended
    expect("comm", fatal["comm"], "quick", fatal)


def sender(run):
    tally = Tally(run)
    scenario = run["sender"]
    victim, shell = map(int, scenario.facts["victim"].split())
    (report,) = scenario.reports(1)
    expect("pid", report["pid"], victim, report)
    expect("signal_code", report["signal_code"], "SI_USER", report)
    expect("fault_address", report["fault_address"], None, report)
    expect("access", report["access"], None, report)
    tally.known(report, "sender", report["sender"], {"pid": shell, "uid": 0})
    return "" if tally.right else "lost"


def filters(run):
    (named,) = run["name"].reports(1)
    expect("comm", named["comm"], "null_deep", named)
    scenario = run["pid"]
    (one,) = scenario.reports(1)
    expect("pid", one["pid"], int(scenario.facts["victim"].split()[0]), one)


def statistics(run):
    """The books balance, and filtered ones are counted."""
    seen = 0
    for scenario in run.scenarios.values():
        if "--stats" not in scenario.facts.get("options", ""):
            continue
        seen += 1
        books = scenario.statistics()
        parts = (
            "Segfaults filtered out",
            "Events submitted to userspace",
            "Events dropped",
            "Handled faults counted",
        )
        total = books.get("Total segfaults detected")
        expect(f"{scenario.name}: the sum of the parts", sum(books[part] for part in parts), total)
        expect(f"{scenario.name}: processed", books["Events processed"], len(scenario.reports()))
    expect("filtered by name", run["name"].statistics()["Segfaults filtered out"], 2)
    assert seen >= 5, f"{seen} blocks of statistics"


def memory(run):
    kb = max(scenario.number("resident_kb") for scenario in run.scenarios.values() if scenario.facts.get("resident_kb"))
    assert kb < RESIDENT_MAX_KB, f"{kb} KB resident"
    return f"{kb / 1024:.1f} MB"


def bare(run):
    """With /proc alone reports are as good. Nothing is mounted, or only where nobody
    sees it."""
    scenario = run["bare"]
    expect("mounts afterwards", scenario.facts["mounts_after"], "same")
    expect("status", scenario.status, 0)
    expect("mounts", scenario.facts["mounts"], "same")
    for report, program in zip(scenario.reports(2), ["/static/null_deep", "/dynamic/null_deep"]):
        chain(report, DEEP)
        whole(report, run)
        expect("module", report["stack_trace"][0]["module"], program, report)


def exits(run):
    """Exit statuses and what is said with them, once for all methods."""
    if run.forced or run.how:
        return
    # Before 5.11 maps and rings count as locked memory, which these two do not free;
    # and Debian lets no perf event through without CAP_SYS_ADMIN.
    stderr = run["two_capabilities"].stderr
    too_few = kernels.version(run.facts["kernel"]) < (5, 11) or "perf_event_paranoid" in stderr
    # Nor is tracefs for others than root.
    too_few |= any(method.name == "perf" for method in run.taken)
    # Before 5.8 these two are unknown: nobody can have them.
    unknown = kernels.version(run.facts["kernel"]) < (5, 8)
    for name, status in [
        ("version", 0),
        ("help", 0),
        ("usage", 2),
        ("duration", 0),
        ("file", 0),
        ("unprivileged", 3),
        ("one_capability", 3),
        ("two_capabilities", 3 if too_few else 0),
        ("wrong_btf", 1),
    ]:
        if unknown and name in ("one_capability", "two_capabilities"):
            continue
        scenario = run[name]
        assert scenario.status == status, f"{name}: status {scenario.status}, not {status}: {scenario.stderr}"
        said = scenario.stderr.startswith("Error: ")
        assert said == (status != 0), f"{name}: {scenario.stderr!r}"


def kernel_log(run):
    """The kernel itself found nothing wrong."""
    expect("complaints", run["complaints"].stdout.strip(), "")


def signatures(run):
    """Of crashes whose stack every method has: program, cause, signature."""
    reports = [report for report, _ in [*deep_reports(run), *hundreds(run)]]
    return {(report["exe"], report["cause"], report["signature"]) for report in reports}


# Each gives its cell.
MAIN = [
    ("Attached in", attach),
    ("Fault address", address),
    ("Access", access),
    ("Registers", registers),
    ("Stack", stack),
    ("Modules after exit", modules),
    ("JSON", json_lines),
    ("Resident", memory),
]
# Each gives nothing, or a word of what it lacks.
OTHERS = [
    ("text", text),
    ("threads", threads),
    ("stack overflow", overflow),
    ("other stacks", switched),
    ("handled faults", handled),
    ("sender", sender),
    ("filters", filters),
    ("statistics", statistics),
    ("/proc alone", bare),
    ("exit statuses", exits),
    ("kernel log", kernel_log),
]
COLUMNS = [*(title for title, _ in MAIN), "Others"]


def judge(run):
    """The cell of each column, and what is wrong with those that fail."""
    failures = []

    def said(title, check):
        try:
            return check(run)
        except (AssertionError, KeyError, ValueError, TypeError, IndexError) as error:
            kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__} "
            failures.append(f"{title}: {kind}{error}")
            return "**wrong**"

    cells = [said(*feature) for feature in MAIN]
    words = [(title, said(title, check)) for title, check in OTHERS]
    lacking = [f"{title} {word}" for title, word in words if word]
    cells.append(", ".join(lacking) or "right")
    return cells, failures
