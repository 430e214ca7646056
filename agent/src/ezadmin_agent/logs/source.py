"""What every log source offers to the reader of logs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

MAX_LINE = 64 << 10
"""Bytes of a line that are kept; the rest is cut off and the event marked."""
MAX_LINES = 500
MAX_BYTES = 256 << 10
"""Lines and bytes of one batch, as the wire has them; a single line may be longer."""


class Batch(NamedTuple):
    """Events of one dataset, ready for the spool, and where the source stands behind them.

    ``position`` without ``lines``: only the position changed; None: nothing did. ``more``: further lines are at hand.
    """

    lines: Sequence[bytes]
    tmin: str
    tmax: str
    position: Any
    more: bool


class Source(Protocol):
    """A source of events. ``name`` addresses its position in the spool."""

    name: str
    dataset: str

    def resume(self, position: Any) -> Any:
        """Go to ``position`` (None: never read before); returns the position it stands at, to be remembered."""

    def read(self) -> Batch:
        """The next events, perhaps none (``lines`` empty). Never waits."""

    def close(self) -> None:
        """Give up files and processes."""
