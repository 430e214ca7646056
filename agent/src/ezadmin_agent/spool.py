"""The spool: one queue of lines on disk per stream, from which nothing is lost and in which no number is used twice.

A stream's directory holds *segments*, append-only files of *records*, numbered in the order of their making, and the
file ``acked``. A record is::

    magic (4)  kind (1)  length of the body (4)  CRC-32 of kind, length and body (4)  body

and its body ``length of meta (4), meta (JSON), value``. There are two kinds:

* a **frame**: lines (the value, NDJSON, deflated when that makes it shorter: ``z``) with ``seq`` of the first, ``n``,
  ``dataset``, ``tmin``, ``tmax``, ``levels``
  (lines per level), ``positions`` (where the sources stand after these lines; only those that moved) and ``synced``
  (the first number that was not yet on disk for sure when the frame was written);
* a **checkpoint**: ``epoch``, ``seq`` of the next line, and all ``positions``. Every segment begins with one.

Invariants, for any moment of a crash:

1. Only frames that were fsynced are handed out (:meth:`Spool.next_frame`), in order.
2. Lines and the positions behind them stand under one checksum: after a crash a source either finds its lines in the
   spool, or reads them again. What follows the last whole record of the newest segment was never handed out and is cut
   off, so its numbers are free again.
3. A segment is made complete (its checkpoint fsynced under another name, then renamed), and the newest is never
   deleted: epoch, next number and positions are known also when every frame was freed.
4. ``acked`` is not fsynced. If it is lost or old, frames are sent again, under the same (epoch, seq).
5. A record damaged *after* it was fsynced is told from a torn one by the ``synced`` of the records behind it, or by
   ``acked``; it is skipped, counted as a loss, and its numbers are not used again. If the newest segment's checkpoint
   is damaged, the next number is unknown, so a new epoch begins.

Only damage to the very last fsynced frame, together with the loss of ``acked``, looks like a torn write: a disk that
lies about fsync can still betray us.

Threads: any may call any method. One process: the caller holds the lock of the state directory.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

from ezadmin_wire.batch import count_levels
from ezadmin_wire.ids import EPOCH_PATTERN, new_epoch

log = logging.getLogger(__name__)

MAGIC = b"\x9eZS1"
HEADER = struct.Struct(">4sBII")
LENGTH = struct.Struct(">I")
ACKED = struct.Struct(">QQQ")
FRAME, CHECKPOINT = 1, 2
MAX_BODY = 16 << 20
DEFLATE_FROM = 1024
FULL = (errno.ENOSPC, errno.EDQUOT)
RESERVE_BYTES = 4 << 20
"""Disk kept back for the streams that do not wait, for when it is full. Metrics of hours fit into it."""
SEGMENT_BYTES = 8 << 20
CAP_BYTES = 256 << 20


class SpoolError(Exception):
    """The spool cannot take a frame: the disk is full or fails. The frame is not in the spool; nothing else changed."""


class SpoolFull(SpoolError):
    """The spool has reached its cap and this stream may not push others out. Wait for acknowledgements."""


class Position(NamedTuple):
    """A place between two records: segment, offset in it, and number of the next line."""

    segment: int
    offset: int
    seq: int


class Frame(NamedTuple):
    """Lines as they were appended, under their final numbers. ``end`` is the place behind the frame."""

    epoch: str
    seq: int
    n: int
    dataset: str
    tmin: str
    tmax: str
    levels: Mapping[str, int]
    value: bytes
    end: Position

    def lines(self) -> list[bytes]:
        """The lines without their newline."""
        return self.value[:-1].split(b"\n")


class _Record(NamedTuple):
    kind: int
    meta: dict[str, Any]
    value: bytes
    end: int


@dataclass
class _Segment:
    number: int
    path: Path
    epoch: str
    seq: int  # of the checkpoint at its begin
    start: int  # offset behind that checkpoint
    size: int


class Spool:
    """The queue of one ``stream`` in ``directory`` (made if missing).

    ``make_room(bytes)`` is called before a frame is written and may raise SpoolFull; ``relieve()`` when the disk is full,
    and says whether it freed something; ``wake()`` when frames became ready to be sent. Raises SpoolError if the
    directory cannot be used.
    """

    def __init__(
        self,
        directory: Path,
        stream: str,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        make_room: Optional[Callable[[int], None]] = None,
        relieve: Optional[Callable[[], bool]] = None,
        wake: Optional[Callable[[], object]] = None,
    ) -> None:
        self.directory = directory
        self.stream = stream
        self.lost = 0
        """Lines lost to damage of the disk since the start."""
        self.dropped: dict[str, int] = {}
        """Lines dropped since the start, per level."""
        self._segment_bytes = segment_bytes
        self._make_room = make_room
        self._relieve = relieve
        self._wake = wake
        self._lock = threading.RLock()
        self._segments: list[_Segment] = []
        self._seq = 0
        self._positions: dict[str, Any] = {}
        self._synced = self._acked = Position(0, 0, 0)
        self._synced_positions: dict[str, Any] = {}
        self._disk_bytes = 0
        self._bad: set[tuple[int, int]] = set()
        self._reader: Optional[tuple[int, int]] = None  # segment number, descriptor
        self._writer = -1
        self._drops: dict[int, int] = {}  # end seq -> lines, of the frames dropped but perhaps in flight
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._recover()
            self._acked_file = os.open(directory / "acked", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._write_acked()
        except OSError as error:
            raise SpoolError(f"cannot use the spool {directory}: {error.strerror}") from error

    # ------------------------------------------------------------------ what callers see

    @property
    def epoch(self) -> str:
        """The epoch of the lines that are appended now."""
        return self._segments[-1].epoch

    @property
    def next_seq(self) -> int:
        """The number of the next line."""
        return self._seq

    @property
    def positions(self) -> dict[str, Any]:
        """Where each source stands behind the last appended frame."""
        with self._lock:
            return dict(self._positions)

    @property
    def acked(self) -> Position:
        """The place before the oldest frame that is not yet acknowledged."""
        return self._acked

    @property
    def disk_bytes(self) -> int:
        """Bytes that the stream's segments take on disk."""
        return self._disk_bytes

    @property
    def pending_lines(self) -> int:
        """Lines not yet acknowledged."""
        with self._lock:
            total = 0
            for index, segment in enumerate(self._segments):
                last = index + 1 == len(self._segments)
                following = self._seq if last else self._segments[index + 1].seq
                if not last and self._segments[index + 1].epoch != segment.epoch:
                    following = max(segment.seq, self._acked.seq)  # how many lines it held is not known any more
                first = self._acked.seq if segment.number == self._acked.segment else segment.seq
                total += max(0, following - first)
            return total

    @property
    def pending_bytes(self) -> int:
        """Bytes of the records not yet acknowledged."""
        with self._lock:
            return sum(
                segment.size - (self._acked.offset if segment.number == self._acked.segment else segment.start)
                for segment in self._segments
            )

    def append(
        self,
        lines: Sequence[bytes],
        *,
        dataset: str,
        tmin: str,
        tmax: str,
        positions: Optional[Mapping[str, Any]] = None,
    ) -> int:
        """Write a frame of ``lines`` (without newlines) and return the number of its first line.

        ``positions`` says where sources stand behind these lines: names to JSON values, None to forget a source; those
        not named stay as they are. The frame is safe, and is handed out, only after :meth:`sync`. Raises SpoolFull or
        SpoolError, and ValueError for no lines or a newline in a line.
        """
        value = b"\n".join(lines) + b"\n"
        if not lines or value.count(b"\n") != len(lines):
            raise ValueError("a frame holds at least one line, and no line holds a newline")
        packed = zlib.compress(value, 1) if len(value) > DEFLATE_FROM else value
        if len(packed) >= len(value):
            packed = value
        if self._make_room is not None:
            self._make_room(len(packed) + 512)
        with self._lock:
            if self._segments[-1].size >= self._segment_bytes:
                self._roll()
            seq = self._seq
            meta = {
                "seq": seq,
                "n": len(lines),
                "dataset": dataset,
                "tmin": tmin,
                "tmax": tmax,
                "levels": count_levels(value),
                "positions": positions or {},
                "synced": self._synced.seq,
            }
            if packed is not value:
                meta["z"] = 1
            self._write(FRAME, meta, packed)
            self._seq = seq + len(lines)
            _merge(self._positions, positions or {})
            return seq

    def mark(self, positions: Mapping[str, Any]) -> None:
        """Remember ``positions`` without lines, e.g. where a source begins. Fsynced. Raises SpoolError."""
        with self._lock:
            merged = dict(self._positions)
            _merge(merged, positions)
            self._write(CHECKPOINT, {"epoch": self.epoch, "seq": self._seq, "positions": merged}, b"")
            self._positions = merged
            self.sync()

    def skip(self, n: int) -> None:
        """Leave a gap of ``n`` numbers: lines that were dropped before they came into the spool."""
        with self._lock:
            self._seq += n
            self.dropped["unknown"] = self.dropped.get("unknown", 0) + n

    def sync(self) -> None:
        """Bring all appended frames to disk; they are then handed out.

        Raises SpoolError if the disk fails: then they are gone, as after a crash, and :attr:`positions` is where the
        sources must read again.
        """
        with self._lock:
            segment = self._segments[-1]
            if self._synced.segment == segment.number and self._synced.offset == segment.size:
                return
            try:
                os.fdatasync(self._writer)
            except OSError as error:
                # the kernel may have dropped the pages: what is in the file now is anybody's guess
                self._truncate(self._synced.offset)
                self._seq = self._synced.seq
                self._positions = dict(self._synced_positions)
                raise SpoolError(f"cannot fsync {segment.path}: {error.strerror}") from error
            self._set_synced()
        if self._wake is not None:
            self._wake()

    def next_frame(self, after: Position) -> Optional[Frame]:
        """The frame behind ``after`` (:attr:`acked`, or the ``end`` of another frame), or None if there is none yet."""
        with self._lock:
            place = after
            while True:
                segment = self._find_segment(place.segment)
                if segment is None:  # dropped or freed meanwhile: go on with the oldest there is
                    segment = self._segments[0]
                    place = Position(segment.number, segment.start, segment.seq)
                limit = self._limit(segment)
                if place.offset >= limit:
                    following = self._following(segment)
                    if following is None:
                        return None
                    if following.epoch == segment.epoch and following.seq > place.seq:
                        self._lose(place, following.seq - place.seq)
                    place = Position(following.number, following.start, following.seq)
                    continue
                descriptor = self._open(segment)
                record = _read(descriptor, place.offset, limit)
                if record is None:
                    found = _find(descriptor, place.offset + 1, limit)
                    if found is None:
                        if (segment.number, place.offset) not in self._bad:
                            self._bad.add((segment.number, place.offset))
                            log.error("%s is damaged at byte %d; the rest of it is skipped", segment.path, place.offset)
                        place = Position(segment.number, limit, place.seq)
                        continue
                    offset, found_record = found
                    self._lose(place, max(0, int(found_record.meta["seq"]) - place.seq))
                    place = Position(segment.number, offset, int(found_record.meta["seq"]))
                    continue
                if record.kind != FRAME:
                    place = Position(segment.number, record.end, place.seq)
                    continue
                meta = record.meta
                seq, n = int(meta["seq"]), int(meta["n"])
                return Frame(
                    epoch=segment.epoch,
                    seq=seq,
                    n=n,
                    dataset=meta["dataset"],
                    tmin=meta["tmin"],
                    tmax=meta["tmax"],
                    levels=meta["levels"],
                    value=zlib.decompress(record.value) if "z" in meta else record.value,
                    end=Position(segment.number, record.end, seq + n),
                )

    def ack(self, frame: Frame) -> None:
        """Free ``frame`` and all before it. One that was dropped meanwhile counts as delivered after all."""
        with self._lock:
            if frame.end <= self._acked:
                if self._drops.pop(frame.end.seq, 0):
                    for level, count in frame.levels.items():
                        self.dropped[level] = self.dropped.get(level, 0) - count
                return
            self._acked = frame.end
            self._free()

    def drop_oldest(self) -> int:
        """Drop the oldest segment with all that was not acknowledged in it; returns the bytes freed (0: nothing there).

        The numbers of dropped lines are not used again: the gap shows the loss. Raises SpoolError.
        """
        with self._lock:
            segment = self._segments[0]
            if len(self._segments) == 1:
                if segment.size == segment.start:
                    return 0
                self._roll()
            if segment not in self._segments:  # rolling freed it: everything in it was acknowledged
                return segment.size
            place: Position = self._acked
            while True:
                frame = self.next_frame(place)
                if frame is None or frame.end.segment != segment.number:
                    break
                for level, count in frame.levels.items():
                    self.dropped[level] = self.dropped.get(level, 0) + count
                self._drops[frame.end.seq] = frame.n
                place = frame.end
            while len(self._drops) > 1000:
                del self._drops[next(iter(self._drops))]
            following = self._segments[1]
            self._acked = Position(following.number, following.start, following.seq)
            self._free()
            return segment.size

    def close(self) -> None:
        """Sync and close the files."""
        with self._lock:
            if self._writer < 0:
                return
            try:
                self.sync()
            finally:
                os.close(self._writer)
                os.close(self._acked_file)
                self._close_reader()
                self._writer = -1

    # ------------------------------------------------------------------ records and segments

    def _write(self, kind: int, meta: Mapping[str, Any], value: bytes) -> None:
        segment = self._segments[-1]
        record = _encode(kind, meta, value)
        try:
            written = 0
            while written < len(record):
                written += os.write(self._writer, memoryview(record)[written:])
        except OSError as error:
            self._truncate(segment.size)
            if self._relieved(error):
                self._write(kind, meta, value)
                return
            raise SpoolError(f"cannot write {segment.path}: {_why(error)}") from error
        segment.size += len(record)
        self._disk_bytes += len(record)

    def _relieved(self, error: OSError) -> bool:
        """Whether the disk was full and room was made, so that it is worth another try."""
        return error.errno in FULL and self._relieve is not None and self._relieve()

    def _truncate(self, size: int) -> None:
        segment = self._segments[-1]
        os.ftruncate(self._writer, size)
        self._disk_bytes -= segment.size - size
        segment.size = size

    def _roll(self) -> None:
        """Begin a new segment. Raises SpoolError; then the old one stays the newest."""
        self.sync()
        old = self._segments[-1]
        try:
            writer = self._create(old.number + 1, old.epoch)
        except OSError as error:
            if self._relieved(error):
                self._roll()
                return
            raise SpoolError(f"cannot begin a new segment in {self.directory}: {_why(error)}") from error
        os.close(self._writer)
        self._writer = writer
        self._set_synced()
        self._free()

    def _create(self, number: int, epoch: str) -> int:
        path = self.directory / f"{number:020d}.seg"
        temporary = path.with_suffix(".new")
        record = _encode(CHECKPOINT, {"epoch": epoch, "seq": self._seq, "positions": self._positions}, b"")
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600)
        try:
            if os.write(descriptor, record) != len(record):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
            os.rename(temporary, path)
            _fsync_directory(self.directory)
        except OSError:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
            raise
        size = len(record)
        self._segments.append(_Segment(number, path, epoch, self._seq, size, size))
        self._disk_bytes += size
        return descriptor

    def _set_synced(self) -> None:
        segment = self._segments[-1]
        self._synced = Position(segment.number, segment.size, self._seq)
        self._synced_positions = dict(self._positions)

    def _free(self) -> None:
        """Delete the segments before the acknowledged place, and note it."""
        while len(self._segments) > 1:
            oldest, following = self._segments[0], self._segments[1]
            if oldest.number == self._acked.segment:
                if self._acked.offset < oldest.size:
                    break
                self._acked = Position(following.number, following.start, following.seq)
            if self._reader is not None and self._reader[0] == oldest.number:
                self._close_reader()
            oldest.path.unlink(missing_ok=True)
            self._disk_bytes -= oldest.size
            del self._segments[0]
        self._write_acked()

    def _write_acked(self) -> None:
        data = ACKED.pack(*self._acked)
        os.pwrite(self._acked_file, data + LENGTH.pack(zlib.crc32(data)), 0)

    def _limit(self, segment: _Segment) -> int:
        """Up to where the segment may be read."""
        return self._synced.offset if segment.number == self._synced.segment else segment.size

    def _find_segment(self, number: int) -> Optional[_Segment]:
        return next((segment for segment in self._segments if segment.number == number), None)

    def _following(self, segment: _Segment) -> Optional[_Segment]:
        return next((other for other in self._segments if other.number > segment.number), None)

    def _open(self, segment: _Segment) -> int:
        if self._reader is None or self._reader[0] != segment.number:
            self._close_reader()
            self._reader = (segment.number, os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC))
        return self._reader[1]

    def _close_reader(self) -> None:
        if self._reader is not None:
            os.close(self._reader[1])
            self._reader = None

    def _lose(self, place: Position, lines: int) -> None:
        if lines and (place.segment, -1 - place.seq) not in self._bad:
            self._bad.add((place.segment, -1 - place.seq))
            self.lost += lines
            log.error("stream %s: %d lines from number %d on are lost: damaged on disk", self.stream, lines, place.seq)

    # ------------------------------------------------------------------ start

    def _recover(self) -> None:
        for leftover in self.directory.glob("*.new"):
            leftover.unlink()
        damaged: list[Path] = []
        for path in sorted(self.directory.glob("*.seg")):
            segment = self._load_segment(path)
            if segment is None:
                damaged.append(path)
            else:
                self._segments.append(segment)
                self._disk_bytes += segment.size
        acked = self._read_acked()
        newest_damaged = bool(damaged) and (not self._segments or damaged[-1] > self._segments[-1].path)
        numbers = [int(path.stem) for path in damaged]
        for path in damaged:
            log.error("%s is damaged at its begin and put aside as %s.bad", path, path.name)
            path.rename(path.with_suffix(".bad"))
        if self._segments:
            self._scan_newest(acked)
        if not self._segments or newest_damaged:
            number = max([*numbers, *(segment.number for segment in self._segments), 0]) + 1
            self._seq = 0
            writer = self._create(number, new_epoch())
        else:
            newest = self._segments[-1]
            writer = os.open(newest.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
            os.fsync(writer)  # a frame that survived the crash counts as appended: it must stay
        self._writer = writer
        self._set_synced()
        oldest = self._segments[0]
        self._acked = Position(oldest.number, oldest.start, oldest.seq)
        if acked is not None:
            holder = self._find_segment(acked.segment)
            if holder is not None and holder.start <= acked.offset:
                self._acked = acked._replace(offset=min(acked.offset, holder.size))
            elif holder is None and acked.segment > oldest.number:
                following = next((s for s in self._segments if s.number > acked.segment), self._segments[-1])
                self._acked = Position(following.number, following.start, following.seq)

    def _load_segment(self, path: Path) -> Optional[_Segment]:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            record = _read(descriptor, 0, size)
        finally:
            os.close(descriptor)
        if record is None or record.kind != CHECKPOINT or not EPOCH_PATTERN.fullmatch(record.meta["epoch"]):
            return None
        return _Segment(int(path.stem), path, record.meta["epoch"], int(record.meta["seq"]), record.end, size)

    def _read_acked(self) -> Optional[Position]:
        try:
            data = (self.directory / "acked").read_bytes()
        except FileNotFoundError:
            return None
        if len(data) != ACKED.size + LENGTH.size or LENGTH.unpack(data[ACKED.size :])[0] != zlib.crc32(
            data[: ACKED.size]
        ):
            return None
        return Position(*ACKED.unpack(data[: ACKED.size]))

    def _scan_newest(self, acked: Optional[Position]) -> None:
        """Find next number and positions behind the last whole frame; cut off what is torn."""
        segment = self._segments[-1]
        descriptor = os.open(segment.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            place = 0
            while place < segment.size:
                record = _read(descriptor, place, segment.size)
                if record is None:
                    found = _find(descriptor, place + 1, segment.size)
                    was_synced = found is not None and found[1].meta.get("synced", 0) > self._seq
                    if found is None or not was_synced:
                        log.warning("%s: cut off %d torn bytes", segment.path, segment.size - place)
                        os.ftruncate(descriptor, place)
                        self._disk_bytes -= segment.size - place
                        segment.size = place
                        break
                    place = found[0]
                    continue
                self._seq = int(record.meta["seq"]) + int(record.meta.get("n", 0))
                if record.kind == CHECKPOINT:
                    self._positions = dict(record.meta["positions"])
                else:
                    _merge(self._positions, record.meta["positions"])
                place = record.end
        finally:
            os.close(descriptor)
        if acked is not None and acked.segment == segment.number and acked.seq > self._seq:
            self.lost += acked.seq - self._seq
            log.error("stream %s: lines up to number %d were sent, but are not on disk", self.stream, acked.seq)
            self._seq = acked.seq


@dataclass(frozen=True)
class StreamSpec:
    """A stream and its place among the others under one cap.

    ``topic`` is where its lines go; ``priority``: the higher is sent first and dropped last; ``droppable``: at the cap
    its oldest frames give way (to frames of the same or a higher priority), otherwise its writer has to wait;
    ``share``: the part of the cap that a stream which waits may take; ``over``: streams that give way to this one
    although their writers wait.
    """

    name: str
    topic: str
    priority: int
    droppable: bool
    share: float = 0.75
    over: tuple[str, ...] = ()


class Spools:
    """All streams of an agent under ``directory``, and their common cap in bytes.

    ``cap_bytes`` None: 256 MiB or 10 % of the free disk, whichever is less. ``wake`` is set whenever frames become
    ready to be sent. Raises SpoolError.
    """

    def __init__(self, directory: Path, specs: Sequence[StreamSpec], *, cap_bytes: Optional[int] = None) -> None:
        self.wake = threading.Event()
        self.specs = {spec.name: spec for spec in specs}
        if cap_bytes is None:
            try:
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                disk = os.statvfs(directory)
            except OSError as error:
                raise SpoolError(f"cannot use the spool {directory}: {error.strerror}") from error
            cap_bytes = min(CAP_BYTES, disk.f_bavail * disk.f_frsize // 10)
        self.cap_bytes = cap_bytes
        self._reserve = directory / "reserve"
        self._reserve_lock = threading.Lock()
        segment_bytes = max(16 << 10, min(SEGMENT_BYTES, cap_bytes // 32))
        self._spools = {
            spec.name: Spool(
                directory / spec.name,
                spec.name,
                segment_bytes=segment_bytes,
                make_room=lambda size, spec=spec: self._make_room(spec, size),  # type: ignore[misc]
                relieve=(lambda spec=spec: self._relieve(spec)) if spec.droppable or spec.over else None,  # type: ignore[misc]
                wake=self.wake.set,
            )
            for spec in specs
        }
        self.keep_reserve()

    def __getitem__(self, name: str) -> Spool:
        return self._spools[name]

    def __iter__(self) -> Iterator[Spool]:
        """The spools, the most important first."""
        order = sorted(self.specs.values(), key=lambda spec: -spec.priority)
        return iter([self._spools[spec.name] for spec in order])

    @property
    def disk_bytes(self) -> int:
        """Bytes of all streams on disk."""
        return sum(spool.disk_bytes for spool in self._spools.values())

    def has_room(self, name: str, size: int = 1 << 20, *, gently: bool = True) -> bool:
        """Whether ``name`` could append ``size`` bytes now; by pushing out others, of those that wait only if not ``gently``."""
        spec = self.specs[name]
        if not spec.droppable and self._spools[name].disk_bytes + size > spec.share * self.cap_bytes:
            return False
        immovable = sum(
            spool.disk_bytes
            for other, spool in self._spools.items()
            if not self._gives_way(self.specs[other], spec) or (gently and other in spec.over)
        )
        return immovable + size <= self.cap_bytes

    def keep_reserve(self) -> None:
        """Set disk aside for when it is full, if it is not; called now and then."""
        size = min(RESERVE_BYTES, self.cap_bytes // 16)
        with self._reserve_lock:
            try:
                disk = os.statvfs(self._reserve.parent)
                if self._reserve.exists() or disk.f_bavail * disk.f_frsize < 4 * size:
                    return
                descriptor = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    os.posix_fallocate(descriptor, 0, size)
                finally:
                    os.close(descriptor)
            except OSError as error:
                log.debug("no reserve on disk: %s", error.strerror)

    def _relieve(self, spec: StreamSpec) -> bool:
        """Give up the reserve, or where there is none what gives way though its writer waits; whether there was something."""
        with self._reserve_lock:
            try:
                self._reserve.unlink()
                reserved = True
            except OSError:
                reserved = False
        if not reserved:
            return any(self._drop(self.specs[name], "the disk is full") for name in spec.over)
        log.error(
            "the disk of %s is full: logs wait in their files; metrics go on in a reserve of %d KiB. Free space there",
            *(self._reserve.parent, min(RESERVE_BYTES, self.cap_bytes // 16) >> 10),
        )
        return True

    def used(self, name: str) -> float:
        """Which part of its room stream ``name`` takes on disk, 0 to 1."""
        spec = self.specs[name]
        return self._spools[name].disk_bytes / (self.cap_bytes * (1.0 if spec.droppable else spec.share))

    def close(self) -> None:
        """Sync and close all of them."""
        for spool in self._spools.values():
            spool.close()

    @staticmethod
    def _gives_way(victim: StreamSpec, to: StreamSpec) -> bool:
        return victim.name in to.over or (victim.droppable and victim.priority <= to.priority)

    def _make_room(self, spec: StreamSpec, size: int) -> None:
        spool = self._spools[spec.name]
        if not spec.droppable and spool.disk_bytes + size > spec.share * self.cap_bytes:
            raise SpoolFull(f"stream {spec.name} fills its share of the spool ({self.cap_bytes} bytes in all)")
        if self.disk_bytes + size <= self.cap_bytes:
            return
        victims = sorted(
            (victim for victim in self.specs.values() if self._gives_way(victim, spec)), key=lambda v: v.priority
        )
        for victim in victims:
            while self.disk_bytes + size > self.cap_bytes:
                if not self._drop(victim, "the spool is at its cap"):
                    break
        if self.disk_bytes + size > self.cap_bytes:
            raise SpoolFull(f"the spool is at its cap of {self.cap_bytes} bytes; stream {spec.name} has to wait")

    def _drop(self, victim: StreamSpec, why: str) -> int:
        """Drop what is oldest of a stream, and tell; the bytes freed."""
        spool = self._spools[victim.name]
        before = dict(spool.dropped)
        try:
            freed = spool.drop_oldest()
        except SpoolError as error:
            log.debug("nothing of stream %s could be dropped: %s", victim.name, error)
            return 0
        lost = {level: count - before.get(level, 0) for level, count in spool.dropped.items()}
        lost = {level: count for level, count in lost.items() if count > 0}
        if lost:
            parts = ", ".join(f"{count} {level}" for level, count in sorted(lost.items()))
            level = logging.WARNING if victim.droppable else logging.ERROR
            log.log(level, "%s: %d lines of stream %s are dropped (%s)", why, sum(lost.values()), victim.name, parts)
        return freed


def _why(error: OSError) -> str:
    return "the disk is full" if error.errno in FULL else str(error.strerror)


def _merge(positions: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for source, position in changes.items():
        if position is None:
            positions.pop(source, None)
        else:
            positions[source] = position


def _encode(kind: int, meta: Mapping[str, Any], value: bytes) -> bytes:
    text = json.dumps(meta, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    body = LENGTH.pack(len(text)) + text + value
    return HEADER.pack(MAGIC, kind, len(body), _checksum(kind, body)) + body


def _checksum(kind: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(struct.pack(">BI", kind, len(body))))


def _read(descriptor: int, offset: int, limit: int) -> Optional[_Record]:
    """The record at ``offset`` if it is whole and ends at or before ``limit``, else None."""
    header = os.pread(descriptor, HEADER.size, offset)
    if len(header) < HEADER.size:
        return None
    magic, kind, length, checksum = HEADER.unpack(header)
    end = offset + HEADER.size + length
    if magic != MAGIC or kind not in (FRAME, CHECKPOINT) or length > MAX_BODY or end > limit:
        return None
    body = os.pread(descriptor, length, offset + HEADER.size)
    if len(body) != length or _checksum(kind, body) != checksum:
        return None
    behind = LENGTH.size + LENGTH.unpack_from(body)[0]
    return _Record(kind, json.loads(body[LENGTH.size : behind].decode("utf-8", "surrogatepass")), body[behind:], end)


def _find(descriptor: int, offset: int, limit: int) -> Optional[tuple[int, _Record]]:
    """The first whole record at or behind ``offset``, with its offset."""
    while offset < limit:
        chunk = os.pread(descriptor, min(1 << 20, limit - offset), offset)
        at = chunk.find(MAGIC)
        if at < 0:
            offset += max(1, len(chunk) - len(MAGIC) + 1)
            continue
        record = _read(descriptor, offset + at, limit)
        if record is not None:
            return offset + at, record
        offset += at + 1
    return None


def _fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
