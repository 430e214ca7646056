"""What the REST API of a description does with many objects: change them, and take a file of CSV."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flask_babel import gettext as _
from marshmallow import RAISE, Schema, fields, validate

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import bulk, importing
from ezadmin_cmdb.describe.bulk import Item
from ezadmin_cmdb.describe.description import Description
from ezadmin_cmdb.describe.query import parse_text
from ezadmin_cmdb.errors import Invalid

API_ROWS_MAX = 5000
"""Of one request, which does them at once."""


class RowSchema(Schema):
    """What became, or would become, of a row."""

    number = fields.Integer()
    id = fields.Raw(allow_none=True, metadata={"type": ["string", "integer", "null"]})
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


def change_schema(description: Description, patch: type[Schema], name: str) -> type[Schema]:
    """The body of a bulk change."""
    one = Schema.from_dict(
        {
            "id": description.id_schema(required=True),
            "version": fields.String(
                metadata={"description": "the ETag that was read; the row is refused if it changed"}
            ),
        },
        name=f"{name}Chosen",
    )
    one.Meta.unknown = RAISE
    made = Schema.from_dict(
        {
            "set": fields.Nested(patch, required=True, metadata={"description": "null clears a field"}),
            "items": fields.List(fields.Nested(one), validate=validate.Length(1, API_ROWS_MAX)),
            "filter": fields.String(
                metadata={"description": "instead of items: all that a list with this query has, as in its address"}
            ),
            "dry_run": fields.Boolean(load_default=False),
            "skip_wrong": fields.Boolean(load_default=False),
        },
        name=f"{name}BulkChange",
    )
    made.Meta.unknown = RAISE
    return made


def change(actor: Actor, description: Description, given: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Give ``values`` to the chosen objects. Raises Forbidden, Invalid."""
    if ("items" in given) == ("filter" in given):
        raise Invalid(_("Give either items or a filter."), "items")
    if not values:
        raise Invalid(_("Choose a field that is to be changed."), "set")
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
    items = [
        Item(number, object_id, None if version is None else version.removeprefix("W/").strip('"'), values)
        for number, (object_id, version) in enumerate(chosen, 1)
    ]
    return run(actor, description, items, given["dry_run"], given["skip_wrong"])


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
    } | run(actor, description, items, dry_run, skip_wrong)  # fmt: skip


def run(actor: Actor, description: Description, items: list[Item], dry: bool, skip: bool) -> dict[str, Any]:
    """Write rows, or, if one is wrong and those are not to be left out, none."""
    point = db.session.begin_nested()
    bulk.write(actor, description, items, dry)
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
