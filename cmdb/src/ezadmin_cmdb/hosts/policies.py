"""Choosing whose value of a field holds, for all hosts."""

from __future__ import annotations

from collections.abc import Mapping

from flask_babel import lazy_gettext as _l
from sqlalchemy import select, union

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes import services as changes
from ezadmin_cmdb.database import db
from ezadmin_cmdb.hosts import services, values
from ezadmin_cmdb.hosts.models import Declaration, Drift, FieldPolicy, Host
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.rights.permissions import declare

POLICY_VIEW = declare("host_policy.view", _l("Policies of fields: see"))
POLICY_CHANGE = declare("host_policy.change", _l("Policies of fields: change"))
TITLES = {
    "agent": _l("The agent's value holds"), "person": _l("The declared value holds"),
    "review": _l("A person decides about each difference"),
}  # fmt: skip


def choose(actor: Actor, wanted: Mapping[str, str]) -> dict[str, str]:
    """Choose policies of fields, and let them take effect on all hosts; returns all policies.

    Raises Forbidden, Invalid.
    """
    rights.require(actor, POLICY_CHANGE)
    values.check_policies(wanted)
    rows = {row.field: row for row in db.session.scalars(select(FieldPolicy).with_for_update())}
    before = values.policies()
    changed = {name: policy for name, policy in wanted.items() if before[name] != policy}
    for name, policy in changed.items():
        if name in rows:
            rows[name].policy = policy
        else:
            db.session.add(FieldPolicy(field=name, policy=policy))
    db.session.flush()
    after = before | changed
    changes.record(actor, "host_policy", "fields", "policies of fields", before, after)
    concerned = union(
        *(select(model.host_id).where(model.field.in_(changed)) for model in (Declaration, Drift))
    ).subquery()
    for chunk in values.chunks(db.session.scalars(select(Host.id).where(Host.id.in_(select(concerned))))):
        for host in services.lock(chunk):
            held = services.snapshot(host)
            values.settle(host, actor, after)
            changes.record(actor, "host", host.id, host.name, held, services.snapshot(host))
        db.session.flush()
    return after
