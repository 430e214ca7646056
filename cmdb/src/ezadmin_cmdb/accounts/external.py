"""Users whom a directory or an identity provider knows: made at the first sign-in, in the teams that their groups stand for.

Grants of a team say what its members may, so a group outside comes to roles and groups of hosts by way of its team. A user of
this name who is ezadmin's own stays so: nobody outside can take his account.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from flask_babel import gettext as _
from sqlalchemy import select

from ezadmin_cmdb.accounts.models import User
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes import services as changes
from ezadmin_cmdb.database import db
from ezadmin_cmdb.errors import DomainError
from ezadmin_cmdb.rights.access import ALL
from ezadmin_cmdb.rights.models import Team
from ezadmin_cmdb.settings import Groups


class NotAdmitted(DomainError):
    """Who it is, is proven, but he may not sign in here."""

    status = 403


@dataclass(frozen=True)
class Person:
    """Someone whom ``origin`` knows: ``key`` is his there for ever, ``name`` what he is called, ``groups`` their names."""

    origin: str
    key: str
    name: str
    groups: Collection[str]


def admit(person: Person, rules: Groups) -> User:
    """The account of a person, brought up to date with his groups. Raises NotAdmitted. Records what it changes."""
    external = f"{person.origin} {person.key}"[:255]
    actor = Actor(f"{person.origin}: {person.name}"[:255], "ui", ALL)
    user = db.session.scalar(select(User).where(User.external == external).with_for_update())
    if user is None:
        user = _made(actor, person, external, rules)
    if not user.active:
        raise NotAdmitted(_("This account is switched off."))
    groups = {one.casefold() for one in person.groups}
    if rules.admins:
        admin = bool(groups & {one.casefold() for one in rules.admins})
        if admin != user.admin:
            changes.record(actor, "user", str(user.id), user.name, {"admin": user.admin}, {"admin": admin})
            user.admin = admin
    wanted = {team for group, team in rules.teams.items() if group.casefold() in groups}
    _join(actor, user, wanted, set(rules.teams.values()))
    return user


def _made(actor: Actor, person: Person, external: str, rules: Groups) -> User:
    name = person.name.strip()
    if not rules.create_users:
        raise NotAdmitted(_("There is no account for %(name)s yet; an administrator must make it.", name=name))
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise NotAdmitted(_("%(name)s cannot be the name of an account.", name=name[:64]))
    if db.session.scalar(select(User.id).where(User.name == name)) is not None:
        raise NotAdmitted(_("There is another account of the name %(name)s.", name=name))
    user = User(name=name, password_hash="", admin=False, origin=person.origin, external=external)
    db.session.add(user)
    db.session.flush()
    after = {"name": name, "admin": False, "active": True, "origin": person.origin}
    changes.record(actor, "user", str(user.id), name, None, after)
    return user


def _join(actor: Actor, user: User, wanted: Collection[str], ruled: Collection[str]) -> None:
    """Put the user into the teams ``wanted``, and out of the others that are ``ruled`` by groups."""
    teams: Sequence[Team] = db.session.scalars(select(Team).where(Team.name.in_(ruled))).all()
    for team in teams:
        member = any(one.id == user.id for one in team.members)
        if (team.name in wanted) == member:
            continue
        before = sorted(one.name for one in team.members)
        if member:
            team.members.remove(user)
        else:
            team.members.append(user)
        after = sorted(one.name for one in team.members)
        db.session.flush()
        changes.record(actor, "team", str(team.id), team.name, {"members": before}, {"members": after})
