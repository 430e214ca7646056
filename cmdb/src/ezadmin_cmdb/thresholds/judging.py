"""What a figure is by the limits that hold for its host: for colours and marks. Pure functions; alerts are the pipeline's.

A page has one value, not the samples before it: compared are values with what raises a state. Limits on a rate or a trend
say nothing about one value, and are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from ezadmin_cmdb.thresholds.inheritance import EffectiveLimit

OK, WARNING, CRITICAL, UNKNOWN, MAINTENANCE = "ok", "warning", "critical", "unknown", "maintenance"
WORST_FIRST = (CRITICAL, WARNING, UNKNOWN, MAINTENANCE, OK)
MARKS = {OK: "", WARNING: "!", CRITICAL: "!!", UNKNOWN: "?", MAINTENANCE: "~"}
"""Marks of text, which survive copying."""


@dataclass(frozen=True)
class Judgement:
    """What a value is by a limit. ``nearness``: 0 far away, from 1 on a warning, from 2 on critical."""

    state: str
    nearness: float
    limit: EffectiveLimit


class Judge:
    """The limits of one host, ready to judge many of its figures."""

    def __init__(self, limits: Iterable[EffectiveLimit]) -> None:
        self._limits: dict[tuple[str, str], list[EffectiveLimit]] = {}
        for one in limits:
            compared = one.warning_raise is not None or one.critical_raise is not None
            if compared and not one.rate and not getattr(one, "trend", 0):
                self._limits.setdefault((one.dataset, one.field), []).append(one)

    def limits(self, dataset: str, field: str, item: str = "") -> Sequence[EffectiveLimit]:
        """The limits that look at a figure of an item."""
        found = self._limits.get((dataset, field), ())
        return [one for one in found if _pattern(one.item).fullmatch(item)]

    def judge(self, dataset: str, field: str, value: object, item: str = "") -> Judgement | None:
        """The worst that its limits say of a value; None if none looks at it or it is no number."""
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return None
        found = [_judged(one, float(value)) for one in self.limits(dataset, field, item)]
        return max(found, key=lambda one: one.nearness, default=None)


def worst(states: Iterable[str]) -> str:
    """The worst of states; of none, good."""
    return min(states, key=WORST_FIRST.index, default=OK)


def _judged(limit: EffectiveLimit, value: float) -> Judgement:
    warning, critical = limit.warning_raise, limit.critical_raise
    sign = 1 if limit.comparison == "above" else -1
    if critical is not None and sign * value >= sign * critical:
        return Judgement(CRITICAL, 2 + _share(value, critical, sign), limit)
    if warning is None:
        return Judgement(OK, min(_share(value, critical or 0.0, sign), _BELOW_ONE), limit)
    if sign * value < sign * warning:
        return Judgement(OK, min(_share(value, warning, sign), _BELOW_ONE), limit)
    width = 0.0 if critical is None else abs(critical - warning)
    return Judgement(WARNING, 1 + min(abs(value - warning) / width if width else 0.0, _BELOW_ONE), limit)


_BELOW_ONE = 0.9999


def _share(value: float, level: float, sign: int) -> float:
    """How much of the way to a level a value has gone, 0 to 1; beyond it, 1."""
    part, whole = (value, level) if sign > 0 else (level, value)
    if whole <= 0:  # there is no way from nothing: what is beyond is decided by the caller
        return 1.0 if sign * value >= sign * level else 0.0
    return max(0.0, min(part / whole, 1.0))


@cache
def _pattern(item: str) -> re.Pattern[str]:
    """Item patterns know ``*`` and ``?``, as in the pipeline."""
    parts = (".*" if char == "*" else "." if char == "?" else re.escape(char) for char in item)
    return re.compile("".join(parts), re.DOTALL)
