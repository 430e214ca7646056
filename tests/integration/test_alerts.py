"""Alerts on the real Kafka and MariaDB: stored once, shown by state, acknowledged, suppressed, in maintenance."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing.cmdb import read, settings_file
from ezadmin_testing.described import KIM, PASSWORD, application, csrf, empty, host_id, make, sign_in
from ezadmin_testing.processes import wait_until
from flask import Flask
from kafka import KafkaProducer
from sqlalchemy import func, select

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.alerts import keeper, services, states
from ezadmin_cmdb.alerts.consumer import AlertConsumer
from ezadmin_cmdb.alerts.models import HOST_DOWN, Alert, AlertEvent
from ezadmin_cmdb.database import db, unit_of_work, utc_now
from ezadmin_cmdb.errors import Conflict, Invalid
from ezadmin_cmdb.hosts import states as host_states
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.maintenance import services as maintenance
from ezadmin_cmdb.maintenance.models import MaintenanceWindow
from ezadmin_cmdb.maintenance.times import FORM, ONCE
from ezadmin_cmdb.settings import load
from ezadmin_pipeline import alerts as pipeline
from ezadmin_wire.names import Names
from ezadmin_wire.times import format_time


@pytest.fixture(scope="module")
def app(stack: Any, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    with application(database, tmp_path_factory.mktemp("web")) as app:
        yield app


@pytest.fixture
def session(app: Flask) -> Iterator[Any]:
    empty(app)
    with app.app_context():
        yield db.session
        db.session.rollback()


def document(state: str, at: int, item: str = "/data", host: int = 1, **more: Any) -> dict[str, Any]:
    """An alert as the pipeline writes it; ``at``: seconds from a moment on."""
    time = format_time(
        utc_now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=1) + timedelta(seconds=at)
    )
    values: dict[str, Any] = {
        "time": time, "rule": "limit-1", "item": item, "state": state, "previous": "ok", "reason": "above",
        "field": "system.filesystem.used.pct", "message": f"{item} is {state}", "value": 0.97, "limit": 0.95,
    }  # fmt: skip
    return pipeline.alert(pipeline.THRESHOLD, host_id(host), {"host.name": "h"}, **{**values, **more})


def say(document: dict[str, Any]) -> Alert | None:
    """Take a document as the worker does."""
    message = pipeline.message(document)
    with unit_of_work():
        return states.take(states.decode(message.value), pipeline.identity(document))


def alert() -> Alert:
    return db.session.scalars(select(Alert).where(Alert.rule == "limit-1")).one()


def kinds() -> list[str]:
    return list(db.session.scalars(select(AlertEvent.kind).order_by(AlertEvent.id)))


def test_what_the_pipeline_says_is_stored_once(
    session: Any, app: Flask, stack: Any, names: Names, database: str, tmp_path: Path
) -> None:
    with unit_of_work():
        make("host", 1)
    producer = KafkaProducer(bootstrap_servers=stack.kafka, acks="all")
    sent = [document("warning", 1), document("critical", 2), document("critical", 2), document("ok", 3)]
    sent += [document("critical", 4, item="/other"), document("critical", 5, host=7), document("bad", 6)]
    for one in sent * 2:
        message = pipeline.message(one)
        producer.send(names.alerts, key=message.key, value=message.value, headers=message.headers)
    producer.send(names.alerts, key=b"x", value=b"{", headers=[("id", b"x")])
    producer.flush()
    settings = load(settings_file(tmp_path, database, stack.kafka, names))
    for _again in range(2):  # the second one reads what comes after, and all again if the first had committed nothing
        stopping = threading.Event()
        consumer = AlertConsumer(app, settings, names.alerts, stopping)
        consumer.start()
        wait_until(lambda: len(read(stack.kafka, names.dlq)) >= 3, 60, "what cannot be used is put aside")
        stopping.set()
        consumer.join(20)
        assert not consumer.failed
    producer.close()
    session.rollback()
    found = {one.item: one for one in session.scalars(select(Alert))}
    assert {item: one.state for item, one in found.items()} == {"/data": "ok", "/other": "critical"}
    assert [one.state for one in reversed(services.history(found["/data"]))] == ["warning", "critical", "ok"]
    assert session.scalar(select(func.count()).select_from(AlertEvent)) == 4
    (open_alert,) = services.open_states(session, [host_id(1), host_id(2)])[host_id(1)]
    assert (open_alert.state, open_alert.item, open_alert.value) == ("critical", "/other", 0.97)


def test_what_is_old_changes_nothing(session: Any) -> None:
    with unit_of_work():
        make("host", 1)
    say(document("critical", 10))
    say(document("ok", 5))
    one = alert()
    assert (one.state, one.previous, len(kinds())) == ("critical", "ok", 2)
    opened = one.opened
    say(document("warning", 20))
    assert (alert().state, alert().opened) == ("warning", opened)
    say(document("ok", 30))
    assert (alert().state, alert().opened, services.open_states(session, [host_id(1)])) == ("ok", None, {})


def test_acknowledging(session: Any) -> None:
    with unit_of_work():
        make("host", 1)
    say(document("warning", 1))
    soon = utc_now() + timedelta(hours=1)
    with unit_of_work():
        services.acknowledge(KIM, alert(), soon, "I look")
        for wrong in (utc_now() - timedelta(1), utc_now() + timedelta(days=91)):
            with pytest.raises(Invalid):
                services.acknowledge(KIM, alert(), wrong)
    say(document("warning", 2))
    assert (alert().acknowledged_by, alert().acknowledged) == ("kim", True)
    say(document("critical", 3))
    assert not alert().acknowledged, "it got worse"
    with unit_of_work():
        services.acknowledge(KIM, alert(), soon)
        alert().acknowledged_until = utc_now() - timedelta(seconds=1)
    keeper.keep()
    assert not alert().acknowledged, "its time is over"
    with unit_of_work():
        services.acknowledge(KIM, alert(), soon)
        services.reopen(KIM, alert())
        services.comment(KIM, alert(), "well")
    say(document("ok", 9))
    assert kinds() == [
        "state", "acknowledged", "state", "reopened", "state", "acknowledged", "expired", "acknowledged", "reopened",
        "comment", "state",
    ]  # fmt: skip
    with pytest.raises(Conflict):
        services.acknowledge(KIM, alert(), soon)


def test_a_host_that_is_down_suppresses_its_other_alerts(session: Any) -> None:
    with unit_of_work():
        make("host", 1), make("host", 2)
    say(document("critical", 1)), say(document("critical", 1, host=2))
    with unit_of_work():
        session.get_one(Host, host_id(1)).state = host_states.SILENT
    keeper.keep()
    keeper.keep()
    found = services.open_states(session, [host_id(1), host_id(2)])
    assert [(one.limit_id, one.suppressed) for one in found[host_id(1)]] == [(HOST_DOWN, False), ("limit-1", True)]
    assert [one.suppressed for one in found[host_id(2)]] == [False]
    with unit_of_work():
        session.get_one(Host, host_id(1)).state = host_states.ACTIVE
    keeper.keep()
    (left,) = services.open_states(session, [host_id(1)])[host_id(1)]
    assert (left.limit_id, left.suppressed) == ("limit-1", False)


def test_a_named_rule(session: Any) -> None:
    with unit_of_work():
        make("host", 1)
        said = [
            states.say(host_id(1), "search-5", state, "found", value=3) for state in ("ok", "warning", "warning", "ok")
        ]
    assert said == [False, True, False, True]
    assert [one.state for one in session.scalars(select(AlertEvent).order_by(AlertEvent.id))] == ["warning", "ok"]


def test_old_history_goes(session: Any) -> None:
    with unit_of_work():
        make("host", 1)
    say(document("critical", 1)), say(document("ok", 2)), say(document("critical", 1, item="/open"))
    with unit_of_work():
        assert states.forget(utc_now() + states.KEPT - timedelta(days=1)) == 0
        assert states.forget(utc_now() + states.KEPT + timedelta(days=1)) == 4
    assert [one.item for one in session.scalars(select(Alert))] == ["/open"]


def test_the_pages(app: Flask) -> None:
    empty(app)
    with app.app_context():
        with unit_of_work():
            make("host", 1)
            accounts.create_user(KIM, "root", PASSWORD, admin=True)
        say(document("critical", 1, message="<script>alert(1)</script>")), say(document("ok", 1, item="/fine"))
        number = db.session.scalars(select(Alert.id).where(Alert.item == "/data")).one()
    browser = sign_in(app, "root")
    page = browser.get("/alerts/?state__not=ok").text
    assert [text in page for text in ("/data", 'data-state="critical"', "97%", "/fine", "<script>alert")] == 3 * [
        True
    ] + 2 * [False]
    form = {"csrf_token": csrf(browser), "action": "acknowledge", "hours": "4", "text": "I look"}
    assert browser.post(f"/alerts/{number}/care", data=form).status_code == 302
    page = browser.get(f"/alerts/{number}").text
    assert {"I look", "by root until"} == {text for text in ("I look", "by root until") if text in page}
    assert "/data" not in browser.get("/alerts/?acknowledged=false&state__not=ok").text
    listed = browser.get("/api/v1/alerts?acknowledged=true").json["items"]
    assert [(one["item"], one["state"], one["value"]) for one in listed] == [("/data", "critical", 0.97)]
    browser.post(f"/alerts/{number}/care", data={**form, "action": "reopen"})
    assert "by root until" not in browser.get(f"/alerts/{number}").text


def test_maintenance(session: Any) -> None:
    with unit_of_work():
        for number in (1, 2, 3):
            make("host", number)
            say(document("critical", 1, host=number))
        now = utc_now()
        window = MaintenanceWindow(
            name="Patches", reason="", owner="kim", starts=f"{now - timedelta(hours=1):{FORM}}", timezone="UTC", minutes=120,
            repeats=ONCE, weekdays=[], hosts=[session.get_one(Host, host_id(1))], group=make("host_group", 2),
        )  # fmt: skip
        session.add(window)
    keeper.keep()
    found = services.open_states(session, [host_id(n) for n in (1, 2, 3)])
    assert {host: one[0].state for host, one in found.items()} == {
        host_id(1): "maintenance", host_id(2): "maintenance", host_id(3): "critical",
    }  # fmt: skip
    assert found[host_id(1)][0].raised == "critical"
    with unit_of_work():
        window.filter, window.hosts = "name=Host 3", []
    keeper.keep()
    found = services.open_states(session, [host_id(n) for n in (1, 2, 3)])
    assert [found[host_id(n)][0].state for n in (1, 2, 3)] == ["critical", "maintenance", "maintenance"]
    hours = maintenance.active(session, [host_id(2)], now + timedelta(minutes=61))
    assert hours == {}
    with unit_of_work():
        window.active = False
    keeper.keep()
    found = services.open_states(session, [host_id(n) for n in (1, 2, 3)])
    assert {one[0].state for one in found.values()} == {"critical"}
    assert kinds().count("maintenance") == kinds().count("resumed") == 3
