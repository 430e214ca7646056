"""The description of users: who may sign in. Passwords are set elsewhere, and are in no description."""

from __future__ import annotations

from typing import Any

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from sqlalchemy import select

from ezadmin_cmdb.accounts import services
from ezadmin_cmdb.accounts.models import User
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe.description import Description, register
from ezadmin_cmdb.errors import Conflict


def _guarded(actor: Actor, user: Any, new: bool) -> None:
    """Only an administrator touches one, or makes one; the last one stays."""
    was = db.session.scalar(select(User.admin).where(User.id == user.id)) if not new else False
    if user.admin or was:
        services.require_admin(actor, user)
    if was and not (user.admin and user.active):
        _not_the_last(user)


def _removable(actor: Actor, user: Any) -> None:
    if user.id == actor.user_id:
        raise Conflict(_("Nobody deletes himself."))
    if user.admin:
        services.require_admin(actor, user)
        _not_the_last(user)


def _not_the_last(user: Any) -> None:
    others = select(User.id).where(User.admin, User.active, User.id != user.id).limit(1)
    if db.session.scalar(others) is None:
        raise Conflict(_("%(name)s is the last administrator.", name=user.name))


USER = register(
    Description(
        name="user",
        path="users",
        model=User,
        title=_l("User"),
        titles=_l("Users"),
        icon="person-circle",
        menu="administration",
        creatable=False,
        checks=[_guarded],
        removable=[_removable],
        panels=["accounts/_user.html"],
        fields=[
            fields.Text(
                name="name", label=_l("Name"), length=64, required=True, unique=True, searched=True,
                help=_l("What is written when signing in."),
            ),
            fields.Boolean(name="active", label=_l("Active"), help=_l("Only an active user may sign in.")),
            fields.Boolean(
                name="admin", label=_l("Administrator"), help=_l("May do everything, without any grant.")
            ),
            fields.Select(name="language", label=_l("Language"), choices=services.LANGUAGES),
            fields.Select(
                name="origin", label=_l("Password kept by"), editable=False, required=True,
                choices={"local": "ezadmin", "ldap": "LDAP", "oidc": "OpenID Connect"}, listed=False,
            ),
            fields.Moment(name="created", label=_l("Since"), editable=False),
        ],
    )
)  # fmt: skip
