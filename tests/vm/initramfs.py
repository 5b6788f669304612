"""An initramfs as a cpio archive in the newc format, written without root: what
an early root file system holds, and nothing more.

Layout of a member: "070701" and 13 numbers of 8 hexadecimal digits, the name
with a zero byte, padding to 4 bytes, the data, padding to 4 bytes.
"""

import os
import stat


class Archive:
    def __init__(self):
        self.parts = []
        self.names = set()

    def write(self, path):
        self._member("TRAILER!!!", 0, b"")
        with open(path, "wb") as file:
            file.write(b"".join(self.parts))

    def directory(self, name):
        """The folder and those above it."""
        name = name.strip("/")
        if not name or name in self.names:
            return
        self.directory(os.path.dirname(name))
        self._member(name, stat.S_IFDIR | 0o755, b"")

    def file(self, name, data, mode=0o755):
        name = name.strip("/")
        if name in self.names:
            return
        self.directory(os.path.dirname(name))
        self._member(name, stat.S_IFREG | mode, data)

    def copy(self, name, path):
        with open(path, "rb") as file:
            self.file(name, file.read())

    def link(self, name, target):
        self.directory(os.path.dirname(name.strip("/")))
        self._member(name.strip("/"), stat.S_IFLNK | 0o777, target.encode())

    def device(self, name, major, minor):
        """A character device."""
        self.directory(os.path.dirname(name.strip("/")))
        self._member(name.strip("/"), stat.S_IFCHR | 0o666, b"", (major, minor))

    def _member(self, name, mode, data, device=(0, 0)):
        self.names.add(name)
        encoded = name.encode() + b"\0"
        links, time_s = 1, 0
        numbers = [
            len(self.names), mode, 0, 0, links, time_s, len(data),
            0, 0, *device, len(encoded), 0,
        ]  # fmt: skip
        header = b"070701" + b"".join(b"%08x" % number for number in numbers)
        self.parts += [padded(header + encoded), padded(data)]


def padded(data):
    return data + b"\0" * (-len(data) % 4)
