"""Times, ids and names: one way to write each."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ezadmin_wire import WireError
from ezadmin_wire.ids import (
    EPOCH_PATTERN,
    STREAM_PATTERN,
    event_id,
    event_id_prefix,
    is_host_id,
    new_epoch,
    new_host_id,
)
from ezadmin_wire.levels import LEVELS, SYSLOG_LEVELS, UNKNOWN, known_level
from ezadmin_wire.names import Names
from ezadmin_wire.times import format_epoch_ms, format_time, now, parse_time

FORM = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
FIRST = datetime(2, 1, 1)  # noqa: DTZ001 - hypothesis adds the zones
LAST = datetime(9998, 12, 31)  # noqa: DTZ001
LAST_MS = 253402300799999
FIRST_MS = -62135596800000
_zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(FIRST, LAST, timezones=_zones))
@example(datetime(999, 1, 1, tzinfo=timezone.utc))
def test_times(moment: datetime) -> None:
    text = format_time(moment)
    assert FORM.fullmatch(text)
    found = parse_time(text)
    assert found.utcoffset() == timedelta(0)
    assert timedelta(0) <= moment - found < timedelta(milliseconds=1), "cut to milliseconds, not rounded"
    assert format_time(found) == text
    assert parse_time(moment.isoformat()) == moment


@given(st.datetimes(FIRST, LAST), st.datetimes(FIRST, LAST))
def test_texts_sort_as_times_do(first: datetime, second: datetime) -> None:
    a, b = (moment.replace(microsecond=0, tzinfo=timezone.utc) for moment in (first, second))
    assert (format_time(a) < format_time(b)) == (a < b)


@given(st.integers(FIRST_MS, LAST_MS))
@example(LAST_MS)
@example(FIRST_MS)
@example(0)
@example(-1)
def test_milliseconds(milliseconds: int) -> None:
    text = format_epoch_ms(milliseconds)
    assert FORM.fullmatch(text)
    since = parse_time(text) - datetime(1970, 1, 1, tzinfo=timezone.utc)
    assert since // timedelta(milliseconds=1) == milliseconds


@pytest.mark.parametrize("milliseconds", [LAST_MS + 1, FIRST_MS - 1, 1 << 62, -(1 << 62), 10**30])
def test_milliseconds_beyond_the_calendar(milliseconds: int) -> None:
    with pytest.raises(WireError) as caught:
        format_epoch_ms(milliseconds)
    assert caught.value.reason == "bad_time"


def test_a_time_without_a_zone_is_none() -> None:
    with pytest.raises(WireError, match="without a zone"):
        format_time(datetime(2026, 11, 24))  # noqa: DTZ001 - the point
    with pytest.raises(WireError, match="without a zone"):
        parse_time("2026-11-24T08:15:30")


@given(st.one_of(st.text(max_size=30), st.text(alphabet="0123456789-+:.TZW ", max_size=30)))
@example("0001-01-01T00:00:00+14:00")
@example("9999-12-31T23:59:59.999-00:01")
@example("\ud800")
@example("2026-11-24T08:15:30Z\0")
def test_any_text_is_a_time_or_a_wire_error(text: str) -> None:
    try:
        found = parse_time(text)
    except WireError as error:
        assert error.reason == "bad_time"  # noqa: PT017 - not every example raises
    else:
        assert FORM.fullmatch(format_time(found))


def test_now() -> None:
    assert abs(parse_time(now()) - datetime.now(timezone.utc)) < timedelta(seconds=10)


# ------------------------------------------------------------------ ids


def test_new_ids() -> None:
    hosts = {new_host_id() for _ in range(100)}
    assert len(hosts) == 100
    assert all(is_host_id(host) for host in hosts)
    assert all(EPOCH_PATTERN.fullmatch(new_epoch()) for _ in range(100))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "web-1",
        "00000000-0000-4000-8000-00000000000A",
        "0000000000004000800000000000000a",
        "{00000000-0000-4000-8000-00000000000a}",
        "urn:uuid:00000000-0000-4000-8000-00000000000a",
        "00000000-0000-4000-8000-00000000000a\n",
        "00000000-0000-4000-8000-0000000000٠a",
    ],
)
def test_only_one_form_is_a_host_id(text: str) -> None:
    assert not is_host_id(text)


@given(st.text())
def test_any_text_as_host_id(text: str) -> None:
    assert not is_host_id(text) or re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text)


_names = st.tuples(
    st.uuids().map(str),
    st.from_regex(STREAM_PATTERN, fullmatch=True),
    st.from_regex(EPOCH_PATTERN, fullmatch=True),
    st.integers(0, 10**18),
)


@given(_names, _names)
def test_event_ids(first: tuple[str, str, str, int], second: tuple[str, str, str, int]) -> None:
    def identity(name: tuple[str, str, str, int]) -> str:
        return event_id(event_id_prefix(*name[:3]), name[3])

    assert (identity(first) == identity(second)) == (first == second)
    assert re.fullmatch(r"[A-Za-z0-9_-]{13,}", identity(first)), "needs no escape in a URL or in JSON"
    assert len(event_id_prefix(*first[:3])) == 12


def test_event_ids_stay_what_they_are() -> None:
    # documents that stand in Elasticsearch are found again by them: a change here doubles every replayed event
    prefix = event_id_prefix("00000000-0000-4000-8000-00000000000a", "logs", "0123456789abcdef")
    assert event_id(prefix, 255) == prefix + "ff"
    assert prefix == "8zfPxlXJRZ49"


# ------------------------------------------------------------------ levels, names


def test_levels() -> None:
    assert SYSLOG_LEVELS == ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")
    assert [known_level(level) for level in LEVELS] == list(LEVELS)
    assert known_level("WARN") == known_level("") == UNKNOWN


def test_names_of_one_prefix_do_not_overlap() -> None:
    names = Names("a-b")
    day = "2026-11-24T08:15:30.123Z"
    rollups = ("logs-1m", "logs-fleet-1m", "logs-fleet-1h")
    indices = [
        names.metrics_index(day),
        names.logs_index(day),
        *(names.rollup_index(rollup, day) for rollup in rollups),
        names.alerts_index(day),
        names.audit_index(day),
        names.state_index,
    ]
    assert indices == [
        "a-b-metrics-2026.11.24",
        "a-b-logs-2026.11.24",
        "a-b-rollup-logs-1m-2026.11.24",
        "a-b-rollup-logs-fleet-1m-2026.11",
        "a-b-rollup-logs-fleet-1h-2026.11",
        "a-b-alerts-2026.11",
        "a-b-audit-2026.11",
        "a-b-state",
    ]
    topics = {topic.name: topic for topic in names.topics(24)}
    assert (
        set(topics)
        == {f"a-b.{name}" for name in ("metrics", "logs", "state", "jobs", "config", "alerts", "dlq")}
        == {names.metrics, names.logs, names.state, names.jobs, names.config, names.alerts, names.dlq}
    )
    assert {name: topic.partitions for name, topic in topics.items() if topic.partitions != 24} == {"a-b.config": 1}
    assert topics[names.config].settings["cleanup.policy"] == "compact"
    assert int(topics[names.dlq].settings["max.message.bytes"]) == 2 * int(
        topics[names.logs].settings["max.message.bytes"]
    )
    assert names.consumer_group("pipeline") == "a-b-pipeline"


@pytest.mark.parametrize("prefix", ["", "A", "-a", "_a", ".a", "a.b", "a b", "a/b", "a" * 42, "ä", "a\n"])
def test_prefixes_that_kafka_or_elasticsearch_would_refuse(prefix: str) -> None:
    with pytest.raises(WireError) as caught:
        Names(prefix)
    assert caught.value.reason == "bad_prefix"
