"""Random schedules around the barrier with limits on hosts: kills between any two writes, second owners, lost answers,
re-sends, topics made anew.

Whatever happens, the alerts in Elasticsearch and in their topic are those of one quiet owner that reads everything once.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from ezadmin_testing.fake_elastic import FakeElastic, Killed, Unavailable

from ezadmin_pipeline import engine as engine_module
from ezadmin_pipeline.directory import Directory
from ezadmin_pipeline.engine import Engine, Message
from ezadmin_pipeline.settings import Settings
from ezadmin_pipeline.thresholds import State
from ezadmin_pipeline.writer import Outgoing
from ezadmin_wire import batch as wire
from ezadmin_wire import config
from ezadmin_wire.config import HostRecord, LimitRecord
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.times import format_epoch_ms

SCHEDULES = int(os.environ.get("EZADMIN_MODEL_SCHEDULES", "4000")) // 10
HOSTS = ["00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"]
KEY = SigningKey.generate()
SETTINGS = Settings(signatures="off", bulk_bytes=2000)
TOPIC = SETTINGS.names.metrics
START = 1_795_500_000_000
CPU, DISK = "system.cpu.total.norm.pct", "system.filesystem.used.pct"
LIMITS = {
    "cpu": LimitRecord(CPU, warning_raise=0.7, warning_clear=0.5, critical_raise=0.9, no_data=60),
    "often": LimitRecord(CPU, critical_raise=0.8, n=2, m=3),
    "long": LimitRecord(CPU, warning_raise=0.6, hold=20),
    "fast": LimitRecord(CPU, warning_raise=0.02, rate=True),
    "disk": LimitRecord(DISK, "/v*", critical_raise=0.9, dataset="system.filesystem"),
}


class Topic:
    """A topic that is safe once flushed; a kill in between loses what was not."""

    def __init__(self, kept: dict[str, Outgoing], fault: Callable[[str], str | None]) -> None:
        self.kept = kept
        self.fault = fault
        self.waiting: list[Outgoing] = []

    def send(self, message: Outgoing) -> None:
        self.waiting.append(message)

    def flush(self, keep_alive: Callable[[], None]) -> None:
        for message in self.waiting:
            self.fault("letter")
            self.kept[dict(message.headers)["id"].decode()] = message
        self.waiting = []


def directory() -> Directory:
    found = Directory([])
    for limit_id, limit in LIMITS.items():
        found._apply(config.ConfigRecord(config.limit_key(limit_id), 1, limit))
    for host in HOSTS:
        found._apply(config.ConfigRecord(config.host_key(host), 1, HostRecord("h", limits=list(LIMITS))))
    return found


class World:
    """One partition of metrics, and owners that come, go and die."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.armed = True
        self.elastic = FakeElastic(self._fault)
        self.topic_id = "topic-0"
        self.log: list[Message] = []
        self.all: list[Message] = []
        self.told: dict[str, Outgoing] = {}
        self.owners: list[Engine] = []
        self.time = 0.0
        self.ticks = dict.fromkeys(HOSTS, 0)
        self.unacked: dict[str, list[list[bytes]]] = {host: [] for host in HOSTS}
        self.moment = 0

    def _fault(self, kind: str) -> str | None:
        if not self.armed:
            return None
        roll = self.rng.random()
        if roll < {"request": 0.02, "item": 0.01, "answer": 0.03, "letter": 0.05}[kind]:
            raise Killed
        if kind == "item":
            return "429" if roll > 0.98 else None
        if kind in ("request", "answer") and roll > 0.97:
            raise Unavailable(kind)
        return None

    def owner(self, elastic: FakeElastic, told: dict[str, Outgoing], fault: Callable[[str], str | None]) -> Engine:
        def passes() -> None:
            self.time += 1.0

        return Engine(
            SETTINGS,
            elastic,
            Topic({}, fault),
            directory(),
            alert_topic=Topic(told, fault),
            keep_alive=passes,
            clock=lambda: self.time,
            today=lambda: datetime(2026, 11, 24, 12, 0, tzinfo=UTC),
            threads=0,
        )

    def send(self, host: str) -> None:
        """A tick; some are sent twice, some come after a long silence."""
        self.moment += self.rng.choice([5_000, 5_000, 10_000, 30_000])
        when = format_epoch_ms(START + self.moment)
        common = {"@timestamp": when, "event.created": when}
        figure = self.rng.choice([0.1, 0.55, 0.65, 0.75, 0.85, 0.95])
        lines = [{**common, "event.dataset": "system.host", CPU: figure}]
        for mount in self.rng.sample(["/var", "/vol", "/srv"], self.rng.randint(0, 3)):
            values = {"system.filesystem.mount_point": mount, DISK: self.rng.choice([0.5, 0.95])}
            lines.append({**common, "event.dataset": "system.filesystem", **values})
        self.unacked[host].append([orjson.dumps(line) for line in lines])
        for number, tick in enumerate(self.unacked[host], self.ticks[host]):
            headers, value = wire.encode(
                KEY, host=host, topic=TOPIC, stream="metrics", epoch="0" * 16, seq=number * 10, lines=tick, dataset="*",
                tmin=when, tmax=when, sent=when, count=False,
            )  # fmt: skip
            message = Message(TOPIC, 0, len(self.log), host.encode(), headers, value, taken_ms=START + self.moment)
            self.log.append(message)
            self.all.append(message)
        if self.rng.random() < 0.8:
            self.ticks[host] += len(self.unacked[host])
            self.unacked[host] = []

    def turn(self, owner: Engine) -> None:
        if not owner.shards:
            owner.assign(TOPIC, 0, self.topic_id, 0, len(self.log))
        shard = owner.shards[TOPIC, 0]
        if self.rng.random() < 0.7:
            for message in self.log[shard.next : shard.next + self.rng.randint(1, 4)]:
                owner.process(message)
        else:
            _, lost = owner.barrier({TOPIC: self.topic_id})
            for place in lost:
                owner.drop(*place)

    def step(self) -> None:
        roll = self.rng.random()
        if roll < 0.4:
            self.send(self.rng.choice([HOSTS[0], *HOSTS]))
        elif roll < 0.45 or not self.owners:
            self.owners.append(self.owner(self.elastic, self.told, self._fault))
        elif roll < 0.47:
            self.make_topic_anew()
        else:
            owner = self.rng.choice(self.owners)
            try:
                self.turn(owner)
            except Unavailable:
                owner.drop(TOPIC, 0)
            except Killed:
                self.owners.remove(owner)

    def make_topic_anew(self) -> None:
        record = self.elastic.docs.get((SETTINGS.names.state_index, f"{TOPIC}-0"))
        source = record["_source"] if record else {"topic_id": "", "upto": 0}
        if self.log and source["topic_id"] == self.topic_id and source["upto"] == len(self.log):
            self.log = []
            self.topic_id = f"topic-{int(self.topic_id[6:]) + 1}"

    def read_to_the_end(self, owner: Engine, log: list[Message]) -> None:
        for message in log:
            owner.process(message)
        for _ in range(3):
            owner.barrier({TOPIC: self.topic_id})

    def run(self) -> list[str]:
        for _ in range(self.rng.randint(10, 80)):
            self.step()
        self.armed = False
        last = self.owner(self.elastic, self.told, self._fault)
        last.assign(TOPIC, 0, self.topic_id, 0, len(self.log))
        self.read_to_the_end(last, self.log)
        quiet = FakeElastic()
        told: dict[str, Outgoing] = {}
        truth = self.owner(quiet, told, lambda kind: None)
        truth.assign(TOPIC, 0, self.topic_id, 0, len(self.all))
        again = [
            Message(TOPIC, 0, i, one.key, one.headers, one.value, taken_ms=one.taken_ms)
            for i, one in enumerate(self.all)
        ]
        self.read_to_the_end(truth, again)
        found, wanted = alerts_of(self.elastic), alerts_of(quiet)
        errors = []
        if found != wanted:
            errors.append(
                f"missing {wanted.keys() - found.keys()}, too many {found.keys() - wanted.keys()}, or not equal"
            )
        if {name: orjson.loads(one.value) for name, one in self.told.items()} != wanted:
            errors.append("the topic holds others")
        if last.shards[TOPIC, 0].thresholds.to_json() != truth.shards[TOPIC, 0].thresholds.to_json():
            errors.append("another state")
        return errors


