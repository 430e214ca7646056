"""Which limits are for which hosts."""

from __future__ import annotations

from sqlalchemy import Select, and_, exists, or_, select

from ezadmin_cmdb.database import db
from ezadmin_cmdb.hosts.models import Host, HostLabel
from ezadmin_cmdb.limits.models import LimitAssignment
from ezadmin_cmdb.rights import groups


def limit_ids(host: Host) -> list[str]:
    """The ids of the limits of a host, as its config record lists them."""
    named = [and_(LimitAssignment.label == label.name, LimitAssignment.value == label.value) for label in host.labels]
    nothing = (LimitAssignment.host_id, LimitAssignment.label, LimitAssignment.group_id)
    everyone = and_(*(one.is_(None) for one in nothing))
    grouped = LimitAssignment.group_id.in_([int(group_id) for group_id in host.member_of or {}])
    mine = or_(LimitAssignment.host_id == host.id, everyone, grouped, *named)
    query = select(LimitAssignment.limit_id).where(mine)
    return sorted(set(db.session.scalars(query)))


def hosts_of(assignment: LimitAssignment) -> Select[Host]:
    """The query of the hosts that an assignment is for."""
    query = select(Host).order_by(Host.id)
    if assignment.host_id is not None:
        return query.where(Host.id == assignment.host_id)
    if assignment.group is not None:
        return query.where(groups.holds([groups.scope_of(assignment.group)]))
    if assignment.label is None:
        return query
    labelled = and_(
        HostLabel.host_id == Host.id, HostLabel.name == assignment.label, HostLabel.value == assignment.value
    )
    return query.where(exists().where(labelled))
