"""Tables of accounts."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ezadmin_cmdb.database import TABLE, Base, UtcDateTime, exact, utc_now


class User(Base):
    """Someone who may sign in. ``password_hash`` is argon2id's text; ``language`` None follows the browser."""

    __tablename__ = "users"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    password_hash: Mapped[str] = mapped_column(exact(255))
    admin: Mapped[bool] = mapped_column(Boolean, default=False)
    active: Mapped[bool] = mapped_column(Boolean, default=True)
    language: Mapped[str | None] = mapped_column(exact(8))
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)


class UserSession(Base):
    """A browser that is signed in; the table holds the hash of its token, so that reading it lets nobody in."""

    __tablename__ = "user_sessions"
    __table_args__ = (TABLE,)

    token_hash: Mapped[str] = mapped_column(exact(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"))
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    last_seen: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    address: Mapped[str] = mapped_column(exact(45))

    user: Mapped[User] = relationship(lazy="joined")


class FailedSignIn(Base):
    """An attempt with a wrong name or password: they are counted, and too many lock out."""

    __tablename__ = "failed_sign_ins"
    __table_args__ = (
        Index("ix_failed_sign_ins_address", "address", "time"),
        Index("ix_failed_sign_ins_name", "name", "time"),
        TABLE,
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    time: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    name: Mapped[str] = mapped_column(String(64))
    address: Mapped[str] = mapped_column(exact(45))
