"""Which limits are for which hosts."""

from __future__ import annotations

from sqlalchemy import Select, and_, exists, or_, select

from ezadmin_cmdb.database import db
from ezadmin_cmdb.hosts.models import Host, HostLabel
from ezadmin_cmdb.limits.models import LimitAssignment


def limit_ids(host: Host) -> list[str]:
    """The ids of the limits of a host, as its config record lists them."""
    named = [and_(LimitAssignment.label == label.name, LimitAssignment.value == label.value) for label in host.labels]
    everyone = and_(LimitAssignment.host_id.is_(None), LimitAssignment.label.is_(None))
    query = select(LimitAssignment.limit_id).where(or_(LimitAssignment.host_id == host.id, everyone, *named))
    return sorted(set(db.session.scalars(query)))


def hosts_of(assignment: LimitAssignment) -> Select[Host]:
    """The query of the hosts that an assignment is for."""
    query = select(Host).order_by(Host.id)
    if assignment.host_id is not None:
        return query.where(Host.id == assignment.host_id)
    if assignment.label is None:
        return query
    labelled = and_(
        HostLabel.host_id == Host.id, HostLabel.name == assignment.label, HostLabel.value == assignment.value
    )
    return query.where(exists().where(labelled))
