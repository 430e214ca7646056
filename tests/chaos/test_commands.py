"""Commands while agent, gateway, worker and web application are killed at random, with nothing pretended.

A program sends them through the API of the real web application, the real signer signs them, the real gateway hands them to
real agents, the real worker notes what became of them. Each ends in a true state, none is done twice, none is lost without
a word, states only go forward, and what was written down on the way is whole. ``EZADMIN_FULL=1``: 500 commands, else 60.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from ezadmin_testing.arrived import Arrived
from ezadmin_testing.cmdb import command
from ezadmin_testing.commands import signer
from ezadmin_testing.gateway import KIM, GatewayUnderTest, free_port
from ezadmin_testing.processes import Process, wait_until
from sqlalchemy import select

from ezadmin_agent.control import record
from ezadmin_cmdb import settings
from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.accounts import tokens
from ezadmin_cmdb.app import create_core
from ezadmin_cmdb.commands import chain, states
from ezadmin_cmdb.commands.models import Command, CommandState
from ezadmin_cmdb.database import db
from ezadmin_cmdb.hosts.models import HostKey
from ezadmin_cmdb.rights.permissions import known
from ezadmin_cmdb.signer import book
from ezadmin_wire.jobs import END_STATES
from ezadmin_wire.names import Names

COMMANDS = 500 if os.environ.get("EZADMIN_FULL") else 60
AGENTS = 2
"""Each request is for all of them."""
KILL_EVERY = 3
"""Requests, about."""
KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("inventory", {}),
    ("sample", {"interval": 2, "seconds": 10}),
    ("inventory", {}),
    ("configure", {}),
    ("inventory", {}),
    ("rotate_key", {}),
)


class Web(Process):
    """The web application: its processes die together, as when the machine loses them."""

    def __init__(self, config: Path, folder: Path, port: int) -> None:
        super().__init__(command("web", "--config", config), folder / "web.log")
        self.url = f"http://127.0.0.1:{port}"

    def kill(self) -> None:
        """kill -9 of all its processes."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        super().kill()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)


