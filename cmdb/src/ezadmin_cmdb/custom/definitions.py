"""The definitions of custom fields as plain values: read once a transaction, with one query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import has_app_context
from sqlalchemy import event, select
from sqlalchemy.orm import Session

from ezadmin_cmdb.custom.models import CustomField
from ezadmin_cmdb.database import db

_MEMO = "custom fields"
BUILT = "custom fields built"
"""Where :mod:`.kinds` keeps the fields that it made of them."""


@dataclass(frozen=True)
class Definition:
    """A custom field. ``choices``: (value, English, Korean)."""

    id: int
    object_type: str
    name: str
    label_en: str
    label_ko: str
    hint: str | None
    kind: str
    refers_to: str | None
    choices: tuple[tuple[str, str, str], ...]
    required: bool
    initial: str | None
    pattern: str | None
    least: float | None
    most: float | None
    digits: int
    section: str | None
    listed: bool
    searched: bool


def parse_choices(text: str | None) -> tuple[tuple[str, str, str], ...]:
    """A choice a line: ``value | English | Korean``; what is missing is the part before it."""
    found = []
    for line in (text or "").splitlines():
        parts = [one.strip() for one in line.split("|")]
        if parts[0]:
            english = parts[1] if len(parts) > 1 and parts[1] else parts[0]
            found.append((parts[0], english, parts[2] if len(parts) > 2 and parts[2] else english))
    return tuple(found)


def of(row: CustomField) -> Definition:
    """A row as plain values."""
    return Definition(
        row.id, row.object_type, row.name, row.label_en, row.label_ko, row.hint, row.kind, row.refers_to,
        parse_choices(row.choices), row.required, row.initial, row.pattern, row.least, row.most, row.digits or 0,
        row.section, row.listed, row.searched,
    )  # fmt: skip


def known(object_type: str) -> list[Definition]:
    """The custom fields of a model in their order; none where there is no database."""
    if not has_app_context():
        return []
    memo: dict[str, list[Definition]] | None = db.session.info.get(_MEMO)
    if memo is None:
        memo = {}
        query = select(CustomField).order_by(CustomField.position.is_(None), CustomField.position, CustomField.id)
        with db.session.no_autoflush:
            for row in db.session.scalars(query):
                memo.setdefault(row.object_type, []).append(of(row))
        db.session.info[_MEMO] = memo
    return memo.get(object_type, [])


def _changed(session: Session, *_more: Any) -> None:
    if any(isinstance(one, CustomField) for one in (*session.new, *session.dirty, *session.deleted)):
        _ended(session)


def _ended(session: Session, *_more: Any) -> None:
    session.info.pop(_MEMO, None)
    session.info.pop(BUILT, None)


event.listen(Session, "after_flush", _changed)
event.listen(Session, "after_commit", _ended)
event.listen(Session, "after_soft_rollback", _ended)
