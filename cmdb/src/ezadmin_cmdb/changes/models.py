"""Tables of the record of changes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from ezadmin_cmdb.database import TABLE, Base, UtcDateTime, exact, utc_now


class Change(Base):
    """One change of one object. ``fields`` is ``{field: [before, after]}``; names stand as they were at the time."""

    __tablename__ = "changes"
    __table_args__ = (
        Index("ix_changes_object", "object_type", "object_id", "time"),
        Index("ix_changes_request", "request_id", "id"),
        Index("ix_changes_actor", "actor", "id"),
        TABLE,
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    time: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now, index=True)
    actor: Mapped[str] = mapped_column(String(255))
    source: Mapped[str] = mapped_column(exact(16))
    request_id: Mapped[str | None] = mapped_column(exact(36))
    action: Mapped[str] = mapped_column(exact(16))
    object_type: Mapped[str] = mapped_column(exact(32))
    object_id: Mapped[str] = mapped_column(exact(64))
    object_name: Mapped[str] = mapped_column(String(255))
    fields: Mapped[dict[str, list[Any]]] = mapped_column(JSON)
    address: Mapped[str | None] = mapped_column(exact(45))
    token: Mapped[str | None] = mapped_column(String(64))
