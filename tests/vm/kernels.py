"""The kernels that guests boot: Debian's own, of four releases."""

import dataclasses
import re

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
SUITES = ["bullseye", "bookworm", "trixie", "trixie-backports"]
# Where busybox comes from, whatever the kernel.
BUSYBOX_SUITE = "bookworm"
# Before this version a refusal is no failure, if it is one of status 4 with a reason.
COMPLETE_FROM = (5, 17)


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
    return [*debian, "trixie-arm64-16k"]


def find(cache, name):
    """The kernel of that name, downloaded unless it is there."""
    suite, arch, flavour = re.fullmatch(r"([a-z-]+)-(amd64|arm64)(?:-(16k))?", name).groups()
    # The cloud flavour is the smallest. From 7.x the image has a package of its own.
    kind = f"{arch}-{flavour}" if flavour else f"cloud-{arch}"
    package = cache.newest(suite, arch, rf"linux-binary-\d.*-{kind}", rf"linux-image-\d.*-{kind}")
    return Kernel(name, arch, cache.unpack(package, "vmlinuz*"))


def version(release):
    return tuple(map(int, re.match(r"(\d+)\.(\d+)", release).groups()))


def is_complete(release):
    """Whether everything must work on a kernel that calls itself so."""
    return version(release) >= COMPLETE_FROM
