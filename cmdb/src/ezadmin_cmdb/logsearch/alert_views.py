"""Pages of alerts on searches: the list, and the form of one with what the last week would have raised."""

from __future__ import annotations

from flask import Blueprint, current_app, flash, redirect, render_template, request, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from ezadmin_cmdb.elastic import ElasticUnavailable, elastic
from ezadmin_cmdb.errors import DomainError, Invalid
from ezadmin_cmdb.logsearch import alerting, pages
from ezadmin_cmdb.logsearch.models import LogAlert
from ezadmin_cmdb.logsearch.query import QueryError
from ezadmin_cmdb.settings import Settings
from ezadmin_cmdb.web.access import needs
from ezadmin_cmdb.web.signin import current_actor

bp = Blueprint("log_alerts", __name__, url_prefix="/logs/alerts")
USUAL = {"threshold": "10", "minutes": "5", "severity": alerting.SEVERITIES[0], "name": ""}


@bp.get("/")
@needs(alerting.CHANGE)
def index() -> str:
    """All of them."""
    return render_template("logs/alerts.html", alerts=alerting.everything(current_actor()), pages=pages)


@bp.get("/new")
@needs(alerting.CHANGE)
def new() -> str:
    """The form, with what the last week would have raised."""
    given = {name: request.args.get(name, usual) for name, usual in USUAL.items()}
    return _form(pages.query_of(current_actor(), pages.asked(request.args)), given)


@bp.get("/<int:alert_id>")
@needs(alerting.CHANGE)
def edit(alert_id: int) -> str:
    """The form of one that is there."""
    one = alerting.find(current_actor(), alert_id)
    given = {name: request.args.get(name, str(getattr(one, name))) for name in USUAL}
    return _form(request.args.get("q", one.query), given, one)


def _form(query: str, given: dict[str, str], one: LogAlert | None = None, wrong: DomainError | None = None) -> str:
    settings: Settings = current_app.extensions["ezadmin_settings"]
    tested, down = None, None
    try:
        tested = alerting.backtest(elastic(), settings.names, current_actor(), _wanted(query, given))
    except (QueryError, Invalid) as error:
        wrong = wrong or error
    except ElasticUnavailable as error:
        down = error
    return render_template(
        "logs/alert_form.html", query=query, given=given, one=one, tested=tested, wrong=wrong, down=down, pages=pages,
        severities=alerting.SEVERITIES, most=alerting,
    )  # fmt: skip


def _wanted(query: str, given: dict[str, str]) -> alerting.Wanted:
    return alerting.wanted(query, given["threshold"], given["minutes"], given["severity"])


def _given() -> tuple[str, dict[str, str]]:
    return request.form.get("q", ""), {name: request.form.get(name, "") for name in USUAL}


@bp.post("/new")
@needs(alerting.CHANGE)
def create() -> str | Response:
    """Keep it."""
    query, given = _given()
    try:
        made = alerting.add(current_actor(), given["name"], _wanted(query, given))
    except (QueryError, Invalid) as error:
        return _form(query, given, wrong=error)
    flash(_("The worker looks at it each minute: %(name)s.", name=made.name))
    return redirect(url_for(".index"))


@bp.post("/<int:alert_id>")
@needs(alerting.CHANGE)
def change(alert_id: int) -> str | Response:
    """Keep it as it is written now."""
    query, given = _given()
    one = alerting.find(current_actor(), alert_id)
    try:
        alerting.change(current_actor(), alert_id, given["name"], _wanted(query, given))
    except (QueryError, Invalid) as error:
        return _form(query, given, one, error)
    flash(_("The worker looks at it each minute: %(name)s.", name=one.name))
    return redirect(url_for(".index"))


@bp.post("/<int:alert_id>/delete")
@needs(alerting.CHANGE)
def delete(alert_id: int) -> Response:
    """Take it away."""
    alerting.delete(current_actor(), alert_id)
    flash(_("Deleted. What it had raised is over."))
    return redirect(url_for(".index"))
