"""The attacks: each writes files into a directory, and says how to crash with them."""

import os
import random
import struct
from dataclasses import dataclass, field
from pathlib import Path

from elf import AARCH64, CODE, CODE_BYTES, DYNSYM, NOTE, PATTERN, RELA, Elf, Section, code, symbol, uleb

WORDS = 4096  # return addresses on a stack, as many as are captured


@dataclass
class Attack:
    name: str
    files: list
    places: int = WORDS
    environment: dict = field(default_factory=dict)
    options: list = field(default_factory=list)


ATTACKS = []


def attack(function):
    ATTACKS.append(function)
    return function


def every_16(count=65_535):
    """A function every 16 bytes of the code."""
    return b"".join(symbol(1, CODE + 16 * n, 16) for n in range(count))


@attack
def symbols(path):
    elf = Elf()
    elf.symbols(every_16(), b"\0function\0")
    return [elf.write(path("symbols"))]


@attack
def many_symbols(path):
    """Eight million entries, which is what is taken at most."""
    elf = Elf()
    elf.symbols(every_16(), b"\0function\0", count=8 << 20)
    return [elf.write(path("many_symbols"))]


@attack
def variables(path):
    """The fault's address lies in no function: the nearest variable is looked for."""
    elf = Elf()
    elf.symbols(symbol(1, CODE, 16, info=0x11) * 65_536, b"\0variable\0", count=8 << 20)
    return [elf.write(path("variables"))]


@attack
def foreign_machine(path):
    """Names of markers all over a string table of 4 GB."""
    chance = random.Random(1)
    elf = Elf(AARCH64)
    table = b"".join(symbol(chance.randrange(1 << 32), CODE + 16 * n, 0, info=0) for n in range(65_535))
    elf.symbols(table, b"\0", strings_size=(1 << 32) - 1)
    return [elf.write(path("foreign_machine"))]


@attack
def plt(path):
    """Stubs all over the code; their relocations stand behind a million others."""
    elf = Elf()
    elf.sections[1].data = code(b"\xff\x25\0\0\0\0" + PATTERN[6:])
    elf.add(Section(".plt", address=CODE, size=CODE_BYTES, offset=CODE, entry=16))
    elf.symbols(symbol(1, 0, 0, section=0) * 4, b"\0puts\0", kind=DYNSYM)
    count = CODE_BYTES // 16
    elf.add(Section(".rela.plt", b"", 24 << 20, kind=RELA, entry=24))
    table = elf.add(Section(".rela.dyn", b"", 24 << 20, kind=RELA, entry=24))
    slots = b"".join(struct.pack("<QQQ", CODE + 16 * n + 6, 1 << 32, 0) for n in range(count))
    elf.add(Section(".slots", slots, offset=elf.sections[table].offset + (24 << 20) - len(slots)))
    return [elf.write(path("plt"))]


@attack
def debug_links(path):
    """Debug files of 64 MB in each place where a link leads."""
    elf = Elf()
    name = b"linked.debug\0\0\0\0"
    elf.add(Section(".gnu_debuglink", name + b"\1\2\3\4"))
    file = elf.write(path("debug_links"))
    for place in ("linked.debug", ".debug/linked.debug"):
        debug = Elf()
        debug.symbols(every_16(16), b"\0x\0")
        debug.add(Section(".fill", b"", (64 << 20) - (2 << 20)))
        target = Path(file).with_name("x").parent / place
        target.parent.mkdir(exist_ok=True)
        debug.write(str(target))
    return [file]


def debug_elf(info, abbreviations, **others):
    elf = Elf()
    elf.symbols(every_16(16), b"\0x\0")
    elf.add(Section(".debug_info", info))
    elf.add(Section(".debug_abbrev", abbreviations))
    for name, section in others.items():
        data, size = section if isinstance(section, tuple) else (section, None)
        elf.add(Section("." + name, data, size))
    return elf


def unit(body, abbreviations_at=0):
    """A compilation unit of DWARF 4."""
    rest = struct.pack("<HIB", 4, abbreviations_at, 8) + body
    return struct.pack("<I", len(rest)) + rest


