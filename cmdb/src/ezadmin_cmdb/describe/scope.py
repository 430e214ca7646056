"""What of a described object its reader may see: hosts that it refers to, but that lie out of his scope, are not there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes.history import History
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe.description import Description, find
from ezadmin_cmdb.describe.fields import Field, Reference, References

_MEMO = "visible hosts"


def _hidden_from(actor: Actor, field: Field) -> bool:
    """Whether a field refers to hosts of which the actor may not see all."""
    if not isinstance(field, (Reference, References)):
        return False
    target = find(field.to)
    return target.about_hosts and not actor.rights.scope(target.view).everywhere


def _visible_ids(actor: Actor) -> frozenset[str]:
    """The ids of the actor's hosts: one query a request."""
    known: tuple[Actor, frozenset[str]] | None = db.session.info.get(_MEMO)
    if known is None or known[0] is not actor:
        from ezadmin_cmdb.hosts.models import Host
        from ezadmin_cmdb.hosts.services import visible

        known = actor, frozenset(db.session.scalars(visible(actor).with_only_columns(Host.id)))
        db.session.info[_MEMO] = known
    return known[1]


def seen(actor: Actor, field: Field, obj: Any) -> Any:
    """The value of a field, without the hosts that the actor may not see."""
    value = field.get(obj)
    if not value or not _hidden_from(actor, field):
        return value
    ids = _visible_ids(actor)
    if isinstance(field, References):
        return [one for one in value if one.id in ids]
    return value if value.id in ids else None


def kept(actor: Actor, field: Field, obj: Any, value: Any) -> Any:
    """What a field holds after the actor set it to ``value``: what he cannot see stays in it."""
    if not _hidden_from(actor, field):
        return value
    before, ids = field.get(obj), _visible_ids(actor)
    if isinstance(field, References):
        return [*(value or ()), *(one for one in before or () if one.id not in ids)]
    return before if value is None and before is not None and before.id not in ids else value


def may_be_asked(actor: Actor, field: Field, values: tuple[str, ...]) -> tuple[str, ...]:
    """The values that the actor may filter by: a host out of scope is none."""
    if not _hidden_from(actor, field) or not isinstance(field, (Reference, References)):
        return values
    found = field.resolve(actor, values)
    return tuple(value for value in values if value.strip() in found)


@dataclass(frozen=True)
class Seen:
    """A change record as its reader sees it."""

    id: int
    time: datetime
    actor: str
    source: str
    request_id: str | None
    action: str
    object_type: str
    object_id: str
    object_name: str
    fields: Mapping[str, list[Any]]


def differences(actor: Actor, description: Description, fields: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Fields of a change, ``{field: [before, after]}``, without the hosts that the actor may not see."""
    hidden = {one.name for one in description.all_fields() if one.name in fields and _hidden_from(actor, one)}
    if not hidden:
        return dict(fields)
    ids = _visible_ids(actor)
    return {
        name: [_without(value, ids) for value in values] if name in hidden else values
        for name, values in fields.items()
    }


def history(actor: Actor, description: Description, found: History) -> History:
    """Changes without the hosts that the actor may not see."""
    if not any(_hidden_from(actor, one) for one in description.all_fields()):
        return found
    items = []
    for one in found.items:
        fields = differences(actor, description, one.fields)
        items.append(
            Seen(
                one.id, one.time, one.actor, one.source, one.request_id, one.action, one.object_type, one.object_id,
                one.object_name, fields,
            )
        )  # fmt: skip
    return replace(found, items=items)


def _without(value: Any, ids: frozenset[str]) -> Any:
    if isinstance(value, list):
        return [one for one in value if not isinstance(one, dict) or one.get("id") in ids]
    return None if isinstance(value, dict) and value.get("id") not in ids else value
