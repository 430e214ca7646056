"""Tables of hosts."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ezadmin_cmdb.database import TABLE, Base, UtcDateTime, exact, utc_now
from ezadmin_cmdb.datacenter.contracts import Covered
from ezadmin_cmdb.datacenter.placed import Placed
from ezadmin_cmdb.search.words import packed

if TYPE_CHECKING:
    from ezadmin_cmdb.datacenter.contacts import Contact
    from ezadmin_cmdb.datacenter.customers import Customer
    from ezadmin_cmdb.datacenter.sites import Site
    from ezadmin_cmdb.rights.models import HostGroup

HOST_ID = exact(36)


def _host_reference(primary_key: bool = False) -> Mapped[str]:
    return mapped_column(HOST_ID, ForeignKey("hosts.id", ondelete="CASCADE"), primary_key=primary_key)


class Host(Placed, Covered, Base):
    """A host: what people say of it, and what its agent reports; sizes in bytes.

    The columns of what agents observe have the value that holds; :mod:`.values` says why. ``observed``: what the agent
    reported, ``{field: [value, since]}``. ``inventory_collected`` and ``agent_collected``: when the agent looked, of the
    newest document taken. ``agent_config_wanted``: the version of the managed configuration that it is to have.
    ``member_of``: names by ids of the groups that it is in, as the worker found them last.
    """

    __tablename__ = "hosts"
    __table_args__ = (TABLE,)

    id: Mapped[str] = mapped_column(HOST_ID, primary_key=True)
    name: Mapped[str] = mapped_column(String(253), index=True)
    state: Mapped[str] = mapped_column(exact(16), default="new", index=True)
    state_since: Mapped[datetime | None] = mapped_column(UtcDateTime, default=utc_now)
    state_by_rule: Mapped[bool] = mapped_column(Boolean, default=False, server_default=text("0"))
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    updated: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now, onupdate=utc_now)
    member_of: Mapped[dict[str, str] | None] = mapped_column(JSON)

    customer_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("customers.id"), index=True)
    site_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("sites.id"), index=True)
    primary_manager_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("contacts.id"), index=True)
    secondary_manager_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("contacts.id"), index=True)
    note: Mapped[str | None] = mapped_column(Text)
    environment: Mapped[str | None] = mapped_column(exact(16), index=True)

    hostname: Mapped[str | None] = mapped_column(String(253), index=True)
    fqdn: Mapped[str | None] = mapped_column(String(253))
    os_name: Mapped[str | None] = mapped_column(String(128))
    os_version: Mapped[str | None] = mapped_column(String(128))
    os_family: Mapped[str | None] = mapped_column(String(64))
    kernel: Mapped[str | None] = mapped_column(String(128))
    architecture: Mapped[str | None] = mapped_column(String(32))
    vendor: Mapped[str | None] = mapped_column(String(128))
    model: Mapped[str | None] = mapped_column(String(128))
    serial: Mapped[str | None] = mapped_column(String(128), index=True)
    bios_version: Mapped[str | None] = mapped_column(String(128))
    virtualization: Mapped[str | None] = mapped_column(String(32))
    cpu_model: Mapped[str | None] = mapped_column(String(128))
    cpu_sockets: Mapped[int | None] = mapped_column(Integer)
    cpu_physical: Mapped[int | None] = mapped_column(Integer)
    cpu_logical: Mapped[int | None] = mapped_column(Integer)
    memory: Mapped[int | None] = mapped_column(BigInteger)
    swap: Mapped[int | None] = mapped_column(BigInteger)
    disk_total: Mapped[int | None] = mapped_column(BigInteger)
    boot_time: Mapped[datetime | None] = mapped_column(UtcDateTime)
    timezone: Mapped[str | None] = mapped_column(String(64))
    fingerprint: Mapped[str | None] = mapped_column(exact(128))
    agent_version: Mapped[str | None] = mapped_column(String(64))
    inventory_collected: Mapped[datetime | None] = mapped_column(UtcDateTime)

    observed: Mapped[dict[str, list[Any]] | None] = mapped_column(JSON(none_as_null=True), deferred=True)

    agent_collected: Mapped[datetime | None] = mapped_column(UtcDateTime)
    agent_started: Mapped[datetime | None] = mapped_column(UtcDateTime)
    agent_spool_bytes: Mapped[int | None] = mapped_column(BigInteger)
    agent_spool_lines: Mapped[int | None] = mapped_column(BigInteger)
    agent_lines_sent: Mapped[int | None] = mapped_column(BigInteger)
    agent_lines_dropped: Mapped[int | None] = mapped_column(BigInteger)
    agent_rss_bytes: Mapped[int | None] = mapped_column(BigInteger)
    agent_cpu_pct: Mapped[float | None] = mapped_column(Float)
    agent_transport: Mapped[str | None] = mapped_column(exact(16))
    agent_config_wanted: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))

    customer: Mapped[Customer | None] = relationship()
    site: Mapped[Site | None] = relationship()
    primary_manager: Mapped[Contact | None] = relationship(foreign_keys=[primary_manager_id])
    secondary_manager: Mapped[Contact | None] = relationship(foreign_keys=[secondary_manager_id])
    labels: Mapped[list[HostLabel]] = relationship(
        cascade="all, delete-orphan", passive_deletes=True, order_by="HostLabel.name"
    )
    keys: Mapped[list[HostKey]] = relationship(
        cascade="all, delete-orphan", passive_deletes=True, order_by="HostKey.created, HostKey.kid"
    )
    nics: Mapped[list[Nic]] = relationship(cascade="all, delete-orphan", passive_deletes=True, order_by="Nic.name")
    disks: Mapped[list[Disk]] = relationship(cascade="all, delete-orphan", passive_deletes=True, order_by="Disk.name")
    declarations: Mapped[list[Declaration]] = relationship(
        cascade="all, delete-orphan", passive_deletes=True, order_by="Declaration.field"
    )
    drifts: Mapped[list[Drift]] = relationship(
        cascade="all, delete-orphan", passive_deletes=True, order_by="Drift.field", back_populates="host"
    )
    groups: Mapped[list[HostGroup]] = relationship(
        secondary="host_group_members", back_populates="hosts", order_by="HostGroup.name", passive_deletes=True
    )


class HostLabel(Base):
    """A label: put on the host's documents as ``labels.<name>``."""

    __tablename__ = "host_labels"
    __table_args__ = (TABLE,)

    host_id: Mapped[str] = _host_reference(primary_key=True)
    name: Mapped[str] = mapped_column(exact(64), primary_key=True)
    value: Mapped[str] = mapped_column(String(255))


