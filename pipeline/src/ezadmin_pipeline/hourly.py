"""Metrics by the hour: min, max, sum, mean and number of values of each figure that is worth it, for graphs over months.

Made of the documents in Elasticsearch, an hour at a time, once the hour is over. Every document is a pure function of the
hour's documents (name and labels: of what the cmdb says now) under an id made of what it is about, so an hour may be made again
and again, by two at once, or be broken off in the middle. Nothing is remembered: each hourly document says how many documents it
was made of, and an hour whose documents are more than the hourly ones were made of is made anew. So late data and a death halfway
are the same case.

An hour of which there are fewer documents than before is left as it is: an index that was dropped, and made anew by what
came late, must not overwrite what was known of it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import orjson

from ezadmin_pipeline import families
from ezadmin_pipeline.elastic import Elastic, SignInRefused, Unavailable, reason
from ezadmin_pipeline.families import Index
from ezadmin_pipeline.rounds import Rounds
from ezadmin_pipeline.settings import Settings
from ezadmin_wire.names import Names
from ezadmin_wire.times import format_time

_log = logging.getLogger(__name__)
ROLLUP = "metrics-1h"
GRACE = timedelta(minutes=10)
"""How long after its end an hour is taken to be over: what comes later costs a second making."""
FIRST_AFTER = 10.0
EVERY = 600.0
PAGE = 100
"""Series of a request: of hosts, with 80 figures each, 1 MB of answer and 2 MB of documents in the worker's memory."""
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Kept:
    """What is kept of a dataset: the fields that tell its items apart, and its figures."""

    dataset: str
    items: tuple[str, ...]
    figures: tuple[str, ...]


def kept() -> list[Kept]:
    """What is kept of each dataset: the fields that FIELDS tables mark, as the template was made of them."""
    template = json.loads(files("ezadmin_pipeline").joinpath("templates", "rollup-metrics.json").read_text())
    found = template["_meta"]["ezadmin"]["datasets"]
    return [Kept(name, tuple(entry["items"]), tuple(entry["figures"])) for name, entry in found.items()]


def identity(host: str, dataset: str, items: Sequence[str], hour: str) -> str:
    """The ``_id``: what the document is about, hashed."""
    parts = orjson.dumps([host, dataset, items, hour])
    return base64.urlsafe_b64encode(hashlib.sha256(parts).digest()[:15]).decode()


def document(
    what: Kept, bucket: Mapping[str, Any], hour: str, members: Callable[[str], Mapping[str, Any]]
) -> tuple[str, dict[str, Any]]:
    """Id and document of a bucket of :func:`query`; ``members`` gives name and labels of a host."""
    key = bucket["key"]
    host = str(key["host"])
    items = {field: str(key[field]) for field in what.items if key[field] is not None}
    made: dict[str, Any] = {
        "@timestamp": hour,
        "rollup": ROLLUP,
        "documents": bucket["doc_count"],
        "host.id": host,
        **members(host),
        "event.dataset": what.dataset,
        **items,
    }
    for number, figure in enumerate(what.figures):
        found = bucket[str(number)]
        if found["count"]:
            made |= {f"{figure}.{one}": found[one] for one in ("min", "max", "sum", "avg", "count")}
    return identity(host, what.dataset, [items.get(field, "") for field in what.items], hour), made


def query(what: Kept, hour: datetime, after: Mapping[str, Any] | None) -> dict[str, Any]:
    """The search for a page of the series of a dataset in an hour."""
    sources: list[dict[str, Any]] = [{"host": {"terms": {"field": "host.id"}}}]
    sources += [{field: {"terms": {"field": field, "missing_bucket": True}}} for field in what.items]
    pages: dict[str, Any] = {"size": PAGE, "sources": sources}
    if after is not None:
        pages["after"] = after
    figures = {str(number): {"stats": {"field": figure}} for number, figure in enumerate(what.figures)}
    wanted = [{"term": {"event.dataset": what.dataset}}, _within(hour, hour + HOUR)]
    return {
        "size": 0,
        "query": {"bool": {"filter": wanted}},
        "aggs": {"series": {"composite": pages, "aggs": figures}},
    }


def _within(start: datetime, end: datetime) -> dict[str, Any]:
    return {"range": {"@timestamp": {"gte": format_time(start), "lt": format_time(end)}}}


