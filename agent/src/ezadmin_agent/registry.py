"""Every collector and every field: what templates, dashboards and the field list are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ezadmin_agent.collectors import (
    COUNTER_SECONDS,
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


def seconds() -> Mapping[str, int]:
    """The least time between two values of each field, 0 for one of each tick."""
    found = {}
    for collector in COLLECTORS:
        for field in collector.fields:
            slow = COUNTER_SECONDS if field.kind == "counter" or field.name in collector.slow else 0
            found[field.name] = max(collector.seconds, slow)
    return found


def events() -> Mapping[str, Sequence[Field]]:
    """The fields of each dataset of events that a collector makes."""
    return {collector.dataset: collector.fields for collector in COLLECTORS if collector.event}


def all_fields() -> Mapping[str, Field]:
    """Every field of every dataset by name. A name means the same in all of them."""
    return {field.name: field for fields in datasets().values() for field in fields}
