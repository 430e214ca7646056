"""The page of graphs; its script draws what :func:`history` answers, and what the gateway sends."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, current_app, jsonify, render_template, request, url_for
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from sqlalchemy import or_
from werkzeug.wrappers import Response

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.commands.services import SignerAway
from ezadmin_cmdb.database import db
from ezadmin_cmdb.elastic import elastic
from ezadmin_cmdb.errors import Conflict, DomainError, Invalid, NotFound, TooManyRequests
from ezadmin_cmdb.gateway.samples import KEPT_SECONDS
from ezadmin_cmdb.graphs import faster, services
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.hosts.services import visible
from ezadmin_cmdb.logsearch import query
from ezadmin_cmdb.logsearch.pages import Asked as LogSearch
from ezadmin_cmdb.metrics.fields import Field
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.rights.permissions import EVENTS_VIEW, METRICS_VIEW
from ezadmin_cmdb.thresholds.explaining import limit_text
from ezadmin_cmdb.thresholds.services import effective
from ezadmin_cmdb.web import sockets
from ezadmin_cmdb.web.access import needs
from ezadmin_cmdb.web.signin import current_actor
from ezadmin_wire.limits import ITEM_FIELDS
from ezadmin_wire.times import format_time

bp = Blueprint("graphs", __name__, url_prefix="/graphs")
RANGES: dict[str, Any] = {
    "15m": _l("15 minutes"), "1h": _l("1 hour"), "6h": _l("6 hours"), "24h": _l("24 hours"), "7d": _l("7 days"),
    "30d": _l("30 days"), "90d": _l("90 days"), "365d": _l("A year"),
}  # fmt: skip
_UNITS = {"m": 60, "h": 3600, "d": 86_400}
FIRST = 5
"""Hosts that are shown when none is chosen."""
OFFERED = 500
VIEWS: dict[str, Any] = {"": _l("All in one graph"), "each": _l("A graph for each host"), "band": _l("Range of all")}
LIMITS_MAX = 50


@dataclass(frozen=True)
class Asked:
    """What the address says. ``span``: one of RANGES, which moves along; else ``since`` and ``until``."""

    hosts: list[Host]
    field: Field
    item: str
    span: str
    since: datetime
    until: datetime
    view: str

    @property
    def moves(self) -> bool:
        """Whether the time moves along, so that new values are shown."""
        return bool(self.span)

    def address(self, **changed: Any) -> str:
        """The address of the page with some of it changed (None: without it)."""
        pairs: dict[str, Any] = {
            "host": [host.id for host in self.hosts], "field": self.field.name, "item": self.item, "range": self.span,
            "from": None if self.span else _ms(self.since), "to": None if self.span else _ms(self.until),
            "view": self.view, **changed,
        }  # fmt: skip
        return url_for("graphs.show", **{name: value for name, value in pairs.items() if value})


@dataclass(frozen=True)
class Limit:
    """A limit of the figure in words, of which items it is, and the hosts for which it holds."""

    text: str
    item: str
    warning: float | None
    critical: float | None
    hosts: list[str] = dataclasses.field(default_factory=list)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _hosts(actor: Actor) -> list[Host]:
    wanted = list(dict.fromkeys(one.strip() for one in request.args.getlist("host") if one.strip()))
    if len(wanted) > services.HOSTS_MAX:
        raise Invalid(_("Choose at most %(n)d hosts.", n=services.HOSTS_MAX), "host")
    query = visible(actor, METRICS_VIEW).order_by(Host.name)
    if not wanted:
        return list(db.session.scalars(query.where(Host.state == "active").limit(FIRST)))
    found = list(db.session.scalars(query.where(or_(Host.id.in_(wanted), Host.name.in_(wanted)))))
    known = {one.id for one in found} | {one.name for one in found}
    missing = [one for one in wanted if one not in known]
    if missing:
        raise NotFound(_("There is no host %(name)s that you may see figures of.", name=missing[0]))
    place = {reference: at for at, reference in enumerate(wanted)}
    return sorted(found, key=lambda one: place.get(one.id, place.get(one.name, 0)))[: services.HOSTS_MAX]


def _asked(actor: Actor) -> Asked:
    """Raises Invalid for what cannot be used, NotFound for a host that is not there for him."""
    field = services.figure(request.args.get("field") or services.DEFAULT)
    now = datetime.now(UTC)
    begin, end = request.args.get("from"), request.args.get("to")
    span = "" if begin and end else request.args.get("range") or "15m"
    if span:
        if span not in RANGES:
            raise Invalid(_("The time is one of %(all)s.", all=", ".join(RANGES)), "range")
        since, until = now - timedelta(seconds=int(span[:-1]) * _UNITS[span[-1]]), now
    else:
        try:
            since, until = (datetime.fromtimestamp(int(text or "") / 1000, UTC) for text in (begin, end))
        except (ValueError, OverflowError, OSError) as error:
            raise Invalid(_("from and to are milliseconds since 1970."), "from") from error
        if not timedelta(0) < until - since <= timedelta(days=400):
            raise Invalid(_("The time ends after it begins, at most 400 days later."), "to")
    item = (request.args.get("item") or "").strip()[:200]
    view = request.args.get("view", "")
    return Asked(_hosts(actor), field, item, span, since, until, view if view in VIEWS else "")


@bp.get("/")
@needs(METRICS_VIEW)
def show() -> str:
    """The page."""
    actor = current_actor()
    wrong: DomainError | None = None
    try:
        asked = _asked(actor)
    except (Invalid, NotFound) as error:
        wrong = error
        now = datetime.now(UTC)
        field = services.figure(services.DEFAULT)
        asked = Asked([], field, "", "15m", now - timedelta(minutes=15), now, "")
    chosen = {host.id for host in asked.hosts}
    offered = db.session.execute(
        visible(actor, METRICS_VIEW).with_only_columns(Host.id, Host.name).order_by(Host.name).limit(OFFERED)
    ).all()
    limits = [] if wrong else _limits(asked)
    may_faster = bool(asked.hosts) and asked.moves and rights.may(actor, faster.PERMISSION)
    state = faster.state(actor, [host.id for host in asked.hosts]) if may_faster else None
    return render_template(
        "graphs/show.html", asked=asked, wrong=wrong, ranges=RANGES, figures=services.figures(), views=VIEWS,
        offered=[one for one in offered if one.id not in chosen], most=services.HOSTS_MAX,
        has_items=asked.field.dataset in ITEM_FIELDS, data=None if wrong else _data(asked, limits, state),
        limits=limits, faster=state, faster_minutes=faster.SECONDS // 60,
        elsewhere=_elsewhere(actor, asked),
    )  # fmt: skip


def _limits(asked: Asked) -> list[Limit]:
    """The limits with which values of the figure are compared, and the hosts that each is for."""
    found: dict[tuple[str, str], Limit] = {}
    by_host = effective(db.session, [host.id for host in asked.hosts], [asked.field.name])
    for host_id, limits in by_host.items():
        for one in limits:
            if not (one.rate or one.trend) and (one.warning_raise, one.critical_raise) != (None, None):
                text = limit_text(one)
                limit = found.setdefault((text, one.item), Limit(text, one.item, one.warning_raise, one.critical_raise))
                limit.hosts.append(host_id)
    return [found[key] for key in sorted(found)][:LIMITS_MAX]


def _data(asked: Asked, limits: Sequence[Limit], state: faster.State | None) -> dict[str, Any]:
    """What the script wants to know."""
    drawn = [
        {"level": level, "value": value, "item": limit.item, "hosts": limit.hosts}
        for limit in limits
        for level, value in (("warning", limit.warning), ("critical", limit.critical))
        if value is not None
    ]
    return {
        "hosts": [{"id": host.id, "name": host.name} for host in asked.hosts],
        "dataset": asked.field.dataset, "field": asked.field.name, "unit": asked.field.unit, "item": asked.item or "*",
        "from": _ms(asked.since), "to": _ms(asked.until), "moves": asked.moves, "view": asked.view,
        "socket": sockets.url("graphs"), "kept": KEPT_SECONDS * 1000, "limits": drawn, "faster": state,
    }  # fmt: skip


def _elsewhere(actor: Actor, asked: Asked) -> dict[str, str]:
    """Where the same hosts can be looked at, at the same time."""
    names = [host.name for host in asked.hosts]
    if not names:
        return {}
    found = {}
    moving = (f"now-{asked.span}", "now") if asked.span else None
    if rights.may(actor, EVENTS_VIEW):
        since, until = moving or (format_time(asked.since), format_time(asked.until))
        search = LogSearch(since=since, until=until, host=asked.hosts[0].id)
        if len(names) > 1:
            one_of = tuple(query.Match("host.id", query.Value((host.id,), True)) for host in asked.hosts)
            search = replace(search, host="", q=query.to_text(query.Or(one_of)))
        if len(search.q) <= query.LENGTH_MAX:
            found["logs"] = search.address()
    grafana = current_app.extensions["ezadmin_settings"].grafana_url
    if grafana:
        first, last = moving or (_ms(asked.since), _ms(asked.until))
        pairs = [*(("var-host", name) for name in names), ("from", first), ("to", last)]
        found["grafana"] = f"{grafana}/d/ezadmin-{'host' if len(names) == 1 else 'compare'}?{urlencode(pairs)}"
    return found


@bp.get("/history")
@needs(METRICS_VIEW)
def history() -> Response:
    """How the figure was."""
    asked = _asked(current_actor())
    names = current_app.extensions["ezadmin_settings"].names
    ids = [host.id for host in asked.hosts]
    found = services.history(elastic(), names, ids, asked.field, asked.item, asked.since, asked.until)
    answer: Response = jsonify(
        step=found.step, cut=found.cut, by_hour=found.by_hour,
        lines=[{"host": one.host, "item": one.item, "points": one.points} for one in found.lines],
        start=_ms(asked.since), end=_ms(asked.until),
    )  # fmt: skip
    answer.headers["Cache-Control"] = "no-store"
    return answer


@bp.get("/faster")
@needs(faster.PERMISSION)
def faster_state() -> Response:
    """Which of the hosts are measured each second now."""
    return _faster()


@bp.post("/faster")
@needs(faster.PERMISSION)
def measure_faster() -> Response:
    """Have the hosts measured each second for a while: one signed command, by who presses the button that says so."""
    try:
        faster.begin(current_actor(), _to_measure())
    except (SignerAway, Conflict, TooManyRequests) as error:
        db.session.rollback()
        answer = jsonify(error=str(error))
        answer.status_code = error.status
        return answer
    return _faster()


def _to_measure() -> list[str]:
    if not request.args.get("host"):
        raise Invalid(_("Nothing is chosen."), "host")
    return [host.id for host in _hosts(current_actor())]


def _faster() -> Response:
    answer: Response = jsonify(faster.state(current_actor(), _to_measure()))
    answer.headers["Cache-Control"] = "no-store"
    return answer
