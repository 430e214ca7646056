"""The REST API and its OpenAPI description. It calls the services that the pages call."""

# mypy: disable-error-code="untyped-decorator"
# (flask-smorest ships no types)
from __future__ import annotations

from typing import Any

from flask import Flask, abort, current_app, request
from flask_smorest import Api, Blueprint
from marshmallow import Schema, fields

from ezadmin_cmdb import __version__
from ezadmin_cmdb.accounts import api as account_api
from ezadmin_cmdb.datacenter import api as datacenter
from ezadmin_cmdb.describe import api as described
from ezadmin_cmdb.describe import description as descriptions
from ezadmin_cmdb.elastic import elastic
from ezadmin_cmdb.events import services as events
from ezadmin_cmdb.filters.api import bp as saved_filters
from ezadmin_cmdb.hosts import api as host_values
from ezadmin_cmdb.hosts import schemas as hosts
from ezadmin_cmdb.hosts import services as host_services
from ezadmin_cmdb.metrics import services as metrics
from ezadmin_cmdb.rights.permissions import EVENTS_VIEW, METRICS_VIEW, STATUS_VIEW
from ezadmin_cmdb.status.services import Status
from ezadmin_cmdb.status.views import look
from ezadmin_cmdb.web.access import needs, public
from ezadmin_cmdb.web.openapi import Common, describe_errors
from ezadmin_cmdb.web.signedhosts import requesting_host
from ezadmin_cmdb.web.signin import API, current_actor
from ezadmin_wire.names import Names


class EzadminApi(Api):  # type: ignore[misc]
    """flask-smorest with the application's own errors."""

    DEFAULT_ERROR_RESPONSE_NAME = None  # each operation says with which errors it can answer: see web.openapi

    def _register_error_handlers(self) -> None:
        """Left to :mod:`ezadmin_cmdb.web.errors`, which answers pages and API."""


class PartSchema(Schema):
    """A part that is judged."""

    name = fields.String()
    state = fields.String()
    text = fields.String()
    advice = fields.String()


class AgentsSchema(Schema):
    """How many hosts report."""

    hosts = fields.Integer()
    reporting = fields.Integer()
    silent = fields.Integer()
    never = fields.Integer()
    inactive = fields.Integer()


class StatusSchema(Schema):
    """What is alive."""

    state = fields.String()
    parts = fields.List(fields.Nested(PartSchema))
    agents = fields.Nested(AgentsSchema)
    newest = fields.Dict(keys=fields.String(), values=fields.AwareDateTime(format="iso", allow_none=True))


class ArrivalSchema(Schema):
    """Whether an event is in Elasticsearch, and since when."""

    arrived = fields.Boolean()
    ingested = fields.AwareDateTime(format="iso", allow_none=True)


bp = Blueprint("api", __name__, url_prefix="/api/v1", description="Hosts, their figures and events")


CSV = ("text/csv", "application/octet-stream", "")


def _check_type() -> None:
    """A body of another type would be passed over, and what it says be missed."""
    empty = not request.content_length and not request.environ.get("HTTP_TRANSFER_ENCODING")
    if request.endpoint is None or not request.path.startswith(API) or empty:
        return
    if not (request.mimetype in CSV if request.endpoint.endswith(".import_file") else request.is_json):
        abort(415)


def _names() -> Names:
    names: Names = current_app.extensions["ezadmin_settings"].names
    return names


@bp.route("/status")
@bp.response(200, StatusSchema)
@needs(STATUS_VIEW)
def status() -> Status:
    """What is alive."""
    return look()


@bp.route("/hosts/<uuid:host_id>/metrics/latest")
@bp.response(200, hosts.LatestSchema(many=True))
@needs(METRICS_VIEW)
def latest(host_id: object) -> list[metrics.Latest]:
    """The newest figures of every dataset of a host."""
    found = host_services.find(current_actor(), str(host_id), METRICS_VIEW)
    return metrics.latest(elastic(), _names(), found.id)


@bp.route("/hosts/<uuid:host_id>/text")
@bp.arguments(hosts.TextQuerySchema, location="query")
@bp.response(200, {"type": "string"}, content_type="text/plain", description="lines of text for a terminal")
@needs(METRICS_VIEW)
def as_text(query: dict[str, Any], host_id: object) -> Any:
    """All figures of a host as plain text, each with its unit and marked by its threshold: ! warning, !! critical, ? old."""
    from ezadmin_cmdb.hosts.views import plain_text  # it is registered after the API

    return plain_text(str(host_id))


@bp.route("/hosts/<uuid:host_id>/events")
@bp.arguments(hosts.EventQuerySchema, location="query")
@bp.response(200, hosts.EventSchema(many=True))
@needs(EVENTS_VIEW)
def event_list(query: dict[str, Any], host_id: object) -> list[events.Event]:
    """The newest events of a host, the newest first."""
    found = host_services.find(current_actor(), str(host_id), EVENTS_VIEW)
    return events.recent(elastic(), _names(), found.id, query["limit"])


@bp.route("/hosts/<uuid:host_id>/arrivals/<event_id>")
@bp.response(200, ArrivalSchema)
@public
def arrival(host_id: object, event_id: str) -> dict[str, Any]:
    """Whether an event has arrived in Elasticsearch; for the host itself, which signs the request with its key."""
    found = requesting_host(str(host_id))
    ingested = events.arrived(elastic(), _names(), found.id, event_id)
    return {"arrived": ingested is not None, "ingested": ingested}


def init_app(app: Flask) -> None:
    """Serve the API and, at ``/api/v1/openapi.json``, its description."""
    app.config.update(
        API_TITLE="ezadmin",
        API_VERSION=__version__,
        OPENAPI_VERSION="3.1.0",
        OPENAPI_URL_PREFIX="/api/v1",
        OPENAPI_JSON_PATH="openapi.json",
    )
    from ezadmin_cmdb.alerts.views import api as alert_api
    from ezadmin_cmdb.commands.views import api as command_api
    from ezadmin_cmdb.enrolment.views import api as enrolment_api
    from ezadmin_cmdb.logsearch.alert_api import bp as log_alert_api
    from ezadmin_cmdb.logsearch.api import bp as log_api
    from ezadmin_cmdb.notifications.views import api as notification_api
    from ezadmin_cmdb.search.views import api as search_api  # it shows hosts, whose description is known by now
    from ezadmin_cmdb.thresholds.views import api as threshold_api
    from ezadmin_cmdb.webhooks.views import api as webhook_api

    app.before_request(_check_type)
    api = EzadminApi(app, spec_kwargs={"extra_plugins": [Common(app)]})
    describe_errors(api.spec)
    api.register_blueprint(bp)
    api.register_blueprint(datacenter.bp)
    api.register_blueprint(account_api.bp)
    api.register_blueprint(host_values.bp)
    api.register_blueprint(enrolment_api)
    api.register_blueprint(search_api)
    api.register_blueprint(log_api)
    api.register_blueprint(log_alert_api)
    api.register_blueprint(command_api)
    api.register_blueprint(webhook_api)
    api.register_blueprint(notification_api)
    api.register_blueprint(alert_api)
    api.register_blueprint(threshold_api)
    api.register_blueprint(saved_filters)
    for description in descriptions.known():
        api.register_blueprint(described.blueprint(description))
