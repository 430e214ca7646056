"""Fields of the metrics documents and the unit Grafana shows each in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ezadmin_agent.collectors import own
from ezadmin_agent.registry import COLLECTORS

ROOT = Path(__file__).resolve().parents[2]

UNITS = {
    "ratio": "percentunit",
    "byte": "bytes",
    "byte/s": "Bps",
    "ms": "ms",
    "s": "s",
    "mbit/s": "Mbits",
    "": "short",
}
"""Grafana's unit for a unit of es/fields.json; ``1/s`` depends on what is counted, see :func:`unit_of`."""

TICK = 10
MINUTE = 60
HOUR = 3600
STATISTICS = ("min", "max", "sum", "avg", "count")
"""What metrics by the hour hold of a field: ``<field>.<statistic>``."""


@dataclass(frozen=True)
class Field:
    """A field as es/fields.json has it."""

    name: str
    dataset: str
    unit: str
    kind: str


@cache
def fields() -> dict[str, Field]:
    """All fields by name. Fields of all datasets (``@timestamp``) are those of the first."""
    found: dict[str, Field] = {}
    for entry in json.loads((ROOT / "es" / "fields.json").read_text("utf-8")):
        found.setdefault(entry["name"], Field(entry["name"], entry["dataset"], entry["unit"], entry["kind"]))
    return found


def unit_of(name: str) -> str:
    """Grafana's unit of a field of the metrics. Raises KeyError for a field or unit that is not known."""
    field = fields()[sampled(name)]
    if field.kind == "date":
        return "dateTimeFromNow"
    if field.unit != "1/s":
        return UNITS[field.unit]
    if ".diskio." in name:
        return "iops"
    return "pps" if ".network." in name else "cps"


def sampled(name: str) -> str:
    """The field of the samples that a field is made of: itself, but for metrics by the hour."""
    field, _, last = name.rpartition(".")
    return field if last in STATISTICS and field in fields() else name


def period_of(name: str) -> int:
    """Seconds between two values of a field: the agent's tick, or a minute for what is measured or leaves once a minute, or an
    hour."""
    if sampled(name) != name:
        return HOUR
    return MINUTE if name in _minutely() or fields()[name].dataset == own.DATASET else TICK


@cache
def _minutely() -> frozenset[str]:
    found = {name for collector in COLLECTORS for name in collector.slow}
    return frozenset(found | {field.name for one in COLLECTORS if one.seconds for field in one.fields})
