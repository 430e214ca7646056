"""Threshold templates as people and programs use them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from marshmallow import RAISE, Schema, validate
from marshmallow import fields as wire
from sqlalchemy.orm import joinedload, selectinload

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes import services as changes
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe.description import Description, register
from ezadmin_cmdb.describe.fields import WireField
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.limits.models import Limit
from ezadmin_cmdb.outbox import services as outbox
from ezadmin_cmdb.thresholds import rows, services
from ezadmin_cmdb.thresholds.inheritance import LEVELS
from ezadmin_cmdb.thresholds.models import ThresholdAssignment, ThresholdTemplate
from ezadmin_cmdb.thresholds.places import Places, place_words
from ezadmin_cmdb.thresholds.rows import Row
from ezadmin_cmdb.thresholds.words import limit_words
from ezadmin_wire.config import LimitRecord, limit_key
from ezadmin_wire.fields import build, dump


class ThresholdSchema(Schema):
    """A limit of a template."""

    class Meta:  # noqa: D106 - marshmallow's
        unknown = RAISE

    field = wire.String(required=True, metadata={"description": "the figure, as docs/fields.md names it"})
    item = wire.String(metadata={"description": "which items, with * and ?", "default": "*"})
    comparison = wire.String(validate=validate.OneOf(["above", "below"]), metadata={"default": "above"})
    compare = wire.String(
        validate=validate.OneOf(rows.COMPARE),
        metadata={"description": "the value, its rate per second, or the hours until it is full", "default": "value"},
    )
    warning_raise = wire.Float(allow_none=True)
    warning_clear = wire.Float(allow_none=True)
    critical_raise = wire.Float(allow_none=True)
    critical_clear = wire.Float(allow_none=True)
    hold = wire.Integer(strict=True, metadata={"description": "only when it has been so for so many seconds"})
    n = wire.Integer(strict=True, metadata={"description": "only when n"})
    m = wire.Integer(strict=True, metadata={"description": "of the last m samples were so"})
    no_data = wire.Integer(strict=True, allow_none=True, metadata={"description": "unknown after so many seconds"})
    trend = wire.Integer(strict=True, metadata={"description": "full: seconds to look back"})
    full_at = wire.Float(metadata={"description": "full: the value when it is full"})
    off = wire.Boolean(metadata={"description": "switched off: hosts here have no such limit, also none from farther"})


class ThresholdAssignmentSchema(Schema):
    """Where a template is assigned."""

    class Meta:  # noqa: D106 - marshmallow's
        unknown = RAISE

    level = wire.String(required=True, validate=validate.OneOf(LEVELS))
    of = wire.String(metadata={"description": "the vendor or model; id or name of the site, group or host"})
    name = wire.String(metadata={"description": "how that is called; only read"})
    priority = wire.Integer(strict=True, metadata={"description": "of a group: the greater is nearer"})


@dataclass(frozen=True, kw_only=True)
class Rows(fields.Field):
    """A list of plain values, as text JSON."""

    kind: ClassVar[str] = "rows"
    operators: ClassVar[tuple[str, ...]] = ()
    filterable: bool = False
    sortable: bool = False
    lines: ClassVar[bool] = True
    length: ClassVar[int] = 100_000

    def parse(self, text: str) -> Any:
        """JSON."""
        if not text.strip():
            return []
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            raise Invalid(_("Write a list in JSON.")) from None
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise Invalid(_("Write a list in JSON."))
        return found

    def initial(self) -> Any:
        """None of them."""
        return []

    def text(self, value: Any) -> str:
        """JSON."""
        return json.dumps(value, ensure_ascii=False) if value else ""


@dataclass(frozen=True, kw_only=True)
class Limits(Rows):
    """The limits of a template."""

    def get(self, obj: Any) -> list[Row]:
        """Of the rows, in their order."""
        return [rows.row_of(build(LimitRecord, one.definition), one.off) for one in obj.limit_rows]

    def check(self, value: Any) -> Any:
        """Each of them, and that none looks at the same as another."""
        if not value:
            raise Invalid(_("This is needed."))
        return rows.checked_limits(value)

    def set(self, obj: Any, value: list[Row]) -> None:
        """A limit that looks at the same as before stays the same one, so what is raised by it stays raised."""
        before = {_about(build(LimitRecord, one.definition)): one for one in obj.limit_rows}
        kept = []
        for position, row in enumerate(value):
            record = rows.record(row)
            limit = before.pop(_about(record), None)
            if limit is None:
                limit = Limit(id=f"{figure_slug(record.field)}.{secrets.token_hex(3)}", comment="")
            definition = json.loads(dump(record))
            if limit.definition != definition:
                limit.definition = definition
            limit.position, limit.off = position, row["off"]
            kept.append(limit)
        obj.limit_rows = kept

    def shown(self, value: list[Row]) -> str | None:
        """A line each."""
        return "\n".join(limit_words(row) for row in value) or None

    def schema(self, **options: Any) -> WireField:
        """A list of limits."""
        options.pop("allow_none", None)
        return wire.List(wire.Nested(ThresholdSchema), **options)


def _about(record: LimitRecord) -> tuple[Any, ...]:
    return record.field, record.item, record.comparison, record.rate, record.trend > 0


def figure_slug(field: str) -> str:
    """The part of a field's name by which people know it, for the id of a limit: 57 characters at most."""
    return field.removeprefix("system.")[-57:].lstrip("._-")


