"""Error pages, and the one shape of errors in the API.

``{"error": {"status": 404, "code": "not_found", "message": "…", "request_id": "…", "details": {"name": ["…"]}}}``;
``details`` only where values of the request are wrong.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from flask import Flask, g, render_template, request
from flask_babel import gettext as _
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException, InternalServerError
from werkzeug.wrappers import Response

from ezadmin_cmdb.database import NO_SUCH_TABLE, error_code, unavailable
from ezadmin_cmdb.elastic import ElasticUnavailable
from ezadmin_cmdb.errors import DomainError, Invalid
from ezadmin_cmdb.web.signin import API

_log = logging.getLogger(__name__)
Answer = tuple[Any, int]


def init_app(app: Flask) -> None:
    """Answer errors."""
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(DomainError, _domain)
    app.register_error_handler(DBAPIError, _database)
    app.register_error_handler(ElasticUnavailable, _elastic)
    app.register_error_handler(PoolTimeout, _database)
    app.register_error_handler(InternalServerError, _internal)


def _texts(status: int) -> tuple[str, str]:
    """Title and what to do, for a status."""
    return {
        400: (_("This request cannot be understood"), _("Go back, load the page anew and try again.")),
        401: (_("Please sign in"), _("You are not signed in, or your session has ended.")),
        403: (_("This is not allowed"), _("If you need it for your work, ask an administrator.")),
        404: (_("There is nothing here"), _("It may have been removed, or the address is wrong.")),
        405: (_("This is not possible here"), _("The address is used in a way that it does not know.")),
        409: (_("This contradicts what is there"), _("Go back, load the page anew and try again.")),
        412: (_("This was changed meanwhile"), _("Go back, load the page anew and try again.")),
        422: (_("A value cannot be used"), _("Go back and correct it.")),
        503: (
            _("The database does not answer"),
            _("Nothing is lost: agents and pipeline go on, and this page works again as soon as the database does."),
        ),
    }.get(status, (_("Something went wrong"), _("It is written in the log of the web application.")))


def _answer(status: int, message: str | None = None, details: dict[str, Any] | None = None) -> Answer:
    g.failed = True
    title, hint = _texts(status)
    request_id = g.get("request_id")
    if request.path.startswith(API):
        error = {"status": status, "code": _code(status), "message": message or title, "request_id": request_id}
        return {"error": error | ({"details": details} if details else {})}, status
    page = render_template("error.html", status=status, title=title, hint=hint, message=message, request_id=request_id)
    return page, status


def _code(status: int) -> str:
    names = {412: "outdated", 422: "invalid_value", 500: "internal_error", 503: "unavailable"}
    return names.get(status) or HTTPStatus(status).name.lower()


def _http(error: HTTPException) -> Answer | HTTPException:
    status = error.code or 500
    if status < 400:
        return error  # a redirect
    fields = getattr(error, "data", {}).get("messages")  # of flask-smorest: {"query": {"page": ["…"]}}
    flat: dict[str, list[str]] = {}
    for place, part in (fields or {}).items():
        _flatten(part, "", place, flat)
    return _answer(status, details=flat)


def _flatten(part: Any, name: str, place: str, into: dict[str, list[str]]) -> None:
    """Texts by the path of the value: ``{"set": {"width": ["…"]}}`` is ``{"set.width": ["…"]}``."""
    if isinstance(part, dict):
        for key, one in part.items():
            _flatten(one, f"{name}.{key}" if name else str(key), place, into)
    else:
        texts = part if isinstance(part, list) else [part]
        into.setdefault(name or place, []).extend(map(str, texts))


def _domain(error: DomainError) -> Answer:
    details = {name: [text] for name, text in error.fields.items()} if isinstance(error, Invalid) else None
    return _answer(error.status, str(error), details)


def _database(error: DBAPIError | PoolTimeout) -> Answer:
    g.database_down = isinstance(error, PoolTimeout) or unavailable(error)
    if g.database_down:
        _log.error("the database does not answer: %s", error)
        return _answer(503)
    if isinstance(error, DBAPIError) and error_code(error) == NO_SUCH_TABLE:
        return _answer(500, _("The database is not up to date. Run: ezadmin-cmdb db upgrade"))
    _log.error("the database refused", exc_info=error)
    return _answer(500)


def _elastic(error: ElasticUnavailable) -> Answer:
    return _answer(503, _("Elasticsearch does not answer: %(error)s", error=str(error)))


def _internal(error: InternalServerError) -> Answer | Response:
    original = error.original_exception
    if isinstance(original, (DBAPIError, PoolTimeout)):  # of the commit at the request's end
        return _database(original)
    return _answer(500)  # Flask has logged it
