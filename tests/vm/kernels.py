"""The kernels that guests boot: Debian's own, of four releases, and small ones
without BTF."""

import dataclasses
import re

import board

# By Debian's name of the architecture.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
SUITES = ["bullseye", "bookworm", "trixie", "trixie-backports"]
# Where busybox comes from, whatever the kernel.
BUSYBOX_SUITE = "bookworm"


@dataclasses.dataclass
class Kernel:
    name: str
    arch: str
    image: str

    @property
    def machine(self):
        return MACHINES[self.arch]


def names():
    """From the oldest to the newest; the quicker emulation first."""
    debian = [f"{suite}-{arch}" for arch in MACHINES for suite in SUITES]
    return [*debian, "trixie-arm64-16k", "board-amd64"]


def find(cache, name):
    """The kernel of that name, downloaded unless it is there."""
    # Not yet booted, and so not among the names.
    if name not in [*names(), "board-arm64"]:
        raise LookupError(f"no kernel is called {name}; --list names them")
    suite, arch, flavour = re.fullmatch(r"([a-z-]+)-(amd64|arm64)(?:-(16k))?", name).groups()
    if suite == "board":
        return Kernel(name, arch, board.image(cache, arch))
    # The cloud flavour is the smallest. From 7.x the image has a package of its own.
    kind = f"{arch}-{flavour}" if flavour else f"cloud-{arch}"
    package = cache.newest(suite, arch, rf"linux-binary-\d.*-{kind}", rf"linux-image-\d.*-{kind}")
    return Kernel(name, arch, cache.unpack(package, "vmlinuz*"))


def given(name, arch, image):
    """An image of the user's, of an architecture by either of its names."""
    by_machine = {machine: arch for arch, machine in MACHINES.items()}
    return Kernel(name, by_machine.get(arch, arch), image)


def version(release):
    """Of a release such as 6.1.0-50-cloud-amd64: (6, 1)."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def may_refuse(guest):
    """Whether a refusal is no failure, if it is one of status 4 with a reason."""
    return guest.facts["btf"] == "no"
