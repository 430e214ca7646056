"""The page of logs in a browser, on events of the real Elasticsearch: found, narrowed, looked around, followed, taken away."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

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
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.logsearch import services, values
from ezadmin_pipeline.elastic import ElasticClient
from ezadmin_wire.elastic import ElasticConnection
from ezadmin_wire.levels import LEVELS
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.times import format_time

LANGUAGES = {"en": "en-US", "ko": "ko-KR"}
NOW = datetime.now(UTC).replace(microsecond=0)
EVENTS = LogEvents(3_000, NOW - timedelta(hours=5), timedelta(hours=5) - timedelta(seconds=30))
ALL = "from=now-6h"
WORDS = {
    "en": {
        "levels": ["Emergency", "Alert", "Critical", "Error", "Warning", "Notice", "Info", "Debug", "Trace", "No level"],
        "groups": ["Critical and above", "Error", "Warning", "Info", "Debug", "No level"],
        "host": "The whole host", "hosts": "All hosts", "rollup": "from roll-up: the pipeline's counts, exact",
        "timed out": "Timed out: some events are missing", "failed": r"1 of [2-9] parts did not answer: events are missing",
        "cancelled": "Cancelled. Elasticsearch was told to stop",
        "exporting": r"Exported so far: [1-9][\d,]* of 3,000 lines", "exported": "Done: 3,000 lines",
    },
    "ko": {
        "levels": ["긴급", "경보", "심각", "오류", "경고", "알림", "정보", "디버그", "추적", "레벨 없음"],
        "groups": ["심각 이상", "오류", "경고", "정보", "디버그", "레벨 없음"],
        "host": "호스트 전체", "hosts": "모든 호스트", "rollup": "집계에서: 파이프라인이 센 정확한 수",
        "timed out": "시간이 초과되어 빠진 이벤트가 있습니다",
        "failed": r"[2-9]개 부분 중 1개가 응답하지 않아 빠진 이벤트가 있습니다",
        "cancelled": "취소했습니다. Elasticsearch에도 중지하도록 알렸습니다",
        "exporting": r"지금까지 내보낸 양: 3,000줄 중 [1-9][\d,]*줄", "exported": "완료: 3,000줄",
    },
}  # fmt: skip
"""What the page says, for tests in both languages."""


@pytest.fixture(scope="module")
def app(stack: Any, module_names: Names, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    EVENTS.load(stack.elasticsearch, module_names)
    more = {"kafka": stack.kafka, "elasticsearch": stack.elasticsearch, "names": module_names}
    with application(database, tmp_path_factory.mktemp("web"), **more) as app:
        empty(app)
        with app.app_context(), unit_of_work():
            accounts.create_user(KIM, "kim", PASSWORD, admin=True)
            lee = accounts.create_user(KIM, "lee", PASSWORD, admin=False)
            role = described.create(KIM, find("role"), {"name": "reader", "permissions": ["events.view"]})
            described.create(KIM, find("grant"), {"user": lee, "role": role, "group": None})
            for number in range(2):
                public = SigningKey.generate().public.hex()
                hosts.add(KIM, log_events.host_id(number), f"log-{number:03d}", public, {})
        yield app


@pytest.fixture
def open_page(browser: Browser, url: str) -> Iterator[Callable[..., Page]]:
    """Opens a page, signed in; any script error or refused resource fails the test."""
    wrong: list[str] = []
    contexts = []

    def open_one(language: str = "en", scheme: Any = "light", width: int = 1280, name: str = "kim") -> Page:
        context = browser.new_context(
            locale=LANGUAGES[language], color_scheme=scheme, viewport={"width": width, "height": 900}, base_url=url
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
        expected = re.compile("status of|INCOMPLETE_CHUNKED")  # what tests make the server answer, or break off
        page.on(
            "console",
            lambda said: wrong.append(said.text) if said.type == "error" and not expected.search(said.text) else None,
        )
        page.goto("/sign-in")
        page.fill("#name", name)
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
    settled(page)


def settled(page: Page) -> None:
    """Wait until all that a page of logs fetches is there."""
    page.wait_for_selector("#log-results .log-facts, #log-results .empty")
    page.wait_for_selector("#log-bars svg")
    page.wait_for_selector(".log-fields-note", state="attached")


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


def picture(page: Page, name: str) -> None:
    """Keep what it looks like, if that is asked for."""
    folder = os.environ.get("EZADMIN_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def fits(page: Page, name: str) -> None:
    picture(page, name)
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


@pytest.mark.parametrize("language", LANGUAGES)
def test_lines_around_are_of_the_same_file_and_widened_by_a_click(
    open_page: Callable[..., Page], language: str
) -> None:
    page = open_page(language)
    of_host = [i for i in range(EVENTS.number) if EVENTS.host(i) == 7]
    in_files = [i for i in of_host if EVENTS.dataset(i) == "log.file"]
    anchor = in_files[-23]
    path = EVENTS.document(anchor)["log.file.path"]
    found(page, "host.name: log-007 and log.file.path: *")
    page.locator("[data-event]").nth(22).click()
    page.click(".log-event a[href*='/logs/context']")
    expect(page.locator(".sub")).to_contain_text(path)

    def lines() -> list[str]:
        expect(page.locator(".log-anchor .log-line-text")).to_have_text(EVENTS.message(anchor))
        return page.locator(".log-line-text").all_inner_texts()

    def around(events: list[int]) -> list[str]:
        at = events.index(anchor)
        return [EVENTS.message(i) for i in events[max(0, at - 20) : at + 21]]

    file = around([i for i in in_files if EVENTS.document(i)["log.file.path"] == path])
    assert lines() == file
    with page.expect_navigation():
        page.click(f"text={WORDS[language]['host']}")
    assert lines() == around(of_host) != file
    assert page.locator(".log-line .chip").count() == 0
    with page.expect_navigation():
        page.click(f"text={WORDS[language]['hosts']}")
    everywhere = lines()
    names = page.locator(".log-line .chip").all_inner_texts()
    assert len(everywhere) == len(names) == 41
    assert len(set(names)) > 10
    assert set(everywhere) <= {EVENTS.message(i) for i in range(anchor - 22, anchor + 23)}


def heads(page: Page) -> list[str]:
    """The chosen columns of the table."""
    settled(page)
    script = "all => all.slice(2).map((one) => one.firstChild.textContent.trim())"
    return list(page.eval_on_selector_all(".log-table th", script))


@pytest.mark.parametrize("language", LANGUAGES)
def test_columns_are_added_moved_and_removed(open_page: Callable[..., Page], language: str) -> None:
    page = open_page(language)
    found(page, "session")
    assert heads(page) == ["log.level", "host.name", "process.name", "message"]

    def click(what: str) -> list[str]:
        with page.expect_navigation():
            page.click(what)
        return heads(page)

    field = ".log-field[data-field='source.ip']"
    page.click(f"{field} summary")
    assert click(f"{field} p a") == ["log.level", "host.name", "process.name", "message", "source.ip"]
    cells = page.locator("td[data-label='source.ip']").all_inner_texts()
    assert len(cells) == 100
    assert all(re.fullmatch(r"10(\.\d+){3}", one) for one in cells)
    for before in ("message", "process.name"):
        columns = heads(page)
        at = columns.index(before)
        columns[at : at + 2] = ["source.ip", before]
        assert click(".log-table th:has-text('source.ip') .log-move >> nth=0") == columns
    assert click(".log-table th:has-text('process.name') .log-move >> nth=1") == [
        "log.level", "host.name", "source.ip", "message"
    ]  # fmt: skip
    picture(page, f"columns-{language}-light-1280")
    page.click(f"{field} summary")
    assert click(f"{field} p a") == ["log.level", "host.name", "message"]
    assert "columns=" in page.url
    assert "q=session" in page.url


@pytest.mark.parametrize("language", LANGUAGES)
def test_levels_have_marks_lines_are_short_and_events_are_json(
    open_page: Callable[..., Page], stack: Any, module_names: Names, language: str
) -> None:
    word = f"marked{secrets.token_hex(4)}"
    long = "one long line with many words " * 12
    before = format_time(NOW - timedelta(days=8))  # other tests count the levels of a week
    log_events.write(stack.elasticsearch, module_names, [
        {"message": f"{word} {long}", "log.level": level, "tags": [level], "@timestamp": before} for level in LEVELS
    ])  # fmt: skip
    page = open_page(language)
    found(page, word, "from=now-9d")
    colours, icons = {}, {}
    for level, text in zip(LEVELS, WORDS[language]["levels"], strict=True):
        mark = page.locator(f".log-row-{level} .mark.level-{level}")
        expect(mark).to_have_text(text)
        expect(mark.locator("svg")).to_be_visible()
        colours[level] = mark.evaluate("one => getComputedStyle(one).color")
        icons[level] = mark.locator("svg").inner_html()
    assert len({colours[one] for one in ("error", "warning", "info")}) == 3
    assert len({icons[one] for one in ("critical", "error", "warning", "info", "debug", "unknown")}) == 6
    row = page.locator(".log-row-error")
    high = row.bounding_box()
    page.click("#log-oneline")
    expect(page.locator("#log-oneline")).to_have_attribute("aria-pressed", "true")
    low = row.bounding_box()
    assert high is not None
    assert low is not None
    assert low["height"] < high["height"] / 2
    page.reload()
    settled(page)
    expect(page.locator("#log-results")).to_have_class(re.compile("one-line"))
    page.locator(".log-row-error [data-event]").click()
    page.click(".log-json summary")
    picture(page, f"marks-{language}-light-1280")
    shown = json.loads(page.locator(".log-json pre").inner_text())
    assert (shown["message"], shown["log.level"], shown["tags"]) == (f"{word} {long}", "error", ["error"])
    assert shown["_index"].startswith(f"{module_names.prefix}-logs-")
    page.click("#log-oneline")
    expect(page.locator("#log-oneline")).to_have_attribute("aria-pressed", "false")
    again = row.bounding_box()
    assert again is not None
    assert again["height"] == high["height"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_histogram_says_from_where_it_is_and_what_a_bar_holds(
    open_page: Callable[..., Page], language: str
) -> None:
    page = open_page(language)
    note = page.locator("#log-hist-note")
    found(page, "session", "from=now-7d")
    expect(note).to_be_hidden()
    found(page, "dataset: log.journal level: (error or critical)", "from=now-7d")
    expect(note).to_have_text(WORDS[language]["rollup"])
    expect(page.locator("#log-hist-missing")).to_be_hidden()
    picture(page, f"rollup-{language}-light-1280")
    critical, error, *others = WORDS[language]["groups"]
    page.locator("#log-bars").focus()
    page.keyboard.press("Home")
    page.keyboard.press("Shift+End")
    said = page.locator("#log-bar-text").inner_text().split(": ")[-1].split(", ", 1)[1]
    journal = [EVENTS.level(i) for i in range(EVENTS.number) if EVENTS.dataset(i) == "log.journal"]
    counts = [journal.count(level) for level in ("critical", "error")]
    assert said == f"{critical} {counts[0]}, {error} {counts[1]}"
    assert not any(one in said for one in others)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_shared_link_moves_along_or_stays_as_it_was(
    open_page: Callable[..., Page], stack: Any, module_names: Names, language: str
) -> None:
    word = f"shared{secrets.token_hex(4)}"

    def write(number: int) -> None:
        log_events.write(stack.elasticsearch, module_names, [{"message": word}] * number)

    write(3)
    page = open_page(language)
    found(page, word, "columns=message,host.name")
    assert shown_total(page) == 3
    links = [page.input_value(f"#share-{one}") for one in ("frozen", "moving")]
    write(2)
    other = open_page({"en": "ko", "ko": "en"}[language], name="lee")
    for link, number in [*zip(links, (3, 5), strict=True), (links[0], 3)]:
        other.goto(link)
        assert heads(other) == ["message", "host.name"]
        assert (shown_total(other), other.input_value("#q")) == (number, word)
    expect(other.locator("#log-hist-text")).to_have_text(re.compile("^3 "))
    assert other.input_value("#share-frozen") == links[0]


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


HOSTILE = (
    '=HYPERLINK("http://x") <script>alert(1)</script> \x1b]0;title\x07 <img src=x onerror=alert(2)> ' + "x" * 1_000_000
)
HOSTILE_NAME = '=cmd()<img src=x onerror=alert(3)>\x1b[31m\u202e"'


@pytest.fixture
def hostile(open_page: Callable[..., Page], stack: Any, module_names: Names) -> Page:
    """A page for an event of 1 MB that tries it all; a script that runs fails the test."""
    page = open_page()
    page.on("dialog", lambda dialog: pytest.fail("a script of a log line ran"))
    tag = f"h{secrets.token_hex(4)}"
    document = {"message": HOSTILE, "process.name": HOSTILE_NAME, "tags": [tag], "host.id": log_events.host_id(1)}
    log_events.write(stack.elasticsearch, module_names, [{**document, "host.name": "log-001"}])
    found(page, f"tags: {tag}")
    expect(page.locator(".log-row")).to_have_count(1)
    return page


def harmless(page: Page, shown: str = "<script>", most: int = 300_000) -> None:
    """What it shows of the event is text, of which nothing takes effect, and not all of it."""
    expect(page.locator("main")).to_contain_text(shown)
    content = page.content()
    assert not re.search("[\x1b\x07\u202e]", content)
    assert len(content) < most
    assert page.locator("img[src='x'], main script:has-text('alert')").count() == 0
    assert page.title().endswith("ezadmin")
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0


def test_a_hostile_line_harms_no_page(hostile: Page, stack: Any, module_names: Names) -> None:
    page = hostile
    harmless(page)
    field = page.locator(".log-field[data-field='process.name']")
    field.locator("summary").click()
    expect(field.locator(".log-top-value")).to_have_text('=cmd()<img src=x onerror=alert(3)>[ESC][31m[U+202E]"')
    harmless(page)
    picture(page, "hostile-en-light-1280")
    with page.expect_navigation():
        field.locator(".log-values a").first.click()
    settled(page)
    assert shown_total(page) >= 1, "the value is found by a click on it"
    harmless(page)
    page.fill("#q", "")
    page.locator("#q").press_sequentially('program: "=cmd')
    option = page.locator("#q-list [role=option]", has_text="=cmd()").first
    expect(option).to_have_text('=cmd()<img src=x onerror=alert(3)>[ESC][31m[U+202E]"')
    harmless(page)
    option.click()
    with page.expect_navigation():
        page.press("#q", "Enter")
    settled(page)
    assert shown_total(page) >= 1
    page.locator("[data-event]").first.click()
    page.wait_for_selector(".log-pairs")
    harmless(page)
    context, ignore = (
        page.get_attribute(f".log-event a[href*='/logs/{one}']", "href") for one in ("context", "ignore")
    )
    for name, address in [("context", context), ("ignore", ignore), ("host", f"/hosts/{log_events.host_id(1)}")]:
        page.goto(str(address))
        harmless(page)
        picture(page, f"hostile-{name}-en-light-1280")
    page.goto(str(ignore))
    expect(page.locator("#preview")).not_to_contain_text("ignored 0 events")
    page.click("main form button[type=submit]")
    expect(page.locator("main")).to_contain_text("Such events are ignored until")
    harmless(page, "HYPERLINK")
    page.click("main button:has-text('Undo')")


def test_a_hostile_line_harms_no_live_page(hostile: Page, stack: Any, module_names: Names) -> None:
    page = hostile
    page.click("#log-live")
    expect(page.locator("#log-status-text")).to_contain_text("Live")
    tag = tag_of(page)
    for _ in range(3):
        log_events.write(
            stack.elasticsearch, module_names, [{"message": HOSTILE, "process.name": HOSTILE_NAME, "tags": [tag]}]
        )
    expect(page.locator(".log-row")).to_have_count(4)
    harmless(page)


def tag_of(page: Page) -> str:
    return page.input_value("#q").removeprefix("tags: ")


@pytest.mark.parametrize("kind", ["csv", "ndjson", "whole"])
def test_a_hostile_line_harms_no_export(hostile: Page, kind: str) -> None:
    page = hostile
    tag = tag_of(page)
    page.evaluate("delete window.showSaveFilePicker")
    page.locator("button:has-text('Export')").click()
    link = {"csv": "[href$='format=csv']", "ndjson": "[href$='format=ndjson']", "whole": "[href$='whole=1']"}[kind]
    with page.expect_download() as download:
        page.click(f"a[data-export]{link}")
    data = Path(str(download.value.path())).read_bytes()
    assert not re.search(rb"[\x1b\x07]", data), "whoever prints it on a terminal is safe"
    if kind == "csv":
        csv.field_size_limit(2_000_000)
        rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
        assert len(rows) == 2
        assert len(rows[1][-1]) > 1_000_000
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in rows[1])
        return
    (line,) = data.splitlines()
    event = json.loads(line)
    assert (event["message"], event["process.name"]) == (HOSTILE, HOSTILE_NAME)
    assert event.get("tags") == ([tag] if kind == "whole" else None)


FILE_OF_THE_TEST = """
window.written = [];
window.showSaveFilePicker = async (asked) => {
  window.asked = asked.suggestedName;
  const go = new Promise((done) => { window.go = done; });
  return { createWritable: async () => new WritableStream({
    write: async (chunk) => { await go; window.written.push(new TextDecoder().decode(chunk)); },
    close: () => { window.fileClosed = true; },
    abort: () => { window.fileBroken = true; },
  }) };
};
"""
"""What Chromium's own dialog gives a page, but kept in the page; nothing is written before ``go()``."""


