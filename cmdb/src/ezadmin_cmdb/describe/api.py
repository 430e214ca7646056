"""The REST API of a description: list, one, add, change, delete, history; its OpenAPI comes of the same schemas.

A reference is written as an id and read as ``{"id": 3, "name": "Seoul"}``. ``GET`` of one object has an ``ETag``; ``PATCH``
and ``DELETE`` with ``If-Match`` are refused with 412 if it was changed meanwhile.
"""

# mypy: disable-error-code="untyped-decorator"
# (flask-smorest ships no types)
from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from flask import request
from flask.views import MethodView
from flask_babel import gettext as _
from flask_smorest import Blueprint
from marshmallow import RAISE, Schema, fields, validate

from ezadmin_cmdb.changes import history
from ezadmin_cmdb.custom.kinds import ALL, Custom, from_json
from ezadmin_cmdb.describe import bulkapi, restoring, scope, services
from ezadmin_cmdb.describe.description import Description
from ezadmin_cmdb.describe.fields import (
    CONTAINS,
    EMPTY,
    EQUALS,
    LEAST,
    MOST,
    NOT,
    Field,
    Members,
    Number,
    Reference,
    References,
    WireField,
)  # fmt: skip
from ezadmin_cmdb.describe.query import PAGE, PAGE_MAX, PAGES_MAX, page, parse
from ezadmin_cmdb.errors import Invalid, NotFound
from ezadmin_cmdb.web.access import needs
from ezadmin_cmdb.web.openapi import ETAG, LINK, PROBLEM
from ezadmin_cmdb.web.schemas import MEDIA_TYPE
from ezadmin_cmdb.web.signin import current_actor

_OPERATORS = {
    EQUALS: "is this; again for alternatives", NOT: "is none of these", CONTAINS: "contains this",
    LEAST: "is at least this", MOST: "is at most this", EMPTY: "true: has no value; false: has one",
    ALL: "are all of these",
}  # fmt: skip


class ReferenceSchema(Schema):
    """What is referred to, by a number."""

    id = fields.Integer()
    name = fields.String()


class HostReferenceSchema(Schema):
    """What is referred to, by a UUID."""

    id = fields.UUID()
    name = fields.String()


class HistoryEntrySchema(Schema):
    """A change: who, when, by which way, and each field before and after."""

    id = fields.Integer()
    time = fields.AwareDateTime(format="iso")
    actor = fields.String()
    source = fields.String()
    request_id = fields.String(allow_none=True)
    action = fields.String(validate=validate.OneOf(["create", "update", "delete"]))
    object_type = fields.String()
    object_id = fields.String()
    object_name = fields.String()
    fields_: Any = fields.Dict(
        keys=fields.String(), values=fields.List(fields.Raw(allow_none=True)), attribute="fields", data_key="fields"
    )


class HistorySchema(Schema):
    """A page of changes, the newest first."""

    total = fields.Integer()
    page = fields.Integer(attribute="number")
    pages = fields.Integer()
    size = fields.Integer()
    items: Any = fields.List(fields.Nested(HistoryEntrySchema))


class RestoreSchema(Schema):
    """A change, and which of its fields get their former values back: all that can, unless said."""

    change = fields.Integer(required=True, strict=True, metadata={"description": "its id"})
    fields_: Any = fields.List(fields.String(), attribute="fields", data_key="fields")


class NumberQuerySchema(Schema):
    """Which page."""

    page = fields.Integer(load_default=1, validate=validate.Range(1, PAGES_MAX))


class IfMatchSchema(Schema):
    """The version that was read."""

    if_match = fields.String(
        data_key="If-Match", metadata={"description": "the ETag that was read; 412 if it is no longer that"}
    )


def represent(description: Description, obj: Any, names: tuple[str, ...] = ()) -> dict[str, Any]:
    """An object as the API's schemas write it; ``names``: only these fields, and the id."""
    shown, actor = {"id": obj.id}, current_actor()
    for one in description.all_fields():
        if isinstance(one, Custom):
            if not names or "custom" in names:
                shown.setdefault("custom", {})[one.definition.name] = one.plain(scope.seen(actor, one, obj))
        elif not names or one.name in names:
            value = scope.seen(actor, one, obj)
            shown[one.name] = one.plain(value) if isinstance(one, (Reference, References)) else value
    return shown


def read_schema(description: Description) -> type[Schema]:
    """How an object is read."""
    members: dict[str, Any] = {"id": description.id_schema(required=True)}
    for one in description.all_fields():
        if not isinstance(one, Custom):
            members[one.name] = _readable(one)
    if description.extensible:
        members["custom"] = _custom()
    return Schema.from_dict(members, name=_class_name(description))


