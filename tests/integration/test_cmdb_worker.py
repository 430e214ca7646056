"""The cmdb's worker on real Kafka and MariaDB: nothing lost, nothing believed that should not be, whatever is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest
from ezadmin_testing.cmdb import ReportingHost, clear, command, config_records, read, settings_file, worker
from ezadmin_testing.processes import Process, wait_until
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from sqlalchemy import Engine, create_engine, text

from ezadmin_wire import batch
from ezadmin_wire import config as wire
from ezadmin_wire.config import host_key
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey, VerifyKey
from ezadmin_wire.state import Address, AgentStatus, Inventory, Nic

HOSTS = [f"00000000-0000-4000-8000-0000000000{number:02x}" for number in range(6)]
REPORTS = 25 if os.environ.get("EZADMIN_FULL") else 8
"""Of each host, while the worker is killed; tests/chaos/test_cmdb_inventory.py sends more."""


class Cmdb:
    """The cmdb under test."""

    def __init__(self, stack: Any, names: Names, database: str, folder: Path) -> None:
        self.kafka, self.names, self.folder = stack.kafka, names, folder
        self.config = settings_file(folder, database, stack.kafka, names)
        self.log = folder / "worker.log"
        self.worker = worker(self.config, self.log)
        self.engine: Engine = create_engine(database)
        self.hosts: list[ReportingHost] = []

    def run(self, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(command(*arguments, "--config", self.config), capture_output=True, text=True, timeout=60)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    def host(self, host_id: str) -> ReportingHost:
        host = ReportingHost(host_id, self.kafka, self.names)
        self.run("host", "add", "--id", host_id, "--name", host_id[-4:], "--public-key", host.key.public.hex())
        self.hosts.append(host)
        return host

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    def records(self) -> dict[str, wire.ConfigRecord]:
        return config_records(self.kafka, self.names, self.folder)

    def lag(self) -> int:
        consumer = KafkaConsumer(
            bootstrap_servers=self.kafka, group_id=self.names.consumer_group("cmdb-worker"), enable_auto_commit=False
        )
        try:
            places = [TopicPartition(self.names.state, number) for number in range(3)]
            ends = consumer.end_offsets(places)
            return sum(ends[place] - (consumer.committed(place) or 0) for place in places)
        finally:
            consumer.close(autocommit=False)


@pytest.fixture
def cmdb(stack: Any, names: Names, database: str, tmp_path: Path) -> Iterator[Cmdb]:
    cmdb = Cmdb(stack, names, database, tmp_path)
    clear(database)
    yield cmdb
    cmdb.worker.stop()
    for host in cmdb.hosts:
        host.close()
    cmdb.engine.dispose()


def inventory(second: int, **members: Any) -> Inventory:
    return Inventory(collected=f"2026-11-24T10:00:{second:02}.000Z", hostname="h", **members)


def test_what_is_committed_is_in_kafka_within_a_second(cmdb: Cmdb) -> None:
    cmdb.worker.start()
    wait_until(lambda: "rules" in cmdb.records(), 20, "the rules")
    cmdb.host(HOSTS[0])
    cmdb.run("host", "label", HOSTS[0], "site=seoul")
    done = time.monotonic()
    key = host_key(HOSTS[0])
    wait_until(lambda: key in cmdb.records() and cmdb.records()[key].revision == 2, 5, "the host's record")
    assert time.monotonic() - done < 1.5  # reading the topic for this test included
    record = cmdb.records()[key].record
    assert isinstance(record, wire.HostRecord)
    assert record.labels == {"site": "seoul"}
    assert cmdb.worker.stop() == 0


def test_the_topic_is_mended_from_the_database(cmdb: Cmdb) -> None:
    cmdb.host(HOSTS[0])
    cmdb.host(HOSTS[1])
    keys = {host_key(HOSTS[0]), host_key(HOSTS[1]), "rules"}
    cmdb.worker.start()
    wait_until(lambda: cmdb.records().keys() == keys, 20, "three records")
    cmdb.worker.kill()
    signer = SigningKey.load(cmdb.folder / "config.key")
    producer = KafkaProducer(bootstrap_servers=cmdb.kafka)
    forged = wire.encode(SigningKey.generate(), host_key(HOSTS[1]), 99, wire.HostRecord(name="forged"))
    stray = wire.encode(signer, host_key(HOSTS[2]), 5, wire.HostRecord(name="stray"))
    ahead = wire.encode(signer, "rules", 40, wire.RulesRecord([wire.Rule("r", "ignore")]))  # of a newer database
    producer.send(cmdb.names.config, key=host_key(HOSTS[0]).encode(), value=None)
    for key, headers, value in (stray, ahead):
        producer.send(cmdb.names.config, key=key, value=value, headers=headers)
    producer.flush()
    producer.close()
    cmdb.worker.start()

    def mended() -> bool:
        found = cmdb.records()
        rules = found["rules"].record
        return found.keys() == keys and isinstance(rules, wire.RulesRecord) and rules.rules == []

    wait_until(mended, 20, "the topic as the database says")
    assert cmdb.records()["rules"].revision > 40
    assert cmdb.records()[host_key(HOSTS[0])].revision > 1, (
        "a reader that saw the deletion must believe the record again"
    )
    cmdb.worker.kill()
    producer = KafkaProducer(bootstrap_servers=cmdb.kafka)
    producer.send(cmdb.names.config, key=forged[0], value=forged[2], headers=forged[1])
    producer.flush()
    producer.close()
    cmdb.worker.start()
    wait_until(lambda: last_value(cmdb, forged[0]) != forged[2], 20, "the forged record is replaced")


def last_value(cmdb: Cmdb, key: bytes) -> bytes | None:
    return [message.value for message in read(cmdb.kafka, cmdb.names.config) if message.key == key][-1]


def test_reports_of_every_kind_of_wrongness_are_dead_letters_and_block_nothing(cmdb: Cmdb) -> None:
    good, quiet = cmdb.host(HOSTS[0]), cmdb.host(HOSTS[1])
    stranger = ReportingHost(HOSTS[3], cmdb.kafka, cmdb.names)
    cmdb.hosts.append(stranger)
    cmdb.run("host", "state", HOSTS[1], "quarantined")
    headers, value = good.message(inventory(1))
    bad_signature = [*headers[:-1], ("sig", bytes(64))]
    good.send_raw(bad_signature, value)
    good.send_raw([], b"nonsense\n")
    good.send_raw([], None)
    good.send(b"not json")
    good.send(b'{"type":"weather","collected":"2026-11-24T10:00:00.000Z"}')
    good.send(inventory(2, memory=5), b'{"type":"inventory","collected":"yesterday","hostname":"h"}')
    good.send(inventory(3, os_name="x" * 1000))
    good.send(inventory(4, memory=1 << 70))
    stranger.send(inventory(5))
    quiet.send(inventory(6))
    good.send(inventory(7, memory=7))
    cmdb.worker.start()
    wait_until(lambda: cmdb.rows(f"SELECT memory FROM hosts WHERE id = '{good.id}'") == [(7,)], 30, "the good report")
    wait_until(lambda: cmdb.lag() == 0, 20, "everything is read")
    letters = read(cmdb.kafka, cmdb.names.dlq)
    reasons = sorted(dict(letter.headers)["reason"].decode() for letter in letters)
    assert reasons == sorted([
        "bad_signature", "bad_header", "bad_value", "bad_value", "bad_value", "unknown_type", "bad_time",
        "database_refused", "unknown_key", "host_not_active",
    ])  # fmt: skip
    by_reason = {dict(letter.headers)["reason"]: letter for letter in letters}
    letter = by_reason[b"bad_signature"]
    found = dict(letter.headers)
    assert (letter.key, letter.value) == (good.id.encode(), value)
    assert found["id"].decode() == f"{found['topic'].decode()}/{found['partition'].decode()}/{found['offset'].decode()}"
    assert (found["kind"], found["by"], found["orig.host"]) == (b"message", b"cmdb-worker", good.id.encode())
    assert cmdb.rows(f"SELECT memory FROM hosts WHERE id = '{quiet.id}'") == [(None,)]


def test_a_bad_line_costs_its_neighbours_nothing(cmdb: Cmdb) -> None:
    host = cmdb.host(HOSTS[0])
    headers, value = host.message(inventory(1, memory=1), b"no json", AgentStatus(inventory(1).collected, "1.2", "x"))
    host.send_raw(headers, value)
    host.send(AgentStatus(inventory(2).collected, "1.2", inventory(2).collected, lines_sent=9), inventory(2, memory=2))
    cmdb.worker.start()
    columns = f"SELECT memory, agent_lines_sent FROM hosts WHERE id = '{host.id}'"
    wait_until(lambda: cmdb.rows(columns) == [(2, 9)], 30, "the good lines of both messages")
    wait_until(lambda: cmdb.lag() == 0, 20, "everything is read")
    (letter,) = read(cmdb.kafka, cmdb.names.dlq)
    found = dict(letter.headers)
    assert (letter.value, found["line"], found["reason"]) == (value, b"1,2", b"bad_value")
    assert b"line 1: not JSON" in found["error"]
    assert b"line 2: not an ISO 8601 time" in found["error"]


def test_messages_that_fit_no_letter_or_cannot_be_decoded_do_not_stop_it(cmdb: Cmdb) -> None:
    class Name(str):
        """A header's name whose bytes are no UTF-8."""

        def encode(self, *arguments: str) -> bytes:
            return b"\xff\xfe"

    host = cmdb.host(HOSTS[0])
    host.send(inventory(1, memory=1))
    bomb = KafkaProducer(bootstrap_servers=cmdb.kafka, compression_type="gzip", max_request_size=64 << 20)
    bomb.send(cmdb.names.state, key=host.id.encode(), value=b"m" * (20 << 20)).get(timeout=20)
    bomb.close()
    host.send_raw([(Name("xx"), b"")], b"hostile")
    host.send(inventory(2, memory=2))
    host.send_raw([(Name("xx"), b"")], b"hostile")
    host.send_raw([(Name("xx"), b"")], b"hostile")
    host.send(inventory(3, memory=3))
    cmdb.worker.start()
    memory = f"SELECT memory FROM hosts WHERE id = '{host.id}'"
    wait_until(lambda: cmdb.rows(memory) == [(3,)], 60, "the last report")
    wait_until(lambda: cmdb.lag() == 0, 20, "everything is read")
    found = {dict(letter.headers)["id"]: dict(letter.headers) for letter in read(cmdb.kafka, cmdb.names.dlq)}
    errors = sorted(letter["error"].decode() for letter in found.values())
    assert len(errors) == 4
    assert errors.count("the message cannot be decoded") == 3
    assert [letter["cut"] for letter in found.values() if "cut" in letter] == [b"value of 20971520 bytes"]


