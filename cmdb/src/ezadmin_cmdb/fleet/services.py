"""The figures of all hosts, each judged by the limits that hold for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flask_babel import gettext as _

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.alerts.services import OpenAlert
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.describe import query as queries
from ezadmin_cmdb.elastic import Elastic, ElasticUnavailable
from ezadmin_cmdb.hosts import own_parts, standing
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.hosts.description import HOST
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.hosts.services import SILENT_AFTER
from ezadmin_cmdb.hosts.standing import Standing
from ezadmin_cmdb.metrics.fields import HOST_DATASET
from ezadmin_cmdb.rights.permissions import METRICS_VIEW
from ezadmin_cmdb.thresholds import judging
from ezadmin_cmdb.thresholds import services as thresholds
from ezadmin_cmdb.thresholds.explaining import limit_text
from ezadmin_cmdb.thresholds.inheritance import EffectiveLimit
from ezadmin_wire.names import Names
from ezadmin_wire.times import parse_time

HOSTS_MAX = 10_000
"""Elasticsearch gives no more hits in one answer (``index.max_result_window``)."""
FILESYSTEM = "system.filesystem"
MOUNT = "system.filesystem.mount_point"
USED = "system.filesystem.used.pct"
COLUMNS = {
    "cpu": "system.cpu.total.norm.pct",
    "memory": "system.memory.actual.used.pct",
    "disk": USED,
    "load": "system.load.norm.1",
    "in": "system.network.total.in.bytes_per_sec",
    "out": "system.network.total.out.bytes_per_sec",
}
"""The fields behind the columns; load is that of a minute for each core."""
NAMES = {field: name for name, field in COLUMNS.items()}
LOAD = COLUMNS["load"]
OF_HOST = [field for name, field in COLUMNS.items() if name not in ("disk", "load")]
CODES = {judging.OK: "o", judging.WARNING: "w", judging.CRITICAL: "c", judging.UNKNOWN: "u"}
DIGITS = {"cpu": 4, "memory": 4, "disk": 4, "load": 3, "in": 0, "out": 0}


@dataclass(frozen=True)
class Newest:
    """The newest figures of a host by field, and of when they are; of its disks the fullest."""

    time: datetime | None
    values: Mapping[str, float]
    mount: str | None


def newest(elastic: Elastic, names: Names, host_ids: Sequence[str]) -> dict[str, Newest]:
    """What hosts sent within the last :data:`SILENT_AFTER`: one request, however many hosts. Raises ElasticUnavailable."""
    if not host_ids:
        return {}
    of_host, of_disks, of_load = elastic.searches(
        f"{names.prefix}-metrics-*",
        [
            _question(host_ids, HOST_DATASET, {"@timestamp": "desc"}, ["@timestamp", *OF_HOST]),
            _question(host_ids, FILESYSTEM, {USED: {"order": "desc", "unmapped_type": "float"}}, [USED, MOUNT]),
            # agents send it once a minute (docs/decisions/0007), so it is not in every document
            _question(host_ids, HOST_DATASET, {"@timestamp": "desc"}, [LOAD], having=LOAD),
        ],
        only="hits.hits.fields",
    )
    disks = {one["host.id"][0]: one for one in _hits(of_disks) if USED in one}
    loads = {one["host.id"][0]: float(one[LOAD][0]) for one in _hits(of_load)}
    found = {}
    for one in _hits(of_host):
        host_id = one["host.id"][0]
        values = {field: float(one[field][0]) for field in OF_HOST if field in one}
        if host_id in loads:
            values[LOAD] = loads[host_id]
        found[host_id] = Newest(parse_time(one["@timestamp"][0]), values, None)
    for host_id, one in disks.items():
        other = found.get(host_id, Newest(None, {}, None))
        values = {**other.values, USED: float(one[USED][0])}
        found[host_id] = Newest(other.time, values, str(one[MOUNT][0]))
    return found


def _hits(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [one["fields"] for one in answer.get("hits", {}).get("hits", ())]


def _question(
    host_ids: Sequence[str], dataset: str, order: dict[str, Any], fields: list[str], having: str | None = None
) -> dict[str, Any]:
    """The first document of each host: collapsing reads one column, where an aggregation would make a heap for each."""
    since = f"now-{int(SILENT_AFTER.total_seconds())}s"
    return {
        "size": len(host_ids),
        "_source": False,
        "track_total_hits": False,
        "query": {
            "bool": {
                "filter": [
                    {"terms": {"host.id": list(host_ids)}},
                    {"term": {"event.dataset": dataset}},
                    {"range": {"@timestamp": {"gte": since}}},
                    *([{"exists": {"field": having}}] if having else []),
                ]
            }
        },
        "collapse": {"field": "host.id"},
        "sort": [order],
        "docvalue_fields": ["host.id", *fields],
    }


@dataclass(frozen=True)
class Line:
    """A host as the table shows it; the last four are by column."""

    id: str
    name: str
    state: str
    note: str
    seen: datetime | None
    nearness: float
    mount: str | None
    values: dict[str, float]
    states: dict[str, str]
    limits: dict[str, EffectiveLimit]
    alerts: dict[str, OpenAlert]


@dataclass(frozen=True)
class Fleet:
    """The lines, how many hosts there are if they are more, and why figures are missing, if they are."""

    lines: list[Line]
    total: int
    missing: str | None


def look(actor: Actor, elastic: Elastic, names: Names, query: queries.Query) -> Fleet:
    """The hosts that the actor may see and ``query`` asks for, with the figures of those whose figures he may see."""
    start = queries.narrowed(HOST, queries.allowed(actor, query), hosts.visible(actor))
    columns = (Host.id, Host.name, Host.state, Host.agent_collected)
    rows = db.session.execute(start.with_only_columns(*columns).order_by(Host.name, Host.id)).all()
    own = own_parts.ids()
    rows = [row for row in rows if row.id not in own]
    shown = rows[:HOSTS_MAX]
    mine = [row.id for row in shown]
    if not actor.rights.scope(METRICS_VIEW).everywhere:
        allowed = set(db.session.scalars(hosts.visible(actor, METRICS_VIEW).with_only_columns(Host.id)))
        mine = [one for one in mine if one in allowed]
    missing = None
    try:
        found = newest(elastic, names, mine)
    except ElasticUnavailable as error:
        found, missing = {}, str(error)
    limits = thresholds.effective(db.session, mine, frozenset(COLUMNS.values())) if found else {}
    at, may_see = utc_now(), frozenset(mine)
    stands = standing.of(actor, [row.id for row in shown], at)
    return Fleet(
        [
            _line(row, found.get(row.id), limits.get(row.id, ()), stands, at, row.id in may_see and not missing)
            for row in shown
        ],
        len(rows),
        missing,
    )


def _line(
    row: Any, got: Newest | None, limits: Sequence[EffectiveLimit], stands: Standing, at: datetime, known: bool
) -> Line:
    judge = judging.Judge(limits)
    values, states, deciding, nearness = {}, {}, {}, 0.0
    for name, field in COLUMNS.items():
        value = got.values.get(field) if got else None
        if value is None:
            states[name] = judging.UNKNOWN
            continue
        values[name] = value
        item, dataset = ((got.mount or "") if got else "", FILESYSTEM) if name == "disk" else ("", HOST_DATASET)
        judged = judge.judge(dataset, field, value, item)
        if judged is not None:
            states[name], deciding[name] = judged.state, judged.limit
            nearness = max(nearness, judged.nearness)
    seen = max((one for one in (row.agent_collected, got.time if got else None) if one is not None), default=None)
    state, note = _state(row, seen, states, stands, got is not None, at, known)
    mount = got.mount if got else None
    return Line(row.id, row.name, state, note, seen, nearness, mount, values, states, deciding, _alerts(row.id, stands))


def _alerts(host_id: str, stands: Standing) -> dict[str, OpenAlert]:
    """The open alerts of the figures shown; of disks the worst, which need not be that of the fullest."""
    found: dict[str, OpenAlert] = {}
    for (field, item), one in stands.of_figures(host_id).items():
        name = NAMES.get(field)
        if name == "disk" or (name and not item):
            found.setdefault(name, one)
    return found


def _state(
    row: Any,
    seen: datetime | None,
    states: Mapping[str, str],
    stands: Standing,
    figures: bool,
    at: datetime,
    known: bool,
) -> tuple[str, str]:
    """The state of a host, and what is to be said of it beside: nothing is good of which nothing is known."""
    if row.state in ("quarantined", "revoked", "retired"):
        texts = {"quarantined": _("Quarantined"), "revoked": _("Revoked"), "retired": _("Retired")}
        return judging.UNKNOWN, texts[row.state]
    if row.id in stands.windows:
        return stands.state(row.id, ())
    if seen is None:
        return judging.UNKNOWN, _("Never reported")
    if at - seen > SILENT_AFTER + timedelta(seconds=1):
        return judging.UNKNOWN, _("Silent")
    if not known:
        return judging.UNKNOWN, ""
    if not figures:
        return judging.UNKNOWN, _("It reports, but sends no figures")
    return stands.state(row.id, (one for one in states.values() if one != judging.UNKNOWN))


def compact(fleet: Fleet) -> dict[str, Any]:
    """The lines as the table's script reads them: texts that come again and again stand once, and are numbered."""
    texts: dict[str, int] = {}

    def number(text: str) -> int:
        return texts.setdefault(text, len(texts)) if text else -1

    known: dict[str, int] = {}
    rows: list[list[Any]] = []
    for line in fleet.lines:
        numbers = []
        for name, field in COLUMNS.items():
            limit = line.limits.get(name)
            if limit is None:
                numbers.append(-1)
                continue
            key = f"{limit.limit_id} {limit.origin} {field}"
            if key not in known:
                known[key] = number(limit_text(limit))
            numbers.append(known[key])
        rows.append([
            line.id,
            line.name,
            line.state,
            number(line.note),
            int(line.seen.timestamp()) if line.seen else None,
            round(line.nearness, 4),
            [_rounded(line.values.get(name), DIGITS[name]) for name in COLUMNS],
            "".join(CODES.get(line.states.get(name, ""), "-") for name in COLUMNS),
            numbers,
            line.mount or "",
        ])  # fmt: skip
        if line.alerts:  # few have any, and rows are to be small
            order = list(COLUMNS)
            rows[-1].append([
                [order.index(name), one.id, one.state, number(one.message)] for name, one in line.alerts.items()
            ])  # fmt: skip
    return {"rows": rows, "texts": list(texts), "total": fleet.total, "missing": fleet.missing}


def _rounded(value: float | None, digits: int) -> float | int | None:
    if value is None:
        return None
    return round(value, digits) if digits else round(value)
