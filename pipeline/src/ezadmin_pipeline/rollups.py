"""Counts of events per interval, counted in the stream, where dropped and withheld events are still seen.

A key is (rollup, window, host or fleet, dataset, level, topic, partition): a pure function of the line as received.
Each partition counts for itself and Grafana sums, so no two owners ever write the same document.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from ezadmin_wire.names import Names

HOST_MINUTE = "logs-1m"
FLEET_MINUTE = "logs-fleet-1m"
FLEET_HOUR = "logs-fleet-1h"
ROLLUPS = (HOST_MINUTE, FLEET_MINUTE, FLEET_HOUR)


class Key(NamedTuple):
    """What one count is for. ``window`` is the start, ``YYYY-MM-DDTHH:MM``; ``host`` is empty for the fleet."""

    rollup: str
    window: str
    host: str
    dataset: str
    level: str


class Counts:
    """Values of a key. ``stored`` is what is left of ``seen``: see :meth:`fields`."""

    __slots__ = ("bytes", "dead", "ignored", "sampled", "seen")

    def __init__(self, seen: int = 0, ignored: int = 0, sampled: int = 0, dead: int = 0, bytes: int = 0) -> None:
        self.seen = seen
        self.ignored = ignored
        self.sampled = sampled
        self.dead = dead
        self.bytes = bytes

    def add(self, other: Counts) -> None:
        """Add ``other`` to this."""
        self.seen += other.seen
        self.ignored += other.ignored
        self.sampled += other.sampled
        self.dead += other.dead
        self.bytes += other.bytes

    def fields(self) -> dict[str, int]:
        """The fields of the rollup document."""
        return {
            "events.seen": self.seen,
            "events.stored": self.seen - self.ignored - self.sampled - self.dead,
            "events.ignored": self.ignored,
            "events.sampled": self.sampled,
            "events.dead": self.dead,
            "events.bytes": self.bytes,
        }

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Counts:
        """The reverse of :meth:`fields`."""
        return cls(
            fields["events.seen"],
            fields["events.ignored"],
            fields["events.sampled"],
            fields["events.dead"],
            fields["events.bytes"],
        )


Tally = dict[tuple[str, str], tuple[int, int]]
"""Number and bytes of lines per minute and level."""


def tally(tags: Sequence[tuple[str, str, bytes]]) -> Tally:
    """The tally of lines of which ``tags`` holds minute, level and the line itself."""
    return tally_columns(*zip(*tags, strict=True)) if tags else {}


def tally_columns(minutes: Sequence[str], levels: Sequence[str], lines: Sequence[bytes]) -> Tally:
    """As :func:`tally`, with the three in columns of the same length, which is not 0."""
    cells: Tally = {}
    start = 0
    for minute, length in _runs(minutes):
        stop = start + length
        run = levels[start:stop]
        counts = Counter(run)
        sizes = dict.fromkeys(counts, 0)
        for level, size in zip(run, map(len, lines[start:stop]), strict=True):
            sizes[level] += size
        for level, count in counts.items():
            before = cells.get((minute, level), (0, 0))
            cells[minute, level] = before[0] + count, before[1] + sizes[level]
        start = stop
    return cells


def levels_of(tally: Tally) -> dict[str, int]:
    """Lines per level."""
    levels: dict[str, int] = {}
    for (_, level), (count, _) in tally.items():
        levels[level] = levels.get(level, 0) + count
    return levels


def _runs(minutes: Sequence[str]) -> list[tuple[str, int]]:
    first = minutes[0]
    if minutes.count(first) == len(minutes):
        return [(first, len(minutes))]
    return [(minute, len(list(run))) for minute, run in groupby(minutes)]  # lines come in the order of time: few runs


def keys_of(minute: str, host: str, dataset: str, level: str) -> tuple[Key, Key, Key]:
    """The three keys that a line counts under; ``minute`` is ``YYYY-MM-DDTHH:MM``."""
    return (
        Key(HOST_MINUTE, minute, host, dataset, level),
        Key(FLEET_MINUTE, minute, "", dataset, level),
        Key(FLEET_HOUR, minute[:13] + ":00", "", dataset, level),
    )


def document_id(key: Key, topic: str, partition: int, extra: str = "") -> str:
    """The ``_id`` of a key's document; ``extra`` makes a second document of the same key."""
    text = "\n".join((*key, topic, str(partition), extra))
    return base64.urlsafe_b64encode(hashlib.blake2b(text.encode(), digest_size=15).digest()).decode()


def index_of(key: Key, names: Names) -> str:
    """The index that a key's document stands in."""
    return names.rollup_index(key.rollup, key.window)


def document(key: Key, counts: Counts, topic: str, partition: int, host: Mapping[str, Any]) -> dict[str, Any]:
    """The document of a key; ``host`` holds name and labels of the host at the time, for readers."""
    fields: dict[str, Any] = {
        "@timestamp": key.window + ":00.000Z",
        "rollup": key.rollup,
        "event.dataset": key.dataset,
        "log.level": key.level,
        "kafka.topic": topic,
        "kafka.partition": partition,
        **counts.fields(),
    }
    if key.host:
        fields["host.id"] = key.host
        fields.update(host)
    return fields
