"""The thread that reads all log sources into the spool: lines and positions in one frame, one fsync for many frames.

Errors and worse can go to a stream of their own, which is sent first and for which the others are dropped at the cap.
A batch is then two frames in two spools, and still every line comes exactly once, whatever is killed:

1. all before it is fsynced; 2. the errors are appended and fsynced, with the source's name; 3. the rest is appended, with
the source's position and the place (epoch, next number) of the stream of errors behind this batch.

So at most one batch is ever in the stream of errors without its position: after a crash between 2 and 3 the stream
stands beyond the place that was noted, by as many lines as that source will bring again. They are *ahead*: noted beside
the place at once, and left out when they come. A source that does not bring them again (a socket, in a new
process) has nothing left out.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Optional

from ezadmin_agent.log import Repeated
from ezadmin_agent.logs.source import CALM, Batch, Counts, Mode, Source
from ezadmin_agent.logs.sources import SourceSet
from ezadmin_agent.logs.surge import Ladder
from ezadmin_agent.spool import Spool, SpoolError, Spools
from ezadmin_wire.logs.levels import ERROR

log = logging.getLogger(__name__)

PERIOD = 1.0
"""Seconds between two looks: a line leaves at most so much later than it was written."""
COMMIT_BYTES = 2 << 20
ROOM = 1 << 20
PLACE = "errors"
"""Position in the spool of logs: epoch and next number of the stream of errors, and lines per source that are ahead."""


class LogReader(threading.Thread):
    """Reads ``sources`` into the stream ``stream`` until :meth:`stop`, by the rules of ``ladder``, if there is one.

    ``errors`` is the stream for what is error or worse; None: it goes where the rest goes. While the spool has no room,
    sources that wait are not read, and of the others only errors are kept.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        spools: Spools,
        stream: str,
        *,
        errors: Optional[str] = None,
        more: Optional[SourceSet] = None,
        ladder: Optional[Ladder] = None,
        period: float = PERIOD,
    ) -> None:
        super().__init__(name=f"logs-{stream}", daemon=True)
        self._own = sources
        self._set = more
        self._ladder = ladder
        self._said: dict[str, tuple[float, Counts]] = {}
        self._spools = spools
        self._stream = stream
        self._spool = spools[stream]
        self._errors_stream = errors
        self._errors = None if errors is None else spools[errors]
        self._ahead: dict[str, int] = {}
        self._before: Optional[set[str]] = None  # sources whose lines were ahead when this process began
        self.shed = 0
        """Lines that were dropped since the start because the spool was nearly full and their level low."""
        self._period = period
        self._stopping = threading.Event()
        self._waiting = False
        self._lost_place = True  # the sources have to be told where they stand
        self._trouble = Repeated(log, logging.ERROR, 3600.0)

    def stop(self, timeout: float = 2.0) -> None:
        """End after one more look at the sources."""
        self._stopping.set()
        self.join(timeout)

    def run(self) -> None:
        """The thread: look, commit, wait."""
        while True:
            last = self._stopping.is_set()
            begin = time.monotonic()
            try:
                more = self.look()
            except SpoolError as error:
                self._trouble.tell("spool", f"logs wait: {error}")
                self._lost_place, more = True, False
            except Exception:
                log.exception("reading logs failed; it is tried again from the last place")
                self._lost_place, more = True, False
            if last:
                break
            if not more:
                self._stopping.wait(max(0.05, self._period - (time.monotonic() - begin)))
        for source in self._sources:
            source.close()

    @property
    def _sources(self) -> list[Source]:
        return [*self._own, *(self._set.sources if self._set is not None else ())]

    def counts(self) -> dict[str, dict[str, Any]]:
        """Per source, what became of its events; and whether its repeats are collapsed now."""
        surging = self._ladder.surging if self._ladder is not None else frozenset()
        return {
            source.name: {**source.counts.position(), "surging": source.name in surging} for source in self._sources
        }

    def look(self) -> bool:
        """Read what there is, up to COMMIT_BYTES, and fsync it. Whether there is more. Raises SpoolError."""
        if self._lost_place:
            self._resume()
        if self._set is not None:
            marks = self._set.refresh(self._spool.positions)
            if marks:
                self._spool.mark(marks)
        more = False
        for source in self._sources:
            more |= self._read(source)
        self._spool.sync()
        if self._trouble.over("spool"):
            log.info("the spool takes logs again")
        return more

    def _read(self, source: Source) -> bool:
        """Read a source until it has nothing more, or COMMIT_BYTES; whether there is more."""
        size = 0
        while size < COMMIT_BYTES:
            waits = self._set.waits(source) if self._set is not None else source.waits
            mode = CALM
            if self._ladder is not None:
                mode = self._ladder.mode(source.name, self._spools.used(self._stream), waits=waits)
            if not self._room():
                if waits:
                    return False
                keep = self._errors_stream is not None and self._spools.has_room(
                    self._errors_stream, ROOM, gently=False
                )
                mode = Mode(mode.collapse, ERROR + 1 if keep else 0)
            dropped = source.counts.dropped
            batch = source.read(mode)
            self.shed += source.counts.dropped - dropped
            size += self._append(source, batch)
            if self._ladder is not None:
                self._ladder.took(source.name, batch.raw)
                self._tell(source)
            if not batch.more:
                return False
        return True

    def _tell(self, source: Source) -> None:
        """Say, at most once a minute, what was collapsed or dropped of a source."""
        counts = source.counts
        if not (counts.folded or counts.dropped):
            return
        now = time.monotonic()
        at, before = self._said.get(source.name, (-60.0, Counts()))
        dropped, folded = counts.dropped - before.dropped, counts.folded - before.folded
        if now - at < 60.0 or not (dropped or folded):
            return
        self._said[source.name] = (now, replace(counts))
        if dropped > 0:
            log.error(
                "%s: the spool is nearly full: %d lines were dropped, the lowest levels first", source.name, dropped
            )
        if folded > 0:
            log.warning(
                "%s: a surge: %d lines were collapsed into %d events with a count",
                *(source.name, folded, counts.folds - before.folds),
            )

    def _append(self, source: Source, batch: Batch) -> int:
        positions = {} if batch.position is None else {source.name: batch.position}
        lines = batch.lines
        try:
            if self._errors is not None and batch.urgent:
                urgent = set(batch.urgent)
                self._append_errors(self._errors, source, batch)
                lines = [line for i, line in enumerate(lines) if i not in urgent]
                positions[PLACE] = self._place(self._errors)
            if lines:
                self._spool.append(lines, dataset=source.dataset, tmin=batch.tmin, tmax=batch.tmax, positions=positions)
            elif positions:
                self._spool.mark(positions)
        except SpoolError:
            self._lost_place = True
            raise
        return sum(map(len, batch.lines))

    def _append_errors(self, spool: Spool, source: Source, batch: Batch) -> None:
        """Bring the errors of a batch to disk, but for those that are there already."""
        ahead = self._ahead.pop(source.name, 0)
        if self._before is not None and source.name in self._before:
            self._before.discard(source.name)
            ahead = ahead if source.rereads else 0
        there = min(ahead, len(batch.urgent))
        if ahead > there:
            self._ahead[source.name] = ahead - there
        lines = [batch.lines[i] for i in batch.urgent[there:]]
        if not lines:
            return
        self._spool.sync()
        spool.append(lines, dataset=source.dataset, tmin=batch.tmin, tmax=batch.tmax, positions={"source": source.name})
        spool.sync()

    def _place(self, spool: Spool) -> list[Any]:
        return [spool.epoch, spool.next_seq, dict(self._ahead)]

    def _resume(self) -> None:
        positions = self._spool.positions
        fresh = {} if self._set is None else self._set.resume(positions)
        if self._errors is not None:
            self._errors.sync()  # what is ahead must be there for good before it is left out
            epoch, seq, ahead = positions.get(PLACE) or ("", 0, {})
            self._ahead = {}
            if epoch != self._errors.epoch:  # the first time, or the stream of errors is a new one
                fresh[PLACE] = self._place(self._errors)
            else:
                self._ahead = dict(ahead)
                if self._errors.next_seq > seq:
                    name = self._errors.positions["source"]
                    self._ahead[name] = self._ahead.get(name, 0) + self._errors.next_seq - seq
                    fresh[PLACE] = self._place(self._errors)  # before another source's errors come behind them
            if self._before is None:
                self._before = set(self._ahead)
        for source in self._own:
            position = source.resume(positions.get(source.name))
            if source.name not in positions and position is not None:
                fresh[source.name] = position
        if fresh:
            self._spool.mark(fresh)
        self._lost_place = False

    def _room(self) -> bool:
        room = self._spools.has_room(self._stream, ROOM)
        if room == self._waiting:
            self._waiting = not room
            if room:
                log.warning("the spool has room again: logs are read on")
            else:
                log.warning(
                    "the spool is at its cap of %d bytes: logs wait; of what cannot wait only errors are kept",
                    self._spools.cap_bytes,
                )
        return room
