"""Ticks: run the collectors that are due, and give all their documents one time."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Optional

from ezadmin_agent.collectors import COUNTER_SECONDS, Collector, Document, Sample
from ezadmin_agent.collectors.own import Cost
from ezadmin_agent.reader import Reader
from ezadmin_wire.times import format_epoch_ms

log = logging.getLogger(__name__)


def tick_after(now_ms: int, last_ms: int, interval_ms: int) -> int:
    """The time of a tick at ``now_ms``: aligned to the interval, and always after ``last_ms``, the tick before.

    A clock that was set back gives 1 ms more each tick until it has caught up: none of them is lost or doubled.
    """
    return max(now_ms - now_ms % interval_ms, last_ms + 1)


class Tick(NamedTuple):
    """The lines of a tick, by topic; ``dataset`` of each event stands beside it."""

    metrics: list[bytes]
    events: list[tuple[str, bytes]]


class Ticker:
    """Runs ``collectors`` over ``reader`` and keeps what they want to see again.

    Several collectors can write into the same document: that of the host, or of one item (the same dimensions).
    Counters leave once a minute: their rates, which are made here, say the same between, and the digits of counters are
    most of what compression cannot shrink; so do the fields that collectors call slow (docs/decisions). ``costs``: what
    each collector has cost so far; ``stretch``: those that run so many times more rarely than they would.
    """

    def __init__(self, reader: Reader, collectors: Iterable[Collector]) -> None:
        self._reader = reader
        self._collectors = tuple(collectors)
        self._states: dict[str, Any] = {}
        self._ran: dict[str, float] = {}
        self._skipped: dict[str, int] = {}
        self._failed: dict[str, str] = {}
        self._slow = {f.name for c in self._collectors for f in c.fields if f.kind == "counter"}
        self._slow.update(name for c in self._collectors for name in c.slow)
        self._dimensions: dict[str, list[str]] = {}
        for collector in self._collectors:
            names = self._dimensions.setdefault(collector.dataset, [])
            names += [field.name for field in collector.fields if field.dimension]
        self._counted: Optional[float] = None
        self.cost: dict[str, float] = {}
        self.costs: dict[str, Cost] = {}
        self.stretch: Mapping[str, int] = {}

    @property
    def errors(self) -> dict[str, int]:
        """Failed runs of those collectors that had any."""
        return {name: cost.errors for name, cost in self.costs.items() if cost.errors}

    def prime(self) -> None:
        """Read once without documents, so that the first tick has rates."""
        self._reader.begin_tick()
        for collector in self._collectors:
            self._collect(collector)

    def run(self, tick_ms: int) -> Tick:
        """The lines of a tick: one host document first, then one per item, of all collectors that are due."""
        reader = self._reader
        reader.begin_tick()
        documents: dict[tuple[Any, ...], Document] = {}
        events: list[tuple[str, Document]] = []
        for collector in self._collectors:
            now = reader.monotonic()
            if not self._due(collector, now):
                continue
            found = self._collect(collector)
            if found is None:
                continue
            self._ran[collector.name] = now
            if collector.event:
                events += [(collector.dataset, document) for document in found]
                continue
            names = self._dimensions[collector.dataset]
            for document in found:
                documents.setdefault((collector.dataset, *(document[name] for name in names)), {}).update(document)
        if not self._counting(reader.monotonic()):
            slow = self._slow
            documents = {
                key: {name: value for name, value in document.items() if name not in slow}
                for key, document in documents.items()
            }
        common = {"@timestamp": format_epoch_ms(tick_ms)}
        created = format_epoch_ms(int(reader.time() * 1000))
        return Tick(
            [
                encode({**common, "event.dataset": key[0], "event.created": created, **document})
                for key, document in documents.items()
            ],
            [
                (dataset, encode({**common, "event.dataset": dataset, "event.created": created, **document}))
                for dataset, document in events
            ],
        )

    def _due(self, collector: Collector, now: float) -> bool:
        factor = self.stretch.get(collector.name, 1)
        if collector.seconds == 0:
            skipped = self._skipped.get(collector.name, 0) + 1
            self._skipped[collector.name] = 0 if skipped >= factor else skipped
            return skipped >= factor
        ran = self._ran.get(collector.name)
        # a second of grace: a minute collector must not slip by a tick because the one before started late
        return ran is None or now - ran >= collector.seconds * factor - 1

    def _counting(self, now: float) -> bool:
        if self._counted is not None and now - self._counted < COUNTER_SECONDS - 1:
            return False
        self._counted = now
        return True

    def _collect(self, collector: Collector) -> Optional[list[Document]]:
        name = collector.name
        begin, begin_cpu = time.monotonic(), time.thread_time()
        sample: Optional[Sample] = None
        try:
            sample = collector.collect(self._reader, self._states.get(name))
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            if self._failed.get(name) != text:
                self._failed[name] = text
                log.warning("collector %s failed: %s", name, text, exc_info=True)
        cpu_ms = (time.thread_time() - begin_cpu) * 1000
        self.cost[name] = round(cpu_ms, 3)
        old = self.costs.get(name, Cost())
        ms = (time.monotonic() - begin) * 1000
        self.costs[name] = Cost(old.runs + 1, old.ms + ms, old.cpu_ms + cpu_ms, old.errors + (sample is None))
        if sample is None:
            return None
        self._failed.pop(name, None)
        self._states[name] = sample.state
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
