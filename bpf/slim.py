#!/usr/bin/env python3
"""Takes source lines out of a BPF object's .BTF.ext section: IN OUT.

They are for the verifier's log alone, and half of the section. Its layout is that
of struct btf_ext_header (libbpf's btf.h): function records, line records,
relocations, each with offset and length from the end of the header.
"""

import struct
import sys

data = open(sys.argv[1], "rb").read()
magic, version, flags, header_bytes = struct.unpack_from("<HBBI", data)
assert magic == 0xEB9F and version == 1 and header_bytes >= 32, "no .BTF.ext section"
fields = list(struct.unpack_from("<6I", data, 8))
parts = [data[header_bytes + offset:][:length] for offset, length in zip(fields[::2], fields[1::2])]
# A list of lines without a section: the size of a record, and nothing.
parts[1] = parts[1][:4]
offsets, at = [], 0
for part in parts:
    offsets += [at, len(part)]
    at += len(part)
rest = data[32:header_bytes]
with open(sys.argv[2], "wb") as out:
    out.write(struct.pack("<HBBI6I", magic, version, flags, header_bytes, *offsets) + rest + b"".join(parts))
