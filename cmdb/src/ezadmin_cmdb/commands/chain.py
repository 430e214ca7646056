"""The states of all commands in one chain: each row's hash holds that of the row before.

``hash = sha256(previous + "\\n" + canonical)``; ``canonical`` is the row as JSON as in :mod:`ezadmin_cmdb.audit.chain`. Who can
write the table could make a whole new chain; the events, each of which names its row's hash, show it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, event, insert, select, text, update
from sqlalchemy.orm import Session, SessionTransaction

from ezadmin_cmdb.audit import services as _audit  # noqa: F401 - its listener first: heads are locked in one order everywhere
from ezadmin_cmdb.audit.chain import canonical
from ezadmin_cmdb.commands.models import Command, CommandHead, CommandState
from ezadmin_cmdb.database import db

START = "0" * 64
HASHED = tuple(column.name for column in CommandState.__table__.columns if column.name not in ("previous", "hash"))
PAGE = 1_000
State = Mapping[str, Any]
"""Values of all columns of a row but ``id``, ``previous`` and ``hash``."""
_NOTED = "command_states"
BASE = 2
"""In ``command_head``."""


@dataclass(frozen=True)
class Verdict:
    """``rows``: up to which all hold, the last of them with ``head``; ``first``: the oldest that is kept. ``why`` says what is
    wrong after them, "" if nothing is.
    """

    rows: int
    head: str
    why: str = ""
    first: int = 1


def hash_of(previous: str, row: Mapping[str, Any]) -> str:
    """The hash of a row, ``id`` included, after ``previous``."""
    content = {name: row[name] for name in HASHED}
    for name in ("at", "time"):
        content[name] = content[name].isoformat(timespec="microseconds")
    return hashlib.sha256(f"{previous}\n{canonical(content)}".encode()).hexdigest()


def note(states: Sequence[State]) -> None:
    """Add rows at the end of the chain when the transaction is committed: the lock on its head is held for that only."""
    db.session.info.setdefault(_NOTED, []).extend(states)


def noted() -> Sequence[State]:
    """What is to be added when the transaction is committed."""
    found: list[State] = db.session.info.get(_NOTED, [])
    return found


@event.listens_for(db.session, "before_commit")
def _append(session: Session) -> None:
    states = [] if session.in_nested_transaction() else session.info.pop(_NOTED, [])
    if not states:
        return
    session.flush()  # the commands of which they tell
    head = _locked_head()
    number, previous = head
    rows = []
    for state in states:
        number += 1
        row = {"id": number, **state, "previous": previous}
        previous = row["hash"] = hash_of(previous, row)
        rows.append(row)
    db.session.execute(insert(CommandState), rows)
    db.session.execute(update(CommandHead).where(CommandHead.id == 1).values(number=number, hash=previous))


@event.listens_for(db.session, "after_soft_rollback")
def _forget(session: Session, previous: SessionTransaction) -> None:
    if previous.parent is None:
        session.info.pop(_NOTED, None)


def _locked_head() -> tuple[int, str]:
    query = select(CommandHead.number, CommandHead.hash).where(CommandHead.id == 1).with_for_update()
    row = db.session.execute(query).one_or_none()
    if row is None:  # the first row of all; or the head was lost, and the chain goes on where it ends
        last = db.session.execute(
            select(CommandState.id, CommandState.hash).order_by(CommandState.id.desc()).limit(1)
        ).one_or_none()
        number, before = (last.id, last.hash) if last else base()
        db.session.execute(
            text("INSERT IGNORE INTO command_head (id, number, hash) VALUES (1, :number, :hash)"),
            {"number": number, "hash": before},
        )
        row = db.session.execute(query).one()
    return row.number, row.hash


def base() -> tuple[int, str]:
    """Number and hash of the row after which the chain begins: the newest one that was deleted for its age."""
    row = db.session.execute(select(CommandHead.number, CommandHead.hash).where(CommandHead.id == BASE)).one_or_none()
    return (row.number, row.hash) if row else (0, START)


def forget(upto: int) -> None:
    """Delete the rows up to number ``upto``, which is there: the chain begins after it then. Its hash stands in its event."""
    last = db.session.get_one(CommandState, upto)
    db.session.merge(CommandHead(id=BASE, number=last.id, hash=last.hash))
    db.session.execute(delete(CommandState).where(CommandState.id <= upto))


def verify() -> Verdict:
    """Go along the whole chain, and compare each row with the command of which it tells."""
    number, previous = base()
    first = number + 1
    # what is added while this runs comes after the head that was read first
    head = db.session.execute(select(CommandHead.number, CommandHead.hash).where(CommandHead.id == 1)).one_or_none()
    for page in _pages():
        digests = _digests(page)
        for row in page:
            why = ""
            if row.id != number + 1:
                why = f"row {number + 1} is missing: the next that is there is {row.id}"
            elif row.previous != previous:
                why = f"row {row.id} names another hash before it"
            elif row.hash != hash_of(previous, {name: getattr(row, name) for name in HASHED}):
                why = f"row {row.id} is not what it was: its hash does not fit its content"
            elif digests.get(row.command_id) != row.digest:
                why = f"row {row.id} holds, but command {row.command_id} is missing or another one was signed"
            if why:
                return Verdict(number, previous, why, first)
            number, previous = row.id, row.hash
        db.session.expunge_all()
    if number < (head.number if head else 0):
        return Verdict(number, previous, f"row {number + 1} is missing: the chain was longer", first)
    if number and head is None:
        return Verdict(number, previous, "the row of command_head is missing", first)
    return Verdict(number, previous, first=first)


def _pages() -> Iterator[Sequence[CommandState]]:
    last = 0
    while page := db.session.scalars(
        select(CommandState).where(CommandState.id > last).order_by(CommandState.id).limit(PAGE)
    ).all():
        last = page[-1].id
        yield page


def _digests(page: Sequence[CommandState]) -> dict[str, str]:
    """Of the texts as they stand now, by command."""
    ids = {row.command_id for row in page}
    found = db.session.execute(select(Command.id, Command.signed).where(Command.id.in_(ids)))
    return {one.id: hashlib.sha256(one.signed.encode()).hexdigest() for one in found}