@pytest.mark.parametrize(("language", "kind"), [("en", "csv"), ("ko", "ndjson")])
def test_an_export_into_a_file_shows_how_far_it_is(open_page: Callable[..., Page], language: str, kind: str) -> None:
    page = open_page(language)
    page.add_init_script(FILE_OF_THE_TEST)
    period = {"from": format_time(EVENTS.start), "to": format_time(EVENTS.start + EVENTS.length)}
    page.goto("/logs/?" + "&".join(f"{name}={value}" for name, value in period.items()))
    settled(page)
    page.locator(".head .dropdown-toggle").last.click()
    page.click(f"a[data-export][href$='format={kind}']")
    said = page.locator("#log-export")
    expect(said).to_have_text(re.compile(WORDS[language]["exporting"]))
    picture(page, f"export-{language}-light-1280")
    page.evaluate("go()")
    expect(said).to_have_text(WORDS[language]["exported"])
    assert page.evaluate("[asked, fileClosed]") == [f"logs.{kind}", True]
    text = page.evaluate("written.join('')")
    if kind == "csv":
        head, *rows = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
        assert head == ["'@timestamp", "log.level", "host.name", "process.name", "message"]
        messages = [row[-1] for row in rows]
    else:
        messages = [json.loads(line)["message"] for line in text.splitlines()]
    shown = "[ESC]" if kind == "csv" else "\x1b"
    assert Counter(messages) == Counter(EVENTS.message(i).replace("\x1b", shown) for i in range(EVENTS.number))


