"""Boots a kernel with an initramfs in QEMU, by software emulation alone."""

import shutil
import subprocess
import time

# Longer than a guest takes on a busy machine with two cores.
TIMEOUT_S = 420
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


def boot(kernel, initramfs, log, timeout_s=TIMEOUT_S):
    """What the guest wrote on its console, kept in the file `log` too, and the
    seconds that it took; None for a guest that had to be stopped."""
    program, options, console, package = MACHINES[kernel.machine]
    if not shutil.which(program):
        raise LookupError(f"there is no {program}: apt-get install {package}")
    words = f"console={console} quiet loglevel=3 panic=-1 rdinit=/init"
    command = [program, *COMMON, *options, "-kernel", kernel.image, "-initrd", initramfs, "-append", words]
    begin = time.monotonic()
    with open(log, "wb") as file:
        try:
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, timeout=timeout_s)
            took_s = time.monotonic() - begin
        except subprocess.TimeoutExpired:
            took_s = None
    with open(log, encoding="utf-8", errors="replace") as file:
        return file.read(), took_s
