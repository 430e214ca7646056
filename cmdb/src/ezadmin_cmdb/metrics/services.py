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

DOCUMENTS_MAX = 5000
LOOK_BACK_SECONDS = 70
"""What leaves once a minute is never older than this."""
FIELDS_MAX = 90
"""Elasticsearch gives at most 100 doc values a hit (``index.max_docvalue_fields_search``); some are time and dimensions."""
LIVE = "now-5m"
CPU = "system.cpu.total.norm.pct"
MEMORY = "system.memory.actual.used.pct"


Dimensions = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Item:
    """One document: ``dimensions`` say of what (a disk, a core; empty for the host itself), ``values`` by field."""

    dimensions: dict[str, str]
    values: dict[str, Any]


@dataclass(frozen=True)
class Latest:
    """The newest figures of a dataset; ``time``: its newest tick, which says what items there are."""

    dataset: str
    time: datetime
    items: list[Item] = field(default_factory=list)


def latest(elastic: Elastic, names: Names, host_id: str) -> list[Latest]:
    """The newest figures of every dataset of a host, in the agent's order. Raises ElasticUnavailable.

    Of each item the newest value of each field: agents send what changes slowly only once a minute.
    """
    newest = _newest_ticks(elastic, names, host_id)
    questions = [(dataset, fields) for dataset in newest for fields in _chunks(list(datasets()[dataset]))]
    if not questions:
        return []
    answers = elastic.searches(
        f"{names.prefix}-metrics-*",
        [_question(host_id, dataset, newest[dataset], fields) for dataset, fields in questions],
    )
    found: dict[str, dict[Dimensions, Item]] = {dataset: {} for dataset in newest}
    for (dataset, _), answer in zip(questions, answers, strict=True):
        for hit in answer["hits"]["hits"]:  # the newest first
            _merge(found[dataset], dataset, parse_time(newest[dataset]), hit["fields"])
    order = list(datasets())
    return [
        Latest(dataset, parse_time(newest[dataset]), sorted(found[dataset].values(), key=_natural))
        for dataset in sorted(newest, key=order.index)
    ]


def _question(host_id: str, dataset: str, tick: str, fields: list[str]) -> dict[str, Any]:
    dimensions = [name for name, meaning in datasets()[dataset].items() if meaning.dimension]
    return {
        "size": DOCUMENTS_MAX,
        "_source": False,
        "track_total_hits": False,
        "query": {
            "bool": {
                "filter": [
                    {"term": {"host.id": host_id}},
                    {"term": {"event.dataset": dataset}},
                    {"range": {"@timestamp": {"gt": f"{tick}||-{LOOK_BACK_SECONDS}s", "lte": tick}}},
                ]
            }
        },
        "sort": [{"@timestamp": "desc"}],
        "docvalue_fields": ["@timestamp", *dict.fromkeys([*dimensions, *fields])],
    }


def _merge(items: dict[Dimensions, Item], dataset: str, tick: datetime, answered: dict[str, list[Any]]) -> None:
    """Take a document, newest first: an item is one of the newest tick, its values are completed by older documents."""
    fields = datasets()[dataset]
    dimensions = {
        name: str(answered[name][0]) for name, field in fields.items() if field.dimension and name in answered
    }
    key = tuple(dimensions.items())
    if parse_time(answered["@timestamp"][0]) == tick:
        items.setdefault(key, Item(dimensions, {}))
    elif key not in items:
        return
    for name, meaning in fields.items():
        if name in answered and name not in dimensions:
            values = [parse_time(value) if meaning.kind == "date" else value for value in answered[name]]
            items[key].values.setdefault(name, values[0] if len(values) == 1 else values)


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
