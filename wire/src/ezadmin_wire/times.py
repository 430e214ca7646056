"""Time on the wire: ISO 8601 in UTC with milliseconds and ``Z``, as text.

A number would be read by Grafana's log panel as "now"; text with a fixed width also sorts by time.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from ezadmin_wire.errors import WireError

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def format_time(moment: datetime) -> str:
    """Write an aware ``moment`` as ``2026-11-24T08:15:30.123Z`` (truncated to ms).

    Raises WireError (``bad_time``) for a naive datetime: its zone would be a guess.
    """
    if moment.tzinfo is None:
        raise WireError("bad_time", f"a time without a zone: {moment!r}")
    # not strftime: its %Y writes the year 999 with three digits
    return moment.astimezone(timezone.utc).isoformat(timespec="milliseconds")[:-6] + "Z"


def format_epoch_ms(milliseconds: int) -> str:
    """Write ``milliseconds`` since 1970 as the wire's time text.

    Raises WireError (``bad_time``) for a number outside of the years 1 to 9999.
    """
    try:
        return format_time(_EPOCH + timedelta(milliseconds=milliseconds))
    except OverflowError as error:
        raise WireError("bad_time", f"not in the years 1 to 9999: {milliseconds} ms since 1970") from error


def parse_time(text: str) -> datetime:
    """Read an ISO 8601 time with a zone into an aware datetime in UTC.

    Raises WireError (``bad_time``) if ``text`` is no such time or has no zone.
    """
    try:
        moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    except (ValueError, TypeError) as error:
        raise WireError("bad_time", f"not an ISO 8601 time: {text!r}") from error
    if moment.tzinfo is None:
        raise WireError("bad_time", f"a time without a zone: {text!r}")
    try:
        return moment.astimezone(timezone.utc)
    except OverflowError as error:
        raise WireError("bad_time", f"not in the years 1 to 9999: {text!r}") from error


def now() -> str:
    """The current time as the wire's time text."""
    return format_time(datetime.now(timezone.utc))
