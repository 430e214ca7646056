"""Mutated batches and rules through the engine: whatever the bytes are, nothing is raised, every line becomes a document,
an ignored line or a dead letter, and no document speaks for another host.

Four seconds each; ``EZADMIN_FUZZ=600`` (seconds; ``./tests/run --full``) looks for longer, ``EZADMIN_SEED`` repeats a run.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from typing import Any

import orjson
from ezadmin_testing.fake_elastic import FakeElastic

from ezadmin_pipeline.directory import Directory
from ezadmin_pipeline.engine import Engine, Message
from ezadmin_pipeline.settings import Settings
from ezadmin_pipeline.writer import Outgoing
from ezadmin_wire import WireError
from ezadmin_wire import batch as wire
from ezadmin_wire.config import RulesRecord
from ezadmin_wire.fields import dump, load
from ezadmin_wire.signing import SigningKey

SECONDS = float(os.environ.get("EZADMIN_FUZZ", "300" if os.environ.get("EZADMIN_FULL") else "4"))
SEED = int(os.environ.get("EZADMIN_SEED", "1"))
SETTINGS = Settings(signatures="off")
TOPIC = SETTINGS.names.logs
HOST = "00000000-0000-4000-8000-00000000000a"
OTHER = "00000000-0000-4000-8000-00000000000b"
KEY = SigningKey.generate()
MOMENT = "2026-11-24T10:00:00.000Z"
TAKEN = 1_795_514_400_000
PIECES = [
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\n", b"}\n{", b'{"a":[', b"]}", b" ", b"\x00", b"\xff", b"\xc1\xa8"),
    *(b'"host":{"id":"%s"}' % OTHER.encode(), b'"host.id":"%s",' % OTHER.encode(), b'"h\\u006fst.id":"x",', b'"host.id.":1,'),
    *(b'"labels":{},', b'"labels.x":1,', b'"agent":{"id":1},', b'"event":{"ingested":1},', b'"_doc_count":7,', b'"_id":"x",'),
    *(b"1e999", b"-0", b"NaN", b"true", b"null", b"\\ud800", b"\xed\xa0\x80", "한글".encode(), b"[" * 1500, b'{"a":' * 600),
    *(b'"@timestamp":"9999-12-31T23:59:59.999Z",', b'"@timestamp":1,', b'"event.created":"0001-01-01T00:00:00Z",'),
    *(b'"log.level":"critical",', b'"log.level":null,', b'"event.dataset":"other",', b'"message":{"a":1},', b"9" * 400),
]  # fmt: skip
WORDS = ["", "*", ".", "(a+)+$", "(", "[", "\\", "a{1000}{1000}", "host.id", "message", "*.x", "fields.a", "warning", "\x00",
         "2026-11-24T10:00:00.000Z", "9999", "-1", "ignore", "mask", "label", "x" * 5000, "${1}", "\\1", "한글"]  # fmt: skip


class Letters:
    def __init__(self) -> None:
        self.sent: list[Outgoing] = []

    def send(self, letter: Outgoing) -> None:
        self.sent.append(letter)

    def flush(self, keep_alive: Callable[[], None]) -> None:
        pass


class Raw(FakeElastic):
    """Keeps the documents of events as they came."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[bytes] = []

    def _bulk(self, body: bytes) -> dict[str, Any]:
        lines = body.split(b"\n")
        if b"-logs-20" not in lines[0] or b"-rollup-" in lines[0]:
            return super()._bulk(body)
        self.events += lines[1::2]
        return {"errors": False, "items": [{"create": {"status": 201}} for _ in lines[1::2]]}


class World:
    def __init__(self, rules: RulesRecord) -> None:
        self.elastic = Raw()
        self.letters = Letters()
        directory = Directory([])
        directory.rules, directory.rules_revision = rules, 1
        self.engine = Engine(
            SETTINGS,
            self.elastic,
            self.letters,
            directory,
            alert_topic=Letters(),
            keep_alive=lambda: None,
            clock=lambda: 0.0,
            threads=0,
        )
        self.engine.assign(TOPIC, 0, "id", 0, 0)

    def feed(self, headers: list[tuple[str, bytes]], value: bytes) -> None:
        """One message, whose lines must all be accounted for."""
        try:
            lines = wire.decode(TOPIC, HOST.encode(), headers, value, None, levels=False).n
        except WireError:
            lines = 0
        self.engine.process(Message(TOPIC, 0, 0, HOST.encode(), headers, value, taken_ms=TAKEN))
        assert self.engine.barrier({TOPIC: "id"})[0] == {(TOPIC, 0): 1}
        counts = {"seen": 0, "stored": 0, "ignored": 0, "sampled": 0, "dead": 0}
        for (index, _), doc in self.elastic.docs.items():
            if "-rollup-logs-1m-" in index:
                for name in counts:
                    counts[name] += doc["_source"]["events." + name]
        letters = [dict(letter.headers)["kind"] for letter in self.letters.sent]
        if letters == [b"message"]:  # refused as a whole
            lines = 0
        assert counts["seen"] == lines
        assert counts["stored"] == len(self.elastic.events)
        assert counts["dead"] == letters.count(b"line")
        assert lines or letters == [b"message"]
        assert counts["stored"] + counts["ignored"] + counts["sampled"] + counts["dead"] == lines
        for document in self.elastic.events:
            check_document(document)


