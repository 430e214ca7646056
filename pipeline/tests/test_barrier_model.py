"""Random schedules of everything that can happen around the barrier, on the engine itself: kills between any two writes,
answers that are lost, second owners, re-sends cut differently, topics made anew, labels and rules changing.

At the end of each schedule one quiet owner reads the rest, and Elasticsearch must hold exactly the lines that were sent,
the rollups exactly their counts, the dead letters exactly the lines that are to blame. What rules leave out is counted as
the attempt decided that was committed; of such lines those may stand in Elasticsearch that an attempt before it stored.
So it is with what a surge withholds; but in the steady half of the schedules, in which rules and topic stay what they are,
every attempt must decide of every line as one owner does that nothing ever disturbs.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from ezadmin_testing.fake_elastic import FakeElastic, Killed, Unavailable

from ezadmin_pipeline import alerts, rollups
from ezadmin_pipeline import engine as engine_module
from ezadmin_pipeline import surges as surges_module
from ezadmin_pipeline.directory import Directory
from ezadmin_pipeline.engine import Engine, Message
from ezadmin_pipeline.ranges import Ranges
from ezadmin_pipeline.rollups import Counts
from ezadmin_pipeline.settings import Settings, SurgeSettings
from ezadmin_pipeline.surges import Surges
from ezadmin_pipeline.writer import Outgoing
from ezadmin_wire import batch as wire
from ezadmin_wire.config import HostRecord, Match, Rule, RulesRecord
from ezadmin_wire.ids import event_id, event_id_prefix
from ezadmin_wire.signing import SigningKey

SCHEDULES = int(os.environ.get("EZADMIN_MODEL_SCHEDULES", "4000" if os.environ.get("EZADMIN_FULL") else "400"))
"""Each mistake that the tests at the end make on purpose is found within 400."""
HOSTS = ["00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"]
LEVELS = ["info", "error"]
MINUTES = ["2026-11-24T10:00", "2026-11-24T10:01", "2026-11-24T11:59"]
TODAY = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
KEY = SigningKey.generate()
SETTINGS = Settings(signatures="off", bulk_bytes=600, retry_past_index=60, surges=SurgeSettings(floor=2, factor=2))
TOPIC = SETTINGS.names.logs
NOISE = {"a": 0.2, "b": 0.3, "loud": 0.35, "always": 0.4}
"""Kinds of lines that rules are for (ignored by some revisions, changed by some, always ignored), by their share."""
RULES = {
    "a": Rule("drop-a", "filter", Match(fields={"noise": "a"})),
    "b": Rule("drop-b", "ignore", Match(fields={"noise": "b"}, levels=["info"]), {}, MINUTES[-1] + ":00.000Z"),
    "keep": Rule("keep", "exempt", Match(levels=["error"])),
    "loud": Rule("loud", "set_level", Match(fields={"noise": "loud"}), {"level": "critical"}),
}


def random_rules(rng: random.Random) -> RulesRecord:
    """A revision of the rules: any of RULES in any order, after the one that is always there."""
    chosen = rng.sample(sorted(RULES), rng.randint(0, len(RULES)))
    return RulesRecord([Rule("always", "filter", Match(fields={"noise": "always"})), *(RULES[name] for name in chosen)])


class Letters:
    """Dead letters or alerts that are safe once flushed; a kill in between loses those that were not."""

    def __init__(self, kept: dict[str, Outgoing], fault: Callable[[str], str | None]) -> None:
        self.kept = kept
        self.fault = fault
        self.waiting: list[Outgoing] = []

    def send(self, letter: Outgoing) -> None:
        self.waiting.append(letter)

    def flush(self, keep_alive: Callable[[], None]) -> None:
        for letter in self.waiting:
            self.fault("letter")
            self.kept[dict(letter.headers)["id"].decode()] = letter
        self.waiting = []


class Host:
    """An agent: numbers lines, sends batches, and sends again what it got no acknowledgement for."""

    def __init__(self, host_id: str) -> None:
        self.id = host_id
        self.epoch = f"{int(host_id[-1], 16):016x}"
        self.next = 0
        self.unacked: list[bytes] = []
        self.first_unacked = 0

    def write(self, rng: random.Random, sent: dict[str, tuple[str, str, str, str]]) -> None:
        for _ in range(rng.randint(1, 4)):
            level, minute, fate = rng.choice(LEVELS), rng.choice(MINUTES), rng.random()
            seconds = f"{rng.randint(0, 59):02d}"
            fields = {
                "@timestamp": f"{minute}:{seconds}.000Z",
                "event.created": f"{minute}:{seconds}.000Z",
                "event.dataset": "test",
                "log.level": level,
                "message": f"{rng.choice(['', 'no '])}answer from node {self.next}",
            }
            kind = "stored"
            identity = event_id(event_id_prefix(self.id, "logs", self.epoch), self.next)
            fields["id"] = identity
            if fate < 0.04:
                fields["number"] = "not a number"  # moved to unmapped, stored
            elif fate < 0.08:
                fields["poison"], kind = "yes", "dead"
            line = orjson.dumps(fields)
            if 0.08 <= fate < 0.1:
                line, kind = line[:-1] + b',"host":{"id":"x"}}', "dead"
            if 0.1 <= fate < max(NOISE.values()):
                kind = next(noise for noise, upto in NOISE.items() if fate < upto)
                line = orjson.dumps({**fields, "noise": kind})
            self.unacked.append(line)
            sent[identity] = (self.id, minute, level, kind)
            self.next += 1

    def batch(self, start: int, end: int) -> tuple[list[tuple[str, bytes]], bytes]:
        return wire.encode(
            KEY,
            host=self.id,
            topic=TOPIC,
            stream="logs",
            epoch=self.epoch,
            seq=self.first_unacked + start,
            lines=self.unacked[start:end],
            dataset="test",
            tmin=MINUTES[0] + ":00.000Z",
            tmax=MINUTES[-1] + ":59.000Z",
            sent="2026-11-24T12:00:00.000Z",
        )


class World:
    """Kafka's one partition, Elasticsearch, agents and owners, all driven by one random generator."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.armed = True
        self.elastic = FakeElastic(self._fault)
        self.topic_id = "topic-0"
        self.log: list[tuple[bytes, list[tuple[str, bytes]], bytes]] = []
        self.hosts = [Host(host) for host in HOSTS]
        self.sent: dict[str, tuple[str, str, str, str]] = {}
        self.letters: dict[str, Outgoing] = {}
        self.told: dict[str, Outgoing] = {}
        self.owners: list[Engine] = []
        self.time = 0.0
        self.labels = 0
        self.rules = random_rules(self.rng)
        self.steady = self.rng.random() < 0.5

    def _fault(self, kind: str) -> str | None:
        if not self.armed:
            return None
        roll = self.rng.random()
        if roll < {"request": 0.02, "item": 0.015, "answer": 0.03, "letter": 0.05}[kind]:
            raise Killed
        if kind == "item":
            return "429" if roll > 0.97 else None
        if kind in ("request", "answer") and roll > 0.97:
            raise Unavailable(kind)
        return None

    def _tick(self) -> None:
        self.time += 1.0

    def new_owner(self) -> None:
        directory = Directory([])
        labels = {"generation": str(self.labels)}
        for host in HOSTS:
            directory._hosts[host] = engine_module_host(host, labels)
        directory.rules = self.rules
        letters = Letters(self.letters, self._fault)
        owner = Engine(
            SETTINGS,
            self.elastic,
            letters,
            directory,
            alert_topic=Letters(self.told, self._fault),
            keep_alive=self._tick,
            clock=lambda: self.time,
            today=lambda: TODAY,
            threads=0,
        )
        keep_book(owner)
        self.owners.append(owner)

    def turn(self, owner: Engine) -> None:
        """One step of an owner, as the worker does it."""
        if self.rng.random() < 0.5:  # else it has not heard of the newest rules yet
            owner._directory.rules = self.rules
        if not owner.shards:
            owner.assign(TOPIC, 0, self.topic_id, 0, len(self.log))
        shard = owner.shards[TOPIC, 0]
        step = self.rng.random()
        if step < 0.65:
            for offset in range(shard.next, min(len(self.log), shard.next + self.rng.randint(1, 4))):
                key, headers, value = self.log[offset]
                owner.process(Message(TOPIC, 0, offset, key, headers, value))
        elif step < 0.75:
            owner.pump()
        else:
            _, lost = owner.barrier({TOPIC: self.topic_id})
            for place in lost:
                owner.drop(*place)

    def step(self) -> None:
        roll = self.rng.random()
        if roll < 0.35:
            self.send(self.rng.choice(self.hosts))
        elif roll < 0.39 or not self.owners:
            self.new_owner()
        elif roll < 0.41:
            self.labels += 1
        elif roll < 0.46 and not self.steady:
            self.rules = random_rules(self.rng)
        elif roll < 0.48 and not self.steady:
            self.make_topic_anew()
        else:
            owner = self.rng.choice(self.owners)
            try:
                self.turn(owner)
            except Unavailable:
                owner.drop(TOPIC, 0)
            except Killed:
                self.owners.remove(owner)

    def send(self, host: Host) -> None:
        host.write(self.rng, self.sent)
        start = 0
        while start < len(host.unacked):
            end = min(len(host.unacked), start + self.rng.randint(1, 3))
            self.log.append((host.id.encode(), *host.batch(start, end)))
            start = end
        if self.rng.random() < 0.7:  # else the acknowledgement is lost, and all of it is sent again later
            host.first_unacked += len(host.unacked)
            host.unacked = []

    def committed(self) -> int:
        record = self.elastic.docs.get((SETTINGS.names.state_index, f"{TOPIC}-0"))
        if record is None or record["_source"]["topic_id"] != self.topic_id:
            return 0
        return int(record["_source"]["upto"])

    def make_topic_anew(self) -> None:
        # what nobody had read is lost with a topic, whatever a reader does: only a topic read to its end is deleted here
        if self.log and self.committed() == len(self.log):
            self.topic_id = f"topic-{self.rng.random()}"
            self.log = []

    def finish(self) -> None:
        """Everybody dies; one quiet owner reads the rest."""
        self.armed = False
        for host in self.hosts:
            self.log += [(host.id.encode(), *host.batch(0, len(host.unacked)))] if host.unacked else []
        self.new_owner()
        owner = self.owners[-1]
        owner.assign(TOPIC, 0, self.topic_id, 0, len(self.log))
        for offset in range(owner.shards[TOPIC, 0].next, len(self.log)):
            owner.process(Message(TOPIC, 0, offset, *self.log[offset]))
        _, lost = owner.barrier({TOPIC: self.topic_id})
        assert not lost
        assert not owner.dirty

    def undisturbed(self) -> World:
        """What one quiet owner makes of the same topic."""
        other = World(0)
        other.armed = False
        other.topic_id, other.log, other.rules, other.labels = self.topic_id, self.log, self.rules, self.labels
        other.sent, other.hosts = self.sent, []
        other.finish()
        return other

    def surges(self) -> dict[str, tuple[Any, ...]]:
        """Alerts of surges by their ids: state, events seen and withheld."""
        return {
            identity: (doc["_source"]["alert.state"], doc["_source"]["surge.seen"], doc["_source"]["surge.withheld"])
            for (index, identity), doc in self.elastic.docs.items()
            if "-alerts-" in index and doc["_source"]["alert.item"] in ("test/info", "test/error")
        }

    def fates(self) -> dict[str, str]:
        """What was decided of each line, by the attempt that was committed."""
        committed = (
            self.elastic.docs[SETTINGS.names.state_index, f"{TOPIC}-0"]["_source"]["exemplars"]["book"]
            if self.sent
            else {}
        )
        fates = {}
        for identity, (_, _, level, kind) in self.sent.items():
            fate = fates[identity] = committed.get(identity, "dead") if kind == "dead" else committed[identity]
            if kind == "dead" and fate == "stored":
                fates[identity] = "dead"  # Elasticsearch found that out
            assert kind not in ("stored", "loud") or fate in ("stored", "sampled")
            assert kind != "always" or fate == "ignored"
            assert kind != "b" or level == "info" or fate in ("stored", "sampled")
        return fates

    def errors(self) -> list[str]:
        found = []
        names = SETTINGS.names
        stored = {identity for index, identity in self.elastic.docs if index == names.logs_index(MINUTES[0])}
        fates = self.fates()
        expected = {identity for identity, fate in fates.items() if fate == "stored"}
        # what an attempt that was not committed stored and the committed one ignored
        other = {identity for identity, (_, _, _, kind) in self.sent.items() if kind in ("a", "b")}
        other |= {identity for identity, fate in fates.items() if fate == "sampled"}
        if self.steady:
            other = set()
            quiet = self.undisturbed()
            if fates != quiet.fates():
                found.append("what was decided depends on who decided")
            if self.surges() != quiet.surges():
                found.append(f"surges differ: {self.surges()}, without faults {quiet.surges()}")
        if not expected <= stored <= expected | other:
            found.append(f"missing {len(expected - stored)}, too many {len(stored - expected - other)}")
        dead = {identity for identity, fate in fates.items() if fate == "dead"}
        if not dead <= set(self.letters) <= dead | other:
            found.append(f"dead letters: missing {len(dead - set(self.letters))}, other {set(self.letters) - dead}")
        truth: Counter[tuple[str, ...]] = Counter()
        for identity, (host, minute, level, _) in self.sent.items():
            for key in rollups.keys_of(minute, host, "test", level):
                truth[(*key[:3], level, "seen")] += 1
                truth[(*key[:3], level, fates[identity])] += 1
        counted: Counter[tuple[str, ...]] = Counter()
        for (index, _), doc in self.elastic.docs.items():
            if "-rollup-" not in index:
                continue
            source: dict[str, Any] = doc["_source"]
            place = (source["rollup"], source["@timestamp"][:16], source.get("host.id", ""), source["log.level"])
            for value in ("seen", "stored", "ignored", "sampled", "dead"):
                counted[(*place, value)] += source[f"events.{value}"]
        if +counted != truth:
            found.append(f"counts differ: {(+counted) - truth} too many, {truth - (+counted)} missing")
        loud = {
            alerts.identity(loud_alert(host, identity))
            for identity, (host, _, _, kind) in self.sent.items()
            if kind == "loud"
        }
        loud |= self.surges().keys()
        stored = {identity for index, identity in self.elastic.docs if "-alerts-" in index}
        if stored != loud:
            found.append(f"alerts stored: {len(loud - stored)} missing, {len(stored - loud)} too many")
        if set(self.told) != loud:
            found.append(f"alerts told: {len(loud - set(self.told))} missing, {len(set(self.told) - loud)} too many")
        return found


