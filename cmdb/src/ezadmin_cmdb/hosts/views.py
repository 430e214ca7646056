"""Pages of hosts."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, current_app, render_template

from ezadmin_cmdb.describe import pages
from ezadmin_cmdb.elastic import ElasticUnavailable, elastic
from ezadmin_cmdb.events import services as events
from ezadmin_cmdb.hosts import services
from ezadmin_cmdb.hosts.description import HOST
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.metrics import presentation
from ezadmin_cmdb.metrics import services as metrics
from ezadmin_cmdb.rights.permissions import EVENTS_VIEW, METRICS_VIEW
from ezadmin_cmdb.settings import Settings
from ezadmin_cmdb.web.access import needs
from ezadmin_cmdb.web.signin import current_actor

bp = Blueprint("hosts", __name__, url_prefix="/hosts")
EVENTS_SHOWN = 50
pages.add(bp, HOST, ("index", "filter", "export", "options", "edit", "history"))


def _settings() -> Settings:
    settings: Settings = current_app.extensions["ezadmin_settings"]
    return settings


@bp.get("/<object_id>")
@needs(services.HOST_VIEW)
def show(object_id: str) -> str:
    """One host."""
    host = services.find(current_actor(), object_id)
    return render_template(
        "hosts/show.html", host=host, liveness=services.liveness(host), grafana=_settings().grafana_url,
        may_change=services.may(current_actor(), services.HOST_CHANGE, host), **_live(host),
    )  # fmt: skip


@bp.get("/<object_id>/live")
@needs(services.HOST_VIEW)
def live(object_id: str) -> str:
    """The part of a host's page that renews itself: figures and events."""
    host = services.find(current_actor(), object_id)
    return render_template("hosts/_live.html", host=host, **_live(host))


def _live(host: Host) -> dict[str, Any]:
    names, actor = _settings().names, current_actor()
    figures, logs = (services.may(actor, permission, host) for permission in (METRICS_VIEW, EVENTS_VIEW))
    try:
        found = metrics.latest(elastic(), names, host.id) if figures else []
        recent = events.recent(elastic(), names, host.id, EVENTS_SHOWN) if logs else []
    except ElasticUnavailable as error:
        return {"missing": str(error), "figures": figures, "logs": logs}
    return {
        "missing": None,
        "figures": figures,
        "logs": logs,
        "newest": max((one.time for one in found), default=None),
        "values": presentation.host_values(found),
        "groups": presentation.groups(found),
        "tables": presentation.tables(found),
        "events": recent,
    }
