"""One request, one unit of work: what it did is committed once at its end, or, after an error, not at all."""

from __future__ import annotations

import logging
import time
import uuid

from flask import Flask, abort, g, request
from flask_wtf.csrf import CSRFProtect
from werkzeug.wrappers import Response

from ezadmin_cmdb.database import db
from ezadmin_cmdb.web import sockets

_log = logging.getLogger("ezadmin_cmdb.web")
FILE_MAX = 17 << 20
UNSAFE = {"POST", "PUT", "PATCH", "DELETE"}

CONTENT_SECURITY_POLICY = "; ".join([
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",  # Bootstrap's stylesheet draws its small icons so
    "connect-src 'self' {sockets}",
    "form-action 'self'",
    "frame-ancestors 'none'",
    "base-uri 'none'",
])  # fmt: skip
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


csrf = CSRFProtect()


def init_app(app: Flask) -> None:
    """Begin, secure and end requests."""
    app.url_value_preprocessor(_allow_files)  # before the token of the form is looked for, which reads the request
    app.before_request(_begin)  # before the check of the token, whose refusals have a number and are logged, too
    csrf.init_app(app)
    app.after_request(_end)
    app.after_request(_secure)


def _allow_files(endpoint: str | None, values: dict[str, object] | None) -> None:
    """An import, and what is done to many objects at once, may be larger than any other request."""
    if endpoint is not None and endpoint.endswith((".import_file", ".bulk")):
        request.max_content_length = FILE_MAX


def _begin() -> None:
    g.request_id = str(uuid.uuid4())
    g.started = time.monotonic()
    if request.method in UNSAFE and _from_elsewhere():
        abort(403)


def _from_elsewhere() -> bool:
    """Whether another site's page sent this; beside the token of the forms, which browsers know nothing of."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = request.headers.get("Origin")
    return origin is not None and origin != request.host_url.rstrip("/")


def _end(response: Response) -> Response:
    if g.get("failed"):
        db.session.rollback()
        if not g.get("database_down"):
            db.session.commit()  # denials, and what else must be told of although the request failed
    else:
        g.failed = True  # if the commit fails, the error page must not commit again
        db.session.commit()
        g.failed = False
    if request.endpoint != "static":
        _log.info(
            "%s %s %d", request.method, request.path, response.status_code,
            extra={"fields": {
                "http.request.id": g.get("request_id"),
                "http.response.status_code": response.status_code,
                "event.duration_ms": round(1000 * (time.monotonic() - g.get("started", time.monotonic()))),
                "client.ip": request.remote_addr,
            }},
        )  # fmt: skip
    return response


def _secure(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    policy = CONTENT_SECURITY_POLICY.format(sockets=sockets.origin())
    response.headers.setdefault("Content-Security-Policy", policy)
    if (quota := g.get("quota")) is not None:
        response.headers.extend(quota.headers)
    if response.status_code == 401 and request.path.startswith("/api/"):
        response.headers.setdefault("WWW-Authenticate", 'Bearer realm="ezadmin"')
    if request.is_secure:
        response.headers.setdefault("Strict-Transport-Security", "max-age=31536000")
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"  # a page of one user is nobody else's
    return response
