"""Which counts of the pipeline a histogram can be read from, and how: docs/contracts.md, "Counts"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from ezadmin_cmdb.logsearch import fields as known
from ezadmin_cmdb.logsearch.query import Match, Node, leaves
from ezadmin_cmdb.logsearch.times import Period
from ezadmin_wire.levels import LEVELS, UNKNOWN, known_level
from ezadmin_wire.names import Names

if TYPE_CHECKING:
    from ezadmin_cmdb.logsearch.services import Search

LONG = timedelta(hours=6)
"""From so long on counts are read, if they can answer."""
SETTLED = timedelta(minutes=2)
"""Counts follow their events by seconds; of the last minutes the events are counted."""
_INTERVALS = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 7 * 86400, 28 * 86400,
)  # fmt: skip
_MINUTE, _HOUR = 60, 3600


@dataclass(frozen=True)
class Part:
    """A part of the time and what it is counted from; ``rollup`` None: the events themselves."""

    period: Period
    rollup: Literal["logs-1m", "logs-fleet-1m", "logs-fleet-1h"] | None

    def pattern(self, names: Names) -> str:
        """The indices."""
        return f"{names.prefix}-logs-*" if self.rollup is None else f"{names.prefix}-rollup-{self.rollup}-*"


def interval(period: Period, buckets: int) -> int:
    """Seconds of a bucket, so that there are at most ``buckets`` (or one more, as the first is cut)."""
    least = period.length.total_seconds() / max(1, buckets)
    return next((one for one in _INTERVALS if one >= least), _INTERVALS[-1])


def answerable(query: Node | None) -> bool:
    """Whether counts know all that a query asks: levels, datasets and hosts by id.

    An event without a level, or with one that is none, counts as ``unknown``: such values only the events can tell.
    """
    for leaf in leaves(query):
        name = known.ALIASES.get(leaf.field or "", leaf.field)
        if name == "log.level":
            told = leaf.value.text in LEVELS and leaf.value.text != UNKNOWN if not hasattr(leaf, "low") else False
            if not told:
                return False
        elif name not in ("event.dataset", "host.id") or not isinstance(leaf, Match):
            return False
    return True


def parts(search: Search, seconds: int) -> list[Part]:
    """The time in parts: the events of the edges, minutes within, and whole hours where the buckets allow."""
    start, end = search.period.start, search.period.end
    inner, outer = _up(start, _MINUTE), _down(min(end, search.now - SETTLED), _MINUTE)
    if inner >= outer:
        return [Part(search.period, None)]
    by_host = search.scope.ids is not None or any(
        known.ALIASES.get(one.field or "", one.field) == "host.id" for one in leaves(search.query)
    )
    minutes: Literal["logs-1m", "logs-fleet-1m"] = "logs-1m" if by_host else "logs-fleet-1m"
    first, last = _up(inner, _HOUR), _down(outer, _HOUR)
    found = [Part(Period(start, inner), None)]
    if by_host or seconds % _HOUR or first >= last:
        found.append(Part(Period(inner, outer), minutes))
    else:
        found += [
            Part(Period(inner, first), minutes),
            Part(Period(first, last), "logs-fleet-1h"),
            Part(Period(last, outer), minutes),
        ]
    found.append(Part(Period(outer, end), None))
    return [one for one in found if one.period.start < one.period.end]


def body(part: Part, condition: dict[str, Any], seconds: int) -> dict[str, Any]:
    """The search of a part's counts by time and level."""
    levels: dict[str, Any] = {"terms": {"field": "log.level", "size": 100, "missing": UNKNOWN}}
    if part.rollup is not None:
        levels["aggs"] = {"stored": {"sum": {"field": "events.stored"}}}
    return {
        "size": 0,
        "track_total_hits": False,
        "query": condition,
        "aggs": {
            "times": {
                "date_histogram": {"field": "@timestamp", "fixed_interval": f"{seconds}s", "min_doc_count": 1},
                "aggs": {"levels": levels},
            }
        },
    }


def sums(answers: Iterable[tuple[Part, Mapping[str, Any]]]) -> dict[int, dict[str, int]]:
    """Events by bucket (seconds since 1970) and level, of all parts."""
    found: dict[int, dict[str, int]] = {}
    for part, answer in answers:
        for bucket in answer.get("aggregations", {}).get("times", {}).get("buckets", ()):
            counts = found.setdefault(int(bucket["key"]) // 1000, {})
            for one in bucket["levels"]["buckets"]:
                level = known_level(one["key"])
                number = one["doc_count"] if part.rollup is None else int(one["stored"]["value"])
                if number:
                    counts[level] = counts.get(level, 0) + number
            rest = bucket["levels"]["sum_other_doc_count"]
            if rest:
                counts[UNKNOWN] = counts.get(UNKNOWN, 0) + rest
    return found


def _down(moment: datetime, seconds: int) -> datetime:
    return datetime.fromtimestamp(int(moment.timestamp()) // seconds * seconds, UTC)


def _up(moment: datetime, seconds: int) -> datetime:
    down = _down(moment, seconds)
    return down if down == moment else down + timedelta(seconds=seconds)
