"""Tables of alerts: what is so now, and what was."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, Double, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ezadmin_cmdb.database import TABLE, Base, UtcDateTime, exact, utc_now
from ezadmin_cmdb.hosts.models import HOST_ID, Host
from ezadmin_cmdb.maintenance.models import MaintenanceWindow

OK, UNKNOWN, WARNING, CRITICAL, MAINTENANCE = "ok", "unknown", "warning", "critical", "maintenance"
SEVERITY = {OK: 0, UNKNOWN: 1, WARNING: 2, CRITICAL: 3}
"""States from the best to the worst."""
HOST_DOWN, SURGE = "host_down", "surge"
"""Rules of alerts that are no limits."""
SEARCH = "alert.search"
"""The dataset of alerts on searches."""
ITEM_MAX = 500


class Alert(Base):
    """The newest state of one thing that is watched: of a limit (``rule``: its id) and an item on a host.

    ``since``: when this state began; ``opened``: when it was good last, None while it is. ``severity`` follows from the state.
    ``suppressed``: its host is down, which another alert says. ``window``: the maintenance window that its host is in, as
    the worker found it last. ``unsettled``: the worker has not yet looked whom this state concerns.
    """

    __tablename__ = "alerts"
    __table_args__ = (
        UniqueConstraint("host_id", "rule", "item"),
        Index("ix_alerts_severity", "severity", "since"),
        TABLE,
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    host_id: Mapped[str] = mapped_column(HOST_ID, ForeignKey("hosts.id", ondelete="CASCADE"))
    rule: Mapped[str] = mapped_column(exact(64))
    item: Mapped[str] = mapped_column(exact(ITEM_MAX), default="")
    dataset: Mapped[str] = mapped_column(exact(32))
    field: Mapped[str] = mapped_column(exact(255))
    state: Mapped[str] = mapped_column(exact(16))
    severity: Mapped[int] = mapped_column(Integer)
    previous: Mapped[str] = mapped_column(exact(16))
    reason: Mapped[str] = mapped_column(exact(32))
    value: Mapped[float | None] = mapped_column(Double)
    limit_value: Mapped[float | None] = mapped_column(Double)
    message: Mapped[str] = mapped_column(Text)
    since: Mapped[datetime] = mapped_column(UtcDateTime)
    opened: Mapped[datetime | None] = mapped_column(UtcDateTime)
    acknowledged_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    acknowledged_by: Mapped[str | None] = mapped_column(String(255))
    suppressed: Mapped[bool] = mapped_column(Boolean, default=False)
    window_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("maintenance_windows.id", ondelete="SET NULL"), index=True
    )
    unsettled: Mapped[bool] = mapped_column(Boolean, default=True, index=True)

    host: Mapped[Host] = relationship()
    window: Mapped[MaintenanceWindow | None] = relationship()

    @property
    def name(self) -> str:
        """What it is called."""
        of = f" {self.item}" if self.item else ""
        return f"{self.host.name}: {self.field}{of}"

    @property
    def shown_state(self) -> str:
        """One of the five states that people see."""
        return MAINTENANCE if self.state != OK and self.window_id is not None else self.state

    @property
    def acknowledged(self) -> bool:
        """Whether somebody cares for it; the worker ends what is over."""
        return self.acknowledged_until is not None


class AlertEvent(Base):
    """What happened to an alert: ``kind`` is ``state``, or what people and the worker did.

    ``event_id`` is the id of the pipeline's alert, so that what comes twice is there once.
    """

    __tablename__ = "alert_events"
    __table_args__ = (
        UniqueConstraint("event_id"),
        Index("ix_alert_events_alert_id", "alert_id", "time"),
        Index("ix_alert_events_time", "time"),
        TABLE,
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    alert_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("alerts.id", ondelete="CASCADE"))
    event_id: Mapped[str | None] = mapped_column(exact(64))
    kind: Mapped[str] = mapped_column(exact(16))
    time: Mapped[datetime] = mapped_column(UtcDateTime)
    received: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    state: Mapped[str | None] = mapped_column(exact(16))
    previous: Mapped[str | None] = mapped_column(exact(16))
    reason: Mapped[str | None] = mapped_column(exact(32))
    value: Mapped[float | None] = mapped_column(Double)
    limit_value: Mapped[float | None] = mapped_column(Double)
    actor: Mapped[str | None] = mapped_column(String(255))
    until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    text: Mapped[str | None] = mapped_column(Text)
