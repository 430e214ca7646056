"""Racks: what may stand where, what is drawn, where units are free; the labels of hosts that follow from it."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any
from xml.etree import ElementTree

import pytest
from ezadmin_testing.described import KIM, PASSWORD, application, csrf, empty, host_id, make, sign_in
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, select, update

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.database import db, unit_of_work, utc_now
from ezadmin_cmdb.datacenter import placement, reminders
from ezadmin_cmdb.datacenter.racks import Rack
from ezadmin_cmdb.describe import services
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.limits.models import Limit, LimitAssignment
from ezadmin_cmdb.limits.selection import limit_ids, limit_ids_of
from ezadmin_cmdb.outbox.models import ConfigRecord
from ezadmin_cmdb.rights.services import rights_of
from ezadmin_wire.config import HostRecord, host_key
from ezadmin_wire.fields import load


@pytest.fixture(scope="module")
def module_app(stack: Any, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    with application(
        database, tmp_path_factory.mktemp("web"), kafka=stack.kafka, elasticsearch=stack.elasticsearch
    ) as app:
        yield app


@pytest.fixture
def app(module_app: Flask) -> Flask:
    """Rack 1 (42 units, from the bottom, in Room 1 at Site 1), hosts 1 to 3, an administrator."""
    empty(module_app)
    with module_app.app_context(), unit_of_work():
        accounts.create_user(KIM, "kim", PASSWORD, admin=True)
        make("rack", 1)
        for n in (1, 2, 3):
            make("host", n)
    return module_app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return sign_in(app, "kim")


@pytest.fixture
def context(app: Flask) -> Iterator[None]:
    with app.test_request_context():
        yield
        db.session.rollback()


def rack(n: int = 1) -> Any:
    return make("rack", n)


def put(n: int, unit: int | None, height: int = 1, face: str = "front", depth: str = "full", into: Any = None) -> Any:
    host = make_host(n)
    values = {
        "rack": into or rack(), "rack_unit": unit, "rack_height": height, "rack_face": face, "rack_depth": depth,
    }  # fmt: skip
    services.update(KIM, find("host"), host, values)
    return host


def make_host(n: int) -> Any:
    return db.session.get(Host, host_id(n)) or make("host", n)


# -- what may stand where ---


@pytest.mark.usefixtures("context")
def test_what_is_in_the_way_is_named() -> None:
    put(1, 10, 4)
    for unit, height in ((10, 1), (13, 2), (8, 3), (9, 20)):
        with pytest.raises(Invalid, match=r"Host 1 .* U10–U13 of rack Rack 1") as wrong:
            put(2, unit, height)
        assert "rack_unit" in str(wrong.value.fields or wrong.value.field)
        db.session.expire_all()
    put(2, 14)
    put(3, 9)


@pytest.mark.usefixtures("context")
def test_faces_and_depth() -> None:
    put(1, 5, face="front", depth="half")
    put(2, 5, face="rear", depth="half")
    for face, depth in (("front", "half"), ("rear", "half"), ("front", "full"), ("rear", "full")):
        with pytest.raises(Invalid):
            put(3, 5, face=face, depth=depth)
        db.session.expire_all()
    put(3, 6, face="rear", depth="full")
    with pytest.raises(Invalid, match="Host 3"):
        put(2, 6, face="front", depth="half")


@pytest.mark.usefixtures("context")
def test_out_of_range_moves_and_removal() -> None:
    put(1, 42)
    for unit, height in ((43, 1), (42, 2), (1, 43)):
        with pytest.raises(Invalid, match="Rack 1 has 42 units"):
            put(2, unit, height)
        db.session.expire_all()
    host = put(1, 41, 2)  # overlaps with nothing but itself
    assert (host.rack_unit, host.rack_height, host.site.name) == (41, 2, "Site 1")
    services.update(KIM, find("host"), host, {"rack": rack(2)})
    assert (host.site.name, host.rack_unit) == ("Site 2", 41)
    with pytest.raises(Invalid, match="Take it out of the rack first"):
        services.update(KIM, find("host"), host, {"site": make("site", 1)})
    db.session.expire_all()
    services.update(KIM, find("host"), host, {"rack": None})
    assert (host.rack_unit, host.rack_face, host.site.name) == (None, None, "Site 2")
    with pytest.raises(Invalid, match="Choose the rack"):
        services.update(KIM, find("host"), host, {"rack_unit": 3})


@pytest.mark.usefixtures("context")
def test_hosts_and_devices_and_types() -> None:
    kind = services.create(KIM, find("device_type"), {"name": "Big", "kind": "storage", "height": 4, "depth": "half"})
    host = make_host(1)
    services.update(KIM, find("host"), host, {"rack": rack(), "rack_unit": 20, "device_type": kind})
    assert (host.rack_height, host.rack_depth, host.rack_face) == (4, "half", "front")
    device = make("device", 1)  # units 1 and 2, rear, half
    with pytest.raises(Invalid, match="Host 1"):
        services.update(KIM, find("device"), device, {"rack_unit": 22, "rack_face": "front"})
    db.session.expire_all()
    services.update(KIM, find("device"), device, {"rack_unit": 22})
    with pytest.raises(Invalid, match="Host 1 stands at U20–U23"):
        services.update(KIM, find("rack"), rack(), {"height": 22})


@pytest.mark.usefixtures("context")
def test_any_order_of_any_places_leaves_no_overlap() -> None:
    chance, taken = random.Random(7), 0
    for _ in range(120):
        n = chance.randint(1, 30)
        try:
            put(
                n,
                chance.randint(1, 44),
                chance.randint(1, 6),
                chance.choice(placement.BOTH),
                chance.choice(["full", "half"]),
            )
            taken += 1
        except Invalid:
            db.session.expire_all()
    inside = placement.occupants(KIM, Rack.id == rack().id)
    units = [(face, unit) for one in inside for face in one.faces for unit in one.units]
    assert taken > 10
    assert len(units) == len(set(units))
    assert max(unit for _, unit in units) <= 42
    free = {
        (face, unit) for face in placement.BOTH for run in placement.free_ranges(42, inside, (face,)) for unit in run
    }
    assert free == {(face, unit) for face in placement.BOTH for unit in range(1, 43)} - set(units)


def test_two_at_once_do_not_get_the_same_unit(app: Flask) -> None:
    outcomes: list[str] = []
    ready = threading.Barrier(3)

    def work(n: int) -> None:
        with app.test_request_context():
            try:
                with unit_of_work():
                    ready.wait()
                    put(n, 7)
                outcomes.append("put")
            except Invalid:
                outcomes.append("refused")

    threads = [threading.Thread(target=work, args=(n,)) for n in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == ["put", "refused", "refused"]


# -- page and API ---


def test_by_page_and_api(app: Flask, client: FlaskClient) -> None:
    guard = csrf(client)
    headers = {"X-CSRFToken": guard}
    with app.app_context():
        rack_id = db.session.scalar(select(Rack.id))
    place = {"rack": rack_id, "rack_unit": 3, "rack_height": 2}
    assert client.patch(f"/api/v1/hosts/{host_id(1)}", json=place, headers=headers).status_code == 200
    refused = client.patch(f"/api/v1/hosts/{host_id(2)}", json=place, headers=headers)
    assert (refused.status_code, "Host 1" in refused.text) == (422, True)
    # a click on a free unit, a host chosen, its form with the place in it
    chosen = client.get(f"/racks/{rack_id}/place?unit=5&face=rear&host=Host 2")
    assert chosen.status_code == 302
    form = client.get(chosen.location).text
    assert 'id="rack_unit" name="rack_unit" ' in form
    assert 'value="5"' in form
    data = {
        "name": "Host 2",
        "state": "active",
        "rack": "Rack 1",
        "rack_unit": "4",
        "rack_face": "rear",
        "csrf_token": guard,
    }
    page = client.post(f"/hosts/{host_id(2)}/edit", data=data)
    assert (page.status_code, "Host 1 is in the way" in page.text) == (422, True)
    assert client.post(f"/hosts/{host_id(2)}/edit", data={**data, "rack_unit": "5"}).status_code == 302
    units = client.get(f"/api/v1/racks/{rack_id}/units").json
    assert [(one["name"], one["unit"], one["height"]) for one in units["inside"]] == [
        ("Host 1", 3, 2),
        ("Host 2", 5, 1),
    ]
    assert units["usage"]["taken"] == 3
    assert units["free"]["front"] == [{"lowest": 1, "units": 2}, {"lowest": 6, "units": 37}]
    assert client.get("/api/v1/racks/space?units=38").json == []
    assert [one["name"] for one in client.get("/api/v1/racks/space?units=37").json] == ["Rack 1"]
    assert "U6–U42" in client.get("/racks/space?units=3&room=Room 1").text
    assert client.get("/racks/space?units=x").status_code == 200
    assert client.get("/api/v1/racks/space?units=0").status_code == 422
    for filtered in ("rack=Rack 1", "room=Room 1", "site=Site 1"):
        assert client.get(f"/api/v1/hosts?{filtered}").json["total"] == 2, filtered


@pytest.mark.parametrize("numbering", ["bottom", "top"])
def test_the_drawing_has_each_thing_where_it_stands(app: Flask, client: FlaskClient, numbering: str) -> None:
    with app.test_request_context(), unit_of_work():
        services.update(KIM, find("rack"), rack(), {"numbering": numbering})
        put(1, 10, 3, depth="half")
        put(2, None)
        rack_id = rack().id
        db.session.execute(update(Host).where(Host.id == host_id(1)).values(name="<b>&x"))
    page = client.get(f"/racks/{rack_id}").text
    drawings = [part for part in page.split("<svg ") if part.startswith('class="elevation"')]
    front, rear = (ElementTree.fromstring("<svg " + one.split("</svg>")[0] + "</svg>") for one in drawings)
    found = [one for one in front.iter("a") if f"/hosts/{host_id(1)}" == one.get("href")]
    assert len(found) == 1
    assert found[0].get("aria-label", "").startswith("<b>&x · New · U10–U12")
    box = found[0].find("rect")
    assert box is not None
    top = 20 * (42 - 12) if numbering == "bottom" else 20 * 9
    assert (box.get("y"), box.get("height")) == (str(top), "60")
    assert len([one for one in front.iter("a") if "el-free" in one.get("class", "")]) == 39
    assert len([one for one in rear.iter("a") if "el-free" in one.get("class", "")]) == 42
    assert "In the rack, but in none of its units" in page
    assert "<b>" not in page


def test_a_room_and_a_site_show_their_racks_and_how_full_they_are(app: Flask, client: FlaskClient) -> None:
    with app.test_request_context(), unit_of_work():
        room = make("room", 1)
        for n in range(2, 31):
            values = {"name": f"Rack {n}", "room": room, "status": "active", "height": 42, "numbering": "bottom"}
            one = services.create(KIM, find("rack"), values)
            db.session.add_all(
                Host(id=host_id(n * 100 + unit), name=f"A server {n}/{unit}", rack_id=one.id, rack_unit=unit)
                for unit in range(1, 43)
            )
        room_id, site_id = room.id, room.site_id
    page = client.get(f"/rooms/{room_id}")
    assert page.text.count('class="elevation"') == 20
    assert len(page.data) < 300_000
    assert "1,218 of 1,260 units taken (97%)" in page.text
    assert client.get(f"/rooms/{room_id}?page=2&face=rear").text.count('class="elevation"') == 10
    assert "1,218 of 1,260 units taken (97%)" in client.get(f"/sites/{site_id}").text


def test_what_may_not_be_seen_is_there_without_a_name(app: Flask) -> None:
    with app.test_request_context(), unit_of_work():
        put(1, 1), put(2, 2)
        user = accounts.create_user(KIM, "lee", PASSWORD, admin=False)
        role = services.create(KIM, find("role"), {"name": "r", "permissions": ["rack.view"]})
        services.create(KIM, find("grant"), {"user": user, "role": role})
        mine = services.create(KIM, find("role"), {"name": "h", "permissions": ["host.change"]})
        group = services.create(KIM, find("host_group"), {"name": "g", "hosts": [make_host(1)]})
        services.create(KIM, find("grant"), {"user": user, "role": mine, "group": group})
        rack_id = rack().id
        lee = Actor("lee", "ui", rights_of(user))
        inside = placement.occupants(lee, Rack.id == rack_id)
        assert [one.name for one in inside] == ["Host 1", None]
        with pytest.raises(Invalid, match="something that you may not see is in the way"):
            services.update(lee, find("host"), make_host(1), {"rack_unit": 2})
        db.session.expire_all()
    client = sign_in(app, "lee")
    page = client.get(f"/racks/{rack_id}")
    assert page.status_code == 200
    assert "Host 1" in page.text
    assert "Host 2" not in page.text
    assert host_id(2) not in page.text
    units = client.get(f"/api/v1/racks/{rack_id}/units").text
    assert "Host 2" not in units
    assert host_id(2) not in units


# -- labels ---


def labels_of(n: int) -> dict[str, str]:
    body = db.session.scalars(select(ConfigRecord.body).where(ConfigRecord.key == host_key(host_id(n)))).one()
    record = load(HostRecord, (body or "").encode())
    return dict(record.labels)


@contextmanager
def counted() -> Iterator[list[str]]:
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        statements.append(statement)

    event.listen(db.engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(db.engine, "before_cursor_execute", note)


@pytest.mark.usefixtures("context")
def test_place_customer_and_environment_are_labels() -> None:
    assert labels_of(1) == {"rack": "r1"}  # given by hand
    put(1, 3)
    services.update(KIM, find("host"), make_host(1), {"customer": make("customer", 1), "environment": "production"})
    everything = {
        "site": "Site 1", "room": "Room 1", "rack": "Rack 1", "customer": "Customer 1", "environment": "production",
    }  # fmt: skip
    assert labels_of(1) == everything
    here = rack()
    for name, obj, called in (
        ("site", here.room.site, "Seoul"), ("customer", here.customer, "Hanbit"), ("room", here.room, "2F"),
        ("rack", here, "A01"),
    ):  # fmt: skip
        services.update(KIM, find(name), obj, {"name": called})
    assert labels_of(1) == everything | {"site": "Seoul", "room": "2F", "rack": "A01", "customer": "Hanbit"}
    services.update(KIM, find("host"), make_host(1), {"rack": None, "customer": None, "environment": None})
    assert labels_of(1) == {"rack": "r1", "site": "Seoul"}


@pytest.mark.usefixtures("context")
def test_limits_are_for_labels_that_follow() -> None:
    put(1, 1)
    assignments = [LimitAssignment(limit_id="full", label=name, value=value)
                   for name, value in (("rack", "rack 1"), ("rack", "r2"), ("rack", "r1"))]  # fmt: skip
    load, swap = {"field": "system.load.1"}, {"field": "system.memory.swap.used.pct"}
    db.session.add(Limit(id="full", definition=load, comment="", assignments=assignments[:2]))
    db.session.add(Limit(id="none", definition=swap, comment="", assignments=assignments[2:]))
    db.session.flush()
    hosts = [make_host(n) for n in (1, 2, 3)]
    assert limit_ids_of(hosts) == {host.id: limit_ids(host) for host in hosts}
    found = [limit_ids(host) for host in hosts]
    assert found == [["full"], ["full"], []], "what follows goes before what was given"


@pytest.mark.usefixtures("context")
def test_a_room_that_moves_takes_its_hosts_along_with_few_queries() -> None:
    counts = []
    for number in (3, 60):
        for n in range(1, number + 1):
            put(n, None)
        db.session.flush()
        other = make("site", 3 if number == 3 else 4)
        db.session.expire_all()
        room = make("room", 1)
        with counted() as statements:
            services.update(KIM, find("room"), room, {"site": other})
        counts.append(len([one for one in statements if not one.startswith("INSERT INTO changes")]))
        assert labels_of(number)["site"] == other.name
        assert make_host(number).site.name == other.name
    assert counts[1] <= counts[0] + 60 * 2, counts  # an UPDATE of each config record, no query of each
    moved = db.session.scalars(select(Change).where(Change.object_id == host_id(60)).order_by(Change.id.desc())).first()
    assert moved is not None
    assert [one["name"] for one in moved.fields["site"]] == ["Site 1", "Site 4"] or moved.fields["site"][1][
        "name"
    ] == "Site 4"


# -- what ends ---


TODAY = date(2026, 11, 24)


def contract(name: str, **more: Any) -> Any:
    return services.create(KIM, find("contract"), {"name": name, "kind": "lease", **more})


@pytest.mark.usefixtures("context")
def test_what_ends_within_so_many_days() -> None:
    contract("near", end=TODAY + timedelta(days=20), notice=10)
    contract("far", end=TODAY + timedelta(days=150), notice=90)
    contract("over", end=TODAY - timedelta(days=31))
    contract("just over", end=TODAY - timedelta(days=1))
    services.update(KIM, find("host"), make_host(1), {"warranty_end": TODAY + timedelta(days=90)})
    services.update(KIM, find("host"), make_host(2), {"warranty_end": TODAY, "state": "retired"})
    services.update(KIM, find("device"), make("device", 1), {"warranty_end": TODAY + timedelta(days=30)})

    def found(days: int, actor: Any = KIM) -> list[tuple[str, str, int, int]]:
        return [
            (one.kind, one.name, one.left, one.threshold)
            for one in reminders.endings(actor, days, TODAY)
            if one.name not in ("Contract 1", "Customer 1")
        ]

    assert found(30) == [
        ("contract", "just over", -1, 0), ("notice", "near", 10, 30), ("contract", "near", 20, 30),
        ("device", "Device 1", 30, 30),
    ]  # fmt: skip
    assert found(90)[4:] == [("notice", "far", 60, 60), ("host", "Host 1", 90, 90)]
    lee = accounts.create_user(KIM, "lee", PASSWORD, admin=False)
    role = services.create(KIM, find("role"), {"name": "r", "permissions": ["device.view"]})
    services.create(KIM, find("grant"), {"user": lee, "role": role})
    assert found(90, Actor("lee", "ui", rights_of(lee))) == [("device", "Device 1", 30, 30)]


@pytest.mark.usefixtures("context")
def test_each_threshold_is_told_once() -> None:
    one = contract("c", end=TODAY + timedelta(days=100))
    told = []
    for day in range(0, 140):
        now = TODAY + timedelta(days=day)
        for _ in range(2):
            due = [found for found in reminders.endings(KIM, 90, now) if found.name == "c"]
            told += [now] * reminders.note(due)
    assert [(now - TODAY).days for now in told] == [10, 40, 70, 100]
    services.update(KIM, find("contract"), one, {"end": TODAY + timedelta(days=400)})
    assert reminders.note(reminders.endings(KIM, 90, TODAY + timedelta(days=350))) == 1, "another end, another reminder"
    rows = db.session.scalars(select(reminders.Reminder).order_by(reminders.Reminder.id)).all()
    assert [row.id for row in rows] == [1, 2, 3, 4, 5]


def test_what_ends_stands_on_the_first_page_its_own_and_in_the_api(app: Flask, client: FlaskClient) -> None:
    assert "Nothing ends within 30 days" in client.get("/reminders/?days=30").text
    today = utc_now().date()
    with app.test_request_context(), unit_of_work():
        contract("<i>near", end=today + timedelta(days=20), notice=5)
        contract("far", end=today + timedelta(days=80))
    for path in ("/", "/reminders/"):
        page = client.get(path).text
        assert "&lt;i&gt;near" in page
        assert page.index("Notice of a contract") < page.index("End of a contract")
        assert "in 15 days" in page
        assert "in 80 days" in page
    assert "far" not in client.get("/reminders/?days=60").text.split("<main")[1]
    found = client.get("/api/v1/reminders?days=30").json
    assert [(one["kind"], one["type"], one["left"]) for one in found] == [
        ("notice", "contract", 15),
        ("contract", "contract", 20),
    ]
    assert client.get("/api/v1/reminders?days=-1").status_code == 422
