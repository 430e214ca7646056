"""Which counts of the pipeline a histogram can be read from, and how: docs/contracts.md, "Counts"."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
_DAYS_NAMED = 10
"""Up to so many indices are named one by one."""


@dataclass(frozen=True)
class Part:
    """Parts of the time and what they are counted from; ``rollup`` None: the events themselves."""

    periods: tuple[Period, ...]
    rollup: Literal["logs-1m", "logs-fleet-1m", "logs-fleet-1h"] | None

    def pattern(self, names: Names, now: datetime) -> str:
        """The indices that have what is of these times."""
        start = min(one.start for one in self.periods)
        end = max(one.end for one in self.periods)
        if self.rollup is None:
            return indices(names.logs_index, f"{names.prefix}-logs-*", start, end, now)
        rollup = self.rollup
        whole = f"{names.prefix}-rollup-{rollup}-*"
        return indices(lambda day: names.rollup_index(rollup, day), whole, start, end, now)


def indices(name: Callable[[str], str], all_of_them: str, start: datetime, end: datetime, now: datetime) -> str:
    """The indices in which documents of a time may stand, separated by commas; ``all_of_them`` if they are many.

    ``name``: of the index of a day. A document whose index was closed when it came stands in that of the day when it came: so
    those of the later days count, too.
    """
    last = max(end, now)
    days = (last.date() - start.date()).days
    if days > _DAYS_NAMED * 31:
        return all_of_them
    found = dict.fromkeys(name((start + timedelta(days=n)).date().isoformat()) for n in range(days + 1))
    return ",".join(found) if len(found) <= _DAYS_NAMED else all_of_them


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
        return [Part((search.period,), None)]
    by_host = search.scope.ids is not None or any(
        known.ALIASES.get(one.field or "", one.field) == "host.id" for one in leaves(search.query)
    )
    first, last = _up(inner, _HOUR), _down(outer, _HOUR)
    found = [Part(_filled((start, inner), (outer, end)), None)]
    if by_host:
        found.append(Part(_filled((inner, outer)), "logs-1m"))
    elif seconds % _HOUR or first >= last:
        found.append(Part(_filled((inner, outer)), "logs-fleet-1m"))
    else:
        found.append(Part(_filled((inner, first), (last, outer)), "logs-fleet-1m"))
        found.append(Part(_filled((first, last)), "logs-fleet-1h"))
    return [one for one in found if one.periods]


def _filled(*periods: tuple[datetime, datetime]) -> tuple[Period, ...]:
    return tuple(Period(start, end) for start, end in periods if start < end)


def body(part: Part, condition: dict[str, Any], seconds: int) -> dict[str, Any]:
    """The search of a part's counts by time and level."""
    levels: dict[str, Any] = {"terms": {"field": "log.level", "size": 100, "missing": UNKNOWN}}
    if part.rollup is not None:
        levels = {"terms": {"field": "log.level", "size": 100}}
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
