"""Samples of hosts for browsers, through the gateway's WebSocket: real Kafka, a real gateway process."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ezadmin_testing.browsers import CPU, ask, browser, heard, sample, signed_in, values_until
from ezadmin_testing.gateway import GatewayUnderTest
from kafka import KafkaProducer
from websockets.exceptions import ConnectionClosed, InvalidStatus

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.gateway.samples import Samples
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def gateway(
    stack: Any, module_names: Names, database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayUnderTest]:
    gateway = GatewayUnderTest(stack, module_names, database, tmp_path_factory.mktemp("gateway"))
    gateway.start()
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def producer(stack: Any) -> Iterator[Any]:
    producer = KafkaProducer(bootstrap_servers=stack.kafka, acks="all")
    yield producer
    producer.close()


def test_all_who_watch_hear_what_hosts_measure_and_nothing_else(gateway: GatewayUnderTest, producer: Any) -> None:
    host, other = gateway.known(), gateway.known()
    cookie, _ = signed_in(gateway)
    with browser(gateway, cookie) as first, browser(gateway, cookie) as second:
        assert ask(first, host.id, UNKNOWN) == [UNKNOWN]
        assert ask(second, host.id) == []
        sample(gateway, producer, other, 0.1)
        sample(gateway, producer, host, 0.2, key=SigningKey.generate())
        sample(gateway, producer, host, 0.3)
        for line in (first, second):
            assert set(values_until(line, 0.3)) == {(host.id, 0.3)}


def test_who_comes_back_finds_what_he_missed_in_its_order(gateway: GatewayUnderTest, producer: Any) -> None:
    host = gateway.known()
    cookie, _ = signed_in(gateway)
    with browser(gateway, cookie) as line:
        ask(line, host.id)
        sample(gateway, producer, host, 0.01)
        values_until(line, 0.01)
    for number in range(2, 6):
        sample(gateway, producer, host, number / 100)
    with browser(gateway, cookie) as line:
        ask(line, host.id)
        found = [value for _, value in values_until(line, 0.05)]
    assert list(dict.fromkeys(found)) == [0.01, 0.02, 0.03, 0.04, 0.05]


def test_a_user_hears_of_the_hosts_of_his_groups_alone(gateway: GatewayUnderTest, producer: Any) -> None:
    mine, other = gateway.known(), gateway.known()
    cookie, _ = signed_in(gateway, admin=False, only=mine.id)
    with browser(gateway, cookie) as line:
        assert ask(line, mine.id, other.id) == [other.id]
        sample(gateway, producer, other, 0.1)
        sample(gateway, producer, mine, 0.2)
        assert set(values_until(line, 0.2)) == {(mine.id, 0.2)}


def test_who_signs_out_hears_no_more(gateway: GatewayUnderTest, producer: Any) -> None:
    host = gateway.known()
    cookie, token = signed_in(gateway)
    with browser(gateway, cookie) as line:
        ask(line, host.id)
        with gateway.work():
            accounts.sign_out(token)
        line.send(json.dumps({"hosts": [host.id], "series": [CPU]}))
        with pytest.raises(ConnectionClosed) as closed:
            line.recv(timeout=30)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401


def test_who_may_see_no_figures_or_asks_nonsense_is_refused(gateway: GatewayUnderTest) -> None:
    cookie, _ = signed_in(gateway)
    without, _ = signed_in(gateway, admin=False)
    for bad, origin in [(None, None), ("forged", None), (cookie, "https://evil.example"), (without, None)]:
        with pytest.raises(InvalidStatus, match="403"):
            browser(gateway, bad, origin)
    wrong: list[Any] = [
        "nonsense", [], {"hosts": [], "series": []}, {"hosts": ["x"], "series": [CPU]},
        {"hosts": [UNKNOWN] * 51, "series": [CPU]}, {"hosts": [], "series": [{**CPU, "field": "x"}]},
        {"hosts": [], "series": [CPU], "since": float("nan")},
    ]  # fmt: skip
    with browser(gateway, cookie) as line:
        for one in wrong:
            line.send(json.dumps(one))
            assert heard(line)["error"] == "bad_value"


def test_what_is_measured_just_as_the_first_browser_comes_is_not_passed_over(
    gateway: GatewayUnderTest, producer: Any, make_names: Any
) -> None:
    names = make_names(1)
    reader = Samples(None, KafkaConnection(gateway.kafka), names.metrics, lambda *_: None)  # type: ignore[arg-type]
    consumer = reader._connect()
    try:
        producer.send(names.metrics, b"written between its connecting and its first reading").get(timeout=10)
        deadline = time.monotonic() + 20
        while not (found := consumer.poll(timeout_ms=300)):
            assert time.monotonic() < deadline, "it is read"
        assert [len(records) for records in found.values()] == [1]
    finally:
        consumer.close(autocommit=False)
