"""Which fields events have and of what type: those of our own template, and those that an installation added."""

from __future__ import annotations

import difflib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ezadmin_cmdb.elastic import Elastic
from ezadmin_wire.names import Names

KEYWORD, TEXT, DATE, NUMBER, BOOLEAN, IP, FLATTENED = "keyword", "text", "date", "number", "boolean", "ip", "flattened"
_WHOLE = {"long": 63, "integer": 31, "short": 15, "byte": 7, "unsigned_long": 64}
"""Types of whole numbers, and how many bits they have beside the sign."""
_FRACTIONS = {"double": 1e308, "float": 3e38, "half_float": 65504.0, "scaled_float": 9e15}
"""Other types of numbers, and how large they are at most."""
_SECONDS = 60.0
"""So long the fields that Elasticsearch named are believed."""
ALIASES = {
    "level": "log.level",
    "host": "host.name",
    "dataset": "event.dataset",
    "file": "log.file.path",
    "logger": "log.logger",
    "program": "process.name",
    "user": "user.name",
}
"""Short names of the fields that are asked for most."""


@dataclass(frozen=True)
class LogField:
    """A field. ``type``: keyword, text, date, number, boolean, ip or flattened (which has fields of any name within).

    ``searchable`` False: it is only shown. ``whole``: numbers without fraction; ``limit``: numbers are below it, either way.
    """

    name: str
    type: str
    searchable: bool = True
    whole: bool = False
    limit: float = 0

    @property
    def countable(self) -> bool:
        """Whether its values can be counted (``top_values``) and sorted."""
        return self.searchable and self.type != TEXT


Fields = Mapping[str, LogField]


def of_mapping(properties: Mapping[str, Mapping[str, Any]]) -> dict[str, LogField]:
    """The fields of a template's ``properties``."""
    found = (_field(name, str(one["type"]), one.get("index", True)) for name, one in properties.items())
    return {one.name: one for one in found if one is not None}


def _field(name: str, kind: str, searchable: bool) -> LogField | None:
    if kind in _WHOLE:
        return LogField(name, NUMBER, searchable, True, 1 << _WHOLE[kind])
    if kind in _FRACTIONS:
        return LogField(name, NUMBER, searchable, False, _FRACTIONS[kind])
    kind = {"date_nanos": DATE, "constant_keyword": KEYWORD, "wildcard": KEYWORD, "match_only_text": TEXT}.get(
        kind, kind
    )
    return LogField(name, kind, searchable) if kind in (KEYWORD, TEXT, DATE, BOOLEAN, IP, FLATTENED) else None


def find(fields: Fields, name: str) -> LogField | None:
    """The field of this name or short name, also one within a flattened field (type keyword); None if there is none."""
    name = ALIASES.get(name, name)
    if name in fields:
        return fields[name]
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        root = fields.get(".".join(parts[:end]))
        if root is not None and root.type == FLATTENED and all(parts[end:]):
            return LogField(name, FLATTENED, root.searchable)
    return None


def nearest(fields: Fields, name: str) -> list[str]:
    """Names that may have been meant, the nearest first, at most 3."""
    lower = name.lower()
    ends = [one for one in fields if one.rpartition(".")[2] == lower or one.startswith(lower + ".")]
    close = difflib.get_close_matches(lower, [*fields, *ALIASES], 3, 0.6)
    return list(dict.fromkeys([*(ALIASES.get(one, one) for one in close), *sorted(ends)]))[:3]


class Registry:
    """Asks Elasticsearch which fields the indices have, once a minute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, dict[str, LogField]]] = {}

    def of(self, elastic: Elastic, names: Names) -> dict[str, LogField]:
        """All fields of the indices of events. Raises ElasticUnavailable."""
        pattern = f"{names.prefix}-logs-*"
        with self._lock:
            until, found = self._known.get(pattern, (0.0, {}))
        if time.monotonic() < until:
            return found
        found = _asked(elastic, pattern)
        with self._lock:
            self._known[pattern] = (time.monotonic() + _SECONDS if found else 0.0, found)
        return found


registry = Registry()


def _asked(elastic: Elastic, pattern: str) -> dict[str, LogField]:
    found = dict(KNOWN)
    for name, kinds in elastic.field_types(pattern).items():
        kind, searchable = next(iter(kinds.items()))
        one = None if len(kinds) > 1 or name.startswith("_") else _field(name, kind, searchable)
        if one is not None:
            found[name] = one
    return found


def _known() -> dict[str, LogField]:
    names = {
        "keyword": """host.id host.name event.dataset event.original_timestamp event.edited_by event.edited_letter event.kind
            event.category event.type event.action event.outcome event.code event.provider log.level log.logger log.file.path
            log.pattern.hash log.syslog.facility.name log.syslog.severity.name log.syslog.hostname log.syslog.appname
            log.syslog.procid log.syslog.msgid log.syslog.version process.name process.thread.name service.name user.name
            error.type url.path ezadmin.command.id ezadmin.command.run ezadmin.command.kind ezadmin.command.state
            ezadmin.command.reason ezadmin.command.actor ezadmin.command.digest ezadmin.chain.hash ezadmin.chain.previous
            tags""",
        "date": "@timestamp event.created event.ingested event.edited_at event.start event.end",
        "long": "event.count log.offset process.pid system.processes.count ezadmin.chain.number",
        "integer": """event.sample_rate log.syslog.priority log.syslog.facility.code log.syslog.severity.code
            http.response.status_code ezadmin.command.attempt""",
        "text": "message error.message",
        "boolean": "log.truncated system.processes.complete",
        "ip": "source.ip client.ip",
        "flattened": "labels log.syslog.structured_data fields unmapped",
    }
    found = of_mapping({name: {"type": kind} for kind, text in names.items() for name in text.split()})
    shown = of_mapping(
        {name: {"type": "text", "index": False} for name in ("error.stack_trace", "system.processes.list")}
    )
    return found | shown


KNOWN = _known()
"""The fields of es/templates/logs.json (a test compares them): known also before there is an index."""
