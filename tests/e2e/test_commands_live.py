"""The page of a command with a real gateway: told by its WebSocket, and asking by itself when the gateway is gone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ezadmin_testing.described import KIM, PASSWORD
from ezadmin_testing.gateway import GatewayUnderTest
from flask import Flask
from playwright.sync_api import Browser, expect

from ezadmin_cmdb import settings
from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.app import create_app
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
    with gateway.work():
        accounts.create_user(KIM, "kim", PASSWORD, admin=True)
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def app(gateway: GatewayUnderTest) -> Iterator[Flask]:
    app = create_app(settings.load(gateway.config))
    yield app
    with app.app_context():
        db.engine.dispose()


def test_the_gateway_tells_and_without_it_the_page_asks(gateway: GatewayUnderTest, browser: Browser, url: str) -> None:
    host = gateway.known()
    command = gateway.command(host.id)
    with gateway.app.app_context():
        run = db.session.get_one(Command, command).run

    def say(state: str) -> None:
        with gateway.work():
            states.state_changed(JobState(run, 1, state, now()), host.id)

    context = browser.new_context(locale="en-US", base_url=url)
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.goto("/sign-in")
    page.fill("#name", "kim")
    page.fill("#password", PASSWORD)
    page.click("main button[type=submit]")
    page.wait_for_url(lambda address: "/sign-in" not in address)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/states") else None)
    with page.expect_websocket() as opened:
        page.goto(f"/commands/{run}")
    told = opened.value
    mark = page.locator("#matrix [role=status]")
    with told.expect_event("framereceived"):
        expect(mark).to_contain_text("Queued")
    assert host.poll(10).json()["commands"]
    expect(mark).to_contain_text("Sent")
    page.wait_for_timeout(1_000)  # what was asked for on the way is answered
    asked.clear()
    page.wait_for_timeout(3_500)
    assert asked == [], "nothing is asked for while nothing happens"
    say("accepted")
    expect(mark).to_contain_text("Accepted")
    assert len(asked) == 1
    gateway.gateway.stop()
    say("done")
    expect(mark).to_contain_text("Done")
    context.close()
