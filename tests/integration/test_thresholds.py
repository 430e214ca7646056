"""Limits from the command of the cmdb to the alerts in Elasticsearch and Kafka: real services, workers that are killed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from ezadmin_testing import cmdb, simulated_hosts
from ezadmin_testing.fleet import Fleet
from ezadmin_testing.processes import Process, pipeline, wait_until
from kafka import KafkaConsumer, TopicPartition

from ezadmin_cmdb import migrate
from ezadmin_cmdb.actor import cli_actor
from ezadmin_cmdb.app import create_core
from ezadmin_cmdb.database import db, unit_of_work
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.main import main as cmdb_main
from ezadmin_cmdb.outbox import services as outbox
from ezadmin_cmdb.settings import load as load_settings
from ezadmin_cmdb.thresholds.services import effective
from ezadmin_pipeline import alerts
from ezadmin_wire import batch as wire
from ezadmin_wire.config import LimitRecord, host_key, limit_key
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.times import format_time

CPU, DISK = "system.cpu.total.norm.pct", "system.filesystem.used.pct"
WITHIN = 5.0
"""Seconds after a command in which all workers use what it changed."""


class Ticks:
    """Hosts that send ticks of metrics: ``figure(host, tick)`` is the CPU of that tick, ``full(host, tick)`` that of /var."""

    def __init__(self, fleet: Fleet, hosts: int, keys: Path) -> None:
        self.fleet = fleet
        self.hosts = hosts
        self.keys = [simulated_hosts.load_key(keys, number) for number in range(hosts)]
        self.ids = [simulated_hosts.host_id(number) for number in range(hosts)]
        self.start = datetime.now(UTC) - timedelta(hours=1)
        self.tick = 0

    @staticmethod
    def figure(host: int, tick: int) -> float:
        return random.Random(host * 1000 + tick // 3).choice([0.1, 0.1, 0.75, 0.95])

    @staticmethod
    def full(host: int, tick: int) -> float:
        return 0.95 if (host + tick // 5) % 3 == 0 else 0.5

    def when(self, tick: int) -> str:
        return format_time(self.start + timedelta(seconds=10 * tick))

    def send(self, count: int, figure: Callable[[int, int], float] | None = None, hosts: range | None = None) -> None:
        """The next ``count`` ticks of every host."""
        figure = figure or self.figure
        for tick in range(self.tick, self.tick + count):
            when = self.when(tick)
            common = {"@timestamp": when, "event.created": when}
            for number in hosts or range(self.hosts):
                full = {"system.filesystem.mount_point": "/var", "system.filesystem.device_name": "/dev/sda1"}
                lines = [
                    {**common, "event.dataset": "system.host", CPU: figure(number, tick)},
                    {**common, "event.dataset": "system.filesystem", **full, DISK: self.full(number, tick)},
                ]
                headers, value = wire.encode(
                    self.keys[number], host=self.ids[number], topic=self.fleet.names.metrics, stream="metrics",
                    epoch="00000000000000bb", seq=2 * tick, lines=[orjson.dumps(line) for line in lines], dataset="*",
                    tmin=when, tmax=when, sent=when, count=False,
                )  # fmt: skip
                self.fleet.send(self.fleet.names.metrics, self.ids[number].encode(), value, headers)
        self.tick += count


def stored(fleet: Fleet) -> dict[str, dict[str, Any]]:
    hits = fleet.search_all(f"{fleet.names.prefix}-alerts-*", source=True)
    assert len({hit["_id"] for hit in hits}) == len(hits), "an alert stands in two indices"
    return {hit["_id"]: hit["_source"] for hit in hits}


def told(fleet: Fleet) -> dict[str, dict[str, Any]]:
    """What the topic holds, by id; under one id stands one alert, however often."""
    consumer = KafkaConsumer(
        bootstrap_servers=fleet.kafka, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    places = [TopicPartition(fleet.names.alerts, number) for number in range(fleet.partitions)]
    consumer.assign(places)
    consumer.seek_to_beginning(*places)
    ends = consumer.end_offsets(places)
    found: dict[str, dict[str, Any]] = {}
    while any(consumer.position(place) < ends[place] for place in places):
        for messages in consumer.poll(timeout_ms=500).values():
            for message in messages:
                document = orjson.loads(message.value)
                identity = dict(message.headers)["id"].decode()
                assert message.key.decode() == document["host.id"]
                assert found.setdefault(identity, document) == document
    consumer.close()
    return found


def expected(ticks: Ticks) -> set[tuple[str, str, str, str, str]]:
    """(host, limit, item, time, state) of every change, by the plainest of rules."""
    found = set()
    for number in range(ticks.hosts):
        states = {"cpu": "ok", "disk": "ok"}
        for tick in range(ticks.tick):
            cpu, full = ticks.figure(number, tick), ticks.full(number, tick)
            new = {
                "cpu": "critical" if cpu >= 0.9 else "warning" if cpu >= 0.7 else "ok",
                "disk": "critical" if full >= 0.9 else "ok",
            }
            for limit, item in (("cpu", ""), ("disk", "/var")):
                if states[limit] != new[limit]:
                    states[limit] = new[limit]
                    found.add((ticks.ids[number], limit, item, ticks.when(tick), new[limit]))
    return found


@pytest.fixture
def fleet(stack: Any, names: Names, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(stack.kafka, stack.elasticsearch, names, tmp_path)
    yield fleet
    fleet.close()


def test_every_change_is_there_once_while_workers_are_killed(fleet: Fleet, tmp_path: Path) -> None:
    ticks = Ticks(fleet, 12, tmp_path / "keys")
    fleet.publish(limit_key("cpu"), LimitRecord(CPU, warning_raise=0.7, critical_raise=0.9))
    fleet.publish(limit_key("disk"), LimitRecord(DISK, "/v*", critical_raise=0.9, dataset="system.filesystem"))
    for host, key in zip(ticks.ids, ticks.keys, strict=True):
        fleet.publish_host(host, key, limits=["cpu", "disk"])
    rng = random.Random(1)
    workers = [pipeline(fleet.settings(f"w{n}", commit_interval=0.3), tmp_path / f"w{n}.log").start() for n in range(2)]
    try:
        wait_until(lambda: "assigned: " in (tmp_path / "w0.log").read_text(), 40, "a worker has partitions")
        for _ in range(8):
            ticks.send(12)
            victim = rng.choice(workers)
            time.sleep(rng.uniform(0.2, 1.5))
            victim.kill()
            victim.start()
        ticks.send(12)
        wait_until(lambda: fleet.lag() == 0, 90, "everything is committed")
        found: dict[str, dict[str, Any]] = {}

        def complete() -> bool:
            found.clear()
            found.update(stored(fleet))
            return len(found) >= len(expected(ticks)) and told(fleet).keys() >= found.keys()

        wait_until(complete, 40, "alerts are written")
    finally:
        for worker in workers:
            worker.stop()
    changes = {
        (one["host.id"], one["rule.id"], one["alert.item"], one["@timestamp"], one["alert.state"])
        for one in found.values()
    }
    wanted = expected(ticks)
    assert len(wanted) > 200
    assert changes == wanted, f"missing {len(wanted - changes)}, too many {len(changes - wanted)}"
    assert all(alerts.identity(one) == identity for identity, one in found.items())
    assert told(fleet) == found
    assert fleet.dead_letters() == []


def test_a_host_of_which_nothing_comes_is_unknown(fleet: Fleet, tmp_path: Path) -> None:
    ticks = Ticks(fleet, 3, tmp_path / "keys")
    ticks.start = datetime.now(UTC)
    fleet.publish(limit_key("cpu"), LimitRecord(CPU, warning_raise=0.9, no_data=30))
    for host, key in zip(ticks.ids, ticks.keys, strict=True):
        fleet.publish_host(host, key, limits=["cpu"])
    worker = pipeline(fleet.settings("w0", commit_interval=0.3), tmp_path / "w0.log").start()
    try:
        ticks.send(1, lambda host, tick: 0.1)
        wait_until(lambda: fleet.lag() == 0, 60, "the ticks are committed")
        sent = time.monotonic()

        def all_unknown() -> bool:
            # the first host goes on
            ticks.send(1, lambda host, tick: 0.1, range(1))
            time.sleep(2)
            return len(stored(fleet)) == 2

        wait_until(all_unknown, 90, "two hosts are unknown")
        assert time.monotonic() - sent > 28
        found = stored(fleet).values()
        assert {one["host.id"] for one in found} == set(ticks.ids[1:])
        assert {(one["event.dataset"], one["alert.state"], one["@timestamp"][:19]) for one in found} == {
            ("alert.no_data", "unknown", ticks.when(0)[:19])
        }
        worker.kill()
        worker.start()
        ticks.send(1, lambda host, tick: 0.1)
        wait_until(lambda: len(stored(fleet)) == 4, 60, "they are known again")
        wait_until(lambda: told(fleet) == stored(fleet), 20, "the topic holds the same")
    finally:
        worker.stop()


class Installation:
    """A cmdb with its worker, hosts that it knows, and two pipeline workers."""

    def __init__(self, stack: Any, names: Names, database: str, folder: Path) -> None:
        self.names = names
        self.config = cmdb.settings_file(folder, database, stack.kafka, names)
        self.fleet = Fleet(stack.kafka, stack.elasticsearch, names, folder)
        self.fleet._signer = SigningKey.load(folder / "config.key")
        cmdb.clear(database)
        self.ticks = Ticks(self.fleet, 4, folder / "keys")
        command = [sys.executable, "-m", "ezadmin_pipeline.main", "run", "--workers", "2"]
        command += ["--config", str(self.fleet.settings("pair"))]
        self.processes = [cmdb.worker(self.config, folder / "worker.log"), Process(command, folder / "pipeline.log")]

    def run(self, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            cmdb.command(*arguments, "--config", self.config), capture_output=True, text=True, timeout=60
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def changes(self) -> list[tuple[int, str, str, str]]:
        """(host, limit, state, reason) in the order of their times."""
        wait_until(lambda: self.fleet.lag() == 0, 30, "all is committed")
        found = sorted(stored(self.fleet).values(), key=lambda one: (one["@timestamp"], one["host.id"]))
        return [
            (self.ticks.ids.index(one["host.id"]), one["rule.id"], one["alert.state"], one["alert.reason"])
            for one in found
        ]

    def close(self) -> None:
        for process in self.processes:
            process.stop()
        self.fleet.close()


@pytest.fixture
def installation(stack: Any, names: Names, database: str, tmp_path: Path) -> Iterator[Installation]:
    installation = Installation(stack, names, database, tmp_path)
    yield installation
    installation.close()


def test_a_limit_reaches_all_workers_within_five_seconds(installation: Installation) -> None:
    run, ticks = installation.run, installation.ticks
    for process in installation.processes:
        process.start()
    for number, key in enumerate(ticks.keys):
        label = ("--label", "site=seoul") if number < 2 else ()
        run(
            "host",
            "add",
            "--id",
            ticks.ids[number],
            "--name",
            f"sim-{number}",
            "--public-key",
            key.public.hex(),
            *label,
        )
    ticks.send(1, lambda host, tick: 0.99)
    wait_until(lambda: installation.fleet.lag() == 0, 60, "the hosts are known and the workers work")
    assert installation.changes() == []

    assert "for: label site=seoul" in run("limits", "add", "cpu", CPU, "--critical", "90%", "--label", "site=seoul")
    time.sleep(WITHIN - 1)
    ticks.send(1, lambda host, tick: 0.99)
    assert installation.changes() == [(0, "cpu", "critical", "value"), (1, "cpu", "critical", "value")]

    run("limits", "assign", "cpu", "--host", "sim-3")
    run("limits", "add", "cpu", CPU, "--warning", "0.5", "--change")
    run("host", "label", "sim-1", "site-")
    time.sleep(WITHIN - 1)
    ticks.send(1, lambda host, tick: 0.99)
    wait_until(lambda: len(installation.changes()) == 5, 20, "the host without the label is closed")
    assert sorted(installation.changes()[2:]) == [
        (0, "cpu", "warning", "limit_changed"),
        (1, "cpu", "ok", "limit_removed"),
        (3, "cpu", "warning", "value"),
    ]
    run("limits", "remove", "cpu")
    time.sleep(WITHIN - 1)
    ticks.send(1, lambda host, tick: 0.99)
    wait_until(lambda: len(installation.changes()) == 7, 20, "all is closed")
    assert {one[2:] for one in installation.changes()[5:]} == {("ok", "limit_removed")}


def test_limits_from_the_command_line(installation: Installation, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str, status: int = 0) -> str:  # in this process: there are many
        capsys.readouterr()
        assert cmdb_main([*arguments, "--config", str(installation.config)]) == status
        return "".join(capsys.readouterr())

    ticks = installation.ticks
    assert "no limits yet" in run("limits", "list")
    for number, key in enumerate(ticks.keys[:2]):
        run("host", "add", "--id", ticks.ids[number], "--name", f"sim-{number}", "--public-key", key.public.hex())
    run(
        "limits", "add", "disk", DISK, "--item", "/var*", "--warning", "80%", "--warning-clear", "75%", "--critical", "95%",
        "--for", "5m", "--samples", "3/5", "--no-data", "10m", "--comment", "full soon", "--host", "sim-0", "--all-hosts",
    )  # fmt: skip
    line = run("limits", "list")
    assert f"{DISK} of /var*, warning >= 0.8 until < 0.75, critical >= 0.95, for 300 s, 3 of 5 samples" in line
    assert "unknown after 600 s; host sim-0, all hosts  # full soon" in line
    listed = json.loads(run("limits", "list", "--json"))
    assert (listed[0]["dataset"], listed[0]["n"], listed[0]["m"]) == ("system.filesystem", 3, 5)
    assert "for: host sim-0" in run("limits", "unassign", "disk", "--all-hosts")
    for arguments, status, message in (
        (("add", "disk", DISK, "--warning", "1"), 1, "there is a limit disk already"),
        (("add", "x", "system.nothing", "--warning", "1"), 1, "no field 'system.nothing'"),
        (("add", "x", "process.name", "--warning", "1"), 1, "no figure but a keyword"),
        (("add", "x", DISK), 1, "could never say anything"),
        (
            ("add", "x", DISK, "--warning", "90%", "--critical", "80%"),
            1,
            "warning_raise 0.9 is above critical_raise 0.8",
        ),
        (("add", "x", DISK, "--warning", "much"), 2, "0.9, or 90% for a ratio"),
        (("add", "x", DISK, "--warning", "1", "--for", "soon"), 2, "30s or 5m"),
        (("add", "x", DISK, "--warning", "1", "--samples", "5"), 2, "write N/M"),
        (("add", "x", DISK, "--no-data", "60s"), 1, "every 60 seconds: give no_data 150 or more"),
        (("add", "x", DISK, "--warning", "1", "--change"), 1, "no limit x"),
        (("add", "x", DISK, "--warning", "1", "--host", "nobody"), 1, "no host nobody"),
        (("assign", "disk"), 2, "say which"),
        (("assign", "disk", "--label", "site"), 2, "write NAME=VALUE"),
        (("unassign", "disk", "--label", "site=seoul"), 1, "is not for label site=seoul; it is for: host sim-0"),
        (("remove", "nothing"), 1, "no limit nothing"),
    ):
        assert message in run("limits", *arguments, status=status), arguments
    assert len(json.loads(run("limits", "list", "--json"))) == 1
    assert "added: Disks: full, inodes, full soon" in run("limits", "starters")
    assert run("limits", "starters") == ""
    mine = json.loads(run("limits", "list", "--json"))
    of_template = next(one["id"] for one in mine if one["id"] != "disk")
    assert "one of a threshold template" in run("limits", "remove", of_template, status=1)


def test_a_template_is_judged_by_and_a_host_that_moves_takes_up_what_holds_there(installation: Installation) -> None:
    ticks = installation.ticks
    for process in installation.processes:
        process.start()
    kim, app = cli_actor("kim"), create_core(load_settings(Path(installation.config)))
    with app.app_context():
        migrate.upgrade(db.engine)
        with unit_of_work():
            for number, key in enumerate(ticks.keys):
                hosts.add(kim, ticks.ids[number], f"sim-{number}", key.public.hex(), {})
    ticks.send(1, lambda host, tick: 0.8)
    wait_until(lambda: installation.fleet.lag() == 0, 60, "the hosts are known and the workers work")

    def assigned(level: str, of: str, warning: float) -> dict[str, Any]:
        limit = {"field": CPU, "warning_raise": warning}
        return {"name": f"{level} {of}", "limits": [limit], "assignments": [{"level": level, "of": of, "priority": 5}]}

    with app.app_context(), unit_of_work():
        site = described.create(kim, find("site"), {"name": "Seoul", "status": "active"})
        described.create(kim, find("host_group"), {"name": "calm", "hosts": [db.session.get(Host, ticks.ids[0])]})
        for values in (assigned("global", "", 0.9), assigned("site", "Seoul", 0.7), assigned("group", "calm", 0.95)):
            described.create(kim, find("threshold_template"), values)
        for number in (0, 1):
            described.update(kim, find("host"), db.session.get(Host, ticks.ids[number]), {"site": site})
    wait_until(lambda: _limits_are_told(app, ticks.ids), 40, "the groups and limits of the hosts are published")
    time.sleep(WITHIN)  # a worker that does not know the group yet would rightly judge by the limit of the site

    def of_site() -> list[tuple[int, str, str]]:
        ticks.send(1, lambda host, tick: 0.8)
        return [(one[0], one[2], one[3]) for one in installation.changes()]

    wait_until(of_site, 60, "there is an alert")
    assert of_site() == [(1, "warning", "value")], "only the host of the site that is in no group"
    with app.app_context(), unit_of_work():
        site = find("site").resolve(kim, ["Seoul"])["Seoul"]
        described.update(kim, find("host"), db.session.get(Host, ticks.ids[2]), {"site": site})
        described.update(kim, find("host"), db.session.get(Host, ticks.ids[1]), {"site": None})
    wait_until(lambda: len(of_site()) == 3, 60, "both have moved")
    assert sorted(of_site()[1:]) == [(1, "ok", "limit_removed"), (2, "warning", "value")]


def _limits_are_told(app: Any, ids: list[str]) -> bool:
    """Whether the config records of the hosts hold the limits of the nearest places, and Kafka has them."""
    with app.app_context():
        holding = {host: [one.warning_raise for one in found] for host, found in effective(db.session, ids).items()}
        told = all(outbox.is_published(host_key(host)) for host in ids)
    return told and [holding[host] for host in ids] == [[0.95], [0.7], [0.9], [0.9]]
