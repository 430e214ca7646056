"""Threshold templates: what holds for a host and why, the same in the pipeline; preview; form; starters."""

from __future__ import annotations

import random
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from ezadmin_testing.described import KIM, PASSWORD, application, csrf, empty, host_id, make, sign_in
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, select, update

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.database import db, unit_of_work, utc_now
from ezadmin_cmdb.describe import services
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.errors import Conflict, Invalid
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.limits import services as limits
from ezadmin_cmdb.limits.models import Limit
from ezadmin_cmdb.limits.services import Target
from ezadmin_cmdb.outbox.models import ConfigRecord
from ezadmin_cmdb.rights import memberships
from ezadmin_cmdb.thresholds import rows
from ezadmin_cmdb.thresholds.models import ThresholdTemplate
from ezadmin_cmdb.thresholds.services import effective
from ezadmin_pipeline.directory import Directory
from ezadmin_pipeline.thresholds import State, Thresholds
from ezadmin_wire import config as wire
from ezadmin_wire.config import LimitRecord
from ezadmin_wire.fields import dump, load
from ezadmin_wire.names import Names
from ezadmin_wire.times import format_time

DISK, CPU, SWAP = "system.filesystem.used.pct", "system.cpu.total.norm.pct", "system.memory.swap.used.pct"
TEMPLATE = "threshold_template"


@pytest.fixture(scope="module")
def names() -> Names:
    return Names(f"t{secrets.token_hex(5)}")