def _custom() -> WireField:
    about = {"description": "custom fields by their names; which there are, /custom-fields says"}
    return fields.Dict(keys=fields.String(), values=fields.Raw(allow_none=True), metadata=about)


def _readable(one: Field) -> WireField:
    from ezadmin_cmdb.describe.description import find

    if isinstance(one, (Reference, References)):
        schema = ReferenceSchema if find(one.to).numbered else HostReferenceSchema
        if isinstance(one, References):
            return fields.List(fields.Nested(schema))
        return fields.Nested(schema, allow_none=True)
    return one.schema(allow_none=not one.required, **one.described())


def write_schema(description: Description, partial: bool) -> type[Schema]:
    """How an object is written; ``partial``: what is not given stays."""
    members: dict[str, Any] = {}
    for one in description.all_fields():
        if one.editable and not isinstance(one, Custom):
            needed = one.required and not partial
            form = one.patch_schema if partial and isinstance(one, References) else one.schema
            members[one.name] = form(required=needed, allow_none=not one.required, **one.described())
    if description.extensible:
        members["custom"] = _custom()
    made = Schema.from_dict(members, name=f"{_class_name(description)}{'Patch' if partial else 'New'}")
    made.Meta.unknown = RAISE
    return made


def query_schema(description: Description) -> type[Schema]:
    """What a list can be asked. Read by :func:`ezadmin_cmdb.describe.query.parse`; this one describes it."""
    sortable = [one.name for one in description.all_fields() if one.sortable]
    members: dict[str, Any] = {
        "q": fields.String(metadata={"description": "words, each to be found somewhere in the object"}),
        "sort": fields.String(
            metadata={"description": f"fields by commas, - in front for descending: {', '.join(sortable)}"}
        ),
        "page": fields.Integer(validate=validate.Range(1, PAGES_MAX), metadata={"default": 1}),
        "size": fields.Integer(validate=validate.Range(1, PAGE_MAX), metadata={"default": PAGE}),
        "fields": fields.String(metadata={"description": "only these fields, by commas"}),
    }
    for one in description.all_fields():
        for operator in one.operators if one.filterable and not isinstance(one, Custom) else ():
            members[f"{one.name}__{operator}" if operator else one.name] = _filter_schema(one, operator)
    return Schema.from_dict(members, name=f"{_class_name(description)}Query")


def _filter_schema(one: Field, operator: str) -> WireField:
    about = {"description": f"{one.label}: {_OPERATORS[operator]}"}
    if operator == EMPTY:
        return fields.Boolean(metadata=about)
    if isinstance(one, Number) and operator in (LEAST, MOST):
        return fields.Float(metadata=about) if one.digits else fields.Integer(metadata=about)
    if operator in (EQUALS, NOT, CONTAINS, ALL):
        return fields.List(fields.String(), metadata=about)
    return fields.String(metadata=about)


def _class_name(description: Description) -> str:
    return "".join(part.capitalize() for part in description.name.split("_"))


def _list_schema(description: Description, one: type[Schema]) -> type[Schema]:
    members: dict[str, Any] = {
        "total": fields.Integer(),
        "page": fields.Integer(),
        "pages": fields.Integer(),
        "size": fields.Integer(),
        "items": fields.List(fields.Nested(one)),
    }
    return Schema.from_dict(members, name=f"{_class_name(description)}Page")


