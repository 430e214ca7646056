"""Tables of webhooks. A delivery is written in the transaction of the change that it tells of: the table is the outbox."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, String
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ezadmin_cmdb.database import TABLE, Base, UtcDateTime, exact, utc_now

WAITING, DELIVERED, FAILED = "waiting", "delivered", "failed"


class Webhook(Base):
    """Where what is told. ``secret`` is sealed; ``failing_since``: the first failure since the last success;
    ``paused_until``: not called before, by whoever works on it or after a failure; ``notice``: why it was turned off."""

    __tablename__ = "webhooks"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    url: Mapped[str] = mapped_column(String(500))
    events: Mapped[list[str]] = mapped_column(JSON)
    active: Mapped[bool] = mapped_column(default=True)
    secret: Mapped[str] = mapped_column(exact(255))
    failing_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    paused_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    notice: Mapped[str | None] = mapped_column(String(500))


class Delivery(Base):
    """One event for one webhook, and what its receiver answered last."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index("ix_webhook_deliveries_due", "webhook_id", "status", "next_attempt"),
        Index("ix_webhook_deliveries_created", "created"),
        TABLE,
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    webhook_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("webhooks.id", ondelete="CASCADE"))
    event: Mapped[str] = mapped_column(exact(64))
    body: Mapped[str] = mapped_column(mysql.MEDIUMTEXT())
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    status: Mapped[str] = mapped_column(exact(16), default=WAITING)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    next_attempt: Mapped[datetime | None] = mapped_column(UtcDateTime, default=utc_now)
    answered: Mapped[datetime | None] = mapped_column(UtcDateTime)
    answer_status: Mapped[int | None] = mapped_column(Integer)
    answer: Mapped[str | None] = mapped_column(mysql.MEDIUMTEXT())
    error: Mapped[str | None] = mapped_column(String(500))
    milliseconds: Mapped[int | None] = mapped_column(Integer)

    webhook: Mapped[Webhook] = relationship()