def loud_alert(host: str, identity: str) -> dict[str, Any]:
    """An alert of one line."""
    return alerts.surge_alert(
        host, {}, time=f"{MINUTES[0]}:00.000Z", item=identity, state="warning", previous="ok", reason="loud", message=""
    )


def keep_book(owner: Engine) -> None:
    """Let the commit records of ``owner`` say what was decided of each line."""
    decided: dict[Any, dict[str, str]] = {}
    count, next_record = owner._count, owner._next_record

    def counting(shard: Any, batch: Any, chunk: Any) -> None:
        count(shard, batch, chunk)
        book = decided.setdefault(shard, dict(shard.record.exemplars.get("book", {})))
        for tags, fate in ((chunk.tags, "stored"), (chunk.ignored, "ignored"), (chunk.sampled, "sampled")):
            book.update({orjson.loads(raw)["id"]: fate for _, _, raw in tags})
        # what changes its state with the loud lines
        for _, _, raw in (*chunk.tags, *chunk.ignored, *chunk.sampled):
            line = orjson.loads(raw)
            if line.get("noise") == "loud":
                shard.alerts.append(loud_alert(batch.host, line["id"]))

    def recording(shard: Any) -> Any:
        record = next_record(shard)
        book = decided.get(shard, shard.record.exemplars.get("book", {}))
        record.exemplars = {**record.exemplars, "book": dict(book)}
        return record

    owner._count, owner._next_record = counting, recording  # type: ignore[method-assign]


