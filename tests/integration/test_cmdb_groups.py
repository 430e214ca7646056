"""Groups of hosts: who sees their members, dynamic groups, what depends on them, their way into config records."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from ezadmin_testing.described import KIM, PASSWORD, csrf, empty, host_id, make, sign_in
from flask import Flask

from ezadmin_cmdb import migrate
from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.app import create_app
from ezadmin_cmdb.database import db, unit_of_work
from ezadmin_cmdb.describe import services
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.rights.services import rights_of
from ezadmin_cmdb.settings import ElasticConnection, KafkaConnection, Settings


@pytest.fixture(scope="module")
def module_app(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    settings = Settings(
        database=database, kafka=KafkaConnection("127.0.0.1:1"), config_signing_key=Path("none"),
        elasticsearch=ElasticConnection(("http://127.0.0.1:1",)),
        secret_key_file=tmp_path_factory.mktemp("web") / "secret",
    )  # fmt: skip
    app = create_app(settings)
    app.testing = True
    with app.app_context():
        migrate.upgrade(db.engine)
    yield app
    app.extensions["ezadmin_elastic"].close()
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def app(module_app: Flask) -> Flask:
    """Kim may do everything."""
    empty(module_app)
    with module_app.app_context(), unit_of_work():
        accounts.create_user(KIM, "kim", PASSWORD, admin=True)
    return module_app


def person(name: str, everywhere: list[str], of_hosts: list[str], group: object) -> Actor:
    """A user with permissions everywhere, and others for a group of hosts."""
    user = accounts.create_user(KIM, name, PASSWORD, admin=False)
    for number, (names, where) in enumerate(((everywhere, None), (of_hosts, group))):
        role = services.create(KIM, find("role"), {"name": f"{name} {number}", "permissions": names})
        services.create(KIM, find("grant"), {"user": user, "role": role, "group": where})
    return Actor(name, "ui", rights_of(user), user_id=user.id)


def test_members_out_of_scope_are_not_there(app: Flask) -> None:
    with app.app_context(), unit_of_work():
        members = [make("host", n) for n in (1, 2)]
        group = services.create(KIM, find("host_group"), {"name": "both", "hosts": members})
        group_id, where = group.id, f"/host-groups/{group.id}"
        names = ["host_group.view", "host_group.change"]
        person("lee", names, ["host.view"], make("host_group", 1))
        person("park", names, ["status.view"], None)
    for name, mine in (("lee", ["Host 1"]), ("park", [])):
        client = sign_in(app, name)
        for path in (
            where, f"{where}/edit", f"{where}/history", "/host-groups/?columns=hosts", "/host-groups/export.csv",
            f"/api/v1{where}", f"/api/v1{where}/changes", "/api/v1/host-groups", f"/host-groups/?hosts={host_id(2)}",
            f"/api/v1/host-groups?hosts={host_id(2)}",
        ):  # fmt: skip
            answer = client.get(path)
            assert answer.status_code == 200, path
            assert "Host 2" not in answer.text, path
            assert ("Host 1" in answer.text) == bool(mine) or "hosts=" in path or path.endswith("edit"), path
        assert client.get(f"/api/v1/host-groups?hosts={host_id(2)}").json["total"] == 0, "nor may it be asked for"
        headers = {"X-CSRFToken": csrf(client)}
        answer = client.patch(f"/api/v1{where}", json={"description": name, "hosts": []}, headers=headers)
        assert answer.status_code == 200
        assert answer.json["hosts"] == []
        with app.app_context():
            left = [one.name for one in services.find(KIM, find("host_group"), group_id).hosts]
            assert left == {"lee": ["Host 2"], "park": ["Host 2"]}[name], "he takes out what he sees, nothing else"
    client = sign_in(app, "lee")
    page = client.get(f"{where}/edit").text
    version = re.search(r'name="version" value="(\w+)"', page)
    assert version is not None
    form = {"name": "two", "hosts": "Host 1", "version": version[1], "csrf_token": csrf(client)}
    assert client.post(f"{where}/edit", data=form).status_code == 302
    with app.app_context():
        assert [one.name for one in services.find(KIM, find("host_group"), group_id).hosts] == ["Host 1", "Host 2"]
