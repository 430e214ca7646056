"""The limits and assignments of a template as plain values: what forms, API and CSV give, judged with errors by name.

A limit is ``{field, item, comparison, compare, warning_raise, …}``, an assignment ``{level, of, name, priority}``. ``compare``:
the ``value``, its ``rate`` per second, or the hours until it is ``full``. ``of`` is the vendor, the model, or the id or name of a
site, group or host; ``name`` is how that is called, and only read. Errors name members so: ``limits.0.warning_clear``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import or_, select

from ezadmin_cmdb.database import db
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.metrics.fields import Field, datasets
from ezadmin_cmdb.thresholds.inheritance import LEVELS
from ezadmin_wire import WireError
from ezadmin_wire import limits as wire
from ezadmin_wire.config import LimitRecord

Row = dict[str, Any]
RAISES = ("warning_raise", "critical_raise")
VALUES = ("warning_raise", "warning_clear", "critical_raise", "critical_clear")
COMPARE = ("value", "rate", "full")
TREND = 6 * 3600
"""How far the time until something is full looks back unless said: a day ahead needs some hours behind it."""
PRIORITY_MOST = 1000
LIMITS_MOST = 50
ASSIGNMENTS_MOST = 200
_FIGURES = ("gauge", "counter")
PLAIN: Row = {
    "item": "*", "comparison": "above", "compare": "value", **dict.fromkeys(VALUES), "hold": 0, "n": 1, "m": 1,
    "no_data": None, "trend": 0, "full_at": 1.0, "off": False,
}  # fmt: skip


def figures() -> dict[str, Field]:
    """The fields that a limit may be on, by name."""
    return {
        name: one for fields in datasets().values() for name, one in fields.items() if one.kind in _FIGURES
    }  # fmt: skip


def checked_limits(given: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Limits with all their members. Raises Invalid, whose ``fields`` name each member that is wrong."""
    wrong: dict[str, str] = {}
    found: list[Row] = []
    seen: dict[tuple[Any, ...], int] = {}
    if len(given) > LIMITS_MOST:
        raise Invalid(_("At most %(n)d.", n=LIMITS_MOST), "limits")
    for i, one in enumerate(given):
        row, errors = _limit(one)
        about = tuple(row[name] for name in ("field", "item", "comparison", "compare"))
        if not errors and seen.setdefault(about, i) != i:
            errors["field"] = _("Limit %(n)s of this template looks at the same.", n=seen[about] + 1)
        wrong |= {f"limits.{i}.{name}": text for name, text in errors.items()}
        found.append(row)
    if wrong:
        raise _named(wrong)
    return found


def _limit(given: Mapping[str, Any]) -> tuple[Row, dict[str, str]]:
    known = figures()
    row: Row = {"field": str(given.get("field") or "").strip(), **PLAIN}
    row |= {name: given[name] for name in PLAIN if given.get(name) is not None}
    wrong: dict[str, str] = {}
    if row["field"] not in known:
        wrong["field"] = _("There is no figure of this name; the list offers those that there are.")
    if row["comparison"] not in wire.COMPARISONS:
        wrong["comparison"] = _("One of: %(values)s.", values=", ".join(wire.COMPARISONS))
    if row["compare"] not in COMPARE:
        wrong["compare"] = _("One of: %(values)s.", values=", ".join(COMPARE))
    if row["compare"] == "full":
        row["comparison"], row["trend"] = "below", row["trend"] or TREND
        _range(row, wrong, "trend", wire.MIN_TREND, wire.MAX_TREND)
    else:
        row["trend"], row["full_at"] = 0, 1.0
    row["item"] = str(row["item"]).strip() or "*"
    if len(row["item"]) > 200:
        wrong["item"] = _("At most %(n)d characters.", n=200)
    if row["off"]:
        return {**row, **dict.fromkeys(VALUES), "no_data": None, "hold": 0, "n": 1, "m": 1}, wrong
    _range(row, wrong, "hold", 0, wire.MAX_HOLD)
    _range(row, wrong, "m", 1, wire.MAX_SAMPLES)
    _range(row, wrong, "n", 1, row["m"])
    if row["no_data"] is not None:
        _range(row, wrong, "no_data", wire.MIN_NO_DATA, wire.MAX_NO_DATA)
        least = known[row["field"]].least_no_data if row["field"] in known else 0
        if "no_data" not in wrong and row["no_data"] < least:
            wrong["no_data"] = _("Agents send this figure every %(n)d seconds: give it %(least)d or more.",
                                 n=known[row["field"]].seconds, least=least)  # fmt: skip
    _levels(row, wrong)
    if not wrong:
        try:
            wire.check_limit("x", record(row))
        except WireError as error:
            wrong["field"] = str(error)
    return row, wrong


def _range(row: Row, wrong: dict[str, str], name: str, least: int, most: int) -> None:
    if not isinstance(row[name], int) or not least <= row[name] <= most:
        wrong[name] = _("The number lies between %(least)s and %(most)s.", least=least, most=most)


