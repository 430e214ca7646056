"""Tables of threshold templates. Their limits stand among all others: :class:`ezadmin_cmdb.limits.models.Limit`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, ForeignKey, Integer, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ezadmin_cmdb.database import TABLE, Base, exact
from ezadmin_cmdb.hosts.models import HOST_ID, Host
from ezadmin_cmdb.limits.models import Limit
from ezadmin_cmdb.rights.models import HostGroup

if TYPE_CHECKING:
    from ezadmin_cmdb.datacenter.sites import Site


class ThresholdTemplate(Base):
    """A set of limits; ``starter``: which of the starter templates it was made of, None for one of people."""

    __tablename__ = "threshold_templates"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    description: Mapped[str | None] = mapped_column(String(500))
    starter: Mapped[str | None] = mapped_column(exact(32), unique=True)

    limit_rows: Mapped[list[Limit]] = relationship(
        cascade="all, delete-orphan", passive_deletes=True, order_by=Limit.position
    )
    assignment_rows: Mapped[list[ThresholdAssignment]] = relationship(
        cascade="all, delete-orphan", passive_deletes=True, order_by="ThresholdAssignment.id"
    )


class ThresholdAssignment(Base):
    """Where a template is assigned: ``level`` of :data:`.inheritance.LEVELS`, with the vendor or model in ``value``.

    ``priority``: among groups the greater is nearer; 0 for other levels.
    """

    __tablename__ = "threshold_assignments"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    template_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("threshold_templates.id", ondelete="CASCADE"), index=True
    )
    level: Mapped[str] = mapped_column(exact(16))
    value: Mapped[str | None] = mapped_column(String(128))
    site_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("sites.id"), index=True)
    group_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("host_groups.id"), index=True)
    host_id: Mapped[str | None] = mapped_column(HOST_ID, ForeignKey("hosts.id", ondelete="CASCADE"), index=True)
    priority: Mapped[int] = mapped_column(Integer, default=0)

    site: Mapped[Site | None] = relationship()
    group: Mapped[HostGroup | None] = relationship()
    host: Mapped[Host | None] = relationship()
