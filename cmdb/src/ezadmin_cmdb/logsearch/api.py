"""The REST API of log search: the same searches as on the page, for programs."""

# mypy: disable-error-code="untyped-decorator"
# (flask-smorest ships no types)
from __future__ import annotations

from typing import Any

from flask import Response, current_app
from flask_babel import gettext as _
from flask_smorest import Blueprint
from marshmallow import Schema, fields, validate
from sqlalchemy import or_

from ezadmin_cmdb.database import db
from ezadmin_cmdb.elastic import elastic
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.hosts.services import visible
from ezadmin_cmdb.logsearch import export as exporting
from ezadmin_cmdb.logsearch import services, values
from ezadmin_cmdb.logsearch.services import Search
from ezadmin_cmdb.settings import Settings
from ezadmin_cmdb.web.access import needs
from ezadmin_cmdb.web.signin import current_actor

bp = Blueprint("api_logs", __name__, url_prefix="/api/v1/logs", description="Search in the events of hosts")
HOSTS_NAMED = 500


class LogSearchedSchema(Schema):
    """What is searched."""

    q = fields.String(load_default="", metadata={"description": "the query, see docs/log-search.md; empty: everything"})
    since = fields.String(
        load_default="now-1h", data_key="from",
        metadata={"description": "now-1h, now/d, 2026-11-25, 2026-11-25T10:30Z; UTC if it names no zone"},
    )  # fmt: skip
    until = fields.String(
        load_default="now", data_key="to", metadata={"description": "as from; a day or minute that is named is within"}
    )
    host = fields.List(
        fields.String(), load_default=list, validate=validate.Length(max=HOSTS_NAMED),
        metadata={"description": "only this host, by id or name; again for more"},
    )  # fmt: skip


class LogHealthSchema(Schema):
    """How whole an answer is."""

    whole = fields.Boolean(metadata={"description": "false: something is missing, the other members say why"})
    took_ms = fields.Integer()
    timed_out = fields.Boolean()
    shards = fields.Integer()
    shards_failed = fields.Integer()
    reasons = fields.List(fields.String())


class LogEventSchema(Schema):
    """An event."""

    id = fields.String()
    index = fields.String(metadata={"description": "with id what context wants to know"})
    time = fields.AwareDateTime(format="iso")
    level = fields.String(metadata={"description": "one of the levels, unknown if it names none of them"})
    source = fields.Dict(keys=fields.String(), metadata={"description": "the whole document, see docs/contracts.md"})


class LogHitsQuerySchema(LogSearchedSchema):
    """A search for events."""

    sort = fields.String(load_default="desc", validate=validate.OneOf(["desc", "asc"]))
    size = fields.Integer(load_default=100, validate=validate.Range(1, services.SIZE_MAX))
    after = fields.String(metadata={"description": "next of the page before, for the events that follow"})


class LogPageSchema(Schema):
    """Some events by time."""

    items = fields.List(fields.Nested(LogEventSchema), attribute="hits")
    total = fields.Integer()
    total_is_lower_bound = fields.Boolean(metadata={"description": "there are more than total"})
    next = fields.String(allow_none=True, metadata={"description": "null: there are no more"})
    health = fields.Nested(LogHealthSchema)


class LogHistogramQuerySchema(LogSearchedSchema):
    """A search of which the events are counted."""

    buckets = fields.Integer(load_default=services.BUCKETS, validate=validate.Range(1, 1000))


class LogBucketSchema(Schema):
    """The events of a while."""

    start = fields.AwareDateTime(format="iso")
    counts = fields.Dict(keys=fields.String(), values=fields.Integer(), metadata={"description": "by level"})


class LogHistogramSchema(Schema):
    """Events by time and level."""

    buckets = fields.List(fields.Nested(LogBucketSchema))
    seconds = fields.Integer(metadata={"description": "how long a bucket is"})
    total = fields.Integer()
    source = fields.String(
        metadata={"description": "rollup: read from the pipeline's counts, but for the last minutes; raw: counted now"}
    )
    health = fields.Nested(LogHealthSchema)


class LogValuesQuerySchema(LogSearchedSchema):
    """A search, and the field of which the values are asked for."""

    field = fields.String(required=True, validate=validate.Length(1, 256))
    size = fields.Integer(load_default=values.TOP, validate=validate.Range(1, 100))


class LogValueSchema(Schema):
    """A value."""

    value = fields.String()
    count = fields.Integer()
    share = fields.Float(metadata={"description": "of all events of the search, 0 to 1"})


class LogValuesSchema(Schema):
    """The most frequent values of a field."""

    field = fields.String()
    values = fields.List(fields.Nested(LogValueSchema))
    events = fields.Integer(metadata={"description": "events of the search"})
    exact = fields.Boolean(metadata={"description": "false: estimated from a sample"})
    sampled = fields.Integer(metadata={"description": "events of the sample"})
    with_field = fields.Integer(metadata={"description": "events that have the field"})
    health = fields.Nested(LogHealthSchema)


