"""What can be done with channels and their messages."""

from __future__ import annotations

import json
import re
import time
from datetime import timedelta

from flask import current_app
from flask_babel import gettext as _
from sqlalchemy import delete, func, or_, select, update

from ezadmin_cmdb import __version__
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.alerts.models import OK, Alert
from ezadmin_cmdb.changes import services as changes
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.errors import Conflict, Invalid
from ezadmin_cmdb.notifications import mail, messages
from ezadmin_cmdb.notifications.messages import MAIL, TELEGRAM
from ezadmin_cmdb.notifications.models import Channel, Notification
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.sealing import SealBroken, seal, unseal
from ezadmin_cmdb.settings import Settings
from ezadmin_cmdb.webhooks import calls
from ezadmin_cmdb.webhooks.models import DELIVERED, FAILED, WAITING

CHANGE = "notification_channel.change"
TOLD = "alert.view"
FIRST_DELAY, LAST_DELAY = timedelta(seconds=10), timedelta(hours=1)
CHANNEL_PAUSE = timedelta(minutes=1)
GIVE_UP_AFTER = timedelta(days=1)
"""A message is not tried any longer; its channel stays on, for the next one may be the one that counts."""
KEPT = timedelta(days=90)
LEASE = timedelta(minutes=2)
"""A channel is one process's own for so long."""
SECRET_MAX = 4096
_PURPOSE = "notification"


def _settings() -> Settings:
    settings: Settings = current_app.extensions["ezadmin_settings"]
    return settings


def require_own(actor: Actor) -> None:
    """Nobody has others told of alerts that he may not see himself. Raises Forbidden."""
    rights.require_own(actor, {TOLD}, everywhere=True)


def set_secret(actor: Actor, channel: Channel, secret: str) -> None:
    """Give a channel its password or token, which is shown to nobody again; an empty one takes it away.

    Raises Forbidden, Invalid.
    """
    rights.require(actor, CHANGE)
    require_own(actor)
    secret = secret.strip()
    if len(secret) > SECRET_MAX or not secret.isprintable():
        raise Invalid(_("At most %(n)d characters, of one line.", n=SECRET_MAX), "secret")
    if channel.kind == TELEGRAM and secret and not re.fullmatch(r"[0-9]+:[A-Za-z0-9_-]+", secret):
        raise Invalid(_("A token of Telegram looks like 123456:ABC-DEF."), "secret")
    channel.secret = seal(_settings().secret_key(), _PURPOSE, secret) if secret else None
    db.session.flush()
    told = "new" if secret else "none"
    changes.record(actor, "notification_channel", str(channel.id), channel.name, {"secret": None}, {"secret": told})


def look_again() -> None:
    """Let the worker look at all open alerts anew: rules changed. Does not commit."""
    db.session.execute(
        update(Alert).where(Alert.state != OK).values(unsettled=True), execution_options={"synchronize_session": False}
    )


def test(actor: Actor, channel: Channel) -> Notification:
    """Send a message now that says that it is a test. Raises Forbidden."""
    rights.require(actor, CHANGE)
    require_own(actor)
    subject, body = messages.test_message(channel, utc_now())
    made = Notification(channel=channel, subject=subject, body=body, next_attempt=None)
    db.session.add(made)
    db.session.flush()
    if not attempt(made):
        made.status, made.next_attempt = FAILED, None
    return made


def again(actor: Actor, notification: Notification) -> Notification:
    """Send the same once more, as a message of its own, by the worker. Raises Forbidden; Conflict for a channel that is off."""
    rights.require(actor, CHANGE)
    require_own(actor)
    channel = notification.channel
    if not channel.active:
        raise Conflict(_("The channel %(name)s is turned off.", name=channel.name))
    made = Notification(
        channel=channel, rule_id=notification.rule_id, subject=notification.subject, body=notification.body,
        alerts=notification.alerts,
    )  # fmt: skip
    db.session.add(made)
    channel.paused_until = None
    db.session.flush()
    return made


