"""The gateway as a real process, on real Kafka and MariaDB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ezadmin_testing.gateway import GatewayUnderTest, eventually

from ezadmin_wire.names import Names


@pytest.fixture(scope="module")
def gateway(
    stack: Any, module_names: Names, database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayUnderTest]:
    gateway = GatewayUnderTest(stack, module_names, database, tmp_path_factory.mktemp("gateway"))
    gateway.start()
    yield gateway
    gateway.stop()


def test_a_host_becomes_known_and_polls(gateway: GatewayUnderTest) -> None:
    host = gateway.known()
    answer = host.poll()
    assert answer.status_code == 200
    assert answer.json()["commands"] == [] and answer.json()["state"] == "active"
    me = host.ask("GET", "/me").json()
    assert (me["host"], me["name"], me["state"], me["kid"]) == (host.id, "web1", "active", host.key.kid)
    eventually(lambda: True)
