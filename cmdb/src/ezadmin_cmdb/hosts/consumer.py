"""The part of the worker that stores what agents report in ``<prefix>.state``."""

from __future__ import annotations

from ezadmin_cmdb.consuming import TopicConsumer
from ezadmin_cmdb.hosts import reports
from ezadmin_wire import state


class StateConsumer(TopicConsumer):
    """Stores reports: inventory and status."""

    group = "cmdb-worker"
    what = "reports"

    def store(self, host: str, line: bytes) -> None:
        """Store a report. Raises WireError."""
        reports.store(host, state.decode(line))
