"""What becomes an entry of the audit log: each change record, each denial, and what is noted here (sign-ins and the like).

The entries of a unit of work are made at its commit, after all else: the lock on the chain's head is then held for a few
statements only, and what is rolled back leaves none. What must be told of although the request fails is ``kept``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import event, inspect
from sqlalchemy.orm import Session, SessionTransaction

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.audit import chain
from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.rights.models import Denial

SUCCESS, FAILURE = "success", "failure"
_RECORDS, _NOTES, _KEPT = "audit_records", "audit_notes", "audit_kept"


def note(
    kind: str,
    action: str,
    actor: Actor,
    outcome: str = SUCCESS,
    *,
    about: tuple[str, object, str] | None = None,
    details: Mapping[str, Any] | None = None,
    kept: bool = False,
) -> None:
    """Tell of something that is neither change nor denial; ``about`` is (kind of object, its id, its name).

    ``kept``: also if the request fails and is rolled back.
    """
    object_type, object_id, object_name = about or (None, None, None)
    entry = {
        "time": utc_now(),
        "kind": kind,
        "action": action,
        "outcome": outcome,
        "actor": actor.name[:255],
        "source": actor.source,
        "address": actor.address,
        "request_id": actor.request_id,
        "object_type": object_type,
        "object_id": None if object_id is None else str(object_id)[:64],
        "object_name": None if object_name is None else object_name[:255],
        "details": chain.canonical({**(details or {}), **({"token": actor.token} if actor.token else {})}),
    }
    db.session.info.setdefault(_KEPT if kept else _NOTES, []).append(entry)


def _of_record(record: Change | Denial) -> chain.Entry:
    """The entry of a change record or a denial."""
    shared = {
        "time": record.time,
        "actor": record.actor,
        "source": record.source,
        "request_id": record.request_id,
        "object_type": record.object_type,
        "object_id": record.object_id,
        "address": record.address,
    }
    details: dict[str, Any] = {"token": record.token} if record.token else {}
    if isinstance(record, Denial):
        details |= {"record": record.id}
        return shared | {
            "kind": "denial", "action": record.permission, "outcome": FAILURE, "object_name": None,
            "details": chain.canonical(details),
        }  # fmt: skip
    details |= {"record": record.id, "fields": json.loads(json.dumps(record.fields, default=str))}
    return shared | {
        "kind": "change", "action": record.action, "outcome": SUCCESS, "object_name": record.object_name,
        "details": chain.canonical(details),
    }  # fmt: skip


@event.listens_for(db.session, "after_flush")
def _remember(session: Session, context: object) -> None:
    records = [one for one in session.new if isinstance(one, (Change, Denial))]
    if records:
        session.info.setdefault(_RECORDS, []).extend(records)


@event.listens_for(db.session, "before_commit")
def _append(session: Session) -> None:
    if session.in_nested_transaction():
        return
    rights.keep_denials()
    session.flush()
    # a record that went away with its savepoint is no longer persistent
    entries = [_of_record(one) for one in session.info.pop(_RECORDS, []) if inspect(one).persistent]
    entries += session.info.pop(_NOTES, []) + session.info.pop(_KEPT, [])
    if entries:
        chain.append(sorted(entries, key=lambda entry: entry["time"]))


@event.listens_for(db.session, "after_soft_rollback")
def _forget(session: Session, previous: SessionTransaction) -> None:
    if previous.parent is None:
        session.info.pop(_RECORDS, None)
        session.info.pop(_NOTES, None)
