"""Ticks: run the collectors that are due, and give all their documents one time."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any, Optional

from ezadmin_agent.collectors import Collector, Document
from ezadmin_agent.reader import Reader
from ezadmin_wire.times import format_epoch_ms

log = logging.getLogger(__name__)


def tick_after(now_ms: int, last_ms: int, interval_ms: int) -> int:
    """The time of a tick at ``now_ms``: aligned to the interval, and always after ``last_ms``, the tick before.

    A clock that was set back gives 1 ms more each tick until it has caught up: none of them is lost or doubled.
    """
    return max(now_ms - now_ms % interval_ms, last_ms + 1)


class Ticker:
    """Runs ``collectors`` over ``reader`` and keeps what they want to see again. ``cost`` is the last run's ms by name."""

    def __init__(self, reader: Reader, collectors: Iterable[Collector]) -> None:
        self._reader = reader
        self._collectors = tuple(collectors)
        self._states: dict[str, Any] = {}
        self._ran: dict[str, float] = {}
        self._failed: dict[str, str] = {}
        self.cost: dict[str, float] = {}
        self.errors: dict[str, int] = {}

    def prime(self) -> None:
        """Read once without documents, so that the first tick has rates."""
        self._reader.begin_tick()
        for collector in self._collectors:
            self._collect(collector)

    def run(self, tick_ms: int) -> list[bytes]:
        """The lines of a tick: one host document first, then one per item, of all collectors that are due."""
        reader = self._reader
        reader.begin_tick()
        documents: dict[str, list[Document]] = {}
        for collector in self._collectors:
            now = reader.monotonic()
            ran = self._ran.get(collector.name)
            # a second of grace: a minute collector must not slip by a tick because the one before started late
            if ran is not None and now - ran < collector.seconds - 1:
                continue
            begin = time.thread_time()
            found = self._collect(collector)
            self.cost[collector.name] = round((time.thread_time() - begin) * 1000, 3)
            if found is None:
                continue
            self._ran[collector.name] = now
            if collector.dataset == "system.host":
                host = documents.setdefault(collector.dataset, [{}])
                for document in found:
                    host[0].update(document)
            else:
                documents.setdefault(collector.dataset, []).extend(found)
        common = {"@timestamp": format_epoch_ms(tick_ms)}
        created = format_epoch_ms(int(reader.time() * 1000))
        return [
            encode({**common, "event.dataset": dataset, "event.created": created, **document})
            for dataset, group in documents.items()
            for document in group
        ]

    def _collect(self, collector: Collector) -> Optional[list[Document]]:
        try:
            sample = collector.collect(self._reader, self._states.get(collector.name))
        except Exception as error:
            self.errors[collector.name] = self.errors.get(collector.name, 0) + 1
            text = f"{type(error).__name__}: {error}"
            if self._failed.get(collector.name) != text:
                self._failed[collector.name] = text
                log.warning("collector %s failed: %s", collector.name, text, exc_info=True)
            return None
        self._failed.pop(collector.name, None)
        self._states[collector.name] = sample.state
        return sample.documents


def choose(collectors: Sequence[Collector], names: Optional[str]) -> list[Collector]:
    """Those named in ``names`` (with commas), or all for None. Raises ValueError that lists the names there are."""
    if names is None:
        return list(collectors)
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    known = {collector.name: collector for collector in collectors}
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise ValueError(f"unknown collector: {', '.join(unknown) or '(none)'}; there are {', '.join(known)}")
    return [known[name] for name in wanted]


def encode(document: Document) -> bytes:
    """Compact JSON on one line."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