def blueprint(description: Description) -> Blueprint:
    """The routes of a description in the API."""
    bp = Blueprint(
        f"api_{description.path}",
        __name__,
        url_prefix=f"/api/v1/{description.path}",
        description=str(description.titles),
    )
    one_schema = read_schema(description)
    list_schema = _list_schema(description, one_schema)
    new_schema, patch_schema = write_schema(description, False), write_schema(description, True)
    bodies = bulkapi.bodies(description, new_schema, patch_schema, _class_name(description))
    asked_schema = query_schema(description)
    path = f"/<{'int' if description.numbered else 'uuid'}:object_id>"

    def answer(obj: Any) -> dict[str, Any]:
        return represent(description, obj)

    def tagged(obj: Any) -> tuple[dict[str, Any], dict[str, str]]:
        return answer(obj), {"ETag": f'"{services.version_of(description, obj)}"'}

    class Many(MethodView):
        """List and add."""

        @bp.doc(parameters=_parameters(asked_schema), summary=f"List {description.titles}")
        @bp.response(200, list_schema, headers={"Link": LINK})
        @needs(description.view)
        def get(self) -> Any:
            query = parse(description, request.args.items(multi=True), strict=True)
            names = _names(description, request.args.get("fields", ""))
            found = page(current_actor(), description, query)
            beyond = query.page > found.pages
            items = [] if beyond else [represent(description, obj, names) for obj in found.items]
            body = {
                "total": found.total, "page": query.page, "pages": found.pages, "size": found.size, "items": items,
            }  # fmt: skip
            return body, 200, _links(query.page, found.pages)

        if description.creatable:

            @bp.doc(summary=f"Add to {description.titles}")
            @bp.arguments(new_schema)
            @bp.response(201, one_schema)
            @needs(description.change)
            def post(self, given: dict[str, Any]) -> Any:
                actor = current_actor()
                made = services.create(actor, description, _objects(description, given))
                body, headers = tagged(made)
                return body, 201, {**headers, "Location": f"/api/v1/{description.path}/{made.id}"}

    class Bulk(MethodView):
        """Many at once."""

        if description.creatable:

            @bp.doc(summary=f"Add many to {description.titles}")
            @bp.arguments(bodies.create)
            @bp.response(200, bulkapi.OutcomeSchema)
            @_rows_refused(bp, bulkapi.RowsProblemSchema)
            @needs(description.change)
            def post(self, given: dict[str, Any]) -> Any:
                return bulkapi.create(
                    current_actor(), description, given, _rows(description, given["items"], "items.{}.")
                )

        if description.changeable:

            @bp.doc(summary=f"Change many of {description.titles}")
            @bp.arguments(bodies.change)
            @bp.response(200, bulkapi.OutcomeSchema)
            @_rows_refused(bp, bulkapi.RowsProblemSchema)
            @bp.alt_response(412, PROBLEM)
            @needs(description.change)
            def patch(self, given: dict[str, Any]) -> Any:
                values = _objects(description, given["set"], "set.")
                return bulkapi.change(current_actor(), description, given, values)

        if description.deletable:

            @bp.doc(summary=f"Delete many of {description.titles}")
            @bp.arguments(bodies.delete)
            @bp.response(200, bulkapi.OutcomeSchema)
            @_rows_refused(bp, bulkapi.RowsProblemSchema)
            @bp.alt_response(412, PROBLEM)
            @bp.alt_response(428, PROBLEM)
            @needs(description.delete)
            def delete(self, given: dict[str, Any]) -> Any:
                return bulkapi.delete(current_actor(), description, given)

    if description.changeable:

        class Import(MethodView):
            """CSV."""

            @bp.doc(
                summary=f"Import {description.titles} from CSV",
                requestBody={"required": True, "content": {"text/csv": {"schema": {"type": "string"}}}},
            )
            @bp.arguments(bulkapi.ImportOptionsSchema, location="query")
            @bp.response(200, bulkapi.ImportOutcomeSchema)
            @_rows_refused(bp, bulkapi.ImportProblemSchema)
            @needs(description.change)
            def post(self, options: dict[str, bool]) -> Any:
                outcome = bulkapi.take(current_actor(), description, request.get_data(), **options)
                return bulkapi.kept(outcome, options["dry_run"], bulkapi.ImportOutcomeSchema)

        bp.route("/import", endpoint="import_file")(Import)

    class One(MethodView):
        """Read, change, delete."""

        @bp.doc(summary=f"One of {description.titles}")
        @bp.response(200, one_schema, headers={"ETag": ETAG})
        @needs(description.view)
        def get(self, object_id: Any) -> Any:
            body, headers = tagged(services.find(current_actor(), description, str(object_id)))
            return body, 200, headers

        if description.changeable:

            @bp.doc(summary=f"Change one of {description.titles}")
            @bp.arguments(IfMatchSchema, location="headers")
            @bp.arguments(patch_schema)
            @bp.response(200, one_schema)
            @needs(description.change)
            def patch(self, headers: dict[str, Any], given: dict[str, Any], object_id: Any) -> Any:
                actor = current_actor()
                obj = services.find_to_change(actor, description, str(object_id), _version(headers))
                services.update(actor, description, obj, _objects(description, given))
                body, tag = tagged(obj)
                return body, 200, tag

        if description.deletable:

            @bp.doc(summary=f"Delete one of {description.titles}")
            @bp.arguments(IfMatchSchema, location="headers")
            @bp.response(204)
            @needs(description.delete)
            def delete(self, headers: dict[str, Any], object_id: Any) -> None:
                actor = current_actor()
                obj = services.find_to_change(actor, description, str(object_id), _version(headers))
                services.delete(actor, description, obj)

    class Changes(MethodView):
        """History."""

        @bp.doc(summary=f"What was changed in one of {description.titles}")
        @bp.arguments(NumberQuerySchema, location="query")
        @bp.response(200, HistorySchema, headers={"Link": LINK})
        @needs(description.view)
        def get(self, asked: dict[str, int], object_id: Any) -> Any:
            actor = current_actor()
            found = history.of_object(description.name, str(object_id), asked["page"])
            try:
                services.find(actor, description, str(object_id))
            except NotFound:  # who may see all may see what became of what is gone
                if not (found.items and actor.rights.scope(description.view).everywhere):
                    raise
            return scope.history(actor, description, found), 200, _links(found.number, found.pages)

        if description.changeable:

            @bp.doc(summary=f"Restore what a change of one of {description.titles} changed")
            @bp.arguments(RestoreSchema)
            @bp.response(200, one_schema)
            @needs(description.change)
            def post(self, given: dict[str, Any], object_id: Any) -> Any:
                actor = current_actor()
                obj = services.find_to_change(actor, description, str(object_id))
                restoring.restore(actor, description, obj, given["change"], given.get("fields"))
                body, headers = tagged(obj)
                return body, 200, headers

    bp.route("", endpoint="list")(Many)
    if description.creatable or description.changeable or description.deletable:
        bp.route("/bulk", endpoint="bulk")(Bulk)
    bp.route(path, endpoint="one")(One)
    if description.creatable or description.changeable or description.deletable:
        bp.route(f"{path}/changes", endpoint="changes")(Changes)
    return bp


