"""Boots a kernel with an initramfs in QEMU, by software emulation alone."""

import os
import shutil
import subprocess
import time

# Longer than any step in a guest takes on a busy machine with two cores.
SILENCE_S = 300
COMMON = [
    "-accel", "tcg,thread=multi", "-smp", "2", "-m", "512", "-nographic", "-no-reboot",
    "-nodefaults", "-serial", "stdio", "-monitor", "none",
]  # fmt: skip
MACHINES = {
    # QEMU 7.2 now and then garbles the flags after CMPXCHG16B, and the guest panics.
    "x86_64": ("qemu-system-x86_64", ["-cpu", "max,cx16=off"], "ttyS0", "qemu-system-x86"),
    # Pointer authentication as architected costs emulation most of its time.
    "aarch64": (
        "qemu-system-aarch64",
        ["-M", "virt", "-cpu", "max,pauth-impdef=on"],
        "ttyAMA0",
        "qemu-system-arm",
    ),
}


def has_garbled(console):
    """QEMU 7.2 now and then runs a stale translation of an instruction that another
    processor patches, such as the jump at a tracepoint: the kernel dies of the breakpoint
    that was there for a moment."""
    return "int3: 0000 [#1]" in console


def boot(kernel, initramfs, log, silence_s=SILENCE_S):
    """What the guest wrote on its console, kept in the file `log` too; and whether it
    had to be stopped, because nothing came for so long."""
    program, options, console, package = MACHINES[kernel.machine]
    if not shutil.which(program):
        raise LookupError(f"there is no {program}: apt-get install {package}")
    words = f"console={console} quiet loglevel=3 panic=-1 rdinit=/init"
    command = [program, *COMMON, *options, "-kernel", kernel.image, "-initrd", initramfs, "-append", words]
    with open(log, "wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
        was_stopped = not ends(process, log, silence_s)
    with open(log, encoding="utf-8", errors="replace") as file:
        return file.read(), was_stopped


def ends(process, log, silence_s):
    """Waits for the end; if `log` does not grow for too long, makes one and says False."""
    size, since = 0, time.monotonic()
    try:
        while True:
            try:
                process.wait(timeout=2)
                return True
            except subprocess.TimeoutExpired:
                pass
            if os.stat(log).st_size != size:
                size, since = os.stat(log).st_size, time.monotonic()
            elif time.monotonic() - since > silence_s:
                return False
    finally:
        process.kill()
        process.wait()
