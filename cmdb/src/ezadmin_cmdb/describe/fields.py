"""The kinds of fields. Each knows its value as text (form, address, CSV), as JSON (API, change record), and in SQL.

``parse`` makes a value of text, ``check`` judges a value wherever it came from, ``text`` and ``plain`` write it; None is
"no value" everywhere. Both raise Invalid without a field name: who calls them knows it.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, ClassVar
from urllib.parse import urlsplit

import marshmallow
from flask_babel import gettext as _
from marshmallow import fields as wire
from sqlalchemy import ColumnElement, Date, String, cast, func, not_, or_, select

from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.search import words
from ezadmin_wire import WireError
from ezadmin_wire.times import format_time, parse_time

WireField = wire.Field[Any]
"""A field of the API's schemas."""

AGENT, PERSON, REVIEW = "agent", "person", "review"
"""Policies of a field that agents observe: whose value is effective, or whether a person decides about each difference."""

EQUALS, CONTAINS, LEAST, MOST, EMPTY, NOT = "", "contains", "gte", "lte", "empty", "not"
"""Operators of a filter: ``name=a``, ``name__contains=a``, ``size__gte=1``, ``site__empty=true``, ``state__not=new``."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field of a model, and what it may be used for.

    ``name`` is that of the attribute too. ``listed``: a column of the list unless another choice is made. ``searched``:
    the words of a search are looked for in it. ``tabular``: it fits a cell, so that lists and CSV may have it.
    ``policy``: see :data:`AGENT`; None for what no agent observes. ``section``: the heading under which form and page
    show it. ``cell``: the macro of the description's template that writes it in the list.
    """

    name: str
    label: object
    help: object | None = None
    required: bool = False
    unique: bool = False
    filterable: bool = True
    sortable: bool = True
    editable: bool = True
    listed: bool = True
    searched: bool = False
    tabular: bool = True
    policy: str | None = None
    section: object | None = None
    cell: str | None = None

    kind: ClassVar[str] = "text"
    operators: ClassVar[tuple[str, ...]] = (EQUALS, NOT, CONTAINS, EMPTY)
    elsewhere: ClassVar[bool] = False
    """Its values stand in no column or relation of the model's own: see :mod:`ezadmin_cmdb.custom`."""

    def initial(self) -> Any:
        """What a new object has if nothing is said."""
        return None

    @property
    def importable(self) -> bool:
        """Whether CSV may set it: what a person may edit, nothing else."""
        return self.editable

    # -- the value of an object ---

    def get(self, obj: Any) -> Any:
        """The value."""
        return getattr(obj, self.name)

    def set(self, obj: Any, value: Any) -> None:
        """Set a value that was checked."""
        setattr(obj, self.name, value)

    # -- values from outside ---

    def parse(self, text: str) -> Any:
        """The value that a text means; None for an empty one."""
        return text.strip() or None

    def check(self, value: Any) -> Any:
        """The value as it is stored."""
        if value is None and self.required:
            raise Invalid(_("This is needed."))
        return value

    # -- values to outside ---

    def text(self, value: Any) -> str:
        """As a form and CSV hold it; ``parse`` understands it."""
        return "" if value is None else str(value)

    def shown(self, value: Any) -> str | None:
        """For people, in the language of the request; None for no value."""
        return None if value is None else self.text(value)

    def plain(self, value: Any) -> Any:
        """As JSON: what a change record holds."""
        return value

    def schema(self, **options: Any) -> WireField:
        """Of the API; ``options`` go to marshmallow."""
        return wire.String(**options)

    def described(self) -> dict[str, Any]:
        """Options of :meth:`schema` that say what the field means."""
        return {"metadata": {"description": str(self.help or self.label)}}

    # -- in SQL ---

    def column(self, model: Any) -> Any:
        """The column, or what stands for it."""
        return getattr(model, self.name)

    def condition(self, model: Any, operator: str, values: Sequence[str]) -> ColumnElement[bool]:
        """``values`` are alternatives. Raises Invalid for text that the field cannot be compared with."""
        column = self.column(model)
        if operator == EMPTY:
            return column.is_(None) if _truth(values[0]) else column.is_not(None)  # type: ignore[no-any-return]
        if operator == CONTAINS:
            return or_(*(column.contains(value, autoescape=True) for value in values))
        parsed = [self.parse(value) for value in values]
        if None in parsed:
            raise Invalid(_("An empty value cannot be compared with."))
        if operator == LEAST:
            return column >= max(parsed)  # type: ignore[no-any-return]
        if operator == MOST:
            return column <= min(parsed)  # type: ignore[no-any-return]
        if operator == NOT:
            return or_(column.is_(None), column.not_in(parsed))
        return column.in_(parsed)  # type: ignore[no-any-return]

    def search(self, model: Any, word: str) -> ColumnElement[bool]:
        """Whether a word of a search is in it."""
        return words.contains(self.column(model), word)


