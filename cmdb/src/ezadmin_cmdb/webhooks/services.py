"""What can be done with webhooks and their deliveries."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from datetime import timedelta

from flask import current_app
from flask_babel import gettext as _
from sqlalchemy import delete, func, or_, select, update

from ezadmin_cmdb import __version__
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes import services as changes
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.errors import Conflict
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.sealing import SealBroken, seal, unseal
from ezadmin_cmdb.settings import Settings
from ezadmin_cmdb.webhooks import calls, events
from ezadmin_cmdb.webhooks.models import DELIVERED, FAILED, WAITING, Delivery, Webhook
from ezadmin_wire.times import format_time

CHANGE = "webhook.change"
FIRST_DELAY, LAST_DELAY = timedelta(seconds=10), timedelta(hours=6)
GIVE_UP_AFTER = timedelta(days=3)
"""A delivery is not tried any longer, and a webhook without a success for so long is turned off."""
KEPT = timedelta(days=30)
LEASE = timedelta(minutes=2)
"""A webhook is one process's own for so long."""
_PURPOSE = "webhook"
_WORKER = "webhooks"


def _settings() -> Settings:
    settings: Settings = current_app.extensions["ezadmin_settings"]
    return settings


def new_secret() -> tuple[str, str]:
    """A secret, and how it is stored."""
    made = secrets.token_urlsafe(32)
    return made, seal(_settings().secret_key(), _PURPOSE, made)


def require_own(actor: Actor, told: list[str]) -> None:
    """Nobody has himself told of what he may not see everywhere. Raises Forbidden."""
    rights.require_own(actor, {events.permission_of(name) for name in told}, everywhere=True)


def renew_secret(actor: Actor, webhook: Webhook) -> str:
    """Give a webhook another secret, which is shown this once. Raises Forbidden."""
    rights.require(actor, CHANGE)
    require_own(actor, webhook.events)
    made, webhook.secret = new_secret()
    db.session.flush()
    changes.record(actor, "webhook", str(webhook.id), webhook.name, {"secret": None}, {"secret": "new"})
    return made


def test(actor: Actor, webhook: Webhook) -> Delivery:
    """Call the receiver now with the event ``ping``. Raises Forbidden."""
    rights.require(actor, CHANGE)
    require_own(actor, webhook.events)
    told = {
        "time": format_time(utc_now()),
        "actor": actor.name,
        "source": actor.source,
        "request_id": actor.request_id,
        "object": {"type": "webhook", "id": str(webhook.id), "name": webhook.name},
        "changes": {},
    }
    made = Delivery(webhook=webhook, event=events.PING, body=events.body(events.PING, told), next_attempt=None)
    db.session.add(made)
    db.session.flush()
    attempt(made)
    if made.status != DELIVERED:
        made.status, made.next_attempt = FAILED, None
    return made


def again(actor: Actor, delivery: Delivery) -> Delivery:
    """Send the same once more: as a delivery of its own, by the worker. Raises Forbidden; Conflict for a webhook that is off."""
    rights.require(actor, CHANGE)
    require_own(actor, delivery.webhook.events)
    if not delivery.webhook.active:
        raise Conflict(_("The webhook %(name)s is turned off.", name=delivery.webhook.name))
    made = Delivery(webhook=delivery.webhook, event=delivery.event, body=delivery.body)
    db.session.add(made)
    delivery.webhook.paused_until = None
    db.session.flush()
    return made


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """``v1=`` and the HMAC-SHA256, in hex, of the timestamp, a point and the body."""
    return "v1=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def request_of(delivery: Delivery, secret: str, timestamp: str) -> tuple[bytes, dict[str, str]]:
    """Body and headers."""
    body = delivery.body.encode()
    return body, {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": f"ezadmin/{__version__}",
        "X-Ezadmin-Event": delivery.event,
        "X-Ezadmin-Delivery": str(delivery.id),
        "X-Ezadmin-Timestamp": timestamp,
        "X-Ezadmin-Signature": signature(secret, timestamp, body),
    }


