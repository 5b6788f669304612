#!/usr/bin/env python3
"""Crashes every program of the corpus in every build under the eyes of the real
binary, and compares the chains and the causes that it reports with those that are
known. Bugs to which other calls lead must have other signatures, and one bug the
same group in all builds.

    check.py [PATTERN]     PATTERN is part of "source:scenario build"

Needs root. Ends with 1 if anything is wrong, and prints both chains.
"""

import os
import re
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import corpus
from monitor import Monitor, frames


# Older ways of capture have the code of frame pointers' records alone.
LESS = {("compiled.c", "no_frames")}
IS_OLD = "--capture" in os.environ.get("SEGFAULT_ANALYZER_ARGS", "")

# What starts a program.
PREFIX = []


def run_case(numbered):
    number, case = numbered
    environment = {**os.environ, "SCENARIO": case.scenario}
    command = [*PREFIX, case.program.path, case.scenario, f"case-{number}"]
    try:
        subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=10)
    except subprocess.TimeoutExpired:
        print(f"corpus: {case} did not end")


def by_case(reports):
    """The last SIGSEGV of each case: handlers see the first."""
    found = {}
    for report in reports:
        number = (report.get("cmdline") or "").split(" ")[-1]
        if number.startswith("case-"):
            found[int(number[5:])] = report
    return found


def wrong(case, report):
    """What is wrong with a report, and its frames."""
    if report is None:
        return "no report", []
    found = frames(report, case.program)
    ended = report["stack_complete"]
    if IS_OLD and (case.program.source.name, case.scenario) in LESS and not ended:
        return None, found
    if not corpus.agrees(case.chain, found, case.program.own, False, ended):
        return "chain", found
    if not corpus.agrees(case.chain, found, case.program.own, True, ended):
        return f"end (stack_complete {str(ended).lower()})", found
    if corpus.claims_wrongly(case.chain, found, case.program.own, ended):
        return "complete, but is not", found
    if report["cause"] not in case.causes:
        return f"cause {report['cause']}, not {' or '.join(case.causes)}: {report['cause_text']}", found
    return None, found


def claims_wrongly(case, report):
    """Whether a report says that its stack is complete although it is not."""
    if report is None:
        return False
    return corpus.claims_wrongly(case.chain, frames(report, case.program), case.program.own,
                                 report["stack_complete"])


def is_certain(build):
    """Without call-frame information the crash's own frame is all that is certain."""
    return build.language != "go" and not set(corpus.NO_TABLES) & set(build.flags)


def same_signatures(all_cases, reports):
    """Bugs of one program that have one signature, though other calls led there."""
    known, wrong = {}, []
    for number, case in enumerate(all_cases):
        report = reports.get(number)
        if report is None or report["signature"] is None or not is_certain(case.program.build):
            continue
        calls = [frame.name for frame in frames(report, case.program)[:5]]
        other = known.setdefault((case.program.path, report["signature"]), (case, calls))
        if other[1] != calls:
            wrong.append(f"{case}: has the signature of {other[0].scenario}")
    return wrong


def other_groups(all_cases, reports):
    """Bugs whose group is not the same in all builds that have names."""
    known, wrong = {}, []
    for number, case in enumerate(all_cases):
        build, report = case.program.build, reports.get(number)
        # Those that a library or a compiler has a part in are others.
        named = all(re.fullmatch(r"[\w:]+", call) for call in case.chain[:5])
        # -O0 leaves a call that others inline.
        if report is None or not named or build.strip or build.name == "O0" or not is_certain(build):
            continue
        # A group has the executable's name in it, and some programs run a copy of another.
        key = case.program.source, case.scenario, os.path.basename(report["exe"] or "")
        other, group = known.setdefault(key, (case, report["group"]))
        # Where a file was out of reach there is none.
        if None not in (group, report["group"]) and group != report["group"]:
            wrong.append(f"{case}: has another group than {other}")
    return wrong


def main():
    started = time.monotonic()
    directory = Path(os.environ.get("CORPUS_DIR", corpus.ROOT / "target/corpus"))
    all_cases, missing = corpus.cases(directory, sys.argv[1] if len(sys.argv) > 1 else "")
    if missing:
        print("corpus: not installed:", ", ".join(sorted(missing)))
        if os.environ.get("CI") == "true":
            return 1
    built = time.monotonic()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    monitor = Monitor()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(run_case, enumerate(all_cases)))
    reports = by_case(monitor.stop())
    failures, gaps = [], 0
    for number, case in enumerate(all_cases):
        what, found = wrong(case, reports.get(number))
        if what and case.gap:
            gaps += 1
            print(f"known gap: {case}: {case.gap}")
        elif case.gap:
            failures.append((case, "right: no gap any more", found))
        elif what:
            failures.append((case, what, found))
    if failures:
        print(corpus.table(failures))
    # Gaps, too: a chain may be wrong, but not said to be whole.
    claimed = [case for number, case in enumerate(all_cases) if claims_wrongly(case, reports.get(number))]
    wrong_values = [f"{case}: complete claimed wrongly" for case in claimed]
    wrong_values += same_signatures(all_cases, reports) + other_groups(all_cases, reports)
    print("\n".join(wrong_values), end="\n" if wrong_values else "")
    print(f"corpus: {len(all_cases) - len(failures) - gaps} of {len(all_cases)} chains and causes right, "
          f"complete claimed wrongly {len(claimed)}; "
          f"built in {built - started:.0f} s, crashed in {time.monotonic() - built:.0f} s")
    return 1 if failures or wrong_values else 0


if __name__ == "__main__":
    sys.exit(main())
