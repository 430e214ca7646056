"""How many requests may be in flight: additive increase, multiplicative decrease (Chiu and Jain 1989; TCP's own rule).

While answers come quickly, one more is allowed per round of answers. A refusal (429, 503, no answer in time) halves the
number; an answer that takes more than twice the usual time means that Elasticsearch only queues what it is given, and
takes a tenth away. Either happens once per round: requests that were sent before the last decrease say nothing new.
"""

from __future__ import annotations

_REFUSED = 0.5
_SLOW = 0.9
_SLOWER = 2.0
"""An answer is slow that takes so many times the usual time."""
_NEVER_SLOW = 0.5
"""Seconds within which no answer is slow."""
_SHARE = 0.2
"""Share of the newest answer in the usual time."""


class Window:
    """The number of requests allowed in flight, from 1 to ``most``; times are of one monotonic clock, in seconds."""

    def __init__(self, most: int) -> None:
        self._most = float(most)
        self._size = min(2.0, self._most)
        self._usual: float | None = None
        self._decreased = float("-inf")

    @property
    def size(self) -> int:
        """How many requests may be in flight now."""
        return max(1, int(self._size))

    def answered(self, sent: float, now: float) -> None:
        """A request sent at ``sent`` was answered and taken."""
        took = now - sent
        if self._usual is not None and took > max(_NEVER_SLOW, _SLOWER * self._usual):
            self._decrease(_SLOW, sent, now)
        else:
            self._size = min(self._most, self._size + 1.0 / self._size)
        self._usual = took if self._usual is None else self._usual + _SHARE * (took - self._usual)

    def refused(self, sent: float, now: float) -> None:
        """A request sent at ``sent`` was refused for load, in part or whole, or had no answer."""
        self._decrease(_REFUSED, sent, now)

    def _decrease(self, factor: float, sent: float, now: float) -> None:
        if sent >= self._decreased:
            self._size = max(1.0, self._size * factor)
            self._decreased = now