def shape(code, tag, children, *attributes):
    out = uleb(code) + uleb(tag) + bytes([children])
    for attribute, form in attributes:
        out += uleb(attribute) + uleb(form)
    return out + b"\0\0"


LOW_HIGH = ((0x11, 1), (0x12, 7))  # low_pc: address, high_pc: 8 bytes
WHOLE = struct.pack("<QQ", CODE, CODE_BYTES)


@attack
def abbreviations(path):
    """Sixteen thousand shapes without order; each entry has the last of them."""
    codes = list(range(20_000, 20_000 + 16_000))
    table = shape(1, 0x11, 1, *LOW_HIGH, (0x10, 6))
    table += b"".join(shape(code, 0x34, 0) for code in codes) + b"\0"
    info = uleb(1) + WHOLE + struct.pack("<I", 0) + uleb(codes[-1]) * 1_000_000
    return [debug_elf(unit(info), table, debug_line=LINES).write(path("abbreviations"))]


def line_program(program):
    head = bytes([1, 1, 1, 0xFB, 14, 10]) + bytes([0, 1, 1, 1, 1, 0, 0, 0, 1]) + b"\0file.c\0\0\0\0\0"
    rest = struct.pack("<HI", 2, len(head) - 1) + head + program
    return struct.pack("<I", len(rest)) + rest


LINES = line_program(b"\0\x09\x02" + struct.pack("<Q", CODE) + b"\x03\x05\x01" + b"\x02\x80\x80\x40\x01\0\1\1")


@attack
def ranges(path):
    """Functions, each with sixty thousand ranges that hold nothing."""
    table = shape(1, 0x11, 1, *LOW_HIGH, (0x10, 6)) + shape(2, 0x2E, 0, (0x55, 6)) + b"\0"
    info = uleb(1) + WHOLE + struct.pack("<I", 0) + (uleb(2) + struct.pack("<I", 0)) * 100_000
    lists = struct.pack("<QQ", 0x10, 0x20) * 60_000 + bytes(16)
    return [debug_elf(unit(info), table, debug_line=LINES, debug_ranges=lists).write(path("ranges"))]


@attack
def unit_ranges(path):
    """Units, each with sixty thousand ranges that hold nothing."""
    table = shape(1, 0x11, 0, (0x55, 6)) + b"\0"
    info = unit(uleb(1) + struct.pack("<I", 0)) * 100_000
    lists = struct.pack("<QQ", 0x10, 0x20) * 60_000 + bytes(16)
    return [debug_elf(info, table, debug_ranges=lists).write(path("unit_ranges"))]


@attack
def inlined(path):
    """A function with a million inlined calls that do not hold the address."""
    table = (shape(1, 0x11, 1, *LOW_HIGH, (0x10, 6)) + shape(2, 0x2E, 1, *LOW_HIGH)
             + shape(3, 0x1D, 1, (0x55, 6)) + b"\0")
    info = uleb(1) + WHOLE + struct.pack("<I", 0) + uleb(2) + WHOLE + (uleb(3) + struct.pack("<I", 0)) * 500_000
    lists = struct.pack("<QQ", 0x10, 0x20) * 1_000 + bytes(16)
    return [debug_elf(unit(info), table, debug_line=LINES, debug_ranges=lists).write(path("inlined"))]


@attack
def indirect_forms(path):
    table = shape(1, 0x11, 1, *LOW_HIGH, (0x10, 6)) + shape(2, 0x34, 0, *((0x3, 0x16),) * 200_000) + b"\0"
    info = uleb(1) + WHOLE + struct.pack("<I", 0) + (uleb(2) + b"\x0b\0" * 200_000) * 40
    return [debug_elf(unit(info), table, debug_line=LINES).write(path("indirect_forms"))]


@attack
def lines(path):
    """A line program of 200 MB that never comes to the address."""
    program = line_program(b"")
    size = 200 << 20
    program = struct.pack("<I", size - 4) + program[4:] + b"\x01" * (16 << 20)
    table = shape(1, 0x11, 1, *LOW_HIGH, (0x10, 6)) + b"\0"
    info = uleb(1) + WHOLE + struct.pack("<I", 0)
    return [debug_elf(unit(info), table, debug_line=(program, size)).write(path("lines"))]


