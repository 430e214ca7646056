"""The pipeline against a Kafka and an Elasticsearch with everything locked, with no more rights than the docs give."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing import simulated_hosts
from ezadmin_testing.certificates import Authority
from ezadmin_testing.described import application
from ezadmin_testing.fleet import Fleet
from ezadmin_testing.processes import Process, wait_until
from ezadmin_testing.secured import SecuredElastic, SecuredKafka, password_file, toml
from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import TopicAuthorizationFailedError

from ezadmin_cmdb.database import db, unit_of_work
from ezadmin_cmdb.elastic import Elastic, ElasticUnavailable
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.kafka_access import users as kafka_users
from ezadmin_cmdb.kafka_access.rights import rights as needed
from ezadmin_cmdb.kafka_access.rights import users
from ezadmin_cmdb.kafka_access.setup import setup
from ezadmin_cmdb.kafka_access.users import KafkaUserKeeper, Refused
from ezadmin_cmdb.outbox.publisher import read_topic
from ezadmin_cmdb.status.kafka import KafkaProbe
from ezadmin_pipeline.elastic import ElasticClient
from ezadmin_wire import batch as wire
from ezadmin_wire.config import RulesRecord
from ezadmin_wire.elastic import ElasticConnection
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.names import Names
from ezadmin_wire.times import format_time

DOC = Path(__file__).resolve().parents[2] / "docs" / "security.md"
ROLES = {"ezadmin-setup": "ezadmin_setup", "ezadmin-pipeline": "ezadmin_pipeline", "ezadmin-cmdb": "ezadmin_cmdb"}
ADMIN = "tests"
HOST_USER = "8f14e45f-ceea-467f-9c2b-5f3d1f7c9a01"
"""A host has its host.id as user."""


def rights() -> list[tuple[str, str, str, list[str]]]:
    """(user, ``topics``, ``group`` or ``cluster``, name, operations) of the documented table."""
    found = []
    row_of = r"^\| `(ezadmin-\w+|\*)` \| (topics|group|cluster) (.+?) \| ([\w, ]+) \|$"
    for row in re.finditer(row_of, DOC.read_text(), re.M):
        for name in re.findall("`(.+?)`", row[3]):
            found.append((row[1], row[2], name, row[4].split(", ")))
    return found


def roles() -> dict[str, Any]:
    """The documented roles."""
    roles: dict[str, Any] = json.loads(re.findall("```json\n(.*?)```", DOC.read_text(), re.S)[0])
    return roles


def test_the_documented_roles_are_those_that_the_local_stack_gives() -> None:
    assert json.loads((DOC.parents[1] / "es" / "roles.json").read_text()) == roles()


def test_the_documented_rights_are_those_that_are_made() -> None:
    made = [(right.user, right.kind, name, list(right.operations)) for right in needed(Names()) for name in right.names]
    assert rights() == made


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    users = sorted({user for user, _, _, _ in rights() if user != "*"} | {HOST_USER, "stranger"})
    kafka = SecuredKafka(tmp_path_factory.mktemp("kafka"), users)
    yield kafka
    kafka.stop()


@pytest.fixture(scope="module")
def elastic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredElastic]:
    users = {**ROLES, ADMIN: "superuser", "stranger": "none"}
    elastic = SecuredElastic(tmp_path_factory.mktemp("elastic"), users, {**roles(), "none": {}})
    yield elastic
    elastic.stop()


@pytest.fixture(scope="module")
def names(kafka: SecuredKafka, tmp_path_factory: pytest.TempPathFactory) -> Names:
    """The product's own prefix, for that is what the docs write; with the rights that `kafka setup` gives."""
    folder = tmp_path_factory.mktemp("passwords")
    for user in users(Names()):
        password_file(folder, user)
    inside = KafkaConnection(kafka.inside)
    done = setup(inside, Names(), folder, dry_run=True)
    assert len(done.missing) > 30
    assert setup(inside, Names(), folder).missing == done.missing
    again = setup(inside, Names(), folder)
    assert (again.missing, again.more) == ([], [])
    return Names()


def configured(folder: Path, names: Names, kafka: dict[str, Any], elastic: dict[str, Any], **more: Any) -> Path:
    """A settings file of the pipeline."""
    path = folder / "pipeline.toml"
    more = {"prefix": names.prefix, "partitions": 3, "session_timeout": 10, **more}
    path.write_text(f"{toml(more)}[kafka]\n{toml(kafka)}[elasticsearch]\n{toml(elastic)}")
    return path


