"""Who makes a request, and whether he may: what each view needs is said in :mod:`ezadmin_cmdb.web.access`.

In the API ``Authorization: Bearer …`` speaks for a token's user. The cookie is then not looked at, which is why no token
against forged requests is needed: what a browser sends by itself counts for nothing.
"""

from __future__ import annotations

from flask import Flask, abort, current_app, g, redirect, request, session, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from ezadmin_cmdb.accounts import quotas, second_factor, tokens
from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.accounts.models import LOCAL, ApiToken, User
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.errors import Forbidden
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.rights.permissions import with_implied
from ezadmin_cmdb.settings import Settings
from ezadmin_cmdb.web.access import PUBLIC, SIGNED_IN, need_of
from ezadmin_cmdb.web.requests import csrf

TOKEN = "token"  # noqa: S105 - the name of the token in the cookie
API = "/api/"
BEARER = "bearer "
WITHOUT_SECOND_FACTOR = {
    "accounts.second_factor_page", "accounts.begin_second_factor", "accounts.confirm_second_factor", "accounts.sign_out",
    "accounts.set_language",
}  # fmt: skip
"""What may be done before a second factor that is required is on."""


def current_user() -> User | None:
    """Who is signed in."""
    user: User | None = g.get("user")
    return user


def signed_in_user() -> User:
    """Who is signed in, in a view that is not public."""
    user = current_user()
    if user is None:
        raise RuntimeError("a view that is not public was called without a user")
    return user


def current_actor() -> Actor:
    """Who makes the request and what he may do, as services want to know it."""
    actor: Actor | None = g.get("actor")
    if actor is None:
        user = signed_in_user()
        source = "api" if request.path.startswith(API) else "ui"
        token: ApiToken | None = g.get("token")
        mine = rights.rights_of(user) if token is None else rights.rights_of(user).only(with_implied(token.scopes))
        named = None if token is None else token.name
        actor = Actor(user.name, source, mine, g.request_id, user.id, request.remote_addr, named)
        g.actor = actor
    return actor


def init_app(app: Flask) -> None:
    """Ask who it is, and whether he may, before every view."""
    app.config["WTF_CSRF_CHECK_DEFAULT"] = False  # asked for below, where it is known by what the request is signed in
    app.before_request(_admit)


def _admit() -> Response | None:
    if request.endpoint in ("static", "status.healthz"):  # these answer also without a database
        return None
    need = None if request.endpoint is None else need_of(current_app, request.endpoint, request.method)
    given = request.headers.get("Authorization", "")
    if request.path.startswith(API) and given[: len(BEARER)].lower() == BEARER and need != PUBLIC:
        text, settings = given[len(BEARER) :].strip(), current_app.extensions["ezadmin_settings"]
        g.quota = quotas.charge(settings.api, text, request.remote_addr or "")
        g.token = tokens.use(text, request.remote_addr, g.request_id)
        g.user = g.token.user
    else:
        cookie = session.get(TOKEN)
        found = accounts.find_session(cookie) if isinstance(cookie, str) else None
        g.user = found.user if found else None
        if need is not None:
            csrf.protect()
    if need in (None, PUBLIC):  # None: there is no such page
        return None
    if g.user is None:
        return _ask_to_sign_in()
    if "token" not in g and request.endpoint not in WITHOUT_SECOND_FACTOR and lacks_second_factor(g.user):
        if request.path.startswith(API):
            raise Forbidden(_("Switch on the second factor of your account first."))
        return redirect(url_for("accounts.second_factor_page"))
    if need != SIGNED_IN:
        rights.require(current_actor(), str(need))
    return None


def lacks_second_factor(user: User) -> bool:
    """Whether the settings require a second factor of this user, and it is not on."""
    settings: Settings = current_app.extensions["ezadmin_settings"]
    required = settings.sign_in.second_factor
    wanted = required == "everybody" or (required == "admins" and user.admin)
    return wanted and user.origin == LOCAL and not second_factor.is_on(user)


def _ask_to_sign_in() -> Response:
    if request.path.startswith(API):
        abort(401)
    if request.headers.get("HX-Request"):
        response = Response(status=401)
        response.headers["HX-Redirect"] = url_for("accounts.sign_in_page")
        return response
    wanted = request.full_path.rstrip("?") if request.method == "GET" else "/"
    return redirect(url_for("accounts.sign_in_page", next=wanted if wanted != "/" else None))
