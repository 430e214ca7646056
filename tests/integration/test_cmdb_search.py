"""The search: what is found by what, for whom, how fast; box and page."""

from __future__ import annotations

import ipaddress
import random
import time
from collections.abc import Iterator

import pytest
from ezadmin_testing.described import KIM, PASSWORD, application, empty, host_id, make, sign_in
from flask import Flask
from sqlalchemy import insert, select, update

from ezadmin_cmdb import migrate
from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db, unit_of_work, utc_now
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.hosts.models import Address, Host, HostLabel, Nic
from ezadmin_cmdb.rights.models import Denial
from ezadmin_cmdb.rights.services import rights_of
from ezadmin_cmdb.search import services, words

HOSTS = 5000
P95_MILLISECONDS = 150


@pytest.fixture(scope="module")
def app(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    with application(database, tmp_path_factory.mktemp("web")) as app:
        empty(app)
        with app.app_context(), unit_of_work():
            accounts.create_user(KIM, "kim", PASSWORD, admin=True)
            _fleet()
        yield app


def _fleet() -> None:
    """5,000 hosts with addresses 10.a.b.c and fd00::n, MACs, serials, labels; sites, customers and contacts."""
    numbers = range(1, HOSTS + 1)
    now = utc_now()
    db.session.execute(
        insert(Host),
        [
            {
                "id": host_id(n), "name": f"웹서버-{n}" if n % 50 == 0 else f"web-{n:05}", "state": "active",
                "hostname": f"web{n}", "fqdn": f"web{n}.dc{n % 3}.example.com", "serial": f"SN{n:07}",
                "created": now, "updated": now,
            }
            for n in numbers
        ],
    )  # fmt: skip
    db.session.execute(
        insert(Nic),
        [
            {"id": n, "host_id": host_id(n), "name": "eth0", "mac": f"02-00-00-00-{n >> 8:02X}-{n & 255:02X}"}
            for n in numbers
        ],
    )
    db.session.execute(
        insert(Address),
        [{"nic_id": n, "address": f"10.{n // 2500}.{n // 256 % 256}.{n % 256}", "version": 4} for n in numbers]
        + [{"nic_id": n, "address": f"fd00::{n:x}", "version": 6} for n in numbers],
    )
    db.session.execute(
        insert(HostLabel), [{"host_id": host_id(n), "name": "rack", "value": f"r{n % 100}"} for n in numbers]
    )
    for n in range(1, 41):
        for name in ("site", "customer", "contact"):
            make(name, n)


@pytest.fixture(autouse=True)
def context(app: Flask) -> Iterator[None]:
    with app.test_request_context():
        yield
        db.session.rollback()


def names(text: str, kind: str = "host", actor: Actor = KIM) -> list[str]:
    groups = services.search(actor, text)
    return [hit.name for group in groups if group.description.name == kind for hit in group.hits]


@pytest.mark.parametrize(
    ("text", "name", "why"),
    [
        ("web-00007", "web-00007", None),
        ("web7.dc1.example.com", "web-00007", "web7.dc1.example.com"),
        ("SN0000007", "web-00007", "SN0000007"),
        ("sn0000007", "web-00007", "SN0000007"),
        ("10.0.0.7", "web-00007", "10.0.0.7"),
        ("fd00::7", "web-00007", "fd00::7"),
        ("02:00:00:00:00:07", "web-00007", "02-00-00-00-00-07 (eth0)"),
        ("02-00-00-00-00-07", "web-00007", "02-00-00-00-00-07 (eth0)"),
        ("020000000007", "web-00007", "02-00-00-00-00-07 (eth0)"),
        ("rack=r7 web-00007", "web-00007", "rack=r7"),
        (host_id(7), "web-00007", None),
        ("ㅅㅂ", "웹서버-100", None),
        ("ㅇㅅㅂ", "웹서버-100", None),
        ("서버-100", "웹서버-100", None),
    ],
)
def test_hosts_are_found_by(text: str, name: str, why: str | None) -> None:
    hits = {
        hit.name: hit for group in services.search(KIM, text) if group.description.name == "host" for hit in group.hits
    }
    assert name in hits
    if why is not None:
        assert hits[name].why is not None
        assert hits[name].why[1] == why


@pytest.mark.parametrize(
    "network", ["10.1.9.200/29", "10.1.9.203/29", "fd00::20/124", "10.1.19.130/32", "10.77.0.0/16"]
)
def test_a_network_finds_the_hosts_within(network: str) -> None:
    inside = ipaddress.ip_network(network, strict=False)
    rows = db.session.execute(select(Host.name, Address.address).join(Nic, Nic.host_id == Host.id).join(Address))
    expected = {row.name for row in rows if ipaddress.ip_address(row.address) in inside}
    assert set(names(network)) == expected
    assert expected or network.startswith("10.77")
    for hit in (hit for group in services.search(KIM, network) for hit in group.hits):
        assert hit.why is not None
        assert ipaddress.ip_address(hit.why[1]) in inside


def test_the_list_of_hosts_and_its_api_take_networks_too(app: Flask) -> None:
    client = sign_in(app, "kim")
    found = client.get("/api/v1/hosts?q=10.1.9.200/29&fields=name").json
    assert {one["name"] for one in found["items"]} == set(names("10.1.9.200/29"))


def test_other_kinds_and_order() -> None:
    assert names("Site 1", "site")[0] == "Site 1", "what is called so comes first"
    assert names("S7", "site") == ["Site 7"], "a code"
    assert names("Customer 3", "customer")[0] == "Customer 3"
    assert names("c9@example", "contact") == ["Contact 9"]
    kinds = [group.description.name for group in services.search(KIM, "1")]
    assert kinds[0] == "host"
    assert not {"change", "denial"} & set(kinds), "what happened is not what there is"
    assert services.search(KIM, "   ") == []
    assert names("%") == []
    assert names("web-0000_") == []


def test_only_what_one_may_see() -> None:
    user = accounts.create_user(KIM, "lee", PASSWORD, admin=False)
    group = described.create(KIM, find("host_group"), {"name": "sevens", "hosts": [db.session.get(Host, host_id(7))]})
    role = described.create(KIM, find("role"), {"name": "hosts", "permissions": ["host.view", "site.view"]})
    described.create(KIM, find("grant"), {"user": user, "role": role, "group": group})
    lee = Actor("lee", "ui", rights_of(user))
    assert names("10.0.0.0/8", actor=lee) == ["web-00007"]
    assert names("web", actor=lee) == ["web-00007"]
    assert names("Site 1", "site", lee) == [], "a grant for a group gives nothing about sites"
    assert [group.description.name for group in services.search(lee, "7")] == ["host"]
    assert db.session.scalars(select(Denial)).all() == []
    assert "denials" not in db.session.info


def test_an_address_that_changes_its_host_is_found_there() -> None:
    nic = db.session.scalar(select(Nic).where(Nic.host_id == host_id(9)))
    assert nic is not None
    nic.addresses.append(Address(address="192.0.2.9", version=4))
    nic.addresses.append(Address(address="fe80::1%eth0", version=6))
    db.session.flush()
    assert names("192.0.2.0/24") == names("fe80::/10") == ["web-00009"]


def test_the_migration_numbers_what_is_there() -> None:
    db.session.execute(update(Address).where(Address.nic_id < 50).values(number=None))
    db.session.commit()
    assert names("10.0.0.7/32") == []
    db.session.rollback()
    migrate.downgrade(db.engine, "0013")
    migrate.upgrade(db.engine)
    assert names("10.0.0.7/32") == ["web-00007"]


def test_fast_enough() -> None:
    rng = random.Random(1)
    texts = ["web", "10.1.0.0/16", "ㅅㅂ", "SN00", "nothing like it", "r7", "02:00:00", "1"]
    texts += [f"web-{rng.randint(1, HOSTS):05}" for _ in range(12)] + [f"10.0.{n}.{n}" for n in range(1, 9)]
    services.search(KIM, "warm")
    took = []
    for text in texts:
        tries = []
        for _ in range(3):  # the best of three: other tests share the processors
            began = time.perf_counter()
            services.search(KIM, text, services.SHOWN)
            tries.append(1000 * (time.perf_counter() - began))
            db.session.expunge_all()
        took.append(min(tries))
    p95 = sorted(took)[int(len(took) * 0.95)]
    print(f"p50 {sorted(took)[len(took) // 2]:.0f} ms, p95 {p95:.0f} ms, most {max(took):.0f} ms")
    assert p95 < P95_MILLISECONDS


@pytest.mark.parametrize("language", ["en", "ko"])
def test_box_page_and_api(app: Flask, language: str) -> None:
    client, headers = sign_in(app, "kim"), {"Accept-Language": language}
    home = client.get("/account", headers=headers).text
    assert 'id="find"' in home
    suggested = client.get("/search/suggest?q=web-0000", headers=headers).text
    assert suggested.count('role="option"') == services.SHOWN + 1
    assert f'href="/hosts/{host_id(1)}"' in suggested
    page = client.get("/search/?q=Site+1", headers=headers).text
    assert "Site 1" in page
    assert "/hosts/?site=" in page, "to the hosts that stand there"
    for text in ("", "nothing+like+it"):
        assert 'class="empty"' in client.get(f"/search/?q={text}", headers=headers).text
    assert "&lt;script&gt;" in client.get("/search/?q=<script>").text
    assert "<script>alert" not in client.get("/search/suggest?q=<script>alert").text
    answer = client.get("/api/v1/search?q=10.0.0.7&limit=3").json
    assert answer["kinds"][0]["items"][0] == {
        "id": host_id(7), "name": "web-00007", "url": f"/api/v1/hosts/{host_id(7)}", "page": f"/hosts/{host_id(7)}",
        "field": "Addresses", "value": "10.0.0.7",
    }  # fmt: skip
    assert [kind["kind"] for kind in client.get("/api/v1/search?q=1&kind=site").json["kinds"]] == ["site"]
    assert client.get("/api/v1/search").status_code == 422
    assert client.get("/api/v1/search?q=x&limit=9999").status_code == 422
    assert app.test_client().get("/api/v1/search?q=web").status_code == 401


def test_words() -> None:
    assert words.initials_pattern("web") is None
    assert words.initials_pattern("ㅅ.*") is None
    assert words.is_in("DB서버", "db서ㅂ")
    assert not words.is_in("서울", "ㅅㅂ")
    assert words.packed("::ffff:1.2.3.4") == bytes(10) + b"\xff\xff\x01\x02\x03\x04"
    assert words.packed("no address") is None
    assert words.mac("web-1") is None
    assert words.network("10.0.0.0/33") is None
