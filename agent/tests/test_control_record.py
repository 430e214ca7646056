"""The chain of commands: whole over crashes and new files, and any change of it is seen."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from ezadmin_agent.control import record
from ezadmin_agent.control.events import DATASET, PLACE, Teller
from ezadmin_agent.control.record import Record, RecordError
from ezadmin_agent.spool import Spool, SpoolError
from ezadmin_wire import jobs, times
from ezadmin_wire.ids import new_host_id

SOON = "2100-01-01T00:00:00.000Z"


def command(**changed: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "id": new_host_id(),
        "run": new_host_id(),
        "attempt": 1,
        "kind": "inventory",
        "actor": "김",
        "nonce": os.urandom(16).hex(),
        "digest": os.urandom(32).hex(),
        "not_after": SOON,
    }
    return {**given, **changed}


def test_what_was_written_is_known_after_a_start(tmp_path: Path) -> None:
    book = Record(tmp_path)
    one, two = command(), command()
    book.append(state="accepted", **one)
    book.append(state="done", reason="so", **one)
    book.append(state="accepted", **two)
    book.append(state="refused", known=False, digest="00")
    head = book.head
    book.close()
    again = Record(tmp_path)
    found = again.find(one["id"])
    assert found is not None
    assert (found.state, found.reason, found.digest) == ("done", "so", one["digest"])
    assert [entry.id for entry in again.unfinished()] == [two["id"]]
    assert again.holder_of_nonce(two["nonce"]) == two["id"]
    assert again.holder_of_attempt(two["run"], 1) == two["id"]
    assert (again.number, again.head, again.counts()) == (4, head, {"done": 1, "accepted": 1})
    assert record.verify(tmp_path) == (0, 3, head, None)


def test_files_are_put_aside_and_the_chain_goes_on(tmp_path: Path) -> None:
    book = Record(tmp_path, file_bytes=4000)
    commands = [command() for _ in range(60)]
    for one in commands:
        book.append(state="accepted", **one)
        book.append(state="done", **one)
    assert len(record.older(tmp_path)) > 5
    for number in (0, 1, 50, 118, 119):
        assert [line.number for line in book.lines(number)] == list(range(number + 1, 120))
    book.close()
    again = Record(tmp_path, file_bytes=4000)
    assert all(again.find(one["id"]) is not None for one in commands), "what can come again is remembered"
    again.append(state="refused", **command())
    assert record.verify(tmp_path)[:2] == (0, 120)
    again.close()


def test_what_is_over_is_forgotten_and_its_nonce_with_it(tmp_path: Path) -> None:
    book = Record(tmp_path, file_bytes=1)
    old, open_ = command(not_after="2020-01-01T00:00:00.000Z"), command(not_after="2020-01-01T00:00:00.000Z")
    book.append(state="done", **old)
    book.append(state="accepted", **open_)
    book.append(state="done", **command())
    assert book.find(old["id"]) is None
    assert book.holder_of_nonce(old["nonce"]) is None
    assert book.find(open_["id"]) is not None, "one without an end is not forgotten"


def test_stopped_holds_from_the_word_stop_to_the_end_of_resume(tmp_path: Path) -> None:
    book = Record(tmp_path)
    stop, resume = command(kind="stop"), command(kind="resume")
    book.append(state="refused", **command(kind="stop"))
    assert not book.stopped
    book.append(state="accepted", **stop)
    book.close()
    book = Record(tmp_path, file_bytes=1)
    assert book.stopped
    book.append(state="accepted", **resume)
    assert book.stopped
    book.close()
    book = Record(tmp_path)
    assert book.stopped
    book.append(state="done", **resume)
    assert not book.stopped


def test_a_torn_line_is_cut_off_and_its_number_is_free(tmp_path: Path) -> None:
    book = Record(tmp_path)
    one = command()
    book.append(state="accepted", **one)
    whole = record.current(tmp_path).read_bytes()
    book.append(state="done", **one)
    book.close()
    data = record.current(tmp_path).read_bytes()
    for cut in random.Random(1).sample(range(len(whole), len(data)), 20):
        record.current(tmp_path).write_bytes(data[:cut])
        assert record.verify(tmp_path).problem is None
        again = Record(tmp_path)
        assert again.number == 1
        again.append(state="lost", **one)
        again.close()
        assert record.verify(tmp_path)[:2] == (0, 1)


@pytest.mark.parametrize("file_bytes", [1 << 20, 1500])
def test_every_change_is_seen(tmp_path: Path, file_bytes: int) -> None:
    book = Record(tmp_path, file_bytes=file_bytes)
    for _ in range(6):
        book.append(state="refused", **command())
    book.close()
    paths = [*record.older(tmp_path), record.current(tmp_path)]
    chance = random.Random(2)
    for path in paths:
        data = path.read_bytes()
        for _ in range(40):
            at = chance.randrange(len(data) * 8)
            if path == paths[-1] and at // 8 == len(data) - 1:
                continue  # a line without its end is a torn one
            changed = bytearray(data)
            changed[at // 8] ^= 1 << at % 8
            path.write_bytes(bytes(changed))
            assert record.verify(tmp_path).problem is not None, f"bit {at} of {path.name}"
        path.write_bytes(data)
    lines = b"".join(path.read_bytes() for path in paths).splitlines(keepends=True)
    if file_bytes == 1 << 20:
        for without in range(len(lines) - 1):
            paths[-1].write_bytes(b"".join(lines[:without] + lines[without + 1 :]))
            assert record.verify(tmp_path).problem is not None, f"without line {without}"
        paths[-1].write_bytes(b"".join([*lines[:2], lines[3], lines[2], *lines[4:]]))
        assert record.verify(tmp_path).problem is not None
    else:
        paths[-1].write_bytes(b"")
        paths[-2].unlink()
        problem = record.verify(tmp_path).problem
        assert problem is not None
        assert "cut off" in problem


def test_an_agent_takes_no_command_on_a_broken_chain(tmp_path: Path) -> None:
    book = Record(tmp_path)
    book.append(state="refused", **command(actor="kim"))
    book.append(state="refused", **command(actor="kim"))
    book.close()
    path = record.current(tmp_path)
    path.write_text(path.read_text().replace("kim", "lee", 1))
    with pytest.raises(RecordError, match="its hash does not fit: it was changed"):
        Record(tmp_path)


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = Record(tmp_path)
    book.append(state="refused", **command())
    write = os.write

    def half(file: int, data: Any) -> int:
        if len(data) > 100:
            return write(file, bytes(data[:100]))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(RecordError, match="No space left"):
        book.append(state="refused", **command())
    monkeypatch.undo()
    book.append(state="refused", **command())
    assert record.verify(tmp_path)[:2] == (0, 1)


def test_each_line_is_told_once_whatever_is_killed(tmp_path: Path) -> None:
    book = Record(tmp_path / "c", file_bytes=3000)
    chance = random.Random(3)
    told: dict[str, list[bytes]] = {"own": [], "jobs": []}
    known = 0
    for _ in range(30):
        events, states = Spool(tmp_path / "own", "own"), Spool(tmp_path / "jobs", "jobs")
        teller = Teller(book, events, states)
        for _ in range(chance.randrange(4)):
            ours = chance.random() < 0.7
            known += ours
            if ours:
                book.append(state="done", **command())
            else:
                book.append(state="refused", known=False, digest="00")
        if chance.random() < 0.5:
            teller.tell()
        elif chance.random() < 0.5:
            teller._tell(states, "jobs")
        events.close()
        states.close()
    events, states = Spool(tmp_path / "own", "own"), Spool(tmp_path / "jobs", "jobs")
    Teller(book, events, states).tell()
    Teller(book, events, states).tell()
    for spool in (events, states):
        at = spool.acked
        while (frame := spool.next_frame(at)) is not None:
            told[spool.stream] += frame.lines()
            at = frame.end
    documents = [json.loads(line) for line in told["own"]]
    assert [document["ezadmin.chain.number"] for document in documents] == list(range(book.number))
    assert all(document["event.dataset"] == DATASET for document in documents)
    hashes = [record.START, *(document["ezadmin.chain.hash"] for document in documents)]
    assert [document["ezadmin.chain.previous"] for document in documents] == hashes[:-1]
    assert len(told["jobs"]) == known, "what is none of this host's is no state of a command"
    assert {jobs.decode(line).state for line in told["jobs"]} == {"done"}  # type: ignore[union-attr]
    assert events.positions[PLACE] == book.number - 1


def test_a_spool_that_is_full_is_told_later(tmp_path: Path) -> None:
    book = Record(tmp_path / "c")
    events, states = Spool(tmp_path / "own", "own"), Spool(tmp_path / "jobs", "jobs")
    book.append(state="done", **command())
    full = [True]

    def room(_: int) -> None:
        if full[0]:
            raise SpoolError("full")

    states._make_room = room
    teller = Teller(book, events, states)
    teller.tell()
    assert (events.next_seq, states.next_seq) == (1, 0)
    full[0] = False
    teller.tell()
    assert (events.next_seq, states.next_seq) == (1, 1)
    assert times.parse_time(json.loads(next(iter(_lines(states))))["at"])


def _lines(spool: Spool) -> list[bytes]:
    frame = spool.next_frame(spool.acked)
    assert frame is not None
    return frame.lines()