def check_document(document: bytes) -> None:
    """It is JSON, of this host, and holds no name that only the pipeline writes but for those that it wrote."""
    names = [name.rstrip(".") for name, _ in json.loads(document, object_pairs_hook=list)]
    assert names[:3] == ["host.id", "host.name", "event.ingested"]
    written = [name for name in names[3:] if name not in ("event.original_timestamp", "labels")]
    for name in written:
        assert name not in ("host", "agent", "event", "_doc_count", "event.ingested", "event.sample_rate"), document
        assert not name.startswith(("host.", "agent.", "labels.")), document
    assert json.loads(document)["host.id"] == HOST


def mutate(rng: random.Random, data: bytes) -> bytes:
    """One small or large change."""
    at, end = sorted((rng.randint(0, len(data)), rng.randint(0, len(data))))
    choice = rng.randrange(6)
    if choice == 0 and data:
        return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    if choice == 1:
        return data[:at] + data[min(end, at + rng.randint(1, 8)) :]
    if choice == 2:
        return data[:at] + data[at:end] * 2 + data[end:]
    return data[:at] + rng.choice(PIECES) + data[at:]


def random_lines(rng: random.Random) -> list[bytes]:
    """Lines of an agent, most of them as they should be."""
    lines = []
    for _ in range(rng.randint(1, 6)):
        fields: dict[str, Any] = {
            "@timestamp": rng.choice(
                [MOMENT, "2026-11-24T10:01:59.999Z", "2026-11-23T23:59:59.000Z", "2020-01-01T00:00:00Z"]
            ),
            "event.created": MOMENT,
            "event.dataset": "test",
            "log.level": rng.choice(["info", "error", "critical", "Warn", "x"]),
            "message": rng.choice(
                ["plain", 'with "quotes" {and} [braces]', "한글", "user=bob 192.0.2.1", "a" * 50 + "b"]
            ),
        }
        if rng.random() < 0.3:
            fields["fields"] = {"a": rng.choice([1, "1", None, [1, {"b": 2}], {"c": {"d": 1}}])}
        line = orjson.dumps(fields)
        for _ in range(rng.choice([0, 0, 0, 1, 2])):
            line = mutate(rng, line)
        lines.append(line)
    return lines


def random_message(rng: random.Random) -> tuple[list[tuple[str, bytes]], bytes]:
    """A batch: its lines, its value or its headers are spoiled."""
    lines = b"\n".join(random_lines(rng)).split(b"\n")
    headers, value = wire.encode(
        KEY, host=HOST, topic=TOPIC, stream="logs", epoch="0" * 16, seq=0, lines=lines, dataset=rng.choice(["test", "*"]),
        tmin=MOMENT, tmax=MOMENT, sent=MOMENT, count=rng.random() < 0.9,
    )  # fmt: skip
    spoil = rng.random()
    if spoil < 0.1:
        value = mutate(rng, value)
    elif spoil < 0.2:
        i = rng.randrange(len(headers))
        headers[i] = (headers[i][0], mutate(rng, headers[i][1]))
    elif spoil < 0.25:
        rng.shuffle(headers)
    return headers, value


def random_rules(rng: random.Random) -> RulesRecord:
    """Rules as the cmdb, or somebody with its key, might write them. Raises WireError for what is no record."""
    word = lambda: rng.choice(WORDS)  # noqa: E731
    rules = [
        {
            "id": str(i),
            "action": rng.choice(["ignore", "filter", "set_level", "mask", "label", "exempt"]),
            "match": {
                name: value
                for name, value in {
                    "levels": [rng.choice(["info", "error", word()])],
                    "hosts": [rng.choice([HOST, "*", word()])],
                    "datasets": [rng.choice(["test", "*", word()])],
                    "fields": {word(): word()},
                    "labels": {word(): word()},
                    "contains": rng.choice(["bob", "quotes", word()]),
                    "regex": rng.choice(["a+b", r"\d+", "(a+)+b", word()]),
                }.items()
                if rng.random() < 0.25
            },
            "arguments": {
                name: word() for name in ("level", "field", "pattern", "replacement", "regex", "label", "value", "name")
                if rng.random() < 0.5
            },
            **({"expires": word()} if rng.random() < 0.2 else {}),
        }
        for i in range(rng.randint(0, 5))
    ]  # fmt: skip
    data = dump({"rules": rules})
    return load(RulesRecord, mutate(rng, data) if rng.random() < 0.2 else data)


def test_whatever_the_bytes_are() -> None:
    rng = random.Random(SEED)
    end, start = time.monotonic() + SECONDS, time.process_time()
    rounds = refused = 0
    while time.monotonic() < end:
        try:
            rules = random_rules(rng)
        except WireError:
            refused += 1
            continue
        for _ in range(8):
            message = random_message(rng)
            begin = time.process_time()
            World(rules).feed(*message)
            took = time.process_time() - begin
            assert took < 2, f"one message took {took:.1f} s of CPU: {rules} {message}"
            rounds += 1
    # by its own time: the machine may be busy with other things
    assert rounds > (time.process_time() - start) * 20, "too few rounds to mean anything"
    assert refused < rounds
