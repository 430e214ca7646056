"""Pages of hosts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, current_app, flash, redirect, render_template, request, url_for
from flask_babel import gettext as _
from flask_babel import ngettext
from werkzeug.wrappers import Response

from ezadmin_cmdb.alerts.services import VIEW as ALERT_VIEW
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.describe import pages
from ezadmin_cmdb.elastic import ElasticUnavailable, elastic
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.hosts import board, own_parts, policies, services, standing, timeline, values
from ezadmin_cmdb.hosts import drifts as drift_services
from ezadmin_cmdb.hosts.description import HOST
from ezadmin_cmdb.hosts.drifts import DRIFT, DRIFT_VIEW
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.hosts.schemas import WIDTH, WIDTH_MAX, WIDTH_MIN
from ezadmin_cmdb.metrics import presentation
from ezadmin_cmdb.metrics import services as metrics
from ezadmin_cmdb.rights.permissions import EVENTS_VIEW, METRICS_VIEW
from ezadmin_cmdb.settings import Settings
from ezadmin_cmdb.thresholds import judging
from ezadmin_cmdb.thresholds import services as thresholds
from ezadmin_cmdb.thresholds.explaining import limit_text
from ezadmin_cmdb.web.access import needs
from ezadmin_cmdb.web.formats import moment
from ezadmin_cmdb.web.signin import current_actor
from ezadmin_wire.times import format_time

bp = Blueprint("hosts", __name__, url_prefix="/hosts")
drifts = Blueprint("drifts", __name__, url_prefix="/drifts")
pages.add(bp, HOST, [action for action in pages.actions(HOST) if action != "show"])
pages.add(drifts, DRIFT, pages.actions(DRIFT))


def _settings() -> Settings:
    settings: Settings = current_app.extensions["ezadmin_settings"]
    return settings


@bp.get("/<object_id>")
@needs(services.HOST_VIEW)
def show(object_id: str) -> str:
    """One host; with ``kiosk`` only its figures, large, for a screen on a wall."""
    host = services.find(current_actor(), object_id)
    if request.args.get("kiosk") == "1":
        return render_template("hosts/kiosk.html", host=host, liveness=services.liveness(host), **_live(host))
    return render_template(
        "hosts/show.html", host=host, liveness=services.liveness(host), grafana=_settings().grafana_url,
        may_change=services.may(current_actor(), services.HOST_CHANGE, host), d=HOST, explained=values.explain(host),
        policy_titles=policies.TITLES, own=bool(own_parts.ids([host.id])), time=_time(), **_live(host),
    )  # fmt: skip


def _time() -> dict[str, Any] | None:
    """The time that one comes with, for what leads on: in words, as graphs take it, and as the log search does."""
    try:
        first, last = (int(request.args.get(name, "")) for name in ("from", "to"))
        begin, end = (datetime.fromtimestamp(one / 1000, UTC) for one in (first, last))
    except (ValueError, OverflowError, OSError):
        return None
    exact = {"from": format_time(begin), "to": format_time(end)}
    return {"begin": begin, "end": end, "graphs": {"from": first, "to": last}, "logs": exact}


@bp.post("/<uuid:object_id>/values")
@needs(services.HOST_CHANGE)
def declare(object_id: object) -> Response:
    """Declare the value that a field has, or give the field back to the agent."""
    host, field = services.find_to_change(current_actor(), str(object_id)), request.form.get("field", "")
    if field not in values.DEFAULTS:
        raise Invalid(_("This field cannot be set."), "field")
    keep = request.form.get("action") == "keep"
    services.declare(current_actor(), host, field, getattr(host, field) if keep else None)
    text = _("%(field)s is declared.") if keep else _("%(field)s is given back to the agent.")
    flash(text % {"field": HOST.label_of(field)})
    return redirect(url_for("hosts.show", object_id=host.id, _anchor="inventory"))


@bp.get("/policies")
@needs(policies.POLICY_VIEW)
def policy_list() -> str:
    """Whose value of each field holds."""
    return _policy_page(values.policies())


def _policy_page(chosen: dict[str, str], error: str | None = None) -> str:
    return render_template(
        "hosts/policies.html", policies=chosen, titles=policies.TITLES, fields=[HOST.field(name) for name in chosen],
        error=error,
    )  # fmt: skip


@bp.post("/policies")
@needs(policies.POLICY_CHANGE)
def change_policies() -> Response | tuple[str, int]:
    """Choose whose value holds."""
    wanted = {name: request.form[name] for name in values.DEFAULTS if name in request.form}
    try:
        policies.choose(current_actor(), wanted)
    except Invalid as error:
        db.session.rollback()
        return _policy_page(values.policies(), str(error)), error.status
    flash(_("The policies are saved."))
    return redirect(url_for("hosts.policy_list"))


@drifts.post("/decide")
@needs(services.HOST_CHANGE)
def decide() -> Response:
    """Accept or reject differences that were ticked, or all that match."""
    form, actor = request.form, current_actor()
    decision, text = form.get("decision", ""), form.get("filter", "")
    if form.get("all"):
        done = drift_services.decide(actor, decision, matching=text)
    else:
        done = drift_services.decide(actor, decision, ids=[int(one) for one in form.getlist("ids") if one.isdecimal()])
    flash(ngettext("%(num)d difference is decided.", "%(num)d differences are decided.", done))
    return redirect(url_for("drifts.index") + (f"?{text}" if text else ""))


@drifts.get("/count")
@needs(DRIFT_VIEW)
def count() -> str:
    """How many differences wait, for the menu."""
    return render_template("_count.html", waiting=drift_services.count_open(current_actor()))


@bp.get("/<object_id>/live")
@needs(services.HOST_VIEW)
def live(object_id: str) -> str:
    """The part of a host's page that renews itself: figures, and what happened."""
    host = services.find(current_actor(), object_id)
    template = "hosts/_kiosk.html" if request.args.get("kiosk") == "1" else "hosts/_live.html"
    return render_template(template, host=host, liveness=services.liveness(host), **_live(host))


