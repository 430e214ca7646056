"""Pages of saved filters: keeping one from a list, and the page where they are managed."""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from ezadmin_cmdb.describe.description import find as described
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.filters import services
from ezadmin_cmdb.filters.services import Saved
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.web.access import signed_in
from ezadmin_cmdb.web.signin import current_actor

bp = Blueprint("saved_filters", __name__, url_prefix="/saved-filters")


def address(saved: Saved) -> str:
    """The list as the filter asks it."""
    one = saved.filter
    kind = services.kind_of(one.object_type)
    endpoint = kind.endpoint if isinstance(kind, services.Kind) else f"{described(one.object_type).path}.index"
    return f"{url_for(endpoint)}?{one.query}"


@bp.get("/")
@signed_in
def index() -> str:
    """All that the user has, and that are shared."""
    actor = current_actor()
    return render_template(
        "filters/index.html", lists=services.lists(actor, services.available(actor)), address=address,
        may_change=lambda saved: services.may_change(actor, saved), may_share=rights.may(actor, services.SHARE),
    )  # fmt: skip


@bp.post("/")
@signed_in
def save() -> Response:
    """Keep what a list is asked."""
    actor, form = current_actor(), request.form
    description = services.kind_of(form.get("object_type", ""))
    if description is None:
        raise Invalid(_("There is no such list."), "object_type")
    made = services.save(actor, description, form.get("name", ""), form.get("query", ""), form.get("shared") == "true")
    saved = services.find(actor, made.id)
    if form.get("default") == "true":
        services.set_default(actor, saved)
    flash(_("%(name)s is saved.", name=made.name))
    return redirect(address(saved))


@bp.post("/<int:filter_id>")
@signed_in
def change(filter_id: int) -> Response:
    """What the buttons of the page do."""
    actor, form = current_actor(), request.form
    saved = services.find(actor, filter_id)
    action, name = form.get("action"), saved.filter.name
    if action == "rename":
        services.change(actor, saved, name=form.get("name", ""))
        flash(_("%(name)s is changed.", name=saved.filter.name))
    elif action in ("share", "unshare"):
        services.change(actor, saved, shared=action == "share")
        flash(_("%(name)s is changed.", name=name))
    elif action in ("default", "no-default"):
        services.set_default(actor, saved, action == "default")
        flash(_("%(name)s is changed.", name=name))
    elif action == "delete":
        services.delete(actor, saved)
        flash(_("%(name)s is deleted.", name=name))
    else:
        raise Invalid(_("There is no such action."), "action")
    return redirect(url_for(".index"))
