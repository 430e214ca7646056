"""What the REST API of a description does with many objects: make, change and delete them, and take a file of CSV."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flask_babel import gettext as _
from marshmallow import RAISE, Schema, fields, validate

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import bulk, importing
from ezadmin_cmdb.describe.bulk import Item
from ezadmin_cmdb.describe.description import Description
from ezadmin_cmdb.describe.fields import WireField
from ezadmin_cmdb.describe.query import parse_text
from ezadmin_cmdb.errors import Conflict, Invalid, Outdated, PreconditionRequired
from ezadmin_cmdb.web.schemas import ProblemSchema

API_ROWS_MAX = 5000
"""Of one request, which does them at once."""


class RowSchema(Schema):
    """What became, or would become, of a row."""

    number = fields.Integer()
    id = fields.Raw(allow_none=True, metadata={"type": ["string", "integer"]})
    name = fields.String()
    status = fields.String(validate=validate.OneOf(bulk.STATUSES))
    changes = fields.Dict(keys=fields.String(), values=fields.List(fields.Raw(allow_none=True)))
    errors = fields.Dict(keys=fields.String(), values=fields.String(), metadata={"description": "by field; '' for all"})


class OutcomeSchema(Schema):
    """What became of all rows. ``written`` false: nothing was."""

    written = fields.Boolean()
    counts = fields.Dict(keys=fields.String(), values=fields.Integer())
    items = fields.List(fields.Nested(RowSchema))


class ImportOptionsSchema(Schema):
    """How a file is taken."""

    dry_run = fields.Boolean(load_default=False, metadata={"description": "only say what would become of each line"})
    skip_wrong = fields.Boolean(
        load_default=False, metadata={"description": "write the lines that are right; else nothing if one is wrong"}
    )


class ImportOutcomeSchema(OutcomeSchema):
    """As for a bulk change, and how the file was read."""

    encoding = fields.String()
    delimiter = fields.String()
    unknown_columns = fields.List(fields.String())
    columns_not_taken = fields.List(fields.String())


class RowsRefused(Conflict):
    """Rows are wrong, so nothing was written; the problem has them all."""

    def __init__(self, outcome: dict[str, Any], schema: type[Schema]) -> None:
        wrong = outcome["counts"][bulk.WRONG]
        super().__init__(
            _(
                "%(n)d rows are wrong, so nothing was written: see the errors of each in items. Correct them, or leave "
                "them out with skip_wrong.",
                n=wrong,
            )
        )
        self.members = schema().dump(outcome)


class RowsProblemSchema(ProblemSchema, OutcomeSchema):
    """A conflict, with what became of each row."""


class ImportProblemSchema(ProblemSchema, ImportOutcomeSchema):
    """A conflict, with what became of each line."""


def _strict(members: Mapping[str, Any], name: str) -> type[Schema]:
    made = Schema.from_dict(dict(members), name=name)
    made.Meta.unknown = RAISE
    return made


def _how() -> dict[str, WireField]:
    """The members that all bodies for many objects have."""
    return {
        "dry_run": fields.Boolean(
            load_default=False, metadata={"description": "write nothing, only say what would become of each row"}
        ),
        "skip_wrong": fields.Boolean(
            load_default=False, metadata={"description": "write the rows that are right; else nothing if one is wrong"}
        ),
    }


def _which(description: Description, name: str) -> dict[str, WireField]:
    """The members that choose objects."""
    version = fields.String(metadata={"description": "the ETag that was read; the row is refused if it changed"})
    one = _strict({"id": description.id_schema(required=True), "version": version}, f"{name}Chosen")
    return {
        "items": fields.List(fields.Nested(one), validate=validate.Length(1, API_ROWS_MAX)),
        "filter": fields.String(
            metadata={"description": "instead of items: all that a list with this query has, as in its address"}
        ),
        "expected": fields.Integer(
            strict=True,
            validate=validate.Range(0),
            metadata={"description": "how many the filter had when you looked: 412 if it is another number now"},
        ),
    }


@dataclass(frozen=True)
class Bodies:
    """The schemas of the bodies that make, change and delete many."""

    create: type[Schema]
    change: type[Schema]
    delete: type[Schema]


def bodies(description: Description, new: type[Schema], patch: type[Schema], name: str) -> Bodies:
    """Those of a description; ``new`` and ``patch`` are its schemas of one object, ``name`` begins the names of all."""
    items = fields.List(fields.Nested(new), required=True, validate=validate.Length(1, API_ROWS_MAX))
    values = fields.Nested(patch, required=True, metadata={"description": "null clears a field"})
    which = _which(description, name)
    return Bodies(
        create=_strict({"items": items, **_how()}, f"{name}BulkNew"),
        change=_strict({"set": values, **which, **_how()}, f"{name}BulkChange"),
        delete=_strict({**which, **_how()}, f"{name}BulkDelete"),
    )


def create(
    actor: Actor, description: Description, given: dict[str, Any], rows: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Make objects of ``rows``. Raises Forbidden, RowsRefused."""
    items = [Item(number, values=values) for number, values in enumerate(rows, 1)]
    return kept(run(bulk.write, actor, description, items, given["dry_run"], given["skip_wrong"]), given["dry_run"])


