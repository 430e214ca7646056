"""The page of logs: its frame, and the parts of it that its script fetches. Without script the frame has the results, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from flask import (
    Blueprint,
    Response,
    current_app,
    flash,
    jsonify,
    redirect,
    render_template,
    request,
    stream_with_context,
    url_for,
)
from flask_babel import gettext as _
from markupsafe import Markup
from werkzeug.wrappers import Response as BaseResponse

from ezadmin_cmdb.elastic import ElasticUnavailable, elastic
from ezadmin_cmdb.errors import DomainError
from ezadmin_cmdb.filters import services as saved
from ezadmin_cmdb.logsearch import export as exporting
from ezadmin_cmdb.logsearch import ignoring, pages, services, values
from ezadmin_cmdb.logsearch.services import Hit, Search
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.rights.permissions import RULES_CHANGE
from ezadmin_cmdb.settings import Settings
from ezadmin_cmdb.web.access import needs
from ezadmin_cmdb.web.i18n import time_zone
from ezadmin_cmdb.web.signin import current_actor
from ezadmin_wire.times import format_time

bp = Blueprint("logs", __name__, url_prefix="/logs")
SHOWN = 100
CONTEXT_LINES, CONTEXT_MAX = 20, services.LINES_MAX
WIDTHS = ("file", "host", "scope")
TOTAL = "Ezadmin-Lines"


def _settings() -> Settings:
    settings: Settings = current_app.extensions["ezadmin_settings"]
    return settings


def _key() -> bytes:
    return _settings().secret_key()


def _search() -> Search:
    return pages.search_of(current_actor(), pages.asked(request.args), time_zone())


def _run() -> str | None:
    run = request.args.get("run")
    return services.opaque(current_actor(), run) if run else None


def _part(template: str, find: Callable[[], Mapping[str, Any]]) -> str:
    """A part of the page; if it cannot be had, what is wrong and what to do, so that the rest of the page stays."""
    try:
        return render_template(template, asked=pages.asked(request.args), pages=pages, **find())
    except (DomainError, ElasticUnavailable) as error:
        return render_template("logs/_failed.html", error=error, down=isinstance(error, ElasticUnavailable))


@bp.get("/")
@needs(services.VIEW)
def search() -> str | BaseResponse:
    """The page. The script fetches what was found; ``plain`` has it at once."""
    actor, found = current_actor(), pages.asked(request.args)
    kept = saved.available(actor, pages.SAVED)
    first = next((one.filter.query for one in kept if one.default), None)
    if not request.args and first is not None:
        return redirect(f"{url_for('.search')}?{first}")
    wrong, period = _checked()
    at_once = "plain" in request.args and wrong is None
    return render_template(
        "logs/search.html", asked=found, pages=pages, chips=pages.chips(found), saved=kept, wrong=wrong, period=period,
        host=pages.host_of(actor, found.host), may_share=rights.may(actor, saved.SHARE), clean=found.query().lstrip("?"),
        results=Markup(results()) if at_once else None, format_time=format_time,  # noqa: S704 - a template's  # nosec B704
    )  # fmt: skip


def _checked() -> tuple[DomainError | None, Any]:
    """What is wrong with the search; the time that it means."""
    try:
        return None, _search().period
    except DomainError as error:
        return error, None


@bp.get("/results")
@needs(services.VIEW)
def results() -> str:
    """The events of a page."""
    return _part("logs/_results.html", _found)


def _found() -> dict[str, Any]:
    found, after = pages.asked(request.args), request.args.get("after")
    page = services.search(
        elastic(), _settings().names, _search(), size=SHOWN, after=after, sort=found.sort, key=_key(), opaque_id=_run()
    )
    return {"page": page, "more": after is not None, "args": {**request.args, "after": page.next}}


@bp.get("/histogram")
@needs(services.VIEW)
def histogram() -> Response:
    """How many events there are, by time and level."""
    search = _search()
    return jsonify(pages.drawn(services.histogram(elastic(), _settings().names, search, opaque_id=_run()), search))


@bp.get("/fields")
@needs(services.VIEW)
def fields() -> str:
    """The fields of the events."""
    return _part("logs/_fields.html", _fields)


def _fields() -> dict[str, Any]:
    found, health = values.fields(elastic(), _settings().names, _search(), _run())
    return {"fields": found, "health": health}


@bp.get("/values")
@needs(services.VIEW)
def top_values() -> str:
    """The most frequent values of a field."""
    field = request.args.get("field", "")
    return _part("logs/_values.html", lambda: {
        "top": values.top_values(elastic(), _settings().names, _search(), field, opaque_id=_run())
    })  # fmt: skip


@bp.get("/complete")
@needs(services.VIEW)
def complete() -> Response:
    """What may be written where the caret stands."""
    found, text, at = pages.asked(request.args), request.args.get("text", ""), request.args.get("at", None, int)
    search = pages.search_of(
        current_actor(), pages.Asked(since=found.since, until=found.until, host=found.host), time_zone()
    )
    return jsonify([vars(one) for one in values.complete(elastic(), _settings().names, search, text, at, _run())])


@bp.post("/cancel")
@needs(services.VIEW)
def cancel() -> Response:
    """End the searches of a page, in Elasticsearch too."""
    opaque = services.opaque(current_actor(), request.form.get("run", ""))
    return jsonify(ended=services.cancel(elastic(), opaque))


def _context(before: int, after: int, widen: Any = "file") -> services.Context:
    scope = services.scope_of(current_actor())
    index, event = request.values.get("index", ""), request.values.get("id", "")
    return services.context(elastic(), _settings().names, scope, index, event, before=before, after=after, widen=widen)


def _event() -> Hit:
    found = _context(0, 0)
    return found.lines[found.anchor]


@bp.get("/event")
@needs(services.VIEW)
def event() -> str:
    """All fields of an event; as a part of the page if its script asks."""
    hit = _event()
    return render_template(
        "logs/_event.html" if "part" in request.args else "logs/event.html", hit=hit, pages=pages,
        asked=pages.asked(request.args), whole="whole" in request.args, may_ignore=rights.may(current_actor(), RULES_CHANGE),
        pivots=pages.pivots(hit, _settings().grafana_url),
    )  # fmt: skip


@bp.get("/context")
@needs(services.VIEW)
def context() -> str:
    """The lines around one."""
    widen = request.args.get("widen", "file")
    before, after = (
        max(1, min(request.args.get(name, CONTEXT_LINES, int), CONTEXT_MAX)) for name in ("before", "after")
    )
    found = _context(before, after, widen if widen in WIDTHS else "file")
    return render_template(
        "logs/context.html", found=found, hit=found.lines[found.anchor], before=before, after=after, widen=widen,
        pages=pages, asked=pages.asked(request.args), most=CONTEXT_MAX,
    )  # fmt: skip


@bp.get("/tail")
@needs(services.VIEW)
def tail() -> Response:
    """What came in since the last look."""
    found, search = pages.asked(request.args), _search()
    new = services.tail(
        elastic(), _settings().names, search.scope, search.query, after=request.args.get("after"), key=_key(),
        zone=search.zone,
    )  # fmt: skip
    rows = render_template("logs/_rows.html", hits=list(reversed(new.lines)), asked=found, pages=pages)
    missing = " ".join(pages.missing(new.health))
    return jsonify(rows=rows, lines=len(new.lines), skipped=new.skipped, cursor=new.cursor, missing=missing)


@bp.get("/export")
@needs(services.VIEW)
def export() -> Response:
    """All events of a search as a file; with ``count`` a header says how many there will be, for who shows the progress."""
    found, search = pages.asked(request.args), _search()
    kind: exporting.Format = "csv" if request.args.get("format") == "csv" else "ndjson"
    columns = [] if "whole" in request.args else ["@timestamp", *found.columns]
    lines = exporting.export(elastic(), _settings().names, search, columns=columns, format=kind, sort=found.sort)
    answer = Response(stream_with_context(lines), mimetype=exporting.MEDIA_TYPES[kind].partition(";")[0])
    answer.headers["Content-Disposition"] = f'attachment; filename="logs.{kind}"'
    if "count" in request.args:
        with suppress(ElasticUnavailable):  # the lines are what matters
            answer.headers[TOTAL] = exporting.count(elastic(), _settings().names, search)
    return answer


@bp.get("/ignore")
@needs(RULES_CHANGE)
def ignore_page() -> str:
    """What would be ignored, before it is."""
    hit = _event()
    proposal = ignoring.propose(hit, request.args.get("host") == "all")
    preview = ignoring.preview(elastic(), _settings().names, services.scope_of(current_actor()), proposal)
    return render_template("logs/ignore.html", hit=hit, proposal=proposal, preview=preview, pages=pages)


@bp.post("/ignore")
@needs(RULES_CHANGE)
def ignore() -> BaseResponse:
    """Ignore events like one from now on, for some days."""
    proposal = ignoring.propose(_event(), request.form.get("host") == "all")
    made = ignoring.ignore(current_actor(), proposal, request.form.get("days", ""), request.form.get("comment", ""))
    return redirect(url_for(".ignored", rule_id=made.id))


@bp.get("/ignored/<rule_id>")
@needs(RULES_CHANGE)
def ignored(rule_id: str) -> str:
    """A rule that was made from an event, and how it is undone."""
    return render_template("logs/ignored.html", rule=ignoring.find(current_actor(), rule_id))


@bp.post("/ignored/<rule_id>")
@needs(RULES_CHANGE)
def undo(rule_id: str) -> BaseResponse:
    """Ignore them no longer."""
    ignoring.undo(current_actor(), rule_id)
    flash(_("Undone: such events are kept again."))
    return redirect(url_for(".search"))
