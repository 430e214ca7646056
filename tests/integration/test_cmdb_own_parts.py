"""Pipeline and CMDB among the hosts: marked, explained, and in no count of machines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing.described import KIM, PASSWORD, application, empty, make, sign_in
from flask import Flask

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.database import unit_of_work
from ezadmin_cmdb.hosts import own_parts
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_wire.own import Identity
from ezadmin_wire.signing import SigningKey


@pytest.fixture(scope="module")
def app(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    with application(database, tmp_path_factory.mktemp("web")) as app:
        empty(app)
        yield app


def test_parts_are_marked_and_not_counted(app: Flask, tmp_path: Path) -> None:
    SigningKey.generate().save(tmp_path / "own.key")
    part = Identity.load(tmp_path / "own.key")
    with app.app_context(), unit_of_work():
        accounts.create_user(KIM, "kim", PASSWORD, admin=True)
        for n in (1, 2):
            make("host", n)
        hosts.add(KIM, part.host_id, "box-pipeline", part.key.public.hex(), {})
        machine = make("host", 1).id
    with app.app_context():
        assert own_parts.ids() == {part.host_id}
        assert own_parts.ids([machine]) == frozenset()
    client = sign_in(app, "kim")
    rows: list[Any] = client.get("/hosts/").text.split("<tr>")[2:]
    assert ["Part of ezadmin" in row for row in rows] == ["box-pipeline" in row for row in rows]
    assert len(rows) == 3
    page = client.get(f"/hosts/{part.host_id}").text
    assert "a part of ezadmin itself" in page
    assert "has not reported yet" not in page
    assert "a part of ezadmin itself" not in client.get(f"/hosts/{machine}").text
    korean = client.get(f"/hosts/{part.host_id}", headers={"Accept-Language": "ko"}).text
    assert "ezadmin 자체의 구성 요소" in korean
    overview = client.get("/api/v1/status").json
    agents = next(one for one in overview["parts"] if one["name"] == "agents")
    assert agents["text"] == "0 of 2 report"
