"""Descriptions of roles, groups of hosts, teams, grants, denials; and the rule that nobody gives more than he has."""

from __future__ import annotations

from typing import Any

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from sqlalchemy import ColumnElement, select

from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe import query as queries
from ezadmin_cmdb.describe.description import Description, find, register
from ezadmin_cmdb.errors import Conflict, Invalid
from ezadmin_cmdb.rights import permissions, services
from ezadmin_cmdb.rights.models import Denial, Grant, HostGroup, Role, Team


def _own_grants(actor: Actor, which: ColumnElement[bool]) -> None:
    """Raises Forbidden unless all that these grants give holds for the actor everywhere."""
    rows = db.session.execute(select(Role.permissions, Grant.group_id).select_from(Grant).join(Role).where(which))
    for names, group_id in rows:
        services.require_own(actor, names, everywhere=group_id is None)


def _role(actor: Actor, role: Any, new: bool) -> None:
    services.require_own(actor, role.permissions, everywhere=True)
    if not new:
        stored = db.session.scalar(select(Role.permissions).where(Role.id == role.id))
        services.require_own(actor, stored or [], everywhere=True)


def _role_removable(actor: Actor, role: Any) -> None:
    services.require_own(actor, role.permissions, everywhere=True)


def _group(actor: Actor, group: Any, new: bool) -> None:
    if group.filter:
        if group.hosts:
            raise Invalid(_("A group has either a filter or hosts that are listed."), "filter")
        try:
            query = queries.parse_text(find("host"), group.filter, strict=True)
        except Invalid as error:
            raise Invalid(_("The filter cannot be understood: %(error)s", error=error), "filter") from error
        if any(one.field.name == "groups" for one in query.filters):
            raise Invalid(_("The filter of a group cannot ask for groups."), "filter")
        if not query.filter_text:
            raise Invalid(_("The filter is empty: it would hold every host."), "filter")
        group.filter = query.filter_text
    if not new:
        _own_grants(actor, Grant.group_id == group.id)


def _group_removable(actor: Actor, group: Any) -> None:
    from ezadmin_cmdb.limits.models import LimitAssignment  # it knows groups
    from ezadmin_cmdb.thresholds.models import ThresholdAssignment, ThresholdTemplate

    ids = list(db.session.scalars(select(LimitAssignment.limit_id).where(LimitAssignment.group_id == group.id)))
    assigned = select(ThresholdTemplate.name).join(ThresholdAssignment).where(ThresholdAssignment.group_id == group.id)
    ids += db.session.scalars(assigned)
    if ids:
        raise Conflict(_("Limits are for it: %(ids)s. Take them away first.", ids=", ".join(sorted(set(ids)))))


def _team(actor: Actor, team: Any, new: bool) -> None:
    if not new:
        _own_grants(actor, Grant.team_id == team.id)


def _grant(actor: Actor, grant: Any, new: bool) -> None:
    if (grant.user is None) == (grant.team is None):
        raise Invalid(_("Give either a user or a team."), "user")
    services.require_own(actor, grant.role.permissions, everywhere=grant.group is None)
    if not new:
        _own_grants(actor, Grant.id == grant.id)


def _grant_removable(actor: Actor, grant: Any) -> None:
    _own_grants(actor, Grant.id == grant.id)


def _permission_choices() -> dict[str, object]:
    return {one.name: one.title for one in permissions.known()}


def _description() -> fields.Text:
    return fields.Text(name="description", label=_l("Description"), searched=True, sortable=False)


ROLE = register(
    Description(
        name="role",
        path="roles",
        model=Role,
        title=_l("Role"),
        titles=_l("Roles"),
        icon="person-badge",
        menu="administration",
        checks=[_role],
        removable=[_role_removable],
        empty_hint=_l("A role is a set of permissions. A grant gives it to a user or a team."),
        fields=[
            fields.Text(name="name", label=_l("Name"), length=128, required=True, unique=True, searched=True),
            _description(),
            fields.MultiSelect(
                name="permissions", label=_l("Permissions"), choices=_permission_choices, listed=False,
                help=_l("Whoever may change or delete something may see it too."),
            ),
        ],
    )
)  # fmt: skip

