"""Pages and API of what is done with webhooks beside the generated ones: test, another secret, send again."""

# mypy: disable-error-code="untyped-decorator"
# (flask-smorest ships no types)
from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, url_for
from flask_babel import gettext as _
from flask_smorest import Blueprint as ApiBlueprint
from marshmallow import Schema, fields
from werkzeug.wrappers import Response

from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import pages
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.errors import Conflict, NotFound
from ezadmin_cmdb.web.access import needs
from ezadmin_cmdb.web.signin import current_actor
from ezadmin_cmdb.webhooks import services
from ezadmin_cmdb.webhooks.description import DELIVERY, WEBHOOK
from ezadmin_cmdb.webhooks.models import DELIVERED, Delivery, Webhook

webhooks = Blueprint("webhooks", __name__, url_prefix="/webhooks")
deliveries = Blueprint("deliveries", __name__, url_prefix="/deliveries")
pages.add(webhooks, WEBHOOK, pages.actions(WEBHOOK))
pages.add(deliveries, DELIVERY, pages.actions(DELIVERY))


def _webhook(object_id: int) -> Webhook:
    found: Webhook = described.find(current_actor(), WEBHOOK, object_id)
    return found


def _delivery(object_id: int) -> Delivery:
    """A delivery, for who may change webhooks: that is enough to send it again, reading it is another right."""
    found = db.session.get(Delivery, object_id)
    if found is None:
        raise NotFound(_("There is no %(title)s %(id)s.", title=DELIVERY.title, id=object_id))
    return found


@webhooks.post("/<int:object_id>/test")
@needs(WEBHOOK.change)
def test(object_id: int) -> Response:
    """Call the receiver now."""
    webhook = _webhook(object_id)
    made = services.test(current_actor(), webhook)
    if made.status == DELIVERED:
        flash(_("%(name)s answered with %(status)s.", name=webhook.name, status=made.answer_status))
    else:
        why = made.error or _("it answered with %(status)s", status=made.answer_status)
        flash(_("The test failed: %(why)s", why=why), "warning")
    return redirect(url_for(".show", object_id=object_id))


@webhooks.post("/<int:object_id>/secret")
@needs(WEBHOOK.change)
def secret(object_id: int) -> str:
    """Another secret, shown once."""
    webhook = _webhook(object_id)
    return render_template(
        "webhooks/secret_once.html", webhook=webhook, secret=services.renew_secret(current_actor(), webhook)
    )


@deliveries.post("/<int:object_id>/again")
@needs(WEBHOOK.change)
def again(object_id: int) -> Response:
    """Send it once more."""
    try:
        made = services.again(current_actor(), _delivery(object_id))
    except Conflict as error:
        flash(str(error), "warning")
        return redirect(url_for(".show", object_id=object_id))
    flash(_("It is sent again."))
    return redirect(url_for(".show", object_id=made.id))


class SecretSchema(Schema):
    """A secret that is shown this once."""

    secret = fields.String()


class AttemptSchema(Schema):
    """A delivery, and what came of it."""

    id = fields.Integer()
    event = fields.String()
    status = fields.String()
    attempts = fields.Integer()
    answer_status = fields.Integer(allow_none=True)
    answer = fields.String(allow_none=True)
    error = fields.String(allow_none=True)
    milliseconds = fields.Integer(allow_none=True)


api = ApiBlueprint(
    "api_webhook_calls", __name__, url_prefix="/api/v1", description="Webhooks: test, secret, send again"
)


@api.route("/webhooks/<int:object_id>/test", methods=["POST"], endpoint="test")
@api.response(200, AttemptSchema)
@needs(WEBHOOK.change)
def api_test(object_id: int) -> Delivery:
    """Call the receiver now with the event "ping"; the answer is what came of it."""
    return services.test(current_actor(), _webhook(object_id))


@api.route("/webhooks/<int:object_id>/secret", methods=["POST"], endpoint="secret")
@api.response(200, SecretSchema)
@needs(WEBHOOK.change)
def api_secret(object_id: int) -> dict[str, str]:
    """Give a webhook another secret, which is shown this once."""
    return {"secret": services.renew_secret(current_actor(), _webhook(object_id))}


@api.route("/deliveries/<int:object_id>/again", methods=["POST"], endpoint="again")
@api.response(202, AttemptSchema)
@needs(WEBHOOK.change)
def api_again(object_id: int) -> Delivery:
    """Send the same once more, as a delivery of its own."""
    return services.again(current_actor(), _delivery(object_id))
