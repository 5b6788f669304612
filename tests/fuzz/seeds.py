#!/usr/bin/env python3
"""Writes what the fuzz targets elf, lines and walk begin with: corpus/TARGET/.

    python3 seeds.py       needs cc, objcopy and gdb

Programs are small ones of tests/crashers, built in several ways. A seed of `walk`
is one of them in the middle of its calls, as gdb sees it.
"""

import struct
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CRASHERS = HERE.parent / "crashers"
BUILDS = {
    "plain": ["-O2"],
    "dwarf5": ["-O2", "-g", "-gdwarf-5"],
    "dwarf4": ["-O1", "-g", "-gdwarf-4"],
    "dwarf3_64": ["-O2", "-g", "-gdwarf-3", "-gdwarf64"],
    "narrow": ["-O2", "-g", "-m32"],
    "debug_frame": ["-O2", "-g", "-fno-asynchronous-unwind-tables"],
}
# Where fuzz_targets/walk.rs puts code, sections and stack.
TEXT, HEADER, FRAMES, DEBUG_FRAMES = 0x1000, 0x100000, 0x200000, 0x300000
BIAS, STACK, WORDS = 0x56500000, 0x7FFF0000, 34
# struct pt_regs, in its order.
REGISTERS = "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss".split()


def run(command):
    return subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True)


def section(path, name, scratch):
    out = scratch / "section"
    out.unlink(missing_ok=True)
    run(["objcopy", "-O", "binary", "--set-section-flags", f"{name}=alloc", f"--only-section={name}", path, out])
    return out.read_bytes() if out.exists() else b""


def crash(path, scratch):
    """Registers, stack and the code's place, when it crashes."""
    stack, text = scratch / "stack", scratch / "text"
    for file in (stack, text):
        file.unlink(missing_ok=True)
    commands = ["run", *(f'printf "{name} %#lx\\n", (long)${name}' for name in REGISTERS),
                f"dump binary memory {stack} $rsp $rsp+2048",
                f"dump binary memory {text} ((long)$rip-2048)&~0xfff (((long)$rip-2048)&~0xfff)+8192",
                'printf "start %#lx\\n", ((long)$rip-2048)&~0xfff']
    arguments = ["-ex", "set confirm off"] + [word for command in commands for word in ("-ex", command)]
    said = run(["gdb", "-nx", "-batch", *arguments, path]).stdout.decode(errors="replace")
    values = {}
    for line in said.splitlines():
        words = line.split()
        if len(words) == 2 and words[1].startswith("0x") and words[0] in [*REGISTERS, "start"]:
            values[words[0]] = int(words[1], 16)
    if not stack.exists() or not text.exists() or "start" not in values:
        return None
    return values, stack.read_bytes(), text.read_bytes()


def walk_seed(path, scratch):
    """What follows the first two bytes."""
    found = crash(path, scratch)
    if not found:
        return None
    values, stack, code = found
    start, sp = values["start"], values["rsp"]

    def moved(value):
        if start <= value < start + len(code):
            return value - start + BIAS + TEXT
        if sp <= value < sp + len(stack):
            return value - sp + STACK
        return value

    words = [moved(values.get(name, 0)) for name in REGISTERS]
    words += [0] * (WORDS - len(words))
    stack = b"".join(struct.pack("<Q", moved(word)) for (word,) in struct.iter_unpack("<Q", stack))
    parts = [section(path, name, scratch)[:0xFFFF] for name in (".eh_frame_hdr", ".eh_frame", ".debug_frame")]
    parts += [code, stack]
    lengths = b"".join(struct.pack("<H", len(part)) for part in parts)
    return lengths + b"".join(struct.pack("<Q", word) for word in words) + b"".join(parts)


def main():
    for target in ("elf", "lines", "walk"):
        (HERE / "corpus" / target).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        for source in ("inlined.c", "deep.c", "quick.c"):
            for name, flags in BUILDS.items():
                path = scratch / f"{source}-{name}"
                if run(["cc", "-w", *flags, CRASHERS / source, "-o", path, "-lpthread"]).returncode:
                    continue
                for target in ("elf", "lines"):
                    (HERE / "corpus" / target / path.name).write_bytes(path.read_bytes())
                if name == "narrow":
                    continue
                seed = walk_seed(path, scratch)
                for processor in range(4) if seed else ():
                    place = HERE / "corpus" / "walk" / f"{path.name}-{processor}"
                    place.write_bytes(bytes([processor, processor]) + seed)


if __name__ == "__main__":
    main()
