"""Many objects changed, made or deleted at once, with a number of queries that does not grow with each row.

Rows that cannot be written say why; the others are written. Whether all of it is kept is decided by who calls: ``dry``
does everything but records and messages, and is to be rolled back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import func, inspect, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm.attributes import set_committed_value

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes import services as changes
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import scope, services
from ezadmin_cmdb.describe.description import Changed, Description
from ezadmin_cmdb.describe.fields import Field, Reference, References
from ezadmin_cmdb.describe.query import Query, load, narrowed, ordered
from ezadmin_cmdb.errors import Conflict, DomainError, Invalid
from ezadmin_cmdb.rights import services as rights

STEP = 500
"""Rows of one savepoint: a row that the database refuses has this many tried anew, by halves."""
ROWS_MAX = 20_000
NEW, CHANGED, UNCHANGED, WRONG, DELETED = "new", "changed", "unchanged", "wrong", "deleted"
STATUSES = (NEW, CHANGED, UNCHANGED, DELETED, WRONG)

Progress = Callable[[int], None]
Work = Callable[[Actor, Description, "Sequence[Item]", bool], None]


@dataclass
class Item:
    """One row: what is to be done, and what came of it.

    ``object_id`` None: a new object. ``version``: refused if it is no longer that. ``changes``: ``{field: [before, after]}``
    as in a change record. ``errors``: by field, "" for the row.
    """

    number: int
    object_id: Any = None
    version: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    status: str = ""
    changes: dict[str, list[Any]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def refuse(self, text: str, name: str = "") -> None:
        """It cannot be written, and why."""
        self.errors.setdefault(name, text)
        self.status = WRONG


class _SomeRefused(Exception):
    """Rows were found wrong after their objects had been changed."""


def counts(items: Sequence[Item]) -> dict[str, int]:
    """How many there are of each status."""
    return {status: sum(one.status == status for one in items) for status in STATUSES}


def editable(actor: Actor, description: Description) -> list[Field]:
    """The fields that a form for many has: not those of which each object needs its own value, nor references to what the
    actor may not see."""
    from ezadmin_cmdb.describe.description import find

    return [
        one
        for one in description.all_fields()
        if one.editable
        and not one.unique
        and not (isinstance(one, (Reference, References)) and not rights.may(actor, find(one.to).view))
    ]


def matching(actor: Actor, description: Description, query: Query) -> list[Any]:
    """The ids of all that a query asks for, over all pages. Raises Invalid if they are too many."""
    start = narrowed(description, query, description.visible(actor)).with_only_columns(description.model.id)
    ids = list(db.session.scalars(ordered(description, query, start).limit(ROWS_MAX + 1)))
    if len(ids) > ROWS_MAX:
        raise Invalid(_("These are more than %(n)d. Filter for fewer.", n=ROWS_MAX))
    return ids


def write(
    actor: Actor, description: Description, items: Sequence[Item], dry: bool, progress: Progress | None = None
) -> None:
    """Make and change objects. Raises Forbidden without the permission to change any."""
    rights.require(actor, description.change)
    _in_steps(_write, actor, description, items, dry, progress)


def delete(
    actor: Actor, description: Description, items: Sequence[Item], dry: bool, progress: Progress | None = None
) -> None:
    """Delete objects; those that others refer to are refused and say by whom. Raises Forbidden."""
    rights.require(actor, description.delete)
    _in_steps(_delete, actor, description, items, dry, progress)


def _in_steps(
    work: Work, actor: Actor, description: Description, items: Sequence[Item], dry: bool, progress: Progress | None
) -> None:
    todo = [one for one in items if not one.errors]
    for one in items:
        if one.errors:
            one.status = WRONG
    for first in range(0, len(todo), STEP):
        _step(work, actor, description, todo[first : first + STEP], dry)
        if progress is not None:
            progress(len(items) - len(todo) + min(first + STEP, len(todo)))


def _step(work: Work, actor: Actor, description: Description, items: Sequence[Item], dry: bool) -> None:
    """Some rows in a savepoint. Those that are wrong are left out of a second try; what the database refuses is found by
    halves."""
    while items:
        try:
            with db.session.begin_nested():
                work(actor, description, items, dry)
            return
        except _SomeRefused:
            items = [one for one in items if not one.errors]
        except IntegrityError as error:
            if len(items) > 1:
                middle = len(items) // 2
                _step(work, actor, description, items[:middle], dry)
                _step(work, actor, description, items[middle:], dry)
                return
            refused = services.conflict(description, error)
            if not isinstance(refused, Conflict):
                raise
            items[0].refuse(str(refused))
            return


def _lock(actor: Actor, description: Description, permission: str, items: Sequence[Item]) -> dict[Any, Any]:
    """The objects of the rows, locked; rows whose object is gone, not to be changed, or another than it was, are refused."""
    model = description.model
    ids = sorted({one.object_id for one in items if one.object_id is not None})
    if not ids:
        return {}
    seen = set(db.session.scalars(description.visible(actor).with_only_columns(model.id).where(model.id.in_(ids))))
    allowed = seen
    if description.about_hosts and not actor.rights.scope(permission).everywhere:
        from ezadmin_cmdb.hosts.services import visible

        allowed = set(
            db.session.scalars(visible(actor, permission).with_only_columns(model.id).where(model.id.in_(ids)))
        )
    if description.many is not None:
        found = description.many.lock([one for one in ids if one in seen])
    else:
        locked = select(model.id).where(model.id.in_(ids)).order_by(model.id).with_for_update()
        found = load(description, [one for one in db.session.scalars(locked) if one in seen], fresh=True)
    objects = {obj.id: obj for obj in found}
    for one in items:
        obj = objects.get(one.object_id)
        if one.object_id is None:
            continue
        if obj is None:
            one.refuse(_("There is no %(title)s %(id)s.", title=description.title, id=one.object_id))
            continue
        one.name = description.object_name(obj)
        if one.object_id not in allowed:
            rights.note(actor, permission, description.name, one.object_id)
            one.refuse(_("Your account lacks the permission to do this with it."))
        elif one.version is not None and one.version != services.version_of(description, obj):
            one.refuse(_("It was changed by somebody else meanwhile. Load it anew and change that."))
    return objects


def _write(actor: Actor, description: Description, items: Sequence[Item], dry: bool) -> None:
    objects = _lock(actor, description, description.change, items)
    many = description.many
    snapshot: Callable[[Any], Mapping[str, Any]] = many.snapshot if many else partial(services.snapshot, description)
    touched: list[tuple[Item, Any, Mapping[str, Any] | None]] = []
    apart, refused = set(description.one_by_one), False
    with db.session.no_autoflush:  # all of it is flushed once
        for one in items:
            if one.errors:
                continue
            new = one.object_id is None
            obj = description.model() if new else objects[one.object_id]
            before = None if new else snapshot(obj)
            one.version = None if new else services.version_of(description, obj)
            try:
                if description.changing is not None and many is None:  # one by one, as it knows nothing else
                    with description.changing(actor, obj, new):
                        services.assign(actor, description, obj, one.values, new)
                else:
                    services.assign(actor, description, obj, one.values, new)
            except DomainError as error:
                wrong = error.fields if isinstance(error, Invalid) and error.fields else {"": str(error)}
                for name, text in wrong.items():
                    one.refuse(text, name)
                refused = True
                continue
            touched.append((one, obj, before))
            if apart & one.values.keys():
                db.session.add(obj)
                db.session.flush()
        if refused:
            raise _SomeRefused
        if many is not None:
            many.settle(actor, [obj for _one, obj, _before in touched])
    made = [obj for _one, obj, before in touched if before is None]
    db.session.add_all(made)
    db.session.flush()
    many_sided = [one.key for one in inspect(description.model).relationships if one.uselist]
    for obj in made:  # what is new has nothing that would have to be looked for
        for name in many_sided:
            if name not in obj.__dict__:
                set_committed_value(obj, name, [])
    changed: list[Changed] = []
    for one, obj, before in touched:
        after = snapshot(obj)
        one.changes = scope.differences(actor, description, changes.differences(before or {}, after))
        one.name = description.object_name(obj) if before is None else one.name
        one.status = NEW if before is None else CHANGED if one.changes else UNCHANGED
        if dry or not one.changes:
            continue
        one.object_id = obj.id
        changed.append((obj, before, after))
        if description.changing is None or many is not None:
            changes.record(actor, description.name, str(obj.id), description.object_name(obj), before, after)
    if many is not None and changed:
        many.publish(actor, changed)


def _delete(actor: Actor, description: Description, items: Sequence[Item], dry: bool) -> None:
    objects = _lock(actor, description, description.delete, items)
    users = _dependants(description, list(objects))
    for one in items:
        if one.errors:
            continue
        obj = objects[one.object_id]
        with db.session.no_autoflush:
            one.version = services.version_of(description, obj)
            try:
                for check in description.removable:
                    check(actor, obj)
            except DomainError as error:
                one.refuse(str(error))
        if one.object_id in users:
            named = "; ".join(f"{titles}: {count}" for titles, count in users[one.object_id].items())
            one.refuse(_("Still used by: %(named)s.", named=named))
        if one.errors:
            continue
        before = services.snapshot(description, obj)
        one.changes = scope.differences(actor, description, changes.differences(before, {}))
        one.status = DELETED
        with services.deletion(actor, description, obj):
            db.session.delete(obj)
            if description.deleting is not None:
                db.session.flush()
        if not dry:
            changes.record(actor, description.name, str(obj.id), one.name, before, None)
    db.session.flush()


def _dependants(description: Description, ids: Sequence[Any]) -> dict[Any, dict[str, int]]:
    """What refers to objects and keeps them from being deleted: {id: {titles: how many}}; one query a kind of reference."""
    found: dict[Any, dict[str, int]] = {}
    for other, column in services.referring(description):
        rows = db.session.execute(select(column, func.count()).where(column.in_(ids)).group_by(column))
        for object_id, count in rows:
            titles = found.setdefault(object_id, {})
            titles[str(other.titles)] = titles.get(str(other.titles), 0) + count
    return found