def test_an_export_that_breaks_off_says_so(open_page: Callable[..., Page], monkeypatch: pytest.MonkeyPatch) -> None:
    page = open_page()
    page.add_init_script(FILE_OF_THE_TEST)
    found(page, "")
    asked, chunks = services.asked, []

    def half(client: Any, body: Any, index: str) -> dict[str, Any]:
        chunks.append(body)
        answer = asked(client, body, index)
        return answer if len(chunks) < 3 else {**answer, "timed_out": True}  # the first lines, their number

    monkeypatch.setattr(services, "asked", half)
    page.locator(".head .dropdown-toggle").last.click()
    page.click("a[data-export][href$='format=csv']")
    page.evaluate("go()")
    expect(page.locator("#log-export")).to_have_text("The export broke off; the file is not whole.")
    assert page.evaluate("[window.fileClosed ?? null, fileBroken]") == [None, True]


SLOW = {"bool": {"should": [{"wildcard": {"message": {"value": f"*{n}*{n + 1}*x*"}}} for n in range(3600)]}}
"""A condition that no user may write: thousands of patterns that look through all words."""


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes all that the page has Elasticsearch look for take long."""
    within = services._within

    def make() -> None:
        monkeypatch.setattr(
            services, "_within", lambda search, periods, wanted: {
                "bool": {"filter": [within(search, periods, wanted), SLOW]}
            }
        )  # fmt: skip

    return make


class OneMilli(int):
    """With an "s" behind it, as a number of seconds has it in a request to Elasticsearch: 1ms."""

    def __format__(self, how: str) -> str:
        return "1m"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_says_what_is_missing_after_a_time(
    open_page: Callable[..., Page], slow: Callable[[], None], monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    page = open_page(language)
    slow()
    monkeypatch.setattr(services, "SECONDS", OneMilli(30))
    page.set_default_timeout(60_000)
    found(page, "", "from=now-5h")
    said = WORDS[language]["timed out"]
    for place in ("#log-results .log-facts", "#log-hist", "#log-fields-list"):
        expect(page.locator(f"{place} .log-missing:visible")).to_contain_text(said)
    fits(page, f"timed-out-{language}-light-1280")


@pytest.fixture
def broken(stack: Any, module_names: Names) -> Iterator[str]:
    """A query that one day's index cannot answer, as its ``process.pid`` is none; returned is the query."""
    client = ElasticClient(ElasticConnection((stack.elasticsearch,)))
    day = datetime.now(UTC) - timedelta(days=3)
    index = module_names.logs_index(format_time(day))
    body = json.dumps({"mappings": {"properties": {"process.pid": {"type": "ip"}}}}).encode()
    assert client.request("PUT", f"/{index}", body=body)[0] == 200
    event = {"message": "elsewhere", "@timestamp": format_time(day), "process.pid": "10.0.0.1"}
    log_events.write(stack.elasticsearch, module_names, [event])
    yield "process.pid: 7"
    client.request("DELETE", f"/{index}")
    client.close()


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_says_what_is_missing_of_a_part_that_fails(
    open_page: Callable[..., Page], broken: str, language: str
) -> None:
    page = open_page(language)
    found(page, broken, "from=now-4d")
    assert shown_total(page) == matching(lambda i: i % 5000 == 7) == 1
    said = re.compile(str(WORDS[language]["failed"]))
    for place in ("#log-results .log-facts", "#log-hist", "#log-fields-list > .log-missing"):
        missing = page.locator(place) if place.endswith("missing") else page.locator(f"{place} .log-missing:visible")
        expect(missing).to_contain_text(said)
    field = page.locator(".log-field[data-field='process.name']")
    field.locator("summary").click()
    expect(field.locator(".log-missing")).to_contain_text(said)
    fits(page, f"part-failed-{language}-light-1280")
    page.click("#log-live")
    expect(page.locator("#log-status-text")).to_contain_text(said)


