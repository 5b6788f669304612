#!/usr/bin/env python3
"""Removes source lines from a BPF object's .BTF.ext section. Arguments: IN OUT.

Only the verifier's log uses them, and they are half of the section. struct
btf_ext_header (libbpf's btf.h) defines its layout: function records, line records,
relocations, each with offset and length from the end of the header.
"""

import struct
import sys

data = open(sys.argv[1], "rb").read()
magic, version, flags, header_bytes = struct.unpack_from("<HBBI", data)
assert magic == 0xEB9F and version == 1 and header_bytes >= 32, "no .BTF.ext section"
fields = list(struct.unpack_from("<6I", data, 8))
parts = [data[header_bytes + offset:][:length] for offset, length in zip(fields[::2], fields[1::2])]
# An empty list of lines: only the size of a record remains.
parts[1] = parts[1][:4]
offsets, at = [], 0
for part in parts:
    offsets += [at, len(part)]
    at += len(part)
rest = data[32:header_bytes]
with open(sys.argv[2], "wb") as out:
    out.write(struct.pack("<HBBI6I", magic, version, flags, header_bytes, *offsets) + rest + b"".join(parts))
