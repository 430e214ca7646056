"""How a figure was on hosts, in as few points as a screen has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from flask_babel import gettext as _

from ezadmin_cmdb.elastic import Elastic
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.metrics.fields import Field, datasets
from ezadmin_wire.limits import ITEM_FIELDS, item_name
from ezadmin_wire.names import Names
from ezadmin_wire.times import format_time

HOSTS_MAX = 50
ITEMS_MAX = 20
"""Of one host; the busiest in points."""
POINTS = 400
"""Of one line at most."""
BUCKETS_MAX = 60_000
"""Of an answer: Elasticsearch gives up at 65,536."""
LONG = timedelta(days=3)
"""Longer times are read from what is kept by the hour, as far as that goes."""
HOUR = 3600
STEPS = (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 10_800, 43_200, 86_400)
DEFAULT = "system.cpu.total.norm.pct"

Point = tuple[int, float, float, float]
"""Begin (ms since 1970), least, mean and greatest value."""


@dataclass(frozen=True)
class Line:
    """A figure of one item of a host."""

    host: str
    item: str
    points: list[Point]


@dataclass(frozen=True)
class History:
    """``step``: seconds between two points; ``cut``: hosts that have more items than are shown; ``by_hour``: whether (but for
    the newest hours) it was read from what is kept by the hour."""

    step: int
    lines: list[Line]
    cut: list[str]
    by_hour: bool = False


def figure(name: str) -> Field:
    """The gauge of this name. Raises Invalid."""
    for fields in datasets().values():
        found = fields.get(name)
        if found is not None and found.kind == "gauge" and not found.dimension:
            return found
    raise Invalid(_("There is no figure %(name)s to draw.", name=name), "field")


def figures() -> dict[str, list[Field]]:
    """All that can be drawn, by dataset."""
    found = {
        dataset: [one for one in fields.values() if one.kind == "gauge" and not one.dimension]
        for dataset, fields in datasets().items()
    }
    return {dataset: fields for dataset, fields in found.items() if fields}


def step_of(seconds: float, lines: int) -> int:
    """Seconds between two points of a time of ``seconds`` with so many lines."""
    points = max(10, min(POINTS, BUCKETS_MAX // max(1, lines)))
    return next((step for step in STEPS if seconds / step <= points), STEPS[-1])


def history(
    elastic: Elastic, names: Names, host_ids: Sequence[str], field: Field, item: str, since: datetime, until: datetime
) -> History:
    """How ``field`` was on the hosts, of the items that match the pattern ``item``. Raises ElasticUnavailable.

    A long time is read from what is kept by the hour, and what is newer than that from the samples; a short one from the
    samples, and by the hour only where there are none any more.
    """
    items = ITEMS_MAX if field.dataset in ITEM_FIELDS else 1
    step = step_of((until - since).total_seconds(), len(host_ids) * items)
    long = until - since > LONG
    reading = _Reading(elastic, names, host_ids, field, item, max(step, HOUR) if long else step)
    if not host_ids:
        return reading.history(False)
    if not long:
        reading.samples(since, until)
        if reading.found:
            return reading.history(False)
        reading.step = max(step, HOUR)
    newest = reading.hours(since, until)
    if newest is not None:
        since = max(since, newest + timedelta(hours=1))
    if long and since < until:
        reading.samples(since, until)
    return reading.history(newest is not None)


class _Reading:
    """Gathers values from one or two kinds of indices; a step that both have a part of is one point."""

    def __init__(
        self, elastic: Elastic, names: Names, host_ids: Sequence[str], field: Field, item: str, step: int
    ) -> None:
        self._elastic, self._names, self._host_ids, self._field, self._item = elastic, names, host_ids, field, item
        self._of_items = ITEM_FIELDS.get(field.dataset, ())
        self._cut: set[str] = set()
        self.step = step
        self.found: dict[tuple[str, str], dict[int, _Sums]] = {}
        """By host and item, by the begin of the step."""

    def samples(self, since: datetime, until: datetime) -> None:
        """Read what the hosts sent."""
        name = self._field.name
        figure = {"figure": {"stats": {"field": name}}}
        within = {"gte": format_time(since), "lte": format_time(until)}
        answer = self._ask(f"{self._names.prefix}-metrics-*", name, within, figure)
        self._take(answer, lambda bucket: _Sums(*(bucket["figure"][one] for one in ("min", "max", "sum", "count"))))

    def hours(self, since: datetime, until: datetime) -> datetime | None:
        """Read what is kept by the hour; the newest hour, None if there is none."""
        name = self._field.name
        parts = (("min", "min"), ("max", "max"), ("sum", "sum"), ("count", "sum"))
        figure = {part: {how: {"field": f"{name}.{part}"}} for part, how in parts}
        hour = since.replace(minute=0, second=0, microsecond=0)  # the one in which it begins stands at its begin
        within = {"gte": format_time(hour), "lt": format_time(until)}
        answer = self._ask(f"{self._names.prefix}-rollup-metrics-1h-*", f"{name}.count", within, figure)
        self._take(answer, lambda bucket: _Sums(*(bucket[part]["value"] or 0 for part, _how in parts)))
        newest = answer.get("aggregations", {}).get("newest", {}).get("value")
        return None if newest is None else datetime.fromtimestamp(newest / 1000, UTC)

    def history(self, by_hour: bool) -> History:
        """What was gathered."""
        place = {host: at for at, host in enumerate(self._host_ids)}
        lines = [
            Line(host, item, [(key, one.least, one.sum / one.count, one.most) for key, one in sorted(points.items())])
            for (host, item), points in self.found.items()
        ]
        lines.sort(key=lambda line: (place[line.host], line.item))
        return History(self.step, lines, sorted(self._cut), by_hour)

    def _ask(self, pattern: str, exists: str, within: dict[str, str], figure: dict[str, Any]) -> dict[str, Any]:
        histogram = {"field": "@timestamp", "fixed_interval": f"{self.step}s", "min_doc_count": 1}
        inner: dict[str, Any] = {"times": {"date_histogram": histogram, "aggs": figure}}
        if len(self._of_items) == 1:
            inner = {"items": {"terms": {"field": self._of_items[0], "size": ITEMS_MAX}, "aggs": inner}}
        elif self._of_items:
            by = {"terms": [{"field": one} for one in self._of_items], "size": ITEMS_MAX}
            inner = {"items": {"multi_terms": by, "aggs": inner}}
        conditions: list[dict[str, Any]] = [
            {"terms": {"host.id": list(self._host_ids)}},
            {"term": {"event.dataset": self._field.dataset}},
            {"exists": {"field": exists}},
            {"range": {"@timestamp": within}},
        ]
        if self._of_items and self._item not in ("", "*"):
            begin, more, _rest = self._item.partition("[")  # as a process is called: name[pid]
            conditions.append({"wildcard": {self._of_items[0]: {"value": begin + ("*" if more else "")}}})
        hosts = {"terms": {"field": "host.id", "size": len(self._host_ids)}, "aggs": inner}
        body = {
            "size": 0,
            "query": {"bool": {"filter": conditions}},
            "aggs": {"hosts": hosts, "newest": {"max": {"field": "@timestamp"}}},
        }
        return self._elastic.search(pattern, body)

    def _take(self, answer: dict[str, Any], sums: Callable[[dict[str, Any]], _Sums]) -> None:
        for host in answer.get("aggregations", {}).get("hosts", {}).get("buckets", []):
            found = host["items"]["buckets"] if self._of_items else [host]
            if self._of_items and host["items"].get("sum_other_doc_count"):
                self._cut.add(host["key"])
            for one in found:
                name = ""
                if self._of_items:
                    key = one["key"]
                    name = item_name(self._field.dataset, tuple(key if isinstance(key, list) else [key]))
                    if not fnmatchcase(name, self._item or "*"):
                        continue
                for bucket in one["times"]["buckets"]:
                    values = sums(bucket)
                    if values.count:
                        points = self.found.setdefault((host["key"], name), {})
                        at = int(bucket["key"])
                        points[at] = points[at] + values if at in points else values


@dataclass(frozen=True)
class _Sums:
    """The values of a step."""

    least: float
    most: float
    sum: float
    count: float

    def __add__(self, other: _Sums) -> _Sums:
        least, most = min(self.least, other.least), max(self.most, other.most)
        return _Sums(least, most, self.sum + other.sum, self.count + other.count)
