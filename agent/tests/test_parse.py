"""Lines to events."""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezadmin_wire.batch import count_levels
from ezadmin_wire.levels import LEVELS
from ezadmin_wire.logs.levels import level_of
from ezadmin_wire.logs.parse import Parser, event

NOW = datetime(2026, 11, 24, 8, 15, 30, tzinfo=timezone.utc)
NOW_MS = int(NOW.timestamp() * 1000)


@pytest.fixture(autouse=True)
def seoul(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Seoul")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def test_rfc3164_line() -> None:
    parsed = Parser(True).parse("Nov 24 17:15:29 web1 sshd[812]: error: PAM: Authentication failure", NOW_MS)
    assert parsed.time == ms("2026-11-24T08:15:29+00:00")
    assert (parsed.host, parsed.name, parsed.pid) == ("web1", "sshd", 812)
    assert parsed.message == "error: PAM: Authentication failure"
    assert parsed.level == "error"


@pytest.mark.parametrize("stamp", ["9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+14:00"])
def test_a_time_that_the_wire_cannot_write_is_none(stamp: str) -> None:
    assert Parser(True).parse(f"{stamp} web1 app: x", NOW_MS).time is None
    parsed = Parser(False).parse(f"{stamp} ERROR x", NOW_MS)
    assert parsed.time is None
    assert event(parsed, dataset="a", created_ms=NOW_MS, created="c")[0] == "c"


def test_iso_line_with_priority() -> None:
    line = "<11>2026-11-24T09:15:29.123456+01:00 web1 kernel: [  12.3] eth0: link up"
    parsed = Parser(True).parse(line, NOW_MS)
    assert parsed.time == ms("2026-11-24T08:15:29.123+00:00")
    assert (parsed.name, parsed.pid, parsed.severity, parsed.facility, parsed.level) == ("kernel", None, 3, 1, "error")
    assert parsed.message == "[  12.3] eth0: link up"


@pytest.mark.parametrize(
    ("stamp", "now", "expected"),
    [
        ("Dec 31 23:59:59", "2027-01-01T00:00:05+09:00", "2026-12-31T23:59:59+09:00"),
        ("Jan  1 00:00:01", "2026-12-31T23:59:59+09:00", "2027-01-01T00:00:01+09:00"),
        ("Feb 29 12:00:00", "2028-03-01T00:00:00+09:00", "2028-02-29T12:00:00+09:00"),
    ],
)
def test_year_is_the_one_around_now(stamp: str, now: str, expected: str) -> None:
    assert Parser(True).parse(f"{stamp} h p: x", ms(now)).time == ms(expected)


@pytest.mark.parametrize("line", ["Foo 24 17:15:29 h p: x", "Nov 31 17:15:29 h p: x", "no time at all", "Nov 24", ""])
def test_a_line_without_a_readable_time(line: str) -> None:
    assert Parser(True).parse(line, NOW_MS).time is None


def test_plain_lines_keep_their_text_and_give_their_time() -> None:
    parser = Parser(False)
    parsed = parser.parse("2026-11-24 17:15:29,5 WARN [main] slow", NOW_MS)
    assert (parsed.time, parsed.level) == (ms("2026-11-24T17:15:29.500+09:00"), "warning")
    assert parsed.message == "2026-11-24 17:15:29,5 WARN [main] slow"
    assert parser.parse("2026-11-24T08:15:29Z x", NOW_MS).time == ms("2026-11-24T08:15:29+00:00")
    assert parser.parse("2026-13-44T08:15:29Z x", NOW_MS).time is None


@pytest.mark.parametrize(
    ("message", "level"),
    [
        ("error: disk on fire", "error"),
        ("[Warning] low", "warning"),
        ("<crit> x", "critical"),
        ('time=… level="info" msg=x', "info"),
        ("ERROR in module", "error"),
        ("FATAL: role does not exist", "critical"),
        ("no error found", None),
        ("information desk", None),
        ("terror: x", None),
        ("a" * 128 + " error: too late", None),
    ],
)
def test_levels(message: str, level: Optional[str]) -> None:
    assert level_of(message) == level
    assert level is None or level in LEVELS


@given(st.text(max_size=200), st.booleans())
def test_any_text_gives_one_compact_json_line_that_keeps_it(text: str, syslog: bool) -> None:
    text = text.encode("utf-8", "replace").decode()
    parsed = Parser(syslog).parse(text, NOW_MS)
    _, line = event(parsed, dataset="d", created_ms=NOW_MS, created="2026-11-24T08:15:30.000Z", path="/x", offset=3)
    assert b"\n" not in line
    document = json.loads(line)
    assert document["message"] == parsed.message
    assert syslog or document["message"] == text
    # the counts in a batch's header are made of the bytes
    expected = parsed.level or "unknown"
    assert count_levels(line + b"\n") == {expected: 1}