@bp.get("/<uuid:object_id>/text")
@needs(METRICS_VIEW)
def text(object_id: object) -> Response:
    """All figures of a host as plain text, for the signed-in; with a token, see the API."""
    return plain_text(str(object_id))


def plain_text(object_id: str) -> Response:
    """All figures of a host as plain text of ``width`` columns. Raises NotFound, Forbidden, ElasticUnavailable."""
    host = services.find(current_actor(), object_id, METRICS_VIEW)
    width = min(max(request.args.get("width", WIDTH, int), WIDTH_MIN), WIDTH_MAX)
    found = metrics.latest(elastic(), _settings().names, host.id)
    judge, at = judging.Judge(thresholds.effective(db.session, [host.id]).get(host.id, ())), utc_now()
    stands = standing.of(current_actor(), [host.id], at)
    made = board.board(found, judge, at, width, stands.alerts.get(host.id, ()))
    state, why = stands.state(host.id, [made.state])
    system = " ".join(one for one in (host.os_name, host.os_version) if one)
    said = [system, moment(max((one.time for one in found), default=None))]
    answer = Response(board.text([*board.header(host.name, state, why, said), *made.lines]))
    answer.content_type = "text/plain; charset=utf-8"
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _live(host: Host) -> dict[str, Any]:
    names, actor = _settings().names, current_actor()
    figures, alerts, logs = (services.may(actor, name, host) for name in (METRICS_VIEW, ALERT_VIEW, EVENTS_VIEW))
    try:
        found = metrics.latest(elastic(), names, host.id) if figures else []
        happened = timeline.of_host(elastic(), names, host.id, alerts, logs)
    except ElasticUnavailable as error:
        left = timeline.stored(host.id, alerts)
        return {"missing": str(error), "figures": figures, "logs": logs, "happened": left}
    at = utc_now()
    judge = judging.Judge(thresholds.effective(db.session, [host.id]).get(host.id, ()) if found else ())
    stands = standing.of(actor, [host.id], at)
    made = board.board(found, judge, at, opened=stands.alerts.get(host.id, ()))
    state, why = stands.state(host.id, [made.state])
    return {
        "missing": None,
        "figures": figures,
        "logs": logs,
        "newest": max((one.time for one in found), default=None),
        "values": presentation.host_values(found),
        "tables": presentation.tables(found),
        "judge": judge,
        "alerts": stands.of_figures(host.id),
        "limit_text": limit_text,
        "marks": judging.MARKS,
        "fresh": any(utc_now() - one.time <= services.SILENT_AFTER for one in found),
        "board": made,
        "state": state,
        "why": why,
        "happened": happened,
    }
