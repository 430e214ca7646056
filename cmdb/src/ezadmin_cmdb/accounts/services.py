"""Sessions and passwords, and what belongs to an account. How somebody signs in: :mod:`ezadmin_cmdb.accounts.signing_in`."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import timedelta

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from flask_babel import gettext as _
from sqlalchemy import delete, select
from zxcvbn import zxcvbn  # type: ignore[import-untyped]

from ezadmin_cmdb.accounts.models import LOCAL, User, UserSession
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.audit import services as audit
from ezadmin_cmdb.changes import services as changes
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.errors import Conflict, Forbidden, Invalid, NotFound
from ezadmin_cmdb.rights import services as rights

USER_CHANGE = "user.change"
PASSWORD_MIN = 10
PASSWORD_MAX = 200
GUESSES_MIN = 10**8
HANDLE = 16
"""So many characters of a session's hash name it on a page."""
LANGUAGES = {"en": "English", "ko": "한국어"}

SESSION_IDLE = timedelta(hours=12)
SESSION_LIFE = timedelta(days=7)
_SEEN_STEP = timedelta(minutes=1)


_hasher = PasswordHasher()
_NOBODY = _hasher.hash(secrets.token_hex(16))
"""Checked where there is no such user, so that the time of the answer tells nothing."""


def verify_password(user: User | None, password: str) -> bool:
    """Whether it is the user's; takes as long where there is no such user, or where somebody else knows the password."""
    local = user is not None and user.origin == LOCAL
    right = _verify(user.password_hash if user is not None and local else _NOBODY, password)
    if right and user is not None and _hasher.check_needs_rehash(user.password_hash):
        user.password_hash = _hasher.hash(password)
    return right and local


def open_session(user: User, address: str, browser: str | None) -> str:
    """Sign a user in whose identity is proven: returns the token for the browser, a new one each time."""
    db.session.execute(delete(UserSession).where(UserSession.created < utc_now() - SESSION_LIFE))
    token = secrets.token_urlsafe(32)
    made = UserSession(
        token_hash=_digest(token), user_id=user.id, address=address, browser=(browser or "")[:255] or None
    )
    db.session.add(made)
    return token


def sessions_of(user: User) -> Sequence[UserSession]:
    """Where a user is signed in, the last used first."""
    good = (UserSession.created > utc_now() - SESSION_LIFE, UserSession.last_seen > utc_now() - SESSION_IDLE)
    query = select(UserSession).where(UserSession.user_id == user.id, *good).order_by(UserSession.last_seen.desc())
    return db.session.scalars(query).all()


def is_session(found: UserSession, token: str) -> bool:
    """Whether ``token`` is that of the session."""
    return secrets.compare_digest(found.token_hash, _digest(token))


def end_session(actor: Actor, user: User, handle: str) -> None:
    """End one of the own sessions; ``handle`` is how its hash begins. Raises NotFound."""
    for found in sessions_of(user):
        if len(handle) == HANDLE and found.token_hash.startswith(handle):
            db.session.delete(found)
            _note(actor, "end_session", user)
            return
    raise NotFound(_("This session has ended already."))


def end_other_sessions(actor: Actor, user: User, keep_token: str | None) -> None:
    """Sign a user out everywhere but where ``keep_token`` is: himself, or an administrator another one. Raises Forbidden."""
    if actor.user_id != user.id:
        require_admin(actor, user)
    kept = _digest(keep_token or "")
    db.session.execute(delete(UserSession).where(UserSession.user_id == user.id, UserSession.token_hash != kept))
    _note(actor, "end_session", user)


def _note(actor: Actor, action: str, user: User) -> None:
    audit.note("account", action, actor, about=("user", user.id, user.name))


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
    user = User(name=name, password_hash=_hash(password, name), admin=admin)
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
    """Change the own password; ends all sessions but that of ``keep_token``. Raises Invalid, Conflict."""
    if user.origin != LOCAL:
        raise Conflict(_("The password of this account is kept elsewhere; change it there."))
    if not _verify(user.password_hash, old):
        raise Invalid(_("The present password is wrong."), "old")
    set_password(actor, user, new)
    db.session.execute(
        delete(UserSession).where(UserSession.user_id == user.id, UserSession.token_hash != _digest(keep_token))
    )


def reset_password(actor: Actor, user: User) -> str:
    """Give a user who forgot it a new password, which is returned, and sign him out everywhere.

    Raises Forbidden; Conflict for one whose password is kept elsewhere.
    """
    require_admin(actor, user)
    if user.origin != LOCAL:
        raise Conflict(_("The password of this account is kept elsewhere; change it there."))
    password = random_password()
    set_password(actor, user, password)
    end_sessions(user)
    return password


def set_password(actor: Actor, user: User, password: str) -> None:
    """Set a password without asking for the old one: the caller has made sure that he may. Raises Invalid."""
    user.password_hash = _hash(password, user.name)
    changes.record(actor, "user", str(user.id), user.name, {"password": "old"}, {"password": "new"})


def end_sessions(user: User) -> None:
    """Sign a user out everywhere."""
    db.session.execute(delete(UserSession).where(UserSession.user_id == user.id))


def set_language(user: User, language: str) -> None:
    """Set the language of the pages. Raises Invalid."""
    if language not in LANGUAGES:
        raise Invalid(_("There is no language %(language)s.", language=language), "language")
    user.language = language


def _hash(password: str, name: str) -> str:
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        raise Invalid(
            _("The password is %(least)d to %(most)d characters long.", least=PASSWORD_MIN, most=PASSWORD_MAX), "new"
        )
    # zxcvbn knows lists of common passwords, names, keyboard rows, dates; beyond 72 characters nobody guesses
    guesses = zxcvbn(password[:72], user_inputs=[name, "ezadmin"])["guesses"]
    if guesses < GUESSES_MIN:
        raise Invalid(_("The password is too easy to guess: it is a common one, or made of the name."), "new")
    return _hasher.hash(password)


def random_password() -> str:
    """A password that nobody guesses: 20 characters, about 119 bits."""
    return secrets.token_urlsafe(15)
