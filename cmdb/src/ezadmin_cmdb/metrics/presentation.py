"""Arranging figures for the host page: tiles, tables of items, and every figure in its group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask_babel import lazy_gettext as _l

from ezadmin_cmdb.metrics.fields import HOST_DATASET, Field, datasets
from ezadmin_cmdb.metrics.services import Item, Latest

GROUPS: dict[str, Any] = {
    "cpu": _l("CPU"),
    "load": _l("Load"),
    "memory": _l("Memory"),
    "swap": _l("Swap"),
    "diskio": _l("Disk I/O"),
    "network": _l("Network"),
    "process": _l("Processes"),
    "system": _l("System"),
    "other": _l("Other"),
}
TITLES: dict[str, Any] = {
    "system.filesystem": _l("File systems"),
    "system.network": _l("Network interfaces"),
    "system.diskio": _l("Disks"),
    "system.core": _l("CPU cores"),
}
COLUMNS: dict[str, list[tuple[str, Any]]] = {
    "system.filesystem": [
        ("system.filesystem.used.pct", _l("Used")),
        ("system.filesystem.used.bytes", _l("In use")),
        ("system.filesystem.available", _l("Available")),
        ("system.filesystem.total", _l("Size")),
        ("system.filesystem.used_files.pct", _l("Inodes")),
        ("system.filesystem.type", _l("Type")),
    ],
    "system.network": [
        ("system.network.link.up", _l("Link")),
        ("system.network.in.bytes_per_sec", _l("Received")),
        ("system.network.out.bytes_per_sec", _l("Sent")),
        ("system.network.in.errors_per_sec", _l("Errors in")),
        ("system.network.out.errors_per_sec", _l("Errors out")),
        ("system.network.in.dropped_per_sec", _l("Dropped in")),
        ("system.network.out.dropped_per_sec", _l("Dropped out")),
        ("system.network.link.speed_mbps", _l("Speed")),
    ],
    "system.diskio": [
        ("system.diskio.io.utilization", _l("Busy")),
        ("system.diskio.read.bytes_per_sec", _l("Read")),
        ("system.diskio.write.bytes_per_sec", _l("Written")),
        ("system.diskio.read.count_per_sec", _l("Reads")),
        ("system.diskio.write.count_per_sec", _l("Writes")),
    ],
    "system.core": [
        ("system.core.total.pct", _l("Busy")),
        ("system.core.user.pct", _l("Programs")),
        ("system.core.system.pct", _l("Kernel")),
        ("system.core.iowait.pct", _l("Waiting for disk")),
        ("system.core.steal.pct", _l("Stolen")),
        ("system.core.mhz", _l("Clock")),
    ],
}
"""The columns of the tables; what stands in none of them is found under all figures."""

BARS = {"system.filesystem.used.pct", "system.diskio.io.utilization", "system.core.total.pct"}


@dataclass(frozen=True)
class Figure:
    """A value and the field that it is of."""

    field: Field
    value: Any


@dataclass(frozen=True)
class Column:
    """A column of a table of items."""

    field: Field
    label: Any
    bar: bool


@dataclass(frozen=True)
class Row:
    """An item's line of a table: its name, and its values by column."""

    name: str
    values: list[Any]
    figures: list[Figure]


@dataclass(frozen=True)
class Table:
    """A dataset with an item a line."""

    dataset: str
    title: Any
    latest: Latest
    columns: list[Column]
    rows: list[Row]


@dataclass(frozen=True)
class Group:
    """Figures of the host itself that belong together."""

    name: str
    title: Any
    figures: list[Figure]


def host_values(found: Sequence[Latest]) -> Mapping[str, Any]:
    """The figures of the host itself by field name, empty if there are none."""
    return next((one.items[0].values for one in found if one.dataset == HOST_DATASET and one.items), {})


def groups(found: Sequence[Latest]) -> list[Group]:
    """All figures of the host itself, by group."""
    fields = datasets()[HOST_DATASET]
    sorted_in: dict[str, list[Figure]] = {name: [] for name in GROUPS}
    for name, value in host_values(found).items():
        sorted_in[_group_of(name)].append(Figure(fields[name], value))
    return [Group(name, GROUPS[name], figures) for name, figures in sorted_in.items() if figures]


def _group_of(name: str) -> str:
    parts = name.split(".")
    if parts[1] == "memory" and parts[2] == "swap":
        return "swap"
    if parts[1] in ("uptime", "boot", "users"):
        return "system"
    return parts[1] if parts[1] in GROUPS else "other"


def tables(found: Sequence[Latest]) -> list[Table]:
    """The datasets with several items, each with the columns of COLUMNS that have values."""
    return [_table(one) for one in found if one.dataset != HOST_DATASET and one.items]


def _table(one: Latest) -> Table:
    fields = datasets()[one.dataset]
    present = {name for item in one.items for name in item.values}
    columns = [
        Column(fields[name], label, name in BARS) for name, label in COLUMNS.get(one.dataset, []) if name in present
    ]
    rows = [
        Row(_name(item), [item.values.get(column.field.name) for column in columns],
            [Figure(fields[name], value) for name, value in item.values.items()])
        for item in one.items
    ]  # fmt: skip
    return Table(one.dataset, TITLES.get(one.dataset, one.dataset), one, columns, rows)


def _name(item: Item) -> str:
    """A file system is known by where it is mounted, the rest by its one name."""
    return item.dimensions.get("system.filesystem.mount_point") or " ".join(item.dimensions.values())
