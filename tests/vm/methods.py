"""The capture methods that a guest tries, one after the other in one boot: first
the one that the tool takes by itself, then each that can be forced. One that the
tool does not know, or has taken by itself, is left out."""

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Method:
    # For --capture.
    name: str
    # What `-v` says where the tool is on this method: a basic regular expression.
    said: str
    # Details that reports may lack, if they name them in `lost`.
    lacks: tuple = ()
    # Wherever it can be taken it is, without being forced.
    is_best: bool = False


# Some only now and then: where the process was gone, or without `-t`.
PERF_LACKS = (
    "access", "callers", "cgroup", "cmdline", "data_mappings", "fault_address", "memory", "ns_pid", "other_stacks",
    "registers", "sender", "stack", "uid",
)  # fmt: skip

METHODS = [
    Method("ring", "Capture method  *ring,", is_best=True),
    Method("chain", "Capture method  *chain,"),
    Method("tracepoint", "Capture method  *tracepoint,", ("sender",)),
    Method("measured", "Kernel types  *measured", ("cgroup",)),
    Method("perf", "Capture method  *perf,", PERF_LACKS),
]


def lines():
    """For the guest: a name and what is said, one method a line."""
    return "".join(f"{method.name} {method.said}\n" for method in METHODS if not method.is_best)


def taken(stderr):
    """The methods that the tool is on, by what it said with `-v`."""
    return [method for method in METHODS if re.search(method.said, stderr)]
