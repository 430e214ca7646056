"""Giving fields the values back that they had before a change."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import select

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import services
from ezadmin_cmdb.describe.description import Description
from ezadmin_cmdb.describe.fields import Day, Field, Moment, Reference, References
from ezadmin_cmdb.errors import Invalid, NotFound


def restorable(description: Description, change: Change) -> list[str]:
    """The fields of a change that can have their former values back."""
    if change.action != "update" or not description.changeable:
        return []
    editable = {one.name for one in description.all_fields() if one.editable}
    return [name for name in change.fields if name in editable]


def restore(
    actor: Actor, description: Description, obj: Any, change_id: int, names: Collection[str] | None = None
) -> list[str]:
    """Give fields of a change (``names``, else all that can be) their former values; that is a change like any other.

    Returns the fields that do not have them nevertheless: an agent's value holds. Raises Forbidden, NotFound, Invalid.
    """
    change = db.session.scalar(
        select(Change).where(
            Change.id == change_id, Change.object_type == description.name, Change.object_id == str(obj.id)
        )
    )
    if change is None:
        raise NotFound(_("There is no such change of it."))
    possible = restorable(description, change)
    wanted = possible if names is None else list(names)
    if not wanted or (unknown := [name for name in wanted if name not in possible]):
        named = ", ".join(unknown) if wanted else _("This change")
        raise Invalid(_("%(names)s: nothing that can be restored.", names=named), "fields")
    values = {name: _former(actor, description.field(name), change.fields[name][0]) for name in wanted}
    services.update(actor, description, obj, values)
    return [name for name in wanted if description.field(name).get(obj) != description.field(name).check(values[name])]


def _former(actor: Actor, field: Field, plain: Any) -> Any:
    """The value that a change record holds. Raises Invalid if what it refers to is gone."""
    if isinstance(field, References):
        return services.referred(actor, field, [one["id"] for one in plain or ()], ids_only=True)
    if plain is None:
        return None
    if isinstance(field, Reference):
        return services.referred(actor, field, plain["id"], ids_only=True)
    return field.parse(plain) if isinstance(field, (Day, Moment)) else plain
