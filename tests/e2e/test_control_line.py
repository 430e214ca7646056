"""The whole control line with nothing pretended: signer, gateway over TLS, worker, Kafka, MariaDB and a real agent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing.certificates import Authority
from ezadmin_testing.commands import signer
from ezadmin_testing.gateway import KIM, GatewayUnderTest
from ezadmin_testing.processes import Process, wait_until
from sqlalchemy import select

from ezadmin_cmdb.commands import chain, services, states
from ezadmin_cmdb.commands.models import Command
from ezadmin_cmdb.commands.services import Choice
from ezadmin_cmdb.configs.description import CONFIG
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.enrolment.models import HostLine
from ezadmin_cmdb.hosts.models import Host, HostKey
from ezadmin_cmdb.signer import book
from ezadmin_wire.names import Names


@pytest.fixture
def line(stack: Any, names: Names, database: str, tmp_path: Path) -> Iterator[GatewayUnderTest]:
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.issue("gateway", ("127.0.0.1",))
    files = {"cert_file": certificate, "key_file": key, "ca_file": authority.ca_file}
    with signer(tmp_path) as signing:
        made = GatewayUnderTest(stack, names, database, tmp_path, **{name: f'"{path}"' for name, path in files.items()})
        made.signed_by(signing)
        made.start()
        yield made
        made.stop()


class Agent:
    """A real agent, enrolled, whose data goes through the gateway."""

    def __init__(self, line: GatewayUnderTest, folder: Path) -> None:
        folder.mkdir()
        self.config, self.state = folder / "agent.toml", folder / "state"
        (folder / "app.log").touch()
        self.config.write_text(f'state_dir = "{self.state}"\ninterval = 5\n[[logs]]\npath = "{folder}/app.log"\n')
        command = [sys.executable, "-m", "ezadmin_agent"]
        enrol = [*command, "enrol", line.token(), "--json", "--config", str(self.config)]
        done = subprocess.run(enrol, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        self.id = str(json.loads(done.stdout)["host.id"])
        self.process = Process([*command, "run", "--config", str(self.config)], folder / "agent.log", dict(os.environ))


def test_each_kind_from_a_person_to_its_end(line: GatewayUnderTest, tmp_path: Path) -> None:
    agent = Agent(line, tmp_path / "agent")
    agent.process.start()

    def sent(kind: str, **arguments: Any) -> str:
        with line.work():
            return services.send(KIM, Choice((agent.id,)), kind, arguments).id

    def ended(run: str) -> tuple[str, str | None]:
        def state() -> Command:
            with line.app.app_context():
                return db.session.scalars(select(Command).where(Command.run == run)).one()

        wait_until(
            lambda: state().state not in (*states.WAITING, *states.UNDER_WAY),
            90,
            f"the end of {run}: {line.log()[-500:]}",
        )
        return state().state, state().reason

    def host() -> Host:
        with line.app.app_context():
            return db.session.get_one(Host, agent.id)

    try:
        assert ended(sent("inventory"))[0] == "done"
        wait_until(lambda: host().inventory_collected is not None, 60, "the inventory that was asked for")
        assert ended(sent("sample", interval=1, seconds=10))[0] == "done"
        with line.work():
            content = '[[logs]]\nsource = "system"\nmin_level = "error"\n'
            described.create(KIM, CONFIG, {"name": "all", "priority": 0, "active": True, "content": content})
        wanted = host().agent_config_wanted
        assert wanted > 0
        assert ended(sent("configure"))[0] == "done"

        def applied() -> int | None:
            with line.app.app_context():
                return db.session.scalar(select(HostLine.config).where(HostLine.host_id == agent.id))

        wait_until(lambda: applied() == wanted, 90, "the version that the agent says it has")
        assert ended(sent("rotate_key"))[0] == "done"
        with line.app.app_context():
            assert len(db.session.scalars(select(HostKey).where(HostKey.host_id == agent.id)).all()) == 2
        assert ended(sent("stop", reason="a break-in"))[0] == "done"
        state, reason = ended(sent("inventory"))
        assert (state, (reason or "").split(":")[0]) == ("refused", "stopped")
        assert ended(sent("resume", reason=""))[0] == "done"
        assert ended(sent("inventory"))[0] == "done"
        with line.app.app_context():
            verdict = chain.verify()
            signed = {one.id for one in db.session.scalars(select(Command))}
        assert verdict.why == ""
        assert {one["id"] for one in book.read(tmp_path / "signed.ndjson")} == signed
    finally:
        agent.process.stop()
