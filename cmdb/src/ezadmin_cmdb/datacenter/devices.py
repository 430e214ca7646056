"""Devices that carry no agent: switches, power distribution, patch panels, storage."""

from __future__ import annotations

from flask_babel import lazy_gettext as _l
from sqlalchemy import BigInteger, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ezadmin_cmdb.database import TABLE, Base, exact
from ezadmin_cmdb.datacenter.contacts import Contact
from ezadmin_cmdb.datacenter.contracts import Covered
from ezadmin_cmdb.datacenter.customers import Customer
from ezadmin_cmdb.datacenter.device_types import KINDS
from ezadmin_cmdb.datacenter.placed import PLACE_FIELDS, Placed, place_fields
from ezadmin_cmdb.datacenter.placement import check_place
from ezadmin_cmdb.datacenter.sites import PLACE, Site
from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe.description import Description, register

STATUSES = {
    "planned": _l("Planned"), "active": _l("In operation"), "failed": _l("Failed"), "spare": _l("Spare"),
    "retired": _l("Retired"),
}  # fmt: skip


class Device(Placed, Covered, Base):
    """A device that carries no agent."""

    __tablename__ = "devices"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    kind: Mapped[str] = mapped_column(exact(16))
    status: Mapped[str] = mapped_column(exact(16))
    serial: Mapped[str | None] = mapped_column(String(128), index=True)
    asset_tag: Mapped[str | None] = mapped_column(String(64), index=True)
    address: Mapped[str | None] = mapped_column(exact(49))
    customer_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("customers.id"), index=True)
    site_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("sites.id"), index=True)
    primary_manager_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("contacts.id"), index=True)
    note: Mapped[str | None] = mapped_column(Text)

    customer: Mapped[Customer | None] = relationship()
    site: Mapped[Site | None] = relationship()
    primary_manager: Mapped[Contact | None] = relationship()


OWNER = _l("Owner")

DEVICE = register(
    Description(
        name="device",
        path="devices",
        model=Device,
        title=_l("Device"),
        titles=_l("Devices"),
        icon="router",
        menu="datacenter",
        checks=[check_place],
        one_by_one=PLACE_FIELDS,
        empty_hint=_l("What stands in racks and carries no agent: switches, power distribution, patch panels, storage."),
        fields=[
            fields.Text(name="name", label=_l("Name"), length=128, required=True, unique=True, searched=True),
            fields.Select(name="kind", label=_l("Kind"), required=True, choices=KINDS),
            fields.Select(name="status", label=_l("Status"), required=True, choices=STATUSES),
            fields.Text(name="serial", label=_l("Serial number"), length=128, searched=True),
            fields.Text(name="asset_tag", label=_l("Asset tag"), length=64, searched=True, listed=False),
            fields.Address(name="address", label=_l("Address"), searched=True, listed=False),
            fields.Reference(name="site", label=_l("Site"), to="site", section=PLACE),
            *place_fields(PLACE),
            fields.Reference(name="customer", label=_l("Customer"), to="customer", section=OWNER),
            fields.Reference(name="primary_manager", label=_l("Primary manager"), to="contact", listed=False, section=OWNER),
            fields.Reference(name="contract", label=_l("Contract"), to="contract", listed=False, section=OWNER),
            fields.Day(name="warranty_end", label=_l("Warranty until"), listed=False, section=OWNER),
            fields.Text(
                name="note", label=_l("Note"), length=4000, lines=True, sortable=False, listed=False, searched=True,
                section=OWNER,
            ),
        ],
    )
)  # fmt: skip
