"""Pages and API of threshold templates beside the generated ones: the form, the preview, starters, and why a host's limits."""

# mypy: disable-error-code="untyped-decorator"
# (flask-smorest ships no types)
from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from flask import Blueprint, current_app, flash, redirect, render_template, request, url_for
from flask_babel import gettext as _
from flask_babel import ngettext
from flask_smorest import Blueprint as ApiBlueprint
from marshmallow import RAISE, Schema, fields
from sqlalchemy import select
from werkzeug.wrappers import Response

from ezadmin_cmdb.database import db
from ezadmin_cmdb.datacenter.sites import Site
from ezadmin_cmdb.describe import pages
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.describe.pages import Answer, Pages
from ezadmin_cmdb.elastic import ElasticUnavailable, elastic
from ezadmin_cmdb.errors import Conflict, DomainError, Invalid, NotFound, Outdated
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.metrics.fields import datasets
from ezadmin_cmdb.rights.models import HostGroup
from ezadmin_cmdb.rights.permissions import METRICS_VIEW
from ezadmin_cmdb.thresholds import forms, rows, services, starters, words
from ezadmin_cmdb.thresholds.description import (
    TEMPLATE,
    ThresholdAssignmentSchema,
    ThresholdSchema,
)
from ezadmin_cmdb.thresholds.inheritance import EffectiveLimit
from ezadmin_cmdb.thresholds.preview import SHOWN, Preview, preview
from ezadmin_cmdb.web.access import needs
from ezadmin_cmdb.web.signin import current_actor
from ezadmin_wire.names import Names

ROWS = ("limits", "assignments")


def _names() -> Names:
    names: Names = current_app.extensions["ezadmin_settings"].names
    return names


class TemplatePages(Pages):
    """The views of templates: their form has a control for each part of a limit."""

    def new(self) -> Answer:
        """The form for another one, and what it sends."""
        if request.method == "POST" and request.form.get("action", "save") != "save":
            return self._acted(None)
        return super().new()

    def edit(self, object_id: Any) -> Answer:
        """The form of one, and what it sends."""
        if request.method == "POST" and request.form.get("action", "save") != "save":
            return self._acted(described.find(current_actor(), TEMPLATE, str(object_id)))
        return super().edit(object_id)

    def _acted(self, obj: Any) -> Answer:
        """A button that changes the form, or asks what saving would do."""
        if request.form["action"] != "preview":
            return self._form(obj, self._sent())
        actor, object_id = current_actor(), None if obj is None else obj.id
        try:
            found = preview(actor, elastic(), _names(), object_id, self._values(actor))
        except (Invalid, Conflict, Outdated) as error:
            return self._refused(object_id, error)
        except ElasticUnavailable as error:
            return self._form(obj, self._sent(), missing=str(error))
        obj = None if object_id is None else described.find(actor, TEMPLATE, str(object_id))
        return self._form(obj, self._sent(), found=found)

    def _values(self, actor: Any) -> dict[str, Any]:
        if "limits" in request.form:  # as JSON, in one piece
            return super()._values(actor)
        wrong: dict[str, str] = {}
        texts: list[str] = []
        values: dict[str, Any] = {}
        others = [one.name for one in self._editable() if one.name not in ROWS]
        readers: dict[str, Callable[[], dict[str, Any]]] = {
            "": lambda: described.values_of(actor, TEMPLATE, self._sent(), others),
            "limits": lambda: {"limits": forms.limits(forms.sent(request.form, "limits"))},
            "assignments": lambda: {"assignments": forms.assignments(forms.sent(request.form, "assignments"))},
        }
        for reader in readers.values():
            try:
                values |= reader()
            except Invalid as error:
                wrong |= error.fields
                texts.append(str(error))
        try:  # what is missing is said together with what is wrong
            TEMPLATE.field("name").check(values.get("name"))
        except Invalid as error:
            wrong["name"] = str(error)
        if not forms.sent(request.form, "limits"):
            wrong["limits"] = _("Give one limit at least.")
        if wrong:
            raise Invalid(_("Something is not right yet; it stands below."), fields=wrong)
        return values

    def _form(
        self,
        obj: Any,
        texts: Mapping[str, Any],
        error: DomainError | None = None,
        found: Preview | None = None,
        missing: str | None = None,
    ) -> str:
        version = None if obj is None else described.version_of(TEMPLATE, obj)
        if request.method == "POST":
            version = request.form.get("version", version)
        given = {kind: self._rows(kind, texts) for kind in ROWS}
        action = request.form.get("action", "")
        for kind in ROWS:
            verb, _dash, number = action.partition(f"-{kind}-")
            if verb == "drop" and number.isdecimal() and int(number) < len(given[kind]):
                del given[kind][int(number)]
            if action == f"more-{kind}" or not given[kind]:
                given[kind].append(_first_place() if kind == "assignments" and obj is None else {})
        return render_template(
            "thresholds/form.html", d=TEMPLATE, obj=obj, texts=texts, choices=self._choices, version=version,
            fields=[one for one in self._editable() if one.name not in ROWS],
            error=None if error is None else str(error), errors=error.fields if isinstance(error, Invalid) else {},
            limits=given["limits"], assignments=given["assignments"], figures=datasets(), kinds=("gauge", "counter"),
            places=_places(), found=found, missing=missing, shown=SHOWN, words=words,
        )  # fmt: skip

    def _rows(self, kind: str, texts: Mapping[str, Any]) -> list[dict[str, str]]:
        if request.method == "POST" and kind not in request.form:
            return [dict(one) for one in forms.sent(request.form, kind)]
        writer = forms.limit_texts if kind == "limits" else forms.assignment_texts
        try:
            return [writer({**rows.PLAIN, "priority": 0, "name": "", **one}) for one in json.loads(texts[kind] or "[]")]
        except (ValueError, TypeError, KeyError):
            return []


