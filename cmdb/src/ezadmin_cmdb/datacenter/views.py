"""Pages of racks beside the generated ones: what their panels draw, free units, and where something is put."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Flask, redirect, render_template, request, url_for
from flask_babel import gettext as _
from sqlalchemy import select
from werkzeug.wrappers import Response

from ezadmin_cmdb.database import db
from ezadmin_cmdb.datacenter import elevation, placement
from ezadmin_cmdb.datacenter.devices import DEVICE
from ezadmin_cmdb.datacenter.placed import FACES
from ezadmin_cmdb.datacenter.racks import RACK, Rack
from ezadmin_cmdb.datacenter.reminders import KINDS, THRESHOLDS, Ending, endings
from ezadmin_cmdb.datacenter.rooms import ROOM, Room
from ezadmin_cmdb.datacenter.sites import SITE, Site
from ezadmin_cmdb.describe import pages, query
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.hosts.description import HOST
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.web.access import needs, signed_in
from ezadmin_cmdb.web.signin import current_actor

bp = Blueprint("racks", __name__, url_prefix="/racks")
pages.add(bp, RACK, pages.actions(RACK))
reminders = Blueprint("reminders", __name__, url_prefix="/reminders")
RACKS_SHOWN = 20
"""Racks side by side on a page of a room: more would make it too heavy."""


def init_app(app: Flask) -> None:
    """What the panels of generated pages show."""
    app.jinja_env.globals.update(
        rack_panel=rack_panel, room_panel=room_panel, site_panel=site_panel, occupant_state=elevation.state,
        occupant_href=elevation.href, endings_within=endings_within, ending_kinds=KINDS,
    )  # fmt: skip


def rack_panel(rack: Rack) -> elevation.Elevation:
    """A rack with both faces."""
    return elevation.draw(rack, placement.occupants(current_actor(), Rack.id == rack.id))


def room_panel(room: Room) -> dict[str, Any]:
    """The racks of a room, side by side, a page of them; the load of them all."""
    actor = current_actor()
    if not rights.may(actor, RACK.view):
        return {"racks": [], "pages": 1, "number": 1, "face": "front", "load": None}
    racks = db.session.scalars(
        select(Rack).where(Rack.room_id == room.id).order_by(Rack.row.is_(None), Rack.row, Rack.name)
    ).all()
    inside = placement.occupants(actor, Rack.room_id == room.id)
    last = max(1, -(-len(racks) // RACKS_SHOWN))
    number = min(max(1, request.args.get("page", 1, int)), last)
    face = "rear" if request.args.get("face") == "rear" else "front"
    of_rack = placement.by_rack(inside)
    shown = racks[(number - 1) * RACKS_SHOWN : number * RACKS_SHOWN]
    return {
        "racks": [elevation.draw(rack, of_rack[rack.id], (face,), small=True) for rack in shown],
        "pages": last, "number": number, "face": face, "load": placement.load_of(racks, inside),
    }  # fmt: skip


def site_panel(site: Site) -> dict[str, Any]:
    """The rooms of a site with how full they are, and of the whole."""
    actor = current_actor()
    if not (rights.may(actor, RACK.view) and rights.may(actor, ROOM.view)):
        return {"rooms": [], "load": None}
    rooms = db.session.scalars(select(Room).where(Room.site_id == site.id).order_by(Room.name)).all()
    here = Rack.room_id.in_([room.id for room in rooms])
    racks = db.session.scalars(select(Rack).where(here)).all()
    inside = placement.occupants(actor, here)
    loads = [
        (room, mine, placement.load_of(mine, inside))
        for room in rooms
        for mine in [[rack for rack in racks if rack.room_id == room.id]]
    ]
    return {"rooms": loads, "load": placement.load_of(racks, inside)}


def endings_within(days: int) -> list[Ending]:
    """What ends within so many days, as far as the user may see it."""
    return endings(current_actor(), days)


@reminders.get("/")
@signed_in
def index() -> str:
    """What ends soon, of that which the user may see."""
    days = request.args.get("days", 90, int)
    days = days if days in THRESHOLDS and days else 90
    return render_template("datacenter/reminders.html", days=days, endings=endings_within(days))


@bp.get("/space")
@needs(RACK.view)
def space() -> str:
    """Where so many units in a row are free."""
    actor = current_actor()
    wanted = {name: request.args.get(name, "") for name in ("units", "face", "depth", "room", "site")}
    found, error = None, None
    try:
        if wanted["units"]:
            found = placement.space(actor, **asked(wanted))
    except Invalid as wrong:
        error = str(wrong)
    choices = {one.name: query.options(actor, RACK.field(one.name), 1000) or [] for one in (ROOM, SITE)}  # type: ignore[arg-type]
    return render_template("datacenter/space.html", wanted=wanted, found=found, error=error, choices=choices)


def asked(wanted: dict[str, str]) -> dict[str, Any]:
    """The arguments of :func:`.placement.space` that texts mean. Raises Invalid."""
    actor = current_actor()
    units = wanted["units"].strip()
    if not units.isdecimal() or not 1 <= int(units[:4]) <= 100:
        raise Invalid(_("Write how many units, 1 to 100."), "units")
    room, site = (
        described.referred(actor, RACK.field(name), wanted[name].strip() or None)  # type: ignore[arg-type]
        for name in ("room", "site")
    )
    return {
        "units": int(units), "room": room, "site_id": site.id if site else None,
        "face": "rear" if wanted["face"] == "rear" else "front", "depth": "half" if wanted["depth"] == "half" else "full",
    }  # fmt: skip


@bp.get("/<int:object_id>/place")
@needs(RACK.view)
def place(object_id: int) -> str | Response:
    """What shall stand in a unit: a host or device that is there, or a new device. Their own forms do it."""
    actor = current_actor()
    rack = described.find(actor, RACK, str(object_id))
    face = "rear" if request.args.get("face") == "rear" else "front"
    unit = min(max(1, request.args.get("unit", 1, int)), rack.height)
    chosen = {"rack": rack.name, "rack_unit": unit, "rack_face": face}
    for description in (HOST, DEVICE):
        if text := request.args.get(description.name, "").strip():
            found = description.resolve(actor, [text]).get(text)
            if found is not None:
                return redirect(url_for(f"{description.path}.edit", object_id=found.id, **chosen))
    runs = placement.free_ranges(rack.height, placement.occupants(actor, Rack.id == rack.id), (face,))
    free = next((run.stop - unit for run in runs if unit in run), 0)
    missing = next((request.args[name] for name in ("host", "device") if request.args.get(name, "").strip()), None)
    return render_template(
        "datacenter/place.html", rack=rack, unit=unit, face=face, face_title=FACES[face], free=free, chosen=chosen,
        missing=missing,
    )  # fmt: skip
