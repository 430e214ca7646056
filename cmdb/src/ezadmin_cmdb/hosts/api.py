"""What the API can do with the values of hosts, their policies, and the inbox of drifts, beside what is generated."""

# mypy: disable-error-code="untyped-decorator"
# (flask-smorest ships no types)
from __future__ import annotations

from typing import Any

from flask_smorest import Blueprint
from marshmallow import RAISE, Schema, fields, validate

from ezadmin_cmdb.hosts import drifts, policies, services, values
from ezadmin_cmdb.web.access import needs
from ezadmin_cmdb.web.signin import current_actor

bp = Blueprint(
    "hosts_values", __name__, url_prefix="/api/v1", description="Declared, observed and effective values of hosts"
)
_POLICY = validate.OneOf(values.POLICIES)


class ValueSchema(Schema):
    """A field of a host: what was declared, what is observed, what holds, and by which policy."""

    field = fields.String()
    policy = fields.String(validate=_POLICY)
    effective = fields.Raw(allow_none=True)
    holds = fields.String(validate=validate.OneOf(["agent", "person"]), allow_none=True)
    declared = fields.Raw(allow_none=True)
    declared_by = fields.String(allow_none=True)
    declared_source = fields.String(allow_none=True)
    declared_since = fields.AwareDateTime(format="iso", allow_none=True)
    observed = fields.Raw(allow_none=True)
    observed_since = fields.AwareDateTime(format="iso", allow_none=True)
    drift: Any = fields.Function(lambda value: value.drift.id if value.drift else None, metadata={
        "type": ["integer", "null"], "description": "the id of its difference, if there is one",
    })  # fmt: skip


class NewValueSchema(Schema):
    """A value to declare."""

    class Meta:  # noqa: D106 - marshmallow's
        unknown = RAISE

    value = fields.Raw(
        required=True, allow_none=True, metadata={"description": "null: the field is given back to the agent"}
    )


class DecisionSchema(Schema):
    """A decision about differences: about those of ``ids``, or all open ones that match ``filter``."""

    class Meta:  # noqa: D106 - marshmallow's
        unknown = RAISE

    decision = fields.String(required=True, validate=validate.OneOf([drifts.ACCEPT, drifts.REJECT]))
    ids = fields.List(fields.Integer(strict=True), validate=validate.Length(max=drifts.DECISIONS_MAX))
    filter = fields.String(metadata={"description": "as the address of the list holds it: field=serial&host=web1"})


class DecidedSchema(Schema):
    """How many differences were decided; those that are gone meanwhile do not count."""

    decided = fields.Integer()


PoliciesSchema = Schema.from_dict(
    {name: fields.String(validate=_POLICY) for name in values.DEFAULTS}, name="HostPolicies"
)


@bp.route("/hosts/<uuid:host_id>/values")
@bp.response(200, ValueSchema(many=True))
@needs(services.HOST_VIEW)
def host_values(host_id: object) -> list[values.Value]:
    """Why the fields of a host have their values."""
    return list(values.explain(services.find(current_actor(), str(host_id))).values())


@bp.route("/hosts/<uuid:host_id>/values/<field>", methods=["PUT"])
@bp.arguments(NewValueSchema)
@bp.response(200, ValueSchema)
@needs(services.HOST_CHANGE)
def declare_value(given: dict[str, Any], host_id: object, field: str) -> values.Value:
    """Declare the value of a field; null gives it back to the agent."""
    host = services.find_to_change(current_actor(), str(host_id))
    services.declare(current_actor(), host, field, given["value"])
    return values.explain(host)[field]


@bp.route("/host-policies")
@bp.response(200, PoliciesSchema)
@needs(policies.POLICY_VIEW)
def policy_list() -> dict[str, str]:
    """Whose value of each field holds."""
    return values.policies()


@bp.route("/host-policies", methods=["PATCH"])
@bp.arguments(PoliciesSchema(unknown=RAISE))
@bp.response(200, PoliciesSchema)
@needs(policies.POLICY_CHANGE)
def change_policies(given: dict[str, str]) -> dict[str, str]:
    """Choose whose value holds, for some fields; takes effect on all hosts."""
    return policies.choose(current_actor(), given)


@bp.route("/drifts/decisions", methods=["POST"])
@bp.arguments(DecisionSchema)
@bp.response(200, DecidedSchema)
@needs(services.HOST_CHANGE)
def decide(given: dict[str, Any]) -> dict[str, int]:
    """Accept differences (what is observed holds) or reject them (what is declared stays)."""
    done = drifts.decide(current_actor(), given["decision"], given.get("ids"), given.get("filter"))
    return {"decided": done}
