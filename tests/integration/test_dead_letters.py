"""What cannot become a document is kept with its reason, its neighbours are indexed, and it comes in once when mended."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing.fleet import Fleet
from ezadmin_testing.processes import Process, pipeline, pipeline_command, wait_until
from ezadmin_testing.sending import Agent, event
from kafka import KafkaProducer

from ezadmin_wire import batch as wire
from ezadmin_wire.names import Names
from ezadmin_wire.times import format_time, now

HOST = "00000000-0000-4000-8000-00000000000a"
OTHER = "00000000-0000-4000-8000-00000000000b"
LATE = "00000000-0000-4000-8000-00000000000c"


def resigned(agent: Agent, headers: list[tuple[str, bytes]], value: bytes, **changed: bytes) -> list[tuple[str, bytes]]:
    """The headers with some changed, signed by the host itself."""
    fields = [(name, changed.get(name, data)) for name, data in headers[:-1]]
    return [*fields, ("sig", agent.key.sign(wire.signed(fields, value)))]


@pytest.fixture
def fleet(stack, names: Names, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(stack.kafka, stack.elasticsearch, names, tmp_path)
    yield fleet
    fleet.close()


@pytest.fixture
def worker(fleet: Fleet, tmp_path: Path) -> Iterator[Path]:
    config = fleet.settings("worker", retry_past_index=1.5, commit_interval=0.5)
    process = pipeline(config, tmp_path / "worker.log").start()
    yield config
    assert process.running, (tmp_path / "worker.log").read_text()[-2000:]
    assert process.stop() == 0


def reasons(fleet: Fleet) -> Counter[str]:
    letters = {dict(m.headers)["id"]: dict(m.headers)["reason"].decode() for m in fleet.dead_letters()}
    return Counter(letters.values())


def stored(fleet: Fleet) -> dict[str, dict[str, Any]]:

    return {hit["_id"]: hit["_source"] for hit in fleet.search_all(f"{fleet.names.prefix}-logs-*", source=True)}


def test_each_with_its_reason_and_neighbours_indexed(fleet: Fleet, worker: Path) -> None:
    agent, other = Agent(fleet, HOST), Agent(fleet, OTHER)
    topic, key = fleet.names.logs, HOST.encode()
    good = agent.send(event("first"))

    fleet.send(topic, key, b"this is no batch\n", [])
    headers, value = agent.batch(event("forged"))
    fleet.send(topic, key, value.replace(b"forged", b"FORGED"), headers)
    headers, value = agent.batch(event("one"), event("two"))
    fleet.send(topic, key, value, resigned(agent, headers, value, n=b"3"))
    headers, value = other.batch(event("in the name of another"))
    fleet.send(topic, key, value, headers)
    as_host = [(n, HOST.encode() if n == "host" else d) for n, d in headers]
    fleet.send(topic, key, value, as_host)

    first = agent.seq
    ids = agent.send(
        event("before"),
        b'{"this is": no JSON}',
        event("m" * (wire.MAX_LINE + 1)),
        event("smuggler")[:-1] + b',"host":{"id":"%s"}}' % OTHER.encode(),
        event("smuggler")[:-1] + b',"ho\\u0073t.id":"%s"}' % OTHER.encode(),
        event("no time").replace(b'"@timestamp":"20', b'"@timestamp":"yesterday '),
        event("three bad fields", **{"log.offset": "far", "source.ip": "nowhere", "process.pid": {"is": "no number"}}),
        event("after"),
    )
    wait_until(lambda: fleet.lag() == 0, 30, "everything is committed")

    found = stored(fleet)
    assert set(found) == {*good, ids[0], ids[6], ids[7]}
    assert found[ids[7]]["message"] == "after"
    assert found[ids[6]]["unmapped"] == {
        "log.offset": "far",
        "source.ip": "nowhere",
        "process.pid": '{"is":"no number"}',
    }
    assert found[ids[6]]["message"] == "three bad fields"
    assert reasons(fleet) == {
        "bad_header": 1,
        "bad_signature": 1,
        "wrong_count": 1,
        "wrong_key": 1,
        "unknown_key": 1,
        "bad_line": 1,
        "too_large": 1,
        "owned_name": 2,
        "bad_time": 1,
    }
    assert {hit["host.id"] for hit in found.values()} == {HOST}
    sums = Counter[str]()
    for value_name in ("events.seen", "events.dead", "events.stored"):
        for (rollup, *_), count in fleet.rollup_sums(value_name).items():
            sums[f"{rollup} {value_name}"] += count
    assert sums["logs-1m events.seen"] == 1 + agent.seq - first
    assert sums["logs-1m events.dead"] == 5
    assert sums["logs-fleet-1h events.stored"] == 4

    listed = pipeline_command(worker, "dlq", "ls")
    assert "10 open dead letter(s)" in listed
    identity = next(line.split()[0] for line in listed.splitlines() if " owned_name " in line)
    shown = pipeline_command(worker, "dlq", "show", identity)
    assert "reason: owned_name" in shown
    assert "smuggler" in shown
    assert "1 dropped" in pipeline_command(worker, "dlq", "drop", identity)
    assert "9 open dead letter(s)" in pipeline_command(worker, "dlq", "ls")


def test_a_message_of_two_megabytes(fleet: Fleet, worker: Path) -> None:
    agent = Agent(fleet, HOST)
    agent.send(event("m" * 1_900_000))
    good = agent.send(event("small"))
    wait_until(lambda: fleet.lag() == 0, 30, "everything is committed")
    assert set(stored(fleet)) == set(good)
    assert reasons(fleet) == {"too_large": 1}


def test_a_message_that_the_client_cannot_decode(fleet: Fleet, worker: Path) -> None:
    agent = Agent(fleet, HOST)
    before = agent.send(event("before"))

    class Name(str):
        """A header's name whose bytes are no UTF-8."""

        def encode(self, *arguments: str) -> bytes:
            return b"\xff\xfe"

    fleet.send(fleet.names.logs, HOST.encode(), b"hostile\n", [(Name("xx"), b"")])
    after = agent.send(event("after"))
    wait_until(lambda: fleet.lag() == 0, 60, "the worker has passed it")
    assert set(stored(fleet)) == {*before, *after}
    assert reasons(fleet) == {"bad_value": 1}


