"""What can be done with commands: choosing hosts, sending, sending again, cancelling.

A command is signed in the request in which a person confirms it, by a process that alone has the key; what lies in the
database is the signed text. Whoever changes a row changes nothing that an agent believes.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flask import current_app
from flask_babel import gettext as _
from sqlalchemy import ColumnElement, and_, func, insert, select

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes import services as changes
from ezadmin_cmdb.commands import states
from ezadmin_cmdb.commands.kinds import COMMAND_VIEW, KINDS, Kind
from ezadmin_cmdb.commands.models import Command, Run
from ezadmin_cmdb.commands.states import expire, mark_sent, state_changed, waiting
from ezadmin_cmdb.configs import services as configs
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.describe import description as descriptions
from ezadmin_cmdb.describe import query as lists
from ezadmin_cmdb.errors import Conflict, DomainError, Invalid, NotFound, PreconditionRequired, TooManyRequests
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.hosts import states as host_states
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.signer import client
from ezadmin_cmdb.signer.settings import CommandSettings
from ezadmin_wire import WireError
from ezadmin_wire import commands as wire
from ezadmin_wire.times import format_time

__all__ = ["expire", "mark_sent", "state_changed", "waiting"]

HOSTS_MAX = 10_000
SHOWN_NAMES = 50
"""Of a run, in its change record."""


ENDED_BADLY = (states.FAILED, states.EXPIRED, states.REFUSED, states.LOST)


class Refused(Conflict):
    """The signer signs nothing of this."""


class SignerAway(DomainError):
    """The signer cannot be reached; nothing was sent."""

    status = 503


@dataclass(frozen=True)
class Choice:
    """Which hosts: those of ``ids``, or those that match ``filter``, as the address of a list of hosts holds it.

    ``listed``: which list, that of hosts or that of agents. ``differing``: only those that are to have another
    configuration than they have; alone, all of them.
    """

    ids: tuple[str, ...] = ()
    filter: str | None = None
    listed: str = "host"
    differing: bool = False

    @property
    def open(self) -> bool:
        """Whether what it means changes with time."""
        return not self.ids

    @property
    def text(self) -> str:
        """For the run's record."""
        return "&".join(filter(None, (self.filter, "differing" if self.differing else "")))[:1000]


@dataclass(frozen=True)
class Targets:
    """``hosts`` by name; ``deaf`` are those of the choice that are not listened to, so that nothing is sent to them."""

    hosts: Sequence[Host]
    deaf: Sequence[Host]


def settings() -> CommandSettings:
    """How commands are signed."""
    found: CommandSettings = current_app.extensions["ezadmin_settings"].commands
    return found


def kind_of(name: str) -> Kind:
    """The kind of this name. Raises Invalid."""
    if name not in KINDS:
        raise Invalid(_("%(kind)s: one of %(known)s", kind=name, known=", ".join(KINDS)), "kind")
    return KINDS[name]


def allowed(actor: Actor, host: Host | None = None) -> list[Kind]:
    """The kinds that an actor may send somewhere, or to ``host``."""
    return [
        kind
        for kind in KINDS.values()
        if rights.may(actor, kind.permission) and (host is None or hosts.may(actor, kind.permission, host))
    ]


def targets(actor: Actor, kind: Kind, choice: Choice) -> Targets:
    """The hosts that a choice means, as far as the actor has the right of the kind for them.

    Raises Forbidden if he has it for none, or not for a host that he names; NotFound; Invalid.
    """
    rights.require(actor, kind.permission)
    query = hosts.visible(actor, kind.permission)
    if choice.ids:
        query = query.where(Host.id.in_(choice.ids))
    elif choice.filter is not None:
        described = descriptions.find(choice.listed)
        asked = lists.allowed(actor, lists.parse_text(described, choice.filter, strict=True))
        query = lists.narrowed(described, asked, query)
    elif not choice.differing:
        raise Invalid(_("Nothing is chosen."), "ids")
    if choice.differing:
        query = query.where(configs.differs())
    found = db.session.scalars(query.order_by(Host.name, Host.id).limit(HOSTS_MAX + 1)).all()
    if len(found) > HOSTS_MAX:
        raise Invalid(_("These are more than %(n)d hosts.", n=HOSTS_MAX), "filter")
    if choice.ids and not choice.differing and (others := sorted(set(choice.ids) - {host.id for host in found})):
        seen = db.session.scalar(hosts.visible(actor).where(Host.id == others[0]))
        if seen is None:
            raise NotFound(_("There is no host %(id)s.", id=others[0]))
        raise rights.refusal(actor, kind.permission, "host", others[0])
    listened = [host for host in found if host_states.listened_to(host.state, host.state_by_rule)]
    return Targets(listened, [host for host in found if host not in listened])


