"""States of commands as they come, for browsers: a WebSocket, signed in by the web application's cookie.

One query a second finds out whether any command has changed, whoever listens; what a browser may see of the runs it asked for
is read again only then. So is its session: one that has ended is hung up on within a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Collection
from typing import Any

from flask import Flask
from sqlalchemy import select
from starlette.websockets import WebSocket, WebSocketDisconnect

from ezadmin_cmdb.commands import services as commands
from ezadmin_cmdb.commands.kinds import COMMAND_VIEW
from ezadmin_cmdb.commands.models import Command, CommandHead
from ezadmin_cmdb.database import db
from ezadmin_cmdb.gateway.browsers import BUSY, NOT_SIGNED_IN, Browsers, actor_of
from ezadmin_cmdb.gateway.database import Database
from ezadmin_cmdb.gateway.problems import Problem
from ezadmin_cmdb.settings import Settings
from ezadmin_wire.ids import is_host_id

_log = logging.getLogger(__name__)
LOOK_SECONDS = 1.0
AGAIN_SECONDS = 60.0
SOCKETS_MAX = 500
RUNS_MAX = 20
States = dict[str, dict[str, Any]]
"""By the id of the command."""


class Live:
    """All browsers that listen here."""

    def __init__(self, settings: Settings, core: Flask, database: Database) -> None:
        self._browsers = Browsers(settings, core)
        self._database = database
        self._changed = asyncio.Event()
        self._number: int | None = None
        self.count = 0

    async def look(self) -> None:
        """Tell sockets when any command has changed, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not self.count:
                continue
            try:
                number = await self._database.run(_head)
            except Problem:
                continue
            if number != self._number:
                self._number = number
                self._changed.set()
                self._changed = asyncio.Event()

    async def serve(self, socket: WebSocket) -> None:
        """One browser, from its coming to its going."""
        token = self._browsers.token(socket)
        if self.count >= SOCKETS_MAX:
            await socket.close(BUSY)
            return
        if token is None or not await self._signed_in(token):
            await socket.close(NOT_SIGNED_IN)
            return
        await socket.accept()
        self.count += 1
        runs: dict[str, States] = {}
        asked = asyncio.Event()
        listener = asyncio.create_task(_listen(socket, runs, asked))
        try:
            while not listener.done():
                changed = self._changed
                asked.clear()
                if runs and not await self._tell(socket, token, runs):
                    await socket.close(NOT_SIGNED_IN)
                    break
                waits = [asyncio.create_task(one.wait()) for one in (asked, changed)]
                await asyncio.wait((listener, *waits), timeout=AGAIN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                for wait in waits:
                    wait.cancel()
        except (WebSocketDisconnect, RuntimeError):  # RuntimeError: it went while we were writing
            pass
        finally:
            self.count -= 1
            listener.cancel()
            with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
                await listener

    async def _signed_in(self, token: str) -> bool:
        try:
            return await self._database.run(actor_of, token, COMMAND_VIEW) is not None
        except Problem:
            return False

    async def _tell(self, socket: WebSocket, token: str, runs: dict[str, States]) -> bool:
        """Send what is new of the runs; False if the session has ended."""
        try:
            found = await self._database.run(_states, token, list(runs))
        except Problem:
            return True  # it is told when the database answers again
        if found is None:
            return False
        for run, states in found.items():
            new = [one for key, one in states.items() if runs.get(run, {}).get(key) != one]
            if new or run not in runs or not runs[run]:
                await socket.send_text(json.dumps({"run": run, "commands": new}))
            runs[run] = states
        return True


async def _listen(socket: WebSocket, runs: dict[str, States], asked: asyncio.Event) -> None:
    """Take what the browser asks for."""
    while True:
        try:
            wanted = json.loads(await socket.receive_text())
            run = wanted["id"] if wanted["subscribe"] == "run" else None
        except (ValueError, KeyError, TypeError):
            run = None
        if not isinstance(run, str) or not is_host_id(run):
            await socket.send_text(
                '{"error": "bad_value", "message": "write {\\"subscribe\\": \\"run\\", \\"id\\": a UUID}"}'
            )
        elif run not in runs and len(runs) >= RUNS_MAX:
            await socket.send_text(f'{{"error": "too_many", "message": "at most {RUNS_MAX} runs"}}')
        else:
            runs[run] = {}
            asked.set()


def _head() -> int:
    return db.session.scalar(select(CommandHead.number).where(CommandHead.id == 1)) or 0


def _states(token: str, runs: Collection[str]) -> dict[str, States] | None:
    """The states of the commands of runs that the browser's user may see; None if nobody is signed in any more."""
    actor = actor_of(token, COMMAND_VIEW)
    if actor is None:
        return None
    found: dict[str, States] = {run: {} for run in runs}
    columns = (Command.run, Command.id, Command.host_id, Command.attempt, Command.state, Command.reason)
    query = commands.visible(actor).where(Command.run.in_(runs)).with_only_columns(*columns)
    for row in db.session.execute(query):
        found[row.run][row.id] = {
            "id": row.id, "host": row.host_id, "attempt": row.attempt, "state": row.state, "reason": row.reason,
        }  # fmt: skip
    return found
