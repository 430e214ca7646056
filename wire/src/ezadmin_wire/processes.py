"""The list of a host's processes as one text, ``system.processes.list`` of the dataset ``system.processes``.

A line per column, its name first, then a value per process, parted by tabs, processes in the order of their pids. So like
stands beside like, and compression takes a third off what a line per process would cost:

* ``pid`` is the difference from the process before;
* ``parent``, ``user`` and ``start`` (whole seconds after boot) are empty where an earlier list told them;
* ``state`` (the kernel's letter) and ``command`` are empty where they are as in the process before;
* ``cpu`` (percent of one core since the list before, to a tenth) and ``memory`` (resident MiB, rounded up) are empty for 0,
  ``threads`` for 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ezadmin_wire.errors import WireError

COLUMNS = ("pid", "parent", "user", "state", "cpu", "memory", "threads", "start", "command")
_BREAKS = {ord(character): " " for character in "\t\n\r"}


class Row(NamedTuple):
    """A process. ``cpu`` in percent of one core, ``memory`` in whole MiB, ``start`` in seconds after boot.

    ``parent``, ``user`` and ``start`` are None where an earlier list told them: they do not change.
    """

    pid: int
    parent: int | None
    user: str | None
    state: str
    cpu: float
    memory: int
    threads: int
    start: int | None
    command: str


_NONE = Row(0, None, None, "", 0.0, 0, 1, None, "")


def encode(rows: Iterable[Row]) -> str:
    """The text of ``rows``; ``cpu`` is kept to a tenth."""
    columns: list[list[str]] = [[name] for name in COLUMNS]
    before = _NONE
    for row in rows:
        row = row._replace(command=row.command.translate(_BREAKS))
        values = (
            str(row.pid - before.pid),
            "" if row.parent is None else str(row.parent),
            row.user or "",
            "" if row.state == before.state else row.state,
            f"{row.cpu:.1f}" if row.cpu >= 0.05 else "",
            str(row.memory) if row.memory else "",
            "" if row.threads == 1 else str(row.threads),
            "" if row.start is None else str(row.start),
            "" if row.command == before.command else row.command,
        )
        for column, value in zip(columns, values):
            column.append(value)
        before = row
    return "\n".join("\t".join(column) for column in columns)


def decode(text: str) -> list[Row]:
    """The reverse of :func:`encode`. Raises WireError (``bad_list``)."""
    columns = [line.split("\t") for line in text.split("\n")]
    if tuple(column[0] for column in columns) != COLUMNS or len({len(column) for column in columns}) != 1:
        raise WireError("bad_list", f"a list of processes begins with {text[:40]!r}")
    rows: list[Row] = []
    before = _NONE
    try:
        for values in zip(*(column[1:] for column in columns)):
            before = _row(values, before)
            rows.append(before)
    except ValueError as error:
        raise WireError("bad_list", f"a list of processes holds what is no number: {error}") from error
    return rows


def _row(values: Sequence[str], before: Row) -> Row:
    pid, parent, user, state, cpu, memory, threads, start, command = values
    return Row(
        pid=before.pid + int(pid),
        parent=int(parent) if parent else None,
        user=user or None,
        state=state or before.state,
        cpu=float(cpu or 0),
        memory=int(memory or 0),
        threads=int(threads or 1),
        start=int(start) if start else None,
        command=command or before.command,
    )
