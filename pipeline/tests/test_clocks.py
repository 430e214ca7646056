"""Hosts whose clock is wrong are told from those that are late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ezadmin_pipeline import clocks
from ezadmin_pipeline.clocks import TOLERANCE, Clocks
from ezadmin_wire.times import format_time

NOW = datetime(2026, 11, 24, 8, 15, tzinfo=UTC)


def check(book: Clocks, ahead: float, after: float = 0.0, host: str = "h") -> None:
    taken = NOW + timedelta(seconds=after)
    book.check(host, format_time(taken + timedelta(seconds=ahead)), int(taken.timestamp() * 1000))


@pytest.mark.parametrize("ahead", [0.0, 30.0, TOLERANCE, -TOLERANCE])
def test_a_right_clock(ahead: float) -> None:
    book = Clocks()
    check(book, ahead)
    assert book.wrong == {}


@pytest.mark.parametrize(("ahead", "word"), [(86_400.0, "ahead"), (-86_400.0, "behind"), (3e9, "ahead")])
def test_a_wrong_clock_is_said_once_an_hour(ahead: float, word: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    book = Clocks()
    for minute in range(0, 120, 5):
        check(book, ahead, minute * 60.0)
        check(book, 0.0, minute * 60.0, "right")
    assert book.wrong == {"h": ahead}
    assert [record.message for record in caplog.records] == [
        f"the clock of host h is {abs(ahead):.0f} s {word}; set it right, its events stand at wrong times"
    ] * 2
    check(book, 1.0, 7200.0)
    assert book.wrong == {}
    assert "right again" in caplog.records[-1].message


def test_it_is_not_judged_without_kafkas_time() -> None:
    book = Clocks()
    book.check("h", "1999-01-01T00:00:00.000Z", -1)
    assert book.wrong == {}


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(clocks, "_MOST_HOSTS", 100)
    book = Clocks()
    for number in range(1000):
        check(book, 86_400.0, host=str(number))
    assert len(book.wrong) <= 100
    assert len(book._reported) <= 101
