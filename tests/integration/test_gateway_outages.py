"""The gateway when what it stands on goes away, when it is ended, and when its certificate is renewed."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from ezadmin_testing.browsers import ask, browser, sample, signed_in, values_until
from ezadmin_testing.certificates import Authority
from ezadmin_testing.cmdb import command, read
from ezadmin_testing.gateway import PATH, Forwarder, GatewayUnderTest, SimulatedHost, eventually, free_port
from ezadmin_testing.processes import Process
from ezadmin_testing.secured import SecuredKafka
from kafka import KafkaProducer
from sqlalchemy.engine import make_url

from ezadmin_pipeline import install
from ezadmin_wire import batch, upload
from ezadmin_wire.enrolment import read_token
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.names import Names
from ezadmin_wire.times import now

Make = Callable[..., GatewayUnderTest]


@pytest.fixture
def make(stack: Any, names: Names, database: str, tmp_path: Path) -> Iterator[Make]:
    """Makes a gateway under test, and stops it at the end."""
    made: list[GatewayUnderTest] = []

    def make(kafka: str | None = None, database_url: str | None = None, **gateway: str) -> GatewayUnderTest:
        where = SimpleNamespace(kafka=kafka or stack.kafka)
        under_test = GatewayUnderTest(where, names, database, tmp_path, **gateway)
        if database_url is not None:  # of the gateway alone
            own = tmp_path / "gateway.toml"
            own.write_text(under_test.config.read_text().replace(database, database_url))
            under_test.gateway = Process(command("gateway", "--config", own), tmp_path / "gateway.log")
        made.append(under_test)
        return under_test

    yield make
    for one in made:
        one.stop()


def body(names: Names, host: SimulatedHost, seq: int = 0) -> bytes:
    made = batch.encode(
        host.key, host=host.id, topic=names.logs, stream="system", epoch="00000000000000aa", seq=seq,
        lines=[b'{"message":"hello","log.level":"info"}'], dataset="system.log", tmin=now(), tmax=now(), sent=now(),
    )  # fmt: skip
    return upload.encode([made])


def measured(gateway: GatewayUnderTest, host: SimulatedHost, *values: float) -> None:
    """What a host measured is in Kafka when this returns."""
    producer = KafkaProducer(bootstrap_servers=gateway.kafka, acks="all")
    for value in values:
        sample(gateway, producer, host, value)
    producer.close()


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]


def test_its_end_answers_the_polls_that_wait(make: Make) -> None:
    gateway = make()
    gateway.start()
    hosts = [gateway.known() for _ in range(3)]
    with ThreadPoolExecutor(6) as threads:
        polls = [threads.submit(host.poll, 50) for host in hosts for _ in range(2)]
        time.sleep(1.5)
        started = time.monotonic()
        assert gateway.gateway.stop(30) == 0
        took = time.monotonic() - started
        assert took < (10 if os.getloadavg()[0] < 8 else 25), (
            "on a machine that does forty things at once it takes longer"
        )
        answers = [poll.result(5).json() for poll in polls]
    assert all(answer["commands"] == [] for answer in answers)
    assert len({answer["retry_after"] for answer in answers}) > 1, "each comes back at a time of its own"
    gateway.start_gateway()
    assert hosts[0].poll().status_code == 200


def test_without_the_database_polls_go_on(make: Make, database: str) -> None:
    url = make_url(database)
    forwarder = Forwarder(str(url.host), int(url.port or 3306))
    gateway = make(database_url=database.replace(f":{url.port}/", f":{forwarder.port}/"))
    gateway.start()
    host, token = gateway.known(), gateway.token()
    forwarder.away(True)
    answer = host.poll(1.5)
    assert (answer.status_code, answer.json()["commands"]) == (200, [])
    refused = gateway.host().enrol(token)
    assert refusal(refused) == (503, "database_away")
    assert int(refused.headers["Retry-After"]) > 0
    assert host.ask("POST", "/batches", body(gateway.names, host)).status_code == 200
    assert httpx.get(f"{gateway.base}{PATH}/health").json()["database"] == "away"
    command_id = gateway.command(host.id)
    forwarder.away(False)
    assert eventually(lambda: host.poll(3).json()["commands"], 20)
    assert gateway.state_of(command_id) == "sent"
    assert gateway.host().enrol(token).status_code == 200
    forwarder.close()


def test_a_topic_that_is_gone_is_told_to_hosts(make: Make) -> None:
    from kafka import KafkaAdminClient

    gateway = make()
    gateway.start()
    host = gateway.known()
    admin = KafkaAdminClient(bootstrap_servers=gateway.kafka)
    admin.delete_topics([gateway.names.logs])
    admin.close()
    eventually(lambda: refusal(host.ask("POST", "/batches", body(gateway.names, host))) == (503, "kafka_away"), 20)
    assert host.poll(1).status_code == 200


def test_without_kafka_it_starts_and_says_so(make: Make) -> None:
    gateway = make(kafka=f"127.0.0.1:{free_port()}")
    gateway.run("db", "upgrade")
    gateway.gateway.start()

    def health() -> httpx.Response | None:
        try:
            return httpx.get(f"{gateway.base}{PATH}/health")
        except httpx.TransportError:
            return None

    answer = eventually(health, 120)
    assert (answer.status_code, answer.json()["status"]) == (503, "starting")
    assert refusal(gateway.host().poll()) == (503, "starting")
    assert gateway.gateway.stop(30) == 0


def test_without_kafka_polls_go_on_and_uploads_and_graphs_wait(make: Make, tmp_path: Path) -> None:
    kafka = SecuredKafka(tmp_path / "kafka", ["nobody"])
    broker = kafka._process
    assert broker is not None
    gateway, lines = make(kafka=kafka.inside), ExitStack()
    try:
        install.make_topics(KafkaConnection(kafka.inside), gateway.names, 1)
        gateway.start()
        host = gateway.known()
        assert host.ask("POST", "/batches", body(gateway.names, host)).status_code == 200
        cookie, _ = signed_in(gateway)
        line = lines.enter_context(browser(gateway, cookie))
        assert ask(line, host.id) == []
        measured(gateway, host, 0.1)
        values_until(line, 0.1)
        broker.send_signal(signal.SIGSTOP)
        refused = host.ask("POST", "/batches", body(gateway.names, host, 1))
        assert refusal(refused) == (503, "kafka_away")
        assert int(refused.headers["Retry-After"]) > 0
        assert host.poll(2).status_code == 200
        command_id = gateway.command(host.id)
        assert [one["command"] for one in host.poll(5).json()["commands"]]
        assert gateway.state_of(command_id) == "sent"
        broker.send_signal(signal.SIGCONT)
        eventually(lambda: host.ask("POST", "/batches", body(gateway.names, host, 1)).status_code == 200, 120)
        found = [dict(one.headers)["seq"] for one in read(kafka.inside, gateway.names.logs)]
        assert set(found) == {b"0", b"1"}, "nothing that was told to be taken is missing"
        measured(gateway, host, 0.2, 0.3)
        seen = [value for _, value in values_until(line, 0.3)]
        assert list(dict.fromkeys(seen)) in ([0.2, 0.3], [0.1, 0.2, 0.3]), "the same connection goes on, without a hole"
    finally:
        lines.close()
        broker.send_signal(signal.SIGCONT)
        gateway.stop()
        kafka.stop()


def served(port: int) -> str:
    """The SHA-256 of the certificate that is met."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain) as line,
    ):
        found = line.getpeercert(binary_form=True)
        assert found is not None
        return hashlib.sha256(found).hexdigest()


