"""Writes ELF files that are as costly to read as a format allows.

Each file has its code at offset and address CODE, CODE_BYTES of it: a crash, then
PATTERN again and again. The last byte of each is a return address, and no instruction
around it tells how deep a frame is. What is large is a hole in the file."""

import os
import struct

CODE = 0x1000
CODE_BYTES = 1 << 20
CRASH = bytes.fromhex("31c08b00")  # xor %eax, %eax; mov (%rax), %eax
X86_64, AARCH64 = 62, 183
PROGBITS, SYMTAB, STRTAB, RELA, NOTE, DYNSYM = 1, 2, 3, 4, 7, 11


# Opcodes that are none in 64-bit code, a call, another.
PATTERN = b"\x06" * 10 + b"\xe8\0\0\0\0" + b"\x06"


def code(pattern=PATTERN):
    return CRASH.ljust(16, b"\x06") + pattern * (CODE_BYTES // 16 - 1)


class Section:
    """`data` stands at the beginning of `size` bytes."""

    def __init__(self, name, data=b"", size=None, kind=PROGBITS, link=0, entry=0, address=0, flags=0, offset=None):
        self.name, self.data, self.kind, self.link, self.entry = name, data, kind, link, entry
        self.address, self.flags, self.offset = address, flags, offset
        self.size = len(data) if size is None else size


class Elf:
    def __init__(self, machine=X86_64):
        self.machine = machine
        self.sections = [Section("", kind=0)]
        self.segments = []  # what stands behind the code: (type, flags, offset, address, size)
        self.at = CODE + CODE_BYTES
        self.add(Section(".text", code(), address=CODE, flags=6, offset=CODE))

    def add(self, section):
        """The section's number."""
        if section.offset is None:
            section.offset = self.at = (self.at + 4095) & ~4095
            self.at += section.size
        self.sections.append(section)
        return len(self.sections) - 1

    def symbols(self, table, strings, count=None, kind=SYMTAB, strings_size=None):
        """A symbol table of entries, or of so many holes; and its names."""
        names = self.add(Section(".strtab" if kind == SYMTAB else ".dynstr", strings, strings_size, kind=STRTAB))
        size = len(table) if count is None else count * 24
        return self.add(Section(".symtab" if kind == SYMTAB else ".dynsym", table, size, kind, names, 24))

    def write(self, path):
        names = b"\0"
        for section in self.sections:
            section.name_at = names.find(b"\0" + section.name.encode() + b"\0") + 1 if section.name else 0
            if section.name and not section.name_at:
                section.name_at = len(names)
                names += section.name.encode() + b"\0"
        own = self.add(Section(".shstrtab", names, kind=STRTAB))
        self.sections[own].name_at = 0
        headers_at = (self.at + 4095) & ~4095
        loads = [(1, 5, CODE, CODE, CODE_BYTES)]
        segments = loads + self.segments
        with open(path, "wb") as out:
            out.write(b"\x7fELF\2\1\1" + bytes(9))
            out.write(struct.pack("<HHIQQQIHHHHHH", 3, self.machine, 1, 0, 64, headers_at, 0, 64, 56,
                                  len(segments), 64, len(self.sections), own))
            for kind, flags, offset, address, size in segments:
                out.write(struct.pack("<IIQQQQQQ", kind, flags, offset, address, address, size, size, 4096))
            for section in self.sections[1:]:
                out.seek(section.offset)
                out.write(section.data)
            out.seek(headers_at)
            for s in self.sections:
                out.write(struct.pack("<IIQQQQIIQQ", s.name_at, s.kind, s.flags, s.address, s.offset or 0, s.size,
                                      s.link, 1, 1, s.entry))
            out.truncate(max(out.tell(), headers_at))
        os.chmod(path, 0o755)
        return path


def symbol(name, value, size, info=0x12, section=1):
    return struct.pack("<IBBHQQ", name, info, 0, section, value, size)


def uleb(value):
    out = bytearray()
    while True:
        out.append(value & 0x7F | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(out)
