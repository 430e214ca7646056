"""Lines and the documents they become: times, levels, and that no line speaks for another host."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ezadmin_pipeline.directory import Directory
from ezadmin_pipeline.documents import DocumentMaker
from ezadmin_pipeline.indexer import Chunk
from ezadmin_pipeline.lines import (
    AHEAD,
    BEHIND,
    ORIGINAL_TIMESTAMP,
    BadLine,
    Bounds,
    Line,
    LineReader,
    host_prefix,
    suspicious,
)
from ezadmin_wire.batch import MAX_LINE, Batch
from ezadmin_wire.ids import event_id, event_id_prefix
from ezadmin_wire.levels import LEVELS
from ezadmin_wire.names import Names
from ezadmin_wire.times import format_time

HOST = "00000000-0000-4000-8000-00000000000a"
OTHER = "00000000-0000-4000-8000-00000000000b"
PREFIX = host_prefix(HOST, "web-1", {"site": "seoul"}) + b'2026-11-24T08:15:31.000Z",'
WHEN = "2026-11-24T08:15:30.123Z"
REASONS = {"too_large", "bad_line", "owned_name", "wrong_dataset", "bad_time"}
OWNED = {"host", "agent", "labels", "event", "event.ingested", "event.sample_rate", ORIGINAL_TIMESTAMP, "_doc_count"}
READER = LineReader()


def line(**members: Any) -> bytes:
    """A line as agents write it; ``timestamp`` and ``created`` are its times, the rest stands as given."""
    fields = {
        "@timestamp": members.pop("timestamp", WHEN),
        "event.created": members.pop("created", WHEN),
        "event.dataset": members.pop("dataset", "app"),
        **members,
    }
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()


def with_member(member: bytes) -> bytes:
    """A line with ``member`` (``"name":value``, as it stands) at its end."""
    return line()[:-1] + b"," + member + b"}"


def read(raw: bytes, dataset: str = "app") -> Line:
    return READER.read(raw, dataset, PREFIX, suspicious(raw))


def refusal(raw: bytes, dataset: str = "app") -> str:
    with pytest.raises(BadLine) as caught:
        read(raw, dataset)
    return caught.value.reason


def unique_members(document: bytes) -> dict[str, Any]:
    """The members of a JSON object; fails on a name that stands twice in its root, and on what is no strict JSON."""

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {"\0pairs": pairs}

    def no_constant(name: str) -> Any:
        raise AssertionError(f"{name} is no JSON")

    root = json.loads(document.decode("utf-8", "strict"), object_pairs_hook=members, parse_constant=no_constant)
    names = [name for name, _ in root["\0pairs"]]
    return {name: (value, names.count(name)) for name, value in root["\0pairs"]}


def check_document(document: bytes, host: str = HOST) -> None:
    """The promise: one JSON object in strict UTF-8, whose host.id is the given one, and nothing else that names one."""
    members = unique_members(document)
    assert members["host.id"] == (host, 1)
    assert members["host.name"][1] == 1
    assert members["event.ingested"][1] == 1
    for written, (_, count) in members.items():
        name = written.rstrip(".") or written
        assert name not in OWNED - {"event.ingested", "labels", ORIGINAL_TIMESTAMP}, name
        assert not name.startswith(("host.", "agent.", "labels.")) or name in ("host.id", "host.name"), name
        if name in ("labels", ORIGINAL_TIMESTAMP):
            assert count == 1


# ------------------------------------------------------------------ times


@pytest.mark.parametrize(
    ("timestamp", "created", "minute"),
    [
        (WHEN, WHEN, "2026-11-24T08:15"),
        ("2026-11-24T08:10:00.000Z", "2026-11-24T08:19:59.999Z", "2026-11-24T08:10"),
        ("2026-11-24T08:09:59.999Z", "2026-11-24T08:10:00.000Z", "2026-11-24T08:09"),
        ("2026-11-24T17:15:30.123+09:00", WHEN, "2026-11-24T08:15"),
        ("2026-11-24T00:05:00+09:00", "2026-11-23T15:05:00.000Z", "2026-11-23T15:05"),
        ("2026-11-23T23:30:00.000-08:45", WHEN, "2026-11-24T08:15"),
        ("2026-11-24T08:15:30.123456789Z", WHEN, "2026-11-24T08:15"),
        ("2026-11-24T08:15:30Z", WHEN, "2026-11-24T08:15"),
    ],
)
def test_the_minute_is_that_of_the_timestamp_in_utc(timestamp: str, created: str, minute: str) -> None:
    raw = line(timestamp=timestamp, created=created)
    found = read(raw)
    assert found.minute == minute
    assert found.document == PREFIX + raw[1:], "a line whose time is possible stays as it is"


@pytest.mark.parametrize("seconds", [AHEAD, -BEHIND])
def test_the_limits_belong_to_what_is_allowed(seconds: float) -> None:
    created = datetime(2026, 11, 24, 8, 15, 30, tzinfo=UTC)
    edge = format_time(created + timedelta(seconds=seconds))
    found = read(line(timestamp=edge, created=format_time(created)))
    assert found.minute == edge[:16]
    assert ORIGINAL_TIMESTAMP.encode() not in found.document
    beyond = format_time(created + timedelta(seconds=seconds, milliseconds=1 if seconds > 0 else -1))
    found = read(line(timestamp=beyond, created=format_time(created), message="한글"))
    members = json.loads(found.document)
    assert found.minute == "2026-11-24T08:15"
    assert members["@timestamp"] == format_time(created)
    assert members[ORIGINAL_TIMESTAMP] == beyond
    assert members["message"] == "한글"
    check_document(found.document)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-11-24T08:15:30.123",  # no zone
        "2026-11-24",
        "2026-02-30T08:15:30.123Z",
        "2026-11-24T25:15:30.123Z",
        "1764000000000",
        "0001-01-01T00:00:00+14:00",  # before the first year
        "9999-12-31T23:59:59-14:00",  # after the last
        "2026-11-24T08:15:30.123Z\\n",
        "২০২৬-11-24T08:15:30.123Z",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    assert refusal(line().replace(WHEN.encode(), text.encode(), 1)) == "bad_time"
    early = line(timestamp="2026-11-24T07:15:30.123Z")
    assert refusal(early.replace(WHEN.encode(), text.encode())) == "bad_time"


@pytest.mark.parametrize("text", ["2026-11-24 08:15:30.123Z", "2026-11-24_08:15:30.123Z", "2026-W48-2T08:15:30.123Z"])
def test_a_time_in_another_form_never_names_a_window_or_an_index(text: str) -> None:
    # windows of rollups and names of indices are cut out of the minute: an odd one would be refused there for ever
    assert read(line(timestamp=text, created=text)).minute == "2026-11-24T08:15"


def test_years_of_less_than_four_digits() -> None:
    found = read(line(timestamp="0999-01-01T00:00:00+01:00", created="0999-01-01T00:00:00+01:00"))
    assert found.minute == "0998-12-31T23:00"


@given(st.text(alphabet="0123456789-T:.Z+ W", max_size=30), st.booleans())
@example("2026-11-24 08:15:30.123Z", True)
def test_any_text_as_time_gives_a_real_minute_or_is_refused(text: str, both: bool) -> None:
    try:
        found = read(line(timestamp=text, created=text if both else WHEN))
    except BadLine as error:
        assert error.reason == "bad_time"  # noqa: PT017 - not every example raises
        return
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d", found.minute)
    datetime.fromisoformat(found.minute)


# ------------------------------------------------------------------ levels, datasets, shape


@pytest.mark.parametrize("level", [*LEVELS, None, "WARN", "", "fatal"])
def test_levels(level: str | None) -> None:
    raw = line() if level is None else line(**{"log.level": level})
    assert read(raw).level == (level if level in LEVELS else "unknown")


def test_datasets() -> None:
    assert refusal(line(dataset="other")) == "wrong_dataset"
    assert read(line(dataset="other"), "*").minute == WHEN[:16]
    assert refusal(with_member(b'"event.dataset":"other"')) == "wrong_dataset"


def test_a_refused_line_still_says_where_it_counts() -> None:
    raw = line(**{"log.level": "error"})
    with pytest.raises(BadLine) as caught:
        read(raw[:-1] + b',"host":{}}')
    assert (caught.value.minute, caught.value.level) == (WHEN[:16], "error")
    with pytest.raises(BadLine) as caught:
        read(raw, "other")
    assert (caught.value.minute, caught.value.level) == (WHEN[:16], "error")
    with pytest.raises(BadLine) as caught:
        read(b"{}")
    assert (caught.value.minute, caught.value.level) == (None, "unknown")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'"text"',
        b"{",
        b'{"@timestamp":1,"event.created":2,"event.dataset":3}',
        line() + b"}",
        line()[:-1],
        line() + line(),
        b"\xef\xbb\xbf" + line(),
        line().decode().encode("utf-16"),
        with_member(b'"x":"\xff"'),
        with_member(b'"\xff":1'),
        with_member(b'"x":"\xed\xa0\x80"'),  # a surrogate in UTF-8
        with_member(b'"x":"\xc0\x80"'),  # NUL, too long
        with_member(b'"x":"\\ud800"'),
        with_member(b'"x":"\x00"'),
        with_member(b'"x":"a\tb"'),
        with_member(b'"x":01'),
        with_member(b'"x":NaN'),
        with_member(b"x:1"),
        with_member(b"'x':1"),
        with_member(b'/* */"x":1'),
        with_member(b'"x":' + b"[" * 100_000 + b"]" * 100_000),
        line(**{"log.level": 3}),
    ],
)
def test_what_is_no_line_is_refused(raw: bytes) -> None:
    assert refusal(raw) == "bad_line"


def test_white_space_before_the_object_would_break_the_splice() -> None:
    assert refusal(b" " + line()) == "bad_line"
    assert refusal(b"\r\t" + line()) == "bad_line"
    spaced = json.dumps(json.loads(line(message="a")), indent=1).replace("\n", "\r").encode() + b" \r"
    check_document(read(spaced).document)


def test_size() -> None:
    longest = line(message="m" * (MAX_LINE - len(line(message=""))))
    assert len(longest) == MAX_LINE
    check_document(read(longest).document)
    assert refusal(longest[:-2] + b'm"}') == "too_large"


# ------------------------------------------------------------------ names that only the pipeline writes

SPELLINGS = [
    lambda name: name.encode(),
    lambda name: b"\\u%04x" % ord(name[0]) + name[1:].encode(),
    lambda name: name[:-1].encode() + b"\\u%04X" % ord(name[-1]),
    lambda name: b"".join(b"\\u%04x" % ord(char) for char in name),
]


@pytest.mark.parametrize("spell", SPELLINGS)
@pytest.mark.parametrize(
    "name",
    [
        *sorted(OWNED),
        *(f"{name}." for name in sorted(OWNED)),  # Elasticsearch drops dots at the end of a name
        "host.id",
        "host.name",
        "host.os.name",
        "host.id..",
        "agent.id",
        "labels.site",
        "event...",
        "event.ingested..",
    ],
)
def test_owned_names_in_every_spelling(name: str, spell: Any) -> None:
    spelled = spell(name)
    for value in (b'"x"', b"{}", b'{"id":"x"}', b"[1]", b"null", b"7"):
        assert refusal(with_member(b'"' + spelled + b'":' + value)) == "owned_name"
        assert refusal(with_member(b'"' + spelled + b'" \t:\r' + value)) == "owned_name"
    first = b'{"' + spelled + b'":1,' + line()[1:]
    assert refusal(first) == "owned_name"


@pytest.mark.parametrize(
    "key",
    [
        b"\xc1\xa8ost",  # 'h' in two bytes: no UTF-8, but Elasticsearch's parser reads names so
        b"\xe0\x81\xa8ost",
        b"\xf0\x80\x81\xa8ost",
        b"hos\xc1\xb4",
        b"host\xc0\xaeid",
        b"l\xc1\xa1bels",
        b"ev\xc1\xa5nt",
        b"event\xc0\xaeingested",
    ],
)
def test_a_name_in_overlong_utf8_is_no_way_to_speak_for_another_host(key: bytes) -> None:
    raw = with_member(b'"' + key + b'":{"id":"' + OTHER.encode() + b'"}')
    assert refusal(raw) == "bad_line"
    # its neighbours in the batch are judged by themselves
    value = line() + b"\n" + raw + b"\n"
    assert READER.read(line(), "app", PREFIX, suspicious(value)).document == PREFIX + line()[1:]


@pytest.mark.parametrize(
    "member",
    [
        b'"message":"\\"host\\": \\"x\\""',
        b'"message":"\\u0068ost"',
        b'"fields":{"host":{"id":"x"},"host.id":"x","labels":1}',
        b'"hostname":"x"',
        b'"HOST":1',
        b'"host id":1',
        b'"event.kind":"event"',
        b'"event.ingested_at":1',
        b'"agents":1',
        b'"message.":1',
        b'"fields":{"event.":"."}',
        b'"log":{"level":"info"}',
    ],
)
def test_what_only_looks_like_an_owned_name_is_taken(member: bytes) -> None:
    raw = with_member(member)
    assert read(raw).document == PREFIX + raw[1:]


def test_a_name_twice() -> None:
    # Elasticsearch refuses it; what matters here is that none of the two is an owned one
    assert refusal(with_member(b'"host.id":"x","host.id":"x"')) == "owned_name"
    check_document(read(with_member(b'"message":"a","message":"b"')).document)


# ------------------------------------------------------------------ anything at all

_char = st.sampled_from([*"hostagenlbv._idcmrpu", "\\u0068", "\\u002e", "\\\\", '\\"', " ", "한"])
_raw_char = st.sampled_from([b"\xc1\xa8", b"\xe0\x81\xa8", b"\xc0\xae", b"\xff", b"\x00", b"\xed\xa0\x80"])
_name = st.one_of(
    st.sampled_from([name.encode() for name in sorted(OWNED)] + [b"host.id", b"labels.a", b"@timestamp", b"log.level"]),
    st.builds(
        lambda name, at, by: name[: at % len(name)].encode() + by + name[at % len(name) + 1 :].encode(),
        st.sampled_from(sorted(OWNED)),
        st.integers(0, 30),
        st.one_of(_char.map(str.encode), _raw_char),
    ),
    st.lists(st.one_of(_char.map(str.encode), _raw_char), min_size=1, max_size=6).map(b"".join),
)
_value = st.recursive(
    st.sampled_from(
        [b"1", b'"x"', b"null", b"-0.5e3", b"1e999", b"12345678901234567890123", b'"\\ud83d\\ude00"', b'"\xff"']
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: b"[" + b",".join(items) + b"]"),
        st.lists(st.tuples(_name, inner), max_size=3).map(
            lambda items: b"{" + b",".join(b'"' + name + b'":' + value for name, value in items) + b"}"
        ),
    ),
    max_leaves=4,
)
_members = st.lists(st.tuples(_name, _value), max_size=4)
_times = st.sampled_from(
    [WHEN, "2026-11-24T08:15:30Z", "2027-01-01T00:00:00.000Z", "2026-11-24 08:15:30.123Z", "x", ""]
)


@st.composite
def crafted_lines(draw: st.DrawFn) -> bytes:
    """Lines that try: members of any name and value before and behind the usual ones, then perhaps broken bytes."""
    usual = line(timestamp=draw(_times), created=draw(_times))[1:-1]
    before, behind = draw(_members), draw(_members)
    parts = [b'"' + name + b'":' + value for name, value in before]
    parts += [usual, *(b'"' + name + b'":' + value for name, value in behind)]
    raw = bytearray(b"{" + draw(st.sampled_from([b",", b" , ", b",\r"])).join(parts) + b"}")
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(raw).replace(b"\n", b" ")


def judge(raw: bytes) -> None:
    try:
        found = read(raw)
    except BadLine as error:
        assert error.reason in REASONS  # noqa: PT017 - not every example raises
        return
    check_document(found.document)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d", found.minute)
    assert found.level in LEVELS


@given(st.binary(max_size=200))
def test_random_bytes(raw: bytes) -> None:
    judge(raw)


@given(crafted_lines())
def test_crafted_lines(raw: bytes) -> None:
    judge(raw)


# ------------------------------------------------------------------ all lines of a batch at once

TAKEN = int(datetime(2026, 11, 24, 8, 16, tzinfo=UTC).timestamp() * 1000)
BOUNDS = Bounds.around(TAKEN)


def read_all(value: bytes, bounds: Bounds | None = BOUNDS, dataset: str = "app") -> list[Line] | None:
    """The batch's way, which must be the lines' way wherever it is taken."""
    lines = value[:-1].split(b"\n")
    columns = READER.read_all(value, lines, dataset, suspicious(value), bounds)
    if columns is None:
        return None
    found = [Line(minute, level, PREFIX + raw[1:]) for minute, level, raw in zip(*columns, lines, strict=True)]
    assert found == [READER.read(raw, dataset, PREFIX, suspicious(raw), bounds) for raw in lines]
    return found


@pytest.mark.parametrize(
    "lines",
    [
        [line()],
        [line(message="한글"), line(**{"log.level": "error"}), line(**{"log.level": "WARN"})],
        [line(message='"host.id": \\u0068ost. "}{"'), line(message="\x1b[31m}"), line(fields={"host": {"id": "x"}})],
        [line(timestamp="2026-11-24T08:10:00.000Z"), line(timestamp="2026-11-24T08:19:59.999Z")],
        [line(), line(timestamp="2026-11-24T07:59:30.000Z", created="2026-11-24T07:59:31.000Z")],
        [b'{"x":[{}],' + line()[1:], line()[:-1] + b',"x":{}}'],
    ],
)
def test_what_hosts_send_goes_the_fast_way(lines: list[bytes]) -> None:
    assert read_all(b"\n".join(lines) + b"\n") is not None


INNER = line()[1:-1]


@pytest.mark.parametrize(
    "value",
    [
        # as many values as lines, but not one on each: documents would get each other's names and numbers
        line() + line() + b"\n" + line()[:-1] + b',"x":[{}\n]}\n',
        line() + line() + b"\n{" + INNER + b',"x":[{"y":{}\n},{"host":{"id":"x"}}]}\n',
        line() + line() + b"\n" + b"{\n" + INNER + b"}\n",
        b"{" + INNER + b',"x":[{}\n,{"host":{}}]}\n' + line() + line() + b"\n",
        # the neighbour's array hides a name from the guard
        b"{" + INNER + b',"x":[{}\n{"host":{"id":"x"}}\n]}\n' + line() * 2 + b"\n",
        b"{" + INNER + b',"x":[1,\n{"host.id":"x"}\n,2]}\n' + line() * 2 + b"\n",
        b"{" + INNER + b',"x":"\n{"\n}"}\n',
        line() + b"\n\n" + line() + line() + b"\n",
        line() + line() + b"\n \n",
        line() + b"1\n" + line() + b"\n",
        b" " + line() + b"\n",
        line() + b"\r\n",
    ],
)
def test_a_batch_cannot_shift_its_lines(value: bytes) -> None:
    assert read_all(value) is None


_breaks = st.sampled_from([b"\n"] * 6 + [b",\n", b"[\n", b"\n]", b"}\n{", b"\n\n", b"\r\n", b"", b",", b" \n", b'"\n"'])


@st.composite
def crafted_values(draw: st.DrawFn) -> bytes:
    """Values of batches whose lines try to lean on each other."""
    parts = []
    for raw in draw(st.lists(st.one_of(st.just(line()), st.just(line()), crafted_lines()), min_size=1, max_size=5)):
        cut = draw(st.one_of(st.just(0), st.integers(0, len(raw))))
        broken = raw[:cut] + draw(_breaks) + raw[cut:] if cut else raw
        parts += [broken, draw(_breaks)]
    return b"".join(parts) + b"\n"


@given(crafted_values(), st.sampled_from([None, BOUNDS]), st.sampled_from(["app", "*"]))
@example(line() + b"\n" + line() + b"\n", BOUNDS, "app")
def test_the_batchs_way_is_the_lines_way(value: bytes, bounds: Bounds | None, dataset: str) -> None:
    read_all(value, bounds, dataset)


@given(st.lists(st.sampled_from([b"{", b"}", b"[", b"]", b",", b"\n", b'"a":', b'"', b"1", INNER]), max_size=30))
def test_any_shape_of_batch(parts: list[bytes]) -> None:
    read_all(b"".join(parts) + b"\n")


# ------------------------------------------------------------------ clocks that are wrong


def bounded(created: str, timestamp: str | None = None) -> Line:
    raw = line(timestamp=timestamp or created, created=created, message="한글")
    found = READER.read(raw, "app", PREFIX, suspicious(raw), BOUNDS)
    all_at_once = read_all(raw + b"\n")
    assert all_at_once in (None, [found])
    check_document(found.document)
    return found


@pytest.mark.parametrize(
    "created",
    [
        "2026-11-24T08:15:30.123Z",
        "2026-11-24T09:15:59.999Z",  # an hour ahead
        "2026-11-23T08:15:30.123Z",  # yesterday
        "2026-11-18T08:15:30.123Z",  # six days ago
        "2026-10-25T08:15:30.123Z",  # thirty days ago: a spool that was away for long
    ],
)
def test_late_events_land_in_their_own_minute(created: str) -> None:
    before = READER.retimed
    found = bounded(created)
    assert found.minute == created[:16]
    assert ORIGINAL_TIMESTAMP.encode() not in found.document
    assert READER.retimed == before


@pytest.mark.parametrize(
    "created",
    [
        "2026-11-25T08:15:30.123Z",  # a day ahead
        "2026-11-24T09:30:00.000Z",
        "2026-10-24T08:15:30.123Z",
        "1970-01-01T00:00:00.000Z",
        "2106-02-07T06:28:15.000Z",
        "9999-12-31T23:59:59.999Z",
        "0001-01-01T00:00:00.000Z",
        "2027-01-01T00:00:00+09:00",
    ],
)
def test_a_clock_far_off_makes_no_index_of_its_own(created: str) -> None:
    before = READER.retimed
    found = bounded(created)
    members = json.loads(found.document)
    assert found.minute == "2026-11-24T08:16", "the time at which Kafka took it"
    assert members["@timestamp"] == "2026-11-24T08:16:00.000Z"
    assert (members[ORIGINAL_TIMESTAMP], members["event.created"]) == (created, created)
    assert READER.retimed > before


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)), st.integers(0, 4_000_000_000_000))  # noqa: DTZ001
def test_the_days_a_message_can_reach_are_few(created: datetime, taken_ms: int) -> None:
    bounds = Bounds.around(taken_ms)
    assert bounds is not None
    text = format_time(created.replace(tzinfo=UTC))
    found = READER.read(line(timestamp=text, created=text), "app", PREFIX, False, bounds)
    taken = datetime.fromtimestamp(taken_ms / 1000, UTC)
    off = datetime.fromisoformat(found.minute + ":00+00:00") - taken
    assert timedelta(days=-30, minutes=-11) <= off <= timedelta(hours=1, minutes=10)


def test_kafka_may_not_say_when() -> None:
    assert Bounds.around(-1) is None
    assert Bounds.around(0) == ("1970-01-01T00:0", "1970-01-01T01:0", "1970-01-01T00:00:00.000Z")


NAMES = Names("t")


def batch_of(lines: list[bytes], topic: str, seq: int = 7, dataset: str = "app") -> Batch:
    value = b"\n".join(lines) + b"\n"
    return Batch(HOST, "k", topic, "logs", "0" * 16, seq, len(lines), dataset, WHEN, WHEN, {}, WHEN, value)


def make(batch: Batch, wanted: list[tuple[int, int]]) -> tuple[Chunk, list[tuple[int, bytes, BadLine]]]:
    maker = DocumentMaker(NAMES, Directory([]), lambda: datetime(2026, 11, 24, 8, 15, 31, tzinfo=UTC))
    chunk = Chunk(None, 0, fresh=False, context=batch)  # type: ignore[arg-type]
    return chunk, maker.make(chunk, batch, wanted)


@given(st.lists(st.one_of(crafted_lines(), st.just(line()), st.just(b"")), min_size=1, max_size=6))
def test_crafted_batches(lines: list[bytes]) -> None:
    for topic, dataset in ((NAMES.logs, "app"), (NAMES.metrics, "*")):
        batch = batch_of(lines, topic, dataset=dataset)
        chunk, bad = make(batch, [(7, 7 + len(lines))])
        assert sorted([number + 7 for number in chunk.numbers] + [seq for seq, _, _ in bad]) == [
            *range(7, 7 + len(lines))
        ]
        for action, document, index in zip(chunk.actions, chunk.documents, chunk.indices, strict=True):
            check_document(document)
            assert b"\n" not in document
            assert action.count(b"\n") == 1
            assert json.loads(action)["create"]["_index"] == index
            assert re.fullmatch(r"t-(logs|metrics)-\d{4}\.\d\d\.\d\d", index)


def test_documents_of_a_batch() -> None:
    late = line(timestamp="2026-11-23T08:15:30.123Z", message="late")
    batch = batch_of([line(message="one"), b"{}", late, line(message="four")], NAMES.logs, seq=254)
    chunk, bad = make(batch, [(254, 257)])
    assert [(seq, raw, error.reason) for seq, raw, error in bad] == [(255, b"{}", "bad_line")]
    assert chunk.numbers == [0, 2]
    assert chunk.indices == ["t-logs-2026.11.24", "t-logs-2026.11.23"]
    prefix = event_id_prefix(HOST, "logs", "0" * 16)
    assert [json.loads(action)["create"] for action in chunk.actions] == [
        {"_index": "t-logs-2026.11.24", "_id": event_id(prefix, 254)},
        {"_index": "t-logs-2026.11.23", "_id": event_id(prefix, 256)},
    ]
    assert json.loads(chunk.documents[1]) == {
        "host.id": HOST,
        "host.name": HOST,
        "event.ingested": "2026-11-24T08:15:31.000Z",
        **json.loads(late),
    }
    assert chunk.tags[1] == ("2026-11-23T08:15", "unknown", late)


def test_metrics_have_no_id_of_their_own() -> None:
    chunk, bad = make(batch_of([line(dataset="system.host")], NAMES.metrics, dataset="*"), [(7, 8)])
    assert not bad
    assert [json.loads(action) for action in chunk.actions] == [{"create": {"_index": "t-metrics-2026.11.24"}}]
