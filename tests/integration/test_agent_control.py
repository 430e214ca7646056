"""The control line with the real agent process, the real gateway, Kafka and MariaDB, through a real proxy (CONNECT)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing.arrived import Arrived
from ezadmin_testing.certificates import Authority
from ezadmin_testing.fake_gateway import FakeGateway
from ezadmin_testing.gateway import KIM, GatewayUnderTest, eventually
from ezadmin_testing.processes import Process
from ezadmin_testing.proxy import CuttingProxy
from sqlalchemy import select

from ezadmin_agent.control import enrolment, record
from ezadmin_cmdb.commands.models import Command as Row
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_wire import commands, jobs
from ezadmin_wire.commands import Command, SignedCommand
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.times import format_time

COMMAND = [sys.executable, "-m", "ezadmin_agent"]
DATASET = "agent.command"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def gateway(
    stack: Any,
    module_names: Names,
    database: str,
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[GatewayUnderTest]:
    certificate, key = authority.issue("gateway", ("127.0.0.1",))
    files = {"cert_file": certificate, "key_file": key, "ca_file": authority.ca_file}
    more = {name: f'"{path}"' for name, path in files.items()}
    gateway = GatewayUnderTest(stack, module_names, database, tmp_path_factory.mktemp("gateway"), **more)
    gateway.start()
    yield gateway
    gateway.stop()


class Host:
    """An agent behind a proxy: enrolled with a token, without Kafka's address or any setting of the line."""

    def __init__(self, gateway: GatewayUnderTest, folder: Path, root: str = "m1") -> None:
        self.gateway = gateway
        self.folder = folder
        self.proxy = CuttingProxy()
        self.log_file = folder / "app.log"
        self.log_file.touch()
        self.state = folder / "agent"
        self.config = folder / "agent.toml"
        self.config.write_text(
            f'state_dir = "{self.state}"\ninterval = 2\n[[logs]]\npath = "{self.log_file}"\ndataset = "system.syslog"\n'
        )
        self.root = folder / "root"
        self.machine(root)
        environment = {"EZADMIN_AGENT_ROOT": str(self.root)}
        self.agent = Process([*COMMAND, "run", "--config", str(self.config)], folder / "agent.out", environment)
        self._arrived: Arrived | None = None

    def machine(self, name: str) -> None:
        """What the agent finds this machine to be."""
        (self.root / "etc").mkdir(parents=True, exist_ok=True)
        (self.root / "etc/machine-id").write_text(
            f"{hashlib.sha256((str(self.folder) + name).encode()).hexdigest()[:32]}\n"
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "EZADMIN_AGENT_ROOT": str(self.root)}
        command = [*COMMAND, *arguments, "--config", str(self.config)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)

    def enrol(self, token: str) -> str:
        done = self.run("enrol", token, "--proxy", self.proxy.url, "--json")
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["host.id"])

    @property
    def identity(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.run("identity").stdout)
        return found

    @property
    def id(self) -> str:
        return self.identity["host.id"]

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("status", "--json").stdout or "{}")
        return found

    @property
    def arrived(self) -> Arrived:
        if self._arrived is None:
            identity = self.identity
            public = bytes.fromhex(identity["public_key"])
            self._arrived = Arrived(
                self.gateway.kafka, self.gateway.names, identity["host.id"], public, others=True, jobs=True
            )
        return self._arrived

    def write(self, *lines: str) -> None:
        with self.log_file.open("a") as file:
            file.writelines(f"{line}\n" for line in lines)

    def do(self, kind: str, arguments: dict[str, Any] | None = None, seconds: float = 20) -> tuple[str, str]:
        """Have a command done; its end state and reason."""
        command_id = self.gateway.command(self.id, kind=kind, arguments=arguments)
        eventually(lambda: self.gateway.state_of(command_id) in jobs.END_STATES, seconds)
        with self.gateway.app.app_context():
            row = db.session.get_one(Row, command_id)
            return row.state, row.reason or ""

    def lines(self) -> list[record.Line]:
        found = list(record.read(self.state / "commands"))
        assert not [one for one in found if isinstance(one, record.Broken)]
        return [one for one in found if isinstance(one, record.Line)]

    def close(self) -> None:
        self.agent.stop()
        self.proxy.close()
        if self._arrived is not None:
            self._arrived.close()


@pytest.fixture
def host(gateway: GatewayUnderTest, tmp_path: Path) -> Iterator[Host]:
    """A host that is enrolled; its agent does not run yet."""
    host = Host(gateway, tmp_path)
    host.enrol(gateway.token())
    yield host
    host.close()


def running(host: Host) -> Host:
    host.agent.start()
    eventually(lambda: host.status().get("control", {}).get("connected"), 30)
    return host


