"""Config records, state and job documents: what goes in comes out, what does not fit is named."""

from __future__ import annotations

import json
import sys
from dataclasses import fields, is_dataclass
from typing import Any, Callable, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezadmin_wire import WireError, config, jobs, state
from ezadmin_wire.fields import build, dump, load
from ezadmin_wire.signing import SigningKey, VerifyKey, signed_bytes

SIGNER = SigningKey.generate()
TRUSTED = [VerifyKey(SIGNER.public)]
HOST = "00000000-0000-4000-8000-00000000000a"
WHEN = "2026-11-24T08:15:30.123Z"
Headers = list[tuple[str, Any]]

_text = st.text(max_size=12)
_optional = st.one_of(st.none(), _text)
_int = st.integers(-(2**63), 2**63 - 1)
_float = st.floats(allow_nan=False, allow_infinity=False)
_times = st.sampled_from([WHEN, "2026-11-24T08:15:30+09:00", "1970-01-01T00:00:00.000Z"])

_hosts = st.builds(
    config.HostRecord,
    name=_text,
    state=st.sampled_from(config.HOST_STATES),
    labels=st.dictionaries(_text, _text, max_size=3),
    groups=st.lists(_text, max_size=3),
    limits=st.lists(_text, max_size=3),
    keys=st.lists(st.builds(config.HostKey, _text, _text, st.booleans()), max_size=3),
)
_matches = st.builds(
    config.Match,
    levels=st.lists(_text, max_size=2),
    hosts=st.lists(_text, max_size=2),
    datasets=st.lists(_text, max_size=2),
    labels=st.dictionaries(_text, _text, max_size=2),
    fields=st.dictionaries(_text, _text, max_size=2),
    contains=_optional,
    regex=_optional,
)
_rules = st.builds(
    config.RulesRecord,
    st.lists(
        st.builds(
            config.Rule,
            id=_text,
            action=st.sampled_from(config.RULE_ACTIONS),
            match=_matches,
            arguments=st.dictionaries(_text, _text, max_size=2),
            expires=_optional,
        ),
        max_size=3,
    ),
)
_limits = st.builds(
    config.LimitRecord,
    field=_text,
    item=_text,
    warning_raise=st.one_of(st.none(), _float),
    critical_clear=st.one_of(st.none(), _float),
    hold=_int,
    n=_int,
    m=_int,
    rate=st.booleans(),
    trend=_int,
    full_at=_float,
)
_records = st.one_of(
    st.tuples(st.just(config.host_key(HOST)), _hosts),
    st.tuples(st.just(config.RULES_KEY), _rules),
    st.tuples(st.just(config.limit_key("cpu")), _limits),
)
_nics = st.builds(
    state.Nic,
    name=_text,
    mac=_optional,
    addresses=st.lists(st.builds(state.Address, _text, st.one_of(st.none(), _int)), max_size=2),
    mtu=st.one_of(st.none(), _int),
    up=st.one_of(st.none(), st.booleans()),
)
_states = st.one_of(
    st.builds(
        state.Inventory,
        collected=_times,
        hostname=_text,
        os_name=_optional,
        memory=st.one_of(st.none(), _int),
        boot_time=_optional,
        nics=st.lists(_nics, max_size=2),
        disks=st.lists(st.builds(state.Disk, _text, st.one_of(st.none(), _int), rotational=st.just(False)), max_size=2),
    ),
    st.builds(
        state.AgentStatus,
        collected=_times,
        version=_text,
        started=_text,
        spool_bytes=_int,
        cpu_pct=st.one_of(st.none(), _float),
    ),
)
_jobs = st.one_of(
    st.builds(
        jobs.JobState,
        run=_text,
        attempt=_int,
        state=st.sampled_from(jobs.STATES),
        at=_times,
        reason=_optional,
        exit_code=st.one_of(st.none(), _int),
    ),
    st.builds(
        jobs.JobMilestone, run=_text, attempt=_int, number=_int, at=_times, text=_text, total=st.one_of(st.none(), _int)
    ),
    st.builds(
        jobs.JobOutput,
        run=_text,
        attempt=_int,
        file=_text,
        offset=st.integers(0, 2**63 - 1),
        data=st.sampled_from(["", "AA==", "b3V0cHV0"]),
        last=st.booleans(),
    ),
)


