"""Sets of numbers kept as ranges: which ``seq`` of a stream have been seen."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

MAX_RANGES = 256
"""More gaps than this in one stream are closed from below: lines are sent in order, so nothing comes for old gaps."""


class Ranges:
    """Sorted, disjoint half-open ranges ``[start, end)`` of non-negative integers."""

    __slots__ = ("_bounds",)

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._bounds: list[int] = []  # start, end, start, end, …: strictly increasing
        for start, end in ranges:
            self.add(start, end)

    def add(self, start: int, end: int) -> None:
        """Add ``[start, end)``; touching ranges become one. Nothing happens if it is empty."""
        if start >= end:
            return
        bounds = self._bounds
        if bounds and bounds[-1] == start:  # the usual case: the next batch of the stream
            bounds[-1] = end
            return
        if not bounds or start > bounds[-1]:
            bounds += [start, end]
        else:
            # a position with an odd number of bounds before it lies inside a range
            left = bisect_right(bounds, start - 1) if start else 0
            right = bisect_right(bounds, end)
            replacement = ([] if left % 2 else [start]) + ([] if right % 2 else [end])
            bounds[left:right] = replacement
        if len(bounds) > 2 * MAX_RANGES:
            del bounds[1:3]

    def missing(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of ``[start, end)`` that are not in the set, in order."""
        bounds = self._bounds
        if not bounds or start >= bounds[-1]:
            return [(start, end)] if start < end else []
        out = []
        position = bisect_right(bounds, start)
        at = start
        while at < end:
            inside = position % 2 == 1
            stop = min(end, bounds[position]) if position < len(bounds) else end
            if not inside and at < stop:
                out.append((at, stop))
            at = stop
            position += 1
        return out

    def to_list(self) -> list[list[int]]:
        """``[[start, end], …]``, as it stands in the commit record."""
        return [self._bounds[i : i + 2] for i in range(0, len(self._bounds), 2)]

    def copy(self) -> Ranges:
        """An independent copy."""
        other = Ranges()
        other._bounds = self._bounds.copy()
        return other
