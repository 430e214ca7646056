"""The indexer against an Elasticsearch that answers what a test says (the real one is in tests/contract)."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import wait
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezadmin_pipeline.elastic import SignInRefused, Unavailable
from ezadmin_pipeline.indexer import ASIDE, MAX_MOVED, Chunk, Indexer, move_field

TODAY = "t-logs-2026.11.24"
PAST = "t-logs-2026.11.20"
Result = tuple[int, str, str]
STORED: Result = (201, "", "")
REFUSED: Result = (400, "index_closed_exception", "closed")
BUSY: Result = (429, "es_rejected_execution_exception", "busy")


class Scripted:
    """Asks ``judge(index, document)`` about every item and ``whole(documents)`` about every request first."""

    def __init__(
        self,
        judge: Callable[[str, dict[str, Any]], Result] = lambda index, document: STORED,
        whole: Callable[[list[dict[str, Any]]], Any] = lambda documents: None,
    ) -> None:
        self.judge = judge
        self.whole = whole
        self.requests: list[list[dict[str, Any]]] = []
        self.stored: list[dict[str, Any]] = []

    def request(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> tuple[int, Any]:
        assert (method, path) == ("POST", "/_bulk")
        assert params is not None
        assert params["timeout"], "a bulk without a timeout waits for ever"
        lines = (body or b"").split(b"\n")
        assert lines.pop() == b""
        actions = [json.loads(line)["create"] for line in lines[::2]]
        documents = [json.loads(line) for line in lines[1::2]]
        self.requests.append(documents)
        answer = self.whole(documents)
        if answer is not None:
            return answer  # type: ignore[no-any-return]
        items = []
        for action, document in zip(actions, documents, strict=True):
            status, kind, reason = self.judge(action["_index"], document)
            if status == 201:
                self.stored.append(document)
                items.append({"create": {"status": status}})
            else:
                items.append({"create": {"status": status, "error": {"type": kind, "reason": reason}}})
        return 200, {"errors": any(item["create"]["status"] != 201 for item in items), "items": items}


class Owner:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.live = True
        self.lines = 0
        self.dead: list[tuple[Any, str, str]] = []
        self.conflicts: list[Any] = []

    def settled(self, lines: int) -> None:
        self.lines += lines

    def conflicted(self, chunk: Chunk, i: int) -> None:
        self.conflicts.append(json.loads(chunk.documents[i])["n"])

    def died(self, chunk: Chunk, i: int, reason: str, text: str) -> None:
        # what is buried is told by its number and by the line as it came
        assert json.loads(chunk.tags[i][2])["n"] == chunk.numbers[i]
        self.dead.append((chunk.numbers[i], reason, text))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.today = TODAY

    def __call__(self) -> float:
        return self.now


class GaveUp(Exception):
    pass


def setup(elastic: Scripted, **options: Any) -> tuple[Indexer, Owner, Clock]:
    clock = Clock()
    options = {"in_flight": 0, "retry_past_index": 600.0, **options}
    indexer = Indexer(elastic, current_index=lambda index: clock.today, clock=clock, **options)
    return indexer, Owner(), clock


def chunk_of(
    owner: Owner, documents: list[dict[str, Any]], index: str = TODAY, fresh: bool = False, first: int = 0
) -> Chunk:
    chunk = Chunk(owner, 7, fresh, "context")
    for number, document in enumerate(documents, first):
        raw = orjson.dumps({"n": number, **document})
        chunk.indices.append(index)
        chunk.actions.append(orjson.dumps({"create": {"_index": index, "_id": f"i{number}"}}) + b"\n")
        chunk.documents.append(raw)
        chunk.numbers.append(number)
        chunk.tags.append(("2026-11-24T08:15", "info", raw))
    return chunk


def turns(clock: Clock, count: int, seconds: float = 5.0) -> Callable[[], None]:
    """A ``keep_alive`` that lets time pass and gives up after ``count`` calls."""
    left = [count]

    def keep_alive() -> None:
        clock.now += seconds
        left[0] -= 1
        if left[0] < 0:
            raise GaveUp

    return keep_alive


# ------------------------------------------------------------------ the usual way


@pytest.mark.parametrize("in_flight", [0, 2])
def test_all_is_stored(in_flight: int) -> None:
    elastic = Scripted()
    indexer, owner, _ = setup(elastic, in_flight=in_flight, bulk_bytes=2000)
    for first in range(0, 100, 10):
        indexer.add(chunk_of(owner, [{}] * 10, first=first))
        while indexer.busy:
            indexer.pump()
    indexer.drain(lambda: None)
    indexer.close()
    assert owner.lines == 100
    assert sorted(document["n"] for document in elastic.stored) == [*range(100)]
    assert 1 < len(elastic.requests) < 10, "chunks travel together"
    assert indexer.waiting_bytes == 0


def test_a_buffer_waits_for_its_delay() -> None:
    elastic = Scripted()
    indexer, owner, clock = setup(elastic)
    indexer.add(chunk_of(owner, [{}]))
    indexer.pump(0.2)
    assert not elastic.requests
    clock.now += 0.2
    indexer.pump(0.2)
    assert owner.lines == 1


def test_what_is_already_there() -> None:
    elastic = Scripted(lambda index, document: (409, "version_conflict_engine_exception", "there"))
    indexer, owner, _ = setup(elastic)
    indexer.add(chunk_of(owner, [{}, {}]))
    indexer.add(chunk_of(owner, [{}], fresh=True, first=2))
    indexer.drain(lambda: None)
    assert owner.lines == 3
    assert owner.conflicts == [2], "only where nobody can have written before"


def test_lines_of_a_partition_that_was_given_up_are_left() -> None:
    elastic = Scripted(lambda index, document: BUSY)
    indexer, owner, clock = setup(elastic)
    other = Owner()
    indexer.add(chunk_of(owner, [{}]))
    indexer.add(chunk_of(other, [{}], first=1))
    indexer.pump()
    owner.live = False
    elastic.judge = lambda index, document: STORED
    clock.now += 60
    indexer.drain(turns(clock, 5))
    assert (owner.lines, other.lines) == (0, 1)
    assert [document["n"] for document in elastic.stored] == [1]


# ------------------------------------------------------------------ refusals


def test_an_item_that_is_refused_is_sent_again_alone() -> None:
    refuse = {3}
    elastic = Scripted(lambda index, document: BUSY if document["n"] in refuse else STORED)
    indexer, owner, clock = setup(elastic)
    indexer.add(chunk_of(owner, [{}] * 6))
    indexer.pump()
    assert owner.lines == 5
    with pytest.raises(GaveUp):
        indexer.drain(turns(clock, 3))
    refuse.clear()
    indexer.drain(turns(clock, 3))
    assert owner.lines == 6
    assert not owner.dead
    assert all([document["n"] for document in request] == [3] for request in elastic.requests[1:])
    assert len(elastic.stored) == 6, "and nothing twice"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, "es_rejected_execution_exception"),
        (429, "cluster_block_exception"),
        (403, "cluster_block_exception"),
        (404, "index_not_found_exception"),
        (400, "index_closed_exception"),
        (503, "unavailable_shards_exception"),
        (500, "whatever"),
    ],
)
def test_todays_index_is_waited_for_as_long_as_it_takes(status: int, kind: str) -> None:
    elastic = Scripted(lambda index, document: (status, kind, "no"))
    indexer, owner, clock = setup(elastic)
    indexer.add(chunk_of(owner, [{}]))
    with pytest.raises(GaveUp):
        indexer.drain(turns(clock, 500, 60.0))
    assert not owner.dead
    elastic.judge = lambda index, document: STORED
    indexer.drain(turns(clock, 3))
    assert owner.lines == 1


def test_an_index_of_the_past_is_waited_for_ten_minutes() -> None:
    elastic = Scripted(lambda index, document: REFUSED if index == PAST else STORED)
    indexer, owner, clock = setup(elastic)
    indexer.add(chunk_of(owner, [{}] * 2, PAST))
    indexer.add(chunk_of(owner, [{}], TODAY, first=2))
    indexer.drain(turns(clock, 20))  # does not wait for lines of the past
    assert owner.lines == 1
    clock.now += 590
    indexer.drain(turns(clock, 20, 0.1))
    assert not owner.dead
    assert indexer.waiting_bytes == 0, "they wait aside"
    clock.now += 20
    indexer.drain(turns(clock, 20))
    assert sorted(owner.dead) == [(0, "index_closed_exception", "closed"), (1, "index_closed_exception", "closed")]
    # the index still refuses: what comes later does not wait anew
    indexer.add(chunk_of(owner, [{}], PAST, first=3))
    indexer.drain(turns(clock, 20))
    assert len(owner.dead) == 3
    # once it took something, the time begins again
    elastic.judge = lambda index, document: STORED
    indexer.add(chunk_of(owner, [{}], PAST, first=4))
    indexer.drain(turns(clock, 20))
    elastic.judge = lambda index, document: REFUSED
    indexer.add(chunk_of(owner, [{}], PAST, first=5))
    indexer.drain(turns(clock, 20))
    assert (owner.lines, len(owner.dead)) == (2, 3)


def late_and_new(today: Result, past: Result) -> tuple[Indexer, Owner, Clock, Scripted]:
    """An indexer whose bulks have 1,000 bytes, and which met 100 lines of yesterday and one of today in turns."""
    elastic = Scripted(lambda index, document: past if index == PAST else today)
    indexer, owner, clock = setup(elastic, bulk_bytes=1000)
    for turn in range(20):
        indexer.add(chunk_of(owner, [{"message": "x" * 50}] * 5, PAST, first=10 * turn))
        indexer.add(chunk_of(owner, [{}], TODAY, first=10 * turn + 9))
        with suppress(GaveUp):
            indexer.drain(turns(clock, 3, 0.1))
        clock.now += 1
    return indexer, owner, clock, elastic


def test_closed_indices_of_the_past_do_not_hold_up_today() -> None:
    indexer, owner, clock, elastic = late_and_new(STORED, REFUSED)
    assert not indexer.busy
    assert indexer.waiting_bytes == 0
    waiting = 100 - len(owner.dead)
    assert owner.lines == 20
    assert 0 < waiting * 120 < 2 * ASIDE * 1000, "bounded"
    elastic.judge = lambda index, document: STORED
    clock.now += 10
    indexer.drain(turns(clock, 20))
    assert (owner.lines, len(owner.dead)) == (20 + waiting, 100 - waiting)


@pytest.mark.parametrize(
    ("today", "past"),
    [
        (STORED, BUSY),
        (REFUSED, REFUSED),
        (BUSY, REFUSED),
    ],
)
def test_while_the_trouble_is_load_or_everywhere_reading_stops_and_nothing_dies(today: Result, past: Result) -> None:
    indexer, owner, clock, elastic = late_and_new(today, past)
    assert not owner.dead
    assert indexer.busy
    elastic.judge = lambda index, document: STORED
    clock.now += 10
    indexer.drain(turns(clock, 50))
    assert (owner.lines, owner.dead, indexer.busy) == (120, [], False)


def test_a_backlog_of_the_past_alone_has_its_ten_minutes() -> None:
    elastic = Scripted(lambda index, document: REFUSED)
    indexer, owner, clock = setup(elastic, bulk_bytes=1000)
    indexer.add(chunk_of(owner, [{"message": "x" * 50}] * 100, PAST))
    indexer.drain(turns(clock, 20, 0.1))
    assert indexer.busy
    indexer.relieve()
    assert not owner.dead
    clock.now += 600
    indexer.drain(turns(clock, 20))
    assert (len(owner.dead), indexer.busy) == (100, False)


def test_what_waits_aside_can_be_given_up_for_the_rest() -> None:
    elastic = Scripted(lambda index, document: REFUSED if index == PAST else STORED)
    indexer, owner, clock = setup(elastic)
    indexer.add(chunk_of(owner, [{}] * 3, PAST))
    indexer.drain(turns(clock, 20, 0.1))
    indexer.relieve()
    assert not owner.dead, "nothing says that today's takes documents"
    indexer.add(chunk_of(owner, [{}], first=3))
    indexer.drain(turns(clock, 20, 0.1))
    indexer.relieve()
    assert sorted(owner.dead) == [(i, "index_closed_exception", "closed") for i in range(3)]
    sent = len(elastic.requests)
    clock.now += 1000
    indexer.drain(turns(clock, 20))
    assert (owner.lines, indexer.waiting_bytes, len(elastic.requests)) == (1, 0, sent)


def test_an_index_of_the_past_is_waited_for_while_todays_refuses_too() -> None:
    elastic = Scripted(lambda index, document: REFUSED)
    indexer, owner, clock = setup(elastic)
    indexer.add(chunk_of(owner, [{}], PAST))
    indexer.add(chunk_of(owner, [{}], TODAY, first=1))
    with pytest.raises(GaveUp):
        indexer.drain(turns(clock, 200, 60.0))
    assert not owner.dead
    elastic.judge = lambda index, document: STORED
    indexer.drain(turns(clock, 10))
    assert owner.lines == 2


def test_midnight_makes_nothing_a_dead_letter_at_once() -> None:
    elastic = Scripted(lambda index, document: REFUSED if index == TODAY else STORED)
    indexer, owner, clock = setup(elastic)
    indexer.add(chunk_of(owner, [{}]))
    with pytest.raises(GaveUp):
        indexer.drain(turns(clock, 200, 60.0))
    clock.today = "t-logs-2026.11.25"
    indexer.drain(turns(clock, 20))
    assert not owner.dead, "as an index of the past it has its ten minutes"
    elastic.judge = lambda index, document: STORED
    clock.now += 10
    indexer.drain(turns(clock, 20))
    assert owner.lines == 1


def test_without_the_right_to_write_it_stops() -> None:
    elastic = Scripted(lambda index, document: (403, "security_exception", "no right"))
    indexer, owner, _ = setup(elastic)
    indexer.add(chunk_of(owner, [{}]))
    with pytest.raises(SignInRefused, match="no right"):
        indexer.drain(lambda: None)
    assert not owner.dead


# ------------------------------------------------------------------ requests that fail as a whole


def unavailable(documents: list[dict[str, Any]]) -> Any:
    raise Unavailable("no answer")


@pytest.mark.parametrize(
    "whole",
    [
        unavailable,
        lambda documents: (503, "<html>"),
        lambda documents: (429, {"error": "busy"}),
        lambda documents: (500, None),
        lambda documents: (404, "<html>no such page"),  # a wrong address, or a proxy that does not know us
        lambda documents: (302, ""),
        lambda documents: (200, "<html>sign in"),
    ],
)
def test_a_request_without_a_proper_answer_is_sent_again_whole(whole: Callable[[list[dict[str, Any]]], Any]) -> None:
    elastic = Scripted(lambda index, document: (409, "version_conflict_engine_exception", "there"), whole)
    indexer, owner, clock = setup(elastic)
    indexer.add(chunk_of(owner, [{}] * 3, fresh=True))
    with pytest.raises(GaveUp):
        indexer.drain(turns(clock, 100))
    assert indexer.away
    assert all(len(request) == 3 for request in elastic.requests)
    elastic.whole = lambda documents: None
    indexer.drain(turns(clock, 10))
    assert indexer.away is None
    assert (owner.lines, owner.dead) == (3, [])
    assert not owner.conflicts, "the request without an answer may have been carried out"


def test_pauses_between_attempts_grow() -> None:
    elastic = Scripted(whole=unavailable)
    indexer, owner, clock = setup(elastic)
    indexer.add(chunk_of(owner, [{}]))
    for _ in range(1000):
        indexer.pump()
        clock.now += 0.05
    assert 10 < len(elastic.requests) < 25, "50 seconds: 0.1, 0.2, 0.4 … 5 s"


@pytest.mark.parametrize("status", [413, 400])
@pytest.mark.parametrize("guilty", [{5}, {0, 15}, set(range(16))])
def test_a_request_that_is_refused_is_halved_until_the_guilty_line_stands_alone(status: int, guilty: set[int]) -> None:
    def whole(documents: list[dict[str, Any]]) -> Any:
        return (status, "too large") if guilty & {document["n"] for document in documents} else None

    elastic = Scripted(whole=whole)
    indexer, owner, _ = setup(elastic)
    indexer.add(chunk_of(owner, [{}] * 8))
    indexer.add(chunk_of(owner, [{}] * 8, first=8))
    indexer.drain(lambda: None)
    assert {(number, reason) for number, reason, _ in owner.dead} == {(number, "bulk_refused") for number in guilty}
    assert owner.lines == 16 - len(guilty)
    assert len(elastic.requests) <= 1 + 2 * 4 * len(guilty)


# ------------------------------------------------------------------ fields that do not fit


def test_a_refused_bulk_is_halved_while_others_are_in_flight() -> None:
    together = threading.Barrier(2)

    def whole(documents: list[dict[str, Any]]) -> Any:
        if len(documents) == 4:
            together.wait(10)  # both are answered at once
            return 413, "too large"
        return None

    elastic = Scripted(whole=whole)
    indexer, owner, _ = setup(elastic, in_flight=2, bulk_bytes=1)
    indexer.add(chunk_of(owner, [{}] * 4))
    indexer.add(chunk_of(owner, [{}] * 4, first=4))
    wait(list(indexer._in_flight), timeout=10)
    indexer.drain(lambda: None)
    assert owner.lines == 8
    assert sorted(document["n"] for document in elastic.stored) == list(range(8))
    indexer.close()


def parse_failure(field: str) -> Result:
    reason = f"[1:10] failed to parse field [{field}] of type [long] in document with id 'x'. Preview of value: 'y'"
    return (400, "document_parsing_exception", reason)


def first_bad(document: dict[str, Any]) -> Result:
    bad = sorted(name for name, value in document.items() if name.startswith("bad") and name != "unmapped")
    return parse_failure(bad[0]) if bad else STORED


@pytest.mark.parametrize("count", [1, 3, MAX_MOVED])
def test_fields_that_do_not_fit_move(count: int) -> None:
    elastic = Scripted(lambda index, document: first_bad(document))
    indexer, owner, _ = setup(elastic)
    bad = {f"bad{i}": {"i": i} for i in range(count)}
    indexer.add(chunk_of(owner, [{"a": 1}, {**bad, "a": 2}, {"a": 3}]))
    indexer.drain(lambda: None)
    assert (owner.lines, owner.dead) == (3, [])
    found = {document["n"]: document for document in elastic.stored}
    assert found[1] == {"n": 1, "a": 2, "unmapped": {f"bad{i}": f'{{"i":{i}}}' for i in range(count)}}
    assert len(elastic.requests) == 1 + count


def test_one_field_too_many_is_a_dead_letter() -> None:
    elastic = Scripted(lambda index, document: first_bad(document))
    indexer, owner, _ = setup(elastic)
    bad = {f"bad{i}": "x" for i in range(MAX_MOVED + 1)}
    indexer.add(chunk_of(owner, [bad, {}]))
    indexer.drain(lambda: None)
    assert owner.lines == 1
    assert [(number, reason) for number, reason, _ in owner.dead] == [(0, "document_parsing_exception")]
    assert f"[bad{MAX_MOVED}]" in owner.dead[0][2]


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (parse_failure("@timestamp"), "document_parsing_exception"),
        (parse_failure("not.there"), "document_parsing_exception"),
        ((400, "illegal_argument_exception", "poison"), "illegal_argument_exception"),
        ((400, "illegal_argument_exception", None), "illegal_argument_exception"),
        ((404, "strange_exception", "?"), "strange_exception"),
    ],
)
def test_what_nothing_can_be_done_about_is_a_dead_letter(result: Result, reason: str) -> None:
    elastic = Scripted(lambda index, document: result if document["n"] == 1 else STORED)
    indexer, owner, _ = setup(elastic)
    indexer.add(chunk_of(owner, [{"@timestamp": "x"}] * 3))
    indexer.drain(lambda: None)
    assert owner.lines == 2
    assert [(number, kind) for number, kind, _ in owner.dead] == [(1, reason)]


def test_a_document_that_cannot_be_read_here_is_a_dead_letter() -> None:
    # Elasticsearch's parser takes bytes that are no UTF-8; lines with them are refused before, so this is a second net
    assert move_field(b'{"a":"\xc1\xa8"}', "a") is None
    assert move_field(b"", "a") is None


@pytest.mark.parametrize(
    ("document", "field", "moved"),
    [
        ({"a": 1, "b": 2}, "a", {"b": 2, "unmapped": {"a": "1"}}),
        ({"a.b": [1, None]}, "a.b", {"unmapped": {"a.b": "[1,null]"}}),
        ({"a": {"b": "x", "c": 1}}, "a.b", {"a": {"c": 1}, "unmapped": {"a.b": "x"}}),
        ({"a.b": {"c.d": True}}, "a.b.c.d", {"a.b": {}, "unmapped": {"a.b.c.d": "true"}}),
        ({"a": {"b": {"c": 1}}}, "a.b", {"a": {}, "unmapped": {"a.b": '{"c":1}'}}),
        ({"a": {}, "a.b": 1}, "a.b", {"a": {}, "unmapped": {"a.b": "1"}}),
        ({"a": 1, "unmapped": {"z": "y"}}, "a", {"unmapped": {"z": "y", "a": "1"}}),
        ({"a": 1, "unmapped": "text"}, "a", {"unmapped": {"unmapped": "text", "a": "1"}}),
        ({"unmapped": [1]}, "unmapped", {"unmapped": {"unmapped": "[1]"}}),
        ({"a": "한"}, "a", {"unmapped": {"a": "한"}}),
        ({"a": 1}, "b", None),
        ({"a": {"b": 1}}, "a.c", None),
        ({"a": [{"b": 1}]}, "a.b", None),
    ],
)
def test_moving_a_field(document: dict[str, Any], field: str, moved: dict[str, Any] | None) -> None:
    found = move_field(orjson.dumps(document), field)
    assert (None if found is None else json.loads(found)) == moved


_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("abc"), inner, max_size=2)),
    max_leaves=4,
)


@given(
    st.dictionaries(st.sampled_from(["a", "b", "a.b", "a.b.c", "unmapped"]), _json),
    st.sampled_from(["a", "b", "a.b", "a.b.c"]),
)
def test_moving_loses_nothing_and_leaves_the_rest(document: dict[str, Any], field: str) -> None:
    found = move_field(orjson.dumps(document), field)
    if field not in document:
        return
    assert found is not None
    after = json.loads(found)
    assert isinstance(after["unmapped"][field], str)
    value = document[field]
    assert after["unmapped"][field] == (
        value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    )
    assert {name: value for name, value in after.items() if name != "unmapped"} == {
        name: value for name, value in document.items() if name not in ("unmapped", field)
    }
