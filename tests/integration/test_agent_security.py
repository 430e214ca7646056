"""The agent against a Kafka with everything locked: each way in, with the rights of an agent and no more, and each way not in."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing.arrived import Arrived
from ezadmin_testing.certificates import Authority
from ezadmin_testing.processes import Process, wait_until
from ezadmin_testing.secured import SecuredKafka, password_file, password_of, toml
from kafka import KafkaAdminClient
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

from ezadmin_pipeline import install
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.names import Names

AGENT, STRANGER = "ezadmin-agent", "stranger"
COMMAND = [sys.executable, "-m", "ezadmin_agent"]


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """With two users that may do nothing yet."""
    kafka = SecuredKafka(tmp_path_factory.mktemp("kafka"), [AGENT, STRANGER])
    yield kafka
    kafka.stop()


@pytest.fixture
def names(kafka: SecuredKafka) -> Names:
    """Topics of this test alone; the agent may write to its own, the stranger to none."""
    names = Names(f"t{secrets.token_hex(4)}")
    install.make_topics(KafkaConnection(kafka.inside), names, 1)
    admin = KafkaAdminClient(bootstrap_servers=kafka.inside)
    for topic in (names.metrics, names.logs, names.state, names.jobs):
        pattern = ResourcePattern(ResourceType.TOPIC, topic)
        admin.create_acls([ACL(f"User:{AGENT}", "*", ACLOperation.WRITE, ACLPermissionType.ALLOW, pattern)])
    admin.close()
    return names


def configured(folder: Path, names: Names, table: dict[str, Any]) -> Path:
    path = folder / "agent.toml"
    path.write_text(
        f'prefix = "{names.prefix}"\nstate_dir = "{folder / "state"}"\ninterval = 1\nlogs = []\n[kafka]\n{toml(table)}'
    )
    return path


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def check(config: Path) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit status and steps, by the first word of their names."""
    done = run("check", "--json", "--config", config)
    steps = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, {step["name"].split(" ")[0]: step for step in steps}


def arrived(kafka: SecuredKafka, names: Names, config: Path) -> Arrived:
    identity = json.loads(run("identity", "--config", config).stdout)
    return Arrived(kafka.inside, names, identity["host.id"], bytes.fromhex(identity["public_key"]))


@pytest.mark.parametrize("way", ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "mTLS"])
def test_each_way_in(kafka: SecuredKafka, names: Names, tmp_path: Path, way: str) -> None:
    config = configured(tmp_path, names, kafka.mtls_table(AGENT) if way == "mTLS" else kafka.table(AGENT, way))
    code, steps = check(config)
    assert code == 0, steps
    assert "signed by ezadmin test authority, valid for" in steps["tls"]["text"]
    assert ("takes our certificate" if way == "mTLS" else f"as {AGENT} ({way})") in steps["sign-in"]["text"]
    assert "more than an agent needs" not in steps["rights"]["text"]
    here = arrived(kafka, names, config)
    agent = Process([*COMMAND, "run", "--config", str(config)], tmp_path / "agent.log").start()
    try:
        here.wait(
            lambda: {"metrics", "state"} <= {stream for stream, _, _ in here.lines}, 30, "metrics and state arrived"
        )
    finally:
        assert agent.stop() == 0, (tmp_path / "agent.log").read_text()
        here.close()
    status = json.loads(run("status", "--json", "--config", config).stdout)
    assert way in status["kafka"]["bootstrap"] or "with a certificate" in status["kafka"]["bootstrap"]


def test_a_mended_password_needs_no_restart_and_none_is_shown(
    kafka: SecuredKafka, names: Names, tmp_path: Path
) -> None:
    table = kafka.table(AGENT)
    wrong = password_file(tmp_path, AGENT, "not-it-at-all")
    config = configured(tmp_path, names, {**table, "password_file": str(wrong)})
    code, steps = check(config)
    assert code == 1
    assert steps["sign-in"]["ok"] is False
    assert "mend user, password or sasl" in steps["sign-in"]["hint"]
    log = tmp_path / "agent.log"
    here = arrived(kafka, names, config)
    agent = Process([*COMMAND, "run", "--config", str(config), "--log-level", "debug"], log).start()
    try:
        wait_until(lambda: "mend user, password or sasl" in log.read_text(), 30, "the agent says why")
        wrong.unlink()
        wait_until(lambda: f"password_file {wrong}: No such file" in log.read_text(), 60, "and that the file is gone")
        password_file(tmp_path, AGENT, password_of(AGENT))
        here.wait(lambda: here.lines, 60, "metrics arrived")
    finally:
        assert agent.stop() == 0
        here.close()
    archive = tmp_path / "diagnose.tar.gz"
    shown = run("diagnose", "--config", config, "--out", archive).stdout + log.read_text()
    shown += run("config", "check", "--config", config).stdout + run("status", "--config", config).stdout
    with tarfile.open(archive) as found:
        for name in found.getnames():
            file = found.extractfile(name)
            assert file is not None
            shown += file.read().decode()
    assert password_of(AGENT) not in shown
    assert "not-it-at-all" not in shown


def test_each_way_not_in_is_told(kafka: SecuredKafka, names: Names, tmp_path: Path) -> None:
    sasl, mtls = kafka.table(AGENT), kafka.mtls_table(AGENT)
    only_tls = {key: sasl[key] for key in ("bootstrap", "tls", "ca_file")}
    for table, step, text, hint in (
        ({**sasl, "ca_file": str(Authority(tmp_path / "other").ca_file)}, "tls", "not good", "ca_file must hold"),
        ({**sasl, "bootstrap": kafka.inside}, "tls", "no TLS", "is this a listener with TLS"),
        ({"bootstrap": kafka.sasl}, "sign-in", "it speaks TLS", "write tls = true under [kafka], and ca_file"),
        (only_tls, "sign-in", "no broker takes us in", "write sasl, user and password_file"),
        ({**mtls, "certificate_file": None, "key_file": None}, "sign-in", "certificate_file and key_file", "log"),
        ({**sasl, "user": "nobody-here"}, "sign-in", kafka.sasl, "mend user, password or sasl"),
        (kafka.table(STRANGER), "rights", f"may not write to {names.metrics}", "ACL Write"),
        (kafka.table(STRANGER), "topic", "may not write there", "ACL Write"),
        ({**sasl, "password_file": "/none"}, "settings", "password_file /none: No such file", "mend"),
    ):
        code, steps = check(
            configured(tmp_path, names, {key: value for key, value in table.items() if value is not None})
        )
        assert code == 1, step
        assert steps[step]["ok"] is False, steps
        assert text in steps[step]["text"], steps[step]
        assert hint in steps[step]["hint"], steps[step]


def test_what_may_not_be_written_waits_in_the_spool_and_is_told(
    kafka: SecuredKafka, names: Names, tmp_path: Path
) -> None:
    config, log = configured(tmp_path, names, kafka.table(STRANGER)), tmp_path / "agent.log"
    agent = Process([*COMMAND, "run", "--config", str(config)], log).start()
    try:
        text = "stream metrics: Kafka did not take a batch: TopicAuthorizationFailed"
        wait_until(lambda: text in log.read_text(), 30, "the agent says what it may not")
    finally:
        assert agent.stop() == 0
    status = json.loads(run("status", "--json", "--config", config).stdout)
    assert status["streams"]["metrics"]["unacked_lines"] > 0
    assert status["streams"]["metrics"]["dropped"] == 0