def test_an_unknown_host_is_replayed_once_it_is_known(fleet: Fleet, worker: Path) -> None:
    agent = Agent(fleet, LATE, known=False)
    ids = agent.send(event("before I was known"), event("me neither"))
    wait_until(lambda: reasons(fleet) == {"unknown_key": 1}, 30, "the message is a dead letter")
    fleet.publish_host(LATE, agent.key)
    assert "1 sent to their topic" in pipeline_command(worker, "dlq", "replay", "--all")
    wait_until(lambda: set(stored(fleet)) == set(ids), 30, "both lines are stored")
    # a person who replays twice, or a message that was read twice, changes nothing
    assert "0 open dead letter(s)" in pipeline_command(worker, "dlq", "ls")
    headers, value = fleet.dead_letters()[0].headers, fleet.dead_letters()[0].value
    original = [(name[5:], data) for name, data in headers if name.startswith("orig.") and name != "orig.key"]
    fleet.send(fleet.names.logs, LATE.encode(), value, original)
    wait_until(lambda: fleet.lag() == 0, 30, "everything is committed")
    sums = fleet.rollup_sums("events.seen")
    assert sum(count for (rollup, *_), count in sums.items() if rollup == "logs-1m") == 2


def test_edited_letters_come_in_once_and_say_who_edited_them(fleet: Fleet, worker: Path, tmp_path: Path) -> None:
    agent, late = Agent(fleet, HOST), Agent(fleet, LATE, known=False)
    (lost,) = agent.send(event("no time").replace(b'"@timestamp":"20', b'"@timestamp":"yesterday '))
    agent.send(b'{"half":')
    late.send(event("one"), event("two"))
    wait_until(lambda: reasons(fleet) == {"bad_time": 1, "bad_line": 1, "unknown_key": 1}, 30, "three letters")
    rows = json.loads(pipeline_command(worker, "dlq", "stats", "--by", "reason,host", "--json"))
    assert {(row["reason"], row["host"], row["letters"]) for row in rows} == {
        ("bad_time", HOST, 1), ("bad_line", HOST, 1), ("unknown_key", LATE, 1)
    }  # fmt: skip

    def ids(*options: str) -> list[str]:
        return [
            json.loads(line)["id"] for line in pipeline_command(worker, "dlq", "ls", "--json", *options).splitlines()
        ]

    assert ids("--reason", "bad_time", "--host", f"sim-{HOST[-4:]}", "--since", "1h", "--dataset", "test") == [lost]
    assert ids("--text", "no time", "--topic", "logs", "--kind", "line") == [lost]
    assert ids("--until", "1h") == ids("--topic", "metrics") == []

    # the line: under the number that it had
    when = format_time(datetime.now(UTC))
    with pytest.raises(AssertionError, match=r"the letter stays open: line 0: bad_time"):
        pipeline_command(worker, "dlq", "edit", lost, "--set", "message=still no time")
    edit = ("dlq", "edit", lost, "--set", f"@timestamp={when}", "--set", "log.offset=7", "--unset", "log.level")
    assert "1 stored as edited, 0 were there" in pipeline_command(worker, *edit, "--by", "ann")
    document = stored(fleet)[lost]
    assert (document["event.edited_by"], document["event.edited_letter"]) == ("ann", lost)
    assert (document["log.offset"], document["message"], document["host.id"]) == (7, "no time", HOST)
    assert "log.level" not in document
    (half,) = ids("--reason", "bad_line")
    whole = tmp_path / "whole.json"
    whole.write_bytes(event("whole again") + b"\n")
    assert "1 stored as edited" in pipeline_command(worker, "dlq", "edit", half, "--file", str(whole))

    # the message: in a generation of its own, so that what its host still sends is not taken for sent
    (message,) = ids("--reason", "unknown_key")
    letter = next(m for m in fleet.dead_letters() if dict(m.headers)["id"].decode() == message)
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/one/1/ "$1"\n')
    editor.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDITOR", str(editor))
        patch.delenv("VISUAL", raising=False)
        assert "2 stored as edited, 0 were there" in pipeline_command(worker, "dlq", "edit", message)
    found = stored(fleet)
    assert {document["message"] for document in found.values() if document["host.id"] == LATE} == {"1", "two"}
    assert not {late.id(0), late.id(1)} & set(found)
    assert ids() == []
    # a letter that comes again, as after a crash before it was settled: its lines are there
    headers = [(name, data) for name, data in letter.headers]
    fleet.send(fleet.names.dlq, LATE.encode(), letter.value, headers)
    again = pipeline_command(worker, "dlq", "edit", message, "--set", "message=three")
    assert "0 stored as edited, 2 were there" in again
    sums = fleet.rollup_sums("events.seen")
    assert sum(count for (rollup, *_), count in sums.items() if rollup == "logs-1m") == 2, "nothing is counted again"


