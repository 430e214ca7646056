"""The governor: while the agent takes more CPU or memory than it may, its costliest collectors run more rarely.

Pure: it is told figures and a time, and answers with what to say. Nothing is lost by it, figures are only further apart;
logs are never slowed (the spool and the surge rules see to them). systemd's limits are the second fence.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple, Optional

PATIENCE = 12.0
"""Seconds over a limit before something is done; as long again before more is done."""
CALM = 60.0
"""Seconds well below both limits before a step is taken back."""
MAX_STRETCH = 8
WELL_BELOW = 0.6
WORTH = 0.05
"""A collector that takes less than this share of the budget is not worth stretching."""


class _Look(NamedTuple):
    at: float
    cpu_seconds: float
    rss_bytes: int
    costs: Mapping[str, float]


class Governor:
    """``cpu_share`` of one core and ``rss_bytes`` are the limits. :attr:`stretch`: factor per collector, 2, 4 or 8."""

    def __init__(self, cpu_share: float, rss_bytes: int) -> None:
        self._cpu_share = cpu_share
        self._rss_bytes = rss_bytes
        self._looks: deque[_Look] = deque()
        self._calm_since: Optional[float] = None
        self._told_helpless = False
        self._steps: list[str] = []  # what was stretched, in order; taken back from the end
        self.stretch: dict[str, int] = {}
        self.memory_high = False

    def observe(self, at: float, cpu_seconds: float, rss_bytes: int, costs: Mapping[str, float]) -> list[str]:
        """Look at the process: ``cpu_seconds`` and ``costs`` (CPU ms by collector) since its start. Returns what to tell."""
        self._looks.append(_Look(at, cpu_seconds, rss_bytes, dict(costs)))
        if len(self._looks) == 1:
            return []
        while len(self._looks) > 2 and at - self._looks[1].at >= PATIENCE:
            self._looks.popleft()
        first = self._looks[0]
        seconds = at - first.at
        if seconds < PATIENCE:
            return []
        share = (cpu_seconds - first.cpu_seconds) / seconds
        self.memory_high = all(look.rss_bytes > self._rss_bytes for look in self._looks)
        if share > self._cpu_share or self.memory_high:
            self._calm_since = None
            return self._step_up(share, rss_bytes, seconds, first, costs)
        below = share < self._cpu_share * WELL_BELOW and rss_bytes < self._rss_bytes
        if not below:
            self._calm_since = None
            return []
        if self._calm_since is None:
            self._calm_since = at
        if at - self._calm_since < CALM:
            return []
        self._calm_since = at
        return self._step_down(share)

    def _step_up(
        self, share: float, rss_bytes: int, seconds: float, first: _Look, costs: Mapping[str, float]
    ) -> list[str]:
        what = (
            f"{share * 100:.1f} % of a core over {seconds:.0f} s, allowed {self._cpu_share * 100:g}"
            if share > self._cpu_share
            else f"{rss_bytes >> 20} MiB of memory, allowed {self._rss_bytes >> 20}"
        )
        least = self._cpu_share * seconds * 1000 * WORTH
        spent = {name: cost - first.costs.get(name, 0.0) for name, cost in costs.items()}
        choice = [name for name in spent if self.stretch.get(name, 1) < MAX_STRETCH and spent[name] >= least]
        self._restart()
        if not choice:
            if self._told_helpless:
                return []
            self._told_helpless = True
            return [f"the agent takes {what}; no collector is to blame for it, so none is made rarer"]
        name = max(choice, key=lambda one: spent[one])
        self.stretch[name] = self.stretch.get(name, 1) * 2
        self._steps.append(name)
        return [
            f"the agent takes {what}: the collector {name} ({spent[name] / seconds:.1f} ms CPU a second) runs "
            f"{self.stretch[name]} times more rarely"
        ]

    def _step_down(self, share: float) -> list[str]:
        if self._told_helpless and not self._steps:
            self._told_helpless = False
            return [f"the agent is within its limits again ({share * 100:.1f} % of a core)"]
        if not self._steps:
            return []
        name = self._steps.pop()
        self.stretch[name] //= 2
        factor = self.stretch[name]
        if factor == 1:
            del self.stretch[name]
        self._told_helpless = False
        self._restart()
        how = "as often as configured" if factor == 1 else f"{factor} times more rarely"
        return [
            f"the agent is within its limits ({share * 100:.1f} % of a core): the collector {name} runs {how} again"
        ]

    def _restart(self) -> None:
        """Judge what follows by itself alone."""
        last = self._looks[-1]
        self._looks.clear()
        self._looks.append(last)
