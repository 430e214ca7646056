"""What can be done with any described object. Like every service: an ``actor``, typed values, domain errors, no commit.

Values of references are objects that the actor may see; :func:`values_of` makes them of text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes import services as changes
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import scope
from ezadmin_cmdb.describe.description import Description, known
from ezadmin_cmdb.describe.fields import Field, Members, MultiSelect, Reference, References
from ezadmin_cmdb.describe.query import load
from ezadmin_cmdb.errors import Conflict, Invalid, NotFound, Outdated
from ezadmin_cmdb.rights import services as rights

DUPLICATE, REFERRED = 1062, 1451


def find(actor: Actor, description: Description, object_id: Any) -> Any:
    """The object, with what it refers to. Raises Forbidden without the permission to see any, NotFound."""
    rights.require(actor, description.view)
    model, key = description.model, int(object_id) if description.numbered else str(object_id)
    if db.session.scalar(description.visible(actor).with_only_columns(model.id).where(model.id == key)) is None:
        if db.session.get(model, key) is not None:
            rights.note(actor, description.view, description.name, key)
        raise NotFound(_("There is no %(title)s %(id)s.", title=description.title, id=key))
    return load(description, [key])[0]


def find_to_change(actor: Actor, description: Description, object_id: Any, version: str | None = None) -> Any:
    """As :func:`find`, and locked. Raises Outdated if ``version`` is given and not what it is now."""
    found = find(actor, description, object_id)
    db.session.refresh(found, with_for_update=True)
    if version is not None and version != version_of(description, found):
        raise Outdated(_("It was changed by somebody else meanwhile. Load it anew and change that."))
    return found


def create(actor: Actor, description: Description, values: Mapping[str, Any]) -> Any:
    """Make an object. Raises Forbidden, Invalid (with all fields that are wrong), Conflict."""
    rights.require(actor, description.change)
    obj = description.model()
    with _changing(actor, description, obj, new=True):
        assign(actor, description, obj, values, new=True)
    return obj


def update(actor: Actor, description: Description, obj: Any, values: Mapping[str, Any]) -> None:
    """Change some fields of an object. Raises Forbidden, Invalid, Conflict."""
    _require(actor, description, description.change, obj)
    with _changing(actor, description, obj, new=False):
        assign(actor, description, obj, values, new=False)


def delete(actor: Actor, description: Description, obj: Any) -> None:
    """Delete an object. Raises Forbidden; Conflict, naming them, if others refer to it."""
    _require(actor, description, description.delete, obj)
    for check in description.removable:
        check(actor, obj)
    if dependants := dependants_of(description, obj):
        named = "; ".join(f"{other.titles}: {count}" for other, _field, count in dependants)
        raise Conflict(
            _("%(name)s is still used by others (%(named)s). Change those first.",
              name=description.object_name(obj), named=named)
        )  # fmt: skip
    before = snapshot(description, obj)
    name, object_id = description.object_name(obj), str(obj.id)
    with _kept_or_refused(description), deletion(actor, description, obj):
        db.session.delete(obj)
        db.session.flush()
    changes.record(actor, description.name, object_id, name, before, None)


def deletion(actor: Actor, description: Description, obj: Any) -> AbstractContextManager[None]:
    """What stands around the deletion of an object."""
    return nullcontext() if description.deleting is None else description.deleting(actor, obj)


def dependants_of(description: Description, obj: Any) -> list[tuple[Description, Field, int]]:
    """What refers to an object and keeps it from being deleted: (description, its field, how many)."""
    from ezadmin_cmdb.custom.description import referring as by_custom_fields

    found: list[tuple[Description, Field, int]] = by_custom_fields(description, obj)
    for other, one, column in _referring(description):
        count = db.session.scalar(select(func.count()).select_from(other.model).where(column == obj.id))
        if count:
            found.append((other, one, count))
    return found


def referring(description: Description) -> list[tuple[Description, Any]]:
    """Where others may refer to its objects and keep them from being deleted: (description, column)."""
    return [(other, column) for other, _field, column in _referring(description)]


def _referring(description: Description) -> Iterator[tuple[Description, Field, Any]]:
    for other in known():
        for one in other.references():
            if isinstance(one, Reference) and one.to == description.name and not one.through:
                column = one.column(other.model)
                foreign = next(iter(column.property.columns[0].foreign_keys))
                if foreign.ondelete != "CASCADE":  # else it is a part, and goes with it
                    yield other, one, column


def snapshot(description: Description, obj: Any) -> dict[str, Any]:
    """All that is recorded of an object, as JSON values."""
    return {
        one.name: one.plain(one.get(obj))
        for one in description.all_fields()
        if one.editable or (one.policy and not one.name.startswith("agent_"))
    }


def version_of(description: Description, obj: Any) -> str:
    """Changes whenever a recorded field does: the ETag of the API, and what a form sends back."""
    text = json.dumps(snapshot(description, obj), sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def values_of(
    actor: Actor, description: Description, texts: Mapping[str, str | list[str]], wanted: Iterable[str] | None = None
) -> dict[str, Any]:
    """Typed values of texts (of a form, a line of CSV) for editable fields, those in ``wanted`` or all.

    A field without text has none. One query for each field that refers to others. Raises Invalid with all that are wrong.
    """
    values: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    names = None if wanted is None else set(wanted)
    for one in description.all_fields():
        if not one.editable or (names is not None and one.name not in names):
            continue
        given = texts.get(one.name, "")
        try:
            if isinstance(one, MultiSelect) and isinstance(given, list):
                values[one.name] = [text for text in given if text]
                continue
            text = given if isinstance(given, str) else "\n".join(given)
            if isinstance(one, (Reference, References)):
                values[one.name] = referred(actor, one, one.parse(text))
            else:
                values[one.name] = one.parse(text)
        except Invalid as error:
            wrong[one.name] = str(error)
    if wrong:
        raise _invalid(description, wrong)
    return values


def referred(actor: Actor, field: Reference | References, given: Any, ids_only: bool = False) -> Any:
    """The object or objects that ids or names mean. Raises Invalid, naming those that mean none or several."""
    texts = [str(one) for one in given] if isinstance(given, list) else [str(given)] if given is not None else []
    found = field.resolve(actor, texts, ids_only)
    if missing := [text for text in texts if text not in found]:
        shown = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
        raise Invalid(_("Nothing, or more than one, is called: %(names)s.", names=shown))
    objects = [found[text] for text in texts]
    return objects if isinstance(field, References) else objects[0] if objects else None


def _require(actor: Actor, description: Description, permission: str, obj: Any) -> None:
    """The permission for this object: for one about hosts, it must lie in the scope of the grant."""
    rights.require(actor, permission)
    if description.about_hosts and not actor.rights.scope(permission).everywhere:
        from ezadmin_cmdb.hosts.services import visible

        model = description.model
        if db.session.scalar(visible(actor, permission).with_only_columns(model.id).where(model.id == obj.id)) is None:
            raise rights.refusal(actor, permission, description.name, obj.id)


def assign(actor: Actor, description: Description, obj: Any, values: Mapping[str, Any], new: bool) -> None:
    """Check values and give them to an object, without flushing. Raises Invalid, Conflict, Forbidden: see ``checks``.

    No value is given if one of them is wrong; after an error of ``checks`` the object must be thrown away.
    """
    wrong: dict[str, str] = {}
    checked: dict[str, Any] = {}
    for one in description.all_fields():
        if not one.editable or (one.name not in values and not new):
            continue
        try:
            given = values[one.name] if one.name in values else one.initial()
            if isinstance(given, Members):
                given = given.applied(() if new else scope.seen(actor, one, obj))
            checked[one.name] = one.check(scope.kept(actor, one, obj, given))
        except Invalid as error:
            wrong[one.name] = str(error)
    if unknown := values.keys() - {one.name for one in description.all_fields() if one.editable}:
        wrong |= {name: _("This field cannot be set.") for name in unknown}
    if wrong:
        raise _invalid(description, wrong)
    with db.session.no_autoflush:
        for name, value in checked.items():
            one = description.field(name)
            if new or one.get(obj) != value:
                one.set(obj, value)
        for check in description.checks:
            check(actor, obj, new)


def _invalid(description: Description, wrong: Mapping[str, str]) -> Invalid:
    text = " ".join(f"{description.field(name).label}: {why}" if name in _names(description) else f"{name}: {why}"
                    for name, why in wrong.items())  # fmt: skip
    return Invalid(text, fields=wrong)


def _names(description: Description) -> set[str]:
    return {one.name for one in description.all_fields()}


@contextmanager
def _changing(actor: Actor, description: Description, obj: Any, new: bool) -> Iterator[None]:
    """What happens to ``obj`` inside becomes one change record, or, if the database refuses it, nothing."""
    if description.changing is not None:
        with _kept_or_refused(description), description.changing(actor, obj, new):
            yield
        return
    before = None if new else snapshot(description, obj)
    with _kept_or_refused(description):
        yield
        if new:
            db.session.add(obj)
        db.session.flush()
    changes.record(
        actor, description.name, str(obj.id), description.object_name(obj), before, snapshot(description, obj)
    )


@contextmanager
def _kept_or_refused(description: Description) -> Iterator[None]:
    """A savepoint. Raises Conflict for a value that must be unique, or an object that is referred to."""
    try:
        with db.session.begin_nested():
            yield
    except IntegrityError as error:
        raise conflict(description, error) from error


def conflict(description: Description, error: IntegrityError) -> Exception:
    """What the database refused, as an error for users; the error itself if it is not theirs."""
    code, text = (*error.orig.args, 0, "")[:2] if error.orig is not None else (0, "")
    if code == DUPLICATE:
        key = str(text).rpartition(" for key ")[2].strip("'\"")
        taken = [one for one in description.all_fields() if one.unique]
        named = next((one for one in taken if key.endswith(f"_{one.name}")), taken[0] if taken else None)
        label = named.label if named else _("name")
        return Conflict(_("There is one with this %(label)s already.", label=label))
    if code == REFERRED:
        return Conflict(_("It is still used by others."))
    return error