def engine_module_host(host: str, labels: dict[str, str]) -> Any:
    from ezadmin_pipeline.directory import Host as DirectoryHost

    return DirectoryHost(host, HostRecord(name=f"host-{host[-1]}", labels=labels))


def run(seed: int) -> list[str]:
    world = World(seed)
    for _ in range(world.rng.randint(10, 70)):
        world.step()
    world.finish()
    return world.errors()


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level("CRITICAL")
    # so that some lines make a surge
    for name in ("_NEW_HOST", "_ERROR_FLOOR", "EXEMPLARS"):
        monkeypatch.setattr(surges_module, name, 1)


def test_no_schedule_gives_a_wrong_count() -> None:
    wrong = {seed: errors for seed in range(SCHEDULES) if (errors := run(seed))}
    assert not wrong, f"{len(wrong)} of {SCHEDULES} schedules; the first: {next(iter(wrong.items()))}"


def test_the_schedules_hold_lines_that_were_decided_twice() -> None:
    stored_and_ignored = 0
    for seed in range(120):
        world = World(seed)
        for _ in range(world.rng.randint(10, 70)):
            world.step()
        world.finish()
        documents = {identity for index, identity in world.elastic.docs if "-logs-2" in index}
        stored_and_ignored += sum(
            fate == "ignored" and identity in documents for identity, fate in world.fates().items()
        )
    assert stored_and_ignored > 4