@pytest.fixture(scope="module")
def module_app(database: str, stack: Any, names: Names, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    folder = tmp_path_factory.mktemp("web")
    with application(database, folder, elasticsearch=stack.elasticsearch, names=names) as app:
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


def template(name: str, given: list[dict[str, Any]], *assignments: dict[str, Any]) -> ThresholdTemplate:
    values = {"name": name, "limits": given, "assignments": list(assignments)}
    made: ThresholdTemplate = services.create(KIM, find(TEMPLATE), values)
    return made


def disk(warning: float, **more: Any) -> dict[str, Any]:
    return {"field": DISK, "warning_raise": warning, **more}


def published() -> tuple[Directory, Thresholds]:
    """The pipeline that has read every config record."""
    directory = Directory([])
    for row in db.session.scalars(select(ConfigRecord)):
        kind = wire.record_type(row.key)
        record = None if row.body is None else load(kind, row.body.encode())
        directory._apply(wire.ConfigRecord(row.key, row.revision, record))
    judge = Thresholds(directory)
    judge._sync(State({}))
    return directory, judge


def in_the_pipeline(judge: Thresholds, host: str) -> dict[str, LimitRecord]:
    plan = judge._plan(host)
    return {} if plan is None else {limit.id: limit.record for limit in plan.limits.values()}


# ------------------------------------------------------------------ what holds


def test_who_changes_a_host_does_not_undo_what_a_template_writes_at_the_same_time(app: Flask) -> None:
    with app.app_context(), unit_of_work():
        make("host", 1)
    failed: list[BaseException] = []

    def change_host() -> None:
        try:
            with app.app_context(), unit_of_work():
                services.update(KIM, find("host"), make("host", 1), {"environment": "production"})
        except BaseException as error:  # noqa: BLE001 - told by the test
            failed.append(error)

    other = threading.Thread(target=change_host)
    with app.app_context():
        with unit_of_work():
            template("all", [disk(0.8)], {"level": "global", "of": ""})
            other.start()  # it comes to the record, which waits for the template
            other.join(2)
            assert other.is_alive()
        other.join(30)
    assert failed == []
    with app.app_context():
        row = db.session.get(ConfigRecord, wire.host_key(host_id(1)))
        assert row is not None
        assert load(wire.HostRecord, str(row.body).encode()).labels["environment"] == "production"
        _directory, judge = published()
        assert [one.warning_raise for one in in_the_pipeline(judge, host_id(1)).values()] == [0.8]


def test_a_record_that_is_not_what_it_should_be_is_mended(app: Flask) -> None:
    with app.app_context(), unit_of_work():
        make("host", 1)
        make("host", 2)
        template("all", [disk(0.8)], {"level": "global", "of": ""})
    with app.app_context():
        assert memberships.publish_all() == 0
        with unit_of_work():
            row = db.session.get(ConfigRecord, wire.host_key(host_id(1)))
            assert row is not None
            row.body = dump(replace(load(wire.HostRecord, str(row.body).encode()), limits=[])).decode()
        assert memberships.publish_all() == 1
        _directory, judge = published()
        assert len(in_the_pipeline(judge, host_id(1))) == 1


@pytest.mark.parametrize("seed", range(3))
def test_what_holds_is_what_the_pipeline_judges_by(app: Flask, seed: int) -> None:
    """Random templates on random places: nearest place by the plainest of rules, the page, and the pipeline agree."""
    rng = random.Random(seed)
    placed: list[tuple[int, Any, float, bool]] = []  # nearness, whether it is for a host, value, off
    with app.app_context(), unit_of_work():
        hosts = [make("host", n) for n in range(1, 9)]
        for number, host in enumerate(hosts, 1):
            host.vendor, host.model = rng.choice(["Dell", "DELL", "HPE", None]), rng.choice(["R1", "R2", None])
            host.site = make("site", number % 3 + 1) if number % 4 else None
            group = make("host_group", number % 2 + 1)
            services.update(KIM, find("host_group"), group, {"hosts": [*group.hosts, host]})
    with app.app_context():
        memberships.refresh()
    with app.app_context(), unit_of_work():
        sites = {make("site", n).id: f"Site {n}" for n in (1, 2, 3)}
        stands = {
            host.id: {
                "global": "", "vendor": (host.vendor or "-").casefold(), "model": (host.model or "-").casefold(),
                "site": sites.get(host.site_id, "-"), "group": set((host.member_of or {}).values()), "host": host.id,
            }
            for host in db.session.scalars(select(Host))
        }  # fmt: skip
        choices = [
            ("global", "", 0),
            ("vendor", "dell", 0),
            ("vendor", "hpe", 0),
            ("model", "r1", 0),
            ("site", "Site 2", 0),
        ]
        choices += [("group", "Group 1", 1 + seed), ("group", "Group 2", 2), ("host", host_id(3), 0)]
        for i, (level, of, priority) in enumerate(rng.sample(choices, 6)):
            if level == "group" and any(one[0] == 4 and one[1][1] == priority for one in placed):
                continue
            value, off = round(0.5 + i / 100, 2), rng.random() < 0.25
            place = {"level": level, "of": of, "priority": priority}
            template(f"T{i}", [{"field": DISK, "off": True} if off else disk(value)], place)
            nearness = ("global", "vendor", "model", "site", "group", "host").index(level)
            placed.append((nearness, (of, priority, level), value, off))
    with app.app_context():
        _directory, judge = published()
        found = effective(db.session, list(stands))
        assert found.keys() == stands.keys()
        for host, places in stands.items():
            mine = [
                one for one in placed
                if (one[1][0] in places["group"] if one[1][2] == "group" else one[1][0] == places[one[1][2]])
            ]  # fmt: skip
            nearest = max(mine, key=lambda one: (one[0], one[1][1]), default=None)
            wanted = [] if nearest is None or nearest[3] else [nearest[2]]
            assert [one.warning_raise for one in found[host]] == wanted, places
            piped = in_the_pipeline(judge, host)
            assert {one.limit_id for one in found[host]} == piped.keys()
            for one in found[host]:
                assert piped[one.limit_id].warning_raise == one.warning_raise
                assert [step.wins for step in one.trace] == [False] * (len(one.trace) - 1) + [True]
                assert len(one.trace) == len(mine)


def test_a_host_that_moves_has_the_limits_of_where_it_is(app: Flask) -> None:
    with app.app_context(), unit_of_work():
        host, seoul = make("host", 1), make("site", 1)
        template("all", [disk(0.8), {"field": CPU, "warning_raise": 0.9}], {"level": "global"})
        template("Seoul", [disk(0.7)], {"level": "site", "of": "Site 1"})
        services.update(KIM, find("host"), host, {"site": seoul})
    with app.app_context(), unit_of_work():
        _directory, judge = published()
        assert sorted(one.warning_raise or 0 for one in in_the_pipeline(judge, host_id(1)).values()) == [0.7, 0.9]
        services.update(KIM, find("host"), make("host", 1), {"site": None})
    with app.app_context(), unit_of_work():
        _directory, judge = published()
        assert sorted(one.warning_raise or 0 for one in in_the_pipeline(judge, host_id(1)).values()) == [0.8, 0.9]
        services.update(KIM, find("host"), make("host", 1), {"site": make("site", 1)})
        seoul = db.session.scalars(select(ThresholdTemplate).where(ThresholdTemplate.name == "Seoul")).one()
        services.delete(KIM, find(TEMPLATE), seoul)
    with app.app_context():
        directory, judge = published()
        assert sorted(one.warning_raise or 0 for one in in_the_pipeline(judge, host_id(1)).values()) == [0.8, 0.9]
        assert len(directory.limits) == 2, "the limit of the deleted template is gone"


def test_a_change_of_values_keeps_the_limit_and_what_is_equally_near_is_refused(app: Flask) -> None:
    with app.app_context(), unit_of_work():
        one = template("one", [disk(0.8)], {"level": "global"})
        before = [limit.id for limit in one.limit_rows]
        services.update(KIM, find(TEMPLATE), one, {"limits": [disk(0.9), disk(0.5, item="/data*")]})
        assert [limit.id for limit in one.limit_rows][:1] == before, "what is raised by it stays raised"
        with pytest.raises(Conflict, match=r"“one” and “two”|“two” and “one”"):
            template("two", [disk(0.6)], {"level": "global"})
        db.session.rollback()
    with app.app_context(), unit_of_work():
        template("one", [disk(0.8)], {"level": "global"})
        with pytest.raises(Conflict, match="cli"):
            limits.add(KIM, "cli", LimitRecord(DISK, warning_raise=0.1), targets=[Target()])
        db.session.rollback()
    with app.app_context():
        template("one", [disk(0.8)], {"level": "global"})
        mine = db.session.scalars(select(Limit.id)).one()
        with pytest.raises(Conflict, match="threshold template"):
            limits.remove(KIM, mine)
        db.session.rollback()


def test_the_number_of_queries_does_not_grow_with_hosts(app: Flask) -> None:
    counts = set()
    for n in (2, 40):
        with app.app_context(), unit_of_work():
            ids = [make("host", number).id for number in range(1, n + 1)]
            if n == 2:
                template("all", [disk(0.8)], {"level": "global"}, {"level": "host", "of": host_id(1)})
        with app.app_context(), counting() as statements:
            effective(db.session, ids)
        counts.add(len(statements))
    assert counts == {4}


@contextmanager
def counting() -> Iterator[list[str]]:
    statements: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        statements.append(statement)

    event.listen(db.engine, "before_cursor_execute", note)
    yield statements
    event.remove(db.engine, "before_cursor_execute", note)


@pytest.mark.parametrize(
    ("given", "member"),
    [
        (disk(0.8, warning_clear=0.9), "warning_clear"),
        (disk(0.8, critical_raise=0.7), "critical_raise"),
        (disk(0.8, comparison="below", warning_clear=0.7), "warning_clear"),
        ({"field": DISK, "critical_clear": 0.5, "no_data": 300}, "critical_clear"),
        ({"field": DISK, "no_data": 149}, "no_data"),
        ({"field": CPU, "no_data": 29}, "no_data"),
        ({"field": DISK}, "warning_raise"),
        ({"field": "system.nothing", "warning_raise": 1}, "field"),
        ({"field": "system.filesystem.type", "warning_raise": 1}, "field"),
        (disk(0.8, hold=-1), "hold"),
        (disk(0.8, n=4, m=3), "n"),
        (disk(24, compare="full", trend=60), "trend"),
        (disk(float("nan")), "warning_raise"),
    ],
)
def test_what_is_wrong_is_named(app: Flask, given: dict[str, Any], member: str) -> None:
    with app.app_context(), pytest.raises(Invalid) as caught:
        rows.checked_limits([disk(0.5, item="/x"), given])
    assert f"limits.1.{member}" in caught.value.fields
    assert "Limit 2" in str(caught.value)


# ------------------------------------------------------------------ pages


def row(n: int, **texts: str) -> dict[str, str]:
    return {f"limits.{n}.{name}": text for name, text in texts.items()}


def test_the_form_names_what_is_wrong_and_the_host_page_says_why(app: Flask, client: FlaskClient) -> None:
    guard = {"csrf_token": csrf(client)}
    with app.app_context(), unit_of_work():
        make("host", 1)
        site = make("site", 1).id
        services.update(KIM, find("host"), make("host", 1), {"site": make("site", 1)})
        template("Everywhere", [disk(0.9, item="/data*")], {"level": "global"})
    wrong = {"name": "Seoul disks", **row(0, field=DISK, item="/data*", warning_raise="85", critical_raise="x")}
    answer = client.post("/thresholds/new", data={**guard, **wrong, "assignments.0.place": "site:999"})
    assert answer.status_code == 422
    for name in ("limits.0.warning_raise", "limits.0.critical_raise", "assignments.0.of"):
        assert f'id="{name}-error"' in answer.text
    assert 'value="/data*"' in answer.text, "what was written is still there"
    more = client.post("/thresholds/new", data={**guard, **wrong, "action": "more-limits"})
    assert 'id="limits.1.field"' in more.text
    fewer = client.post("/thresholds/new", data={**guard, **wrong, **row(1, field=CPU), "action": "drop-limits-0"})
    assert 'id="limits.1.field"' not in fewer.text
    right = {"name": "Seoul disks", "assignments.0.place": f"site:{site}", "action": "save"}
    right |= row(
        0, field=DISK, item="/data*", warning_raise="85%", warning_clear="80 %", critical_raise="0.95", hold="5m"
    )
    made = client.post("/thresholds/new", data={**guard, **right})
    assert made.status_code == 302, made.text
    page = client.get(made.headers["Location"]).text
    assert "≥ 85%" in page
    edit = client.get(f"{made.headers['Location']}/edit").text
    assert 'value="85%"' in edit
    assert 'value="5m"' in edit
    ko = client.get(f"/hosts/{host_id(1)}/thresholds", headers={"Accept-Language": "ko"}).text
    assert "이 값인 이유" in ko
    assert "모든 호스트" in ko
    assert "Seoul disks (사이트 Site 1)" in ko
    found = client.get(f"/api/v1/hosts/{host_id(1)}/thresholds").json
    assert [(one["warning_raise"], one["hold"], [step["wins"] for step in one["trace"]]) for one in found] == [
        (0.85, 300, [False, True])
    ]


def test_preview_says_what_saving_does_and_does_nothing(
    app: Flask, client: FlaskClient, stack: Any, names: Names
) -> None:
    guard = {"csrf_token": csrf(client)}
    with app.app_context(), unit_of_work():
        for n in (1, 2, 3):
            make("host", n)
        db.session.execute(update(Host).where(Host.id == host_id(3)).values(vendor="HPE"))
        db.session.execute(update(Host).where(Host.id != host_id(3)).values(vendor="Dell"))
    figures = {1: {"/data1": 0.9, "/var": 0.99}, 2: {"/data1": 0.5}, 3: {"/data1": 0.99}}
    keyword = {"type": "keyword"}
    mapped = {
        "@timestamp": {"type": "date"}, "host.id": keyword, "event.dataset": keyword, DISK: {"type": "double"},
        "system.filesystem.mount_point": keyword,
    }  # fmt: skip
    index = f"{names.prefix}-metrics-2026.01.01"
    with Elasticsearch(stack.elasticsearch) as elastic:
        elastic.indices.create(index=index, mappings={"properties": mapped})
        for n, items in figures.items():
            for item, value in items.items():
                document = {
                    "@timestamp": format_time(utc_now()), "host.id": host_id(n), "event.dataset": "system.filesystem",
                    "system.filesystem.mount_point": item, DISK: value,
                }  # fmt: skip
                elastic.index(index=index, document=document, refresh=True)
    try:
        form = {"name": "Dell", "assignments.0.place": "vendor:dell", "action": "preview"}
        form |= row(0, field=DISK, item="/data*", warning_raise="85%", critical_raise="95%")
        page = client.post("/thresholds/new", data={**guard, **form}).text
        assert "2 hosts get other limits." in page
        assert "1 figure would be raised now." in page
        assert page.count('data-state="warning"') == 1
        body = {
            "name": "Dell", "limits": [disk(0.85, item="/data*", critical_raise=0.95)],
            "assignments": [{"level": "global"}],
        }  # fmt: skip
        found = client.post("/api/v1/thresholds/preview", json=body, headers={"X-CSRFToken": guard["csrf_token"]}).json
        assert found["changed"] == 3
        assert [(one["host"], one["item"], one["state"]) for one in found["fires"]] == [
            ("Host 3", "/data1", "critical"), ("Host 1", "/data1", "warning"),
        ]  # fmt: skip
        with app.app_context(), unit_of_work():
            assert db.session.scalars(select(ThresholdTemplate)).all() == []
            made = template("Dell", [disk(0.99)], {"level": "vendor", "of": "Dell"}).id
        headers = {"X-CSRFToken": guard["csrf_token"]}
        taken = client.post("/api/v1/thresholds/preview", json=body, headers=headers)
        assert taken.status_code == 409, "its name is taken, as saving would say"
        other = {**body, "id": made, "assignments": [{"level": "vendor", "of": "dell"}]}
        other["limits"] = [disk(0.99)]
        assert client.post("/api/v1/thresholds/preview", json=other, headers=headers).json["changed"] == 0
        with app.app_context(), unit_of_work():
            second = template("Second", [disk(0.2, item="/x")]).id
        taken = client.post("/api/v1/thresholds/preview", json={**body, "id": second}, headers=headers)
        assert taken.status_code == 409
        other["assignments"] = [{"level": "vendor", "of": "HPE"}]
        assert client.post("/api/v1/thresholds/preview", json=other, headers=headers).json["changed"] == 3
        with app.app_context():
            assert effective(db.session, [host_id(3)])[host_id(3)] == []
            made_rows = db.session.scalars(select(Limit)).all()
            assert len(made_rows) == 2
            keys = [row.key for row in db.session.scalars(select(ConfigRecord)) if row.key.startswith("limit/")]
            assert sorted(keys) == sorted(f"limit/{one.id}" for one in made_rows)
    finally:
        with Elasticsearch(stack.elasticsearch) as elastic:
            elastic.indices.delete(index=index)


def test_preview_counts_what_fills(app: Flask, client: FlaskClient, stack: Any, names: Names) -> None:
    guard = {"csrf_token": csrf(client)}
    with app.app_context(), unit_of_work():
        make("host", 1)
    keyword, index, now = {"type": "keyword"}, f"{names.prefix}-metrics-2026.01.02", utc_now()
    mapped = {
        "@timestamp": {"type": "date"}, "host.id": keyword, "event.dataset": keyword, DISK: {"type": "double"},
        "system.filesystem.mount_point": keyword,
    }  # fmt: skip
    lines: list[dict[str, Any]] = []
    for minutes in range(60):
        # an hour: one grows by 0.1 and is full in an hour and some, one stands still, of one too little is known
        values = {"/grows": 0.85 - minutes / 600, "/still": 0.85, "/new": 0.85 - minutes / 600}
        for item, value in values.items():
            if item != "/new" or minutes < 10:
                lines += [{"index": {}}, {
                    "@timestamp": format_time(now - timedelta(minutes=minutes)), "host.id": host_id(1),
                    "event.dataset": "system.filesystem", "system.filesystem.mount_point": item, DISK: value,
                }]  # fmt: skip
    try:
        with Elasticsearch(stack.elasticsearch) as elastic:
            elastic.indices.create(index=index, mappings={"properties": mapped})
            elastic.bulk(index=index, operations=lines, refresh=True)
        limit = {"field": DISK, "compare": "full", "trend": 3600, "warning_raise": 24, "critical_raise": 1}
        body = {"name": "Fills", "limits": [limit], "assignments": [{"level": "global"}]}
        headers = {"X-CSRFToken": guard["csrf_token"]}
        found = client.post("/api/v1/thresholds/preview", json=body, headers=headers).json
        assert found["trends"] == 1
        (fires,) = found["fires"]
        assert (fires["item"], fires["state"], fires["trend"]) == ("/grows", "warning", True)
        assert fires["value"] == pytest.approx(1.5, rel=0.01), "0.15 at 0.1 an hour"
        form = {"name": "Fills", "assignments.0.place": "global:", "action": "preview"}
        form |= row(0, field=DISK, compare="full", trend="1h", warning_raise="24h")
        page = client.post("/thresholds/new", data={**guard, **form}).text
        assert "1 figure would be raised now." in page
        assert "full in 1.5h" in page
    finally:
        with Elasticsearch(stack.elasticsearch) as elastic:
            elastic.indices.delete(index=index)


def test_starters_are_added_once_and_what_people_changed_stays(app: Flask, client: FlaskClient) -> None:
    guard = {"csrf_token": csrf(client)}
    with app.app_context(), unit_of_work():
        make("host", 1)
        template("Mine", [disk(0.5)], {"level": "global"})
    assert "Add the starter templates" in client.get("/thresholds/").text
    assert client.post("/thresholds/starters", data=guard).status_code == 302
    assert "Add the starter templates" not in client.get("/thresholds/").text
    with app.app_context(), unit_of_work():
        there = {one.starter: one for one in db.session.scalars(select(ThresholdTemplate)) if one.starter}
        assert there["disk"].assignment_rows == [], "there is a limit of disks for all hosts already"
        found = effective(db.session, [host_id(1)])[host_id(1)]
        assert next(one for one in found if one.field == DISK).warning_raise == 0.5
        assert {SWAP, CPU} <= {one.field for one in found}
        services.update(KIM, find(TEMPLATE), there["memory"], {"limits": [{"field": SWAP, "warning_raise": 0.2}]})
    client.post("/thresholds/starters", data=guard)
    with app.app_context():
        found = effective(db.session, [host_id(1)], [SWAP])[host_id(1)]
        assert [one.warning_raise for one in found] == [0.2]
