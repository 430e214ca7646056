"""Lines that go as they came, a whole batch at once: the same documents, counts and fates as line by line."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ezadmin_pipeline import rollups
from ezadmin_pipeline.directory import Directory, Host
from ezadmin_pipeline.documents import DocumentMaker
from ezadmin_pipeline.indexer import Chunk, Indexer
from ezadmin_pipeline.lines import Bounds, LineReader
from ezadmin_wire.batch import MAX_LINE, Batch
from ezadmin_wire.config import HostRecord, Match, Rule, RulesRecord
from ezadmin_wire.levels import LEVELS, known_level
from ezadmin_wire.names import Names

NAMES = Names("t")
HOST = "00000000-0000-4000-8000-00000000000a"
SEQ = 250
RULES: dict[str, list[Rule]] = {
    "none": [],
    "filter by level": [Rule("quiet", "filter", Match(levels=["debug", "unknown"]))],
    "ignore all": [Rule("all", "ignore", Match())],
    "exempt before filter": [
        Rule("keep", "exempt", Match(levels=["error"])),
        Rule("rest", "filter", Match(levels=["error", "info"])),
    ],
    "one that is over": [Rule("old", "ignore", Match(levels=["info"]), {}, expires="2026-11-24T08:16:00.000Z")],
    "set level": [Rule("raise", "set_level", Match(levels=["info"]), {"level": "critical"})],
    "a text": [Rule("text", "filter", Match(contains="secret"))],
    "a mask and a filter": [
        Rule("quiet", "filter", Match(levels=["debug"])),
        Rule("mask", "mask", Match(), {"pattern": "secret", "replacement": "*"}),
    ],
}


def line(time: str = "2026-11-24T08:15:30.123Z", level: str | None = "info", created: str = "", **more: Any) -> bytes:
    fields = {"@timestamp": time, "event.created": created or time, "event.dataset": "app"}
    if level is not None:
        fields["log.level"] = level
    return json.dumps(fields | more, separators=(",", ":"), ensure_ascii=False).encode()


class Made:
    """What became of a batch of ``lines`` under ``rules``: ``at_once`` says whether the fast way may be taken."""

    def __init__(self, lines: list[bytes], rules: list[Rule], at_once: bool, bounds: Bounds | None = None) -> None:
        directory = Directory([])
        # labels are free text, and the head of a document is a pattern with a place for the number
        directory._hosts[HOST] = Host(HOST, HostRecord(name="web%1", labels={"load": "100%", "%x": "%d%%"}))
        directory.rules = RulesRecord(rules)
        value = b"\n".join(lines) + b"\n"
        when = "2026-11-24T08:15:30.123Z"
        batch = Batch(HOST, "k", NAMES.logs, "logs", "0" * 16, SEQ, len(lines), "app", when, when, {}, when, value)
        maker = DocumentMaker(NAMES, directory, lambda: datetime(2026, 11, 24, 8, 15, 31, tzinfo=UTC))
        if not at_once:
            maker._reader = ByLine()
        self.chunk = Chunk(None, 0, fresh=False, context=batch)  # type: ignore[arg-type]
        bad = maker.make(self.chunk, batch, [(SEQ, SEQ + len(lines))], bounds)
        self.bad = [(seq, raw, error.reason, error.minute, error.level) for seq, raw, error in bad]
        self.plain = self.chunk.plain
        self.count = self.chunk.count
        self.hits = +maker.hits
        if self.plain is None:
            self.tallies = rollups.tally(self.chunk.tags), rollups.tally(self.chunk.ignored)
        else:
            self.tallies = self.plain.tally, self.plain.ignored
        self.size = self.chunk.size()
        self.body = body_of(self.chunk)

    def columns(self) -> Any:
        chunk = self.chunk
        return (chunk.numbers, chunk.indices, chunk.actions, chunk.documents, chunk.tags, chunk.ignored)


class ByLine(LineReader):
    """A reader without the batch's way."""

    def read_all(self, *arguments: Any) -> None:  # type: ignore[override]
        return None


