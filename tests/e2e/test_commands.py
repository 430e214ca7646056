"""Commands in a browser: chosen in the list of agents, confirmed, watched to their end; in both languages, on a phone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from ezadmin_testing.commands import signer
from ezadmin_testing.described import KIM, PASSWORD, application, empty, host_id, make
from flask import Flask
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.commands import services
from ezadmin_cmdb.commands.models import Command
from ezadmin_cmdb.configs.description import CONFIG
from ezadmin_cmdb.database import db, unit_of_work, utc_now
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.enrolment.models import HostLine
from ezadmin_cmdb.hosts.models import Host
from ezadmin_wire.jobs import JobState
from ezadmin_wire.times import format_time

LANGUAGES = {"en": "en-US", "ko": "ko-KR"}
TEXTS = {
    "en": {
        "inventory": "Collect inventory now", "stop": "Stop", "done": "Done 2", "failed": "Unsuccessful 1",
        "happens": "The agent looks at its host and reports at once.",
    },
    "ko": {
        "inventory": "지금 인벤토리 수집", "stop": "정지", "done": "완료 2", "failed": "실패 1",
        "happens": "에이전트가 호스트를 살펴보고 바로 보고합니다.",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def app(stack: Any, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """Three agents, one of which has the configuration that it is to have."""
    folder = tmp_path_factory.mktemp("web")
    with (
        signer(folder) as commands,
        application(database, folder, kafka=stack.kafka, elasticsearch=stack.elasticsearch, commands=commands) as app,
    ):
        empty(app)
        with app.app_context(), unit_of_work():
            accounts.create_user(KIM, "kim", PASSWORD, admin=True)
            for n in (1, 2, 3):
                host = make("host", n)
                host.state, host.agent_collected, host.agent_version, host.agent_transport = (
                    "active",
                    utc_now(),
                    "1.0",
                    "https",
                )
                host.agent_spool_lines, host.agent_cpu_pct, host.agent_rss_bytes = 12 * n, 0.004 * n, n << 25
            described.create(
                KIM,
                CONFIG,
                {
                    "name": "Everywhere",
                    "priority": 0,
                    "active": True,
                    "content": '[[logs]]\nsource = "system"\nmin_level = "info"',
                },
            )
        with app.app_context(), unit_of_work():
            wanted = db.session.get_one(Host, host_id(1)).agent_config_wanted
            db.session.add(HostLine(host_id=host_id(1), config=wanted, seen=utc_now()))
        yield app


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


def looked_at(page: Page, name: str) -> None:
    """No finding of axe-core, nothing wider than the window; a picture if they are kept."""
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than the window"
    folder = os.environ.get("EZADMIN_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def agents_say(app: Flask, run: str, states: dict[int, tuple[str, ...]]) -> None:
    """Each agent fetches its command and says what becomes of it."""
    with app.app_context():
        for n, words in states.items():
            with unit_of_work():
                services.mark_sent([one.command_id for one in services.waiting([host_id(n)])])
            for word in words:
                reason = "no disk" if word == "failed" else None
                with unit_of_work():
                    attempt = db.session.scalar(
                        select(Command.attempt)
                        .where(Command.run == run, Command.host_id == host_id(n))
                        .order_by(Command.attempt.desc())
                    )
                    services.state_changed(
                        JobState(run, attempt or 1, word, format_time(utc_now()), reason), host_id(n)
                    )


@pytest.mark.parametrize(
    ("language", "scheme", "width"), [("en", "light", 1280), ("ko", "dark", 1280), ("ko", "light", 360)]
)
def test_a_command_is_sent_and_read_to_its_end(
    app: Flask, open_page: Callable[..., Page], language: str, scheme: str, width: int
) -> None:
    texts, kept = TEXTS[language], f"{language}-{scheme}-{width}"
    page = open_page(language, scheme, width)
    page.goto("/agents/?q=")
    looked_at(page, f"agents-{kept}")
    page.locator("input[name=id]").nth(0).focus()
    page.keyboard.press("Space")  # the keyboard alone is enough
    page.locator("#send-all").focus()
    page.keyboard.press("Space")
    page.get_by_role("button", name=texts["inventory"]).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text(texts["happens"])).to_be_visible()
    for n in (1, 2, 3):
        expect(page.get_by_role("link", name=f"Host {n}", exact=True)).to_be_visible()
    looked_at(page, f"confirm-{kept}")
    page.locator("main form .actions button[type=submit]").click()
    page.wait_for_url("**/commands/*-*")
    expect(page.locator("#matrix tbody tr")).to_have_count(3)
    run = page.url.rsplit("/", 1)[1]
    agents_say(app, run, {1: ("accepted", "done"), 2: ("accepted", "done"), 3: ("accepted", "failed")})
    expect(page.locator("#matrix [role=status]")).to_contain_text(texts["done"])  # it renews itself
    expect(page.locator("#matrix [role=status]")).to_contain_text(texts["failed"])
    expect(page.locator("#matrix")).to_contain_text("no disk")
    looked_at(page, f"command-{kept}")
    page.locator("#matrix form button").click()  # again, where it failed
    agents_say(app, run, {3: ("done",)})
    expect(page.locator("#matrix [role=status]")).not_to_contain_text(texts["failed"])
    page.goto("/commands/?q=")
    expect(page.locator("table tbody tr").first).to_contain_text(texts["inventory"])
    looked_at(page, f"commands-{kept}")
    page.goto("/commands/?q=nobody-of-this-name")
    looked_at(page, f"no-commands-{kept}")


@pytest.mark.parametrize("language", ["en", "ko"])
def test_from_the_page_of_a_host(app: Flask, open_page: Callable[..., Page], language: str) -> None:
    texts = TEXTS[language]
    page = open_page(language)
    page.goto(f"/hosts/{host_id(2)}")
    looked_at(page, f"host-commands-{language}")
    page.locator("section[aria-labelledby=commands]").get_by_role("button", name=texts["stop"], exact=True).click()
    expect(page.locator("main form button.btn-danger")).to_be_visible()
    page.fill("#reason", "a break-in")
    looked_at(page, f"confirm-stop-{language}")
    page.locator("main form button.btn-danger").click()
    page.wait_for_url("**/commands/*-*")
    expect(page.locator("main .sub")).to_contain_text("reason=a break-in")
    page.locator("#matrix form button.btn-outline-danger").click()  # cancelled: nobody has fetched it
    expect(page.locator("#matrix .mark").first).to_contain_text({"en": "Cancelled", "ko": "취소됨"}[language])
    page.goto(f"/commands/of-host/{host_id(2)}")
    expect(page.locator("tbody tr").first).to_contain_text(texts["stop"])
    looked_at(page, f"commands-of-host-{language}")
    page.goto(f"/commands/of-host/{host_id(2)}/configuration")
    expect(page.locator("main")).to_contain_text("Everywhere")
    expect(page.locator("pre.diff")).to_contain_text('+min_level = "info"')
    looked_at(page, f"configuration-{language}")
    page.goto("/agent-configs/?q=")
    looked_at(page, f"agent-configs-{language}")
    page.locator("form.alert button").click()
    expect(page.locator("pre.diff")).to_contain_text("[[logs]]")
    expect(page.locator("ul.names li")).to_have_count(2)
    looked_at(page, f"confirm-configure-{language}")


def test_without_the_signer_it_says_so(app: Flask, open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.goto(f"/commands/confirm?kind=inventory&id={host_id(1)}")
    socket = app.extensions["ezadmin_settings"].commands.signer_socket
    away = socket.rename(socket.with_suffix(".away"))
    try:
        page.locator("main form .actions button[type=submit]").click()
        expect(page.get_by_role("alert")).to_contain_text("The signer does not answer, so nothing was sent.")
    finally:
        away.rename(socket)
    looked_at(page, "no-signer")
