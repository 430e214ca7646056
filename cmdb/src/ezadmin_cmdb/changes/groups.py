"""The list of all changes, by requests: what one request changed stands together, however many objects that were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import JSON, func, or_, select
from sqlalchemy.orm import aliased

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe.description import Description
from ezadmin_cmdb.describe.query import Query, conditions

PAGE = 50


@dataclass
class Group:
    """What one request changed; ``newest`` is its last change that matches.

    ``total`` changes; ``kinds``: how many by kind of object, ``actions`` by action, ``fields`` by each changed field.
    """

    newest: Change
    total: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    fields: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, action: str, fields: Iterable[str], number: int = 1) -> None:
        """Count some changes."""
        self.total += number
        self.kinds[kind] += number
        self.actions[action] += number
        for name in fields:
            self.fields[name] += number


def page(
    actor: Actor, description: Description, query: Query, before: int | None = None
) -> tuple[Sequence[Group], bool]:
    """The newest groups of what matches, from below the id ``before`` on, and whether there are older ones.

    3 queries. Read along the key and ended with the page, so that it takes no longer with millions of changes.
    """
    later = aliased(Change)
    last = (  # read backwards along its index: the first row is it, however many the request changed
        select(later.id)
        .where(later.request_id == Change.request_id, *conditions(replace(description, model=later), query))
        .order_by(later.request_id.desc(), later.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    newest = description.visible(actor).with_only_columns(Change.id).where(*conditions(description, query))
    newest = newest.where(or_(Change.request_id.is_(None), Change.id == last))
    if before is not None:
        newest = newest.where(Change.id < before)
    ids = db.session.scalars(newest.order_by(Change.id.desc()).limit(PAGE + 1)).all()
    rows = db.session.scalars(select(Change).where(Change.id.in_(ids[:PAGE])).order_by(Change.id.desc()))
    groups = [Group(row) for row in rows]
    _count(description, query, groups)
    return groups, len(ids) > PAGE


def _count(description: Description, query: Query, groups: Sequence[Group]) -> None:
    by_request = {one.newest.request_id: one for one in groups}
    alone = [one for one in groups if one.newest.request_id is None]
    for one in alone:
        one.add(one.newest.object_type, one.newest.action, one.newest.fields)
    by_request.pop(None, None)
    if not by_request:
        return
    columns: Any = (
        Change.request_id, Change.object_type, Change.action, func.json_keys(Change.fields, type_=JSON),
    )  # fmt: skip
    of_these = Change.request_id.in_(by_request)
    counted = select(*columns, func.count()).where(of_these, *conditions(description, query)).group_by(*columns)
    rows: Any = db.session.execute(counted)
    for request_id, kind, action, fields, number in rows:
        by_request[request_id].add(kind, action, fields or (), number)