def count_differing(actor: Actor) -> int:
    """How many hosts are to have another configuration than they have, of those to which the actor may send one."""
    kind = KINDS[wire.CONFIGURE]
    if not rights.may(actor, kind.permission):
        return 0
    found = hosts.visible(actor, kind.permission).where(configs.differs(), host_states.listened())
    return db.session.scalar(select(func.count()).select_from(found.with_only_columns(Host.id).subquery())) or 0


def send(
    actor: Actor,
    choice: Choice,
    kind_name: str,
    arguments: Mapping[str, Any],
    expires: timedelta | None = None,
    expected: int | None = None,
) -> Run:
    """Have the hosts do something: one run, with a signed command for each.

    ``expires``: until when it may be begun, from now on (by default what fits the kind). ``expected``: the number of hosts
    that was confirmed; needed with a filter, for what matches it changes. Raises Forbidden; NotFound; Invalid; Conflict if
    it is another number, or the signer refuses; SignerAway.
    """
    kind = kind_of(kind_name)
    chosen = targets(actor, kind, choice).hosts
    if expected is None and choice.open:
        raise PreconditionRequired(_("Say how many hosts you expect, for what matches the filter changes."))
    if expected is not None and expected != len(chosen):
        raise Conflict(
            _(
                "%(now)d hosts are meant now, %(then)d were confirmed. Look at them again.",
                now=len(chosen),
                then=expected,
            )
        )
    if not chosen:
        raise Conflict(_("None of these hosts is listened to: nothing was sent."))
    given = _arguments(kind, arguments)
    run = Run(
        id=str(uuid.uuid4()), kind=kind.name, arguments=given, actor_id=actor.user_id, actor_name=actor.name[:255],
        source=actor.source, created=utc_now(), not_after=utc_now() + _life(kind, expires), hosts=len(chosen), chosen=choice.text,
    )  # fmt: skip
    _sign_and_keep(actor, run, [(host.id, host.name, 1) for host in chosen], run.not_after)
    names = [host.name for host in chosen[:SHOWN_NAMES]]
    after = {
        "kind": run.kind, "arguments": given, "hosts": len(chosen), "names": names, "filter": run.chosen or None,
        "not_after": format_time(run.not_after),
    }  # fmt: skip
    changes.record(actor, "command", run.id, str(kind.title), None, after)
    return run


