"""Whether an event has arrived: told to the host whose event it is, when it signs the question with its own key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing.cmdb import settings_file
from flask import Flask
from sqlalchemy import update

from ezadmin_cmdb import migrate
from ezadmin_cmdb.actor import cli_actor
from ezadmin_cmdb.app import create_app
from ezadmin_cmdb.database import db, unit_of_work
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.hosts.models import HostKey
from ezadmin_cmdb.settings import load
from ezadmin_pipeline.elastic import ElasticClient
from ezadmin_wire.ids import new_host_id
from ezadmin_wire.names import Names
from ezadmin_wire.requests import authorization
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.times import format_time, now

KIM = cli_actor("kim")


@dataclass
class Asking:
    """A host of this cmdb, and how it asks."""

    app: Flask
    id: str
    key: SigningKey

    def ask(self, event: str, *, key: SigningKey | None = None, host: str = "", header: str = "", **more: str) -> Any:
        """The answer to a signed question for an event."""
        target = f"/api/v1/hosts/{host or self.id}/arrivals/{event}"
        given = {"host": self.id, "method": "GET", "target": target, **more}
        header = header or authorization(key or self.key, **given)
        return self.app.test_client().get(target, headers={"Authorization": header})


@pytest.fixture(scope="module")
def app(stack: Any, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """The application under a prefix without indices."""
    folder = tmp_path_factory.mktemp("cmdb")
    file = settings_file(
        folder,
        database,
        stack.kafka,
        Names(f"t{new_host_id()[:8]}"),
        top=f'secret_key_file = "{folder / "secret"}"',
        elasticsearch=f'url = "{stack.elasticsearch}"',
    )
    app = create_app(load(Path(file)))
    app.testing = True
    with app.app_context():
        migrate.upgrade(db.engine)
    yield app
    app.extensions["ezadmin_elastic"].close()
    app.extensions["ezadmin_kafka"].close()
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def asking(app: Flask) -> Asking:
    """A new host."""
    one = Asking(app, new_host_id(), SigningKey.generate())
    with app.app_context(), unit_of_work():
        hosts.add(KIM, one.id, f"h-{one.id[:8]}", one.key.public.hex(), {})
    return one


def error(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    text: str = answer.json["detail"]
    return text


def test_what_is_not_there_has_not_arrived(asking: Asking) -> None:
    answer = asking.ask("abc0")
    assert (answer.status_code, answer.json) == (200, {"arrived": False, "ingested": None})


def test_what_is_there_has_arrived_for_its_own_host_alone(asking: Asking, elastic: ElasticClient) -> None:
    names: Names = asking.app.extensions["ezadmin_settings"].names
    moment = now()
    document = {"@timestamp": moment, "event.ingested": moment, "host.id": asking.id, "message": "x"}
    index = names.logs_index(moment)
    try:
        elastic.request(
            "PUT", f"/{index}", body=json.dumps({"mappings": {"properties": {"host.id": {"type": "keyword"}}}}).encode()
        )
        status, made = elastic.request(
            "PUT", f"/{index}/_create/abc0", params={"refresh": "true"}, body=json.dumps(document).encode()
        )
        assert status == 201, made
        assert asking.ask("abc0").json["arrived"] is True
        assert datetime.fromisoformat(asking.ask("abc0").json["ingested"]) == datetime.fromisoformat(moment)
        assert asking.ask("abc1").json["arrived"] is False
        other = Asking(asking.app, new_host_id(), SigningKey.generate())
        with asking.app.app_context(), unit_of_work():
            hosts.add(KIM, other.id, "other", other.key.public.hex(), {})
        assert other.ask("abc0").json["arrived"] is False
    finally:
        elastic.request("DELETE", f"/{index}")


def test_what_is_refused_names_its_reason(asking: Asking) -> None:
    stranger = SigningKey.generate()
    assert "hosts alone" in error(asking.ask("x", header="Bearer x"), 401)
    late = format_time(datetime.now(UTC) - timedelta(seconds=400))
    assert late in error(asking.ask("x", time=late), 401)
    assert "but here it is" in error(asking.ask("x", time=format_time(datetime.now(UTC) + timedelta(seconds=400))), 401)
    assert "not one of host" in error(asking.ask("x", key=stranger), 403)
    header = authorization(asking.key, host=asking.id, method="GET", target="/api/v1/hosts/other")
    assert "the signature is not" in error(asking.ask("x", header=header), 403)
    unknown = new_host_id()
    assert unknown in error(asking.ask("x", host=unknown), 404)  # signed as another than it asks for
    assert "no host" in error(Asking(asking.app, unknown, stranger).ask("x"), 404)
    with asking.app.app_context(), unit_of_work():
        db.session.execute(update(HostKey).where(HostKey.kid == asking.key.kid).values(revoked=True))
    assert "was revoked" in error(asking.ask("x"), 403)


def test_a_signed_request_opens_nothing_else(asking: Asking) -> None:
    target = f"/api/v1/hosts/{asking.id}"
    header = authorization(asking.key, host=asking.id, method="GET", target=target)
    assert asking.app.test_client().get(target, headers={"Authorization": header}).status_code == 401