def _truth(text: str) -> bool:
    word = text.strip().lower()
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("false", "0", "no", "off"):
        return False
    raise Invalid(_("Write true or false."))


@dataclass(frozen=True, kw_only=True)
class Text(Field):
    """Text of one line, or (``lines``) more; ``pattern`` is matched whole, ``pattern_help`` says what it wants."""

    length: int = 255
    lines: bool = False
    pattern: str | None = None
    pattern_help: object | None = None

    def check(self, value: Any) -> Any:
        """Its length, its characters, its pattern."""
        value = super().check(value)
        if value is None:
            return None
        text = value.replace("\r\n", "\n").strip()
        if not text:
            return super().check(None)
        if len(text) > self.length:
            raise Invalid(_("At most %(n)d characters.", n=self.length))
        if not all(char.isprintable() or (self.lines and char in "\n\t") for char in text):
            raise Invalid(_("There is a character in it that cannot be seen."))
        if self.pattern and not re.fullmatch(self.pattern, text):
            raise Invalid(str(self.pattern_help) if self.pattern_help else _("This is not in the form that is needed."))
        return text

    def schema(self, **options: Any) -> WireField:
        """With its length."""
        return wire.String(validate=marshmallow.validate.Length(max=self.length), **options)


@dataclass(frozen=True, kw_only=True)
class Url(Text):
    """An address of the web: http or https, nothing that a click could run."""

    kind: ClassVar[str] = "url"
    length: int = 500

    def check(self, value: Any) -> Any:
        """Scheme and host."""
        text = super().check(value)
        if text is None:
            return None
        try:
            parts = urlsplit(text)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Invalid(_("Write an address that begins with http:// or https://."))
        return text


@dataclass(frozen=True, kw_only=True)
class Email(Text):
    """An e-mail address."""

    kind: ClassVar[str] = "email"
    length: int = 254
    pattern: str | None = r"[^@\s]+@[^@\s]+\.[^@\s.]+"


@dataclass(frozen=True, kw_only=True)
class Address(Text):
    """An IP address or (``network``) a network with its prefix length, kept in its canonical form."""

    length: int = 49
    network: bool = False

    def check(self, value: Any) -> Any:
        """Canonical form."""
        text = super().check(value)
        if text is None:
            return None
        try:
            return str(ipaddress.ip_network(text) if self.network else ipaddress.ip_address(text))
        except ValueError:
            hint = _("Write a network such as 192.0.2.0/24.") if self.network else _("Write an address: 192.0.2.1.")
            raise Invalid(hint) from None


_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([KMGTP])i?B?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Number(Field):
    """A number, whole unless ``digits`` (behind the point) are given; ``unit`` as :func:`formats.figure` knows it."""

    kind: ClassVar[str] = "number"
    operators: ClassVar[tuple[str, ...]] = (EQUALS, NOT, LEAST, MOST, EMPTY)
    least: float | None = None
    most: float | None = None
    digits: int = 0
    unit: str = ""

    def parse(self, text: str) -> Any:
        """Digits with a point, separators of thousands aside; bytes also as ``1.5 GiB``."""
        text = text.strip().replace(",", "")
        if not text:
            return None
        size = _SIZE.fullmatch(text) if self.unit == "byte" else None
        try:
            if size:
                return int(float(size[1]) * 1024 ** "KMGTP".index(size[2].upper()) * 1024)
            return float(text) if self.digits else int(text)
        except ValueError:
            raise Invalid(_("Write a number.") if self.digits else _("Write a whole number.")) from None

    def check(self, value: Any) -> Any:
        """Its limits."""
        value = super().check(value)
        if value is None:
            return None
        if value != value or value in (float("inf"), float("-inf")):
            raise Invalid(_("Write a number."))
        if (self.least is not None and value < self.least) or (self.most is not None and value > self.most):
            least, most = ("" if one is None else f"{one:g}" for one in (self.least, self.most))
            raise Invalid(_("The number lies between %(least)s and %(most)s.", least=least, most=most))
        return round(value, self.digits) if self.digits else value

    def shown(self, value: Any) -> str | None:
        """With its unit."""
        from ezadmin_cmdb.web import formats

        return None if value is None else formats.figure(value, self.unit)

    def schema(self, **options: Any) -> WireField:
        """With its limits."""
        limits = marshmallow.validate.Range(self.least, self.most)
        if self.digits:
            return wire.Float(validate=limits, **options)
        return wire.Integer(strict=True, validate=limits, **options)


