"""The API as programs use it, by token: errors, pages, many at once, limits; the examples of docs/api.md on the real server."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from ezadmin_testing.cmdb import command, settings_file
from ezadmin_testing.described import KIM, PASSWORD, application, csrf, empty, host_id, make, sign_in
from ezadmin_testing.processes import Process, wait_until
from ezadmin_testing.secured import free_ports
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select, text

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.accounts import tokens
from ezadmin_cmdb.accounts.models import RequestQuota, User
from ezadmin_cmdb.actor import cli_actor
from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.database import db, unit_of_work
from ezadmin_cmdb.datacenter.sites import Site
from ezadmin_cmdb.describe import services
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.rights.permissions import known
from ezadmin_cmdb.settings import ApiLimits
from ezadmin_cmdb.web.schemas import MEDIA_TYPE, TYPES
from ezadmin_wire.names import Names

SITE = {"name": "New", "status": "active"}
DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def module_app(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    with application(database, tmp_path_factory.mktemp("web")) as app:
        app.testing = False  # an error of ours is to be an answer, as it is for users
        yield app


@pytest.fixture
def app(module_app: Flask) -> Flask:
    """The application on an empty database with an administrator."""
    empty(module_app)
    with module_app.app_context(), unit_of_work():
        accounts.create_user(KIM, "kim", PASSWORD, admin=True)
    return module_app


def new_token(app: Flask, *scopes: str, name: str = "kim") -> str:
    with app.app_context(), unit_of_work():
        user = accounts.find_user(name)
        every = [one.name for one in known() if not one.name.startswith("users.")]
        return tokens.create(cli_actor("kim"), user, "test", scopes or every)[1]


class Program:
    """A program with a token."""

    def __init__(self, app: Flask, token: str) -> None:
        self.client: FlaskClient = app.test_client(use_cookies=False)
        self.headers = {"Authorization": f"Bearer {token}"}

    def __call__(self, method: str, path: str, *, headers: dict[str, str] | None = None, **options: Any) -> Any:
        return self.client.open(f"/api/v1{path}", method=method, headers={**self.headers, **(headers or {})}, **options)


@pytest.fixture
def program(app: Flask) -> Program:
    return Program(app, new_token(app))


def made(app: Flask, name: str, *numbers: int) -> list[Any]:
    with app.app_context(), unit_of_work():
        return [make(name, n).id for n in numbers]


def problem(answer: Any, status: int) -> dict[str, Any]:
    """The problem that an answer is."""
    assert answer.status_code == status, answer.text
    assert answer.mimetype == MEDIA_TYPE
    found: dict[str, Any] = answer.json
    assert found["type"] == f"/api-docs/#{TYPES[status]}"
    assert found["status"] == status
    assert found["title"]
    assert found["detail"]
    assert re.fullmatch(r"[0-9a-f-]{36}", found["request_id"])
    return found


# -- errors ---


def test_each_error_is_a_problem(app: Flask, program: Program) -> None:
    (site,) = made(app, "site", 1)
    stranger = Program(app, new_token(app, "contact.view"))
    nobody = app.test_client()
    problem(nobody.get("/api/v1/sites"), 401)
    assert "Bearer" in nobody.get("/api/v1/sites").headers["WWW-Authenticate"]
    problem(Program(app, "ezt_wrong")("GET", "/sites"), 401)
    problem(stranger("GET", "/sites"), 403)
    problem(program("GET", "/sites/999999"), 404)
    problem(program("GET", "/nothing"), 404)
    method = program("PUT", f"/sites/{site}", json={})
    problem(method, 405)
    assert "PATCH" in method.headers["Allow"]
    problem(program("POST", "/sites", json={**SITE, "name": "Site 1"}), 409)
    problem(program("PATCH", f"/sites/{site}", json={"country": "x"}, headers={"If-Match": '"old"'}), 412)
    problem(program("POST", "/sites", data="{", content_type="application/json"), 400)
    problem(program("POST", "/sites", data="name=x", content_type="application/x-www-form-urlencoded"), 415)
    problem(program("POST", "/sites", data="<a/>", content_type="application/xml"), 415)
    problem(program("POST", "/sites/import", json=[]), 415)
    problem(
        program("POST", "/sites", data=b'{"name": "%s"}' % (b"x" * (1 << 21)), content_type="application/json"), 413
    )
    problem(program("DELETE", "/sites/bulk", json={"filter": ""}), 428)


@pytest.mark.parametrize(
    ("method", "path", "body", "fields"),
    [
        ("GET", "/sites?sort=colour", None, ["sort"]),
        ("GET", "/sites?size=0", None, ["size"]),
        ("GET", "/sites?size=501", None, ["size"]),
        ("GET", "/sites?page=x", None, ["page"]),
        ("GET", "/sites?page=-1", None, ["page"]),
        ("GET", "/sites?nothing=1", None, ["nothing"]),
        ("GET", "/sites?fields=name,nothing", None, ["fields"]),
        ("GET", "/sites?opened__gte=soon", None, ["opened__gte"]),
        ("GET", "/racks/space?units=none", None, ["units"]),
        ("POST", "/sites", {"name": 1, "opened": "soon", "colour": ""}, ["name", "opened", "colour", "status"]),
        ("POST", "/sites", [], ["json"]),
        ("POST", "/sites", {**SITE, "primary_contact": 77}, ["primary_contact"]),
        ("POST", "/sites/bulk", {"items": [SITE, {**SITE, "tags": [77]}]}, ["items.1.tags"]),
        (
            "POST",
            "/sites/bulk",
            {"items": [SITE, {"status": "active", "latitude": 91}]},
            ["items.1.latitude", "items.1.name"],
        ),
        ("PATCH", "/sites/bulk", {"filter": "", "set": {"tags": {"add": [77]}}}, ["set.tags"]),
        ("PATCH", "/sites/bulk", {"filter": "", "set": {"tags": {"put": [77]}}}, ["set.tags"]),
        ("PATCH", "/sites/bulk", {"filter": "", "set": {"tags": {}}}, ["set.tags"]),
        ("PATCH", "/sites/bulk", {"filter": "", "set": {}}, ["set"]),
        ("PATCH", "/sites/bulk", {"set": {"country": "x"}}, ["items"]),
        ("DELETE", "/sites/bulk", {"items": [{"id": 1}, {"id": 1}]}, ["items"]),
        ("DELETE", "/sites/bulk", {"filter": "nothing=1", "expected": 0}, ["nothing"]),
    ],
)
def test_each_wrong_value_is_named(
    app: Flask, program: Program, method: str, path: str, body: Any, fields: list[str]
) -> None:
    found = problem(program(method, path, json=body), 422)
    assert sorted(one["field"] for one in found["errors"]) == sorted(fields)
    assert all(one["detail"] for one in found["errors"])


def test_errors_speak_the_language_that_is_asked_for(app: Flask, program: Program) -> None:
    with app.app_context(), unit_of_work():
        db.session.execute(text("UPDATE users SET language = 'ko'"))
    english = problem(program("POST", "/sites", json={"status": "active"}), 422)
    assert english["errors"] == [{"field": "name", "detail": "It is missing. Give it a value."}], "not of the account"
    answer = program("POST", "/sites", json={}, headers={"Accept-Language": "ko-KR,ko;q=0.9,en;q=0.5"})
    korean = problem(answer, 422)
    assert answer.headers["Content-Language"] == "ko"
    for said in (korean["title"], korean["detail"], korean["errors"][0]["detail"]):
        assert re.search("[가-힣]", said), said
    for status in TYPES:
        with app.test_request_context(headers={"Accept-Language": "ko"}):
            from ezadmin_cmdb.web.errors import texts

            assert all(re.search("[가-힣]", said) for said in texts(status)), status


def test_an_error_of_ours_tells_its_number_and_nothing_else(
    app: Flask, program: Program, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_given: Any) -> None:
        services.create(KIM, find("tag"), {"name": "half", "color": "red"})
        raise RuntimeError("secret of the house")

    monkeypatch.setattr(services, "find", fail)
    caplog.set_level("ERROR")
    found = problem(program("GET", "/sites/1"), 500)
    assert "secret" not in json.dumps(found)
    assert "secret of the house" in caplog.text
    assert any(getattr(one, "fields", {}).get("http.request.id") == found["request_id"] for one in caplog.records)
    assert program("GET", "/tags").json["total"] == 0, "and nothing of it was written"


def test_a_page_is_no_problem(app: Flask) -> None:
    page = sign_in(app, "kim").get("/nothing")
    assert (page.status_code, page.mimetype) == (404, "text/html")


# -- pages ---


def links(answer: Any) -> dict[str, str]:
    return {one["rel"]: one["url"] for one in requests.utils.parse_header_links(answer.headers["Link"])}


def test_pages_are_linked(app: Flask, program: Program) -> None:
    made(app, "contact", *range(1, 6))
    path, seen, turns = "/contacts?size=2&fields=name&kind=person&kind=group", [], 0
    first = program("GET", path)
    assert set(links(first)) == {"first", "next", "last"}
    while path:
        answer = program("GET", path)
        assert answer.json["total"] == 5
        seen += [one["name"] for one in answer.json["items"]]
        assert all(set(one) == {"id", "name"} for one in answer.json["items"]), "what was asked is asked again"
        path = links(answer).get("next", "").removeprefix("http://localhost/api/v1")
        turns += 1
    assert seen == [f"Contact {n}" for n in range(1, 6)]
    assert turns == 3
    beyond = program("GET", "/contacts?size=2&page=9")
    assert (beyond.status_code, beyond.json["items"], beyond.json["page"], beyond.json["pages"]) == (200, [], 9, 3)
    assert links(beyond)["prev"].endswith("page=3")
    (contact,) = made(app, "contact", 1)
    assert set(links(program("GET", f"/contacts/{contact}/changes"))) == {"first", "last"}


# -- many at once ---


def test_many_are_made_or_none(app: Flask, program: Program) -> None:
    (contact,) = made(app, "contact", 1)
    rows = [{**SITE, "name": f"n{n}", "code": f"c{n}", "primary_contact": contact} for n in range(300)]
    dry = program("POST", "/sites/bulk", json={"items": rows, "dry_run": True}).json
    assert (dry["written"], dry["counts"]["new"]) == (False, 300)
    assert all(one["id"] is None for one in dry["items"])
    assert program("GET", "/sites").json["total"] == 0
    refused = problem(program("POST", "/sites/bulk", json={"items": [*rows, {**SITE, "name": "n7"}]}), 409)
    assert (refused["written"], refused["counts"]["wrong"]) == (False, 1)
    assert refused["items"][300]["errors"]
    assert program("GET", "/sites").json["total"] == 0
    some = program("POST", "/sites/bulk", json={"items": [*rows, {**SITE, "name": "n7"}], "skip_wrong": True}).json
    assert (some["written"], some["counts"]["new"], some["counts"]["wrong"]) == (True, 300, 1)
    one = program("GET", f"/sites/{some['items'][42]['id']}").json
    assert (one["name"], one["primary_contact"]["name"]) == ("n42", "Contact 1")
    with app.app_context():
        recorded = db.session.scalars(select(Change).where(Change.object_type == "site")).all()
        assert len(recorded) == 300
        assert {(one.actor, one.source) for one in recorded} == {("kim", "api")}
        assert len({one.request_id for one in recorded}) == 1
    assert program("POST", "/hosts/bulk", json={"items": []}).status_code == 405, "hosts are made by their agents"


def test_single_tags_are_added_and_taken_away(app: Flask, program: Program) -> None:
    sites, tags = made(app, "site", 1, 2), made(app, "tag", 1, 2, 3)
    program("PATCH", f"/sites/{sites[0]}", json={"tags": tags[:2]})

    def now() -> list[list[str]]:
        return [[tag["name"] for tag in program("GET", f"/sites/{one}").json["tags"]] for one in sites]

    assert now() == [["Tag 1", "Tag 2"], []]
    asked = {"filter": "", "set": {"tags": {"add": [tags[2]], "remove": [tags[0]]}}, "dry_run": True}
    dry = program("PATCH", "/sites/bulk", json=asked).json
    names = [[[tag["name"] for tag in side] for side in one["changes"]["tags"]] for one in dry["items"]]
    assert names == [[["Tag 1", "Tag 2"], ["Tag 2", "Tag 3"]], [[], ["Tag 3"]]]
    assert now() == [["Tag 1", "Tag 2"], []], "so far it was only said"
    assert program("PATCH", "/sites/bulk", json={**asked, "dry_run": False}).json["written"]
    assert now() == [["Tag 2", "Tag 3"], ["Tag 3"]]
    again = program("PATCH", "/sites/bulk", json={**asked, "dry_run": False}).json
    assert again["counts"]["unchanged"] == 2
    assert program("PATCH", f"/sites/{sites[1]}", json={"tags": {"add": [tags[0]]}}).status_code == 200, "one, too"
    assert now()[1] == ["Tag 1", "Tag 3"]
    program("PATCH", "/sites/bulk", json={"filter": "", "set": {"tags": [tags[1]]}})
    assert now() == [["Tag 2"], ["Tag 2"]], "a list takes the place of all"


def test_hosts_that_are_not_seen_stay_in_a_group_that_is_changed(app: Flask) -> None:
    with app.app_context(), unit_of_work():
        first, second, third = (make("host", n) for n in (1, 2, 3))
        group = services.create(KIM, find("host_group"), {"name": "all", "hosts": [first, second]})
        mine = services.create(KIM, find("host_group"), {"name": "mine", "hosts": [first, third]})
        user = accounts.create_user(KIM, "lee", PASSWORD, admin=False)
        role = services.create(KIM, find("role"), {"name": "r", "permissions": ["host.view"]})
        groups = services.create(KIM, find("role"), {"name": "g", "permissions": ["host_group.change"]})
        services.create(KIM, find("grant"), {"user": user, "role": role, "group": mine})
        services.create(KIM, find("grant"), {"user": user, "role": groups})
        group_id = group.id
    lee = Program(app, new_token(app, "host.view", "host_group.change", name="lee"))
    change = {"hosts": {"add": [host_id(3)], "remove": [host_id(1)]}}
    answer = lee("PATCH", f"/host-groups/{group_id}", json=change)
    assert [one["name"] for one in answer.json["hosts"]] == ["Host 3"]
    with app.app_context():
        assert {one.name for one in services.find(KIM, find("host_group"), group_id).hosts} == {"Host 2", "Host 3"}
    hidden = lee("PATCH", f"/host-groups/{group_id}", json={"hosts": {"remove": [host_id(2)]}})
    assert problem(hidden, 422)["errors"][0]["field"] == "hosts", "nobody takes out what he cannot see"


def test_nobody_deletes_more_than_he_saw(app: Flask, program: Program) -> None:
    sites = made(app, "site", 1, 2, 3)
    versions = [program("GET", f"/sites/{one}").headers["ETag"] for one in sites]
    problem(program("DELETE", "/sites/bulk", json={"filter": "q=site"}), 428)
    look = program("DELETE", "/sites/bulk", json={"filter": "q=site", "dry_run": True}).json
    assert (look["written"], look["counts"]["deleted"]) == (False, 3)
    made(app, "site", 4)
    told = problem(program("DELETE", "/sites/bulk", json={"filter": "q=site", "expected": 3}), 412)
    assert "4" in told["detail"]
    problem(program("PATCH", "/sites/bulk", json={"filter": "", "expected": 3, "set": {"country": "x"}}), 412)
    program("PATCH", f"/sites/{sites[1]}", json={"country": "Korea"})
    chosen = [{"id": one, "version": tag} for one, tag in zip(sites, versions, strict=True)]
    refused = problem(program("DELETE", "/sites/bulk", json={"items": chosen}), 409)
    assert [one["status"] for one in refused["items"]] == ["deleted", "wrong", "deleted"]
    assert program("GET", "/sites").json["total"] == 4, "all or nothing"
    some = program("DELETE", "/sites/bulk", json={"items": chosen, "skip_wrong": True}).json
    assert (some["written"], some["counts"]["deleted"], some["counts"]["wrong"]) == (True, 2, 1)
    assert program("DELETE", "/sites/bulk", json={"filter": "", "expected": 2}).json["counts"]["deleted"] == 2
    used = made(app, "rack", 7)
    assert used
    kept = problem(program("DELETE", "/rooms/bulk", json={"filter": "", "expected": 1}), 409)
    assert "1" in kept["items"][0]["errors"][""], "and what others use is kept, and says by whom"
    with app.app_context():
        gone = db.session.scalars(select(Change).where(Change.object_type == "site", Change.action == "delete")).all()
        assert len(gone) == 4


def test_by_page_tags_are_added_taken_away_and_replaced(app: Flask) -> None:
    sites, tags = made(app, "site", 1, 2), made(app, "tag", 1, 2)
    client = sign_in(app, "kim")
    guard = csrf(client)

    def change(mode: str, *names: str) -> list[list[str]]:
        form = {
            "csrf_token": guard,
            "id": [str(one) for one in sites],
            "step": "preview",
            "mode.tags": mode,
            "tags": [*names],
        }
        answer = client.post("/sites/bulk", data=form)
        if answer.status_code != 302:
            return [[str(answer.status_code)]]
        where = answer.headers["Location"]
        client.post(where, data={"csrf_token": guard, "do": "write"})
        found = [client.get(f"/api/v1/sites/{one}").json["tags"] for one in sites]
        return [[tag["name"] for tag in one] for one in found]

    page = client.post("/sites/bulk", data={"csrf_token": guard, "id": [str(sites[0])]}).text
    assert re.findall(r'<option value="(\w+)"', page.partition('name="mode.tags"')[2].partition("</select>")[0]) == [
        "add", "remove", "set", "clear",
    ]  # fmt: skip
    assert change("add", "Tag 1") == [["Tag 1"], ["Tag 1"]]
    assert change("add", "Tag 2") == [["Tag 1", "Tag 2"]] * 2
    assert change("remove", "Tag 1") == [["Tag 2"], ["Tag 2"]]
    assert change("", "Tag 1") == [["422"]], "what is left is left"
    assert change("add") == [["422"]], "nothing is chosen"
    assert change("set", "Tag 1") == [["Tag 1"], ["Tag 1"]]
    assert change("clear") == [[], []]
    assert len(tags) == 2


# -- limits ---


@pytest.fixture
def limited(module_app: Flask, app: Flask) -> Iterator[Callable[..., None]]:
    """Sets the limits."""
    settings = module_app.extensions["ezadmin_settings"]

    def limit(**given: int) -> None:
        object.__setattr__(settings, "api", ApiLimits(**given))

    yield limit
    limit()


def test_a_token_may_make_so_many_requests(app: Flask, limited: Callable[..., None]) -> None:
    limited(requests_per_minute=1, burst=5)
    program, other = Program(app, new_token(app)), Program(app, new_token(app))
    answers = [program("GET", "/sites") for _ in range(8)]
    assert [one.status_code for one in answers] == [200] * 5 + [429] * 3
    assert answers[0].headers["RateLimit-Policy"] == '"token";q=5;w=300'
    assert answers[0].headers["RateLimit"] == '"token";r=4;t=60'
    found = problem(answers[-1], 429)
    seconds = int(answers[-1].headers["Retry-After"])
    assert 1 <= seconds <= 60
    assert f"{seconds} seconds" in found["detail"]
    assert answers[-1].headers["RateLimit"].startswith('"token";r=0;t=')
    assert other("GET", "/sites").status_code == 200, "each token has its own"
    assert sign_in(app, "kim").get("/api/v1/sites").status_code == 200, "a browser has none"
    limited(requests_per_minute=0)
    unlimited = [program("GET", "/sites") for _ in range(8)]
    assert {one.status_code for one in unlimited} == {200}
    assert "RateLimit" not in unlimited[0].headers


def test_after_as_long_as_was_said_the_next_is_answered(app: Flask, limited: Callable[..., None]) -> None:
    limited(requests_per_minute=15, burst=1)
    program = Program(app, new_token(app))
    refused = next(one for one in (program("GET", "/sites") for _ in range(20)) if one.status_code == 429)
    time.sleep(int(refused.headers["Retry-After"]))
    assert program("GET", "/sites").status_code == 200


def test_wrong_tokens_are_limited_by_address(app: Flask, limited: Callable[..., None]) -> None:
    limited(wrong_tokens_per_minute=3)
    right = Program(app, new_token(app))

    def attempt(address: str) -> int:
        guess = Program(app, f"ezt_{secrets.token_hex(8)}")
        return int(guess("GET", "/sites", environ_base={"REMOTE_ADDR": address}).status_code)

    assert [attempt("192.0.2.1") for _ in range(5)] == [401, 401, 401, 429, 429]
    assert attempt("192.0.2.2") == 401
    assert [attempt(f"2001:db8::{n}") for n in range(1, 5)] == [401, 401, 401, 429], "a /64 is one"
    assert attempt("2001:db8:0:1::1") == 401
    answer = right("GET", "/sites", environ_base={"REMOTE_ADDR": "192.0.2.1"})
    assert answer.status_code == 200, "who has a right one is not kept out by his neighbours"
    with app.app_context():
        kept = set(db.session.scalars(select(RequestQuota.subject)))
        assert len(kept) == 5, "guesses leave no rows"


def test_buckets_that_are_long_full_are_forgotten(app: Flask) -> None:
    with app.app_context(), unit_of_work():
        db.session.execute(text("INSERT INTO request_quotas VALUES ('old', NOW(6) - INTERVAL 2 DAY), ('new', NOW(6))"))
    assert Program(app, new_token(app))("GET", "/sites").status_code == 200
    with app.app_context():
        kept = set(db.session.scalars(select(RequestQuota.subject)))
    assert "old" not in kept
    assert "new" in kept


# -- the real server ---


@dataclass(frozen=True)
class Server:
    """``ezadmin-cmdb web`` with three processes."""

    url: str
    config: Path

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            command(*arguments, "--config", self.config), check=True, capture_output=True, text=True, timeout=60
        )
        return done.stdout.strip()


@pytest.fixture
def serve(stack: Any, database: str, app: Flask, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    started: list[Process] = []

    def start(api: str = "") -> Server:
        (port,) = free_ports(1)
        top = f'secret_key_file = "{tmp_path / "secret"}"'
        web = f'host = "127.0.0.1"\nport = {port}\nworkers = 3\nthreads = 4'
        config = settings_file(tmp_path, database, stack.kafka, Names("tapi"), top=top, web=web, api=api)
        process = Process(command("web", "--config", config), tmp_path / "web.log").start()
        started.append(process)
        server = Server(f"http://127.0.0.1:{port}", config)

        def answers() -> bool:
            try:
                return requests.get(f"{server.url}/healthz", timeout=2).ok
            except (requests.ConnectionError, requests.Timeout):
                assert process.running, process.log.read_text()
                return False

        wait_until(answers, 120, "the web application answers")
        return server

    yield start
    for process in started:
        process.stop()


def test_all_processes_count_together(app: Flask, serve: Callable[..., Server]) -> None:
    """As many as the bucket holds, whatever process answers: six at a time, through three processes."""
    server = serve("requests_per_minute = 1\nburst = 40")
    headers = {"Authorization": f"Bearer {new_token(app, 'site.view')}"}

    def ask(_number: int) -> tuple[int, str]:
        answer = requests.get(f"{server.url}/api/v1/sites", headers=headers, timeout=30)
        assert "RateLimit" in answer.headers, answer.text
        return answer.status_code, answer.headers["RateLimit"]

    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(ask, range(100)))
    statuses = Counter(status for status, _left in answers)
    assert set(statuses) == {200, 429}
    assert 40 <= statuses[200] <= 43, "one a minute flows back"
    left = [int(re.findall(r"r=(\d+)", limit)[0]) for status, limit in answers if status == 200]
    assert len(set(left)) >= 40 - 3, "and each was told another number"


BLOCK = re.compile(r"^```(sh|json|http)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_examples_of_the_documentation(app: Flask, serve: Callable[..., Server], tmp_path: Path) -> None:
    with app.app_context(), unit_of_work():  # the numbers in the examples are those of new tables
        for table in ("sites", "tags", "webhooks"):
            db.session.execute(text(f"ALTER TABLE {table} AUTO_INCREMENT = 1"))
    server = serve()
    blocks = BLOCK.findall((DOCS / "api.md").read_text())
    shell = [code for kind, code in blocks if kind == "sh"]
    assert len(shell) >= 15
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ezadmin-cmdb").write_text(f'#!/bin/sh\nexec {sys.executable} -m ezadmin_cmdb.main "$@"\n')
    (tmp_path / "bin" / "ezadmin-cmdb").chmod(0o755)
    script = "set -euo pipefail\n" + "\n".join(f"{code}\nprintf '\\0'" for code in shell)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "EZADMIN": server.url, "EZADMIN_CMDB_CONFIG": str(server.config)}
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    outputs = done.stdout.replace(server.url, "https://cmdb.example.com").split("\0")
    assert done.returncode == 0, (done.stderr, outputs[-1])
    wrong, at = [], -1
    for kind, said in blocks:
        if kind == "sh":
            at += 1
        elif kind == "json":
            if not outputs[at].startswith("{") or not fits(json.loads(said), json.loads(outputs[at])):
                wrong.append(f"{shell[at]}\n{said}\nis {outputs[at]}")
        else:
            lines = outputs[at].splitlines()
            missing = [one for one in said.splitlines() if not any(fits(one, line) for line in lines)]
            wrong += [f"{shell[at]}\n{one}\nis not in {outputs[at]}" for one in missing]
    assert not wrong, "\n\n".join(wrong)


def fits(said: Any, found: Any) -> bool:
    """Whether an answer is as said: members of objects that are not told of do not count, … is anything."""
    if said == "…":
        return True
    if isinstance(said, dict):
        return isinstance(found, dict) and all(name in found and fits(one, found[name]) for name, one in said.items())
    if isinstance(said, list):
        return isinstance(found, list) and len(said) == len(found) and all(map(fits, said, found))
    if isinstance(said, str) and isinstance(found, str):
        return re.fullmatch(re.escape(said).replace("…", ".*"), found) is not None
    return bool(said == found)


def test_the_documentation_names_each_error(app: Flask) -> None:
    told = re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", (DOCS / "api.md").read_text(), re.MULTILINE)
    assert [(int(status), name) for name, status in told] == list(TYPES.items())


# -- the reference ---


def test_the_reference_as_pages(app: Flask) -> None:
    client = sign_in(app, "kim")
    index = client.get("/api-docs/")
    assert index.status_code == 200
    assert all(f'id="{name}"' in index.text for name in TYPES.values()), "where the types of problems lead to"
    sections = re.findall(r'href="(/api-docs/[^"#]+)"', index.text)
    assert len(sections) > 20
    paths = set(client.get("/api/v1/openapi.json").json["paths"])
    shown: set[str] = set()
    for address in sections:
        page = client.get(address)
        assert page.status_code == 200
        assert len(page.data) < 300_000, address
        shown |= set(re.findall(r"<code>\w+ (/api/v1[^<]*)</code>", page.text))
    assert shown == paths
    assert client.get("/api-docs/nothing").status_code == 404
    away = app.test_client().get("/api-docs/")
    assert (away.status_code, "/sign-in" in away.headers["Location"]) == (302, True)


def test_openapi_says_which_permission_each_request_needs(app: Flask) -> None:
    paths = sign_in(app, "kim").get("/api/v1/openapi.json").json["paths"]
    assert paths["/api/v1/sites/bulk"]["delete"]["security"] == [{"token": ["site.delete"]}]
    assert paths["/api/v1/search"]["get"]["security"] == [{"token": []}]
    assert paths["/api/v1/hosts/{host_id}/arrivals/{event_id}"]["get"]["security"] == []
    names = {one.name for one in known()}
    for path, operations in paths.items():
        for method, operation in operations.items():
            if method == "parameters":
                continue
            assert {name for one in operation["security"] for name in one["token"]} <= names
            for status, answer in operation["responses"].items():
                if status >= "400" and "$ref" not in answer:
                    assert set(answer["content"]) == {MEDIA_TYPE}, (method, path, status)
    with app.app_context():
        assert db.session.scalar(select(func.count()).select_from(User)) == 1
        assert db.session.scalar(select(func.count()).select_from(Site)) == 0
