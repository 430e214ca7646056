"""The part of the worker that makes an event (dataset ``cmdb.command``) of each state of a command."""

from __future__ import annotations

import json

from ezadmin_cmdb.commands.models import CommandState, CommandStream
from ezadmin_cmdb.outbox.events import EventSender
from ezadmin_wire.times import format_time

DATASET = "cmdb.command"
_LEVELS = {"failed": "error", "lost": "error", "refused": "error", "expired": "warning", "cancelled": "notice"}


class CommandSender(EventSender[CommandState]):
    """Sends the states, with the host that each is about in the message and as a field."""

    rows = CommandState
    state = CommandStream
    dataset = DATASET
    stream = "commands"
    poll_seconds = 0.5

    def line(self, row: CommandState) -> bytes:
        """The event of a state."""
        return line(row)


def line(row: CommandState) -> bytes:
    """The event of a state."""
    command, moment = row.command, format_time(row.time)
    who = f" by {row.actor}" if row.actor else ""
    why = f": {row.reason}" if row.reason else ""
    said = {
        "chain.number": row.id, "chain.hash": row.hash, "command.id": command.id, "command.run": command.run,
        "command.attempt": command.attempt, "command.kind": command.kind, "command.state": row.state,
        "command.source": row.source, "command.at": format_time(row.at), "command.digest": row.digest, "reason": row.reason,
        "user.name": command.actor_name,
        "object.type": "host", "object.id": command.host_id, "object.name": command.host_name,
    }  # fmt: skip
    document = {
        "@timestamp": moment,
        "event.dataset": DATASET,
        "event.created": moment,
        "log.level": _LEVELS.get(row.state, "info"),
        "log.logger": "ezadmin_cmdb.commands",
        "message": f"{command.kind} on {command.host_name}, of {command.actor_name}: {row.state}{who}{why}",
        "process.name": "ezadmin-cmdb",
        "fields": {name: str(value) for name, value in said.items() if value is not None},
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
