"""What can be done with saved filters. One's own are nobody else's business; sharing one needs a right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from sqlalchemy import delete as sql_delete
from sqlalchemy import or_, select
from sqlalchemy.orm import joinedload

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes import services as changes
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import query
from ezadmin_cmdb.describe.description import Description, known
from ezadmin_cmdb.errors import Conflict, Forbidden, Invalid, NotFound
from ezadmin_cmdb.filters.models import DefaultFilter, SavedFilter
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.rights.permissions import declare

SHARE = declare("saved_filter.share", _l("Saved filters: share, and change those of others that are shared"))
OBJECT_TYPE = "saved_filter"
NAME_MAX, QUERY_MAX = 128, 4000


@dataclass(frozen=True)
class Kind:
    """A page beside the described lists whose address can be kept. ``clean``: what the page understands of it."""

    name: str
    titles: object
    icon: str
    view: str
    endpoint: str
    clean: Callable[[str], str]


_others: dict[str, Kind] = {}


def offer(kind: Kind) -> Kind:
    """Let addresses of a page be saved."""
    _others[kind.name] = kind
    return kind


def kinds() -> list[Description | Kind]:
    """All that is filtered, in the order of the menus."""
    return [*known(), *_others.values()]


def kind_of(name: str) -> Description | Kind | None:
    """What filters of ``object_type`` ``name`` are for, if there is such a thing."""
    return next((one for one in kinds() if one.name == name), None)


@dataclass(frozen=True)
class Saved:
    """A saved filter as an actor meets it."""

    filter: SavedFilter
    default: bool
    mine: bool


def _user(actor: Actor) -> int:
    if actor.user_id is None:
        raise Forbidden(_("Only somebody with an account has saved filters."))
    return actor.user_id


def available(actor: Actor, description: Description | Kind | None = None) -> list[Saved]:
    """The actor's own and the shared ones, of one list or of all that he may see, by name. One query."""
    user = _user(actor)
    types = [one.name for one in kinds() if rights.may(actor, one.view)] if description is None else [description.name]
    rows = db.session.execute(
        select(SavedFilter, DefaultFilter.user_id)
        .outerjoin(DefaultFilter, (DefaultFilter.filter_id == SavedFilter.id) & (DefaultFilter.user_id == user))
        .where(SavedFilter.object_type.in_(types), or_(SavedFilter.owner_id == user, SavedFilter.shared))
        .options(joinedload(SavedFilter.owner))
        .order_by(SavedFilter.object_type, SavedFilter.name, SavedFilter.id)
    )
    return [Saved(one, default is not None, one.owner_id == user) for one, default in rows]


def find(actor: Actor, filter_id: int) -> Saved:
    """A saved filter that is the actor's or shared. Raises NotFound."""
    found = next((one for one in available(actor) if one.filter.id == filter_id), None)
    if found is None:
        raise NotFound(_("There is no saved filter %(id)s.", id=filter_id))
    return found


def save(actor: Actor, description: Description | Kind, name: str, text: str, shared: bool = False) -> SavedFilter:
    """Keep what a list is asked. Raises Invalid, Forbidden, Conflict for a name that one's other filter has."""
    rights.require(actor, description.view)
    user = _user(actor)
    if shared:
        rights.require(actor, SHARE)
    made = SavedFilter(
        object_type=description.name, name=_name(name), query=_text(description, text), shared=shared, owner_id=user
    )
    _refuse_twice(made)
    db.session.add(made)
    db.session.flush()
    changes.record(actor, OBJECT_TYPE, str(made.id), made.name, None, _snapshot(made))
    return made


def change(
    actor: Actor, saved: Saved, name: str | None = None, text: str | None = None, shared: bool | None = None
) -> None:
    """Rename, ask something else, share or no longer. Raises Forbidden, Invalid, Conflict."""
    one = saved.filter
    _require_change(actor, saved)
    if shared is not None and shared != one.shared:
        rights.require(actor, SHARE)
    before = _snapshot(one)
    with db.session.no_autoflush:
        one.name = one.name if name is None else _name(name)
        one.query = one.query if text is None else _text(_description(one), text)
        one.shared = one.shared if shared is None else shared
        _refuse_twice(one)
    db.session.flush()
    changes.record(actor, OBJECT_TYPE, str(one.id), one.name, before, _snapshot(one))
    if not one.shared:  # it is no longer there for others, so neither may their lists open with it
        db.session.execute(
            sql_delete(DefaultFilter).where(DefaultFilter.filter_id == one.id, DefaultFilter.user_id != one.owner_id)
        )


def delete(actor: Actor, saved: Saved) -> None:
    """Delete; lists that opened with it show everything again. Raises Forbidden."""
    _require_change(actor, saved)
    one = saved.filter
    before, filter_id, name = _snapshot(one), str(one.id), one.name
    db.session.delete(one)
    db.session.flush()
    changes.record(actor, OBJECT_TYPE, filter_id, name, before, None)


def set_default(actor: Actor, saved: Saved, wanted: bool = True) -> None:
    """Let the actor's list open with it, or no longer."""
    user, one = _user(actor), saved.filter
    found = db.session.get(DefaultFilter, (user, one.object_type))
    if wanted and found is None:
        db.session.add(DefaultFilter(user_id=user, object_type=one.object_type, filter_id=one.id))
    elif wanted and found is not None:
        found.filter_id = one.id
    elif found is not None and found.filter_id == one.id:
        db.session.delete(found)
    db.session.flush()


def may_change(actor: Actor, saved: Saved) -> bool:
    """Whether the actor may change or delete it."""
    return saved.mine or (saved.filter.shared and rights.may(actor, SHARE))


def _require_change(actor: Actor, saved: Saved) -> None:
    if not may_change(actor, saved):
        raise rights.refusal(actor, SHARE, OBJECT_TYPE, saved.filter.id)


def _description(one: SavedFilter) -> Description | Kind:
    return next(d for d in kinds() if d.name == one.object_type)


def _name(text: str) -> str:
    name = text.strip()
    if not 1 <= len(name) <= NAME_MAX or not name.isprintable():
        raise Invalid(_("The name is 1 to %(n)d characters long.", n=NAME_MAX), "name")
    return name


def _text(description: Description | Kind, text: str) -> str:
    """As it is kept: only what the list understands, without the page."""
    if isinstance(description, Kind):
        found = description.clean(text)
    else:
        found = query.parse_text(description, text, strict=True).address(page=1).lstrip("?")
    if len(found) > QUERY_MAX:
        raise Invalid(_("At most %(n)d characters.", n=QUERY_MAX), "query")
    return found


def _refuse_twice(one: SavedFilter) -> None:
    same = select(SavedFilter.id).where(
        SavedFilter.owner_id == one.owner_id, SavedFilter.object_type == one.object_type, SavedFilter.name == one.name
    )
    if db.session.scalar(same if one.id is None else same.where(SavedFilter.id != one.id)) is not None:
        raise Conflict(_("There is a saved filter %(name)s of this list already.", name=one.name))


def _snapshot(one: SavedFilter) -> dict[str, Any]:
    return {"object_type": one.object_type, "name": one.name, "query": one.query, "shared": one.shared}


def lists(actor: Actor, found: Sequence[Saved]) -> list[tuple[Description | Kind, list[Saved]]]:
    """Saved filters by their lists, in the order of the menus."""
    by_type = [(d, [one for one in found if one.filter.object_type == d.name]) for d in kinds()]
    return [(d, of_list) for d, of_list in by_type if of_list and rights.may(actor, d.view)]
