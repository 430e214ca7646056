"""Commands: their states, whatever comes twice, late or from the wrong host, and the chain that holds them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from ezadmin_testing.commands import queued
from ezadmin_testing.described import empty, host_id, make
from flask import Flask
from sqlalchemy import delete, select, update

from ezadmin_cmdb import migrate
from ezadmin_cmdb.app import create_core
from ezadmin_cmdb.commands import chain, services, states
from ezadmin_cmdb.commands.models import Command, CommandHead, CommandState, Run
from ezadmin_cmdb.database import db, unit_of_work, utc_now
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.settings import Settings
from ezadmin_wire import WireError
from ezadmin_wire.jobs import JobState
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.times import format_time

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
            make("host", 1), make("host", 2)
        yield
        db.session.rollback()


def one(**more: object) -> Command:
    with unit_of_work():
        return queued(host_id(1), **more)


def again(command: Command) -> Command:
    found = db.session.get(Command, command.id, populate_existing=True)
    assert found is not None
    return found


def say(command: Command, state: str, host: int = 1, at: datetime | None = None, reason: str | None = None) -> bool:
    document = JobState(command.run, command.attempt, state, format_time(at or utc_now()), reason)
    with unit_of_work():
        return services.state_changed(document, host_id(host))


def words(command: Command) -> list[tuple[str, str]]:
    return [(row.state, row.source) for row in states.history(command)]


def test_a_command_goes_its_way() -> None:
    command = one()
    found = services.waiting([host_id(1), host_id(2)])
    assert [(w.host_id, w.command_id) for w in found] == [(host_id(1), command.id)]
    assert found[0].command.command == states.with_text(command.id).signed  # type: ignore[union-attr]
    with unit_of_work():
        assert services.mark_sent([command.id]) == [command.id]
    assert [w.command_id for w in services.waiting([host_id(1)])] == [command.id], "until it is known to be accepted"
    assert say(command, "accepted")
    assert services.waiting([host_id(1)]) == []
    assert say(command, "running")
    assert say(command, "done", reason="sent 3 packages")
    now = again(command)
    assert (now.state, now.source, now.reason) == ("done", "agent", "sent 3 packages")
    assert None not in (now.sent_at, now.accepted_at, now.ended_at)
    assert words(command) == [
        ("queued", "cmdb"), ("sent", "gateway"), ("accepted", "agent"), ("running", "agent"), ("done", "agent"),
    ]  # fmt: skip
    assert chain.verify() == chain.Verdict(5, states.history(command)[-1].hash)


def test_only_hosts_that_ask_are_told() -> None:
    one()
    assert services.waiting([host_id(2)]) == []
    assert services.waiting([]) == []


def test_what_is_too_early_or_expired_does_not_wait() -> None:
    now = utc_now()
    one(not_before=now + MINUTE, not_after=now + 2 * MINUTE)
    one(not_before=now - 2 * MINUTE, not_after=now - timedelta(seconds=1))
    assert services.waiting([host_id(1)]) == []


def test_what_is_sent_twice_is_noted_once() -> None:
    command = one()
    for _ in range(2):
        with unit_of_work():
            assert services.mark_sent([command.id]) == [command.id]
    assert words(command) == [("queued", "cmdb"), ("sent", "gateway")]


def test_what_was_cancelled_is_not_sent() -> None:
    command = one()
    with unit_of_work():
        assert states.cancel([command.id], "kim") == [command]
    with unit_of_work():
        assert services.mark_sent([command.id]) == []
    assert again(command).state == "cancelled"
    assert services.waiting([host_id(1)]) == []


def test_what_was_sent_cannot_be_cancelled() -> None:
    command = one()
    with unit_of_work():
        services.mark_sent([command.id])
    with unit_of_work():
        assert states.cancel([command.id], "kim") == []
    assert again(command).state == "sent"


def test_a_word_that_comes_twice_is_one_also_within_one_transaction() -> None:
    command = one()
    assert say(command, "accepted")
    assert not say(command, "accepted")
    document = JobState(command.run, 1, "done", format_time(utc_now()))
    with unit_of_work():
        assert services.state_changed(document, host_id(1))
        assert not services.state_changed(document, host_id(1))
    assert words(command) == [("queued", "cmdb"), ("accepted", "agent"), ("done", "agent")]
    assert chain.verify().why == ""


def test_a_state_never_goes_back() -> None:
    command = one()
    assert say(command, "done")
    accepted = utc_now() - MINUTE
    assert not say(command, "accepted", at=accepted)
    assert not any(say(command, state) for state in ("failed", "lost"))
    now = again(command)
    assert (now.state, now.accepted_at) == ("done", accepted.replace(microsecond=accepted.microsecond // 1000 * 1000))
    with unit_of_work():
        assert services.mark_sent([command.id]) == []
    assert again(command).state == "done"
    assert ("accepted", "agent") in words(command), "what was said is kept"


def test_nobody_speaks_for_another_host() -> None:
    command = one()
    with pytest.raises(WireError) as caught:
        say(command, "done", host=2)
    assert caught.value.reason == "unknown_command"
    assert again(command).state == "queued"
    with pytest.raises(WireError, match="was given no"):
        services.state_changed(JobState(str(uuid.uuid4()), 1, "done", format_time(utc_now())), host_id(1))


@pytest.mark.parametrize("state", ["queued", "sent", "expired", "cancelled"])
def test_an_agent_says_only_what_it_can_know(state: str) -> None:
    command = one()
    with pytest.raises(WireError) as caught:
        say(command, state)
    assert caught.value.reason == "bad_value"
    assert again(command).state == "queued"


def test_what_nobody_took_expires() -> None:
    now = utc_now()
    late = one(not_before=now - 10 * MINUTE, not_after=now - 5 * MINUTE)
    sent = one(not_before=now - 10 * MINUTE, not_after=now - 5 * MINUTE)
    just = one(not_before=now - 10 * MINUTE, not_after=now - timedelta(seconds=20))
    good = one()
    with unit_of_work():
        services.mark_sent([sent.id])
    with unit_of_work():
        assert services.expire() == 2
    assert [again(c).state for c in (late, sent, just, good)] == ["expired", "expired", "queued", "queued"]
    with unit_of_work():
        assert services.expire() == 0


def test_what_an_agent_did_is_true_though_it_was_thought_expired() -> None:
    now = utc_now()
    command = one(not_before=now - 10 * MINUTE, not_after=now - 5 * MINUTE)
    with unit_of_work():
        services.expire()
    assert not say(command, "accepted", at=now - 6 * MINUTE), "an end stays one until another is told"
    assert again(command).state == "expired"
    assert say(command, "done", at=now - 6 * MINUTE)
    assert again(command).state == "done"
    assert words(command)[1:] == [("expired", "cmdb"), ("accepted", "agent"), ("done", "agent")]


def heard(at: datetime) -> None:
    with unit_of_work():
        db.session.execute(update(Host).where(Host.id == host_id(1)).values(agent_collected=at))


def test_what_an_agent_is_silent_about_is_lost_once_it_is_heard_again() -> None:
    command = one()
    say(command, "accepted")
    later = utc_now() + 20 * MINUTE
    with unit_of_work():
        assert services.expire(later) == 0, "its host was not heard since: it may go on there"
    heard(later)
    with unit_of_work():
        assert services.expire(later) == 1
    assert (again(command).state, again(command).source) == ("lost", "cmdb")
    assert say(command, "failed")
    assert again(command).state == "failed", "what the agent knows is the truth"


def test_sampling_is_not_lost_while_it_runs() -> None:
    command = one(kind="sample", arguments={"interval": 1, "seconds": 3600})
    say(command, "accepted")
    for minutes, ends in ((60, 0), (71, 1)):
        later = utc_now() + minutes * MINUTE
        heard(later)
        with unit_of_work():
            assert services.expire(later) == ends
    assert again(command).state == "lost"


def test_a_command_stays_when_its_host_is_deleted() -> None:
    command = one()
    with unit_of_work():
        db.session.execute(delete(Host).where(Host.id == host_id(1)))
    assert again(command).host_name == "Host 1"


def broken() -> str:
    db.session.expire_all()
    return chain.verify().why


def test_the_chain_shows_what_was_altered() -> None:
    command = one()
    say(command, "accepted"), say(command, "failed")
    last = states.history(command)[-1].id
    assert broken() == ""
    for change, why in (
        (update(CommandState).where(CommandState.id == last).values(state="done"), "row 3 is not what it was"),
        (delete(CommandState).where(CommandState.id == last), "row 3 is missing: the chain was longer"),
        (delete(CommandState).where(CommandState.id == 2), "row 2 is missing"),
        (update(CommandState).where(CommandState.id == 2).values(previous="0" * 64), "row 2 names another hash"),
        (update(Command).values(signed="{}"), "row 1 holds, but command"),
        (delete(CommandHead), "the row of command_head is missing"),
    ):
        db.session.execute(change)
        assert why in broken()
        db.session.rollback()
    assert broken() == ""


def test_what_is_rolled_back_leaves_no_row() -> None:
    command = one()
    services.mark_sent([command.id])
    db.session.rollback()
    assert words(command) == [("queued", "cmdb")]
    say(command, "accepted")
    assert broken() == ""
    assert len(db.session.scalars(select(CommandState)).all()) == 2


def test_what_is_old_is_deleted_and_the_chain_goes_on() -> None:
    old, late, waits, new = one(), one(), one(), one()
    say(old, "accepted"), say(old, "done")
    say(late, "accepted"), say(late, "done")
    age(old, late, waits)
    begin, head = chain.verify().rows, chain.verify().head
    with unit_of_work():
        assert states.forget(utc_now() - 400 * DAY) == (2, 0), "up to the first word about one that has not ended"
    assert chain.verify().why == ""
    with unit_of_work():
        cancelled = states.cancel([waits.id], "kim")
    assert [one.id for one in cancelled] == [waits.id]
    with unit_of_work():
        assert states.forget(utc_now() - 400 * DAY) == (1, 0), "up to the first word about the new one"
    assert (chain.verify().first, chain.verify().why) == (4, "")
    age(new)
    say(new, "accepted"), say(new, "done")
    last = one()
    with unit_of_work():
        assert states.forget(utc_now() - 400 * DAY, rows=2) == (2, 0)
    with unit_of_work():
        _, commands = states.forget(utc_now() - 400 * DAY)
    assert commands == 4
    assert [row.id for row in db.session.scalars(select(Command))] == [last.id]
    assert [run.id for run in db.session.scalars(select(Run))] == [last.run]
    found = chain.verify()
    assert (found.first, found.rows, found.why) == (12, 12, "")
    assert found.head != head
    assert begin == 8
    with unit_of_work():
        assert states.forget(utc_now() - 400 * DAY) == (0, 0)
    say(last, "accepted")
    assert chain.verify().rows == 13
    for change, why in (
        (update(CommandHead).where(CommandHead.id == chain.BASE).values(hash="0" * 64), "row 12 names another hash"),
        (delete(CommandHead).where(CommandHead.id == chain.BASE), "row 1 is missing"),
    ):
        db.session.execute(change)
        assert why in broken()
        db.session.rollback()


def age(*commands: Command) -> None:
    """They were made long ago."""
    with unit_of_work():
        ids = [command.id for command in commands]
        db.session.execute(update(Command).where(Command.id.in_(ids)).values(created=utc_now() - 401 * DAY))
