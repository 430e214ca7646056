"""Parts of hosts, their figures and events as the API shows them. Times in UTC, sizes in bytes."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields, validate

WIDTH, WIDTH_MIN, WIDTH_MAX = 120, 40, 400
"""Columns of the text of a host's figures."""


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


class ItemSchema(Schema):
    """The figures of one item."""

    dimensions: Any = fields.Dict(keys=fields.String(), values=fields.String())
    values: Any = fields.Dict(keys=fields.String())


class LatestSchema(Schema):
    """The newest figures of a dataset."""

    dataset = fields.String()
    time = fields.AwareDateTime(format="iso")
    items = fields.List(fields.Nested(ItemSchema))


class TextQuerySchema(Schema):
    """How wide a host's text is."""

    width = fields.Integer(
        load_default=WIDTH, validate=validate.Range(WIDTH_MIN, WIDTH_MAX),
        metadata={"description": "columns of the terminal"},
    )  # fmt: skip


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