class Agent(Process):
    """A real agent that has enrolled; its data comes through the gateway."""

    def __init__(self, installation: Installation, folder: Path) -> None:
        folder.mkdir()
        self.state = folder / "state"
        self.config = folder / "agent.toml"
        (folder / "app.log").touch()
        self.config.write_text(f'state_dir = "{self.state}"\ninterval = 10\n[[logs]]\npath = "{folder}/app.log"\n')
        super().__init__([sys.executable, "-m", "ezadmin_agent", "run", "--config", str(self.config)], folder / "log")
        self.id = json.loads(self.run("enrol", installation.line.token(), "--json"))["host.id"]

    def run(self, *arguments: str) -> str:
        """A command of ``ezadmin-agent``; what it printed."""
        whole = [sys.executable, "-m", "ezadmin_agent", *arguments, "--config", str(self.config)]
        done = subprocess.run(whole, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def lines(self) -> list[record.Line]:
        """Its execution log."""
        found = list(record.read(self.state / "commands"))
        assert all(isinstance(one, record.Line) for one in found), found
        return [one for one in found if isinstance(one, record.Line)]


class Installation:
    """All processes of the control line, and a program that sends commands."""

    def __init__(self, line: GatewayUnderTest, folder: Path, port: int) -> None:
        self.line, self.folder = line, folder
        self.web = Web(line.config, folder, port)
        with line.work():
            user = accounts.create_user(KIM, "kim", "correct horse battery staple", admin=True)
            db.session.flush()
            self.token = tokens.create(KIM, user, "test", [one.name for one in known()])[1]
        self.agents = [Agent(self, folder / f"agent{number}") for number in range(AGENTS)]
        self.chance = random.Random(8)
        self.kills: Counter[str] = Counter()
        self.cut_off = 0
        """Requests of which the program never got an answer."""
        self.seen: dict[str, int] = {}

    def start(self) -> None:
        """Start what does not run."""
        self.web.start()
        for agent in self.agents:
            agent.start()

    def kill(self, after: float) -> None:
        """kill -9 of one of them after so many seconds; it is started again at once, as systemd does."""
        time.sleep(after)
        parts: dict[str, Process] = {"gateway": self.line.gateway, "worker": self.line.worker, "web": self.web}
        parts |= {f"agent{number}": agent for number, agent in enumerate(self.agents)}
        least = min(self.kills[name] for name in parts)
        name = self.chance.choice([name for name in parts if self.kills[name] <= least + 1])
        self.kills[name] += 1
        parts[name].kill()
        parts[name].start()

    def ask(self, method: str, path: str, **body: Any) -> httpx.Response | None:
        """A request to the API; None if it was cut off, so that nobody knows what became of it."""
        headers = {"Authorization": f"Bearer {self.token}"}
        json_body = body or None
        while True:
            try:
                return httpx.request(
                    method, f"{self.web.url}/api/v1{path}", json=json_body, headers=headers, timeout=60
                )
            except httpx.ConnectError:  # it is just being started
                assert self.web.running, self.web.log.read_text()[-3000:]
                time.sleep(0.1)
            except httpx.TransportError:
                return None

    def send(self, number: int) -> str | None:
        """Have all agents do something; the id of the run, None if the answer was cut off."""
        kind, arguments = KINDS[number % len(KINDS)]
        hosts = [agent.id for agent in self.agents]
        answer = self.ask("POST", "/commands", kind=kind, ids=hosts, arguments=arguments, expires=3600)
        if answer is None:
            self.cut_off += 1
            return None
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def look(self) -> dict[str, str]:
        """The state of each command; none has gone back since the last look."""
        with self.line.app.app_context():
            rows = db.session.execute(select(Command.id, Command.state, Command.source)).all()
        for row in rows:
            rank = states.rank(row.state, row.source)
            assert rank >= self.seen.get(row.id, 0), f"command {row.id} went back to {row.state}"
            self.seen[row.id] = rank
        return {row.id: row.state for row in rows}

    def stop(self) -> None:
        """Stop everything but the signer."""
        for agent in self.agents:
            agent.stop()
        self.web.stop()
        self.line.stop()


@pytest.fixture
def installation(stack: Any, names: Names, database: str, tmp_path: Path) -> Iterator[Installation]:
    port = free_port()
    with signer(tmp_path) as signing:
        line = GatewayUnderTest(stack, names, database, tmp_path)
        own = f'public_key = "{line.command_key.public.hex()}"'
        signers = f'public_key = "{signing.public_key}"\nsigner_socket = "{signing.signer_socket}"'
        web = f"[web]\nport = {port}\nworkers = 1\n[api]\nrequests_per_minute = 0\n"
        line.config.write_text(line.config.read_text().replace(own, signers) + web)
        line.app = create_core(settings.load(line.config))
        line.start()
        made = Installation(line, tmp_path, port)
        try:
            yield made
        finally:
            made.stop()


def test_kill_9_of_everything_while_commands_run(installation: Installation, tmp_path: Path) -> None:
    line, agents = installation.line, installation.agents
    installation.start()
    requests = COMMANDS // AGENTS
    answered = []
    with ThreadPoolExecutor(1) as killer:  # who dies does so in the midst of a request, too
        killing = killer.submit(installation.kill, 0.0)
        for number in range(requests):
            run = installation.send(number)
            if run is not None:
                answered.append(run)
            installation.look()
            if number % KILL_EVERY == 0:
                killing.result(60)
                killing = killer.submit(installation.kill, installation.chance.uniform(0.0, 0.3))
        killing.result(60)

    def ended() -> bool:
        return set(installation.look().values()) <= {*END_STATES}

    with contextlib.suppress(AssertionError):
        wait_until(ended, 120, "the end of all")
    for agent in agents:  # nothing more happens
        agent.stop()
    told = installation.look()
    assert Counter(told.values()).keys() <= {"done", "lost"}, Counter(told.values())
    assert len(installation.kills) == 3 + AGENTS, f"each was killed: {installation.kills}"

    # none is lost without a word: what was answered is there for each host, and nothing is there that nobody sent
    with line.app.app_context():
        rows = db.session.scalars(select(Command)).all()
        of_run = Counter(row.run for row in rows)
        kinds = {row.id: row.kind for row in rows}
        hosts = {row.id: row.host_id for row in rows}
    assert {run: of_run[run] for run in answered} == dict.fromkeys(answered, AGENTS)
    assert len(of_run) - len(answered) <= installation.cut_off
    assert set(of_run.values()) == {AGENTS}, "a request is for all of its hosts, or was never made"
    signed = {one["id"] for one in book.read(tmp_path / "signed.ndjson")}
    assert signed >= set(told), "nothing is there that the signer did not write down"
    assert len(signed - set(told)) <= AGENTS * installation.cut_off

    # states only went forward, and the chain over all of them holds
    with line.app.app_context():
        assert chain.verify().why == ""
        words = db.session.execute(
            select(CommandState.command_id, CommandState.state, CommandState.source).order_by(CommandState.id)
        ).all()
    for command_id, state in told.items():
        said = [(word.state, word.source) for word in words if word.command_id == command_id]
        assert said[0] == ("queued", "cmdb")
        assert max(said, key=lambda one: states.rank(*one))[0] == state
        assert len({word for word, source in said if source == "agent" and word in END_STATES}) == 1
        assert len(said) == len(set(said)), "each word is noted once"

    for agent in agents:
        mine = {one for one in told if hosts[one] == agent.id}
        _done_once(installation, agent, {one: told[one] for one in mine}, kinds)


def _done_once(installation: Installation, agent: Agent, told: dict[str, str], kinds: dict[str, str]) -> None:
    """What the CMDB knows is what happened on the host, and nothing happened twice."""
    assert json.loads(agent.run("commands", "verify", "--json"))["last"] >= 2 * len(told) - 1
    lines = [one for one in agent.lines() if one.known]
    accepted = Counter(one.id for one in lines if one.state == "accepted")
    assert accepted == Counter([*told]), "each was begun once"
    assert Counter(one.id for one in lines if one.state in END_STATES) == Counter([*told]), "each has one end"
    assert {one.id: one.state for one in lines} == told

    def number(kind: str, *wanted: str) -> int:
        return sum(kinds[one] == kind and state in wanted for one, state in told.items())

    # the host's keys: one for its enrolment, and one for each command to make one that was carried out
    with installation.line.app.app_context():
        keys = db.session.scalars(select(HostKey).where(HostKey.host_id == agent.id)).all()
        public = [bytes.fromhex(key.public) for key in keys]
    done, lost = number("rotate_key", "done"), number("rotate_key", "lost")
    assert 1 + done <= len(public) <= 1 + done + lost

    # its inventories in Kafka: one for each command, and one for the first start
    arrived = Arrived(installation.line.kafka, installation.line.names, agent.id, public[0], others=True, jobs=True)
    for key in public[1:]:
        arrived.trust(key)
    done, lost = number("inventory", "done"), number("inventory", "lost")

    def inventories() -> int:
        return sum(one["type"] == "inventory" for one in arrived.documents("state"))

    try:
        arrived.wait(lambda: inventories() >= done, 60, f"{done} inventories")
        _settled(arrived)
        assert done <= inventories() <= done + lost + 1
    finally:
        arrived.close()


def _settled(arrived: Arrived) -> None:
    """Read until nothing new comes."""
    before: Callable[[], int] = lambda: len(arrived.lines)  # noqa: E731
    count = -1
    while count != before():
        count = before()
        arrived.read()