def test_everything_arrives_through_gateway_and_proxy(host: Host) -> None:
    running(host)
    arrived = host.arrived
    host.write("Nov 24 08:15:30 box sshd[12]: error: hello-ez-1", "no syslog line")
    arrived.wait(lambda: len(arrived.messages()) == 2, 15, "two log lines")
    arrived.wait(lambda: arrived.documents("metrics") and len(arrived.documents("state")) >= 2, 20, "metrics and state")
    status = host.status()
    assert (status["transport"], status["kafka"], status["gateway"]["connected"]) == ("https", None, True)
    assert status["gateway"]["url"] == host.gateway.base
    assert status["rss_bytes"] <= 50 << 20
    shown = host.run("status").stdout
    assert f"batches through the gateway {host.gateway.base}: connected" in shown
    assert f"control line to {host.gateway.base}: connected, this host is active" in shown
    # the way is cut, again and again, also when answers are on their way
    for number in range(5):
        host.write(*(f"line {number}-{i} {'x' * 200}" for i in range(500)))
        time.sleep(0.7)
        if number % 2:
            host.proxy.cut()
        else:
            host.proxy.swallow()
    host.proxy.blocked = True
    host.proxy.cut()
    host.write("while it is away")
    eventually(lambda: not host.status()["gateway"]["connected"], 20)
    host.proxy.blocked = False
    arrived.wait(lambda: len(arrived.messages()) >= 2503, 60, "all lines")
    arrived.gapless("logs")
    assert len(set(arrived.messages())) == len(arrived.messages()) == 2503


def test_the_agent_stops_at_once_while_a_poll_waits(host: Host) -> None:
    running(host)
    time.sleep(1.0)
    begin = time.monotonic()
    assert host.agent.stop() == 0
    assert time.monotonic() - begin < 8


def test_each_kind_of_command(host: Host) -> None:
    running(host)
    arrived = host.arrived
    inventories = lambda: [one for one in arrived.documents("state") if one["type"] == "inventory"]  # noqa: E731
    arrived.wait(inventories, 20, "the first inventory")
    begin = time.monotonic()
    assert host.do("inventory") == ("done", "")
    assert time.monotonic() - begin < 8
    arrived.wait(lambda: len(inventories()) == 2, 10, "the inventory, again")

    state, reason = host.do("sample", {"interval": 1, "seconds": 30})
    assert state == "done"
    assert reason.startswith("each 1 s until ")
    sampled = lambda: (host.status()["control"]["sampling"] or {}).get("interval")  # noqa: E731
    eventually(lambda: sampled() == 1, 5)
    host.agent.kill()  # it survives that
    running(host)
    eventually(lambda: sampled() == 1, 5)
    eventually(lambda: sampled() is None, 45)

    filters = {"logs": [{"path": str(host.log_file), "exclude": ["secret"], "min_level": "error"}]}
    assert host.do("configure", {"version": 5, "config": filters}) == ("done", "version 5 is in force")
    time.sleep(1.5)
    host.write(
        "Nov 24 08:15:30 box a[1]: error: secret",
        "Nov 24 08:15:30 box a[1]: info: x",
        "Nov 24 08:15:30 box a[1]: error: y",
    )
    arrived.wait(lambda: "error: y" in arrived.messages(), 10, "what is not filtered")
    assert not [one for one in arrived.messages() if "secret" in one or one.endswith(": x")]
    bad = {"logs": [{"path": "/var/log/x", "exclude": ["("]}]}
    state, reason = host.do("configure", {"version": 6, "config": bad})
    assert (state, reason[:10]) == ("refused", "bad_value:")
    assert "exclude" in reason
    shown = host.run("config", "show").stdout
    assert f"logs[{host.log_file}].exclude" in shown
    assert "managed, version 5" in shown

    kid = host.identity["kid"]
    state, reason = host.do("rotate_key")
    assert (state, reason) == ("done", f"key {host.identity['kid']}")
    assert host.identity["kid"] != kid

    assert host.do("stop", {"reason": "a test"})[0] == "done"
    assert host.do("inventory") == ("refused", "stopped: everything was stopped here; resume first")
    host.agent.kill()
    running(host)
    assert host.do("inventory")[0] == "refused"
    assert host.do("resume", {"reason": "a test"})[0] == "done"
    assert host.do("inventory")[0] == "done"
    verified = host.run("commands", "verify")
    assert (verified.returncode, verified.stdout[:6]) == (0, "whole:")
    assert "refused" in host.run("commands", "list").stdout


