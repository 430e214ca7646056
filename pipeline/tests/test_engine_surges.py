"""Surges in the engine: with rules, counts, dead letters, commit records and alerts around them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from ezadmin_testing.fake_elastic import FakeElastic

from ezadmin_pipeline import surges as surges_module
from ezadmin_pipeline.directory import Directory
from ezadmin_pipeline.engine import Engine, Message
from ezadmin_pipeline.settings import Settings, SurgeSettings
from ezadmin_pipeline.writer import Outgoing
from ezadmin_wire import batch as wire
from ezadmin_wire.config import Match, Rule, RulesRecord
from ezadmin_wire.signing import SigningKey

SETTINGS = Settings(signatures="off", surges=SurgeSettings(floor=50))
TOPIC = SETTINGS.names.logs
HOST = "00000000-0000-4000-8000-00000000000a"
KEY = SigningKey.generate()


@pytest.fixture(autouse=True)
def _no_new_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surges_module, "_NEW_HOST", 1)


class Writer:
    def __init__(self) -> None:
        self.sent: list[Outgoing] = []

    def send(self, message: Outgoing) -> None:
        self.sent.append(message)

    def flush(self, keep_alive: Callable[[], None]) -> None:
        pass


class World:
    """A partition; ``own`` gives it a new owner."""

    def __init__(self, *rules: Rule) -> None:
        self.elastic = FakeElastic()
        self.letters, self.alerts = Writer(), Writer()
        self.directory = Directory([])
        self.directory.rules = RulesRecord(list(rules))
        self.log: list[Message] = []
        self.seq = 0
        self.own()

    def own(self, settings: Settings = SETTINGS) -> None:
        self.engine = Engine(
            settings,
            self.elastic,
            self.letters,
            self.directory,
            alert_topic=self.alerts,
            keep_alive=lambda: None,
            clock=lambda: 0.0,
            today=lambda: datetime(2026, 11, 24, 12, 0, tzinfo=UTC),
            threads=0,
        )
        start = self.engine.assign(TOPIC, 0, "id", 0, len(self.log))
        for message in self.log[start:]:
            self.engine.process(message)

    def send(self, count: int, message: str, level: str = "info", minute: int = 0, **more: Any) -> None:
        moment = f"2026-11-24T10:{minute:02d}:00.000Z"
        common = {"@timestamp": moment, "event.created": moment, "event.dataset": "app", "log.level": level, **more}
        lines = [orjson.dumps({**common, "message": message.format(i=self.seq + i)}) for i in range(count)]
        headers, value = wire.encode(
            KEY, host=HOST, topic=TOPIC, stream="logs", epoch="0" * 16, seq=self.seq, lines=lines, dataset="app",
            tmin=moment, tmax=moment, sent=moment,
        )  # fmt: skip
        self.seq += count
        self.log.append(Message(TOPIC, 0, len(self.log), HOST.encode(), headers, value))
        self.engine.process(self.log[-1])

    def barrier(self) -> None:
        assert self.engine.barrier({TOPIC: "id"}) == ({(TOPIC, 0): len(self.log)}, [])

    def documents(self, part: str = "-logs-2") -> list[dict[str, Any]]:
        return [
            doc["_source"] for (index, _), doc in self.elastic.docs.items() if part in index and "rollup" not in index
        ]

    def counts(self, level: str = "info") -> dict[str, int]:
        (found,) = (
            {name.removeprefix("events."): value for name, value in source.items() if name.startswith("events.")}
            for (index, _), doc in self.elastic.docs.items()
            if "rollup-logs-1m" in index and (source := doc["_source"])["log.level"] == level
        )
        return found

    def counts_of_all(self) -> dict[str, dict[str, Any]]:
        return {identity: doc["_source"] for (index, identity), doc in self.elastic.docs.items() if "-rollup-" in index}

    def states(self) -> list[str]:
        """Of the alerts that stand in Elasticsearch; the topic may hold them more than once."""
        states = [document["alert.state"] for document in self.documents("-alerts-")]
        assert {orjson.loads(message.value)["alert.state"] for message in self.alerts.sent} == set(states)
        return states


def test_what_rules_leave_out_is_no_burden_and_what_they_exempt_is_stored() -> None:
    world = World(
        Rule("noise", "filter", Match(contains="noise")),
        Rule("orders", "exempt", Match(contains="order")),
    )
    world.send(400, "noise {i}")
    world.send(50, "quiet {i}")
    world.barrier()
    assert world.counts() | {"bytes": 0} == {
        "seen": 450, "stored": 50, "ignored": 400, "sampled": 0, "dead": 0, "bytes": 0
    }  # fmt: skip
    assert world.states() == []
    for _ in range(4):
        world.send(200, "quiet {i}")
        world.send(30, "order {i} placed")
    world.barrier()
    assert world.states() == ["warning"]
    stored = world.documents()
    assert sum(document["message"].startswith("order") for document in stored) == 120
    found = world.counts()
    assert found["sampled"] == world.engine.sampled > 600
    assert found["seen"] == 450 + 920
    assert found["stored"] == len(stored) == found["seen"] - 400 - found["sampled"]
    assert world.engine.surging == 1


def test_a_rule_that_raises_the_level_saves_events_from_a_surge() -> None:
    world = World(Rule("oom", "set_level", Match(contains="Out of memory"), {"level": "critical"}))
    for _ in range(5):
        world.send(200, "quiet {i}")
        world.send(10, "Out of memory: killed {i}")
    world.barrier()
    assert sum(document["log.level"] == "critical" for document in world.documents()) == 50


def test_dead_letters_in_a_surge_are_counted_as_dead() -> None:
    world = World()
    world.send(200, "quiet {i}")
    world.send(30, "bad {i}", poison="yes")
    world.barrier()
    found = world.counts()
    assert found["dead"] == len(world.letters.sent) >= surges_module.EXEMPLARS
    assert found["stored"] == len(world.documents()) == 230 - found["sampled"] - found["dead"]


def test_another_owner_goes_on_with_the_same_surge() -> None:
    one, chain = World(), World()
    for world in (one, chain):
        for minute in range(3):
            for _ in range(4):
                world.send(100, "quiet {i}", minute=minute)
                if world is chain:
                    world.own()  # what is not committed is done again
            world.barrier()
            if world is chain:
                world.own()
        world.send(1, "late", minute=20)
        world.barrier()
    assert one.states() == ["warning", "ok"]
    assert {message.value for message in one.alerts.sent} == {message.value for message in chain.alerts.sent}
    assert one.documents() == chain.documents()
    assert [one.counts_of_all(), one.documents("-alerts-")] == [chain.counts_of_all(), chain.documents("-alerts-")]


def test_to_turn_surges_off_ends_those_that_are_open() -> None:
    world = World()
    world.send(200, "quiet {i}")
    world.barrier()
    world.own(replace(SETTINGS, surges=SurgeSettings(on=False)))
    assert world.engine.dirty
    for _ in range(3):
        world.send(200, "quiet {i}")
    world.barrier()
    assert world.states() == ["warning", "ok"]
    assert world.counts()["stored"] == len(world.documents()) > 600
    world.own(replace(SETTINGS, surges=SurgeSettings(on=False)))
    assert not world.engine.shards[TOPIC, 0].changed, "told once"
