"""Errors: pages for browsers, problem details (RFC 9457) in the API."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from flask import Flask, g, json, render_template, request
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from werkzeug.exceptions import HTTPException, InternalServerError
from werkzeug.wrappers import Response

from ezadmin_cmdb.database import NO_SUCH_TABLE, error_code, unavailable
from ezadmin_cmdb.elastic import ElasticUnavailable
from ezadmin_cmdb.errors import DomainError, Invalid
from ezadmin_cmdb.web.i18n import locale
from ezadmin_cmdb.web.schemas import MEDIA_TYPE, problem_type
from ezadmin_cmdb.web.signin import API

_log = logging.getLogger(__name__)
Wrong = list[tuple[str, str]]
"""(field, what is wrong and what to do)."""

PLAINER = {
    "Missing data for required field.": _l("It is missing. Give it a value."),
    "Field may not be null.": _l("It cannot be null. Give it a value."),
    "Unknown field.": _l("There is nothing of this name here. Take it out, or look how it is written."),
    "Not a valid integer.": _l("Write a whole number."),
    "Not a valid number.": _l("Write a number."),
    "Not a valid string.": _l("Write a text."),
    "Not a valid boolean.": _l("Write true or false."),
    "Not a valid list.": _l("Write a list."),
    "Not a valid mapping type.": _l("Write an object."),
    "Not a valid UUID.": _l("Write a UUID such as 123e4567-e89b-42d3-a456-426614174000."),
    "Not a valid date.": _l("Write a date such as 2026-12-31."),
    "Not a valid datetime.": _l("Write a time such as 2026-12-31T23:59:59Z."),
    "Invalid input type.": _l("Write an object."),
}
"""What marshmallow says, said so that one knows what to do; what has limits in it names them already."""


def init_app(app: Flask) -> None:
    """Answer errors."""
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(DomainError, _domain)
    app.register_error_handler(DBAPIError, _database)
    app.register_error_handler(ElasticUnavailable, _elastic)
    app.register_error_handler(PoolTimeout, _database)
    app.register_error_handler(InternalServerError, _internal)


def texts(status: int) -> tuple[str, str, str]:
    """Of a status: title, what to do on a page, what to do in a program."""
    return {
        400: (
            _("This request cannot be understood"),
            _("Go back, load the page anew and try again."),
            _("Send JSON, and Authorization: Bearer with a token (a browser: its cookie and X-CSRFToken)."),
        ),
        401: (
            _("Please sign in"),
            _("You are not signed in, or your session has ended."),
            _("Send Authorization: Bearer with a token. Tokens are made in Account, API tokens."),
        ),
        403: (
            _("This is not allowed"),
            _("If you need it for your work, ask an administrator."),
            _("The token, or its user, lacks the permission. The reference names the one that is needed."),
        ),
        404: (
            _("There is nothing here"),
            _("It may have been removed, or the address is wrong."),
            _("It may have been removed, or the address is wrong."),
        ),
        405: (
            _("This is not possible here"),
            _("The address is used in a way that it does not know."),
            _("Use one of the methods that the header Allow names."),
        ),
        409: (
            _("This contradicts what is there"),
            _("Go back, load the page anew and try again."),
            _("Read it again, and send what fits to that."),
        ),
        412: (
            _("This was changed meanwhile"),
            _("Go back, load the page anew and try again."),
            _("Read it again, and repeat the change with the new version."),
        ),
        413: (
            _("This is too large"),
            _("Go back and send less at once."),
            _("Send less at once: 1 MiB, and 17 MiB for imports and many objects."),
        ),
        415: (
            _("This type of content is not known here"),
            _("Go back, load the page anew and try again."),
            _("Send Content-Type: application/json; to an import, text/csv."),
        ),
        422: (
            _("A value cannot be used"),
            _("Go back and correct it."),
            _("Correct what errors names, and send it again."),
        ),
        428: (
            _("Say what you have seen"),
            _("Go back, load the page anew and try again."),
            _("Say how many objects you expect, so that nothing goes that you have not seen."),
        ),
        429: (
            _("These were too many requests"),
            _("Wait a little and try again."),
            _("Wait for as many seconds as the header Retry-After says."),
        ),
        500: (
            _("Something went wrong"),
            _("It is written in the log of the web application."),
            _("It is written in the log of the web application, under this request_id."),
        ),
        503: (
            _("This is not available right now"),
            _("Nothing is lost: agents and pipeline go on, and this page works again as soon as what is missing does."),
            _("Try again a little later."),
        ),
    }.get(status) or (HTTPStatus(status).phrase, *[_("It is written in the log of the web application.")] * 2)


def _answer(
    status: int,
    message: str | None = None,
    wrong: Wrong | None = None,
    headers: Iterable[tuple[str, str]] = (),
    members: Mapping[str, Any] | None = None,
    page_title: str | None = None,
) -> Response:
    """An error as a page or, in the API, as a problem; ``members`` are further ones of that."""
    g.failed = True
    title, of_page, of_api = texts(status)
    request_id = g.get("request_id")
    if request.path.startswith(API):
        problem = {
            "type": problem_type(status), "title": title, "status": status, "detail": message or of_api,
            "request_id": request_id,
        }  # fmt: skip
        if wrong:
            problem["errors"] = [{"field": field, "detail": detail} for field, detail in wrong]
        answer = Response(json.dumps(problem | dict(members or {})), status, mimetype=MEDIA_TYPE)
        answer.headers["Content-Language"] = locale()
    else:
        page = render_template(
            "error.html", status=status, title=page_title or title, hint=of_page, message=message,
            request_id=request_id,
        )  # fmt: skip
        answer = Response(page, status, mimetype="text/html")
    answer.headers.extend(list(headers))
    return answer


def _http(error: HTTPException) -> Response | HTTPException:
    status = error.code or 500
    if status < 400:
        return error  # a redirect
    wrong: Wrong = []
    for place, part in (getattr(error, "data", {}).get("messages") or {}).items():  # of flask-smorest: {"query": {…}}
        _flatten(part, "", place, wrong)
    headers = [(name, value) for name, value in error.get_headers() if name.lower() != "content-type"]
    return _answer(status, wrong=wrong, headers=headers)


def _flatten(part: Any, name: str, place: str, into: Wrong) -> None:
    """Texts by the path of the value: ``{"set": {"width": ["…"]}}`` is ``("set.width", "…")``."""
    if isinstance(part, dict):
        for key, one in part.items():
            _flatten(one, f"{name}.{key}" if name and key != "_schema" else name or str(key), place, into)
    else:
        said = part if isinstance(part, list) else [part]
        into += [(place if name in ("", "_schema") else name, str(PLAINER.get(str(one), one))) for one in said]


def _domain(error: DomainError) -> Response:
    wrong = list(error.fields.items()) if isinstance(error, Invalid) else None
    return _answer(error.status, str(error), wrong, error.headers.items(), error.members)


def _database(error: DBAPIError | PoolTimeout) -> Response:
    g.database_down = isinstance(error, PoolTimeout) or unavailable(error)
    if g.database_down:
        _log.error("the database does not answer: %s", error)
        silent = _("The database does not answer")
        return _answer(503, silent if request.path.startswith(API) else None, page_title=silent)
    if isinstance(error, DBAPIError) and error_code(error) == NO_SUCH_TABLE:
        return _answer(500, _("The database is not up to date. Run: ezadmin-cmdb db upgrade"))
    _log.error("the database refused", exc_info=error)
    return _answer(500)


def _elastic(error: ElasticUnavailable) -> Response:
    return _answer(503, _("Elasticsearch does not answer: %(error)s", error=str(error)))


def _internal(error: InternalServerError) -> Response:
    original = error.original_exception
    if isinstance(original, (DBAPIError, PoolTimeout)):  # of the commit at the request's end
        return _database(original)
    return _answer(500)  # Flask has logged it