@pytest.fixture
def tasks(stack: Any) -> Iterator[Callable[[Page], Callable[[], list[str]]]]:
    """Of a page: a function that tells the kinds of searches that Elasticsearch does for it now, without their parts."""
    client = ElasticClient(ElasticConnection((stack.elasticsearch,)))

    def of(page: Page) -> Callable[[], list[str]]:
        runs: set[str] = set()
        page.on("request", lambda asked: runs.update(parse_qs(urlsplit(asked.url).query).get("run", ())))

        def running() -> list[str]:
            page.wait_for_timeout(20)  # what it asked for is told meanwhile
            nodes = client.request("GET", "/_tasks", params={"actions": "indices:data/read/*"})[1]["nodes"]
            found = [task for node in nodes.values() for task in node["tasks"].values() if "parent_task_id" not in task]
            mine = [one for one in found if one["headers"].get("X-Opaque-Id", "").rpartition("/")[2] in runs]
            return sorted(one["action"].rpartition("/")[2] for one in mine)

        return running

    yield of
    client.close()


@pytest.mark.parametrize("language", LANGUAGES)
def test_cancel_ends_all_searches_of_a_page_in_elasticsearch(
    open_page: Callable[..., Page], tasks: Any, slow: Callable[[], None], language: str
) -> None:
    page = open_page(language)
    found(page, "")
    running = tasks(page)
    slow()
    page.goto("/logs/?from=now-5h")  # so short a time that all is counted from the events
    wait_until(lambda: running() == ["msearch", "search", "search"], 20, "events, histogram and fields are looked for")
    page.click("#log-cancel")
    expect(page.locator("#log-status-text")).to_contain_text(WORDS[language]["cancelled"])
    wait_until(lambda: not running(), 10, "all are gone")
    page.wait_for_timeout(1_500)
    assert running() == []


