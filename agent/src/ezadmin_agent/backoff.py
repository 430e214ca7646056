"""Waiting longer after each failure, with full jitter: a fleet that lost its broker must not come back in step."""

from __future__ import annotations

import random


class Backoff:
    """A random time below a ceiling that doubles from ``base`` to ``cap`` seconds with each failure."""

    def __init__(self, base: float, cap: float) -> None:
        self._base = base
        self._cap = cap
        self.failures = 0

    def next(self) -> float:
        """Count a failure and return how many seconds to wait."""
        ceiling = min(self._cap, self._base * 2.0 ** min(self.failures, 32))
        self.failures += 1
        return random.uniform(0, ceiling)

    def reset(self) -> None:
        """Begin again with the shortest wait."""
        self.failures = 0
