"""The thread between sources and spool; the journal; the agent's own events."""

from __future__ import annotations

import json
import logging
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ezadmin_agent.logs import journal
from ezadmin_agent.logs.file import FileSource
from ezadmin_agent.logs.journal import JournalSource
from ezadmin_agent.logs.own import OwnSource
from ezadmin_agent.logs.reader import LogReader
from ezadmin_agent.spool import Spool, SpoolError, Spools, StreamSpec


def make(tmp_path: Path, cap_bytes: int = 64 << 20) -> Spools:
    return Spools(tmp_path / "spool", [StreamSpec("logs", "t.logs", 5, False)], cap_bytes=cap_bytes)


def documents(spools: Spools, *, ack: bool = False) -> list[dict[str, Any]]:
    spool = spools["logs"]
    found, place = [], spool.acked
    while (frame := spool.next_frame(place)) is not None:
        found += [json.loads(line) for line in frame.lines()]
        place = frame.end
        if ack:
            spool.ack(frame)
    return found


def test_lines_and_positions_go_into_the_spool_together(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("old\n")
    spools = make(tmp_path)
    reader = LogReader([FileSource(path, "log.file", syslog=False)], spools, "logs")
    reader.look()
    with path.open("a") as file:
        file.writelines(f"line {i}\n" for i in range(1234))
    assert not reader.look()
    assert [d["message"] for d in documents(spools)] == [f"line {i}" for i in range(1234)]
    spools.close()
    # a new process goes on behind them, though nothing was sent
    spools = make(tmp_path)
    with path.open("a") as file:
        file.write("line 1234\n")
    again = LogReader([FileSource(path, "log.file", syslog=False)], spools, "logs")
    again.look()
    assert [d["message"] for d in documents(spools)] == [f"line {i}" for i in range(1235)]
    spools.close()


def test_reading_waits_while_the_spool_is_full_and_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    path = tmp_path / "a.log"
    path.touch()
    spools = make(tmp_path, cap_bytes=4 << 20)
    reader = LogReader([FileSource(path, "log.file", syslog=False)], spools, "logs")
    reader.look()
    with path.open("a") as file:
        file.writelines(f"line {i} {os.urandom(500).hex()}\n" for i in range(6000))
    found = []
    for _ in range(20):
        for _ in range(5):
            reader.look()
            assert spools.disk_bytes <= 4 << 20
        found += [int(d["message"].split()[1]) for d in documents(spools, ack=True)]
    assert found == list(range(6000))
    assert next(r.getMessage() for r in caplog.records).startswith("the spool is at its cap of 4194304 bytes")
    assert spools["logs"].dropped == {}
    spools.close()


def test_a_failing_disk_loses_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.log"
    path.touch()
    spools = make(tmp_path)
    reader = LogReader([FileSource(path, "log.file", syslog=False)], spools, "logs")
    reader.look()
    path.write_text("one\n")
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(SpoolError):
        reader.look()
    reader._lost_place = True  # as its thread does
    monkeypatch.setattr(os, "fdatasync", real)
    reader.look()
    assert [d["message"] for d in documents(spools)] == ["one"]
    spools.close()


def test_thread_reads_within_its_period_and_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.touch()
    spools = make(tmp_path)
    reader = LogReader([FileSource(path, "log.file", syslog=False)], spools, "logs", period=0.2)
    reader.start()
    time.sleep(0.3)
    path.write_text("one\n")
    time.sleep(0.5)
    assert [d["message"] for d in documents(spools)] == ["one"]
    with path.open("a") as file:
        file.write("last\n")
    reader.stop()
    assert not reader.is_alive()
    assert [d["message"] for d in documents(spools)] == ["one", "last"]
    spools.close()


SPLIT = [
    StreamSpec("errors", "t.logs", 6, False, share=1.0, over=("logs",)),
    StreamSpec("logs", "t.logs", 5, False),
    StreamSpec("metrics", "t.metrics", 1, True),
]


def messages(spools: Spools, stream: str) -> list[str]:
    spool = spools[stream]
    found, place = [], spool.acked
    while (frame := spool.next_frame(place)) is not None:
        found += [json.loads(line)["message"] for line in frame.lines()]
        place = frame.end
    return found


@pytest.mark.parametrize("seed", range(4))
def test_errors_have_a_stream_of_their_own_and_all_comes_once_whatever_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Any append, mark or fsync may fail, and process or machine may end there: two spools, and one place behind each batch.

    Where the power went, what was not fsynced is cut off anywhere, also within a record.
    """
    chance = random.Random(seed)
    paths = [tmp_path / "a.log", tmp_path / "b.log"]
    for path in paths:
        path.touch()

    class Killed(Exception):
        pass

    def begin() -> tuple[Spools, LogReader]:
        spools = Spools(tmp_path / "spool", SPLIT, cap_bytes=64 << 20)
        sources = [FileSource(path, "app", syslog=False) for path in paths]
        return spools, LogReader(sources, spools, "logs", errors="errors")

    spools, reader = begin()
    reader.look()
    armed = False
    for name in ("append", "mark", "sync"):
        real = getattr(Spool, name)

        def failing(self: Spool, *args: Any, real: Any = real, **more: Any) -> Any:
            if armed and chance.random() < 0.1:
                raise chance.choice([Killed, SpoolError])("before")
            done = real(self, *args, **more)
            if armed and chance.random() < 0.05:
                raise Killed("behind")
            return done

        monkeypatch.setattr(Spool, name, failing)
    written: dict[bool, list[str]] = {True: [], False: []}
    ended = 0
    for number in range(120):
        for path in paths:
            with path.open("a") as file:
                for line in range(chance.choice([0, 1, 3, 700 if number % 50 == 7 else 2])):
                    error = chance.random() < 0.4
                    text = f"{'ERROR' if error else 'INFO'} {path.name} {number}.{line}"
                    written[error].append(text)
                    file.write(text + "\n")
        armed = True
        try:
            reader.look()
        except SpoolError:
            reader._lost_place = True  # as its thread does
        except Killed:
            armed = False
            ended += 1
            safe = {spool.stream: spool._synced for spool in spools}
            spools.close()  # what was appended survives kill -9: it is in the page cache
            if chance.random() < 0.5:
                for stream, place in safe.items():
                    segment = tmp_path / f"spool/{stream}/{place.segment:020d}.seg"
                    os.truncate(segment, chance.randint(place.offset, segment.stat().st_size))
            spools, reader = begin()
        armed = False
    reader.look()
    assert ended > 3
    assert sorted(messages(spools, "errors")) == sorted(written[True])
    assert sorted(messages(spools, "logs")) == sorted(written[False])
    assert reader._ahead == {}
    spools.close()


FAKE_JOURNAL = """
import json, sys, time
entries = [json.loads(line) for line in open({path!r})]
arguments = sys.argv[1:]
if "-f" not in arguments:
    print(json.dumps(entries[-1]) if entries else "", flush=True)
    sys.exit()
after = arguments[arguments.index("--after-cursor") + 1] if "--after-cursor" in arguments else None
seen = 0
for turn in range(100):
    entries = [json.loads(line) for line in open({path!r})]
    start = [e["__CURSOR"] for e in entries].index(after) + 1 if after else 0
    for entry in entries[max(start, seen):]:
        print(json.dumps(entry), flush=True)
    seen = max(seen, len(entries))
    time.sleep(0.05)
"""


def entry(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "__CURSOR": f"c{number}",
        "__REALTIME_TIMESTAMP": "1795000000123456",
        "MESSAGE": f"message {number}",
        **fields,
    }


def read_until(source: JournalSource, count: int) -> tuple[list[dict[str, Any]], Any]:
    found, position = [], None
    for _ in range(100):
        batch = source.read()
        found += [json.loads(line) for line in batch.lines]
        position = batch.position or position
        if len(found) >= count:
            return found, position
        time.sleep(0.05)
    raise AssertionError(found)


def test_journal_is_followed_from_its_cursor(tmp_path: Path) -> None:
    """journalctl itself needs a running journald; this stands in for it, with its output format."""
    path = tmp_path / "journal"
    program = tmp_path / "fake.py"
    program.write_text(FAKE_JOURNAL.format(path=str(path)))
    path.write_text(json.dumps(entry(1)) + "\n")
    command = (sys.executable, str(program))
    source = JournalSource("system.syslog", command=command)
    assert source.resume(None) == {"cursor": "c1", "counts": {}}
    fields = {"PRIORITY": "3", "SYSLOG_IDENTIFIER": "sshd", "_PID": "42", "_HOSTNAME": "web1", "SYSLOG_FACILITY": "10"}
    with path.open("a") as file:
        file.write(json.dumps(entry(2, **fields)) + "\n" + json.dumps(entry(3, MESSAGE=[104, 233, 105])) + "\n")
    found, position = read_until(source, 2)
    source.close()
    assert found[0] == {
        "@timestamp": "2026-11-18T11:06:40.123Z",
        "event.dataset": "system.syslog",
        "event.created": found[0]["event.created"],
        "log.level": "error",
        "message": "message 2",
        "process.name": "sshd",
        "process.pid": 42,
        "log.syslog.hostname": "web1",
        "log.syslog.severity.code": 3,
        "log.syslog.facility.code": 10,
    }
    assert found[1]["message"] == "h\ufffdi"
    assert position == {"cursor": "c3", "counts": {"read": 2, "kept": 2}}
    with path.open("a") as file:
        file.write(json.dumps(entry(4)) + "\n")
    again = JournalSource("system.syslog", command=command)
    assert again.resume(position) == position
    found, position = read_until(again, 1)
    again.close()
    assert ([d["message"] for d in found], position["cursor"]) == (["message 4"], "c4")


def test_a_stamp_of_the_journal_that_is_no_time_does_not_stop_it(tmp_path: Path) -> None:
    program = tmp_path / "fake.py"
    program.write_text(FAKE_JOURNAL.format(path=str(tmp_path / "journal")))
    beyond = {"_SOURCE_REALTIME_TIMESTAMP": str(1 << 61)}  # a clock gone mad: far behind the year 9999
    lines = [entry(1), entry(2, **beyond), entry(3, __REALTIME_TIMESTAMP="253402300800000000", **beyond), entry(4)]
    (tmp_path / "journal").write_text("".join(json.dumps(line) + "\n" for line in lines))
    source = JournalSource("system.syslog", command=(sys.executable, str(program)))
    source.resume({"cursor": ""})
    found, _ = read_until(source, 4)
    source.close()
    assert [event["message"] for event in found] == [f"message {number}" for number in (1, 2, 3, 4)]
    assert found[1]["@timestamp"] == found[0]["@timestamp"], "the journal's own stamp stands in"
    assert found[2]["@timestamp"] == found[2]["event.created"], "and where that is none, when it was read"


def test_a_journal_that_cannot_be_read_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    source = JournalSource("system.syslog", command=("/does/not/exist",))
    assert source.resume(None) is None
    assert not source.read().lines
    source.close()
    assert "cannot start journalctl" in caplog.text
    assert isinstance(journal.available(), bool)


def test_own_warnings_become_events() -> None:
    source = OwnSource()
    log = logging.getLogger("ezadmin_agent.test")
    log.addHandler(source.handler)
    try:
        log.warning("low on %s", "space")
        log.info("nothing to see")
    finally:
        log.removeHandler(source.handler)
    batch = source.read()
    (document,) = [json.loads(line) for line in batch.lines]
    assert (document["event.dataset"], document["log.level"], document["message"]) == (
        "ezadmin.agent",
        "warning",
        "low on space",
    )
    assert document["log.logger"] == "ezadmin_agent.test"
    assert source.read().lines == ()
