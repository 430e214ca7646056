"""Custom fields and tags: through forms, API, CSV, filters, history; bounded queries; what goes when they go."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Any

import pytest
from ezadmin_testing.described import KIM, PASSWORD, SAMPLES, application, csrf, empty, host_id, make, sign_in
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, func, insert, select

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.custom.models import CustomValue, TagLink
from ezadmin_cmdb.database import db, unit_of_work, utc_now
from ezadmin_cmdb.describe import query, services, tabular
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.errors import Conflict, Invalid
from ezadmin_cmdb.hosts.models import Host

FIELDS: dict[str, dict[str, Any]] = {
    "ticket": {"kind": "text", "pattern": r"[A-Z]+-\d+", "searched": True},
    "units": {"kind": "number", "least": 1, "most": 99, "digits": 1},
    "leased": {"kind": "boolean"},
    "bought": {"kind": "date"},
    "wiki": {"kind": "url"},
    "tier": {"kind": "select", "choices": "gold | Gold | 금\nsilver | Silver | 은", "initial": "silver"},
    "uses": {"kind": "multiselect", "choices": "web\ndb\nmail"},
    "deputy": {"kind": "reference", "refers_to": "contact"},
}
VALUES: dict[str, tuple[str, Any]] = {
    "ticket": ("OPS-7", "OPS-7"), "units": ("2.5", 2.5), "leased": ("true", True), "bought": ("2024-02-29", "2024-02-29"),
    "wiki": ("https://wiki.example.com/7", "https://wiki.example.com/7"), "tier": ("gold", "gold"),
    "uses": ("db,web", ["web", "db"]), "deputy": ("Contact 2", "Contact 2"),
}  # fmt: skip


@pytest.fixture(scope="module")
def module_app(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    with application(database, tmp_path_factory.mktemp("web")) as app:
        yield app


@pytest.fixture
def app(module_app: Flask) -> Flask:
    """Kim may do everything; sites and hosts have a custom field of each kind."""
    empty(module_app)
    with module_app.app_context(), unit_of_work():
        accounts.create_user(KIM, "kim", PASSWORD, admin=True)
        for object_type in ("site", "host"):
            define(object_type, FIELDS)
        make("contact", 2)
    return module_app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return sign_in(app, "kim")


def define(object_type: str, wanted: dict[str, dict[str, Any]]) -> None:
    for number, (name, more) in enumerate(wanted.items()):
        labels = {"label_en": f"The {name}", "label_ko": f"그 {name}", "position": number}
        services.create(KIM, find("custom_field"), {"object_type": object_type, "name": name, **labels, **more})


def texts(**changes: Any) -> dict[str, Any]:
    found = {f"cf_{name}": text for name, (text, _value) in VALUES.items()}
    return {**found, "cf_uses": ["db", "web"], **changes}


def plain(custom: dict[str, Any]) -> dict[str, Any]:
    return {name: value["name"] if isinstance(value, dict) else value for name, value in custom.items()}


EXPECTED = {name: value for name, (_text, value) in VALUES.items()}


@contextmanager
def counting() -> Iterator[list[str]]:
    statements: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        statements.append(statement)

    event.listen(db.engine, "before_cursor_execute", note)
    yield statements
    event.remove(db.engine, "before_cursor_execute", note)


def test_forms_show_and_keep_them(app: Flask, client: FlaskClient) -> None:
    with app.app_context(), unit_of_work():
        make("contact", 1)
    guard = {"csrf_token": csrf(client)}
    for language, word in (("en", "The ticket"), ("ko", "그 ticket")):
        page = client.get("/sites/new", headers={"Accept-Language": language}).text
        assert word in page
    assert re.search(r'<option value="silver" selected', page), "the default is chosen"
    form = {**SAMPLES["site"].form(1), **texts(), **guard}
    wrong = client.post("/sites/new", data={**form, "cf_ticket": "seven", "cf_units": "100"})
    assert wrong.status_code == 422
    assert 'id="cf_ticket-error"' in wrong.text
    assert 'id="cf_units-error"' in wrong.text
    made = client.post("/sites/new", data=form)
    assert made.status_code == 302, made.text
    where = made.headers["Location"]
    page = client.get(where).text
    for shown in ("OPS-7", "2.5", "Gold", "web, db", "Contact 2", "https://wiki.example.com/7", "2024-02-29"):
        assert shown in page, shown
    answer = client.get(f"/api/v1{where}")
    assert plain(answer.json["custom"]) == EXPECTED
    edit = client.get(f"{where}/edit").text
    version = re.search(r'name="version" value="(\w+)"', edit)
    assert version is not None
    changed = {**form, **texts(cf_uses=["mail"], cf_leased="", cf_ticket=""), "version": version[1]}
    assert client.post(f"{where}/edit", data=changed).status_code == 302
    assert plain(client.get(f"/api/v1{where}").json["custom"]) == {
        **EXPECTED, "uses": ["mail"], "leased": False, "ticket": None,
    }  # fmt: skip
    with app.app_context():
        record = db.session.scalars(
            select(Change).where(Change.object_type == "site").order_by(Change.id.desc())
        ).first()
        assert record is not None
        assert record.fields == {
            "cf_ticket": ["OPS-7", None], "cf_leased": [True, False], "cf_uses": [["web", "db"], ["mail"]],
        }  # fmt: skip
    assert "The ticket" in client.get(f"{where}/history").text
    listed = client.get("/sites/?columns=name,cf_tier,cf_uses&sort=-cf_units&cf_tier=gold").text
    assert "The tier" in listed
    assert "Gold" in listed


def test_the_api_has_them_as_one_member(app: Flask, client: FlaskClient) -> None:
    headers = {"X-CSRFToken": csrf(client)}
    given = {"name": "A", "status": "active"}
    made = client.post("/api/v1/sites", json=given, headers=headers)
    assert made.status_code == 201, made.json
    assert made.json["custom"]["tier"] == "silver", "the default"
    where = made.headers["Location"]
    with app.app_context():
        deputy = find("contact").resolve(KIM, ["Contact 2"])["Contact 2"].id
    answer = client.patch(where, json={"custom": {**EXPECTED, "deputy": deputy}}, headers=headers)
    assert answer.status_code == 200, answer.json
    assert plain(answer.json["custom"]) == EXPECTED
    assert client.patch(where, json={"custom": {"units": 3}}, headers=headers).json["custom"]["tier"] == "gold"
    for wrong in (
        {"ticket": 7}, {"ticket": "seven"}, {"units": "many"}, {"units": 0}, {"leased": "perhaps"}, {"bought": "soon"},
        {"wiki": "javascript:alert(1)"}, {"tier": "lead"}, {"uses": ["web", "tea"]}, {"uses": "web"}, {"deputy": 10**9},
        {"deputy": "Contact 2"}, {"nothing": 1},
    ):  # fmt: skip
        refused = client.patch(where, json={"custom": wrong}, headers=headers)
        assert refused.status_code == 422, (wrong, refused.json)
        assert [f"custom.{name}" for name in wrong] == [one["field"] for one in refused.json["errors"]], refused.json
    assert client.patch(where, json={"custom": [1]}, headers=headers).status_code == 422
    cleared = client.patch(where, json={"custom": dict.fromkeys(EXPECTED)}, headers=headers)
    assert cleared.json["custom"] == {**dict.fromkeys(EXPECTED), "leased": False, "uses": []}
    fewer = client.get("/api/v1/sites?fields=name,custom").json["items"][0]
    assert set(fewer) == {"id", "name", "custom"}


@pytest.mark.parametrize("object_type", ["site", "host"])
def test_every_filter_sort_and_csv(app: Flask, client: FlaskClient, object_type: str) -> None:
    d = find(object_type)
    with app.app_context(), unit_of_work():
        first, second = make(object_type, 1), make(object_type, 2)
        services.update(KIM, d, first, services.values_of(KIM, d, texts(), list(texts())))
        ids = first.id, second.id
    with app.app_context():
        for name, (text, _value) in VALUES.items():
            one = d.field(f"cf_{name}")
            for operator in one.operators:
                asked = "true" if operator == "empty" else text.split(",")[0]
                parameter = f"{one.name}__{operator}" if operator else one.name
                found = [obj.id for obj in query.page(KIM, d, query.parse(d, [(parameter, asked)], strict=True)).items]
                expected = ids[1] if operator in ("not", "empty") else ids[0]
                assert found == [expected], parameter
            if one.sortable:
                found = [
                    obj.id for obj in query.page(KIM, d, query.parse(d, [("sort", f"-{one.name}")], strict=True)).items
                ]
                assert found[0] == ids[0], one.name
        assert [obj.id for obj in query.page(KIM, d, query.parse_text(d, "q=ops-7")).items] == [ids[0]]
    text = client.get(f"/{d.path}/export.csv?sort=name").text.removeprefix(tabular.BOM)
    row = next(csv.DictReader(io.StringIO(text)))
    assert row["cf_uses"] == "web,db"
    with app.app_context():
        wanted = [f"cf_{name}" for name in VALUES]
        values = services.values_of(KIM, d, {name: tabular.unguarded(cell) for name, cell in row.items()}, wanted)
        obj = services.find(KIM, d, ids[0])
        for name in wanted:
            one = d.field(name)
            assert one.plain(one.check(values[name])) == one.plain(one.get(obj)), name


def test_definitions_that_cannot_be(app: Flask) -> None:
    base = {"object_type": "site", "name": "x", "label_en": "X", "label_ko": "X", "kind": "text"}
    with app.app_context():
        for wrong in (
            {"name": "Two words"}, {"name": "a__b"}, {"kind": "select"}, {"kind": "select", "choices": "a\na"},
            {"kind": "reference"}, {"refers_to": "site"}, {"choices": "a"}, {"pattern": "("}, {"least": 1},
            {"kind": "number", "least": 2, "most": 1}, {"kind": "number", "initial": "many"}, {"label_ko": None},
            {"object_type": "role"}, {"kind": "number", "pattern": "a"}, {"kind": "date", "initial": "soon"},
        ):  # fmt: skip
            with pytest.raises(Invalid):
                services.create(KIM, find("custom_field"), {**base, **wrong})
            db.session.rollback()
        with pytest.raises(Conflict):
            services.create(KIM, find("custom_field"), {**base, "name": "ticket"})
        db.session.rollback()
        row = find("custom_field").resolve(KIM, ["x"]) or definition("site", "tier")
        with pytest.raises(Invalid):
            services.update(KIM, find("custom_field"), row, {"kind": "multiselect"})


def definition(object_type: str, name: str) -> Any:
    d = find("custom_field")
    return db.session.scalar(select(d.model).where(d.model.object_type == object_type, d.model.name == name))


def test_what_goes_when_a_definition_or_an_object_goes(app: Flask, client: FlaskClient) -> None:
    guard = {"csrf_token": csrf(client)}
    with app.app_context(), unit_of_work():
        site = make("site", 1)
        services.update(KIM, find("site"), site, services.values_of(KIM, find("site"), texts(), list(texts())))
        group = services.create(KIM, find("host_group"), {"name": "leased", "filter": "cf_leased=true"})
        site_id, ticket, leased = site.id, definition("site", "ticket").id, definition("host", "leased").id
        contact = find("contact").resolve(KIM, ["Contact 2"])["Contact 2"]
        with pytest.raises(Conflict, match="Sites: 1"):
            services.delete(KIM, find("contact"), contact)
        db.session.expire(group)
    assert client.post(f"/custom-fields/{leased}/delete", data=guard).status_code == 409, "a group asks for it"
    page = client.get(f"/custom-fields/{ticket}/delete").text
    assert "1 objects have a value" in page
    assert client.post(f"/custom-fields/{ticket}/delete", data=guard).status_code == 302
    assert "ticket" not in client.get(f"/api/v1/sites/{site_id}").json["custom"]
    history = client.get(f"/sites/{site_id}/history").text
    assert "cf_ticket" in history
    assert "OPS-7" in history
    assert client.post(f"/sites/{site_id}/delete", data=guard).status_code == 302
    with app.app_context():
        assert db.session.scalar(select(func.count()).select_from(CustomValue)) == 0


def test_tags(app: Flask, client: FlaskClient) -> None:
    site, host = find("site"), find("host")
    with app.app_context(), unit_of_work():
        red, blue = (
            services.create(KIM, find("tag"), {"name": name, "color": name, "description": f"all {name}"})
            for name in ("red", "blue")
        )
        for n, tags in ((1, [red, blue]), (2, [red]), (3, [])):
            services.update(KIM, site, make("site", n), {"tags": tags})
            services.update(KIM, host, make("host", n), {"tags": tags})
        tag_id = red.id
    for d in (site, host):
        for asked, expected in {
            "tags=red": {1, 2}, "tags=red&tags=blue": {1, 2}, "tags__all=red&tags__all=blue": {1}, "tags__not=blue": {2, 3},
            f"tags={tag_id}": {1, 2}, "q=blue": {1},
        }.items():  # fmt: skip
            found = client.get(f"/api/v1/{d.path}?{asked}").json["items"]
            assert {int(one["name"].split()[1]) for one in found} == expected, asked
        page = client.get(f"/{d.path}/").text
        assert 'class="chip tag tag-red"' in page
    tags = client.get("/tags/").text
    assert f'href="/sites/?tags={tag_id}">Sites: 2<' in tags
    assert f'href="/hosts/?tags={tag_id}">Hosts: 2<' in tags
    assert 'class="chip tag tag-blue"' in client.get(f"/hosts/{host_id(1)}").text
    headers = {"X-CSRFToken": csrf(client)}
    where = f"/api/v1/hosts/{host_id(3)}"
    answer = client.patch(where, json={"tags": [tag_id], "custom": {"units": 7}}, headers=headers)
    assert answer.status_code == 200, answer.json
    assert [one["name"] for one in answer.json["tags"]] == ["red"]
    assert client.patch(where, json={"tags": [10**9]}, headers=headers).status_code == 422
    changes = client.get(f"{where}/changes").json["items"][0]["fields"]
    assert changes == {"tags": [[], [{"id": tag_id, "name": "red"}]], "cf_units": [None, 7.0]}
    form = client.get(f"/hosts/{host_id(3)}/edit").text
    assert re.search(r'type="checkbox"[^>]*name="tags" value="red" checked', form)
    lost = client.get(f"/tags/{tag_id}/delete").text
    assert "5 objects have it" in lost
    assert client.post(f"/tags/{tag_id}/delete", data={"csrf_token": csrf(client)}).status_code == 302
    assert client.get(where).json["tags"] == []
    with app.app_context():
        assert db.session.scalar(select(func.count()).select_from(TagLink)) == 2


def test_queries_are_few_at_5000_hosts(app: Flask, client: FlaskClient) -> None:
    now = utc_now()
    with app.app_context(), unit_of_work():
        numbers = range(1, 5001)
        rows = [
            {"id": host_id(n), "name": f"Host {n}", "state": "active", "created": now, "updated": now} for n in numbers
        ]
        db.session.execute(insert(Host), rows)
        tag = services.create(KIM, find("tag"), {"name": "even", "color": "red"})
        contact = find("contact").resolve(KIM, ["Contact 2"])["Contact 2"]
        given = {name: definition("host", name).id for name in FIELDS}
        values = [
            {"field_id": given[name], "object_type": "host", "host_id": host_id(n), "position": 0, "text": None,
             "number": None, "day": None, **of(n, contact.id)}
            for n in numbers
            for name, of in {
                "units": lambda n, _c: {"number": n % 90 + 1}, "ticket": lambda n, _c: {"text": f"OPS-{n}"},
                "bought": lambda n, _c: {"day": date(2020, 1, 1 + n % 28)}, "deputy": lambda n, c: {"text": str(c)},
            }.items()
        ]  # fmt: skip
        db.session.execute(insert(CustomValue), values)
        links = [{"tag_id": tag.id, "object_type": "host", "host_id": host_id(n)} for n in numbers if n % 2 == 0]
        db.session.execute(insert(TagLink), links)
    columns = "columns=name,tags," + ",".join(f"cf_{name}" for name in FIELDS)
    client.get("/hosts/")
    for path in (
        f"/hosts/?{columns}", f"/hosts/?{columns}&cf_ticket=OPS-77", f"/hosts/?{columns}&cf_units__gte=50&sort=-cf_units",
        f"/hosts/?{columns}&tags=even&cf_bought__lte=2020-01-03", "/api/v1/hosts?size=500",
    ):  # fmt: skip
        with app.app_context(), counting() as statements:
            begin = time.perf_counter()
            answer = client.get(path)
            took = time.perf_counter() - begin
        assert answer.status_code == 200
        print(f"{path[:60]}: {len(statements)} queries, {1000 * took:.0f} ms")
        assert len(statements) <= 18, statements
        assert took < 3
    total = client.get("/api/v1/hosts?tags=even&cf_units__gte=50&size=1").json["total"]
    assert total == len([n for n in range(1, 5001) if n % 2 == 0 and n % 90 + 1 >= 50])


def test_a_date_is_a_date(app: Flask) -> None:
    with app.app_context(), unit_of_work():
        site = make("site", 1)
        services.update(KIM, find("site"), site, {"cf_bought": date(2024, 2, 29)})
        assert db.session.scalar(select(CustomValue.day).where(CustomValue.day.is_not(None))) == date(2024, 2, 29)