def _arguments(kind: Kind, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those that a person gives; what a configuration is, is known here."""
    wanted = {name for name, _label, _default in kind.asked}
    if unknown := sorted(given.keys() - wanted):
        raise Invalid(_("%(kind)s has no argument %(name)s.", kind=kind.name, name=unknown[0]), "arguments")
    if kind.name == wire.CONFIGURE:
        return {}
    arguments = {name: given.get(name, default) for name, _label, default in kind.asked}
    try:
        wire.check_arguments(kind.name, arguments)
    except WireError as error:
        raise Invalid(str(error), "arguments") from error
    return arguments


def _life(kind: Kind, expires: timedelta | None) -> timedelta:
    most = settings().max_lifetime
    life = min(kind.waits, most) if expires is None else expires
    if not timedelta(seconds=10) <= life <= most:
        hours = most.total_seconds() / 3600
        raise Invalid(_("A command waits for its host 10 seconds to %(n)d hours.", n=hours), "expires")
    return life


def _sign_and_keep(actor: Actor, run: Run, wanted: Sequence[tuple[str, str, int]], not_after: datetime) -> None:
    """Sign a command for each (host id, name, attempt) and add the rows."""
    now = utc_now()
    told = {host_id: run.arguments for host_id, _name, _attempt in wanted}
    if run.kind == wire.CONFIGURE:
        told = {
            host_id: {"version": one.version, "config": one.content}
            for host_id, one in configs.wanted([host_id for host_id, _name, _attempt in wanted]).items()
        }
    who = actor.name if actor.source in ("ui", "api") else f"{actor.name} ({actor.source})"
    try:
        commands = [
            wire.Command(
                str(uuid.uuid4()), run.id, attempt, run.kind, host_id, who, format_time(now), format_time(not_after),
                secrets.token_hex(16), told[host_id],
            )
            for host_id, _name, attempt in wanted
        ]  # fmt: skip
    except WireError as error:
        raise Invalid(str(error), "arguments") from error
    signed = _signed(commands)
    if run not in db.session:
        db.session.add(run)
    db.session.flush()
    shared: dict[str, Any] = {
        "run": run.id, "account": None, "actor_id": actor.user_id, "actor_name": actor.name[:255], "created": now,
        "not_before": now, "not_after": not_after, "state": states.QUEUED, "source": states.CMDB, "heard": now,
    }  # fmt: skip
    rows: list[dict[str, Any]] = [
        {
            **shared, "id": one.id, "attempt": one.attempt, "host_id": one.host, "host_name": name, "kind": one.kind,
            "arguments": one.arguments, "nonce": one.nonce, "signed": text.command, "kid": text.kid, "sig": text.sig,
            "digest": hashlib.sha256(text.command.encode()).hexdigest(),
        }
        for one, text, (_id, name, _attempt) in zip(commands, signed, wanted, strict=True)
    ]  # fmt: skip
    db.session.execute(insert(Command), rows)
    states.note_queued([(row["id"], row["digest"]) for row in rows], now, actor.name[:255])


def _signed(commands: Sequence[wire.Command]) -> list[wire.SignedCommand]:
    path = settings().signer_socket
    if path is None:
        raise SignerAway(_("Commands are not set up: [commands] signer_socket is missing in the settings."))
    try:
        return client.sign(path, commands)
    except client.SignerUnavailable as error:
        raise SignerAway(
            _("The signer does not answer, so nothing was sent. Is ezadmin-cmdb signer running?")
        ) from error
    except client.SignerRefuses as error:
        if error.reason == "too_many":
            raise TooManyRequests(str(error), 60) from error
        raise Refused(_("The signer refuses: %(text)s", text=str(error))) from error


# -- what is there ---


def visible(actor: Actor) -> Any:
    """The query of the commands of the hosts for which the actor may see them; of deleted hosts for who sees all."""
    query = select(Command)
    if actor.rights.scope(COMMAND_VIEW).everywhere:
        return query
    return query.where(Command.host_id.in_(hosts.visible(actor, COMMAND_VIEW).with_only_columns(Host.id)))


def visible_runs(actor: Actor) -> Any:
    """The query of the runs that have a command which the actor may see."""
    query = select(Run)
    if actor.rights.scope(COMMAND_VIEW).everywhere:
        return query
    return query.where(Run.id.in_(visible(actor).with_only_columns(Command.run)))


def find_run(actor: Actor, run_id: str) -> Run:
    """A run. Raises Forbidden, NotFound."""
    rights.require(actor, COMMAND_VIEW)
    run: Run | None = db.session.scalar(visible_runs(actor).where(Run.id == run_id))
    if run is None:
        raise NotFound(_("There is no such command."))
    return run


def find(actor: Actor, command_id: str) -> Command:
    """A command, with its text. Raises Forbidden, NotFound."""
    rights.require(actor, COMMAND_VIEW)
    if db.session.scalar(visible(actor).with_only_columns(Command.id).where(Command.id == command_id)) is None:
        raise NotFound(_("There is no such command."))
    return states.with_text(command_id)


def _newest() -> Any:
    """Of each run and host, the number of the newest attempt."""
    return (
        select(Command.run, Command.host_id, func.max(Command.attempt).label("attempt"))
        .group_by(Command.run, Command.host_id)
        .subquery()
    )


def _is(newest: Any) -> ColumnElement[bool]:
    same = (Command.run == newest.c.run, Command.host_id == newest.c.host_id, Command.attempt == newest.c.attempt)
    return and_(*same)


def latest(actor: Actor, run: Run) -> Sequence[Command]:
    """Of each host that the actor may see, the newest command of a run, by the names of the hosts."""
    newest = _newest()
    query = visible(actor).join(newest, _is(newest)).where(Command.run == run.id, newest.c.run == run.id)
    found: Sequence[Command] = db.session.scalars(query.order_by(Command.host_name, Command.host_id)).all()
    return found


def counts(actor: Actor, run_ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """On how many hosts each run is in each state, in the order of the states; of the hosts that the actor may see."""
    newest = _newest()
    query = visible(actor).join(newest, _is(newest)).where(Command.run.in_(run_ids), newest.c.run.in_(run_ids))
    query = query.with_only_columns(Command.run, Command.state, func.count()).group_by(Command.run, Command.state)
    found: dict[str, dict[str, int]] = {run_id: {} for run_id in run_ids}
    rows = {(run_id, state): count for run_id, state, count in db.session.execute(query)}
    for state in states.TITLES:
        for run_id in run_ids:
            if (run_id, state) in rows:
                found[run_id][state] = rows[run_id, state]
    return found


def names(actor: Actor, run_ids: Sequence[str], most: int) -> dict[str, list[tuple[str, str]]]:
    """(Id, name) of the first hosts of each run that the actor may see. One query."""
    place = func.row_number().over(partition_by=Command.run, order_by=Command.host_name).label("place")
    rows = (
        visible(actor)
        .where(Command.run.in_(run_ids), Command.attempt == 1)
        .with_only_columns(Command.run, Command.host_id, Command.host_name, place)
        .subquery()
    )
    found: dict[str, list[tuple[str, str]]] = {run_id: [] for run_id in run_ids}
    for run_id, host_id, name, _place in db.session.execute(
        select(rows).where(rows.c.place <= most).order_by(rows.c.place)
    ):
        found[run_id].append((host_id, name))
    return found


def of_host(actor: Actor, host: Host, limit: int) -> Sequence[Command]:
    """The newest commands of a host; none if the actor may not see them."""
    if not rights.may(actor, COMMAND_VIEW):
        return []
    query = visible(actor).where(Command.host_id == host.id).order_by(Command.created.desc(), Command.id).limit(limit)
    found: Sequence[Command] = db.session.scalars(query).all()
    return found


# -- what can be done with them ---


def cancel(actor: Actor, run: Run) -> int:
    """Cancel what of a run is not handed to its host yet, as far as the actor might have sent it; returns how many."""
    kind = kind_of(run.kind)
    rights.require(actor, kind.permission)
    mine = hosts.visible(actor, kind.permission).with_only_columns(Host.id)
    query = select(Command.id).where(Command.run == run.id, Command.state == states.QUEUED, Command.host_id.in_(mine))
    gone = states.cancel(db.session.scalars(query).all(), actor.name[:255])
    if gone:
        names = [one.host_name for one in gone[:SHOWN_NAMES]]
        changes.record(
            actor,
            "command_run",
            run.id,
            str(kind.title),
            {"cancelled": None},
            {"cancelled": {"hosts": len(gone), "names": names}},
        )
    return len(gone)


def again(actor: Actor, run: Run, expected: int | None = None) -> int:
    """Send a run again to the hosts where it failed, was refused, expired or was lost; returns how many.

    Each gets a new command with the next attempt's number. Raises Conflict if there are none, or not ``expected`` ones.
    """
    kind = kind_of(run.kind)
    newest = latest(actor, run)
    ids = [one.host_id for one in newest if one.state in ENDED_BADLY]
    attempts = {one.host_id: one.attempt for one in newest}
    still_there = hosts.visible(actor, kind.permission).with_only_columns(Host.id).where(Host.id.in_(ids))
    there = tuple(db.session.scalars(still_there))
    chosen = targets(actor, kind, Choice(there)).hosts if there else []
    if not chosen:
        raise Conflict(_("There is no host to which it could be sent again."))
    if expected is not None and expected != len(chosen):
        raise Conflict(
            _(
                "%(now)d hosts are meant now, %(then)d were confirmed. Look at them again.",
                now=len(chosen),
                then=expected,
            )
        )
    life = _life(kind, min(run.not_after - run.created, settings().max_lifetime))
    _sign_and_keep(actor, run, [(host.id, host.name, attempts[host.id] + 1) for host in chosen], utc_now() + life)
    names = [host.name for host in chosen[:SHOWN_NAMES]]
    changes.record(
        actor,
        "command_run",
        run.id,
        str(kind.title),
        {"again": None},
        {"again": {"hosts": len(chosen), "names": names}},
    )
    return len(chosen)
