"""Tables of maintenance windows."""

from __future__ import annotations

from datetime import date

from sqlalchemy import JSON, BigInteger, Boolean, Date, ForeignKey, Integer, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ezadmin_cmdb.database import TABLE, Base, exact
from ezadmin_cmdb.hosts.models import HOST_ID, Host
from ezadmin_cmdb.rights.models import HostGroup


class MaintenanceWindowHost(Base):
    """A host that a window names."""

    __tablename__ = "maintenance_window_hosts"
    __table_args__ = (TABLE,)

    window_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("maintenance_windows.id", ondelete="CASCADE"), primary_key=True
    )
    host_id: Mapped[str] = mapped_column(
        HOST_ID, ForeignKey("hosts.id", ondelete="CASCADE"), primary_key=True, index=True
    )


class MaintenanceWindow(Base):
    """A window of ``minutes`` from ``starts`` (``YYYY-MM-DD HH:MM`` by the clock of ``timezone``) on, and from each time
    at which it is repeated on, up to the day ``last``. Its hosts: those listed, those of the group, those of the filter.
    """

    __tablename__ = "maintenance_windows"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    reason: Mapped[str] = mapped_column(String(500))
    owner: Mapped[str] = mapped_column(String(255))
    active: Mapped[bool] = mapped_column(Boolean, default=True)
    starts: Mapped[str] = mapped_column(exact(16))
    timezone: Mapped[str] = mapped_column(exact(64))
    minutes: Mapped[int] = mapped_column(Integer)
    repeats: Mapped[str] = mapped_column(exact(16))
    weekdays: Mapped[list[str]] = mapped_column(JSON)
    rule: Mapped[str | None] = mapped_column(String(255))
    last: Mapped[date | None] = mapped_column(Date)
    group_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("host_groups.id"), index=True)
    filter: Mapped[str | None] = mapped_column(String(2000))

    group: Mapped[HostGroup | None] = relationship()
    hosts: Mapped[list[Host]] = relationship(
        secondary="maintenance_window_hosts", order_by=Host.name, passive_deletes=True
    )
