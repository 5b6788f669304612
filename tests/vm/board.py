"""Kernels that Debian does not have: Debian's linux-source-6.1 in its smallest
configuration, with `board.config`, as boards have it, without BTF; besides that
without BPF at tracepoints; or with pages of 64 KB. Each is built once, in minutes; that needs make, flex, bison, bc, clang and
lld, for BTF pahole.
"""

import os
import shutil
import subprocess

SUITE = "bookworm"
PACKAGE = "linux-source-6.1"
HERE = os.path.dirname(os.path.abspath(__file__))
# By name: Debian's name of the architecture, and what configures it.
BOARDS = {
    "board-amd64": ("amd64", ["board.config"]),
    "board-amd64-perf": ("amd64", ["board.config", "no_bpf_events.config"]),
    "board-arm64": ("arm64", ["board.config"]),
    "board-arm64-64k": ("arm64", ["board.config", "big_pages.config"]),
}
# The kernel's name for an architecture, and the image that `make` leaves.
ARCHES = {
    "amd64": ("x86", "arch/x86/boot/bzImage"),
    "arm64": ("arm64", "arch/arm64/boot/Image"),
}
# What `board.config` is for, and what is lost first where a need of it is not met.
NEEDED = ["CONFIG_BPF_SYSCALL=y", "CONFIG_EPOLL=y", "CONFIG_EVENT_TRACING=y", "CONFIG_SIGNALFD=y"]
# What is there only where it is asked for.
BTF = "CONFIG_DEBUG_INFO_BTF=y"
BIG_PAGES = "CONFIG_ARM64_64K_PAGES=y"
BPF_EVENTS = "CONFIG_BPF_EVENTS=y"
NO_BPF_EVENTS = "CONFIG_UPROBE_EVENTS=n"


def image(cache, name):
    """The architecture and the image, built unless one of this configuration is there."""
    arch, files = BOARDS[name]
    package = cache.newest(SUITE, "amd64", PACKAGE)
    suffix = name.removeprefix("board-")
    folder = cache.path("board", f"{package['Version']}-{suffix}")
    done = os.path.join(folder, "vmlinuz")
    config = ""
    for file in files:
        with open(os.path.join(HERE, file), encoding="utf-8") as lines:
            config += lines.read()
    if not is_built(folder, config):
        source = unpack(cache, package)
        build(source, folder, arch, config)
        shutil.copy(os.path.join(folder, "build", ARCHES[arch][1]), done)
        shutil.rmtree(os.path.join(folder, "build"))
        with open(os.path.join(folder, "config"), "w", encoding="utf-8") as file:
            file.write(config)
    return arch, done


def is_built(folder, config):
    try:
        with open(os.path.join(folder, "config"), encoding="utf-8") as file:
            return file.read() == config
    except FileNotFoundError:
        return False


def unpack(cache, package):
    """The source tree, kept for the other kernels."""
    tree = cache.path("board", f"source-{package['Version']}")
    with cache.lock:
        if not os.path.exists(os.path.join(tree, "Makefile")):
            os.makedirs(tree, exist_ok=True)
            archive = cache.unpack(package, f"{PACKAGE}.tar.xz")
            command = ["tar", "-x", "-C", tree, "--strip-components=1", "-f", archive]
            subprocess.run(command, check=True)
    return tree


def build(source, folder, arch, config):
    out = os.path.join(folder, "build")
    os.makedirs(out, exist_ok=True)
    clang = os.environ.get("CLANG", "clang-19")
    suffix = clang.removeprefix("clang")
    make = ["nice", "make", "-s", "-C", source, f"O={out}", f"ARCH={ARCHES[arch][0]}", f"LLVM={suffix or 1}"]
    with open(os.path.join(folder, "log"), "w", encoding="utf-8") as log:

        def run(command):
            if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode:
                raise LookupError(f"{' '.join(command)} failed: see {log.name}")

        run([*make, "tinyconfig"])
        # The last value of an option counts.
        with open(os.path.join(out, ".config"), "a", encoding="utf-8") as file:
            file.write(config)
        run([*make, "olddefconfig"])
        check_options(out, config)
        run([*make, f"-j{os.cpu_count()}", os.path.basename(ARCHES[arch][1])])


def check_options(out, config):
    """An option whose own needs are not met would be lost silently."""
    with open(os.path.join(out, ".config"), encoding="utf-8") as file:
        have = set(file.read().splitlines())
    asked = {
        BTF: BTF in config,
        BIG_PAGES: BIG_PAGES in config,
        BPF_EVENTS: NO_BPF_EVENTS not in config,
    }
    for option in [*NEEDED, *asked]:
        is_wanted = asked.get(option, True)
        if (option in have) != is_wanted:
            raise LookupError(f"the kernel was configured with{'out' if is_wanted else ''} {option}")
