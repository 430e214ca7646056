"""A log file, followed over rotation by rename, copy and truncate, and removal.

The position is a list of *parts*, oldest first: the file under the path, before it those that were rotated away and
are not yet read to their end. A part is ``{dev, ino, offset, head, skip}``; ``head`` is ``[length, CRC-32]`` of the
file's first bytes, by which a new file under an old inode, and a file that was emptied and filled again, are noticed.
``done`` keeps the last files that were finished, so that a sibling is never read twice.

* Renamed: the old file is read to its end before the new one, and looked at for half a minute more: a daemon writes to it
  until it is told to reopen.
* Rotated while the agent was down, or more than once between two looks: the old file is found among its siblings by
  inode and head, and those between it and the present one by their time of change.
* Emptied (copytruncate): read again from its begin, after what is new in the copy, if there is one under a sibling's
  name, and after the copies that are younger, if it was emptied more than once between two looks. While nothing of a
  file was read, ``beside`` notes which files stood beside it: one that comes then is a copy of it, if it was emptied.
  (A line written between the copy and the emptying and not read until then is in no file any more.)

A line without its newline waits; when its file is finished it is taken as it is. A line longer than MAX_LINE is cut,
and the rest skipped up to its newline. An event of several lines is taken when the line behind it is there, or when it
has not grown for a while; until then the position stays at its begin, so nothing of it is kept in memory alone.
"""

from __future__ import annotations

import logging
import os
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from ezadmin_agent.logs.builder import Builder, Patterns
from ezadmin_agent.logs.siblings import HEAD, Beside, Head, Sibling, head, is_copy_of_present, matches, siblings
from ezadmin_agent.logs.source import CALM, MAX_LINE, Batch, Counts, Mode, empty
from ezadmin_wire.logs.parse import Parser
from ezadmin_wire.logs.rules import RuleConfig, Rules

log = logging.getLogger(__name__)

CHUNK = 256 << 10
GRACE = 30.0
"""Seconds for which a renamed file is looked at after the new one appeared."""
DONE = 8


@dataclass
class _Part:
    dev: int
    ino: int
    offset: int
    head: Head
    skip: bool  # inside a line whose begin was sent cut: everything up to the newline is dropped
    fd: int = -1
    quiet_since: float = 0.0
    grown: tuple[int, float] = (-1, 0.0)  # size when an unfinished event was seen to grow last, and when that was
    beside: Optional[Beside] = None  # until something of it is read
    unchanged: int = 0  # its time of change (ns) when no copy of it, unread, was found

    def position(self) -> dict[str, Any]:
        found: dict[str, Any] = {"dev": self.dev, "ino": self.ino, "offset": self.offset, "head": list(self.head)}
        if self.skip:
            found["skip"] = True
        if self.beside is not None:
            found["beside"] = self.beside.position()
        return found


