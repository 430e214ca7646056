"""The thread that reads all log sources into the spool: lines and positions in one frame, one fsync for many frames."""

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
from ezadmin_agent.spool import SpoolError, Spools

log = logging.getLogger(__name__)

PERIOD = 1.0
"""Seconds between two looks: a line leaves at most so much later than it was written."""
COMMIT_BYTES = 2 << 20
ROOM = 1 << 20


class LogReader(threading.Thread):
    """Reads ``sources`` into the stream ``stream`` until :meth:`stop`, by the rules of ``ladder``, if there is one.

    While the spool has no room, sources that wait are not read.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        spools: Spools,
        stream: str,
        *,
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
                mode = Mode(mode.collapse, 0)
            batch = source.read(mode)
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
        if not batch.lines:
            if batch.position is not None:
                self._spool.mark({source.name: batch.position})
            return 0
        positions = {} if batch.position is None else {source.name: batch.position}
        try:
            self._spool.append(
                batch.lines, dataset=source.dataset, tmin=batch.tmin, tmax=batch.tmax, positions=positions
            )
        except SpoolError:
            self._lost_place = True
            raise
        return sum(map(len, batch.lines))

    def _resume(self) -> None:
        positions = self._spool.positions
        fresh = {} if self._set is None else self._set.resume(positions)
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
                log.warning("the spool is at its cap of %d bytes: logs are not read", self._spools.cap_bytes)
        return room
