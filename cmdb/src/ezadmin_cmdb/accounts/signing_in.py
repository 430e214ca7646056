"""Signing in: name and password, locally or by a directory, or word of an identity provider; then the second factor."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from flask import current_app
from flask_babel import gettext as _
from sqlalchemy import select

from ezadmin_cmdb.accounts import directory, external, guards, second_factor
from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.accounts.models import LOCAL, User
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.audit import services as audit
from ezadmin_cmdb.database import db
from ezadmin_cmdb.errors import DomainError
from ezadmin_cmdb.settings import Ldap, Settings

SECOND_SECONDS = 300
"""So long after the password a code is asked for."""
UNKNOWN = "?"
"""In the audit log for a name that nobody has: it may be a password that was typed into the wrong place."""


class SignInRefused(DomainError):
    """Name, password or code are wrong; which of them is not told."""

    status = 401


@dataclass(frozen=True)
class From:
    """Where an attempt comes from."""

    address: str
    request_id: str | None = None
    browser: str | None = None


@dataclass(frozen=True)
class Half:
    """A user whose password was right, and who must still show a code; kept in the browser's signed cookie."""

    user_id: int
    proof: str
    time: int

    def as_cookie(self) -> dict[str, Any]:
        """For the cookie."""
        return {"user": self.user_id, "proof": self.proof, "time": self.time}

    @classmethod
    def of_cookie(cls, given: Any) -> Half | None:
        """The reverse of :meth:`as_cookie`; None for what is none, or too old."""
        if not isinstance(given, Mapping):
            return None
        try:
            half = cls(int(given["user"]), str(given["proof"]), int(given["time"]))
        except (KeyError, TypeError, ValueError):
            return None
        return half if 0 <= time.time() - half.time <= SECOND_SECONDS else None


def find(name: str) -> User | None:
    """The active user of this name."""
    return db.session.scalar(select(User).where(User.name == name, User.active))


def with_password(name: str, password: str, where: From) -> tuple[User, str | None, Half | None]:
    """Check name and password: (user, token for the browser, None), or, if a code is needed, (user, None, Half).

    Raises SignInRefused, LockedOut.
    """
    name = name.strip()[:64]
    user = find(name)
    attempt = guards.begin(user, name, where.address)
    right = accounts.verify_password(user, password)
    if (user is None or user.origin != LOCAL) and (settings := _directory()) is not None:
        return _by_directory(settings, name, password, user, attempt, where)
    if not right or user is None:
        raise_refused(attempt, user, "password", where)
    return finish(user, attempt, "password", where)


def _directory() -> Ldap | None:
    settings: Settings = current_app.extensions["ezadmin_settings"]
    return settings.ldap


def _by_directory(
    settings: Ldap, name: str, password: str, user: User | None, attempt: guards.Attempt, where: From
) -> tuple[User, str | None, Half | None]:
    """For a name that is not one of ezadmin's own: those sign in also while the directory is away."""
    person = directory.authenticate(settings, name, password)
    if person is None:
        raise_refused(attempt, user, "directory", where)
    try:
        user = external.admit(person, settings.groups)
    except external.NotAdmitted as error:
        about = None if user is None else ("user", user.id, user.name)
        actor = Actor(person.name[:255], "ui", request_id=where.request_id, address=where.address)
        audit.note("sign_in", "directory", actor, audit.FAILURE, about=about, details={"why": str(error)})
        raise
    return finish(user, attempt, "directory", where)


def raise_refused(attempt: guards.Attempt, user: User | None, action: str, where: From) -> NoReturn:
    """Count and note a failure. Raises SignInRefused. The caller's unit of work is to be committed."""
    actor = _actor(user, where)
    about = None if user is None else ("user", user.id, user.name)
    locks = attempt.failed()
    audit.note("sign_in", action, actor, audit.FAILURE, about=about)
    if locks:
        audit.note("sign_in", "locked", actor, audit.FAILURE, about=about)
    raise SignInRefused(_("The code is wrong.") if action == "code" else _("Name or password is wrong."))


def finish(
    user: User, attempt: guards.Attempt | None, action: str, where: From
) -> tuple[User, str | None, Half | None]:
    """What follows when it is known who it is: a session, or the question for a code."""
    if second_factor.is_on(user):
        return user, None, Half(user.id, _proof(user), int(time.time()))
    if attempt is not None:
        attempt.succeeded()
    return user, _signed_in(user, action, where), None


def with_code(half: Half, code: str, where: From) -> tuple[User, str]:
    """The second half: (user, token for the browser). Raises SignInRefused, LockedOut."""
    user = db.session.get(User, half.user_id)
    if user is None or not user.active or _proof(user) != half.proof:
        raise SignInRefused(_("Sign in again."))
    attempt = guards.begin(user, user.name, where.address)
    kind = second_factor.check(user, code)
    if kind is None:
        raise_refused(attempt, user, "code", where)
    attempt.succeeded()
    return user, _signed_in(user, f"code: {kind}", where)


def _signed_in(user: User, how: str, where: From) -> str:
    audit.note("sign_in", "sign_in", _actor(user, where), about=("user", user.id, user.name), details={"how": how})
    return accounts.open_session(user, where.address, where.browser)


def _proof(user: User) -> str:
    """Another one once the password is: then the first half is worth nothing."""
    return hashlib.sha256(f"{user.id} {user.password_hash}".encode()).hexdigest()[:32]


def _actor(user: User | None, where: From) -> Actor:
    name = UNKNOWN if user is None else user.name
    return Actor(name, "ui", request_id=where.request_id, address=where.address, user_id=user.id if user else None)


def signed_out(actor: Actor, token: str) -> None:
    """End a session, and note it."""
    accounts.sign_out(token)
    audit.note("sign_in", "sign_out", actor)
