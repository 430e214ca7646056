"""When maintenance windows are: by the clock of their zone, whatever that clock does."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezadmin_cmdb.maintenance.times import (
    BY_RULE,
    EACH_DAY,
    EACH_MONTH,
    EACH_WEEK,
    FORM,
    ONCE,
    WEEKDAYS,
    BadRule,
    Times,
    check_rule,
    current,
    occurrences,
)

ZONES = ("Asia/Seoul", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC")
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
moments = st.datetimes(datetime(2025, 1, 1), datetime(2026, 12, 31))  # noqa: DTZ001 - by the clock on the wall


@given(
    moments, st.sampled_from(ZONES), st.sampled_from((EACH_DAY, EACH_WEEK)), st.integers(1, 2000), st.integers(1, 200)
)
def test_the_clock_on_the_wall_shows_the_same_time_each_time(
    first: datetime, zone: str, repeats: str, minutes: int, days: int
) -> None:
    times = Times(f"{first:{FORM}}", zone, minutes, repeats, last=first.date() + timedelta(days=days))
    found = list(occurrences(times, LONG_AGO))
    step = timedelta(days=1 if repeats == EACH_DAY else 7)
    assert len(found) == days // step.days + 1
    walls = [first.replace(second=0, microsecond=0) + n * step for n in range(len(found))]
    for (start, end), wall in zip(found, walls, strict=True):
        assert end - start == timedelta(minutes=minutes)
        shown = start.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        skipped = (
            wall.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None) != wall
        )
        assert shown == wall or (skipped and timedelta(0) < shown - wall <= timedelta(hours=1))


@given(moments, st.sampled_from(ZONES), st.integers(1, 20_000), st.integers(0, 60 * 24 * 60))
def test_what_is_current_is_one_of_the_windows(first: datetime, zone: str, minutes: int, later: int) -> None:
    times = Times(f"{first:{FORM}}", zone, minutes, EACH_WEEK, ("mo", "fr"), last=first.date() + timedelta(days=30))
    at = first.replace(tzinfo=UTC) + timedelta(minutes=later)
    around = [one for one in occurrences(times, LONG_AGO) if one[0] <= at < one[1]]
    assert current(times, at) == (around[-1] if around else None)


def test_where_the_clock_is_changed() -> None:
    nightly = Times("2026-03-28 02:30", "Europe/Berlin", 60, EACH_DAY, last=date(2026, 10, 26))
    starts = [start for start, _end in occurrences(nightly, LONG_AGO)]
    utc = {f"{one:%m-%d}": f"{one:%H:%M}" for one in starts}
    assert [utc[day] for day in ("03-28", "03-29", "03-30", "10-24", "10-25", "10-26")] == [
        "01:30", "01:30", "00:30", "00:30", "00:30", "01:30",
    ]  # fmt: skip


def test_the_kinds_of_repetition() -> None:
    def days(repeats: str, **more: object) -> list[str]:
        times = Times("2026-01-31 22:00", "UTC", 30, repeats, last=date(2026, 6, 1), **more)  # type: ignore[arg-type]
        return [f"{start:%m-%d}" for start, _end in islice(occurrences(times, LONG_AGO), 4)]

    assert days(ONCE) == ["01-31"]
    assert days(EACH_WEEK, weekdays=("su", "we")) == ["02-01", "02-04", "02-08", "02-11"]
    assert days(EACH_MONTH) == ["01-31", "03-31", "05-31"], "months without such a day are passed over"
    assert days(BY_RULE, rule="FREQ=MONTHLY;BYDAY=2TU") == ["02-10", "03-10", "04-14", "05-12"]
    assert set(days(EACH_WEEK)) == {"01-31", "02-07", "02-14", "02-21"}
    assert len(WEEKDAYS) == 7


def test_rules() -> None:
    assert check_rule("rrule:freq=weekly;interval=2;byday=sa,su") == "FREQ=WEEKLY;INTERVAL=2;BYDAY=SA,SU"
    for wrong in (
        "",
        "BYDAY=MO",
        "FREQ=SECONDLY",
        "FREQ=DAILY;COUNT=3",
        "FREQ=DAILY;FREQ=DAILY",
        "FREQ=WEEKLY;BYDAY=XX",
    ):
        with pytest.raises(BadRule):
            check_rule(wrong)
