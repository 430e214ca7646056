"""Which of several limits holds: that of the nearest place. Pure functions; nothing here knows of tables.

Places from far to near: all hosts < the vendor of a host < its model < its site < groups of hosts, by their explicit
priority < the host itself. Of the limits that look at the same (:attr:`Candidate.about`: field, item pattern, what is
compared), the nearest holds, and replaces the others as a whole; one that is switched off leaves none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ezadmin_wire.config import LimitRecord

LEVELS = ("global", "vendor", "model", "site", "group", "host")
"""From far to near."""

About = tuple[str, str, str, str, str]
"""Dataset, field, item pattern, comparison, and whether the value, its rate or the time until it is full is compared."""


@dataclass(frozen=True)
class Candidate:
    """A limit at a place. ``place``: what is assigned to, in words; ``priority``: among groups, the greater is nearer."""

    level: str
    place: str
    template: str
    limit_id: str
    record: LimitRecord
    off: bool = False
    priority: int = 0
    template_id: int | None = None

    @property
    def about(self) -> About:
        """What it looks at: only limits that look at the same replace one another."""
        record = self.record
        compared = "rate" if record.rate else "full" if record.trend else "value"
        return record.dataset, record.field, record.item, record.comparison, compared

    @property
    def nearness(self) -> tuple[int, int, str]:
        """Sorts from far to near; the id only keeps the order one where the cmdb has let no tie arise."""
        return LEVELS.index(self.level), self.priority, self.limit_id

    @property
    def values(self) -> dict[str, Any]:
        """What it says, without what it looks at."""
        if self.off:
            return {"off": True}
        names = ("warning_raise", "warning_clear", "critical_raise", "critical_clear", "hold", "n", "m", "no_data")
        return {name: getattr(self.record, name) for name in (*names, "trend", "full_at")}


@dataclass(frozen=True)
class Step:
    """A limit that was looked at on the way, from far to near: where it is assigned, what it says, whether it holds."""

    level: str
    place: str
    template: str
    values: Mapping[str, Any]
    wins: bool
    template_id: int | None = None


@dataclass(frozen=True)
class EffectiveLimit:
    """A limit that holds for a host. ``origin``: why, in words; ``trace``: all that were looked at, from far to near.

    With ``trend``, its values are hours until the figure is ``full_at``, and nothing that a figure is compared with.
    """

    dataset: str
    field: str
    item: str
    comparison: str
    rate: bool
    warning_raise: float | None
    warning_clear: float | None
    critical_raise: float | None
    critical_clear: float | None
    hold: int
    n: int
    m: int
    no_data: int | None
    limit_id: str
    origin: str
    trace: list[Step] = dataclasses.field(default_factory=list)  # not by name: a limit has a field of that name
    trend: int = 0
    full_at: float = 1.0


def resolve(
    candidates: Iterable[Candidate],
) -> tuple[list[tuple[Candidate, list[Step]]], list[tuple[Candidate, list[Step]]]]:
    """The limits that hold, and those by which a limit is switched off; each with its trace, in the order of what they
    look at. The order of ``candidates`` does not matter."""
    by_about: dict[About, list[Candidate]] = {}
    for one in candidates:
        by_about.setdefault(one.about, []).append(one)
    holding: list[tuple[Candidate, list[Step]]] = []
    off: list[tuple[Candidate, list[Step]]] = []
    for about in sorted(by_about):
        chain = sorted(by_about[about], key=lambda one: one.nearness)
        winner = chain[-1]
        trace = [Step(one.level, one.place, one.template, one.values, one is winner, one.template_id) for one in chain]
        (off if winner.off else holding).append((winner, trace))
    return holding, off


def effective(winner: Candidate, trace: list[Step]) -> EffectiveLimit:
    """A limit that holds, as others use it."""
    record = winner.record
    origin = f"{winner.template} ({winner.place})"
    return EffectiveLimit(
        record.dataset, record.field, record.item, record.comparison, record.rate,
        record.warning_raise, record.warning_clear, record.critical_raise, record.critical_clear,
        record.hold, record.n, record.m, record.no_data, winner.limit_id, origin, trace,
        record.trend, record.full_at,
    )  # fmt: skip
