#!/usr/bin/env python3
"""Lines and inlined calls at a desk, beside addr2line and llvm-symbolizer.

usage: desk.py BINARY [--runs N] [PROGRAM...]

Asks each tool for the same 10,000 addresses of each program, in turns, and prints two
tables: how many addresses have the same files and lines in all frames, and processor
time and memory (medians). Fails if an answer differs from llvm-symbolizer's, except
where llvm-symbolizer and addr2line differ, too, or if we take more than 1.05 of the
processor time of the fastest. Without PROGRAM it compiles C++ with many inlined calls.
"""

import argparse
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
COUNT, PER_REPORT = 10_000, 100


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def addresses(program):
    functions = set()
    for line in output("readelf", "-sW", program).splitlines():
        part = line.split()
        if len(part) >= 8 and part[3] == "FUNC" and part[6] not in ("UND", "ABS") and int(part[2], 0):
            functions.add((int(part[1], 16), int(part[2], 0)))
    functions = sorted(functions)
    chance = random.Random(1)
    picked = chance.choices(functions, [size for _, size in functions], k=COUNT)
    return [start + chance.randrange(size) for start, size in picked]


def reports(program, places):
    build_id = re.search(r"Build ID: ([0-9a-f]+)", output("readelf", "-nW", program)).group(1)
    for at in range(0, len(places), PER_REPORT):
        frames = [{"address": hex(place), "trust": "cfi", "exact": True, "module": program,
                   "module_offset": hex(place), "build_id": build_id, "symbol": None, "file": None,
                   "line": None, "inlined": False} for place in places[at:at + PER_REPORT]]
        report = {"timestamp": "", "pid": 1, "fault_type": "", "stack_trace": frames, "lost": []}
        yield json.dumps(report, separators=(",", ":")) + "\n"


def run(command, given, scratch):
    """What it wrote, its processor time in seconds, its memory in MB."""
    cost = scratch / "cost"
    with open(given, "rb") as stdin:
        done = subprocess.run(["/usr/bin/time", "-f", "%U %S %M", "-o", cost, *command], stdin=stdin,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    user, system, memory = cost.read_text().split()[-3:]
    return done.stdout.decode(errors="replace"), float(user) + float(system), int(memory) / 1024


def place(file, line):
    return (os.path.normpath(file), int(line)) if file not in ("??", None) and int(line or 0) else None


def ours(text):
    calls = []
    for report in map(json.loads, text.splitlines()):
        for frame in report["stack_trace"]:
            calls.append(place(frame["file"], frame["line"]))
            if not frame["inlined"]:
                yield calls
                calls = []


def llvm(text):
    for block in text.strip("\n").split("\n\n"):
        yield [place(*line.rsplit(":", 2)[:2]) for line in block.split("\n")[1::2]]


def binutils(text):
    for block in re.split(r"^0x[0-9a-f]{16}\n", text, flags=re.M)[1:]:
        lines = [line.split(" (disc")[0].rsplit(":", 1) for line in block.splitlines()[1::2]]
        yield [place(file, line if line.isdigit() else 0) for file, line in lines]


def compile_cpp(scratch):
    programs = []
    for name, compiler in (("C++, gcc", "g++"), ("C++, clang", "clang++-19")):
        if shutil.which(compiler):
            program = scratch / f"inlined-{compiler}"
            subprocess.run([compiler, "-O2", "-g", "-std=c++17", "-w", "-Wl,--build-id",
                            HERE / "inlined.cpp", "-o", program], check=True)
            programs.append((name, str(program)))
    return programs


def measure(program, tools, runs, scratch):
    places = addresses(program)
    (scratch / "reports").write_text("".join(reports(program, places)))
    (scratch / "addresses").write_text("".join(f"{at:#x}\n" for at in places))
    costs, answers = {}, {}
    for _ in range(runs):
        for name, (command, given, read) in tools(program).items():
            text, seconds, memory = run(command, scratch / given, scratch)
            costs.setdefault(name, []).append((seconds, memory))
            answers.setdefault(name, list(read(text)))
    medians = {name: tuple(map(statistics.median, zip(*cost))) for name, cost in costs.items()}
    return answers, medians


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("programs", nargs="*")
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_intermixed_args()

    def tools(program):
        return {
            "segfault_analyzer": ([given.binary, "symbolize", "--file", program], "reports", ours),
            "llvm-symbolizer": (["llvm-symbolizer-19", "--obj=" + program], "addresses", llvm),
            "addr2line": (["addr2line", "-a", "-i", "-f", "-C", "-e", program], "addresses", binutils),
        }

    wrong, slow, speeds = 0, 0, []
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        programs = [(os.path.basename(path), os.path.abspath(path)) for path in given.programs]
        print("| program | as llvm-symbolizer | as addr2line | as neither |\n|---|--:|--:|--:|")
        for name, program in programs or compile_cpp(scratch):
            answers, medians = measure(program, tools, given.runs, scratch)
            mine, clang, gnu = (answers[tool] for tool in medians)
            assert len(mine) == len(clang) == len(gnu) == COUNT, program
            neither = [at for at in range(COUNT) if mine[at] not in (clang[at], gnu[at])]
            same = [sum(map(lambda a, b: a == b, mine, other)) for other in (clang, gnu)]
            print(f"| {name} | {same[0]:,} | {same[1]:,} | {len(neither)} |")
            wrong += sum(clang[at] == gnu[at] for at in neither)
            fastest = min(seconds for tool, (seconds, _) in medians.items() if tool != "segfault_analyzer")
            slow += medians["segfault_analyzer"][0] > 1.05 * fastest
            speeds.append((name, medians))
    print("\n| program | tool | processor time | memory |\n|---|---|--:|--:|")
    for name, medians in speeds:
        for tool, (seconds, memory) in medians.items():
            print(f"| {name} | {tool} | {seconds:.2f} s | {memory:.0f} MB |")
    if wrong:
        print(f"{wrong} addresses differ from what both peers say", file=sys.stderr)
    if slow:
        print(f"slower than 1.05 of the fastest with {slow} programs", file=sys.stderr)
    sys.exit(bool(wrong or slow))


if __name__ == "__main__":
    main()
