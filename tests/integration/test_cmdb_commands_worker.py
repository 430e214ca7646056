"""What agents say of commands, on real Kafka and MariaDB: each word once, nobody for another, and an event of each state."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing.cmdb import ReportingHost, read, settings_file, worker
from ezadmin_testing.commands import queued
from ezadmin_testing.described import KIM, host_id
from ezadmin_testing.processes import wait_until
from flask import Flask
from sqlalchemy import select

from ezadmin_cmdb import migrate, own
from ezadmin_cmdb.app import create_core
from ezadmin_cmdb.commands import chain, states
from ezadmin_cmdb.commands.models import Command, CommandState
from ezadmin_cmdb.database import db, unit_of_work
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.outbox import services as outbox
from ezadmin_cmdb.settings import load
from ezadmin_wire import batch, jobs
from ezadmin_wire.config import host_key
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.times import now


@pytest.fixture
def config(stack: Any, names: Names, database: str, tmp_path: Path) -> Path:
    return settings_file(tmp_path, database, stack.kafka, names, own=f'key = "{tmp_path}/own.key"')


@pytest.fixture
def app(config: Path) -> Iterator[Flask]:
    app = create_core(load(config))
    with app.app_context():
        migrate.upgrade(db.engine)
        yield app
        db.session.rollback()
        db.engine.dispose()


def said(one: Command, state: str, **more: Any) -> bytes:
    return jobs.encode(jobs.JobState(one.run, one.attempt, state, now(), **more))


def words(one: Command) -> list[tuple[str, str]]:
    db.session.rollback()
    return [(row.state, row.source) for row in states.history(one)]


def test_what_agents_say(app: Flask, config: Path, stack: Any, names: Names, tmp_path: Path) -> None:
    one, two = (ReportingHost(host_id(n), stack.kafka, names, names.jobs) for n in (1, 2))
    with unit_of_work():
        for host, name in ((one, "Host 1"), (two, "Host 2")):
            hosts.add(KIM, host.id, name, host.key.public.hex(), {})
        identity = own.identity(load(config), make=True)
        hosts.add(KIM, identity.host_id, "cmdb", identity.key.public.hex(), {})
    with unit_of_work():
        plain, doubled, late, foreign, forged, mixed, killed = (queued(one.id) for _ in range(7))
    process = worker(config, tmp_path / "worker.log").start()
    try:
        wait_until(lambda: published(identity.host_id), 60, "the keys")
        one.send(said(plain, "accepted"), said(plain, "done"))
        message = one.message(said(doubled, "accepted"), said(doubled, "failed", reason="no disk", exit_code=3))
        one.send_raw(*message)
        one.send_raw(*message)
        one.send(said(late, "done"))
        one.send(said(late, "accepted"))
        two.send(said(foreign, "done"))
        two.send(jobs.encode(jobs.JobState(str(uuid.uuid4()), 1, "done", now())))
        headers, value = batch.encode(
            SigningKey.generate(), host=one.id, topic=names.jobs, stream="jobs", epoch="00000000000000ff", seq=0,
            lines=[said(forged, "done")], dataset="jobs", tmin=now(), tmax=now(), sent=now(), count=False,
        )  # fmt: skip
        one.send_raw(headers, value)
        one.send(
            said(mixed, "accepted"), b'{"type":"state"}', said(mixed, "sent"),
            jobs.encode(jobs.JobMilestone(mixed.run, 1, 1, now())), said(mixed, "refused", reason="stopped"),
        )  # fmt: skip
        wait_until(lambda: words(mixed)[-1] == ("refused", "agent"), 60, "the last word")
        process.kill()
        one.send(said(killed, "accepted"))
        one.send(said(killed, "done"))
        process.start()
        wait_until(lambda: words(killed)[-1] == ("done", "agent"), 60, "what came while the worker was away")
        queued_only = [("queued", "cmdb")]
        assert words(plain) == [*queued_only, ("accepted", "agent"), ("done", "agent")]
        assert words(doubled) == [*queued_only, ("accepted", "agent"), ("failed", "agent")]
        assert words(late) == [*queued_only, ("done", "agent"), ("accepted", "agent")]
        assert words(mixed) == [*queued_only, ("accepted", "agent"), ("refused", "agent")]
        assert words(foreign) == words(forged) == queued_only
        ends = {row.id: (row.state, row.reason) for row in db.session.scalars(select(Command))}
        assert ends[doubled.id] == ("failed", "no disk")
        assert (ends[late.id][0], ends[foreign.id][0], ends[forged.id][0]) == ("done", "queued", "queued")
        reasons = sorted(dict(letter.headers)["reason"].decode() for letter in read(stack.kafka, names.dlq))
        assert reasons == ["bad_value", "unknown_command", "unknown_command", "unknown_key"]
        assert "was given no command" in (tmp_path / "worker.log").read_text()
        told = db.session.scalars(select(CommandState).order_by(CommandState.id)).all()
        numbers = {row.id: (row.state, row.hash) for row in told}
        wait_until(lambda: events(stack.kafka, names).keys() >= numbers.keys(), 60, "an event of each state")
        assert {n: (f["command.state"], f["chain.hash"]) for n, f in events(stack.kafka, names).items()} == numbers
        assert chain.verify().rows == len(numbers)
    finally:
        process.stop()
        for host in (one, two):
            host.close()


def published(own_id: str) -> bool:
    db.session.rollback()
    return outbox.is_published(host_key(own_id))


def events(kafka: str, names: Names) -> dict[int, dict[str, str]]:
    """The fields of the events of states, by number."""
    found: dict[int, dict[str, str]] = {}
    for message in read(kafka, names.logs):
        if dict(message.headers).get("dataset") == b"cmdb.command":
            for line in message.value.splitlines():
                fields = json.loads(line)["fields"]
                found[int(fields["chain.number"])] = fields
    return found
