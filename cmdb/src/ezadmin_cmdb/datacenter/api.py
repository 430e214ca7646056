"""The API of what racks hold and where units are free."""

# mypy: disable-error-code="untyped-decorator"
# (flask-smorest ships no types)
from __future__ import annotations

from typing import Any

from flask_smorest import Blueprint
from marshmallow import Schema, fields, validate

from ezadmin_cmdb.datacenter import elevation, placement
from ezadmin_cmdb.datacenter.racks import RACK, Rack
from ezadmin_cmdb.datacenter.reminders import KINDS, Ending, endings
from ezadmin_cmdb.datacenter.rooms import ROOM
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.web.access import needs, signed_in
from ezadmin_cmdb.web.signin import current_actor

bp = Blueprint(
    "api_datacenter", __name__, url_prefix="/api/v1", description="What racks hold, and where units are free"
)


class SpaceQuerySchema(Schema):
    """What is looked for."""

    units = fields.Integer(
        required=True, validate=validate.Range(1, 100), metadata={"description": "free units in a row"}
    )
    face = fields.String(load_default="front", validate=validate.OneOf(placement.BOTH))
    depth = fields.String(load_default="full", validate=validate.OneOf(["full", "half"]))
    room = fields.Integer(metadata={"description": "the id of a room"})
    site = fields.Integer(metadata={"description": "the id of a site"})


class RunSchema(Schema):
    """Units in a row."""

    lowest = fields.Integer()
    units = fields.Integer()


class SpaceSchema(Schema):
    """A rack with room."""

    id = fields.Integer()
    name = fields.String()
    room = fields.String()
    site = fields.String()
    runs = fields.List(fields.Nested(RunSchema))


class OccupantSchema(Schema):
    """What stands in a rack; ``id`` and ``name`` are null for what may not be seen."""

    kind = fields.String()
    id = fields.String(allow_none=True)
    name = fields.String(allow_none=True)
    unit = fields.Integer(allow_none=True)
    height = fields.Integer()
    faces = fields.List(fields.String())
    state = fields.String()


class LoadSchema(Schema):
    """How full a rack is."""

    units = fields.Integer()
    taken = fields.Integer()
    share = fields.Float()
    weight = fields.Float()
    power = fields.Integer()


class UnitsSchema(Schema):
    """A rack with what is in it."""

    id = fields.Integer()
    name = fields.String()
    height = fields.Integer()
    usage = fields.Nested(LoadSchema)
    inside = fields.List(fields.Nested(OccupantSchema))
    free = fields.Dict(keys=fields.String(), values=fields.List(fields.Nested(RunSchema)))


class EndingQuerySchema(Schema):
    """How far ahead."""

    days = fields.Integer(load_default=90, validate=validate.Range(0, 3650))


class EndingSchema(Schema):
    """Something that ends; ``left``: days until then, less than 0 for what ended."""

    kind = fields.String(validate=validate.OneOf(list(KINDS)))
    type = fields.String(attribute="model")
    id = fields.String(attribute="object_id")
    name = fields.String()
    day = fields.Date()
    left = fields.Integer()


def _runs(runs: Any) -> list[dict[str, int]]:
    return [{"lowest": run.start, "units": len(run)} for run in runs]


@bp.route("/racks/space")
@bp.arguments(SpaceQuerySchema, location="query")
@bp.response(200, SpaceSchema(many=True))
@needs(RACK.view)
def space(wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """Racks in operation with so many free units in a row, those first whose gap it fits best; 200 at most."""
    actor = current_actor()
    room = None
    if "room" in wanted:
        room = ROOM.resolve(actor, [str(wanted["room"])], ids_only=True).get(str(wanted["room"]))
        if room is None:
            raise Invalid("there is no such room", "room")
    found = placement.space(actor, wanted["units"], wanted["face"], wanted["depth"], room, wanted.get("site"))
    return [
        {"id": one.rack.id, "name": one.rack.name, "room": one.rack.room.name, "site": one.rack.room.site.name,
         "runs": _runs(one.runs)}
        for one in found
    ]  # fmt: skip


@bp.route("/racks/<int:object_id>/units")
@bp.response(200, UnitsSchema)
@needs(RACK.view)
def units(object_id: int) -> dict[str, Any]:
    """What stands in a rack, and what is free at each face."""
    actor = current_actor()
    rack = described.find(actor, RACK, str(object_id))
    inside = placement.occupants(actor, Rack.id == rack.id)
    return {
        "id": rack.id, "name": rack.name, "height": rack.height, "usage": placement.load_of([rack], inside),
        "free": {face: _runs(placement.free_ranges(rack.height, inside, (face,))) for face in placement.BOTH},
        "inside": [
            {"kind": one.kind, "id": one.id if one.name is not None else None, "name": one.name, "unit": one.unit,
             "height": one.height, "faces": one.faces, "state": elevation.state(one)[1]}
            for one in inside
        ],
    }  # fmt: skip


@bp.route("/reminders")
@bp.arguments(EndingQuerySchema, location="query")
@bp.response(200, EndingSchema(many=True))
@signed_in
def reminders(wanted: dict[str, Any]) -> list[Ending]:
    """Contracts, their notice, and warranties that end within so many days, or ended in the last 30."""
    return endings(current_actor(), wanted["days"])
