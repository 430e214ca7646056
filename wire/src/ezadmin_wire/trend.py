"""The trend of a figure, and when it will be full: a line through its recent samples that a few odd ones do not turn.

The time that a limit looks back (``LimitRecord.trend``) is cut into :data:`PIECES` pieces. Of each the mean is kept, and the
slope is the median of the slopes between all pairs of them (Theil, Sen): up to a quarter of the pieces may be wrong in any
way, and what is kept of a figure stays a dozen numbers. Fewer than half of the pieces say nothing. The time until it is full
is counted from the line or from the newest sample, whichever is further from it: one odd sample fills nothing, and what was
made free counts at once.
"""

from __future__ import annotations

from statistics import median
from typing import Any, Optional

PIECES = 12
NEVER = 87_600.0
"""Hours (ten years): what does not fill, or not in a time that anybody plans for."""
_DIGITS = 9


class Trend:
    """What is remembered of a figure. ``pieces``: number of the piece and its mean, the oldest first, without the last one,
    which is still growing: ``number``, ``count`` and ``total``. A piece's number is its time divided by its length."""

    __slots__ = ("_line", "count", "number", "pieces", "total")

    def __init__(self) -> None:
        self.pieces: list[tuple[int, float]] = []
        self.number = 0
        self.count = 0
        self.total = 0.0
        self._line: Optional[tuple[float, float]] = None

    def take(self, time: int, value: float, seconds: int) -> None:
        """Take a sample at ``time`` (ms); ``seconds`` is how far the limit looks back, the same each time."""
        number = time * PIECES // (seconds * 1000)
        if number != self.number:
            if self.count:
                self.pieces.append((self.number, rounded(self.total / self.count)))
            self.pieces = [piece for piece in self.pieces if number - PIECES <= piece[0] < number]
            self.number, self.count, self.total = number, 0, 0.0
            self._line = None
        self.count += 1
        self.total = rounded(self.total + value)

    def hours(self, time: int, value: float, full_at: float, seconds: int) -> Optional[float]:
        """Hours until ``value``, the sample at ``time``, is ``full_at``; :data:`NEVER` at most, None if too little is known."""
        if len(self.pieces) < PIECES // 2:
            return None
        if self._line is None:
            self._line = line(self.pieces)
        start, slope = self._line
        now = start + slope * (
            time * PIECES / (seconds * 1000) - 0.5 - self.pieces[0][0]
        )  # a mean stands in the middle
        return hours_until(
            value if abs(full_at - value) > abs(full_at - now) else now, full_at, slope * PIECES / seconds
        )

    def to_json(self) -> list[Any]:
        """The growing piece, then the number of the oldest and the means from it on, None for one without samples."""
        found: list[Any] = [self.number, self.count, self.total]
        if self.pieces:
            known = dict(self.pieces)
            first, last = self.pieces[0][0], self.pieces[-1][0]
            found += [first, *(known.get(number) for number in range(first, last + 1))]
        return found

    @classmethod
    def from_json(cls, found: list[Any]) -> Trend:
        """The reverse of :meth:`to_json`."""
        made = cls()
        made.number, made.count, made.total = found[:3]
        made.pieces = [(found[3] + i, value) for i, value in enumerate(found[4:]) if value is not None]
        return made


def rounded(value: float) -> float:
    """What is written down is what is calculated with, so that who goes on from a record comes to the same."""
    return float(f"{value:.{_DIGITS}g}")


def line(pieces: list[tuple[int, float]]) -> tuple[float, float]:
    """The line through points (two at least): where it stands at the first one, and its slope."""
    slope = median(
        (second[1] - first[1]) / (second[0] - first[0]) for i, first in enumerate(pieces) for second in pieces[i + 1 :]
    )
    return median(value - slope * (number - pieces[0][0]) for number, value in pieces), slope


def hours_until(value: float, full_at: float, per_second: float) -> float:
    """Hours until ``value``, which changes by ``per_second``, is ``full_at``."""
    missing = full_at - value
    if missing == 0:
        return 0.0
    if missing * per_second <= 0:
        return NEVER
    return min(NEVER, missing / per_second / 3600)
