"""What the address of the page of logs says, and what the page shows of an event."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode
from zoneinfo import ZoneInfo

from flask import url_for
from flask_babel import format_datetime
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from sqlalchemy import or_

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db
from ezadmin_cmdb.filters.services import Kind, offer
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.hosts.services import visible
from ezadmin_cmdb.logsearch import query as language
from ezadmin_cmdb.logsearch import services
from ezadmin_cmdb.logsearch.export import value_of
from ezadmin_cmdb.logsearch.query import And, Node, Not, QueryError
from ezadmin_cmdb.logsearch.services import Bucket, Health, Histogram, Hit, Search
from ezadmin_cmdb.web.formats import plain
from ezadmin_wire.times import format_time, parse_time

SINCE, UNTIL = "now-1h", "now"
COLUMNS = ("log.level", "host.name", "process.name", "message")
COLUMNS_MAX = 20
LINE_MAX = 600
"""Characters of a cell of the table."""
VALUE_MAX = 4000
"""Characters of a value on the page of an event, unless all are asked for."""
QUICK = {
    "now-15m": _l("Last 15 minutes"), "now-1h": _l("Last hour"), "now-6h": _l("Last 6 hours"),
    "now-24h": _l("Last 24 hours"), "now-7d": _l("Last 7 days"), "now-30d": _l("Last 30 days"),
}  # fmt: skip
_AROUND = timedelta(minutes=15)


@dataclass(frozen=True)
class Asked:
    """The state of the page, all of which stands in its address."""

    q: str = ""
    since: str = SINCE
    until: str = UNTIL
    columns: tuple[str, ...] = COLUMNS
    host: str = ""
    sort: Literal["asc", "desc"] = "desc"

    def address(self, **changed: Any) -> str:
        """The address of the page, with some of it changed; what is as usual is left out."""
        return f"{url_for('logs.search')}{self.query(**changed)}"

    def query(self, **changed: Any) -> str:
        """What stands behind the path: ``?q=…``."""
        one = replace(self, **changed)
        usual = {"from": SINCE, "to": UNTIL, "columns": ",".join(COLUMNS), "q": "", "host": "", "sort": "desc"}
        pairs = {
            "q": one.q, "from": one.since, "to": one.until, "columns": ",".join(one.columns), "host": one.host,
            "sort": one.sort,
        }  # fmt: skip
        given = {name: value for name, value in pairs.items() if value != usual[name]}
        return f"?{urlencode(given)}" if given else ""

    def with_condition(self, field: str, value: str, negate: bool = False) -> str:
        """The address of the same search, and that ``field`` has (or has not) this value."""
        added: Node = language.Match(field, language.Value((value,), True))
        return self.address(q=_joined(self.q, Not(added) if negate else added))

    def label(self) -> str:
        """The time that is searched, in words."""
        if self.until == UNTIL and self.since in QUICK:
            return str(QUICK[self.since])
        return f"{_shown_time(self.since)} – {_shown_time(self.until)}"


def asked(args: Mapping[str, str]) -> Asked:
    """The state that an address says; what cannot be used is left out."""
    columns = tuple(dict.fromkeys(one.strip() for one in args.get("columns", "").split(",") if one.strip()))
    usable = tuple(one for one in columns if len(one) <= 128 and one.isprintable() and one != "@timestamp")
    return Asked(
        args.get("q", "").strip(), args.get("from", "").strip() or SINCE, args.get("to", "").strip() or UNTIL,
        usable[:COLUMNS_MAX] or COLUMNS, args.get("host", "").strip()[:255],
        "asc" if args.get("sort") == "asc" else "desc",
    )  # fmt: skip


def clean(text: str) -> str:
    """A saved search as it is kept. Raises Invalid for a query that cannot be read."""
    found = asked(dict(parse_qsl(text.lstrip("?"))))
    language.parse(found.q)
    return found.query().lstrip("?")


SAVED = offer(Kind("log_search", _l("Log searches"), "journal-text", services.VIEW, "logs.search", clean))


def host_of(actor: Actor, reference: str) -> Host | None:
    """The host of this id or name whose events the actor may see."""
    if not reference:
        return None
    wanted = visible(actor, services.VIEW).where(or_(Host.id == reference, Host.name == reference)).limit(1)
    return db.session.scalar(wanted)


def query_of(actor: Actor, found: Asked) -> str:
    """The query with the host of the address as one of its conditions, for what keeps only a query."""
    if not found.host:
        return found.q
    host = host_of(actor, found.host)
    return _joined(found.q, language.Match("host.id", language.Value((host.id if host else found.host,), True)))


def search_of(actor: Actor, found: Asked, zone: str, now: datetime | None = None) -> Search:
    """What the engine searches. Raises QueryError, Invalid, Forbidden."""
    host = host_of(actor, found.host)
    hosts = None if not found.host else [host.id] if host else []
    return services.prepare(actor, found.q, found.since, found.until, hosts=hosts, now=now, zone=ZoneInfo(zone))


def _shown_time(text: str) -> str:
    try:
        return str(format_datetime(parse_time(text), "yyyy-MM-dd HH:mm:ss"))
    except ValueError:
        return text


# -- the query, condition by condition ---


@dataclass(frozen=True)
class Chip:
    """A condition of the query: its text, and the addresses without it and with its opposite."""

    text: str
    without: str
    opposite: str
    negated: bool


def chips(found: Asked) -> list[Chip]:
    """The conditions that must all hold. None for a query that cannot be read."""
    try:
        tree = language.parse(found.q)
    except QueryError:
        return []
    parts = list(tree.children) if isinstance(tree, And) else [] if tree is None else [tree]
    chosen = []
    for at, part in enumerate(parts):
        other = part.child if isinstance(part, Not) else Not(part)
        without = found.address(q=language.to_text(_all([*parts[:at], *parts[at + 1 :]])))
        opposite = found.address(q=language.to_text(_all([*parts[:at], other, *parts[at + 1 :]])))
        chosen.append(Chip(language.to_text(part), without, opposite, isinstance(part, Not)))
    return chosen


def _all(parts: Sequence[Node]) -> Node | None:
    return None if not parts else parts[0] if len(parts) == 1 else And(tuple(parts))


def _joined(text: str, added: Node) -> str:
    try:
        tree = language.parse(text)
    except QueryError:
        return language.to_text(added)
    parts = [*(tree.children if isinstance(tree, And) else [] if tree is None else [tree])]
    return language.to_text(_all([*(part for part in parts if part != added), added]))


# -- an event ---


def text_of(hit: Hit, name: str) -> str:
    """The value of a field as text; nothing if there is none."""
    return written(value_of(hit.source, name))


def written(value: Any) -> str:
    """A value as text."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)


