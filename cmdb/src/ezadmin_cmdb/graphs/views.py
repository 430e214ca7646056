"""The page of graphs; its script draws what :func:`history` answers, and what the gateway sends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from flask import Blueprint, current_app, jsonify, render_template, request, url_for
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from sqlalchemy import or_
from werkzeug.wrappers import Response

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db
from ezadmin_cmdb.elastic import elastic
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.graphs import services
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.hosts.services import visible
from ezadmin_cmdb.metrics.fields import Field
from ezadmin_cmdb.rights.permissions import METRICS_VIEW
from ezadmin_cmdb.thresholds.services import effective
from ezadmin_cmdb.web import sockets
from ezadmin_cmdb.web.access import needs
from ezadmin_cmdb.web.signin import current_actor
from ezadmin_wire.limits import ITEM_FIELDS

bp = Blueprint("graphs", __name__, url_prefix="/graphs")
RANGES: dict[str, Any] = {
    "15m": _l("15 minutes"), "1h": _l("1 hour"), "6h": _l("6 hours"), "24h": _l("24 hours"), "7d": _l("7 days"),
    "30d": _l("30 days"),
}  # fmt: skip
_UNITS = {"m": 60, "h": 3600, "d": 86_400}
FIRST = 5
"""Hosts that are shown when none is chosen."""
OFFERED = 500


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
        raise Invalid(_("There is no host %(name)s that you may see figures of.", name=missing[0]), "host")
    place = {reference: at for at, reference in enumerate(wanted)}
    return sorted(found, key=lambda one: place.get(one.id, place.get(one.name, 0)))[: services.HOSTS_MAX]


def _asked(actor: Actor) -> Asked:
    """Raises Invalid for what cannot be used."""
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
    view = "each" if request.args.get("view") == "each" else ""
    return Asked(_hosts(actor), field, item, span, since, until, view)


@bp.get("/")
@needs(METRICS_VIEW)
def show() -> str:
    """The page."""
    actor = current_actor()
    wrong = None
    try:
        asked = _asked(actor)
    except Invalid as error:
        wrong = error
        now = datetime.now(UTC)
        field = services.figure(services.DEFAULT)
        asked = Asked([], field, "", "15m", now - timedelta(minutes=15), now, "")
    chosen = {host.id for host in asked.hosts}
    offered = db.session.execute(
        visible(actor, METRICS_VIEW).with_only_columns(Host.id, Host.name).order_by(Host.name).limit(OFFERED)
    ).all()
    return render_template(
        "graphs/show.html", asked=asked, wrong=wrong, ranges=RANGES, figures=services.figures(),
        offered=[one for one in offered if one.id not in chosen], most=services.HOSTS_MAX,
        has_items=asked.field.dataset in ITEM_FIELDS, data=None if wrong else _data(asked),
    )  # fmt: skip


def _data(asked: Asked) -> dict[str, Any]:
    """What the script wants to know."""
    ids = [host.id for host in asked.hosts]
    lines: dict[tuple[str, float], str] = {}
    for limits in effective(db.session, ids, [asked.field.name]).values():
        for limit in limits:
            if limit.rate:
                continue
            for level, value in (("warning", limit.warning_raise), ("critical", limit.critical_raise)):
                if value is not None:
                    lines[level, value] = limit.origin
    return {
        "hosts": [{"id": host.id, "name": host.name} for host in asked.hosts],
        "dataset": asked.field.dataset, "field": asked.field.name, "unit": asked.field.unit, "item": asked.item or "*",
        "from": _ms(asked.since), "to": _ms(asked.until), "moves": asked.moves, "each": asked.view == "each",
        "socket": sockets.url("graphs"),
        "limits": [{"level": level, "value": value, "why": why} for (level, value), why in sorted(lines.items())][:6],
    }  # fmt: skip


@bp.get("/history")
@needs(METRICS_VIEW)
def history() -> Response:
    """How the figure was."""
    asked = _asked(current_actor())
    names = current_app.extensions["ezadmin_settings"].names
    ids = [host.id for host in asked.hosts]
    found = services.history(elastic(), names, ids, asked.field, asked.item, asked.since, asked.until)
    answer: Response = jsonify(
        step=found.step, cut=found.cut, lines=[{"host": one.host, "item": one.item, "points": one.points} for one in found.lines],
        start=_ms(asked.since), end=_ms(asked.until),
    )  # fmt: skip
    answer.headers["Cache-Control"] = "no-store"
    return answer