def test_the_schedules_hold_surges() -> None:
    fates: Counter[str] = Counter()
    states: Counter[str] = Counter()
    for seed in range(100):
        world = World(seed)
        for _ in range(world.rng.randint(10, 70)):
            world.step()
        world.finish()
        fates.update(world.fates().values())
        states.update(state for state, _, _ in world.surges().values())
    assert fates["sampled"] > fates["stored"] / 20, fates
    assert min(states["warning"], states["ok"]) > 20, states


# The model must be able to see each mechanism missing.


def test_the_model_sees_surges_that_are_not_in_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Surges, "_load", lambda self, state, exemplars: None)
    assert any(run(seed) for seed in range(100))


def test_the_model_sees_exemplars_that_are_not_in_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Surges._load
    monkeypatch.setattr(Surges, "_load", lambda self, state, exemplars: original(self, state, {}))
    assert any(run(seed) for seed in range(400))


def test_the_model_sees_withheld_lines_that_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Counts.add

    def add(self: Counts, other: Counts) -> None:
        original(self, other)
        self.sampled -= other.sampled

    monkeypatch.setattr(Counts, "add", add)
    assert any(run(seed) for seed in range(100))


def test_the_model_sees_ignored_lines_that_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Engine._add

    def add(self: Engine, shard: Any, batch: Any, tally: Any, ignored: bool) -> None:
        original(self, shard, batch, tally, ignored=False)

    monkeypatch.setattr(Engine, "_add", add)
    assert any(run(seed) for seed in range(100))