def test_tls_by_itself_and_a_renewed_certificate(make: Make, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    files = tmp_path / "gateway.pem", tmp_path / "gateway.key"

    def issue(name: str) -> None:
        for source, target in zip(authority.issue(name, ("127.0.0.1",)), files, strict=True):
            shutil.copy(source, target)

    issue("first")
    gateway = make(cert_file=f'"{files[0]}"', key_file=f'"{files[1]}"', ca_file=f'"{authority.ca_file}"')
    gateway.start()
    token = gateway.token()
    der = ssl.PEM_cert_to_DER_cert(authority.ca_file.read_text())
    assert read_token(token).ca == hashlib.sha256(der).hexdigest()
    host = gateway.host(verify=ssl.create_default_context(cafile=str(authority.ca_file)))
    assert host.enrol(token).status_code == 200
    fetched = httpx.get(f"{gateway.base}{PATH}/ca.pem", verify=host.verify).text
    assert fetched == authority.ca_file.read_text()
    with pytest.raises(httpx.ConnectError):
        gateway.host().poll()
    first = served(gateway.port)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(host.poll, 6)
        time.sleep(0.5)
        issue("second")
        gateway.gateway.signal(signal.SIGHUP)
        eventually(lambda: served(gateway.port) != first)
        assert waiting.result(15).status_code == 200, "what was connected goes on"
    second = served(gateway.port)
    issue("third")  # nobody says so: it looks itself
    eventually(lambda: served(gateway.port) != second, 25)
    files[0].write_text("no certificate")
    third = served(gateway.port)
    gateway.gateway.signal(signal.SIGHUP)
    time.sleep(0.5)
    assert served(gateway.port) == third, "a broken one is not taken"
