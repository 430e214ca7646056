"""Which limits are for which hosts."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select, and_, exists, or_, select

from ezadmin_cmdb.database import db
from ezadmin_cmdb.hosts import labels
from ezadmin_cmdb.hosts.models import Host, HostLabel
from ezadmin_cmdb.limits.models import LimitAssignment
from ezadmin_cmdb.rights import groups


def limit_ids(host: Host) -> list[str]:
    """The ids of the limits of a host, as its config record lists them."""
    named = [
        and_(LimitAssignment.label == name, LimitAssignment.value == value)
        for name, value in labels.effective(host).items()
    ]
    nothing = (LimitAssignment.host_id, LimitAssignment.label, LimitAssignment.group_id)
    everyone = and_(*(one.is_(None) for one in nothing))
    grouped = LimitAssignment.group_id.in_([int(group_id) for group_id in host.member_of or {}])
    mine = or_(LimitAssignment.host_id == host.id, everyone, grouped, *named)
    query = select(LimitAssignment.limit_id).where(mine)
    return sorted(set(db.session.scalars(query)))


def limit_ids_of(hosts: Sequence[Host]) -> dict[str, list[str]]:
    """As :func:`limit_ids`, for many hosts with one query; their labels must be loaded."""
    columns = (
        LimitAssignment.limit_id, LimitAssignment.host_id, LimitAssignment.label, LimitAssignment.value,
        LimitAssignment.group_id,
    )  # fmt: skip
    mine = or_(LimitAssignment.host_id.is_(None), LimitAssignment.host_id.in_([host.id for host in hosts]))
    for_one: dict[str, set[str]] = {}
    for_label: dict[tuple[str | None, str], set[str]] = {}
    for_group: dict[str, set[str]] = {}
    for limit_id, host_id, label, value, group_id in db.session.execute(select(*columns).where(mine)):
        if host_id is not None:
            for_one.setdefault(host_id, set()).add(limit_id)
        elif group_id is not None:
            for_group.setdefault(str(group_id), set()).add(limit_id)
        else:
            for_label.setdefault((label, (value or "").casefold()), set()).add(limit_id)
    return {
        host.id: sorted(
            for_one.get(host.id, set()).union(
                for_label.get((None, ""), set()),
                *(for_group.get(group_id, set()) for group_id in host.member_of or {}),
                *(for_label.get((name, value.casefold()), set()) for name, value in labels.effective(host).items()),
            )
        )
        for host in hosts
    }


def hosts_of(assignment: LimitAssignment) -> Select[Host]:
    """The query of the hosts that an assignment is for."""
    query = select(Host).order_by(Host.id)
    if assignment.host_id is not None:
        return query.where(Host.id == assignment.host_id)
    if assignment.group is not None:
        return query.where(groups.holds([groups.scope_of(assignment.group)]))
    if assignment.label is None:
        return query
    given = exists().where(
        HostLabel.host_id == Host.id, HostLabel.name == assignment.label, HostLabel.value == assignment.value
    )
    follows = labels.following(assignment.label, assignment.value or "")
    if follows is None:
        return query.where(given)
    return query.where(or_(follows, and_(given, labels.absent(assignment.label))))
