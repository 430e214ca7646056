"""Browsers at the gateway's WebSockets, without the browser, and hosts' samples for those that look at graphs."""

from __future__ import annotations

import json
import secrets
from typing import Any

from flask.sessions import SecureCookieSessionInterface
from websockets.sync.client import ClientConnection, connect

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.settings import load
from ezadmin_testing.gateway import KIM, PATH, GatewayUnderTest, SimulatedHost
from ezadmin_wire import batch
from ezadmin_wire.times import now

CPU = {"dataset": "system.host", "field": "system.cpu.total.norm.pct"}


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


def browser(
    gateway: GatewayUnderTest, cookie: str | None, origin: str | None = None, endpoint: str = "/graphs"
) -> ClientConnection:
    """A WebSocket as the page of this user opens it."""
    headers = {} if cookie is None else {"Cookie": f"ezadmin={cookie}"}
    return connect(
        gateway.base.replace("http", "ws") + PATH + endpoint, additional_headers=headers,
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
