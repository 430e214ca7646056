"""The inbox of drifts: where what agents observe differs from what is expected, for people to accept or reject."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from flask_babel import lazy_gettext as _l
from marshmallow import fields as wire
from sqlalchemy import Select, func, select

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes import services as changes
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe.description import Description, register
from ezadmin_cmdb.describe.query import narrowed, parse_text
from ezadmin_cmdb.errors import Invalid
from ezadmin_cmdb.hosts import services, values
from ezadmin_cmdb.hosts.description import HOST
from ezadmin_cmdb.hosts.models import Drift, Host
from ezadmin_cmdb.rights import services as rights

DRIFT_VIEW = "drift.view"
ACCEPT, REJECT = "accept", "reject"
DECISIONS_MAX = 5000
"""Drifts that one request may decide about."""


def visible(actor: Actor) -> Select[Drift]:
    """The drifts of the hosts for which the actor may see them."""
    query = select(Drift)
    if actor.rights.scope(DRIFT_VIEW).everywhere:
        return query
    return query.where(Drift.host_id.in_(services.visible(actor, DRIFT_VIEW).with_only_columns(Host.id)))


DRIFT = register(
    Description(
        name="drift",
        path="drifts",
        model=Drift,
        title=_l("Difference"),
        titles=_l("Differences"),
        icon="arrow-left-right",
        key="id",
        order=("-since",),
        about_hosts=True,
        creatable=False,
        changeable=False,
        deletable=False,
        scope=visible,
        template="hosts/_drift_cells.html",
        above="hosts/_drift_decide.html",
        empty_hint=_l("Agents observe what is declared of every host."),
        fields=[
            fields.Reference(name="host", label=_l("Host"), to="host", required=True, editable=False, cell="host"),
            fields.Select(
                name="field", label=_l("Field"), required=True, editable=False,
                choices={name: HOST.label_of(name) for name in values.DEFAULTS},
            ),
            fields.Computed(
                name="declared", label=_l("Declared"), compute=lambda drift: drift.declared, cell="declared",
                form=lambda: wire.Raw(allow_none=True),
            ),
            fields.Computed(
                name="observed", label=_l("Observed"), compute=lambda drift: drift.observed, cell="observed",
                form=lambda: wire.Raw(allow_none=True),
            ),
            fields.Moment(name="since", label=_l("Differs since"), required=True, editable=False),
            fields.Select(
                name="status", label=_l("Decision"), required=True, editable=False,
                choices={values.OPEN: _l("Open"), values.REJECTED: _l("Rejected")}, cell="status",
                help=_l("A rejected one is open again when the agent observes something else."),
            ),
        ],
    )
)  # fmt: skip


def count_open(actor: Actor) -> int:
    """How many wait for a decision."""
    rights.require(actor, DRIFT_VIEW)
    return db.session.scalar(
        select(func.count()).select_from(visible(actor).where(Drift.status == values.OPEN).subquery())
    ) or 0  # fmt: skip


def decide(actor: Actor, decision: str, ids: list[int] | None = None, matching: str | None = None) -> int:
    """Accept (what is observed holds, nothing is declared any more) or reject (what is declared stays) drifts.

    Those of ``ids``, or all open ones that match a filter as the address of their list holds it. Those that are gone
    meanwhile, as the agent observes something else, are passed over. Returns how many were decided. Raises Forbidden if one
    is of a host that the actor may not change; Invalid.
    """
    rights.require(actor, services.HOST_CHANGE)
    if decision not in (ACCEPT, REJECT):
        raise Invalid(f"{decision!r}: {ACCEPT} or {REJECT}", "decision")
    query = visible(actor)
    if ids is not None:
        query = query.where(Drift.id.in_(ids))
    elif matching is not None:
        query = narrowed(DRIFT, parse_text(DRIFT, matching, strict=True), query).where(Drift.status == values.OPEN)
    else:
        raise Invalid("give ids or a filter", "ids")
    rows = db.session.execute(query.with_only_columns(Drift.id, Drift.host_id).limit(DECISIONS_MAX + 1)).all()
    if len(rows) > DECISIONS_MAX:
        raise Invalid(f"these are more than {DECISIONS_MAX}: narrow the filter", "filter")
    wanted: dict[str, set[int]] = defaultdict(set)
    for drift_id, host_id in rows:
        wanted[host_id].add(drift_id)
    policy, done = values.policies(), 0
    for chunk in values.chunks(wanted):
        for host in services.lock_all(actor, chunk):
            before = services.snapshot(host)
            chosen = [drift for drift in host.drifts if drift.id in wanted[host.id]]
            for drift in chosen:
                if decision == ACCEPT:
                    values.give_back(host, drift.field)
                else:
                    drift.status = values.REJECTED
            values.settle(host, actor, policy)
            changes.record(actor, "host", host.id, host.name, before, services.snapshot(host))
            done += len(chosen)
        db.session.flush()
    return done


def shown(drift: Drift, value: Any) -> str:
    """A value of a drift for people."""
    return HOST.field(drift.field).shown(value) or "–"
