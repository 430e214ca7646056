"""What can be done with commands."""

from __future__ import annotations

from ezadmin_cmdb.commands.states import expire, mark_sent, state_changed, waiting

__all__ = ["expire", "mark_sent", "state_changed", "waiting"]
