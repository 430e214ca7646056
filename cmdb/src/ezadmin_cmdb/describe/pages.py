"""The pages of a description: list, page, forms, deletion, history, CSV. Views of a few lines that call services."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from flask import Blueprint, Response, flash, redirect, render_template, request, stream_with_context, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response as BaseResponse

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes import history
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import restoring, scope, services, tabular
from ezadmin_cmdb.describe.bulkpages import BulkPages
from ezadmin_cmdb.describe.description import Description, find
from ezadmin_cmdb.describe.fields import Field, MultiSelect, Reference, References
from ezadmin_cmdb.describe.query import Filter, Query, chosen, options, page, parse
from ezadmin_cmdb.errors import Conflict, DomainError, Invalid, NotFound, Outdated
from ezadmin_cmdb.filters import services as saved_filters
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.web.access import needs
from ezadmin_cmdb.web.signin import current_actor

READ = ("index", "filter", "export", "show", "history", "options")
OPTIONS_MAX = 300
TAGS_MAX = 1000
"""More than these, and a reference is typed instead of chosen from a list."""

Answer = str | BaseResponse | tuple[str, int]


def actions(description: Description) -> list[str]:
    """The pages that a description has."""
    found = list(READ)
    if not (description.creatable or description.changeable or description.deletable):
        found.remove("history")
    if description.creatable:
        found.append("new")
    if description.changeable:
        found += ["edit", "restore", "bulk", "import_file", "job", "job_errors"]
    if description.deletable:
        found += ["delete", "bulk_delete", "deletion"]
    return found


def blueprint(description: Description) -> Blueprint:
    """All pages of a description under its path."""
    bp = Blueprint(description.path, __name__, url_prefix=f"/{description.path}")
    add(bp, description, actions(description))
    return bp


def add(
    bp: Blueprint, description: Description, wanted: Collection[str], kind: Callable[[Description], Pages] | None = None
) -> None:
    """Add some pages of a description to a blueprint that has others of its own; ``kind``: views that do some otherwise."""
    one = f"/<{'int' if description.numbered else 'uuid'}:object_id>"
    pages = (kind or Pages)(description)
    for action, path, permission, methods in [
        ("index", "/", description.view, ["GET"]),
        ("filter", "/filter", description.view, ["GET"]),
        ("export", "/export.csv", description.view, ["GET"]),
        ("options", "/options", description.view, ["GET"]),
        ("new", "/new", description.change, ["GET", "POST"]),
        ("bulk", "/bulk", description.change, ["GET", "POST"]),
        ("bulk_delete", "/bulk-delete", description.delete, ["POST"]),
        ("import_file", "/import", description.change, ["GET", "POST"]),
        ("job", "/jobs/<int:job_id>", description.change, ["GET", "POST"]),
        ("job_errors", "/jobs/<int:job_id>/errors.csv", description.change, ["GET"]),
        ("deletion", "/deletions/<int:job_id>", description.delete, ["GET", "POST"]),
        ("show", one, description.view, ["GET"]),
        ("edit", f"{one}/edit", description.change, ["GET", "POST"]),
        ("delete", f"{one}/delete", description.delete, ["GET", "POST"]),
        ("history", f"{one}/history", description.view, ["GET"]),
        ("restore", f"{one}/restore", description.change, ["POST"]),
    ]:
        if action in wanted:
            bp.add_url_rule(path, action, needs(permission)(_view(getattr(pages, action))), methods=methods)


def _view(method: Callable[..., Answer]) -> Callable[..., Answer]:
    """A function of its own, to which a permission can be attached."""

    def view(**arguments: Any) -> Answer:
        return method(**arguments)

    view.__doc__ = method.__doc__
    return view


class Pages(BulkPages):
    """The views of one description."""

    def __init__(self, description: Description) -> None:
        self.description = description

    def _asked(self) -> Query:
        return parse(self.description, request.args.items(multi=True))

    def index(self) -> Answer:
        """The list; only its table for a search as one types."""
        actor, description = current_actor(), self.description
        saved = saved_filters.available(actor, description)
        first = next((one.filter.query for one in saved if one.default), None)
        if not request.args and first is not None:
            return redirect(f"{url_for('.index')}?{first}")
        return self._list(actor, self._asked(), saved)

    def _list(self, actor: Actor, query: Query, saved: Sequence[Any]) -> Answer:
        description = self.description
        found = page(actor, description, query)
        extra = description.beside(found.items) if description.beside else {}
        template = "describe/_table.html" if request.headers.get("HX-Target") == "list" else "describe/list.html"
        return render_template(
            template, d=description, query=query, found=found, columns=chosen(description, query), extra=extra,
            chips=self.chips(query), allowed=self._allowed(), saved=saved,
        )  # fmt: skip

    def _allowed(self) -> dict[str, bool]:
        actor, description = current_actor(), self.description
        return {
            "change": (description.changeable or description.creatable) and rights.may(actor, description.change),
            "delete": description.deletable and rights.may(actor, description.delete),
        }

    def chips(self, query: Query) -> list[tuple[Filter, str]]:
        """The filters that hold, in words."""
        return [(one, ", ".join(self._filter_value(one, value) for value in one.values)) for one in query.filters]

    def _filter_value(self, one: Filter, value: str) -> str:
        if one.operator == "empty":
            return ""
        if isinstance(one.field, (Reference, References)):
            found = one.field.resolve(current_actor(), [value])
            return str(found[value].name) if value in found else value
        try:
            return one.field.shown(one.field.parse(value)) or value
        except Invalid:
            return value

    def _filter_choices(self, one: Field) -> list[tuple[Any, str]] | None:
        """What a filter offers, None where it is typed."""
        if isinstance(one, (Reference, References)):
            return options(current_actor(), one, OPTIONS_MAX)
        return self._choices(one)

    def _choices(self, one: Field) -> list[tuple[Any, str]] | None:
        """What a form offers for a field, None where it is typed."""
        if isinstance(one, Reference):
            found = options(current_actor(), one, OPTIONS_MAX)
            if found is None:
                return None
            names = [name.casefold() for _id, name in found]
            return [(name if names.count(name.casefold()) == 1 else str(key), name) for key, name in found]
        if isinstance(one, MultiSelect):
            return [(key, str(text)) for key, text in one.options.items()]
        if one.kind == "tags" and isinstance(one, References):
            return [(name, name) for _id, name in options(current_actor(), one, TAGS_MAX) or []]
        listed = getattr(one, "choices", None)
        return [(key, str(text)) for key, text in listed.items()] if listed else None

    def options(self) -> Answer:
        """Names that hold what was typed, for a reference to one of many."""
        typed = request.args.get("q") or request.args.get(request.args.get("field", ""), "")
        query = Query(words=typed[:100], size=20)
        found = page(current_actor(), self.description, query)
        return render_template(
            "describe/_options.html", names=[self.description.object_name(one) for one in found.items]
        )

    def filter(self) -> Answer:
        """The form of filters and columns: asked for when it is opened, for what it offers costs queries."""
        query = self._asked()
        template = "describe/_filter.html" if request.headers.get("HX-Request") else "describe/filter.html"
        return render_template(
            template, d=self.description, query=query, columns=chosen(self.description, query),
            choices=self._filter_choices,
        )  # fmt: skip

    def export(self) -> Answer:
        """What the list shows, all pages, as CSV."""
        query = self._asked()
        fields = (
            chosen(self.description, query)
            if query.columns
            else [one for one in self.description.all_fields() if one.tabular]
        )
        lines = tabular.export(current_actor(), self.description, query, fields)
        answer = Response(stream_with_context(lines), mimetype="text/csv")
        answer.headers["Content-Disposition"] = f'attachment; filename="{self.description.path}.csv"'
        return answer

    def show(self, object_id: Any) -> Answer:
        """One object."""
        obj = services.find(current_actor(), self.description, str(object_id))
        return render_template("describe/show.html", d=self.description, obj=obj, allowed=self._allowed())

    def history(self, object_id: Any) -> Answer:
        """What was changed in it, the newest first; for who may see all, also of what is deleted."""
        actor, description = current_actor(), self.description
        found = history.of_object(description.name, str(object_id), request.args.get("page", 1, int))
        try:
            obj = services.find(actor, description, str(object_id))
            name = description.object_name(obj)
        except NotFound:
            if not (found.items and actor.rights.scope(description.view).everywhere):
                raise
            obj, name = None, found.items[0].object_name
        found = scope.history(actor, description, found)
        can = {} if obj is None else {one.id: restoring.restorable(description, one) for one in found.items}
        return render_template("describe/history.html", d=description, obj=obj, name=name, restorable=can, found=found)

    def restore(self, object_id: Any) -> Answer:
        """Give a field the value back that it had before a change."""
        actor, description = current_actor(), self.description
        obj = services.find_to_change(actor, description, str(object_id))
        name = request.form.get("field", "")
        try:
            others = restoring.restore(actor, description, obj, request.form.get("change", 0, int), [name])
        except (Invalid, Conflict, NotFound) as error:
            db.session.rollback()
            flash(str(error), "warning")
        else:
            label = description.label_of(name)
            if others:
                flash(_("%(field)s is declared, but by its policy the agent's value holds.", field=label), "warning")
            else:
                flash(_("%(field)s is restored.", field=label))
        return redirect(url_for(".history", object_id=object_id))

    def new(self) -> Answer:
        """The form for another one, and what it sends."""
        if request.method == "GET":
            given = {one.name: request.args.get(one.name, "") for one in self.description.all_fields()}
            texts = self._texts(self.description.model())
            for one in self._editable():
                if (value := one.initial()) is not None:
                    texts[one.name] = value if isinstance(one, MultiSelect) else one.text(value)
            return self._form(None, {**texts, **{k: v for k, v in given.items() if v}})
        actor = current_actor()
        try:
            obj = services.create(actor, self.description, self._values(actor))
        except (Invalid, Conflict) as error:
            return self._refused(None, error)
        flash(_("%(name)s is added.", name=self.description.object_name(obj)))
        return redirect(url_for(".show", object_id=obj.id))

    def edit(self, object_id: Any) -> Answer:
        """The form of an object, and what it sends."""
        actor = current_actor()
        if request.method == "GET":
            obj = services.find(actor, self.description, str(object_id))
            texts = self._texts(obj)
            return self._form(obj, {**texts, **{name: text for name, text in request.args.items() if name in texts}})
        try:
            version = request.form.get("version")
            obj = services.find_to_change(actor, self.description, str(object_id), version)
            services.update(actor, self.description, obj, self._values(actor))
        except (Invalid, Conflict, Outdated) as error:
            return self._refused(object_id, error)
        flash(_("%(name)s is changed.", name=self.description.object_name(obj)))
        return redirect(url_for(".show", object_id=obj.id))

    def _editable(self) -> list[Field]:
        """The fields of the form; not those that refer to what the user may not see: he could but clear them."""
        actor = current_actor()
        return [
            one
            for one in self.description.all_fields()
            if one.editable
            and not (isinstance(one, (Reference, References)) and not rights.may(actor, find(one.to).view))
        ]

    def _values(self, actor: Actor) -> dict[str, Any]:
        wanted = [one.name for one in self._editable()]
        return services.values_of(actor, self.description, self._sent(), wanted)

    def _sent(self) -> dict[str, str | list[str]]:
        return {
            one.name: request.form.getlist(one.name)
            if isinstance(one, MultiSelect) or one.kind == "tags"
            else request.form.get(one.name, "")
            for one in self._editable()
        }

    def _texts(self, obj: Any) -> dict[str, Any]:
        """The values of an object as the form holds them."""
        actor = current_actor()
        values = [(one, scope.seen(actor, one, obj)) for one in self._editable()]
        return {one.name: value or [] if isinstance(one, MultiSelect) else one.text(value) for one, value in values}

    def _refused(self, object_id: Any, error: DomainError) -> Answer:
        """The form again, with what was written in it and what is wrong."""
        db.session.rollback()
        obj = None if object_id is None else services.find(current_actor(), self.description, str(object_id))
        return self._form(obj, self._sent(), error), error.status

    def _form(self, obj: Any, texts: Mapping[str, Any], error: DomainError | None = None) -> str:
        version = None if obj is None else services.version_of(self.description, obj)
        return render_template(
            "describe/form.html", d=self.description, obj=obj, texts=texts, choices=self._choices, version=version,
            fields=self._editable(),
            error=None if error is None else str(error), errors=error.fields if isinstance(error, Invalid) else {},
        )  # fmt: skip

    def delete(self, object_id: Any) -> Answer:
        """Asks whether, and deletes."""
        actor = current_actor()
        obj = services.find(actor, self.description, str(object_id))
        dependants = services.dependants_of(self.description, obj)
        if request.method == "GET":
            return render_template(
                "describe/delete.html", d=self.description, obj=obj, dependants=dependants, error=None
            )
        name = self.description.object_name(obj)
        try:
            services.delete(actor, self.description, obj)
        except Conflict as error:
            page = render_template(
                "describe/delete.html", d=self.description, obj=obj, dependants=dependants, error=str(error)
            )
            return page, error.status
        flash(_("%(name)s is deleted.", name=name))
        return redirect(url_for(".index"))
