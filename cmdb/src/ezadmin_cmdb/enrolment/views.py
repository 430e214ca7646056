"""Pages and API of enrolment: making and revoking tokens; hosts in quarantine; hosts that two machines poll as."""

# mypy: disable-error-code="untyped-decorator"
# (flask-smorest ships no types)
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask_babel import gettext as _
from flask_smorest import Blueprint as ApiBlueprint
from marshmallow import RAISE, Schema, fields, validate
from werkzeug.wrappers import Response

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import pages
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.describe.fields import Reference
from ezadmin_cmdb.describe.query import options
from ezadmin_cmdb.enrolment import services, tokens
from ezadmin_cmdb.enrolment.description import ENROLMENT_TOKEN
from ezadmin_cmdb.enrolment.tokens import HOURS, HOURS_MAX, TOKEN_CHANGE, USES_MAX
from ezadmin_cmdb.errors import Conflict, DomainError, Forbidden, Invalid
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.web.access import needs
from ezadmin_cmdb.web.signin import current_actor

bp = Blueprint(ENROLMENT_TOKEN.path, __name__, url_prefix=f"/{ENROLMENT_TOKEN.path}")
pages.add(bp, ENROLMENT_TOKEN, pages.actions(ENROLMENT_TOKEN))
quarantine = Blueprint("quarantine", __name__, url_prefix="/hosts")
api = ApiBlueprint("api_enrolment", __name__, url_prefix="/api/v1", description="Enrolment of hosts")
OPTIONS_MAX = 300


@bp.get("/new")
@needs(TOKEN_CHANGE)
def new() -> str:
    """The form of another token."""
    return _form()


def _form(error: DomainError | None = None) -> str:
    actor, given = current_actor(), request.form
    return render_template(
        "enrolment/new.html", d=ENROLMENT_TOKEN, given=given, error=None if error is None else str(error),
        errors=error.fields if isinstance(error, Invalid) else {}, hours=HOURS, hours_max=HOURS_MAX, uses_max=USES_MAX,
        sites=options(actor, _reference("site"), OPTIONS_MAX),
        groups=options(actor, _reference("group"), OPTIONS_MAX),
    )  # fmt: skip


def _reference(name: str) -> Reference:
    found = ENROLMENT_TOKEN.field(name)
    assert isinstance(found, Reference)  # noqa: S101 - the description says so
    return found


@bp.post("/new")
@needs(TOKEN_CHANGE)
def create() -> tuple[str, int] | str:
    """Make a token, and show it once."""
    form, actor = request.form, current_actor()
    wrong: dict[str, str] = {}
    numbers = {}
    for name, default in (("hours", HOURS), ("uses_max", 1)):
        text = form.get(name, "").strip() or str(default)
        if not text.isascii() or not text.isdecimal() or len(text) > 9:
            wrong[name] = _("Write a whole number.")
        else:
            numbers[name] = int(text)
    try:
        if wrong:
            raise Invalid(" ".join(wrong.values()), fields=wrong)
        made = tokens.create(
            actor, form.get("name", ""), hours=numbers["hours"], uses=numbers["uses_max"],
            site=_chosen("site", form.get("site")), group=_chosen("group", form.get("group")),
            quarantine="quarantine" in form, replace="replace" in form,
        )  # fmt: skip
    except (Invalid, Conflict, Forbidden) as error:
        db.session.rollback()
        return _form(error), error.status
    return render_template("enrolment/once.html", made=made)


def _chosen(name: str, given: Any) -> Any:
    """The object that a field refers to. Raises Invalid, naming the field."""
    try:
        return described.referred(current_actor(), _reference(name), given or None)
    except Invalid as error:
        raise Invalid(str(error), name) from error


@bp.post("/<int:object_id>/revoke")
@needs(TOKEN_CHANGE)
def revoke(object_id: int) -> Response:
    """Nobody comes with it any more."""
    actor = current_actor()
    token = described.find_to_change(actor, ENROLMENT_TOKEN, object_id)
    tokens.revoke(actor, token)
    flash(_("%(name)s is revoked.", name=token.name))
    return redirect(url_for(".show", object_id=object_id))


# -- hosts ---


@quarantine.post("/<uuid:object_id>/accept")
@needs(hosts.HOST_CHANGE)
def accept(object_id: object) -> Response:
    """Listen to a host that is in quarantine."""
    return _decide(object_id, services.accept, _("%(name)s is accepted."))