def attempt(delivery: Delivery) -> bool:
    """Send a delivery, and note what came of it; returns whether it was taken. Commits nothing."""
    began = time.monotonic()
    delivery.attempts += 1
    delivery.answer_status = delivery.answer = delivery.error = None
    try:
        secret = unseal(_settings().secret_key(), _PURPOSE, delivery.webhook.secret)
        body, headers = request_of(delivery, secret, str(int(time.time())))
        answer = calls.post(delivery.webhook.url, body, headers, _settings().webhooks_allow)
        delivery.answer_status, delivery.answer = answer.status, answer.text
        taken = answer.accepted
    except SealBroken as error:
        delivery.error, taken = f"the secret cannot be read: {error}; make a new one", False
    except calls.CallError as error:
        delivery.error, taken = str(error)[:500], False
    delivery.milliseconds = round(1000 * (time.monotonic() - began))
    delivery.answered = utc_now()
    if taken:
        delivery.status, delivery.next_attempt = DELIVERED, None
    return taken


def due() -> list[int]:
    """The webhooks that have something to tell now and that nobody works on."""
    now = utc_now()
    query = (
        select(Delivery.webhook_id)
        .join(Webhook)
        .where(Delivery.status == WAITING, Delivery.next_attempt <= now, Webhook.active)
        .where(or_(Webhook.paused_until.is_(None), Webhook.paused_until <= now))
        .group_by(Delivery.webhook_id)
        .order_by(func.min(Delivery.next_attempt))
    )
    return list(db.session.scalars(query))


def claim(webhook_id: int) -> bool:
    """Take a webhook for this process; False if another one has it. The caller commits."""
    now = utc_now()
    taken = db.session.execute(
        update(Webhook)
        .where(Webhook.id == webhook_id, or_(Webhook.paused_until.is_(None), Webhook.paused_until <= now))
        .values(paused_until=now + LEASE)
    )
    return bool(taken.rowcount)  # type: ignore[attr-defined]


def next_due(webhook_id: int) -> Delivery | None:
    """The delivery of a webhook that has waited longest."""
    return db.session.scalar(
        select(Delivery)
        .where(Delivery.webhook_id == webhook_id, Delivery.status == WAITING, Delivery.next_attempt <= utc_now())
        .order_by(Delivery.next_attempt, Delivery.id)
        .limit(1)
    )


def send(delivery: Delivery) -> bool:
    """Try a delivery as the worker does; after a failure it waits, longer each time. Returns whether to go on with others."""
    webhook, now = delivery.webhook, utc_now()
    if attempt(delivery):
        webhook.failing_since = None
        webhook.paused_until = now + LEASE
        return True
    webhook.failing_since = webhook.failing_since or now
    delay: timedelta = min(FIRST_DELAY * 4 ** min(delivery.attempts - 1, 10), LAST_DELAY)
    webhook.paused_until = now + min(delay, timedelta(minutes=10))
    if now - delivery.created >= GIVE_UP_AFTER:
        delivery.status, delivery.next_attempt = FAILED, None
    else:
        delivery.next_attempt = now + delay
    if now - webhook.failing_since >= GIVE_UP_AFTER:
        _turn_off(webhook, delivery)
    return False


def release(webhook_id: int) -> None:
    """Let others work on a webhook, after its deliveries were sent."""
    db.session.execute(update(Webhook).where(Webhook.id == webhook_id).values(paused_until=None))


def _turn_off(webhook: Webhook, delivery: Delivery) -> None:
    days = GIVE_UP_AFTER.days
    why = delivery.error or f"it answers {delivery.answer_status}"
    webhook.active = False
    webhook.notice = f"turned off after {days} days without success: {why}"[:500]
    db.session.execute(
        update(Delivery)
        .where(Delivery.webhook_id == webhook.id, Delivery.status == WAITING)
        .values(status=FAILED, next_attempt=None, error="the webhook was turned off")
    )
    actor = Actor(_WORKER, "worker")
    changes.record(actor, "webhook", str(webhook.id), webhook.name, {"active": True}, {"active": False})


def forget_old() -> None:
    """Delete deliveries that are done and old."""
    db.session.execute(delete(Delivery).where(Delivery.status != WAITING, Delivery.created < utc_now() - KEPT))
