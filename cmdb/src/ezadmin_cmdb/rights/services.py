"""Asking for rights. A service says what it needs with :func:`require`; what is refused is noted in ``denials``."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from flask_babel import gettext as _
from sqlalchemy import or_, select

from ezadmin_cmdb.accounts.models import User
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db
from ezadmin_cmdb.errors import Forbidden
from ezadmin_cmdb.rights import permissions
from ezadmin_cmdb.rights.access import ALL, EVERYWHERE, GroupScope, Rights, Scope
from ezadmin_cmdb.rights.models import Denial, Grant, HostGroup, Role, TeamMember

_log = logging.getLogger("ezadmin_cmdb.rights")


def rights_of(user: User) -> Rights:
    """What a user may do: all he was granted, himself or through a team. One query."""
    if not user.active:
        return Rights()
    if user.admin:
        return ALL
    teams = select(TeamMember.team_id).where(TeamMember.user_id == user.id)
    rows = db.session.execute(
        select(Role.permissions, Grant.group_id, HostGroup.filter)
        .select_from(Grant)
        .join(Role)
        .outerjoin(HostGroup)
        .where(or_(Grant.user_id == user.id, Grant.team_id.in_(teams)))
    )
    found: dict[str, Scope] = {}
    for names, group_id, group_filter in rows:
        where = EVERYWHERE if group_id is None else Scope(groups=frozenset({GroupScope(group_id, group_filter)}))
        for name in permissions.with_implied(names):
            if where.everywhere or permissions.find(name).hosts:
                found[name] = found.get(name, Scope()) | where
    return Rights(permissions=found)


def may(actor: Actor, permission: str) -> bool:
    """Whether ``permission`` holds anywhere."""
    permissions.find(permission)
    return bool(actor.rights.scope(permission))


def require(actor: Actor, permission: str) -> None:
    """Go on only if ``permission`` holds (for one about hosts: for some of them). Raises Forbidden."""
    if not may(actor, permission):
        raise refusal(actor, permission)


def refusal(actor: Actor, permission: str, object_type: str | None = None, object_id: object = None) -> Forbidden:
    """Note that something was refused; returns the error to raise."""
    note(actor, permission, object_type, object_id)
    return Forbidden(_("Your account lacks the permission: %(title)s", title=permissions.find(permission).title))


def note(actor: Actor, permission: str, object_type: str | None = None, object_id: object = None) -> None:
    """Note that something was refused. Written when the request or command ends, which itself changes nothing."""
    denial = {
        "actor": actor.name,
        "source": actor.source,
        "request_id": actor.request_id,
        "permission": permission,
        "object_type": object_type,
        "object_id": None if object_id is None else str(object_id)[:64],
        "address": actor.address,
        "token": actor.token,
    }
    _log.warning("refused: %s wants %s", actor.name, permission, extra={"fields": {"denial": denial}})
    db.session.info.setdefault("denials", []).append(denial)


def keep_denials() -> None:
    """Add what was noted to the session: called before each commit, also that which follows a rollback."""
    for denial in db.session.info.pop("denials", []):
        db.session.add(Denial(**denial))


def require_own(actor: Actor, names: Iterable[str], everywhere: bool) -> None:
    """Nobody gives more than he has: raises Forbidden unless every one of ``names`` holds for the actor everywhere.

    ``everywhere`` False is about a grant for one group, for which only permissions about hosts count.
    """
    for name in permissions.with_implied(names):
        counts = everywhere or permissions.find(name).hosts
        if counts and not actor.rights.scope(name).everywhere:
            raise refusal(actor, name)
