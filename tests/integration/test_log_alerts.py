"""Alerts on searches, on the real Elasticsearch: raised and cleared for each host, tried on the past, with the owner's rights."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ezadmin_testing import log_events
from ezadmin_testing.described import KIM, PASSWORD, application, csrf, empty, make, sign_in
from flask import Flask
from flask_babel import force_locale
from sqlalchemy import select

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.accounts.models import User
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.alerts import texts
from ezadmin_cmdb.alerts.models import Alert
from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.database import db, unit_of_work
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.elastic import Elastic
from ezadmin_cmdb.errors import Forbidden, Invalid, NotFound
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.logsearch import alerting, services
from ezadmin_cmdb.logsearch.models import LogAlert
from ezadmin_cmdb.logsearch.query import QueryError
from ezadmin_cmdb.logsearch.watcher import SearchWatcher
from ezadmin_cmdb.rights.services import rights_of
from ezadmin_wire.elastic import ElasticConnection
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.times import format_time

NOW = datetime.now(UTC).replace(microsecond=0)
HOSTS = [log_events.host_id(number) for number in range(2)]


def events(number: int, host: int, at: datetime) -> list[dict[str, Any]]:
    about = {
        "host.id": HOSTS[host],
        "host.name": f"log-{host:03d}",
        "@timestamp": format_time(at),
        "log.level": "error",
    }
    return [{**about, "message": f"서버가 응답하지 않습니다 {i}"} for i in range(number)]


@pytest.fixture(scope="module")
def es(stack: Any) -> Iterator[Elastic]:
    elastic = Elastic(ElasticConnection((stack.elasticsearch,)))
    yield elastic
    elastic.close()


@pytest.fixture(scope="module")
def app(stack: Any, module_names: Names, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    days = NOW - timedelta(days=2)
    aligned = datetime.fromtimestamp(days.timestamp() // 300 * 300, UTC)
    minute = timedelta(minutes=1)
    past = [*events(6, 0, aligned), *events(7, 0, aligned + 5 * minute), *events(5, 0, aligned + 30 * minute)]
    past += [*events(4, 1, aligned), *events(9, 1, NOW - timedelta(days=8))]  # too few, and too long ago
    log_events.write(
        stack.elasticsearch, module_names, [*past, *events(6, 0, NOW - minute), *events(2, 1, NOW - minute)]
    )
    more = {"kafka": stack.kafka, "elasticsearch": stack.elasticsearch, "names": module_names}
    with application(database, tmp_path_factory.mktemp("web"), **more) as app:
        empty(app)
        with app.app_context(), unit_of_work():
            for number, host in enumerate(HOSTS):
                hosts.add(KIM, host, f"log-{number:03d}", SigningKey.generate().public.hex(), {})
        yield app


@pytest.fixture
def actors(app: Flask) -> Iterator[dict[str, Actor]]:
    """An administrator, and one who sees the second host only."""
    with app.app_context():
        with unit_of_work():
            db.session.execute(LogAlert.__table__.delete())  # type: ignore[attr-defined]
            db.session.execute(Alert.__table__.delete())  # type: ignore[attr-defined]
        if db.session.scalar(select(User.id).where(User.name == "lee")) is None:
            with unit_of_work():
                accounts.create_user(KIM, "lee", PASSWORD, admin=True)
                park = accounts.create_user(KIM, "park", PASSWORD, admin=False)
                group = make("host_group", 1)
                second = hosts.find(KIM, HOSTS[1])
                described.update(KIM, find("host_group"), group, {"hosts": [second]})
                for number, (name, where) in enumerate([(services.VIEW, group), (alerting.CHANGE, None)]):
                    role = described.create(KIM, find("role"), {"name": f"role {number}", "permissions": [name]})
                    described.create(KIM, find("grant"), {"user": park, "role": role, "group": where})
        users = db.session.scalars(select(User).where(User.name.in_(["lee", "park"])))
        yield {one.name: Actor(one.name, "ui", rights_of(one), None, one.id) for one in users}


def opened() -> dict[str, tuple[str, float | None]]:
    return {one.host_id: (one.state, one.value) for one in db.session.scalars(select(Alert)) if one.state != "ok"}


def told() -> str:
    """What the one alert says in Korean."""
    with force_locale("ko"):
        return texts.of_alert(db.session.scalars(select(Alert)).one())


WANTED = alerting.Wanted("log.level: error and 응답", 5, 5, "critical")


def test_a_host_with_too_many_events_raises_an_alert_and_clears_it(
    es: Elastic, module_names: Names, actors: dict[str, Actor]
) -> None:
    with unit_of_work():
        one = alerting.add(actors["lee"], "서버 응답 없음", WANTED).id
    with unit_of_work():
        assert alerting.watch(es, module_names, one, NOW) == 1
    assert opened() == {HOSTS[0]: ("critical", 6.0)}
    assert told() == f"서버 응답 없음: 5분 동안 이벤트 6건, 임계값 5: {WANTED.query}"
    with unit_of_work():
        assert alerting.watch(es, module_names, one, NOW) == 0  # it is said once
        assert alerting.watch(es, module_names, one, NOW + timedelta(minutes=10)) == 1
    assert opened() == {}
    assert told() == "서버 응답 없음: 이벤트가 임계값보다 적어졌습니다"


def test_what_a_deleted_one_has_raised_is_over(es: Elastic, module_names: Names, actors: dict[str, Actor]) -> None:
    with unit_of_work():
        one = alerting.add(actors["lee"], "x", WANTED).id
        alerting.watch(es, module_names, one, NOW)
    assert opened() != {}
    with unit_of_work():
        alerting.delete(actors["lee"], one)
    assert opened() == {}
    assert db.session.get(LogAlert, one) is None


def test_who_changes_one_sees_with_own_eyes_from_then_on(
    es: Elastic, module_names: Names, actors: dict[str, Actor]
) -> None:
    with unit_of_work():
        one = alerting.add(actors["lee"], "x", WANTED).id
        alerting.watch(es, module_names, one, NOW)
    assert opened() == {HOSTS[0]: ("critical", 6.0)}
    few = alerting.Wanted("log.level: error", 2, 5, "warning")
    with pytest.raises(Forbidden):
        alerting.change(Actor("nobody", "ui"), one, "y", few)
    with pytest.raises(NotFound):
        alerting.change(actors["park"], one + 1, "y", few)
    with unit_of_work():
        alerting.claim(NOW)
        kept = alerting.change(actors["park"], one, " y ", few)
        assert (kept.name, kept.owner.name, kept.threshold, kept.severity) == ("y", "park", 2, "warning")
    with unit_of_work():
        assert alerting.claim(NOW) == one, "it is looked at at once"
        alerting.watch(es, module_names, one, NOW)
    assert opened() == {HOSTS[1]: ("warning", 2.0)}, "of the hosts that park sees, and the other one is cleared"
    change = db.session.scalars(
        select(Change).where(Change.object_type == alerting.OBJECT_TYPE).order_by(Change.id.desc())
    )
    fields = change.first().fields  # type: ignore[union-attr]
    assert fields["threshold"] == [5, 2]
    assert fields["owner"] == ["lee", "park"]


def test_it_sees_what_its_owner_sees(es: Elastic, module_names: Names, actors: dict[str, Actor]) -> None:
    few = alerting.Wanted("log.level: error", 1, 5, "warning")
    with unit_of_work():
        one = alerting.add(actors["park"], "mine", few).id
        alerting.watch(es, module_names, one, NOW)
    assert opened() == {HOSTS[1]: ("warning", 2.0)}
    assert {host.host for host in alerting.backtest(es, module_names, actors["park"], few, NOW).hosts} == {"log-001"}
    park = db.session.get(User, actors["park"].user_id)
    assert park is not None
    with unit_of_work():
        park.active = False
    with unit_of_work():
        alerting.watch(es, module_names, one, NOW)
        park.active = True
    assert opened() == {}
    kept = db.session.get(LogAlert, one)
    assert kept is not None
    assert "not active" in str(kept.problem)


def test_the_last_week_is_counted_by_runs_of_windows(
    es: Elastic, module_names: Names, actors: dict[str, Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [("log-000", 3, 7)]  # two windows on end are one alert
    found = alerting.backtest(es, module_names, actors["lee"], WANTED, NOW)
    assert [(one.host, one.alerts, one.most) for one in found.hosts] == expected
    assert found.whole
    assert found.alerts == 3
    monkeypatch.setattr(alerting, "_WINDOWS", 2)
    again = alerting.backtest(es, module_names, actors["lee"], WANTED, NOW)
    assert again == found
    monkeypatch.setattr(alerting, "_PAGES", 1)
    assert not alerting.backtest(es, module_names, actors["lee"], WANTED, NOW).whole


def test_elasticsearch_away_changes_nothing(es: Elastic, module_names: Names, actors: dict[str, Actor]) -> None:
    with unit_of_work():
        one = alerting.add(actors["lee"], "x", WANTED).id
        alerting.watch(es, module_names, one, NOW)
    with unit_of_work():
        assert alerting.watch(Elastic(ElasticConnection(("http://127.0.0.1:9",))), module_names, one, NOW) == 0
    assert opened() == {HOSTS[0]: ("critical", 6.0)}
    kept = db.session.get(LogAlert, one)
    assert kept is not None
    assert kept.problem


def test_the_worker_looks_at_each_once_a_minute(app: Flask, actors: dict[str, Actor]) -> None:
    with unit_of_work():
        alerting.add(actors["lee"], "x", WANTED)
    watcher = SearchWatcher(app, app.extensions["ezadmin_settings"], threading.Event())
    assert watcher.watch_next()
    assert not watcher.watch_next()
    with unit_of_work():
        assert alerting.claim(datetime.now(UTC) + timedelta(seconds=61)) is not None


@pytest.mark.parametrize(
    ("query", "threshold", "minutes", "severity", "error"),
    [
        ("a or", "1", "5", "warning", QueryError), ("", "1", "5", "warning", Invalid), ("a", "0", "5", "warning", Invalid),
        ("a", "1", "1441", "warning", Invalid), ("a", "٣", "5", "warning", Invalid), ("a", "1", "5", "ok", Invalid),
    ],
)  # fmt: skip
def test_what_cannot_be_watched_is_refused(
    app: Flask, query: str, threshold: str, minutes: str, severity: str, error: type[Exception]
) -> None:
    with app.test_request_context(), pytest.raises(error):
        alerting.wanted(query, threshold, minutes, severity)


def test_the_api_does_what_the_pages_do(app: Flask) -> None:
    with app.app_context(), unit_of_work():
        db.session.execute(LogAlert.__table__.delete())  # type: ignore[attr-defined]
        accounts.create_user(KIM, "choi", PASSWORD, admin=True)
    client = sign_in(app, "choi")
    headers = {"X-CSRFToken": csrf(client)}
    given = {"q": WANTED.query, "threshold": 5, "minutes": 5, "severity": "critical"}
    tried = client.post("/api/v1/log-alerts/backtest", json=given, headers=headers)
    assert tried.status_code == 200, tried.text
    assert tried.json["whole"]
    assert {one["host"] for one in tried.json["hosts"]} == {"log-000"}
    made = client.post("/api/v1/log-alerts", json={**given, "name": "서버 응답 없음"}, headers=headers)
    assert made.status_code == 201, made.text
    assert made.json == {
        **given, "id": made.json["id"], "name": "서버 응답 없음", "owner": "choi", "checked": None, "problem": None,
    }  # fmt: skip
    assert client.get("/api/v1/log-alerts").json == [made.json]
    for wrong, status in (({"q": "a or"}, 422), ({"q": " "}, 422), ({"threshold": 0}, 422), ({"severity": "ok"}, 422)):
        answer = client.post("/api/v1/log-alerts", json={**given, "name": "x", **wrong}, headers=headers)
        assert answer.status_code == status, answer.text
    path = f"/api/v1/log-alerts/{made.json['id']}"
    changed = client.put(path, json={**given, "name": "x", "minutes": 9}, headers=headers)
    assert (changed.status_code, changed.json) == (200, {**made.json, "name": "x", "minutes": 9})
    assert client.delete(f"/api/v1/log-alerts/{made.json['id']}", headers=headers).status_code == 204
    assert client.delete(f"/api/v1/log-alerts/{made.json['id']}", headers=headers).status_code == 404
    assert client.get("/api/v1/log-alerts").json == []


def test_whoever_lacks_the_right_adds_none(actors: dict[str, Actor]) -> None:
    with pytest.raises(Forbidden):
        alerting.add(Actor("nobody", "ui"), "x", WANTED)
