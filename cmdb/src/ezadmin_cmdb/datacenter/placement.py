"""What stands where in racks, what is free, and what would be in the way.

Units are numbers as they stand on the rack, from the bottom or from the top; what is n units high takes n numbers from its
lowest on. Something with full depth takes them at both faces. What may not be seen is there, but has no name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import ColumnElement, func, inspect, select
from sqlalchemy.orm import selectinload

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db
from ezadmin_cmdb.datacenter.device_types import DeviceType
from ezadmin_cmdb.datacenter.racks import RACK, Rack
from ezadmin_cmdb.datacenter.rooms import Room
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.rights import services as rights

BOTH = ("front", "rear")
FREE_MAX = 200
"""Racks that a search for free units shows."""


@dataclass(frozen=True)
class Occupant:
    """Something in a rack. ``unit`` None: in the rack, but in none of its units. ``name`` None: the actor may not see it.

    ``state`` of a host, ``status`` of a device; ``seen``: when a host's agent reported.
    """

    kind: str
    id: Any
    name: str | None
    rack_id: int
    unit: int | None
    height: int
    faces: tuple[str, ...]
    state: str
    seen: Any
    about: str | None
    weight: float | None
    power: int | None

    @property
    def units(self) -> range:
        """The numbers that it takes."""
        return range(self.unit, self.unit + self.height) if self.unit is not None else range(0)

    @property
    def place(self) -> str:
        """Its units in words."""
        return f"U{self.unit}" if self.height == 1 else f"U{self.unit}–U{self.units[-1]}"


def faces_of(face: str | None, depth: str | None) -> tuple[str, ...]:
    """The faces at which something takes its units."""
    return BOTH if depth != "half" else (face or "front",)


def occupants(actor: Actor, where: ColumnElement[bool]) -> list[Occupant]:
    """What is in the racks that a condition holds for, the lowest unit first. 2 queries, 3 for who may not see all."""
    from ezadmin_cmdb.datacenter.devices import DEVICE, Device
    from ezadmin_cmdb.hosts.models import Host
    from ezadmin_cmdb.hosts.services import HOST_VIEW, visible

    found: list[Occupant] = []
    for kind, model, state, seen, about in (
        ("host", Host, Host.state, Host.agent_collected, Host.model), ("device", Device, Device.status, None, Device.kind),
    ):  # fmt: skip
        rows = db.session.execute(
            select(
                model.id, model.name, model.rack_id, model.rack_unit, model.rack_height, model.rack_face,
                model.rack_depth, state, func.now() if seen is None else seen, func.coalesce(DeviceType.name, about),
                DeviceType.weight, DeviceType.power,
            )
            .join(Rack, Rack.id == model.rack_id)
            .outerjoin(DeviceType, DeviceType.id == model.device_type_id)
            .where(where)
            .order_by(model.rack_unit, model.name)
        ).all()  # fmt: skip
        seen_ids: set[Any] = set()
        if kind == "device":
            everything = rights.may(actor, DEVICE.view)
        else:
            everything = actor.rights.scope(HOST_VIEW).everywhere
            if not everything and rows:
                shown = visible(actor).with_only_columns(Host.id).where(Host.id.in_([row[0] for row in rows]))
                seen_ids = set(db.session.scalars(shown))
        for row in rows:
            hidden = not everything and row[0] not in seen_ids
            found.append(
                Occupant(
                    kind, row[0], None if hidden else row[1], int(row[2] or 0), row[3], row[4] or 1, faces_of(row[5], row[6]),
                    "" if hidden else row[7], None if hidden or seen is None else row[8], None if hidden else row[9],
                    row[10], row[11],
                )
            )  # fmt: skip
    return found


def check_place(actor: Actor, obj: Any, new: bool) -> None:
    """Where a host or device is put must be free and in the rack; its site is that of the rack. Raises Invalid.

    The rack is locked until the end of the transaction: two that are put into the same unit at once cannot both be.
    """
    changed = {
        name
        for name in ("site", "rack", "rack_unit", "rack_face", "rack_height", "rack_depth", "device_type")
        if inspect(obj).attrs[name].history.has_changes()
    }
    if not changed:
        return
    rack = obj.rack
    if rack is None:
        if not new and "rack" in changed:
            obj.rack_unit = obj.rack_face = None
        elif obj.rack_unit is not None or obj.rack_face is not None:
            raise Invalid(_("Choose the rack, too."), "rack")
        return
    if "site" in changed and "rack" not in changed and obj.site is not None and obj.site is not rack.room.site:
        raise Invalid(
            _("It stands in rack %(rack)s, which is at %(site)s. Take it out of the rack first.",
              rack=rack.name, site=rack.room.site.name),
            "site",
        )  # fmt: skip
    obj.site = rack.room.site
    if obj.rack_unit is None:
        return
    obj.rack_face = obj.rack_face or "front"
    obj.rack_height = obj.rack_height or (obj.device_type.height if obj.device_type else 0) or 1
    obj.rack_depth = obj.rack_depth or (obj.device_type.depth if obj.device_type else "full")
    db.session.execute(select(Rack.id).where(Rack.id == rack.id).with_for_update())
    _require_free(actor, obj, rack)


def _require_free(actor: Actor, obj: Any, rack: Rack) -> None:
    last = obj.rack_unit + obj.rack_height - 1
    if last > rack.height:
        raise Invalid(
            _("Rack %(rack)s has %(n)d units: something %(height)d units high fits at unit %(last)d at most.",
              rack=rack.name, n=rack.height, height=obj.rack_height, last=max(0, rack.height - obj.rack_height + 1)),
            "rack_unit",
        )  # fmt: skip
    units, faces = set(range(obj.rack_unit, last + 1)), set(faces_of(obj.rack_face, obj.rack_depth))
    for other in occupants(actor, Rack.id == rack.id):
        if (other.id, other.kind) != (obj.id, obj.__tablename__.removesuffix("s")) and (
            units.intersection(other.units) and faces.intersection(other.faces)
        ):
            name = other.name or _("something that you may not see")
            raise Invalid(
                _("%(name)s is in the way: it takes %(place)s of rack %(rack)s.", name=name, place=other.place,
                  rack=rack.name),
                "rack_unit",
            )  # fmt: skip


def require_room_in(actor: Actor, rack: Rack) -> None:
    """A rack cannot become lower than what stands in it reaches. Raises Invalid."""
    if rack.id is None or not inspect(rack).attrs.height.history.has_changes():
        return
    for one in occupants(actor, Rack.id == rack.id):
        if one.unit is not None and one.units[-1] > rack.height:
            name = one.name or _("something that you may not see")
            raise Invalid(_("%(name)s stands at %(place)s.", name=name, place=one.place), "height")


# -- what is free ---


@dataclass(frozen=True)
class Load:
    """How full a rack, room or site is: a unit that is taken at one face counts. ``weight`` in kg and ``power`` in W as far
    as types say."""

    units: int
    taken: int
    weight: float
    power: int

    @property
    def share(self) -> float:
        """Of the units, 0 to 1."""
        return self.taken / self.units if self.units else 0.0


def load_of(racks: Iterable[Rack], inside: Iterable[Occupant]) -> Load:
    """Of some racks, with what is in them."""
    heights = {rack.id: rack.height for rack in racks}
    mine = [one for one in inside if one.rack_id in heights]
    taken = {(one.rack_id, unit) for one in mine for unit in one.units}
    return Load(
        sum(heights.values()), len(taken), sum(one.weight or 0 for one in mine), sum(one.power or 0 for one in mine)
    )


def free_ranges(height: int, inside: Iterable[Occupant], faces: Collection[str]) -> list[range]:
    """The units that are free at all of ``faces``, in runs from the lowest."""
    taken = {unit for one in inside if set(faces).intersection(one.faces) for unit in one.units}
    runs: list[range] = []
    for unit in range(1, height + 1):
        if unit not in taken:
            if runs and runs[-1].stop == unit:
                runs[-1] = range(runs[-1].start, unit + 1)
            else:
                runs.append(range(unit, unit + 1))
    return runs


@dataclass(frozen=True)
class Space:
    """A rack with room: the runs of free units that are long enough."""

    rack: Rack
    runs: Sequence[range]


def space(
    actor: Actor,
    units: int,
    face: str = "front",
    depth: str = "full",
    room: Room | None = None,
    site_id: int | None = None,
) -> list[Space]:
    """Racks in operation with ``units`` free units in a row, the fullest that still has room first. Raises Forbidden."""
    rights.require(actor, RACK.view)
    condition: ColumnElement[bool] = Rack.status == "active"
    if room is not None:
        condition &= Rack.room_id == room.id
    if site_id is not None:
        condition &= Rack.room_id.in_(select(Room.id).where(Room.site_id == site_id))
    racks = db.session.scalars(
        select(Rack).where(condition).options(selectinload(Rack.room).selectinload(Room.site)).order_by(Rack.name)
    ).all()
    inside = by_rack(occupants(actor, condition))
    faces = faces_of(face, depth)
    found = []
    for rack in racks:
        runs = [run for run in free_ranges(rack.height, inside[rack.id], faces) if len(run) >= units]
        if runs:
            found.append(Space(rack, runs))
    return sorted(found, key=lambda one: (min(map(len, one.runs)), sum(map(len, one.runs)), one.rack.name))[:FREE_MAX]


def by_rack(inside: Iterable[Occupant]) -> defaultdict[int, list[Occupant]]:
    """By the id of the rack."""
    found: defaultdict[int, list[Occupant]] = defaultdict(list)
    for one in inside:
        found[one.rack_id].append(one)
    return found
