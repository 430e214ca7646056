"""Polls that wait, and what ends them: a command, a change of their host, their time, the end of the gateway.

Whatever the number of polls, the database is asked once each half second for the commands of all of them.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from ezadmin_cmdb.commands import services as commands
from ezadmin_cmdb.commands.states import Waiting
from ezadmin_cmdb.database import utc_now
from ezadmin_cmdb.enrolment import services as enrolment
from ezadmin_cmdb.enrolment.services import Line
from ezadmin_cmdb.gateway.database import Database
from ezadmin_cmdb.gateway.directory import ACTIVE, Directory
from ezadmin_cmdb.gateway.problems import Problem
from ezadmin_wire.times import now

_log = logging.getLogger(__name__)
LOOK_SECONDS = 0.5
LINES_SECONDS = 10.0
RESEND_SECONDS = 10.0
"""A command that an agent has got but not accepted is given to it again so much later: its word may be on its way."""
ANSWER_BYTES = 1 << 20
"""Of commands in one answer; the others come with the next poll."""
AT_ONCE = 200
"""Hosts whose commands are handed over in one transaction: when all hosts get one, the first do not wait for the last."""
PER_HOST = 4
"""Polls of one host that wait at once; the oldest is ended for another one."""
INSTANCES = 8
TWINS_SECONDS = 600.0
"""How often it is told that two machines are one host."""
RETURNS_PER_SECOND = 250
"""Polls that come back in a second after the gateway was ended: over that time they are spread."""


@dataclass(eq=False, slots=True)
class Poll:
    """A poll that waits; ``answer`` is its end."""

    host_id: str
    kid: str
    instance: str
    answer: asyncio.Future[dict[str, Any]]


@dataclass(slots=True)
class _Seen:
    """The instances of a host that polled, oldest first, with their addresses; when twins were told of."""

    instances: dict[str, str] = field(default_factory=dict)
    told: float = 0.0


class Polls:
    """All polls of this gateway; everything here happens in the event loop."""

    def __init__(self, directory: Directory, database: Database, counters: Counter[str]) -> None:
        self._directory = directory
        self._database = database
        self._counters = counters
        self._waiting: dict[str, list[Poll]] = {}
        self._lines: dict[str, Line] = {}
        self._seen: dict[str, _Seen] = {}
        self._given: dict[str, tuple[float, str]] = {}
        self._stopping = False
        self.count = 0

    def answer(self, host_id: str, given: Sequence[Waiting] = (), retry_after: float | None = None) -> dict[str, Any]:
        """The body of an answer."""
        host = self._directory.get(host_id)
        body: dict[str, Any] = {
            "commands": [
                {"command": one.command.command, "kid": one.command.kid, "sig": one.command.sig} for one in given
            ],
            "time": now(),
            "state": "unknown" if host is None else host.state,
        }
        if retry_after is not None:
            body["retry_after"] = round(retry_after, 2)
        return body

    async def wait(
        self, host_id: str, kid: str, instance: str, seconds: float, gone: asyncio.Future[Any]
    ) -> dict[str, Any] | None:
        """The answer to a poll, when there is one; None if ``gone`` is done before. Raises Problem."""
        if self._stopping:
            return self.answer(host_id, retry_after=self._spread())
        loop = asyncio.get_running_loop()
        poll = Poll(host_id, kid, instance, loop.create_future())
        mine = self._waiting.setdefault(host_id, [])
        if len(mine) >= PER_HOST:
            self._end(mine[0], self.answer(host_id))
        self._waiting.setdefault(host_id, mine).append(poll)
        self.count += 1
        timer = loop.call_later(seconds, lambda: self._end(poll, self.answer(host_id)))
        try:
            await asyncio.wait((poll.answer, gone), return_when=asyncio.FIRST_COMPLETED)
            return poll.answer.result() if poll.answer.done() else None
        finally:
            timer.cancel()
            self._end(poll, None)

    def _end(self, poll: Poll, answer: dict[str, Any] | Problem | None) -> None:
        """Let a poll end with this answer, if it still waits."""
        mine = self._waiting.get(poll.host_id)
        if mine is not None and poll in mine:
            mine.remove(poll)
            self.count -= 1
            if not mine:
                del self._waiting[poll.host_id]
        if poll.answer.done():
            return
        if isinstance(answer, Problem):
            poll.answer.set_exception(answer)
        elif answer is not None:
            poll.answer.set_result(answer)
        else:
            poll.answer.cancel()

    def changed(self, host_ids: Collection[str]) -> None:
        """Hosts are others now: those that may poll no more are told at once, and so is a new state."""
        for host_id in host_ids:
            for poll in list(self._waiting.get(host_id, ())):
                try:
                    host = self._directory.find(host_id)
                    host.check_state()
                    host.key(poll.kid)
                except Problem as problem:
                    self._end(poll, problem)
                    continue
                if host.state != ACTIVE:
                    self._end(poll, self.answer(host_id))

    def stop(self) -> None:
        """Answer all that wait: with nothing, and with a time after which to come back, each another one."""
        self._stopping = True
        count = self.count
        for poll in [one for mine in self._waiting.values() for one in mine]:
            self._end(poll, self.answer(poll.host_id, retry_after=self._spread(count)))

    def _spread(self, count: int | None = None) -> float:
        return random.uniform(0.0, 1.0 + (self.count if count is None else count) / RETURNS_PER_SECOND)

    # -- commands ---

    async def look_for_commands(self) -> None:
        """Hand commands over as they are confirmed, until cancelled."""
        while True:
            started = time.monotonic()
            try:
                await self._look()
            except Problem:  # the database is away; that is logged, and polls go on
                pass
            except Exception:  # noqa: BLE001 - the next look may work
                _log.exception("commands were not looked for")
            await asyncio.sleep(max(0.05, LOOK_SECONDS - (time.monotonic() - started)))

    async def _look(self) -> None:
        ids = [host_id for host_id in self._waiting if self._active(host_id)]
        if not ids:
            return
        found: dict[str, list[Waiting]] = {}
        for one in await self._database.run(commands.waiting, ids):
            found.setdefault(one.host_id, []).append(one)
        at = time.monotonic()
        self._given = {key: given for key, given in self._given.items() if at - given[0] < RESEND_SECONDS}
        chosen: list[tuple[Poll, list[Waiting]]] = []
        for host_id, waiting in found.items():
            polls = self._waiting.get(host_id)
            if not polls:
                continue
            some: list[Waiting] = []
            poll, size = polls[-1], 0
            for one in waiting:
                if self._given.get(one.command_id, (0.0, ""))[1] == poll.instance:
                    continue
                size += len(one.command.command)
                if some and size > ANSWER_BYTES:
                    break
                some.append(one)
            if some:
                chosen.append((poll, some))
        for first in range(0, len(chosen), AT_ONCE):
            await self._hand_over(chosen[first : first + AT_ONCE])

    async def _hand_over(self, chosen: Sequence[tuple[Poll, list[Waiting]]]) -> None:
        """Written down before they are handed over: what an agent has can be told of as sent."""
        allowed = set(
            await self._database.run(commands.mark_sent, [one.command_id for _, some in chosen for one in some])
        )
        at = time.monotonic()
        for poll, waiting in chosen:
            some = [one for one in waiting if one.command_id in allowed]
            if some and not poll.answer.done() and self._active(poll.host_id):
                self._given.update({one.command_id: (at, poll.instance) for one in some})
                self._counters["commands_handed_over"] += len(some)
                self._end(poll, self.answer(poll.host_id, some))

    def _active(self, host_id: str) -> bool:
        host = self._directory.get(host_id)
        return host is not None and host.state == ACTIVE

    # -- lines ---

    def seen(self, host_id: str, instance: str, address: str, config: int | None, fingerprint: str | None) -> None:
        """A host polls. An instance that comes again after another one came is a second machine with the same key."""
        self._lines[host_id] = Line(host_id, utc_now(), address, instance, config, fingerprint)
        seen = self._seen.setdefault(host_id, _Seen())
        newest = next(reversed(seen.instances), None)
        twins = instance != newest and instance in seen.instances
        seen.instances.pop(instance, None)
        seen.instances[instance] = address
        if len(seen.instances) > INSTANCES:
            del seen.instances[next(iter(seen.instances))]
        if twins and newest is not None:
            self._tell_of_twins(host_id, seen, [newest, instance])

    def _tell_of_twins(self, host_id: str, seen: _Seen, instances: list[str]) -> None:
        at = time.monotonic()
        again = seen.told > 0.0 and at - seen.told < TWINS_SECONDS
        addresses = [seen.instances[one] for one in instances]
        if not again:
            seen.told = at
            self._counters["twins"] += 1
            host = self._directory.get(host_id)
            _log.warning(
                "two machines poll as host %s, from %s: one is a copy of the other", host.name if host else host_id,
                " and ".join(sorted(set(addresses))), extra={"fields": {"host.id": host_id}},
            )  # fmt: skip
        asyncio.get_running_loop().create_task(self._keep_twins(host_id, addresses, instances, again))

    async def _keep_twins(self, host_id: str, addresses: list[str], instances: list[str], again: bool) -> None:
        try:
            await self._database.run(enrolment.note_twins, host_id, addresses, instances, again)
        except Problem:
            self._seen[host_id].told = 0.0  # told of when it is seen again

    async def keep_lines(self) -> None:
        """Write down when hosts polled, until cancelled."""
        while True:
            await asyncio.sleep(LINES_SECONDS)
            await self.write_lines()

    async def write_lines(self) -> None:
        """Write down what came since the last time; what cannot be written waits."""
        lines, self._lines = self._lines, {}
        try:
            if lines:
                await self._database.run(enrolment.keep_lines, list(lines.values()))
        except Problem:
            self._lines = {**lines, **self._lines}
        except Exception:  # noqa: BLE001 - the next lines may be written
            _log.exception("when hosts polled was not written down")
