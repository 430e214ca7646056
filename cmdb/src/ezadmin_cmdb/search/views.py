"""The search: what is shown as one types, the page of all results, and the API."""

# mypy: disable-error-code="untyped-decorator"
# (flask-smorest ships no types)
from __future__ import annotations

from typing import Any

from flask import Blueprint, render_template, request, url_for
from flask_smorest import Blueprint as ApiBlueprint
from marshmallow import Schema, fields, validate

from ezadmin_cmdb.search import services
from ezadmin_cmdb.search.services import Group, Hit
from ezadmin_cmdb.web.access import signed_in
from ezadmin_cmdb.web.signin import current_actor

bp = Blueprint("search", __name__, url_prefix="/search")
api = ApiBlueprint("api_search", __name__, url_prefix="/api/v1/search", description="Search")


def address(group: Group, hit: Hit) -> str:
    """The page of a hit."""
    return url_for(f"{group.description.path}.show", object_id=hit.id)


@bp.get("/")
@signed_in
def page() -> str:
    """All results."""
    text, kinds = request.args.get("q", "").strip()[: services.TEXT_MAX], request.args.getlist("kind")
    groups = services.search(current_actor(), text, services.LISTED, kinds)
    return render_template("search/page.html", text=text, kinds=kinds, groups=groups, address=address)


@bp.get("/suggest")
@signed_in
def suggest() -> str:
    """The first results of each kind, for the list below the box."""
    text = request.args.get("q", "").strip()[: services.TEXT_MAX]
    groups = services.search(current_actor(), text, services.SHOWN)
    return render_template("search/_suggest.html", text=text, groups=groups, address=address)


class SearchQuerySchema(Schema):
    """What to look for."""

    q = fields.String(
        required=True,
        validate=validate.Length(1, services.TEXT_MAX),
        metadata={
            "description": "words, each to be found; an address, a network as 10.1.0.0/16, a MAC, a serial number"
        },
    )
    kind = fields.List(fields.String(), metadata={"description": "only this kind (host, site …); again for more"})
    limit = fields.Integer(load_default=10, validate=validate.Range(1, services.LISTED))


class HitSchema(Schema):
    """Something that was found."""

    id = fields.String(metadata={"description": "a number or, for hosts, a UUID, as text"})
    name = fields.String()
    url = fields.String(metadata={"description": "its address in the API"})
    page = fields.String(metadata={"description": "its page for people"})
    field = fields.String(allow_none=True, metadata={"description": "what matched, if it is not the name"})
    value = fields.String(allow_none=True)


class KindSchema(Schema):
    """What was found of a kind."""

    kind = fields.String()
    title = fields.String()
    more = fields.Boolean(metadata={"description": "there is more than the limit"})
    items = fields.List(fields.Nested(HitSchema))


class ResultSchema(Schema):
    """What was found, kind by kind."""

    q = fields.String()
    kinds = fields.List(fields.Nested(KindSchema))


@api.route("", endpoint="search")
@api.arguments(SearchQuerySchema, location="query")
@api.response(200, ResultSchema)
@signed_in
def found(asked: dict[str, Any]) -> dict[str, Any]:
    """Look for something in everything that one may see."""
    groups = services.search(current_actor(), asked["q"], asked["limit"], asked.get("kind", []))
    return {"q": asked["q"], "kinds": [_kind(group) for group in groups]}


def _kind(group: Group) -> dict[str, Any]:
    description = group.description
    items = [
        {
            "id": str(hit.id),
            "name": hit.name,
            "url": f"/api/v1/{description.path}/{hit.id}",
            "page": address(group, hit),
            "field": str(hit.why[0]) if hit.why else None,
            "value": hit.why[1] if hit.why else None,
        }
        for hit in group.hits
    ]
    return {"kind": description.name, "title": str(description.titles), "more": group.more, "items": items}
