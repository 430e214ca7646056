"""Times as people write them: ``2026-11-25``, ``2026-11-25T10:30``, ``now-2h``, ``now/d``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from flask_babel import gettext as _

from ezadmin_cmdb.errors import Invalid
from ezadmin_wire.times import format_time

_RELATIVE = re.compile(r"now(?:([+-])([0-9]{1,6})([smhdw]))?(?:/([mhdw]))?")
_ABSOLUTE = re.compile(
    r"([0-9]{4})-([0-9]{2})(?:-([0-9]{2})(?:[T ]([0-9]{2})(?::([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,6}))?)?)?"
    r"(Z|[+-][0-9]{2}:?[0-9]{2})?)?)?",
    re.IGNORECASE,
)
_UNITS = {
    "s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}  # fmt: skip
_MILLISECOND = timedelta(milliseconds=1)
LONGEST = timedelta(days=3660)


@dataclass(frozen=True)
class Period:
    """From ``start`` (included) to ``end`` (not)."""

    start: datetime
    end: datetime

    @property
    def length(self) -> timedelta:
        """How long it is."""
        return self.end - self.start

    @property
    def last(self) -> datetime:
        """The last millisecond that is within: what a text names as its end."""
        return self.end - _MILLISECOND


def moment(text: str, now: datetime, zone: tzinfo = UTC) -> datetime:
    """A time, or the begin of the day, hour, … that is named; ``zone``: of a time that names none. Raises ValueError."""
    return _read(text.strip(), now, zone)[0]


def period(start: str, end: str, now: datetime, zone: tzinfo = UTC) -> Period:
    """The time between two texts; the day, minute, … that ``end`` names is within. Raises Invalid, naming the field."""
    found = []
    for name, text, which in (("from", start, 0), ("to", end, 1)):
        try:
            found.append(_read(text.strip(), now, zone)[which])
        except ValueError:
            wrong = _("%(value)s is no time: write 2026-11-25, 2026-11-25T10:30 or now-2h.", value=text[:50])
            raise Invalid(wrong, name) from None
    if found[0] >= found[1]:
        raise Invalid(_("The begin is not before the end."), "from")
    if found[1] - found[0] > LONGEST:
        raise Invalid(_("At most ten years are searched at once."), "from")
    return Period(*found)


def span(text: str, now: datetime, zone: tzinfo = UTC) -> tuple[str, str]:
    """The begin of what is named, and the begin of what follows, in milliseconds, UTC. Raises ValueError."""
    first, after = _read(text.strip(), now, zone)
    if text.startswith("now"):
        after = max(after, first + _MILLISECOND)
    return format_time(first), format_time(after)


def _read(text: str, now: datetime, zone: tzinfo) -> tuple[datetime, datetime]:
    """Begin and end of what is named; a relative time that is not rounded has no length."""
    try:
        if (relative := _RELATIVE.fullmatch(text)) is not None:
            return _relative(relative, now, zone)
        if (absolute := _ABSOLUTE.fullmatch(text)) is not None:
            return _absolute(absolute, zone)
    except OverflowError as error:
        raise ValueError(text) from error
    raise ValueError(text)


def _relative(match: re.Match[str], now: datetime, zone: tzinfo) -> tuple[datetime, datetime]:
    sign, number, unit, rounding = match.groups()
    found = now
    if sign:
        found += int(number) * _UNITS[unit] * (1 if sign == "+" else -1)
    if not rounding:
        return found, found
    local = found.astimezone(zone).replace(second=0, microsecond=0)
    if rounding != "m":
        local = local.replace(minute=0)
    if rounding in "dw":
        local = local.replace(hour=0)
    if rounding == "w":
        local -= timedelta(days=local.weekday())
    return local.astimezone(UTC), (local + _UNITS[rounding]).astimezone(UTC)


def _absolute(match: re.Match[str], zone: tzinfo) -> tuple[datetime, datetime]:
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    if offset:
        zone = UTC if offset in "Zz" else datetime.strptime(offset, "%z").tzinfo or UTC
    if year < "1970":
        raise ValueError(year)
    micro = int((fraction or "0").ljust(6, "0"))
    first = datetime(
        int(year), int(month), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0), micro, zone
    )
    if day is None:
        after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    elif hour is None:
        after = first + timedelta(days=1)
    elif minute is None:
        after = first + timedelta(hours=1)
    elif second is None:
        after = first + timedelta(minutes=1)
    else:
        after = first + (_MILLISECOND if fraction else timedelta(seconds=1))
    return first.astimezone(UTC), after.astimezone(UTC)
