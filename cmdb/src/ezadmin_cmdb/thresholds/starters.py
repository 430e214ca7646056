"""Starter templates: sensible limits for the first day.

Installed when somebody asks for it, not by an upgrade: a fleet that has run for a year must not begin to page people by itself.
What is installed is a template like any other; what people changed in it is never overwritten.
"""

from __future__ import annotations

from typing import Any

from flask_babel import gettext as _
from sqlalchemy import or_, select

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.errors import Conflict
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.thresholds.description import TEMPLATE
from ezadmin_cmdb.thresholds.models import ThresholdTemplate
from ezadmin_cmdb.thresholds.rows import Row


def _high(field: str, warning: float, critical: float | None, **more: Any) -> Row:
    """Cleared a little below, so that what swings around a value is raised once."""
    row: Row = {"field": field, "warning_raise": warning, "warning_clear": round(warning * 0.95, 4), **more}
    if critical is not None:
        row |= {"critical_raise": critical, "critical_clear": round(critical * 0.97, 4)}
    return row


STARTERS: dict[str, list[Row]] = {
    "disk": [
        _high("system.filesystem.used.pct", 0.85, 0.95),
        _high("system.filesystem.used_files.pct", 0.85, 0.95),
        {
            "field": "system.filesystem.used.pct", "compare": "full", "full_at": 1.0, "trend": 6 * 3600,
            "warning_raise": 24, "warning_clear": 36, "critical_raise": 4, "critical_clear": 8,
        },
    ],
    "memory": [
        _high("system.memory.actual.used.pct", 0.9, 0.97, hold=300),
        _high("system.memory.swap.used.pct", 0.5, 0.9, hold=300),
    ],
    "cpu": [
        _high("system.cpu.total.norm.pct", 0.9, 0.98, hold=600),
        _high("system.load.norm.5", 2, 4, hold=300),
        _high("system.cpu.iowait.norm.pct", 0.3, 0.6, hold=600),
        _high("system.cpu.steal.norm.pct", 0.1, 0.3, hold=600),
    ],
    "network": [
        _high("system.network.in.errors_per_sec", 1, 50, hold=300),
        _high("system.network.out.errors_per_sec", 1, 50, hold=300),
    ],
    "silent": [{"field": "system.uptime.duration.ms", "no_data": 300}],
}  # fmt: skip


def name_of(key: str) -> str:
    """What a starter is called, in the language of the request."""
    return str({
        "disk": _("Disks: full, inodes, full soon"),
        "memory": _("Memory and swap"),
        "cpu": _("CPU, load, waiting for disks, steal"),
        "network": _("Network errors"),
        "silent": _("Host sends nothing"),
    }[key])  # fmt: skip


def missing() -> list[str]:
    """The starters that are not installed (or deleted again)."""
    there = set(db.session.scalars(select(ThresholdTemplate.starter).where(ThresholdTemplate.starter.is_not(None))))
    return [key for key in STARTERS if key not in there]


def install(actor: Actor) -> list[ThresholdTemplate]:
    """Add those that are missing, for all hosts; one that another template of all hosts contradicts, for none.

    Raises Forbidden.
    """
    rights.require(actor, TEMPLATE.change)
    made = []
    for key in missing():
        name = name_of(key)
        taken = or_(ThresholdTemplate.name == name, ThresholdTemplate.starter == key)
        if db.session.scalar(select(ThresholdTemplate.id).where(taken)) is not None:
            continue
        values = {"name": name, "limits": STARTERS[key], "assignments": [{"level": "global"}]}
        try:
            template: ThresholdTemplate = described.create(actor, TEMPLATE, values)
        except Conflict:
            template = described.create(actor, TEMPLATE, {**values, "assignments": []})
        template.starter = key
        db.session.flush()
        made.append(template)
    return made
