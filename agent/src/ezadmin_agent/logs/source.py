"""What every log source offers to the reader of logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Optional, Protocol

from ezadmin_wire.logs.rules import Rules

MAX_LINE = 64 << 10
"""Bytes of a line that are kept; the rest is cut off and the event marked."""
MAX_LINES = 500
MAX_BYTES = 256 << 10
"""Lines and bytes of one batch, as the wire has them; a single line may be longer."""


class Mode(NamedTuple):
    """How a source is to be read now, by the surge ladder.

    ``collapse``: repeats of one pattern become one event. ``shed``: what ranks at or behind it (see
    :mod:`ezadmin_wire.logs.levels`) is dropped and counted; 9: nothing is.
    """

    collapse: bool = False
    shed: int = 9


CALM = Mode()


@dataclass
class Counts:
    """What became of the events of a source since its first line; kept with its position, so exact over kill -9.

    ``read`` = ``kept`` + ``folded`` + ``filtered`` + ``sampled`` + ``dropped``. ``folded`` are those that stand in the
    ``event.count`` of ``folds`` events. ``lost`` never came as far as this: no room between socket and spool.
    """

    read: int = 0
    kept: int = 0
    folded: int = 0
    folds: int = 0
    filtered: int = 0
    sampled: int = 0
    dropped: int = 0
    lost: int = 0
    turn: int = 0  # of the sample

    def position(self) -> dict[str, int]:
        """The counts that are not 0."""
        return {name: value for name, value in vars(self).items() if value}

    @classmethod
    def of(cls, position: Any) -> Counts:
        """The reverse of :meth:`position`."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: int(value) for name, value in (position or {}).items() if name in known})

    def add(self, other: Counts) -> None:
        """Add what another source counted."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


class Batch(NamedTuple):
    """Events of one dataset, ready for the spool, and where the source stands behind them.

    ``position`` without ``lines``: only the position changed; None: nothing did. ``more``: further lines are at hand.
    ``raw``: bytes that were read for it. ``urgent``: places in ``lines`` of those that are error or worse.
    """

    lines: Sequence[bytes]
    tmin: str
    tmax: str
    position: Any
    more: bool
    raw: int = 0
    urgent: Sequence[int] = ()


class Source(Protocol):
    """A source of events. ``name`` addresses its position in the spool."""

    name: str
    dataset: str
    counts: Counts
    waits: bool
    """Whether what is not read stays where it is (a file, the journal), or is soon gone (a socket, the kernel's ring)."""
    rereads: bool
    """Whether :meth:`resume` brings again what came after a position also in a new process."""

    def resume(self, position: Any) -> Any:
        """Go to ``position`` (None: never read before); returns the position it stands at, to be remembered.

        What was read since and is not covered by ``position`` comes again, where the source still has it.
        """

    def read(self, mode: Mode = CALM) -> Batch:
        """The next events, perhaps none (``lines`` empty). Never waits."""

    def use(self, rules: Rules) -> None:
        """Read by other rules from now on."""

    def close(self) -> None:
        """Give up files and processes."""


def empty(position: Optional[Any] = None, raw: int = 0, more: bool = False) -> Batch:
    """A batch without lines."""
    return Batch((), "", "", position, more, raw)