def attempt(one: Notification) -> bool:
    """Send a message, and note what came of it; returns whether it was taken. Commits nothing."""
    began = time.monotonic()
    one.attempts += 1
    one.answer_status = one.answer = one.error = None
    taken = False
    try:
        channel = one.channel
        secret = unseal(_settings().secret_key(), _PURPOSE, channel.secret) if channel.secret else None
        answer = _mail(one, secret) if channel.kind == MAIL else _call(one, secret)
        one.answer_status, one.answer = answer.status, answer.text
        taken = answer.accepted and not _says_no(answer.text)
    except SealBroken as error:
        one.error = f"the secret cannot be read: {error}; write it again"
    except calls.CallError as error:
        one.error = str(error)[:500]
    one.milliseconds = round(1000 * (time.monotonic() - began))
    one.answered = utc_now()
    if taken:
        one.status, one.next_attempt = DELIVERED, None
    return taken


def recipients(channel: Channel) -> list[str]:
    """The addresses that a channel's mail goes to."""
    return (channel.recipients or "").split()


def _mail(one: Notification, secret: str | None) -> calls.Answer:
    channel = one.channel
    security = channel.smtp_security or mail.START_TLS
    server = mail.Server(
        channel.smtp_host or "", channel.smtp_port or mail.PORTS[security], security, channel.smtp_user, secret
    )
    to = recipients(channel)
    identity = f"ezadmin-notification-{one.id}-{int(one.created.timestamp())}"
    made = mail.message(channel.sender or "", to, one.subject, one.body, identity, one.created)
    return mail.send(server, made, to, _settings().webhooks_allow)


def _call(one: Notification, secret: str | None) -> calls.Answer:
    channel = one.channel
    headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": f"ezadmin/{__version__}"}
    url = channel.url or ""
    if channel.kind == TELEGRAM:
        url = f"{url.rstrip('/')}/bot{secret or ''}/sendMessage"
    elif secret:
        headers["Authorization"] = f"Bearer {secret}"
    return calls.post(url, one.body.encode(), headers, _settings().webhooks_allow)


def _says_no(text: str) -> bool:
    """Some services answer 200 and say in it that they did nothing: KakaoWork ``success``, Slack and Telegram ``ok``."""
    try:
        said = json.loads(text)
    except ValueError:
        return False
    return isinstance(said, dict) and (said.get("success") is False or said.get("ok") is False)


def due() -> list[int]:
    """The channels that have something to tell now and that nobody works on."""
    now = utc_now()
    query = (
        select(Notification.channel_id)
        .join(Channel)
        .where(Notification.status == WAITING, Notification.next_attempt <= now, Channel.active)
        .where(or_(Channel.paused_until.is_(None), Channel.paused_until <= now))
        .group_by(Notification.channel_id)
        .order_by(func.min(Notification.next_attempt))
    )
    return list(db.session.scalars(query))


def claim(channel_id: int) -> bool:
    """Take a channel for this process; False if another one has it. The caller commits."""
    now = utc_now()
    taken = db.session.execute(
        update(Channel)
        .where(Channel.id == channel_id, or_(Channel.paused_until.is_(None), Channel.paused_until <= now))
        .values(paused_until=now + LEASE)
    )
    return bool(taken.rowcount)  # type: ignore[attr-defined]


def next_due(channel_id: int) -> Notification | None:
    """The message of a channel that has waited longest."""
    return db.session.scalar(
        select(Notification)
        .where(
            Notification.channel_id == channel_id,
            Notification.status == WAITING,
            Notification.next_attempt <= utc_now(),
        )
        .order_by(Notification.next_attempt, Notification.id)
        .limit(1)
    )


def send(one: Notification) -> bool:
    """Try a message as the worker does; after a failure it waits, longer each time. Returns whether to go on with others."""
    channel, now = one.channel, utc_now()
    if attempt(one):
        channel.failing_since = channel.notice = None
        channel.paused_until = now + LEASE
        return True
    channel.failing_since = channel.failing_since or now
    channel.notice = (one.error or f"it answers {one.answer_status}")[:500]
    delay: timedelta = min(FIRST_DELAY * 4 ** min(one.attempts - 1, 10), LAST_DELAY)
    channel.paused_until = now + min(delay, CHANNEL_PAUSE)
    if now - one.created >= GIVE_UP_AFTER:
        one.status, one.next_attempt = FAILED, None
    else:
        one.next_attempt = now + delay
    return False


def release(channel_id: int) -> None:
    """Let others work on a channel, after its messages were sent."""
    db.session.execute(update(Channel).where(Channel.id == channel_id).values(paused_until=None))


def forget_old() -> None:
    """Delete messages that are done and old."""
    db.session.execute(
        delete(Notification).where(Notification.status != WAITING, Notification.created < utc_now() - KEPT)
    )
