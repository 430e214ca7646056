"""Tables of commands."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ezadmin_cmdb.database import TABLE, Base, UtcDateTime, exact, utc_now
from ezadmin_cmdb.hosts.models import HOST_ID


class Run(Base):
    """What a person confirmed at once, for all its hosts. ``chosen`` says how they were chosen, in words of a filter."""

    __tablename__ = "command_runs"
    __table_args__ = (Index("ix_command_runs_actor", "actor_name", "created"), TABLE)

    id: Mapped[str] = mapped_column(exact(36), primary_key=True)
    kind: Mapped[str] = mapped_column(exact(32), index=True)
    arguments: Mapped[dict[str, Any]] = mapped_column(JSON)
    account: Mapped[str | None] = mapped_column(exact(64))
    actor_id: Mapped[int | None] = mapped_column(BigInteger, index=True)
    actor_name: Mapped[str] = mapped_column(String(255))
    source: Mapped[str] = mapped_column(exact(16))
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now, index=True)
    not_after: Mapped[datetime] = mapped_column(UtcDateTime)
    hosts: Mapped[int] = mapped_column(Integer)
    chosen: Mapped[str] = mapped_column(String(1000), default="")

    commands: Mapped[list[Command]] = relationship(
        back_populates="of_run", order_by="Command.host_name, Command.attempt"
    )


class Command(Base):
    """One command for one host, as it was signed. Its row stays when the host is deleted.

    ``signed`` is the exact text under the signature ``sig`` of key ``kid``, ``digest`` its SHA-256; the other columns repeat
    what it says, for questions. ``source``: who said ``state`` (``cmdb``, ``gateway``, ``agent``); what the cmdb says of an
    end is what it assumes. ``heard``: when the newest state came in.
    """

    __tablename__ = "commands"
    __table_args__ = (
        UniqueConstraint("run", "host_id", "attempt"),
        Index("ix_commands_host_id", "host_id", "created"),
        Index("ix_commands_state", "state", "not_after"),
        TABLE,
    )

    id: Mapped[str] = mapped_column(exact(36), primary_key=True)
    run: Mapped[str] = mapped_column(exact(36), ForeignKey("command_runs.id"))
    attempt: Mapped[int] = mapped_column(Integer)
    host_id: Mapped[str] = mapped_column(HOST_ID)
    host_name: Mapped[str] = mapped_column(String(253))
    kind: Mapped[str] = mapped_column(exact(32))
    arguments: Mapped[dict[str, Any]] = mapped_column(JSON, deferred=True)
    account: Mapped[str | None] = mapped_column(exact(64))
    actor_id: Mapped[int | None] = mapped_column(BigInteger)
    actor_name: Mapped[str] = mapped_column(String(255))
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    not_before: Mapped[datetime] = mapped_column(UtcDateTime)
    not_after: Mapped[datetime] = mapped_column(UtcDateTime)
    nonce: Mapped[str] = mapped_column(exact(32), unique=True)
    signed: Mapped[str] = mapped_column(Text().with_variant(mysql.MEDIUMTEXT(), "mysql"), deferred=True)
    kid: Mapped[str] = mapped_column(exact(16))
    sig: Mapped[str] = mapped_column(exact(86))
    digest: Mapped[str] = mapped_column(exact(64))
    state: Mapped[str] = mapped_column(exact(16), default="queued")
    source: Mapped[str] = mapped_column(exact(16), default="cmdb")
    reason: Mapped[str | None] = mapped_column(String(500))
    heard: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    accepted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    of_run: Mapped[Run] = relationship(back_populates="commands")


class CommandState(Base):
    """A state that a command came into: never changed; the oldest are deleted with their commands. ``id`` counts without gaps.

    ``digest`` is that of the command, so that the chain holds what was signed as well.
    ``at``: when it happened, by the clock of who says so (``source``); ``time``: when it was noted here. ``hash`` is that
    of ``previous`` and all other columns: :mod:`ezadmin_cmdb.commands.chain`. A row without effect (an agent's word that
    came after the end) is here nevertheless.
    """

    __tablename__ = "command_states"
    __table_args__ = (Index("ix_command_states_command_id", "command_id", "id"), TABLE)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    command_id: Mapped[str] = mapped_column(exact(36), ForeignKey("commands.id"))
    state: Mapped[str] = mapped_column(exact(16))
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    time: Mapped[datetime] = mapped_column(UtcDateTime)
    source: Mapped[str] = mapped_column(exact(16))
    actor: Mapped[str | None] = mapped_column(String(255))
    reason: Mapped[str | None] = mapped_column(String(500))
    digest: Mapped[str] = mapped_column(exact(64))
    previous: Mapped[str] = mapped_column(exact(64))
    hash: Mapped[str] = mapped_column(exact(64))

    command: Mapped[Command] = relationship(lazy="joined", innerjoin=True)


class CommandHead(Base):
    """Where the chain ends: ``id`` 1 names its newest row, and is locked while rows are added, so that it has no branches;
    2, if it is there, the newest of the rows that were deleted for their age, after which it begins.
    """

    __tablename__ = "command_head"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[str] = mapped_column(exact(64))


class CommandStream(Base):
    """How far the states are in Kafka, as events: ``sent`` is the last one that it acknowledged."""

    __tablename__ = "command_stream"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    epoch: Mapped[str] = mapped_column(exact(16))
    sent: Mapped[int] = mapped_column(BigInteger)