def _levels(row: Row, wrong: dict[str, str]) -> None:
    """What of raise and clear values contradicts itself."""
    for name in (*VALUES, "full_at"):
        value = row[name]
        if value is not None:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                wrong[name] = _("Write a number.")
                return
            row[name] = float(value)
    if all(row[name] is None for name in (*RAISES, "no_data")):
        wrong["warning_raise"] = _("Give a value for warning or critical, or a time without data.")
    sign = 1 if row["comparison"] == "above" else -1
    for level in ("warning", "critical"):
        up, down = row[f"{level}_raise"], row[f"{level}_clear"]
        if down is not None and up is None:
            wrong[f"{level}_clear"] = _("It cannot clear what is never raised: give the value that raises it.")
        elif down is not None and sign * down > sign * up:
            wrong[f"{level}_clear"] = (
                _("It clears on the harmless side: not above the value that raises it.") if sign > 0
                else _("It clears on the harmless side: not below the value that raises it.")
            )  # fmt: skip
    one, other = row["warning_raise"], row["critical_raise"]
    if one is not None and other is not None and sign * one > sign * other:
        wrong["critical_raise"] = _("Critical comes after warning, not before it.")
    one, other = row["warning_clear"], row["critical_clear"]
    if one is not None and other is not None and sign * one > sign * other:
        wrong["critical_clear"] = _("Critical clears before warning, not after it.")


def record(row: Mapping[str, Any]) -> LimitRecord:
    """A limit as the pipeline gets it."""
    known = figures()[row["field"]]
    names = (*VALUES, "item", "hold", "n", "m", "comparison", "no_data", "trend", "full_at")
    return LimitRecord(
        field=row["field"], dataset=known.dataset, rate=row["compare"] == "rate", **{name: row[name] for name in names}
    )


def row_of(found: LimitRecord, off: bool) -> Row:
    """The reverse of :func:`record`."""
    names = (*VALUES, "item", "hold", "n", "m", "comparison", "no_data", "trend", "full_at")
    compare = "rate" if found.rate else "full" if found.trend else "value"
    row = {"field": found.field, **PLAIN, **{name: getattr(found, name) for name in names}}
    return {**row, "compare": compare, "off": off}


def checked_assignments(given: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Assignments with ids and names; at most three queries. Raises Invalid, whose ``fields`` name what is wrong."""
    if len(given) > ASSIGNMENTS_MOST:
        raise Invalid(_("At most %(n)d.", n=ASSIGNMENTS_MOST), "assignments")
    wanted: dict[str, set[str]] = {}
    for one in given:
        wanted.setdefault(str(one.get("level")), set()).add(str(one.get("of") or "").strip())
    known = {level: _resolve(level, texts) for level, texts in wanted.items() if level in ("site", "group", "host")}
    wrong: dict[str, str] = {}
    found: list[Row] = []
    seen: set[tuple[str, str]] = set()
    for i, one in enumerate(given):
        level, text, priority = str(one.get("level")), str(one.get("of") or "").strip(), one.get("priority") or 0
        row: Row = {"level": level, "of": text, "name": text, "priority": 0}
        if level not in LEVELS:
            wrong[f"assignments.{i}.level"] = _("One of: %(values)s.", values=", ".join(LEVELS))
        elif level == "global":
            row |= {"of": "", "name": ""}
        elif not 1 <= len(text) <= 128:
            wrong[f"assignments.{i}.of"] = _("This is needed.")
        elif level in known:
            there = known[level].get(text.casefold(), [])
            if len(there) == 1:
                row["of"], row["name"] = there[0]
            else:
                wrong[f"assignments.{i}.of"] = _("Nothing, or more than one, is called: %(names)s.", names=text)
        if level == "group":
            row["priority"] = priority
            if isinstance(priority, bool) or not isinstance(priority, int) or not 1 <= priority <= PRIORITY_MOST:
                wrong[f"assignments.{i}.priority"] = _(
                    "The number lies between %(least)s and %(most)s.", least=1, most=PRIORITY_MOST
                )
        key = (level, str(row["of"]).casefold())
        if key in seen and not wrong:
            wrong[f"assignments.{i}.of"] = _("It is assigned there already.")
        seen.add(key)
        found.append(row)
    if wrong:
        raise _named(wrong)
    return found


def _resolve(level: str, texts: set[str]) -> dict[str, list[tuple[str, str]]]:
    """By name or id in small letters: id and name of each that is meant."""
    from ezadmin_cmdb.datacenter.sites import Site
    from ezadmin_cmdb.rights.models import HostGroup

    model: Any = {"site": Site, "group": HostGroup, "host": Host}[level]
    numbers: list[Any] = [int(text) for text in texts if text.isdecimal() and len(text) < 19]
    ids = list(texts) if level == "host" else numbers
    found: dict[str, list[tuple[str, str]]] = {}
    for object_id, name in db.session.execute(
        select(model.id, model.name).where(or_(model.id.in_(ids), model.name.in_(texts))).order_by(model.id)
    ):
        meant = (str(object_id), name)
        found.setdefault(name.casefold(), []).append(meant)
        if str(object_id).casefold() != name.casefold():
            found.setdefault(str(object_id).casefold(), []).append(meant)
    return found


def _named(wrong: Mapping[str, str]) -> Invalid:
    """The text names each as people count: the first limit is number 1."""
    parts = []
    for name, text in wrong.items():
        kind, number, member = name.split(".")
        title = _("Limit %(n)s", n=int(number) + 1) if kind == "limits" else _("Assignment %(n)s", n=int(number) + 1)
        parts.append(f"{title}, {member}: {text}")
    return Invalid(" ".join(parts), fields=wrong)
