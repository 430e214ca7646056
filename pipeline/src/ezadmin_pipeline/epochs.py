"""Which entries of ``seen`` (host/stream/epoch) a commit record may forget, so that it does not grow for ever.

A forgotten epoch whose lines came again would be counted again. Two kinds cannot come again, and go after :data:`KEEP_DAYS` days
in which nothing of them came, ten times as long as Kafka keeps messages, so that no reading again from the beginning of a topic
meets them:

* the host has begun another epoch of the same stream since: an agent begins one only when it has lost its spool, and never goes
  back to the old one;
* the host was deleted in the cmdb, and signatures are required: nothing that it sends is believed.

An epoch of a host that is only silent is kept: it may come back after a year and send the last lines of its spool once more.

Of one host :data:`MOST` are known in a partition. A host begins a new epoch when it has lost its spool, and the parts of
ezadmin one for each of their processes (:mod:`ezadmin_wire.own`). One that makes up more harms itself only: the record stays
small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date

KEEP_DAYS = 30
MOST = 1000


def too_many(names: Iterable[str], host: str) -> list[str]:
    """Those of ``host`` that are too many, of ``names`` in the order in which they came first."""
    return [name for name in names if name.startswith(host)][:-MOST]


def forgettable(used: Mapping[str, str], today: str, known: Callable[[str], bool]) -> list[str]:
    """The names to forget. ``used``: per name the day (YYYY-MM-DD) on which something of it came last; ``known``: whether a
    host.id is one of the cmdb's.
    """
    newest: dict[str, str] = {}
    for name, day in used.items():
        stream = name.rpartition("/")[0]
        newest[stream] = max(day, newest.get(stream, ""))
    limit = date.fromisoformat(today).toordinal() - KEEP_DAYS
    old = [name for name, day in used.items() if date.fromisoformat(day).toordinal() < limit]
    return [name for name in old if used[name] < newest[name.rpartition("/")[0]] or not known(name.partition("/")[0])]