class HostKey(Base):
    """A public key (64 hex digits) that a host signs with; one key is one host's alone. ``ends``: when it is revoked."""

    __tablename__ = "host_keys"
    __table_args__ = (UniqueConstraint("public"), TABLE)

    host_id: Mapped[str] = _host_reference(primary_key=True)
    kid: Mapped[str] = mapped_column(exact(16), primary_key=True)
    public: Mapped[str] = mapped_column(exact(64))
    revoked: Mapped[bool] = mapped_column(Boolean, default=False)
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utc_now)
    ends: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Nic(Base):
    """A network interface."""

    __tablename__ = "host_nics"
    __table_args__ = (UniqueConstraint("host_id", "name"), TABLE)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    host_id: Mapped[str] = _host_reference()
    name: Mapped[str] = mapped_column(exact(64))
    mac: Mapped[str | None] = mapped_column(exact(64), index=True)
    mtu: Mapped[int | None] = mapped_column(BigInteger)
    speed_mbps: Mapped[int | None] = mapped_column(BigInteger)
    up: Mapped[bool | None] = mapped_column(Boolean)

    addresses: Mapped[list[Address]] = relationship(
        cascade="all, delete-orphan", passive_deletes=True, order_by="Address.version, Address.address"
    )


class Address(Base):
    """An address of a network interface; ``version`` 4 or 6, ``prefix`` in bits, ``number`` the address as 4 or 16 bytes."""

    __tablename__ = "host_addresses"
    __table_args__ = (UniqueConstraint("nic_id", "address"), TABLE)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    nic_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("host_nics.id", ondelete="CASCADE"))
    address: Mapped[str] = mapped_column(exact(45), index=True)
    version: Mapped[int] = mapped_column(Integer)
    prefix: Mapped[int | None] = mapped_column(Integer)
    number: Mapped[bytes | None] = mapped_column(
        LargeBinary(16).with_variant(mysql.VARBINARY(16), "mysql"),
        default=lambda context: packed(context.get_current_parameters()["address"]),
        index=True,
    )


class Disk(Base):
    """A block device; ``size`` in bytes."""

    __tablename__ = "host_disks"
    __table_args__ = (UniqueConstraint("host_id", "name"), TABLE)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    host_id: Mapped[str] = _host_reference()
    name: Mapped[str] = mapped_column(exact(64))
    size: Mapped[int | None] = mapped_column(BigInteger)
    model: Mapped[str | None] = mapped_column(String(128))
    serial: Mapped[str | None] = mapped_column(String(128))
    rotational: Mapped[bool | None] = mapped_column(Boolean)


class Declaration(Base):
    """What a person says that a field of a host is, whatever its agent observes."""

    __tablename__ = "host_declarations"
    __table_args__ = (TABLE,)

    host_id: Mapped[str] = _host_reference(primary_key=True)
    field: Mapped[str] = mapped_column(exact(64), primary_key=True)
    value: Mapped[Any] = mapped_column(JSON)
    by: Mapped[str | None] = mapped_column("declared_by", String(255))
    source: Mapped[str | None] = mapped_column(exact(16))
    since: Mapped[datetime] = mapped_column(UtcDateTime)


class Drift(Base):
    """A difference between what is expected of a host and what its agent observes; another one is another row."""

    __tablename__ = "drifts"
    __table_args__ = (Index("ix_drifts_host_id", "host_id", "field"), TABLE)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    host_id: Mapped[str] = _host_reference()
    field: Mapped[str] = mapped_column(exact(64))
    declared: Mapped[Any] = mapped_column(JSON)
    observed: Mapped[Any] = mapped_column(JSON)
    since: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    status: Mapped[str] = mapped_column(exact(16), index=True)

    host: Mapped[Host] = relationship(back_populates="drifts")


class FieldPolicy(Base):
    """The policy that was chosen for a field that agents observe."""

    __tablename__ = "host_field_policies"
    __table_args__ = (TABLE,)

    field: Mapped[str] = mapped_column(exact(64), primary_key=True)
    policy: Mapped[str] = mapped_column(exact(16))
