"""The cmdb's worker is killed at random while inventory arrives twice and out of order; it ends as by one quiet pass.

What is compared is everything: hosts, interfaces, addresses, disks, declared values, differences, config records, and the
whole history of each host, entry by entry. CI sends 600 documents, ``EZADMIN_FULL`` 5,000. ``EZADMIN_SEED`` repeats the
order and the kills.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing.cmdb import ReportingHost, settings_file, worker
from ezadmin_testing.described import KIM, empty
from ezadmin_testing.processes import Process, wait_until
from flask import Flask
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from sqlalchemy import select, text

from ezadmin_cmdb import migrate, settings
from ezadmin_cmdb.app import create_core
from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.database import db, unit_of_work
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.hosts import drifts, policies, reports, services
from ezadmin_cmdb.hosts.description import HOST
from ezadmin_wire.names import Names
from ezadmin_wire.state import Address, AgentStatus, Disk, Inventory, Nic, StateDocument
from ezadmin_wire.times import format_time

FULL = bool(os.environ.get("EZADMIN_FULL"))
DOCUMENTS, HOSTS, KILLS = (5000, 100, 15) if FULL else (600, 20, 3)
SEED = int(os.environ.get("EZADMIN_SEED", "0")) or random.randrange(1 << 32)
BEGIN = datetime(2026, 11, 24, 10, tzinfo=UTC)
NOT_COMPARED = {"created", "updated", "state_since"}
"""When the row was written."""


@pytest.fixture
def app(stack: Any, names: Names, database: str, tmp_path: Path) -> Iterator[Flask]:
    # so long that no rule speaks: what is sent looks days old
    file = settings_file(tmp_path, database, stack.kafka, names, hosts="silent_after_minutes = 100000")
    app = create_core(settings.load(file))
    with app.app_context():
        migrate.upgrade(db.engine)
    yield app
    with app.app_context():
        db.engine.dispose()


def known(app: Flask, hosts: list[ReportingHost]) -> None:
    """The hosts as people made them: some values are declared, a policy is another one."""
    empty(app)
    with app.app_context(), unit_of_work():
        policies.choose(KIM, {"memory": "person"})
        for number, one in enumerate(hosts):
            host = services.add(KIM, one.id, f"host {number}", one.key.public.hex(), {"rack": f"r{number}"})
            if number % 3 == 0:
                described.update(KIM, HOST, host, {"memory": 1 << 30, "vendor": "declared"})


def document(chance: random.Random, number: int, moment: datetime) -> StateDocument:
    """A document in which this and that is another than before."""
    collected = format_time(moment)
    if chance.random() < 0.3:
        return AgentStatus(collected, "1.0", format_time(BEGIN), lines_sent=chance.randrange(1000))
    nics = [
        Nic(f"eth{n}", mac=f"00-00-5E-00-53-{n:02X}", up=chance.random() < 0.9,
            addresses=[Address(f"192.0.2.{chance.randrange(4)}", 24), Address(f"2001:db8::{number:x}", 64)])
        for n in range(chance.randrange(1, 4))
    ]  # fmt: skip
    return Inventory(
        collected, hostname=f"h{number}", os_version=chance.choice(["12", "13"]), serial=chance.choice(["A", "B", None]),
        vendor=chance.choice(["Hanbit", "Naru"]), memory=chance.choice([1 << 30, 1 << 31]), nics=nics,
        boot_time=format_time(BEGIN - timedelta(hours=chance.randrange(2))),
        disks=[Disk(f"sd{n}", size=chance.choice([1, 2]) << 40) for n in "abc"[: chance.randrange(1, 4)]],
    )  # fmt: skip


def everything(app: Flask) -> dict[str, Any]:
    """All that the database holds of hosts, and their history, without when and by which row it was written."""
    found: dict[str, Any] = {}
    with app.app_context():
        for name, query in {
            "hosts": "SELECT * FROM hosts ORDER BY id",
            "nics": "SELECT host_id, name, mac, mtu, speed_mbps, up FROM host_nics ORDER BY host_id, name",
            "addresses": "SELECT n.host_id, n.name, a.address, a.version, a.prefix FROM host_addresses a"
            " JOIN host_nics n ON n.id = a.nic_id ORDER BY 1, 2, 3",
            "disks": "SELECT host_id, name, size, model, serial, rotational FROM host_disks ORDER BY host_id, name",
            "declared": "SELECT host_id, field, value, declared_by FROM host_declarations ORDER BY 1, 2",
            "drifts": "SELECT host_id, field, declared, observed, status FROM drifts ORDER BY 1, 2",
            "records": "SELECT record_key, body FROM config_records WHERE record_key LIKE 'host/%' ORDER BY 1",
        }.items():
            rows = db.session.execute(text(query)).mappings()
            found[name] = [{key: str(row[key]) for key in row if key not in NOT_COMPARED} for row in rows]
        history: dict[str, list[Any]] = defaultdict(list)
        for row in db.session.scalars(select(Change).order_by(Change.id)):
            history[row.object_id].append((row.actor, row.source, row.action, json.dumps(row.fields, sort_keys=True)))
        found["history"] = dict(history)
        db.session.remove()
    return found


def progress(app: Flask) -> int:
    with app.app_context():
        count = db.session.execute(text("SELECT COUNT(*) FROM changes")).scalar() or 0
        db.session.remove()
        return int(count)


def waiting(kafka: str, names: Names) -> int:
    consumer = KafkaConsumer(
        bootstrap_servers=kafka, group_id=names.consumer_group("cmdb-worker"), enable_auto_commit=False
    )
    try:
        places = [TopicPartition(names.state, number) for number in range(3)]
        ends = consumer.end_offsets(places)
        return sum(ends[place] - (consumer.committed(place) or 0) for place in places)
    finally:
        consumer.close(autocommit=False)


def kill_while_it_works(app: Flask, process: Process, chance: random.Random) -> None:
    before = progress(app)
    wait_until(lambda: progress(app) > before or not process.running, 60, "it stores documents")
    time.sleep(chance.random() * 0.6)
    process.kill()


def test_killed_at_random_it_ends_as_by_one_quiet_pass(stack: Any, names: Names, app: Flask, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    hosts = [ReportingHost(f"00000000-0000-4000-8000-{n:012d}", stack.kafka, names) for n in range(HOSTS)]
    known(app, hosts)
    sent: list[tuple[int, StateDocument]] = []
    for n in range(HOSTS):
        moments = [BEGIN + timedelta(seconds=k) for k in range(DOCUMENTS // HOSTS)]
        sent += [(n, document(chance, n, moment)) for moment in moments]
    by_moment = sorted(range(len(sent)), key=lambda index: sent[index][1].collected)
    rank = {index: position for position, index in enumerate(by_moment)}
    places = [(rank[index] + chance.random() * 4 * HOSTS, index) for index in range(len(sent)) for _ in range(2)]
    order = [index for _, index in sorted(places)]
    assert len(order) == 2 * DOCUMENTS

    messages: dict[int, Any] = {}
    producer = KafkaProducer(bootstrap_servers=stack.kafka, acks="all", enable_idempotence=True)
    for index in order:
        n, one = sent[index]
        headers, value = messages.setdefault(index, hosts[n].message(one))
        producer.send(names.state, key=hosts[n].id.encode(), value=value, headers=headers)
    producer.flush()
    producer.close()

    process = worker(tmp_path / "cmdb.toml", tmp_path / "worker.log")
    try:
        kills = 0
        while kills < KILLS and waiting(stack.kafka, names):
            process.start()
            kill_while_it_works(app, process, chance)
            kills += 1
        process.start()
        wait_until(lambda: waiting(stack.kafka, names) == 0, 600 if FULL else 120, "everything is stored")
        assert process.stop() == 0
    finally:
        process.kill()
        for host in hosts:
            host.close()
    assert kills >= 2, "it was too quick to be killed"
    noisy = everything(app)

    known(app, hosts)
    once: set[int] = set()
    with app.app_context():
        for index in order:
            if index not in once:
                once.add(index)
                with unit_of_work():
                    reports.store(hosts[sent[index][0]].id, sent[index][1])
        assert drifts.count_open(KIM) > 0
    quiet = everything(app)
    assert len(once) == DOCUMENTS
    for name in quiet:
        assert noisy[name] == quiet[name], f"{name}, seed {SEED}, {kills} kills"
    stored = sum(len(entries) for entries in quiet["history"].values())
    print(f"seed {SEED}: {2 * DOCUMENTS} messages, {kills} kills, {stored} entries of history")
    assert stored > HOSTS * 5