def test_the_model_sees_missing_seq_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ranges, "missing", lambda self, start, end: [(start, end)])
    assert any(run(seed) for seed in range(200))


def test_the_model_sees_commits_that_do_not_form_a_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeElastic, "ignore_seq_no", True, raising=False)
    original = FakeElastic.__init__

    def init(self: FakeElastic, *arguments: Any) -> None:
        original(self, *arguments)
        self.ignore_seq_no = True

    monkeypatch.setattr(FakeElastic, "__init__", init)
    assert any(run(seed) for seed in range(400))


def test_the_model_sees_rollups_that_are_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    original = engine_module.Shard.__init__

    def init(self: engine_module.Shard, *arguments: Any) -> None:
        original(self, *arguments)
        self.unwritten = []

    monkeypatch.setattr(engine_module.Shard, "__init__", init)
    assert any(run(seed) for seed in range(400))


def test_the_model_sees_alerts_that_are_not_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    original = engine_module.Shard.__init__

    def init(self: engine_module.Shard, *arguments: Any) -> None:
        original(self, *arguments)
        self.untold = []

    monkeypatch.setattr(engine_module.Shard, "__init__", init)
    assert any(run(seed) for seed in range(400))


def test_the_model_sees_a_commit_before_its_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    from ezadmin_pipeline.indexer import Indexer

    monkeypatch.setattr(Indexer, "drain", lambda self, keep_alive: None)
    monkeypatch.setattr(
        engine_module.Shard, "outstanding", property(lambda self: 0, lambda self, value: None), raising=False
    )
    assert any(run(seed) for seed in range(400))
