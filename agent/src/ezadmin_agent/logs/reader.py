"""The thread that reads all log sources into the spool: lines and positions in one frame, one fsync for many frames."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from ezadmin_agent.log import Repeated
from ezadmin_agent.logs.source import Batch, Source
from ezadmin_agent.spool import SpoolError, Spools

log = logging.getLogger(__name__)

PERIOD = 1.0
"""Seconds between two looks: a line leaves at most so much later than it was written."""
COMMIT_BYTES = 2 << 20
ROOM = 1 << 20


class LogReader(threading.Thread):
    """Reads ``sources`` into the stream ``stream`` until :meth:`stop`. While the spool has no room, nothing is read."""

    def __init__(self, sources: Sequence[Source], spools: Spools, stream: str, *, period: float = PERIOD) -> None:
        super().__init__(name=f"logs-{stream}", daemon=True)
        self._sources = sources
        self._spools = spools
        self._stream = stream
        self._spool = spools[stream]
        self._period = period
        self._stopping = threading.Event()
        self._waiting = False
        self._lost_place = True  # the sources have to be told where they stand
        self._trouble = Repeated(log, logging.ERROR)

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

    def look(self) -> bool:
        """Read what there is, up to COMMIT_BYTES, and fsync it. Whether there is more. Raises SpoolError."""
        if self._lost_place:
            self._resume()
        size = 0
        more = False
        for source in self._sources:
            go_on = True
            while go_on and size < COMMIT_BYTES:
                if not self._room():
                    go_on = False
                    break
                batch = source.read()
                size += self._append(source, batch)
                go_on = batch.more
            more |= go_on
        self._spool.sync()
        if self._trouble.over("spool"):
            log.info("the spool takes logs again")
        return more

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
        fresh = {}
        for source in self._sources:
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
