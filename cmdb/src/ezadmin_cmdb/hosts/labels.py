"""The labels of hosts: those that people gave, and those that follow from where a host stands and whose it is."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.orm import joinedload

from ezadmin_cmdb.datacenter.racks import Rack
from ezadmin_cmdb.hosts.models import Host

FOLLOWING = ("site", "room", "rack", "customer")
"""Names of what a host refers to; with ``environment`` they are labels."""
ENVIRONMENT = "environment"


def loads() -> tuple[Any, ...]:
    """Options that load what labels follow from: by joins, no further query."""
    return (joinedload(Host.site), joinedload(Host.customer), joinedload(Host.rack).joinedload(Rack.room))


def effective(host: Host) -> dict[str, str]:
    """All labels; what follows from the host's place goes before one of the same name that was given."""
    found = {label.name: label.value for label in host.labels}
    for name in FOLLOWING:
        # the room of the rack: the relation that goes through it is old until it is loaded anew
        other = (host.rack and host.rack.room) if name == "room" else getattr(host, name)
        if other is not None:
            found[name] = other.name
    if host.environment:
        found[ENVIRONMENT] = host.environment
    return dict(sorted(found.items()))


def following(name: str, value: str) -> ColumnElement[bool] | None:
    """The condition that a label of this name follows and has this value; None for a name that only people give."""
    if name == ENVIRONMENT:
        return Host.environment == value
    if name not in FOLLOWING:
        return None
    relation: Any = getattr(Host, name)
    return relation.has(name=value)  # type: ignore[no-any-return]


def absent(name: str) -> ColumnElement[bool]:
    """The condition that a label of this name does not follow."""
    column: Any = Host.environment if name == ENVIRONMENT else getattr(Host, f"{name}_id")
    return column.is_(None)  # type: ignore[no-any-return]
