"""Saved filters in the API."""

# mypy: disable-error-code="untyped-decorator"
# (flask-smorest ships no types)
from __future__ import annotations

from typing import Any

from flask.views import MethodView
from flask_babel import gettext as _
from flask_smorest import Blueprint
from marshmallow import RAISE, Schema, fields, validate

from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.filters import services
from ezadmin_cmdb.filters.services import NAME_MAX, QUERY_MAX, Saved
from ezadmin_cmdb.web.access import signed_in
from ezadmin_cmdb.web.signin import current_actor

bp = Blueprint("api_saved_filters", __name__, url_prefix="/api/v1/saved-filters", description="Saved filters")


class SavedFilterSchema(Schema):
    """A saved filter. ``query`` goes behind ``?`` in the list's address, of pages and API alike."""

    id = fields.Integer()
    object_type = fields.String()
    name = fields.String()
    query = fields.String()
    shared = fields.Boolean()
    default = fields.Boolean(metadata={"description": "whether the asking user's list opens with it"})
    owner = fields.String()


class SavedFilterListSchema(Schema):
    """Saved filters."""

    items = fields.List(fields.Nested(SavedFilterSchema))


class SavedFilterQuerySchema(Schema):
    """Which ones."""

    object_type = fields.String(metadata={"description": "only those of this list, such as host"})


class SavedFilterPatchSchema(Schema):
    """What is changed of one."""

    class Meta:
        """What is not known is refused."""

        unknown = RAISE

    name = fields.String(validate=validate.Length(1, NAME_MAX))
    query = fields.String(validate=validate.Length(max=QUERY_MAX))
    shared = fields.Boolean(truthy={True}, falsy={False})
    default = fields.Boolean(truthy={True}, falsy={False})


class SavedFilterNewSchema(SavedFilterPatchSchema):
    """A new one."""

    object_type = fields.String(required=True)
    name = fields.String(required=True, validate=validate.Length(1, NAME_MAX))
    query = fields.String(required=True, validate=validate.Length(max=QUERY_MAX))


def _represent(saved: Saved) -> dict[str, Any]:
    one = saved.filter
    return {
        "id": one.id, "object_type": one.object_type, "name": one.name, "query": one.query, "shared": one.shared,
        "default": saved.default, "owner": one.owner.name,
    }  # fmt: skip


@bp.route("", endpoint="list")
class Many(MethodView):
    """List and add."""

    @bp.arguments(SavedFilterQuerySchema, location="query")
    @bp.response(200, SavedFilterListSchema)
    @signed_in
    def get(self, asked: dict[str, str]) -> dict[str, Any]:
        """One's own saved filters and the shared ones."""
        found = services.available(current_actor())
        wanted = asked.get("object_type")
        return {"items": [_represent(one) for one in found if wanted in (None, one.filter.object_type)]}

    @bp.arguments(SavedFilterNewSchema)
    @bp.response(201, SavedFilterSchema)
    @signed_in
    def post(self, given: dict[str, Any]) -> dict[str, Any]:
        """Save a filter."""
        actor, description = current_actor(), services.kind_of(given["object_type"])
        if description is None:
            raise Invalid(_("There is no such list."), "object_type")
        made = services.save(actor, description, given["name"], given["query"], given.get("shared", False))
        if given.get("default"):
            services.set_default(actor, services.find(actor, made.id))
        return _represent(services.find(actor, made.id))


@bp.route("/<int:filter_id>", endpoint="one")
class One(MethodView):
    """Read, change, delete."""

    @bp.response(200, SavedFilterSchema)
    @signed_in
    def get(self, filter_id: int) -> dict[str, Any]:
        """A saved filter."""
        return _represent(services.find(current_actor(), filter_id))

    @bp.arguments(SavedFilterPatchSchema)
    @bp.response(200, SavedFilterSchema)
    @signed_in
    def patch(self, given: dict[str, Any], filter_id: int) -> dict[str, Any]:
        """Change a saved filter; ``default`` is the asking user's alone."""
        actor = current_actor()
        saved = services.find(actor, filter_id)
        if given.keys() - {"default"}:
            services.change(actor, saved, given.get("name"), given.get("query"), given.get("shared"))
        if "default" in given:
            services.set_default(actor, saved, given["default"])
        return _represent(services.find(actor, filter_id))

    @bp.response(204)
    @signed_in
    def delete(self, filter_id: int) -> None:
        """Delete a saved filter."""
        actor = current_actor()
        services.delete(actor, services.find(actor, filter_id))
