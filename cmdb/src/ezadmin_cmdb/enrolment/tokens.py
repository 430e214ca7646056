"""Enrolment tokens: made by people, shown once, good for some hours and some hosts."""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from flask import current_app
from flask_babel import gettext as _
from sqlalchemy import select

from ezadmin_cmdb import install
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes import services as changes
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.describe.services import snapshot
from ezadmin_cmdb.enrolment.models import EnrolmentToken
from ezadmin_cmdb.errors import Conflict, Invalid, NotFound
from ezadmin_cmdb.hosts.services import HOST_CHANGE
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.settings import Settings
from ezadmin_wire import WireError
from ezadmin_wire.enrolment import Token, new_secret, write_token

TOKEN_VIEW, TOKEN_CHANGE = "enrolment_token.view", "enrolment_token.change"
HOURS, HOURS_MAX = 24, 24 * 90
USES_MAX = 10_000


@dataclass(frozen=True)
class Made:
    """A token, its text, and what to run on a new host, or why there is nothing to run. Nobody sees the text again."""

    token: EnrolmentToken
    text: str
    command: str | None
    missing: str | None = None


def digest(secret: str) -> str:
    """What of a secret stands in the database."""
    return hashlib.sha256(secret.encode()).hexdigest()


def settings() -> Settings:
    """The settings of the application."""
    found: Settings = current_app.extensions["ezadmin_settings"]
    return found


def pin(ca_file: Path) -> str:
    """The SHA-256 of the DER of a certificate, the first of a PEM file. Raises OSError, ValueError."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    text = ca_file.read_text()
    first, last = text.find(begin), text.find(end)
    if first < 0 or last < first:
        raise ValueError("no certificate in PEM")
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(text[first : last + len(end)])).hexdigest()


def create(
    actor: Actor,
    name: str,
    *,
    hours: int = HOURS,
    uses: int = 1,
    site: Any = None,
    group: Any = None,
    quarantine: bool = False,
    replace: bool = False,
) -> Made:
    """Make a token that is good for ``hours`` and for ``uses`` hosts.

    Raises Forbidden, also for ``replace`` without the right to change the hosts that could be replaced; Invalid, with all
    fields that are wrong; Conflict if the settings do not say where the gateway is.
    """
    rights.require(actor, TOKEN_CHANGE)
    wrong: dict[str, str] = {}
    name = name.strip()
    if not 1 <= len(name) <= 128 or not name.isprintable():
        wrong["name"] = _("The name is 1 to %(most)d printable characters long.", most=128)
    if not 1 <= hours <= HOURS_MAX:
        wrong["hours"] = _("A token is good for 1 to %(most)d hours.", most=HOURS_MAX)
    if not 1 <= uses <= USES_MAX:
        wrong["uses_max"] = _("A token is good for 1 to %(most)d hosts.", most=USES_MAX)
    if group is not None and group.filter is not None:
        wrong["group"] = _("%(name)s holds what its filter finds; choose a group of chosen hosts.", name=group.name)
    if wrong:
        raise Invalid(" ".join(wrong.values()), fields=wrong)
    may = actor.rights.scope(HOST_CHANGE)
    if replace and not (may.everywhere or (group is not None and _within(actor, group))):
        raise rights.refusal(actor, HOST_CHANGE, "host", None)
    secret = new_secret()
    text = _text(secret)
    token = EnrolmentToken(
        name=name, secret_hash=digest(secret), uses_max=uses, quarantine=quarantine, replace=replace, site=site,
        group=group, created_by=actor.name, expires=utc_now() + timedelta(hours=hours), uses=0,
    )  # fmt: skip
    db.session.add(token)
    db.session.flush()
    _record(actor, token, None)
    known = settings().gateway
    try:
        found = install.Downloads(known.files, known.url, known.ca_file).scripts()
    except install.BundleError as error:
        return Made(token, text, None, str(error))
    return Made(token, text, install.one_liner(found, text))


def _within(actor: Actor, group: Any) -> bool:
    """Whether all hosts of a group may be changed."""
    return any(one.id == group.id for one in actor.rights.scope(HOST_CHANGE).groups)


def _text(secret: str) -> str:
    known = settings()
    if known.gateway.url is None:
        raise Conflict(_("The settings do not say how agents reach the gateway: write url under [gateway]."))
    if known.commands.public_key is None:
        raise Conflict(_("The settings do not say which key signs commands: write public_key under [commands]."))
    try:
        ca = None if known.gateway.ca_file is None else pin(known.gateway.ca_file)
        return write_token(Token(known.gateway.url, secret, known.commands.public_key, ca))
    except (OSError, ValueError) as error:
        raise Conflict(_("ca_file of [gateway] cannot be used: %(why)s", why=str(error))) from error
    except WireError as error:
        raise Conflict(str(error)) from error


def find(reference: str) -> EnrolmentToken:
    """The token of this id, or the only one of this name. Raises NotFound, Conflict."""
    if reference.isdecimal() and (token := db.session.get(EnrolmentToken, int(reference))) is not None:
        return token
    named = db.session.scalars(select(EnrolmentToken).where(EnrolmentToken.name == reference).limit(2)).all()
    if len(named) > 1:
        raise Conflict(_("More than one token is called %(name)s: give its id.", name=reference))
    if not named:
        raise NotFound(_("There is no token %(id)s.", id=reference))
    return named[0]


def revoke(actor: Actor, token: EnrolmentToken) -> None:
    """Nobody comes with it any more; who came stays. Raises Forbidden."""
    rights.require(actor, TOKEN_CHANGE)
    if token.revoked is None:
        before = snapshot_of(token)
        token.revoked = utc_now()
        db.session.flush()
        _record(actor, token, before)


def snapshot_of(token: EnrolmentToken) -> dict[str, Any]:
    """What is recorded of a token."""
    from ezadmin_cmdb.enrolment.description import ENROLMENT_TOKEN

    return snapshot(ENROLMENT_TOKEN, token) | {"revoked": token.revoked is not None}


def _record(actor: Actor, token: EnrolmentToken, before: dict[str, Any] | None) -> None:
    changes.record(actor, "enrolment_token", str(token.id), token.name, before, snapshot_of(token))


GOOD, USED_UP, EXPIRED, REVOKED = "good", "used_up", "expired", "revoked"


def state(token: EnrolmentToken) -> str:
    """Whether hosts may still come with it, and why not."""
    if token.revoked is not None:
        return REVOKED
    if utc_now() >= token.expires:
        return EXPIRED
    return USED_UP if token.uses >= token.uses_max else GOOD
