"""The second factor: codes of an app (TOTP, RFC 6238), and recovery codes for when the phone is lost.

The secret is encrypted with a key made of the application's secret, so that a copy of the database alone gives no codes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time

import pyotp
import segno
from cryptography.fernet import Fernet, InvalidToken
from flask import current_app
from flask_babel import gettext as _
from markupsafe import Markup
from sqlalchemy import delete, func, select

from ezadmin_cmdb.accounts.models import RecoveryCode, SecondFactor, User
from ezadmin_cmdb.accounts.services import require_admin
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes import services as changes
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.errors import Conflict, Invalid, NotFound

RECOVERY_CODES = 10
STEP_SECONDS = 30
DRIFT_STEPS = 1
"""A phone's clock may be off by so many steps."""


def is_on(user: User) -> bool:
    """Whether the user needs a code to sign in."""
    found = db.session.get(SecondFactor, user.id)
    return found is not None and found.confirmed is not None


def begin(user: User) -> str:
    """A new secret for the app, in base32; counts once :func:`confirm` was called. Raises Conflict if there is one."""
    found = db.session.get(SecondFactor, user.id, with_for_update=True)
    if found is not None and found.confirmed is not None:
        raise Conflict(_("The second factor is on already."))
    secret = pyotp.random_base32()
    if found is None:
        db.session.add(SecondFactor(user_id=user.id, secret=_seal(secret)))
    else:
        found.secret = _seal(secret)
    db.session.flush()
    return secret


def pending(user: User) -> str | None:
    """The secret that waits for its first code."""
    found = db.session.get(SecondFactor, user.id)
    return None if found is None or found.confirmed is not None else _open(found.secret)


def picture(user: User, secret: str) -> Markup:
    """The QR code that the app reads, as SVG without any style or script."""
    address = pyotp.TOTP(secret).provisioning_uri(name=user.name, issuer_name="ezadmin")
    code = segno.make(address, error="m")
    # no text of anybody's is in it
    return Markup(code.svg_inline(scale=5, border=2, dark="#000", light="#fff", omitsize=True))  # noqa: S704  # nosec B704


def confirm(actor: Actor, user: User, code: str) -> list[str]:
    """Switch it on with a first code; returns the recovery codes, shown once. Raises Invalid, Conflict."""
    found = db.session.get(SecondFactor, user.id, with_for_update=True, populate_existing=True)
    if found is None or found.confirmed is not None:
        raise Conflict(_("Begin again: there is no secret that waits for a code."))
    if not _take(found, code):
        raise Invalid(_("The code is wrong. Is the clock of the phone right?"), "code")
    found.confirmed = utc_now()
    changes.record(actor, "user", str(user.id), user.name, {"second_factor": False}, {"second_factor": True})
    return new_recovery_codes(user)


def new_recovery_codes(user: User) -> list[str]:
    """Other recovery codes; those before are worth nothing now."""
    db.session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user.id))
    codes = []
    for _number in range(RECOVERY_CODES):
        text = base64.b32encode(secrets.token_bytes(10)).decode().lower()
        codes.append("-".join(text[at : at + 4] for at in range(0, 16, 4)))
        db.session.add(RecoveryCode(code_hash=_digest(text), user_id=user.id))
    db.session.flush()
    return codes


def recovery_codes_left(user: User) -> int:
    """How many recovery codes were not used yet."""
    return db.session.scalar(select(func.count()).where(RecoveryCode.user_id == user.id)) or 0


def check(user: User, code: str) -> str | None:
    """Take a code of the app or a recovery code: which of them it was (``app``, ``recovery``), None if it is wrong.

    Either is good once.
    """
    found = db.session.get(SecondFactor, user.id, with_for_update=True, populate_existing=True)
    if found is None or found.confirmed is None:
        return None
    text = "".join(code.split()).replace("-", "").lower()
    if text.isdecimal():
        return "app" if _take(found, text) else None
    which = RecoveryCode.code_hash == _digest(text), RecoveryCode.user_id == user.id
    result = db.session.execute(delete(RecoveryCode).where(*which))
    return "recovery" if getattr(result, "rowcount", 0) == 1 else None


def _take(found: SecondFactor, code: str) -> bool:
    """Whether it is the code of now, and of no step that was used before: then it is used up."""
    totp = pyotp.TOTP(_open(found.secret))
    now = int(time.time()) // STEP_SECONDS
    for step in range(now - DRIFT_STEPS, now + DRIFT_STEPS + 1):
        if step > found.step and hmac.compare_digest(totp.at(step * STEP_SECONDS), "".join(code.split())[:16]):
            found.step = step
            return True
    return False


def switch_off(actor: Actor, user: User, code: str) -> None:
    """Switch the own one off, with a code. Raises Invalid."""
    if check(user, code) is None:
        raise Invalid(_("The code is wrong. Is the clock of the phone right?"), "code")
    _remove(actor, user)


def reset(actor: Actor, user: User) -> None:
    """Take it from a user who lost phone and recovery codes. Raises Forbidden; NotFound if it is not on."""
    require_admin(actor, user)
    if not is_on(user):
        raise NotFound(_("The second factor of %(name)s is not on.", name=user.name))
    _remove(actor, user)


def _remove(actor: Actor, user: User) -> None:
    db.session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == user.id))
    db.session.execute(delete(SecondFactor).where(SecondFactor.user_id == user.id))
    changes.record(actor, "user", str(user.id), user.name, {"second_factor": True}, {"second_factor": False})


def _cipher() -> Fernet:
    secret = current_app.config["SECRET_KEY"]
    return Fernet(base64.urlsafe_b64encode(hashlib.sha256(b"ezadmin/second-factor/1" + secret).digest()))


def _seal(secret: str) -> str:
    return _cipher().encrypt(secret.encode()).decode()


def _open(sealed: str) -> str:
    try:
        return _cipher().decrypt(sealed.encode()).decode()
    except InvalidToken as error:
        raise Conflict(
            _(
                "The second factor cannot be read: the application's secret is another one. An administrator can reset it."
            )
        ) from error


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