def line(hit: Hit, name: str) -> str:
    """The value of a field for the table: its begin, in one line."""
    text = text_of(hit, name)
    shown = " ".join(text[: LINE_MAX + 1].split("\n"))
    return shown if len(text) <= LINE_MAX else shown[:LINE_MAX] + "…"


def values(hit: Hit) -> list[tuple[str, str]]:
    """All fields of an event with their values, those within others by their whole names; the message first."""
    found: list[tuple[str, str]] = []
    for name, value in hit.source.items():
        inner = value.items() if isinstance(value, dict) and value else None
        found += [(f"{name}.{key}", written(one)) for key, one in inner] if inner else [(name, written(value))]
    return sorted(found, key=lambda pair: (pair[0] != "message", pair[0]))


def document(hit: Hit, whole: bool) -> str:
    """The document as JSON, its long texts cut unless it is asked for whole."""
    source = hit.source if whole else {name: _cut(value) for name, value in hit.source.items()}
    return json.dumps({"_index": hit.index, "_id": hit.id, **source}, ensure_ascii=False, indent=2)


def _cut(value: Any) -> Any:
    return f"{value[:VALUE_MAX]}…" if isinstance(value, str) and len(value) > VALUE_MAX else value


def clock(value: datetime) -> str:
    """A time with its milliseconds, in the reader's zone."""
    return str(format_datetime(value, "yyyy-MM-dd HH:mm:ss.SSS"))


def pivots(hit: Hit, grafana: str | None) -> dict[str, str]:
    """Where one goes from an event: its host, what was changed and how the figures were at that time."""
    host, name = str(hit.source.get("host.id", "")), str(hit.source.get("host.name", ""))
    first, last = hit.time - _AROUND, hit.time + _AROUND
    times: dict[str, Any] = {"from": _milliseconds(first), "to": _milliseconds(last)}
    found = {
        "host": url_for("hosts.show", object_id=host, **times),
        "changes": url_for("changes.index", object_id=host, time__gte=format_time(first), time__lte=format_time(last)),
        "around": Asked(host=host, since=format_time(first), until=format_time(last)).address(),
        "graphs": f"{url_for('graphs.show')}?{urlencode({'host': host, **times})}",
    }
    if grafana:
        found["grafana"] = f"{grafana}/d/ezadmin-host?{urlencode({'var-host': name, **times})}"
    return found


def _milliseconds(value: datetime) -> int:
    return round(value.timestamp() * 1000)


# -- how whole an answer is ---


def missing(health: Health) -> list[str]:
    """What an answer lacks, in words; nothing if it is whole."""
    said = []
    if health.timed_out:
        said.append(str(_("Timed out: some events are missing. Take less time or more conditions.")))
    if health.shards_failed:
        said.append(
            str(
                _(
                    "%(failed)d of %(all)d parts did not answer: events are missing",
                    failed=health.shards_failed,
                    all=health.shards,
                )
            )
        )
    return said


# -- the histogram, as the script of the page draws it ---


def drawn(found: Histogram, search: Search) -> dict[str, Any]:
    """Buckets as ``[begin, end, {level: count}]``, times in milliseconds; and what is said about them."""
    start, end = _milliseconds(search.period.start), _milliseconds(search.period.end)
    width = found.seconds * 1000

    def bar(one: Bucket) -> list[Any]:
        begin = _milliseconds(one.start)
        return [max(begin, start), min(begin + width, end), one.counts]

    return {
        "start": start, "end": end, "seconds": found.seconds, "total": found.total, "source": found.source,
        "buckets": [bar(one) for one in found.buckets], "missing": " ".join(missing(found.health)),
        "note": str(_("from roll-up: the pipeline's counts, exact")) if found.source == "rollup" and found.health.whole else "",
    }  # fmt: skip


def caret(error: QueryError, text: str) -> tuple[str, str]:
    """The query and, below it, the place of the error; both in characters as the page shows them."""
    return plain(text), " " * len(plain(text[: error.position])) + "^" * error.length