def reason_of(call: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(WireError) as caught:
        call(*arguments)
    assert str(caught.value)
    return caught.value.reason


# ------------------------------------------------------------------ config records


@given(_records, st.integers(0, 2**53))
def test_config_records(pair: tuple[str, config.Record], revision: int) -> None:
    name, record = pair
    key, headers, value = config.encode(SIGNER, name, revision, record)
    assert config.decode(key, headers, value, TRUSTED) == config.ConfigRecord(name, revision, record)
    assert b"\n" not in value
    assert value == dump(record), "canonical: one record has one text"


def test_a_tombstone_deletes() -> None:
    for value in (None, b""):
        assert config.decode(b"rules", [], value, TRUSTED) == config.ConfigRecord("rules", 0, None)
    assert reason_of(config.decode, b"nothing", [], None, TRUSTED) == "bad_key_name"


def made() -> tuple[bytes, Headers, bytes]:
    return config.encode(SIGNER, config.host_key(HOST), 7, config.HostRecord("web-1", labels={"site": "seoul"}))


def signed(key: bytes, value: bytes, **changed: bytes) -> tuple[bytes, Headers, bytes]:
    """A message that is signed rightly, whatever it says."""
    headers = [("v", b"1"), ("revision", b"7"), ("kid", SIGNER.kid.encode())]
    headers = [(name, changed.get(name, data)) for name, data in headers]
    signature = SIGNER.sign(signed_bytes(config.CONTEXT, [key, *(data for _, data in headers), value]))
    return key, [*headers, ("sig", signature)], value


@pytest.mark.parametrize("part", ["key", "v", "revision", "kid", "sig", "value"])
def test_any_change_of_a_record_is_noticed(part: str) -> None:
    key, headers, value = made()
    whole = {"key": key, "value": value, **dict(headers)}
    for at in range(len(whole[part])):
        for by in (1, 0x20, 0x80):
            data = bytearray(whole[part])
            data[at] ^= by
            other = {**whole, part: bytes(data)}
            changed = [(name, other[name]) for name, _ in headers]
            assert reason_of(config.decode, other["key"], changed, other["value"], TRUSTED) in (
                "bad_signature",
                "bad_header",
                "unknown_key",
                "bad_key_name",
            )


def test_records_that_are_refused() -> None:
    key, headers, value = made()
    assert reason_of(config.decode, key, headers, value, []) == "unknown_key"
    assert reason_of(config.decode, key, headers, value, [VerifyKey(SigningKey.generate().public)]) == "unknown_key"
    assert reason_of(config.decode, config.limit_key("a").encode(), headers, value, TRUSTED) == "bad_signature"
    for name in (None, b"", b"host", b"host/", b"limit/", b"rules/1", b"hosts/1", b"\xff"):
        assert reason_of(config.decode, name, headers, value, TRUSTED) == "bad_key_name"
    assert reason_of(config.decode, *signed(b"rules", b"[]"), TRUSTED) == "bad_value"
    assert reason_of(config.decode, *signed(b"rules", b"{"), TRUSTED) == "bad_value"
    assert reason_of(config.decode, *signed(b"rules", b"\xff"), TRUSTED) == "bad_value"
    assert reason_of(config.decode, *signed(b"rules", b"{}", v=b"2"), TRUSTED) == "bad_header"
    for revision in (b"", b"-1", b"1.0", b"x", b"\xd9\xa3"):
        assert reason_of(config.decode, *signed(b"rules", b"{}", revision=revision), TRUSTED) == "bad_header"


@pytest.mark.parametrize("name", ["v", "revision", "kid", "sig"])
def test_headers_of_a_record_that_are_missing_doubled_or_empty(name: str) -> None:
    key, headers, value = made()
    for other in (
        [header for header in headers if header[0] != name],
        [*headers, (name, b"1")],
        [(header, None if header == name else data) for header, data in headers],
        list(reversed(headers)),
    ):
        assert reason_of(config.decode, key, other, value, TRUSTED) == "bad_header"


def test_a_record_belongs_under_its_key() -> None:
    assert reason_of(config.encode, SIGNER, "rules", 1, config.HostRecord("a")) == "bad_value"
    assert reason_of(config.encode, SIGNER, "nothing/1", 1, config.HostRecord("a")) == "bad_key_name"
    assert reason_of(config.HostRecord, "a", "sleeping") == "bad_value"
    assert reason_of(config.Rule, "1", "explode") == "bad_value"


@given(
    st.one_of(st.none(), st.binary(max_size=8), st.sampled_from([b"rules", b"host/a", b"limit/a"])),
    st.lists(
        st.tuples(st.sampled_from(["v", "revision", "kid", "sig"]), st.one_of(st.none(), st.binary(max_size=8))),
        max_size=5,
    ),
    st.one_of(st.none(), st.binary(max_size=30)),
)
def test_random_config_messages(key: bytes | None, headers: Headers, value: bytes | None) -> None:
    try:
        found = config.decode(key, headers, value, TRUSTED)
    except WireError:
        return
    assert found.record is None


# ------------------------------------------------------------------ state and jobs


@given(_states)
def test_state_documents(document: state.StateDocument) -> None:
    line = state.encode(document)
    assert b"\n" not in line
    assert state.decode(line) == document
    assert json.loads(line)["type"] in state.TYPES


@given(_jobs)
def test_job_documents(document: jobs.JobDocument) -> None:
    line = jobs.encode(document)
    assert b"\n" not in line
    assert jobs.decode(line) == document
    assert json.loads(line)["type"] in jobs.TYPES


def test_members_of_a_later_version_are_ignored() -> None:
    line = json.dumps({"type": "agent", "collected": WHEN, "version": "9", "started": WHEN, "mood": {"a": [1]}})
    assert state.decode(line.encode()) == state.AgentStatus(WHEN, "9", WHEN)


@pytest.mark.parametrize("decode", [state.decode, jobs.decode])
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "bad_value"),
        (b"\xff", "bad_value"),
        (b"[" * 100_000, "bad_value"),
        pytest.param(
            b"9" * 5000,
            "bad_value",
            marks=pytest.mark.skipif(not hasattr(sys, "get_int_max_str_digits"), reason="this Python reads any number"),
        ),
        (b"[]", "unknown_type"),
        (b"null", "unknown_type"),
        (b"{}", "unknown_type"),
        (b'{"type":1}', "unknown_type"),
        (b'{"type":["agent"]}', "unknown_type"),
        (b'{"type":"Inventory"}', "unknown_type"),
    ],
)
def test_what_is_no_document(decode: Callable[[bytes], Any], line: bytes, reason: str) -> None:
    assert reason_of(decode, line) == reason


