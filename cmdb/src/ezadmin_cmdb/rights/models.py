"""Tables of rights."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ezadmin_cmdb.accounts.models import User
from ezadmin_cmdb.database import TABLE, Base, UtcDateTime, exact, utc_now
from ezadmin_cmdb.hosts.models import HOST_ID, Host


class Role(Base):
    """A set of permissions, by name."""

    __tablename__ = "roles"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    description: Mapped[str | None] = mapped_column(String(255))
    permissions: Mapped[list[str]] = mapped_column(JSON)


class HostGroupMember(Base):
    """A host in a static group."""

    __tablename__ = "host_group_members"
    __table_args__ = (TABLE,)

    group_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("host_groups.id", ondelete="CASCADE"), primary_key=True
    )
    host_id: Mapped[str] = mapped_column(
        HOST_ID, ForeignKey("hosts.id", ondelete="CASCADE"), primary_key=True, index=True
    )


class HostGroup(Base):
    """A group of hosts: static (its members), or, with a ``filter`` as it stands in an address, those that match it."""

    __tablename__ = "host_groups"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    description: Mapped[str | None] = mapped_column(String(255))
    filter: Mapped[str | None] = mapped_column(String(2000))

    hosts: Mapped[list[Host]] = relationship(
        secondary="host_group_members", back_populates="groups", order_by=Host.name, passive_deletes=True
    )


class TeamMember(Base):
    """A user in a team."""

    __tablename__ = "team_members"
    __table_args__ = (TABLE,)

    team_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("teams.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True, index=True
    )


class Team(Base):
    """People who are granted something together."""

    __tablename__ = "teams"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    description: Mapped[str | None] = mapped_column(String(255))

    members: Mapped[list[User]] = relationship(secondary="team_members", order_by=User.name, passive_deletes=True)


class Grant(Base):
    """A role given to a user or a team, for a group of hosts, or (``group_id`` None) everywhere."""

    __tablename__ = "grants"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    user_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("users.id", ondelete="CASCADE"), index=True)
    team_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("teams.id", ondelete="CASCADE"), index=True)
    role_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("roles.id"), index=True)
    group_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("host_groups.id"), index=True)

    user: Mapped[User | None] = relationship()
    team: Mapped[Team | None] = relationship()
    role: Mapped[Role] = relationship()
    group: Mapped[HostGroup | None] = relationship()

    @property
    def name(self) -> str:
        """What it is called in lists and records: who has which role where."""
        who = self.user.name if self.user else self.team.name if self.team else "?"
        where = f" @ {self.group.name}" if self.group else ""
        return f"{who}: {self.role.name}{where}"


class Denial(Base):
    """Something that was refused: who wanted what, and the permission that was missing."""

    __tablename__ = "denials"
    __table_args__ = (Index("ix_denials_actor", "actor", "time"), TABLE)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    time: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now, index=True)
    actor: Mapped[str] = mapped_column(String(255))
    source: Mapped[str] = mapped_column(exact(16))
    request_id: Mapped[str | None] = mapped_column(exact(36))
    permission: Mapped[str] = mapped_column(exact(64))
    object_type: Mapped[str | None] = mapped_column(exact(32))
    object_id: Mapped[str | None] = mapped_column(exact(64))
    address: Mapped[str | None] = mapped_column(exact(45))
    token: Mapped[str | None] = mapped_column(String(64))