def _rows_refused(bp: Blueprint, schema: type[Schema]) -> Any:
    """Describes the answer to rows of which some are wrong."""
    return bp.alt_response(
        409, schema=schema, content_type=MEDIA_TYPE, description="Rows are wrong: nothing was written."
    )


def _links(number: int, pages: int) -> dict[str, str]:
    """The other pages of the list that was asked for (RFC 8288)."""
    asked = [(name, value) for name, value in request.args.items(multi=True) if name != "page"]
    pointed = {"first": 1, "prev": min(number - 1, pages), "next": number + 1, "last": pages}
    links = [
        f'<{request.base_url}?{urlencode([*asked, ("page", str(target))])}>; rel="{name}"'
        for name, target in pointed.items()
        if 1 <= target <= pages
    ]
    return {"Link": ", ".join(links)}


def _version(headers: dict[str, Any]) -> str | None:
    given = str(headers.get("if_match", "")).strip()
    return None if given in ("", "*") else given.removeprefix("W/").strip('"')


def _names(description: Description, text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    known = {one.name for one in description.all_fields()} | {"id"} | ({"custom"} if description.extensible else set())
    if unknown := [name for name in names if name not in known]:
        raise Invalid(_("There is no field %(name)s.", name=", ".join(unknown)), "fields")
    return names


def _objects(description: Description, given: dict[str, Any], at: str = "") -> dict[str, Any]:
    """The values with objects in the place of ids; ``at``: where they stand in the body. Raises Invalid."""
    return _rows(description, [given], at)[0]


def _rows(description: Description, given: Sequence[dict[str, Any]], at: str) -> list[dict[str, Any]]:
    """As :func:`_objects`, of many: one query for each field that refers to others. Raises Invalid with all that mean
    nothing."""
    actor, described = current_actor(), description.all_fields()
    rows = [dict(one) for one in given]
    wrong: dict[str, str] = {}

    def place(number: int, name: str) -> str:
        return at.format(number) + name

    for number, row in enumerate(rows):
        if description.extensible:
            try:
                row |= from_json(actor, described, row.pop("custom", None) or {})
            except Invalid as error:
                wrong |= {place(number, name): text for name, text in error.fields.items()}
    for one in described:
        if not isinstance(one, (Reference, References)):
            continue
        meant = [(number, row[one.name]) for number, row in enumerate(rows) if isinstance(row.get(one.name), WIRED)]
        known = one.resolve(actor, {text for _number, value in meant for text in _ids(value)}, ids_only=True)
        for number, value in meant:
            if missing := [text for text in _ids(value) if text not in known]:
                wrong[place(number, one.name)] = _("There is no %(names)s here.", names=", ".join(missing[:5]))
            elif isinstance(value, dict):
                sides = {side: [known[str(text)] for text in ids] for side, ids in value.items()}
                rows[number][one.name] = Members(**sides)
            elif isinstance(value, list):
                rows[number][one.name] = [known[str(text)] for text in value]
            else:
                rows[number][one.name] = known[str(value)]
    if wrong:
        raise Invalid(" ".join(f"{name}: {text}" for name, text in wrong.items()), fields=wrong)
    return rows


WIRED = (int, str, uuid.UUID, list, dict)
"""What a reference is in JSON, once read; custom ones are objects by then."""


def _ids(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [str(one) for ids in value.values() for one in ids]
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


def _parameters(schema: type[Schema]) -> list[dict[str, Any]]:
    from apispec import APISpec
    from apispec.ext.marshmallow import MarshmallowPlugin

    plugin = MarshmallowPlugin()
    APISpec("x", "0", "3.1.0", plugins=[plugin])
    converter = plugin.converter
    assert converter is not None  # noqa: S101 - set by APISpec
    found: list[dict[str, Any]] = converter.schema2parameters(schema, location="query")
    return found
