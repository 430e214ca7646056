"""Every collector and every field: what templates, dashboards and the field list are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ezadmin_agent.collectors import (
    Collector,
    cpu,
    disk,
    filesystem,
    load,
    memory,
    network,
    own,
    process,
    socket,
    uptime,
)
from ezadmin_agent.fields import COMMON, Field

COLLECTORS: tuple[Collector, ...] = (
    cpu.HOST,
    load.HOST,
    memory.HOST,
    disk.HOST,
    network.HOST,
    process.HOST,
    uptime.HOST,
    uptime.USERS,
    socket.HOST,
    socket.BY_STATE,
    network.TROUBLE_HOST,
    filesystem.TOTAL,
    network.NICS,
    network.TROUBLE_NICS,
    disk.DEVICES,
    cpu.CORES,
    filesystem.FILESYSTEMS,
    process.BUSIEST,
    process.LIST,
)


def datasets() -> Mapping[str, Sequence[Field]]:
    """The fields of each dataset of metrics, those common to all first."""
    found: dict[str, list[Field]] = {}
    for collector in COLLECTORS:
        if not collector.event:
            found.setdefault(collector.dataset, list(COMMON)).extend(collector.fields)
    found[own.DATASET] = [*COMMON, *own.fields([collector.name for collector in COLLECTORS])]
    return found


def events() -> Mapping[str, Sequence[Field]]:
    """The fields of each dataset of events that a collector makes."""
    return {collector.dataset: collector.fields for collector in COLLECTORS if collector.event}


def all_fields() -> Mapping[str, Field]:
    """Every field of every dataset by name. A name means the same in all of them."""
    return {field.name: field for fields in datasets().values() for field in fields}
