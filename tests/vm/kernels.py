"""The kernels that guests boot: Debian's own, of four releases, and small ones that
Debian does not have."""

import dataclasses
import re
import struct
import zlib

import board

# By Debian's name of the architecture.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
SUITES = ["bullseye", "bookworm", "trixie", "trixie-backports"]
# Where busybox comes from, whatever the kernel.
BUSYBOX_SUITE = "bookworm"
# Whether the tool refuses a kernel without BTF (with status 4), or works there.
REFUSED_WITHOUT_BTF = False
# By the method of capture, the first kernel that has it.
SINCE = {"ring": (5, 17), "chain": (4, 17)}
# Several at once: the oldest and the newest of each architecture, and the one
# without BTF.
EXTREMES = ["board-amd64", *(f"{suite}-{arch}" for suite in (SUITES[0], SUITES[-1]) for arch in MACHINES)]


@dataclasses.dataclass
class Kernel:
    name: str
    arch: str
    image: str

    @property
    def machine(self):
        return MACHINES[self.arch]


def names():
    """From the oldest to the newest."""
    debian = [f"{suite}-{arch}" for arch in MACHINES for suite in SUITES]
    return [*debian, "trixie-arm64-16k", *board.BOARDS]


def find(cache, name):
    """The kernel of that name, downloaded or built unless it is there."""
    if name not in names():
        raise LookupError(f"no kernel is called {name}; --list names them")
    if name in board.BOARDS:
        return Kernel(name, *board.image(cache, name))
    suite, arch, flavour = re.fullmatch(r"([a-z-]+)-(amd64|arm64)(?:-(16k))?", name).groups()
    # The cloud flavour is the smallest. From 7.x the image has a package of its own.
    kind = f"{arch}-{flavour}" if flavour else f"cloud-{arch}"
    package = cache.newest(suite, arch, rf"linux-binary-\d.*-{kind}", rf"linux-image-\d.*-{kind}")
    return Kernel(name, arch, cache.unpack(package, "vmlinuz*"))


def given(name, image):
    """An image of the user's."""
    return Kernel(name, arch_of(image), image)


def arch_of(image):
    """The architecture of an image, by its first bytes: those of Linux's boot
    protocols, Documentation/arch/x86/boot.rst and arch/arm64/booting.rst, or ELF's."""
    with open(image, "rb") as file:
        head = file.read(4096)
    if head.startswith(b"\x1f\x8b"):
        head = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head)
    by_elf = {62: "amd64", 183: "arm64"}
    if head.startswith(b"\x7fELF") and struct.unpack_from("<H", head, 18)[0] in by_elf:
        return by_elf[struct.unpack_from("<H", head, 18)[0]]
    if head[0x202:0x206] == b"HdrS":
        return "amd64"
    if head[0x38:0x3C] == b"ARM\x64":
        return "arm64"
    raise LookupError(f"{image} is no kernel of x86_64 or aarch64 that QEMU boots")


def version(release):
    """Of a release such as 6.1.0-50-cloud-amd64: (6, 1)."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def lacks(facts, method):
    """Whether a kernel is too old for a method that is forced."""
    return version(facts["kernel"]) < SINCE.get(method, (0, 0))


def is_to_refuse(facts):
    """Whether the tool is to refuse a kernel, by what its guest said."""
    return REFUSED_WITHOUT_BTF and facts["btf"] == "no"
