"""Tables of the audit log."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Index, String, Text
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import Mapped, mapped_column

from ezadmin_cmdb.database import TABLE, Base, UtcDateTime, exact


class AuditEntry(Base):
    """An entry. ``id`` counts from 1 without gaps; ``details`` is canonical JSON, kept as the text that was hashed.

    ``hash`` is that of ``previous`` (the hash of the entry before) and of all other columns: :mod:`ezadmin_cmdb.audit.chain`.
    """

    __tablename__ = "audit_entries"
    __table_args__ = (
        Index("ix_audit_entries_actor", "actor", "time"),
        Index("ix_audit_entries_object", "object_type", "object_id"),
        TABLE,
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    time: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    kind: Mapped[str] = mapped_column(exact(16))
    action: Mapped[str] = mapped_column(exact(64))
    outcome: Mapped[str] = mapped_column(exact(16))
    actor: Mapped[str] = mapped_column(String(255))
    source: Mapped[str] = mapped_column(exact(16))
    address: Mapped[str | None] = mapped_column(exact(45))
    request_id: Mapped[str | None] = mapped_column(exact(36))
    object_type: Mapped[str | None] = mapped_column(exact(32))
    object_id: Mapped[str | None] = mapped_column(exact(64))
    object_name: Mapped[str | None] = mapped_column(String(255))
    details: Mapped[str] = mapped_column(Text().with_variant(mysql.MEDIUMTEXT(), "mysql"))
    previous: Mapped[str] = mapped_column(exact(64))
    hash: Mapped[str] = mapped_column(exact(64))


class AuditHead(Base):
    """The newest entry. Its one row is locked while entries are added, so that the chain has no branches."""

    __tablename__ = "audit_head"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[str] = mapped_column(exact(64))


class AuditStream(Base):
    """How far the entries are in Kafka: ``sent`` is the last one that it acknowledged, ``epoch`` that of the stream."""

    __tablename__ = "audit_stream"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    epoch: Mapped[str] = mapped_column(exact(16))
    sent: Mapped[int] = mapped_column(BigInteger)
