"""Writing change records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.database import db

Snapshot = Mapping[str, Any]
"""An object's fields as JSON values, at one moment."""


def differences(before: Snapshot, after: Snapshot) -> dict[str, list[Any]]:
    """``{field: [before, after]}`` of what is not the same; a missing field is None."""
    return {
        name: [before.get(name), after.get(name)]
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    }


def record(
    actor: Actor, object_type: str, object_id: str, object_name: str, before: Snapshot | None, after: Snapshot | None
) -> bool:
    """Write a change record, if there is a change; None before is a creation, None after a deletion.

    Returns whether there was a change.
    """
    fields = differences(before or {}, after or {})
    if not fields:
        return False
    action = "create" if before is None else "delete" if after is None else "update"
    db.session.add(
        Change(
            actor=actor.name,
            source=actor.source,
            request_id=actor.request_id,
            action=action,
            object_type=object_type,
            object_id=object_id,
            object_name=object_name,
            fields=fields,
            address=actor.address,
            token=actor.token,
        )
    )
    return True