@dataclass(frozen=True, kw_only=True)
class Assignments(Rows):
    """Where a template is assigned."""

    def get(self, obj: Any) -> list[Row]:
        """Of the rows, in their order."""
        return [
            {
                "level": one.level,
                "of": one.value or str(one.site_id or one.group_id or one.host_id or ""),
                "name": next((other.name for other in (one.site, one.group, one.host) if other), one.value or ""),
                "priority": one.priority,
            }
            for one in obj.assignment_rows
        ]

    def check(self, value: Any) -> Any:
        """That all of them are there."""
        return rows.checked_assignments(value or [])

    def set(self, obj: Any, value: list[Row]) -> None:
        """Those that are there stay."""
        before = {
            (one.level, one.value or str(one.site_id or one.group_id or one.host_id or "")): one
            for one in obj.assignment_rows
        }
        kept = []
        for row in value:
            level, of = row["level"], row["of"]
            one = before.pop((level, of), None)
            if one is None:
                one = ThresholdAssignment(
                    level=level,
                    value=of if level in ("vendor", "model") else None,
                    site_id=int(of) if level == "site" else None,
                    group_id=int(of) if level == "group" else None,
                    host_id=of if level == "host" else None,
                )
            one.priority = row["priority"]
            kept.append(one)
        obj.assignment_rows = kept

    def shown(self, value: list[Row]) -> str | None:
        """A line each."""
        return "\n".join(assignment_words(row) for row in value) or None

    def schema(self, **options: Any) -> WireField:
        """A list of assignments."""
        options.pop("allow_none", None)
        return wire.List(wire.Nested(ThresholdAssignmentSchema), **options)


def assignment_words(row: Row) -> str:
    """An assignment in words."""
    words = place_words(row["level"], row["name"])
    if row["level"] != "group":
        return words
    priority = _("priority %(n)s", n=row["priority"])
    return f"{words} ({priority})"


@contextmanager
def changing(actor: Actor, template: ThresholdTemplate, new: bool) -> Iterator[None]:
    """What happens to a template becomes one change record, and config records of its limits and of hosts with others."""
    from ezadmin_cmdb.describe.services import snapshot

    with db.session.no_autoflush:
        held = services.holding(Places(db.session))
    before = None if new else snapshot(TEMPLATE, template)
    known = set() if new else {limit.id for limit in template.limit_rows}
    yield
    if new:
        db.session.add(template)
    db.session.flush()
    db.session.refresh(template, ["limit_rows", "assignment_rows"])
    changes.record(
        actor, TEMPLATE.name, str(template.id), template.name, before, snapshot(TEMPLATE, template)
    )  # fmt: skip
    places = Places(db.session)
    services.check(places)
    there = {limit.id: limit for limit in template.limit_rows}
    outbox.put_many(
        {limit_key(limit_id): None for limit_id in known - there.keys()}
        | {limit_key(one.id): None if one.off else build(LimitRecord, one.definition) for one in there.values()}
    )
    services.publish_changed(held, services.holding(places))


@contextmanager
def deleting(actor: Actor, template: ThresholdTemplate) -> Iterator[None]:
    """What farther places say holds for hosts again."""
    held = services.holding(Places(db.session))
    known = [limit.id for limit in template.limit_rows]
    yield
    outbox.put_many({limit_key(limit_id): None for limit_id in known})
    services.publish_changed(held, services.holding(Places(db.session)))


TEMPLATE = register(
    Description(
        name="threshold_template",
        path="thresholds",
        model=ThresholdTemplate,
        title=_l("Threshold template"),
        titles=_l("Threshold templates"),
        icon="speedometer2",
        menu="monitoring",
        changing=changing,
        deleting=deleting,
        above="thresholds/_above.html",
        loads=lambda: (
            selectinload(ThresholdTemplate.limit_rows),
            selectinload(ThresholdTemplate.assignment_rows).options(
                joinedload(ThresholdAssignment.site), joinedload(ThresholdAssignment.group),
                joinedload(ThresholdAssignment.host),
            ),
        ),
        empty_hint=_l("A template is a set of limits that is assigned to all hosts, a site, a group or one host."),
        fields=[
            fields.Text(name="name", label=_l("Name"), length=128, required=True, unique=True, searched=True),
            Limits(name="limits", label=_l("Limits"), required=True),
            Assignments(name="assignments", label=_l("For"), help=_l("Without one it holds nowhere.")),
            fields.Text(
                name="description", label=_l("Description"), length=500, searched=True, sortable=False, listed=False
            ),
        ],
    )
)  # fmt: skip