class FileSource:
    """Follows ``path``. ``from_start``: a file that is there at the very first start is read from its begin, else its end.

    ``syslog``: its lines are those of a syslog daemon. ``rules`` may be replaced at any time by :meth:`use`.
    """

    waits = True
    rereads = True

    def __init__(
        self,
        path: Path,
        dataset: str,
        *,
        syslog: bool,
        from_start: bool = False,
        rules: Optional[Rules] = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        grace: float = GRACE,
    ) -> None:
        self.name = f"file:{path}"
        self.dataset = dataset
        self.path = path
        self.counts = Counts()
        self._rules = rules or Rules(RuleConfig())
        self._parser = Parser(syslog)
        self._patterns = Patterns()
        self._from_start = from_start
        self._clock = clock
        self._monotonic = monotonic
        self._grace = grace
        self._parts: list[_Part] = []
        self._done: list[list[int]] = []
        self._told: Optional[str] = None
        self._changed = False  # the parts changed, though no line was read

    # ------------------------------------------------------------------ Source

    def resume(self, position: Any) -> Any:
        """See :class:`ezadmin_agent.logs.source.Source`."""
        self.close()
        self._done = list(position["done"]) if position else []
        self.counts = Counts.of(position.get("counts") if position else None)
        if position:
            for saved in position["parts"]:
                part = _Part(
                    saved["dev"],
                    saved["ino"],
                    saved["offset"],
                    (saved["head"][0], saved["head"][1]),
                    saved.get("skip", False),
                    beside=Beside.load(saved.get("beside")),
                )
                if self._find(part):
                    self._parts.append(part)
                else:
                    log.warning("%s: the rotated file read last is gone; what was not read of it is lost", self.path)
        else:
            with siblings(self.path) as found:
                self._add(self._open_present(), found, at_end=not self._from_start)
        return self.position()

    def read(self, mode: Mode = CALM) -> Batch:
        """See :class:`ezadmin_agent.logs.source.Source`."""
        self._look()
        builder = Builder(
            self._rules,
            self._parser,
            self._patterns,
            self.counts,
            dataset=self.dataset,
            now_ms=int(self._clock() * 1000),
            mode=mode,
            path=str(self.path),
        )
        more = False
        for part in list(self._parts):
            last = part is self._parts[-1]
            before = part.offset
            while not builder.full and self._take(part, builder):
                pass
            if builder.full:
                more = True
                break
            if last and os.fstat(part.fd).st_nlink:
                continue
            if part.quiet_since == 0.0 or part.offset != before:
                part.quiet_since = self._monotonic()
            elif self._monotonic() - part.quiet_since >= self._grace:
                self._finish(part, builder)
        if not (builder.changed or self._changed):
            return empty()
        self._changed = False
        return builder.batch(self.position(), more)

    def use(self, rules: Rules) -> None:
        """Read by other rules from the next line on."""
        self._rules = rules
        self._patterns.clear()

    @property
    def over(self) -> bool:
        """Whether the file is gone and was read to its end."""
        return not self._parts and self._vanished()

    def holds(self, dev: int, ino: int, fd: int) -> bool:
        """Whether the open file ``fd`` is one of those that are read here, or were."""
        return any((part.dev, part.ino) == (dev, ino) for part in self._parts) or any(
            (dev, ino) == (done[0], done[1]) and matches(fd, (done[2], done[3])) for done in self._done
        )

    def close(self) -> None:
        """Close the files."""
        for part in self._parts:
            os.close(part.fd)
        self._parts = []

    # ------------------------------------------------------------------ which files

    def position(self) -> dict[str, Any]:
        """Where it stands."""
        position: dict[str, Any] = {"parts": [part.position() for part in self._parts], "done": self._done}
        counts = self.counts.position()
        if counts:
            position["counts"] = counts
        return position

    def _vanished(self) -> bool:
        return not os.path.lexists(self.path)

    def _look(self) -> None:
        """Notice a new file under the path, one that was emptied, and those that came and went between two looks."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            return  # removed or being rotated: what is open is read on
        except OSError as error:
            self._tell(f"cannot read {self.path}: {error.strerror}")
            return
        current = self._parts[-1] if self._parts else None
        if current is None or (found.st_dev, found.st_ino) != (current.dev, current.ino):
            present = self._open_present()  # before the listing: renamed meanwhile, it is in both
            with siblings(self.path) as beside:
                for sibling in self._between(current, beside) if current is not None else ():
                    self._add(os.dup(sibling.fd))
                self._add(present, beside)
        elif found.st_size < current.offset or not matches(current.fd, current.head):
            with siblings(self.path) as beside:
                self._emptied(current, beside, self._copies_of(current, beside))
        elif current.beside is not None and found.st_mtime_ns != current.unchanged:
            with siblings(self.path) as beside:
                copies = self._copies_of_unread(current, beside)
                if copies:
                    self._emptied(current, beside, copies)
                elif time.time_ns() - found.st_mtime_ns > 10**9:  # else it may be changed again at the same time
                    current.unchanged = found.st_mtime_ns

    def _emptied(self, current: _Part, beside: Sequence[Sibling], copies: Sequence[Sibling]) -> None:
        behind = f" behind {', '.join(str(copy.path) for copy in copies)}" if copies else ""
        log.info("%s was emptied: it is read from its begin%s", self.path, behind)
        self._parts.pop()
        for copy in copies:
            if self._add(os.dup(copy.fd)) and copy is copies[0] and _is_copy(current, copy):
                part = self._parts[-1]
                part.offset, part.head, part.skip = current.offset, current.head, current.skip
        self._parts.append(current)
        current.offset, current.head, current.skip = 0, (0, 0), False
        current.beside = Beside.of(beside, current.fd)
        self._changed = True

    def _copies_of(self, part: _Part, beside: Sequence[Sibling]) -> list[Sibling]:
        """The siblings that hold what was in ``part``'s file and is not read yet, the oldest first.

        First the copy of what was being read, if it is longer than what was read of it; then those made after it.
        Nothing if no copy of what was being read is there: then nothing tells copies from older files.
        """
        known = {(other.dev, other.ino) for other in self._parts}
        found = [sibling for sibling in beside if (sibling.dev, sibling.ino) not in known]
        anchors = [index for index, sibling in enumerate(found) if _is_copy(part, sibling)]
        if not anchors:
            return []
        anchor, *younger = found[anchors[-1] :]
        copies = [anchor] if anchor.size > part.offset else []
        copies += [sibling for sibling in younger if not is_copy_of_present(sibling, part.fd)]
        return [sibling for sibling in copies if not self._was_done(sibling)]

    def _copies_of_unread(self, part: _Part, beside: Sequence[Sibling]) -> list[Sibling]:
        """The siblings that hold what was in ``part``'s file before it was emptied, though nothing of it was read."""
        known = {(other.dev, other.ino) for other in self._parts}
        return [
            sibling
            for sibling in beside
            if part.beside is not None
            and part.beside.is_new(sibling)
            and (sibling.dev, sibling.ino) not in known
            and not is_copy_of_present(sibling, part.fd)
            and not self._was_done(sibling)
        ]

    def _open_present(self) -> int:
        """Open the file under the path; -1 if it cannot be read."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return -1
        except OSError as error:
            self._tell(f"cannot read {self.path}: {error.strerror}")
            return -1
        self._told = None
        return fd

    def _add(self, fd: int, beside: Optional[Sequence[Sibling]] = None, *, at_end: bool = False) -> bool:
        """Read this file, too, behind the others; whether it was not among them. It is closed if not.

        ``beside``: what stands beside the present file.
        """
        if fd < 0:
            return False
        found = os.fstat(fd)
        if (found.st_dev, found.st_ino) in {(part.dev, part.ino) for part in self._parts}:
            os.close(fd)
            return False
        part = _Part(found.st_dev, found.st_ino, 0, (0, 0), False, fd)
        if at_end:
            part.offset = _line_begin(fd, found.st_size)
            part.head = head(fd, part.offset)
        if beside is not None and not part.head[0]:
            part.beside = Beside.of(beside, fd)
        self._parts.append(part)
        return True

    def _between(self, after: _Part, beside: Sequence[Sibling]) -> list[Sibling]:
        """Rotated siblings that were written after ``after`` and never read, the oldest first."""
        changed = os.fstat(after.fd).st_mtime_ns
        return [sibling for sibling in beside if sibling.mtime >= changed and not self._was_done(sibling)]

    def _by_inode(self, inode: int) -> list[Path]:
        try:
            with os.scandir(self.path.parent) as entries:
                return [Path(entry.path) for entry in entries if entry.inode() == inode]
        except OSError:
            return []

    def _was_done(self, sibling: Sibling) -> bool:
        return any(
            (sibling.dev, sibling.ino) == (dev, ino) and matches(sibling.fd, (length, crc))
            for dev, ino, length, crc in self._done
        )

    def _find(self, part: _Part) -> bool:
        """Open the file of a saved part, wherever it is now."""
        fd = self._open_present()
        if fd >= 0 and _is(part, fd):
            part.fd = fd  # perhaps emptied while we were away: _look will notice
            return True
        if fd >= 0:
            os.close(fd)
        with siblings(self.path) as found:
            for sibling in found:
                if _is(part, sibling.fd) and _reaches(part, sibling.fd):
                    part.fd = os.dup(sibling.fd)
                    return True
        for path in self._by_inode(part.ino):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            if _is(part, fd) and _reaches(part, fd):
                part.fd = fd
                return True
            os.close(fd)
        return False

    # ------------------------------------------------------------------ lines

    def _take(self, part: _Part, builder: Builder) -> bool:
        """Read a chunk behind the part's offset; whether something was taken, so that there may be more."""
        data = os.pread(part.fd, CHUNK, part.offset)
        if data and not matches(part.fd, part.head):
            return False  # emptied and filled again since the look: the next one notices
        if data and part.beside is not None and part is self._parts[-1]:
            with siblings(self.path) as beside:
                if self._copies_of_unread(part, beside):
                    return False
        place = 0
        while place < len(data):
            newline = data.find(b"\n", place)
            if part.skip:
                place = len(data) if newline < 0 else newline + 1
                part.skip = newline < 0
                continue
            if newline < 0 and len(data) - place <= MAX_LINE:
                break  # not complete yet
            end = len(data) if newline < 0 else newline
            if self._rules.multiline is not None and end - place <= MAX_LINE:
                whole = self._event_end(data, place, end)
                if whole is None:
                    if place:
                        break  # from its begin on, the chunk holds more of it
                    if not self._waited(part, len(data)):
                        break
                    whole = data.rindex(b"\n")
                end = newline = whole
            raw = data[place : min(end, place + MAX_LINE)]
            if raw.strip() and not builder.add(raw, part.offset + place, cut=end - place > MAX_LINE):
                break
            part.skip = newline < 0
            place = end if newline < 0 else newline + 1
        part.offset += place
        if place:
            part.beside = None
        if place and part.head[0] < HEAD:  # from what was read, not from the file, which may have been emptied by now
            more = data[: min(place, HEAD - part.head[0])]
            part.head = part.head[0] + len(more), zlib.crc32(more, part.head[1])
        return place > 0

    def _event_end(self, data: bytes, place: int, end: int) -> Optional[int]:
        """Where the event of several lines that begins at ``place`` ends; None if what follows is not there yet."""
        rules = self._rules.multiline
        lines = 1
        while True:
            if rules is not None and lines >= rules.max_lines:
                return end
            following = data.find(b"\n", end + 1)
            if following < 0:
                # a begun line can tell already that it is too long for the event
                return end if len(data) - place > MAX_LINE else None
            if following - place > MAX_LINE or not self._rules.continues(data[end + 1 : following]):
                return end
            end = following
            lines += 1

    def _waited(self, part: _Part, size: int) -> bool:
        """Whether an event whose next line is not there has not grown for so long that it counts as whole."""
        rules = self._rules.multiline
        now = self._monotonic()
        if part.grown[0] != part.offset + size:
            part.grown = (part.offset + size, now)
            return False
        return rules is None or now - part.grown[1] >= rules.seconds

    def _finish(self, part: _Part, builder: Builder) -> None:
        """Take the last line, if it has no newline, and leave the file."""
        data = os.pread(part.fd, MAX_LINE, part.offset).rstrip(b"\n")
        if data.strip() and not part.skip and matches(part.fd, part.head) and not builder.add(data, part.offset):
            return
        if part.head[0]:  # else nothing tells it from a later file under its inode
            self._done = [*self._done, [part.dev, part.ino, *part.head]][-DONE:]
        os.close(part.fd)
        self._parts.remove(part)
        self._changed = True

    def _tell(self, text: str) -> None:
        if self._told != text:
            self._told = text
            log.warning("%s", text)


def _is(part: _Part, fd: int) -> bool:
    found = os.fstat(fd)
    return (found.st_dev, found.st_ino) == (part.dev, part.ino)


def _reaches(part: _Part, fd: int) -> bool:
    """Whether a file holds what was read of ``part``."""
    return os.fstat(fd).st_size >= part.offset and matches(fd, part.head)


def _is_copy(part: _Part, sibling: Sibling) -> bool:
    """Whether it is a copy of what was read of ``part``, and perhaps of more."""
    return part.head[0] > 0 and _reaches(part, sibling.fd)


def _line_begin(fd: int, size: int) -> int:
    """The offset of the last line that is not complete, or the file's end."""
    start = max(0, size - MAX_LINE)
    return start + os.pread(fd, size - start, start).rfind(b"\n") + 1 if size else 0
