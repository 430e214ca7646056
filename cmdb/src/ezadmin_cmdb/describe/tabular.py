"""Described objects as lines of CSV: what is exported is imported unchanged."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import scope
from ezadmin_cmdb.describe.description import Description
from ezadmin_cmdb.describe.fields import Field
from ezadmin_cmdb.describe.query import Query, allowed, load, narrowed, ordered

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_STEP = 1000
BOM = "\ufeff"
"""Without it Excel takes UTF-8 for something else."""


def guarded(text: str) -> str:
    """Text that no spreadsheet takes for a formula: a quote stands before it. Numbers stay as they are."""
    if text.startswith(("'", *_FORMULA)) and not _is_number(text):
        return f"'{text}"
    return text


def unguarded(text: str) -> str:
    """The text that :func:`guarded` was given."""
    return text[1:] if text.startswith("'") and text[1:2] in ("'", *_FORMULA) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def columns(description: Description, chosen: Sequence[Field]) -> list[str]:
    """The names of the columns: ``id``, then those of the fields; the same in every language."""
    return ["id", *(one.name for one in chosen)]


def row(actor: Actor, chosen: Sequence[Field], obj: Any) -> list[str]:
    """An object as a line, as far as the actor may see it."""
    return [str(obj.id), *(guarded(one.text(scope.seen(actor, one, obj))) for one in chosen)]


def export(actor: Actor, description: Description, query: Query, chosen: Sequence[Field]) -> Iterator[str]:
    """All objects that match, line by line. Holds a few hundred at a time."""
    model = description.model
    start = narrowed(description, allowed(actor, query), description.visible(actor)).with_only_columns(model.id)
    ids = db.session.scalars(ordered(description, query, start)).all()
    yield BOM + _line(columns(description, chosen))
    for first in range(0, len(ids), _STEP):
        for obj in load(description, ids[first : first + _STEP]):
            yield _line(row(actor, chosen, obj))
        db.session.expunge_all()


def _line(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()