def change(actor: Actor, description: Description, given: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Give ``values`` to the chosen objects. Raises Forbidden, Invalid, Outdated, RowsRefused."""
    if not values:
        raise Invalid(_("Choose a field that is to be changed."), "set")
    items = _chosen(actor, description, given, values)
    return kept(run(bulk.write, actor, description, items, given["dry_run"], given["skip_wrong"]), given["dry_run"])


def delete(actor: Actor, description: Description, given: dict[str, Any]) -> dict[str, Any]:
    """Delete the chosen objects: by a filter only with the number that is expected.

    Raises Forbidden, Invalid, PreconditionRequired, Outdated, RowsRefused.
    """
    if "filter" in given and "expected" not in given and not given["dry_run"]:
        raise PreconditionRequired(
            _("Say in expected how many objects the filter has, so that nothing goes that you have not seen.")
        )
    items = _chosen(actor, description, given, {})
    return kept(run(bulk.delete, actor, description, items, given["dry_run"], given["skip_wrong"]), given["dry_run"])


def _chosen(actor: Actor, description: Description, given: dict[str, Any], values: dict[str, Any]) -> list[Item]:
    if ("items" in given) == ("filter" in given):
        raise Invalid(_("Give either items or a filter."), "items")
    if "filter" in given:
        query = parse_text(description, given["filter"], strict=True)
        chosen = [(one, None) for one in bulk.matching(actor, description, query)]
        if len(chosen) > API_ROWS_MAX:
            raise Invalid(_("These are more than %(n)d. Filter for fewer.", n=API_ROWS_MAX), "filter")
    else:
        convert = int if description.numbered else str
        chosen = [(convert(one["id"]), one.get("version")) for one in given["items"]]
        if len({one for one, _version in chosen}) < len(chosen):
            raise Invalid(_("An id stands there twice."), "items")
    if given.get("expected", len(chosen)) != len(chosen):
        raise Outdated(
            _("You expect %(expected)d, but these are %(n)d now. Look again, and say that number.",
              expected=given["expected"], n=len(chosen))
        )  # fmt: skip
    return [
        Item(number, object_id, None if version is None else version.removeprefix("W/").strip('"'), values)
        for number, (object_id, version) in enumerate(chosen, 1)
    ]


def take(actor: Actor, description: Description, data: bytes, dry_run: bool, skip_wrong: bool) -> dict[str, Any]:
    """Import a file of CSV. Raises Forbidden, Invalid."""
    actor = replace(actor, source="import")
    table = importing.read(data)
    if len(table.rows) > bulk.ROWS_MAX:
        raise Invalid(_("The file has more than %(n)d lines. Split it.", n=bulk.ROWS_MAX), "file")
    columns = importing.columns(actor, description, table.header)
    items = importing.items(actor, description, columns, table.rows)
    return {
        "encoding": table.encoding, "delimiter": table.delimiter, "unknown_columns": columns.unknown,
        "columns_not_taken": columns.passed_over,
    } | run(bulk.write, actor, description, items, dry_run, skip_wrong)  # fmt: skip


def kept(outcome: dict[str, Any], dry: bool, schema: type[Schema] = OutcomeSchema) -> dict[str, Any]:
    """The outcome, unless nothing was written that was to be. Raises RowsRefused."""
    if not outcome["written"] and not dry:
        raise RowsRefused(outcome, schema)
    return outcome


def run(
    do: Callable[[Actor, Description, Sequence[Item], bool], None],
    actor: Actor,
    description: Description,
    items: list[Item],
    dry: bool,
    skip: bool,
) -> dict[str, Any]:
    """Write or delete rows, or, if one is wrong and those are not to be left out, none."""
    point = db.session.begin_nested()
    do(actor, description, items, dry)
    counts = bulk.counts(items)
    written = not dry and (skip or not counts[bulk.WRONG])
    if written:
        point.commit()
    else:
        point.rollback()
    rows = [
        {
            "number": one.number, "id": None if one.status == bulk.NEW and not written else one.object_id,
            "name": one.name, "status": one.status, "changes": one.changes, "errors": one.errors,
        }
        for one in items
    ]  # fmt: skip
    return {"written": written, "counts": counts, "items": rows}
