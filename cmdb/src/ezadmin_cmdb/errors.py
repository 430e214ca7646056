"""Errors of the domain: what a user may read, whatever he came by (page, API, command)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class DomainError(Exception):
    """Something that was asked for cannot be done; the text says what and why, for the user."""

    status = 400
    """The HTTP status that fits."""
    headers: Mapping[str, str] = {}
    """Headers that belong to it."""
    members: Mapping[str, Any] = {}
    """What the API says about it beside the text."""


class Invalid(DomainError):
    """A value that cannot be used; ``field`` names it, or ``fields`` all that are wrong, each with its text."""

    status = 422

    def __init__(self, text: str, field: str | None = None, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.field = field
        self.fields: dict[str, str] = dict(fields or ({field: text} if field else {}))


class Forbidden(DomainError):
    """The actor lacks the permission."""

    status = 403


class NotFound(DomainError):
    """It is not there, or not visible to the actor."""

    status = 404


class Conflict(DomainError):
    """It contradicts what is there."""

    status = 409


class Outdated(DomainError):
    """It was changed since the actor read it."""

    status = 412


class PreconditionRequired(DomainError):
    """It is done only for who says what he has seen."""

    status = 428


class TooManyRequests(DomainError):
    """So many requests are not answered; ``seconds`` later one is again."""

    status = 429

    def __init__(self, text: str, seconds: int) -> None:
        super().__init__(text)
        self.headers = {"Retry-After": str(seconds)}
