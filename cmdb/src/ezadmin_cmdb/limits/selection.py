"""Which limits are for which hosts."""

from __future__ import annotations

from collections.abc import Sequence

from ezadmin_cmdb.database import db
from ezadmin_cmdb.hosts.models import Host


def limit_ids(host: Host) -> list[str]:
    """The ids of the limits that hold for a host, as its config record lists them."""
    return limit_ids_of([host])[host.id]


def limit_ids_of(hosts: Sequence[Host]) -> dict[str, list[str]]:
    """As :func:`limit_ids`, for many hosts with a few queries; their labels must be loaded."""
    from ezadmin_cmdb.thresholds.places import Places, standing_of  # it knows limits

    places = Places(db.session, [host.id for host in hosts])
    return {host.id: places.holding(standing_of(host)) for host in hosts}
