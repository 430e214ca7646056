"""The agent's own warnings and errors as events (dataset ``ezadmin.agent``), so that they are seen without signing in."""

from __future__ import annotations

import logging
import os
from collections import deque
from typing import Any

from ezadmin_agent.logs.source import CALM, MAX_LINES, Batch, Counts, Mode, empty
from ezadmin_wire.logs.parse import Parsed, event
from ezadmin_wire.logs.rules import Rules
from ezadmin_wire.times import format_epoch_ms

LEVELS = ((logging.CRITICAL, "critical"), (logging.ERROR, "error"), (logging.WARNING, "warning"))


class OwnSource:
    """A log source fed by :attr:`handler`. It keeps the newest events only, and nothing over a restart."""

    name = "own"
    dataset = "ezadmin.agent"
    waits = True
    rereads = False

    def __init__(self) -> None:
        self.counts = Counts()
        self._given: list[logging.LogRecord] = []  # read, but perhaps not yet in the spool
        self._records: deque[logging.LogRecord] = deque(maxlen=MAX_LINES)
        self.handler: logging.Handler = _Handler(self._records)

    def resume(self, position: Any) -> Any:
        """See :class:`ezadmin_agent.logs.source.Source`."""
        self._records.extendleft(reversed(self._given))
        self._given = []
        return None

    def read(self, mode: Mode = CALM) -> Batch:
        """See :class:`ezadmin_agent.logs.source.Source`."""
        found = []
        self._given = []
        for _ in range(len(self._records)):
            record = self._records.popleft()
            self._given.append(record)
            level = next((name for number, name in LEVELS if record.levelno >= number), "info")
            milliseconds = int(record.created * 1000)
            created = format_epoch_ms(milliseconds)
            parsed = Parsed(milliseconds, level, record.getMessage(), "ezadmin-agent", os.getpid())
            found.append(
                event(parsed, dataset=self.dataset, created_ms=milliseconds, created=created, logger=record.name)
            )
        if not found:
            return empty()
        return Batch(
            [line for _, line in found], min(time for time, _ in found), max(time for time, _ in found), None, False
        )

    def use(self, rules: Rules) -> None:
        """The agent's own events are not filtered."""

    def close(self) -> None:
        """Nothing to give up."""


class _Handler(logging.Handler):
    def __init__(self, records: deque[logging.LogRecord]) -> None:
        super().__init__(logging.WARNING)
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        # what the libraries say would tell an operator nothing
        if record.name.startswith("ezadmin_agent"):
            self._records.append(record)
