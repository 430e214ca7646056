"""What an attacker tries in the pages and the API: stored scripts, forged requests, missing headers, formulas."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from ezadmin_testing.described import KIM, PASSWORD, csrf, empty, make, sign_in
from flask import Flask
from flask.testing import FlaskClient

from ezadmin_cmdb import migrate
from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.app import create_app
from ezadmin_cmdb.database import db, unit_of_work
from ezadmin_cmdb.describe import services
from ezadmin_cmdb.describe.description import Description, known
from ezadmin_cmdb.describe.fields import Address, Email, Text, Url
from ezadmin_cmdb.settings import ElasticConnection, KafkaConnection, Settings, Web
from ezadmin_cmdb.web.access import PUBLIC, need_of, routes

EVIL = "<img src=x onerror=alert(1)>'\"&{{7*7}}"
CHANGEABLE = [one for one in known() if one.changeable]
UNSAFE = {"POST", "PATCH", "PUT", "DELETE"}


def _app(database: str, folder: Path, web: Web) -> Flask:
    settings = Settings(
        database=database, kafka=KafkaConnection("127.0.0.1:1"), config_signing_key=Path("none"),
        elasticsearch=ElasticConnection(("http://127.0.0.1:1",)), secret_key_file=folder / "secret", web=web,
    )  # fmt: skip
    return create_app(settings)


@pytest.fixture(scope="module")
def app(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    app = _app(database, tmp_path_factory.mktemp("web"), Web())
    with app.app_context():
        migrate.upgrade(db.engine)
    empty(app)
    with app.app_context(), unit_of_work():
        accounts.create_user(KIM, "kim", PASSWORD, admin=True)
    yield app
    app.extensions["ezadmin_elastic"].close()
    app.extensions["ezadmin_kafka"].close()
    with app.app_context():
        db.engine.dispose()


@pytest.fixture(scope="module")
def client(app: Flask) -> FlaskClient:
    return sign_in(app, "kim")


def evil_texts(d: Description) -> list[Text]:
    """The text fields that take any text."""
    return [
        one
        for one in d.all_fields()
        if isinstance(one, Text) and one.editable and not isinstance(one, (Url, Email, Address)) and not one.pattern
        and one.length >= len(EVIL)
    ]  # fmt: skip


@pytest.mark.parametrize("d", CHANGEABLE, ids=lambda one: one.name)
def test_no_stored_text_becomes_markup(app: Flask, client: FlaskClient, d: Description) -> None:
    """Each text field of each model, on each page that shows it."""
    with app.app_context(), unit_of_work():
        obj = make(d.name, 100 + CHANGEABLE.index(d))  # a number of its own: others find theirs by name
        written = 0
        for one in evil_texts(d):
            with db.session.begin_nested() as savepoint:
                try:
                    services.update(KIM, d, obj, {one.name: EVIL})
                    written += 1
                except Exception:  # noqa: BLE001 - the model has a rule of its own for this field (a filter, say)
                    savepoint.rollback()
        object_id = obj.id
    assert written or not evil_texts(d)
    paths = [f"/{d.path}/", f"/{d.path}/?q=onerror", f"/{d.path}/{object_id}", f"/{d.path}/{object_id}/edit"]
    paths += [f"/{d.path}/filter", f"/{d.path}/options?q=onerror", f"/{d.path}/{object_id}/history", "/changes/"]
    paths += ["/search/?q=onerror", "/search/suggest?q=onerror"]
    paths += [f"/{d.path}/{object_id}/delete"] if d.deletable else []
    seen = 0
    for path in paths:
        page = client.get(path)
        assert page.status_code == 200, path
        assert "<img src=x" not in page.text, path
        assert not re.search(r"""=["'][^"'<>]*<img""", page.text), path
        seen += "&lt;img src=x" in page.text
        assert "49" not in re.findall(r"&amp;(\S+)", page.text), "a template in a value is text"
    assert seen or not written


def test_words_of_addresses_do_not_become_markup(client: FlaskClient) -> None:
    for d in known():
        for path in (f"/{d.path}/?q=%3Cimg src=x%3E", f"/{d.path}/?sort=%3Cimg src=x%3E&columns=%3Cimg src=x%3E"):
            page = client.get(path)
            assert page.status_code == 200, path
            assert "<img src=x" not in page.text, path


def test_each_request_that_changes_something_needs_the_token(app: Flask, client: FlaskClient) -> None:
    """CSRF: from another site's page a browser sends the cookie, but neither token nor a header of the same origin."""
    tried = 0
    for endpoint, rule, method in routes(app):
        if method not in UNSAFE:
            continue
        path = re.sub(r"<uuid:\w+>", "00000000-0000-4000-8000-000000000001", rule)
        path = re.sub(r"<(int:)?\w+>", "1", path)
        without = client.open(path, method=method, data={} if not rule.startswith("/api/") else None)
        assert without.status_code == 400, (method, rule, without.status_code)
        tried += 1
        if need_of(app, endpoint, method) != PUBLIC:
            for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
                guard = csrf(client)
                forged = client.open(path, method=method, headers={**headers, "X-CSRFToken": guard})
                assert forged.status_code == 403, (method, rule, headers, forged.status_code)
    assert tried > 50


def test_a_refused_request_has_a_number(client: FlaskClient) -> None:
    refused = client.post("/api/v1/sites", json={"name": "x"})
    assert refused.status_code == 400
    assert refused.json["request_id"]


def test_headers_of_every_answer(app: Flask, client: FlaskClient) -> None:
    for path, status in (
        ("/account", 200), ("/sites/", 200), ("/api/v1/sites", 200), ("/api/v1/none", 404), ("/none", 404), ("/sign-in", 302),
        ("/static/app.css", 200), ("/sites/export.csv", 200),
    ):  # fmt: skip
        answer = client.get(path)
        assert answer.status_code == status, path
        headers = answer.headers
        policy = dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self'", "no script in a page, no eval"
        assert policy["style-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["form-action"] == "'self'"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in headers
        if "/static/" not in path:
            assert headers["Cache-Control"] == "no-store"
        answer.close()


def test_no_page_has_inline_scripts_or_styles(client: FlaskClient) -> None:
    for path in ("/account", *(f"/{d.path}/" for d in known())):
        text = client.get(path).text
        assert not re.search(r"<script(?![^>]*\bsrc=)", text), path
        assert not re.search(r"<[^>]+\s(on[a-z]+|style)=", re.sub(r'"[^"]*"', '""', text)), path


def test_cookies(database: str, app: Flask, tmp_path: Path) -> None:
    plain = app.test_client()
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', plain.get("/sign-in").text)
    assert token is not None
    form = {"name": "kim", "password": PASSWORD, "csrf_token": token[1]}
    for given in plain.post("/sign-in", data=form).headers.getlist("Set-Cookie"):
        assert "HttpOnly" in given
        assert "SameSite=Lax" in given
    secure = _app(database, tmp_path, Web(url="https://ezadmin.example.com"))
    answer = secure.test_client().get("/sign-in", base_url="https://ezadmin.example.com")
    cookies = answer.headers.getlist("Set-Cookie")
    assert cookies
    for given in cookies:
        assert given.startswith("__Host-")
        assert "Secure" in given
    assert answer.headers["Strict-Transport-Security"]
    secure.extensions["ezadmin_elastic"].close()
    with secure.app_context():
        db.engine.dispose()


def test_where_one_goes_after_signing_in_is_here(app: Flask) -> None:
    for wanted in ("https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)"):
        browser = app.test_client()
        page = browser.get("/sign-in", query_string={"next": wanted})
        token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page.text)
        assert token is not None
        form = {"name": "kim", "password": PASSWORD, "csrf_token": token[1], "next": wanted}
        where = browser.post("/sign-in", data=form, query_string={"next": wanted}).headers["Location"]
        assert where.startswith("/"), wanted
        assert not where.startswith(("//", "/\\")), wanted


@pytest.mark.parametrize("d", CHANGEABLE, ids=lambda one: one.name)
def test_no_cell_of_any_model_is_a_formula(app: Flask, client: FlaskClient, d: Description) -> None:
    formula = '=HYPERLINK("http://evil.example","x")'
    with app.app_context(), unit_of_work():
        obj = make(d.name, 200 + CHANGEABLE.index(d))
        for one in evil_texts(d):
            with db.session.begin_nested() as savepoint:
                try:
                    services.update(KIM, d, obj, {one.name: formula})
                except Exception:  # noqa: BLE001 - a rule of its own
                    savepoint.rollback()
    text = client.get(f"/{d.path}/export.csv").text
    assert not re.search(r'(^|,)"?[=@+]', text, re.MULTILINE)
