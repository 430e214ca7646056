"""What hosts and devices have in common: where in a rack they stand. Columns and fields; :mod:`.placement` checks them."""

from __future__ import annotations

from typing import Any

from flask_babel import lazy_gettext as _l
from sqlalchemy import BigInteger, ForeignKey, Integer, select
from sqlalchemy.orm import Mapped, column_property, declared_attr, mapped_column, relationship

from ezadmin_cmdb.database import exact
from ezadmin_cmdb.datacenter.device_types import DEPTHS, DeviceType
from ezadmin_cmdb.datacenter.racks import Rack
from ezadmin_cmdb.datacenter.rooms import Room
from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe.fields import Field

FACES = {"front": _l("Front"), "rear": _l("Rear")}


class Placed:
    """Columns. ``rack_unit`` is the lowest number of the units taken, None for what is in the rack but in none of them."""

    device_type_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("device_types.id"), index=True)
    rack_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("racks.id"), index=True)
    rack_unit: Mapped[int | None] = mapped_column(Integer)
    rack_face: Mapped[str | None] = mapped_column(exact(8))
    rack_height: Mapped[int | None] = mapped_column(Integer)
    rack_depth: Mapped[str | None] = mapped_column(exact(8))

    @declared_attr
    def device_type(cls) -> Mapped[DeviceType | None]:
        """Its model."""
        return relationship(DeviceType)

    @declared_attr
    def rack(cls) -> Mapped[Rack | None]:
        """The rack it is in."""
        return relationship(Rack)

    @declared_attr
    def room(cls) -> Mapped[Room | None]:
        """The room of its rack."""
        return relationship(Room, secondary=Rack.__table__, viewonly=True, uselist=False)

    @declared_attr
    def room_id(cls) -> Mapped[int | None]:
        """Of the room of its rack."""
        of_rack: Any = select(Rack.room_id).where(Rack.id == cls.rack_id)
        return column_property(of_rack.correlate_except(Rack).scalar_subquery(), deferred=True)


PLACE_FIELDS = ("rack", "rack_unit", "rack_face", "rack_height", "rack_depth")
"""The fields that say which units something takes."""


def place_fields(section: object, **more: Any) -> list[Field]:
    """The fields of a description."""
    return [
        fields.Reference(
            name="room", label=_l("Room"), to="room", editable=False, through=True, listed=False, section=section
        ),
        fields.Reference(
            name="rack", label=_l("Rack"), to="rack", section=section,
            help=_l("Room and site follow from it."), **more,
        ),
        fields.Number(
            name="rack_unit", label=_l("Lowest unit"), least=1, most=100, section=section,
            help=_l("The lowest number of its units. Empty for what is in the rack, but in none of them."), **more,
        ),
        fields.Select(name="rack_face", label=_l("Mounted at"), choices=FACES, listed=False, section=section, **more),
        fields.Number(
            name="rack_height", label=_l("Height in units"), least=1, most=60, listed=False, section=section,
            help=_l("Empty: that of its type, else 1."), **more,
        ),
        fields.Select(
            name="rack_depth", label=_l("Depth"), choices=DEPTHS, listed=False, section=section,
            help=_l("What has full depth takes its units at both sides."), **more,
        ),
        fields.Reference(
            name="device_type", label=_l("Type of device"), to="device_type", listed=False, section=section, **more
        ),
    ]  # fmt: skip
