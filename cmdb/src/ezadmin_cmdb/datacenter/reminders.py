"""What ends soon: contracts, their notice, warranties. Pages ask; the worker tells once at each of ``THRESHOLDS``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from flask_babel import lazy_gettext as _l
from sqlalchemy import BigInteger, Date, Integer, Select, String, UniqueConstraint, func, select
from sqlalchemy.orm import Mapped, mapped_column

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import TABLE, Base, UtcDateTime, db, exact, utc_now
from ezadmin_cmdb.datacenter.contracts import CONTRACT, Contract
from ezadmin_cmdb.datacenter.customers import CUSTOMER, Customer
from ezadmin_cmdb.datacenter.devices import DEVICE, Device
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.rights import services as rights

THRESHOLDS = (0, 30, 60, 90)
"""Days before the end."""
PAST_DAYS = 30
"""What ended longer ago is history."""
KINDS = {
    "contract": _l("End of a contract"), "notice": _l("Notice of a contract"), "customer": _l("Contract of a customer"),
    "host": _l("Warranty of a host"), "device": _l("Warranty of a device"),
}  # fmt: skip


class Reminder(Base):
    """Something that was told once: that ``day`` is at most ``threshold`` days away. ``id`` is that of the event, too."""

    __tablename__ = "reminders"
    __table_args__ = (UniqueConstraint("kind", "object_id", "day", "threshold"), TABLE)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(exact(16))
    object_id: Mapped[str] = mapped_column(exact(64))
    object_name: Mapped[str] = mapped_column(String(253))
    day: Mapped[date] = mapped_column(Date)
    threshold: Mapped[int] = mapped_column(Integer)
    time: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class ReminderStream(Base):
    """The stream of the events: one row, ``sent`` the id of the last reminder that Kafka has."""

    __tablename__ = "reminder_stream"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    epoch: Mapped[str] = mapped_column(exact(64))
    sent: Mapped[int] = mapped_column(BigInteger)


@dataclass(frozen=True)
class Ending:
    """Something that ends on a day. ``left``: days until then, less than 0 for what ended."""

    kind: str
    object_id: str
    name: str
    day: date
    left: int

    @property
    def model(self) -> str:
        """The name of the description."""
        return "contract" if self.kind == "notice" else self.kind

    @property
    def threshold(self) -> int:
        """The nearest threshold that it has reached."""
        return min(one for one in THRESHOLDS if self.left <= one)


def endings(actor: Actor, days: int, today: date | None = None) -> list[Ending]:
    """What ends within so many days, or ended a short while ago, as far as the actor may see it; the first comes first."""
    from ezadmin_cmdb.hosts.models import Host
    from ezadmin_cmdb.hosts.services import visible

    today = today or utc_now().date()
    first, last = today - timedelta(days=PAST_DAYS), today + timedelta(days=days)
    cancel_by = func.adddate(Contract.end, -Contract.notice, type_=Date())
    sources: list[tuple[str, Select[Any], Any, Any]] = []
    if rights.may(actor, CONTRACT.view):
        sources.append(("contract", select(Contract), Contract, Contract.end))
        sources.append(("notice", select(Contract).where(Contract.notice > 0), Contract, cancel_by))
    if rights.may(actor, CUSTOMER.view):
        active = select(Customer).where(Customer.status != "former")
        sources.append(("customer", active, Customer, Customer.contract_end))
    if rights.may(actor, find("host").view):
        sources.append(("host", visible(actor).where(Host.state != "retired"), Host, Host.warranty_end))
    if rights.may(actor, DEVICE.view):
        sources.append(("device", select(Device).where(Device.status != "retired"), Device, Device.warranty_end))
    found: list[Ending] = []
    for kind, query, model, day in sources:
        rows = db.session.execute(query.with_only_columns(model.id, model.name, day).where(day >= first, day <= last))
        found += [Ending(kind, str(row[0]), row[1], row[2], (row[2] - today).days) for row in rows]
    return sorted(found, key=lambda one: (one.day, one.kind, one.name))


def note(due: Iterable[Ending]) -> int:
    """Keep what is due and was not told yet, to be told; returns how many. One worker at a time may do it."""
    wanted = {(one.kind, one.object_id, one.day, one.threshold): one for one in due}
    days = [one.day for one in wanted.values()]
    if not days:
        return 0
    columns = (Reminder.kind, Reminder.object_id, Reminder.day, Reminder.threshold)
    told = {tuple(row) for row in db.session.execute(select(*columns).where(Reminder.day.in_(set(days))))}
    number = db.session.scalar(select(func.max(Reminder.id))) or 0
    new = [one for key, one in wanted.items() if key not in told]
    db.session.add_all(
        Reminder(
            id=number + place, kind=one.kind, object_id=one.object_id, object_name=one.name, day=one.day,
            threshold=one.threshold,
        )
        for place, one in enumerate(new, 1)
    )  # fmt: skip
    db.session.flush()
    return len(new)
