"""Contracts: with customers, and with vendors who maintain, lease or house."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from sqlalchemy import BigInteger, Date, ForeignKey, Integer, String, Text
from sqlalchemy.orm import Mapped, declared_attr, mapped_column, relationship

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import TABLE, Base, exact
from ezadmin_cmdb.datacenter.contacts import Contact
from ezadmin_cmdb.datacenter.customers import Customer
from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe.description import Description, register
from ezadmin_cmdb.errors import Invalid


class Contract(Base):
    """A contract from ``begin`` to the end of the day ``end``; ``notice`` in days before it."""

    __tablename__ = "contracts"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    kind: Mapped[str] = mapped_column(exact(16))
    number: Mapped[str | None] = mapped_column(String(64), index=True)
    customer_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("customers.id"), index=True)
    vendor: Mapped[str | None] = mapped_column(String(128))
    contact_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("contacts.id"), index=True)
    begin: Mapped[date | None] = mapped_column(Date)
    end: Mapped[date | None] = mapped_column(Date, index=True)
    notice: Mapped[int | None] = mapped_column(Integer)
    renews: Mapped[bool] = mapped_column(default=False)
    url: Mapped[str | None] = mapped_column(String(500))
    note: Mapped[str | None] = mapped_column(Text)

    customer: Mapped[Customer | None] = relationship()
    contact: Mapped[Contact | None] = relationship()


class Covered:
    """Columns of what a contract and a warranty are for: hosts and devices."""

    contract_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("contracts.id"), index=True)
    warranty_end: Mapped[date | None] = mapped_column(Date, index=True)

    @declared_attr
    def contract(cls) -> Mapped[Contract | None]:
        """That it is maintained, leased or housed by."""
        return relationship(Contract)


def cancel_by(contract: Any) -> date | None:
    """The last day on which notice can be given."""
    return contract.end - timedelta(days=contract.notice) if contract.end and contract.notice else None


def _in_order(actor: Actor, contract: Any, new: bool) -> None:
    if contract.begin and contract.end and contract.end < contract.begin:
        raise Invalid(_("The contract ends before it begins."), "end")
    if contract.notice and not contract.end:
        raise Invalid(_("A notice needs an end that it is counted from."), "end")


TIME = _l("Time")

CONTRACT = register(
    Description(
        name="contract",
        path="contracts",
        model=Contract,
        title=_l("Contract"),
        titles=_l("Contracts"),
        icon="file-earmark-text",
        menu="datacenter",
        checks=[_in_order],
        empty_hint=_l("With customers, and with those who maintain, lease or house. You are reminded before they end."),
        fields=[
            fields.Text(name="name", label=_l("Name"), length=128, required=True, unique=True, searched=True),
            fields.Select(
                name="kind", label=_l("Kind"), required=True,
                choices={"customer": _l("With a customer"), "maintenance": _l("Maintenance"), "lease": _l("Lease"),
                         "housing": _l("Housing"), "licence": _l("Licences"), "other": _l("Other")},
            ),
            fields.Text(name="number", label=_l("Contract number"), length=64, searched=True),
            fields.Reference(name="customer", label=_l("Customer"), to="customer"),
            fields.Text(name="vendor", label=_l("Vendor"), length=128, searched=True),
            fields.Reference(name="contact", label=_l("Contact"), to="contact", listed=False),
            fields.Day(name="begin", label=_l("Contract from"), listed=False, section=TIME),
            fields.Day(name="end", label=_l("Contract until"), section=TIME),
            fields.Number(
                name="notice", label=_l("Notice in days"), least=0, most=3650, section=TIME, listed=False,
                help=_l("Days before the end by which it must be cancelled."),
            ),
            fields.Computed(name="cancel_by", label=_l("To be cancelled by"), compute=cancel_by, section=TIME),
            fields.Boolean(name="renews", label=_l("Renews itself unless cancelled"), listed=False, section=TIME),
            fields.Url(name="url", label=_l("Web address"), listed=False, sortable=False),
            fields.Text(
                name="note", label=_l("Note"), length=4000, lines=True, sortable=False, listed=False, searched=True
            ),
        ],
    )
)  # fmt: skip
