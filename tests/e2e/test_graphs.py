"""Graphs in a browser: how it was from Elasticsearch, how it goes on through a real gateway, and what it says of both."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from ezadmin_testing.described import KIM, PASSWORD
from ezadmin_testing.gateway import GatewayUnderTest, SimulatedHost
from ezadmin_testing.metric_samples import Samples, document, store
from flask import Flask
from playwright.sync_api import Browser, Page, expect

from ezadmin_cmdb import settings
from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.app import create_app
from ezadmin_cmdb.database import db
from ezadmin_cmdb.hosts.models import Host
from ezadmin_wire.elastic import ElasticConnection
from ezadmin_wire.names import Names

CPU = "system.cpu.total.norm.pct"
LANGUAGES = {"en": "en-US", "ko": "ko-KR"}


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
def app(gateway: GatewayUnderTest, stack: Any) -> Iterator[Flask]:
    elasticsearch = ElasticConnection((stack.elasticsearch,))
    app = create_app(replace(settings.load(gateway.config), elasticsearch=elasticsearch))
    yield app
    for name in ("ezadmin_elastic", "ezadmin_kafka"):
        app.extensions[name].close()
    with app.app_context():
        db.engine.dispose()


@pytest.fixture(scope="module")
def samples(stack: Any, module_names: Names) -> Iterator[Samples]:
    samples = Samples(stack.kafka, module_names)
    yield samples
    samples.close()


@pytest.fixture(scope="module")
def hosts(gateway: GatewayUnderTest, stack: Any, module_names: Names) -> list[SimulatedHost]:
    """Two hosts with ten minutes behind them; the first was silent for three of them."""
    found = [gateway.known() for _ in range(2)]
    now = datetime.now(UTC).replace(microsecond=0)
    for number, host in enumerate(found):
        with gateway.app.app_context():
            name = db.session.get_one(Host, host.id).name
        times = [now - timedelta(seconds=10 * i) for i in range(60, 0, -1) if number or not 20 <= i < 38]
        store(stack.elasticsearch, module_names, host.id, name, [
            document(one, **{CPU: 0.2 + 0.1 * number}) for one in times
        ])  # fmt: skip
    return found


@pytest.fixture
def open_page(browser: Browser, url: str) -> Iterator[Callable[..., Page]]:
    """Opens a page, signed in; any script error or refused resource fails the test."""
    wrong: list[str] = []
    contexts = []

    def open_one(language: str = "en", scheme: Any = "light", width: int = 1280) -> Page:
        context = browser.new_context(
            locale=LANGUAGES[language], color_scheme=scheme, viewport={"width": width, "height": 900}, base_url=url
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
        page.on(
            "console",
            lambda said: wrong.append(said.text) if said.type == "error" and "WebSocket" not in said.text else None,
        )
        page.goto("/sign-in")
        page.fill("#name", "kim")
        page.fill("#password", PASSWORD)
        page.click("main button[type=submit]")
        page.wait_for_url(lambda address: "/sign-in" not in address)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert wrong == []


def address(hosts: list[SimulatedHost], more: str = "") -> str:
    return "/graphs/?" + "&".join(f"host={host.id}" for host in hosts) + more


def test_how_it_was_and_goes_on_without_holes(
    open_page: Callable[..., Page], gateway: GatewayUnderTest, hosts: list[SimulatedHost], samples: Samples
) -> None:
    page = open_page()
    page.goto(address(hosts))
    row = page.locator("#graph-lines tr").first
    expect(page.locator("#graph-lines tr")).to_have_count(2)
    expect(row).to_contain_text("20%")
    expect(page.locator("#graph-state")).to_have_text("Live")

    def send(value: float) -> None:
        samples.send(hosts[0].id, hosts[0].key, [document(datetime.now(UTC), **{CPU: value})])

    send(0.77)
    expect(row).to_contain_text("77%")
    known = int(row.locator("[data-points]").get_attribute("data-points") or 0)
    gateway.gateway.kill()
    expect(page.locator("#graph-state")).to_have_text("Connecting again…")
    send(0.88)  # nobody is there
    gateway.start_gateway()
    expect(page.locator("#graph-state")).to_have_text("Live", timeout=60_000)
    send(0.99)
    expect(row).to_contain_text("99%")
    assert int(row.locator("[data-points]").get_attribute("data-points") or 0) == known + 2
    assert page.locator("canvas").count() == 1
    row.locator("input").uncheck()
    expect(row.locator("input")).not_to_be_checked()


def test_a_gap_stays_a_gap(open_page: Callable[..., Page], hosts: list[SimulatedHost]) -> None:
    page = open_page()
    with page.expect_response("**/graphs/history*") as answer:
        page.goto(address(hosts))
    lines = answer.value.json()["lines"]
    assert [len(line["points"]) for line in lines] == [42, 60]
    assert lines[0]["points"][0][1:] == pytest.approx([0.2, 0.2, 0.2])
    expect(page.locator("#graph-lines tr")).to_have_count(2)
    drawn = page.evaluate("window.uPlot !== undefined && document.querySelectorAll('canvas').length")
    assert drawn == 1


def test_zoomed_and_one_graph_for_each_host(open_page: Callable[..., Page], hosts: list[SimulatedHost]) -> None:
    page = open_page()
    page.goto(address(hosts, "&view=each"))
    expect(page.locator("canvas")).to_have_count(2)
    over = page.locator(".u-over").first
    box = over.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + 50, steps=5)
    with page.expect_navigation():
        page.mouse.up()
    assert re.search(r"from=\d{13}&to=\d{13}", page.url)
    expect(page.locator("#graph-state")).to_contain_text("Not live")
    expect(page.locator("canvas")).to_have_count(2)
    page.click("text=Back to now")
    expect(page.locator("#graph-state")).to_have_text("Live")


def test_what_cannot_be_drawn_is_said(open_page: Callable[..., Page], hosts: list[SimulatedHost]) -> None:
    page = open_page()
    for more, text in [
        ("&field=nothing", "There is no figure nothing to draw."), ("&range=9y", "The time is one of"),
        ("&host=nobody", "There is no host nobody that you may see figures of."), ("&from=1&to=x", "milliseconds"),
    ]:  # fmt: skip
        page.goto(address(hosts, more))
        expect(page.locator("main")).to_contain_text(text)


@pytest.mark.parametrize(
    ("language", "scheme", "width"), [("en", "light", 1280), ("ko", "dark", 1280), ("ko", "light", 360)]
)
def test_pages_are_accessible_and_fit(
    open_page: Callable[..., Page], hosts: list[SimulatedHost], language: str, scheme: str, width: int
) -> None:
    page = open_page(language, scheme, width)
    for name, more in [("graphs", ""), ("each", "&view=each")]:
        page.goto(address(hosts, more))
        expect(page.locator("#graph-lines tr")).to_have_count(2)
        expect(page.locator("canvas")).to_have_count(2 if more else 1)
        folder = os.environ.get("EZADMIN_SCREENSHOTS")
        if folder:
            page.screenshot(path=Path(folder) / f"{name}-{language}-{scheme}-{width}.png", full_page=True)
        results = Axe().run(page)
        assert results.violations_count == 0, f"{name}: {results.generate_report()}"
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name} is {wide} px too wide"
