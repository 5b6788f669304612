"""A kernel without BTF, as boards have them: Debian's linux-source-6.1, its
smallest configuration and `board.config`. Built once, in minutes; needs make, flex,
bison, bc, clang and lld.
"""

import os
import shutil
import subprocess

SUITE = "bookworm"
PACKAGE = "linux-source-6.1"
HERE = os.path.dirname(os.path.abspath(__file__))
CONFIG = os.path.join(HERE, "board.config")
# The kernel's name for an architecture, and the image that `make` leaves.
ARCHES = {
    "amd64": ("x86", "arch/x86/boot/bzImage"),
    "arm64": ("arm64", "arch/arm64/boot/Image"),
}


def image(cache, arch):
    """The image, built unless one of this configuration is there."""
    package = cache.newest(SUITE, "amd64", PACKAGE)
    folder = cache.path("board", f"{package['Version']}-{arch}")
    done = os.path.join(folder, "vmlinuz")
    with open(CONFIG, encoding="utf-8") as file:
        config = file.read()
    if not is_built(folder, config):
        source = unpack(cache, package)
        build(source, folder, arch, config)
        shutil.copy(os.path.join(folder, "build", ARCHES[arch][1]), done)
        shutil.rmtree(os.path.join(folder, "build"))
        with open(os.path.join(folder, "config"), "w", encoding="utf-8") as file:
            file.write(config)
    return done


def is_built(folder, config):
    try:
        with open(os.path.join(folder, "config"), encoding="utf-8") as file:
            return file.read() == config
    except FileNotFoundError:
        return False


def unpack(cache, package):
    """The source tree, kept for the other architecture."""
    tree = cache.path("board", f"source-{package['Version']}")
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
    fragment = os.path.join(out, "board.config")
    with open(fragment, "w", encoding="utf-8") as file:
        file.write(config)
    with open(os.path.join(folder, "log"), "w", encoding="utf-8") as log:

        def run(command):
            if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode:
                raise LookupError(f"{' '.join(command)} failed: see {log.name}")

        run([*make, "tinyconfig"])
        # The last value of an option counts.
        with open(os.path.join(out, ".config"), "a", encoding="utf-8") as file:
            file.write(config)
        run([*make, "olddefconfig"])
        run([*make, f"-j{os.cpu_count()}", os.path.basename(ARCHES[arch][1])])
    check_options(out, config)


def check_options(out, config):
    """An option whose own needs are not met would be lost silently."""
    with open(os.path.join(out, ".config"), encoding="utf-8") as file:
        have = set(file.read().splitlines())
    for needed in ("CONFIG_BPF_EVENTS=y", "CONFIG_BPF_SYSCALL=y", "CONFIG_EPOLL=y", "CONFIG_SIGNALFD=y"):
        if needed not in have:
            raise LookupError(f"the kernel was configured without {needed}")
    if "CONFIG_DEBUG_INFO_BTF=y" in have:
        raise LookupError("the kernel was configured with BTF")
