"""How values are written for people: units, times, and text of which nothing may take effect."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from flask_babel import format_datetime, format_decimal, format_percent, format_timedelta
from flask_babel import gettext as _
from markupsafe import Markup

from ezadmin_cmdb.database import utc_now

NOTHING = "–"
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
"""Characters that move the cursor, colour, hide or turn text around: terminal codes, bidirectional overrides."""


def plain(text: str) -> str:
    """Text with every character seen: an escape becomes [ESC], a right-to-left override [U+202E]. Newline and tab stay."""
    return _UNSEEN.sub(_shown, text.replace("\r\n", "\n"))


def _shown(match: re.Match[str]) -> str:
    return "[ESC]" if match[0] == "\x1b" else f"[U+{ord(match[0]):04X}]"


def finalize(value: Any) -> Any:
    """What every ``{{ … }}`` of a template goes through before its markup is escaped: no page can forget it."""
    if isinstance(value, Markup):  # also a translation with values in it
        return Markup(plain(str(value)))  # noqa: S704 - it was markup before  # nosec B704
    if isinstance(value, str):
        return plain(value)
    return "" if value is None else value


def number(value: float | None, digits: int = 0) -> str:
    """A number with the language's separators."""
    if value is None:
        return NOTHING
    return str(format_decimal(value, format="#,##0" if not digits else "#,##0." + "#" * digits))


def ratio(value: float | None, digits: int = 1) -> str:
    """0.123 as 12.3 %."""
    return NOTHING if value is None else str(format_percent(value, format="#,##0." + "0" * digits + "%"))


def size(value: float | None) -> str:
    """Bytes as 1.5 GiB."""
    if value is None:
        return NOTHING
    units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    scaled = float(value)
    for unit in units:
        if abs(scaled) < 1024 or unit == units[-1]:
            break
        scaled /= 1024
    digits = 0 if unit == "B" or abs(scaled) >= 100 else 1
    return f"{number(scaled, digits)} {unit}"


def duration(milliseconds: float | None) -> str:
    """Milliseconds as text: the two largest units that matter."""
    if milliseconds is None:
        return NOTHING
    seconds = milliseconds / 1000
    if seconds < 60:
        return str(_("%(n)s s", n=number(seconds, 1)))
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if days:
        return str(_("%(d)d d %(h)d h", d=days, h=hours % 24))
    if hours:
        return str(_("%(h)d h %(m)d min", h=hours, m=minutes % 60))
    return str(_("%(m)d min %(s)d s", m=minutes, s=int(seconds) % 60))


def moment(value: datetime | None) -> str:
    """A time in the reader's zone."""
    return NOTHING if value is None else str(format_datetime(value, "yyyy-MM-dd HH:mm:ss"))


def ago(value: datetime | None) -> str:
    """How long ago it was."""
    if value is None:
        return NOTHING
    seconds = (utc_now() - value).total_seconds()
    if seconds < 1:
        return str(_("just now"))
    # whole seconds: Babel rounds the fraction of a negative time up
    return str(
        format_timedelta(timedelta(seconds=-int(seconds)), granularity="second", threshold=1.0, add_direction=True)
    )


def figure(value: Any, unit: str) -> str:
    """A value with its unit, as FIELDS of the agent names units."""
    if value is None:
        return NOTHING
    if isinstance(value, list):
        return ", ".join(figure(one, unit) for one in value)
    if isinstance(value, bool):
        return str(_("yes") if value else _("no"))
    if isinstance(value, datetime):
        return moment(value)
    if not isinstance(value, (int, float)):
        return str(value)
    writers = {
        "byte": lambda: size(value),
        "byte/s": lambda: f"{size(value)}/s",
        "ratio": lambda: ratio(value),
        "ms": lambda: duration(value),
        "1/s": lambda: f"{number(value, 1)}/s",
        "mhz": lambda: f"{number(value)} MHz",
        "mbit/s": lambda: f"{number(value)} Mbit/s",
    }
    writer = writers.get(unit)
    return writer() if writer else number(value, 0 if float(value).is_integer() else 2)
