"""What a list is asked: words, filters, order, page. It stands whole in the address, is saved as that text, and the API
understands the same.

``?q=seoul&state=active&state=new&memory__gte=1073741824&site__empty=true&sort=-memory,name&page=2``
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

from flask_babel import gettext as _
from sqlalchemy import ColumnElement, Select, and_, false, func, or_, select
from sqlalchemy.orm import joinedload, selectinload

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe.description import Description
from ezadmin_cmdb.describe.fields import EMPTY, Field, Reference
from ezadmin_cmdb.describe.fields import References as ManyReferences
from ezadmin_cmdb.errors import Invalid

PAGE = 50
PAGE_MAX = 500
PAGES_MAX = 1_000_000
WORDS_MAX = 8
VALUES_MAX = 500

Pairs = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Filter:
    """One condition: any of ``values``."""

    field: Field
    operator: str
    values: tuple[str, ...]

    @property
    def parameter(self) -> str:
        """Its name in an address."""
        return f"{self.field.name}__{self.operator}" if self.operator else self.field.name


@dataclass(frozen=True)
class Query:
    """What a list is asked; ``sort`` names fields, with ``-`` in front from the greatest down."""

    words: str = ""
    filters: tuple[Filter, ...] = ()
    sort: tuple[str, ...] = ()
    page: int = 1
    size: int = PAGE
    columns: tuple[str, ...] = ()

    def pairs(self, **changes: Any) -> list[tuple[str, str]]:
        """As an address holds it; ``changes`` are those of the query's own members."""
        query = replace(self, **changes)
        pairs = [("q", query.words)] if query.words else []
        pairs += [(one.parameter, value) for one in query.filters for value in one.values]
        if query.sort:
            pairs.append(("sort", ",".join(query.sort)))
        if query.columns:
            pairs.append(("columns", ",".join(query.columns)))
        if query.size != PAGE:
            pairs.append(("size", str(query.size)))
        if query.page > 1:
            pairs.append(("page", str(query.page)))
        return pairs

    def address(self, **changes: Any) -> str:
        """``?…``, to put behind a list's address."""
        return f"?{urlencode(self.pairs(**changes)) or 'q='}"  # bare, a list opens with its user's default

    @property
    def filter_text(self) -> str:
        """Words and filters alone, as a dynamic group and a saved filter keep them."""
        return urlencode(Query(self.words, self.filters).pairs())

    def without(self, gone: Filter) -> str:
        """The address without a filter."""
        return self.address(filters=tuple(one for one in self.filters if one != gone), page=1)

    def sorted_by(self, name: str) -> str:
        """The address with another order: by this field, or, if it is that already, the other way round."""
        return self.address(sort=(f"-{name}",) if self.sort[:1] == (name,) else (name,), page=1)


def parse(description: Description, given: Pairs, strict: bool = False) -> Query:
    """Read a query. A value that cannot be is Invalid; a name that means nothing is too if ``strict`` (API), else ignored."""
    values: dict[str, list[str]] = {}
    for name, value in given:
        values.setdefault(name, []).append(value)
    filters = []
    for name in values:
        if name in ("q", "sort", "page", "size", "columns", "fields"):
            continue
        found = _filter(description, name, values[name])
        if found is not None:
            filters.append(found)
        elif strict and not _is_filter(description, name):
            raise Invalid(_("There is no parameter %(name)s.", name=name), name)
    last = {name: texts[-1] for name, texts in values.items()}
    return Query(
        words=last.get("q", "").strip()[:200],
        filters=tuple(filters),
        sort=_sort(description, last.get("sort", ""), strict),
        page=_whole("page", last.get("page", ""), 1, PAGES_MAX, strict),
        size=_whole("size", last.get("size", ""), PAGE, PAGE_MAX, strict),
        columns=_columns(description, values.get("columns", [])),
    )


def parse_text(description: Description, text: str, strict: bool = False) -> Query:
    """Read a query that was saved as text."""
    return parse(description, parse_qsl(text.lstrip("?"), max_num_fields=VALUES_MAX), strict)


def _is_filter(description: Description, parameter: str) -> bool:
    name, _sign, operator = parameter.partition("__")
    return any(one.name == name and one.filterable and operator in one.operators for one in description.all_fields())


def _filter(description: Description, parameter: str, values: Sequence[str]) -> Filter | None:
    if not _is_filter(description, parameter):
        return None
    name, _sign, operator = parameter.partition("__")
    found = Filter(description.field(name), operator, tuple(dict.fromkeys(one for one in values if one.strip())))
    if not found.values:
        return None  # a form sends what was left empty
    if len(found.values) > VALUES_MAX:
        raise Invalid(_("At most %(n)d values.", n=VALUES_MAX), parameter)
    _condition(description, found)
    return found


def _condition(description: Description, one: Filter) -> ColumnElement[bool]:
    try:
        return one.field.condition(description.model, one.operator, one.values)
    except Invalid as error:
        raise Invalid(str(error), one.parameter) from error


def _sort(description: Description, text: str, strict: bool) -> tuple[str, ...]:
    sortable = {one.name for one in description.all_fields() if one.sortable}
    wanted = [one.strip() for one in text.split(",") if one.strip()]
    if strict and (unknown := [one for one in wanted if one.removeprefix("-") not in sortable]):
        raise Invalid(_("It cannot be sorted by %(name)s.", name=", ".join(unknown)), "sort")
    return tuple(one for one in wanted if one.removeprefix("-") in sortable)[:4]