AGENT = {"type": "agent", "collected": WHEN, "version": "1", "started": WHEN}
RUN = {"run": "r", "attempt": 1}
WRONG: list[tuple[Callable[[bytes], Any], dict[str, Any], str, str]] = [
    (state.decode, {**AGENT, "collected": "yesterday"}, "bad_time", "yesterday"),
    (state.decode, {**AGENT, "collected": 7}, "bad_value", "collected: expected str, found int"),
    (state.decode, {**AGENT, "spool_bytes": 1.5}, "bad_value", "spool_bytes: expected int, found float"),
    (state.decode, {**AGENT, "spool_bytes": True}, "bad_value", "spool_bytes: expected int, found bool"),
    (state.decode, {**AGENT, "spool_bytes": 2**63}, "bad_value", "spool_bytes"),
    (state.decode, {**AGENT, "spool_bytes": -(10**400)}, "bad_value", "spool_bytes"),
    (state.decode, {**AGENT, "cpu_pct": 10**400}, "bad_value", "cpu_pct"),
    (state.decode, {**AGENT, "cpu_pct": float("nan")}, "bad_value", "cpu_pct"),
    (state.decode, {**AGENT, "cpu_pct": float("-inf")}, "bad_value", "cpu_pct"),
    (state.decode, {**AGENT, "version": "\ud800"}, "bad_value", "version"),
    (state.decode, {"type": "agent", "collected": WHEN, "version": "1"}, "bad_value", "started: missing"),
    (state.decode, {"type": "inventory", "collected": WHEN, "hostname": None}, "bad_value", "hostname"),
    (
        state.decode,
        {"type": "inventory", "collected": WHEN, "hostname": "a", "nics": [{"name": "e", "addresses": [{}]}]},
        "bad_value",
        "nics[0].addresses[0].address: missing",
    ),
    (
        state.decode,
        {"type": "inventory", "collected": WHEN, "hostname": "a", "nics": {"name": "e"}},
        "bad_value",
        "nics: expected a list, found dict",
    ),
    (
        state.decode,
        {"type": "inventory", "collected": WHEN, "hostname": "a", "disks": [3]},
        "bad_value",
        "disks[0]: expected an object, found int",
    ),
    (jobs.decode, {"type": "state", **RUN, "state": "dreaming", "at": WHEN}, "bad_value", "dreaming"),
    (jobs.decode, {"type": "state", **RUN, "state": "done", "at": "now"}, "bad_time", "now"),
    (jobs.decode, {"type": "milestone", **RUN, "number": 1, "at": ""}, "bad_time", "''"),
    (jobs.decode, {"type": "output", **RUN, "file": "stdout", "offset": -1, "data": ""}, "bad_value", "stdout"),
    (jobs.decode, {"type": "output", **RUN, "file": "stdout", "offset": 0, "data": "no base64"}, "bad_value", "data"),
    (jobs.decode, {"type": "output", **RUN, "file": "stdout", "offset": 0, "data": "한"}, "bad_value", "data"),
    (
        jobs.decode,
        {"type": "output", **RUN, "file": "stdout", "offset": 0, "data": "AAAA" * (jobs.MAX_CHUNK // 3 + 1)},
        "bad_value",
        "at most",
    ),
]


@pytest.mark.parametrize(("decode", "document", "reason", "text"), WRONG)
def test_documents_that_do_not_fit(
    decode: Callable[[bytes], Any], document: dict[str, Any], reason: str, text: str
) -> None:
    with pytest.raises(WireError) as caught:
        decode(json.dumps(document).encode())
    assert caught.value.reason == reason
    assert text in str(caught.value)


_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just("\ud800")),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)
_members = sorted(
    {f.name for kind in (*state.TYPES.values(), *jobs.TYPES.values()) if is_dataclass(kind) for f in fields(kind)}
)


