"""Racks in a browser: drawn in both languages, by keyboard and on a phone; something is put into a free unit by a click."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from ezadmin_testing.described import KIM, PASSWORD, empty, host_id, make
from flask import Flask
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select

from ezadmin_cmdb import migrate
from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.app import create_app
from ezadmin_cmdb.database import db, unit_of_work, utc_now
from ezadmin_cmdb.describe import services
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.jobs.runner import JobRunner
from ezadmin_cmdb.outbox.models import ConfigRecord
from ezadmin_cmdb.settings import ElasticConnection, KafkaConnection, Settings
from ezadmin_wire.config import HostRecord, host_key
from ezadmin_wire.fields import load

LANGUAGES = {"en": "en-US", "ko": "ko-KR"}


@pytest.fixture(scope="module")
def app(stack: Any, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """A room with three racks, the first with hosts in every state and devices; a contract that ends."""
    settings = Settings(
        database=database, kafka=KafkaConnection(stack.kafka), config_signing_key=Path("none"),
        elasticsearch=ElasticConnection((stack.elasticsearch,)),
        secret_key_file=tmp_path_factory.mktemp("web") / "secret",
    )  # fmt: skip
    app = create_app(settings)
    with app.app_context():
        migrate.upgrade(db.engine)
    empty(app)
    with app.app_context(), unit_of_work():
        accounts.create_user(KIM, "kim", PASSWORD, admin=True)
        rack, room = make("rack", 1), make("room", 1)
        for n in (2, 3):
            values = {"name": f"Rack {n}", "room": room, "status": "active", "height": 42, "numbering": "top"}
            services.create(KIM, find("rack"), values)
        states = ["active", "active", "active", "quarantined", "retired"]
        for n, state in enumerate(states, 1):
            host = make("host", n)
            host.agent_collected = [utc_now(), utc_now() - timedelta(hours=1), None, None, None][n - 1]
            place = {
                "rack": rack, "rack_unit": 4 * n, "rack_height": 2, "rack_depth": "full" if n % 2 else "half", "state": state,
            }  # fmt: skip
            services.update(KIM, find("host"), host, place)
        services.update(
            KIM, find("host"), db.session.get(Host, host_id(1)), {"name": "웹서버-운영-서울-01.example.internal"}
        )
        device = make("device", 1)
        services.update(KIM, find("device"), device, {"rack": rack, "rack_unit": 40})
        for n in range(11, 21):
            make("host", n)
        end = utc_now().date() + timedelta(days=20)
        contract = {"name": "Maintenance of storage", "kind": "maintenance", "end": end, "notice": 7}
        services.create(KIM, find("contract"), contract)
    yield app
    for name in ("ezadmin_elastic", "ezadmin_kafka"):
        app.extensions[name].close()
    with app.app_context():
        db.engine.dispose()


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
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
        page.on(
            "console",
            lambda said: wrong.append(said.text) if said.type == "error" and "status of" not in said.text else None,
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


def rack_id(app: Flask) -> int:
    with app.app_context():
        return int(make("rack", 1).id)


@pytest.mark.parametrize(
    ("language", "scheme", "width"), [("en", "light", 1280), ("ko", "dark", 1280), ("ko", "light", 360)]
)
def test_pages_are_accessible_and_fit(
    app: Flask, open_page: Callable[..., Page], language: str, scheme: str, width: int
) -> None:
    page = open_page(language, scheme, width)
    with app.app_context():
        room, site = make("room", 1).id, make("site", 1).id
    rack = rack_id(app)
    for name, path in [
        ("rack", f"/racks/{rack}"), ("room", f"/rooms/{room}"), ("site", f"/sites/{site}"), ("space", "/racks/space?units=4"),
        ("place", f"/racks/{rack}/place?unit=20&face=front"), ("reminders", "/reminders/"), ("racks", "/racks/"),
        ("device", "/devices/new"),
    ]:  # fmt: skip
        page.goto(path)
        results = Axe().run(page)
        assert results.violations_count == 0, f"{name}: {results.generate_report()}"
        wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wider <= 0, f"{name} at {width} px is {wider} px too wide"
        if folder := os.environ.get("EZADMIN_SCREENSHOTS"):
            page.screenshot(path=f"{folder}/{name}-{language}-{scheme}-{width}.png", full_page=True)


@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_click_on_a_free_unit_puts_a_server_there(app: Flask, open_page: Callable[..., Page], language: str) -> None:
    page = open_page(language)
    unit, host = {"en": (30, "Host 11"), "ko": (32, "Host 12")}[language]
    page.goto(f"/racks/{rack_id(app)}")
    page.locator(f'.faces figure >> nth=0 >> a[href*="unit={unit}&"]').click()
    page.fill("#host", host)
    page.locator("form:has(#host) button").click()
    expect(page.locator("#rack_unit")).to_have_value(str(unit))
    page.locator("form.edit button[type=submit]").click()
    page.goto(f"/racks/{rack_id(app)}")
    for face in (0, 1):  # of full depth
        drawn = page.locator(f'.faces figure >> nth={face} >> a[aria-label^="{host} "]')
        expect(drawn).to_have_attribute("aria-label", f"{host} · {({'en': 'New', 'ko': '신규'})[language]} · U{unit}")


def test_by_keyboard(app: Flask, open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.goto(f"/racks/{rack_id(app)}")
    first = page.locator(".faces figure >> nth=0 >> a >> nth=0")
    first.focus()
    labels = [first.get_attribute("aria-label")]
    for _ in range(4):
        page.keyboard.press("ArrowDown")
        labels.append(page.evaluate("document.activeElement.getAttribute('aria-label')"))
    assert len(set(labels)) == 5
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == labels[3]
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('.elevation') !== null")
    page.keyboard.press("Enter")
    page.wait_for_url(lambda address: f"/racks/{rack_id(app)}" not in address or "/place" in address)


@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_rack_is_given_to_ten_servers_at_once(app: Flask, open_page: Callable[..., Page], language: str) -> None:
    stopping = threading.Event()
    runner = JobRunner(app, stopping)
    runner.start()
    try:
        wanted = {"en": "Rack 2", "ko": "Rack 3"}[language]
        page = open_page(language)
        page.goto("/hosts/?" + "&".join(f"name=Host+{n}" for n in range(11, 21)))
        page.check("[data-check-all=id]")
        page.locator("#bulk .actions button >> nth=0").click()
        page.select_option('[name="mode.rack"]', "set")
        page.select_option("#rack", wanted)
        page.locator("form.edit button[type=submit]").click()
        page.locator("button[name=do][value=write]").click()
        expect(page.locator("#job .alert-success")).to_be_visible()
        page.goto(f"/hosts/?rack={wanted.replace(' ', '+')}")
        expect(page.locator("tbody tr")).to_have_count(10)
    finally:
        stopping.set()
        runner.join(10)
    with app.app_context():
        keys = [host_key(host_id(n)) for n in range(11, 21)]
        records = db.session.scalars(select(ConfigRecord.body).where(ConfigRecord.key.in_(keys))).all()
        labels = [load(HostRecord, (body or "").encode()).labels for body in records]
    assert [(one["rack"], one["room"], one["site"]) for one in labels] == [(wanted, "Room 1", "Site 1")] * 10
