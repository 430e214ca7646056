"""States of hosts: what follows from reports, from rules, and from people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from ezadmin_testing.described import KIM, empty, host_id, make
from flask import Flask
from sqlalchemy import select

from ezadmin_cmdb import migrate
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.app import create_core
from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.database import db, unit_of_work, utc_now
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.hosts import reports, services, states
from ezadmin_cmdb.hosts.description import HOST
from ezadmin_cmdb.hosts.models import Host, HostKey
from ezadmin_cmdb.outbox.models import ConfigRecord
from ezadmin_cmdb.settings import Hosts, Settings, SettingsError, parse
from ezadmin_wire import WireError
from ezadmin_wire.config import host_key
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.state import AgentStatus, Inventory
from ezadmin_wire.times import format_time

ID = host_id(1)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


@pytest.fixture(scope="module")
def module_app(database: str) -> Flask:
    app = create_core(
        Settings(database=database, kafka=KafkaConnection("127.0.0.1:1"), config_signing_key=Path("none"))
    )
    with app.app_context():
        migrate.upgrade(db.engine)
    return app


@pytest.fixture(autouse=True)
def context(module_app: Flask) -> Iterator[None]:
    empty(module_app)
    with module_app.app_context():
        with unit_of_work():
            make("host", 1)
        yield
        db.session.rollback()


def host(n: int = 1) -> Host:
    db.session.flush()
    found = db.session.get(Host, host_id(n), populate_existing=True)
    assert found is not None
    return found


def status(collected: datetime, n: int = 1) -> bool:
    text = format_time(collected)
    with unit_of_work():
        return reports.store(host_id(n), AgentStatus(text, "1.0", text))


def aged(by: timedelta) -> None:
    """Let everything about the host have been so much earlier."""
    with unit_of_work():
        one = host()
        for name in ("state_since", "agent_collected", "inventory_collected", "created"):
            if getattr(one, name):
                setattr(one, name, getattr(one, name) - by)


def history() -> list[tuple[str, object]]:
    rows = db.session.scalars(select(Change).where(Change.object_id == ID).order_by(Change.id))
    return [(row.source, row.fields["state"][1]) for row in rows if "state" in row.fields]


def test_new_until_it_reports_then_active() -> None:
    assert host().state == "new"
    assert states.apply(utc_now() + 900 * DAY) == 0, "one that never reported waits for its agent"
    assert status(utc_now() - DAY)
    assert host().state == "active"
    assert not status(utc_now() - 2 * DAY)
    assert history() == [("cli", "new"), ("agent", "active")]


def test_silent_then_retired_then_back() -> None:
    status(utc_now())
    assert states.apply() == 0
    assert states.apply(utc_now() + 4 * MINUTE) == 0
    aged(6 * MINUTE)
    assert states.apply() == 1
    assert states.apply() == 0
    assert (host().state, host().state_by_rule) == ("silent", True)
    assert status(utc_now() - 5.5 * MINUTE), "what waited in its spool"
    assert host().state == "silent"
    status(utc_now())
    assert host().state == "active"
    aged(6 * MINUTE)
    states.apply()
    aged(89 * DAY)
    assert states.apply() == 0
    aged(2 * DAY)
    assert states.apply() == 1
    assert (host().state, host().state_by_rule) == ("retired", True)
    assert status(utc_now())
    assert host().state == "active"
    assert history() == [
        ("cli", "new"), ("agent", "active"), ("rule", "silent"), ("agent", "active"), ("rule", "silent"),
        ("rule", "retired"), ("agent", "active"),
    ]  # fmt: skip


def test_inventory_is_a_sign_of_life_too() -> None:
    with unit_of_work():
        reports.store(ID, Inventory(format_time(utc_now()), "h"))
    assert host().state == "active"
    aged(6 * MINUTE)
    states.apply()
    with unit_of_work():
        reports.store(ID, Inventory(format_time(utc_now()), "h"))
    assert host().state == "active"
    records = db.session.scalars(select(Change).where(Change.object_id == ID)).all()
    assert [sorted(one.fields) for one in records[1:2]] == [["hostname", "state", "state_by_rule"]]


@pytest.mark.parametrize("state", ["quarantined", "revoked", "retired"])
def test_rules_and_reports_do_not_touch_what_a_person_chose(state: str) -> None:
    status(utc_now())
    with unit_of_work():
        services.set_state(KIM, host(), state)
    aged(900 * DAY)
    assert states.apply() == 0
    status(utc_now())
    assert (host().state, host().state_by_rule) == (state, False)
    key = db.session.scalars(select(HostKey)).one()
    with pytest.raises(WireError, match=state):
        services.verify_key(ID, key.kid)


def test_a_person_gives_a_host_its_whole_time_anew() -> None:
    status(utc_now())
    aged(6 * MINUTE)
    states.apply()
    aged(100 * DAY)
    states.apply()
    with unit_of_work():
        services.set_state(KIM, host(), "active")
    assert states.apply() == 0
    aged(6 * MINUTE)
    states.apply()
    assert host().state == "silent"
    with unit_of_work():
        services.set_state(KIM, host(), "retired")
        services.set_state(KIM, host(), "silent")
    assert host().state == "active", "of silent he says no more than that the rules shall decide"
    with unit_of_work():
        described.update(KIM, HOST, host(), {"state": "new"})
    assert host().state == "active"
    with pytest.raises(Invalid):
        services.set_state(KIM, host(), "asleep")


def test_a_clock_that_was_ahead_keeps_no_host_awake() -> None:
    status(utc_now() + 30 * DAY)
    with unit_of_work():
        host().state_since = utc_now() - 6 * MINUTE
    assert states.apply() == 1


def test_the_wire_knows_a_host_that_a_rule_retired_as_active() -> None:
    status(utc_now())
    before = db.session.scalar(select(ConfigRecord.body).where(ConfigRecord.key == host_key(ID)))
    aged(6 * MINUTE)
    states.apply()
    aged(91 * DAY)
    states.apply()
    with unit_of_work():
        services.publish(host())
    assert db.session.scalar(select(ConfigRecord.body).where(ConfigRecord.key == host_key(ID))) == before
    assert before is not None
    assert '"state"' not in before or '"active"' in before
    key = db.session.scalars(select(HostKey)).one()
    assert services.verify_key(ID, key.kid) is not None


def test_many_at_once_and_those_that_are_locked_later() -> None:
    with unit_of_work():
        for n in range(2, 451):
            db.session.add(
                Host(id=host_id(n), name=f"h{n}", state="active", state_since=utc_now() - DAY, created=utc_now() - DAY)
            )
    with db.engine.connect() as other:
        other.execute(select(Host.id).where(Host.id == host_id(300)).with_for_update())
        assert states.apply() == 448
    assert states.apply() == 1
    found = db.session.scalars(select(Change).where(Change.source == states.RULE.source)).all()
    assert len(found) == 449
    assert isinstance(states.RULE, Actor)


def test_settings() -> None:
    table = {"database": "mysql+pymysql://u@h/d", "config_signing_key": "k", "kafka": {"bootstrap": "h:1"}}
    assert parse(table, "x").hosts == Hosts()
    found = parse({**table, "hosts": {"silent_after_minutes": 10, "retired_after_days": 0}}, "x").hosts
    assert found == replace(Hosts(), silent_after=10 * MINUTE, retired_after=None)
    for wrong in ({"silent_after_minutes": 0}, {"silent_after_minutes": "5"}, {"retired_after_days": -1}, {"x": 1}):
        with pytest.raises(SettingsError):
            parse({**table, "hosts": wrong}, "x")
