"""Tables of accounts."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, BigInteger, Boolean, ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ezadmin_cmdb.database import TABLE, Base, UtcDateTime, exact, utc_now

LOCAL = "local"


class User(Base):
    """Someone who may sign in. ``password_hash`` is argon2id's text; ``language`` None follows the browser.

    ``origin``: who knows the password, ``local`` for ezadmin itself; ``external`` is what that one calls him, for ever.
    """

    __tablename__ = "users"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    password_hash: Mapped[str] = mapped_column(exact(255))
    admin: Mapped[bool] = mapped_column(Boolean, default=False)
    active: Mapped[bool] = mapped_column(Boolean, default=True)
    language: Mapped[str | None] = mapped_column(exact(8))
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    origin: Mapped[str] = mapped_column(exact(16), default=LOCAL)
    external: Mapped[str | None] = mapped_column(exact(255), unique=True)


class UserSession(Base):
    """A browser that is signed in; the table holds the hash of its token, so that reading it lets nobody in."""

    __tablename__ = "user_sessions"
    __table_args__ = (TABLE,)

    token_hash: Mapped[str] = mapped_column(exact(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"))
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    last_seen: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    address: Mapped[str] = mapped_column(exact(45))
    browser: Mapped[str | None] = mapped_column(String(255))

    user: Mapped[User] = relationship(lazy="joined")


class SignInGuard(Base):
    """Failures of a name, of an address, or of both together, since the last success; ``until``: nothing is tried before.

    A row is locked while an attempt is judged, so attempts made at once count one after the other.
    """

    __tablename__ = "sign_in_guards"
    __table_args__ = (Index("ix_sign_in_guards_name", "name"), TABLE)

    subject: Mapped[str] = mapped_column(exact(128), primary_key=True)
    name: Mapped[str | None] = mapped_column(exact(64))
    address: Mapped[str | None] = mapped_column(exact(45))
    failures: Mapped[int] = mapped_column(Integer, default=0)
    last: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    until: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ApiToken(Base):
    """A key for programs, which acts for its user and may do ``scopes`` of what he may; only its hash is kept.

    ``networks``: from where it may be used, CIDR, empty for anywhere.
    """

    __tablename__ = "api_tokens"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(64))
    token_hash: Mapped[str] = mapped_column(exact(64), unique=True)
    hint: Mapped[str] = mapped_column(exact(16))
    scopes: Mapped[list[str]] = mapped_column(JSON)
    networks: Mapped[list[str]] = mapped_column(JSON)
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    expires: Mapped[datetime] = mapped_column(UtcDateTime)
    last_used: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_address: Mapped[str | None] = mapped_column(exact(45))

    user: Mapped[User] = relationship(lazy="joined")


class RequestQuota(Base):
    """The bucket of a token (by its hash) or of an address: when it will be full again. See :mod:`.quotas`."""

    __tablename__ = "request_quotas"
    __table_args__ = (TABLE,)

    subject: Mapped[str] = mapped_column(exact(64), primary_key=True)
    full_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SecondFactor(Base):
    """The secret of a user's app that shows codes, encrypted; it counts once ``confirmed``. ``step``: the last one used."""

    __tablename__ = "second_factors"
    __table_args__ = (TABLE,)

    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    secret: Mapped[str] = mapped_column(exact(255))
    confirmed: Mapped[datetime | None] = mapped_column(UtcDateTime)
    step: Mapped[int] = mapped_column(BigInteger, default=0)


class RecoveryCode(Base):
    """A code that takes the place of the app's once; only its hash is kept."""

    __tablename__ = "recovery_codes"
    __table_args__ = (TABLE,)

    code_hash: Mapped[str] = mapped_column(exact(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"), index=True)