@pytest.mark.parametrize("how", ["cancel", "leave", "type"])
def test_what_is_looked_for_besides_ends_too(
    open_page: Callable[..., Page], tasks: Any, slow: Callable[[], None], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The values of a field by the button and by leaving the page; a completion by writing on."""
    page = open_page()
    found(page, "")
    running = tasks(page)
    slow()
    if how == "type":
        monkeypatch.setattr(values, "_COMPLETION_SECONDS", 60)  # else it would end by itself
        page.locator("#q").press_sequentially("program: l")
    else:
        page.locator(".log-field[data-field='process.name'] summary").click()
    wait_until(running, 10, "it is looked for")
    if how == "cancel":
        page.click("#log-cancel")
        expect(page.locator("#log-status-text")).to_contain_text("Cancelled")
    elif how == "leave":
        page.goto("/alerts/")
    else:
        page.fill("#q", "")  # what was searched before is offered, for which nobody is asked
    wait_until(lambda: not running(), 10, "it is gone")


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
    page.click("tbody a:has-text('변경')")
    expect(page.locator("h1")).to_have_text("위험한 것 변경")
    expect(page.locator("#minutes")).to_have_value("60")
    page.fill("#q", "log.level: error")
    page.fill("#threshold", "2000000")
    page.evaluate("document.getElementById('threshold').removeAttribute('max')")
    page.click("main form button.btn-primary")
    expect(page.locator("[role=alert]")).to_be_visible()  # nothing that was written is lost
    expect(page.locator("#q")).to_have_value("log.level: error")
    page.fill("#threshold", "3")
    page.click("text=지난 한 주로 시험")
    expect(page.locator("#backtest tbody")).to_contain_text("log-0")
    expect(page.locator("#name")).to_have_value("위험한 것")
    fits(page, "alert-edit-ko-light-1280")
    page.fill("#name", "오류가 많음")
    page.click("main form button.btn-primary")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text("오류가 많음")
    expect(page.locator("tbody tr")).to_contain_text("log.level: error")
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
