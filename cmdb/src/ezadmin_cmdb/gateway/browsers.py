"""Who a browser is that opens a WebSocket: signed in by the web application's cookie, sent by a page of ours."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from itsdangerous import BadSignature
from starlette.websockets import WebSocket

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.settings import Settings
from ezadmin_cmdb.web.signin import TOKEN, lacks_second_factor

NOT_SIGNED_IN, BUSY = 4401, 4503
"""Why a socket is closed, beside the codes of WebSockets themselves."""


class Browsers:
    """Tells those who may come in."""

    def __init__(self, settings: Settings, core: Flask) -> None:
        self._web = settings.web
        self._cookie = "__Host-ezadmin" if settings.web.https else "ezadmin"
        self._sessions = None
        if settings.secret_key_file is not None:
            core.config["SECRET_KEY"] = settings.secret_key()
            self._sessions = SecureCookieSessionInterface().get_signing_serializer(core)

    def token(self, socket: WebSocket) -> str | None:
        """The token of the browser's session, if a page of ours asks with one."""
        cookie = socket.cookies.get(self._cookie)
        if cookie is None or self._sessions is None or not self._from_here(socket):
            return None
        try:
            session = self._sessions.loads(cookie, max_age=int(accounts.SESSION_LIFE.total_seconds()))
        except BadSignature:
            return None
        found = session.get(TOKEN) if isinstance(session, Mapping) else None
        return found if isinstance(found, str) else None

    def _from_here(self, socket: WebSocket) -> bool:
        """Whether a page of ours asks: a browser sends the cookie for any."""
        origin = urlsplit(socket.headers.get("origin", ""))
        if self._web.url is not None:
            own = urlsplit(self._web.url)
            return (origin.scheme, origin.netloc) == (own.scheme, own.netloc)
        here = urlsplit(f"//{socket.headers.get('host', '')}").hostname
        return origin.hostname is not None and origin.hostname == here


def actor_of(token: str, permission: str) -> Actor | None:
    """Who is signed in with a browser's token, if he has a permission somewhere. Within the database's thread."""
    session = accounts.find_session(token)
    if session is None or lacks_second_factor(session.user):
        return None
    actor = Actor(session.user.name, "ui", rights.rights_of(session.user), user_id=session.user.id)
    return actor if rights.may(actor, permission) else None
