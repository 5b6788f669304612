#!/usr/bin/env python3
"""Lines and inlined calls in every form that debug information comes in.

usage: forms.py BINARY [--count N] [FORM...]

Compiles C++ with many inlined calls in each form, asks BINARY (a desk build) for the same
N addresses of each, and compares each frame's file, line and, of an inlined call, name with
what llvm-symbolizer says of the program as it was before it got that form, and addr2line of
the form itself, if it knows it. Fails if an answer is neither peer's, or if neither
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


LLVM_DWP = ["llvm-dwp-19", "-o", "prog.dwp", "-e"]
# A smaller program is compiled sooner.
SMALL = []
CACHE = tempfile.TemporaryDirectory()
BUILT = {}


class Missing(Exception):
    pass


def run(*command, cwd=None):
    if not shutil.which(str(command[0])):
        raise Missing(command[0])
    subprocess.run(list(map(str, command)), check=True, cwd=cwd)


def build(scratch, compiler, *flags, name="prog"):
    """The program, compiled in a directory of its own; once for equal flags."""
    program = scratch / name
    made = BUILT.get((compiler, flags))
    if made:
        shutil.copy(made, program)
        return program
    run(compiler, *BASE, *SMALL, *flags, desk.HERE / "inlined.cpp", "-o", program, cwd=scratch)
    made = BUILT[compiler, flags] = Path(CACHE.name) / str(len(BUILT))
    shutil.copy(program, made)
    return program


def compressed(tool, how):
    def make(scratch):
        plain = build(scratch, "g++", "-gz=none")
        packed = scratch / "packed"
        run(tool, f"--compress-debug-sections={how}", plain, packed)
        return packed, plain
    return make


def compiled(compiler, *flags):
    def make(scratch):
        program = build(scratch, compiler, *flags)
        return program, program
    return make


def dwz(*options, packed=False):
    """What two programs have in common is moved into a file of its own, if `-m` names one."""
    def make(scratch):
        plain = build(scratch, "g++", "-gz=none")
        names = ["one", "two"]
        for name in names:
            shutil.copy(plain, scratch / name)
        run("dwz", *options, *(names if "-m" in options else names[:1]), cwd=scratch)
        if packed:
            for name in (names[0], "common.debug"):
                run("objcopy", "--compress-debug-sections=zlib", name, cwd=scratch)
        return scratch / names[0], plain
    return make


def packaged(scratch):
    """The C library, whose debug file a package has: compressed."""
    library = next((line.split()[-1] for line in open("/proc/self/maps") if "/libc.so" in line), None)
    notes = desk.output("readelf", "-nW", library) if library else ""
    build_id = desk.re.search(r"Build ID: (..)([0-9a-f]+)", notes)
    debug = "/usr/lib/debug/.build-id/{}/{}.debug".format(*build_id.groups()) if build_id else ""
    if not Path(debug).is_file():
        raise Missing("libc6-dbg")
    return library, debug


def split(compiler, *flags, package=None):
    """Entries in objects of their own, or in a package of these."""
    def make(scratch):
        program = scratch / "prog"
        for part in ("inlined", "other"):
            source = desk.HERE / "inlined.cpp" if part == "inlined" else scratch / "other.cpp"
            if part == "other":
                source.write_text("int other(int x) { return x + 1; }\n")
            run(compiler, *BASE, *SMALL, *flags, "-c", source, "-o", f"{part}.o", cwd=scratch)
        run(compiler, *BASE, *flags, "inlined.o", "other.o", "-o", program, cwd=scratch)
        if package:
            run(*package, "prog", cwd=scratch)
            for path in scratch.glob("*.dwo"):
                path.unlink()
        return program, program
    return make


def rust(how):
    """As rustc splits: `off`, `unpacked` into .dwo files, `packed` into one .dwp file."""
    def make(scratch):
        source = desk.HERE / "inlined.rs"
        flags = ["-O", "-g", "-Ccodegen-units=4", "-Csymbol-mangling-version=v0", "-Clink-arg=-Wl,--build-id"]
        split = [] if how == "off" else [f"-Csplit-debuginfo={how}"]
        run("rustc", *flags, *split, source, "-o", "prog", cwd=scratch)
        plain = scratch / "prog"
        return plain, plain
    return make


def go(scratch):
    """Compressed by Go's own linker."""
    run("env", f"GOCACHE={scratch}/cache", "GO111MODULE=off", "go", "build", "-o", "prog",
        desk.HERE / "inlined.go", cwd=scratch)
    run("objcopy", "--add-section", f".note.gnu.build-id={note(scratch)}", "prog", "named", cwd=scratch)
    return scratch / "named", scratch / "named"


