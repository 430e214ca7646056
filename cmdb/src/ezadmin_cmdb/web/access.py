"""What a view needs: every route says it, and the application does not start with one that does not.

``@needs("site.view")``; ``@signed_in`` for what belongs to every account; ``@public`` for what needs no account.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flask import Flask

from ezadmin_cmdb.rights import permissions

PUBLIC, SIGNED_IN = "*public", "*signed-in"
FOREIGN = {"static": PUBLIC, "api-docs.openapi_json": SIGNED_IN}
"""Routes whose views are not ours."""

View = TypeVar("View", bound=Callable[..., Any])


def needs(permission: str) -> Callable[[View], View]:
    """A view for those who have ``permission`` (for one about hosts: for some of them)."""
    permissions.find(permission)

    def marked(view: View) -> View:
        view.needs = permission  # type: ignore[attr-defined]
        return view

    return marked


def public(view: View) -> View:
    """A view that may be seen without signing in."""
    view.needs = PUBLIC  # type: ignore[attr-defined]
    return view


def signed_in(view: View) -> View:
    """A view for everybody who is signed in."""
    view.needs = SIGNED_IN  # type: ignore[attr-defined]
    return view


def need_of(app: Flask, endpoint: str, method: str = "GET") -> str | None:
    """What a route needs: a permission, PUBLIC or SIGNED_IN; None if it does not say."""
    view: Any = app.view_functions.get(endpoint)
    of_class = getattr(view, "view_class", None)  # a class of flask-smorest: each method says it
    if of_class is not None:
        view = getattr(of_class, ("GET" if method in ("HEAD", "OPTIONS") else method).lower(), None)
    need: str | None = getattr(view, "needs", None) or FOREIGN.get(endpoint)
    return need


def routes(app: Flask) -> list[tuple[str, str, str]]:
    """(endpoint, rule, method) of everything that can be asked for."""
    return [
        (rule.endpoint, rule.rule, method)
        for rule in app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]


def check_routes(app: Flask) -> None:
    """Raises RuntimeError, naming them, if routes do not say what they need."""
    silent = [
        f"{method} {rule} ({endpoint})"
        for endpoint, rule, method in routes(app)
        if need_of(app, endpoint, method) is None
    ]
    if silent:
        raise RuntimeError(f"routes without a permission: {', '.join(silent)}; see ezadmin_cmdb.web.access")
