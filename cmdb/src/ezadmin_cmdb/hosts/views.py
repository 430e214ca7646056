"""Pages of hosts."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, current_app, render_template, request

from ezadmin_cmdb.elastic import ElasticUnavailable, elastic
from ezadmin_cmdb.events import services as events
from ezadmin_cmdb.hosts import listing, services
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.metrics import presentation
from ezadmin_cmdb.metrics import services as metrics
from ezadmin_cmdb.settings import Settings
from ezadmin_cmdb.web.signin import current_actor

bp = Blueprint("hosts", __name__, url_prefix="/hosts")
EVENTS_SHOWN = 50


def _settings() -> Settings:
    settings: Settings = current_app.extensions["ezadmin_settings"]
    return settings


@bp.get("/")
def index() -> str:
    """The list of hosts; only its table for a search as one types."""
    words, sort = request.args.get("q", ""), request.args.get("sort", "name")
    descending, page = request.args.get("order") == "desc", request.args.get("page", 1, int)
    found = listing.search(current_actor(), words, sort, descending, page)
    pulses, missing = _pulses(found)
    template = "hosts/_table.html" if request.headers.get("HX-Target") == "hosts" else "hosts/index.html"
    return render_template(
        template, found=found, pulses=pulses, missing=missing, words=words, sort=sort, descending=descending,
        liveness=services.liveness,
    )  # fmt: skip


def _pulses(found: listing.Listing) -> tuple[dict[str, metrics.Pulse], str | None]:
    try:
        return metrics.pulses(elastic(), _settings().names, [host.id for host in found.hosts]), None
    except ElasticUnavailable as error:
        return {}, str(error)


@bp.get("/<host_id>")
def show(host_id: str) -> str:
    """One host."""
    host = services.find(current_actor(), host_id)
    return render_template(
        "hosts/show.html", host=host, liveness=services.liveness(host), grafana=_settings().grafana_url, **_live(host)
    )


@bp.get("/<host_id>/live")
def live(host_id: str) -> str:
    """The part of a host's page that renews itself: figures and events."""
    host = services.find(current_actor(), host_id)
    return render_template("hosts/_live.html", host=host, **_live(host))


def _live(host: Host) -> dict[str, Any]:
    names = _settings().names
    try:
        found = metrics.latest(elastic(), names, host.id)
        recent = events.recent(elastic(), names, host.id, EVENTS_SHOWN)
    except ElasticUnavailable as error:
        return {"missing": str(error)}
    return {
        "missing": None,
        "newest": max((one.time for one in found), default=None),
        "values": presentation.host_values(found),
        "groups": presentation.groups(found),
        "tables": presentation.tables(found),
        "events": recent,
    }
