"""Reading change records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.database import db

PAGE = 50


@dataclass(frozen=True)
class History:
    """A page of change records, the newest first; ``number`` from 1."""

    items: Sequence[Any]
    total: int
    number: int
    size: int = PAGE

    @property
    def pages(self) -> int:
        """How many there are, one at least."""
        return max(1, -(-self.total // self.size))


def of_object(object_type: str, object_id: str, number: int = 1, size: int = PAGE) -> History:
    """The changes of one object. Who may see the object may see them: the caller has asked."""
    query = select(Change).where(Change.object_type == object_type, Change.object_id == object_id)
    total = db.session.scalar(select(func.count()).select_from(query.subquery())) or 0
    number = min(max(number, 1), max(1, -(-total // size)))
    rows = query.order_by(Change.time.desc(), Change.id.desc()).limit(size).offset((number - 1) * size)
    return History(db.session.scalars(rows).all(), total, number, size)
