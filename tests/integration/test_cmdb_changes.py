"""The list of all changes: by requests, filtered by field, person, way and time, quick whatever it holds."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing.described import KIM, PASSWORD, application, csrf, empty, host_id, make, sign_in
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import insert, text

from ezadmin_cmdb import main
from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.changes import groups
from ezadmin_cmdb.changes.description import CHANGE
from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.database import db, unit_of_work, utc_now
from ezadmin_cmdb.describe import query, services
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.hosts import states
from ezadmin_cmdb.hosts.models import Host


@pytest.fixture(scope="module")
def module_app(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    with application(database, tmp_path_factory.mktemp("web")) as app:
        yield app


@pytest.fixture
def app(module_app: Flask) -> Flask:
    empty(module_app)
    with module_app.app_context(), unit_of_work():
        accounts.create_user(KIM, "kim", PASSWORD, admin=True)
    return module_app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return sign_in(app, "kim")


def groups_of(client: FlaskClient, asked: str = "q=", more: str = "") -> list[str]:
    """The text of each group of the page."""
    page = client.get(f"/changes/?{asked}{more}")
    assert page.status_code == 200
    assert len(page.data) < 300_000
    parts = re.findall(r"<tbody>(.*?)</tbody>", page.text, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]+>", " ", part).split()) for part in parts]


def change_many(client: FlaskClient, number: int, **texts: str) -> None:
    form: dict[str, Any] = {"csrf_token": csrf(client), "all": "1"}
    for name, value in texts.items():
        form |= {f"mode.{name}": "set", name: value}
    answer = client.post("/hosts/bulk?q=Host", data={**form, "step": "preview"})
    assert answer.status_code == 302, answer.text
    job = answer.headers["Location"]
    assert client.post(job, data={"csrf_token": csrf(client), "do": "write"}).status_code == 302
    assert f"{number}" in client.get(job).text


def test_a_change_of_many_hosts_is_one_group_that_unfolds(app: Flask, client: FlaskClient) -> None:
    with app.app_context(), unit_of_work():
        for n in range(1, 121):
            make("host", n)
        make("site", 1)
    change_many(client, 120, note="moved", environment="staging")
    (first, *_others) = groups_of(client)
    assert "kim" in first
    assert "120 changes" in first
    assert "Environment, Note" in first
    page = client.get("/changes/").text
    request_id = re.search(r"request_id=([0-9a-f-]{36})", page)
    assert request_id is not None
    part = client.get(f"/changes/?request_id={request_id[1]}&sort=object_name", headers={"HX-Target": "members-1"}).text
    assert part.count('<article class="change">') == 50
    assert "<html" not in part
    assert "70 left" in part
    last = client.get(f"/changes/?request_id={request_id[1]}&page=3", headers={"HX-Target": "members-more-1"}).text
    assert (last.count('<article class="change">'), "left" in last) == (20, False)
    assert "moved" in last
    flat = client.get(f"/changes/?request_id={request_id[1]}&sort=-time").text
    assert "of 120" in flat
    host = client.get("/hosts/00000000-0000-4000-8000-000000000007/history").text
    assert f"/changes/?request_id={request_id[1]}" in host


def test_filters(app: Flask, client: FlaskClient) -> None:
    with app.app_context(), unit_of_work():
        accounts.create_user(KIM, "lee", PASSWORD, admin=True)
        site_id, changed = make("site", 1).id, make("host", 1).id
    lee_client = sign_in(app, "lee")
    headers = {"X-CSRFToken": csrf(lee_client)}
    assert lee_client.patch(f"/api/v1/sites/{site_id}", json={"country": "Korea"}, headers=headers).status_code == 200
    file = "\ufeffname,url\nSite 1,https://example.com/\n".encode()
    answer = lee_client.post("/api/v1/sites/import", data=file, headers={**headers, "Content-Type": "text/csv"})
    assert answer.status_code == 200, answer.json
    with app.app_context(), unit_of_work():
        services.update(KIM, find("host"), db.session.get(Host, changed), {"serial": "S-1"})
    for asked, count in [
        ("fields_changed=country", 1), ("fields_changed=serial", 1), ("fields_changed=url&source=import", 1),
        ("fields_changed=code&action=create&object_type=site", 1), ("actor=lee", 2), ("source=import", 1), ("source=api", 1),
        (f"time__gte={utc_now().date().isoformat()}&actor=lee", 2),
        (f"time__lte={(utc_now() - timedelta(days=2)).date().isoformat()}", 0),
        (f"object_type=site&object_id={site_id}", 3), ("q=lee", 3),
    ]:  # fmt: skip
        assert len(groups_of(client, asked)) == count, asked
    api = client.get("/api/v1/changes?fields_changed=serial").json
    assert [one["object_type"] for one in api["items"]] == ["host"]
    assert "declared serial" in api["items"][0]["fields_changed"]
    for wrong in ("fields_changed=%22", "fields_changed=Ä"):
        assert client.get(f"/api/v1/changes?{wrong}").status_code == 422
    form = client.get("/changes/filter", headers={"HX-Request": "true"}).text
    assert '<option value="serial"' in form
    for language, label in (("en", "Serial number"), ("ko", "시리얼 번호")):
        chips = client.get("/changes/?fields_changed=serial", headers={"Accept-Language": language}).text
        assert label in chips


def test_what_a_command_or_a_rule_does_is_one_group(app: Flask, tmp_path: Path) -> None:
    config = tmp_path / "cmdb.toml"
    url = app.config["SQLALCHEMY_DATABASE_URI"]
    config.write_text(
        f'database = "{url}"\nconfig_signing_key = "none"\n[kafka]\nbootstrap = "127.0.0.1:1"\n'
        '[elasticsearch]\nurl = "http://127.0.0.1:1"\n'
    )
    file = tmp_path / "sites.csv"
    file.write_text("name,code,status\n" + "".join(f"S{n},C{n},active\n" for n in range(5)))
    assert main.main(["import", "site", str(file), "--config", str(config)]) == 0
    old = utc_now() - timedelta(days=1)
    with app.app_context(), unit_of_work():
        db.session.execute(
            insert(Host),
            [
                {"id": host_id(n), "name": f"h{n}", "state": "active", "created": old, "state_since": old}
                for n in range(1, 4)
            ],
        )
    with app.app_context():
        assert states.apply() == 3
        found, older = groups.page(KIM, CHANGE, query.Query())
        assert [(one.newest.source, one.total) for one in found][:2] == [("rule", 3), ("import", 5)]
        assert not older


def test_older_ones_page_by_page_and_quick(app: Flask, client: FlaskClient) -> None:
    """60,000 changes of 1,200 requests and 2,000 alone: every one is met once, and no page takes long."""
    begin = utc_now() - timedelta(days=3)
    rows: list[dict[str, Any]] = []
    for n in range(1200):
        common = {
            "actor": f"person {n % 7}", "source": "ui", "action": "update", "object_type": "host", "fields": {"note": [None, n]},
            "time": begin + timedelta(seconds=n),
        }  # fmt: skip
        many = 10_000 if n == 600 else 41
        rows += [
            {**common, "request_id": f"r{n}", "object_id": str(k), "object_name": f"host {k}"} for k in range(many)
        ]
        rows += [{**common, "request_id": None, "object_id": "1", "object_name": "alone"}] if n % 2 else []
    with app.app_context(), unit_of_work():
        db.session.execute(text("DELETE FROM changes"))
        for first in range(0, len(rows), 5000):
            db.session.execute(insert(Change), rows[first : first + 5000])
    with app.app_context():
        met: list[str] = []
        total, before, slowest = 0, None, 0.0
        while True:
            began = time.perf_counter()
            found, older = groups.page(KIM, CHANGE, query.Query(), before)
            slowest = max(slowest, time.perf_counter() - began)
            met += [one.newest.request_id or f"alone {one.newest.id}" for one in found]
            total += sum(one.total for one in found)
            before = found[-1].newest.id
            if not older:
                break
        assert (len(met), len(set(met)), total) == (1800, 1800, len(rows))
        assert slowest < 3, "a page is read along the key, not from all of them"
    texts = groups_of(client, "actor=person+3")
    assert len(texts) == 50
    assert all("person 3" in one for one in texts)
