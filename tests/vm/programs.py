"""The crash programs for a guest, static and dynamic, and the libraries that the
dynamic ones need. An architecture that is not this machine's takes Debian's cross
compiler (gcc-aarch64-linux-gnu with libc6-dev-arm64-cross)."""

import os
import platform
import re
import shutil
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCES = [os.path.join(HERE, "..", place) for place in ("crashers", "live/wrappers")]
STATIC = ["null_deep", "quick", "named_thread", "only_capabilities"]
DYNAMIC = [*STATIC[:3], "access", "handled", "overflow", "reraise", "storm", "wait"]
FLAGS = ["-O2", "-Wall", "-fomit-frame-pointer", "-pthread"]


def compiler(machine):
    """The C compiler whose programs run on `machine`, and its triplet."""
    name = "gcc" if machine == platform.machine() else f"{machine}-linux-gnu-gcc"
    if not shutil.which(name):
        raise LookupError(f"there is no {name}: apt-get install gcc-{machine.replace('_', '-')}-linux-gnu")
    return name


def add(archive, machine, folder):
    """Compiles into `folder`, and adds /static, /dynamic and the libraries."""
    cc = compiler(machine)
    for how, programs, flags in [
        ("static", STATIC, ["-static"]),
        ("dynamic", DYNAMIC, ["-fPIE", "-pie"]),
    ]:
        os.makedirs(os.path.join(folder, how), exist_ok=True)
        for program in programs:
            path = os.path.join(folder, how, program)
            source = next(filter(os.path.exists, (f"{place}/{program}.c" for place in SOURCES)))
            subprocess.run([cc, *FLAGS, *flags, "-o", path, source], check=True)
            archive.copy(f"{how}/{program}", path)
    add_libraries(archive, cc, os.path.join(folder, "dynamic", "null_deep"))


def add_libraries(archive, cc, program):
    """The loader where the program names it, libc where the loader looks."""
    headers = subprocess.run(["readelf", "-l", program], check=True, capture_output=True, text=True).stdout
    loader = re.search(r"interpreter: (\S+)\]", headers)[1]
    triplet = subprocess.run([cc, "-dumpmachine"], check=True, capture_output=True, text=True).stdout.strip()
    archive.copy(loader, library(cc, os.path.basename(loader)))
    archive.copy(f"lib/{triplet}/libc.so.6", library(cc, "libc.so.6"))


def library(cc, name):
    found = subprocess.run([cc, f"-print-file-name={name}"], check=True, capture_output=True, text=True).stdout.strip()
    if not os.path.isabs(found):
        raise LookupError(f"{cc} does not know {name}")
    return os.path.realpath(found)
