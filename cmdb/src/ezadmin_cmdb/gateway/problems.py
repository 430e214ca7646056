"""What the gateway refuses, as its answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse


class Problem(Exception):
    """An answer ``{"error": reason, "message": text, …members}`` with an HTTP ``status``.

    ``retry``: seconds after which the same may be tried again.
    """

    def __init__(self, status: int, reason: str, text: str, retry: int | None = None, **members: Any) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.retry = retry
        self.members: Mapping[str, Any] = members

    def response(self) -> JSONResponse:
        """The answer."""
        headers = {} if self.retry is None else {"Retry-After": str(self.retry)}
        return JSONResponse({"error": self.reason, "message": str(self), **self.members}, self.status, headers)
