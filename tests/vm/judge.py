"""Says of each feature whether a guest's output shows it.

A judge takes the guest and gives what the table says, or raises AssertionError
with the evidence. `FEATURES` are the table's columns.
"""

import re

import kernels
from guest import Guest

DEEP = ["level_five", "level_four", "level_three", "level_two", "level_one", "main"]
REGISTERS = {
    "x86_64": ["rip", "rsp", "rbp", "rax", "rbx", "rcx", "rdx", "rsi", "rdi"]
    + [f"r{n}" for n in range(8, 16)],
    "aarch64": ["pc", "sp"] + [f"x{n}" for n in range(31)],
}
# User space ends here: 57 bits with five-level page tables, 52 on aarch64.
USER_END = {"x86_64": 1 << 56, "aarch64": 1 << 52}
# A memory limit's default is 100 MB; without one crash after another it stays far below.
RESIDENT_MAX_KB = 24 * 1024
SIGSEGV_STATUS = 128 + 11


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


def whole(report):
    expect("lost", report["lost"], [], report)


def deep_reports(guest):
    """Of a null write in a static and in a dynamic program."""
    scenario = guest["attach"]
    expect("status", scenario.status, 0)
    for _, status, command in scenario.crashes:
        expect(f"how {command} ended", status, SIGSEGV_STATUS)
    expect("crashes", len(scenario.crashes), 2)
    return list(zip(scenario.reports(2), ["/static/null_deep", "/dynamic/null_deep"]))


def attach(guest: Guest):
    return f"{guest['attach'].number('attached_cs') / 100:.2f} s"


def address(guest):
    for report, _ in deep_reports(guest):
        expect("fault_address", report["fault_address"], "0x0000000000000000", report)
        expect("fault_type", report["fault_type"], "map_error", report)
        expect("signal_code", report["signal_code"], "SEGV_MAPERR", report)


def access(guest):
    """Kinds of access, each with its address."""
    for report, _ in deep_reports(guest):
        expect("access", report["access"], "write", report)
    scenario = guest["access"]
    expect("status", scenario.status, 0)
    read, write, readonly, execute, call, far = scenario.reports(6)
    expect("read", (read["access"], int(read["fault_address"], 16)), ("read", 8), read)
    expect("write", (write["access"], int(write["fault_address"], 16)), ("write", 0x18), write)
    expect("write to read-only", (readonly["access"], readonly["signal_code"]), ("write", "SEGV_ACCERR"), readonly)
    expect("jump into data", (execute["access"], execute["signal_code"]), ("execute", "SEGV_ACCERR"), execute)
    expect("its address", int(execute["fault_address"], 16), int(execute["instruction_pointer"], 16), execute)
    expect("call of null", (call["access"], int(call["instruction_pointer"], 16)), ("execute", 0), call)
    chain(call, ["?", "do_null_call", "main"] if functions(call)[0] == "?" else ["do_null_call", "main"])
    if guest.facts["machine"] == "x86_64":
        expect("general protection", (far["access"], far["signal_code"]), (None, "SI_KERNEL"), far)
    else:
        # Of an address with a tag the kernel gives the part below it.
        expect("far read", (far["access"], int(far["fault_address"], 16) & ~(0xFF << 56)), ("read", 0x41414141414141), far)


def registers(guest):
    arch = guest.facts["machine"]
    for report, _ in deep_reports(guest):
        found = report["registers"]
        assert found, f"no registers: {report}"
        missing = [name for name in REGISTERS[arch] if name not in found]
        expect("missing registers", missing, [], report)
        values = {name: int(value, 16) for name, value in found.items()}
        pc, sp = (values[name] for name in REGISTERS[arch][:2])
        expect("pc", pc, int(report["instruction_pointer"], 16), report)
        assert 4096 < pc < USER_END[arch], f"pc {pc:#x}: {report}"
        assert 4096 < sp < USER_END[arch] and sp % 8 == 0, f"sp {sp:#x}: {report}"
        if arch == "aarch64":
            expect("sp % 16", sp % 16, 0, report)


def stack(guest):
    for report, _ in deep_reports(guest):
        chain(report, DEEP)
        whole(report)


def modules(guest):
    """Named although nothing is left of the process in /proc."""
    for report, program in deep_reports(guest):
        expect("exe", report["exe"], program, report)
        expect("cmdline", report["cmdline"], program, report)
        expect("comm", report["comm"], "null_deep", report)
        for frame in report["stack_trace"][: len(DEEP)]:
            expect("module", frame["module"], program, report)
            assert frame["module_offset"], f"no offset: {report}"
        for frame in report["stack_trace"]:
            assert frame["module"], f"no module: {report}"


def hundred(guest):
    """100 short-lived programs of each kind, each with its own modules."""
    for how in ("static", "dynamic"):
        scenario = guest[f"hundred_{how}"]
        expect("the storm", scenario.facts.get("storm"), "ok")
        reports = scenario.reports()
        right = 0
        for report in reports:
            chain(report, ["quick_crash", "main"])
            whole(report)
            expect("exe", report["exe"], f"/{how}/quick", report)
            expect("module", report["stack_trace"][0]["module"], f"/{how}/quick", report)
            right += 1
        expect(f"reports of 100 {how} programs", right, 100)
    return "100 of 100"


def json_lines(guest):
    """Every line of every JSON scenario is one object; each says the same keys."""
    lines = 0
    for scenario in guest.scenarios.values():
        if "json" in scenario.facts.get("options", ""):
            lines += len(scenario.reports())
    assert lines > 200, f"{lines} lines"
    return f"{lines} lines"


