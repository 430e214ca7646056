"""The first page: what is alive; and the same for programs."""

from __future__ import annotations

import time
from ipaddress import ip_address

from flask import Blueprint, abort, current_app, g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from ezadmin_cmdb.elastic import elastic
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.rights.permissions import STATUS_VIEW
from ezadmin_cmdb.status import firststeps, metrics, services
from ezadmin_cmdb.web.access import needs, public, signed_in
from ezadmin_cmdb.web.signin import current_actor

bp = Blueprint("status", __name__)
HIDDEN = "first_steps"
"""The cookie of a browser that need not see them."""


def look() -> services.Status:
    """The status, as the signed-in user may see it."""
    settings = current_app.extensions["ezadmin_settings"]
    return services.look(current_actor(), settings.names, elastic(), current_app.extensions["ezadmin_kafka"])


@bp.get("/")
@signed_in
def home() -> str:
    """The first page; without the permission to see the status, what to do."""
    found = look() if rights.may(current_actor(), STATUS_VIEW) else None
    hidden = request.cookies.get(HIDDEN) == "hidden"
    steps = [] if hidden else firststeps.of(current_actor(), current_app.extensions["ezadmin_settings"])
    return render_template("status/home.html", status=found, first_steps=steps)


@bp.post("/first-steps/hide")
@signed_in
def hide_first_steps() -> Response:
    """Do not show the first steps in this browser again."""
    answer = redirect(url_for("status.home"))
    answer.set_cookie(
        HIDDEN, "hidden", max_age=365 * 24 * 3600, samesite="Lax", httponly=True,
        secure=bool(current_app.config["SESSION_COOKIE_SECURE"]),
    )  # fmt: skip
    return answer


@bp.get("/status")
@needs(STATUS_VIEW)
def status() -> str:
    """The part of it that renews itself."""
    return render_template("status/_status.html", status=look())


@bp.get("/healthz")
@public
def healthz() -> str:
    """Whether this process answers; for supervisors and load balancers."""
    return "ok\n"


@bp.get("/metrics")
@public
def local_metrics() -> Response:
    """Figures for a Prometheus on this machine; from elsewhere, with a token, see :func:`api_metrics`."""
    address = request.remote_addr
    here = address is not None and ip_address(address).is_loopback
    if not here or "X-Forwarded-For" in request.headers or "Forwarded" in request.headers:
        abort(404)
    return _metrics()


@bp.get("/api/v1/metrics")
@needs(STATUS_VIEW)
def api_metrics() -> Response:
    """Figures for a Prometheus that has a token."""
    return _metrics()


def _metrics() -> Response:
    settings = current_app.extensions["ezadmin_settings"]
    found = metrics.text(settings.names, current_app.extensions["ezadmin_kafka"])
    return Response(found, content_type="text/plain; version=0.0.4; charset=utf-8")


@bp.after_app_request
def _count(response: Response) -> Response:
    route = metrics.route_of(request.path, request.endpoint)
    now = time.monotonic()
    metrics.REQUESTS.count(route, response.status_code, now - g.get("started", now))
    return response
