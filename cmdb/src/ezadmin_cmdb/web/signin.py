"""Who makes a request. Every page and the API ask for it, unless a view is marked :func:`public`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from flask import Flask, abort, current_app, g, redirect, request, session, url_for
from werkzeug.wrappers import Response

from ezadmin_cmdb.accounts import services
from ezadmin_cmdb.accounts.models import User
from ezadmin_cmdb.actor import Actor

TOKEN = "token"  # noqa: S105 - the name of the token in the cookie
API = "/api/"

View = TypeVar("View", bound=Callable[..., object])


def public(view: View) -> View:
    """A view that may be seen without signing in."""
    view.public = True  # type: ignore[attr-defined]
    return view


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
    """Who makes the request, as services want to know it. Every user sees every host (roles come with the ACL)."""
    user = signed_in_user()
    source = "api" if request.path.startswith(API) else "ui"
    return Actor(user.name, source, all_hosts=user.active, request_id=g.request_id)


def init_app(app: Flask) -> None:
    """Ask who it is before every view."""
    app.before_request(_require_user)


def _require_user() -> Response | None:
    if request.endpoint in ("static", "status.healthz"):  # these answer also without a database
        return None
    view = current_app.view_functions.get(request.endpoint or "")
    is_public = view is None or getattr(view, "public", False)
    token = session.get(TOKEN)
    found = services.find_session(token) if isinstance(token, str) else None
    g.user = found.user if found else None
    if g.user is not None or is_public:
        return None
    if request.path.startswith(API):
        abort(401)
    if request.headers.get("HX-Request"):
        response = Response(status=401)
        response.headers["HX-Redirect"] = url_for("accounts.sign_in_page")
        return response
    wanted = request.full_path.rstrip("?") if request.method == "GET" else "/"
    return redirect(url_for("accounts.sign_in_page", next=wanted if wanted != "/" else None))
