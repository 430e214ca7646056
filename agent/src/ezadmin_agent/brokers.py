"""Why no broker takes us in. kafka-python's constructors raise only that none did; the reason stands in its log."""

from __future__ import annotations

import logging
import re
from types import TracebackType
from typing import NamedTuple, Optional

from ezadmin_wire.errors import WireError
from ezadmin_wire.kafka import KafkaConnection

_FAILED = re.compile(r"Bootstrap connection to \S+ failed: (?:\[Error \d+\] )?(.*) \(backoff")
_REFUSED = "SaslAuthenticationFailedError"
_MECHANISM = "UnsupportedSaslMechanismError"


class Reason(NamedTuple):
    """``text`` says what was found, ``hint`` what to do."""

    text: str
    hint: str

    def __str__(self) -> str:
        """Both in one line."""
        return f"{self.text}; {self.hint}"


class Overheard(logging.Handler):
    """While it is entered: the reasons for which a connection to a broker failed, each once, instead of in the log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.reasons: list[str] = []
        self._logger = logging.getLogger("kafka.net.manager")
        self._before = self._logger.level, self._logger.propagate

    def __enter__(self) -> Overheard:
        """Begin to listen."""
        self._before = self._logger.level, self._logger.propagate
        self._logger.setLevel(logging.WARNING)
        self._logger.propagate = False
        self._logger.addHandler(self)
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        """Leave the log as it was."""
        self._logger.removeHandler(self)
        level, self._logger.propagate = self._before
        self._logger.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        """Take a message of the client."""
        found = _FAILED.match(record.getMessage())
        if found and found[1] not in self.reasons:
            self.reasons.append(found[1])


def why(
    error: Exception, kafka: KafkaConnection, reasons: list[str], *, proxied: bool = False, seconds: float = 2.0
) -> Reason:
    """The reason behind ``error`` of a client that was to be made; asks the brokers, at most ``seconds`` each."""
    if isinstance(error, WireError):
        return Reason(str(error), "mend the configuration or the file that it names")
    if any(_REFUSED in reason for reason in reasons):
        return Reason(
            f"the broker refuses the sign-in of {kafka.user} ({kafka.sasl})",
            "a wrong name or password, or the broker does not know this user for this mechanism",
        )
    if any(_MECHANISM in reason for reason in reasons):
        return Reason(
            f"the broker does not take {kafka.sasl}", "write sasl = one of the listener's sasl.enabled.mechanisms"
        )
    if not proxied:
        found = [f"{server}: {text}" for server, text in kafka.probe(seconds).items() if text is not None]
        if found:
            return Reason(f"no broker speaks Kafka there: {'; '.join(found)}", "look into the broker's log")
    told = reasons[-1] if reasons else f"{type(error).__name__}: {error}"
    return Reason(
        f"no broker takes us in: {told}",
        "look into the broker's log"
        if kafka.sasl or proxied
        else "a listener with sign-in ends a connection without one: write sasl, user and password_file",
    )
