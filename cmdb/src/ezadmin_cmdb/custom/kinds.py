"""The kinds of custom fields, and the field ``tags``: fields like any other, but for where their values stand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import marshmallow
from flask import has_app_context
from flask_babel import get_locale
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from sqlalchemy import ColumnElement, String, and_, cast, collate, func, inspect, not_, or_, select

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.custom import definitions
from ezadmin_cmdb.custom.definitions import Definition
from ezadmin_cmdb.custom.models import CustomValue, Tag, TagLink, object_id
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe.fields import EMPTY, EQUALS, NOT
from ezadmin_cmdb.errors import Invalid

PREFIX = "cf_"
ALL = "all"
"""Operator of tags: ``tags__all=a&tags__all=b`` wants both."""
FURTHER = _l("Further fields")


@dataclass(frozen=True, kw_only=True)
class Custom(fields.Field):
    """What custom fields do their own way: their values are rows of :class:`CustomValue`."""

    definition: Definition
    elsewhere: ClassVar[bool] = True
    stored_in: ClassVar[str] = "text"

    def to_rows(self, value: Any) -> list[Any]:
        """What the rows hold."""
        return [] if value is None else [value]

    def from_rows(self, stored: Sequence[Any]) -> Any:
        """The value."""
        return stored[0] if stored else None

    def get(self, obj: Any) -> Any:
        """From the object's rows."""
        return self.from_rows([getattr(row, self.stored_in) for row in self._rows(obj)])

    def set(self, obj: Any, value: Any) -> None:
        """Change, add, take away rows."""
        rows, wanted = self._rows(obj), self.to_rows(value)
        for row, one in zip(rows, wanted, strict=False):
            setattr(row, self.stored_in, one)
        for row in rows[len(wanted) :]:
            obj.custom_values.remove(row)
            if inspect(row).persistent:
                db.session.delete(row)
        for position in range(len(rows), len(wanted)):
            given = {self.stored_in: wanted[position]}
            obj.custom_values.append(
                CustomValue(
                    field_id=self.definition.id, object_type=self.definition.object_type, position=position, **given
                )
            )

    def _rows(self, obj: Any) -> list[CustomValue]:
        mine = [row for row in obj.custom_values if row.field_id == self.definition.id]
        return sorted(mine, key=lambda row: row.position)

    def initial(self) -> Any:
        """What a new object has."""
        return None if self.definition.initial is None else self.parse(self.definition.initial)

    def column(self, model: Any) -> Any:
        """To sort by; of the values themselves, their column."""
        if model is CustomValue:
            return getattr(CustomValue, self.stored_in)
        mine = and_(CustomValue.field_id == self.definition.id, object_id(CustomValue, model) == model.id)
        return select(getattr(CustomValue, self.stored_in)).where(mine).limit(1).scalar_subquery()

    def condition(self, model: Any, operator: str, values: Sequence[str]) -> ColumnElement[bool]:
        """The values are looked up by their index, then the objects by their ids."""
        if operator == EMPTY:
            there = self._having(model)
            return not_(there) if fields._truth(values[0]) else there
        if operator == NOT:
            return not_(self._having(model, self.compare(EQUALS, values)))
        return self._having(model, self.compare(operator, values))

    def compare(self, operator: str, values: Sequence[str]) -> ColumnElement[bool]:
        """The condition on a value."""
        return super().condition(CustomValue, operator, values)

    def _having(self, model: Any, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
        ids = select(object_id(CustomValue, model)).where(CustomValue.field_id == self.definition.id, *conditions)
        return model.id.in_(ids)  # type: ignore[no-any-return]

    def search(self, model: Any, word: str) -> ColumnElement[bool]:
        """Whether a word is in the value."""
        return self._having(model, CustomValue.text.contains(word, autoescape=True))


@dataclass(frozen=True, kw_only=True)
class CustomText(Custom, fields.Text):
    """Text."""


@dataclass(frozen=True, kw_only=True)
class CustomUrl(Custom, fields.Url):
    """An address of the web."""


@dataclass(frozen=True, kw_only=True)
class CustomNumber(Custom, fields.Number):
    """A number."""

    stored_in: ClassVar[str] = "number"

    def from_rows(self, stored: Sequence[Any]) -> Any:
        """Whole, unless it has digits behind the point."""
        if not stored:
            return None
        return stored[0] if self.digits else int(stored[0])


@dataclass(frozen=True, kw_only=True)
class CustomBoolean(Custom, fields.Boolean):
    """Yes, which is a row, or no."""

    stored_in: ClassVar[str] = "number"

    def to_rows(self, value: Any) -> list[Any]:
        """A row for yes."""
        return [1.0] if value else []

    def from_rows(self, stored: Sequence[Any]) -> Any:
        """A row is yes."""
        return bool(stored)

    def column(self, model: Any) -> Any:
        """1 for yes, 0 for no."""
        return func.coalesce(super().column(model), 0)

    def condition(self, model: Any, operator: str, values: Sequence[str]) -> ColumnElement[bool]:
        """Whether there is a row."""
        wanted = {self.parse(value) for value in values}
        there = self._having(model)
        return or_(*(there if one else not_(there) for one in wanted))


@dataclass(frozen=True, kw_only=True)
class CustomDay(Custom, fields.Day):
    """A date."""

    stored_in: ClassVar[str] = "day"


@dataclass(frozen=True, kw_only=True)
class CustomSelect(Custom, fields.Select):
    """One of some values."""


@dataclass(frozen=True, kw_only=True)
class CustomMultiSelect(Custom, fields.MultiSelect):
    """Some of some values."""

    operators: ClassVar[tuple[str, ...]] = (EQUALS, NOT)

    def to_rows(self, value: Any) -> list[Any]:
        """A row each."""
        return list(value or ())

    def from_rows(self, stored: Sequence[Any]) -> Any:
        """In their order."""
        return list(stored)

    def compare(self, operator: str, values: Sequence[str]) -> ColumnElement[bool]:
        """One of them."""
        return CustomValue.text.in_(values)


@dataclass(frozen=True, kw_only=True)
class CustomReference(Custom, fields.Reference):
    """Another described object, by its id."""

    sortable: bool = False

    def to_rows(self, value: Any) -> list[Any]:
        """Its id."""
        return [] if value is None else [str(value.id)]

    def from_rows(self, stored: Sequence[Any]) -> Any:
        """The object; none if it is gone. A list has read it already: see :func:`preload`."""
        from ezadmin_cmdb.describe.description import find

        if not stored:
            return None
        target = find(self.to)
        return db.session.get(target.model, int(stored[0]) if target.numbered else stored[0])

    def compare(self, operator: str, values: Sequence[str]) -> ColumnElement[bool]:
        """By ids or names."""
        from ezadmin_cmdb.describe.description import find

        target = find(self.to)
        model, key = target.model, getattr(target.model, target.key)
        # with the collation of the column it is compared with: a cast has the connection's
        ids = collate(cast(model.id, String(36)), "utf8mb4_unicode_ci")
        named = select(ids).where(or_(cast(model.id, String(36)).in_(values), key.in_(values)))
        return CustomValue.text.in_(named)


@dataclass(frozen=True, kw_only=True)
class Tags(fields.References):
    """The tags of an object."""

    kind: ClassVar[str] = "tags"
    elsewhere: ClassVar[bool] = True
    operators: ClassVar[tuple[str, ...]] = (EQUALS, ALL, NOT)
    object_type: str

    def get(self, obj: Any) -> Any:
        """By name."""
        tags = {link.tag.id: link.tag for link in obj.tag_links}
        return sorted(tags.values(), key=lambda tag: tag.name.casefold())

    def set(self, obj: Any, value: Iterable[Any]) -> None:
        """Add and take away links."""
        wanted = {tag.id: tag for tag in value}
        for link in list(obj.tag_links):
            if link.tag.id in wanted:
                wanted.pop(link.tag.id)
            else:
                obj.tag_links.remove(link)
                if inspect(link).persistent:
                    db.session.delete(link)
        for tag in wanted.values():
            obj.tag_links.append(TagLink(tag=tag, object_type=self.object_type))

    def condition(self, model: Any, operator: str, values: Sequence[str]) -> ColumnElement[bool]:
        """Any of them, all of them, none of them; by names or ids."""

        def having(*names: str) -> ColumnElement[bool]:
            tags = select(Tag.id).where(or_(cast(Tag.id, String(36)).in_(names), Tag.name.in_(names)))
            links = select(object_id(TagLink, model))
            ids = links.where(TagLink.object_type == self.object_type, TagLink.tag_id.in_(tags))
            return model.id.in_(ids)  # type: ignore[no-any-return]

        if operator == ALL:
            return and_(*(having(value) for value in values))
        return not_(having(*values)) if operator == NOT else having(*values)

    def search(self, model: Any, word: str) -> ColumnElement[bool]:
        """Whether a tag's name holds the word."""
        tags = select(Tag.id).where(Tag.name.contains(word, autoescape=True))
        links = select(object_id(TagLink, model))
        return model.id.in_(  # type: ignore[no-any-return]
            links.where(TagLink.object_type == self.object_type, TagLink.tag_id.in_(tags))
        )


def _korean() -> bool:
    return str(get_locale()) == "ko"


def field_of(one: Definition) -> Custom:
    """A definition as a field."""
    korean = _korean()
    common: dict[str, Any] = {
        "name": PREFIX + one.name, "label": one.label_ko if korean else one.label_en, "help": one.hint, "required": one.required,
        "listed": one.listed, "section": one.section or FURTHER, "definition": one,
        "searched": one.searched and one.kind in ("text", "url", "select", "multiselect"),
    }  # fmt: skip
    choices = {value: ko if korean else en for value, en, ko in one.choices}
    makers: dict[str, Callable[[], Custom]] = {
        "text": lambda: CustomText(length=500, pattern=one.pattern, **common),
        "url": lambda: CustomUrl(**common),
        "number": lambda: CustomNumber(least=one.least, most=one.most, digits=one.digits, **common),
        "boolean": lambda: CustomBoolean(**common),
        "date": lambda: CustomDay(**common),
        "select": lambda: CustomSelect(choices=choices, **common),
        "multiselect": lambda: CustomMultiSelect(choices=choices, **common),
        "reference": lambda: CustomReference(to=str(one.refers_to), **common),
    }
    return makers[one.kind]()


def added(object_type: str) -> list[fields.Field]:
    """What people can give to objects of a model beside its own fields: tags, and custom fields."""
    if not has_app_context():
        return [_tags(object_type)]
    built = db.session.info.setdefault(definitions.BUILT, {})  # it is asked for at every turn
    key = object_type, _korean()
    if key not in built:
        built[key] = [_tags(object_type), *(field_of(one) for one in definitions.known(object_type))]
    found: list[fields.Field] = built[key]
    return found


def _tags(object_type: str) -> Tags:
    return Tags(name="tags", label=_l("Tags"), to="tag", object_type=object_type, listed=True, searched=True)


def custom(described: Iterable[fields.Field]) -> list[Custom]:
    """Those of some fields that are custom."""
    return [one for one in described if isinstance(one, Custom)]


def preload(described: Sequence[fields.Field], objects: Sequence[Any]) -> None:
    """Read what the custom references of some objects refer to: one query a field."""
    from ezadmin_cmdb.describe.description import find

    held: list[Any] = []
    for one in described:
        if isinstance(one, CustomReference):
            target = find(one.to)
            rows = [row.text for obj in objects for row in one._rows(obj)]
            if rows:
                ids = {int(text) if target.numbered else text for text in rows if text}
                held += db.session.scalars(select(target.model).where(target.model.id.in_(ids))).all()
    if held:
        db.session.info.setdefault("held", []).extend(held)  # the session itself holds objects but weakly


def from_json(actor: Actor, described: Sequence[fields.Field], given: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the member ``custom`` of the API, by the fields' names. Raises Invalid with all that are wrong."""
    from ezadmin_cmdb.describe.services import referred

    by_name = {one.definition.name: one for one in custom(described)}
    values: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for name, value in given.items():
        one = by_name.get(name)
        if one is None:
            wrong[f"custom.{name}"] = _("There is no such field.")
            continue
        try:
            if value is None:
                values[one.name] = one.check(None) if isinstance(one, (CustomBoolean, CustomMultiSelect)) else None
            elif isinstance(one, CustomReference):
                values[one.name] = referred(actor, one, one.schema().deserialize(value), ids_only=True)
            else:
                values[one.name] = one.check(one.schema().deserialize(value))
        except (Invalid, marshmallow.ValidationError) as error:
            text = str(error) if isinstance(error, Invalid) else " ".join(map(str, _messages(error)))
            wrong[f"custom.{name}"] = text
    if wrong:
        raise Invalid(" ".join(f"{name}: {text}" for name, text in wrong.items()), fields=wrong)
    return values


def _messages(error: marshmallow.ValidationError) -> list[Any]:
    messages = error.messages
    return messages if isinstance(messages, list) else [messages]
