"""What the commit record may forget of what was seen, and that it forgets nothing that could come again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from ezadmin_testing.fake_elastic import FakeElastic
from hypothesis import given
from hypothesis import strategies as st

from ezadmin_pipeline import epochs
from ezadmin_pipeline.directory import Directory
from ezadmin_pipeline.engine import Engine, Message
from ezadmin_pipeline.epochs import KEEP_DAYS, forgettable
from ezadmin_pipeline.settings import Settings
from ezadmin_wire import batch as wire
from ezadmin_wire.names import DAY_MS, Names
from ezadmin_wire.signing import SigningKey

SETTINGS = Settings(signatures="off")
TOPIC = SETTINGS.names.logs
HOST = "00000000-0000-4000-8000-00000000000a"
KEY = SigningKey.generate()
TODAY = datetime.now(UTC)


def day(ago: int) -> str:
    return (TODAY - timedelta(days=ago)).date().isoformat()


def test_only_what_cannot_come_again() -> None:
    used = {
        "a/logs/1": day(400),  # lost its spool long ago
        "a/logs/2": day(0),
        "a/metrics/1": day(400),  # the same host's other stream, silent
        "b/logs/1": day(KEEP_DAYS),
        "b/logs/2": day(0),
        "c/logs/1": day(400),  # silent
        "d/logs/1": day(400),  # silent and deleted
        "e/logs/1": day(5),  # deleted just now
        "f/logs/1": day(400),  # both of the same day: nobody knows which is the newer
        "f/logs/2": day(400),
    }
    found = forgettable(used, day(0), lambda host: host not in ("d", "e"))
    assert found == ["a/logs/1", "d/logs/1"]


def test_longer_than_kafka_keeps_anything() -> None:
    for topic in Names().topics():
        if topic.name in (Names().logs, Names().metrics):
            assert int(topic.settings["retention.ms"]) * 10 <= KEEP_DAYS * DAY_MS


@given(st.dictionaries(st.sampled_from([f"{h}/{s}/{e}" for h in "ab" for s in "lm" for e in "12"]), st.integers(0, 90)))
def test_the_newest_epoch_of_a_known_host_is_always_kept(ages: dict[str, int]) -> None:
    used = {name: day(age) for name, age in ages.items()}
    gone = set(forgettable(used, day(0), lambda host: True))
    for name in gone:
        stream = name.rpartition("/")[0]
        assert any(other not in gone and other.startswith(stream) for other in used)
        assert ages[name] > KEEP_DAYS


class Letters:
    def send(self, letter: Any) -> None:
        raise AssertionError(letter)

    def flush(self, keep_alive: Any) -> None:
        pass


class World:
    """Workers one after the other on one partition; the time of day is ours."""

    def __init__(self) -> None:
        self.elastic = FakeElastic()
        self.offset = 0
        self.today = TODAY
        self.start()

    def start(self) -> None:
        self.engine = Engine(
            SETTINGS,
            self.elastic,
            Letters(),
            Directory([]),
            alert_topic=Letters(),
            keep_alive=lambda: None,
            clock=lambda: 0.0,
            today=lambda: self.today,
            threads=0,
        )
        self.engine.assign(TOPIC, 0, "id", 0, self.offset)

    def send(self, epoch: str, seq: int = 0) -> None:
        moment = self.today.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        line = orjson.dumps({"@timestamp": moment, "event.created": moment, "event.dataset": "t", "log.level": "info"})
        headers, value = wire.encode(
            KEY, host=HOST, topic=TOPIC, stream="logs", epoch=epoch * 16, seq=seq, lines=[line], dataset="t",
            tmin=moment, tmax=moment, sent=moment,
        )  # fmt: skip
        self.engine.process(Message(TOPIC, 0, self.offset, HOST.encode(), headers, value))
        self.offset += 1
        assert self.engine.barrier({TOPIC: "id"})[1] == []

    def record(self) -> dict[str, Any]:
        _, answer = self.elastic.request("GET", f"/{SETTINGS.names.state_index}/_doc/{TOPIC}-0")
        return dict(answer["_source"])

    def epochs(self) -> set[str]:
        return {name[-1] for name in self.record()["seen"]}


def test_a_worker_forgets_what_a_new_epoch_has_replaced() -> None:
    world = World()
    world.send("a")
    assert world.record()["idle"] == {}
    world.today += timedelta(days=1)
    world.send("b")
    assert world.record()["idle"] == {f"{HOST}/logs/{'a' * 16}": day(0)}
    world.start()  # another worker takes over, and knows it from the record
    world.today += timedelta(days=KEEP_DAYS - 1)
    world.send("b", 1)
    assert world.epochs() == {"a", "b"}, "not yet"
    world.today += timedelta(days=1)
    world.send("b", 2)
    assert world.epochs() == {"b"}
    assert world.record()["idle"] == {}


def test_a_host_that_was_silent_for_a_year_sends_its_last_lines_again() -> None:
    world = World()
    world.send("a")
    world.today += timedelta(days=365)
    world.start()
    world.send("a")
    assert world.engine.resent == 1
    assert world.record()["seen"] == {f"{HOST}/logs/{'a' * 16}": [[0, 1]]}


def test_a_host_that_makes_epochs_up_does_not_fill_the_record(monkeypatch: Any) -> None:
    monkeypatch.setattr(epochs, "MOST", 3)
    world = World()
    for epoch in "abcde":
        world.send(epoch)
    assert world.epochs() == {"c", "d", "e"}
