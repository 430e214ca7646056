"""What happened on a host, on one axis of time: events of its logs, alerts, and changes that people and agent made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flask_babel import gettext as _

from ezadmin_cmdb.changes import history
from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.elastic import Elastic
from ezadmin_cmdb.events import services as events
from ezadmin_cmdb.hosts.description import HOST
from ezadmin_wire.names import Names
from ezadmin_wire.times import format_time, parse_time

EVENT, ALERT, CHANGE = "event", "alert", "change"
SHOWN = 50
AROUND = timedelta(minutes=5)
FIELDS_SAID = 6


@dataclass(frozen=True)
class Happening:
    """Something that happened. ``level``: of an event its level, of an alert its state; ``source``: who wrote or did it."""

    time: datetime
    kind: str
    level: str
    source: str
    text: str
    dataset: str = ""

    @property
    def around(self) -> dict[str, str]:
        """The time before and after it, as addresses of searches say it."""
        return {"from": format_time(self.time - AROUND), "to": format_time(self.time + AROUND)}


def of_host(elastic: Elastic, names: Names, host_id: str, alerts: bool, logs: bool) -> list[Happening]:
    """The newest of what happened, the newest first: changes, and where asked for alerts and events. Raises ElasticUnavailable.

    Events are many where alerts are few: all that is not older than the oldest event shown is shown, and the rest up to SHOWN.
    """
    found = changes(host_id)
    if alerts:
        found += alerts_of(elastic, names, host_id)
    if logs:
        found += [
            Happening(one.time, EVENT, one.level, one.source or one.dataset, one.message, one.dataset)
            for one in events.recent(elastic, names, host_id, SHOWN)
        ]
    found.sort(key=lambda one: one.time, reverse=True)
    return _fair(found)


def _fair(found: Sequence[Happening]) -> list[Happening]:
    oldest = min((one.time for one in found if one.kind == EVENT), default=None)
    many = sum(one.kind == EVENT for one in found) >= SHOWN
    return [one for one in found if not many or oldest is None or one.time >= oldest]


def changes(host_id: str) -> list[Happening]:
    """The newest changes of the host's record."""
    return [_change(one) for one in history.of_object("host", host_id, size=SHOWN).items]


def _change(one: Change) -> Happening:
    labels = [HOST.label_of(name) for name in one.fields][:FIELDS_SAID]
    said = ", ".join(str(label) for label in labels) + (" …" if len(one.fields) > FIELDS_SAID else "")
    words = {"create": _("added"), "update": _("changed"), "delete": _("deleted")}
    return Happening(one.time, CHANGE, "", one.actor, f"{words.get(one.action, one.action)}: {said}")


def alerts_of(elastic: Elastic, names: Names, host_id: str) -> list[Happening]:
    """The newest changes of the state of its limits and surges. Raises ElasticUnavailable."""
    answer = elastic.search(
        f"{names.prefix}-alerts-*",
        {
            "size": SHOWN,
            "track_total_hits": False,
            "query": {"term": {"host.id": host_id}},
            "sort": [{"@timestamp": "desc"}],
            "_source": ["@timestamp", "alert.state", "rule.id", "message", "event.dataset"],
        },
    )
    return [_alert(hit["_source"]) for hit in answer["hits"]["hits"]]


def _alert(source: dict[str, Any]) -> Happening:
    return Happening(
        parse_time(source["@timestamp"]), ALERT, source.get("alert.state", "unknown"), source.get("rule.id", ""),
        source.get("message", ""), source.get("event.dataset", ""),
    )  # fmt: skip