@attack
def empty_ranges(path):
    """A list of ranges by address of 1 GB that is a hole."""
    table = shape(1, 0x11, 0) + b"\0"
    return [debug_elf(unit(uleb(1)), table, debug_aranges=(b"", 1 << 30)).write(path("empty_ranges"))]


def plain(path):
    """A file whose code has no call-frame information: any word that leads there may be
    a caller, and all others are weighed against it."""
    return Elf().write(path("plain"))


def frame_section(elf, data, size=None):
    elf.add(Section(".eh_frame", data, size, address=0x40_0000, flags=2))
    elf.symbols(every_16(16), b"\0x\0")


def cie(instructions=b"", augmentation=b"\0"):
    body = struct.pack("<IB", 0, 1) + augmentation + b"\x01\x78\x10" + instructions
    body += bytes(-len(body) % 4)
    return struct.pack("<I", len(body)) + body


def fde(at, start, length, instructions):
    body = struct.pack("<IQQ", at + 4, start, length) + instructions
    body += bytes(-len(body) % 4)
    return struct.pack("<I", len(body)) + body


@attack
def remembered_states(path):
    """An entry of sixty thousand instructions that copy whole rows."""
    # The return address lies where nothing was captured.
    head = cie(b"\x0c\x07\x08\x90" + uleb(1 << 40))
    many = b"".join(bytes([0x80 | n, 1]) for n in range(33))
    elf = Elf()
    frame_section(elf, head + fde(len(head), CODE, CODE_BYTES, many + b"\x0a\x0b" * 30_000) + bytes(4))
    return [plain(path), elf.write(path("remembered_states"))]


@attack
def expressions(path):
    """Every register by an expression that loops until it is stopped."""
    loop = b"\x30\x96\x2f\xfc\xff"  # lit0; nop; skip -4
    row = b"\x0f" + uleb(len(b"\x77\x08")) + b"\x77\x08"
    row += b"".join(b"\x16" + uleb(n) + uleb(len(loop)) + loop for n in range(16)) + b"\x90" + uleb(1 << 40)
    head = cie(row)
    elf = Elf()
    frame_section(elf, head + fde(len(head), CODE, CODE_BYTES, b"") + bytes(4))
    return [plain(path), elf.write(path("expressions"))]


@attack
def entries(path):
    """Half a million entries in no search table, each with a long CIE of its own."""
    head = b"".join(cie(augmentation=b"zL" + b"L" * 200 + b"\0") for _ in range(8_000))
    step = len(head) // 8_000
    body = bytearray(head)
    for n in range(400_000):
        at = len(body)
        body += fde(at - n % 8_000 * step, 0x70_0000 + n, 1, b"")
    elf = Elf()
    frame_section(elf, bytes(body))
    return [elf.write(path("entries"))]


@attack
def long_cies(path):
    """Entries whose CIEs have 60 KB each and overlap."""
    body = bytearray(cie(bytes(60_000)) * 100)
    # Inside each there are more that reach on.
    for at in range(0, len(body) - 70_000, 64):
        struct.pack_into("<IIB", body, at + 32, 60_000, 0, 1)
    places = range(32, len(body) - 140_000, 64)
    for n in range(300_000):
        at = len(body)
        body += fde(at - places[n % len(places)], 0x70_0000 + n, 1, b"")
    elf = Elf()
    frame_section(elf, bytes(body))
    return [elf.write(path("long_cies"))]


@attack
def lying_search_table(path):
    """A search table of 64 MB in no order that leads to no entry."""
    table = struct.pack("<BBBBiI", 1, 0x1B, 3, 0x3B, 0, 8 << 20)
    elf = Elf()
    elf.add(Section(".eh_frame_hdr", table, 64 << 20, address=0x800_0000, flags=2))
    frame_section(elf, cie() * 400_000)
    return [elf.write(path("lying_search_table"))]


