"""Groups of hosts: who sees their members, dynamic groups, what depends on them, their way into config records."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator

import pytest
from ezadmin_testing.described import KIM, PASSWORD, application, csrf, empty, host_id, make, sign_in
from flask import Flask
from sqlalchemy import event, insert, select

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.accounts.models import User
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes import history
from ezadmin_cmdb.database import db, unit_of_work, utc_now
from ezadmin_cmdb.describe import services
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.errors import Conflict
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.limits import services as limits
from ezadmin_cmdb.limits.services import Target
from ezadmin_cmdb.outbox.models import ConfigRecord
from ezadmin_cmdb.rights import memberships
from ezadmin_cmdb.rights.services import rights_of
from ezadmin_wire.config import LimitRecord, host_key


@pytest.fixture(scope="module")
def module_app(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    with application(database, tmp_path_factory.mktemp("web")) as app:
        yield app


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


def groups_in_record(number: int) -> tuple[list[str], list[str]]:
    """Groups and limits of the config record of a host."""
    body = db.session.scalar(select(ConfigRecord.body).where(ConfigRecord.key == host_key(host_id(number))))
    record = json.loads(body or "{}")
    return record["groups"], record["limits"]


def test_memberships_and_their_limits_reach_the_config_records(app: Flask) -> None:
    description = find("host_group")
    with app.app_context():
        with unit_of_work():
            made = [make("host", n) for n in (1, 2, 12)]
            services.create(KIM, description, {"name": "ones", "filter": "name__contains=1"})
            services.create(KIM, description, {"name": "listed", "hosts": made[1:2]})
            cpu = LimitRecord("system.cpu.total.norm.pct", critical_raise=0.9)
            limits.add(KIM, "busy", cpu, targets=[Target(group="ones")])
        assert memberships.refresh() == 3
        assert memberships.refresh() == 0, "only what has changed"
        assert [groups_in_record(n) for n in (1, 2, 12)] == [
            (["ones"], ["busy"]), (["listed"], []), (["ones"], ["busy"]),
        ]  # fmt: skip
        with unit_of_work():
            hosts.rename(KIM, hosts.find(KIM, host_id(12)), "Host 3")
            services.update(KIM, description, description.resolve(KIM, ["listed"])["listed"], {"name": "few"})
        assert memberships.refresh() == 2
        assert [groups_in_record(n) for n in (1, 2, 12)] == [(["ones"], ["busy"]), (["few"], []), ([], [])]
        with unit_of_work(), pytest.raises(Conflict, match="busy"):
            services.delete(KIM, description, description.resolve(KIM, ["ones"])["ones"])
        with unit_of_work():
            limits.unassign(KIM, "busy", [Target(group="ones")])
            services.delete(KIM, description, description.resolve(KIM, ["ones"])["ones"])
        assert memberships.refresh() == 1
        assert groups_in_record(1) == ([], [])
        record = db.session.get(Host, host_id(1))
        assert record is not None
        assert not [one for one in history.of_object("host", record.id).items if "member_of" in one.fields]


def test_the_worker_keeps_them(app: Flask) -> None:
    stopping = threading.Event()
    with app.app_context(), unit_of_work():
        make("host", 1)
        services.create(KIM, find("host_group"), {"name": "all", "filter": "name__contains=Host"})
    keeper = memberships.MembershipKeeper(app, stopping)
    keeper.start()
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with app.app_context():
                if groups_in_record(1)[0] == ["all"]:
                    break
            time.sleep(0.2)
        else:
            pytest.fail("not published")
    finally:
        stopping.set()
        keeper.join(5)
    assert not keeper.failed


def test_a_form_shows_what_the_filter_holds_and_what_depends_on_it(app: Flask) -> None:
    with app.app_context(), unit_of_work():
        for n in (1, 2):
            make("host", n)
        group = services.create(KIM, find("host_group"), {"name": "ones", "filter": "name__contains=1"})
        group_id = group.id
        person("lee", ["host_group.view"], ["host.view", "metrics.view"], group)
    kim, lee = sign_in(app, "kim"), sign_in(app, "lee")
    page = kim.get(f"/host-groups/members?id={group_id}&filter=name__contains%3DHost").text
    assert "Host 1" in page
    assert "Host 2" in page
    assert "1 grant depends on it" in page
    assert "lee: lee 1 @ ones" in page
    assert "There is no parameter" in kim.get("/host-groups/members?filter=colour%3Dred").text
    shown = lee.get(f"/host-groups/members?id={group_id}&filter=name__contains%3DHost").text
    assert "Host 1" in shown
    assert "Host 2" not in shown
    assert "grant" not in shown, "who may not see grants does not"
    assert f"/host-groups/members?id={group_id}" in kim.get(f"/host-groups/{group_id}").text
    assert "hx-include" in kim.get(f"/host-groups/{group_id}/edit").text


def test_scope_of_dynamic_groups_is_one_quick_query_at_5000_hosts(app: Flask) -> None:
    with app.app_context(), unit_of_work():
        now = utc_now()
        db.session.execute(
            insert(Host),
            [
                {"id": host_id(n), "name": f"Host {n}", "state": "active", "created": now, "updated": now,
                 "memory": n, "os_name": ("Debian", "Ubuntu")[n % 2]}
                for n in range(1, 5001)
            ],
        )  # fmt: skip
        description = find("host_group")
        texts = ("os_name=Debian&memory__gte=4000", "q=Host+12", "memory__lte=100")
        groups = [services.create(KIM, description, {"name": text[:20], "filter": text}) for text in texts]
        actor = person("lee", [], ["host.view"], groups[0])
        role = services.create(KIM, find("role"), {"name": "r", "permissions": ["host.view"]})
        for group in groups[1:]:
            user = db.session.get(User, actor.user_id)
            services.create(KIM, find("grant"), {"user": user, "role": role, "group": group})
    with app.app_context():
        user = db.session.get(User, actor.user_id)
        assert user is not None
        actor = Actor("lee", "ui", rights_of(user), user_id=user.id)
        query = hosts.visible(actor).with_only_columns(Host.id)
        db.session.scalars(query).all()
        statements: list[str] = []
        event.listen(db.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
        begin = time.perf_counter()
        seen = db.session.scalars(query).all()
        took = time.perf_counter() - begin
        assert len(statements) == 1
        expected = {n for n in range(1, 5001) if (n % 2 == 0 and n >= 4000) or "12" in str(n) or n <= 100}
        assert set(seen) == {host_id(n) for n in expected}
        print(f"{len(seen)} of 5,000 hosts in {1000 * took:.0f} ms")
        assert took < 0.5
        begin = time.perf_counter()
        assert set(memberships.found()) == set(seen)
        print(f"memberships of 5,000 hosts in {1000 * (time.perf_counter() - begin):.0f} ms")
        begin = time.perf_counter()
        del statements[:]
        assert memberships.refresh() == len(seen)
        print(f"all written and published in {time.perf_counter() - begin:.1f} s, {len(statements)} statements")
