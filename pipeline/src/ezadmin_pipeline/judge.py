"""One limit and one item of a host: what a sample does to its state. The rules stand in :mod:`ezadmin_wire.limits`.

Nothing here knows of hosts, clocks or Kafka: a state is a function of the samples, in the order of their times (ms).
"""

from __future__ import annotations

from typing import Any

from ezadmin_pipeline.rules import wildcard
from ezadmin_wire.config import LimitRecord
from ezadmin_wire.limits import check_limit
from ezadmin_wire.trend import Trend

OK, WARNING, CRITICAL, UNKNOWN = range(4)
"""States of an item, as :data:`ezadmin_pipeline.alerts.STATES` names them."""
FORGET = 600_000
"""A longer gap (ms) between two samples of an item leaves nothing of what was before it but the state."""
_KNOWN_ITEMS = 10_000
_LEVELS = (0, 1)


class Item:
    """What is remembered of one item under one limit.

    ``last``: time of the newest sample or change. ``before``: the state that ``unknown`` came after. Per level (warning,
    critical): ``beyond`` and ``within`` are the last samples as bits, the newest lowest (beyond the raise value; not
    beyond the clear value), ``since`` is when the condition of the raise came to hold, 0 if it does not or need not be
    known. ``value``: the newest sample, where a rate is asked for; ``trend``: where the time until it is full is.
    ``changed``: the limit has changed since.
    """

    __slots__ = ("before", "beyond", "changed", "last", "since", "state", "trend", "value", "within")

    def __init__(self) -> None:
        self.state = OK
        self.last = 0
        self.before = OK
        self.changed = False
        self.forget()

    def forget(self) -> None:
        """Forget the samples, keep the state."""
        self.pause()
        self.trend: Trend | None = None

    def pause(self) -> None:
        """Forget what a gap in the samples makes void; a trend only lacks some."""
        self.beyond = [0, 0]
        self.within = [0, 0]
        self.since = [0, 0]
        self.value: float | None = None

    @property
    def plain(self) -> bool:
        """Whether it is as an item that nothing is known of."""
        kept = any(self.beyond) or any(self.since) or self.value is not None or self.trend is not None
        return self.state == OK and not kept

    def to_json(self, newest: int) -> dict[str, Any]:
        """What differs from a new item; ``newest`` is the time of the host's newest sample."""
        found = {
            "s": self.state,
            "b": self.before,
            "l": self.last - newest,
            "c": int(self.changed),
            "v": self.value,
            "o": list(self.beyond) if any(self.beyond) else 0,
            "i": list(self.within) if any(self.within) else 0,
            "h": list(self.since) if any(self.since) else 0,
            "t": 0 if self.trend is None else self.trend.to_json(),
        }
        return {name: value for name, value in found.items() if value or (name == "v" and value is not None)}

    @classmethod
    def from_json(cls, found: dict[str, Any], newest: int) -> Item:
        """The reverse of :meth:`to_json`."""
        item = cls()
        item.state = found.get("s", OK)
        item.before = found.get("b", OK)
        item.last = newest + found.get("l", 0)
        item.changed = bool(found.get("c"))
        item.value = found.get("v")
        item.beyond = list(found.get("o", (0, 0)))
        item.within = list(found.get("i", (0, 0)))
        item.since = list(found.get("h", (0, 0)))
        item.trend = Trend.from_json(found["t"]) if "t" in found else None
        return item


class Limit:
    """A limit, prepared for use. Raises WireError (``bad_limit``)."""

    def __init__(self, limit_id: str, record: LimitRecord, revision: int) -> None:
        check_limit(limit_id, record)
        self.id = limit_id
        self.record = record
        self.revision = revision
        self.no_data = None if record.no_data is None else record.no_data * 1000
        self.gone_after = max(FORGET, (self.no_data or 0) + 60_000)
        self.raises = (record.warning_raise, record.critical_raise)
        clears = (record.warning_clear, record.critical_clear)
        self.clears = tuple(up if down is None else down for up, down in zip(self.raises, clears, strict=True))
        self.judges = self.raises != (None, None)
        self._sign = 1.0 if record.comparison == "above" else -1.0
        self._hold = record.hold * 1000
        self._mask = (1 << record.m) - 1
        self._match = wildcard(record.item)
        self._matched: dict[str, bool] = {}

    def matches(self, item: str) -> bool:
        """Whether the limit is for ``item``."""
        found = self._matched.get(item)
        if found is None:
            if len(self._matched) >= _KNOWN_ITEMS:
                self._matched.clear()
            found = self._matched[item] = self._match(item)
        return found

    def harmless(self, value: float) -> bool:
        """Whether ``value`` does nothing to an item that nothing is known of: what nearly all samples are."""
        if self.record.rate or self.record.trend:
            return False
        signed = self._sign * value
        return not any(limit is not None and signed >= self._sign * limit for limit in self.raises)

    def compared(self, old: int, new: int) -> float | None:
        """The value that a figure was compared with when it led from one state to another."""
        if new in (WARNING, CRITICAL):
            return self.raises[new - 1] if new > old or old == UNKNOWN else self.clears[old - 1]
        return self.clears[old - 1] if old in (WARNING, CRITICAL) else None

    def judge(self, item: Item, time: int, value: float) -> tuple[int, float] | None:
        """Take a sample; returns the state that follows and the figure that was compared, None if there is none yet.

        The caller sets ``item.state``; ``time`` lies beyond ``item.last``.
        """
        record = self.record
        if time - item.last > FORGET:
            item.pause()
        if record.rate:
            before, item.value = item.value, value
            if before is None:
                item.last = time
                return None
            value = (value - before) * 1000.0 / (time - item.last)
        elif record.trend:
            trend = item.trend = item.trend or Trend()
            trend.take(time, value, record.trend)
            hours = trend.hours(time, value, record.full_at, record.trend)
            if hours is None:
                item.last = time
                return None
            value = hours
        item.last = time
        state = item.before if item.state == UNKNOWN else item.state
        signed = self._sign * value
        new = OK
        for level in _LEVELS:
            up, down = self.raises[level], self.clears[level]
            if up is None or down is None:
                continue
            item.beyond[level] = (item.beyond[level] << 1 | (signed >= self._sign * up)) & self._mask
            item.within[level] = (item.within[level] << 1 | (signed < self._sign * down)) & self._mask
            if state > level:
                on = item.within[level].bit_count() <= record.m - record.n
                item.since[level] = 0
            elif item.beyond[level].bit_count() >= record.n:
                since = item.since[level] = item.since[level] or time
                on = time - since >= self._hold
            else:
                on = False
                item.since[level] = 0
            if on:
                new = level + 1
                item.since[level] = 0
        if record.m == 1:
            item.beyond, item.within = [0, 0], [0, 0]
        return new, value
