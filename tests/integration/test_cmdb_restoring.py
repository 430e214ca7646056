"""Restoring values from the history, and hosts that are deleted, on a real database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from ezadmin_testing.described import KIM, PASSWORD, application, csrf, empty, host_id, make, sign_in
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.database import db, unit_of_work
from ezadmin_cmdb.describe import services
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.hosts import reports
from ezadmin_cmdb.hosts.models import Declaration, Drift, Host, HostKey
from ezadmin_cmdb.outbox.models import ConfigRecord
from ezadmin_wire.config import host_key
from ezadmin_wire.state import Inventory, Nic

ID = host_id(1)


@pytest.fixture(scope="module")
def module_app(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    with application(database, tmp_path_factory.mktemp("web")) as app:
        yield app


@pytest.fixture
def client(module_app: Flask) -> FlaskClient:
    empty(module_app)
    with module_app.app_context(), unit_of_work():
        accounts.create_user(KIM, "kim", PASSWORD, admin=True)
    return sign_in(module_app, "kim")


@pytest.fixture
def app(module_app: Flask) -> Flask:
    return module_app


def newest(object_type: str) -> Change:
    return db.session.scalars(
        select(Change).where(Change.object_type == object_type).order_by(Change.id.desc()).limit(1)
    ).one()


def test_values_of_every_kind_are_restored(app: Flask, client: FlaskClient) -> None:
    with app.app_context(), unit_of_work():
        site = make("site", 1)
        other = make("contact", 2)
        values = {"opened": None, "primary_contact": other, "latitude": 1.5, "status": "closed", "name": "New"}
        services.update(KIM, find("site"), site, values)
        change, where = newest("site").id, f"/sites/{site.id}"
    guard = {"csrf_token": csrf(client)}
    page = client.get(f"{where}/history").text
    assert re.search(r'class="before">\s*In operation\s*</td><td class="after">\s*Closed', page), "in words"
    assert page.count('class="restore"><form') == 5, "each field of the change, none of the creation"
    for name in values:
        answer = client.post(f"{where}/restore", data={**guard, "change": change, "field": name})
        assert answer.headers["Location"] == f"{where}/history"
    found = client.get(f"/api/v1{where}").json
    assert {name: found[name] for name in ("opened", "latitude", "status", "name")} == {
        "opened": "2020-02-03", "latitude": 37.5, "status": "active", "name": "Site 1",
    }  # fmt: skip
    assert found["primary_contact"]["name"] == "Contact 1"
    for wrong in ({"change": change, "field": "id"}, {"change": 0, "field": "name"}, {}):
        client.post(f"{where}/restore", data={**guard, **wrong})
        assert "alert-warning" in client.get(f"{where}/history").text


def test_by_api(app: Flask, client: FlaskClient) -> None:
    with app.app_context(), unit_of_work():
        group, hosts = make("host_group", 1), [make("host", n) for n in (1, 2)]
        services.update(KIM, find("host_group"), group, {"hosts": [hosts[1]], "description": "x"})
        change, creation = (
            newest("host_group").id,
            db.session.scalars(select(Change.id).where(Change.action == "create")),
        )
        where, created = f"/api/v1/host-groups/{group.id}/changes", creation.all()[-1]
    headers = {"X-CSRFToken": csrf(client)}
    answer = client.post(where, json={"change": change, "fields": ["hosts"]}, headers=headers)
    assert [one["name"] for one in answer.json["hosts"]] == ["Host 1"]
    assert answer.json["description"] == "x"
    assert client.post(where, json={"change": change}, headers=headers).json["description"] is None
    for body, status in (
        ({}, 422), ({"change": change, "fields": ["name"]}, 422), ({"change": 10**9}, 404), ({"change": created}, 404),
    ):  # fmt: skip
        assert client.post(where, json=body, headers=headers).status_code == status, body


def test_what_is_gone_is_not_restored(app: Flask, client: FlaskClient) -> None:
    with app.app_context(), unit_of_work():
        site = make("site", 1)
        services.update(KIM, find("site"), site, {"primary_contact": make("contact", 2)})
        change, where = newest("site").id, f"/sites/{site.id}"
        services.delete(KIM, find("contact"), find("contact").resolve(KIM, ["Contact 1"])["Contact 1"])
    client.post(f"{where}/restore", data={"csrf_token": csrf(client), "change": change, "field": "primary_contact"})
    assert "alert-warning" in client.get(f"{where}/history").text


def report(second: int, **members: Any) -> None:
    reports.store(ID, Inventory(f"2026-11-24T10:00:{second:02}.000Z", "h", **members))


def test_what_an_agent_changed_is_restored_as_declared(app: Flask, client: FlaskClient) -> None:
    with app.app_context(), unit_of_work():
        make("host", 1)
        report(1, memory=16)
        report(2, memory=8)
        change = newest("host").id
    guard, where = {"csrf_token": csrf(client)}, f"/hosts/{ID}"
    client.post(f"{where}/restore", data={**guard, "change": change, "field": "memory"})
    assert "by its policy" in client.get(f"{where}/history").text
    client.post("/hosts/policies", data={**guard, "memory": "person"})
    assert client.get(f"/api/v1{where}").json["memory"] == 16


def test_a_deleted_host_keeps_its_history(app: Flask, client: FlaskClient) -> None:
    with app.app_context(), unit_of_work():
        make("host_group", 1)
        services.update(KIM, find("host"), db.session.get(Host, ID), {"serial": "X", "customer": make("customer", 1)})
        report(1, serial="Y", nics=[Nic("eth0")])
        revision = db.session.get(ConfigRecord, host_key(ID)).revision  # type: ignore[union-attr]
    where = f"/hosts/{ID}"
    assert client.get(f"{where}/delete").status_code == 200
    assert client.post(f"{where}/delete", data={"csrf_token": csrf(client)}).status_code == 302
    assert client.get(where).status_code == 404
    with app.app_context():
        for model in (Host, HostKey, Drift, Declaration):
            assert db.session.scalars(select(model)).all() == []
        record = db.session.get(ConfigRecord, host_key(ID))
        assert record is not None
        assert (record.body, record.revision) == (None, revision + 1), "nobody believes it any more"
    assert client.get(f"{where}/history").text.count('<article class="change">') == 4
    listed = client.get("/changes/?object_type=host&action=delete").text
    assert f"{where}/history" in listed
    found = client.get(f"/api/v1{where}/changes").json
    assert (found["total"], found["items"][0]["action"]) == (4, "delete")
    assert found["items"][0]["fields"]["serial"] == ["X", None]
    assert client.get(f"/api/v1/hosts/{host_id(9)}/changes").status_code == 404
    headers = {"X-CSRFToken": csrf(client)}
    assert client.delete(f"/api/v1{where}", headers=headers).status_code == 404
