"""Marks over the graphs: when a surge of events began and ended, when a figure became critical and was well again.

Plain JSON, for the builders know no field for the text. Grafana reads the documents themselves: alerts have their source.
"""

from __future__ import annotations

from typing import Any

from builder.host import ME
from builder.queries import ALERTS
from builder.scope import SCOPE

_KINDS = (
    ("Surges", "orange", "event.dataset:alert.surge"),
    (
        "Alerts",
        "red",
        "((event.dataset:alert.threshold AND alert.state:critical) OR (event.dataset:alert.no_data AND alert.state:unknown))",
    ),
)
_SHOWN = {"ezadmin-logs": ("Surges",), "ezadmin-host": ("Surges", "Alerts"), "ezadmin-compare": ("Alerts",)}
"""Which are shown at first; the others wait for a click on their switch."""


def of(uid: str, variables: set[str]) -> list[dict[str, Any]]:
    """The marks of a dashboard that has these variables; none for one without a choice of hosts."""
    hosts = ME if "host_id" in variables else SCOPE if "host" in variables else None
    if hosts is None:
        return []
    return [_mark(name, colour, f"{query} AND {hosts}", name in _SHOWN.get(uid, ())) for name, colour, query in _KINDS]


def _mark(name: str, colour: str, query: str, shown: bool) -> dict[str, Any]:
    source = {"type": "elasticsearch", "uid": ALERTS}
    target = {"query": query, "refId": "Anno"}
    # 9.4 reads the query from the annotation itself, later ones from its target
    where = {"query": query, "timeField": "@timestamp", "textField": "message"}
    return {
        "name": name,
        "enable": shown,
        "hide": False,
        "iconColor": colour,
        "datasource": source,
        "target": target,
        **where,
    }
