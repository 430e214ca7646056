"""The part of the worker that stores what agents say of commands in ``<prefix>.jobs``."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence

from ezadmin_cmdb.commands import states
from ezadmin_cmdb.consuming import TopicConsumer
from ezadmin_wire import WireError, jobs

_log = logging.getLogger(__name__)


class JobConsumer(TopicConsumer):
    """Stores states. A host speaks of the commands that it was given, of no others."""

    group = "cmdb-worker-jobs"
    what = "states of commands"

    def prepare(self, lines: Sequence[tuple[str, bytes]]) -> None:
        """Lock all commands at once, in the order in which everybody locks them."""
        said = set()
        for host, line in lines:
            with contextlib.suppress(WireError):
                document = jobs.decode(line)
                said.add((document.run, document.attempt, host))
        states.lock(said)

    def store(self, host: str, line: bytes) -> None:
        """Store a state. Raises WireError."""
        document = jobs.decode(line)
        if not isinstance(document, jobs.JobState):
            raise WireError("unexpected", "no command that was sent has milestones or output")
        try:
            states.state_changed(document, host)
        except WireError as error:
            _log.warning("refused: %s", error, extra={"fields": {"host.id": host, "reason": error.reason}})
            raise
