"""Hosts whose clock is wrong, told by when they say that they sent a batch and when Kafka took it."""

from __future__ import annotations

import logging

from ezadmin_wire.times import parse_time

_log = logging.getLogger(__name__)
TOLERANCE = 600.0
"""Seconds between sending and taking that say nothing about a clock: a batch may be tried again for minutes."""
_REPORT_EVERY = 3600.0
_MOST_HOSTS = 10_000


class Clocks:
    """Compares hosts' clocks with Kafka's."""

    def __init__(self) -> None:
        self.wrong: dict[str, float] = {}
        """Seconds that the clock of a host is ahead of Kafka's (negative: behind), of those beyond TOLERANCE."""
        self._reported: dict[str, float] = {}

    def check(self, host: str, sent: str, taken_ms: int) -> None:
        """Note a batch that was ``sent`` by the host's clock and taken by Kafka at ``taken_ms`` (-1: not known)."""
        if taken_ms < 0:
            return
        taken = taken_ms / 1000
        ahead = parse_time(sent).timestamp() - taken
        if abs(ahead) <= TOLERANCE:
            if self.wrong.pop(host, None) is not None:
                _log.info("the clock of host %s is right again", host, extra={"fields": {"host.id": host}})
            return
        if len(self.wrong) >= _MOST_HOSTS:
            self.wrong.clear()
            self._reported.clear()
        self.wrong[host] = ahead
        if abs(taken - self._reported.get(host, float("-inf"))) >= _REPORT_EVERY:
            self._reported[host] = taken
            _log.warning(
                "the clock of host %s is %.0f s %s; set it right, its events stand at wrong times",
                *(host, abs(ahead), "ahead" if ahead > 0 else "behind"),
                extra={"fields": {"host.id": host, "clock.ahead_s": round(ahead, 3)}},
            )