def test_its_warnings_are_events_that_it_signs_itself(cmdb: Cmdb, tmp_path: Path) -> None:
    with cmdb.config.open("a") as file:
        file.write(f'[own]\nkey = "{tmp_path / "own.key"}"\n')
    identity = json.loads(cmdb.run("identity").splitlines()[0])
    host = cmdb.host(HOSTS[0])
    cmdb.worker.start()
    wait_until(lambda: "own figures and errors are not sent" in cmdb.log.read_text(), 30, "it is not known yet")
    cmdb.run("host", "add", "--id", identity["host.id"], "--name", "cmdb", "--public-key", identity["public_key"])
    host.send(b"no json")

    def warnings() -> list[Any]:  # beside those of the audit log
        found = read(cmdb.kafka, cmdb.names.logs)
        return [message for message in found if dict(message.headers)["dataset"] == b"cmdb.log"]

    wait_until(warnings, 30, "the event")
    (message, *_) = warnings()
    key = VerifyKey.from_hex(identity["public_key"])
    decoded = batch.decode(message.topic, message.key, message.headers, message.value, lambda *_: key)
    assert (decoded.host, decoded.dataset) == (identity["host.id"], "cmdb.log")
    event = json.loads(decoded.lines()[0])
    assert event["log.level"] == "warning"
    assert event["message"].startswith("dead letter: ")
    assert event["error.type"] == "bad_value"
    reported = f"SELECT agent_collected IS NOT NULL FROM hosts WHERE id = '{identity['host.id']}'"
    wait_until(lambda: cmdb.rows(reported) == [(1,)], 30, "it reports as agents do")


