"""Descriptions of webhooks and of their deliveries."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from flask import current_app
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from sqlalchemy import select

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe.description import Description, register
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.webhooks import calls, events, services
from ezadmin_cmdb.webhooks.models import DELIVERED, FAILED, WAITING, Delivery, Webhook


def _check(actor: Actor, webhook: Webhook, new: bool) -> None:
    services.require_own(actor, webhook.events)
    if not new:
        with db.session.no_autoflush:
            stored = db.session.scalar(select(Webhook.events).where(Webhook.id == webhook.id))
        services.require_own(actor, stored or [])
    parts = urlsplit(webhook.url)
    if parts.username is not None or parts.password is not None:
        raise Invalid(_("The address must not hold a user or password."), "url")
    try:
        callable_port = parts.port != 0
    except ValueError:
        callable_port = False
    if not callable_port:
        raise Invalid(_("The address has no port that can be called."), "url")
    try:
        address = ip_address(parts.hostname or "")
    except ValueError:
        address = None
    if address is not None and not calls.may_be_called(
        address, current_app.extensions["ezadmin_settings"].webhooks_allow
    ):
        raise Invalid(_("This address lies in a network that is not called ([webhooks] allow in the settings)."), "url")
    if new:
        webhook.secret = services.new_secret()[1]
    if webhook.active:  # whoever changes it gives it a new chance
        webhook.failing_since = webhook.paused_until = webhook.notice = None


def _removable(actor: Actor, webhook: Webhook) -> None:
    services.require_own(actor, webhook.events)


WEBHOOK = register(
    Description(
        name="webhook",
        path="webhooks",
        model=Webhook,
        title=_l("Webhook"),
        titles=_l("Webhooks"),
        icon="broadcast",
        menu="administration",
        checks=[_check],
        removable=[_removable],
        panels=["webhooks/_webhook.html"],
        empty_hint=_l("A webhook tells another program what changes here, as signed requests to its address."),
        fields=[
            fields.Text(name="name", label=_l("Name"), length=128, required=True, unique=True, searched=True),
            fields.Url(name="url", label=_l("Address"), required=True, searched=True),
            fields.Boolean(name="active", label=_l("Turned on"), ticked=True),
            fields.MultiSelect(
                name="events", label=_l("Told of"), required=True, choices=events.choices, listed=False,
                help=_l("You can choose what you may see everywhere."),
            ),
            fields.Moment(
                name="failing_since", label=_l("Failing since"), editable=False,
                help=_l("After three days without success it is turned off."),
            ),
            fields.Text(name="notice", label=_l("Notice"), length=500, editable=False),
        ],
    )
)  # fmt: skip

LONG = (1 << 24) - 1
"""Of a MEDIUMTEXT."""
STATUSES = {WAITING: _l("waiting"), DELIVERED: _l("delivered"), FAILED: _l("failed")}


def _text(name: str, label: object, **more: Any) -> fields.Text:
    return fields.Text(name=name, label=label, editable=False, **more)


DELIVERY = register(
    Description(
        name="delivery",
        path="deliveries",
        model=Delivery,
        title=_l("Delivery"),
        titles=_l("Deliveries of webhooks"),
        icon="send",
        menu="administration",
        key="id",
        order=("-created",),
        creatable=False,
        changeable=False,
        deletable=False,
        panels=["webhooks/_delivery.html"],
        empty_hint=_l("What webhooks sent stands here, with what was answered."),
        fields=[
            fields.Moment(name="created", label=_l("Time"), required=True, editable=False),
            fields.Reference(name="webhook", label=_l("Webhook"), to="webhook", required=True, editable=False),
            _text("event", _l("Event"), required=True, searched=True),
            fields.Select(name="status", label=_l("Status"), required=True, editable=False, choices=STATUSES),
            fields.Number(name="attempts", label=_l("Attempts"), editable=False),
            fields.Moment(name="next_attempt", label=_l("Next attempt"), editable=False),
            fields.Number(name="answer_status", label=_l("Status of the answer"), editable=False),
            fields.Number(name="milliseconds", label=_l("Milliseconds"), editable=False, listed=False),
            fields.Moment(name="answered", label=_l("Last attempt"), editable=False, listed=False),
            _text("error", _l("Error"), length=500, sortable=False),
            _text("body", _l("Request"), length=LONG, sortable=False, filterable=False, tabular=False, listed=False, lines=True),
            _text("answer", _l("Answer"), length=LONG, sortable=False, filterable=False, tabular=False, listed=False, lines=True),
        ],
    )
)  # fmt: skip
