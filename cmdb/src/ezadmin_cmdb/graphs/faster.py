"""Steps of a second while somebody looks at graphs: the command "sample faster", as one button.

Each command is signed because a person wants it now, so nothing renews it by itself: it lasts a stated time, and the page says
how much of it is left and offers it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TypedDict

from flask_babel import gettext as _
from sqlalchemy import select

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.commands import services as commands
from ezadmin_cmdb.commands import states
from ezadmin_cmdb.commands.kinds import KINDS
from ezadmin_cmdb.commands.models import Command, Run
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.errors import Conflict
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.hosts import states as host_states
from ezadmin_cmdb.hosts.models import Host
from ezadmin_wire import commands as wire

PERMISSION = KINDS[wire.SAMPLE].permission
SECONDS = 600
LONGEST = timedelta(hours=1)
"""A command to sample faster lasts an hour at most."""


class State(TypedDict):
    """``hosts`` may be asked; ``running`` of them measure each second, ``left`` seconds at most; ``waiting`` are to begin."""

    hosts: int
    running: int
    waiting: int
    left: int


def begin(actor: Actor, host_ids: Sequence[str]) -> None:
    """Have those of the hosts measure each second that the actor may ask. Raises Conflict; SignerAway; TooManyRequests."""
    ids = _askable(actor, host_ids)
    if not ids:
        raise Conflict(_("None of these hosts is listened to: nothing was sent."))
    commands.send(actor, commands.Choice(tuple(ids)), wire.SAMPLE, {"interval": 1, "seconds": SECONDS})


def state(actor: Actor, host_ids: Sequence[str]) -> State:
    """What becomes of it on these hosts."""
    ids, now = _askable(actor, host_ids), utc_now()
    rows = db.session.execute(
        select(Command.host_id, Command.state, Command.heard, Run.arguments)
        .join(Run, Run.id == Command.run)
        .where(Command.host_id.in_(ids), Command.kind == wire.SAMPLE, Command.not_after > now - LONGEST)
    )
    waiting: set[str] = set()
    left: dict[str, float] = {}
    for host_id, state, heard, arguments in rows:
        if state in (*states.WAITING, *states.UNDER_WAY):
            waiting.add(host_id)
        elif state == states.DONE and arguments["interval"] == 1:  # the agent has begun, and is done with the command
            seconds = arguments["seconds"] - (now - heard).total_seconds()
            if seconds > 0:
                left[host_id] = max(seconds, left.get(host_id, 0))
    return {
        "hosts": len(ids), "running": len(left), "waiting": len(waiting - left.keys()),
        "left": round(max(left.values(), default=0)),
    }  # fmt: skip


def _askable(actor: Actor, host_ids: Sequence[str]) -> list[str]:
    """Those of the hosts that the actor may ask and that are listened to."""
    query = hosts.visible(actor, PERMISSION).where(Host.id.in_(host_ids), host_states.listened())
    return list(db.session.scalars(query.with_only_columns(Host.id)))
