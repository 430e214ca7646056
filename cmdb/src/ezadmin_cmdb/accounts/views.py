"""Pages of accounts."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Blueprint, flash, redirect, render_template, request, session, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from ezadmin_cmdb.accounts import services
from ezadmin_cmdb.accounts.forms import PasswordForm, SignInForm
from ezadmin_cmdb.errors import DomainError
from ezadmin_cmdb.web.signin import TOKEN, current_actor, current_user, public, signed_in_user

bp = Blueprint("accounts", __name__)


@bp.get("/sign-in")
@public
def sign_in_page() -> str | Response:
    """The page to sign in."""
    if current_user() is not None:
        return redirect(_next())
    return render_template("accounts/sign_in.html", form=SignInForm(), error=None)


@bp.post("/sign-in")
@public
def sign_in() -> tuple[str, int] | Response:
    """Sign in."""
    form = SignInForm()
    try:
        _user, token = services.sign_in(form.name.data or "", form.password.data or "", request.remote_addr or "")
    except (services.SignInRefused, services.LockedOut) as error:
        return render_template("accounts/sign_in.html", form=form, error=str(error)), error.status
    session.clear()  # what stood in the cookie before, another's perhaps, is worth nothing now
    session[TOKEN] = token
    session.permanent = True
    return redirect(_next())


def _next() -> str:
    """Where the user wanted to go; never to another site."""
    wanted = request.args.get("next", "")
    parts = urlsplit(wanted)
    own = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and not parts.netloc and not parts.scheme
    return wanted if own else url_for("status.home")


@bp.post("/sign-out")
def sign_out() -> Response:
    """Sign out."""
    services.sign_out(session[TOKEN])
    session.clear()
    return redirect(url_for("accounts.sign_in_page"))


@bp.get("/account")
def account() -> str:
    """The own account."""
    return render_template("accounts/account.html", form=PasswordForm(), error=None)


@bp.post("/account/password")
def change_password() -> tuple[str, int] | Response:
    """Change the own password."""
    form, user = PasswordForm(), signed_in_user()
    old, new, again = (field.data or "" for field in (form.old, form.new, form.again))
    try:
        if new != again:
            raise DomainError(_("The new passwords are not the same."))
        services.change_password(current_actor(), user, old, new, keep_token=session[TOKEN])
    except DomainError as error:
        return render_template("accounts/account.html", form=form, error=str(error)), error.status
    flash(_("The password is changed."))
    return redirect(url_for("accounts.account"))


@bp.post("/language/<language>")
@public
def set_language(language: str) -> Response:
    """Choose the language of the pages: of the account, or, before signing in, of the browser."""
    user = current_user()
    if user is not None:
        services.set_language(user, language)
    elif language in services.LANGUAGES:
        session["language"] = language
    return redirect(_next())
