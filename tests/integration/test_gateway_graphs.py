"""Samples of hosts for browsers, through the gateway's WebSocket: real Kafka, a real gateway process."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from ezadmin_testing.gateway import KIM, PATH, GatewayUnderTest, SimulatedHost
from flask.sessions import SecureCookieSessionInterface
from kafka import KafkaProducer
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.settings import load
from ezadmin_wire import batch
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.times import now

CPU = {"dataset": "system.host", "field": "system.cpu.total.norm.pct"}
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


def sample(gateway: GatewayUnderTest, producer: Any, host: SimulatedHost, value: float, key: Any = None) -> None:
    """One tick of a host, as its agent sends it; ``key``: of somebody who is not the host."""
    document = {"@timestamp": now(), "event.dataset": "system.host", CPU["field"]: value}
    headers, body = batch.encode(
        key or host.key, host=host.id, topic=gateway.names.metrics, stream="metrics", epoch="00000000000000aa", seq=0,
        lines=[json.dumps(document).encode()], dataset="*", tmin=now(), tmax=now(), sent=now(),
    )  # fmt: skip
    producer.send(gateway.names.metrics, key=host.id.encode(), value=body, headers=headers).get(timeout=10)


def signed_in(gateway: GatewayUnderTest, admin: bool = True, only: str | None = None) -> tuple[str, str]:
    """(cookie, token of the session) of a new user; ``only``: the host whose figures he may see."""
    gateway.app.config["SECRET_KEY"] = load(gateway.config).secret_key()
    with gateway.work():
        user = accounts.create_user(KIM, f"u{secrets.token_hex(4)}", "correct horse battery", admin=admin)
        if only is not None:
            values = {"name": f"g{secrets.token_hex(4)}", "hosts": [db.session.get_one(Host, only)]}
            group = described.create(KIM, find("host_group"), values)
            role = described.create(KIM, find("role"), {"name": values["name"], "permissions": ["metrics.view"]})
            described.create(KIM, find("grant"), {"user": user, "role": role, "group": group})
        token = accounts.open_session(user, "127.0.0.1", None)
    serializer = SecureCookieSessionInterface().get_signing_serializer(gateway.app)
    assert serializer is not None
    return str(serializer.dumps({"token": token})), token


def browser(gateway: GatewayUnderTest, cookie: str | None, origin: str | None = None) -> ClientConnection:
    headers = {} if cookie is None else {"Cookie": f"ezadmin={cookie}"}
    return connect(
        gateway.base.replace("http", "ws") + PATH + "/graphs", additional_headers=headers,
        origin=origin or gateway.base, open_timeout=30,  # type: ignore[arg-type]
    )  # fmt: skip


def heard(line: ClientConnection) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line.recv(timeout=30))
    return found


def ask(line: ClientConnection, *hosts: str, since: float = 0) -> list[str]:
    """Watch hosts; those that are refused."""
    line.send(json.dumps({"hosts": hosts, "series": [CPU], "since": since}))
    refused: list[str] = heard(line)["refused"]
    return refused


def values_until(line: ClientConnection, last: float) -> list[tuple[str, float]]:
    """(host, value) of the points up to the one of value ``last``."""
    found: list[tuple[str, float]] = []
    while not found or found[-1][1] != last:
        found += [(host, value) for host, _series, _item, _at, value in heard(line).get("points", [])]
    return found


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