def _first_place() -> dict[str, str]:
    """All hosts, unless the address names a host."""
    host_id = request.args.get("host", "")
    return {"place": forms.HOST, "of": host_id} if host_id else {"place": "global:"}


def _places() -> list[tuple[str, str, list[tuple[str, str]]]]:
    """What a template can be assigned to: kind, title, and by value what each is called. Four queries."""
    named: list[tuple[str, str, Any]] = [
        ("site", _("Sites"), select(Site.id, Site.name).order_by(Site.name)),
        ("group", _("Groups of hosts"), select(HostGroup.id, HostGroup.name).order_by(HostGroup.name)),
        ("vendor", _("Vendors"), select(Host.vendor, Host.vendor).where(Host.vendor.is_not(None)).distinct()),
        ("model", _("Models"), select(Host.model, Host.model).where(Host.model.is_not(None)).distinct()),
    ]
    found = []
    for level, title, query in named:
        rows_of = sorted(db.session.execute(query.limit(1000)), key=lambda one: str(one[1]).casefold())
        found.append((level, title, [(f"{level}:{key}", str(name)) for key, name in rows_of]))
    return found


bp = Blueprint("thresholds", __name__, url_prefix="/thresholds")
of_hosts = Blueprint("host_thresholds", __name__, url_prefix="/hosts")
pages.add(bp, TEMPLATE, pages.actions(TEMPLATE), TemplatePages)


@bp.post("/starters")
@needs(TEMPLATE.change)
def add_starters() -> Response:
    """Add the starter templates that are missing."""
    made = starters.install(current_actor())
    flash(ngettext("%(num)d template is added.", "%(num)d templates are added.", len(made)))
    return redirect(url_for(".index"))


@of_hosts.get("/<uuid:object_id>/thresholds")
@needs(METRICS_VIEW)
def show(object_id: object) -> str:
    """The limits of a host, each with why it has this value."""
    host = hosts.find(current_actor(), str(object_id), METRICS_VIEW)
    return render_template("thresholds/host.html", host=host, **on_a_host(host.id))


def on_a_host(host_id: str) -> dict[str, Any]:
    """What the panel ``thresholds/_host.html`` shows."""
    return {
        "limits": services.effective(db.session, [host_id])[host_id],
        "off": services.switched_off(db.session, host_id),
        "says": says,
        "figures": rows.figures(),
    }


def says(limit: Any, step: Mapping[str, Any] | None = None) -> str:
    """What a limit says, or the values of a ``step`` of its trace."""
    values = {name: getattr(limit, name) for name in _SAID} if step is None else step
    return words.says_words({**values, **_about(limit)})


