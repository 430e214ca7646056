"""Pages and API of alerts beside the generated ones: the page of one, and what people do with it."""

# mypy: disable-error-code="untyped-decorator"
# (flask-smorest ships no types)
from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask_babel import lazy_gettext as _l
from flask_smorest import Blueprint as ApiBlueprint
from marshmallow import RAISE, Schema, fields, validate
from werkzeug.wrappers import Response

from ezadmin_cmdb.alerts import services, texts
from ezadmin_cmdb.alerts.description import ALERT
from ezadmin_cmdb.alerts.models import Alert, AlertEvent
from ezadmin_cmdb.database import utc_now
from ezadmin_cmdb.describe import pages
from ezadmin_cmdb.errors import DomainError
from ezadmin_cmdb.web.access import needs
from ezadmin_cmdb.web.signin import current_actor

HOURS = {
    1: _l("1 hour"), 4: _l("4 hours"), 24: _l("1 day"), 72: _l("3 days"), 168: _l("1 week"), 720: _l("30 days"),
}  # fmt: skip

bp = Blueprint("alerts", __name__, url_prefix="/alerts")
pages.add(bp, ALERT, [action for action in pages.actions(ALERT) if action != "show"])


@bp.get("/count")
@needs(ALERT.view)
def count() -> str:
    """How many alerts wait for somebody, for the menu."""
    return render_template("_count.html", waiting=services.count_waiting(current_actor()))


@bp.get("/<int:object_id>")
@needs(ALERT.view)
def show(object_id: int) -> str:
    """An alert and its history."""
    actor = current_actor()
    alert = services.find(actor, object_id)
    return render_template(
        "alerts/show.html", alert=alert, events=services.history(alert), texts=texts, kinds=texts.KINDS,
        allowed=services.may_acknowledge(actor, alert), hours=HOURS,
    )  # fmt: skip


@bp.post("/<int:object_id>/care")
@needs(services.ACKNOWLEDGE)
def care(object_id: int) -> Response:
    """Acknowledge, take that back, or comment."""
    actor = current_actor()
    alert = services.find_to_acknowledge(actor, object_id)
    text, action = request.form.get("text", ""), request.form.get("action", "")
    hours = request.form.get("hours", "")
    try:
        if action == "acknowledge":
            span = timedelta(hours=int(hours) if hours.isdecimal() and int(hours) in HOURS else 24)
            services.acknowledge(actor, alert, utc_now() + span, text)
        elif action == "reopen":
            services.reopen(actor, alert)
        else:
            services.comment(actor, alert, text)
    except DomainError as error:
        flash(str(error), "warning")
    return redirect(url_for(".show", object_id=object_id))


class AcknowledgeAlertSchema(Schema):
    """For how long."""

    class Meta:  # noqa: D106 - marshmallow's
        unknown = RAISE

    minutes = fields.Integer(
        strict=True, load_default=1440, validate=validate.Range(1, 90 * 1440), metadata={"description": "from now on"}
    )
    text = fields.String(load_default="", metadata={"description": "a comment"})


class AlertCommentSchema(Schema):
    """A comment."""

    class Meta:  # noqa: D106 - marshmallow's
        unknown = RAISE

    text = fields.String(required=True)


class AcknowledgedAlertSchema(Schema):
    """Who cares for an alert, and until when."""

    id = fields.Integer()
    state = fields.String(attribute="shown_state")
    acknowledged_until = fields.AwareDateTime(format="iso", allow_none=True)
    acknowledged_by = fields.String(allow_none=True)


class AlertEventSchema(Schema):
    """What happened to an alert."""

    kind = fields.String()
    time = fields.AwareDateTime(format="iso")
    state = fields.String(allow_none=True)
    previous = fields.String(allow_none=True)
    reason = fields.String(allow_none=True)
    value = fields.Float(allow_none=True)
    limit_value = fields.Float(allow_none=True)
    actor = fields.String(allow_none=True)
    until = fields.AwareDateTime(format="iso", allow_none=True)
    text = fields.String(allow_none=True)


api = ApiBlueprint(
    "api_alert_actions", __name__, url_prefix="/api/v1", description="Alerts: history, acknowledge, comment"
)


@api.route("/alerts/<int:object_id>/history", endpoint="history")
@api.response(200, AlertEventSchema(many=True))
@needs(ALERT.view)
def api_history(object_id: int) -> Sequence[AlertEvent]:
    """What happened to an alert, the newest first."""
    return services.history(services.find(current_actor(), object_id))


@api.route("/alerts/<int:object_id>/acknowledge", methods=["POST"], endpoint="acknowledge")
@api.arguments(AcknowledgeAlertSchema)
@api.response(200, AcknowledgedAlertSchema)
@needs(services.ACKNOWLEDGE)
def api_acknowledge(given: dict[str, object], object_id: int) -> Alert:
    """Care for an alert for some time: nobody is notified of it again before."""
    actor = current_actor()
    alert = services.find_to_acknowledge(actor, object_id)
    until = utc_now() + timedelta(minutes=int(str(given["minutes"])))
    services.acknowledge(actor, alert, until, str(given["text"]))
    return alert


@api.route("/alerts/<int:object_id>/reopen", methods=["POST"], endpoint="reopen")
@api.response(200, AcknowledgedAlertSchema)
@needs(services.ACKNOWLEDGE)
def api_reopen(object_id: int) -> Alert:
    """Take an acknowledgement back."""
    actor = current_actor()
    alert = services.find_to_acknowledge(actor, object_id)
    services.reopen(actor, alert)
    return alert


@api.route("/alerts/<int:object_id>/comment", methods=["POST"], endpoint="comment")
@api.arguments(AlertCommentSchema)
@api.response(201, AlertEventSchema)
@needs(services.ACKNOWLEDGE)
def api_comment(given: dict[str, str], object_id: int) -> AlertEvent:
    """Write something to an alert."""
    actor = current_actor()
    alert = services.find_to_acknowledge(actor, object_id)
    services.comment(actor, alert, given["text"])
    return services.history(alert)[0]
