"""Signing in and out, and what belongs to an account."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from flask_babel import gettext as _
from sqlalchemy import ColumnElement, delete, func, select

from ezadmin_cmdb.accounts.models import FailedSignIn, User, UserSession
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes import services as changes
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.errors import Conflict, DomainError, Forbidden, Invalid, NotFound
from ezadmin_cmdb.rights import services as rights

USER_CHANGE = "user.change"
PASSWORD_MIN = 10
PASSWORD_MAX = 200
LANGUAGES = {"en": "English", "ko": "한국어"}

SESSION_IDLE = timedelta(hours=12)
SESSION_LIFE = timedelta(days=7)
_SEEN_STEP = timedelta(minutes=1)

LOCK_TIME = timedelta(minutes=15)
FAILURES_BY_PAIR = 5
FAILURES_BY_ADDRESS = 20
FAILURES_BY_NAME = 50
"""Within LOCK_TIME: of one name from one address, from one address, of one name (guessed from many addresses).

The last is far above the first, so that a stranger cannot easily lock somebody else out.
"""

_hasher = PasswordHasher()
_NOBODY = _hasher.hash(secrets.token_hex(16))
"""Checked where there is no such user, so that the time of the answer tells nothing."""


class SignInRefused(DomainError):
    """Name or password are wrong; which of them is not told."""

    status = 401


class LockedOut(DomainError):
    """Too many failures; nothing is checked for a while."""

    status = 429


def sign_in(name: str, password: str, address: str) -> tuple[User, str]:
    """Check name and password, open a session: (user, its token for the browser). Raises SignInRefused, LockedOut."""
    name = name.strip()[:64]
    if _locked(name, address):
        minutes = int(LOCK_TIME.total_seconds() // 60)
        raise LockedOut(_("Too many failed attempts. Try again in %(minutes)d minutes.", minutes=minutes))
    user = db.session.scalar(select(User).where(User.name == name, User.active))
    if not _verify(user.password_hash if user else _NOBODY, password) or user is None:
        db.session.add(FailedSignIn(name=name, address=address))
        raise SignInRefused(_("Name or password is wrong."))
    if _hasher.check_needs_rehash(user.password_hash):
        user.password_hash = _hasher.hash(password)
    db.session.execute(delete(FailedSignIn).where(FailedSignIn.name == name, FailedSignIn.address == address))
    db.session.execute(delete(FailedSignIn).where(FailedSignIn.time < utc_now() - timedelta(days=1)))
    db.session.execute(delete(UserSession).where(UserSession.created < utc_now() - SESSION_LIFE))
    token = secrets.token_urlsafe(32)
    db.session.add(UserSession(token_hash=_digest(token), user_id=user.id, address=address))
    return user, token


def _locked(name: str, address: str) -> bool:
    def failures(*conditions: ColumnElement[bool]) -> int:
        query = select(func.count()).select_from(FailedSignIn)
        return db.session.scalar(query.where(FailedSignIn.time > utc_now() - LOCK_TIME, *conditions)) or 0

    by_name, by_address = FailedSignIn.name == name, FailedSignIn.address == address
    return (
        failures(by_name, by_address) >= FAILURES_BY_PAIR
        or failures(by_address) >= FAILURES_BY_ADDRESS
        or failures(by_name) >= FAILURES_BY_NAME
    )


def _verify(password_hash: str, password: str) -> bool:
    try:
        return _hasher.verify(password_hash, password[:PASSWORD_MAX])
    except (VerificationError, InvalidHashError):
        return False


def find_session(token: str) -> UserSession | None:
    """The session of a browser's token, if it is still good; notes that it was used."""
    session = db.session.get(UserSession, _digest(token))
    now = utc_now()
    if session is None or not session.user.active:
        return None
    if now - session.created > SESSION_LIFE or now - session.last_seen > SESSION_IDLE:
        return None
    if now - session.last_seen > _SEEN_STEP:
        session.last_seen = now
    return session


def sign_out(token: str) -> None:
    """End a session."""
    db.session.execute(delete(UserSession).where(UserSession.token_hash == _digest(token)))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def any_admin() -> bool:
    """Whether somebody can administer."""
    return db.session.scalar(select(User.id).where(User.admin, User.active).limit(1)) is not None


def require_admin(actor: Actor, user: User | None = None) -> None:
    """Go on only for an administrator: nobody else makes one, or changes one. Raises Forbidden."""
    if not actor.rights.all:
        rights.note(actor, USER_CHANGE, "user", user.id if user else None)
        raise Forbidden(_("Only an administrator may do this."))


def create_user(actor: Actor, name: str, password: str, admin: bool) -> User:
    """Make an account. Raises Forbidden; Invalid; Conflict if the name is taken."""
    rights.require(actor, USER_CHANGE)
    if admin:
        require_admin(actor)
    name = name.strip()
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise Invalid(_("The name is 1 to 64 printable characters long."), "name")
    if db.session.scalar(select(User.id).where(User.name == name)) is not None:
        raise Conflict(_("There is a user %(name)s already.", name=name))
    user = User(name=name, password_hash=_hash(password), admin=admin)
    db.session.add(user)
    db.session.flush()
    changes.record(actor, "user", str(user.id), name, None, {"name": name, "admin": admin, "active": True})
    return user


def find_user(name: str) -> User:
    """The user of this name. Raises NotFound."""
    user = db.session.scalar(select(User).where(User.name == name))
    if user is None:
        raise NotFound(_("There is no user %(name)s.", name=name))
    return user


def change_password(actor: Actor, user: User, old: str, new: str, keep_token: str) -> None:
    """Change the own password; ends all sessions but that of ``keep_token``. Raises Invalid."""
    if not _verify(user.password_hash, old):
        raise Invalid(_("The present password is wrong."), "old")
    set_password(actor, user, new)
    db.session.execute(
        delete(UserSession).where(UserSession.user_id == user.id, UserSession.token_hash != _digest(keep_token))
    )


def reset_password(actor: Actor, user: User) -> str:
    """Give a user who forgot it a new password, which is returned, and sign him out everywhere. Raises Forbidden."""
    require_admin(actor, user)
    password = random_password()
    set_password(actor, user, password)
    end_sessions(user)
    return password


def set_password(actor: Actor, user: User, password: str) -> None:
    """Set a password without asking for the old one: the caller has made sure that he may. Raises Invalid."""
    user.password_hash = _hash(password)
    changes.record(actor, "user", str(user.id), user.name, {"password": "old"}, {"password": "new"})


def end_sessions(user: User) -> None:
    """Sign a user out everywhere."""
    db.session.execute(delete(UserSession).where(UserSession.user_id == user.id))


def set_language(user: User, language: str) -> None:
    """Set the language of the pages. Raises Invalid."""
    if language not in LANGUAGES:
        raise Invalid(_("There is no language %(language)s.", language=language), "language")
    user.language = language


def _hash(password: str) -> str:
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        raise Invalid(
            _("The password is %(least)d to %(most)d characters long.", least=PASSWORD_MIN, most=PASSWORD_MAX), "new"
        )
    return _hasher.hash(password)


def random_password() -> str:
    """A password that nobody guesses: 20 characters, about 119 bits."""
    return secrets.token_urlsafe(15)
