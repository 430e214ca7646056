"""Tables of the outbox."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Text
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import Mapped, mapped_column

from ezadmin_cmdb.database import TABLE, Base, UtcDateTime, exact, utc_now


class ConfigRecord(Base):
    """The newest state of a config record, and which revision of it Kafka has acknowledged.

    ``body`` is the record's canonical JSON, None once it is deleted. A row is never removed: its revision must grow
    also across deletions, or readers would take a record made anew for an old one.
    """

    __tablename__ = "config_records"
    __table_args__ = (TABLE,)

    key: Mapped[str] = mapped_column("record_key", exact(128), primary_key=True)
    revision: Mapped[int] = mapped_column(BigInteger)
    body: Mapped[str | None] = mapped_column(Text().with_variant(mysql.MEDIUMTEXT(), "mysql"))
    published_revision: Mapped[int] = mapped_column(BigInteger, default=0)
    updated: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now, onupdate=utc_now)