def test_data_under_a_new_key_arrives(host: Host) -> None:
    running(host)
    arrived, kid = host.arrived, host.identity["kid"]
    host.write("under the old key")
    arrived.wait(lambda: arrived.messages() == ["under the old key"], 20, "a line signed with the old key")
    assert host.do("rotate_key")[0] == "done"
    arrived.trust(bytes.fromhex(host.identity["public_key"]))
    host.write("under the new key")
    arrived.wait(lambda: "under the new key" in arrived.messages(), 20, "a line signed with the new key")
    assert arrived.batches[-1].kid == host.identity["kid"] != kid


def test_what_the_file_forbids_is_not_done(host: Host) -> None:
    host.config.write_text(host.config.read_text() + '[commands]\nallow = ["stop", "resume"]\n')
    running(host)
    state, reason = host.do("inventory")
    assert (state, reason.split(":")[0]) == ("refused", "kind_not_allowed")


# ------------------------------------------------------------------ forgery


def forgeries(gateway: GatewayUnderTest, host_id: str) -> dict[str, Callable[[Command], SignedCommand]]:
    """What who writes straight into the database can have handed out, and the reason for which it is refused."""
    key = gateway.command_key
    past = {
        "not_before": format_time(utc_now().replace(year=2020)),
        "not_after": format_time(utc_now().replace(year=2021)),
    }

    def altered(command: Command) -> SignedCommand:
        signed = commands.encode(key, replace(command, kind="stop", arguments={"reason": "x"}))
        return replace(signed, command=signed.command.replace('"stop"', '"resume"'))

    return {
        "bad_signature": altered,
        "unknown_key": lambda command: commands.encode(SigningKey.generate(), command),
        "wrong_host": lambda command: commands.encode(key, replace(command, host=str(uuid.uuid4()))),
        "expired": lambda command: commands.encode(key, replace(command, **past)),
    }


def test_forged_commands_are_refused_and_recorded(host: Host) -> None:
    running(host)
    gateway, host_id = host.gateway, host.id
    real = gateway.command(host_id)
    eventually(lambda: gateway.state_of(real) == "done")
    with gateway.app.app_context():
        text, sig, kid = db.session.execute(select(Row.signed, Row.sig, Row.kid).where(Row.id == real)).one()
    inventories = len([line for line in host.lines() if line.kind == "inventory"])
    forged = {reason: gateway.command(host_id, forged=make) for reason, make in forgeries(gateway, host_id).items()}
    replayed = gateway.command(host_id, forged=lambda _: SignedCommand(text, kid, sig))
    nonce = json.loads(text)["nonce"]
    reused = gateway.command(host_id, forged=lambda c: commands.encode(gateway.command_key, replace(c, nonce=nonce)))
    wanted = {*forged, "replayed"}
    eventually(
        lambda: wanted <= {str(line.reason).split(":")[0] for line in host.lines() if line.state == "refused"}, 20
    )
    assert host.do("inventory")[0] == "done", "the line goes on"
    done = [line for line in host.lines() if line.kind == "inventory" and line.state == "done"]
    assert len([line for line in host.lines() if line.known and line.state == "accepted"]) == 2
    assert len(done) == 2
    assert inventories == 2
    assert not host.status()["control"]["stopped"]
    # what was signed for this host is told as refused; of the others no state is told
    eventually(lambda: gateway.state_of(forged["expired"]) == "refused")
    eventually(lambda: gateway.state_of(reused) == "refused")
    for reason in ("bad_signature", "unknown_key", "wrong_host"):
        assert gateway.state_of(forged[reason]) in ("queued", "sent"), reason
    assert gateway.state_of(replayed) in ("queued", "sent")
    arrived = host.arrived

    def told() -> set[str]:
        events = [one for one in arrived.documents("own") if one["event.dataset"] == DATASET]
        return {str(one.get("ezadmin.command.reason", "")).split(":")[0] for one in events}

    arrived.wait(lambda: wanted <= told(), 15, "each refusal as an event")
    assert host.run("commands", "verify").returncode == 0


def test_another_authority_in_between_gets_nothing(host: Host, tmp_path: Path) -> None:
    running(host)
    other = Authority(tmp_path / "other")
    thief = FakeGateway(certificate=other.issue("gw", ("127.0.0.1",)), ca_file=other.ca_file)
    try:
        host.proxy.divert = ("127.0.0.1", thief.port)
        host.proxy.cut()
        host.write("a secret")
        eventually(lambda: "certificate is not good" in str(host.status()["control"]["error"]), 20)
        assert not host.status()["gateway"]["connected"]
        assert thief.asked == []
    finally:
        host.proxy.divert = None
        thief.close()
    arrived = host.arrived
    arrived.wait(lambda: "a secret" in arrived.messages(), 30, "the line, on the right way")
    arrived.wait(
        lambda: any("certificate is not good" in one["message"] for one in arrived.documents("own")), 20, "the event"
    )


# ------------------------------------------------------------------ states, copies


