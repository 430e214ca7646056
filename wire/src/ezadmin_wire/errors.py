"""The one error of this package."""

from __future__ import annotations


class WireError(ValueError):
    """A message, record or key that does not keep the contract.

    ``reason`` is a short stable word (it stands in dead letters and metrics); the text says what was found.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason
