"""Contacts: people and desks that are called when something happens."""

from __future__ import annotations

from flask_babel import lazy_gettext as _l
from sqlalchemy import BigInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from ezadmin_cmdb.database import TABLE, Base, exact
from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe.description import Description, register

PHONE = r"\+?[0-9 ()./-]{3,40}(x[0-9]{1,6})?"
PHONE_HELP = _l("Digits, spaces and + ( ) - . / only; an extension as x123.")


class Contact(Base):
    """A person or a desk."""

    __tablename__ = "contacts"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), index=True)
    kind: Mapped[str] = mapped_column(exact(16), default="person")
    title: Mapped[str | None] = mapped_column(String(128))
    company: Mapped[str | None] = mapped_column(String(128))
    email: Mapped[str | None] = mapped_column(String(254))
    phone: Mapped[str | None] = mapped_column(String(64))
    mobile: Mapped[str | None] = mapped_column(String(64))
    on_call: Mapped[bool] = mapped_column(default=False)
    note: Mapped[str | None] = mapped_column(Text)


CONTACT = register(
    Description(
        name="contact",
        path="contacts",
        model=Contact,
        title=_l("Contact"),
        titles=_l("Contacts"),
        icon="person-vcard",
        menu="datacenter",
        empty_hint=_l("People and desks to call: the duty desk of a site, the manager of a server, a customer's engineer."),
        fields=[
            fields.Text(name="name", label=_l("Name"), length=128, required=True, searched=True),
            fields.Select(
                name="kind", label=_l("Kind"), required=True,
                choices={"person": _l("Person"), "desk": _l("Desk"), "team": _l("Team")},
            ),
            fields.Text(name="title", label=_l("Position"), length=128, searched=True, listed=False),
            fields.Text(name="company", label=_l("Company"), length=128, searched=True),
            fields.Email(name="email", label=_l("E-mail"), searched=True),
            fields.Text(
                name="phone", label=_l("Phone"), length=64, pattern=PHONE, pattern_help=PHONE_HELP, searched=True
            ),
            fields.Text(
                name="mobile", label=_l("Mobile phone"), length=64, pattern=PHONE, pattern_help=PHONE_HELP,
                searched=True,
            ),
            fields.Boolean(name="on_call", label=_l("On call at all hours")),
            fields.Text(
                name="note", label=_l("Note"), length=4000, lines=True, sortable=False, listed=False, searched=True
            ),
        ],
    )
)  # fmt: skip
