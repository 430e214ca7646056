"""Dead letters: nothing of what came is lost or garbled, and a letter always fits through its topic."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.errors import KafkaTimeoutError

from ezadmin_pipeline.deadletters import (
    DeadLetter,
    DeadLetters,
    line_letter,
    message_letter,
    rollup_letter,
)
from ezadmin_pipeline.writer import MAX_REQUEST
from ezadmin_wire.batch import Batch
from ezadmin_wire.deadletters import MAX_HEADERS, MAX_VALUE
from ezadmin_wire.ids import event_id, event_id_prefix
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.names import Names

HOST = "00000000-0000-4000-8000-00000000000a"
WHEN = "2026-11-24T08:15:30.123Z"
BATCH = Batch(HOST, "k", "t.logs", "logs", "0" * 16, 41, 3, "app", WHEN, WHEN, {"info": 3}, WHEN, b"{}\n{}\n{}\n")


def letter(**changed: Any) -> DeadLetter:
    fields: dict[str, Any] = {
        "topic": "t.logs",
        "partition": 3,
        "offset": 99,
        "key": HOST.encode(),
        "headers": [],
        "value": b"{}\n",
        "reason": "bad_header",
        "error": "no",
        **changed,
    }
    return message_letter(**fields)


@given(
    st.one_of(st.none(), st.binary()),
    st.lists(st.tuples(st.text(max_size=5), st.one_of(st.none(), st.binary())), max_size=4),
    st.one_of(st.none(), st.binary()),
    st.text(),
)
def test_a_message_is_kept_as_it_came(
    key: bytes | None, headers: list[tuple[str, bytes]], value: bytes | None, error: str
) -> None:
    found = letter(key=key, headers=headers, value=value, error=error)
    assert found.key == key
    assert found.value == (value or b"")
    own, original = found.headers[:7], list(found.headers[7:])
    assert [name for name, _ in own] == ["id", "kind", "reason", "error", "topic", "partition", "offset"]
    assert dict(own)["id"] == b"t.logs/3/99"
    if key is not None:
        assert original.pop(0) == ("orig.key", key)
    assert original == [(f"orig.{name}", data) for name, data in headers if data is not None]
    for _, data in own:
        data.decode()
    assert all(isinstance(data, bytes) for _, data in found.headers)


def test_what_is_said_of_it_is_cut() -> None:
    error = dict(letter(error="한" * 5000).headers)["error"].decode()
    assert error == "한" * 1000
    assert dict(letter(error="a\ud800b").headers)["error"] == b"a?b"


def test_a_line_is_named_as_its_document() -> None:
    raw = b'{"half":\xff'
    found = line_letter("t.logs", 3, 99, 2, BATCH, raw, "bad_line", "no JSON")
    assert (found.key, found.value) == (HOST.encode(), raw)
    assert dict(found.headers) == {
        "id": event_id(event_id_prefix(HOST, "logs", "0" * 16), 43).encode(),
        "kind": b"line",
        "reason": b"bad_line",
        "error": b"no JSON",
        "topic": b"t.logs",
        "partition": b"3",
        "offset": b"99",
        "line": b"2",
        "orig.host": HOST.encode(),
        "orig.kid": b"k",
        "orig.stream": b"logs",
        "orig.epoch": b"0" * 16,
        "orig.seq": b"41",
        "orig.n": b"3",
        "orig.dataset": b"app",
        "orig.tmin": WHEN.encode(),
        "orig.tmax": WHEN.encode(),
        "orig.sent": WHEN.encode(),
    }


def test_counts() -> None:
    document = {"kafka.topic": "t.logs", "kafka.partition": 3, "host.id": HOST, "events.seen": 2}
    found = rollup_letter("id", "t-rollup-logs-1m-2026.11.20", document, "index_closed_exception", "closed")
    assert (found.key, orjson.loads(found.value)) == (HOST.encode(), document)
    headers = dict(found.headers)
    assert (headers["kind"], headers["index"]) == (b"rollup", b"t-rollup-logs-1m-2026.11.20")
    del document["host.id"]
    assert rollup_letter("id", "i", document, "r", "e").key is None


def size(found: DeadLetter) -> int:
    return len(found.key or b"") + len(found.value) + sum(len(name) + len(data) for name, data in found.headers)


def test_a_letter_always_fits_through_its_topic() -> None:
    # a message of 2 MiB can hold far more, compressed: it must not stop the worker that buries it
    limit = int({topic.name: topic for topic in Names("t").topics()}["t.dlq"].settings["max.message.bytes"])
    assert limit < MAX_REQUEST
    whole = letter(value=b"x" * MAX_VALUE, headers=[("a", b"y" * (MAX_HEADERS - 100))], error="한" * 2000)
    assert "cut" not in dict(whole.headers)
    assert size(whole) < limit
    bomb = letter(value=b"x" * (20 << 20), key=b"k" * (5 << 20), headers=[("a", b"y" * (5 << 20))])
    assert size(bomb) < limit
    assert bomb.key is None
    assert bomb.value == b"x" * MAX_VALUE
    assert [data for name, data in bomb.headers if name == "cut"] == [
        b"key and headers of %d bytes" % ((10 << 20) + len("orig.key") + len("orig.a")),
        b"value of %d bytes" % (20 << 20),
    ]
    many = letter(headers=[("h" * 100, b"")] * 50_000)
    assert size(many) < limit
    line = line_letter("t.logs", 3, 99, 0, BATCH, b"x" * (20 << 20), "too_large", "20 MiB")
    assert size(line) < limit
    assert dict(line.headers)["cut"] == b"value of %d bytes" % (20 << 20)
    assert line.key == HOST.encode()


# ------------------------------------------------------------------ writing them


class Future:
    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.is_done = True

    def get(self, timeout: float) -> None:
        if self.error:
            raise self.error


class Producer:
    """A producer that fails as often as it is told, at ``send`` or at the acknowledgement."""

    def __init__(self, kept: list[Any], at_send: list[bool], at_ack: list[bool]) -> None:
        self.kept = kept
        self.at_send = at_send
        self.at_ack = at_ack
        self.closed = False

    def send(self, topic: str, key: bytes | None, value: bytes, headers: list[tuple[str, bytes]]) -> Future:
        assert not self.closed
        if self.at_send and self.at_send.pop(0):
            raise KafkaTimeoutError("no metadata")
        if self.at_ack and self.at_ack.pop(0):
            return Future(KafkaTimeoutError("not acknowledged"))
        self.kept.append((topic, key, value, dict(headers)))
        return Future(None)

    def close(self, timeout: float) -> None:
        self.closed = True


@given(st.lists(st.booleans(), max_size=6), st.lists(st.booleans(), max_size=6), st.integers(1, 4))
def test_flush_returns_when_all_are_acknowledged(at_send: list[bool], at_ack: list[bool], count: int) -> None:
    kept: list[Any] = []
    letters = DeadLetters(KafkaConnection("nowhere:1"), "t.dlq")
    letters._connect = lambda: Producer(kept, at_send, at_ack)  # type: ignore[method-assign]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ezadmin_pipeline.writer.time.sleep", lambda seconds: None)
        for offset in range(count):
            letters.send(letter(offset=offset))
        letters.flush(lambda: None)
        letters.flush(lambda: None)
    assert sorted({headers["id"] for _, _, _, headers in kept}) == [b"t.logs/3/%d" % i for i in range(count)]
    assert letters.written == len(kept) == count, "none twice, as none was acknowledged that was sent again"
    for topic, key, value, headers in kept:
        assert (topic, key, value) == ("t.dlq", HOST.encode(), b"{}\n")
        assert headers["by"] == b"pipeline"
        assert headers["time"].endswith(b"Z")
    letters.close()


def test_waiting_can_be_given_up() -> None:
    class GaveUp(Exception):
        pass

    calls = [0]

    def keep_alive() -> None:
        calls[0] += 1
        if calls[0] > 3:
            raise GaveUp

    letters = DeadLetters(KafkaConnection("nowhere:1"), "t.dlq")
    letters._connect = lambda: Producer([], [True] * 100, [])  # type: ignore[method-assign]
    letters.send(letter())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ezadmin_pipeline.writer.time.sleep", lambda seconds: None)
        with pytest.raises(GaveUp):
            letters.flush(keep_alive)
