"""What the random schedules do not do: rollup documents and alerts that Elasticsearch will never take, or takes later."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from ezadmin_testing.fake_elastic import FakeElastic

from ezadmin_pipeline import alerts
from ezadmin_pipeline import engine as engine_module
from ezadmin_pipeline.directory import Directory
from ezadmin_pipeline.elastic import SignInRefused
from ezadmin_pipeline.engine import Defect, Engine, Message
from ezadmin_pipeline.settings import Settings
from ezadmin_pipeline.writer import Outgoing
from ezadmin_wire import batch as wire
from ezadmin_wire.signing import SigningKey

SETTINGS = Settings(signatures="off", retry_past_index=60)
TOPIC = SETTINGS.names.logs
HOST = "00000000-0000-4000-8000-00000000000a"
KEY = SigningKey.generate()


class Letters:
    def __init__(self) -> None:
        self.sent: list[Outgoing] = []

    def send(self, letter: Outgoing) -> None:
        self.sent.append(letter)

    def flush(self, keep_alive: Callable[[], None]) -> None:
        pass


class Refusing(FakeElastic):
    """Refuses rollup documents (or what else ``part`` says) with one error, as long as there is one."""

    error: dict[str, Any] | None = None
    part = "-rollup-"

    def _write(self, verb: str, target: dict[str, Any], source: dict[str, Any]) -> dict[str, Any]:
        if self.error is not None and self.part in target["_index"]:
            return self.error
        return super()._write(verb, target, source)


class World:
    def __init__(self) -> None:
        self.elastic = Refusing()
        self.letters = Letters()
        self.alerts = Letters()
        self.time = 0.0
        self.today = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
        self.engine = Engine(
            SETTINGS,
            self.elastic,
            self.letters,
            Directory([]),
            alert_topic=self.alerts,
            keep_alive=lambda: None,
            clock=lambda: self.time,
            today=lambda: self.today,
            threads=0,
        )
        self.engine.assign(TOPIC, 0, "id", 0, 0)
        self.offset = 0

    def send(self) -> None:
        moment = "2026-11-24T10:00:00.000Z"
        line = orjson.dumps(
            {"@timestamp": moment, "event.created": moment, "event.dataset": "test", "log.level": "info"}
        )
        headers, value = wire.encode(
            KEY, host=HOST, topic=TOPIC, stream="logs", epoch="0" * 16, seq=self.offset, lines=[line], dataset="test",
            tmin=moment, tmax=moment, sent=moment,
        )  # fmt: skip
        self.engine.process(Message(TOPIC, 0, self.offset, HOST.encode(), headers, value))
        self.offset += 1

    def alert(self, time: str = "2026-11-24T10:00:00.000Z") -> str:
        document = alerts.surge_alert(
            HOST, {"host.name": "web-1"}, time=time, item="test/error", state="warning", previous="ok", reason="surge",
            message="many",
        )  # fmt: skip
        self.engine.shards[TOPIC, 0].alerts.append(document)
        return alerts.identity(document)

    def stored_alerts(self) -> set[str]:
        return {identity for index, identity in self.elastic.docs if "-alerts-" in index}

    def told(self) -> list[bytes]:
        return [dict(message.headers)["id"] for message in self.alerts.sent]

    def barrier(self) -> dict[tuple[str, int], int]:
        return self.engine.barrier({TOPIC: "id"})[0]


@pytest.fixture
def world() -> World:
    return World()


def test_a_rollup_that_is_never_taken_becomes_a_letter_and_blocks_nothing(world: World) -> None:
    world.elastic.error = {"status": 400, "error": {"type": "document_parsing_exception", "reason": "NUL in a label"}}
    world.send()
    assert world.barrier() == {(TOPIC, 0): 1}
    kinds = {dict(letter.headers)["kind"] for letter in world.letters.sent}
    assert (kinds, len(world.letters.sent)) == ({b"rollup"}, 3)
    world.send()
    assert world.barrier() == {(TOPIC, 0): 2}, "the partition goes on"


def test_a_rollup_that_is_refused_now_waits_and_holds_the_next_commit_back(world: World) -> None:
    world.elastic.error = {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "busy"}}
    world.send()
    assert world.barrier() == {}, "committed, but its counts do not stand yet"
    world.send()
    world.time = 1000.0
    assert world.barrier() == {}
    assert world.letters.sent == [], "today's index is waited for, for ever"
    world.elastic.error = None
    assert world.barrier() == {(TOPIC, 0): 2}


def test_midnight_begins_the_time_of_an_index_that_was_todays(world: World) -> None:
    world.elastic.error = {"status": 400, "error": {"type": "index_closed_exception", "reason": "closed"}}
    world.send()
    world.barrier()
    world.time = 1000.0
    world.barrier()
    world.today = datetime(2026, 12, 1, 0, 0, tzinfo=UTC)
    world.time = 1030.0
    world.barrier()
    assert world.letters.sent == []
    world.time = 1061.0
    world.barrier()
    assert len(world.letters.sent) == 3


def test_an_alert_is_committed_stored_and_told_also_without_a_message(world: World) -> None:
    identity = world.alert()
    assert world.engine.dirty
    assert world.alerts.sent == []
    world.barrier()
    assert world.stored_alerts() == {identity}
    assert world.told() == [identity.encode()]
    assert world.alerts.sent[0].key == HOST.encode()
    assert not world.engine.dirty
    world.send()
    world.barrier()
    assert len(world.alerts.sent) == 1, "the next commit has none"


def test_the_next_owner_writes_the_alerts_of_the_last_commit_again(world: World) -> None:
    identity = world.alert()
    world.barrier()
    world.elastic.docs = {place: doc for place, doc in world.elastic.docs.items() if "-alerts-" not in place[0]}
    world.engine.assign(TOPIC, 0, "id", 0, 0)
    assert world.engine.dirty
    assert world.stored_alerts() == {identity}
    world.barrier()
    assert world.told() == [identity.encode()] * 2, "told again under the same id"
    assert not world.engine.dirty


def test_an_alert_that_is_refused_now_waits_and_holds_the_next_commit_back(world: World) -> None:
    world.elastic.part = "-alerts-"
    world.elastic.error = {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "busy"}}
    identity = world.alert()
    world.send()
    assert world.barrier() == {}
    world.time = 1000.0
    world.send()
    assert world.barrier() == {}
    assert world.letters.sent == [], "this month's index is waited for, for ever"
    world.elastic.error = None
    assert world.barrier() == {(TOPIC, 0): 2}
    assert world.stored_alerts() == {identity}
    assert len(world.told()) == 1


def test_an_alert_of_a_closed_past_month_becomes_a_letter(world: World) -> None:
    world.elastic.part = "-alerts-"
    world.elastic.error = {"status": 400, "error": {"type": "index_closed_exception", "reason": "closed"}}
    identity = world.alert("2026-10-31T23:59:59.000Z")
    world.send()
    assert world.barrier() == {}
    world.time = 61.0
    assert world.barrier() == {(TOPIC, 0): 1}
    headers = dict(world.letters.sent[0].headers)
    assert (headers["kind"], headers["id"]) == (b"alert", identity.encode())
    assert headers["index"] == b"ezadmin-alerts-2026.10"
    assert world.told() == [identity.encode()], "people hear of it all the same"


def test_a_message_with_other_levels_than_it_says_is_a_letter_and_takes_nothing(world: World) -> None:
    def message(levels: bytes, level: str = "info") -> Message:
        moment = "2026-11-24T10:00:00.000Z"
        line = orjson.dumps(
            {"@timestamp": moment, "event.created": moment, "event.dataset": "test", "log.level": level}
        )
        headers, value = wire.encode(
            KEY, host=HOST, topic=TOPIC, stream="logs", epoch="0" * 16, seq=0, lines=[line] * 3, dataset="test",
            tmin=moment, tmax=moment, sent=moment,
        )  # fmt: skip
        headers = [(name, levels if name == "levels" else data) for name, data in headers]
        world.offset += 1
        return Message(TOPIC, 0, world.offset - 1, HOST.encode(), headers, value)

    for levels in (b"error=3", b"info=2", b"error=1,info=2", b"info=3,unknown=1"):
        world.engine.process(message(levels))
    world.engine.process(message(b"info=3", "x\\u0079"))  # unknown is what it counts as
    assert [dict(letter.headers)["reason"] for letter in world.letters.sent] == [b"wrong_levels"] * 5
    assert world.engine.lines == world.engine.resent == 0
    world.engine.process(message(b"info=3"))
    assert world.engine.lines == 3, "its numbers were not taken by the bad ones"
    assert world.barrier() == {(TOPIC, 0): 6}


def test_an_error_of_ours_stops_no_worker_and_the_message_is_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.send()
    world.barrier()
    real = world.engine._count

    def broken(shard: Any, batch: wire.Batch, chunk: Any) -> None:
        real(shard, batch, chunk)  # decided in part
        if batch.seq == 1:
            raise IndexError("overlooked")

    monkeypatch.setattr(world.engine, "_count", broken)
    with pytest.raises(Defect):
        world.send()
    world.engine.assign(TOPIC, 0, "id", 0, 2)
    world.offset = 1
    world.send()
    world.send()
    assert world.barrier() == {(TOPIC, 0): 3}
    (letter,) = world.letters.sent
    assert dict(letter.headers)["reason"] == b"defect"
    seen = [doc["_source"]["events.seen"] for (index, _), doc in world.elastic.docs.items() if "-fleet-1h-" in index]
    assert seen == [2], "what was decided of it in part is forgotten"


@pytest.mark.parametrize("part", ["-rollup-", "-alerts-"])
def test_without_the_right_to_write_it_stops(world: World, part: str) -> None:
    world.elastic.error = {"status": 403, "error": {"type": "security_exception", "reason": "unauthorized"}}
    world.elastic.part = part
    world.alert()
    world.send()
    with pytest.raises(SignInRefused):
        world.barrier()
    assert world.letters.sent == []


def test_much_to_count_asks_for_a_commit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_MANY_COUNTS", 3)
    assert not world.engine.many
    world.send()
    assert world.engine.many
    world.barrier()
    assert not world.engine.many
