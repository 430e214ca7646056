"""Tables of jobs: what is to be done with many rows, and what would come, or came, of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, ForeignKey, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from ezadmin_cmdb.database import TABLE, Base, UtcDateTime, exact, utc_now


class Job(Base):
    """A bulk change, a deletion or an import of a user.

    ``state``: ``checking`` -> ``checked`` -> ``writing`` -> ``done``, or back to ``checked`` if it cannot be written;
    ``cancelled``; ``failed``. ``heartbeat``: when who works on it was last seen; None while nobody does.
    ``done_rows``: how many were gone through, of ``total``. ``skip``: rows that are wrong are left out.
    """

    __tablename__ = "jobs"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    action: Mapped[str] = mapped_column(exact(16))
    object_type: Mapped[str] = mapped_column(exact(32))
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"), index=True)
    language: Mapped[str] = mapped_column(exact(8))
    address: Mapped[str | None] = mapped_column(exact(45))
    request_id: Mapped[str | None] = mapped_column(exact(36))
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now, index=True)
    state: Mapped[str] = mapped_column(exact(16), index=True)
    skip: Mapped[bool] = mapped_column(Boolean, default=False)
    given: Mapped[dict[str, Any]] = mapped_column(JSON)
    total: Mapped[int] = mapped_column(Integer)
    done_rows: Mapped[int] = mapped_column(Integer, default=0)
    counts: Mapped[dict[str, int]] = mapped_column(JSON, default=dict)
    message: Mapped[str | None] = mapped_column(Text)
    heartbeat: Mapped[datetime | None] = mapped_column(UtcDateTime)
    attempts: Mapped[int] = mapped_column(Integer, default=0)


class JobRow(Base):
    """A row of a job. ``texts``: the cells of a line that is imported."""

    __tablename__ = "job_rows"
    __table_args__ = (TABLE,)

    job_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    object_id: Mapped[str | None] = mapped_column(exact(64))
    version: Mapped[str | None] = mapped_column(exact(20))
    name: Mapped[str] = mapped_column(String(255), default="")
    status: Mapped[str] = mapped_column(exact(16), default="", index=True)
    texts: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    changes: Mapped[dict[str, list[Any]]] = mapped_column(JSON, default=dict)
    errors: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)
