"""Many at once in a browser, in both languages: a CSV with errors is mended and imported; ten sites are changed by one form."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from ezadmin_testing.described import KIM, PASSWORD, application, empty, make
from flask import Flask
from playwright.sync_api import Page, expect, sync_playwright
from sqlalchemy import func, select
from werkzeug.serving import make_server

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.database import db, unit_of_work
from ezadmin_cmdb.datacenter.sites import Site

SHOTS = os.environ.get("EZADMIN_SCREENSHOTS")
FILES = {
    "ko": ("cp949", "이름,코드,상태,색\n서울,SE,active,빨강\n부산,BU,no,\n대구,SE,active,\nSite 3,S3,closed,\n"),
    "en": (
        "utf-8-sig",
        "Name,Code,Status,Colour\nLyon,LY,active,red\nBonn,BO,no,\nKyiv,LY,active,\nSite 4,S4,closed,\n",
    ),
}
"""Of each: a new site, a state that there is not, a code that is taken by a line before, a site that changes."""


@pytest.fixture(scope="module")
def app(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    with application(database, tmp_path_factory.mktemp("web")) as app:
        empty(app)
        with app.app_context(), unit_of_work():
            accounts.create_user(KIM, "kim", PASSWORD, admin=True)
            for n in range(1, 11):
                make("site", n)
        yield app


@pytest.fixture(params=["ko", "en"])
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def page(app: Flask, language: str) -> Iterator[Page]:
    """A browser in this language, signed in; any script error fails the test."""
    path = shutil.which("chromium")
    assert path, "the browser tests need chromium: apt-get install chromium fonts-noto-cjk"
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    wrong: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--no-first-run"]
        )
        context = browser.new_context(
            locale={"ko": "ko-KR", "en": "en-US"}[language], viewport={"width": 1280, "height": 900},
            base_url=f"http://127.0.0.1:{server.server_port}",
        )  # fmt: skip
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto("/sign-in")
        page.fill("#name", "kim")
        page.fill("#password", PASSWORD)
        page.press("#password", "Enter")
        page.wait_for_url("**/")
        yield page
        browser.close()
    server.shutdown()
    thread.join(10)
    assert not wrong


def looked_at(page: Page, name: str) -> None:
    """Accessible; not wider than a phone; pictures of it, if they are wanted."""
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa"]}).response["violations"]
    assert not found, [(one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in found]
    for scheme, width in (("light", 1280), ("dark", 360)):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.set_viewport_size({"width": width, "height": 900})
        if SHOTS:
            page.screenshot(path=f"{SHOTS}/{name}-{scheme}-{width}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{name}: wider than {width}"
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 900})


def test_a_csv_with_errors(app: Flask, page: Page, language: str, tmp_path: Path) -> None:
    encoding, text = FILES[language]
    header, first, second, third, known = (line.split(",") for line in text.splitlines())
    file = tmp_path / "사이트.csv"
    file.write_bytes(text.encode(encoding))
    page.goto("/sites/")
    page.click("a[href='/sites/import']")
    looked_at(page, f"import-{language}")
    page.set_input_files("#file", str(file))
    page.click("main form button[type=submit]")
    expect(page.locator("#job")).to_contain_text({"cp949": "CP949", "utf-8-sig": "UTF-8"}[encoding])
    expect(page.locator(".alert-warning")).to_contain_text(header[3])
    assert [page.locator(f".job-row-{one}").count() for one in ("new", "changed", "wrong")] == [1, 1, 2]
    looked_at(page, f"preview-{language}")
    page.click("button[value=write]")
    expect(page.locator(".alert-danger")).to_contain_text("2")
    with page.expect_download() as download:
        page.click("a[href$='errors.csv']")
    wrong = Path(download.value.path()).read_text(encoding="utf-8-sig")
    page.check("input[name=skip]")
    page.click("button[value=write]")
    expect(page.locator(".alert-success")).to_be_visible()
    looked_at(page, f"written-{language}")
    right = wrong.replace(f"{second[1]},no", f"{second[1]},active").replace(
        f"{third[0]},{third[1]}", f"{third[0]},{third[1]}X"
    )
    file.write_text(right, encoding="utf-8-sig")
    page.goto("/sites/import")
    page.set_input_files("#file", str(file))
    page.click("main form button[type=submit]")
    expect(page.locator(".job-row-new")).to_have_count(2)
    page.click("button[value=write]")
    expect(page.locator(".alert-success")).to_be_visible()
    with app.app_context():
        names = set(db.session.scalars(select(Site.name)))
        assert {first[0], second[0], third[0]} <= names
        assert db.session.scalar(select(Site.status).where(Site.name == known[0])) == "closed"


def test_ten_are_changed_by_one_form(app: Flask, page: Page, language: str) -> None:
    country = {"ko": "대한민국", "en": "Korea"}[language]
    page.goto("/sites/?q=Site&size=5")
    page.check("[data-check-all]")
    expect(page.locator("[data-chosen]")).to_contain_text("5")
    looked_at(page, f"list-{language}")
    page.check("input[name=all]")
    page.click(".bulk-bar button >> nth=0")
    page.fill("#country", country)
    page.press("#country", "Tab")
    assert page.input_value("select[name='mode.country']") == "set"
    looked_at(page, f"form-{language}")
    page.click("main form button[type=submit]")
    expect(page.locator(".job-row-changed")).to_have_count(10)
    looked_at(page, f"changes-{language}")
    page.click("button[value=write]")
    expect(page.locator(".alert-success")).to_be_visible()
    with app.app_context():
        query: Any = select(func.count()).select_from(Site).where(Site.country == country)
        assert db.session.scalar(query) == 10