@dataclass(frozen=True, kw_only=True)
class Boolean(Field):
    """Yes or no; unlike the others never without a value. ``ticked``: a new object has yes if nothing is said."""

    ticked: bool = False

    kind: ClassVar[str] = "boolean"
    operators: ClassVar[tuple[str, ...]] = (EQUALS,)

    def initial(self) -> Any:
        """Yes or no."""
        return self.ticked

    def parse(self, text: str) -> Any:
        """true or false; no text is false, as browsers send a box that is not ticked."""
        return bool(text.strip()) and _truth(text)

    def check(self, value: Any) -> Any:
        """False for none."""
        return bool(value)

    def text(self, value: Any) -> str:
        """true or false."""
        return "true" if value else "false"

    def shown(self, value: Any) -> str | None:
        """In words."""
        return str(_("yes") if value else _("no"))

    def schema(self, **options: Any) -> WireField:
        """Boolean."""
        options.pop("allow_none", None)
        return wire.Boolean(truthy={True}, falsy={False}, **options)


@dataclass(frozen=True, kw_only=True)
class Day(Field):
    """A date."""

    kind: ClassVar[str] = "date"
    operators: ClassVar[tuple[str, ...]] = (EQUALS, LEAST, MOST, EMPTY)

    def parse(self, text: str) -> Any:
        """ISO 8601."""
        text = text.strip()
        if not text:
            return None
        try:
            return date.fromisoformat(text)
        except ValueError:
            raise Invalid(_("Write a date such as 2026-12-31.")) from None

    def plain(self, value: Any) -> Any:
        """ISO 8601."""
        return None if value is None else value.isoformat()

    def schema(self, **options: Any) -> WireField:
        """Date."""
        return wire.Date(**options)


@dataclass(frozen=True, kw_only=True)
class Moment(Field):
    """A time; filtered by days in UTC."""

    kind: ClassVar[str] = "moment"
    operators: ClassVar[tuple[str, ...]] = (LEAST, MOST, EMPTY)

    def parse(self, text: str) -> Any:
        """RFC 3339, or a date for its beginning."""
        text = text.strip()
        if not text:
            return None
        try:
            return parse_time(f"{text}T00:00:00Z" if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else text)
        except WireError:
            raise Invalid(_("Write a time such as 2026-12-31T23:59:59Z.")) from None

    def text(self, value: datetime | None) -> str:
        """RFC 3339."""
        return "" if value is None else format_time(value)

    def shown(self, value: datetime | None) -> str | None:
        """In the reader's zone."""
        from ezadmin_cmdb.web import formats

        return None if value is None else formats.moment(value)

    def plain(self, value: datetime | None) -> Any:
        """RFC 3339."""
        return None if value is None else format_time(value)

    def condition(self, model: Any, operator: str, values: Sequence[str]) -> ColumnElement[bool]:
        """A day includes its end."""
        if operator == MOST and all(re.fullmatch(r"\d{4}-\d\d-\d\d", value.strip()) for value in values):
            try:
                return cast(self.column(model), Date) <= min(date.fromisoformat(value.strip()) for value in values)
            except ValueError:
                raise Invalid(_("Write a date such as 2026-12-31.")) from None
        return super().condition(model, operator, values)

    def schema(self, **options: Any) -> WireField:
        """Date and time with its zone."""
        return wire.AwareDateTime(format="iso", **options)


Choices = Mapping[str, object]
"""The values, each with what people read."""


