"""The rotated files beside a log file: found by name, opened, and told from one another by their first bytes."""

from __future__ import annotations

import os
import re
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Optional

HEAD = 1024
TRIES = 20
"""Listings until one is found during which no file was renamed; a few milliseconds lie between two."""
_ROTATED = re.compile(r"[.-](\d[\w.:+-]*|old|bak|prev(ious)?|last|save|orig)", re.ASCII)
_PACKED = (".gz", ".xz", ".zst", ".bz2", ".lz4", ".Z", ".zip")

Head = tuple[int, int]
"""Length and CRC-32 of a file's first bytes, HEAD at most."""


class Sibling(NamedTuple):
    """A rotated file, open while its list is; sorted by its time of change (ns)."""

    mtime: int
    path: Path
    fd: int
    dev: int
    ino: int
    size: int


def head(fd: int, size: int) -> Head:
    """The head of the first ``size`` bytes of a file."""
    data = os.pread(fd, min(HEAD, size), 0)
    return len(data), zlib.crc32(data)


def matches(fd: int, found: Head) -> bool:
    """Whether a file has this head (still)."""
    length, checksum = found
    return length == 0 or zlib.crc32(os.pread(fd, length, 0)) == checksum


@contextmanager
def siblings(path: Path) -> Iterator[list[Sibling]]:
    """The rotated files of ``path`` that hold anything, the oldest first.

    All of them, once each, also while a rotation shifts their names.
    """
    found: list[Sibling] = []
    try:
        for _ in range(TRIES):
            names = _names(path)
            found, whole = _open(path.parent, names)
            if whole and _names(path) == names:
                break
            _close(found)
            found = []
            time.sleep(0.002)
        else:
            found, _ = _open(path.parent, _names(path))
        yield sorted(sibling for sibling in found if sibling.size)
    finally:
        _close(found)


def _close(found: Sequence[Sibling]) -> None:
    for sibling in found:
        os.close(sibling.fd)


def _names(path: Path) -> list[tuple[str, int]]:
    """Name and inode of the files whose names are those of rotated ones."""
    name = path.name
    try:
        with os.scandir(path.parent) as entries:
            return sorted(
                (entry.name, entry.inode())
                for entry in entries
                if entry.name.startswith(name)
                and _ROTATED.fullmatch(entry.name[len(name) :])
                and not entry.name.endswith(_PACKED)
            )
    except OSError:
        return []


def _open(folder: Path, names: Sequence[tuple[str, int]]) -> tuple[list[Sibling], bool]:
    """Open these files; and whether each was still there under its name."""
    found: dict[tuple[int, int], Sibling] = {}
    whole = True
    for name, inode in names:
        try:
            fd = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            whole = False
            continue
        except OSError:
            continue  # not ours to read
        stat = os.fstat(fd)
        whole = whole and stat.st_ino == inode
        if (stat.st_dev, stat.st_ino) in found:
            os.close(fd)
            continue
        sibling = Sibling(stat.st_mtime_ns, folder / name, fd, stat.st_dev, stat.st_ino, stat.st_size)
        found[(stat.st_dev, stat.st_ino)] = sibling
    return list(found.values()), whole


def is_copy_of_present(sibling: Sibling, fd: int) -> bool:
    """Whether it holds what the file ``fd`` begins with now, by its first and last bytes: a copy, not (yet) emptied."""
    for place in (0, max(0, sibling.size - HEAD)):
        length = min(HEAD, sibling.size)
        if os.pread(sibling.fd, length, place) != os.pread(fd, length, place):
            return False
    return True


class Beside(NamedTuple):
    """What stood beside a file of which nothing was read yet, so that copies that are made of it then are known."""

    since: int
    """The least time of change (ns) that such a copy can have."""
    heads: list[tuple[int, Head]]
    """Inode and head of the files that were there."""

    @classmethod
    def of(cls, found: Sequence[Sibling], fd: int) -> Beside:
        """The files that stand beside ``fd`` now."""
        old = [sibling for sibling in found if not is_copy_of_present(sibling, fd)]
        present = os.fstat(fd)
        since = max([sibling.mtime for sibling in old], default=0)
        if not present.st_size:
            since = max(since, present.st_mtime_ns)
        return cls(since, [(sibling.ino, head(sibling.fd, sibling.size)) for sibling in old])

    def is_new(self, sibling: Sibling) -> bool:
        """Whether it came later: neither was it there, nor is it a copy of one that was."""
        whole = min(HEAD, sibling.size)
        return sibling.mtime >= self.since and not any(
            (inode == sibling.ino or found[0] == whole) and matches(sibling.fd, found) for inode, found in self.heads
        )

    def position(self) -> list[Any]:
        """As JSON."""
        return [self.since, [[inode, *found] for inode, found in self.heads]]

    @classmethod
    def load(cls, saved: Any) -> Optional[Beside]:
        """The reverse of :meth:`position`; None for None."""
        if saved is None:
            return None
        since, heads = saved
        return cls(since, [(inode, (length, checksum)) for inode, length, checksum in heads])
