"""A limit for all disks of /data* on a site, set in a browser, and why a host then has it; both languages, wide and narrow."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from ezadmin_testing.described import KIM, PASSWORD, application, empty, host_id, make
from flask import Flask
from playwright.sync_api import Browser, Page, expect

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.database import unit_of_work
from ezadmin_cmdb.describe import services
from ezadmin_cmdb.describe.description import find
from ezadmin_wire.names import Names

TEXTS = {
    "en": {
        "add": "Add the starter templates", "figure": "Figure", "item": "Items (pattern)", "warning": "Warning from",
        "critical": "Critical from", "place": "Place", "preview": "Preview", "save": "Save", "name": "Name",
        "changes": "1 host gets other limits.", "why": "Disks of Seoul (site Site 1)", "holds": "holds: the nearest",
    },
    "ko": {
        "add": "기본 템플릿 추가", "figure": "수치", "item": "항목(패턴)", "warning": "경고 시작", "critical": "심각 시작",
        "place": "적용할 곳", "preview": "미리 보기", "save": "저장", "name": "이름",
        "changes": "호스트 1대의 임계값이 바뀝니다.", "why": "Disks of Seoul (사이트 Site 1)", "holds": "적용됨: 가장 가까움",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def app(stack: Any, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    names = Names(f"t{secrets.token_hex(5)}")
    folder = tmp_path_factory.mktemp("web")
    with application(database, folder, elasticsearch=stack.elasticsearch, names=names) as app:
        yield app


@pytest.fixture
def page(app: Flask, browser: Browser, url: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """Signed in; a host at a site, another one elsewhere. Any error of a script or refused resource fails the test."""
    empty(app)
    with app.app_context(), unit_of_work():
        accounts.create_user(KIM, "kim", PASSWORD, admin=True)
        make("host", 2)
        services.update(KIM, find("host"), make("host", 1), {"site": make("site", 1)})
        limit = {"field": "system.filesystem.used.pct", "item": "/data*", "warning_raise": 0.9}
        everywhere = {"name": "Everywhere", "limits": [limit], "assignments": [{"level": "global"}]}
        services.create(KIM, find("threshold_template"), everywhere)
    language, width = request.param
    locale = {"en": "en-US", "ko": "ko-KR"}[language]
    context = browser.new_context(locale=locale, viewport={"width": width, "height": 900}, base_url=url)
    page, wrong = context.new_page(), []
    page.set_default_timeout(15_000)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda said: wrong.append(said.text) if said.type == "error" and "status of" not in said.text else None,
    )
    page.goto("/sign-in")
    page.locator("#name").fill("kim")
    page.locator("#password").fill(PASSWORD)
    page.locator("#password").press("Enter")
    expect(page.locator(".topbar .navbar-toggler, .topbar .nav-link").first).to_be_attached()
    yield page
    context.close()
    assert wrong == []


def fits(page: Page, name: str) -> None:
    """Accessible, and as wide as the window."""
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    if folder := os.environ.get("EZADMIN_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"thresholds-{name}.png", full_page=True)


@pytest.mark.parametrize("page", [("en", 1280), ("ko", 360)], ids=["en-1280", "ko-360"], indirect=True)
def test_a_limit_for_a_site_is_set_and_explained(page: Page, request: pytest.FixtureRequest) -> None:
    language, width = request.node.callspec.params["page"]
    texts = TEXTS[language]
    page.goto("/thresholds/")
    page.get_by_role("button", name=texts["add"]).click()
    expect(page.get_by_role("button", name=texts["add"])).to_have_count(0)
    fits(page, f"list-{language}-{width}")
    page.goto("/thresholds/new")
    page.get_by_label(texts["name"], exact=False).first.fill("Disks of Seoul")
    page.get_by_label(texts["figure"], exact=True).fill("system.filesystem.used.pct")
    page.get_by_label(texts["item"], exact=True).fill("/data*")
    page.get_by_label(texts["warning"], exact=True).fill("85")
    page.get_by_label(texts["critical"], exact=True).fill("95%")
    page.get_by_label(texts["place"], exact=True).select_option("Site 1")
    page.get_by_role("button", name=texts["preview"]).click()
    expect(page.locator("[id='limits.0.warning_raise-error']")).to_contain_text("85%")
    page.get_by_label(texts["warning"], exact=True).fill("85%")
    page.get_by_role("button", name=texts["preview"]).click()
    expect(page.get_by_text(texts["changes"])).to_be_visible()
    fits(page, f"form-{language}-{width}")
    page.get_by_role("button", name=texts["save"], exact=True).last.click()
    expect(page.locator("h1")).to_contain_text("Disks of Seoul")
    fits(page, f"show-{language}-{width}")
    page.goto(f"/hosts/{host_id(1)}/thresholds")
    page.get_by_text(texts["why"]).click()
    expect(page.get_by_text(texts["holds"])).to_be_visible()
    fits(page, f"host-{language}-{width}")
