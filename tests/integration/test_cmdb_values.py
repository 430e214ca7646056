"""Declared, observed and effective values of hosts, their policies, and the inbox of differences, on a real database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from ezadmin_testing.described import KIM, PASSWORD, application, csrf, empty, host_id, make, sign_in
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select, text

from ezadmin_cmdb import migrate
from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.actor import Actor, agent_actor
from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.database import db, unit_of_work
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.describe.fields import AGENT, PERSON, REVIEW
from ezadmin_cmdb.errors import Forbidden, Invalid
from ezadmin_cmdb.hosts import drifts, policies, reports, services, values
from ezadmin_cmdb.hosts.description import HOST
from ezadmin_cmdb.hosts.models import Drift, Host
from ezadmin_cmdb.rights.services import rights_of
from ezadmin_wire.state import Inventory

ID = host_id(1)


@pytest.fixture(scope="module")
def module_app(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    with application(database, tmp_path_factory.mktemp("web")) as app:
        yield app


@pytest.fixture
def app(module_app: Flask) -> Flask:
    """One administrator and one host that has not reported."""
    empty(module_app)
    with module_app.app_context(), unit_of_work():
        accounts.create_user(KIM, "kim", PASSWORD, admin=True)
        make("host", 1)
    return module_app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return sign_in(app, "kim")


@pytest.fixture
def context(app: Flask) -> Iterator[None]:
    with app.app_context():
        yield
        db.session.rollback()


def host(n: int = 1) -> Host:
    found = db.session.get(Host, host_id(n), populate_existing=True)
    assert found is not None
    return found


def report(second: int, n: int = 1, **members: Any) -> None:
    document = Inventory(collected=f"2026-11-24T10:00:{second:02}.000Z", hostname="web", **members)
    assert reports.store(host_id(n), document)


def declare(field: str, value: Any) -> None:
    described.update(KIM, HOST, host(), {field: value})


def held(field: str) -> tuple[Any, str | None, tuple[Any, Any, str] | None]:
    """What holds, whose it is, and the difference."""
    one = values.explain(host())[field]
    assert one.effective == getattr(host(), field)
    return one.effective, one.holds, one.drift and (one.drift.declared, one.drift.observed, one.drift.status)


def last_change() -> tuple[str, dict[str, list[Any]]]:
    change = db.session.scalars(select(Change).order_by(Change.id.desc()).limit(1)).one()
    return change.source, change.fields


def test_every_field_that_can_be_declared_is_described() -> None:
    assert {one.name for one in HOST.fields if one.policy and one.editable} - set(values.DEFAULTS) == {"name", "state"}
    assert {name: HOST.field(name).policy for name in values.DEFAULTS} == dict(values.DEFAULTS)


@pytest.mark.usefixtures("context")
class TestPolicies:
    def test_the_agent_wins(self) -> None:
        assert values.DEFAULTS["memory"] == AGENT
        declare("memory", 8)
        assert held("memory") == (8, "person", None), "nothing is observed yet"
        report(1, memory=16)
        assert held("memory") == (16, "agent", (8, 16, "open"))
        report(2, memory=8)
        assert held("memory") == (8, "agent", None)
        report(3)
        assert held("memory") == (8, "person", None), "an agent that sees nothing says nothing"

    def test_a_person_wins(self) -> None:
        policies.choose(KIM, {"memory": PERSON})
        report(1, memory=16)
        assert held("memory") == (16, "agent", None)
        declare("memory", 8)
        assert held("memory") == (8, "person", (8, 16, "open"))
        report(2, memory=32)
        assert held("memory") == (8, "person", (8, 32, "open"))
        declare("memory", None)
        assert held("memory") == (32, "agent", None)

    def test_a_difference_is_reviewed(self) -> None:
        assert values.DEFAULTS["serial"] == REVIEW
        report(1, serial="A")
        assert held("serial") == ("A", "agent", None), "the first value is taken"
        report(2, serial="B")
        assert held("serial") == ("A", "agent", ("A", "B", "open"))
        report(3)
        assert held("serial") == ("A", "agent", None)
        report(4, serial="B")
        assert drifts.decide(KIM, "accept", matching="field=serial") == 1
        assert held("serial") == ("B", "agent", None)
        declare("serial", "C")
        assert held("serial") == ("C", "person", ("C", "B", "open"))
        declare("serial", None)
        assert held("serial") == ("B", "agent", None)

    def test_a_rejected_difference_is_silent_until_something_else_is_observed(self) -> None:
        report(1, serial="A")
        report(2, serial="B")
        assert drifts.count_open(KIM) == 1
        assert drifts.decide(KIM, "reject", ids=[host().drifts[0].id]) == 1
        report(3, serial="B", memory=1)
        assert held("serial") == ("A", "agent", ("A", "B", "rejected"))
        assert drifts.count_open(KIM) == 0
        assert drifts.decide(KIM, "accept", matching="") == 0, "all open ones: it is none"
        report(4, serial="C")
        assert held("serial") == ("A", "agent", ("A", "C", "open"))

    def test_what_is_decided_is_what_was_seen(self) -> None:
        report(1, serial="A")
        report(2, serial="B")
        seen = host().drifts[0].id
        report(3, serial="C")
        assert drifts.decide(KIM, "accept", ids=[seen]) == 0, "it is another difference by now"
        assert held("serial") == ("A", "agent", ("A", "C", "open"))

    def test_another_policy_takes_effect_on_all_hosts(self) -> None:
        make("host", 2)
        for n in (1, 2):
            report(1, n, serial="A")
            report(2, n, serial=f"B{n}")
        policies.choose(KIM, {"serial": AGENT})
        assert [host(n).serial for n in (1, 2)] == ["B1", "B2"]
        assert db.session.scalar(select(func.count(Drift.id))) == 0
        assert last_change() == ("cli", {"serial": ["A", "B2"]})
        with pytest.raises(Invalid, match="mood"):
            policies.choose(KIM, {"mood": AGENT})
        with pytest.raises(Invalid, match="serial: one of"):
            policies.choose(KIM, {"serial": "nobody"})

    def test_changes_say_who(self) -> None:
        report(1, memory=16)
        assert last_change()[0] == "agent"
        declare("memory", 8)
        assert last_change() == ("cli", {"declared memory": [None, 8]})
        one = values.explain(host())["memory"]
        assert (one.declared_by, one.declared_source, one.policy) == ("kim", "cli", AGENT)
        before = db.session.scalar(select(func.count(Change.id)))
        report(2, memory=16)
        assert db.session.scalar(select(func.count(Change.id))) == before
        assert json.dumps(host().observed).count("10:00:01") > 10, "since when, not how often"


@pytest.mark.usefixtures("context")
def test_many_decisions_take_few_queries() -> None:
    from sqlalchemy import event

    for n in range(1, 41):
        make("host", n)
        report(1, n, serial="A", memory=n)
        report(2, n, serial="B")
    statements: list[str] = []
    event.listen(db.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    assert drifts.decide(KIM, "accept", matching="field=serial") == 40
    db.session.commit()
    assert len(statements) < 60, statements
    assert {one.serial for one in db.session.scalars(select(Host))} == {"B"}


@pytest.mark.usefixtures("context")
def test_rights_of_each_host() -> None:
    for n in (1, 2):
        make("host", n)
        report(1, n, serial="A")
        report(2, n, serial="B")
    user = accounts.create_user(KIM, "lee", PASSWORD, admin=False)
    roles = {
        name: described.create(KIM, find("role"), {"name": name, "permissions": [name]})
        for name in ("drift.view", "host.change")
    }
    for role, n in ((roles["drift.view"], 1), (roles["drift.view"], 2), (roles["host.change"], 1)):
        described.create(KIM, find("grant"), {"user": user, "role": role, "group": make("host_group", n)})
    lee = Actor("lee", "ui", rights_of(user))
    assert drifts.count_open(lee) == 2
    make("host", 3)
    report(1, 3, serial="A")
    report(2, 3, serial="B")
    assert drifts.count_open(lee) == 2
    assert drifts.decide(lee, "accept", ids=[host(3).drifts[0].id]) == 0, "it is not there for him"
    with pytest.raises(Forbidden):
        drifts.decide(lee, "accept", ids=[host(2).drifts[0].id])
    assert drifts.decide(lee, "accept", ids=[host(1).drifts[0].id]) == 1
    for act in (
        lambda: policies.choose(lee, {"serial": AGENT}),
        lambda: services.declare(lee, host(2), "serial", "X"),
        lambda: drifts.decide(agent_actor(ID), "accept", matching=""),
    ):
        with pytest.raises(Forbidden):
            act()


def test_pages(app: Flask, client: FlaskClient) -> None:
    with app.app_context(), unit_of_work():
        report(1, serial="A<b>", memory=1 << 34)
        report(2, serial="B", memory=1 << 34)
    guard = {"csrf_token": csrf(client)}
    page = client.get(f"/hosts/{ID}").text
    assert page.count('<details class="why why-warning">') == 1
    assert "A&lt;b&gt;" in page
    assert client.get("/drifts/count").text.count(">1<") == 1
    inbox = client.get("/drifts/?status=open").text
    assert 'form="decide"' in inbox
    where = f"/hosts/{ID}/values"
    assert client.post(where, data={**guard, "field": "memory", "action": "keep"}).status_code == 302
    assert "why-person" not in client.get(f"/hosts/{ID}").text, "the agent's value holds, and is the same"
    assert client.post("/hosts/policies", data={**guard, "memory": "person"}).status_code == 302
    assert "why-person" in client.get(f"/hosts/{ID}").text
    assert client.post(where, data={**guard, "field": "memory", "action": "give_back"}).status_code == 302
    assert client.post(where, data={**guard, "field": "name", "action": "keep"}).status_code == 422
    assert client.post("/hosts/policies", data={**guard, "memory": "mine"}).status_code == 422
    answer = client.post("/drifts/decide", data={**guard, "decision": "accept", "filter": "status=open", "all": "true"})
    assert answer.headers["Location"] == "/drifts/?status=open"
    assert client.get("/drifts/count").text.strip() == ""
    form = client.get(f"/hosts/{ID}/edit").text
    assert 'value="17179869184"' in form
    with app.app_context():
        assert host().serial == "B"
        assert not host().declarations


def test_api(app: Flask, client: FlaskClient) -> None:
    with app.app_context(), unit_of_work():
        report(1, serial="A", memory=16)
        report(2, serial="B", memory=16)
    headers = {"X-CSRFToken": csrf(client)}
    found = {one["field"]: one for one in client.get(f"/api/v1/hosts/{ID}/values").json}
    assert found.keys() == values.DEFAULTS.keys()
    serial = found["serial"]
    assert (serial["effective"], serial["observed"], serial["holds"], serial["policy"]) == ("A", "B", "agent", "review")
    (drift,) = client.get("/api/v1/drifts").json["items"]
    assert (drift["id"], drift["declared"], drift["observed"]) == (serial["drift"], "A", "B")
    where = f"/api/v1/hosts/{ID}/values"
    put = client.put(f"{where}/serial", json={"value": "C"}, headers=headers)
    assert (put.status_code, put.json["effective"], put.json["declared_source"]) == (200, "C", "api")
    for field, value in (("serial", 5), ("memory", "much"), ("memory", -1), ("name", "x"), ("serial", "x" * 200)):
        assert client.put(f"{where}/{field}", json={"value": value}, headers=headers).status_code == 422, field
    decisions = "/api/v1/drifts/decisions"
    for wrong in ({}, {"decision": "maybe"}, {"decision": "accept"}, {"decision": "accept", "filter": "colour=red"}):
        assert client.post(decisions, json=wrong, headers=headers).status_code == 422, wrong
    done = client.post(decisions, json={"decision": "reject", "filter": "field=serial"}, headers=headers)
    assert done.json == {"decided": 1}
    assert client.put(f"{where}/serial", json={"value": None}, headers=headers).json["effective"] == "B"
    assert client.patch("/api/v1/host-policies", json={"memory": "review"}, headers=headers).json["memory"] == "review"
    assert client.patch("/api/v1/host-policies", json={"memory": "x"}, headers=headers).status_code == 422
    assert client.get("/api/v1/host-policies").json["memory"] == "review"
    patched = client.patch(f"/api/v1/hosts/{ID}", json={"vendor": "Hanbit"}, headers=headers).json
    assert patched["vendor"] == "Hanbit"


def test_values_of_before_are_taken_over(app: Flask) -> None:
    with app.app_context():
        with unit_of_work():
            report(1, serial="A")
        migrate.downgrade(db.engine, "0007")
        migrate.upgrade(db.engine)
        with unit_of_work():
            assert held("serial") == ("A", "agent", None)
            report(2, serial="B")
            assert held("serial") == ("A", "agent", ("A", "B", "open"))
        assert db.session.execute(text("SELECT COUNT(*) FROM drifts")).scalar() == 1
