"""Forms of accounts; their errors are the services' own."""

from __future__ import annotations

from flask_wtf import FlaskForm
from wtforms import PasswordField, StringField


class SignInForm(FlaskForm):  # type: ignore[misc]
    """Name and password."""

    name = StringField()
    password = PasswordField()


class CodeForm(FlaskForm):  # type: ignore[misc]
    """A code of the second factor."""

    code = StringField()


class PasswordForm(FlaskForm):  # type: ignore[misc]
    """The present password and a new one, twice."""

    old = PasswordField()
    new = PasswordField()
    again = PasswordField()
