"""What can be told, and the writing of deliveries: at the end of each transaction that has changes, and within it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from flask_babel import lazy_gettext as _l
from sqlalchemy import event, insert, inspect, select
from sqlalchemy.orm import Session, SessionTransaction

from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.database import utc_now
from ezadmin_cmdb.describe.description import known
from ezadmin_cmdb.hosts.models import Drift
from ezadmin_cmdb.webhooks.models import WAITING, Delivery, Webhook
from ezadmin_wire.times import format_time

PING = "ping"
STATE = "host.state"
DRIFT = "host.drift"
_VERBS = {"create": "created", "update": "changed", "delete": "deleted"}
_COLLECTED = "ezadmin_webhook_events"


def choices() -> dict[str, object]:
    """The events, each with what people read."""
    found: dict[str, object] = {}
    titles = {
        "created": _l("added"), "changed": _l("changed"), "deleted": _l("deleted"),
    }  # fmt: skip
    for one in known():
        verbs = ["created"] * one.creatable + ["changed"] * one.changeable + ["deleted"] * one.deletable
        if one.name == "host" and "created" not in verbs:
            verbs.insert(0, "created")
        for verb in verbs:
            found[f"{one.name}.{verb}"] = _l("%(title)s: %(verb)s", title=one.title, verb=titles[verb])
    found[STATE] = _l("Host: its state changed")
    found[DRIFT] = _l("Host: a difference was observed")
    return found


def permission_of(name: str) -> str:
    """Who may be told of an event: whoever may see what it is about."""
    return f"{name.partition('.')[0]}.view"


def _names(change: Change) -> list[str]:
    names = [f"{change.object_type}.{_VERBS.get(change.action, change.action)}"]
    if change.object_type == "host" and change.action == "update" and "state" in change.fields:
        names.append(STATE)
    return names


def _told_of(change: Change) -> dict[str, Any]:
    return {
        "time": format_time(change.time),
        "actor": change.actor,
        "source": change.source,
        "request_id": change.request_id,
        "object": {"type": change.object_type, "id": change.object_id, "name": change.object_name},
        "changes": {name: {"before": before, "after": after} for name, (before, after) in change.fields.items()},
    }


def _told_of_drift(drift: Drift) -> dict[str, Any]:
    return {
        "time": format_time(drift.since),
        "actor": drift.host_id,
        "source": "agent",
        "request_id": None,
        "object": {"type": "host", "id": drift.host_id, "name": drift.host.name},
        "changes": {drift.field: {"before": drift.declared, "after": drift.observed}},
    }


def body(name: str, told: dict[str, Any]) -> str:
    """The body of a request."""
    return json.dumps({"event": name, **told}, ensure_ascii=False, separators=(",", ":"), default=str)


@event.listens_for(Session, "after_flush")
def _collect(session: Session, _context: object) -> None:
    fresh = [one for one in session.new if isinstance(one, (Change, Drift))]
    if fresh:
        session.info.setdefault(_COLLECTED, []).extend(fresh)


@event.listens_for(Session, "after_soft_rollback")
def _forget(session: Session, ended: SessionTransaction) -> None:
    if ended.parent is None:
        session.info.pop(_COLLECTED, None)


@event.listens_for(Session, "before_commit")
def _write(session: Session) -> None:
    """Write what was collected, when the whole transaction ends. What a savepoint took back is no longer persistent."""
    if session.in_nested_transaction():
        return
    session.flush()
    kept = [one for one in session.info.pop(_COLLECTED, []) if inspect(one).persistent]
    if not kept:
        return
    wanted = session.execute(select(Webhook.id, Webhook.events).where(Webhook.active)).all()
    if wanted:
        rows = [row for one in kept for row in _rows(one, [(key, events) for key, events in wanted])]
        if rows:
            session.execute(insert(Delivery), rows)


def _rows(one: Change | Drift, wanted: Iterable[tuple[int, list[str]]]) -> list[dict[str, Any]]:
    names = _names(one) if isinstance(one, Change) else [DRIFT]
    listeners = [(key, name) for key, events in wanted for name in names if name in events]
    if not listeners:
        return []
    told = _told_of(one) if isinstance(one, Change) else _told_of_drift(one)
    now = utc_now()
    return [
        {
            "webhook_id": key, "event": name, "body": body(name, told), "created": now, "status": WAITING,
            "attempts": 0, "next_attempt": now,
        }
        for key, name in listeners
    ]  # fmt: skip