@dataclass(frozen=True, kw_only=True)
class Select(Field):
    """One of some values."""

    kind: ClassVar[str] = "select"
    operators: ClassVar[tuple[str, ...]] = (EQUALS, NOT, EMPTY)
    choices: Choices

    def check(self, value: Any) -> Any:
        """One of them."""
        value = super().check(value)
        if value is not None and value not in self.choices:
            raise Invalid(_("One of: %(values)s.", values=", ".join(self.choices)))
        return value

    def shown(self, value: Any) -> str | None:
        """What people read."""
        return None if value is None else str(self.choices.get(value, value))

    def schema(self, **options: Any) -> WireField:
        """An enumeration."""
        return wire.String(validate=marshmallow.validate.OneOf(list(self.choices)), **options)


@dataclass(frozen=True, kw_only=True)
class MultiSelect(Field):
    """Some of some values: a JSON list in the database, in the order of ``choices``, which may be found out when asked."""

    kind: ClassVar[str] = "multiselect"
    operators: ClassVar[tuple[str, ...]] = (EQUALS,)
    sortable: bool = False
    choices: Choices | Callable[[], Choices]

    @property
    def options(self) -> Choices:
        """The choices."""
        return self.choices() if callable(self.choices) else self.choices

    def parse(self, text: str) -> Any:
        """Separated by commas or new lines."""
        return [one.strip() for one in re.split(r"[,\n]", text) if one.strip()]

    def check(self, value: Any) -> Any:
        """Each one of them, none twice."""
        given = set(value or ())
        if unknown := given - set(self.options):
            raise Invalid(_("There is no %(values)s.", values=", ".join(sorted(unknown))))
        if self.required and not given:
            raise Invalid(_("Choose one at least."))
        return [one for one in self.options if one in given]

    def text(self, value: Any) -> str:
        """Separated by commas."""
        return ",".join(value or ())

    def shown(self, value: Any) -> str | None:
        """What people read."""
        return ", ".join(str(self.options.get(one, one)) for one in value) if value else None

    def schema(self, **options: Any) -> WireField:
        """A list of an enumeration."""
        return wire.List(wire.String(validate=marshmallow.validate.OneOf(list(self.options))), **options)

    def condition(self, model: Any, operator: str, values: Sequence[str]) -> ColumnElement[bool]:
        """Whether one of them is in the list."""
        return or_(*(func.json_contains(self.column(model), json.dumps(value)) for value in values))


class RefersToOthers:
    """What both kinds of references do: find objects of another description by id or name."""

    to: str

    def resolve(self, actor: Any, texts: Collection[str], ids_only: bool = False) -> dict[str, Any]:
        """The object that each text (id, or name if only one has it) means, of those that the actor may see.

        One query for all. Texts that mean nothing or several are missing.
        """
        from ezadmin_cmdb.describe.description import find

        return find(self.to).resolve(actor, texts, ids_only)


@dataclass(frozen=True, kw_only=True)
class Reference(RefersToOthers, Field):
    """Another described object: ``name`` is the relationship, ``<name>_id`` the column; ``to`` names its description.

    Text is its id or, if only one has it, its name. The value is the object.
    """

    kind: ClassVar[str] = "reference"
    operators: ClassVar[tuple[str, ...]] = (EQUALS, NOT, EMPTY)
    to: str
    through: bool = False
    """It follows from another reference, and has no column of its own."""

    def text(self, value: Any) -> str:
        """Its name."""
        return "" if value is None else str(value.name)

    def plain(self, value: Any) -> Any:
        """Id and name, as it is called now."""
        return None if value is None else {"id": value.id, "name": value.name}

    def column(self, model: Any) -> Any:
        """The column of the id."""
        return getattr(model, f"{self.name}_id")

    def condition(self, model: Any, operator: str, values: Sequence[str]) -> ColumnElement[bool]:
        """By ids or names."""
        column = self.column(model)
        if operator == EMPTY:
            return super().condition(model, operator, values)
        target = getattr(model, self.name).property.mapper.class_
        named = column.in_(select(target.id).where(or_(target.id.in_(values), target.name.in_(values))))
        return or_(column.is_(None), not_(named)) if operator == NOT else named

    def schema(self, **options: Any) -> WireField:
        """Written as an id, read as id and name: see :mod:`ezadmin_cmdb.describe.api`."""
        from ezadmin_cmdb.describe.description import find

        return find(self.to).id_schema(**options)