_SAID = (*rows.VALUES, "hold", "n", "m", "no_data", "trend", "full_at")


def _about(limit: Any) -> dict[str, Any]:
    compare = "rate" if getattr(limit, "rate", False) else "full" if getattr(limit, "trend", 0) else "value"
    return {"field": limit.field, "comparison": getattr(limit, "comparison", "above"), "compare": compare}


class PreviewArgumentsSchema(Schema):
    """A template as it would be saved; ``id``: of one that is there."""

    class Meta:  # noqa: D106 - marshmallow's
        unknown = RAISE

    id = fields.Integer(strict=True, metadata={"description": "of the template that would be changed"})
    name = fields.String(required=True)
    description = fields.String(allow_none=True)
    limits = fields.List(fields.Nested(ThresholdSchema), required=True)
    assignments = fields.List(fields.Nested(ThresholdAssignmentSchema), load_default=list)


class FiresSchema(Schema):
    """A figure that would be raised now."""

    host_id = fields.String()
    host = fields.String()
    field = fields.String()
    item = fields.String()
    value = fields.Float()
    trend = fields.Boolean(metadata={"description": "the value is the hours until it is full"})
    state = fields.String()


class PreviewSchema(Schema):
    """What saving would do."""

    changed = fields.Integer(metadata={"description": "hosts that get other limits"})
    hosts = fields.Dict(keys=fields.String(), values=fields.String(), metadata={"description": "names by ids"})
    fires = fields.List(fields.Nested(FiresSchema))
    trends = fields.Integer(
        metadata={"description": "limits on the time until something is full, among those that change"}
    )


class StepSchema(Schema):
    """A limit that was looked at on the way, from far to near."""

    level = fields.String()
    place = fields.String()
    template = fields.String()
    template_id = fields.Integer(allow_none=True)
    values = fields.Dict()
    wins = fields.Boolean()


class EffectiveSchema(Schema):
    """A limit that holds for a host, and why."""

    dataset = fields.String()
    field = fields.String()
    item = fields.String()
    comparison = fields.String()
    rate = fields.Boolean()
    warning_raise = fields.Float(allow_none=True)
    warning_clear = fields.Float(allow_none=True)
    critical_raise = fields.Float(allow_none=True)
    critical_clear = fields.Float(allow_none=True)
    hold = fields.Integer()
    n = fields.Integer()
    m = fields.Integer()
    no_data = fields.Integer(allow_none=True)
    trend = fields.Integer()
    full_at = fields.Float()
    limit_id = fields.String()
    origin = fields.String()
    trace = fields.List(fields.Nested(StepSchema))


class AddedSchema(Schema):
    """The templates that were added."""

    added = fields.List(fields.String())


api = ApiBlueprint(
    "api_threshold_actions", __name__, url_prefix="/api/v1", description="Thresholds: preview, starters, why of a host"
)


@api.route("/thresholds/preview", methods=["POST"], endpoint="preview")
@api.arguments(PreviewArgumentsSchema)
@api.response(200, PreviewSchema)
@needs(TEMPLATE.change)
def api_preview(given: dict[str, Any]) -> Preview:
    """Which hosts would get other limits, and what of the newest figures would be raised now; nothing is changed."""
    template_id = given.pop("id", None)
    try:
        return preview(current_actor(), elastic(), _names(), template_id, given)
    except NotFound as error:  # what is said in the body is wrong, not the address
        raise Invalid(str(error), "id") from error


@api.route("/thresholds/starters", methods=["POST"], endpoint="starters")
@api.response(200, AddedSchema)
@needs(TEMPLATE.change)
def api_starters() -> dict[str, list[str]]:
    """Add the starter templates that are missing, for all hosts."""
    return {"added": [one.name for one in starters.install(current_actor())]}


@api.route("/hosts/<uuid:host_id>/thresholds", endpoint="of_host")
@api.response(200, EffectiveSchema(many=True))
@needs(METRICS_VIEW)
def api_of_host(host_id: object) -> list[EffectiveLimit]:
    """The limits that hold for a host, each with all that were looked at."""
    host = hosts.find(current_actor(), str(host_id), METRICS_VIEW)
    return services.effective(db.session, [host.id])[host.id]
