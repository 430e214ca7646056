"""The states of commands: what the gateway, the agents and the rules say of them.

They only go forward, in the order of :data:`RANK`. What the cmdb itself says of an end (``expired``, ``lost``) is what it
assumes of a host that it does not hear; if the agent tells another end later, that is the truth and holds. Every word is
kept in the chain, whether it changed something or not; one that comes twice is one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from flask_babel import lazy_gettext as _l
from sqlalchemy import delete, func, or_, select, tuple_
from sqlalchemy.orm import undefer

from ezadmin_cmdb.commands import chain
from ezadmin_cmdb.commands.models import Command, CommandState, Run
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.enrolment.models import HostLine
from ezadmin_cmdb.hosts.models import Host
from ezadmin_wire import WireError
from ezadmin_wire import commands as wire
from ezadmin_wire.jobs import END_STATES, TOLD_STATES, JobState
from ezadmin_wire.times import parse_time

QUEUED, SENT, ACCEPTED, RUNNING, DONE, FAILED, CANCELLED, EXPIRED, REFUSED, LOST = (
    "queued", "sent", "accepted", "running", "done", "failed", "cancelled", "expired", "refused", "lost",
)  # fmt: skip
TITLES = {
    QUEUED: _l("Queued"), SENT: _l("Sent"), ACCEPTED: _l("Accepted"), RUNNING: _l("Running"), DONE: _l("Done"),
    FAILED: _l("Unsuccessful"), CANCELLED: _l("Cancelled"), EXPIRED: _l("Expired"), REFUSED: _l("Refused"), LOST: _l("Lost"),
}  # fmt: skip
WAITING = (QUEUED, SENT)
UNDER_WAY = (ACCEPTED, RUNNING)
CMDB, GATEWAY, AGENT = "cmdb", "gateway", "agent"
RANK = {QUEUED: 0, SENT: 1, ACCEPTED: 2, RUNNING: 3}
ASSUMED_END, TOLD_END = 4, 5
GRACE = timedelta(seconds=60)
"""After ``not_after``: for the word of an agent that took it at the last moment."""
WORDLESS = timedelta(minutes=10)
"""So long after its last word, and heard of since, an agent has lost what it began; ``sample`` runs for its own time first."""
CHUNK = 500


class Waiting(NamedTuple):
    """A command that is to go to a host."""

    host_id: str
    command_id: str
    command: wire.SignedCommand


def rank(state: str, source: str) -> int:
    """How far a state is."""
    return RANK.get(state, ASSUMED_END if source == CMDB else TOLD_END)


def waiting(host_ids: Collection[str]) -> list[Waiting]:
    """What is to be handed to these hosts now, oldest first: not known to be accepted, neither too early nor expired.

    One query, however many hosts there are; a second one if there is something.
    """
    if not host_ids:
        return []
    now, wanted = utc_now(), frozenset(host_ids)
    open_ones = db.session.execute(
        select(Command.id, Command.host_id).where(
            Command.state.in_(WAITING), Command.not_before <= now, Command.not_after > now
        )
    )
    ids = [one.id for one in open_ones if one.host_id in wanted]
    found = []
    for first in range(0, len(ids), CHUNK):
        query = select(Command.host_id, Command.id, Command.signed, Command.kid, Command.sig)
        query = query.where(Command.id.in_(ids[first : first + CHUNK])).order_by(Command.created, Command.id)
        for one in db.session.execute(query):
            found.append(Waiting(one.host_id, one.id, wire.SignedCommand(one.signed, one.kid, one.sig)))
    return found


def mark_sent(command_ids: Collection[str]) -> list[str]:
    """Note that commands are handed over, before they are; returns those that may be.

    What was cancelled or expired in between may not. The caller commits before it answers.
    """
    commands = _locked(Command.id.in_(command_ids))
    now = utc_now()
    notes = [_enter(one, SENT, now, GATEWAY) for one in commands if one.state == QUEUED]
    chain.note(notes)
    return [one.id for one in commands if one.state in WAITING]


def state_changed(document: JobState, host_id: str) -> bool:
    """Note what the agent of ``host_id`` says of a command; returns whether it changed the command's state.

    Raises WireError: ``unknown_command`` if this host was never given such a command, ``bad_value`` for a state that
    no agent can know of.
    """
    if document.state not in TOLD_STATES:
        raise WireError("bad_value", f"state: no agent says {document.state!r}")
    here = (Command.run == document.run, Command.attempt == document.attempt, Command.host_id == host_id)
    command = next(iter(_locked(*here)), None)
    if command is None:
        raise WireError(
            "unknown_command", f"host {host_id} was given no command of run {document.run}, attempt {document.attempt}"
        )
    if _is_known(command, document):
        return False
    at = parse_time(document.at)
    reason = _reason(document)
    goes_on = rank(document.state, AGENT) > rank(command.state, command.source)
    if goes_on:
        chain.note([_enter(command, document.state, at, AGENT, reason)])
    else:
        chain.note([_note(command, document.state, at, AGENT, reason)])
        if document.state == ACCEPTED:
            command.accepted_at = at
    return goes_on


def lock(said: Collection[tuple[str, int, str]]) -> None:
    """Lock the commands of (run, attempt, host id) until the transaction ends."""
    if said:
        _locked(tuple_(Command.run, Command.attempt, Command.host_id).in_(sorted(said)))


def _is_known(command: Command, document: JobState) -> bool:
    """The same word again: Kafka delivers at least once, and an agent repeats what it cannot know to have arrived."""
    said = {"command_id": command.id, "source": AGENT, "state": document.state}
    if any(said.items() <= one.items() for one in chain.noted()):
        return True
    return db.session.scalar(select(CommandState.id).filter_by(**said).limit(1)) is not None


def _reason(document: JobState) -> str | None:
    if document.reason is None and document.exit_code is not None:
        return f"exit status {document.exit_code}"
    return None if document.reason is None else document.reason[:500]


def _locked(*conditions: Any) -> Sequence[Command]:
    """Commands, locked in the order of their ids, as all do who lock several."""
    query = select(Command).where(*conditions).order_by(Command.id).with_for_update()
    return db.session.scalars(query.execution_options(populate_existing=True)).all()


def _note(
    command: Command, state: str, at: datetime, source: str, reason: str | None = None, actor: str | None = None
) -> dict[str, Any]:
    """The row that says so."""
    return {
        "command_id": command.id, "state": state, "at": at, "time": utc_now(), "source": source, "actor": actor,
        "reason": reason, "digest": command.digest,
    }  # fmt: skip


def _enter(
    command: Command, state: str, at: datetime, source: str, reason: str | None = None, actor: str | None = None
) -> dict[str, Any]:
    """Bring a command into a state; returns the row that says so."""
    command.state, command.source, command.reason, command.heard = state, source, reason, utc_now()
    if state == SENT:
        command.sent_at = at
    elif state in END_STATES:
        command.ended_at = at
    elif command.accepted_at is None:
        command.accepted_at = at
    return _note(command, state, at, source, reason, actor)


def note_queued(commands: Sequence[tuple[str, str]], now: datetime, actor: str) -> None:
    """The first state of new commands, given by id and digest; their rows are written in the same transaction."""
    chain.note([
        {
            "command_id": command_id, "state": QUEUED, "at": now, "time": now, "source": CMDB, "actor": actor, "reason": None,
            "digest": digest,
        }
        for command_id, digest in commands
    ])  # fmt: skip


def cancel(ids: Collection[str], actor: str) -> list[Command]:
    """Cancel what was not handed to its host yet; returns it."""
    commands = [one for one in _locked(Command.id.in_(ids)) if one.state == QUEUED]
    now = utc_now()
    chain.note([_enter(one, CANCELLED, now, CMDB, actor=actor) for one in commands])
    return commands


def expire(now: datetime | None = None) -> int:
    """End what nothing more can come of; returns how many ended. The caller commits.

    Not accepted in time: ``expired``. Accepted, then not a word for long from an agent that is there: ``lost``.
    """
    now = now or utc_now()
    late = (Command.state.in_(WAITING), Command.not_after < now - GRACE)
    ended: list[tuple[Command, str, str | None]] = [(one, EXPIRED, None) for one in _locked(*late)]
    # one whose host is silent may go on there: only who is heard again has had the time to tell
    query = (
        select(Command.id, Command.heard, Command.kind, Command.arguments, Host.agent_collected, HostLine.seen)
        .join(Host, Host.id == Command.host_id)
        .outerjoin(HostLine, HostLine.host_id == Command.host_id)
        .where(Command.state.in_(UNDER_WAY), Command.heard < now - WORDLESS)
    )
    silent = []
    for row in db.session.execute(query):
        host_heard = max(moment for moment in (row.heard, row.agent_collected, row.seen) if moment is not None)
        if min(host_heard, now) - row.heard > WORDLESS + _duration(row.kind, row.arguments):
            silent.append(row.id)
    if silent:
        lost = _locked(Command.id.in_(silent), Command.state.in_(UNDER_WAY))
        ended += [(one, LOST, "its agent is there and says nothing of it") for one in lost]
    chain.note([_enter(command, state, now, CMDB, reason) for command, state, reason in ended])
    return len(ended)


def forget(before: datetime, rows: int = 5000) -> tuple[int, int]:
    """Delete the oldest commands with all that was said of them: those that ended and were made before ``before``.

    The chain of states is only shortened at its beginning, so what lies after the first state of a command that is kept waits
    for that one. At most ``rows`` states at once; returns the numbers of states and commands deleted. The caller commits.
    """
    kept = or_(Command.created >= before, Command.state.in_((*WAITING, *UNDER_WAY)))
    number, _hash = chain.base()
    query = select(func.min(CommandState.id)).join(Command, Command.id == CommandState.command_id).where(kept)
    first_kept = db.session.scalar(query)
    last = db.session.scalar(select(func.max(CommandState.id))) or 0
    upto = min(last if first_kept is None else first_kept - 1, number + rows)
    if upto <= number:
        return 0, 0
    of_them = select(CommandState.command_id).where(CommandState.id <= upto).distinct()
    begun = db.session.scalars(of_them).all()
    chain.forget(upto)
    going_on = set(db.session.scalars(select(CommandState.command_id).where(CommandState.command_id.in_(begun))))
    over = [one for one in begun if one not in going_on]
    runs = db.session.scalars(select(Command.run).where(Command.id.in_(over)).distinct()).all()
    db.session.execute(delete(Command).where(Command.id.in_(over)))
    still = select(Command.run).where(Command.run == Run.id).exists()
    db.session.execute(delete(Run).where(Run.id.in_(runs), ~still))
    return upto - number, len(over)


def _duration(kind: str, arguments: dict[str, Any]) -> timedelta:
    """For how long a command may run by itself."""
    return timedelta(seconds=arguments["seconds"] if kind == wire.SAMPLE else 0)


def history(command: Command) -> Sequence[CommandState]:
    """All that was said of a command, in the order in which it came in."""
    query = select(CommandState).where(CommandState.command_id == command.id).order_by(CommandState.id)
    return db.session.scalars(query).all()


def with_text(command_id: str) -> Command:
    """A command with the text that was signed."""
    options = [undefer(Command.signed), undefer(Command.arguments)]
    return db.session.get_one(Command, command_id, options=options, populate_existing=True)
