"""Languages and time zones of the pages: of the account, else of the browser. A program says its language with each request."""

from __future__ import annotations

from urllib.parse import unquote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from flask import Flask, g, has_request_context, request, session
from flask_babel import Babel

from ezadmin_cmdb.accounts.services import LANGUAGES
from ezadmin_cmdb.web.signin import current_user

ZONE_COOKIE = "tz"
"""Set by the pages' script: what the browser takes as its time zone."""


def locale() -> str:
    """The language of this request; English outside of one (commands)."""
    if not has_request_context():
        return "en"
    user = None if "token" in g else current_user()
    chosen = (user.language if user else None) or session.get("language")
    return chosen if chosen in LANGUAGES else request.accept_languages.best_match(list(LANGUAGES), "en") or "en"


def time_zone() -> str:
    """The time zone of this request."""
    name = unquote(request.cookies.get(ZONE_COOKIE, "")) if has_request_context() else ""
    try:
        return ZoneInfo(name).key if name else "UTC"
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return "UTC"


babel = Babel()


def init_app(app: Flask) -> None:
    """Speak the languages."""
    app.config["BABEL_TRANSLATION_DIRECTORIES"] = "translations"
    babel.init_app(app, locale_selector=locale, timezone_selector=time_zone)
