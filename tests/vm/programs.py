"""The crash programs for a guest, static and dynamic, and the libraries that the
dynamic ones need.

An architecture that is not this machine's takes clang with Debian's packages for
cross compilation, such as libc6-dev-arm64-cross. gcc-aarch64-linux-gnu would do too,
but cannot be installed beside gcc-multilib."""

import os
import platform
import re
import shutil
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCES = [os.path.join(HERE, "..", place) for place in ("crashers", "live/wrappers")]
STATIC = ["null_deep", "known", "quick", "named_thread", "only_capabilities"]
DYNAMIC = [*STATIC[:4], "access", "handled", "overflow", "reraise", "storm", "switched", "wait"]
FLAGS = ["-O2", "-Wall", "-fomit-frame-pointer", "-pthread"]


def compiler(machine):
    """The command that compiles for `machine`."""
    if machine == platform.machine():
        return [os.environ.get("CC", "cc")]
    clang = os.environ.get("CLANG", "clang-19")
    cc = [clang, f"--target={machine}-linux-gnu"]
    arch = {"aarch64": "arm64", "x86_64": "amd64"}[machine]
    needed = f"{clang} libc6-dev-{arch}-cross libgcc-12-dev-{arch}-cross binutils-{machine.replace('_', '-')}-linux-gnu"
    if not shutil.which(clang) or not os.path.isabs(file_name(cc, "libc.so.6")):
        raise LookupError(f"no programs for {machine} without apt-get install {needed}")
    return cc


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
            subprocess.run([*cc, *FLAGS, *flags, "-o", path, source], check=True)
            archive.copy(f"{how}/{program}", path)
    add_libraries(archive, machine, cc, os.path.join(folder, "dynamic", "null_deep"))


def add_libraries(archive, machine, cc, program):
    """The loader where the program names it, libc where the loader looks."""
    headers = subprocess.run(["readelf", "-l", program], check=True, capture_output=True, text=True).stdout
    loader = re.search(r"interpreter: (\S+)\]", headers)[1]
    archive.copy(loader, file_name(cc, os.path.basename(loader)))
    archive.copy(f"lib/{machine}-linux-gnu/libc.so.6", file_name(cc, "libc.so.6"))


def file_name(cc, library):
    """Where the compiler finds a library; just its name when it does not."""
    command = [*cc, f"-print-file-name={library}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
