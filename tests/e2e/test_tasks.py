"""The main tasks of the web application in a browser, in Korean and in English, by what stands on the buttons.

``EZADMIN_SCREENSHOTS=DIR`` keeps a picture of each page that they come by.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyotp
import pytest
from axe_playwright_python.sync_playwright import Axe
from ezadmin_testing.described import KIM, PASSWORD, application, empty, host_id, make
from flask import Flask
from playwright.sync_api import Browser, Page, expect

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.database import db, unit_of_work
from ezadmin_cmdb.describe import services
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.hosts import reports
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.settings import SignIn
from ezadmin_wire.state import Inventory
from ezadmin_wire.times import now

LANGUAGES = {"en": "en-US", "ko": "ko-KR"}
BOTH = pytest.mark.parametrize("language", ["en", "ko"])
TEXTS = {
    "en": {
        "save": "Save", "sign in": "Sign in", "sign out": "Sign out", "begin": "Begin", "on": "Switch on",
        "kept": "I have kept them",
        "required": "It is required of this account", "change": "Change", "differences": "Differences",
        "accept": "Accept what is observed", "restore": "Restore", "history": "History", "groups": "Groups of hosts",
        "apply": "Apply", "filter": "Filter and columns", "nothing": "You may not", "restored": "is restored",
    },
    "ko": {
        "save": "저장", "sign in": "로그인", "sign out": "로그아웃", "begin": "시작", "on": "켜기",
        "kept": "보관했습니다",
        "required": "이 계정에는", "change": "변경", "differences": "차이",
        "accept": "관측한 값을 받아들이기", "restore": "되돌리기", "history": "변경 이력", "groups": "호스트 그룹",
        "apply": "적용", "filter": "필터와 열", "nothing": "", "restored": "되돌렸습니다",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def app(stack: Any, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """Twelve hosts, differences, webhooks, and changes; everybody needs a second factor but kim, who has none to need."""
    with application(
        database, tmp_path_factory.mktemp("web"), kafka=stack.kafka, elasticsearch=stack.elasticsearch,
        sign_in=SignIn("nobody"),
    ) as app:  # fmt: skip
        empty(app)
        with app.app_context(), unit_of_work():
            accounts.create_user(KIM, "kim", PASSWORD, admin=True)
            for n in range(1, 13):
                host = make("host", n)
                services.update(KIM, find("host"), host, {"serial": f"Declared-{n}", "environment": "test"})
            for name in ("webhook", "delivery", "contract", "site", "customer", "rack"):
                make(name, 1)
        for n in (1, 2, 3):
            with app.app_context(), unit_of_work():
                reports.store(host_id(n), Inventory(collected=now(), hostname=f"h{n}", serial=f"Observed-{n}"))
        yield app


@pytest.fixture
def open_page(browser: Browser, url: str) -> Iterator[Callable[..., Page]]:
    """Opens a page of a new browser, signed in as ``name`` if one is given; a script error or refused resource fails the test."""
    wrong: list[str] = []
    contexts = []

    def open_one(language: str = "en", name: str | None = "kim", scheme: Any = "light", width: int = 1280) -> Page:
        context = browser.new_context(
            locale=LANGUAGES[language], color_scheme=scheme, viewport={"width": width, "height": 900}, base_url=url
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
        page.on(
            "console",
            lambda said: wrong.append(said.text) if said.type == "error" and "status of" not in said.text else None,
        )
        if name is not None:
            sign_in(page, name, PASSWORD)
            page.wait_for_url(lambda address: "/sign-in" not in address)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert wrong == []


def sign_in(page: Page, name: str, password: str) -> None:
    page.goto("/sign-in")
    page.fill("#name", name)
    page.fill("#password", password)
    page.click("main form button[type=submit]")


def looked_at(page: Page, name: str) -> None:
    """No finding of axe; not wider than the window; a picture, if they are wanted."""
    found = Axe().run(page)
    assert found.violations_count == 0, f"{name}: {found.generate_report()}"
    wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if folder := os.environ.get("EZADMIN_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)
    assert wider <= 0, f"{name} is {wider} px too wide"


@BOTH
def test_first_sign_in(app: Flask, open_page: Callable[..., Page], language: str) -> None:
    """An administrator makes a user; he signs in with what he was given, must switch the second factor on, changes the password,
    and signs in with both."""
    texts, name = TEXTS[language], f"new-{language}"
    admin = open_page(language)
    admin.goto("/users/new")
    admin.fill("#name", name)
    admin.click("main form button[type=submit]")
    given = admin.locator("#password").inner_text()
    looked_at(admin, f"password-once-{language}")
    settings = app.extensions["ezadmin_settings"]
    object.__setattr__(settings.sign_in, "second_factor", "everybody")
    try:
        page = open_page(language, name=None)
        sign_in(page, name, given)
        expect(page.get_by_role("status")).to_contain_text(texts["required"])
        page.goto("/hosts/")
        expect(page).to_have_url(re.compile("second-factor"))  # nothing else until then
        page.get_by_role("button", name=texts["begin"], exact=True).click()
        looked_at(page, f"second-factor-{language}")
        secret = page.locator("#secret").inner_text().replace(" ", "")
        page.fill("#code", pyotp.TOTP(secret).now())
        page.get_by_role("button", name=texts["on"], exact=True).click()
        codes = page.locator("#codes").inner_text().split()
        looked_at(page, f"recovery-codes-{language}")
        page.get_by_role("link", name=texts["kept"]).click()
        for control, text in (("#old", given), ("#new", "another battery horse"), ("#again", "another battery horse")):
            page.fill(control, text)
        page.locator("form:has(#old) button[type=submit]").click()
        expect(page.locator(".alert-success")).to_be_visible()
        looked_at(page, f"account-{language}")
        page.get_by_role("button", name=name, exact=True).click()
        page.get_by_role("button", name=texts["sign out"]).click()
        sign_in(page, name, given)
        expect(page.get_by_role("alert")).to_be_visible()
        sign_in(page, name, "another battery horse")
        page.fill("#code", codes[0])
        looked_at(page, f"code-{language}")
        page.get_by_role("button", name=texts["sign in"], exact=True).click()
        expect(page.get_by_role("button", name=name, exact=True)).to_be_visible()
    finally:
        object.__setattr__(settings.sign_in, "second_factor", "nobody")


@BOTH
def test_a_difference_is_corrected(app: Flask, open_page: Callable[..., Page], language: str) -> None:
    texts, n = TEXTS[language], {"en": 1, "ko": 2}[language]
    page = open_page(language)
    waiting = page.locator(".topbar .count")
    expect(waiting).to_be_visible()
    before = int(waiting.inner_text())
    page.locator(".topbar").get_by_role("link", name=texts["differences"]).click()
    row = page.locator("tbody tr", has_text=f"Observed-{n}")
    expect(row).to_contain_text(f"Declared-{n}")
    row.locator("input[name=ids]").check()
    looked_at(page, f"differences-{language}")
    page.get_by_role("button", name=texts["accept"]).click()
    expect(page.locator(".alert-success")).to_be_visible()
    expect(row).to_have_count(0)
    expect(page.locator(".topbar .count")).to_have_text(str(before - 1))
    page.goto(f"/hosts/{host_id(n)}")
    expect(page.locator("#inventory ~ .row")).to_contain_text(f"Observed-{n}")
    with app.app_context():
        host = db.session.get(Host, host_id(n))
        assert host is not None
        assert (host.serial, [one.field for one in host.declarations if one.field == "serial"]) == (f"Observed-{n}", [])
    page.goto(f"/hosts/{host_id(n)}/history")
    expect(page.locator("article.change").first).to_contain_text(f"Observed-{n}")


@BOTH
def test_a_group_is_made_and_used(app: Flask, open_page: Callable[..., Page], language: str) -> None:
    """As a filter of the list, and as what a right is for."""
    texts, group, person = TEXTS[language], f"{language} ones", f"lee-{language}"
    with app.app_context(), unit_of_work():
        accounts.create_user(KIM, person, PASSWORD, admin=False)
        services.create(KIM, find("role"), {"name": f"watch {language}", "permissions": ["host.view"]})
    page = open_page(language)
    page.goto("/host-groups/new")
    page.fill("#name", group)
    page.fill("#filter", "name__contains=Host 1")
    expect(page.locator("[aria-live=polite]")).to_contain_text("Host 12")  # before it is saved
    looked_at(page, f"group-new-{language}")
    page.get_by_role("button", name=texts["save"], exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(group)
    page.goto("/hosts/")
    page.get_by_text(texts["filter"], exact=True).click()
    page.select_option("#f-groups", label=group)
    page.get_by_role("button", name=texts["apply"], exact=True).click()
    expect(page.locator("tbody tr")).to_have_count(4)  # 1, 10, 11, 12
    expect(page.locator(".chips")).to_contain_text(group)
    looked_at(page, f"hosts-of-group-{language}")
    page.goto("/grants/new")
    page.select_option("#user", label=person)
    page.select_option("#role", label=f"watch {language}")
    page.select_option("#group", label=group)
    page.get_by_role("button", name=texts["save"], exact=True).click()
    other = open_page(language, name=person)
    other.goto("/hosts/")
    names = other.locator("tbody th a").all_inner_texts()
    assert sorted(names) == ["Host 1", "Host 10", "Host 11", "Host 12"]
    looked_at(other, f"hosts-of-lee-{language}")
    answer = other.goto(f"/hosts/{host_id(5)}")
    assert answer is not None
    assert answer.status == 404
    page.goto("/host-groups/?q=" + group.replace(" ", "+"))
    page.locator("tbody th a").click()
    expect(page.locator("main")).to_contain_text(person)  # who depends on it


@BOTH
def test_a_change_is_undone_from_the_history(app: Flask, open_page: Callable[..., Page], language: str) -> None:
    texts, n = TEXTS[language], {"en": 6, "ko": 7}[language]
    page = open_page(language)
    page.goto(f"/hosts/{host_id(n)}/edit")
    page.select_option("#environment", "production")
    page.fill("#note", "by mistake")
    page.get_by_role("button", name=texts["save"], exact=True).click()
    page.get_by_role("link", name=texts["history"]).click()
    change = page.locator("article.change").first
    expect(change).to_contain_text("by mistake")
    looked_at(page, f"history-{language}")
    change.locator("tr", has_text="by mistake").locator("xpath=preceding-sibling::tr[1] | self::tr").first.get_by_role(
        "button", name=texts["restore"]
    ).click()
    expect(page.locator(".alert-success")).to_contain_text(texts["restored"])
    with app.app_context():
        host = db.session.get(Host, host_id(n))
        assert host is not None
        assert (host.environment, host.note) == ("test", "by mistake")
    page.locator("article.change", has_text="by mistake").locator("tr", has_text="by mistake").get_by_role(
        "button", name=texts["restore"]
    ).click()
    expect(page.locator(".alert-success")).to_contain_text(texts["restored"])
    with app.app_context():
        host = db.session.get(Host, host_id(n))
        assert host is not None
        assert (host.environment, host.note) == ("test", None)


@BOTH
def test_changes_unfold(app: Flask, open_page: Callable[..., Page], language: str) -> None:
    page = open_page(language)
    page.goto("/hosts/bulk?q=Host")
    page.select_option('[name="mode.note"]', "set")
    page.fill("#note", f"moved {language}")
    page.locator("form.edit button[type=submit]").click()
    page.locator("button[name=do][value=write]").click()
    expect(page.locator("#job .alert-success")).to_be_visible()
    page.goto("/changes/")
    first = page.locator("table.grouped tbody").first
    expect(first).to_contain_text("12")
    first.locator("[data-unfold]").focus()
    page.keyboard.press("Enter")
    expect(first.locator("article.change")).to_have_count(12)
    expect(first).to_contain_text(f"moved {language}")
    looked_at(page, f"changes-{language}-1280")
    page.keyboard.press("Enter")
    expect(first.locator("article.change").first).to_be_hidden()
    page.set_viewport_size({"width": 360, "height": 800})
    page.keyboard.press("Enter")
    looked_at(page, f"changes-{language}-360")


@BOTH
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 360)])
def test_search_and_webhooks(
    app: Flask, open_page: Callable[..., Page], language: str, scheme: str, width: int
) -> None:
    page = open_page(language, scheme=scheme, width=width)
    with app.app_context():
        webhook, delivery = make("webhook", 1).id, make("delivery", 1).id
        db.session.commit()
    for name, path in [
        ("search", "/search/?q=Host+1"), ("search-why", "/search/?q=Declared-9"), ("search-none", "/search/?q=nothing-like-it"),
        ("search-empty", "/search/"), ("webhooks", "/webhooks/"), ("webhook", f"/webhooks/{webhook}"),
        ("webhook-new", "/webhooks/new"), ("deliveries", "/deliveries/"), ("delivery", f"/deliveries/{delivery}"),
        ("host-delete", f"/hosts/{host_id(9)}/delete"), ("reminders", "/reminders/"),
    ]:  # fmt: skip
        page.goto(path)
        looked_at(page, f"{name}-{language}-{scheme}-{width}")
    page.goto(f"/webhooks/{webhook}")
    page.locator("form[action$='/secret'] button").click()
    expect(page.locator("#secret")).to_be_visible()
    looked_at(page, f"webhook-secret-{language}-{scheme}-{width}")


@BOTH
def test_search_by_keyboard(open_page: Callable[..., Page], language: str) -> None:
    page = open_page(language)
    page.goto("/sites/")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "find"
    page.keyboard.type("Host 1")
    expect(page.locator("#find-list a[role=option]").first).to_be_visible()
    expect(page.locator("#find")).to_have_attribute("aria-expanded", "true")
    looked_at(page, f"suggestions-{language}")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#find")).to_have_attribute("aria-activedescendant", re.compile("find-hosts-1"))
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"/hosts/{host_id(1)}"))
    page.keyboard.press("/")
    page.keyboard.type("zzz")
    expect(page.locator(".find-none")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#find-list")).to_be_hidden()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/search/"))
    page.locator("h1").click()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "find"
