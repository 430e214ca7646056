"""Values of limits as people write and read them: 85%, 10 GiB, 5m, 24 h."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flask_babel import gettext as _

from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.metrics.fields import datasets

_DURATION = re.compile(r"([0-9]{1,9}) ?([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_HOURS = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?) ?([hd]?)")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([KMGTP])i?B?(?:/s)?", re.IGNORECASE)
_UNITS = "KMGTP"


def unit_of(field: str) -> str:
    """The unit of a figure; of one that is not known none."""
    return next((fields[field].unit for fields in datasets().values() if field in fields), "")


def parse_duration(text: str) -> int | None:
    """Seconds; 90, 90s, 5m, 1h, 2d. Raises Invalid."""
    if not text.strip():
        return None
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise Invalid(_("Write a number and s, m, h or d, such as 30s or 5m."))
    return int(found[1]) * _SECONDS[found[2]]


def duration_text(seconds: int | None) -> str:
    """The reverse of :func:`parse_duration`, with the greatest unit that fits."""
    if not seconds:
        return ""
    unit = next(one for one in ("d", "h", "m", "s") if seconds % _SECONDS[one] == 0)
    return f"{seconds // _SECONDS[unit]}{unit}"


def parse_value(text: str, unit: str, compare: str) -> float | None:
    """A value to compare with, in the unit of the figure; hours where the time until it is full is. Raises Invalid."""
    text = text.strip().replace(",", "")
    if not text:
        return None
    if compare == "full":
        found = _HOURS.fullmatch(text)
        if not found:
            raise Invalid(_("Write hours or days, such as 24h or 3d."))
        return float(found[1]) * (24 if found[2] == "d" else 1)
    return parse_figure(text, unit)


def parse_figure(text: str, unit: str) -> float | None:
    """A value of a figure. Raises Invalid."""
    text = text.strip().replace(",", "")
    if not text:
        return None
    size = _SIZE.fullmatch(text) if unit.startswith("byte") else None
    try:
        if size:
            return float(size[1]) * float(1024 ** (_UNITS.index(size[2].upper()) + 1))
        if unit == "ratio":
            value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
            if value > 1.5 and not text.endswith("%"):
                raise Invalid(_("This is a share: write %(text)s%% or %(value)g.", text=text, value=value / 100))
            return round(value, 6)
        return float(text)
    except ValueError:
        example = {"ratio": "85%", "byte": "10 GiB", "byte/s": "10 MiB"}.get(unit, "12.5")
        raise Invalid(_("Write a number, such as %(example)s.", example=example)) from None


def value_text(value: float | None, unit: str, compare: str) -> str:
    """The reverse of :func:`parse_value`."""
    if value is None:
        return ""
    return f"{value:g}h" if compare == "full" else figure_text(value, unit)


def figure_text(value: float, unit: str) -> str:
    """The reverse of :func:`parse_figure`."""
    if unit == "ratio":
        return f"{round(value * 100, 4):g}%"
    if unit.startswith("byte"):
        for power in range(len(_UNITS), 0, -1):
            if value and value % 1024**power == 0:
                return f"{value / 1024**power:g} {_UNITS[power - 1]}iB"
    return f"{value:.12g}"


def limit_words(row: Mapping[str, Any]) -> str:
    """A limit on one line: what it looks at, and when that is a warning or critical."""
    what = row["field"] + ("" if row["item"] == "*" else f" [{row['item']}]")
    if row["compare"] == "rate":
        what = _("%(what)s per second", what=what)
    return f"{what}: {says_words(row)}"


def says_words(row: Mapping[str, Any]) -> str:
    """What a limit says, without what it looks at."""
    if row.get("off"):
        return str(_("switched off"))
    unit, compare = unit_of(row["field"]), row["compare"]
    sign = "≥" if row["comparison"] == "above" else "≤"
    parts = []
    for level, title in (("warning", _("warning")), ("critical", _("critical"))):
        up, down = row[f"{level}_raise"], row[f"{level}_clear"]
        if up is not None:
            full = _("full in %(time)s", time=value_text(up, unit, compare)) if compare == "full" else None
            says = f"{title} {full or f'{sign} {value_text(up, unit, compare)}'}"
            if down is not None:
                clears = _("clears at %(value)s", value=value_text(down, unit, compare))
                says += f" ({clears})"
            parts.append(says)
    if row["hold"]:
        parts.append(_("for %(time)s", time=duration_text(row["hold"])))
    if row["m"] > 1:
        parts.append(_("%(n)s of %(m)s samples", n=row["n"], m=row["m"]))
    if row["no_data"]:
        parts.append(_("no data after %(time)s", time=duration_text(row["no_data"])))
    return ", ".join(map(str, parts))
