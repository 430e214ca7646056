"""Pages of accounts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from flask import Blueprint, flash, g, redirect, render_template, request, session, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from ezadmin_cmdb.accounts import guards, second_factor, services, signing_in, tokens
from ezadmin_cmdb.accounts.directory import DirectoryUnavailable
from ezadmin_cmdb.accounts.external import NotAdmitted
from ezadmin_cmdb.accounts.forms import CodeForm, PasswordForm, SignInForm
from ezadmin_cmdb.accounts.guards import LockedOut
from ezadmin_cmdb.accounts.signing_in import From, Half, SignInRefused
from ezadmin_cmdb.accounts.users import USER
from ezadmin_cmdb.database import utc_now
from ezadmin_cmdb.describe import pages
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.errors import DomainError, Invalid
from ezadmin_cmdb.rights import permissions
from ezadmin_cmdb.rights import services as rights
from ezadmin_cmdb.web.access import needs, public, signed_in
from ezadmin_cmdb.web.signin import TOKEN, current_actor, current_user, lacks_second_factor, signed_in_user

HALF = "half"

bp = Blueprint("accounts", __name__)
users = Blueprint("users", __name__, url_prefix="/users")
pages.add(users, USER, pages.actions(USER))


@bp.get("/sign-in")
@public
def sign_in_page() -> str | Response:
    """The page to sign in."""
    if current_user() is not None:
        return redirect(next_address())
    return render_template("accounts/sign_in.html", form=SignInForm(), error=None)


@bp.post("/sign-in")
@public
def sign_in() -> tuple[str, int] | Response:
    """Sign in."""
    form = SignInForm()
    try:
        found = signing_in.with_password(form.name.data or "", form.password.data or "", where())
    except (SignInRefused, LockedOut, NotAdmitted, DirectoryUnavailable) as error:
        return render_template("accounts/sign_in.html", form=form, error=str(error)), error.status
    return enter(*found[1:])


def where() -> From:
    """Where the request comes from."""
    return From(request.remote_addr or "", g.request_id, request.user_agent.string)


def enter(token: str | None, half: Half | None, wanted: str | None = None) -> Response:
    """Let a browser in, or ask it for a code. What stood in its cookie before, another's perhaps, is worth nothing now."""
    wanted = wanted or next_address()
    session.clear()
    if half is not None:
        session[HALF] = half.as_cookie()
        return redirect(url_for("accounts.code_page", next=wanted if wanted != "/" else None))
    session[TOKEN] = token
    session.permanent = True
    return redirect(wanted)


@bp.get("/sign-in/code")
@public
def code_page() -> str | Response:
    """The page that asks for a code of the second factor."""
    if Half.of_cookie(session.get(HALF)) is None:
        return redirect(url_for("accounts.sign_in_page"))
    return render_template("accounts/code.html", form=CodeForm(), error=None)


@bp.post("/sign-in/code")
@public
def code() -> tuple[str, int] | Response:
    """Sign in with a code, after the password."""
    form, half = CodeForm(), Half.of_cookie(session.get(HALF))
    if half is None:
        return redirect(url_for("accounts.sign_in_page"))
    try:
        _user, token = signing_in.with_code(half, form.code.data or "", where())
    except (SignInRefused, LockedOut) as error:
        return render_template("accounts/code.html", form=form, error=str(error)), error.status
    return enter(token, None)


def next_address() -> str:
    """Where the user wanted to go; never to another site."""
    wanted = request.args.get("next", "")
    parts = urlsplit(wanted)
    own = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and not parts.netloc and not parts.scheme
    return wanted if own else url_for("status.home")


@bp.post("/sign-out")
@signed_in
def sign_out() -> Response:
    """Sign out."""
    signing_in.signed_out(current_actor(), session[TOKEN])
    session.clear()
    return redirect(url_for("accounts.sign_in_page"))


@bp.get("/account")
@signed_in
def account() -> str:
    """The own account."""
    return _account()


def _account(error: str | None = None) -> str:
    user = signed_in_user()
    return render_template(
        "accounts/account.html", form=PasswordForm(), error=error, sessions=services.sessions_of(user),
        is_this=lambda found: services.is_session(found, session[TOKEN]), handle=services.HANDLE,
        second_factor=second_factor.is_on(user), recovery_left=second_factor.recovery_codes_left(user),
        tokens=len(tokens.of_user(user)),
    )  # fmt: skip


@bp.post("/account/sessions/<handle>/end")
@signed_in
def end_session(handle: str) -> Response:
    """Sign out elsewhere: one other browser, or all of them (``others``)."""
    actor, user = current_actor(), signed_in_user()
    if handle == "others":
        services.end_other_sessions(actor, user, session[TOKEN])
    else:
        services.end_session(actor, user, handle)
    flash(_("Signed out there."))
    return redirect(url_for("accounts.account"))


@bp.get("/account/second-factor")
@signed_in
def second_factor_page() -> str:
    """The second factor of the own account."""
    return _second_factor()