@quarantine.post("/<uuid:object_id>/reject")
@needs(hosts.HOST_CHANGE)
def reject(object_id: object) -> Response:
    """Revoke a host that is in quarantine."""
    return _decide(object_id, services.reject, _("%(name)s is revoked."))


@quarantine.post("/<uuid:object_id>/twins")
@needs(hosts.HOST_CHANGE)
def forget_twins(object_id: object) -> Response:
    """Two machines were one host; a person has dealt with it."""
    return _decide(object_id, services.forget_twins, _("Shown again if it happens again."))


def _decide(object_id: object, decision: Callable[[Actor, Host], None], done: str) -> Response:
    actor = current_actor()
    host = hosts.find_to_change(actor, str(object_id))
    name = host.name
    try:
        decision(actor, host)
    except (Conflict, Invalid) as error:  # somebody else was quicker
        db.session.rollback()
        flash(str(error), "warning")
    else:
        flash(done % {"name": name})
    return redirect(url_for("hosts.show", object_id=object_id))


# -- API ---


class NewEnrolmentTokenSchema(Schema):
    """What a token is to be."""

    class Meta:
        """Nothing else."""

        unknown = RAISE

    name = fields.String(required=True, validate=validate.Length(1, 128))
    hours = fields.Integer(load_default=HOURS, strict=True, validate=validate.Range(1, HOURS_MAX))
    uses_max = fields.Integer(load_default=1, strict=True, validate=validate.Range(1, USES_MAX))
    site = fields.Integer(load_default=None, allow_none=True, strict=True)
    group = fields.Integer(load_default=None, allow_none=True, strict=True)
    quarantine = fields.Boolean(load_default=False, truthy={True}, falsy={False})
    replace = fields.Boolean(load_default=False, truthy={True}, falsy={False})


class MadeEnrolmentTokenSchema(Schema):
    """A token that was just made."""

    id = fields.Integer(attribute="token.id")
    name = fields.String(attribute="token.name")
    expires = fields.AwareDateTime(attribute="token.expires", format="iso")
    token = fields.String(attribute="text", metadata={"description": "the token itself, told this once"})
    command = fields.String(allow_none=True, metadata={"description": "what to run on a new host, as root"})
    missing = fields.String(allow_none=True, metadata={"description": "why there is nothing to run"})


class HostStateSchema(Schema):
    """A host and its state."""

    id = fields.String()
    name = fields.String()
    state = fields.String()


@api.route("/enrolment-tokens", methods=["POST"])
@api.arguments(NewEnrolmentTokenSchema)
@api.response(201, MadeEnrolmentTokenSchema)
@needs(TOKEN_CHANGE)
def create_token(given: dict[str, Any]) -> Any:
    """Make a token; its text is in this answer and nowhere else."""
    return tokens.create(
        current_actor(), given["name"], hours=given["hours"], uses=given["uses_max"],
        site=_chosen("site", given["site"]), group=_chosen("group", given["group"]),
        quarantine=given["quarantine"], replace=given["replace"],
    )  # fmt: skip


@api.route("/enrolment-tokens/<int:object_id>/revoke", methods=["POST"])
@api.response(204)
@needs(TOKEN_CHANGE)
def revoke_token(object_id: int) -> None:
    """Revoke a token: nobody comes with it any more, who came stays."""
    actor = current_actor()
    tokens.revoke(actor, described.find_to_change(actor, ENROLMENT_TOKEN, object_id))


@api.route("/hosts/<uuid:host_id>/accept", methods=["POST"])
@api.response(200, HostStateSchema)
@needs(hosts.HOST_CHANGE)
def accept_host(host_id: object) -> Any:
    """Listen to a host that is in quarantine."""
    host = hosts.find_to_change(current_actor(), str(host_id))
    services.accept(current_actor(), host)
    return host


@api.route("/hosts/<uuid:host_id>/reject", methods=["POST"])
@api.response(200, HostStateSchema)
@needs(hosts.HOST_CHANGE)
def reject_host(host_id: object) -> Any:
    """Revoke a host that is in quarantine, and its keys."""
    host = hosts.find_to_change(current_actor(), str(host_id))
    services.reject(current_actor(), host)
    return host