def test_a_cut_letter_is_not_replayed_as_if_it_were_whole(fleet: Fleet, worker: Path, tmp_path: Path) -> None:
    agent = Agent(fleet, HOST)
    bomb = KafkaProducer(bootstrap_servers=fleet.kafka, compression_type="gzip", max_request_size=16 << 20)
    bomb.send(fleet.names.logs, key=HOST.encode(), value=b"m" * (5 << 20)).get(timeout=20)
    bomb.close()
    wait_until(lambda: reasons(fleet) == {"bad_header": 1}, 30, "the letter")
    (identity,) = (dict(m.headers)["id"].decode() for m in fleet.dead_letters())
    with pytest.raises(AssertionError, match=r"was cut \(value of 5242880 bytes\), so it cannot be brought in whole"):
        pipeline_command(worker, "dlq", "replay", identity)
    assert "1 left out: they were cut" in pipeline_command(worker, "dlq", "replay", "--all")
    whole = tmp_path / "whole.json"
    whole.write_bytes(event("what it meant"))
    command = ("dlq", "edit", identity, "--file", str(whole))
    assert "1 stored as edited" in pipeline_command(worker, *command)
    assert [document["host.id"] for document in stored(fleet).values()] == [agent.host]


def test_a_closed_index_of_the_past(fleet: Fleet, worker: Path) -> None:
    agent = Agent(fleet, HOST)
    past = datetime.now(UTC) - timedelta(days=3)
    opened = agent.send(event("opens the index", past))
    wait_until(lambda: fleet.lag() == 0, 30, "everything is committed")
    day = format_time(past)
    events, counts = fleet.names.logs_index(day), fleet.names.rollup_index("logs-1m", day)
    for index in (events, counts):
        assert fleet.elastic.request("POST", f"/{index}/_close")[0] == 200

    late = agent.send(event("too late", past), event("in time"))
    wait_until(lambda: reasons(fleet) == {"index_closed_exception": 2}, 40, "a letter for the line, one for its count")
    fleet.elastic.request("POST", f"/{fleet.names.logs_index(now())}/_refresh")
    status, _ = fleet.elastic.request("GET", f"/{fleet.names.logs_index(now())}/_doc/{late[1]}")
    assert status == 200, "its neighbour is indexed"

    # still closed: it dies again, and stays one letter
    assert "1 dead again" in pipeline_command(worker, "dlq", "replay", late[0])
    assert "2 open dead letter(s)" in pipeline_command(worker, "dlq", "ls")

    for index in (events, counts):
        assert fleet.elastic.request("POST", f"/{index}/_open")[0] == 200
    wait_until(
        lambda: fleet.elastic.request("GET", "/_cluster/health")[1]["status"] != "red", 30, "the indices are open"
    )
    assert "2 stored, 0 dead again" in pipeline_command(worker, "dlq", "replay", "--all")
    assert "0 open dead letter(s)" in pipeline_command(worker, "dlq", "ls")
    assert set(stored(fleet)) == {*opened, *late}
    sums = fleet.rollup_sums("events.seen")
    assert sum(count for (rollup, *_), count in sums.items() if rollup == "logs-1m") == 3


