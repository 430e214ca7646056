"""Why no broker takes us in: kafka-python's constructors raise only that none did."""

from __future__ import annotations

from typing import NamedTuple, Optional

from ezadmin_wire.errors import WireError
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.kafka_probe import SPEAKS_TLS, Refusal


class Reason(NamedTuple):
    """``text`` says what was found, ``hint`` what to do."""

    text: str
    hint: str

    def __str__(self) -> str:
        """Both in one line."""
        return f"{self.text}; {self.hint}"


def probe(kafka: KafkaConnection, seconds: float) -> Optional[Reason]:
    """What is wrong if none of the brokers can be signed in to; None if one can. At most ``seconds`` for each step."""
    found = kafka.probe(seconds)
    if any(problem is None for problem in found.values()):
        return None
    text = "; ".join(f"{server}: {problem}" for server, problem in found.items())
    if any(isinstance(problem, Refusal) for problem in found.values()):
        return Reason(text, "mend user, password or sasl under [kafka], or make the user known to the broker")
    if SPEAKS_TLS in text:
        return Reason(text, "write tls = true under [kafka], and ca_file unless the system trusts its authority")
    return Reason(text, "look into the broker's log")


def why(error: Exception, kafka: KafkaConnection, *, proxied: bool, seconds: float = 2.0) -> Reason:
    """The reason behind ``error`` of a client that was to be made. ``proxied``: the brokers cannot be asked from here."""
    if isinstance(error, WireError):
        return Reason(str(error), "mend the configuration or the file that it names")
    found = None if proxied else probe(kafka, seconds)
    if found is not None:
        return found
    name, text = type(error).__name__, str(error)
    return Reason(
        f"no broker takes us in: {text if text.startswith(name) else f'{name}: {text}'}",
        "look into the broker's log"
        if kafka.sasl or proxied
        else "a listener with sign-in ends a connection without one: write sasl, user and password_file",
    )
