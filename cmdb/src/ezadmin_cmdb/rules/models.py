"""Table of rules."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from ezadmin_cmdb.database import TABLE, Base, UtcDateTime, exact, utc_now


class EventRule(Base):
    """A rule. ``conditions`` and ``arguments`` as on the wire; the list is in the order of ``position``, 0 first."""

    __tablename__ = "event_rules"
    __table_args__ = (TABLE,)

    id: Mapped[str] = mapped_column(exact(64), primary_key=True)
    position: Mapped[int] = mapped_column(Integer)
    action: Mapped[str] = mapped_column(exact(16))
    conditions: Mapped[dict[str, Any]] = mapped_column(JSON)
    arguments: Mapped[dict[str, str]] = mapped_column(JSON)
    expires: Mapped[datetime | None] = mapped_column(UtcDateTime)
    comment: Mapped[str] = mapped_column(String(255), default="")
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