class LogContextQuerySchema(Schema):
    """An event, and how much around it."""

    index = fields.String(required=True)
    id = fields.String(required=True)
    before = fields.Integer(load_default=20, validate=validate.Range(0, services.LINES_MAX))
    after = fields.Integer(load_default=20, validate=validate.Range(0, services.LINES_MAX))
    widen = fields.String(
        load_default="file", validate=validate.OneOf(["file", "host", "scope"]),
        metadata={"description": "lines of the same host and file, of the same host, or of all hosts that one may see"},
    )  # fmt: skip


class LogContextSchema(Schema):
    """The events around one, the oldest first."""

    items = fields.List(fields.Nested(LogEventSchema), attribute="lines")
    anchor = fields.Integer(metadata={"description": "the place of the event itself, from 0 on"})
    same = fields.Dict(keys=fields.String(), values=fields.String(), metadata={"description": "what all share"})
    more_before = fields.Boolean()
    more_after = fields.Boolean()
    health = fields.Nested(LogHealthSchema)


class LogExportQuerySchema(LogSearchedSchema):
    """A search of which all events are exported."""

    format = fields.String(load_default="ndjson", validate=validate.OneOf(["ndjson", "csv"]))
    columns = fields.List(
        fields.String(), load_default=list, metadata={"description": "fields; none: NDJSON has whole documents"}
    )
    sort = fields.String(load_default="desc", validate=validate.OneOf(["desc", "asc"]))
    limit = fields.Integer(validate=validate.Range(min=1), metadata={"description": "at most so many lines"})


def _settings() -> Settings:
    settings: Settings = current_app.extensions["ezadmin_settings"]
    return settings


def _search(asked: dict[str, Any]) -> Search:
    hosts = _hosts(asked["host"]) if asked["host"] else None
    return services.prepare(current_actor(), asked["q"], asked["since"], asked["until"], hosts=hosts)


def _hosts(wanted: list[str]) -> list[str]:
    rows = visible(current_actor(), services.VIEW).where(or_(Host.id.in_(wanted), Host.name.in_(wanted)))
    found = list(db.session.scalars(rows))
    known = {one.id for one in found} | {one.name.casefold() for one in found}
    if missing := [one for one in wanted if one.casefold() not in known]:
        raise Invalid(_("There is no host %(name)s, or it is not yours to see.", name=missing[0][:100]), "host")
    return [one.id for one in found]


@bp.route("/search")
@bp.arguments(LogHitsQuerySchema, location="query")
@bp.response(200, LogPageSchema)
@needs(services.VIEW)
def search(asked: dict[str, Any]) -> services.Page:
    """The events of a search, page by page, each once.

    An error in q says in position and length where it is.
    """
    return services.search(
        elastic(), _settings().names, _search(asked), size=asked["size"], after=asked.get("after"), sort=asked["sort"],
        key=_settings().secret_key(),
    )  # fmt: skip


@bp.route("/histogram")
@bp.arguments(LogHistogramQuerySchema, location="query")
@bp.response(200, LogHistogramSchema)
@needs(services.VIEW)
def histogram(asked: dict[str, Any]) -> services.Histogram:
    """How many events there are, by time and level; exact."""
    return services.histogram(elastic(), _settings().names, _search(asked), buckets=asked["buckets"])


@bp.route("/values", endpoint="values")
@bp.arguments(LogValuesQuerySchema, location="query")
@bp.response(200, LogValuesSchema)
@needs(services.VIEW)
def top_values(asked: dict[str, Any]) -> values.TopValues:
    """The most frequent values of a field among the events of a search."""
    return values.top_values(elastic(), _settings().names, _search(asked), asked["field"], size=asked["size"])


@bp.route("/context")
@bp.arguments(LogContextQuerySchema, location="query")
@bp.response(200, LogContextSchema)
@bp.alt_response(404, "problem")
@needs(services.VIEW)
def context(asked: dict[str, Any]) -> services.Context:
    """The events before and after one."""
    return services.context(
        elastic(), _settings().names, services.scope_of(current_actor()), asked["index"], asked["id"],
        before=asked["before"], after=asked["after"], widen=asked["widen"],
    )  # fmt: skip


@bp.route("/export")
@bp.arguments(LogExportQuerySchema, location="query")
@bp.response(200, {"type": "string"}, content_type="application/x-ndjson", description="a line for each event")
@needs(services.VIEW)
def export(asked: dict[str, Any]) -> Response:
    """All events of a search, however many, as they are read.

    If something fails on the way, the connection is broken off: an answer that ends as it should is whole.
    """
    kind: exporting.Format = asked["format"]
    lines = exporting.export(
        elastic(), _settings().names, _search(asked), columns=asked["columns"], format=kind, sort=asked["sort"],
        limit=asked.get("limit"),
    )  # fmt: skip
    answer = Response(lines, content_type=exporting.MEDIA_TYPES[kind])
    answer.headers["Content-Disposition"] = f'attachment; filename="logs.{kind}"'
    return answer
