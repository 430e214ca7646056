"""Tokens for programs: made by their user, shown once, never worth more than what he may at the moment of a request."""

from __future__ import annotations

import ipaddress
import logging
import secrets
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from sqlalchemy import func, select

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.accounts.models import ApiToken, User
from ezadmin_cmdb.accounts.quotas import digest
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.audit import services as audit
from ezadmin_cmdb.changes import services as changes
from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.describe import fields
from ezadmin_cmdb.describe.description import Description, register
from ezadmin_cmdb.describe.services import snapshot
from ezadmin_cmdb.errors import Conflict, DomainError, Forbidden, Invalid, NotFound
from ezadmin_cmdb.rights import permissions
from ezadmin_cmdb.rights.services import rights_of

_log = logging.getLogger(__name__)
PREFIX = "ezt_"
"""So that scanners of secrets, and people, know one where they see it."""
DAYS = 90
DAYS_MAX = 366
TOKENS_MAX = 50
NETWORKS_MAX = 20
_USED_STEP = timedelta(minutes=1)
_REFUSED_STEP = timedelta(minutes=10)
_refused: dict[int, datetime] = {}
"""When this process last noted that a token was refused: a program that goes on trying must not fill the audit log."""


class TokenRefused(DomainError):
    """The token is not known, no longer good, or not for this address; which of them is not told."""

    status = 401


TOKEN = register(
    Description(
        name="api_token",
        path="tokens",
        model=ApiToken,
        title=_l("API token"),
        titles=_l("API tokens"),
        icon="key",
        menu="administration",
        creatable=False,
        changeable=False,
        empty_hint=_l("Everybody makes tokens for programs of his own in his account; all of them stand here."),
        fields=[
            fields.Text(name="name", label=_l("Name"), length=64, required=True, searched=True),
            fields.Reference(name="user", label=_l("User"), to="user", required=True),
            fields.Text(name="hint", label=_l("Begins with"), length=16, editable=False, required=True),
            fields.MultiSelect(
                name="scopes", label=_l("Permissions"), listed=False,
                choices=lambda: {one.name: one.title for one in permissions.known()},
            ),
            fields.Computed(name="networks", label=_l("From networks"), compute=lambda token: ", ".join(token.networks)),
            fields.Moment(name="created", label=_l("Since"), editable=False, required=True),
            fields.Moment(name="expires", label=_l("Good until"), editable=False, required=True),
            fields.Moment(name="last_used", label=_l("Last used"), editable=False),
            fields.Text(name="last_address", label=_l("From address"), editable=False),
        ],
    )
)  # fmt: skip


def create(
    actor: Actor, user: User, name: str, scopes: Collection[str], days: int = DAYS, networks: Sequence[str] = ()
) -> tuple[ApiToken, str]:
    """Make a token for the own account (a command: for any); returns it, and the text that is shown once.

    Raises Forbidden; Invalid, with all fields that are wrong; Conflict for too many.
    """
    if actor.token or (actor.user_id != user.id and actor.source != "cli"):
        raise Forbidden(_("A token is made by its user, who has signed in."))
    wrong: dict[str, str] = {}
    name = name.strip()
    if not 1 <= len(name) <= 64 or not name.isprintable():
        wrong["name"] = _("The name is 1 to 64 printable characters long.")
    mine = rights_of(user)
    wanted = sorted(set(scopes))
    known = {one.name for one in permissions.known()}
    if not wanted:
        wrong["scopes"] = _("Choose what the token may do.")
    elif over := [one for one in wanted if one not in known or not mine.scope(one)]:
        wrong["scopes"] = _("This is not among the permissions of the account: %(names)s.", names=", ".join(over[:5]))
    if not 1 <= days <= DAYS_MAX:
        wrong["days"] = _("A token is good for 1 to %(most)d days.", most=DAYS_MAX)
    nets = []
    for text in networks:
        try:
            nets.append(str(ipaddress.ip_network(text.strip(), strict=False)))
        except ValueError:
            wrong["networks"] = _("%(text)s is no network; write 192.0.2.0/24 or an address.", text=text.strip())
    if len(nets) > NETWORKS_MAX:
        wrong["networks"] = _("At most %(most)d networks.", most=NETWORKS_MAX)
    if wrong:
        raise Invalid(" ".join(wrong.values()), fields=wrong)
    if (db.session.scalar(select(func.count()).where(ApiToken.user_id == user.id)) or 0) >= TOKENS_MAX:
        raise Conflict(_("There are %(most)d tokens already. Revoke those that are not needed.", most=TOKENS_MAX))
    text = PREFIX + secrets.token_urlsafe(32)
    token = ApiToken(
        user=user, name=name, token_hash=digest(text), hint=text[: len(PREFIX) + 4], scopes=wanted, networks=nets,
        expires=utc_now() + timedelta(days=days),
    )  # fmt: skip
    db.session.add(token)
    db.session.flush()
    changes.record(actor, TOKEN.name, str(token.id), name, None, snapshot(TOKEN, token))
    return token, text


def of_user(user: User) -> Sequence[ApiToken]:
    """A user's tokens, the newest first."""
    query = select(ApiToken).where(ApiToken.user_id == user.id).order_by(ApiToken.created.desc(), ApiToken.id.desc())
    return db.session.scalars(query).all()


def find_own(actor: Actor, token_id: int) -> ApiToken:
    """A token of the own account. Raises NotFound for any other."""
    token = db.session.get(ApiToken, token_id)
    if token is None or token.user_id != actor.user_id:
        raise NotFound(_("There is no token %(id)s.", id=token_id))
    return token


def revoke(actor: Actor, token: ApiToken) -> None:
    """Nothing is done with it from now on: one's own, or by an administrator. Raises Forbidden."""
    if actor.user_id != token.user_id:
        accounts.require_admin(actor)
    before = snapshot(TOKEN, token)
    db.session.delete(token)
    db.session.flush()
    changes.record(actor, TOKEN.name, str(token.id), token.name, before, None)


def use(text: str, address: str | None, request_id: str | None) -> ApiToken:
    """The token of a request; notes when it was used, and, once in a while, that it was refused. Raises TokenRefused."""
    token = db.session.scalar(select(ApiToken).where(ApiToken.token_hash == digest(text)))
    now = utc_now()
    if token is None:
        _log.warning("refused: a token that is not known", extra={"fields": {"client.ip": address}})
        raise TokenRefused(_("The token is not valid."))
    why = None
    if not token.user.active:
        why = "user"
    elif now >= token.expires:
        why = "expired"
    elif not _within(address, token.networks):
        why = "network"
    if why:
        if now - _refused.get(token.id, datetime.min.replace(tzinfo=UTC)) > _REFUSED_STEP:
            _refused[token.id] = now
            actor = Actor(token.user.name, "api", request_id=request_id, address=address, token=token.name)
            about = (TOKEN.name, token.id, token.name)
            audit.note("sign_in", "token", actor, audit.FAILURE, about=about, details={"why": why}, kept=True)
        raise TokenRefused(_("The token is not valid."))
    if token.last_used is None or now - token.last_used > _USED_STEP or token.last_address != address:
        token.last_used, token.last_address = now, address
    return token


def _within(address: str | None, networks: Sequence[str]) -> bool:
    if not networks:
        return True
    try:
        source = ipaddress.ip_address(address or "")
    except ValueError:
        return False
    mapped = getattr(source, "ipv4_mapped", None)
    source = mapped or source
    return any(source in ipaddress.ip_network(network) for network in networks)
