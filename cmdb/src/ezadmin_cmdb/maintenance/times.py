"""When maintenance windows are: their times by the clock of their zone, so that 02:00 stays 02:00 when that clock is changed."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import takewhile
from zoneinfo import ZoneInfo

from dateutil.rrule import DAILY, MONTHLY, WEEKLY, rrule, rrulestr

ONCE, EACH_DAY, EACH_WEEK, EACH_MONTH, BY_RULE = "once", "daily", "weekly", "monthly", "rule"
WEEKDAYS = ("mo", "tu", "we", "th", "fr", "sa", "su")
MINUTES_MAX = 14 * 1440
YEARS_MAX = 5
"""A window is repeated for so long at most."""
FORM = "%Y-%m-%d %H:%M"
_PARTS = {
    "FREQ": r"DAILY|WEEKLY|MONTHLY|YEARLY",
    "INTERVAL": r"[1-9][0-9]{0,2}",
    "BYDAY": r"([+-]?[1-5])?(MO|TU|WE|TH|FR|SA|SU)(,([+-]?[1-5])?(MO|TU|WE|TH|FR|SA|SU)){0,6}",
    "BYMONTHDAY": r"-?([1-9]|[12][0-9]|3[01])(,-?([1-9]|[12][0-9]|3[01])){0,30}",
    "BYMONTH": r"([1-9]|1[0-2])(,([1-9]|1[0-2])){0,11}",
    "BYSETPOS": r"-?[1-5]",
}


class BadRule(ValueError):
    """A rule that is not understood; the text says which part."""


@dataclass(frozen=True)
class Times:
    """When a window is: as :class:`ezadmin_cmdb.maintenance.models.MaintenanceWindow` keeps it."""

    starts: str
    timezone: str
    minutes: int
    repeats: str = ONCE
    weekdays: tuple[str, ...] = ()
    rule: str | None = None
    last: date | None = None


def check_rule(text: str) -> str:
    """A rule in the form of iCalendar (RFC 5545), of which the parts of a day and coarser are understood. Raises BadRule."""
    parts = text.strip().upper().removeprefix("RRULE:").split(";")
    seen: set[str] = set()
    for part in parts:
        name, _sign, value = part.partition("=")
        if name not in _PARTS:
            raise BadRule(f"{part}: one of {', '.join(_PARTS)}")
        if name in seen or not re.fullmatch(_PARTS[name], value):
            raise BadRule(part)
        seen.add(name)
    if "FREQ" not in seen:
        raise BadRule("FREQ=…")
    rule = ";".join(parts)
    try:
        rrulestr(rule, dtstart=datetime(2026, 1, 1))  # noqa: DTZ001 - times by the clock on the wall
    except ValueError as error:
        raise BadRule(str(error)) from error
    return rule


def _wall(times: Times) -> Iterator[datetime]:
    """The starts by the clock on the wall, from the first on."""
    first = datetime.strptime(times.starts, FORM)  # noqa: DTZ007 - by the clock on the wall
    if times.repeats == ONCE:
        yield first
        return
    end = datetime.combine(times.last or first.date(), time.max)
    if times.repeats == BY_RULE:
        yield from rrulestr(times.rule or "FREQ=DAILY", dtstart=first).between(first, end, inc=True)
        return
    if times.repeats == EACH_WEEK:
        days = [WEEKDAYS.index(day) for day in times.weekdays] or [first.weekday()]
        yield from rrule(WEEKLY, dtstart=first, until=end, byweekday=days)
    else:
        yield from rrule(DAILY if times.repeats == EACH_DAY else MONTHLY, dtstart=first, until=end)


@lru_cache(maxsize=1024)
def _starts(times: Times) -> tuple[datetime, ...]:
    """All starts in UTC, in order. Asked again and again, and costly where a window is repeated for years.

    A start in the hour that a clock skips is moved behind it; in the hour that comes twice it is the first one.
    """
    zone = ZoneInfo(times.timezone)
    return tuple(sorted({wall.replace(tzinfo=zone).astimezone(UTC) for wall in _wall(times)}))


def occurrences(times: Times, after: datetime) -> Iterator[tuple[datetime, datetime]]:
    """(start, end) in UTC of each window that ends after a moment, in order; its minutes pass whatever clocks do."""
    starts, length = _starts(times), timedelta(minutes=times.minutes)
    for start in starts[bisect_right(starts, after - length) :]:
        yield start, start + length


def current(times: Times, at: datetime) -> tuple[datetime, datetime] | None:
    """The window that is at a moment, else None; of several that overlap the one that ends last."""
    found = list(takewhile(lambda window: window[0] <= at, occurrences(times, at)))
    return found[-1] if found else None