HOST_GROUP = register(
    Description(
        name="host_group",
        path="host-groups",
        model=HostGroup,
        title=_l("Group of hosts"),
        titles=_l("Groups of hosts"),
        icon="collection",
        menu="administration",
        checks=[_group],
        removable=[_group_removable],
        panels=["rights/_group.html"],
        beside_form="rights/_group_form.html",
        empty_hint=_l("A group holds hosts that are listed, or all that match a filter. Grants can be limited to it."),
        fields=[
            fields.Text(name="name", label=_l("Name"), length=128, required=True, unique=True, searched=True),
            _description(),
            fields.Text(
                name="filter", label=_l("Filter"), length=2000, sortable=False,
                help=_l("As it stands in the address of the list of hosts: state=active&os_name=Debian. "
                        "Whoever may change what it asks for can bring hosts into the group."),
            ),
            fields.References(
                name="hosts", label=_l("Hosts"), to="host", help=_l("A name or id a line. Only without a filter.")
            ),
        ],
    )
)  # fmt: skip

TEAM = register(
    Description(
        name="team",
        path="teams",
        model=Team,
        title=_l("Team"),
        titles=_l("Teams"),
        icon="people",
        menu="administration",
        checks=[_team],
        empty_hint=_l("People who are granted something together."),
        fields=[
            fields.Text(name="name", label=_l("Name"), length=128, required=True, unique=True, searched=True),
            _description(),
            fields.References(
                name="members", label=_l("Members"), to="user", listed=True, help=_l("The name of a user a line.")
            ),
        ],
    )
)  # fmt: skip

GRANT = register(
    Description(
        name="grant",
        path="grants",
        model=Grant,
        title=_l("Grant"),
        titles=_l("Grants"),
        icon="key",
        menu="administration",
        order=("role",),
        key="name",
        checks=[_grant],
        removable=[_grant_removable],
        empty_hint=_l("A grant gives a role to a user or a team, for a group of hosts or everywhere."),
        fields=[
            fields.Computed(name="name", label=_l("Grant"), compute=lambda grant: grant.name),
            fields.Reference(name="user", label=_l("User"), to="user"),
            fields.Reference(name="team", label=_l("Team"), to="team"),
            fields.Reference(name="role", label=_l("Role"), to="role", required=True),
            fields.Reference(
                name="group", label=_l("Group of hosts"), to="host_group",
                help=_l("Without one it holds everywhere. With one, only what the role permits about hosts counts."),
            ),
        ],
    )
)  # fmt: skip

DENIAL = register(
    Description(
        name="denial",
        path="denials",
        model=Denial,
        title=_l("Denial"),
        titles=_l("Denials"),
        icon="shield-lock",
        menu="administration",
        key="id",
        order=("-time",),
        creatable=False,
        changeable=False,
        deletable=False,
        empty_hint=_l("What was refused to somebody stands here."),
        fields=[
            fields.Moment(name="time", label=_l("Time"), required=True, editable=False),
            fields.Text(name="actor", label=_l("Who"), required=True, editable=False, searched=True),
            fields.Text(name="source", label=_l("By"), required=True, editable=False),
            fields.Text(
                name="permission", label=_l("Missing permission"), required=True, editable=False, searched=True
            ),
            fields.Text(name="object_type", label=_l("Kind of object"), editable=False),
            fields.Text(name="object_id", label=_l("Object"), editable=False),
            fields.Text(name="address", label=_l("From address"), editable=False, searched=True),
            fields.Text(name="token", label=_l("Token"), editable=False, listed=False),
            fields.Text(name="request_id", label=_l("Request"), editable=False, listed=False, searched=True),
        ],
    )
)
