"""The ways of capture that a guest tries, one after the other in one boot: first
the one that the tool takes by itself, then each that can be forced. One that the
tool does not know, or has taken by itself, is left out."""

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Rung:
    # For --force-rung.
    name: str
    # What `-v` says where the tool is on this rung: a basic regular expression.
    said: str
    # Details that reports may lack, if they name them in `lost`.
    lacks: tuple = ()
    # Wherever it can be taken it is, without being forced.
    is_best: bool = False


# Some only now and then: where the process was gone, or without `-t`.
PERF_LACKS = (
    "access", "callers", "cgroup", "cmdline", "data_mappings", "fault_address", "memory", "ns_pid", "registers",
    "sender", "stack", "uid",
)  # fmt: skip

RUNGS = [
    Rung("ring", "Rung  *ring,", is_best=True),
    Rung("old", "Rung  *old,"),
    Rung("tracepoint", "Rung  *tracepoint,", ("sender",)),
    Rung("measured", "Kernel types  *measured", ("cgroup",)),
    Rung("perf", "Rung  *perf,", PERF_LACKS),
]


def lines():
    """For the guest: a name and what is said, one rung a line."""
    return "".join(f"{rung.name} {rung.said}\n" for rung in RUNGS if not rung.is_best)


def taken(stderr):
    """The rungs that the tool is on, by what it said with `-v`."""
    return [rung for rung in RUNGS if re.search(rung.said, stderr)]
