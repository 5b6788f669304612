#!/usr/bin/env python3
"""Compares our reading of .ARM.exidx and .ARM.extab with that of GNU readelf, for every
entry of some of Debian's libraries for armhf.

    arm_tables.py [FILE...]     files of your own instead
    arm_tables.py --fetch       print where the libraries are, downloaded if need be

readelf does not print the instructions of entries in the generic model, whose layout only
the personality knows. They are assembled once more as entries of the compact model, by
llvm-mc, so that readelf prints them, too. Needs binutils, llvm-19 and cargo.
"""

import os
import re
import struct
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "vm"))
FOLDER = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(HERE, "../target")), "arm-tables")
SUITE = "bookworm"
# Packages, and the file in each.
WANTED = [
    ("libc6", "lib/arm-linux-gnueabihf/libc.so.6"),
    ("libstdc++6", "usr/lib/arm-linux-gnueabihf/libstdc++.so.6.*"),
    ("python3.11-minimal", "usr/bin/python3.11"),
]


def libraries():
    import debian

    # Its lists keep only what the guests need.
    debian.WANTED += tuple(f"Package: {package}\n" for package, _ in WANTED)
    cache = debian.Cache(FOLDER)
    return [cache.unpack(cache.newest(SUITE, "armhf", re.escape(package)), path) for package, path in WANTED]


def output(command, **options):
    return subprocess.run(command, check=True, capture_output=True, **options).stdout


def entries(path):
    """Of each entry the start of its code, and its lines."""
    text = output(["readelf", "-uW", path]).decode(errors="replace")
    found = []
    for line in text.splitlines():
        head = re.match(r"0x([0-9a-f]+)(?: <.*>)?: (.*)", line)
        if head:
            found.append((int(head[1], 16), head[2], []))
        elif found and line.startswith("  "):
            found[-1][2].append(line.strip())
    return found


def instructions(lines):
    """What readelf says of each instruction, without its bytes."""
    said = [re.sub(r"^(0x[0-9a-f]{2} +)+", "", line) for line in lines if line.startswith("0x")]
    return ";".join(said)


class Image:
    """The loaded bytes of a file, by address."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = file.read()
        offset, size, count = (*struct.unpack_from("<I", self.data, 28), *struct.unpack_from("<HH", self.data, 42))
        headers = [struct.unpack_from("<8I", self.data, offset + size * index) for index in range(count)]
        self.loads = [(at, place, length) for kind, place, at, _, length, *_ in headers if kind == 1]

    def read(self, address, length):
        for start, offset, size in self.loads:
            if start <= address < start + size:
                return self.data[offset + address - start :][:length]
        raise LookupError(f"nothing at {address:#x}")


def generic(path, places):
    """The instructions of entries in the generic model, by GCC's layout: after the address of
    the personality a word with the count of further words and three instructions."""
    image = Image(path)
    lines = [".text", ".syntax unified"]
    for place in places:
        first = image.read(place + 4, 4)
        code = first[2::-1] + b"".join(image.read(place + 8 + 4 * word, 4)[::-1] for word in range(first[3]))
        raw = ", ".join(f"{byte:#x}" for byte in code)
        lines += [".fnstart", "nop", f".unwind_raw 0, {raw}", ".fnend"]
    object_file = os.path.join(FOLDER, "generic.o")
    command = ["llvm-mc-19", "-triple=armv7-linux-gnueabihf", "-filetype=obj", "-o", object_file]
    subprocess.run(command, check=True, input="\n".join(lines).encode() + b"\n")
    said = [instructions(lines) for _, _, lines in entries(object_file)]
    assert len(said) == len(places), f"{len(said)} entries, not {len(places)}"
    return said


def listing(path):
    """A line for each entry: the start of its code, and its instructions or "none"."""
    found = entries(path)
    is_generic = lambda lines: any(line.startswith("Personality routine") for line in lines)
    places = [int(re.search(r"@0x([0-9a-f]+)", said)[1], 16) for _, said, lines in found if is_generic(lines)]
    others = iter(generic(path, places))
    lines = []
    for start, said, own in found:
        if "cantunwind" in said:
            lines.append(f"{start:x} none")
        else:
            lines.append(f"{start:x} {next(others) if is_generic(own) else instructions(own)}")
    print(f"{path}: {len(found)} entries, {len(places)} in the generic model")
    return lines


def main():
    os.makedirs(FOLDER, exist_ok=True)
    if sys.argv[1:] == ["--fetch"]:
        print(*map(os.path.abspath, libraries()))
        return 0
    files = sys.argv[1:] or libraries()
    place = os.path.abspath(os.path.join(FOLDER, "listing"))
    with open(place, "w", encoding="utf-8") as file:
        for path in files:
            file.write(f"file {os.path.abspath(path)}\n" + "\n".join(listing(path)) + "\n")
    test = "unwind::exidx::tests::entries_are_as_readelf_has_them"
    command = ["cargo", "test", "--locked", "--lib", test, "--", "--ignored", "--exact", "--nocapture"]
    return subprocess.run(command, env={**os.environ, "ARM_TABLES": place}).returncode


if __name__ == "__main__":
    sys.exit(main())