def note(scratch):
    """A build-id, which Go's linker gives to no program."""
    path = scratch / "note"
    path.write_bytes(bytes([4, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0]) + b"GNU\0" + b"inlined!")
    return path


FORMS = {
    "as it is": compiled("g++", "-gz=none"),
    "zlib": compressed("objcopy", "zlib"),
    "zlib-gnu": compressed("objcopy", "zlib-gnu"),
    "zstd": compressed("llvm-objcopy-19", "zstd"),
    "clang -gz=zlib": compiled("clang++-19", "-gz=zlib", "-fuse-ld=lld"),
    "clang -gz=zstd": compiled("clang++-19", "-gz=zstd", "-fuse-ld=lld"),
    "libc6-dbg": packaged,
    "dwz": dwz(),
    "dwz -m": dwz("-m", "common.debug"),
    "dwz -m, zlib": dwz("-m", "common.debug", packed=True),
    "gcc -gsplit-dwarf": split("g++", "-gsplit-dwarf"),
    "gcc -gsplit-dwarf -gdwarf-4": split("g++", "-gsplit-dwarf", "-gdwarf-4"),
    "clang -gsplit-dwarf": split("clang++-19", "-gsplit-dwarf"),
    "clang -gsplit-dwarf -gdwarf-4": split("clang++-19", "-gsplit-dwarf", "-gdwarf-4"),
    "clang -gsplit-dwarf=single": split("clang++-19", "-gsplit-dwarf=single"),
    "gcc, llvm-dwp": split("g++", "-gsplit-dwarf", package=LLVM_DWP),
    "gcc -gdwarf-4, llvm-dwp": split("g++", "-gsplit-dwarf", "-gdwarf-4", package=LLVM_DWP),
    "gcc -gdwarf-4, dwp": split("g++", "-gsplit-dwarf", "-gdwarf-4", package=["dwp", "-e"]),
    "clang, llvm-dwp": split("clang++-19", "-gsplit-dwarf", package=LLVM_DWP),
    "clang -gdwarf-4, llvm-dwp": split("clang++-19", "-gsplit-dwarf", "-gdwarf-4", package=LLVM_DWP),
    "rustc": rust("off"),
    "rustc, unpacked": rust("unpacked"),
    "rustc, packed": rust("packed"),
    "go": go,
    "dwz --dwarf-5 -m": dwz("--dwarf-5", "-m", "common.debug"),
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
    form, plain = make(scratch)
    places = desk.addresses(str(plain))[:count]
    (scratch / "addresses").write_text("".join(f"{at:#x}\n" for at in places))
    (scratch / "reports").write_text("".join(desk.reports(str(form), places)))
    text = answers([binary, "symbolize", "--file", form], scratch / "reports", scratch)
    mine = [[(place, base(name)) for place, name in answer] for answer in ours(text)]

    def peer(programs, command, read):
        for program in programs:
            found = list(read(answers([*command, program], scratch / "addresses", scratch)))
            if len(found) == len(places) and any(map(is_known, found)):
                return found
        return [[(None, None)]] * len(places)

    # LLVM knows nothing of dwz, and gives half an answer then: it is asked about the program
    # as it was. Names are as they are in the file, but Rust's are made readable.
    style = "--demangle" if name.startswith("rustc") else "--no-demangle"
    clang = peer([plain], ["llvm-symbolizer-19", style, "-e"], llvm)
    gnu = peer([form, plain], ["addr2line", "-a", "-i", "-f", "-e"], binutils)
    assert len(mine) == len(places), f"{name}: {len(mine)} answers to {len(places)} questions"
    known = sum(map(is_known, clang)), sum(map(is_known, gnu))
    assert max(known) > count // 2, f"{name}: no peer knows a line"
    same = [sum(map(lambda a, b: a == b, mine, other)) for other in (clang, gnu)]
    # A peer that does not know a form leaves out inlined calls.
    wrong = [at for at in range(len(places)) if mine[at] != clang[at]
             and not (mine[at] == gnu[at] and len(gnu[at]) >= len(clang[at]))]
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
    if given.count < desk.COUNT:
        SMALL.append("-DSMALL")
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
