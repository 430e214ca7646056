"""Signing in by an OpenID Connect provider: code flow with PKCE, state and nonce. Needs ``pip install ezadmin-cmdb[oidc]``."""

# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import logging
from typing import Any

from flask import Blueprint, Flask, current_app, g, render_template, request, session, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from ezadmin_cmdb.accounts import external, signing_in
from ezadmin_cmdb.accounts.external import NotAdmitted, Person
from ezadmin_cmdb.accounts.forms import SignInForm
from ezadmin_cmdb.accounts.views import enter, next_address, where
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.audit import services as audit
from ezadmin_cmdb.settings import Oidc, Settings, SettingsError
from ezadmin_cmdb.web.access import public

_log = logging.getLogger(__name__)
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
"""Signatures of who has a private key. Neither "none", nor HMAC, whose key every client has."""
WANTED = "oidc_next"

bp = Blueprint("provider", __name__)


def init_app(app: Flask) -> None:
    """Make the client, if the settings name a provider; it is asked at the first sign-in. Raises SettingsError."""
    settings: Settings = app.extensions["ezadmin_settings"]
    app.register_blueprint(bp)
    app.jinja_env.globals["provider_title"] = settings.oidc.title if settings.oidc else None
    if settings.oidc is None:
        return
    try:
        from authlib.integrations.flask_client import OAuth
    except ImportError as error:
        raise SettingsError("[oidc] needs a library: pip install 'ezadmin-cmdb[oidc]'") from error
    oauth = OAuth(app)
    app.extensions["ezadmin_oidc"] = oauth.register(
        "provider",
        client_id=settings.oidc.client_id,
        client_secret=settings.oidc.secret(),
        server_metadata_url=f"{settings.oidc.issuer}/.well-known/openid-configuration",
        client_kwargs={"scope": settings.oidc.scopes, "code_challenge_method": "S256", "timeout": 10},
    )


def _settings() -> Oidc:
    settings: Settings = current_app.extensions["ezadmin_settings"]
    if settings.oidc is None:
        raise NotAdmitted(_("No identity provider is set up here."))
    return settings.oidc


def _client() -> Any:
    client = current_app.extensions["ezadmin_oidc"]
    metadata = client.load_server_metadata()
    if metadata.get("issuer", "").rstrip("/") != _settings().issuer:
        raise ValueError(f"the provider calls itself {metadata.get('issuer')!r}, the settings {_settings().issuer!r}")
    offered = metadata.get("id_token_signing_alg_values_supported") or ["RS256"]
    metadata["id_token_signing_alg_values_supported"] = [one for one in offered if one in ALGORITHMS]
    return client


def _redirect_address() -> str:
    settings: Settings = current_app.extensions["ezadmin_settings"]
    path = url_for("provider.answer")
    return f"{settings.web.url}{path}" if settings.web.url else url_for("provider.answer", _external=True)


@bp.get("/sign-in/provider")
@public
def ask() -> Any:
    """Go to the provider."""
    _settings()
    session.clear()
    session[WANTED] = next_address()
    try:
        return _client().authorize_redirect(_redirect_address())
    except Exception as error:  # noqa: BLE001 - of HTTP, JSON and Authlib; whatever it is, nobody is let in
        _log.error("the identity provider cannot be asked: %s", error)
        return _refused(_("The identity provider does not answer. Try again later."), 503)


@bp.get("/sign-in/provider/answer")
@public
def answer() -> Any:
    """Come back from the provider: who it is, is believed only with state, nonce, signature, issuer, audience and time."""
    settings, wanted = _settings(), session.get(WANTED, "/")
    try:
        token = _client().authorize_access_token(claims_options={"iss": {"essential": True, "value": _issuer()}})
        claims = dict(token["userinfo"])
        person = _person(settings, claims)
    except Exception as error:  # noqa: BLE001 - as above
        _log.warning("refused: the answer of the identity provider: %s: %s", type(error).__name__, error)
        actor = Actor(signing_in.UNKNOWN, "ui", request_id=g.request_id, address=request.remote_addr)
        audit.note("sign_in", "provider", actor, audit.FAILURE, details={"why": type(error).__name__})
        return _refused(_("The answer of the identity provider is not good. Sign in again."), 401)
    try:
        user = external.admit(person, settings.groups)
    except NotAdmitted as error:
        actor = Actor(person.name[:255], "ui", request_id=g.request_id, address=request.remote_addr)
        audit.note("sign_in", "provider", actor, audit.FAILURE, details={"why": str(error)})
        return _refused(str(error), error.status)
    _user, made, half = signing_in.finish(user, None, "provider", where())
    return enter(made, half, wanted)


def _issuer() -> str:
    """As the provider writes it, which may end with a slash; compared with the settings before."""
    issuer: str = current_app.extensions["ezadmin_oidc"].load_server_metadata()["issuer"]
    return issuer


def _person(settings: Oidc, claims: dict[str, Any]) -> Person:
    name = claims.get(settings.name_claim)
    if not isinstance(name, str) or not isinstance(claims.get("sub"), str):
        raise ValueError(f"the provider does not tell {settings.name_claim} and sub")
    groups = claims.get(settings.groups_claim) or []
    names = [str(one) for one in groups] if isinstance(groups, list) else []
    return Person("oidc", f"{settings.issuer} {claims['sub']}", name, names)


def _refused(text: str, status: int) -> tuple[str, int] | Response:
    session.clear()
    return render_template("accounts/sign_in.html", form=SignInForm(), error=text), status
