"""The batch: what goes in comes out, and nothing else gets in."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezadmin_wire import WireError, batch
from ezadmin_wire.batch import HEADERS, MAX_LINE, Batch, count_levels, decode, decode_levels, encode, encode_levels
from ezadmin_wire.ids import new_epoch, new_host_id
from ezadmin_wire.levels import LEVELS
from ezadmin_wire.signing import SigningKey, VerifyKey

KEY = SigningKey.generate()
OTHER_KEY = SigningKey.generate()
HOST = "00000000-0000-4000-8000-00000000000a"
OTHER = "00000000-0000-4000-8000-00000000000b"
TOPIC = "ezadmin.logs"
WHEN = "2026-11-24T08:15:30.123Z"
REASONS = {
    "bad_header",
    "bad_value",
    "wrong_topic",
    "wrong_key",
    "unknown_key",
    "bad_signature",
    "wrong_count",
    "wrong_levels",
}
Headers = list[tuple[str, Any]]


def find_key(host: str, kid: str) -> VerifyKey | None:
    return VerifyKey(KEY.public) if (host, kid) == (HOST, KEY.kid) else None


def made(lines: list[bytes] | None = None, **changed: Any) -> tuple[Headers, bytes]:
    fields: dict[str, Any] = {
        "host": HOST,
        "topic": TOPIC,
        "stream": "logs",
        "epoch": "0123456789abcdef",
        "seq": 41,
        "lines": [b'{"log.level":"info"}', b'{"log.level":"error"}', b"{}"] if lines is None else lines,
        "dataset": "system.syslog",
        "tmin": WHEN,
        "tmax": WHEN,
        "sent": WHEN,
        **changed,
    }
    return encode(KEY, **fields)


def resign(headers: Headers, value: bytes) -> Headers:
    """The headers with a signature that fits them, whatever they say."""
    fields = [(name, data) for name, data in headers if name != "sig"]
    return [*fields, ("sig", KEY.sign(batch.signed(fields, value)))]


def changed(**values: bytes) -> tuple[Headers, bytes]:
    """A batch with other headers, signed again by its own host."""
    headers, value = made()
    return resign([(name, values.get(name, data)) for name, data in headers], value), value


def reason_of(headers: Headers, value: bytes | None, key: bytes | None = HOST.encode(), topic: str = TOPIC) -> str:
    with pytest.raises(WireError) as caught:
        decode(topic, key, headers, value, find_key)
    assert str(caught.value)
    return caught.value.reason


_times = st.datetimes().map(lambda moment: moment.strftime("%H:%M:%S.000Z")).map("2026-11-24T{}".format)
_lines = st.lists(
    st.dictionaries(
        st.sampled_from(["message", "log.level", "fields", "@timestamp"]),
        st.one_of(st.text(), st.sampled_from(LEVELS), st.integers(), st.dictionaries(st.text(), st.text(), max_size=2)),
    ).map(lambda fields: json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")),
    min_size=1,
    max_size=5,
)


@given(
    host=st.uuids().map(str),
    topic=st.sampled_from(["a.logs", "a.metrics", "a.state", "a.jobs"]),
    stream=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,31}", fullmatch=True),
    epoch=st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
    seq=st.integers(0, 10**17),
    lines=_lines,
    dataset=st.one_of(st.just("*"), st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)),
    tmin=_times,
    tmax=_times,
    sent=_times,
    count=st.booleans(),
)
def test_what_is_encoded_decodes_to_the_same(lines: list[bytes], count: bool, **fields: Any) -> None:
    headers, value = encode(KEY, lines=lines, count=count, **fields)
    assert [name for name, _ in headers] == [*HEADERS, "sig"]
    key = (b"run-7" if fields["topic"].endswith(".jobs") else b"") + fields["host"].encode()
    found = decode(fields["topic"], key, headers, value, lambda host, kid: VerifyKey(KEY.public))
    assert found == Batch(kid=KEY.kid, n=len(lines), levels=count_levels(value) if count else {}, value=value, **fields)
    assert found.lines() == lines
    if count:
        assert sum(found.levels.values()) >= len(lines)
        assert set(found.levels) <= set(LEVELS)


def test_new_ids_fit_into_a_batch() -> None:
    host = new_host_id()
    headers, value = made(host=host, epoch=new_epoch())
    assert decode(TOPIC, host.encode(), headers, value, None).host == host


@pytest.mark.parametrize("lines", [[], [b"a\nb"], [b"a", b"b\n"]])
def test_what_cannot_be_a_batch_is_not_encoded(lines: list[bytes]) -> None:
    with pytest.raises(WireError) as caught:
        made(lines)
    assert caught.value.reason == "bad_value"


# ------------------------------------------------------------------ levels


@pytest.mark.parametrize(
    ("value", "counts"),
    [
        (b"{}\n", {"unknown": 1}),
        (b'{"log.level":"info"}\n{"log.level":"info"}\n{}\n', {"info": 2, "unknown": 1}),
        (b'{"log.level":"WARN"}\n{"log.level":""}\n', {"unknown": 2}),
        (b'{"log.level":"a,b=1"}\n{"log.level":"\xed\x95\x9c"}\n{"log.level":"\xff"}\n', {"unknown": 3}),
        (b'{"message":"\\"log.level\\":\\"error\\"","log.level":"info"}\n', {"info": 1}),
        (b'{"message":"a\\\\","log.level":"info"}\n', {"info": 1}),
        (b'{"log.level" : "info"}\n', {"unknown": 1}),
    ],
)
def test_counting_levels(value: bytes, counts: dict[str, int]) -> None:
    assert count_levels(value) == counts


@given(st.dictionaries(st.from_regex(r"[a-z]{1,16}", fullmatch=True), st.integers(0, 10**9)))
def test_levels_as_text(levels: dict[str, int]) -> None:
    text = encode_levels(levels)
    assert decode_levels(text) == {name: count for name, count in levels.items() if count}
    assert text == encode_levels(dict(reversed(levels.items()))), "one count has one text"


@pytest.mark.parametrize(
    "text", ["info", "info=", "=1", "info=01", "info=-1", "info=1,", "info=1,info=2", "INFO=1", " "]
)
def test_levels_in_another_form(text: str) -> None:
    with pytest.raises(WireError) as caught:
        decode_levels(text)
    assert caught.value.reason == "bad_header"


# ------------------------------------------------------------------ what is refused, and why


def test_wrong_topic() -> None:
    assert reason_of(*made(), topic="ezadmin.metrics") == "wrong_topic"


def test_wrong_key() -> None:
    headers, value = made()
    for key in (None, b"", OTHER.encode(), b"x" + HOST.encode(), HOST.encode()[:-1]):
        assert reason_of(headers, value, key) == "wrong_key"


def test_the_key_of_jobs_is_run_and_host() -> None:
    headers, value = made(topic="a.jobs")
    assert decode("a.jobs", b"run-1" + HOST.encode(), headers, value, find_key).topic == "a.jobs"
    assert reason_of(headers, value, b"run-1" + OTHER.encode(), "a.jobs") == "wrong_key"
    assert reason_of(headers, value, HOST.encode() + b"run-1", "a.jobs") == "wrong_key"


def test_a_key_that_is_not_the_hosts() -> None:
    headers, value = made(host=OTHER)
    assert reason_of(headers, value, OTHER.encode()) == "unknown_key"
    with pytest.raises(WireError) as caught:
        decode(TOPIC, HOST.encode(), *made(), lambda host, kid: VerifyKey(OTHER_KEY.public))
    assert caught.value.reason == "bad_signature"


def test_without_keys_nothing_is_verified() -> None:
    headers, value = made()
    unsigned = [*headers[:-1], ("sig", b"")]
    assert decode(TOPIC, HOST.encode(), unsigned, value, None).n == 3
    assert reason_of(unsigned, value) == "bad_signature"


@pytest.mark.parametrize("value", [None, b"", b"{}", b"{}\n{}"])
def test_bad_value(value: bytes | None) -> None:
    headers, _ = made()
    assert reason_of(headers, value) == "bad_value"


def test_size() -> None:
    headers, value = made([b"m" * MAX_LINE, b"m" * MAX_LINE])
    assert reason_of(headers, value) == "bad_value"
    headers, value = made([b"m" * (3 * MAX_LINE)])
    assert decode(TOPIC, HOST.encode(), headers, value, find_key).n == 1, "a line too long is judged as a line"


@pytest.mark.parametrize("n", [b"1", b"2", b"4", b"500"])
def test_wrong_count(n: bytes) -> None:
    assert reason_of(*changed(n=n)) == "wrong_count"


@pytest.mark.parametrize("levels", [b"info=1", b"error=1,info=1,unknown=2", b"error=2,info=1", b"debug=3"])
def test_wrong_levels(levels: bytes) -> None:
    assert reason_of(*changed(levels=levels)) == "wrong_levels"


BAD_HEADERS = {
    "v": [b"", b"3", b"01", b"1 "],
    "host": [b"", b"web-1", HOST.upper().encode(), HOST.replace("-", "").encode(), b"{%s}" % HOST.encode()],
    "stream": [b"", b"Logs", b"-logs", b"a" * 33, b"a/b", b"a\n"],
    "epoch": [b"", b"0" * 15, b"0" * 17, b"G" * 16, b"A" * 16, b"0" * 16 + b"\n"],
    "seq": [b"", b"-1", b"+1", b"01", b"1_0", b"0x1", b"1.0", b" 1", b"1\n", b"1" * 19],
    "n": [b"", b"0", b"-3", b"03", b"3 ", b"\xd9\xa3"],
    "dataset": [b"", b"A", b"a b", b"a" * 65, b"**", b".a", "가".encode()],
    "tmin": [b"", b"yesterday", b"2026-11-24", b"2026-11-24T08:15:30", b"0001-01-01T00:00:00+14:00"],
    "tmax": [b"", b"2026-13-24T08:15:30Z", b"9999-12-31T23:59:59-14:00"],
    "sent": [b"", b"1764000000000", b"now"],
    "levels": [b"info", b"info=1,info=1", b"info=x", b"Info=1"],
}


@pytest.mark.parametrize(("name", "data"), [(name, data) for name, many in BAD_HEADERS.items() for data in many])
def test_bad_header(name: str, data: bytes) -> None:
    assert reason_of(*changed(**{name: data})) == "bad_header"


@pytest.mark.parametrize("name", [*HEADERS, "sig"])
def test_headers_that_are_missing_doubled_moved_or_empty(name: str) -> None:
    headers, value = made()
    one = next(header for header in headers if header[0] == name)
    at = headers.index(one)
    for other in (
        headers[:at] + headers[at + 1 :],
        [*headers, one],
        [*headers[:at], one, *headers[at:]],
        [*headers[:at], (name.upper(), one[1]), *headers[at + 1 :]],
        [*headers[:at], (name, None), *headers[at + 1 :]],  # Kafka's headers may have no value
        [one, *headers[:at], *headers[at + 1 :]] if at else headers[1:] + headers[:1],
        [("extra", b"1"), *headers],
    ):
        assert reason_of(other, value) == "bad_header"


@given(st.sampled_from([*HEADERS, "sig"]), st.integers(0, 100), st.integers(1, 255), st.sampled_from("xid"))
def test_any_change_of_a_header_breaks_the_signature(name: str, at: int, by: int, how: str) -> None:
    headers, value = made()
    data = bytearray(dict(headers)[name])
    at %= max(1, len(data))
    if how == "x" and data:
        data[at] ^= by
    elif how == "d" and data:
        del data[at]
    else:
        data.insert(at, by)
    other = [(header, bytes(data) if header == name else old) for header, old in headers]
    assert reason_of(other, value) in REASONS
    with pytest.raises(WireError) as caught:  # and not only because the header looks odd
        decode(TOPIC, HOST.encode(), other, value, lambda host, kid: VerifyKey(KEY.public))
    assert caught.value.reason in ("bad_signature", "bad_header", "wrong_topic", "wrong_key")


@given(st.integers(0, 10**6), st.integers(1, 255), st.sampled_from("xid"))
def test_any_change_of_the_value_breaks_the_signature(at: int, by: int, how: str) -> None:
    headers, value = made()
    data = bytearray(value)
    at %= len(data) - 1
    if how == "x":
        data[at] ^= by
    elif how == "d":
        del data[at]
    else:
        data.insert(at, by)
    assert reason_of(headers, bytes(data)) == "bad_signature"


def test_a_signature_is_worth_nothing_in_another_batch() -> None:
    first, _ = made()
    second, value = made(seq=44)
    assert reason_of([*second[:-1], first[-1]], value) == "bad_signature"


# ------------------------------------------------------------------ anything at all


@given(
    st.one_of(st.none(), st.binary(max_size=50), st.just(HOST.encode())),
    st.lists(
        st.tuples(
            st.one_of(st.sampled_from([*HEADERS, "sig"]), st.text(max_size=5)),
            st.one_of(st.none(), st.binary(max_size=20)),
        ),
        max_size=16,
    ),
    st.one_of(st.none(), st.binary(max_size=50), st.just(b"{}\n")),
    st.booleans(),
)
def test_random_messages(key: bytes | None, headers: Headers, value: bytes | None, check: bool) -> None:
    with pytest.raises(WireError) as caught:
        decode(TOPIC, key, headers, value, find_key if check else None)
    assert caught.value.reason in REASONS


_bytes = st.one_of(
    st.none(), st.binary(max_size=40), st.text(alphabet="0123456789-:TZ=,.*aef", max_size=30).map(str.encode)
)


@given(st.dictionaries(st.sampled_from([*HEADERS, "sig"]), _bytes, min_size=1), _lines, st.booleans())
def test_mutated_messages(changes: dict[str, bytes | None], lines: list[bytes], check: bool) -> None:
    headers, value = made(lines)
    other: Headers = [(name, changes.get(name, data)) for name, data in headers]
    if check and all(isinstance(data, bytes) for _, data in other):
        other = resign(other, value)
    try:
        found = decode(TOPIC, HOST.encode(), other, value, find_key if check else None)
    except WireError as error:
        assert error.reason in REASONS  # noqa: PT017 - whether it is raised depends on the example
    else:
        assert found.lines() == lines
        assert found.host == HOST


LINES = [b'{"event.dataset":"system.host","system.load.1":0.5}', '{"event.dataset":"system.network","x":"가"}'.encode()]


def test_a_compact_batch_comes_out_as_lines_and_is_signed_as_it_travels() -> None:
    headers, value = made(LINES, count=False, compact=True)
    assert (headers[0], b"\n" in value, len(value) < 80) == (("v", b"2"), False, True)
    found = decode(TOPIC, HOST.encode(), headers, value, find_key)
    assert (found.n, found.lines()) == (2, LINES)
    plain, _ = made(LINES, count=False)
    for wrong_headers, wrong_value, reason in (
        (headers, value[:-1], "bad_signature"),
        (resign(headers, value[:-1]), value[:-1], "bad_value"),
        (resign(headers, value + b"x"), value + b"x", "bad_value"),
        (resign(headers, b"\xff" * 9), b"\xff" * 9, "bad_value"),
        (resign(headers, b"\n".join(LINES) + b"\n"), b"\n".join(LINES) + b"\n", "bad_value"),
        (resign(plain, value), value, "bad_value"),
        (resign(headers, batch.deflate(b"{}")), batch.deflate(b"{}"), "bad_value"),
        (resign(headers, batch.deflate(b"{}\n")), batch.deflate(b"{}\n"), "wrong_count"),
    ):
        with pytest.raises(WireError) as caught:
            decode(TOPIC, HOST.encode(), wrong_headers, wrong_value, find_key)
        assert caught.value.reason == reason


def test_a_small_compact_value_cannot_become_a_huge_one() -> None:
    for size, reason in ((2 * MAX_LINE - 1, "wrong_count"), (2 * MAX_LINE, "bad_value"), (200 << 20, "bad_value")):
        headers, _ = made(LINES, count=False, compact=True)
        value = batch.deflate(b"x" * size + b"\n")
        assert len(value) < size // 100
        with pytest.raises(WireError) as caught:
            decode(TOPIC, HOST.encode(), resign(headers, value), value, find_key)
        assert caught.value.reason == reason


@given(st.binary(max_size=2000))
def test_any_bytes_can_be_made_compact_or_be_said_to_be_none(data: bytes) -> None:
    assert batch.inflate(batch.deflate(data)) == data
    with contextlib.suppress(WireError):
        batch.inflate(data)
