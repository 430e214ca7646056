"""The first page: what is alive."""

from __future__ import annotations

from flask import Blueprint, current_app, render_template

from ezadmin_cmdb.elastic import elastic
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.rights.permissions import STATUS_VIEW
from ezadmin_cmdb.status import services
from ezadmin_cmdb.web.access import needs, public, signed_in
from ezadmin_cmdb.web.signin import current_actor

bp = Blueprint("status", __name__)


def look() -> services.Status:
    """The status, as the signed-in user may see it."""
    settings = current_app.extensions["ezadmin_settings"]
    return services.look(current_actor(), settings.names, elastic(), current_app.extensions["ezadmin_kafka"])


@bp.get("/")
@signed_in
def home() -> str:
    """The first page; without the permission to see the status, what to do."""
    found = look() if rights.may(current_actor(), STATUS_VIEW) else None
    return render_template("status/home.html", status=found)


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
