"""How often an address may show a wrong enrolment token."""

from __future__ import annotations

import time
from collections import OrderedDict

from ezadmin_cmdb.accounts.guards import source
from ezadmin_cmdb.gateway.problems import Problem

PER_MINUTE = 10
ADDRESSES_MAX = 10_000


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
