"""The description of a model, and the registry of all."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from flask_babel import lazy_gettext as _l
from marshmallow import fields as wire
from sqlalchemy import Select, false, or_, select

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe.fields import Computed, Field, Reference, References, WireField
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.rights import permissions
from ezadmin_cmdb.rights.permissions import CHANGE, DELETE, VIEW

RESERVED = frozenset({"q", "sort", "page", "size", "columns", "fields", "version", "csrf_token", "id"})
"""Names with a meaning of their own in addresses and forms."""

ABOUT_FIELDS: Mapping[str, Callable[[object], object]] = {
    "declared": lambda label: _l("%(label)s, declared", label=label),
    "rejected": lambda label: _l("%(label)s, difference rejected", label=label),
}
"""What change records hold about a field beside its value: ``declared serial``."""

OTHER_FIELDS: Mapping[str, object] = {
    "id": "host.id", "keys": _l("Keys"), "password": _l("Password"), "second_factor": _l("Second factor"),
}  # fmt: skip
"""What change records name that is no field of a description."""

Changing = Callable[[Actor, Any, bool], AbstractContextManager[None]]
"""(actor, object, whether it is new): what happens inside becomes one change record."""

Changed = tuple[Any, Mapping[str, Any] | None, Mapping[str, Any]]
"""An object, its snapshots before (None: it is new) and after."""


@dataclass(frozen=True)
class Many:
    """How many objects are changed at once, where :attr:`Description.changing` says more than a change record.

    ``lock``: objects of ids with all that ``snapshot`` records. ``settle`` is called with (actor, objects) before a
    change is flushed, ``publish`` with (actor, those that were changed) after it: (object, before, after), before None
    for a new one. None of them may ask a query for each object.
    """

    lock: Callable[[Sequence[Any]], Sequence[Any]]
    snapshot: Callable[[Any], dict[str, Any]]
    settle: Callable[[Actor, Sequence[Any]], None]
    publish: Callable[[Actor, Sequence[Changed]], None]


@dataclass(frozen=True, kw_only=True)
class Description:
    """A model as people and programs use it.

    ``name`` stands in change records and permissions (``site.view``), ``path`` in addresses (``/sites/``,
    ``/api/v1/sites``). ``key`` is the field that an object is called by. ``menu``: where the main menu has it, None for
    nowhere. ``scope``: the query of what an actor may see of it. ``checks`` are called with (actor, object, whether it
    is new) before a change is flushed and raise Invalid, Conflict or Forbidden; ``removable`` before a deletion.
    ``changing`` replaces what records a change, where more than a change record comes of one; ``deleting`` stands around the
    deletion of one, where more than that follows; ``many`` does the same for
    many objects at once, with few queries; rows that set a field of ``one_by_one`` are flushed one after the other, for
    its check looks at other objects. ``natural``: the fields that a line of CSV without an id is recognized by, by
    default those that are unique, else ``key``. ``template`` has macros for cells of the list; ``beside`` gives them
    values for a page of objects; ``above`` is a template that stands above the list, ``form_note`` a text above the form;
    ``panels`` are templates that the page of an object shows below its fields. ``beside_form``: a template below the form.
    ``losing``: what goes with an object that is deleted, as sentences; ``instead``: what is mostly better, as a sentence,
    the values that its form opens with for that, and the name of the link to it. ``more_fields``: those that only the
    database knows. ``loads``: options of SQLAlchemy for what a list reads beside its references.
    """

    name: str
    path: str
    model: type[Any]
    title: object
    titles: object
    icon: str
    fields: Sequence[Field]
    key: str = "name"
    order: Sequence[str] = ("name",)
    menu: str | None = None
    about_hosts: bool = False
    creatable: bool = True
    deletable: bool = True
    changeable: bool = True
    scope: Callable[[Actor], Select[Any]] | None = None
    checks: Sequence[Callable[[Actor, Any, bool], None]] = ()
    removable: Sequence[Callable[[Actor, Any], None]] = ()
    changing: Changing | None = None
    deleting: Callable[[Actor, Any], AbstractContextManager[None]] | None = None
    many: Many | None = None
    one_by_one: Collection[str] = ()
    natural: Sequence[str] = ()
    search: Callable[[str], Any] | None = None
    template: str | None = None
    beside: Callable[[Sequence[Any]], Mapping[str, Any]] | None = None
    above: str | None = None
    form_note: object | None = None
    panels: Sequence[str] = ()
    beside_form: str | None = None
    losing: Callable[[Any], Sequence[str]] | None = None
    instead: Callable[[Any], tuple[str, Mapping[str, str], str] | None] | None = None
    empty_hint: object = _l("Add the first one, and it stands here.")
    more_fields: Callable[[], Sequence[Field]] | None = None
    loads: Callable[[], Sequence[Any]] | None = None

    def all_fields(self) -> list[Field]:
        """The fields, those of the description first, then ``more_fields``, tags and what people added."""
        from ezadmin_cmdb.custom.kinds import added  # it knows the kinds of fields

        more = self.more_fields() if self.more_fields else ()
        return [*self.fields, *more, *(added(self.name) if self.extensible else ())]

    @property
    def extensible(self) -> bool:
        """Whether its objects have tags and custom fields: what administers ezadmin itself has none."""
        return self.changeable and self.menu != "administration"

    def field(self, name: str) -> Field:
        """The field of this name. Raises LookupError."""
        for one in self.all_fields():
            if one.name == name:
                return one
        raise LookupError(f"{self.name} has no field {name}")

    def label_of(self, name: str) -> object:
        """What people call a field of a change record; the name itself for one that is no longer described."""
        about, _space, field_name = name.rpartition(" ")
        label = next((one.label for one in self.all_fields() if one.name == field_name), None)
        if label is None or about not in ("", *ABOUT_FIELDS):
            return OTHER_FIELDS.get(name, name)
        return ABOUT_FIELDS[about](label) if about else label

    def recorded(self, name: str, plain: Any) -> Any:
        """A value of a change record as people read it, where its field knows how; else as it stands there."""
        one = next((one for one in self.all_fields() if name.rpartition(" ")[2] == one.name), None)
        if plain is None or one is None or one.kind not in ("number", "select", "date", "moment"):
            return plain
        try:
            return one.shown(one.parse(str(plain)))
        except Invalid:  # the field was of another kind then
            return plain

    def sections(self, wanted: Sequence[Field] | None = None) -> list[tuple[object, list[Field]]]:
        """Fields (all of them, or ``wanted``) under their headings, in the order in which those first appear."""
        found: dict[str, tuple[object, list[Field]]] = {}
        for one in self.all_fields() if wanted is None else wanted:
            found.setdefault(str(one.section or ""), (one.section, []))[1].append(one)
        return list(found.values())

    @cached_property
    def view(self) -> str:
        """The permission to see."""
        return f"{self.name}.{VIEW}"

    @cached_property
    def change(self) -> str:
        """The permission to add and change."""
        return f"{self.name}.{CHANGE}"

    @cached_property
    def delete(self) -> str:
        """The permission to delete."""
        return f"{self.name}.{DELETE}"

    def visible(self, actor: Actor) -> Select[Any]:
        """The query of all objects that the actor may see."""
        if self.scope is not None:
            return self.scope(actor)
        query = select(self.model)
        return query if actor.rights.scope(self.view).everywhere else query.where(false())

    def object_name(self, obj: Any) -> str:
        """What an object is called."""
        return str(getattr(obj, self.key))

    @property
    def numbered(self) -> bool:
        """Whether ids are numbers; else they are UUIDs."""
        return self.model.__table__.c.id.type.python_type is int

    def id_schema(self, **options: Any) -> WireField:
        """An id in the API."""
        return wire.Integer(strict=True, **options) if self.numbered else wire.UUID(**options)

    def resolve(self, actor: Actor, texts: Collection[str], ids_only: bool = False) -> dict[str, Any]:
        """The object that each text means: a name that only one visible object has, else an id. One query."""
        wanted = {text.strip() for text in texts if text and text.strip()}
        if not wanted:
            return {}
        key = None if ids_only else getattr(self.model, self.key)
        ids = [int(text) for text in wanted if text.isdecimal() and len(text) < 19] if self.numbered else list(wanted)
        conditions = [self.model.id.in_(ids), *([] if key is None else [key.in_(wanted)])]
        found: dict[str, list[Any]] = defaultdict(list)
        by_id: dict[str, Any] = {}
        for obj in db.session.scalars(self.visible(actor).where(or_(*conditions))):
            by_id[str(obj.id)] = obj
            if not ids_only:
                found[self.object_name(obj).casefold()].append(obj)
        answer = {}
        for text in wanted:
            same = found.get(text.casefold(), [])
            if len(same) == 1:
                answer[text] = same[0]
            elif text in by_id and not same:
                answer[text] = by_id[text]
        return answer

    def natural_fields(self) -> list[Field]:
        """The fields that a line of CSV without an id is recognized by."""
        fields = [one for one in self.all_fields() if not isinstance(one, Computed)]
        if self.natural:
            return [one for one in fields if one.name in self.natural]
        return [one for one in fields if one.unique] or [one for one in fields if one.name == self.key]

    def references(self) -> Iterator[Reference | References]:
        """Its fields that refer to other descriptions through relations of its model."""
        for one in self.all_fields():
            if isinstance(one, (Reference, References)) and not one.elsewhere:
                yield one


@dataclass(frozen=True)
class MenuPage:
    """A page of a menu that is the list of no description: that of the blueprint ``path``."""

    path: str
    title: object
    icon: str


@dataclass(frozen=True)
class Menu:
    """A menu of the main navigation; its ``pages`` are for everybody who sees one of its descriptions."""

    title: object
    icon: str
    descriptions: list[Description] = field(default_factory=list)
    pages: Sequence[MenuPage] = ()


MENUS = {
    "monitoring": Menu(_l("Monitoring"), "bell"),
    "datacenter": Menu(_l("Datacenter"), "building", pages=[MenuPage("reminders", _l("Ends soon"), "bell")]),
    "agents": Menu(_l("Agents"), "broadcast"),
    "administration": Menu(_l("Administration"), "shield-lock"),
}

_registry: dict[str, Description] = {}


def register(description: Description) -> Description:
    """Make a model known, with its permissions. Raises ValueError for a name that is taken or reserved."""
    if description.name in _registry or any(description.path == other.path for other in _registry.values()):
        raise ValueError(f"{description.name} (/{description.path}/) is described twice")
    names = [one.name for one in description.fields]
    if bad := [
        name for name in names if name in RESERVED or "__" in name or not re.fullmatch(r"[a-z][a-z0-9_]*", name)
    ]:
        raise ValueError(f"{description.name}: fields cannot be called {', '.join(bad)}")
    if len(set(names)) != len(names):
        raise ValueError(f"{description.name}: a field is described twice")
    _registry[description.name] = description
    actions = [VIEW]
    if description.changeable or description.creatable:
        actions.append(CHANGE)
    if description.deletable:
        actions.append(DELETE)
    for action in actions:
        title = _l("%(titles)s: %(action)s", titles=description.titles, action=permissions.ACTION_TITLES[action])
        permissions.declare(f"{description.name}.{action}", title, description.about_hosts)
    if description.menu:
        MENUS[description.menu].descriptions.append(description)
    return description


def find(name: str) -> Description:
    """The description of this name. Raises LookupError."""
    try:
        return _registry[name]
    except KeyError:
        raise LookupError(f"no model is described as {name}") from None


def find_or_none(name: str) -> Description | None:
    """The description of this name, if there is one."""
    return _registry.get(name)


def known() -> list[Description]:
    """All descriptions."""
    return list(_registry.values())
