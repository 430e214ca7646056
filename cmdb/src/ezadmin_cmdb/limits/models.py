"""Tables of limits."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, ForeignKey, Integer, String, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ezadmin_cmdb.database import TABLE, Base, UtcDateTime, exact, utc_now
from ezadmin_cmdb.hosts.models import HOST_ID, Host
from ezadmin_cmdb.rights.models import HostGroup


class Limit(Base):
    """A limit; ``definition`` as on the wire (:class:`ezadmin_wire.config.LimitRecord`).

    One of a threshold template has its ``template_id`` and ``position`` there, and is for whom the template is; one that is
    ``off`` is not published, and leaves hosts without a limit from farther places.
    """

    __tablename__ = "limits"
    __table_args__ = (TABLE,)

    id: Mapped[str] = mapped_column(exact(64), primary_key=True)
    definition: Mapped[dict[str, Any]] = mapped_column(JSON)
    comment: Mapped[str] = mapped_column(String(255), default="")
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    template_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("threshold_templates.id", ondelete="CASCADE"), index=True
    )
    position: Mapped[int] = mapped_column(Integer, default=0, server_default=text("0"))
    off: Mapped[bool] = mapped_column(Boolean, default=False, server_default=text("0"))

    assignments: Mapped[list[LimitAssignment]] = relationship(
        cascade="all, delete-orphan", passive_deletes=True, order_by="LimitAssignment.id"
    )


class LimitAssignment(Base):
    """Whom a limit is for: a host, the hosts with a label of this value, those of a group, or, with none of it, all."""

    __tablename__ = "limit_assignments"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    limit_id: Mapped[str] = mapped_column(exact(64), ForeignKey("limits.id", ondelete="CASCADE"), index=True)
    host_id: Mapped[str | None] = mapped_column(HOST_ID, ForeignKey("hosts.id", ondelete="CASCADE"), index=True)
    label: Mapped[str | None] = mapped_column(exact(64))
    value: Mapped[str | None] = mapped_column(String(255))
    group_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("host_groups.id"), index=True)

    host: Mapped[Host | None] = relationship()
    group: Mapped[HostGroup | None] = relationship()
