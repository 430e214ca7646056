"""Rollup documents: whose they are, what they count."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from ezadmin_pipeline import rollups
from ezadmin_pipeline.rollups import Counts, Key
from ezadmin_wire.names import Names

_numbers = st.integers(0, 2**40)
_counts = st.builds(Counts, _numbers, _numbers, _numbers, _numbers, _numbers)
_word = st.text(alphabet="ab-.1", max_size=3)
_keys = st.tuples(
    st.builds(Key, st.sampled_from(rollups.ROLLUPS), _word, _word, _word, _word), _word, st.integers(0, 20), _word
)


def test_a_line_counts_under_three_keys() -> None:
    keys = rollups.keys_of("2026-11-24T08:15", "h", "d", "info")
    assert keys == (
        Key("logs-1m", "2026-11-24T08:15", "h", "d", "info"),
        Key("logs-fleet-1m", "2026-11-24T08:15", "", "d", "info"),
        Key("logs-fleet-1h", "2026-11-24T08:00", "", "d", "info"),
    )
    names = Names("t")
    assert [rollups.index_of(key, names) for key in keys] == [
        "t-rollup-logs-1m-2026.11.24",
        "t-rollup-logs-fleet-1m-2026.11",
        "t-rollup-logs-fleet-1h-2026.11",
    ]


@given(_keys, _keys)
def test_ids_differ_when_any_part_does(first: tuple[Key, str, int, str], second: tuple[Key, str, int, str]) -> None:
    assert (rollups.document_id(*first) == rollups.document_id(*second)) == (first == second)
    assert re.fullmatch(r"[A-Za-z0-9_-]{20}", rollups.document_id(*first))


def test_every_part_of_a_key_counts() -> None:
    key = Key("logs-1m", "2026-11-24T08:15", "h", "d", "info")
    ids = {rollups.document_id(key, "t", 0), rollups.document_id(key, "t", 1), rollups.document_id(key, "u", 0)}
    ids.add(rollups.document_id(key, "t", 0, "1"))
    ids |= {rollups.document_id(key._replace(**{part: "x"}), "t", 0) for part in Key._fields}
    assert len(ids) == 4 + len(Key._fields)


def test_ids_stay_what_they_are() -> None:
    # a change would count everything in the open windows twice
    key = Key("logs-1m", "2026-11-24T08:15", "h", "d", "info")
    assert rollups.document_id(key, "ezadmin.logs", 3) == "UIVp4SBp-B5nO48zrqeE"


@given(_counts)
def test_fields_and_back(counts: Counts) -> None:
    fields = counts.fields()
    again = Counts.from_fields(fields)
    assert again.fields() == fields
    assert fields["events.stored"] == (
        fields["events.seen"] - fields["events.ignored"] - fields["events.sampled"] - fields["events.dead"]
    )


@given(_counts, _counts)
def test_adding(first: Counts, second: Counts) -> None:
    a, b = first.fields(), second.fields()
    total = Counts()
    total.add(first)
    total.add(second)
    assert total.fields() == {name: a[name] + b[name] for name in a}


def test_documents() -> None:
    host = {"host.name": "web-1", "labels": {"site": "seoul"}}
    minute, fleet, _ = rollups.keys_of("2026-11-24T08:15", "h", "d", "info")
    found = rollups.document(minute, Counts(seen=3, dead=1, bytes=99), "t.logs", 2, host)
    assert found == {
        "@timestamp": "2026-11-24T08:15:00.000Z",
        "rollup": "logs-1m",
        "event.dataset": "d",
        "log.level": "info",
        "kafka.topic": "t.logs",
        "kafka.partition": 2,
        "events.seen": 3,
        "events.stored": 2,
        "events.ignored": 0,
        "events.sampled": 0,
        "events.dead": 1,
        "events.bytes": 99,
        "host.id": "h",
        **host,
    }
    assert not {"host.id", "host.name", "labels"} & set(rollups.document(fleet, Counts(), "t.logs", 2, {}))


@given(
    st.lists(st.tuples(st.sampled_from(["10:00", "10:01"]), st.sampled_from(["info", "error"]), st.binary(max_size=9)))
)
def test_the_tally_of_lines(tags: list[tuple[str, str, bytes]]) -> None:
    expected: dict[tuple[str, str], tuple[int, int]] = {}
    for minute, level, line in tags:
        count, size = expected.get((minute, level), (0, 0))
        expected[minute, level] = count + 1, size + len(line)
    assert rollups.tally(tags) == expected
