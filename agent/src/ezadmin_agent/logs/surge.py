"""The surge ladder: when the repeats of a source are collapsed, and what goes first when the spool fills.

1. A source may bring ``rate`` bytes a second for long, and ``burst`` at once before: the spool takes all of it.
2. Over that, or while the logs in the spool take more than ``share`` of their room, repeats are collapsed (see
   :mod:`ezadmin_agent.logs.builder`), until the source is below its budget again. Errors and worse never are.
3. Of sources that cannot wait, debug goes at 70 % of the room, info and notice at 80 %, warnings at 90 %, counted; at
   the cap everything. A source that waits is not read any more: its lines stay where they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ezadmin_agent.logs.source import Mode
from ezadmin_wire.logs.levels import RANK

NOTHING = 9
STEPS = ((0.9, RANK["warning"]), (0.8, RANK["notice"]), (0.7, RANK["debug"]))


class Ladder:
    """Judges sources by name. ``rate`` and ``burst`` in bytes, ``share`` of the room; ``clock`` is monotonic."""

    def __init__(self, rate: int, burst: int, share: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.burst, self.share = rate, burst, share
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}  # bytes left of the burst, and when that was
        self._surging: set[str] = set()

    def mode(self, name: str, used: float, *, waits: bool) -> Mode:
        """How source ``name`` is to be read now; ``used``: share of the room for logs that is taken."""
        left = self._refill(name)
        if name in self._surging:
            if left >= min(self.burst / 2, self.rate * 10) and used < self.share * 0.8:
                self._surging.discard(name)
        elif left <= 0 or used >= self.share:
            self._surging.add(name)
        shed = NOTHING if waits else next((rank for step, rank in STEPS if used >= step), NOTHING)
        return Mode(name in self._surging, shed)

    def took(self, name: str, raw: int) -> None:
        """Source ``name`` brought ``raw`` bytes."""
        left = self._refill(name)
        self._left[name] = (max(left - raw, -float(self.burst)), self._clock())

    @property
    def surging(self) -> frozenset[str]:
        """The sources whose repeats are collapsed now."""
        return frozenset(self._surging)

    def forget(self, name: str) -> None:
        """The source is gone."""
        self._left.pop(name, None)
        self._surging.discard(name)

    def _refill(self, name: str) -> float:
        now = self._clock()
        left, at = self._left.get(name, (float(self.burst), now))
        left = min(float(self.burst), left + (now - at) * self.rate)
        self._left[name] = (left, now)
        return left
