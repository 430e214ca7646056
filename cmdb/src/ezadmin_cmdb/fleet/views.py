"""The page of all hosts, and the rows with which it renews itself."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, current_app, render_template, request
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response

from ezadmin_cmdb.describe import pages
from ezadmin_cmdb.describe import query as queries
from ezadmin_cmdb.elastic import elastic
from ezadmin_cmdb.fleet import services
from ezadmin_cmdb.hosts.description import HOST
from ezadmin_cmdb.hosts.services import HOST_VIEW
from ezadmin_cmdb.web.access import needs
from ezadmin_cmdb.web.signin import current_actor

bp = Blueprint("fleet", __name__, url_prefix="/fleet")


def _asked() -> queries.Query:
    """The words and filters of the address, as the list of hosts has them; order and pages are the table's own."""
    given: MultiDict[str, str] = request.args
    return queries.parse(HOST, [pair for pair in given.items(multi=True) if pair[0] not in ("sort", "page", "size")])


def _rows() -> dict[str, Any]:
    names = current_app.extensions["ezadmin_settings"].names
    return services.compact(services.look(current_actor(), elastic(), names, _asked()))


@bp.get("/")
@needs(HOST_VIEW)
def show() -> str:
    """All hosts in one table."""
    query = _asked()
    return render_template("fleet/show.html", d=HOST, query=query, chips=pages.Pages(HOST).chips(query))


@bp.get("/rows")
@needs(HOST_VIEW)
def rows() -> Response:
    """The rows of the table."""
    answer = Response(current_app.json.dumps(_rows(), separators=(",", ":")), mimetype="application/json")
    answer.headers["Cache-Control"] = "no-store"
    return answer
