"""The page of logs in a browser, on events of the real Elasticsearch: found, narrowed, looked around, followed, taken away."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from ezadmin_testing import log_events
from ezadmin_testing.described import KIM, PASSWORD, application, empty
from ezadmin_testing.log_events import LogEvents
from ezadmin_testing.processes import wait_until
from flask import Flask
from playwright.sync_api import Browser, Page, expect

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.database import unit_of_work
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey

LANGUAGES = {"en": "en-US", "ko": "ko-KR"}
NOW = datetime.now(UTC).replace(microsecond=0)
EVENTS = LogEvents(3_000, NOW - timedelta(hours=5), timedelta(hours=5) - timedelta(seconds=30))
ALL = "from=now-6h"


@pytest.fixture(scope="module")
def app(stack: Any, module_names: Names, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    EVENTS.load(stack.elasticsearch, module_names)
    more = {"kafka": stack.kafka, "elasticsearch": stack.elasticsearch, "names": module_names}
    with application(database, tmp_path_factory.mktemp("web"), **more) as app:
        empty(app)
        with app.app_context(), unit_of_work():
            accounts.create_user(KIM, "kim", PASSWORD, admin=True)
            for number in range(2):
                public = SigningKey.generate().public.hex()
                hosts.add(KIM, log_events.host_id(number), f"log-{number:03d}", public, {})
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


def found(page: Page, query: str, more: str = ALL) -> None:
    """Open the page with a query, and wait until all is there."""
    page.goto(f"/logs/?{more}&q={quote(query)}")
    page.wait_for_selector("#log-results .log-facts, #log-results .empty")
    page.wait_for_selector("#log-bars svg")


def matching(test: Callable[[int], bool]) -> int:
    return sum(test(i) for i in range(EVENTS.number))


@pytest.mark.parametrize(("language", "scheme", "width"), [("ko", "dark", 1280), ("en", "light", 360)])
def test_pages_are_accessible_and_fit(open_page: Callable[..., Page], language: str, scheme: str, width: int) -> None:
    page = open_page(language, scheme, width)
    for name, query in [("logs", "log.level: (error or critical)"), ("wrong", "log.level: (error or"), ("none", "q")]:
        page.goto(f"/logs/?{ALL}&q={quote(query)}")
        if name != "wrong":
            page.wait_for_selector("#log-results .log-facts, #log-results .empty")
            page.wait_for_selector("#log-bars svg")
        fits(page, f"{name}-{language}-{scheme}-{width}")
    found(page, "서버가")
    page.locator("[data-event]").first.click()
    page.wait_for_selector("#log-results .log-event")
    fits(page, f"event-{language}-{scheme}-{width}")
    page.click(".log-event a[href*='/logs/context']")
    fits(page, f"context-{language}-{scheme}-{width}")
    page.goto(page.url.replace("/context", "/ignore"))
    fits(page, f"ignore-{language}-{scheme}-{width}")


def fits(page: Page, name: str) -> None:
    folder = os.environ.get("EZADMIN_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
    results = Axe().run(page)
    assert results.violations_count == 0, f"{name}: {results.generate_report()}"
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{name} is {wide} px too wide"


def shown_total(page: Page) -> int:
    return int(re.sub(r"\D", "", page.locator(".log-facts strong").inner_text()))


def test_found_counted_and_narrowed(open_page: Callable[..., Page]) -> None:
    page = open_page()
    found(page, "")
    assert shown_total(page) == EVENTS.number
    expect(page.locator("#log-hist-text")).to_contain_text("3,000 events")
    expect(page.locator(".log-row")).to_have_count(100)
    page.click("[data-more]")
    expect(page.locator(".log-row")).to_have_count(200)
    found(page, "log.level: error and not process.name: login")
    errors = matching(lambda i: EVENTS.level(i) == "error" and EVENTS.document(i)["process.name"] != "login")
    assert shown_total(page) == errors > 0
    assert page.locator(".log-chip").count() == 2
    page.locator(".log-chip-not a").first.click()  # the opposite
    page.wait_for_selector(".log-facts")
    assert shown_total(page) == matching(lambda i: EVENTS.level(i) == "error") - errors
    field = page.locator(".log-field[data-field='process.name']")
    field.locator("summary").click()
    expect(field.locator(".log-values")).to_contain_text("login")


def test_korean_is_found_by_word_and_by_part(open_page: Callable[..., Page]) -> None:
    page = open_page("ko")
    for query, words in [("서버가", ["서버가"]), ("연결", ["연결하지"]), ('"로그인했습니다"', ["로그인했습니다"])]:
        found(page, query)
        assert shown_total(page) == matching(lambda i, words=words: all(one in EVENTS.message(i) for one in words)) > 0


def test_a_wrong_query_shows_where_and_changes_nothing(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.goto(f"/logs/?{ALL}")
    page.fill("#q", "log.level: (error or")
    page.press("#q", "Enter")
    page.wait_for_selector(".log-wrong")
    text, mark = page.locator(".log-wrong pre").inner_text().split("\n")
    assert text == "log.level: (error or"
    assert set(mark.strip()) == {"^"}
    assert page.input_value("#q") == "log.level: (error or"
    assert page.locator("#log-results").count() == 0


def test_completion_offers_fields_and_values(open_page: Callable[..., Page]) -> None:
    page = open_page()
    found(page, "")
    page.locator("#q").press_sequentially("process.na")
    page.locator("#q-list [role=option]", has_text="process.name").first.click()
    page.locator("#q").press_sequentially("log")
    page.locator("#q-list [role=option]", has_text="login").first.click()
    page.press("#q", "Enter")
    page.wait_for_selector(".log-facts strong")
    assert shown_total(page) == matching(lambda i: EVENTS.document(i)["process.name"] == "login")


def test_dragging_over_the_histogram_zooms(open_page: Callable[..., Page]) -> None:
    page = open_page()
    found(page, "")
    box = page.locator("#log-bars").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 40, steps=4)
    with page.expect_navigation():
        page.mouse.up()
    page.wait_for_selector(".log-facts strong")
    assert 0 < shown_total(page) < EVENTS.number / 2
    assert "from=20" in page.url


def test_lines_around_are_of_the_same_file_and_widen(open_page: Callable[..., Page]) -> None:
    page = open_page()
    found(page, "process.name: login and log.file.path: *")
    page.locator("[data-event]").nth(3).click()
    path = page.locator(".log-pairs div", has_text="log.file.path").locator("dd .log-value").inner_text()
    page.click(".log-event a[href*='/logs/context']")
    expect(page.locator(".sub")).to_contain_text(path)
    lines = page.locator(".log-line").count()
    assert page.locator(".log-anchor").count() == 1
    page.click("text=The whole host")
    expect(page.locator(".log-anchor")).to_have_count(1)
    assert page.locator(".log-line").count() >= lines


def test_new_lines_come_by_themselves(open_page: Callable[..., Page], stack: Any, module_names: Names) -> None:
    page = open_page()
    found(page, "live-word")
    page.click("#log-live")
    expect(page.locator("#log-status-text")).to_contain_text("Live")
    expect(page.locator(".log-row")).to_have_count(0)
    log_events.write(stack.elasticsearch, module_names, [{"message": f"live-word {i}"} for i in range(3)])
    expect(page.locator(".log-row")).to_have_count(3)
    expect(page.locator("#log-status-text")).to_contain_text(re.compile(r"([1-9]|0\.[1-9])\S* lines per second"))
    page.click("#log-pause")
    log_events.write(stack.elasticsearch, module_names, [{"message": "live-word later"}])
    expect(page.locator("#log-status-text")).to_contain_text("Paused")
    page.wait_for_timeout(1500)
    expect(page.locator(".log-row")).to_have_count(3)
    page.click("#log-pause")
    expect(page.locator(".log-row")).to_have_count(4)


def test_a_hostile_line_is_text_and_its_export_is_no_formula(
    open_page: Callable[..., Page], stack: Any, module_names: Names
) -> None:
    page = open_page()
    page.on("dialog", lambda dialog: pytest.fail("a script of a log line ran"))
    huge = '=HYPERLINK("http://x") <script>alert(1)</script> \x1b]0;title\x07' + "x" * 1_000_000
    log_events.write(stack.elasticsearch, module_names, [{"message": huge, "process.name": "=cmd()"}])
    found(page, 'process.name: "=cmd()"')
    expect(page.locator(".log-row")).to_have_count(1)
    assert "<script>" in page.locator(".log-text").first.inner_text()
    page.locator("[data-event]").first.click()
    page.wait_for_selector(".log-pairs")
    assert len(page.content()) < 200_000
    page.locator("button:has-text('Export')").click()
    with page.expect_download() as download:
        page.evaluate("delete window.showSaveFilePicker")
        page.locator("a[data-export='logs.csv']").click()
    csv.field_size_limit(2_000_000)
    rows = list(csv.reader(io.StringIO(Path(str(download.value.path())).read_text("utf-8-sig"))))
    assert len(rows) == 2
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in rows[1])


def test_saved_shared_and_ignored(open_page: Callable[..., Page], app: Flask) -> None:
    page = open_page()
    found(page, "log.level: critical")
    page.click("button:has-text('Saved')")
    page.fill("#save-name", "Critical ones")
    page.click(".view-form button[type=submit]")
    page.goto("/logs/")
    page.click("button:has-text('Saved')")
    page.click("a:has-text('Critical ones')")
    page.wait_for_selector(".log-facts strong")
    assert shown_total(page) == matching(lambda i: EVENTS.level(i) == "critical")
    page.click("button:has-text('Share link')")
    frozen = page.input_value("#share-frozen")
    assert re.search(r"from=20\d\d-.*&to=20\d\d-", frozen), frozen
    page.keyboard.press("Escape")
    page.locator("[data-event]").first.click()
    page.click("text=Ignore such events")
    expect(page.locator("main")).to_contain_text("it would have ignored")
    page.fill("[name=comment]", "known, being mended")
    page.click("main form button[type=submit]")
    expect(page.locator("main")).to_contain_text("Such events are ignored until")
    page.click("main button:has-text('Undo')")
    expect(page.locator("main, .flashes, body").first).to_contain_text("such events are kept again")


def test_a_search_raises_alerts_after_a_try_on_the_last_week(open_page: Callable[..., Page]) -> None:
    page = open_page("ko")
    found(page, "log.level: critical")
    page.click("text=이 검색으로 알림")
    expect(page.locator("#q")).to_have_value("log.level: critical")
    expect(page.locator("#backtest")).to_contain_text("지난 7일")
    page.fill("#threshold", "1")
    page.fill("#minutes", "60")
    page.click("text=지난 한 주로 시험")
    expect(page.locator("#backtest tbody tr")).to_have_count(1)
    expect(page.locator("#backtest tbody")).to_contain_text("log-001")
    fits(page, "alert-new-ko-light-1280")
    page.fill("#name", "위험한 것")
    page.click("main form button.btn-primary")
    expect(page.locator("tbody tr")).to_contain_text("위험한 것")
    fits(page, "alerts-ko-light-1280")
    page.click("tbody button")
    expect(page.locator("main")).to_contain_text("알림을 내는 검색이 아직 없습니다")


def test_cancel_ends_the_search(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.route("**/logs/results*", lambda route: None)  # one that never ends
    page.goto(f"/logs/?{ALL}")
    expect(page.locator("#log-cancel")).to_be_visible()
    with page.expect_request("**/logs/cancel") as asked:
        page.click("#log-cancel")
    expect(page.locator("#log-status-text")).to_contain_text("Cancelled")
    wait_until(lambda: asked.value.response() is not None, 10, "the server answered")
    assert asked.value.response().status == 200  # type: ignore[union-attr]


def test_without_script_the_page_has_the_events(app: Flask, browser: Browser, url: str) -> None:
    context = browser.new_context(java_script_enabled=False, base_url=url, locale="en-US")
    page = context.new_page()
    page.goto("/sign-in")
    page.fill("#name", "kim")
    page.fill("#password", PASSWORD)
    page.click("main button[type=submit]")
    page.goto(f"/logs/?{ALL}")
    assert "plain=1" in page.content()  # a link which this browser does not show
    page.goto(f"/logs/?{ALL}&plain=1")
    expect(page.locator(".log-row")).to_have_count(100)
    page.click("text=Show more")
    expect(page.locator(".log-row")).to_have_count(100)
    context.close()