def test_a_revoked_host_stops_sending_within_a_minute(host: Host) -> None:
    running(host)
    with host.gateway.work():
        hosts.set_state(KIM, hosts.find(KIM, host.id), "revoked")
    begin = time.monotonic()
    eventually(lambda: host.status().get("held") == "it was revoked", 60)
    assert time.monotonic() - begin < 10
    shown = host.run("status").stdout
    assert "NOTHING IS SENT: it was revoked" in shown
    known = enrolment.read(host.state)
    assert known is not None
    assert known.state == "revoked"


def test_a_copy_is_a_host_of_its_own_and_waits(host: Host, tmp_path: Path) -> None:
    host.write("of the original, before")
    running(host)
    host.arrived.wait(lambda: host.arrived.documents("metrics"), 15, "metrics")
    original = host.id
    host.agent.kill()
    host.write("not sent by the original yet")
    (tmp_path / "copy").mkdir()
    copy = Host(host.gateway, tmp_path / "copy", root="another machine")
    shutil.copytree(host.state, copy.state)
    try:
        copy.agent.start()
        eventually(lambda: copy.status().get("control", {}).get("state") == "quarantined", 30)
        assert copy.id != original
        status = copy.status()
        assert status["held"] == "it waits to be accepted (quarantine)"
        assert all(stream["lines_sent"] == 0 for stream in status["streams"].values())
        running(host)
        assert host.id == original
        host.gateway.run("host", "accept", copy.id)
        eventually(lambda: copy.status()["control"]["state"] == "active", 30)
        copy.write("of the copy")
        arrived = copy.arrived
        arrived.wait(lambda: "of the copy" in arrived.messages(), 30, "a line of the copy")
        assert arrived.messages() == ["of the copy"]
        assert copy.do("inventory")[0] == "done"
        assert host.do("inventory")[0] == "done"
    finally:
        copy.close()


def test_enrolment_says_why_not(gateway: GatewayUnderTest, tmp_path: Path) -> None:
    host = Host(gateway, tmp_path)
    try:
        token = gateway.token(uses=1)
        host.enrol(token)
        (tmp_path / "second").mkdir()
        second = Host(gateway, tmp_path / "second")
        done = second.run("enrol", token, "--proxy", second.proxy.url)
        assert done.returncode == 1
        assert "make a new one, for more hosts" in done.stderr
        assert "Traceback" not in done.stderr
        host.enrol(token)  # again: nothing is used
        second.close()
    finally:
        host.close()


# ------------------------------------------------------------------ kill -9


def test_kill_9_while_many_commands_run(host: Host) -> None:
    count = 120
    chance = random.Random(6)
    running(host)
    host_id = host.id
    ids = []
    kills = 0
    for number in range(count):
        kind = ("inventory", "configure", "sample", "inventory")[number % 4]
        arguments = {
            "inventory": {},
            "configure": {"version": number, "config": {"logs": []}},
            "sample": {"interval": 2, "seconds": 10},
        }[kind]
        ids.append(host.gateway.command(host_id, seconds=600, kind=kind, arguments=arguments))
        if number % 12 == 5:
            time.sleep(chance.uniform(0.3, 1.8))
            host.agent.kill()
            kills += 1
            host.agent.start()
    ended: dict[str, str] = {}

    def all_ended() -> bool:
        with host.gateway.app.app_context():
            rows = db.session.execute(select(Row.id, Row.state).where(Row.id.in_(ids))).all()
        ended.update({row.id: row.state for row in rows})
        return all(state in jobs.END_STATES for state in ended.values())

    with contextlib.suppress(AssertionError):
        eventually(all_ended, 90)
    assert Counter(state for state in ended.values() if state not in jobs.END_STATES) == Counter()
    assert kills == 10
    lines = [line for line in host.lines() if line.id in set(ids)]
    accepted = Counter(line.id for line in lines if line.state == "accepted")
    assert max(accepted.values()) == 1, "none was begun twice"
    last = {line.id: line.state for line in lines}
    assert {key: last[key] for key in ids if ended[key] != "refused"} == {
        key: state for key, state in ended.items() if state != "refused"
    }, "what the CMDB knows is what happened here"
    assert set(ended.values()) <= {"done", "lost", "refused"}
    assert sum(state == "done" for state in ended.values()) >= count - 2 * kills
    verified = host.run("commands", "verify", "--json")
    assert verified.returncode == 0, verified.stdout
    found = json.loads(verified.stdout)
    arrived = host.arrived

    def numbers() -> list[int]:
        events = [one for one in arrived.documents("own") if one["event.dataset"] == DATASET]
        return [one["ezadmin.chain.number"] for one in events]

    arrived.wait(lambda: found["last"] in numbers(), 30, "the last line of the chain")
    assert sorted(numbers()) == list(range(found["last"] + 1)), "each line came as an event, once"
