"""Which hosts a group holds."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import joinedload

from ezadmin_cmdb.database import db
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.rights.access import GroupScope
from ezadmin_cmdb.rights.models import Grant, HostGroup, HostGroupMember


def holds(groups: Iterable[GroupScope]) -> ColumnElement[bool]:
    """The condition that a host is in one of the groups: a member of a static one, or matched by a dynamic one's filter."""
    from ezadmin_cmdb.describe.description import find
    from ezadmin_cmdb.describe.query import matching

    given = list(groups)
    static = [group.id for group in given if group.filter is None]
    members = select(HostGroupMember.host_id).where(HostGroupMember.group_id.in_(static))
    return or_(
        Host.id.in_(members), *(matching(find("host"), group.filter) for group in given if group.filter is not None)
    )


def grants_of(group: HostGroup) -> list[Grant]:
    """The grants that are limited to a group, by role."""
    loaded = (joinedload(Grant.user), joinedload(Grant.team), joinedload(Grant.role), joinedload(Grant.group))
    query = select(Grant).where(Grant.group_id == group.id).options(*loaded).order_by(Grant.role_id, Grant.id)
    return list(db.session.scalars(query))


def scope_of(group: HostGroup) -> GroupScope:
    """A group as :func:`holds` takes it."""
    return GroupScope(group.id, group.filter)