@pytest.mark.parametrize("seed", [1])
def test_killed_at_random_while_reports_come_twice_and_out_of_order(cmdb: Cmdb, seed: int) -> None:
    chance = random.Random(seed)
    hosts = [cmdb.host(host_id) for host_id in HOSTS]
    documents: list[tuple[ReportingHost, Inventory | AgentStatus]] = []
    expected = {}
    for host in hosts:
        for second in range(REPORTS):
            nics = [
                Nic(name, addresses=[Address(f"192.0.2.{chance.randrange(250)}", 24)])
                for name in chance.sample(["eth0", "eth1", "eth2"], chance.randrange(4))
            ]
            newest = inventory(second, memory=chance.randrange(1 << 40), nics=nics)
            documents += [
                (host, newest),
                (host, AgentStatus(newest.collected, "1", newest.collected, lines_sent=second)),
            ]
        expected[host.id] = (newest, REPORTS - 1)
    documents = chance.sample(documents * 2, len(documents) * 2)
    for start in range(0, len(documents), 20):
        cmdb.worker.start()
        for host, document in documents[start : start + 20]:
            host.send(document)
        if chance.random() < 0.8:
            time.sleep(chance.random() * 2)
            cmdb.worker.kill()
    cmdb.worker.start()
    wait_until(lambda: cmdb.lag() == 0, 60, "everything is read")
    for host_id, (newest, sent) in expected.items():
        columns = f"SELECT memory, agent_lines_sent FROM hosts WHERE id = '{host_id}'"
        assert cmdb.rows(columns) == [(newest.memory, sent)]
        addresses = cmdb.rows(
            "SELECT n.name, a.address FROM host_nics n LEFT JOIN host_addresses a ON a.nic_id = n.id "
            f"WHERE n.host_id = '{host_id}'"
        )
        assert sorted(addresses) == sorted((nic.name, nic.addresses[0].address) for nic in newest.nics)
    assert read(cmdb.kafka, cmdb.names.dlq) == []