class Hourly(Rounds):
    """Makes what is missing, again and again; ``members`` gives name and labels of a host, ``now`` the current UTC time."""

    def __init__(
        self,
        settings: Settings,
        elastic: Elastic,
        members: Callable[[str], Mapping[str, Any]],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__("hourly-metrics", FIRST_AFTER, EVERY)
        self._names: Names = settings.names
        self._elastic = elastic
        self._members = members
        self._now = now
        self._kept = kept()
        self._looked: dict[str, tuple[int, datetime]] = {}
        """Days that are complete: how many documents there were, and up to when hours were over."""

    def round(self) -> None:
        """Make all that is missing; what goes wrong is logged, and tried again the next time."""
        try:
            for line in self.make():
                _log.info("metrics by the hour: %s", line)
        except (Unavailable, SignInRefused) as error:
            _log.error("no metrics by the hour now, tried again in %.0f min: %s", self.every / 60, error)

    def make(self) -> Iterator[str]:
        """Make all that is missing, the newest day first; yields a line for each hour made. Raises Unavailable,
        SignInRefused."""
        over = (self._now() - GRACE).replace(minute=0, second=0, microsecond=0)
        there = [index for index in families.there(self._elastic, self._names) if index.family.name == "metrics"]
        self._looked = {index.name: self._looked[index.name] for index in there if index.name in self._looked}
        for index in sorted(there, key=lambda one: one.period.start, reverse=True):
            state = (index.documents, min(over, index.period.end))
            if not index.documents or self._looked.get(index.name) == state:
                continue
            for hour in self._missing(index, state[1]):
                if self.stopping:
                    return
                yield self._make_hour(index, hour)
            if not self.stopping:
                self._looked[index.name] = state

    def _missing(self, index: Index, over: datetime) -> list[datetime]:
        """The hours of a day of which there are more documents than the hourly ones were made of."""
        raw = self._per_hour(index.name, None, over, index)
        target = self._names.rollup_index(ROLLUP, format_time(index.period.start))
        made = self._per_hour(target, "documents", over, index)
        return sorted((hour for hour, count in raw.items() if count > made.get(hour, 0)), reverse=True)

    def _per_hour(self, name: str, summed: str | None, over: datetime, index: Index) -> dict[datetime, int]:
        datasets = {"terms": {"event.dataset": [one.dataset for one in self._kept]}}
        hours: dict[str, Any] = {"date_histogram": {"field": "@timestamp", "fixed_interval": "1h", "min_doc_count": 1}}
        if summed:
            hours["aggs"] = {"sum": {"sum": {"field": summed}}}
        body = {
            "size": 0,
            "query": {"bool": {"filter": [datasets, _within(index.period.start, over)]}},
            "aggs": {"hours": hours},
        }
        params = {"ignore_unavailable": "true"}
        if summed:
            # what was written a moment ago counts
            self._elastic.request("POST", f"/{name}/_refresh", params=params)
        answer = families.ask(self._elastic, "POST", f"/{name}/_search", params, orjson.dumps(body))
        found = answer.get("aggregations", {}).get("hours", {}).get("buckets", [])
        return {
            datetime.fromtimestamp(bucket["key"] / 1000, UTC): int(
                bucket["sum"]["value"] if summed else bucket["doc_count"]
            )
            for bucket in found
        }

    def _make_hour(self, index: Index, hour: datetime) -> str:
        stamp = format_time(hour)
        target = self._names.rollup_index(ROLLUP, stamp)
        series = 0
        for what in self._kept:
            after: Mapping[str, Any] | None = None
            while not self.stopping:
                body = orjson.dumps(query(what, hour, after))
                # a day that was dropped in this moment has no series
                params = {"ignore_unavailable": "true"}
                answer = families.ask(self._elastic, "POST", f"/{index.name}/_search", params, body)
                page = answer.get("aggregations", {}).get("series", {})
                buckets = page.get("buckets", [])
                if buckets:
                    self._write(target, [document(what, bucket, stamp, self._members) for bucket in buckets])
                series += len(buckets)
                after = page.get("after_key")
                if after is None or len(buckets) < PAGE:
                    break
        return f"{stamp}: {series} series"

    def _write(self, target: str, documents: Sequence[tuple[str, dict[str, Any]]]) -> None:
        lines = bytearray()
        for name, made in documents:
            lines += orjson.dumps({"index": {"_index": target, "_id": name}}) + b"\n" + orjson.dumps(made) + b"\n"
        status, answer = self._elastic.request(
            "POST", "/_bulk", params={"filter_path": "errors,items.*.error"}, body=bytes(lines)
        )
        if status != 200:
            raise Unavailable(f"{target}: {status} {reason(answer)}")
        if answer.get("errors"):
            refused = next(one["index"]["error"] for one in answer["items"] if "error" in one.get("index", {}))
            raise Unavailable(f"{target} does not take a document: {refused.get('reason')}")
