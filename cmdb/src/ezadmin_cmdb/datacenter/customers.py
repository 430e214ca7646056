"""Customers: whose servers they are, by which contract."""

from __future__ import annotations

from datetime import date
from typing import Any

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from sqlalchemy import BigInteger, Date, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import TABLE, Base, exact
from ezadmin_cmdb.datacenter.contacts import Contact
from ezadmin_cmdb.datacenter.labelled import labelled, labelled_many
from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe.description import Description, register
from ezadmin_cmdb.errors import Invalid


class Customer(Base):
    """A customer, or a part of the own company that servers belong to."""

    __tablename__ = "customers"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    code: Mapped[str | None] = mapped_column(String(32), unique=True)
    status: Mapped[str] = mapped_column(exact(16), default="active")
    contact_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("contacts.id"), index=True)
    manager_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("contacts.id"), index=True)
    contract: Mapped[str | None] = mapped_column(String(64))
    contract_begin: Mapped[date | None] = mapped_column(Date)
    contract_end: Mapped[date | None] = mapped_column(Date, index=True)
    url: Mapped[str | None] = mapped_column(String(500))
    note: Mapped[str | None] = mapped_column(Text)

    contact: Mapped[Contact | None] = relationship(foreign_keys=[contact_id])
    manager: Mapped[Contact | None] = relationship(foreign_keys=[manager_id])


def _contract_in_order(actor: Actor, customer: Any, new: bool) -> None:
    if customer.contract_begin and customer.contract_end and customer.contract_end < customer.contract_begin:
        raise Invalid(_("The contract ends before it begins."), "contract_end")


CUSTOMER = register(
    Description(
        name="customer",
        path="customers",
        model=Customer,
        title=_l("Customer"),
        titles=_l("Customers"),
        icon="briefcase",
        menu="datacenter",
        changing=labelled("customer", {"name"}),
        many=labelled_many("customer", {"name"}),
        checks=[_contract_in_order],
        empty_hint=_l("Whose servers they are: customers, or departments of the own company."),
        fields=[
            fields.Text(name="name", label=_l("Name"), length=128, required=True, unique=True, searched=True),
            fields.Text(
                name="code", label=_l("Code"), length=32, unique=True, searched=True, pattern=r"[A-Za-z0-9][A-Za-z0-9._-]*",
                pattern_help=_l("Letters, digits, dot, dash and underscore only."),
                help=_l("A short name, for labels and exports."),
            ),
            fields.Select(
                name="status", label=_l("Status"), required=True,
                choices={"prospect": _l("Prospect"), "active": _l("Active customer"), "former": _l("Former customer")},
            ),
            fields.Reference(name="contact", label=_l("Contact"), to="contact"),
            fields.Reference(
                name="manager", label=_l("Account manager"), to="contact", listed=False,
                help=_l("Who looks after the customer on our side."),
            ),
            fields.Text(name="contract", label=_l("Contract number"), length=64, searched=True, section=_l("Contract")),
            fields.Day(name="contract_begin", label=_l("Contract from"), listed=False, section=_l("Contract")),
            fields.Day(name="contract_end", label=_l("Contract until"), section=_l("Contract")),
            fields.Url(name="url", label=_l("Web address"), listed=False, sortable=False),
            fields.Text(
                name="note", label=_l("Note"), length=4000, lines=True, sortable=False, listed=False, searched=True
            ),
        ],
    )
)  # fmt: skip