@attack
def segments(path):
    elf = Elf()
    for n in range(250):
        elf.segments.append((4, 4, CODE, CODE, 65_536))
    return [elf.write(path("segments"))]


def notes_elf():
    """Thousands of sections, each a build-id of 64 KB of other notes."""
    elf = Elf()
    notes = struct.pack("<III", 0, 0, 1) * 5_461
    at = elf.sections[elf.add(Section(".note.gnu.build-id", notes, kind=NOTE))].offset
    for _ in range(4_000):
        elf.add(Section(".note.gnu.build-id", b"", len(notes), kind=NOTE, offset=at))
    return elf


@attack
def notes(path):
    return [notes_elf().write(path("notes"))]


@attack
def many_files(path):
    """Hundreds of files that take long to parse, each with code on the stack."""
    first = notes_elf().write(path("many_files"))
    names = [first]
    for n in range(300):
        name = path(f"many_files.{n}")
        if not os.path.exists(name):
            os.system(f"cp --sparse=always '{first}' '{name}'")
        names.append(name)
    return names


@attack
def hash_table(path):
    """No sections; a GNU hash table of a million buckets, and a chain without end."""
    elf = Elf()
    at = 0x40_0000
    hashes = struct.pack("<IIII", 1 << 20, 1, 0, 0) + struct.pack("<I", 1) + bytes(4 * (1 << 20) - 4) + bytes(1 << 20)
    tags = [(0x6FFFFEF5, at), (5, at), (6, at), (10, 100)]
    dynamic = b"".join(struct.pack("<QQ", *tag) for tag in tags) + bytes(16)
    number = elf.add(Section("", hashes, address=at))
    elf.segments.append((1, 4, elf.sections[number].offset, at, len(hashes)))
    number = elf.add(Section("", dynamic))
    elf.segments.append((2, 4, elf.sections[number].offset, 0, len(dynamic)))
    return [elf.write(path("hash_table"))]


@attack
def go_table(path):
    head = struct.pack("<IBBBB", 0xFFFFFFF1, 0, 0, 1, 8)
    head += struct.pack("<8Q", 8 << 20, 0, CODE, 128, 0, 0, 0, 256)
    elf = Elf()
    elf.add(Section(".gopclntab", head, 96 << 20))
    return [elf.write(path("go_table"))]


@attack
def long_names(path):
    """Names of a gigabyte, and names that stand for far longer ones."""
    bomb = b"_R" + b"INvC1a1b" + b"TB2_B2_E" * 400 + b"E"
    strings = b"\0" + bomb + b"\0" + b"n" * (8 << 20)
    table = b"".join(symbol(1 if n % 2 else len(bomb) + 2 + n, CODE + 16 * n, 16) for n in range(65_535))
    elf = Elf()
    elf.symbols(table, strings)
    return [elf.write(path("long_names"))]


@attack
def names_of_one_place(path):
    """All symbols at one address."""
    elf = Elf()
    elf.symbols(b"".join(symbol(n % 4096 + 1, CODE, CODE_BYTES) for n in range(500_000)), b"\0" + b"_" * 5000)
    return [elf.write(path("names_of_one_place"))]


@attack
def perf_map(path):
    """The map of a compiler's code: 64 MB of lines."""
    name = path("perf_map")
    with open(name, "wb") as out:
        out.write(b"1 1 x\n" * ((63 << 20) // 6))
    os.chmod(name, 0o666)
    return Attack("perf_map", [], environment={"PERF_MAP": name})


@attack
def links_to_what_is_no_file(path):
    """Debug links to a FIFO, a directory and a device."""
    files = []
    for number, make in enumerate((os.mkfifo, os.mkdir, lambda name: os.symlink("/dev/zero", name))):
        target = path(f"no_file_{number}.dbg")
        if not os.path.lexists(target):
            make(target)
        elf = Elf()
        elf.add(Section(".gnu_debuglink", os.path.basename(target).encode().ljust(16, b"\0") + b"\1\2\3\4"))
        files.append(elf.write(path(f"no_file_{number}")))
    return files
