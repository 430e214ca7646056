"""What every operation of the OpenAPI description has: the errors that it can answer with, and the permission it needs."""

from __future__ import annotations

from typing import Any

from apispec import APISpec, BasePlugin
from flask import Flask
from werkzeug.routing import Rule

from ezadmin_cmdb.web.access import PUBLIC, SIGNED_IN, need_of
from ezadmin_cmdb.web.schemas import MEDIA_TYPE, TYPES, ProblemSchema

TOKEN = "token"  # noqa: S105 - the name of the scheme
RETRY_AFTER = {"schema": {"type": "integer"}, "description": "seconds until one more request is answered"}
RATE_LIMIT = {
    "schema": {"type": "string"},
    "description": "what the token has left: r requests now, all of them again in t seconds",
}
LINK = {"schema": {"type": "string"}, "description": "the pages first, prev, next and last (RFC 8288)"}
ETAG = {"schema": {"type": "string"}, "description": "the version of the object, for If-Match"}
PROBLEM = "problem"
"""Names, for ``alt_response``, an error that an operation answers with beside those that follow from its form."""
_UNSAFE = ("post", "put", "patch", "delete")
_WORDS = {
    400: "The request cannot be understood.",
    401: "No token, or one that is not valid.",
    403: "The permission is missing.",
    404: "It is not there, or not to be seen with this token.",
    405: "The address does not know this method.",
    409: "It contradicts what is there.",
    412: "It is no longer what was said in If-Match, version or expected.",
    413: "The request is too large.",
    415: "The body is not of a type that is known here.",
    422: "Values cannot be used; errors names each.",
    428: "It is done only for who says what he has seen.",
    429: "Too many requests with this token, or with wrong tokens from this address.",
    500: "An error of ours; the log has it under request_id.",
    503: "The database or Elasticsearch does not answer.",
}


class Common(BasePlugin):
    """Adds them to each operation that is described."""

    def __init__(self, app: Flask) -> None:
        super().__init__()
        self._app = app

    def init_spec(self, spec: APISpec) -> None:
        """Register the scheme of tokens."""
        super().init_spec(spec)
        spec.components.security_scheme(TOKEN, {"type": "http", "scheme": "bearer"})

    def operation_helper(
        self, path: str | None = None, operations: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """Called for each path."""
        rule: Rule = options["rule"]
        for method, operation in (operations or {}).items():
            need = need_of(self._app, rule.endpoint, method.upper())
            names = [] if need in (None, SIGNED_IN) else [need]
            operation["security"] = [] if need == PUBLIC else [{TOKEN: names}]
            responses = operation.setdefault("responses", {})
            named = {int(status) for status, answer in responses.items() if isinstance(answer, str)}
            described = {int(status) for status in responses} - named
            for status in sorted(named | (_errors(method, operation, bool(rule.arguments), need) - described)):
                responses[status] = _name(status)


def _errors(method: str, operation: dict[str, Any], about_one: bool, need: str | None) -> set[int]:
    """The statuses of the errors that an operation can answer with."""
    places = {one["in"] for one in operation.get("parameters", [])}
    found = {401, 403, 429, 500, 503}
    found |= {404} if about_one else set()
    found |= {422} if places or "requestBody" in operation else set()
    if method in _UNSAFE:
        found |= {400, 409, 413, 415}
    if "header" in places:
        found.add(412)
    return found


def _name(status: int) -> str:
    return "".join(part.capitalize() for part in TYPES[status].split("-"))


def describe_errors(spec: APISpec) -> None:
    """Put the errors into the components: one shape for all."""
    spec.components.schema("Problem", schema=ProblemSchema)
    shape = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for status, words in _WORDS.items():
        headers = {"headers": {"Retry-After": RETRY_AFTER, "RateLimit": RATE_LIMIT}} if status == 429 else {}
        spec.components.response(_name(status), {"description": words, "content": shape, **headers})