@given(
    st.sampled_from([*state.TYPES, *jobs.TYPES]),
    st.dictionaries(st.sampled_from(_members), _json, max_size=6),
    st.sampled_from([state, jobs]),
)
def test_random_documents(name: str, members: dict[str, Any], module: Any) -> None:
    usual = {**AGENT, **RUN, "hostname": "a", "at": WHEN, "number": 1, "file": "stdout", "offset": 0, "data": ""}
    line = json.dumps({**usual, "state": "done", **members, "type": name}).encode()
    try:
        document = module.decode(line)
    except WireError as error:
        assert error.reason in ("bad_value", "unknown_type", "bad_time")  # noqa: PT017 - not every example raises
        return
    assert module.decode(module.encode(document)) == document


@given(st.one_of(st.binary(max_size=60), _json.map(json.dumps).map(str.encode)))
def test_random_lines(line: bytes) -> None:
    for decode in (state.decode, jobs.decode):
        assert reason_of(decode, line) in ("bad_value", "unknown_type")


# ------------------------------------------------------------------ fields


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {"\udfff": 1}, [{"a": [float("-inf")]}]])
def test_what_json_does_not_have_is_not_written(value: Union[float, str, dict[str, Any], list[Any]]) -> None:
    assert reason_of(dump, value) == "bad_value"


def test_what_is_unknown_is_left_out() -> None:
    assert dump(state.Nic("eth0", mac=None, mtu=1500)) == b'{"addresses":[],"mtu":1500,"name":"eth0"}'
    assert dump({"b": [{"c": None}], "a": "한"}) == '{"a":"한","b":[{}]}'.encode()


def test_a_whole_number_is_a_float_too() -> None:
    found = load(config.LimitRecord, b'{"field":"f","warning_raise":1,"hold":2}')
    assert (found.warning_raise, found.hold) == (1.0, 2)
    assert isinstance(found.warning_raise, float)


def test_errors_name_the_member() -> None:
    with pytest.raises(WireError, match=r"labels\.site: expected str, found int"):
        build(config.HostRecord, {"name": "a", "labels": {"site": 1}})
    with pytest.raises(WireError, match=r"keys\[1\]\.public: missing"):
        build(config.HostRecord, {"name": "a", "keys": [{"kid": "1", "public": "x"}, {"kid": "2"}]})
    with pytest.raises(WireError, match="HostRecord: expected an object, found null"):
        build(config.HostRecord, None)