class Taken:
    """An Elasticsearch that keeps the bodies."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def request(self, method: str, path: str, *, params: Any = None, body: bytes | None = None) -> tuple[int, Any]:
        self.bodies.append(body or b"")
        return 200, {"errors": False}


class Owner:
    live = True
    lines = 0

    def settled(self, lines: int) -> None:
        self.lines += lines


def body_of(*chunks: Chunk) -> bytes:
    elastic, owner = Taken(), Owner()
    indexer = Indexer(elastic, current_index=lambda index: index, clock=lambda: 0.0, in_flight=0)
    for chunk in chunks:
        chunk.owner = owner  # type: ignore[assignment]
        if chunk.count:
            indexer.add(chunk)
    indexer.drain(lambda: None)
    assert owner.lines == sum(chunk.count for chunk in chunks)
    return b"".join(elastic.bodies)


def same(lines: list[bytes], rules: list[Rule], bounds: Bounds | None = None) -> Made:
    fast, slow = Made(lines, rules, True, bounds), Made(lines, rules, False, bounds)
    assert slow.plain is None
    assert fast.body == slow.body
    assert (fast.count, fast.bad, fast.hits, fast.tallies) == (slow.count, slow.bad, slow.hits, slow.tallies)
    assert abs(fast.size - slow.size) <= 16 * fast.count
    assert fast.columns() == slow.columns()
    assert fast.chunk.plain is None
    assert (fast.count, fast.body) == (fast.chunk.count, body_of(fast.chunk)), "with columns as without"
    return fast


USUAL = [line(), line(level="debug"), line(level="error", message="a secret, 한글"), line(level=None)]


@pytest.mark.parametrize("name", RULES)
def test_what_hosts_send_is_plain(name: str) -> None:
    found = same(USUAL, RULES[name])
    changed = name in ("set level", "a text", "a mask and a filter")
    assert (found.plain is None) == changed, "rules that look into lines or change them need the columns"
    assert not found.bad


@pytest.mark.parametrize(
    "others",
    [
        [line(level="WARN")],
        [line("2026-11-24T08:16:00.000Z"), line("2026-11-24T08:15:00.000Z")],
        # across the ten minutes that times are compared by, but close
        [line("2026-11-24T08:19:59.999Z", created="2026-11-24T08:20:00.007Z")],
        [line("2026-11-24T08:15:30.123Z", created="2026-11-24T09:15:30.123Z")],
        [line("2026-11-23T08:15:30.123Z", created="2026-11-24T08:15:30.123Z")] * 2,
        [line(message='"host.id": \\u0068ost. "}{"')],
        [line(message="100 %x %d %% %")],
        [line(message="x" * 100_000)],
        [line(message="\r")],
    ],
)
@pytest.mark.parametrize("name", RULES)
def test_what_is_still_the_same(others: list[bytes], name: str) -> None:
    same([*USUAL, *others, line()], RULES[name])


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b" ",
        b"{}",
        line() + b"\r",
        line() + b" ",
        b" " + line(),
        line()[:-1] + b',"host.id":"x"}',
        line()[:-1] + b',"\\u0068ost":"x"}',
        line()[:-1] + b',"agent.x":1}',
        line()[:-1] + b',"event.":{"ingested":1}}',
        line()[:-1] + b',"\xc1\xa8ost.id":"x"}',
        line()[:-1] + b',"message":"\xff"}',
        line()[:-1] + b',"log.level":7}',
        line(**{"event.dataset": "other"}),
        line("2026-11-24T08:15:30Z"),
        line("2026-11-24T08:15:99.000Z", created="2026-11-24T08:20:00.000Z"),
        line("2026-11-24T08:15:30.123Z", created="2026-11-24T08:20:99.123Z"),
        line("2026-11-24T09:15:30.123Z", created="2026-11-24T08:15:30.123Z"),
        line("2026-11-10T09:15:30.123Z", created="2026-11-24T08:15:30.123Z"),
        line("2031-11-24T08:15:30.123Z"),
        line(message="x" * MAX_LINE),
        b"no JSON",
        b'{"a":"' + line() + b'"}',
    ],
)
@pytest.mark.parametrize("name", ["none", "filter by level", "set level"])
def test_what_falls_off_the_fast_way(odd: bytes, name: str) -> None:
    found = same([*USUAL, odd, line()], RULES[name], Bounds.around(1_795_508_160_000))
    assert found.plain is None


def test_a_batch_over_midnight_has_columns() -> None:
    found = same([line("2026-11-23T23:59:59.999Z"), line("2026-11-24T00:00:00.000Z")], [])
    assert found.plain is None
    assert found.chunk.indices == ["t-logs-2026.11.23", "t-logs-2026.11.24"]


_times = st.integers(0, 90 * 60_000).map(
    lambda ms: datetime.fromtimestamp(1_795_508_100 + ms / 1000, UTC).isoformat(timespec="milliseconds")[:23] + "Z"
)
_lines = st.builds(
    line,
    _times,
    st.sampled_from([*LEVELS, "info", "info", "WARN", None]),
    st.one_of(st.just(""), _times),
    message=st.sampled_from(["one", "a secret", 'quoted "x"', "%x", "한글", "back\\slash"]),
)
_odd = st.sampled_from([b"", b"{}", line() + b"\r", line()[:-1] + b',"host":{}}', line()[:-1] + b',"message":"\xff"}'])


@given(
    st.lists(st.one_of(_lines, _lines, _lines, _odd), min_size=1, max_size=12),
    st.sampled_from(sorted(RULES)),
    st.sampled_from([None, Bounds.around(1_795_508_160_000)]),
)
@example([line()] * 3, "none", None)
def test_at_once_and_line_by_line_are_the_same(lines: list[bytes], name: str, bounds: Bounds | None) -> None:
    same(lines, RULES[name], bounds)


@given(st.lists(_lines, min_size=1, max_size=5), st.lists(_odd, max_size=2), st.lists(_lines, max_size=5))
def test_a_bulk_of_both_kinds(first: list[bytes], odd: list[bytes], last: list[bytes]) -> None:
    groups = [group for group in (first, [*odd, line()], last) if group]
    rules = RULES["filter by level"]
    expected = b"".join(Made(group, rules, False).body for group in groups)
    assert body_of(*(Made(group, rules, True).chunk for group in groups)) == expected


def test_a_line_of_plain_ones_alone() -> None:
    made = Made(USUAL, RULES["filter by level"], True)
    assert made.plain is not None
    single = made.chunk.single(1)
    assert json.loads(single.documents[0])["message"] == "a secret, 한글"
    assert (single.numbers, single.tags[0][1], single.plain) == ([2], "error", None)
    assert body_of(single) == made.body[made.body.index(b'{"create"', 1) :]
    with pytest.raises(AttributeError):
        made.chunk.nonsense  # type: ignore[attr-defined]  # noqa: B018


@given(st.lists(st.tuples(_times.map(lambda time: time[:16]), st.sampled_from(LEVELS)), min_size=1, max_size=20))
def test_levels_of_a_tally(cells: list[tuple[str, str]]) -> None:
    tally = rollups.tally([(*cell, b"x") for cell in cells])
    assert rollups.levels_of(tally) == Counter(known_level(level) for _, level in cells)


def test_a_bad_line_says_where_it_counts() -> None:
    made = Made([*USUAL, line(level="error")[:-1] + b',"host.id":"x"}'], [], True)
    assert made.bad == [(SEQ + 4, made.bad[0][1], "owned_name", "2026-11-24T08:15", "error")]
