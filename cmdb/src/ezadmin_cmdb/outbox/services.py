"""Putting config records into the outbox, and keeping book of what is published."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import select, update

from ezadmin_cmdb.database import db
from ezadmin_cmdb.outbox.models import ConfigRecord
from ezadmin_wire.config import RULES_KEY, Record, RulesRecord
from ezadmin_wire.fields import dump


@dataclass(frozen=True)
class Entry:
    """A record as it should stand in the topic; ``body`` None: it should not stand there."""

    key: str
    revision: int
    body: str | None
    published_revision: int


def hold(keys: Collection[str]) -> None:
    """Keep others from writing records until the transaction ends.

    For whoever makes a record of what others may be changing: made before it is held, it would undo what they wrote.
    """
    query = select(ConfigRecord.key).where(ConfigRecord.key.in_(sorted(keys))).order_by(ConfigRecord.key)
    db.session.execute(query.with_for_update()).all()


def put(key: str, record: Record | None) -> None:
    """Write the next revision of a record, None to delete it; nothing if it is the same as before.

    Published by the worker after the transaction is committed.
    """
    body = None if record is None else dump(record).decode()
    row = db.session.get(ConfigRecord, key, with_for_update=True, populate_existing=True)
    if row is None:
        db.session.add(ConfigRecord(key=key, revision=1, body=body))
    elif row.body != body:
        row.body = body
        row.revision += 1
    db.session.flush()


def put_many(records: Mapping[str, Record | None]) -> int:
    """As :func:`put`, for many records with a few queries; returns how many were not the same as before."""
    query = select(ConfigRecord).where(ConfigRecord.key.in_(sorted(records))).order_by(ConfigRecord.key)
    rows = db.session.scalars(query.with_for_update().execution_options(populate_existing=True))
    there = {row.key: row for row in rows}
    written = 0
    for key, record in sorted(records.items()):
        body = None if record is None else dump(record).decode()
        row = there.get(key)
        written += row is None or row.body != body
        if row is None:
            db.session.add(ConfigRecord(key=key, revision=1, body=body))
        elif row.body != body:
            row.body = body
            row.revision += 1
    db.session.flush()
    return written


def ensure_rules() -> None:
    """Make the record ``rules`` (an empty list) if there is none, so that readers meet one."""
    if db.session.get(ConfigRecord, RULES_KEY) is None:
        put(RULES_KEY, RulesRecord())


def entries(unpublished_only: bool) -> list[Entry]:
    """All records, or those with a revision that Kafka has not acknowledged."""
    query = select(ConfigRecord).order_by(ConfigRecord.key)
    if unpublished_only:
        query = query.where(ConfigRecord.published_revision < ConfigRecord.revision)
    rows = db.session.scalars(query)
    return [Entry(row.key, row.revision, row.body, row.published_revision) for row in rows]


def is_published(key: str) -> bool:
    """Whether Kafka has acknowledged the newest revision of a record."""
    row = db.session.get(ConfigRecord, key, populate_existing=True)
    return row is not None and row.body is not None and row.published_revision >= row.revision


def mark_published(key: str, revision: int) -> None:
    """Note that Kafka acknowledged a revision."""
    db.session.execute(
        update(ConfigRecord)
        .where(ConfigRecord.key == key, ConfigRecord.published_revision < revision)
        .values(published_revision=revision, updated=ConfigRecord.updated)
    )


def forget(key: str, above: int) -> None:
    """Take up a record that only the topic has, as a deleted one with a revision beyond ``above``."""
    db.session.add(ConfigRecord(key=key, revision=above + 1, body=None))
    db.session.flush()


def renew(key: str, above: int) -> None:
    """Give a record a revision beyond ``above`` and its own, so that it is published and believed again."""
    row = db.session.get(ConfigRecord, key, with_for_update=True, populate_existing=True)
    if row is not None:
        row.revision = max(row.revision, above) + 1
