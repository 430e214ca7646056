"""Tables of enrolment."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ezadmin_cmdb.database import TABLE, Base, UtcDateTime, exact, utc_now
from ezadmin_cmdb.hosts.models import HOST_ID, Host

if TYPE_CHECKING:
    from ezadmin_cmdb.datacenter.sites import Site
    from ezadmin_cmdb.rights.models import HostGroup

NEW, REINSTALLED, CLONED = "new", "reinstalled", "cloned"


class EnrolmentToken(Base):
    """What a new host shows; ``secret_hash`` is the SHA-256 of its secret, which nobody can read again.

    ``uses`` of ``uses_max`` hosts came with it. Those hosts get ``site`` and become members of ``group``. ``quarantine``: they
    are not listened to until a person accepts them. ``replace``: a known machine takes its old place (:mod:`.services`). It goes
    with its site or group: without them it would be good for more.
    """

    __tablename__ = "enrolment_tokens"
    __table_args__ = (TABLE,)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), index=True)
    secret_hash: Mapped[str] = mapped_column(exact(64), unique=True)
    uses_max: Mapped[int] = mapped_column(Integer, default=1)
    uses: Mapped[int] = mapped_column(Integer, default=0)
    quarantine: Mapped[bool] = mapped_column(default=False)
    replace: Mapped[bool] = mapped_column("replaces", default=False)
    site_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("sites.id", ondelete="CASCADE"), index=True)
    group_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("host_groups.id", ondelete="CASCADE"), index=True
    )
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    created_by: Mapped[str] = mapped_column(String(255))
    expires: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    revoked: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_used: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_address: Mapped[str | None] = mapped_column(exact(45))

    site: Mapped[Site | None] = relationship()
    group: Mapped[HostGroup | None] = relationship()


class Enrolment(Base):
    """A host that became known, or known again: as what (``kind``), by which token, from where. Only added to.

    ``asked``: the host.id that the machine had made; ``other``: the host that it is a copy of, or is very like.
    """

    __tablename__ = "enrolments"
    __table_args__ = (Index("ix_enrolments_host_id", "host_id", "time"), TABLE)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    time: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    kind: Mapped[str] = mapped_column(exact(16))
    host_id: Mapped[str] = mapped_column(HOST_ID)
    host_name: Mapped[str] = mapped_column(String(253))
    asked: Mapped[str] = mapped_column(HOST_ID)
    public: Mapped[str] = mapped_column(exact(64), index=True)
    token_id: Mapped[int | None] = mapped_column(BigInteger, index=True)
    token_name: Mapped[str | None] = mapped_column(String(128))
    address: Mapped[str | None] = mapped_column(exact(45))
    version: Mapped[str] = mapped_column(String(64))
    other: Mapped[str | None] = mapped_column(HOST_ID, index=True)


class HostMachine(Base):
    """By what the machine of a host is known again: hashes, as :class:`ezadmin_wire.enrolment.Fingerprint` says."""

    __tablename__ = "host_machines"
    __table_args__ = (TABLE,)

    host_id: Mapped[str] = mapped_column(HOST_ID, ForeignKey("hosts.id", ondelete="CASCADE"), primary_key=True)
    machine: Mapped[str | None] = mapped_column(exact(64), index=True)
    hardware: Mapped[str | None] = mapped_column(exact(64), index=True)
    macs: Mapped[list[str]] = mapped_column(JSON)
    cloned_from: Mapped[str | None] = mapped_column(HOST_ID)

    host: Mapped[Host] = relationship()


class HostLine(Base):
    """What the gateway knows of a host's line: when and from where it polled last, and what it said.

    ``instance`` is random for each start of the agent; ``config`` the version of the managed configuration that it has
    applied; ``fingerprint`` the SHA-256 of its fingerprint. ``twins``: two machines polled as this host, ``{"time": last,
    "since", "addresses": […]}``.
    """

    __tablename__ = "host_lines"
    __table_args__ = (TABLE,)

    host_id: Mapped[str] = mapped_column(HOST_ID, ForeignKey("hosts.id", ondelete="CASCADE"), primary_key=True)
    seen: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    address: Mapped[str | None] = mapped_column(exact(45))
    instance: Mapped[str | None] = mapped_column(exact(16))
    config: Mapped[int | None] = mapped_column(BigInteger)
    fingerprint: Mapped[str | None] = mapped_column(exact(64))
    twins: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