def _columns(description: Description, texts: Sequence[str]) -> tuple[str, ...]:
    known = [one.name for one in description.all_fields()]
    wanted = {name for text in texts for name in text.split(",")}
    return tuple(name for name in known if name in wanted)


def _whole(name: str, text: str, default: int, most: int, strict: bool) -> int:
    if not text.strip():
        return default
    if text.isdecimal() and 1 <= int(text[:10]) <= most:
        return int(text)
    if strict:
        raise Invalid(_("A whole number between 1 and %(most)d.", most=most), name)
    return default


@dataclass(frozen=True)
class Page:
    """A page of objects; ``total`` of all that match, ``number`` from 1."""

    items: Sequence[Any]
    total: int
    number: int
    size: int

    @property
    def pages(self) -> int:
        """How many there are, one at least."""
        return max(1, -(-self.total // self.size))


def narrowed(description: Description, query: Query, start: Select[Any]) -> Select[Any]:
    """``start`` with words and filters of the query."""
    return start.where(*conditions(description, query))


def allowed(actor: Actor, query: Query) -> Query:
    """The query without hosts to filter by that the actor may not see: what is asked about them is never so."""
    from ezadmin_cmdb.describe.scope import may_be_asked

    return replace(
        query,
        filters=tuple(
            one if one.operator == EMPTY else replace(one, values=may_be_asked(actor, one.field, one.values))
            for one in query.filters
        ),
    )


def conditions(description: Description, query: Query) -> list[ColumnElement[bool]]:
    """Words and filters of a query as conditions."""
    found = [_condition(description, one) for one in query.filters]
    for word in query.words.split()[:WORDS_MAX]:
        if description.search is not None:
            found.append(description.search(word))
        else:
            searched = [one for one in description.all_fields() if one.searched]
            found.append(or_(false(), *(one.search(description.model, word) for one in searched)))
    return found


def matching(description: Description, text: str) -> ColumnElement[bool]:
    """The condition of a saved filter; a filter that no longer can be understood matches nothing."""
    try:
        query = parse_text(description, text, strict=True)
    except Invalid:
        return false()
    return and_(True, *conditions(description, query))


def ordered(description: Description, query: Query, start: Select[Any]) -> Select[Any]:
    """``start`` in the query's order; what has no value stands at the end; the id makes it the same every time."""
    model = description.model
    for name in query.sort or tuple(description.order):
        one = description.field(name.removeprefix("-"))
        column = one.column(model)
        if isinstance(one, Reference):  # by the name of what is referred to
            relation = getattr(model, one.name)
            target = relation.property.mapper.class_
            column = select(target.name).where(target.id == column).scalar_subquery()
        if one.required:
            start = start.order_by(column.desc() if name.startswith("-") else column.asc())
        else:
            start = start.order_by(column.is_(None), column.desc() if name.startswith("-") else column.asc())
    return start.order_by(model.id)


def page(actor: Actor, description: Description, query: Query) -> Page:
    """A page of what the actor may see. A page beyond the last one is the last. 3 queries, and one a reference shown."""
    model = description.model
    start = narrowed(description, allowed(actor, query), description.visible(actor))
    total = db.session.scalar(select(func.count()).select_from(start.with_only_columns(model.id).subquery())) or 0
    number = min(query.page, max(1, -(-total // query.size)))
    # the ids first: to sort and skip whole rows costs several times more
    ids = db.session.scalars(
        ordered(description, query, start.with_only_columns(model.id))
        .limit(query.size)
        .offset((number - 1) * query.size)
    ).all()
    return Page(load(description, ids), total, number, query.size)


def load(description: Description, ids: Sequence[Any], fresh: bool = False) -> list[Any]:
    """Objects in the order of their ids, with what they refer to; ``fresh``: as the database has them now."""
    model = description.model
    query = select(model).where(model.id.in_(ids)).execution_options(populate_existing=fresh)
    for one in description.references():
        loading = joinedload if isinstance(one, Reference) else selectinload
        query = query.options(loading(getattr(model, one.name)))
    if description.loads is not None:
        query = query.options(*description.loads())
    if description.extensible:
        query = query.options(selectinload(model.tag_links))
        if any(one.elsewhere and one.kind != "tags" for one in description.all_fields()):
            query = query.options(selectinload(model.custom_values))
    by_id = {obj.id: obj for obj in db.session.scalars(query)}
    if description.extensible:
        from ezadmin_cmdb.custom.kinds import preload  # it knows the models, which are described by this

        preload(description.all_fields(), list(by_id.values()))
    return [by_id[one] for one in ids if one in by_id]


def options(actor: Actor, field: Reference | ManyReferences, limit: int) -> list[tuple[Any, str]] | None:
    """(id, name) of all that a reference may refer to, by name; None if there are more than ``limit``."""
    from ezadmin_cmdb.describe.description import find

    target = find(field.to)
    key = getattr(target.model, target.key)
    rows = db.session.execute(
        target.visible(actor).with_only_columns(target.model.id, key).order_by(key).limit(limit + 1)
    ).all()
    return None if len(rows) > limit else [(row[0], row[1]) for row in rows]


def chosen(description: Description, query: Query) -> list[Field]:
    """The columns of a list: those chosen, else those that are listed; the name always comes first."""
    fields = description.all_fields()
    wanted = query.columns or tuple(one.name for one in fields if one.listed)
    return [one for one in fields if one.tabular and (one.name in wanted or one.name == description.key)]