def test_replay_brings_a_lost_index_back(fleet: Fleet, worker: Path) -> None:
    agent = Agent(fleet, HOST)
    ids = agent.send(*(event(f"line {i}") for i in range(50)))
    wait_until(lambda: fleet.lag() == 0, 30, "everything is committed")
    before = fleet.rollup_sums("events.seen")
    fleet.elastic.request("DELETE", f"/{fleet.names.logs_index(now())}")
    more = agent.send(event("after the loss"))
    wait_until(lambda: fleet.lag() == 0, 30, "everything is committed")
    assert "51 lines read: 1 were there, 50 stored, 0 refused" in pipeline_command(worker, "replay", "logs")
    assert set(stored(fleet)) == {*ids, *more}
    after = fleet.rollup_sums("events.seen")
    assert sum(after.values()) == sum(before.values()) + 3, "nothing is counted again"


OVERLOOKED = """
import sys
from ezadmin_pipeline import main
from ezadmin_pipeline.documents import DocumentMaker
make = DocumentMaker.make
def broken(self, chunk, batch, new, bounds=None):
    bad = make(self, chunk, batch, new, bounds)
    if b"overlooked" in batch.value:
        raise IndexError("an error of ours")
    return bad
DocumentMaker.make = broken
sys.exit(main.main())
"""
"""A worker with an error that one message meets; no real one is known."""


def test_an_error_of_ours_is_a_letter_that_comes_in_when_it_is_mended(fleet: Fleet, tmp_path: Path) -> None:
    config, log = fleet.settings("worker", commit_interval=0.5), tmp_path / "worker.log"
    agent = Agent(fleet, HOST)
    broken = Process([sys.executable, "-c", OVERLOOKED, "run", "--config", str(config)], log).start()
    before = agent.send(event("before 0"), event("before 1"))
    lost = agent.send(event("beside it"), event("overlooked"))
    after = agent.send(event("after"))
    wait_until(lambda: fleet.lag() == 0, 60, "the worker goes on")
    assert broken.running
    assert reasons(fleet) == Counter({"defect": 1})
    assert set(stored(fleet)) == {*before, *after}
    assert "IndexError: an error of ours" in log.read_text()
    assert broken.stop() == 0
    mended = pipeline(config, log).start()
    (letter,) = pipeline_command(config, "dlq", "ls", "--json").splitlines()
    assert "1 sent to their topic" in pipeline_command(config, "dlq", "replay", json.loads(letter)["id"])
    wait_until(lambda: len(stored(fleet)) == 5, 30, "the message comes in")
    wait_until(lambda: fleet.lag() == 0, 30, "it is committed")
    assert set(stored(fleet)) == {*before, *lost, *after}
    assert sum(n for key, n in fleet.rollup_sums("events.seen").items() if key[0] == "logs-1m") == 5
    assert mended.stop() == 0
