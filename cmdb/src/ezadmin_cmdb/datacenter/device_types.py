"""Types of devices: what one of a model is like, so that it need not be said of each."""

from __future__ import annotations

from flask_babel import lazy_gettext as _l
from sqlalchemy import BigInteger, Float, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from ezadmin_cmdb.database import TABLE, Base, exact
from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe.description import Description, register

KINDS = {
    "server": _l("Server"), "switch": _l("Switch"), "router": _l("Router"), "firewall": _l("Firewall"),
    "storage": _l("Storage"), "pdu": _l("Power distribution"), "ups": _l("Uninterruptible power supply"),
    "patch_panel": _l("Patch panel"), "kvm": _l("Console switch"), "chassis": _l("Chassis"), "shelf": _l("Shelf"),
    "blank": _l("Blanking panel"), "other": _l("Other"),
}  # fmt: skip
DEPTHS = {"full": _l("Full depth"), "half": _l("Half depth")}


class DeviceType(Base):
    """A model of a manufacturer. ``height`` in units; 0 for what hangs beside them. ``weight`` in kg, ``power`` in W."""

    __tablename__ = "device_types"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    manufacturer: Mapped[str | None] = mapped_column(String(128), index=True)
    kind: Mapped[str] = mapped_column(exact(16))
    height: Mapped[int] = mapped_column(Integer)
    depth: Mapped[str] = mapped_column(exact(8))
    weight: Mapped[float | None] = mapped_column(Float)
    power: Mapped[int | None] = mapped_column(Integer)
    note: Mapped[str | None] = mapped_column(Text)


DEVICE_TYPE = register(
    Description(
        name="device_type",
        path="device-types",
        model=DeviceType,
        title=_l("Type of device"),
        titles=_l("Types of devices"),
        icon="box",
        menu="datacenter",
        empty_hint=_l("A model of a manufacturer: how high and deep it is, what it weighs and draws."),
        fields=[
            fields.Text(name="name", label=_l("Model"), length=128, required=True, unique=True, searched=True),
            fields.Text(name="manufacturer", label=_l("Manufacturer"), length=128, searched=True),
            fields.Select(name="kind", label=_l("Kind"), required=True, choices=KINDS),
            fields.Number(
                name="height", label=_l("Height in units"), required=True, least=0, most=60,
                help=_l("0 for what hangs beside the units."),
            ),
            fields.Select(name="depth", label=_l("Depth"), required=True, choices=DEPTHS),
            fields.Number(name="weight", label=_l("Weight in kg"), least=0, most=5000, digits=1, listed=False),
            fields.Number(name="power", label=_l("Power in W"), least=0, most=100_000),
            fields.Text(
                name="note", label=_l("Note"), length=4000, lines=True, sortable=False, listed=False, searched=True
            ),
        ],
    )
)  # fmt: skip
