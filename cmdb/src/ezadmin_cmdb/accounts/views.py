"""Pages of accounts."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Blueprint, flash, redirect, render_template, request, session, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from ezadmin_cmdb.accounts import services
from ezadmin_cmdb.accounts.forms import PasswordForm, SignInForm
from ezadmin_cmdb.accounts.users import USER
from ezadmin_cmdb.describe import pages
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.errors import DomainError
from ezadmin_cmdb.web.access import needs, public, signed_in
from ezadmin_cmdb.web.signin import TOKEN, current_actor, current_user, signed_in_user

bp = Blueprint("accounts", __name__)
users = Blueprint("users", __name__, url_prefix="/users")
pages.add(users, USER, pages.actions(USER))


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
@signed_in
def sign_out() -> Response:
    """Sign out."""
    services.sign_out(session[TOKEN])
    session.clear()
    return redirect(url_for("accounts.sign_in_page"))


@bp.get("/account")
@signed_in
def account() -> str:
    """The own account."""
    return render_template("accounts/account.html", form=PasswordForm(), error=None)


@bp.post("/account/password")
@signed_in
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


@users.get("/new")
@needs(USER.change)
def new() -> str:
    """The form of another user."""
    return render_template("accounts/new_user.html", error=None)


@users.post("/new")
@needs(USER.change)
def create() -> tuple[str, int] | str:
    """Make a user, and show the password once."""
    password = services.random_password()
    try:
        user = services.create_user(current_actor(), request.form.get("name", ""), password, False)
    except DomainError as error:
        return render_template("accounts/new_user.html", error=str(error)), error.status
    return render_template("accounts/password_once.html", user=user, password=password)


@users.post("/<int:object_id>/password")
@needs(USER.change)
def reset_password(object_id: int) -> str:
    """Give a user another password, and show it once."""
    user = described.find(current_actor(), USER, object_id)
    return render_template(
        "accounts/password_once.html", user=user, password=services.reset_password(current_actor(), user)
    )
