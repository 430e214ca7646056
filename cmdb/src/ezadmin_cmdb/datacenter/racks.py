"""Racks of rooms."""

from __future__ import annotations

from typing import Any

from flask_babel import lazy_gettext as _l
from sqlalchemy import BigInteger, Float, ForeignKey, Integer, String, Text, select
from sqlalchemy.orm import Mapped, column_property, mapped_column, relationship

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import TABLE, Base, exact
from ezadmin_cmdb.datacenter.contacts import Contact
from ezadmin_cmdb.datacenter.customers import Customer
from ezadmin_cmdb.datacenter.labelled import labelled, labelled_many
from ezadmin_cmdb.datacenter.rooms import Room
from ezadmin_cmdb.datacenter.sites import Site
from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe.description import Description, register


class Rack(Base):
    """A rack of a room. ``height`` in units, ``numbering``: whether unit 1 is at the ``bottom`` or the ``top``.

    ``width`` in inches, ``depth`` in mm, ``max_weight`` in kg, ``max_power`` in W.
    """

    __tablename__ = "racks"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    room_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("rooms.id"), index=True)
    status: Mapped[str] = mapped_column(exact(16))
    row: Mapped[str | None] = mapped_column(String(32))
    height: Mapped[int] = mapped_column(Integer)
    numbering: Mapped[str] = mapped_column(exact(8))
    width: Mapped[int | None] = mapped_column(Integer)
    depth: Mapped[int | None] = mapped_column(Integer)
    max_weight: Mapped[float | None] = mapped_column(Float)
    max_power: Mapped[int | None] = mapped_column(Integer)
    customer_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("customers.id"), index=True)
    primary_manager_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("contacts.id"), index=True)
    secondary_manager_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("contacts.id"), index=True)
    note: Mapped[str | None] = mapped_column(Text)

    room: Mapped[Room] = relationship()
    customer: Mapped[Customer | None] = relationship()
    primary_manager: Mapped[Contact | None] = relationship(foreign_keys=[primary_manager_id])
    secondary_manager: Mapped[Contact | None] = relationship(foreign_keys=[secondary_manager_id])
    site: Mapped[Site | None] = relationship(secondary="rooms", viewonly=True, uselist=False)
    site_id: Mapped[int | None] = column_property(
        select(Room.site_id).where(Room.id == room_id).correlate_except(Room).scalar_subquery(), deferred=True
    )


def _room_for_what_stands_in_it(actor: Actor, rack: Any, new: bool) -> None:
    from ezadmin_cmdb.datacenter.placement import require_room_in  # it knows racks

    if not new:
        require_room_in(actor, rack)


SIZE, OWNERS = _l("Size and load"), _l("Owner and place")

RACK = register(
    Description(
        name="rack",
        path="racks",
        model=Rack,
        title=_l("Rack"),
        titles=_l("Racks"),
        icon="hdd-rack",
        menu="datacenter",
        changing=labelled("rack", {"name", "room"}),
        many=labelled_many("rack", {"name", "room"}),
        checks=[_room_for_what_stands_in_it],
        panels=["datacenter/_rack.html"],
        empty_hint=_l("Racks of the rooms, with what stands in their units."),
        fields=[
            fields.Text(
                name="name", label=_l("Name"), length=128, required=True, unique=True, searched=True,
                help=_l("No other rack has it, for it is a label of hosts and stands in CSV: SEL1-2F-A01, say."),
            ),
            fields.Reference(name="room", label=_l("Room"), to="room", required=True),
            fields.Reference(name="site", label=_l("Site"), to="site", editable=False, through=True),
            fields.Select(
                name="status", label=_l("Status"), required=True,
                choices={"planned": _l("Planned"), "active": _l("In operation"), "reserved": _l("Reserved"),
                         "closed": _l("Closed")},
            ),
            fields.Text(name="row", label=_l("Row"), length=32, help=_l("Racks of a row stand side by side."), listed=False),
            fields.Number(name="height", label=_l("Height in units"), required=True, least=1, most=100, section=SIZE),
            fields.Select(
                name="numbering", label=_l("Unit 1 is"), required=True, listed=False, section=SIZE,
                choices={"bottom": _l("at the bottom"), "top": _l("at the top")},
            ),
            fields.Number(name="width", label=_l("Width in inches"), least=1, most=60, listed=False, section=SIZE),
            fields.Number(name="depth", label=_l("Depth in mm"), least=1, most=3000, listed=False, section=SIZE),
            fields.Number(
                name="max_weight", label=_l("Carries kg"), least=0, most=10_000, digits=1, listed=False, section=SIZE
            ),
            fields.Number(name="max_power", label=_l("Power in W"), least=0, most=1_000_000, listed=False, section=SIZE),
            fields.Reference(name="customer", label=_l("Customer"), to="customer", section=OWNERS),
            fields.Reference(name="primary_manager", label=_l("Primary manager"), to="contact", listed=False, section=OWNERS),
            fields.Reference(
                name="secondary_manager", label=_l("Secondary manager"), to="contact", listed=False, section=OWNERS
            ),
            fields.Text(
                name="note", label=_l("Note"), length=4000, lines=True, sortable=False, listed=False, searched=True,
                section=OWNERS,
            ),
        ],
    )
)  # fmt: skip
