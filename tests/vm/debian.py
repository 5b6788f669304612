"""Debian's packages, from the mirror that apt is set up with, kept in a folder.

A package list or a package is fetched once; what is fetched is checked against
the SHA-256 that the list, or the suite's Release file, gives for it. DEBIAN_MIRROR
names another mirror.
"""

import functools
import glob
import hashlib
import lzma
import os
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request

DEFAULT_MIRROR = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# The fields of a package in the lists.
FIELDS = ("Package", "Version", "Architecture", "Filename", "SHA256")
# How their paragraphs begin.
WANTED = ("Package: linux-", "Package: busybox")
# A list that is older is fetched anew.
LIST_MAX_AGE_S = 7 * 24 * 3600


def mirror():
    """The first address in apt's sources that ends in /debian."""
    if "DEBIAN_MIRROR" in os.environ:
        return os.environ["DEBIAN_MIRROR"].rstrip("/")
    sources = glob.glob("/etc/apt/sources.list.d/*.sources") + glob.glob("/etc/apt/sources.list.d/*.list")
    for source in ["/etc/apt/sources.list", *sorted(sources)]:
        if not os.path.exists(source):
            continue
        with open(source, encoding="utf-8", errors="replace") as file:
            for line in file:
                found = re.match(r"(?:URIs:|deb\b).*?(https?://\S+/debian)/?(?:\s|$)", line)
                if found:
                    return found[1]
    return DEFAULT_MIRROR


def one_at_a_time(method):
    @functools.wraps(method)
    def locked(self, *given):
        with self.lock:
            return method(self, *given)

    return locked


class Cache:
    """Package lists and packages under `folder`. Of several threads one fetches at a
    time."""

    def __init__(self, folder):
        self.folder = folder
        self.mirror = mirror()
        self.lock = threading.RLock()
        os.makedirs(folder, exist_ok=True)

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def fetch(self, place, to, sha256=None):
        """Downloads `place` of the mirror into the file `to`."""
        data = download(f"{self.mirror}/{place}")
        if sha256 and hashlib.sha256(data).hexdigest() != sha256:
            raise ValueError(f"{self.mirror}/{place}: its SHA-256 is not {sha256}")
        os.makedirs(os.path.dirname(to), exist_ok=True)
        with open(to + ".part", "wb") as file:
            file.write(data)
        os.replace(to + ".part", to)

    @one_at_a_time
    @functools.lru_cache(maxsize=None)
    def packages(self, suite, arch):
        """The suite's packages of kernels and busybox, each a dict of its fields."""
        place = f"main/binary-{arch}/Packages.xz"
        kept = self.path("lists", f"{suite}-{arch}.xz")
        if not is_fresh(kept):
            self.fetch(f"dists/{suite}/{place}", kept, self.hashes(suite)[place])
        with lzma.open(kept, "rt", encoding="utf-8") as file:
            paragraphs = file.read().split("\n\n")
        return [fields(paragraph) for paragraph in paragraphs if paragraph.startswith(WANTED)]

    @functools.lru_cache(maxsize=None)
    def hashes(self, suite):
        """What the signed Release file says of each list."""
        kept = self.path("lists", f"{suite}-InRelease")
        self.fetch(f"dists/{suite}/InRelease", kept)
        if os.path.exists(KEYRING):
            # Status 2 is also for a further signature by a key that we lack.
            said = run_output(["gpgv", "--status-fd", "1", "--keyring", KEYRING, kept], check=False)
            if "[GNUPG:] GOODSIG" not in said:
                raise ValueError(f"{suite}: nobody in {KEYRING} signed its Release file")
        with open(kept, encoding="utf-8") as file:
            lines = file.read().partition("\nSHA256:\n")[2].splitlines()
        return {words[2]: words[0] for words in map(str.split, lines) if len(words) == 3}

    def newest(self, suite, arch, *patterns):
        """The newest package whose name is as a pattern has it; earlier patterns
        win where versions are equal."""
        best = None
        for pattern in patterns:
            for package in self.packages(suite, arch):
                if not re.fullmatch(pattern, package["Package"]):
                    continue
                if best is None or is_newer(package["Version"], best["Version"]):
                    best = package
        if best is None:
            raise LookupError(f"{suite} {arch} has no package {' or '.join(patterns)}")
        return best

    def deb(self, package):
        """The package's file."""
        kept = self.path("debs", os.path.basename(package["Filename"]))
        if not os.path.exists(kept):
            self.fetch(package["Filename"], kept, package["SHA256"])
        return kept

    @one_at_a_time
    def unpack(self, package, name):
        """One file of the package, by a pattern for its name; its path here."""
        folder = f"{package['Package']}_{package['Version']}_{package['Architecture']}"
        into = self.path("unpacked", folder.replace(":", "%3a"))
        pattern = os.path.join(glob.escape(into), "**", name)
        if not glob.glob(pattern, recursive=True):
            os.makedirs(into, exist_ok=True)
            contents = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", self.deb(package)], stdout=subprocess.PIPE)
            command = ["tar", "-x", "-C", into, "--wildcards", f"./*{name}"]
            subprocess.run(command, stdin=contents.stdout, check=True)
            contents.stdout.close()
            contents.wait()
        return glob.glob(pattern, recursive=True)[0]


def download(address):
    """What the mirror has there. It may have a bad moment."""
    for pause_s in (2, 10, 30, None):
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:
                return answer.read()
        except OSError as error:
            if pause_s is None or isinstance(error, urllib.error.HTTPError):
                raise OSError(f"the mirror cannot be reached: {address}: {error}") from error
            time.sleep(pause_s)


def fields(paragraph):
    """The `Name: value` lines that are of use here."""
    pairs = (line.partition(": ") for line in paragraph.splitlines())
    return {name: value for name, _, value in pairs if name in FIELDS}


def is_fresh(path):
    try:
        return time.time() - os.stat(path).st_mtime < LIST_MAX_AGE_S
    except FileNotFoundError:
        return False


def is_newer(version, than):
    return subprocess.run(["dpkg", "--compare-versions", version, "gt", than]).returncode == 0


def run_output(command, check=True):
    return subprocess.run(command, check=check, capture_output=True, text=True).stdout
