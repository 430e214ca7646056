"""Sites: buildings in which servers stand."""

from __future__ import annotations

from datetime import date

from flask_babel import lazy_gettext as _l
from sqlalchemy import BigInteger, Date, ForeignKey, String, Text
from sqlalchemy.dialects.mysql import DOUBLE
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ezadmin_cmdb.database import TABLE, Base, exact
from ezadmin_cmdb.datacenter.contacts import PHONE, PHONE_HELP, Contact
from ezadmin_cmdb.datacenter.labelled import labelled, labelled_many
from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe.description import Description, register


class Site(Base):
    """A building, or a part of one that is run as one."""

    __tablename__ = "sites"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    code: Mapped[str | None] = mapped_column(String(32), unique=True)
    status: Mapped[str] = mapped_column(exact(16), default="active")
    provider: Mapped[str | None] = mapped_column(String(128))
    address: Mapped[str | None] = mapped_column(String(500))
    country: Mapped[str | None] = mapped_column(String(64))
    latitude: Mapped[float | None] = mapped_column(DOUBLE(asdecimal=False))
    longitude: Mapped[float | None] = mapped_column(DOUBLE(asdecimal=False))
    primary_contact_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("contacts.id"), index=True)
    secondary_contact_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("contacts.id"), index=True)
    phone: Mapped[str | None] = mapped_column(String(64))
    opened: Mapped[date | None] = mapped_column(Date)
    url: Mapped[str | None] = mapped_column(String(500))
    note: Mapped[str | None] = mapped_column(Text)

    primary_contact: Mapped[Contact | None] = relationship(foreign_keys=[primary_contact_id])
    secondary_contact: Mapped[Contact | None] = relationship(foreign_keys=[secondary_contact_id])


PLACE = _l("Place")

SITE = register(
    Description(
        name="site",
        path="sites",
        model=Site,
        title=_l("Site"),
        titles=_l("Sites"),
        icon="building",
        menu="datacenter",
        changing=labelled("site", {"name"}),
        many=labelled_many("site", {"name"}),
        panels=["datacenter/_site.html"],
        empty_hint=_l("The buildings in which servers stand. Rooms and racks come below them."),
        fields=[
            fields.Text(name="name", label=_l("Name"), length=128, required=True, unique=True, searched=True),
            fields.Text(
                name="code", label=_l("Code"), length=32, unique=True, searched=True, pattern=r"[A-Za-z0-9][A-Za-z0-9._-]*",
                pattern_help=_l("Letters, digits, dot, dash and underscore only."),
                help=_l("A short name, for labels and exports."),
            ),
            fields.Select(
                name="status", label=_l("Status"), required=True,
                choices={"planned": _l("Planned"), "active": _l("In operation"), "closed": _l("Closed")},
            ),
            fields.Text(name="provider", label=_l("Operator"), length=128, searched=True, help=_l("Who runs the building.")),
            fields.Reference(name="primary_contact", label=_l("Primary contact"), to="contact"),
            fields.Reference(name="secondary_contact", label=_l("Secondary contact"), to="contact", listed=False),
            fields.Text(
                name="phone", label=_l("Phone"), length=64, pattern=PHONE, pattern_help=PHONE_HELP, listed=False,
                help=_l("Of the reception or the control room."),
            ),
            fields.Text(
                name="address", label=_l("Address"), length=500, lines=True, sortable=False, searched=True, section=PLACE
            ),
            fields.Text(name="country", label=_l("Country"), length=64, section=PLACE),
            fields.Number(
                name="latitude", label=_l("Latitude"), least=-90, most=90, digits=6, listed=False, section=PLACE
            ),
            fields.Number(
                name="longitude", label=_l("Longitude"), least=-180, most=180, digits=6, listed=False, section=PLACE
            ),
            fields.Day(name="opened", label=_l("In operation since"), listed=False),
            fields.Url(name="url", label=_l("Web address"), listed=False, sortable=False),
            fields.Text(
                name="note", label=_l("Note"), length=4000, lines=True, sortable=False, listed=False, searched=True
            ),
        ],
    )
)  # fmt: skip
