#!/usr/bin/env python3
"""Lines and inlined calls in every form that debug information comes in.

usage: forms.py BINARY [--count N] [FORM...]

Compiles C++ with many inlined calls in each form, asks BINARY (a desk build) for the same
N addresses of each, and compares each frame's file, line and, of an inlined call, name with
what llvm-symbolizer and addr2line say. Where a peer does not know the form, it is asked
about the program as it was before. Fails if an answer is neither peer's, or if neither
knows anything. A form whose tools are missing is left out, and named.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import desk

BASE = ["-O2", "-g", "-std=c++17", "-w", "-Wl,--build-id"]


class Missing(Exception):
    pass


def run(*command, cwd=None):
    if not shutil.which(str(command[0])):
        raise Missing(command[0])
    subprocess.run(list(map(str, command)), check=True, cwd=cwd)


def build(scratch, compiler, *flags, name="prog"):
    """The program in a directory of its own, which the compiler is run in."""
    program = scratch / name
    run(compiler, *BASE, *flags, desk.HERE / "inlined.cpp", "-o", program, cwd=scratch)
    return program


def compressed(tool, how):
    def make(scratch):
        plain = build(scratch, "g++", "-gz=none")
        packed = scratch / "packed"
        run(tool, f"--compress-debug-sections={how}", plain, packed)
        return packed, plain, []
    return make


def compiled(compiler, *flags):
    def make(scratch):
        program = build(scratch, compiler, *flags)
        return program, program, []
    return make


FORMS = {
    "zlib": compressed("objcopy", "zlib"),
    "zlib-gnu": compressed("objcopy", "zlib-gnu"),
    "zstd": compressed("llvm-objcopy-19", "zstd"),
    "clang -gz=zlib": compiled("clang++-19", "-gz=zlib", "-fuse-ld=lld"),
    "clang -gz=zstd": compiled("clang++-19", "-gz=zstd", "-fuse-ld=lld"),
}


def ours(text):
    """As desk.ours, with the names of inlined calls."""
    calls = []
    for report in map(json.loads, text.splitlines()):
        for frame in report["stack_trace"]:
            place = desk.place(frame["file"], frame["line"])
            if frame["inlined"]:
                calls.append((place, frame.get("mangled") or frame["symbol"]))
                continue
            yield calls + [(place, None)]
            calls = []


def base(name):
    """Without the offset that a frame's name has."""
    return name.rsplit("+0x", 1)[0] if name else None


def named(places, names):
    return [(place, name if at + 1 < len(places) else None) for at, (place, name) in enumerate(zip(places, names))]


def llvm(text):
    blocks = text.strip("\n").split("\n\n")
    for places, block in zip(desk.llvm(text), blocks):
        yield named(places, block.split("\n")[0::2])


def binutils(text):
    blocks = desk.re.split(r"^0x[0-9a-f]{16}\n", text, flags=desk.re.M)[1:]
    for places, block in zip(desk.binutils(text), blocks):
        yield named(places, block.splitlines()[0::2])


def answers(command, given, scratch):
    with open(given, "rb") as stdin:
        done = subprocess.run(list(map(str, command)), stdin=stdin, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, cwd=scratch)
    return done.stdout.decode(errors="replace")


def is_known(answer):
    return any(place for place, _ in answer)


def check(binary, name, make, count, scratch):
    form, plain, options = make(scratch)
    places = desk.addresses(str(plain))[:count]
    (scratch / "addresses").write_text("".join(f"{at:#x}\n" for at in places))
    (scratch / "reports").write_text("".join(desk.reports(str(form), places)))
    text = answers([binary, "symbolize", "--file", form, *options], scratch / "reports", scratch)
    mine = [[(place, base(name)) for place, name in answer] for answer in ours(text)]

    def peer(command, read):
        for program in (form, plain):
            found = list(read(answers([*command, program], scratch / "addresses", scratch)))
            if len(found) == len(places) and any(map(is_known, found)):
                return found
        return [[(None, None)]] * len(places)

    clang = peer(["llvm-symbolizer-19", "--no-demangle", "-e"], llvm)
    gnu = peer(["addr2line", "-a", "-i", "-f", "-e"], binutils)
    assert len(mine) == len(places), f"{name}: {len(mine)} answers to {len(places)} questions"
    known = sum(map(is_known, clang)), sum(map(is_known, gnu))
    assert max(known) > count // 2, f"{name}: no peer knows a line"
    same = [sum(map(lambda a, b: a == b, mine, other)) for other in (clang, gnu)]
    wrong = [at for at in range(len(places)) if mine[at] not in (clang[at], gnu[at])]
    inlined = sum(len(answer) > 1 for answer in mine)
    print(f"| {name} | {len(places):,} | {inlined:,} | {same[0]:,} | {same[1]:,} | {len(wrong)} |", flush=True)
    for at in wrong[:3]:
        print(f"  {places[at]:#x}\n    {mine[at]}\n    {clang[at]}\n    {gnu[at]}", file=sys.stderr)
    return len(wrong)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("forms", nargs="*")
    parser.add_argument("--count", type=int, default=desk.COUNT)
    given = parser.parse_intermixed_args()
    binary = Path(given.binary).resolve()
    wrong = 0
    print("| form | addresses | with inlined calls | as llvm-symbolizer | as addr2line | as neither |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, make in FORMS.items():
        if given.forms and name not in given.forms:
            continue
        with tempfile.TemporaryDirectory() as directory:
            try:
                wrong += check(binary, name, make, given.count, Path(directory))
            except Missing as missing:
                print(f"{name}: {missing} is not here", file=sys.stderr)
    if wrong:
        print(f"{wrong} addresses differ from what both peers say", file=sys.stderr)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
