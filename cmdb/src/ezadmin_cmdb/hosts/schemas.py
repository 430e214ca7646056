"""Hosts as the API shows them. Times in UTC, sizes in bytes."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields, validate

from ezadmin_cmdb.hosts.listing import PAGE, PAGE_MAX, SORTS
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.hosts.services import liveness


class AddressSchema(Schema):
    """An address."""

    address = fields.String()
    version = fields.Integer()
    prefix = fields.Integer(allow_none=True)


class NicSchema(Schema):
    """A network interface."""

    name = fields.String()
    mac = fields.String(allow_none=True)
    mtu = fields.Integer(allow_none=True)
    speed_mbps = fields.Integer(allow_none=True)
    up = fields.Boolean(allow_none=True)
    addresses = fields.List(fields.Nested(AddressSchema))


class DiskSchema(Schema):
    """A block device."""

    name = fields.String()
    size = fields.Integer(allow_none=True)
    model = fields.String(allow_none=True)
    serial = fields.String(allow_none=True)
    rotational = fields.Boolean(allow_none=True)


class HostSummarySchema(Schema):
    """A host in a list."""

    id = fields.UUID()
    name = fields.String()
    state = fields.String()
    liveness = fields.Function(lambda host: liveness(host), metadata={"type": "string"})
    os_name = fields.String(allow_none=True)
    os_version = fields.String(allow_none=True)
    cpu_logical = fields.Integer(allow_none=True)
    memory = fields.Integer(allow_none=True)
    disk_total = fields.Integer(allow_none=True)
    agent_version = fields.String(allow_none=True)
    agent_collected = fields.AwareDateTime(format="iso", allow_none=True)
    addresses = fields.Method("address_list", metadata={"type": "array", "items": {"type": "string"}})
    labels = fields.Method("label_map", metadata={"type": "object", "additionalProperties": {"type": "string"}})

    def address_list(self, host: Host) -> list[str]:
        """All addresses as text."""
        return [address.address for nic in host.nics for address in nic.addresses]

    def label_map(self, host: Host) -> dict[str, str]:
        """Labels by name."""
        return {label.name: label.value for label in host.labels}


class HostSchema(HostSummarySchema):
    """A host with its inventory."""

    hostname = fields.String(allow_none=True)
    fqdn = fields.String(allow_none=True)
    os_family = fields.String(allow_none=True)
    kernel = fields.String(allow_none=True)
    architecture = fields.String(allow_none=True)
    vendor = fields.String(allow_none=True)
    model = fields.String(allow_none=True)
    serial = fields.String(allow_none=True)
    bios_version = fields.String(allow_none=True)
    virtualization = fields.String(allow_none=True)
    cpu_model = fields.String(allow_none=True)
    cpu_sockets = fields.Integer(allow_none=True)
    cpu_physical = fields.Integer(allow_none=True)
    swap = fields.Integer(allow_none=True)
    boot_time = fields.AwareDateTime(format="iso", allow_none=True)
    timezone = fields.String(allow_none=True)
    inventory_collected = fields.AwareDateTime(format="iso", allow_none=True)
    created = fields.AwareDateTime(format="iso")
    nics = fields.List(fields.Nested(NicSchema))
    disks = fields.List(fields.Nested(DiskSchema))


class HostQuerySchema(Schema):
    """What a list of hosts can be asked."""

    q = fields.String(load_default="", metadata={"description": "words, each to be found somewhere in the host"})
    sort = fields.String(load_default="name", validate=validate.OneOf(list(SORTS)))
    order = fields.String(load_default="asc", validate=validate.OneOf(["asc", "desc"]))
    page = fields.Integer(load_default=1, validate=validate.Range(1, 1_000_000))
    size = fields.Integer(load_default=PAGE, validate=validate.Range(1, PAGE_MAX))


class HostListSchema(Schema):
    """A page of hosts."""

    total = fields.Integer()
    page = fields.Integer()
    pages = fields.Integer()
    hosts = fields.List(fields.Nested(HostSummarySchema))


class ItemSchema(Schema):
    """The figures of one item."""

    dimensions: Any = fields.Dict(keys=fields.String(), values=fields.String())
    values: Any = fields.Dict(keys=fields.String())


class LatestSchema(Schema):
    """The newest figures of a dataset."""

    dataset = fields.String()
    time = fields.AwareDateTime(format="iso")
    items = fields.List(fields.Nested(ItemSchema))


class EventQuerySchema(Schema):
    """What events can be asked."""

    limit = fields.Integer(load_default=50, validate=validate.Range(1, 500))


class EventSchema(Schema):
    """An event."""

    id = fields.String()
    time = fields.AwareDateTime(format="iso")
    level = fields.String()
    dataset = fields.String()
    source = fields.String()
    message = fields.String()
