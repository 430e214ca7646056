"""Rooms of sites."""

from __future__ import annotations

from flask_babel import lazy_gettext as _l
from sqlalchemy import BigInteger, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ezadmin_cmdb.database import TABLE, Base
from ezadmin_cmdb.datacenter.contacts import Contact
from ezadmin_cmdb.datacenter.labelled import labelled, labelled_many
from ezadmin_cmdb.datacenter.sites import Site
from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe.description import Description, register


class Room(Base):
    """A room of a site, or a cage of one."""

    __tablename__ = "rooms"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    site_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("sites.id"), index=True)
    floor: Mapped[str | None] = mapped_column(String(32))
    contact_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("contacts.id"), index=True)
    note: Mapped[str | None] = mapped_column(Text)

    site: Mapped[Site] = relationship()
    contact: Mapped[Contact | None] = relationship()


ROOM = register(
    Description(
        name="room",
        path="rooms",
        model=Room,
        title=_l("Room"),
        titles=_l("Rooms"),
        icon="door-open",
        menu="datacenter",
        changing=labelled("room", {"name", "site"}),
        many=labelled_many("room", {"name", "site"}),
        panels=["datacenter/_room.html"],
        empty_hint=_l("The rooms of the sites. Racks stand in rooms."),
        fields=[
            fields.Text(
                name="name", label=_l("Name"), length=128, required=True, unique=True, searched=True,
                help=_l("No other room has it, for it is a label of hosts and stands in CSV: SEL1-2F, say."),
            ),
            fields.Reference(name="site", label=_l("Site"), to="site", required=True),
            fields.Text(name="floor", label=_l("Floor"), length=32),
            fields.Reference(name="contact", label=_l("Contact"), to="contact"),
            fields.Text(
                name="note", label=_l("Note"), length=4000, lines=True, sortable=False, listed=False, searched=True
            ),
        ],
    )
)  # fmt: skip