def alerts_of(elastic: FakeElastic) -> dict[str, Any]:
    return {identity: doc["_source"] for (index, identity), doc in elastic.docs.items() if "-alerts-" in index}


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL")


def test_no_schedule_gives_other_alerts() -> None:
    wrong = {seed: errors for seed in range(SCHEDULES) if (errors := World(seed).run())}
    assert not wrong, f"{len(wrong)} of {SCHEDULES} schedules; the first: {next(iter(wrong.items()))}"


def test_the_schedules_hold_alerts_of_every_kind() -> None:
    found = set()
    for seed in range(100):
        world = World(seed)
        world.run()
        found |= {(one["rule.id"], one["alert.state"]) for one in alerts_of(world.elastic).values()}
    wanted = {(limit, "ok") for limit in LIMITS} | {("cpu", "unknown"), ("cpu", "warning"), ("cpu", "critical")}
    assert wanted | {("often", "critical"), ("long", "warning"), ("fast", "warning"), ("disk", "critical")} <= found


# The model must be able to see each mechanism missing.


def test_the_model_sees_a_state_that_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(State, "to_json", lambda self: {})
    assert any(World(seed).run() for seed in range(50))


def test_the_model_sees_alerts_that_leave_before_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Engine._take

    def take(self: Engine, shard: Any, message: Message, batch: Any) -> None:
        original(self, shard, message, batch)
        for document in shard.alerts:
            self._alert_topic.send(engine_module.alerts.message(document))
        self._alert_topic.flush(lambda: None)
        shard.alerts = []

    monkeypatch.setattr(Engine, "_take", take)
    assert any(World(seed).run() for seed in range(50))
