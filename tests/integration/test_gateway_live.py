"""States of commands for browsers, through the gateway's WebSocket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from ezadmin_testing import browsers
from ezadmin_testing.browsers import signed_in
from ezadmin_testing.gateway import GatewayUnderTest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.commands import states
from ezadmin_cmdb.commands.models import Command
from ezadmin_cmdb.database import db
from ezadmin_wire.jobs import JobState
from ezadmin_wire.names import Names
from ezadmin_wire.times import now


@pytest.fixture(scope="module")
def gateway(
    stack: Any, module_names: Names, database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayUnderTest]:
    gateway = GatewayUnderTest(stack, module_names, database, tmp_path_factory.mktemp("gateway"))
    gateway.start()
    yield gateway
    gateway.stop()


browser = partial(browsers.browser, endpoint="/ws")


def heard(line: ClientConnection, seconds: float = 20) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line.recv(timeout=seconds))
    return found


def test_a_browser_hears_the_states_of_a_run(gateway: GatewayUnderTest) -> None:
    host = gateway.known()
    command = gateway.command(host.id)
    with gateway.app.app_context():
        run = db.session.get_one(Command, command).run
    cookie, token = signed_in(gateway, admin=True)
    with browser(gateway, cookie) as line:
        line.send("nonsense")
        assert heard(line)["error"] == "bad_value"
        line.send(json.dumps({"subscribe": "run", "id": run}))
        first = heard(line)
        assert first["run"] == run
        assert [(one["id"], one["host"], one["state"]) for one in first["commands"]] == [(command, host.id, "queued")]
        assert host.poll(5).json()["commands"]
        assert heard(line)["commands"][0]["state"] == "sent"
        with gateway.work():
            states.state_changed(JobState(run, 1, "accepted", now()), host.id)
        assert heard(line)["commands"][0]["state"] == "accepted"
        with gateway.work():
            accounts.sign_out(token)
            states.state_changed(JobState(run, 1, "done", now()), host.id)
        with pytest.raises(ConnectionClosed):
            line.recv(timeout=20)


def test_who_is_not_signed_in_or_comes_from_elsewhere_is_refused(gateway: GatewayUnderTest) -> None:
    cookie, _ = signed_in(gateway, admin=True)
    without, _ = signed_in(gateway, admin=False)
    wrong = [(None, None), ("forged", None), (cookie[:-2], None), (cookie, "https://evil.example"), (without, None)]
    for bad, origin in wrong:
        with pytest.raises(InvalidStatus, match="403"):
            browser(gateway, bad, origin)
    with browser(gateway, cookie) as line:
        line.send(json.dumps({"subscribe": "run", "id": "00000000-0000-4000-8000-000000000000"}))
        assert heard(line)["commands"] == []
