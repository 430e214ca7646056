"""The reference of the API as pages: ``/api-docs/``, where the types of errors lead to, too."""

from __future__ import annotations

from flask import Blueprint, current_app, render_template, request
from flask_babel import gettext as _

from ezadmin_cmdb.errors import NotFound
from ezadmin_cmdb.settings import Settings
from ezadmin_cmdb.web import reference
from ezadmin_cmdb.web.access import signed_in
from ezadmin_cmdb.web.errors import texts
from ezadmin_cmdb.web.schemas import MEDIA_TYPE, TYPES, TYPES_PAGE

bp = Blueprint("api_reference", __name__, url_prefix=TYPES_PAGE.rstrip("/"))


def _sections() -> list[reference.Section]:
    """Read once: the description does not change while the application runs."""
    known = current_app.extensions
    if "ezadmin_api_reference" not in known:
        spec = known["flask-smorest"]["apis"][""]["ext_obj"].spec.to_dict()
        known["ezadmin_api_reference"] = reference.sections(spec)
    found: list[reference.Section] = known["ezadmin_api_reference"]
    return found


@bp.get("/")
@signed_in
def index() -> str:
    """How to begin, what there is, and what errors mean."""
    settings: Settings = current_app.extensions["ezadmin_settings"]
    problems = [(status, name, texts(status)[0], texts(status)[2]) for status, name in TYPES.items()]
    return render_template(
        "api/index.html", sections=_sections(), problems=problems, media_type=MEDIA_TYPE, limits=settings.api,
        base=settings.web.url or request.host_url.rstrip("/"),
    )  # fmt: skip


@bp.get("/<name>")
@signed_in
def section(name: str) -> str:
    """The requests and shapes of a section."""
    found = next((one for one in _sections() if one.name == name), None)
    if found is None:
        raise NotFound(_("There is no such section."))
    return render_template("api/section.html", section=found)
