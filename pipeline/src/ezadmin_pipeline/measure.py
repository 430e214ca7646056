"""What a worker notes about its own work: plain numbers, read by ``/metrics`` and by its own documents.

The engine counts what it decides by itself; here stands what can be seen from outside of it: requests to Elasticsearch,
messages, commits, and how far behind the worker is.
"""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ezadmin_pipeline.elastic import Elastic, Unavailable

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the classes of durations, in seconds."""
TREND = 60.0
"""Seconds over which the pace of catching up is taken."""


class Durations:
    """How often something was done, and how long it took, by classes of :data:`BOUNDS`. Safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0
        self.last = 0.0

    def add(self, seconds: float) -> None:
        """Note one."""
        with self._lock:
            self._counts[bisect_left(BOUNDS, seconds)] += 1
            self.sum += seconds
            self.last = seconds

    @property
    def count(self) -> int:
        """How many."""
        return sum(self._counts)

    def cumulative(self) -> list[tuple[float, int]]:
        """Per upper bound, the last being infinite, how many took no longer."""
        total, found = 0, []
        with self._lock:
            for bound, count in zip((*BOUNDS, math.inf), self._counts, strict=True):
                total += count
                found.append((bound, total))
        return found


class MeasuredElastic:
    """:class:`ezadmin_pipeline.elastic.Elastic` that notes how its bulks fare."""

    def __init__(self, elastic: Elastic) -> None:
        self._elastic = elastic
        self.bulks = Durations()
        self.bulk_bytes = 0
        self.refused: Counter[int] = Counter()
        """Items of bulks by status, of those that were neither stored nor there already."""
        self.unanswered = 0

    def request(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> tuple[int, Any]:
        """See :class:`ezadmin_pipeline.elastic.Elastic`."""
        start = time.perf_counter()
        try:
            status, answer = self._elastic.request(method, path, params=params, body=body)
        except Unavailable:
            self.unanswered += 1
            raise
        if path.endswith("_bulk"):
            self.bulks.add(time.perf_counter() - start)
            self.bulk_bytes += len(body or b"")
            if status != 200:
                self.refused[status] += 1
            elif isinstance(answer, dict) and answer.get("errors"):
                statuses = (next(iter(item.values()))["status"] for item in answer["items"])
                self.refused.update(status for status in statuses if status >= 300 and status != 409)
        return status, answer


class Lag(NamedTuple):
    """How far behind a partition is: messages, and the age in seconds of the oldest that waits (None: not known yet)."""

    messages: int
    seconds: float | None


@dataclass
class _Place:
    offset: int
    written: float
    """When the last message that was read had been written, in seconds since 1970; 0 if none was read."""
    caught_up: float | None


class LagMeter:
    """How far behind the partitions of a worker are, and for how long still. Times in seconds since 1970."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, int], _Place] = {}
        self._history: deque[tuple[float, int]] = deque()
        self.lags: Mapping[tuple[str, int], Lag] = {}
        """By topic and partition; replaced, never changed."""
        self.catch_up: float = 0.0
        """Seconds until nothing waits, at the pace of the last minute; infinite while what waits does not get less."""

    def read(self, topic: str, partition: int, offset: int, written_ms: int) -> None:
        """The message before ``offset`` was read; ``written_ms``: its time in Kafka."""
        place = self._places.get((topic, partition))
        if place is None:
            self._places[topic, partition] = _Place(offset, written_ms / 1000, None)
        else:
            place.offset, place.written = offset, written_ms / 1000

    def update(self, places: Iterable[tuple[str, int, int, int]], now: float) -> None:
        """Take where each partition held stands: topic, number, next offset, end."""
        held = {}
        lags = {}
        for topic, partition, offset, end in places:
            place = self._places.get((topic, partition)) or _Place(offset, 0.0, None)
            held[topic, partition] = place
            waiting = max(0, end - offset)
            if waiting:
                since = max(place.written, place.caught_up or 0.0)
                lags[topic, partition] = Lag(waiting, max(0.0, now - since) if since else None)
            else:
                place.caught_up = now
                lags[topic, partition] = Lag(0, 0.0)
        same = held.keys() == self._places.keys()
        self._places = held
        self.lags = lags
        self._judge_pace(sum(lag.messages for lag in lags.values()), now, same)

    def _judge_pace(self, waiting: int, now: float, same: bool) -> None:
        history = self._history
        if not same:
            history.clear()
        history.append((now, waiting))
        while now - history[0][0] > TREND:
            history.popleft()
        self.catch_up = seconds_left(waiting, history[0][1] - waiting, now - history[0][0])


def seconds_left(waiting: float, fewer: float, seconds: float) -> float:
    """Until nothing waits, if ``fewer`` more were done than came in ``seconds``; infinite if that is none."""
    if not waiting:
        return 0.0
    return waiting * seconds / fewer if fewer > 0 and seconds > 0 else math.inf


class Measures:
    """All that a worker notes beside its engine."""

    def __init__(self, elastic: MeasuredElastic) -> None:
        self.elastic = elastic
        self.messages: Counter[str] = Counter()
        """Messages read, by topic."""
        self.bytes: Counter[str] = Counter()
        """Bytes of their values, by topic."""
        self.commits = Durations()
        self.lag = LagMeter()

    def read(self, message: Any) -> None:
        """Note a message that was read."""
        self.messages[message.topic] += 1
        self.bytes[message.topic] += len(message.value or b"")
        self.lag.read(message.topic, message.partition, message.offset + 1, message.timestamp)
