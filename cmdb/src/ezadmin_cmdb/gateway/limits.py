"""How often an address may show a wrong enrolment token, and how often the same is told."""

from __future__ import annotations

import time
from collections import OrderedDict

from ezadmin_cmdb.accounts.guards import source
from ezadmin_cmdb.gateway.problems import Problem

PER_MINUTE = 10
ADDRESSES_MAX = 10_000


class OnceInAWhile:
    """What anybody could have us tell again and again: of each subject once in ten minutes, and not of too many."""

    SECONDS = 600.0
    MOST = 200

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def first(self, subject: str) -> bool:
        """Whether it is time to tell of it."""
        now = time.monotonic()
        if now - self._told.get(subject, -self.SECONDS) < self.SECONDS:
            return False
        if len(self._told) >= self.MOST:
            self._told = {one: at for one, at in self._told.items() if now - at < self.SECONDS}
            if len(self._told) >= self.MOST:
                return False
        self._told[subject] = now
        return True


class WrongTokens:
    """Counts what was refused by address: :data:`PER_MINUTE` at once, and as many a minute on and on."""

    def __init__(self, per_minute: int = PER_MINUTE) -> None:
        self._step = 60.0 / per_minute
        self._room = 60.0
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def check(self, address: str) -> None:
        """Raises Problem (429) for an address that was refused too often."""
        over = self._full_at.get(source(address), 0.0) - time.monotonic() - self._room
        if over > -self._step:
            raise Problem(
                429, "too_many_requests", "too many wrong tokens from this address", retry=int(over + self._step) + 1
            )

    def note(self, address: str) -> None:
        """It was refused once more."""
        key, now = source(address), time.monotonic()
        self._full_at[key] = max(self._full_at.get(key, now), now) + self._step
        self._full_at.move_to_end(key)
        if len(self._full_at) > ADDRESSES_MAX:
            self._full_at.popitem(last=False)
