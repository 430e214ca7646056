"""Many objects at once, tried with every described model: bulk change, bulk deletion, import of CSV; by page and API."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ezadmin_testing.described import KIM, PASSWORD, SAMPLES, application, csrf, empty, host_id, make, sign_in
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, func, insert, select, update

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.accounts.models import User
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.database import db, unit_of_work, utc_now
from ezadmin_cmdb.datacenter.contacts import Contact
from ezadmin_cmdb.datacenter.sites import Site
from ezadmin_cmdb.describe import bulk, bulkapi, importing, services, tabular
from ezadmin_cmdb.describe.bulk import Item
from ezadmin_cmdb.describe.description import Description, find, known
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.jobs import runner
from ezadmin_cmdb.jobs import services as jobs
from ezadmin_cmdb.jobs.models import Job, JobRow
from ezadmin_cmdb.main import cli
from ezadmin_cmdb.outbox.models import ConfigRecord
from ezadmin_cmdb.rights.services import rights_of

COUNTS = Path(__file__).with_name("bulk_query_counts.json")
CHANGEABLE = pytest.mark.parametrize("d", [one for one in known() if one.changeable], ids=lambda one: one.name)
DELETABLE = pytest.mark.parametrize("d", [one for one in known() if one.deletable], ids=lambda one: one.name)


@pytest.fixture(scope="module")
def module_app(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    with application(database, tmp_path_factory.mktemp("web")) as app:
        yield app


@pytest.fixture
def app(module_app: Flask) -> Flask:
    """The application on an empty database with one administrator."""
    empty(module_app)
    with module_app.app_context(), unit_of_work():
        accounts.create_user(KIM, "kim", PASSWORD, admin=True)
    return module_app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return sign_in(app, "kim")


def made(app: Flask, name: str, *numbers: int) -> list[Any]:
    with app.app_context(), unit_of_work():
        return [make(name, n).id for n in numbers]


def upload(client: FlaskClient, path: str, data: bytes | str, guard: str) -> Any:
    content = data.encode() if isinstance(data, str) else data
    part = b'--x\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    body = (
        part % (b"csrf_token", b"", guard.encode()) + part % (b"file", b'; filename="list.csv"', content) + b"--x--\r\n"
    )
    return client.post(f"/{path}/import", data=body, content_type="multipart/form-data; boundary=x")


def lines(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.removeprefix(tabular.BOM))))


def records(app: Flask, d: Description, action: str) -> list[Change]:
    with app.app_context():
        query = select(Change).where(Change.object_type == d.name, Change.action == action).order_by(Change.id)
        return list(db.session.scalars(query))


# -- every model ---


@CHANGEABLE
def test_bulk_change_by_page(app: Flask, client: FlaskClient, d: Description) -> None:
    ids, guard, change = made(app, d.name, 1, 2, 3), csrf(client), dict(SAMPLES[d.name].change)
    form = {"csrf_token": guard, "id": [str(one) for one in ids[:2]]}
    page = client.post(f"/{d.path}/bulk", data=form)
    assert page.status_code == 200
    with app.app_context():
        fields = bulk.editable(replace(KIM, user_id=1), d)
        assert [one.name for one in fields if f'name="mode.{one.name}"' not in page.text] == []
    nothing = client.post(f"/{d.path}/bulk", data={**form, "step": "preview"})
    assert nothing.status_code == 422, "no field is chosen"
    chosen = {**form, "step": "preview", **change}
    chosen |= {f"mode.{name}": "clear" if text in ("", []) else "set" for name, text in change.items()}
    where = client.post(f"/{d.path}/bulk", data=chosen).headers["Location"]
    before = len(records(app, d, "update"))
    preview = client.get(where).text
    assert preview.count('class="job-row-changed"') == 2, preview
    assert len(records(app, d, "update")) == before, "nothing is written yet"
    assert client.post(where, data={"csrf_token": guard, "do": "write"}).status_code == 302
    assert "alert-success" in client.get(where).text
    written = records(app, d, "update")[before:]
    assert sorted(one.object_id for one in written) == sorted(str(one) for one in ids[:2])
    assert all(set(change) <= set(one.fields) for one in written)
    assert len({one.request_id for one in written}) == 1
    assert {(one.actor, one.source) for one in written} == {("kim", "ui")}
    assert client.post(where, data={"csrf_token": guard, "do": "write"}).status_code == 409, "once is enough"


@CHANGEABLE
def test_bulk_change_by_api(app: Flask, client: FlaskClient, d: Description) -> None:
    ids, headers = made(app, d.name, 1, 2), {"X-CSRFToken": csrf(client)}
    with app.app_context():
        texts = dict(SAMPLES[d.name].change)
        values = services.values_of(KIM, d, texts, texts)
        given = {name: d.field(name).plain(value) for name, value in values.items()}
    tags = [client.get(f"/api/v1/{d.path}/{one}").headers["ETag"] for one in ids]
    items = [{"id": one, "version": tag} for one, tag in zip(ids, tags, strict=True)]
    asked = {"set": given, "items": items, "dry_run": True}
    dry = client.patch(f"/api/v1/{d.path}/bulk", json=asked, headers=headers)
    assert (dry.status_code, dry.json["written"], dry.json["counts"]["changed"]) == (200, False, 2), dry.json
    done = client.patch(f"/api/v1/{d.path}/bulk", json={**asked, "dry_run": False}, headers=headers)
    assert (done.status_code, done.json["written"]) == (200, True)
    assert done.json["items"] == dry.json["items"], "what was announced is what was done"
    stale = client.patch(f"/api/v1/{d.path}/bulk", json={**asked, "dry_run": False}, headers=headers)
    assert (stale.status_code, stale.json["counts"]["wrong"], stale.json["written"]) == (409, 2, False)
    by_filter = {"set": given, "filter": ""}
    again = client.patch(f"/api/v1/{d.path}/bulk", json=by_filter, headers=headers)
    assert (again.status_code, again.json["counts"]["wrong"], again.json["counts"]["changed"]) == (
        200,
        0,
        again.json["counts"]["changed"],
    )
    for wrong in ({"set": given}, {"set": {}, "filter": ""}, {"set": given, "items": items, "filter": ""},
                  {"set": {"no_such_field": 1}, "items": items}, {"set": given, "filter": "no_such=1"}):  # fmt: skip
        assert client.patch(f"/api/v1/{d.path}/bulk", json=wrong, headers=headers).status_code == 422, wrong


@DELETABLE
def test_bulk_delete(app: Flask, client: FlaskClient, d: Description) -> None:
    ids, guard = made(app, d.name, 1, 2), csrf(client)
    form = {"csrf_token": guard, "id": [str(one) for one in ids]}
    where = client.post(f"/{d.path}/bulk-delete", data=form).headers["Location"]
    preview = client.get(where).text
    assert preview.count('class="job-row-deleted"') == 2, preview
    assert client.get(f"/{d.path}/{ids[0]}").status_code == 200, "nothing is deleted yet"
    assert client.post(where, data={"csrf_token": guard, "do": "write"}).status_code == 302
    assert [client.get(f"/{d.path}/{one}").status_code for one in ids] == [404, 404]
    assert len(records(app, d, "delete")) == 2


@CHANGEABLE
def test_an_export_is_imported_unchanged(app: Flask, client: FlaskClient, d: Description) -> None:
    made(app, d.name, 1, 2)
    guard, exported = csrf(client), client.get(f"/{d.path}/export.csv").text
    where = upload(client, d.path, exported, guard).headers["Location"]
    page = client.get(where).text
    with app.app_context():
        job = db.session.get(Job, int(where.rpartition("/")[2]))
        assert job is not None
        assert job.counts == {**dict.fromkeys(bulk.STATUSES, 0), "unchanged": len(lines(exported))}, page
        assert job.given["unknown"] == []
    api = client.post(f"/api/v1/{d.path}/import", data=exported.encode(), headers={"X-CSRFToken": guard})
    assert (api.status_code, api.json["counts"]["unchanged"]) == (200, len(lines(exported)))
    assert not records(app, d, "update")


@CHANGEABLE
def test_an_export_makes_them_anew(app: Flask, client: FlaskClient, d: Description) -> None:
    """Without ids, in an empty table: all of it is new (where it can be made), or said to be missing."""
    ids, guard = made(app, d.name, 1, 2), csrf(client)
    texts = lines(client.get(f"/{d.path}/export.csv").text)
    out = io.StringIO()
    names = [one.name for one in d.all_fields() if one.importable and one.tabular]
    writer = csv.DictWriter(out, names, delimiter=";", extrasaction="ignore")
    writer.writeheader()
    writer.writerows([row for row in texts if row["id"] in {str(one) for one in ids}])
    if d.deletable:
        where = client.post(f"/{d.path}/bulk-delete", data={"csrf_token": guard, "id": ids}).headers["Location"]
        client.post(where, data={"csrf_token": guard, "do": "write"})
    answer = client.post(f"/api/v1/{d.path}/import", data=out.getvalue().encode(), headers={"X-CSRFToken": guard})
    if not d.creatable:
        assert answer.json["counts"]["new"] == 0
        return
    assert (answer.status_code, answer.json["counts"]["new"]) == (200, 2), answer.json
    anew = lines(client.get(f"/{d.path}/export.csv").text)
    kept = [{name: row[name] for name in names} for row in texts if row["id"] in {str(one) for one in ids}]
    assert [row for row in kept if row not in [{name: one[name] for name in names} for one in anew]] == []
    assert {one.source for one in records(app, d, "create")[-2:]} == {"import"}


# -- bulk ---


def test_all_that_match_over_pages(app: Flask, client: FlaskClient) -> None:
    ids = made(app, "contact", *range(1, 8))
    guard = csrf(client)
    form = client.get("/contacts/bulk?name__contains=Contact&size=2").text
    assert "7" in form
    data = {
        "csrf_token": guard,
        "all": "1",
        "step": "preview",
        "mode.company": "set",
        "company": "Hanbit",
        "name__contains": "x",
    }
    where = client.post("/contacts/bulk?name__contains=Contact&size=2&name__not=y", data=data).headers["Location"]
    assert client.post(where, data={"csrf_token": guard, "do": "write"}).status_code == 302
    with app.app_context():
        assert set(db.session.scalars(select(Contact.company))) == {"Hanbit"}
        assert len(ids) == db.session.scalar(select(func.count()).select_from(Change).where(Change.action == "update"))
    data |= {"mode.company": "clear"}
    where = client.post("/contacts/bulk?name__contains=Contact%201", data=data).headers["Location"]
    client.post(where, data={"csrf_token": guard, "do": "write"})
    with app.app_context():
        assert db.session.scalar(select(func.count()).select_from(Contact).where(Contact.company.is_(None))) == 1


def test_rows_changed_meanwhile_are_refused_by_name(app: Flask, client: FlaskClient) -> None:
    ids, guard = made(app, "contact", 1, 2, 3), csrf(client)
    data = {"csrf_token": guard, "id": ids, "step": "preview", "mode.company": "set", "company": "Hanbit"}
    where = client.post("/contacts/bulk", data=data).headers["Location"]
    with app.app_context(), unit_of_work():
        services.update(KIM, find("contact"), services.find(KIM, find("contact"), ids[0]), {"company": "other"})
        services.delete(KIM, find("contact"), services.find(KIM, find("contact"), ids[1]))
    client.post(where, data={"csrf_token": guard, "do": "write"})
    page = client.get(where).text
    assert page.count('class="job-row-wrong"') == 2
    assert "Contact 1" in page
    with app.app_context():
        assert set(db.session.scalars(select(Contact.company))) == {"other", None}, "all or nothing"
    assert client.post(where, data={"csrf_token": guard, "do": "write"}).status_code == 409
    assert client.post(where, data={"csrf_token": guard, "do": "write", "skip": "1"}).status_code == 302
    with app.app_context():
        assert sorted(str(one) for one in db.session.scalars(select(Contact.company))) == ["Hanbit", "other"]


def test_rows_that_may_not_be_changed_are_named(app: Flask) -> None:
    with app.app_context(), unit_of_work():
        user = accounts.create_user(KIM, "lee", PASSWORD, admin=False)
        see = services.create(KIM, find("role"), {"name": "see", "permissions": ["host.view"]})
        change = services.create(KIM, find("role"), {"name": "change", "permissions": ["host.change"]})
        services.create(KIM, find("grant"), {"user": user, "role": see})
        services.create(KIM, find("grant"), {"user": user, "role": change, "group": make("host_group", 1)})
        make("host", 2)
    client = sign_in(app, "lee")
    guard = csrf(client)
    data = {
        "csrf_token": guard, "id": [host_id(1), host_id(2), host_id(9)], "step": "preview", "mode.note": "set",
        "note": "mine",
    }  # fmt: skip
    where = client.post("/hosts/bulk", data=data).headers["Location"]
    page = client.get(where).text
    assert page.count('class="job-row-wrong"') == 2
    assert re.search(r"Host 2</a></th>\s*<td[^>]*><div>\s*<div class=\"job-error\">[^<]*permission", page), page
    client.post(where, data={"csrf_token": guard, "do": "write", "skip": "1"})
    with app.app_context():
        assert dict(db.session.execute(select(Host.name, Host.note)).all()) == {"Host 1": "mine", "Host 2": None}  # type: ignore[arg-type]
    other = sign_in(app, "kim")
    assert other.get(where).status_code == 404, "a job is its user's alone"


def test_a_deletion_of_many_names_what_uses_them(app: Flask, client: FlaskClient) -> None:
    made(app, "site", 1)
    made(app, "contact", 2)
    guard = csrf(client)
    data = {"csrf_token": guard, "all": "1"}
    where = client.post("/contacts/bulk-delete", data=data).headers["Location"]
    page = client.get(where).text
    assert "Sites: 1" in page
    client.post(where, data={"csrf_token": guard, "do": "write", "skip": "1"})
    with app.app_context():
        assert list(db.session.scalars(select(Contact.name))) == ["Contact 1"]


def test_hosts_are_published(app: Flask, client: FlaskClient) -> None:
    ids, headers = made(app, "host", 1, 2, 3), {"X-CSRFToken": csrf(client)}
    asked = {"set": {"state": "quarantined"}, "items": [{"id": one} for one in ids[:2]]}
    assert client.patch("/api/v1/hosts/bulk", json=asked, headers=headers).status_code == 200
    with app.app_context():
        bodies = [
            json.loads(str(body))
            for body in db.session.scalars(select(ConfigRecord.body).where(ConfigRecord.key.like("host/%")))
        ]
        assert sorted((one["name"], one["state"]) for one in bodies) == [
            ("Host 1", "quarantined"), ("Host 2", "quarantined"), ("Host 3", "active"),
        ]  # fmt: skip
        revisions = db.session.scalars(select(ConfigRecord.revision).where(ConfigRecord.key.like("host/%")))
        assert sorted(revisions) == [1, 2, 2]


# -- import ---


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "cp949"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_encodings_and_delimiters(app: Flask, client: FlaskClient, codec: str, delimiter: str) -> None:
    rows = [["name", "kind", "company"], ["김하늘", "person", "한빛;주식,회사\t"], ["O'Neil", "team", "'=1+1"]]
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\r\n", quoting=csv.QUOTE_ALL).writerows(rows)
    where = upload(client, "contacts", out.getvalue().encode(codec), csrf(client)).headers["Location"]
    page = client.get(where).text
    assert page.count('class="job-row-new"') == 2, page
    assert ("CP949" if codec == "cp949" else "UTF-8") in page
    client.post(where, data={"csrf_token": csrf(client), "do": "write"})
    with app.app_context():
        found = dict(db.session.execute(select(Contact.name, Contact.company)).all())  # type: ignore[arg-type]
        assert found == {"김하늘": "한빛;주식,회사", "O'Neil": "=1+1"}


def test_wrong_lines_come_back_and_are_imported_once_mended(app: Flask, client: FlaskClient) -> None:
    made(app, "contact", 1)
    guard = csrf(client)
    text = (
        "name,code,status,primary_contact,opened,colour\n"
        "Seoul,SE,active,Contact 1,2026-01-01,red\n"
        "Busan,BU,no,Nobody,2026-13-01,=1\n"
        "Daegu,SE,active,,,\n"
        "\n"
        "Ulsan,UL\n"
    )
    where = upload(client, "sites", text, guard).headers["Location"]
    page = client.get(where).text
    assert "colour" in page, "unknown columns are named"
    assert (page.count('class="job-row-new"'), page.count('class="job-row-wrong"')) == (1, 3), page
    assert client.post(where, data={"csrf_token": guard, "do": "write"}).status_code == 409, "all or nothing"
    with app.app_context():
        assert not list(db.session.scalars(select(Site.name)))
    wrong = lines(client.get(f"{where}/errors.csv").text)
    assert [(row["name"], row["colour"]) for row in wrong] == [("Busan", "'=1"), ("Daegu", ""), ("Ulsan", "")]
    assert all(word in wrong[0]["import_error"] for word in ("status", "primary_contact", "opened"))
    client.post(where, data={"csrf_token": guard, "do": "write", "skip": "1"})
    mended = client.get(f"{where}/errors.csv").text
    for bad, good in (("Busan,BU,no,Nobody,2026-13-01", "Busan,BU,active,contact 1,2026-12-01"), ("Daegu,SE", "Daegu,DA"),
                      ("Ulsan,UL,", "Ulsan,UL,planned")):  # fmt: skip
        assert bad in mended
        mended = mended.replace(bad, good)
    where = upload(client, "sites", mended, guard).headers["Location"]
    assert client.get(where).text.count('class="job-row-new"') == 3, client.get(where).text
    assert client.post(where, data={"csrf_token": guard, "do": "write"}).status_code == 302
    with app.app_context():
        assert set(db.session.scalars(select(Site.name))) == {"Seoul", "Busan", "Daegu", "Ulsan"}


def test_what_a_line_is_about(app: Flask, client: FlaskClient) -> None:
    ids = made(app, "host", 1, 2, 3, 4)
    with app.app_context(), unit_of_work():
        for n, (hostname, serial) in enumerate([("a", "S1"), ("b", "S2"), ("b", "S3"), ("d", None)], 1):
            db.session.execute(update(Host).where(Host.id == host_id(n)).values(hostname=hostname, serial=serial))
    headers = {"X-CSRFToken": csrf(client)}

    def result(text: str) -> list[tuple[Any, str]]:
        answer = client.post("/api/v1/hosts/import?dry_run=true", data=text.encode(), headers=headers).json
        return [(one["id"], one["status"]) for one in answer["items"]]

    note = "note\nx\n"
    assert result("hostname," + note.replace("x", "a,x")) == [(ids[0], "changed")]
    assert result("hostname," + note.replace("x", "b,x")) == [(None, "wrong")], "two have it"
    assert result("hostname,serial," + note.replace("x", "b,S3,x")) == [(ids[2], "changed")]
    assert result("id,note\n" + f"{ids[1]},x\n{ids[1].upper()},y\n") == [(ids[1], "changed"), (ids[1], "wrong")]
    assert result("name,note\nHost 4,x\nHost 5,x\n") == [(ids[3], "changed"), (None, "wrong")]
    assert result(f"id,note\n{host_id(77)},x\n") == [(host_id(77), "wrong")]
    with app.test_request_context(headers={"Accept-Language": "ko"}):
        label = str(find("host").field("note").label)
    korean = client.post(
        "/api/v1/hosts/import?dry_run=true", data=f"name,{label}\nHost 1,x\n".encode(),
        headers={**headers, "Accept-Language": "ko"},
    )  # fmt: skip
    assert korean.json["counts"]["changed"] == 1, korean.json


def test_a_column_that_is_missing_leaves_its_field_and_an_empty_cell_clears_it(app: Flask, client: FlaskClient) -> None:
    made(app, "contact", 1)
    headers = {"X-CSRFToken": csrf(client)}
    answer = client.post("/api/v1/contacts/import", data=b"name,phone\nContact 1,\n", headers=headers)
    assert answer.json["items"][0]["changes"] == {"phone": ["+82 2 123-4567", None]}, answer.json
    answer = client.post("/api/v1/contacts/import", data=b"name,kind\nContact 1,\n", headers=headers)
    assert (answer.status_code, set(answer.json["items"][0]["errors"])) == (409, {"kind"})


@pytest.mark.parametrize(
    "data",
    [
        b"", b"name\n", b"nothing\n1\n", b"name,name\na,b\n", b"name,\na,b\n", b"\xff\xfea\x00", b"PK\x03\x04\x00\x00",
        b"name\n\x81\xff\xff\n", b'name\n"a\n', b"id\n1\n",
    ],
)  # fmt: skip
def test_files_that_are_no_table(app: Flask, client: FlaskClient, data: bytes) -> None:
    answer = upload(client, "contacts", data, csrf(client))
    assert answer.status_code == 422
    assert "alert-danger" in answer.text
    with app.app_context():
        assert not list(db.session.scalars(select(Job.id)))


def test_limits(app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = csrf(client)
    with pytest.raises(Invalid, match="MiB"), app.test_request_context():
        importing.read(b"x" * (importing.SIZE_MAX + 1))
    large = "name,kind,note\n" + "".join(f"Contact {n},person,{'n' * 3900}\n" for n in range(400))
    assert upload(client, "contacts", large, guard).status_code == 302, "larger than other requests"
    monkeypatch.setattr(importing, "ROWS_MAX", 10)
    assert upload(client, "contacts", large, guard).status_code == 422


# -- the worker ---


def many_contacts(n: int) -> str:
    return "name,kind,email\n" + "".join(f"Contact {i},person,c{i}@example.com\n" for i in range(n))


def test_a_job_of_many_rows_is_worked_off_by_the_worker(app: Flask, client: FlaskClient) -> None:
    guard = csrf(client)
    where = upload(client, "contacts", many_contacts(600), guard).headers["Location"]
    page = client.get(where).text
    assert 'hx-trigger="every 1s"' in page
    stopping = threading.Event()
    part = runner.JobRunner(app, stopping)
    part.start()
    try:
        wait_for(lambda: 'hx-trigger="every 1s"' not in client.get(where).text)
        assert client.get(f"{where}?status=new&page=6").text.count('class="job-row-new"') == 100
        assert client.post(where, data={"csrf_token": guard, "do": "write"}).status_code == 302
        wait_for(lambda: "alert-success" in client.get(where).text)
    finally:
        stopping.set()
        part.join(10)
    assert not part.failed
    with app.app_context():
        assert db.session.scalar(select(func.count()).select_from(Contact)) == 600
        change = db.session.scalars(
            select(Change).where(Change.action == "create", Change.object_type == "contact")
        ).first()
        assert change is not None
        assert (change.actor, change.source) == ("kim", "import")


def wait_for(true: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_worker_that_died_is_followed_by_another(app: Flask, client: FlaskClient) -> None:
    where = upload(client, "contacts", many_contacts(300), csrf(client)).headers["Location"]
    job_id = int(where.rpartition("/")[2])
    with app.app_context():
        with unit_of_work():
            assert jobs.claim() == job_id
        with unit_of_work():
            assert jobs.claim() is None, "somebody is at it"
        for attempt in range(jobs.ATTEMPTS):
            with unit_of_work():
                db.session.execute(update(Job).values(heartbeat=utc_now() - 2 * jobs.LOST_AFTER))
            with unit_of_work():
                assert jobs.claim() == job_id, attempt
        assert db.session.get(Job, job_id).state == jobs.FAILED, "not for ever"  # type: ignore[union-attr]
        assert not runner.run_next()
    assert "alert-danger" in client.get(where).text
    with app.app_context(), unit_of_work():
        db.session.execute(update(Job).values(created=utc_now() - 2 * jobs.KEPT))
        jobs.forget_old()
        assert not list(db.session.scalars(select(JobRow.number)))


def test_a_user_who_lost_his_right_meanwhile_writes_nothing(app: Flask) -> None:
    with app.app_context(), unit_of_work():
        user = accounts.create_user(KIM, "lee", PASSWORD, admin=False)
        role = services.create(KIM, find("role"), {"name": "r", "permissions": ["contact.change"]})
        grant = services.create(KIM, find("grant"), {"user": user, "role": role})
        grant_id = grant.id
    client = sign_in(app, "lee")
    where = upload(client, "contacts", many_contacts(300), csrf(client)).headers["Location"]
    with app.app_context():
        assert runner.run_next()
    assert client.post(where, data={"csrf_token": csrf(client), "do": "write"}).status_code == 302
    with app.app_context(), unit_of_work():
        services.delete(KIM, find("grant"), services.find(KIM, find("grant"), grant_id))
    with app.app_context():
        assert runner.run_next()
        assert db.session.scalar(select(Job.state)) == jobs.FAILED
        assert db.session.scalar(select(func.count()).select_from(Contact)) == 0


def test_the_command(app: Flask, tmp_path: Path) -> None:
    settings = app.extensions["ezadmin_settings"]
    config = tmp_path / "cmdb.toml"
    config.write_text(
        f'database = "{settings.database}"\nconfig_signing_key = "none"\n[kafka]\nbootstrap = "127.0.0.1:1"\n'
        f'[elasticsearch]\nurl = "http://127.0.0.1:1"\n'
    )
    file, errors = tmp_path / "contacts.csv", tmp_path / "errors.csv"
    file.write_bytes("name,kind,colour\n김하늘,person,\nB,no,\n".encode("cp949"))

    def run(*options: str) -> tuple[int, str]:
        result = CliRunner().invoke(
            cli, ["import", "contact", str(file), "--config", str(config), *options], standalone_mode=False
        )
        assert result.exception is None, result.output
        return result.return_value, result.output

    status, said = run("--dry-run", "--errors", str(errors))
    assert (status, "line 3: kind: One of:" in said, "colour" in said) == (1, True, True), said
    assert "CP949, comma: 1 new, 1 wrong; nothing written" in said
    assert [row["name"] for row in lines(errors.read_text(encoding="utf-8"))] == ["B"]
    assert run()[1].endswith("nothing written\n")
    assert run("--skip-wrong")[1].endswith("1 new, 1 wrong; written\n")
    with app.app_context():
        assert list(db.session.scalars(select(Contact.name))) == ["김하늘"]


# -- queries ---


@contextmanager
def counting() -> Iterator[list[str]]:
    statements: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        statements.append(statement)

    event.listen(db.engine, "before_cursor_execute", note)
    yield statements
    event.remove(db.engine, "before_cursor_execute", note)


def test_5000_rows_in_time_with_few_queries(app: Flask) -> None:
    """The numbers of queries are frozen in a file. EZADMIN_UPDATE_GOLDEN=1 writes it anew."""
    with app.app_context(), unit_of_work():
        make("contact", 1)
        db.session.execute(
            insert(Host),
            [
                {"id": host_id(n), "name": f"Host {n}", "state": "active", "created": utc_now(), "updated": utc_now()}
                for n in range(5000)
            ],
        )
    counts = {}
    sites = "name,code,status,primary_contact\n" + "".join(f"Site {n},S{n},active,Contact 1\n" for n in range(5000))
    hosts = "name,note,primary_manager,vendor\n" + "".join(f"Host {n},n{n},Contact 1,Hanbit\n" for n in range(5000))
    for name, d, text in (("new", find("site"), sites), ("changed", find("host"), hosts)):
        with app.app_context(), unit_of_work(), app.test_request_context():
            for dry in (True, False):
                with counting() as statements:
                    began = time.process_time()  # other tests may be at work
                    outcome = bulkapi.take(KIM, d, text.encode(), dry, False)
                    db.session.commit()
                    took = time.process_time() - began
                assert outcome["counts"][name] == 5000
                assert took < 30, took
                print(
                    f"import of 5,000 {d.titles}, {'dry' if dry else 'written'}: {took:.1f} s, {len(statements)} statements"
                )
                counts[f"import {d.name} {'dry' if dry else 'written'}"] = len(statements)
    with app.app_context(), unit_of_work(), app.test_request_context(), counting() as statements:
        items = [Item(n, host_id(n), values={"state": "retired"}) for n in range(5000)]
        bulk.write(KIM, find("host"), items, dry=False)
        assert bulk.counts(items)["changed"] == 5000
        counts["change host"] = len(statements)
    if os.environ.get("EZADMIN_UPDATE_GOLDEN"):
        COUNTS.write_text(json.dumps(counts, indent=2) + "\n")
    frozen = json.loads(COUNTS.read_text())
    assert counts == frozen
    assert max(counts.values()) < 500


def test_rights_of_a_job_in_the_worker_are_its_users(app: Flask) -> None:
    with app.app_context():
        user = db.session.scalar(select(User).where(User.name == "kim"))
        assert user is not None
        actor = jobs.actor_of(Job(user_id=user.id, request_id="r", address="192.0.2.1"))
        assert actor == Actor("kim", "ui", rights_of(user), "r", user.id, "192.0.2.1")
