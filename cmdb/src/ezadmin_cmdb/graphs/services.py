"""How a figure was on hosts, in as few points as a screen has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
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
    """``step``: seconds between two points; ``cut``: hosts that have more items than are shown."""

    step: int
    lines: list[Line]
    cut: list[str]


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
    """How ``field`` was on the hosts, of the items that match the pattern ``item``. Raises ElasticUnavailable."""
    of_items = ITEM_FIELDS.get(field.dataset, ())
    items = 1 if not of_items else ITEMS_MAX
    step = step_of((until - since).total_seconds(), len(host_ids) * items)
    if not host_ids:
        return History(step, [], [])
    times: dict[str, Any] = {
        "times": {
            "date_histogram": {"field": "@timestamp", "fixed_interval": f"{step}s", "min_doc_count": 1},
            "aggs": {"figure": {"stats": {"field": field.name}}},
        }
    }
    inner = times
    if len(of_items) == 1:
        inner = {"items": {"terms": {"field": of_items[0], "size": items}, "aggs": times}}
    elif of_items:
        by = {"terms": [{"field": one} for one in of_items], "size": items}
        inner = {"items": {"multi_terms": by, "aggs": times}}
    conditions: list[dict[str, Any]] = [
        {"terms": {"host.id": list(host_ids)}},
        {"term": {"event.dataset": field.dataset}},
        {"exists": {"field": field.name}},
        {"range": {"@timestamp": {"gte": format_time(since), "lte": format_time(until)}}},
    ]
    if of_items and item not in ("", "*"):
        begin, more, _rest = item.partition("[")  # as a process is called: name[pid]
        conditions.append({"wildcard": {of_items[0]: {"value": begin + ("*" if more else "")}}})
    answer = elastic.search(
        f"{names.prefix}-metrics-*",
        {
            "size": 0,
            "query": {"bool": {"filter": conditions}},
            "aggs": {"hosts": {"terms": {"field": "host.id", "size": len(host_ids)}, "aggs": inner}},
        },
    )
    lines: list[Line] = []
    cut: list[str] = []
    for host in answer.get("aggregations", {}).get("hosts", {}).get("buckets", []):
        found = [host] if not of_items else host["items"]["buckets"]
        if of_items and host["items"].get("sum_other_doc_count"):
            cut.append(host["key"])
        for one in found:
            values = () if not of_items else tuple(one["key"] if isinstance(one["key"], list) else [one["key"]])
            name = item_name(field.dataset, values)
            if of_items and not fnmatchcase(name, item or "*"):
                continue
            points = [_point(bucket) for bucket in one["times"]["buckets"] if bucket["figure"]["count"]]
            lines.append(Line(host["key"], name, points))
    return History(step, sorted(lines, key=lambda line: (list(host_ids).index(line.host), line.item)), cut)


def _point(bucket: dict[str, Any]) -> Point:
    figure = bucket["figure"]
    return int(bucket["key"]), figure["min"], figure["avg"], figure["max"]