def test_the_database_away_and_back(cmdb: Cmdb, stack: Any, names: Names, tmp_path: Path) -> None:
    """A user who may no longer sign in is a database that is away: connections are cut, new ones refused."""
    host = cmdb.host(HOSTS[5])
    admin = pymysql.connect(
        unix_socket=stack.mariadb["socket"], user=stack.mariadb.get("admin", "root"), autocommit=True
    )
    name = f"w{names.prefix}"[:32]
    with admin.cursor() as cursor:
        schema = cmdb.engine.url.database
        cursor.execute(f"CREATE USER '{name}'@'%' IDENTIFIED BY 'first'")
        cursor.execute(f"GRANT ALL ON {schema}.* TO '{name}'@'%'")
        own = cmdb.engine.url.set(username=name, password="first").render_as_string(hide_password=False)
        cmdb.config = settings_file(tmp_path, own, stack.kafka, names)
        cmdb.worker = worker(cmdb.config, cmdb.log).start()
        try:
            host.send(inventory(1, memory=1))
            memory = f"SELECT memory FROM hosts WHERE id = '{host.id}'"
            wait_until(lambda: cmdb.rows(memory) == [(1,)], 30, "the first report")
            cursor.execute(f"ALTER USER '{name}'@'%' ACCOUNT LOCK")
            cursor.execute("SELECT id FROM information_schema.processlist WHERE user = %s", (name,))
            for (connection,) in cursor.fetchall():
                cursor.execute(f"KILL {connection}")
            for second in range(2, 20):
                host.send(inventory(second, memory=second))
                time.sleep(0.2)
            assert cmdb.worker.running
            assert cmdb.rows(memory) == [(1,)]
            cursor.execute(f"ALTER USER '{name}'@'%' ACCOUNT UNLOCK")
            wait_until(lambda: cmdb.rows(memory) == [(19,)], 40, "the last report")
            wait_until(lambda: cmdb.lag() == 0, 20, "everything is read")
            assert read(cmdb.kafka, names.dlq) == []
            assert "wait for the database" in cmdb.log.read_text()
        finally:
            cmdb.worker.stop()
            cursor.execute(f"DROP USER '{name}'@'%'")
            admin.close()


def test_kafka_away_the_worker_waits_and_ends_when_told(cmdb: Cmdb, tmp_path: Path) -> None:
    own = tmp_path / "away"
    own.mkdir()
    config = settings_file(own, cmdb.engine.url.render_as_string(hide_password=False), "127.0.0.1:1", cmdb.names)
    process: Process = worker(config, own / "log").start()
    log = own / "log"
    said = ("configuration is not published", "reports are not read")
    wait_until(lambda: all(text in log.read_text() for text in said), 60, "it says what waits")
    assert process.running
    started = time.monotonic()
    process.signal(signal.SIGTERM)
    assert process.wait(12) == 0
    assert time.monotonic() - started < 10
    lines = [json.loads(line) for line in (own / "log").read_text().splitlines()]
    assert any("configuration is not published" in line["message"] for line in lines)
    assert any("reports are not read" in line["message"] for line in lines)
    assert not any("error.stack_trace" in line for line in lines)
