"""What holds for hosts, and writing it into their config records."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask_babel import gettext as _

from ezadmin_cmdb.errors import Conflict
from ezadmin_cmdb.thresholds import inheritance
from ezadmin_cmdb.thresholds.inheritance import EffectiveLimit, Step
from ezadmin_cmdb.thresholds.places import Places
from ezadmin_wire.limits import MAX_LIMITS


def effective(
    session: Any, host_ids: Sequence[str], fields: Collection[str] | None = None
) -> dict[str, list[EffectiveLimit]]:
    """The limits that hold for each of the hosts, of all figures or of ``fields``; a few queries, however many hosts."""
    places = Places(session, host_ids)
    found = {}
    for host in places.standings(host_ids):
        holding, _off = places.resolved(host)
        found[host.host_id] = [
            inheritance.effective(winner, trace)
            for winner, trace in holding
            if fields is None or winner.record.field in fields
        ]
    return found


@dataclass(frozen=True)
class SwitchedOff:
    """A figure without a limit, because the nearest one switches it off."""

    dataset: str
    field: str
    item: str
    origin: str
    trace: list[Step]


def switched_off(session: Any, host_id: str) -> list[SwitchedOff]:
    """What a host has no limit of because one is switched off, each with its trace."""
    places = Places(session, [host_id])
    return [
        SwitchedOff(winner.record.dataset, winner.record.field, winner.record.item,
                    f"{winner.template} ({winner.place})", trace)
        for host in places.standings([host_id])
        for winner, trace in places.resolved(host)[1]
    ]  # fmt: skip


def holding(places: Places) -> dict[str, list[str]]:
    """The ids of the limits that hold for each host."""
    return {host.host_id: places.holding(host) for host in places.standings()}


def check(places: Places) -> None:
    """Raises Conflict where two limits are equally near, or a host would have too many."""
    tie = places.tie()
    if tie is not None:
        one, other = tie
        raise Conflict(
            _("“%(one)s” and “%(other)s” both have a limit of %(field)s (%(item)s) for: %(place)s. Neither is nearer; "
              "change one of them, assign it elsewhere, or give their groups other priorities.",
              one=one.template, other=other.template, field=one.record.field, item=one.record.item, place=other.place)
        )  # fmt: skip
    for host in places.standings():
        count = len(places.resolved(host)[0])
        if count > MAX_LIMITS:
            raise Conflict(
                _("The host %(name)s would have %(count)s limits; %(most)s are the most.",
                  name=host.name, count=count, most=MAX_LIMITS)
            )  # fmt: skip


def publish_changed(before: Mapping[str, list[str]], after: Mapping[str, list[str]]) -> list[str]:
    """Write the config records of those hosts anew whose limits differ; returns their ids."""
    from ezadmin_cmdb.hosts import services as hosts  # it asks which limits hold

    changed = sorted(host_id for host_id, ids in after.items() if before.get(host_id) != ids)
    hosts.publish_ids(changed)
    return changed
