"""The one shape of errors in the API: problem details (RFC 9457), ``application/problem+json``."""

from __future__ import annotations

from marshmallow import Schema, fields

MEDIA_TYPE = "application/problem+json"
TYPES = {
    400: "bad-request", 401: "unauthorized", 403: "forbidden", 404: "not-found", 405: "method-not-allowed",
    409: "conflict", 412: "outdated", 413: "too-large", 415: "unsupported-media-type", 422: "invalid",
    428: "precondition-required", 429: "too-many-requests", 500: "internal-error", 503: "unavailable",
}  # fmt: skip
"""What ``type`` ends with, by status; the page it leads to says what to do."""
TYPES_PAGE = "/api-docs/"


def problem_type(status: int) -> str:
    """The URI reference that names the type of a problem."""
    return f"{TYPES_PAGE}#{TYPES[status]}" if status in TYPES else "about:blank"


class FieldErrorSchema(Schema):
    """A value that cannot be used."""

    field = fields.String(metadata={"description": "its path in the body, or the name of the parameter or header"})
    detail = fields.String(metadata={"description": "what is wrong, and what to write"})


class ProblemSchema(Schema):
    """An error, as RFC 9457 has it."""

    type = fields.String(
        required=True, metadata={"format": "uri-reference", "description": "names the kind of error, and leads to it"}
    )
    title = fields.String(required=True, metadata={"description": "the kind of error, for people"})
    status = fields.Integer(required=True)
    detail = fields.String(required=True, metadata={"description": "what is wrong here, and what to do"})
    request_id = fields.String(
        required=True, metadata={"description": "under which the log of the web application has it"}
    )
    errors = fields.List(fields.Nested(FieldErrorSchema), metadata={"description": "the values that are wrong"})