@dataclass(frozen=True)
class Members:
    """What is added to, and taken from, what :class:`References` refer to; the rest stays."""

    add: Sequence[Any] = ()
    remove: Sequence[Any] = ()

    def applied(self, before: Iterable[Any]) -> list[Any]:
        """What there is then."""
        gone = {one.id for one in self.remove}
        return [*(one for one in before if one.id not in gone), *self.add]


class MembersWire(wire.Field[Any]):
    """A list of ids, or ``{"add": [...], "remove": [...]}``."""

    def __init__(self, ids: WireField, **options: Any) -> None:
        self._ids = wire.List(ids)
        kind = "integer" if isinstance(ids, wire.Integer) else "string"
        shape: dict[str, Any] = {
            "type": "array",
            "items": {"type": kind} | ({"format": "uuid"} if kind == "string" else {}),
        }
        both = {
            "type": "object", "properties": {"add": shape, "remove": shape}, "additionalProperties": False,
            "minProperties": 1,
        }  # fmt: skip
        options["metadata"] = {**options.pop("metadata", {}), "oneOf": [shape, both]}
        super().__init__(**options)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **options: Any) -> Any:
        if not isinstance(value, dict):
            return self._ids.deserialize(value, attr, data, **options)
        if not value or value.keys() - {"add", "remove"}:
            raise marshmallow.ValidationError(_("Write a list of ids, or an object with add, remove or both."))
        return {name: self._ids.deserialize(ids) for name, ids in value.items()}


@dataclass(frozen=True, kw_only=True)
class References(RefersToOthers, Field):
    """Some described objects: ``name`` is a relationship through a table of its own. Text holds one a line."""

    kind: ClassVar[str] = "references"
    operators: ClassVar[tuple[str, ...]] = (EQUALS,)
    sortable: bool = False
    listed: bool = False
    to: str

    def parse(self, text: str) -> Any:
        """Ids or names, by lines or commas."""
        return [one.strip() for one in re.split(r"[,\n]", text) if one.strip()]

    def check(self, value: Any) -> Any:
        """None twice."""
        unique = list({one.id: one for one in value or ()}.values())
        if self.required and not unique:
            raise Invalid(_("Choose one at least."))
        return unique

    def text(self, value: Iterable[Any]) -> str:
        """A name a line; the id where a name could be another's."""
        objects = list(value)
        names = [one.name for one in objects]
        return "\n".join(one.name if names.count(one.name) == 1 else str(one.id) for one in objects)

    def shown(self, value: Iterable[Any]) -> str | None:
        """Names."""
        return ", ".join(one.name for one in value) or None

    def plain(self, value: Iterable[Any]) -> Any:
        """Ids and names."""
        return [{"id": one.id, "name": one.name} for one in value]

    def condition(self, model: Any, operator: str, values: Sequence[str]) -> ColumnElement[bool]:
        """Whether one of them is among those referred to."""
        relation = getattr(model, self.name)
        return relation.any(cast(relation.property.mapper.class_.id, String).in_(values))  # type: ignore[no-any-return]

    def schema(self, **options: Any) -> WireField:
        """Ids."""
        from ezadmin_cmdb.describe.description import find

        options.pop("allow_none", None)
        return wire.List(find(self.to).id_schema(), **options)

    def patch_schema(self, **options: Any) -> WireField:
        """Ids, or which are added and taken away."""
        from ezadmin_cmdb.describe.description import find

        options.pop("allow_none", None)
        return MembersWire(find(self.to).id_schema(), **options)


@dataclass(frozen=True, kw_only=True)
class Computed(Field):
    """What follows from the object: shown and exported, not stored, so neither edited nor sorted or filtered by."""

    filterable: bool = False
    sortable: bool = False
    editable: bool = False
    compute: Callable[[Any], Any]
    form: Callable[[], WireField] = wire.String

    def get(self, obj: Any) -> Any:
        """Computed."""
        return self.compute(obj)

    def text(self, value: Any) -> str:
        """Lists separated by commas."""
        return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else super().text(value)

    def schema(self, **options: Any) -> WireField:
        """As given; it may have no value."""
        made = self.form()
        made.allow_none = True
        return made
