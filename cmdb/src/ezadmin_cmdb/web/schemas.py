"""The one shape of errors in the API."""

from __future__ import annotations

from marshmallow import Schema, fields


class ErrorDetailSchema(Schema):
    """What is wrong."""

    status = fields.Integer()
    code = fields.String()
    message = fields.String()
    request_id = fields.String()
    details = fields.Dict(keys=fields.String(), values=fields.List(fields.String()))


class ErrorSchema(Schema):
    """Every error has this shape."""

    error = fields.Nested(ErrorDetailSchema)