def text(guest):
    scenario = guest["text"]
    expect("status", scenario.status, 0)
    patterns = [
        r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\] SEGFAULT in process null_deep \(PID: \d+, TID: \d+\)$",
        r"^  Fault Address: 0x0000000000000000$",
        r"^  Instruction:   0x[0-9a-f]+ \(level_five\+0x[0-9a-f]+ \(/dynamic/null_deep\)\)$",
        r"^  Registers \(%s\):$" % re.escape(guest.facts["machine"]),
        r"^    #5  0x[0-9a-f]+ main\+0x[0-9a-f]+ \(/dynamic/null_deep\)$",
    ]
    for pattern in patterns:
        assert re.search(pattern, scenario.stdout, re.MULTILINE), f"text lacks {pattern}:\n{scenario.stdout}"


def threads(guest):
    for report in guest["threads"].reports(2):
        expect("thread", (report["comm"], report["thread"]), ("named_thread", "worker-7"), report)
        assert report["tid"] != report["pid"], f"tid: {report}"
        chain(report, ["worker_crash", "worker"], to_start=False)
        whole(report)


def overflow(guest):
    (report,) = guest["overflow"].reports(1)
    expect("the calls", functions(report), ["recurse"] * 16, report)
    fault, arch = int(report["fault_address"], 16), guest.facts["machine"]
    sp = int(report["registers"][REGISTERS[arch][1]], 16)
    assert abs(fault - sp) < 8192, f"fault {fault:#x}, sp {sp:#x}: {report}"


def handled(guest):
    *three, first, second = guest["handled"].reports(5)
    for report in [*three, first]:
        expect("disposition", report["disposition"], "handled", report)
    for report in three:
        expect("fault_address", int(report["fault_address"], 16), 0x10, report)
        chain(report, ["risky", "main"])
    expect("raised anew", (second["disposition"], second["signal_code"]), ("fatal", "SI_TKILL"), second)
    expect("the first fault", int((second["first_fault"] or {}).get("address", "0"), 16), 0x20, second)
    (fatal,) = guest["fatal_only"].reports(1)
    expect("comm", fatal["comm"], "quick", fatal)


def sender(guest):
    scenario = guest["sender"]
    victim, shell = map(int, scenario.facts["victim"].split())
    (report,) = scenario.reports(1)
    expect("signal_code", report["signal_code"], "SI_USER", report)
    expect("fault_address", report["fault_address"], None, report)
    expect("access", report["access"], None, report)
    expect("pid and sender", (report["pid"], report["sender"]), (victim, {"pid": shell, "uid": 0}), report)


def filters(guest):
    (named,) = guest["name"].reports(1)
    expect("comm", named["comm"], "null_deep", named)
    scenario = guest["pid"]
    (one,) = scenario.reports(1)
    expect("pid", one["pid"], int(scenario.facts["victim"].split()[0]), one)


def statistics(guest):
    """The books balance, and filtered ones are counted."""
    seen = 0
    for scenario in guest.scenarios.values():
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
    expect("filtered by name", guest["name"].statistics()["Segfaults filtered out"], 2)
    assert seen >= 5, f"{seen} blocks of statistics"


def memory(guest):
    kb = max(scenario.number("resident_kb") for scenario in guest.scenarios.values() if scenario.facts.get("resident_kb"))
    assert kb < RESIDENT_MAX_KB, f"{kb} KB resident"
    return f"{kb / 1024:.1f} MB"


def bare(guest):
    """With /proc alone, the kernel's types come from the kernel itself, from 5.11 on."""
    scenario = guest["bare"]
    if kernels.version(guest.facts["kernel"]) < (5, 11) and scenario.status == 4:
        return "refused"
    expect("status", scenario.status, 0)
    for report, program in zip(scenario.reports(2), ["/static/null_deep", "/dynamic/null_deep"]):
        chain(report, DEEP)
        whole(report)
        expect("module", report["stack_trace"][0]["module"], program, report)


def exits(guest):
    """Exit statuses and what is said with them."""
    # Before 5.11 maps and rings count as locked memory, which these two do not free;
    # and Debian lets no perf event through without CAP_SYS_ADMIN.
    stderr = guest["two_capabilities"].stderr
    too_few = kernels.version(guest.facts["kernel"]) < (5, 11) or "perf_event_paranoid" in stderr
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
        scenario = guest[name]
        assert scenario.status == status, f"{name}: status {scenario.status}, not {status}: {scenario.stderr}"
        said = scenario.stderr.startswith("Error: ")
        assert said == (status != 0), f"{name}: {scenario.stderr!r}"


def kernel_log(guest):
    """The kernel itself found nothing wrong."""
    expect("complaints", guest["complaints"].stdout.strip(), "")
    return "quiet"


FEATURES = [
    ("Attached in", attach),
    ("Fault address", address),
    ("Access", access),
    ("Registers", registers),
    ("Stack", stack),
    ("Modules after exit", modules),
    ("Short-lived", hundred),
    ("JSON", json_lines),
    ("Text", text),
    ("Threads", threads),
    ("Stack overflow", overflow),
    ("Handled", handled),
    ("Sender", sender),
    ("Filters", filters),
    ("Statistics", statistics),
    ("Memory", memory),
    ("/proc alone", bare),
    ("Exit statuses", exits),
    ("Kernel's log", kernel_log),
]


def judge(guest):
    """The cell of each feature, and what is wrong with those that fail."""
    cells, failures = [], []
    for title, check in FEATURES:
        try:
            cells.append(check(guest) or "yes")
        except (AssertionError, KeyError, ValueError, TypeError, IndexError) as error:
            cells.append("**no**")
            kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__} "
            failures.append(f"{title}: {kind}{error}")
    return cells, failures
