"""What the signer signed, for whom: one JSON line each, in a chain in which nothing can be changed unnoticed.

``hash = sha256(previous + "\\n" + canonical)``: ``canonical`` is the line's JSON without its ``hash``, names sorted, no spaces;
the first line's ``previous`` is 64 zeros. A line is on disk before its signature leaves the process.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)
START = "0" * 64


class BookError(Exception):
    """The file cannot be used, or is not whole; the text says where."""


@dataclass(frozen=True)
class Head:
    """The newest line: its number and hash."""

    number: int = 0
    hash: str = START


def hash_of(previous: str, line: Mapping[str, Any]) -> str:
    """The hash of a line's members without ``hash``."""
    return hashlib.sha256(f"{previous}\n{_canonical(line)}".encode()).hexdigest()


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True)
class Checkpoint:
    """A line from which the file can be gone along: where it begins, and what it is."""

    begin: int
    number: int
    hash: str
    time: str


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file, each checked against the one before. Raises BookError at the first that is wrong.

    A last line without its end was being written when the process was killed: it is passed over.
    """
    for _begin, line in _read(path, 0, Head()):
        yield line


def _read(path: Path, begin: int, head: Head) -> Iterator[tuple[int, dict[str, Any]]]:
    """(where it begins, line) of the lines from ``begin`` on, where the one after ``head`` begins."""
    number, previous = head.number, head.hash
    try:
        file = path.open("rb")
    except OSError as error:
        raise BookError(f"cannot read {path}: {error.strerror}") from error
    with file:
        file.seek(begin)
        for raw in file:
            if not raw.endswith(b"\n"):
                return
            number += 1
            try:
                line = json.loads(raw)
                told = line.pop("hash")
            except (ValueError, AttributeError, KeyError) as error:
                raise BookError(f"{path}: line {number} is no line of this file") from error
            if line.get("number") != number:
                raise BookError(
                    f"{path}: line {number} has the number {line.get('number')}: lines are missing or added"
                )
            if line.get("previous") != previous or hash_of(previous, line) != told:
                raise BookError(f"{path}: line {number} is not what it was, or does not follow the line before it")
            previous = told
            yield begin, {**line, "hash": told}
            begin += len(raw)


def verify(path: Path) -> Head:
    """Check the whole file; returns its newest line. Raises BookError."""
    head = Head()
    for line in read(path):
        head = Head(line["number"], line["hash"])
    return head


class Book:
    """The file, open to be added to by this process alone."""

    def __init__(self, path: Path) -> None:
        """Raises BookError if another process has it, it is not whole, or it cannot be written."""
        self.path = path
        self.checkpoint = path.with_name(f"{path.name}.checkpoint")
        self.head = Head()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BookError(f"{path} is open in another signer") from error
        except OSError as error:
            raise BookError(f"cannot write {path}: {error.strerror}") from error

    def lines(self, since: str) -> Iterator[dict[str, Any]]:
        """The lines that are there, those from the time ``since`` on at least; a last one that was cut off is removed, for its
        signature never left. Raises BookError.

        What is older was looked at by an earlier start, which left the place in a file beside: a start costs as much as what is
        new. :func:`verify` reads everything.
        """
        begin, self.head = self._start(since)
        newest_old: Checkpoint | None = None
        for place, line in _read(self.path, begin, self.head):
            self.head = Head(line["number"], line["hash"])
            if line["time"] < since:
                newest_old = Checkpoint(place, line["number"], line["hash"], line["time"])
            yield line
        data_end = self._end_of_last_line()
        if data_end < os.fstat(self._file).st_size:
            os.ftruncate(self._file, data_end)
            os.fsync(self._file)
        os.lseek(self._file, 0, os.SEEK_END)
        if newest_old is not None:
            self._keep(newest_old)

    def _start(self, since: str) -> tuple[int, Head]:
        """Where to begin, and what lies before: after the line of the checkpoint, if it is there, what it was, and old enough."""
        whole = 0, Head()
        try:
            kept = Checkpoint(**json.loads(self.checkpoint.read_text()))
            if kept.time >= since:  # how long commands live was raised
                return whole
            with self.path.open("rb") as file:
                file.seek(kept.begin)
                raw = file.readline()
            line = json.loads(raw)
            told = line.pop("hash")
            same = (line["number"], told, line["time"]) == (kept.number, kept.hash, kept.time)
            if same and raw.endswith(b"\n") and hash_of(line["previous"], line) == told:
                return kept.begin + len(raw), Head(kept.number, kept.hash)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            pass  # there is none, or it fits another file
        return whole

    def _keep(self, checkpoint: Checkpoint) -> None:
        new = self.checkpoint.with_name(f"{self.checkpoint.name}.new")
        try:
            new.write_text(json.dumps(asdict(checkpoint)))
            new.chmod(0o600)
            new.replace(self.checkpoint)
        except OSError as error:  # the next start reads more
            _log.warning("cannot write %s: %s", self.checkpoint, error.strerror)

    def _end_of_last_line(self) -> int:
        end = os.fstat(self._file).st_size
        while end > 0:
            begin = max(0, end - 65536)
            found = os.pread(self._file, end - begin, begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
        return 0

    def add(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Add lines; they are on disk when this returns. Raises OSError: then the file is as it was before."""
        out, head = [], self.head
        for entry in entries:
            line = {**entry, "number": head.number + 1, "previous": head.hash}
            head = Head(head.number + 1, hash_of(head.hash, line))
            out.append(_canonical({**line, "hash": head.hash}).encode() + b"\n")
        data = b"".join(out)
        begin = os.lseek(self._file, 0, os.SEEK_END)
        try:
            while data:
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, begin)
            raise
        self.head = head

    def close(self) -> None:
        """Let others have it."""
        os.close(self._file)
