"""The journal of commands and the log of their execution: one chain of lines, on disk before anything is done.

``commands/log.ndjson`` holds a line for each state that a command came into here, and for each that was refused. A line
holds its ``number`` (gapless, from 0), the ``hash`` of the line before (``previous``), and its own: SHA-256 of its canonical
JSON without it. So no line can be changed, taken out or put in without all behind it being made anew, and as each line
also leaves the host as an event, that would be seen.

The same lines are the journal: what a command's id was brought to last. A file that grew is put aside as
``log.<number of its first line>.ndjson``; before that, ``commands/journal`` is written: the state of all commands that
may come again, at a number of the chain. A start reads it and the lines behind it.

Threads: one, but for :attr:`Record.stopped`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Optional

from ezadmin_agent.control import files
from ezadmin_wire import times
from ezadmin_wire.commands import RESUME, STOP
from ezadmin_wire.errors import WireError
from ezadmin_wire.fields import build, dump, load
from ezadmin_wire.times import parse_time

log = logging.getLogger(__name__)

START = "0" * 64
"""``previous`` of line 0."""
FILE_BYTES = 1 << 20
KEEP_FILES = 16
KEEP_SECONDS = 24 * 3600.0
"""How long a command that has ended is remembered after it could have been begun."""
ACCEPTED, DONE, FAILED, REFUSED, LOST = "accepted", "done", "failed", "refused", "lost"


class RecordError(Exception):
    """The log of commands cannot be read or written; the text says where and why. Nothing is done then."""


@dataclass(frozen=True)
class Line:
    """A line of the log. ``known``: whether it is about a command that is this host's own and really was signed.

    ``digest`` is the SHA-256 of the command's text; ``id``, ``run``, ``attempt``, ``kind`` and ``actor`` are absent where
    what came could not be read.
    """

    number: int
    previous: str
    at: str
    state: str
    digest: str
    known: bool = True
    id: Optional[str] = None
    run: Optional[str] = None
    attempt: Optional[int] = None
    kind: Optional[str] = None
    actor: Optional[str] = None
    nonce: Optional[str] = None
    not_after: Optional[str] = None
    reason: Optional[str] = None
    hash: str = ""

    def hashed(self) -> str:
        """What its hash must be."""
        return hashlib.sha256(dump(replace(self, hash=None))).hexdigest()  # type: ignore[arg-type]

    def encode(self) -> bytes:
        """The line with its newline."""
        return dump(self) + b"\n"


@dataclass(frozen=True)
class Entry:
    """What the journal knows of a command."""

    id: str
    run: str
    attempt: int
    kind: str
    actor: str
    nonce: str
    digest: str
    not_after: str
    state: str
    at: str
    reason: Optional[str] = None

    @property
    def ended(self) -> bool:
        """Whether nothing more becomes of it."""
        return self.state != ACCEPTED


@dataclass(frozen=True)
class Snapshot:
    """``commands/journal``: what holds before line ``number`` of the chain, whose line before has ``hash``."""

    number: int
    hash: str
    stopped: bool
    entries: list[Entry] = field(default_factory=list)


class Broken(NamedTuple):
    """Where the chain breaks, for people."""

    file: Path
    number: int
    text: str


class Record:
    """The log in ``directory`` (made if missing). Raises RecordError if it cannot be read, or its chain is broken."""

    def __init__(self, directory: Path, *, file_bytes: int = FILE_BYTES) -> None:
        self.directory = directory
        self._file_bytes = file_bytes
        self._entries: dict[str, Entry] = {}
        self._nonces: dict[str, str] = {}
        self._attempts: dict[tuple[str, int], str] = {}
        self._number, self._hash = 0, START
        self.stopped = False
        """Whether only ``resume`` is taken."""
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._load()
            self._file = os.open(current(directory), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            files.sync_directory(directory)
        except OSError as error:
            raise RecordError(f"cannot use {directory}: {error.strerror}") from error

    @property
    def number(self) -> int:
        """Of the next line."""
        return self._number

    @property
    def head(self) -> str:
        """The hash of the last line."""
        return self._hash

    def find(self, command_id: str) -> Optional[Entry]:
        """What is known of a command."""
        return self._entries.get(command_id)

    def holder_of_nonce(self, nonce: str) -> Optional[str]:
        """The id of the command that brought the nonce."""
        return self._nonces.get(nonce)

    def holder_of_attempt(self, run: str, attempt: int) -> Optional[str]:
        """The id of the command that is this attempt of a run."""
        return self._attempts.get((run, attempt))

    def unfinished(self) -> list[Entry]:
        """Accepted, and nothing since."""
        return [entry for entry in self._entries.values() if not entry.ended]

    def counts(self) -> dict[str, int]:
        """How many of the commands that are remembered are in each state."""
        found: dict[str, int] = {}
        for entry in list(self._entries.values()):
            found[entry.state] = found.get(entry.state, 0) + 1
        return found

    def append(self, *, state: str, digest: str, known: bool = True, **members: Any) -> Line:
        """Write the next line and bring it to disk. Raises RecordError: then it is not there, and nothing may be done."""
        if self._size() >= self._file_bytes:
            self._roll()
        try:
            line = Line(self._number, self._hash, times.now(), state, digest, known, **members)
            line = replace(line, hash=line.hashed())
            data = line.encode()
        except WireError as error:
            raise RecordError(f"the log of commands cannot hold this: {error}") from error
        before = self._size()
        try:
            written = 0
            while written < len(data):
                written += os.write(self._file, memoryview(data)[written:])
            os.fdatasync(self._file)
        except OSError as error:
            os.ftruncate(self._file, before)
            raise RecordError(f"cannot write {current(self.directory)}: {error.strerror}") from error
        self._apply(line)
        return line

    def lines(self, after: int) -> Iterator[Line]:
        """The lines with a number above ``after`` that are still there. Raises RecordError."""
        for line in read(self.directory, after):
            if isinstance(line, Broken):
                raise RecordError(f"{line.file}: {line.text}")
            yield line

    def forget(self) -> None:
        """Let go of commands that ended long ago."""
        now = times.now()
        for entry in list(self._entries.values()):
            if entry.ended and _seconds(entry.not_after, now) > KEEP_SECONDS:
                del self._entries[entry.id]
                self._nonces.pop(entry.nonce, None)
                self._attempts.pop((entry.run, entry.attempt), None)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    # ------------------------------------------------------------------

    def _size(self) -> int:
        return os.fstat(self._file).st_size

    def _load(self) -> None:
        try:
            snapshot = load(Snapshot, (self.directory / "journal").read_bytes())
        except FileNotFoundError:
            snapshot = None
        except WireError as error:
            raise RecordError(f"{self.directory / 'journal'} is damaged: {error}") from error
        if snapshot is not None:
            self._number, self._hash, self.stopped = snapshot.number, snapshot.hash, snapshot.stopped
            for entry in snapshot.entries:
                self._remember(entry)
        _cut_torn(current(self.directory))
        for line in read(self.directory, self._number - 1):
            if isinstance(line, Broken):
                raise RecordError(
                    f"{line.file}: {line.text}. No command is taken. Find out who changed it; then move the folder "
                    f"{self.directory} away"
                )
            if (line.number, line.previous) != (self._number, self._hash):
                raise RecordError(f"{self.directory}: line {self._number} is missing. No command is taken")
            self._apply(line)

    def _apply(self, line: Line) -> None:
        self._number, self._hash = line.number + 1, line.hash
        if not line.known:
            return
        if (line.kind == STOP and line.state == ACCEPTED) or (line.kind == RESUME and line.state == DONE):
            self.stopped = line.kind == STOP
        self._remember(build(Entry, {**asdict(line), "run": line.run or "", "nonce": line.nonce or ""}))

    def _remember(self, entry: Entry) -> None:
        self._entries[entry.id] = entry
        if entry.nonce:
            self._nonces.setdefault(entry.nonce, entry.id)
        if entry.run:
            self._attempts.setdefault((entry.run, entry.attempt), entry.id)

    def _roll(self) -> None:
        """Begin a new file. The journal first: a crash between leaves lines that are read twice, to the same end."""
        self.forget()
        try:
            first = self._number
            with open(current(self.directory), "rb") as file:
                first = load(Line, file.readline()).number
            snapshot = Snapshot(self._number, self._hash, self.stopped, list(self._entries.values()))
            files.write(self.directory / "journal", dump(snapshot) + b"\n")
            os.rename(current(self.directory), self.directory / f"log.{first:012}.ndjson")
            os.close(self._file)
            self._file = os.open(current(self.directory), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            files.sync_directory(self.directory)
            for old in older(self.directory)[:-KEEP_FILES]:
                old.unlink()
        except (OSError, WireError) as error:
            raise RecordError(f"cannot begin a new log of commands in {self.directory}: {error}") from error


def current(directory: Path) -> Path:
    """The file that is written."""
    return directory / "log.ndjson"


def older(directory: Path) -> list[Path]:
    """The files put aside, the oldest first."""
    return sorted(path for path in directory.glob("log.*.ndjson") if re.fullmatch(r"log\.[0-9]{12}\.ndjson", path.name))


def read(directory: Path, after: int = -1) -> Iterator[Line | Broken]:
    """The lines with a number above ``after``, each checked against the one before; the first that is broken is the last.

    A torn line at the very end, as a crash leaves it, is passed over. Raises OSError.
    """
    paths = [*older(directory), current(directory)]
    # from the last file that begins at or before the line after ``after``
    starts = [int(path.name.split(".")[1]) for path in paths[:-1]]
    skip = max((index for index, start in enumerate(starts) if start <= after + 1), default=0)
    first = starts[skip] if starts else 0
    before: Optional[Line] = None
    for path in paths[skip:]:
        try:
            file = open(path, "rb")  # noqa: SIM115 - closed below, by the with
        except FileNotFoundError:
            continue
        with file:
            for data in file:
                if not data.endswith(b"\n") and path == paths[-1]:
                    return
                number = first if before is None else before.number + 1
                try:
                    line = load(Line, data)
                    if line.hash != line.hashed() or line.encode() != data:
                        raise WireError("bad_value", "its hash does not fit: it was changed")
                except WireError as error:
                    yield Broken(path, number, f"the line behind number {number - 1} is damaged: {error}")
                    return
                if before is not None and (line.number, line.previous) != (before.number + 1, before.hash):
                    yield Broken(
                        path, number, f"line {number} is missing or was replaced: number {line.number} follows"
                    )
                    return
                if before is None and (line.number != first or (first == 0 and line.previous != START)):
                    yield Broken(path, first, f"line {first} is missing or was replaced")
                    return
                before = line
                if line.number > after:
                    yield line


class Verdict(NamedTuple):
    """What ``commands verify`` found: lines ``first`` to ``last``, ``head`` the hash of the last; ``problem`` None: whole."""

    first: Optional[int]
    last: Optional[int]
    head: str
    problem: Optional[str]


def verify(directory: Path) -> Verdict:
    """Check the whole chain, also against the journal. Raises RecordError if it cannot be read."""
    first: Optional[Line] = None
    last: Optional[Line] = None
    problem = None
    try:
        snapshot = None
        if (directory / "journal").exists():
            snapshot = load(Snapshot, (directory / "journal").read_bytes())
        for line in read(directory):
            if isinstance(line, Broken):
                problem = f"{line.file}: {line.text}"
                break
            if snapshot is not None and line.number == snapshot.number - 1 and line.hash != snapshot.hash:
                problem = f"line {line.number} is not the one that the journal knows"
                break
            first, last = first or line, line
    except OSError as error:
        raise RecordError(f"cannot read {directory}: {error.strerror}") from error
    except WireError as error:
        problem = f"the journal is damaged: {error}"
        snapshot = None
    end = -1 if last is None else last.number
    if problem is None and snapshot is not None and end < snapshot.number - 1:
        problem = f"the log ends at number {end}, the journal knows number {snapshot.number - 1}: lines were cut off"
    if first is None or last is None:
        return Verdict(None, None, START, problem)
    return Verdict(first.number, last.number, last.hash, problem)


def _cut_torn(path: Path) -> None:
    """Cut off a line that a crash left without its end: nothing was done for it."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        size = os.fstat(file).st_size
        keep = size
        while keep and os.pread(file, 1, keep - 1) != b"\n":
            keep -= 1
        if keep < size:
            log.warning("%s: cut off %d torn bytes", path, size - keep)
            os.ftruncate(file, keep)
        os.fsync(file)  # what survived a crash counts: it must stay
    finally:
        os.close(file)


def _seconds(before: str, after: str) -> float:
    try:
        return (parse_time(after) - parse_time(before)).total_seconds()
    except WireError:
        return 0.0


def as_json(line: Line) -> dict[str, Any]:
    """A line as an object, without what is absent."""
    found: dict[str, Any] = json.loads(line.encode())
    return found
