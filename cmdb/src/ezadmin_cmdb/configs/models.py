"""Tables of the managed configuration of agents."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, ForeignKey, Integer, String, Text, text
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ezadmin_cmdb.database import TABLE, Base, UtcDateTime, exact, utc_now
from ezadmin_cmdb.rights.models import HostGroup


class AgentConfig(Base):
    """What the agents of a group are to do, or of all hosts if ``group`` is None. ``content`` is TOML, as in their file.

    ``revision`` counts the changes of what agents see. Where two say something about the same source, that with the higher
    ``priority`` holds.
    """

    __tablename__ = "agent_configs"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    group_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("host_groups.id"), index=True)
    priority: Mapped[int] = mapped_column(Integer, default=0)
    active: Mapped[bool] = mapped_column(Boolean, default=True, server_default=text("1"))
    content: Mapped[str] = mapped_column(Text().with_variant(mysql.MEDIUMTEXT(), "mysql"))
    revision: Mapped[int] = mapped_column("version", Integer, default=1)
    note: Mapped[str | None] = mapped_column(String(255))

    group: Mapped[HostGroup | None] = relationship()


class EffectiveConfig(Base):
    """A configuration that hosts were to have, merged: ``version`` is the number under which agents know it.

    The same content has the same number, whenever and wherever it comes up again. ``digest`` is the SHA-256 of its
    canonical JSON. Version 0, which has no row, is the empty one.
    """

    __tablename__ = "effective_configs"
    __table_args__ = (TABLE,)

    version: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    digest: Mapped[str] = mapped_column(exact(64), unique=True)
    content: Mapped[dict[str, Any]] = mapped_column(JSON)
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
