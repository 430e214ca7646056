"""A part's own lines: numbered without gaps, bounded, never waited for, never about themselves."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import Any

import pytest

from ezadmin_wire import WireError, batch
from ezadmin_wire.ids import is_host_id
from ezadmin_wire.names import Names
from ezadmin_wire.own import MAX_WAITING, MEMORY, EventHandler, Identity, Line, OwnProducer
from ezadmin_wire.signing import SigningKey, VerifyKey
from ezadmin_wire.state import decode as decode_state
from ezadmin_wire.times import now

NAMES = Names("t")


@pytest.fixture
def identity(tmp_path: Any) -> Identity:
    SigningKey.generate().save(tmp_path / "own.key")
    return Identity.load(tmp_path / "own.key")


class Broker:
    """Takes batches; ``away`` makes it refuse."""

    def __init__(self) -> None:
        self.away = False
        self.lose_acknowledgement = False
        self.sent: list[tuple[str, bytes, list[tuple[str, bytes]], bytes]] = []

    def connect(self, **options: Any) -> Broker:
        if self.away:
            raise OSError("away")
        return self

    def send(self, topic: str, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> Broker:
        self.sent.append((topic, key, headers, value))
        return self

    def get(self, timeout: float) -> None:
        if self.lose_acknowledgement:
            self.lose_acknowledgement = False
            raise OSError("no answer")

    def close(self, timeout: float) -> None:
        pass


def line(number: int, topic: str = "logs", dataset: str = "d") -> Line:
    return Line(topic, dataset, now(), json.dumps({"n": number, "log.level": "error"}, separators=(",", ":")).encode())


def wait(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_who_it_is_follows_from_the_key(identity: Identity, tmp_path: Any) -> None:
    assert is_host_id(identity.host_id)
    assert Identity.load(tmp_path / "own.key").host_id == identity.host_id
    given = "00000000-0000-4000-8000-00000000000a"
    assert Identity.load(tmp_path / "own.key", given).host_id == given
    with pytest.raises(WireError, match="host_id"):
        Identity.load(tmp_path / "own.key", "me")


def test_lines_are_numbered_without_gaps_and_come_again_under_their_numbers(identity: Identity) -> None:
    broker = Broker()
    broker.lose_acknowledgement = True
    own = OwnProducer(identity, NAMES, "1", broker.connect, lambda: True)
    for number in range(450):
        own.put(line(number))
    own.put(line(450, dataset="e"))
    own.metrics("m", {"x": 1})
    own.start()
    wait(lambda: own.sent == 453)  # and one status
    own.stop()
    found: dict[str, dict[int, bytes]] = {}
    for topic, key, headers, value in broker.sent:
        decoded = batch.decode(topic, key, headers, value, lambda host, kid: VerifyKey(identity.key.public))
        assert decoded.stream.startswith(MEMORY)
        for i, data in enumerate(decoded.lines()):
            assert found.setdefault(topic, {}).setdefault(decoded.seq + i, data) == data
    assert [json.loads(found["t.logs"][i])["n"] for i in range(451)] == list(range(451))
    assert sorted(found["t.logs"]) == list(range(451))
    assert json.loads(found["t.metrics"][0])["x"] == 1
    assert decode_state(found["t.state"][0]).version == "1"  # type: ignore[union-attr]
    assert own.dropped == 0


def test_with_kafka_away_the_newest_are_dropped_and_nobody_waits(identity: Identity) -> None:
    broker = Broker()
    broker.away = True
    own = OwnProducer(identity, NAMES, "1", broker.connect, lambda: True)
    own.start()
    start = time.monotonic()
    for number in range(MAX_WAITING + 100):
        own.put(line(number))
    assert time.monotonic() - start < 1.0
    wait(lambda: own.dropped >= 100)
    start = time.monotonic()
    own.stop(1.0)
    assert time.monotonic() - start < 3.0


def test_nothing_is_sent_before_the_key_is_known(identity: Identity) -> None:
    broker, known = Broker(), threading.Event()
    own = OwnProducer(identity, NAMES, "1", broker.connect, known.is_set)
    own.put(line(0))
    own.start()
    time.sleep(1.2)
    assert broker.sent == []
    known.set()
    wait(lambda: own.sent == 2)
    own.stop()


def handler_of(identity: Identity) -> tuple[OwnProducer, logging.Logger]:
    own = OwnProducer(identity, NAMES, "1", Broker().connect, lambda: True)
    logger = logging.getLogger("ezadmin_test.part")
    logger.handlers = [EventHandler(own, "test.log", "test", ("ezadmin_test", "ezadmin_wire"))]
    logger.propagate = False
    return own, logger


def events(own: OwnProducer) -> list[dict[str, Any]]:
    return [json.loads(waiting.data) for waiting in own._waiting]


def test_warnings_become_events(identity: Identity) -> None:
    own, logger = handler_of(identity)
    logger.info("nothing")
    logger.warning("disk %s full", "a", extra={"fields": {"error.type": "full", "disk": 7}})
    try:
        raise ValueError("v\ud800")
    except ValueError:
        logger.exception("failed")
    first, second = events(own)
    assert first["message"] == "disk a full"
    assert (first["log.level"], first["event.dataset"], first["error.type"]) == ("warning", "test.log", "full")
    assert first["fields"] == {"disk": "7"}
    assert second["error.type"] == "ValueError"
    assert "raise ValueError" in second["error.stack_trace"]


def test_the_same_again_and_again_is_one_event_that_counts(identity: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    own, logger = handler_of(identity)
    for number in range(1000):
        logger.warning("dead letter: %d", number)
    logger.warning("another")
    assert [event["message"] for event in events(own)] == ["dead letter: 0", "another"]
    later = time.time() + 11
    monkeypatch.setattr(time, "time", lambda: later)
    monkeypatch.setattr(time, "time_ns", lambda: int(later * 1e9))  # which logging asks from Python 3.13 on
    logger.warning("dead letter: %d", 1000)
    assert events(own)[-1]["event.count"] == 1000


def test_what_is_about_its_own_lines_is_no_event(identity: Identity) -> None:
    own, logger = handler_of(identity)
    logger.error("dead letter: mine", extra={"fields": {"host.id": identity.host_id}})
    mine = logging.getLogger("ezadmin_wire.own")
    mine.addHandler(logger.handlers[0])
    mine.warning("about myself")
    mine.removeHandler(logger.handlers[0])
    assert events(own) == []
    logger.error("dead letter: another's", extra={"fields": {"host.id": "x"}})
    assert len(events(own)) == 1
