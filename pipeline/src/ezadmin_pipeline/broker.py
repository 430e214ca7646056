"""What Kafka's errors mean: whether waiting helps, and what a person has to do where it does not."""

from __future__ import annotations

from kafka.errors import (
    AuthorizationError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)

from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.kafka_probe import Refusal

TOPIC_AUTHORIZATION_FAILED = 29
_PROBE_SECONDS = 3.0


class KafkaRefused(Exception):
    """Kafka refuses our user, or what it wants to do: trying again would not help, a person has to mend it."""


def refuse(error: KafkaError, kafka: KafkaConnection, doing: str) -> None:
    """Raise KafkaRefused if ``error``, met while ``doing`` something, is one that waiting does not mend."""
    if isinstance(error, (SaslAuthenticationFailedError, UnsupportedSaslMechanismError, IllegalSaslStateError)):
        raise _refused_sign_in(text_of(error), kafka) from error
    if isinstance(error, GroupAuthorizationFailedError):
        raise _missing("Read on the consumer group", kafka, doing, error)
    if isinstance(error, ClusterAuthorizationFailedError):
        raise _missing("a right on the cluster", kafka, doing, error)
    if isinstance(error, AuthorizationError):
        raise _missing("a right on the topic", kafka, doing, error)


def explain(error: KafkaError, kafka: KafkaConnection) -> str:
    """What ``error`` is about, for a person: where no broker can be talked to, why that is, broker by broker.

    Asks the brokers, which takes a few seconds each if they are away. Raises KafkaRefused if one refuses the sign-in.
    """
    text = text_of(error)
    if "bootstrap" not in text:
        return text
    problems = {server: problem for server, problem in kafka.probe(_PROBE_SECONDS).items() if problem}
    for server, problem in problems.items():
        if isinstance(problem, Refusal):
            raise _refused_sign_in(f"{server}: {problem}", kafka) from error
    return "; ".join(f"{server}: {problem}" for server, problem in problems.items()) or text


def text_of(error: KafkaError) -> str:
    """The error's own words, with its name where they would not be understood without."""
    text = ", ".join(str(argument) for argument in error.args)
    return text if " " in text else f"{type(error).__name__}: {text}"


def _refused_sign_in(text: str, kafka: KafkaConnection) -> KafkaRefused:
    return KafkaRefused(f"Kafka at {kafka} refuses the sign-in: {text}; mend user, password or sasl in [kafka]")


def _missing(right: str, kafka: KafkaConnection, doing: str, error: KafkaError) -> KafkaRefused:
    made = KafkaRefused(f"Kafka at {kafka} does not let us do this: {doing}: {text_of(error)}; give the user {right}")
    made.__cause__ = error
    return made