def pipeline(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ezadmin_pipeline.main", *arguments], capture_output=True, text=True, timeout=60
    )


@pytest.fixture(scope="module")
def set_up(
    kafka: SecuredKafka, elastic: SecuredElastic, names: Names, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Topics and templates, made by a user who may do just that."""
    config = configured(
        tmp_path_factory.mktemp("setup"),
        names,
        kafka.table("ezadmin-setup"),
        elastic.table("ezadmin-setup"),
        signatures="off",
    )
    for _ in range(2):
        done = pipeline("setup", "--config", str(config))
        assert done.returncode == 0, done.stderr


@pytest.fixture
def fleet(kafka: SecuredKafka, elastic: SecuredElastic, names: Names, set_up: None, tmp_path: Path) -> Iterator[Fleet]:
    """Writes and reads past all locks."""
    fleet = Fleet(kafka.inside, "http://127.0.0.1:1", names, tmp_path)
    fleet.elastic.close()
    fleet.elastic = ElasticClient(ElasticConnection.parse(elastic.table(ADMIN), "tests"))
    yield fleet
    fleet.close()


def send(fleet: Fleet, kafka: dict[str, Any], number: int, folder: Path, lines: int = 50) -> None:
    """Lines of a simulated host, sent as an agent is allowed to."""
    key = simulated_hosts.load_key(folder, number)
    host = simulated_hosts.host_id(number)
    fleet.publish_host(host, key)
    start = datetime.now(UTC)
    moment = format_time(start)
    headers, value = wire.encode(
        key,
        host=host,
        topic=fleet.names.logs,
        stream="logs",
        epoch="00000000000000aa",
        seq=0,
        lines=[simulated_hosts.line(number, i, start) for i in range(lines)],
        dataset=simulated_hosts.DATASET,
        tmin=moment,
        tmax=moment,
        sent=moment,
    )
    producer = KafkaProducer(**KafkaConnection.parse(kafka, "agent").options(), acks="all", enable_idempotence=True)
    try:
        producer.send(fleet.names.logs, key=host.encode(), value=value, headers=headers).get(timeout=20)
    finally:
        producer.close()


def stored(fleet: Fleet, number: int) -> int:
    query = {"term": {"host.id": simulated_hosts.host_id(number)}}
    fleet.elastic.request("POST", f"/{fleet.names.prefix}-*/_refresh")
    body = json.dumps({"query": query}).encode()
    return int(fleet.elastic.request("POST", f"/{fleet.names.prefix}-logs-*/_count", body=body)[1].get("count", 0))


@pytest.mark.parametrize("way", ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "mtls"])
def test_events_arrive_with_least_rights(
    way: str, kafka: SecuredKafka, elastic: SecuredElastic, fleet: Fleet, tmp_path: Path
) -> None:
    number = 10 + len(way)

    def table(user: str) -> dict[str, Any]:
        return kafka.mtls_table(user) if way == "mtls" else kafka.table(user, way)

    send(fleet, table(HOST_USER), number, tmp_path / "keys")
    bad = simulated_hosts.host_id(number).encode()
    fleet.send(fleet.names.logs, bad, b"no batch\n", [])
    letters = len(fleet.dead_letters())
    config = configured(
        tmp_path, fleet.names, table("ezadmin-pipeline"), elastic.table("ezadmin-pipeline"),
        config_public_key=fleet.public_key, member=f"worker-{number}",
    )  # fmt: skip
    worker = Process([sys.executable, "-m", "ezadmin_pipeline.main", "run", "--config", str(config)], tmp_path / "log")
    try:
        worker.start()
        wait_until(lambda: stored(fleet, number) == 50 and fleet.lag() == 0, 60, "the lines are stored and committed")
        assert len(fleet.dead_letters()) == letters + 1
        assert worker.stop() == 0, worker.log.read_text()[-2000:]
    finally:
        worker.kill()
    log = worker.log.read_text()
    assert '"log.level": "critical"' not in log
    for secret in ("-secret", "Basic "):
        assert secret not in log


def test_a_user_without_rights_is_told_which(
    kafka: SecuredKafka, elastic: SecuredElastic, fleet: Fleet, tmp_path: Path
) -> None:
    def run(kafka_table: dict[str, Any], elastic_table: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        config = configured(tmp_path, fleet.names, kafka_table, elastic_table, config_public_key=fleet.public_key)
        done = pipeline("run", "--config", str(config))
        assert done.returncode == 1, done.stderr
        assert "Traceback" not in done.stderr
        assert "docs/security.md" in done.stderr
        assert "-secret" not in done.stderr
        return done

    good_kafka, good_elastic = kafka.table("ezadmin-pipeline"), elastic.table("ezadmin-pipeline")
    wrong = {"password_file": str(password_file(tmp_path, "wrong", "not this"))}

    text = run({**good_kafka, **wrong}, good_elastic).stderr
    assert f"Kafka at {kafka.sasl} over TLS as ezadmin-pipeline (SCRAM-SHA-512) refuses the sign-in" in text
    text = run({**kafka.table("ezadmin-pipeline", "PLAIN"), **wrong}, good_elastic).stderr
    assert "refuses the sign-in" in text
    text = run(kafka.table("stranger"), good_elastic).stderr
    assert "as stranger" in text
    assert fleet.names.config in text

    number = 30
    send(fleet, kafka.table(HOST_USER), number, tmp_path / "keys")
    text = run(good_kafka, {**good_elastic, **wrong}).stderr
    assert f"{elastic.url} as ezadmin-pipeline answered 401" in text
    text = run(good_kafka, elastic.table("stranger")).stderr
    assert "unauthorized for user [stranger]" in text
    assert stored(fleet, number) == 0

    config = configured(tmp_path, fleet.names, good_kafka, good_elastic, config_public_key=fleet.public_key)
    worker = Process([sys.executable, "-m", "ezadmin_pipeline.main", "run", "--config", str(config)], tmp_path / "log")
    try:
        worker.start()
        wait_until(lambda: stored(fleet, number) == 50, 60, "nothing of it is lost, once the rights are there")
    finally:
        worker.kill()


def test_a_missing_group_or_topic_right_is_named(
    kafka: SecuredKafka, elastic: SecuredElastic, fleet: Fleet, tmp_path: Path
) -> None:
    good = elastic.table("ezadmin-pipeline")
    config = configured(
        tmp_path, fleet.names, kafka.table("ezadmin-operator"), good, config_public_key=fleet.public_key
    )
    done = pipeline("run", "--config", str(config))
    assert done.returncode == 1
    assert "give the user Read on the consumer group" in done.stderr
    assert "as ezadmin-operator" in done.stderr


def test_certificates_that_do_not_fit_are_named_and_waited_for(
    kafka: SecuredKafka, elastic: SecuredElastic, fleet: Fleet, tmp_path: Path
) -> None:
    stranger = str(Authority(tmp_path / "stranger", "a stranger").ca_file)
    good_kafka, good_elastic = kafka.table("ezadmin-pipeline"), elastic.table("ezadmin-pipeline")
    cases = [
        ({**good_kafka, "ca_file": stranger}, good_elastic, "is ca_file the right authority"),
        ({**good_kafka, "bootstrap": kafka.inside}, good_elastic, "is this a listener with TLS"),
        ({"bootstrap": kafka.sasl}, good_elastic, "write tls = true"),
        (
            {"bootstrap": kafka.mtls, "tls": True, "ca_file": str(kafka.authority.ca_file)},
            good_elastic,
            "certificate_file and key_file",
        ),
        (good_kafka, {**good_elastic, "ca_file": stranger}, "is [elasticsearch] ca_file the right authority"),
    ]
    for i, (kafka_table, elastic_table, text) in enumerate(cases):
        config = configured(tmp_path, fleet.names, kafka_table, elastic_table, config_public_key=fleet.public_key)
        log = tmp_path / f"log-{i}"
        worker = Process([sys.executable, "-m", "ezadmin_pipeline.main", "run", "--config", str(config)], log)
        try:
            worker.start()
            wait_until(lambda text=text, log=log: text in log.read_text(), 40, text)
            assert worker.running, "it waits: the certificate may be mended"
            assert worker.stop() in (0, -9)
        finally:
            worker.kill()
        assert "Traceback" not in log.read_text()


def test_an_agent_may_only_write(kafka: SecuredKafka, fleet: Fleet) -> None:
    options = KafkaConnection.parse(kafka.table(HOST_USER), "agent").options()
    consumer = KafkaConsumer(fleet.names.logs, **options, group_id=None, auto_offset_reset="earliest")
    try:
        with pytest.raises(TopicAuthorizationFailedError):
            consumer.poll(timeout_ms=10_000)
    finally:
        consumer.close()
    producer = KafkaProducer(**options, acks="all")
    try:
        with pytest.raises(TopicAuthorizationFailedError):
            producer.send(fleet.names.config, b"x").get(timeout=10)
    finally:
        producer.close()


def test_the_cmdb_reads_and_publishes_with_least_rights(
    kafka: SecuredKafka, elastic: SecuredElastic, fleet: Fleet, tmp_path: Path
) -> None:
    connection = KafkaConnection.parse(kafka.table("ezadmin-cmdb"), "cmdb")
    fleet.publish("rules", RulesRecord())
    held = read_topic(connection, fleet.names.config, fleet._signer)
    assert held["rules"].revision > 0
    producer = KafkaProducer(**connection.options(), acks="all")
    for topic in (fleet.names.config, fleet.names.dlq):
        producer.send(topic, key=b"host/none", value=b"").get(timeout=10)
    producer.close()
    consumer = KafkaConsumer(
        fleet.names.state,
        **connection.options(),
        group_id=fleet.names.consumer_group("cmdb-worker"),
        enable_auto_commit=False,
    )
    consumer.poll(timeout_ms=5_000)
    consumer.commit()
    consumer.close()
    probe = KafkaProbe(connection)
    groups = probe.groups([fleet.names.consumer_group(part) for part in ("pipeline", "cmdb-worker")])
    assert set(groups) == {"ezadmin-pipeline", "ezadmin-cmdb-worker"}
    probe.close()

    search = Elastic(ElasticConnection.parse(elastic.table("ezadmin-cmdb"), "cmdb"))
    assert search.health()["status"] in ("green", "yellow")
    assert "hits" in search.search(f"{fleet.names.prefix}-logs-*", {"size": 1})
    assert len(search.searches(f"{fleet.names.prefix}-metrics-*", [{"size": 0}])) == 1
    search.close()
    for user, text in (("stranger", "stranger"), ("ezadmin-cmdb", "401")):
        table = elastic.table(user)
        if text == "401":
            table["password_file"] = str(password_file(tmp_path, "wrong", "not this"))
        refused = Elastic(ElasticConnection.parse(table, "cmdb"))
        with pytest.raises(ElasticUnavailable, match=text):
            refused.search(f"{fleet.names.prefix}-logs-*", {"size": 1})
        refused.close()
    wrong = {**kafka.table("ezadmin-cmdb"), "password_file": str(password_file(tmp_path, "wrong", "not this"))}
    assert "invalid credentials" in KafkaConnection.parse(wrong, "cmdb").trouble()
    assert connection.trouble() == ""


def test_check_with_least_rights(kafka: SecuredKafka, elastic: SecuredElastic, fleet: Fleet, tmp_path: Path) -> None:
    fleet.publish_host(simulated_hosts.host_id(1), simulated_hosts.load_key(tmp_path / "keys", 1))

    def check(kafka_table: dict[str, Any], elastic_table: dict[str, Any]) -> dict[str, Any]:
        config = configured(tmp_path, fleet.names, kafka_table, elastic_table, config_public_key=fleet.public_key)
        done = pipeline("check", "--json", "--config", str(config))
        found = {entry["name"]: entry for entry in json.loads(done.stdout)}
        assert done.returncode == (1 if any(entry["state"] == "failed" for entry in found.values()) else 0)
        assert "-secret" not in done.stdout + done.stderr
        return found

    good_kafka, good_elastic = kafka.table("ezadmin-pipeline"), elastic.table("ezadmin-pipeline")
    found = check(good_kafka, good_elastic)
    # other tests of this module wrote records signed by keys of their own
    assert {entry["name"] for entry in found.values() if entry["state"] == "failed"} <= {"configuration"}
    assert "as ezadmin-pipeline (SCRAM-SHA-512)" in found[f"kafka {kafka.sasl}"]["text"]
    assert "user ezadmin-pipeline (ezadmin_pipeline)" in found[f"elasticsearch {elastic.url}"]["text"]

    found = check(kafka.table(HOST_USER), elastic.table("ezadmin-cmdb"))
    missing = found["rights in kafka"]["text"]
    assert "Read on topic ezadmin.logs" in missing
    assert "Read on group ezadmin-pipeline" in missing
    assert "indices:data/write/bulk" in found["write and read"]["text"]
    assert found["make and drop"]["state"] == "failed"

    wrong = {"password_file": str(password_file(tmp_path, "wrong", "not this"))}
    found = check({**good_kafka, **wrong}, {**good_elastic, **wrong})
    assert "mend user, password" in found[f"kafka {kafka.sasl}"]["text"]
    assert "answered 401" in found[f"elasticsearch {elastic.url}"]["text"]


def test_a_user_for_each_host(kafka: SecuredKafka, names: Names, set_up: None, database: str, tmp_path: Path) -> None:
    """Made by the worker from what enrolment left in the database; gone with the host's rights."""
    host = str(uuid.uuid4())
    cmdb = KafkaConnection.parse(kafka.table("ezadmin-cmdb"), "cmdb")

    def signed_in(password: str) -> KafkaConnection:
        file = tmp_path / f"{password[:8]}.password"
        file.touch(0o600)
        file.write_text(password)
        return KafkaConnection.parse({**kafka.table(HOST_USER), "user": host, "password_file": str(file)}, "agent")

    with application(database, tmp_path) as app:
        settings = replace(app.extensions["ezadmin_settings"], kafka=cmdb)
        keeper = KafkaUserKeeper(app, settings, threading.Event())
        with app.app_context():
            with unit_of_work():
                db.session.add(Host(id=host, name="web01", state="active"))
                first = kafka_users.make(host)
            assert "invalid credentials" in signed_in(first).trouble(), "Kafka does not know it yet"
            assert keeper.round()
            assert not keeper.round(), "nothing is left to do"
            assert signed_in(first).trouble() == ""

            producer = KafkaProducer(**signed_in(first).options(), max_block_ms=10_000)
            producer.send(names.metrics, b"x", key=host.encode()).get(timeout=20)
            with pytest.raises(TopicAuthorizationFailedError):
                producer.send(names.config, b"x", key=b"rules").get(timeout=20)
            producer.close()

            with unit_of_work():
                second = kafka_users.make(host)
            assert keeper.round()
            assert signed_in(second).trouble() == ""
            assert "invalid credentials" in signed_in(first).trouble(), (
                "enrolled again: the old password is worth nothing"
            )

            with unit_of_work():
                db.session.get_one(Host, host).state = "quarantined"
            assert keeper.round()
            assert not keeper.round()
            assert "invalid credentials" in signed_in(second).trouble(), "nobody has accepted it"
            with unit_of_work():
                second = kafka_users.make(host)
            assert not keeper.round(), "enrolled into quarantine: it gets no user"
            with unit_of_work():
                db.session.get_one(Host, host).state = "active"
            assert keeper.round()
            assert signed_in(second).trouble() == ""

            with unit_of_work():
                db.session.get_one(Host, host).state = "revoked"
            assert keeper.round()
            assert not keeper.round()
            assert "invalid credentials" in signed_in(second).trouble()

            with unit_of_work():
                db.session.delete(db.session.get_one(Host, host))
                kafka_users.make(host)  # came in between
            assert keeper.round(), "who was never told of cannot be forgotten, and holds nothing up"
            assert not keeper.round()

            with unit_of_work():
                db.session.add(Host(id=host, name="web01", state="active"))
                kafka_users.make(host)
            weaker = KafkaConnection.parse(kafka.table("ezadmin-pipeline"), "pipeline")
            weak = KafkaUserKeeper(app, replace(settings, kafka=weaker), threading.Event())
            with pytest.raises(Refused, match=host):
                weak.round()
            weak._disconnect()
        keeper._disconnect()


def test_setup_says_what_it_may_not(kafka: SecuredKafka, names: Names, tmp_path: Path) -> None:
    administrator = tmp_path / "administrator.toml"
    administrator.write_text("[kafka]\n" + toml(kafka.table("ezadmin-pipeline")))
    config = tmp_path / "cmdb.toml"
    config.write_text(
        'database = "mysql+pymysql://u:p@127.0.0.1:1/x"\nconfig_signing_key = "none"\n[kafka]\nbootstrap = "127.0.0.1:1"\n'
    )
    command = [sys.executable, "-m", "ezadmin_cmdb.main", "kafka", "setup", "--config", str(config)]
    done = subprocess.run(
        [*command, "--as", str(administrator), "--passwords", str(tmp_path / "new")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "Kafka does not let this user read the rights" in done.stderr
    assert "super.users" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "new").exists(), "no password is made that Kafka does not know"
    administrator.write_text("x = 1\n")
    done = subprocess.run(
        [*command, "--as", str(administrator), "--passwords", str(tmp_path / "new")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "administrator.toml: write a table [kafka]" in done.stderr
