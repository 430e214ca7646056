"""What became of commands, brought into the spool: each line of the log as an event, and the states for the CMDB.

How far the lines were told stands in the spool itself, under one checksum with what was told. So after a crash the rest
is told, and nothing twice.
"""

from __future__ import annotations

import json
import logging
from typing import Any, Optional, Union

from ezadmin_agent.control.record import ACCEPTED, DONE, REFUSED, Entry, Line, Record, RecordError
from ezadmin_agent.log import Repeated
from ezadmin_agent.spool import Spool, SpoolError
from ezadmin_wire import jobs
from ezadmin_wire.jobs import JobState

log = logging.getLogger(__name__)

DATASET = "agent.command"
PLACE = "commands"
MAX_LINES = 200


class Teller:
    """Tells the lines of ``record``: as events to ``events``, as states to ``states``."""

    def __init__(self, record: Record, events: Spool, states: Spool) -> None:
        self._record = record
        self._events = events
        self._states = states
        self._trouble = Repeated(log, logging.ERROR)

    def tell(self) -> None:
        """Tell what was not told yet; what the spool does not take now is told later."""
        for spool, dataset in ((self._states, "jobs"), (self._events, DATASET)):
            try:
                self._tell(spool, dataset)
            except (SpoolError, RecordError) as error:
                self._trouble.tell(spool.stream, f"what became of commands is not told yet: {error}")
            else:
                self._trouble.over(spool.stream)

    def again(self, entry: Entry) -> None:
        """Tell the state of a command once more: the CMDB asks for it by sending the command again."""
        try:
            self._states.append([_state(entry)], dataset="jobs", tmin=entry.at, tmax=entry.at, positions={})
            self._states.sync()
        except SpoolError as error:
            self._trouble.tell(self._states.stream, f"what became of commands is not told yet: {error}")

    def _tell(self, spool: Spool, dataset: str) -> None:
        told = int(spool.positions.get(PLACE, -1))
        if told + 1 >= self._record.number:
            return
        batch: list[Line] = []
        for line in self._record.lines(told):
            batch.append(line)
            if len(batch) >= MAX_LINES:
                self._write(spool, dataset, batch)
                batch = []
        if batch:
            self._write(spool, dataset, batch)
        spool.sync()

    @staticmethod
    def _write(spool: Spool, dataset: str, batch: list[Line]) -> None:
        place = {PLACE: batch[-1].number}
        told = [line for line in batch if dataset == DATASET or (line.known and line.run is not None)]
        if not told:
            spool.mark(place)
            return
        lines = [event(line) if dataset == DATASET else _state(line) for line in told]
        moments = sorted(line.at for line in told)
        spool.append(lines, dataset=dataset, tmin=moments[0], tmax=moments[-1], positions=place)


def event(line: Line) -> bytes:
    """A line of the log as an event of the dataset ``agent.command``."""
    level = {ACCEPTED: "info", DONE: "info", REFUSED: "warning"}.get(line.state, "error")
    what = f"command {line.kind or '?'} of {line.actor or '?'} {line.state}"
    members: dict[str, Optional[Any]] = {
        "@timestamp": line.at,
        "event.dataset": DATASET,
        "event.created": line.at,
        "log.level": level,
        "message": what if line.reason is None else f"{what}: {line.reason}",
        "process.name": "ezadmin-agent",
        "ezadmin.command.id": line.id,
        "ezadmin.command.run": line.run,
        "ezadmin.command.attempt": line.attempt,
        "ezadmin.command.kind": line.kind,
        "ezadmin.command.state": line.state,
        "ezadmin.command.reason": line.reason,
        "ezadmin.command.actor": line.actor,
        "ezadmin.command.digest": line.digest,
        "ezadmin.chain.number": line.number,
        "ezadmin.chain.hash": line.hash,
        "ezadmin.chain.previous": line.previous,
    }
    present = {name: value for name, value in members.items() if value is not None}
    return json.dumps(present, separators=(",", ":"), ensure_ascii=False).encode()


def _state(line: Union[Line, Entry]) -> bytes:
    return jobs.encode(JobState(line.run or "", line.attempt or 1, line.state, line.at, line.reason))
