"""Documents of the topic ``state``: what a host is, as its agent sees it. One JSON object a line of a batch.

Every document has ``type`` (which of the classes below) and ``collected`` (when the agent looked). Documents can arrive
twice and out of order: the newest ``collected`` of a host and type wins, equal ones are the same document.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional, Union

from ezadmin_wire.errors import WireError
from ezadmin_wire.fields import dump_tagged, load_tagged
from ezadmin_wire.times import parse_time

TRANSPORTS = ("kafka", "https")


@dataclass(frozen=True)
class Address:
    """An address of a NIC: ``address`` without zone, ``prefix`` length in bits."""

    address: str
    prefix: Optional[int] = None


@dataclass(frozen=True)
class Nic:
    """A network interface. ``mac`` as ECS writes it (``00-00-5E-00-53-23``), ``speed_mbps`` absent when unknown."""

    name: str
    mac: Optional[str] = None
    addresses: list[Address] = field(default_factory=list)
    mtu: Optional[int] = None
    speed_mbps: Optional[int] = None
    up: Optional[bool] = None


@dataclass(frozen=True)
class Disk:
    """A block device; ``size`` in bytes."""

    name: str
    size: Optional[int] = None
    model: Optional[str] = None
    serial: Optional[str] = None
    rotational: Optional[bool] = None


@dataclass(frozen=True)
class Inventory:
    """``type: inventory``: hardware, system and addresses of a host. Sizes in bytes; unknown members are absent.

    ``fingerprint`` is a hash of machine-id and DMI by which a cloned disk is noticed; it identifies nothing.
    ``packages`` is how many packages the system's own package manager has installed.
    """

    collected: str
    hostname: str
    fqdn: Optional[str] = None
    os_name: Optional[str] = None
    os_version: Optional[str] = None
    os_family: Optional[str] = None
    kernel: Optional[str] = None
    architecture: Optional[str] = None
    vendor: Optional[str] = None
    model: Optional[str] = None
    serial: Optional[str] = None
    bios_version: Optional[str] = None
    virtualization: Optional[str] = None
    cpu_model: Optional[str] = None
    cpu_sockets: Optional[int] = None
    cpu_physical: Optional[int] = None
    cpu_logical: Optional[int] = None
    memory: Optional[int] = None
    swap: Optional[int] = None
    disk_total: Optional[int] = None
    boot_time: Optional[str] = None
    timezone: Optional[str] = None
    agent_version: Optional[str] = None
    fingerprint: Optional[str] = None
    packages: Optional[int] = None
    nics: list[Nic] = field(default_factory=list)
    disks: list[Disk] = field(default_factory=list)


@dataclass(frozen=True)
class AgentStatus:
    """``type: agent``: how the agent itself is: version, start, spool, counts since the start.

    ``transport``: how its batches travel, ``kafka`` or ``https``.
    """

    collected: str
    version: str
    started: str
    spool_bytes: int = 0
    spool_lines: int = 0
    lines_sent: int = 0
    lines_dropped: int = 0
    rss_bytes: Optional[int] = None
    cpu_pct: Optional[float] = None
    transport: Optional[str] = None

    def __post_init__(self) -> None:
        if self.transport not in (None, *TRANSPORTS):
            raise WireError("bad_value", f"transport: {self.transport!r} is none of {', '.join(TRANSPORTS)}")


StateDocument = Union[Inventory, AgentStatus]
TYPES: dict[str, type[StateDocument]] = {"inventory": Inventory, "agent": AgentStatus}


def encode(document: StateDocument) -> bytes:
    """One line (without newline) of a ``state`` batch."""
    return dump_tagged(document, TYPES)


def decode(line: bytes) -> StateDocument:
    """Decode one line. Raises WireError (``bad_value``, ``unknown_type``, ``bad_time``) that names the member."""
    document = load_tagged(line, TYPES)
    parse_time(document.collected)
    return document
