"""Pages and API of what is done with channels beside the generated ones: test, password, send again."""

# mypy: disable-error-code="untyped-decorator"
# (flask-smorest ships no types)
from __future__ import annotations

from typing import Any

from flask import Blueprint, flash, redirect, request, url_for
from flask_babel import gettext as _
from flask_smorest import Blueprint as ApiBlueprint
from marshmallow import Schema, fields
from werkzeug.wrappers import Response

from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import pages
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.errors import Conflict, Invalid, NotFound
from ezadmin_cmdb.notifications import services
from ezadmin_cmdb.notifications.description import CHANNEL, NOTIFICATION
from ezadmin_cmdb.notifications.models import Channel, Notification
from ezadmin_cmdb.web.access import needs
from ezadmin_cmdb.web.signin import current_actor
from ezadmin_cmdb.webhooks.models import DELIVERED

channels = Blueprint(CHANNEL.path, __name__, url_prefix=f"/{CHANNEL.path}")
notifications = Blueprint(NOTIFICATION.path, __name__, url_prefix=f"/{NOTIFICATION.path}")
pages.add(channels, CHANNEL, pages.actions(CHANNEL))
pages.add(notifications, NOTIFICATION, pages.actions(NOTIFICATION))


def _channel(object_id: int) -> Channel:
    found: Channel = described.find(current_actor(), CHANNEL, object_id)
    return found


def _notification(object_id: int) -> Notification:
    """A message, for who may change channels: that is enough to send it again, reading it is another right."""
    found = db.session.get(Notification, object_id)
    if found is None:
        raise NotFound(_("There is no %(title)s %(id)s.", title=NOTIFICATION.title, id=object_id))
    return found


@channels.post("/<int:object_id>/test")
@needs(CHANNEL.change)
def test(object_id: int) -> Response:
    """Send a test now."""
    channel = _channel(object_id)
    made = services.test(current_actor(), channel)
    if made.status == DELIVERED:
        flash(_("The test was sent by %(name)s.", name=channel.name))
    else:
        why = made.error or _("it answered with %(status)s", status=made.answer_status)
        flash(_("The test failed: %(why)s", why=why), "warning")
    return redirect(url_for(".show", object_id=object_id))


@channels.post("/<int:object_id>/secret")
@needs(CHANNEL.change)
def secret(object_id: int) -> Response:
    """Another password or token."""
    try:
        services.set_secret(current_actor(), _channel(object_id), request.form.get("secret", ""))
    except Invalid as error:
        flash(str(error), "warning")
    else:
        flash(_("Saved."))
    return redirect(url_for(".show", object_id=object_id))


@notifications.post("/<int:object_id>/again")
@needs(CHANNEL.change)
def again(object_id: int) -> Response:
    """Send it once more."""
    try:
        made = services.again(current_actor(), _notification(object_id))
    except Conflict as error:
        flash(str(error), "warning")
        return redirect(url_for(".show", object_id=object_id))
    flash(_("It is sent again."))
    return redirect(url_for(".show", object_id=made.id))


class NewSecretSchema(Schema):
    """A password or token; empty: none."""

    secret = fields.String(required=True, load_only=True)


class SentSchema(Schema):
    """A message, and what came of it."""

    id = fields.Integer()
    subject = fields.String()
    status = fields.String()
    attempts = fields.Integer()
    answer_status = fields.Integer(allow_none=True)
    answer = fields.String(allow_none=True)
    error = fields.String(allow_none=True)
    milliseconds = fields.Integer(allow_none=True)


api = ApiBlueprint(
    "api_notification_actions", __name__, url_prefix="/api/v1", description="Notifications: test, password, send again"
)


@api.route(f"/{CHANNEL.path}/<int:object_id>/test", methods=["POST"], endpoint="test")
@api.response(200, SentSchema)
@needs(CHANNEL.change)
def api_test(object_id: int) -> Notification:
    """Send a test now; the answer is what came of it."""
    return services.test(current_actor(), _channel(object_id))


@api.route(f"/{CHANNEL.path}/<int:object_id>/secret", methods=["PUT"], endpoint="secret")
@api.arguments(NewSecretSchema)
@api.response(204)
@needs(CHANNEL.change)
def api_secret(given: dict[str, Any], object_id: int) -> None:
    """Give a channel its password or token, which nobody is shown; an empty one takes it away."""
    services.set_secret(current_actor(), _channel(object_id), given["secret"])


@api.route(f"/{NOTIFICATION.path}/<int:object_id>/again", methods=["POST"], endpoint="again")
@api.response(202, SentSchema)
@needs(CHANNEL.change)
def api_again(object_id: int) -> Notification:
    """Send the same once more, as a message of its own."""
    return services.again(current_actor(), _notification(object_id))
