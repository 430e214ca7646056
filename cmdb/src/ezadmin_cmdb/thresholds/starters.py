"""Starter templates: sensible limits for the first day.

Installed when somebody asks for it, not by an upgrade: a fleet that has run for a year must not begin to page people by itself.
What is installed is a template like any other; what people changed in it is never overwritten.
"""

from __future__ import annotations

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


def _high(field: str, warning: tuple[float, float], critical: tuple[float, float], hold: int = 0) -> Row:
    """Each raised at its first value and cleared at its second, so that what swings around one is raised once."""
    return {
        "field": field, "warning_raise": warning[0], "warning_clear": warning[1], "critical_raise": critical[0],
        "critical_clear": critical[1], "hold": hold,
    }  # fmt: skip


STARTERS: dict[str, list[Row]] = {
    "disk": [
        _high("system.filesystem.used.pct", (0.85, 0.82), (0.95, 0.92)),
        _high("system.filesystem.used_files.pct", (0.85, 0.82), (0.95, 0.92)),
        {
            "field": "system.filesystem.used.pct", "compare": "full", "full_at": 1.0, "trend": 6 * 3600,
            "warning_raise": 24, "warning_clear": 36, "critical_raise": 4, "critical_clear": 8,
        },
    ],
    "memory": [
        _high("system.memory.actual.used.pct", (0.9, 0.87), (0.97, 0.95), 300),
        _high("system.memory.swap.used.pct", (0.5, 0.45), (0.9, 0.85), 300),
    ],
    "cpu": [
        _high("system.cpu.total.norm.pct", (0.9, 0.8), (0.98, 0.95), 600),
        _high("system.load.norm.5", (2, 1.5), (4, 3), 300),
        _high("system.cpu.iowait.norm.pct", (0.3, 0.2), (0.6, 0.5), 600),
        _high("system.cpu.steal.norm.pct", (0.1, 0.05), (0.3, 0.25), 600),
    ],
    "network": [
        _high("system.network.in.errors_per_sec", (1, 0.5), (50, 25), 300),
        _high("system.network.out.errors_per_sec", (1, 0.5), (50, 25), 300),
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
