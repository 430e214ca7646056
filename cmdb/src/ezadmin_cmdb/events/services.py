"""Reading events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ezadmin_cmdb.elastic import Elastic
from ezadmin_wire.levels import UNKNOWN, known_level
from ezadmin_wire.names import Names
from ezadmin_wire.times import parse_time

LIMIT_MAX = 500
LISTS = ["system.processes"]
"""What an agent sends each minute as an event although nothing happened: the list of all processes."""


@dataclass(frozen=True)
class Event:
    """An event; ``level`` is one of :data:`ezadmin_wire.levels.LEVELS`, ``source`` who wrote it."""

    id: str
    time: datetime
    level: str
    dataset: str
    source: str
    message: str


def recent(elastic: Elastic, names: Names, host_id: str, limit: int) -> list[Event]:
    """The newest events of a host, the newest first; ``limit`` up to LIMIT_MAX. Raises ElasticUnavailable."""
    answer = elastic.search(
        f"{names.prefix}-logs-*",
        {
            "size": min(limit, LIMIT_MAX),
            "track_total_hits": False,
            "query": {
                "bool": {
                    "filter": [{"term": {"host.id": host_id}}],
                    "must_not": [{"terms": {"event.dataset": LISTS}}],
                }
            },
            "sort": [{"@timestamp": "desc"}],
            "_source": ["@timestamp", "log.level", "event.dataset", "process.name", "log.logger", "message"],
        },
    )
    return [_event(hit) for hit in answer["hits"]["hits"]]


def arrived(elastic: Elastic, names: Names, host_id: str, event_id: str) -> datetime | None:
    """When the pipeline indexed the event of a host with this id; None if it has not. Raises ElasticUnavailable."""
    answer = elastic.search(
        f"{names.prefix}-logs-*",
        {
            "size": 1,
            "track_total_hits": False,
            "query": {"bool": {"filter": [{"ids": {"values": [event_id]}}, {"term": {"host.id": host_id}}]}},
            "_source": ["event.ingested"],
        },
    )
    hits = answer["hits"]["hits"]
    return parse_time(hits[0]["_source"]["event.ingested"]) if hits else None


def _event(hit: dict[str, Any]) -> Event:
    source = hit["_source"]
    return Event(
        id=hit["_id"],
        time=parse_time(source["@timestamp"]),
        level=known_level(str(source.get("log.level", UNKNOWN))),
        dataset=str(source.get("event.dataset", "")),
        source=str(source.get("process.name") or source.get("log.logger") or ""),
        message=str(source.get("message", "")),
    )
