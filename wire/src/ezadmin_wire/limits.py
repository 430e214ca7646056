"""What a limit may say: the checks that the cmdb makes before it publishes a limit and the pipeline before it uses one.

A limit (:class:`ezadmin_wire.config.LimitRecord`) is judged by the samples of one figure of one item, in the order of their
times. Value ``v`` is *beyond* ``x`` if ``v >= x`` (``comparison`` ``above``) or ``v <= x`` (``below``); with ``rate``, ``v``
is the change per second since the sample before; with ``trend``, ``v`` is the number of hours until the figure is ``full_at``
(:mod:`ezadmin_wire.trend`), and ``comparison`` is ``below``. A state (warning, critical)

- is **raised** when, of the last ``m`` samples, at least ``n`` were beyond its raise value, and that has been so at every
  sample for ``hold`` seconds;
- is **cleared** when, of the last ``m`` samples, more than ``m - n`` were not beyond its clear value (its raise value, if
  there is none): fewer than ``n`` can have been beyond it.

``no_data``: after so many seconds without a sample the state is ``unknown``.
"""

from __future__ import annotations

import math
import re

from ezadmin_wire.config import LimitRecord
from ezadmin_wire.errors import WireError

COMPARISONS = ("above", "below")
MAX_LIMITS = 100
"""Limits of one host."""
MAX_SAMPLES = 60
"""Largest ``m``."""
MAX_HOLD = 86_400
"""Largest ``hold``: a day."""
MIN_NO_DATA = 30
"""Smallest ``no_data``: three ticks of an agent."""
MAX_NO_DATA = 7 * 86_400
"""Largest ``no_data``."""
MIN_TREND = 600
"""Smallest ``trend``: a figure that is sent once a minute then has ten samples."""
MAX_TREND = 7 * 86_400
"""Largest ``trend``."""
ITEM_FIELDS = {
    "system.core": ("system.core.id",),
    "system.diskio": ("system.diskio.name",),
    "system.filesystem": ("system.filesystem.mount_point",),
    "system.network": ("system.network.name",),
    "system.process": ("process.name", "process.entity_id"),
}
"""Per dataset the fields that tell its items apart; other datasets have one item, whose name is empty."""

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_FIELD = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+){0,11}")
_DATASET = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_MAX_ITEM = 200


def item_name(dataset: str, values: tuple[object, ...]) -> str:
    """The name of an item, of the values of its :data:`ITEM_FIELDS`: ``/var``, ``eth0``, ``0``; a process: ``nginx[812]``."""
    if dataset == "system.process":
        name, entity = values
        parts = str(entity).rsplit("-", 2)  # boot-pid-start; the pid itself does not stand in every tick
        return f"{name}[{parts[1] if len(parts) == 3 else entity}]"
    return str(values[0]) if values else ""


def check_limit(limit_id: str, limit: LimitRecord) -> None:
    """Check one limit. Raises WireError (``bad_limit``) that names the limit, and what to write instead."""
    if not _ID.fullmatch(limit_id):
        raise _bad(limit_id, "the id is made of lower-case letters, digits, '.', '_' and '-', 64 at most")
    if not _FIELD.fullmatch(limit.field):
        raise _bad(limit_id, f"field {limit.field!r} is no name of a figure, such as system.cpu.total.norm.pct")
    if not _DATASET.fullmatch(limit.dataset):
        raise _bad(limit_id, f"dataset {limit.dataset!r} is none, such as system.host")
    if not 1 <= len(limit.item) <= _MAX_ITEM:
        raise _bad(limit_id, f"item is 1 to {_MAX_ITEM} characters long; * is for all")
    if limit.comparison not in COMPARISONS:
        raise _bad(limit_id, f"comparison {limit.comparison!r} is none of {', '.join(COMPARISONS)}")
    for name, least, most in (("hold", 0, MAX_HOLD), ("m", 1, MAX_SAMPLES), ("n", 1, limit.m)):
        if not least <= getattr(limit, name) <= most:
            raise _bad(limit_id, f"{name} is {getattr(limit, name)}; from {least} to {most}")
    if limit.no_data is not None and not MIN_NO_DATA <= limit.no_data <= MAX_NO_DATA:
        raise _bad(limit_id, f"no_data is {limit.no_data}; from {MIN_NO_DATA} to {MAX_NO_DATA} seconds")
    if limit.trend:
        _check_trend(limit_id, limit)
    _check_values(limit_id, limit)


def _check_trend(limit_id: str, limit: LimitRecord) -> None:
    if not MIN_TREND <= limit.trend <= MAX_TREND:
        raise _bad(limit_id, f"trend is {limit.trend}; 0 for none, or from {MIN_TREND} to {MAX_TREND} seconds")
    if limit.rate:
        raise _bad(limit_id, "rate and trend are both given; one figure can be compared")
    if limit.comparison != "below":
        raise _bad(limit_id, "with trend, hours until full are compared: comparison must be below")
    if not math.isfinite(limit.full_at):
        raise _bad(limit_id, f"full_at is {limit.full_at}; write a number")


def _check_values(limit_id: str, limit: LimitRecord) -> None:
    names = ("warning_raise", "warning_clear", "critical_raise", "critical_clear")
    values = {name: getattr(limit, name) for name in names}
    for name, value in values.items():
        if value is not None and not math.isfinite(value):
            raise _bad(limit_id, f"{name} is {value}; write a number")
    for level in ("warning", "critical"):
        if values[f"{level}_raise"] is None and values[f"{level}_clear"] is not None:
            raise _bad(limit_id, f"{level}_clear is given, but no {level}_raise")
    if values["warning_raise"] is None and values["critical_raise"] is None and limit.no_data is None:
        raise _bad(limit_id, "give warning_raise, critical_raise or no_data, or it could never say anything")
    sign, word = (1, "above") if limit.comparison == "above" else (-1, "below")
    for lower, upper in (
        ("warning_clear", "warning_raise"),
        ("critical_clear", "critical_raise"),
        ("warning_raise", "critical_raise"),
        ("warning_clear", "critical_clear"),
    ):
        low, high = values[lower], values[upper]
        if low is not None and high is not None and sign * low > sign * high:
            raise _bad(
                limit_id, f"{lower} {low:g} is {word} {upper} {high:g}: it may only be on the harmless side of it"
            )


def _bad(limit_id: str, text: str) -> WireError:
    return WireError("bad_limit", f"limit {limit_id!r}: {text}")
