"""Reading the newest figures of hosts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ezadmin_cmdb.elastic import Elastic
from ezadmin_cmdb.metrics.fields import HOST_DATASET, datasets
from ezadmin_wire.names import Names
from ezadmin_wire.times import parse_time

ITEMS_MAX = 2000
"""Documents of one tick: cores, file systems, disks and network interfaces of a host together."""
FIELDS_MAX = 100
"""Elasticsearch gives no more doc values in one search (``index.max_docvalue_fields_search``)."""
LIVE = "now-5m"
CPU = "system.cpu.total.norm.pct"
MEMORY = "system.memory.actual.used.pct"


@dataclass(frozen=True)
class Item:
    """One document: ``dimensions`` say of what (a disk, a core; empty for the host itself), ``values`` by field."""

    dimensions: dict[str, str]
    values: dict[str, Any]


@dataclass(frozen=True)
class Latest:
    """The newest tick of a dataset."""

    dataset: str
    time: datetime
    items: list[Item] = field(default_factory=list)


def latest(elastic: Elastic, names: Names, host_id: str) -> list[Latest]:
    """The newest figures of every dataset of a host, in the agent's order. Raises ElasticUnavailable."""
    newest = _newest_ticks(elastic, names, host_id)
    if not newest:
        return []
    questions = [(dataset, fields) for dataset in newest for fields in _chunks(list(datasets()[dataset]))]
    answers = elastic.searches(
        f"{names.prefix}-metrics-*",
        [
            {
                "size": ITEMS_MAX,
                "_source": False,
                "track_total_hits": False,
                "query": {
                    "bool": {
                        "filter": [
                            {"term": {"host.id": host_id}},
                            {"term": {"event.dataset": dataset}},
                            {"term": {"@timestamp": newest[dataset]}},
                        ]
                    }
                },
                "docvalue_fields": fields,
            }
            for dataset, fields in questions
        ],
    )
    documents: dict[tuple[str, str], dict[str, Any]] = {}
    for (dataset, _), answer in zip(questions, answers, strict=True):
        for hit in answer["hits"]["hits"]:
            values = {name: values[0] for name, values in hit.get("fields", {}).items()}
            documents.setdefault((dataset, hit["_id"]), {}).update(values)
    found: dict[str, list[Item]] = {}
    for (dataset, _), values in documents.items():
        found.setdefault(dataset, []).append(_item(dataset, values))
    order = list(datasets())
    return [
        Latest(dataset, parse_time(newest[dataset]), sorted(found.get(dataset, []), key=_natural))
        for dataset in sorted(newest, key=order.index)
    ]


def _chunks(fields: list[str]) -> list[list[str]]:
    return [fields[start : start + FIELDS_MAX] for start in range(0, len(fields), FIELDS_MAX)]


def _newest_ticks(elastic: Elastic, names: Names, host_id: str) -> dict[str, str]:
    answer = elastic.search(
        f"{names.prefix}-metrics-*",
        {
            "size": 0,
            "query": {"bool": {"filter": [{"term": {"host.id": host_id}}]}},
            "aggs": {
                "datasets": {
                    "terms": {"field": "event.dataset", "size": 100},
                    "aggs": {"newest": {"max": {"field": "@timestamp"}}},
                }
            },
        },
    )
    buckets = answer.get("aggregations", {}).get("datasets", {}).get("buckets", [])
    return {bucket["key"]: bucket["newest"]["value_as_string"] for bucket in buckets if bucket["key"] in datasets()}


def _item(dataset: str, values: dict[str, Any]) -> Item:
    fields = datasets()[dataset]
    dimensions = {name: str(value) for name, value in values.items() if fields[name].dimension}
    rest = {
        name: parse_time(values[name]) if fields[name].kind == "date" else values[name]
        for name in fields
        if name in values and name not in dimensions
    }
    return Item(dimensions, rest)


def _natural(item: Item) -> list[tuple[int, int, str]]:
    """Core 10 stands after core 9."""
    return [(0, int(text), "") if text.isdigit() else (1, 0, text) for text in item.dimensions.values()]


@dataclass(frozen=True)
class Pulse:
    """What a list shows of a host: shares of CPU and memory in use, and the tick that they are of."""

    time: datetime
    cpu: float | None
    memory: float | None


def pulses(elastic: Elastic, names: Names, host_ids: Sequence[str]) -> dict[str, Pulse]:
    """The newest figures of those hosts that sent some within the last minutes. Raises ElasticUnavailable."""
    if not host_ids:
        return {}
    answer = elastic.search(
        f"{names.prefix}-metrics-*",
        {
            "size": 0,
            "query": {
                "bool": {
                    "filter": [
                        {"terms": {"host.id": list(host_ids)}},
                        {"term": {"event.dataset": HOST_DATASET}},
                        {"range": {"@timestamp": {"gte": LIVE}}},
                    ]
                }
            },
            "aggs": {
                "hosts": {
                    "terms": {"field": "host.id", "size": len(host_ids)},
                    "aggs": {
                        "newest": {
                            "top_hits": {
                                "size": 1,
                                "sort": [{"@timestamp": "desc"}],
                                "_source": False,
                                "docvalue_fields": ["@timestamp", CPU, MEMORY],
                            }
                        }
                    },
                }
            },
        },
    )
    found = {}
    for bucket in answer.get("aggregations", {}).get("hosts", {}).get("buckets", []):
        values = {name: value[0] for name, value in bucket["newest"]["hits"]["hits"][0]["fields"].items()}
        found[bucket["key"]] = Pulse(parse_time(values["@timestamp"]), values.get(CPU), values.get(MEMORY))
    return found
