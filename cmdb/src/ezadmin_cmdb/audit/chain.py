"""The chain: each entry's hash holds that of the entry before, so that whoever changes one must change all that follow.

``hash = sha256(previous + "\\n" + canonical)``, in hex; ``canonical`` is the entry as JSON: all columns but ``previous`` and
``hash``, names sorted, no spaces, UTF-8, the time in UTC with microseconds. The first entry's ``previous`` is 64 zeros.

Whoever can write the table could make a whole new chain. What shows that is an anchor: the number and hash of an entry,
kept where he cannot write (``ezadmin-cmdb audit anchor``), and the events, each of which names its entry's hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, insert, select, text, update

from ezadmin_cmdb.audit.models import AuditEntry, AuditHead
from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.database import db
from ezadmin_cmdb.rights.models import Denial

START = "0" * 64
HASHED = tuple(column.name for column in AuditEntry.__table__.columns if column.name not in ("previous", "hash"))
PAGE = 1_000
Entry = Mapping[str, Any]
"""Values of all columns of an entry but ``id``, ``previous`` and ``hash``."""


@dataclass(frozen=True)
class Anchor:
    """An entry's number and hash."""

    number: int
    hash: str


@dataclass(frozen=True)
class Verdict:
    """``entries``: how many were looked at. ``broken``: the number of the first that is wrong, with ``why``; None: all hold."""

    entries: int
    head: Anchor
    broken: int | None = None
    why: str = ""


def canonical(value: Any) -> str:
    """JSON that is the same for the same value."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)


def hash_of(previous: str, entry: Mapping[str, Any]) -> str:
    """The hash of an entry, ``id`` included, after ``previous``."""
    content = {name: entry[name] for name in HASHED}
    content["time"] = content["time"].isoformat(timespec="microseconds")
    return hashlib.sha256(f"{previous}\n{canonical(content)}".encode()).hexdigest()


def append(entries: Sequence[Entry]) -> None:
    """Add entries at the end of the chain. The lock on its head is held until the transaction ends, so call it last."""
    head = _locked_head()
    number, previous = head.number, head.hash
    rows = []
    for entry in entries:
        number += 1
        row = {"id": number, **entry, "previous": previous}
        previous = row["hash"] = hash_of(previous, row)
        rows.append(row)
    db.session.execute(insert(AuditEntry), rows)
    db.session.execute(update(AuditHead).where(AuditHead.id == 1).values(number=number, hash=previous))


def _locked_head() -> Anchor:
    query = select(AuditHead.number, AuditHead.hash).where(AuditHead.id == 1).with_for_update()
    row = db.session.execute(query).one_or_none()
    if row is None:  # the first entry of all; or the row was lost, and the chain goes on where it ends
        last = last_entry()
        db.session.execute(
            text("INSERT IGNORE INTO audit_head (id, number, hash) VALUES (1, :number, :hash)"),
            {"number": last.number, "hash": last.hash},
        )
        row = db.session.execute(query).one()
    return Anchor(row.number, row.hash)


def last_entry() -> Anchor:
    """The newest entry that is there."""
    row = db.session.execute(
        select(AuditEntry.id, AuditEntry.hash).order_by(AuditEntry.id.desc()).limit(1)
    ).one_or_none()
    return Anchor(0, START) if row is None else Anchor(row.id, row.hash)


def verify(anchors: Iterable[Anchor] = ()) -> Verdict:
    """Go along the whole chain; the first entry that is wrong, missing, or not what an anchor says.

    Also compares the records of changes and denials with the entries that tell of them.
    """
    known = {anchor.number: anchor.hash for anchor in anchors}
    number, previous = 0, START

    def broken(at: int, why: str) -> Verdict:
        return Verdict(number, Anchor(number, previous), at, why)

    # what is added while this runs comes after the head that was read first
    head = db.session.execute(select(AuditHead.number, AuditHead.hash).where(AuditHead.id == 1)).one_or_none()
    for page in _pages():
        wrong_records = _wrong_records(page)
        for entry in page:
            if entry.id != number + 1:
                return broken(number + 1, f"entry {number + 1} is missing: the next that is there is {entry.id}")
            if entry.previous != previous:
                return broken(
                    entry.id, f"entry {entry.id} does not follow entry {number}: it names another hash before it"
                )
            if entry.hash != hash_of(previous, {name: getattr(entry, name) for name in HASHED}):
                return broken(entry.id, f"entry {entry.id} is not what it was: its hash does not fit its content")
            if known.get(entry.id, entry.hash) != entry.hash:
                return broken(
                    entry.id, f"entry {entry.id} is another one than the anchor says: the chain was made anew"
                )
            if entry.id in wrong_records:
                return broken(entry.id, f"entry {entry.id} holds, but {wrong_records[entry.id]}")
            number, previous = entry.id, entry.hash
        db.session.expunge_all()
    end = max([head.number if head else 0, *known])
    if number < end:
        return broken(number + 1, f"entry {number + 1} is missing: the chain was longer, {end} entries")
    if number and head is None:
        return broken(number, "the row of audit_head is missing")
    if head and head.number and _hash_at(head.number) != head.hash:
        return broken(head.number, f"entry {head.number} is another one than audit_head says")
    return Verdict(number, Anchor(number, previous))


def _pages() -> Iterator[Sequence[AuditEntry]]:
    last = 0
    while True:
        query = select(AuditEntry).where(AuditEntry.id > last).order_by(AuditEntry.id).limit(PAGE)
        page = db.session.scalars(query).all()
        if not page:
            return
        last = page[-1].id
        yield page


def _hash_at(number: int) -> str | None:
    return db.session.scalar(select(AuditEntry.hash).where(AuditEntry.id == number))


def _wrong_records(page: Sequence[AuditEntry]) -> dict[int, str]:
    """Of entries about a change or denial: what is wrong with its record, by the entry's number."""
    wrong: dict[int, str] = {}
    told: dict[str, dict[int, tuple[int, Any]]] = {"change": {}, "denial": {}}
    for entry in page:
        if entry.kind in told:
            details = _loaded(entry.details)
            if isinstance(details.get("record"), int):
                told[entry.kind][details["record"]] = (entry.id, details.get("fields"))
    changed = select(Change.id, Change.fields).where(Change.id.in_(told["change"]))
    kept = {row.id: canonical(row.fields) for row in db.session.execute(changed)}
    for record, (number, fields) in told["change"].items():
        if record not in kept:
            wrong[number] = f"change record {record}, of which it tells, is missing"
        elif kept[record] != canonical(fields):
            wrong[number] = f"change record {record} says something else"
    there = set(db.session.scalars(select(Denial.id).where(Denial.id.in_(told["denial"]))))
    for record, (number, _fields) in told["denial"].items():
        if record not in there:
            wrong[number] = f"denial {record}, of which it tells, is missing"
    return wrong


def _loaded(details: str) -> dict[str, Any]:
    try:
        value = json.loads(details)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def count() -> int:
    """How many entries there are."""
    return db.session.scalar(select(func.count()).select_from(AuditEntry)) or 0
