"""Descriptions of channels, of rules, and of the messages that were sent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from flask import current_app
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from sqlalchemy import inspect
from sqlalchemy.orm import joinedload

from ezadmin_cmdb.accounts.services import LANGUAGES
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.alerts.models import CRITICAL, UNKNOWN, WARNING
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe.description import Description, register
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.maintenance.services import check_filter
from ezadmin_cmdb.notifications import services
from ezadmin_cmdb.notifications.mail import PLAIN, PORTS, START_TLS, TLS
from ezadmin_cmdb.notifications.messages import GENERIC, KAKAOWORK, MAIL, NAVERWORKS, SLACK, TEAMS, TELEGRAM
from ezadmin_cmdb.notifications.models import Channel, Notification, NotificationRule
from ezadmin_cmdb.webhooks import calls
from ezadmin_cmdb.webhooks.models import DELIVERED, FAILED, WAITING

KINDS = {
    MAIL: _l("E-mail"), SLACK: "Slack", TEAMS: "Microsoft Teams", TELEGRAM: "Telegram", KAKAOWORK: _l("KakaoWork"),
    NAVERWORKS: _l("Naver Works"), GENERIC: _l("Any program (JSON)"),
}  # fmt: skip
SECURITY = {START_TLS: "STARTTLS", TLS: "TLS", PLAIN: _l("None")}
BY_MAIL, BY_CALL = _l("E-mail"), _l("Calls of a service")
_ADDRESSES = {TELEGRAM: "https://api.telegram.org", KAKAOWORK: "https://api.kakaowork.com/v1/messages.send"}
_WHERE_TO = ("kind", "url", "smtp_host", "smtp_port", "smtp_security", "smtp_user")
_RECIPIENTS_MAX = 100
_COLLECT = 30


def _check_channel(actor: Actor, channel: Channel, new: bool) -> None:
    services.require_own(actor)
    if channel.kind == MAIL:
        _check_mail(channel)
    else:
        _check_call(channel)
    state = inspect(channel)
    if channel.secret and any(state.attrs[name].history.has_changes() for name in _WHERE_TO):
        channel.secret = None  # whoever changes where it goes must know it
    if channel.active:  # whoever changes it gives it a new chance
        channel.failing_since = channel.paused_until = channel.notice = None
    with db.session.no_autoflush:
        services.look_again()


def _check_mail(channel: Channel) -> None:
    for name in ("recipients", "sender", "smtp_host"):
        if not getattr(channel, name):
            raise Invalid(_("This is needed."), name)
    to = services.recipients(channel)
    if len(to) > _RECIPIENTS_MAX:
        raise Invalid(_("At most %(n)d addresses.", n=_RECIPIENTS_MAX), "recipients")
    for one in to:
        try:
            fields.Email(name="recipients", label="").check(one)
        except Invalid:
            raise Invalid(_("This is no address of e-mail: %(text)s", text=one), "recipients") from None
    channel.recipients = "\n".join(dict.fromkeys(to))
    channel.smtp_security = channel.smtp_security or START_TLS
    channel.smtp_port = channel.smtp_port or PORTS[channel.smtp_security]
    if channel.smtp_user and channel.smtp_security == PLAIN:
        raise Invalid(_("A password is sent over TLS alone: choose STARTTLS or TLS."), "smtp_security")
    _check_host(channel.smtp_host or "", "smtp_host")


def _check_call(channel: Channel) -> None:
    channel.url = channel.url or _ADDRESSES.get(channel.kind)
    if not channel.url:
        raise Invalid(_("This is needed."), "url")
    if channel.kind in (TELEGRAM, KAKAOWORK) and not channel.target:
        raise Invalid(_("This is needed."), "target")
    parts = urlsplit(channel.url)
    if parts.username is not None or parts.password is not None:
        raise Invalid(_("The address must not hold a user or password."), "url")
    try:
        callable_port = parts.port != 0
    except ValueError:
        callable_port = False
    if not callable_port:
        raise Invalid(_("The address has no port that can be called."), "url")
    _check_host(parts.hostname or "", "url")
    if channel.body:
        try:
            json.loads(channel.body)
        except ValueError as error:
            raise Invalid(_("This is no JSON: %(error)s", error=error), "body") from None


def _check_host(host: str, field: str) -> None:
    try:
        address = ip_address(host)
    except ValueError:
        return
    if not calls.may_be_called(address, current_app.extensions["ezadmin_settings"].webhooks_allow):
        raise Invalid(_("This address lies in a network that is not called ([webhooks] allow in the settings)."), field)


def _check_rule(actor: Actor, rule: NotificationRule, new: bool) -> None:
    services.require_own(actor)
    rule.filter = check_filter(rule.filter)
    if rule.collect_seconds is None:
        rule.collect_seconds = _COLLECT
    with db.session.no_autoflush:
        services.look_again()


CHANNEL = register(
    Description(
        name="notification_channel",
        path="notification-channels",
        model=Channel,
        title=_l("Channel of notifications"),
        titles=_l("Channels of notifications"),
        icon="broadcast",
        menu="administration",
        checks=[_check_channel],
        panels=["notifications/_channel.html"],
        empty_hint=_l("A channel is a way to tell people of alerts: mail, or a service in which they talk."),
        form_note=_l("Password or token are written on the channel's page, and anew when the address is changed."),
        fields=[
            fields.Text(name="name", label=_l("Name"), length=128, required=True, unique=True, searched=True),
            fields.Select(name="kind", label=_l("Kind"), required=True, choices=KINDS),
            fields.Boolean(name="active", label=_l("Turned on"), ticked=True),
            fields.Select(name="language", label=_l("Language"), required=True, choices=LANGUAGES, listed=False),
            fields.Text(
                name="recipients", label=_l("Recipients"), length=20_000, lines=True, section=BY_MAIL, sortable=False,
                searched=True, listed=False, help=_l("An address a line."),
            ),
            fields.Email(name="sender", label=_l("Sender"), section=BY_MAIL, listed=False),
            fields.Text(
                name="smtp_host", label=_l("Mail server"), length=253, section=BY_MAIL,
                pattern=r"[A-Za-z0-9._:-]+", pattern_help=_l("Write a name or address."),
            ),
            fields.Number(name="smtp_port", label=_l("Port"), least=1, most=65535, section=BY_MAIL, listed=False),
            fields.Select(name="smtp_security", label=_l("Encryption"), choices=SECURITY, section=BY_MAIL, listed=False),
            fields.Text(name="smtp_user", label=_l("User of the mail server"), section=BY_MAIL, listed=False),
            fields.Url(
                name="url", label=_l("Address"), section=BY_CALL,
                help=_l("Of the service's webhook. Telegram and KakaoWork need none."),
            ),
            fields.Text(
                name="target", label=_l("Room or chat"), section=BY_CALL, listed=False,
                help=_l("Telegram: chat_id. KakaoWork: conversation_id. Slack: channel, where the token of an app is used."),
            ),
            fields.Text(
                name="body", label=_l("Body of one's own"), length=20_000, lines=True, section=BY_CALL, listed=False,
                sortable=False, filterable=False,
                help=_l("JSON, sent instead of the service's own form; {subject}, {text}, {site} and {target} are filled."),
            ),
            fields.Moment(name="failing_since", label=_l("Failing since"), editable=False),
            fields.Text(name="notice", label=_l("Notice"), length=500, editable=False, listed=False),
        ],
    )
)  # fmt: skip

MINIMUM = {CRITICAL: _l("Critical"), WARNING: _l("Warning"), UNKNOWN: _l("No data")}
WHICH, HOW = _l("Which hosts"), _l("How often")

RULE = register(
    Description(
        name="notification_rule",
        path="notification-rules",
        model=NotificationRule,
        title=_l("Rule of notifications"),
        titles=_l("Rules of notifications"),
        icon="bell",
        menu="administration",
        checks=[_check_rule],
        empty_hint=_l("A rule says which alerts a channel is told of."),
        fields=[
            fields.Text(name="name", label=_l("Name"), length=128, required=True, unique=True, searched=True),
            fields.Boolean(name="active", label=_l("Turned on"), ticked=True),
            fields.Reference(name="channel", label=_l("Channel"), to="notification_channel", required=True),
            fields.Select(
                name="minimum", label=_l("From this state on"), required=True, choices=MINIMUM,
                help=_l("No data is the least, critical the most."),
            ),
            fields.Reference(
                name="group", label=_l("Group of hosts"), to="host_group", section=WHICH,
                help=_l("Group, site and filter hold together; without any, every host is meant."),
            ),
            fields.Reference(name="site", label=_l("Site"), to="site", section=WHICH),
            fields.Text(
                name="filter", label=_l("Filter"), length=2000, sortable=False, section=WHICH, listed=False,
                help=_l("As it stands in the address of the list of hosts: state=active&os_name=Debian."),
            ),
            fields.Number(
                name="repeat_minutes", label=_l("Repeated after minutes"), least=5, most=14 * 1440, section=HOW,
                help=_l("Until somebody acknowledges the alert or it is over; empty: told once."),
            ),
            fields.Boolean(name="clears", label=_l("Told when it is over"), ticked=True, section=HOW),
            fields.Number(
                name="collect_seconds", label=_l("Seconds to collect"), least=0, most=3600, section=HOW, listed=False,
                help=_l("What comes within this time is one message for each site; empty: 30."),
            ),
        ],
    )
)  # fmt: skip

LONG = (1 << 24) - 1
"""Of a MEDIUMTEXT."""
STATUSES = {WAITING: _l("waiting"), DELIVERED: _l("delivered"), FAILED: _l("failed")}


def _text(name: str, label: object, **more: Any) -> fields.Text:
    return fields.Text(name=name, label=label, editable=False, **more)


def _number(name: str, label: object, **more: Any) -> fields.Number:
    return fields.Number(name=name, label=label, editable=False, **more)


def _long(name: str, label: object) -> fields.Text:
    return _text(
        name, label, length=LONG, sortable=False, filterable=False, tabular=False, listed=False, lines=True
    )  # fmt: skip


_FIELDS: Sequence[fields.Field] = [
    fields.Moment(name="created", label=_l("Time"), required=True, editable=False),
    fields.Reference(name="channel", label=_l("Channel"), to="notification_channel", required=True, editable=False),
    fields.Computed(  # no reference: that would keep the rule from being deleted
        name="rule_name",
        label=_l("Rule"),
        compute=lambda one: None if one.rule is None else one.rule.name,
        listed=False,
    ),
    _text("subject", _l("Subject"), required=True, searched=True),
    _number("alerts", _l("Alerts"), listed=False),
    fields.Select(name="status", label=_l("Status"), required=True, editable=False, choices=STATUSES),
    _number("attempts", _l("Attempts")),
    fields.Moment(name="next_attempt", label=_l("Next attempt"), editable=False),
    _number("answer_status", _l("Status of the answer"), listed=False),
    _number("milliseconds", _l("Milliseconds"), listed=False),
    fields.Moment(name="answered", label=_l("Last attempt"), editable=False, listed=False),
    _text("error", _l("Error"), length=500, sortable=False),
    _long("body", _l("Message")),
    _long("answer", _l("Answer")),
]

NOTIFICATION = register(
    Description(
        name="notification",
        path="notifications",
        model=Notification,
        title=_l("Notification"),
        titles=_l("Sent notifications"),
        icon="send",
        menu="administration",
        key="id",
        order=("-created",),
        creatable=False,
        changeable=False,
        deletable=False,
        panels=["notifications/_notification.html"],
        loads=lambda: [joinedload(Notification.rule)],  # not a field that is listed, but the API shows its name
        empty_hint=_l("What was sent stands here for 90 days, with what was answered."),
        fields=_FIELDS,
    )
)
