"""Arranging figures for the host page: tiles, tables of items, and every figure in its group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask_babel import lazy_gettext as _l

from ezadmin_cmdb.metrics.fields import HOST_DATASET, Field, datasets
from ezadmin_cmdb.metrics.services import Item, Latest
from ezadmin_wire.limits import ITEM_FIELDS, item_name

GROUPS: dict[str, Any] = {
    "cpu": _l("CPU"),
    "load": _l("Load"),
    "memory": _l("Memory"),
    "swap": _l("Swap"),
    "diskio": _l("Disk I/O"),
    "network": _l("Network"),
    "process": _l("Processes"),
    "socket": _l("Sockets in use"),
    "fsstat": _l("File systems"),
    "system": _l("System"),
    "other": _l("Other"),
}
TITLES: dict[str, Any] = {
    "system.filesystem": _l("File systems"),
    "system.network": _l("Network interfaces"),
    "system.diskio": _l("Disks"),
    "system.core": _l("CPU cores"),
    "system.process": _l("Busiest processes"),
    "ezadmin.agent": _l("Agent"),
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
        ("system.core.iowait.pct", _l("Disk wait")),
        ("system.core.steal.pct", _l("Stolen")),
    ],
    "system.process": [
        ("system.process.cpu.total.pct", _l("CPU")),
        ("system.process.memory.rss.bytes", _l("Memory")),
        ("system.process.memory.rss.pct", _l("Share")),
        ("user.name", _l("User")),
        ("system.process.state", _l("State")),
        ("system.process.num_threads", _l("Threads")),
    ],
}
"""The columns of the tables; what stands in none of them is found under all figures."""

PROCESSES = "system.process"
BUSY = "system.process.cpu.total.pct"
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
    """An item's line of a table: its name, that by which limits know it, and its values by column."""

    name: str
    item: str
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
    """All figures of the datasets that speak of the host as a whole: its own by kind, then the others'."""
    fields = datasets()[HOST_DATASET]
    sorted_in: dict[str, list[Figure]] = {name: [] for name in GROUPS}
    for name, value in host_values(found).items():
        sorted_in[_group_of(name)].append(Figure(fields[name], value))
    own = [Group(name, GROUPS[name], figures) for name, figures in sorted_in.items() if figures]
    others = [
        Group(one.dataset, TITLES.get(one.dataset, one.dataset), _figures(one.dataset, one.items[0]))
        for one in found
        if one.dataset != HOST_DATASET and one.items and not _has_items(one.dataset)
    ]
    return own + others


def _figures(dataset: str, item: Item) -> list[Figure]:
    """The values of an item in the agent's order."""
    return [Figure(field, item.values[name]) for name, field in datasets()[dataset].items() if name in item.values]


def _has_items(dataset: str) -> bool:
    return any(field.dimension for field in datasets()[dataset].values())


def _group_of(name: str) -> str:
    parts = name.split(".")
    if parts[1] == "memory" and parts[2] == "swap":
        return "swap"
    if parts[1] in ("uptime", "boot", "users"):
        return "system"
    return parts[1] if parts[1] in GROUPS else "other"


def tables(found: Sequence[Latest]) -> list[Table]:
    """The datasets with an item a document, each with the columns of COLUMNS that have values."""
    return [_table(one) for one in found if one.items and _has_items(one.dataset)]


def _table(one: Latest) -> Table:
    fields = datasets()[one.dataset]
    present = {name for item in one.items for name in item.values}
    columns = [
        Column(fields[name], label, name in BARS) for name, label in COLUMNS.get(one.dataset, []) if name in present
    ]
    items = sorted(one.items, key=lambda item: -item.values.get(BUSY, 0)) if one.dataset == PROCESSES else one.items
    rows = [
        Row(
            item_title(item),
            item_of(item, one.dataset),
            [item.values.get(column.field.name) for column in columns],
            _figures(one.dataset, item),
        )
        for item in items
    ]
    return Table(one.dataset, TITLES.get(one.dataset, one.dataset), one, columns, rows)


def item_of(item: Item, dataset: str) -> str:
    """The name by which limits know an item."""
    names = ITEM_FIELDS.get(dataset, ())
    return item_name(dataset, tuple(item.dimensions.get(name, item.values.get(name, "")) for name in names))


def item_title(item: Item) -> str:
    """A file system is known by where it is mounted, a process by name and number, the rest by its one name."""
    if "process.entity_id" in item.dimensions:
        return f"{item.values.get('process.name', '')} {item.values.get('process.pid', '')}"
    return item.dimensions.get("system.filesystem.mount_point") or " ".join(item.dimensions.values())
