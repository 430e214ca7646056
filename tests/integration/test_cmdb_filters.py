"""Saved filters: privately, shared, as a list's default; by page and API."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from ezadmin_testing.described import KIM, PASSWORD, application, csrf, empty, make, sign_in
from flask import Flask
from sqlalchemy import select

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.database import db, unit_of_work
from ezadmin_cmdb.describe import services
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.filters.models import DefaultFilter


@pytest.fixture(scope="module")
def module_app(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    with application(database, tmp_path_factory.mktemp("web")) as app:
        yield app


@pytest.fixture
def app(module_app: Flask) -> Flask:
    """Kim may do everything, lee sees sites and shares, park sees sites; two sites."""
    empty(module_app)
    with module_app.app_context(), unit_of_work():
        accounts.create_user(KIM, "kim", PASSWORD, admin=True)
        for name, permissions in (("lee", ["site.view", "saved_filter.share"]), ("park", ["site.view"])):
            user = accounts.create_user(KIM, name, PASSWORD, admin=False)
            role = services.create(KIM, find("role"), {"name": f"of {name}", "permissions": permissions})
            services.create(KIM, find("grant"), {"user": user, "role": role})
        make("site", 1), make("site", 2)
    return module_app


def test_a_list_is_kept_as_it_is_and_opens_so(app: Flask) -> None:
    park = sign_in(app, "park")
    guard = csrf(park)
    asked = "?name__contains=2&sort=-name&columns=name%2Ccode"
    form = {"object_type": "site", "name": "Twos", "query": asked, "default": "true", "csrf_token": guard}
    answer = park.post("/saved-filters/", data=form)
    assert answer.headers["Location"] == f"/sites/{asked}"
    opened = park.get("/sites/")
    assert opened.headers["Location"] == f"/sites/{asked}"
    page = park.get(opened.headers["Location"]).text
    assert ">Site 2<" in page
    assert ">Site 1<" not in page
    assert not re.search(r"<th[^>]*>\s*<a[^>]*>Status", page), "the columns are those that were chosen"
    assert "Twos" in page
    everything = park.get("/sites/?q=").text
    assert ">Site 1<" in everything
    assert ">Site 2<" in everything
    assert park.get("/saved-filters/").status_code == 200
    (one,) = park.get("/api/v1/saved-filters?object_type=site").json["items"]
    assert (one["name"], one["default"], one["owner"], one["query"]) == ("Twos", True, "park", asked[1:])
    where = f"/saved-filters/{one['id']}"
    for form in ({"action": "rename", "name": "Two"}, {"action": "no-default"}):
        assert park.post(where, data={**form, "csrf_token": guard}).status_code == 302
    assert park.get("/sites/").status_code == 200
    assert park.get("/api/v1/saved-filters").json["items"][0]["name"] == "Two"
    assert (
        park.post(
            "/saved-filters/", data={**form, "object_type": "site", "name": "Two", "query": "", "csrf_token": guard}
        ).status_code
        == 409
    )
    assert park.post(where, data={"action": "delete", "csrf_token": guard}).status_code == 302
    with app.app_context():
        records = db.session.scalars(
            select(Change).where(Change.object_type == "saved_filter").order_by(Change.id)
        ).all()
        assert [(one.action, one.actor) for one in records] == [
            ("create", "park"),
            ("update", "park"),
            ("delete", "park"),
        ]


def test_one_s_own_are_nobody_else_s_and_sharing_needs_a_right(app: Flask) -> None:
    clients = {name: sign_in(app, name) for name in ("kim", "lee", "park")}
    headers = {name: {"X-CSRFToken": csrf(client)} for name, client in clients.items()}
    path = "/api/v1/saved-filters"
    given = {"object_type": "site", "name": "mine", "query": "q=1"}
    mine = clients["lee"].post(path, json=given, headers=headers["lee"])
    assert mine.status_code == 201
    own = f"{path}/{mine.json['id']}"
    for other in ("kim", "park"):
        assert clients[other].get(own).status_code == 404
        assert clients[other].delete(own, headers=headers[other]).status_code == 404
        assert clients[other].get(path).json["items"] == []
    assert clients["park"].post(path, json={**given, "shared": True}, headers=headers["park"]).status_code == 403
    assert clients["lee"].patch(own, json={"shared": True}, headers=headers["lee"]).json["shared"] is True
    assert "mine" in clients["park"].get("/sites/").text
    assert clients["park"].patch(own, json={"default": True}, headers=headers["park"]).json["default"] is True
    assert clients["park"].patch(own, json={"name": "x"}, headers=headers["park"]).status_code == 403
    assert clients["park"].get("/sites/").headers["Location"] == "/sites/?q=1"
    assert clients["kim"].patch(own, json={"name": "all's"}, headers=headers["kim"]).json["name"] == "all's"
    assert clients["lee"].patch(own, json={"shared": False}, headers=headers["lee"]).json["shared"] is False
    assert clients["park"].get("/sites/").status_code == 200, "what is no longer shared opens nobody's list"
    with app.app_context():
        assert db.session.scalars(select(DefaultFilter)).all() == []


def test_only_what_the_list_understands_is_kept(app: Flask) -> None:
    park = sign_in(app, "park")
    headers = {"X-CSRFToken": csrf(park)}
    for wrong in (
        {"query": "colour=red"}, {"query": "sort=colour"}, {"object_type": "nothing"}, {"name": ""}, {"name": "x" * 129},
        {"query": "opened__gte=yesterday"}, {"shared": "yes"}, {"owner": "kim"},
    ):  # fmt: skip
        given = {"object_type": "site", "name": "x", "query": "q=1", **wrong}
        assert park.post("/api/v1/saved-filters", json=given, headers=headers).status_code == 422, wrong
    given = {"object_type": "customer", "name": "x", "query": "q=1"}
    assert park.post("/api/v1/saved-filters", json=given, headers=headers).status_code == 403, "he sees no customers"
    kept = park.post(
        "/api/v1/saved-filters", json={"object_type": "site", "name": "x", "query": "q=a&page=3"}, headers=headers
    )
    assert kept.json["query"] == "q=a"
