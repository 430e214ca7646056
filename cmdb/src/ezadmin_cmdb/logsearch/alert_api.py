"""The REST API of alerts on searches."""

# mypy: disable-error-code="untyped-decorator"
# (flask-smorest ships no types)
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask import current_app
from flask_smorest import Blueprint
from marshmallow import RAISE, Schema, fields, validate

from ezadmin_cmdb.elastic import elastic
from ezadmin_cmdb.logsearch import alerting
from ezadmin_cmdb.logsearch.models import LogAlert
from ezadmin_cmdb.web.access import needs
from ezadmin_cmdb.web.signin import current_actor

bp = Blueprint(
    "api_log_alerts", __name__, url_prefix="/api/v1/log-alerts",
    description="Alerts on searches: so many events of a host within some minutes raise an alert of that host",
)  # fmt: skip


class WatchedSearchSchema(Schema):
    """What raises an alert."""

    class Meta:  # noqa: D106 - marshmallow's
        unknown = RAISE

    q = fields.String(required=True, attribute="query", metadata={"description": "the query, see docs/log-search.md"})
    threshold = fields.Integer(
        strict=True, load_default=10, validate=validate.Range(1, alerting.THRESHOLD_MAX),
        metadata={"description": "so many events of a host, or more"},
    )  # fmt: skip
    minutes = fields.Integer(
        strict=True, load_default=5, validate=validate.Range(1, alerting.MINUTES_MAX),
        metadata={"description": "within so many minutes"},
    )  # fmt: skip
    severity = fields.String(load_default=alerting.SEVERITIES[0], validate=validate.OneOf(alerting.SEVERITIES))


class LogAlertSchema(WatchedSearchSchema):
    """A search that is watched."""

    id = fields.Integer(dump_only=True)
    name = fields.String(required=True, validate=validate.Length(1, alerting.NAME_MAX))
    owner = fields.String(dump_only=True, attribute="owner.name", metadata={"description": "with whose eyes it looks"})
    checked = fields.AwareDateTime(
        dump_only=True, format="iso", allow_none=True, metadata={"description": "when the worker last looked"}
    )
    problem = fields.String(dump_only=True, allow_none=True, metadata={"description": "why it could not look"})


class RaisedSchema(Schema):
    """A host that would have raised alerts."""

    host = fields.String()
    alerts = fields.Integer()
    most = fields.Integer(metadata={"description": "the most events in one window"})
    last = fields.AwareDateTime(format="iso")


class BacktestSchema(Schema):
    """What the last week would have raised."""

    hosts = fields.List(fields.Nested(RaisedSchema))
    alerts = fields.Integer(metadata={"description": "of all hosts"})
    whole = fields.Boolean(metadata={"description": "false: it was too much to read all"})


def _wanted(given: dict[str, Any]) -> alerting.Wanted:
    return alerting.wanted(given["query"], str(given["threshold"]), str(given["minutes"]), given["severity"])


@bp.route("", endpoint="index")
@bp.response(200, LogAlertSchema(many=True))
@needs(alerting.CHANGE)
def index() -> Sequence[LogAlert]:
    """All alerts on searches, by name; those that their owner cannot search any more say so."""
    return alerting.everything(current_actor())


@bp.route("", methods=["POST"], endpoint="create")
@bp.arguments(LogAlertSchema)
@bp.response(201, LogAlertSchema)
@needs(alerting.CHANGE)
def create(given: dict[str, Any]) -> LogAlert:
    """Watch a search from now on, with the eyes of the caller. An error in q says in position and length where it is."""
    return alerting.add(current_actor(), given["name"], _wanted(given))


@bp.route("/backtest", methods=["POST"], endpoint="backtest")
@bp.arguments(WatchedSearchSchema)
@bp.response(200, BacktestSchema)
@needs(alerting.CHANGE)
def backtest(given: dict[str, Any]) -> alerting.Backtest:
    """What the last week would have raised, of the hosts that the caller sees; nothing is kept."""
    names = current_app.extensions["ezadmin_settings"].names
    return alerting.backtest(elastic(), names, current_actor(), _wanted(given))


@bp.route("/<int:alert_id>", methods=["PUT"], endpoint="change")
@bp.arguments(LogAlertSchema)
@bp.response(200, LogAlertSchema)
@needs(alerting.CHANGE)
def change(given: dict[str, Any], alert_id: int) -> LogAlert:
    """Watch another search, or with other limits; from now on with the eyes of the caller."""
    return alerting.change(current_actor(), alert_id, given["name"], _wanted(given))


@bp.route("/<int:alert_id>", methods=["DELETE"], endpoint="delete")
@bp.response(204)
@needs(alerting.CHANGE)
def delete(alert_id: int) -> None:
    """Watch it no longer; what it has raised is over."""
    alerting.delete(current_actor(), alert_id)
