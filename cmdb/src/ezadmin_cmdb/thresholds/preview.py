"""What a template would do before it is saved: which hosts get other limits, and what would be raised by the newest figures.

The change is made in a savepoint and taken back, so the answer is what saving does. The newest figures come with one request to
Elasticsearch, however many hosts there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.exc import IntegrityError

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.elastic import Elastic
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.rights.permissions import METRICS_VIEW
from ezadmin_cmdb.thresholds import services
from ezadmin_cmdb.thresholds.description import TEMPLATE
from ezadmin_cmdb.thresholds.inheritance import About, Candidate
from ezadmin_cmdb.thresholds.models import ThresholdTemplate
from ezadmin_cmdb.thresholds.places import Places
from ezadmin_wire.limits import ITEM_FIELDS, item_name
from ezadmin_wire.names import Names
from ezadmin_wire.trend import PIECES, Trend

HOSTS_AT_ONCE = 500
HOSTS_WITH_TRENDS = 40
ITEMS_MOST = 100
"""Items of a host that are looked at: with the hosts at once, and the pieces of a trend, it stays below what Elasticsearch
counts in one search."""
NEWEST = "now-150s"
"""What leaves once a minute is never older."""
SHOWN = 100


@dataclass
class Fires:
    """A figure that would be raised now. ``value``: with ``trend`` the hours until it is full."""

    host_id: str
    host: str
    field: str
    item: str
    value: float
    state: str
    trend: bool = False


@dataclass
class Preview:
    """``hosts``: names by ids of those that get other limits, those that the actor may see, ``changed``: how many in all;
    ``fires``: what of them would be raised now; ``trends``: limits on the time until something is full, among those changed."""

    changed: int
    hosts: dict[str, str]
    fires: list[Fires] = field(default_factory=list)
    trends: int = 0


def preview(
    actor: Actor, elastic: Elastic, names: Names, template_id: int | None, values: Mapping[str, Any]
) -> Preview:
    """What saving these values would do. Raises as saving does, and ElasticUnavailable."""
    before = _resolved(Places(db.session))
    savepoint = db.session.begin_nested()
    try:
        _write(actor, template_id, values)
        places = Places(db.session)
        services.check(places)
        after = _resolved(places)
    finally:
        savepoint.rollback()
        db.session.expire_all()
    changed: dict[str, list[Candidate]] = {}
    for host_id, limits in after.items():
        old = before.get(host_id, {})
        other = [one for about, one in limits.items() if about not in old or old[about].values != one.values]
        if other or old.keys() - limits.keys():
            changed[host_id] = other
    mine = hosts.visible(actor, METRICS_VIEW).with_only_columns(Host.id, Host.name).where(Host.id.in_(changed))
    seen = {row.id: row.name for row in db.session.execute(mine.order_by(Host.name))}
    trends = {one.limit_id for limits in changed.values() for one in limits if one.record.trend}
    found = Preview(len(changed), seen, trends=len(trends))
    found.fires = _fires(elastic, names, {host_id: changed[host_id] for host_id in seen}, seen)
    return found


def _write(actor: Actor, template_id: int | None, values: Mapping[str, Any]) -> None:
    """As saving writes it, without records of the change and of hosts."""
    rights.require(actor, TEMPLATE.change)
    new = template_id is None
    template: ThresholdTemplate = (
        ThresholdTemplate() if new else described.find_to_change(actor, TEMPLATE, template_id)
    )  # fmt: skip
    try:
        with db.session.begin_nested():
            described.assign(actor, TEMPLATE, template, values, new=new)
            db.session.add(template)
            db.session.flush()
    except IntegrityError as error:
        raise described.conflict(TEMPLATE, error) from error


def _resolved(places: Places) -> dict[str, dict[About, Candidate]]:
    return {
        host.host_id: {winner.about: winner for winner, _trace in places.resolved(host)[0]}
        for host in places.standings()
    }


def _fires(
    elastic: Elastic, names: Names, changed: Mapping[str, list[Candidate]], titles: Mapping[str, str]
) -> list[Fires]:
    wanted: dict[tuple[str, str, bool, int, float], dict[str, list[Candidate]]] = {}
    for host_id, limits in changed.items():
        for one in limits:
            record = one.record
            key = (record.dataset, record.field, record.rate, record.trend, record.full_at)
            wanted.setdefault(key, {}).setdefault(host_id, []).append(one)
    questions = []
    for key, by_host in wanted.items():
        dataset, figure, rate, trend, _full_at = key
        ids, several = sorted(by_host), HOSTS_WITH_TRENDS if trend else HOSTS_AT_ONCE
        for start in range(0, len(ids), several):
            body = _question(dataset, figure, ids[start : start + several], 2 if rate else 1, trend)
            questions.append((key, by_host, body))
    if not questions:
        return []
    found = []
    answers = elastic.searches(f"{names.prefix}-metrics-*", [body for *_rest, body in questions])
    for (key, by_host, _body), answer in zip(questions, answers, strict=True):
        dataset, figure, rate, trend, full_at = key
        for bucket in answer.get("aggregations", {}).get("hosts", {}).get("buckets", []):
            values = (
                _hours(dataset, figure, trend, full_at, bucket) if trend else _figures(dataset, figure, rate, bucket)
            )
            for item, value in values:
                for one in by_host.get(bucket["key"], ()):
                    state = _state(one, item, value)
                    if state is not None:
                        name = titles[bucket["key"]]
                        found.append(Fires(bucket["key"], name, figure, item, value, state, trend > 0))
    return sorted(found, key=lambda one: (one.state, one.host, one.field, one.item))


def _question(dataset: str, figure: str, host_ids: list[str], samples: int, trend: int) -> dict[str, Any]:
    names = ITEM_FIELDS.get(dataset, ())
    newest: dict[str, Any] = {
        "newest": {
            "top_hits": {
                "size": samples,
                "sort": [{"@timestamp": "desc"}],
                "_source": False,
                "docvalue_fields": [{"field": "@timestamp", "format": "epoch_millis"}, figure, *names],
            }
        }
    }
    if trend:  # pieces as long as those of the pipeline, with their means
        every = {"field": "@timestamp", "fixed_interval": f"{trend * 1000 // PIECES}ms", "min_doc_count": 1}
        newest["pieces"] = {"date_histogram": every, "aggs": {"mean": {"avg": {"field": figure}}}}
    if names:
        newest = {"items": {"terms": {"field": names[-1], "size": ITEMS_MOST}, "aggs": newest}}
    return {
        "size": 0,
        "query": {
            "bool": {
                "filter": [
                    {"terms": {"host.id": host_ids}},
                    {"term": {"event.dataset": dataset}},
                    {"range": {"@timestamp": {"gte": f"now-{trend}s" if trend else NEWEST}}},
                    {"exists": {"field": figure}},
                ]
            }
        },
        "aggs": {"hosts": {"terms": {"field": "host.id", "size": len(host_ids)}, "aggs": newest}},
    }


def _figures(dataset: str, figure: str, rate: bool, bucket: Mapping[str, Any]) -> list[tuple[str, float]]:
    names = ITEM_FIELDS.get(dataset, ())
    found = []
    for one in bucket["items"]["buckets"] if names else [bucket]:
        hits = [hit["fields"] for hit in one["newest"]["hits"]["hits"]]
        item = item_name(dataset, tuple(hits[0][name][0] for name in names))
        values = [float(hit[figure][0]) for hit in hits]
        if not rate:
            found.append((item, values[0]))
        elif len(hits) == 2:
            seconds = (int(hits[0]["@timestamp"][0]) - int(hits[1]["@timestamp"][0])) / 1000
            if seconds > 0:
                found.append((item, (values[0] - values[1]) / seconds))
    return found


def _hours(
    dataset: str, figure: str, trend: int, full_at: float, bucket: Mapping[str, Any]
) -> Iterator[tuple[str, float]]:
    """The hours until each item is full, by the pipeline's own line through the means of pieces; those of too few have none."""
    names = ITEM_FIELDS.get(dataset, ())
    for one in bucket["items"]["buckets"] if names else [bucket]:
        newest = one["newest"]["hits"]["hits"][0]["fields"]
        line = Trend()
        for piece in one["pieces"]["buckets"]:
            line.take(piece["key"] + trend * 500 // PIECES, piece["mean"]["value"], trend)
        hours = line.hours(int(newest["@timestamp"][0]), float(newest[figure][0]), full_at, trend)
        if hours is not None:
            yield item_name(dataset, tuple(newest[name][0] for name in names)), hours


def _state(one: Candidate, item: str, value: float) -> str | None:
    record = one.record
    if not wildcard(record.item)(item):
        return None
    sign = 1 if record.comparison == "above" else -1
    for state, limit in (("critical", record.critical_raise), ("warning", record.warning_raise)):
        if limit is not None and sign * value >= sign * limit:
            return state
    return None


def wildcard(pattern: str) -> Callable[[str], bool]:
    """Whether a text matches a pattern with * and ?, as the pipeline matches."""
    parts = {"*": ".*", "?": "."}
    expression = re.compile("".join(parts.get(char) or re.escape(char) for char in pattern), re.DOTALL)
    return lambda text: expression.fullmatch(text) is not None
