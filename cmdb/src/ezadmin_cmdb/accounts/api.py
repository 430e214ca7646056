"""The own account in the API: its tokens."""

# mypy: disable-error-code="untyped-decorator"
# (flask-smorest ships no types)
from __future__ import annotations

from typing import Any

from flask_smorest import Blueprint
from marshmallow import RAISE, Schema, fields, validate

from ezadmin_cmdb.accounts import tokens
from ezadmin_cmdb.accounts.models import ApiToken
from ezadmin_cmdb.web.access import signed_in
from ezadmin_cmdb.web.signin import current_actor, signed_in_user

bp = Blueprint("api_account", __name__, url_prefix="/api/v1/account", description="The own account")


class OwnTokenSchema(Schema):
    """A token, without its text."""

    id = fields.Integer()
    name = fields.String()
    hint = fields.String()
    scopes = fields.List(fields.String())
    networks = fields.List(fields.String())
    created = fields.AwareDateTime(format="iso")
    expires = fields.AwareDateTime(format="iso")
    last_used = fields.AwareDateTime(format="iso", allow_none=True)
    last_address = fields.String(allow_none=True)


class MadeTokenSchema(OwnTokenSchema):
    """A token that was just made."""

    token = fields.String(metadata={"description": "the token itself, told this once"})


class NewTokenSchema(Schema):
    """What a token is to be."""

    class Meta:
        """Nothing else."""

        unknown = RAISE

    name = fields.String(required=True, validate=validate.Length(1, 64))
    scopes = fields.List(
        fields.String(), required=True, metadata={"description": "names of permissions of the own account"}
    )
    days = fields.Integer(load_default=tokens.DAYS, strict=True, validate=validate.Range(1, tokens.DAYS_MAX))
    networks = fields.List(fields.String(), load_default=list, metadata={"description": "CIDR; none: from anywhere"})


@bp.route("/tokens")
@bp.response(200, OwnTokenSchema(many=True))
@signed_in
def own_tokens() -> Any:
    """The own tokens."""
    return tokens.of_user(signed_in_user())


@bp.route("/tokens", methods=["POST"])
@bp.arguments(NewTokenSchema)
@bp.response(201, MadeTokenSchema)
@signed_in
def create_token(given: dict[str, Any]) -> Any:
    """Make a token; for a browser that is signed in, for a token makes none."""
    made, text = tokens.create(current_actor(), signed_in_user(), **given)
    made.token = text  # type: ignore[attr-defined]  # for this answer, in no column
    return made


@bp.route("/tokens/<int:token_id>", methods=["DELETE"])
@bp.response(204)
@signed_in
def revoke_token(token_id: int) -> None:
    """Revoke a token of one's own."""
    actor = current_actor()
    token: ApiToken = tokens.find_own(actor, token_id)
    tokens.revoke(actor, token)