def _second_factor(error: str | None = None) -> str:
    user = signed_in_user()
    secret = second_factor.pending(user)
    return render_template(
        "accounts/second_factor.html", error=error, on=second_factor.is_on(user), secret=secret,
        picture=second_factor.picture(user, secret) if secret else None, required=lacks_second_factor(user),
        left=second_factor.recovery_codes_left(user), form=CodeForm(),
    )  # fmt: skip


@bp.post("/account/second-factor/begin")
@signed_in
def begin_second_factor() -> Response:
    """Make the secret for the app."""
    second_factor.begin(signed_in_user())
    return redirect(url_for("accounts.second_factor_page"))


@bp.post("/account/second-factor/confirm")
@signed_in
def confirm_second_factor() -> tuple[str, int] | str:
    """Switch it on with the first code, and show the recovery codes once."""
    try:
        codes = second_factor.confirm(current_actor(), signed_in_user(), CodeForm().code.data or "")
    except Invalid as error:
        return _second_factor(str(error)), error.status
    return render_template("accounts/recovery_codes.html", codes=codes)


@bp.post("/account/second-factor/recovery-codes")
@signed_in
def new_recovery_codes() -> tuple[str, int] | str:
    """Make other recovery codes, for a code of the app."""
    user = signed_in_user()
    if second_factor.check(user, CodeForm().code.data or "") != "app":
        return _second_factor(_("The code is wrong. Is the clock of the phone right?")), 422
    return render_template("accounts/recovery_codes.html", codes=second_factor.new_recovery_codes(user))


@bp.post("/account/second-factor/off")
@signed_in
def switch_off_second_factor() -> tuple[str, int] | Response:
    """Switch it off, with a code."""
    try:
        second_factor.switch_off(current_actor(), signed_in_user(), CodeForm().code.data or "")
    except Invalid as error:
        return _second_factor(str(error)), error.status
    flash(_("The second factor is off."))
    return redirect(url_for("accounts.account"))


@bp.get("/account/tokens")
@signed_in
def own_tokens() -> str:
    """The own tokens, and the form of another one."""
    return _tokens({})


def _tokens(errors: Mapping[str, str], error: str | None = None) -> str:
    actor = current_actor()
    own = [one for one in permissions.known() if rights.may(actor, one.name)]
    return render_template(
        "accounts/tokens.html", tokens=tokens.of_user(signed_in_user()), permissions=own, errors=errors, error=error,
        days=tokens.DAYS, days_max=tokens.DAYS_MAX, now=utc_now(),
    )  # fmt: skip


@bp.post("/account/tokens")
@signed_in
def create_token() -> tuple[str, int] | str:
    """Make a token, and show it once."""
    form = request.form
    days = form.get("days", "")
    try:
        token, text = tokens.create(
            current_actor(), signed_in_user(), form.get("name", ""), form.getlist("scopes"),
            int(days) if days.isdecimal() and len(days) < 5 else 0,
            [one for one in re.split(r"[\s,]+", form.get("networks", "")) if one],
        )  # fmt: skip
    except DomainError as error:
        return _tokens(error.fields if isinstance(error, Invalid) else {}, str(error)), error.status
    return render_template("accounts/token_once.html", token=token, text=text)


@bp.post("/account/tokens/<int:token_id>/revoke")
@signed_in
def revoke_token(token_id: int) -> Response:
    """Revoke a token of one's own."""
    actor = current_actor()
    tokens.revoke(actor, tokens.find_own(actor, token_id))
    flash(_("The token is revoked."))
    return redirect(url_for("accounts.own_tokens"))


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
        return _account(str(error)), error.status
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
    return redirect(next_address())


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


@users.post("/<int:object_id>/unlock")
@needs(USER.change)
def unlock(object_id: int) -> Response:
    """Let a user who is locked out try again."""
    actor = current_actor()
    guards.unlock(actor, described.find(actor, USER, object_id))
    flash(_("Unlocked."))
    return redirect(url_for("users.show", object_id=object_id))


@users.post("/<int:object_id>/second-factor")
@needs(USER.change)
def reset_second_factor(object_id: int) -> Response:
    """Take the second factor from a user who lost phone and recovery codes."""
    actor = current_actor()
    second_factor.reset(actor, described.find(actor, USER, object_id))
    flash(_("The second factor is off."))
    return redirect(url_for("users.show", object_id=object_id))


@users.post("/<int:object_id>/sessions")
@needs(USER.change)
def end_sessions(object_id: int) -> Response:
    """Sign a user out everywhere."""
    actor = current_actor()
    services.end_other_sessions(actor, described.find(actor, USER, object_id), None)
    flash(_("Signed out there."))
    return redirect(url_for("users.show", object_id=object_id))


@users.post("/<int:object_id>/password")
@needs(USER.change)
def reset_password(object_id: int) -> str:
    """Give a user another password, and show it once."""
    user = described.find(current_actor(), USER, object_id)
    return render_template(
        "accounts/password_once.html", user=user, password=services.reset_password(current_actor(), user)
    )
