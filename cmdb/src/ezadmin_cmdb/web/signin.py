"""Who makes a request, and whether he may: what each view needs is said in :mod:`ezadmin_cmdb.web.access`."""

from __future__ import annotations

from flask import Flask, abort, current_app, g, redirect, request, session, url_for
from werkzeug.wrappers import Response

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.accounts.models import User
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.web.access import PUBLIC, SIGNED_IN, need_of

TOKEN = "token"  # noqa: S105 - the name of the token in the cookie
API = "/api/"


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
        actor = Actor(user.name, source, rights.rights_of(user), g.request_id, user.id, request.remote_addr)
        g.actor = actor
    return actor


def init_app(app: Flask) -> None:
    """Ask who it is, and whether he may, before every view."""
    app.before_request(_admit)


def _admit() -> Response | None:
    if request.endpoint in ("static", "status.healthz"):  # these answer also without a database
        return None
    need = None if request.endpoint is None else need_of(current_app, request.endpoint, request.method)
    token = session.get(TOKEN)
    found = accounts.find_session(token) if isinstance(token, str) else None
    g.user = found.user if found else None
    if need in (None, PUBLIC):  # None: there is no such page
        return None
    if g.user is None:
        return _ask_to_sign_in()
    if need != SIGNED_IN:
        rights.require(current_actor(), str(need))
    return None


def _ask_to_sign_in() -> Response:
    if request.path.startswith(API):
        abort(401)
    if request.headers.get("HX-Request"):
        response = Response(status=401)
        response.headers["HX-Redirect"] = url_for("accounts.sign_in_page")
        return response
    wanted = request.full_path.rstrip("?") if request.method == "GET" else "/"
    return redirect(url_for("accounts.sign_in_page", next=wanted if wanted != "/" else None))
