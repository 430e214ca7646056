"""Commands: what a person has an agent do, signed when he confirms it.

A command is canonical JSON of :class:`Command`. The signature covers the context ``ezadmin/command/1``, the kid and the
exact bytes sent, so that agent and signer need not agree on how JSON is written. It travels as :class:`SignedCommand`.
An agent does what it can be sure to understand and nothing else: a member that it does not know is an error here, where
other readers of this package pass over it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Callable, Optional

from ezadmin_wire import jsontext
from ezadmin_wire.errors import WireError
from ezadmin_wire.fields import build, dump
from ezadmin_wire.ids import is_host_id
from ezadmin_wire.signing import SigningKey, VerifyKey, signed_bytes
from ezadmin_wire.times import parse_time

CONTEXT = "ezadmin/command/1"
MAX_BYTES = 256 * 1024
"""Of a command, as sent."""
CLOCK_SECONDS = 60.0
"""How far ahead of the host's clock ``not_before`` may lie."""
INVENTORY, SAMPLE, CONFIGURE, ROTATE_KEY, STOP, RESUME = (
    "inventory",
    "sample",
    "configure",
    "rotate_key",
    "stop",
    "resume",
)
MAX_REASON = 500


@dataclass(frozen=True)
class Command:
    """What host ``host`` is to do, once.

    ``id`` names this command, ``run`` (a UUID as well) what the person confirmed, for all its hosts; ``attempt`` counts from 1.
    ``arguments`` depend on ``kind`` (:func:`check_arguments`). ``actor`` is who confirmed it, as text. It may be begun
    from ``not_before`` to ``not_after`` (wire times). ``nonce``: 32 hex digits, never used twice. ``account``: whom it
    runs as, for kinds that run something.
    """

    id: str
    run: str
    attempt: int
    kind: str
    host: str
    actor: str
    not_before: str
    not_after: str
    nonce: str
    arguments: dict[str, Any] = field(default_factory=dict)
    account: Optional[str] = None

    def __post_init__(self) -> None:
        for name in ("id", "run", "host"):
            if not is_host_id(getattr(self, name)):  # any random UUID, in the one spelling
                raise WireError("bad_value", f"{name}: {getattr(self, name)!r} is not a UUID in lower case")
        if self.attempt < 1:
            raise WireError("bad_value", f"attempt: {self.attempt} is less than 1")
        if not re.fullmatch("[0-9a-f]{32}", self.nonce):
            raise WireError("bad_value", "nonce: not 32 hex digits")
        if parse_time(self.not_after) <= parse_time(self.not_before):
            raise WireError("bad_value", "not_after: not later than not_before")
        check_arguments(self.kind, self.arguments)


@dataclass(frozen=True)
class SignedCommand:
    """``command``: the exact JSON text; ``sig``: base64url without padding, by the key ``kid``."""

    command: str
    kid: str
    sig: str


def _whole(low: int, high: int) -> Callable[[Any], Optional[str]]:
    def problem(value: Any) -> Optional[str]:
        right = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return None if right else f"expected a whole number from {low} to {high}"

    return problem


def _object(value: Any) -> Optional[str]:
    return None if isinstance(value, dict) else "expected an object"


def _reason(value: Any) -> Optional[str]:
    return (
        None
        if isinstance(value, str) and len(value) <= MAX_REASON
        else f"expected a text of at most {MAX_REASON} characters"
    )


ARGUMENTS: dict[str, dict[str, Callable[[Any], Optional[str]]]] = {
    INVENTORY: {},
    SAMPLE: {"interval": _whole(1, 60), "seconds": _whole(10, 3600)},
    CONFIGURE: {"version": _whole(0, 2**53), "config": _object},
    ROTATE_KEY: {},
    STOP: {"reason": _reason},
    RESUME: {"reason": _reason},
}
"""The arguments of each kind, all of them needed, and what is wrong with a value.

``inventory``: collect and send the inventory now. ``sample``: metrics each ``interval`` seconds, for ``seconds``.
``configure``: take ``config`` (:mod:`ezadmin_wire.managed`) as the managed part of the configuration, ``version`` its number.
``rotate_key``: make a new key and have it known. ``stop``: end what commands began and take none but ``resume`` until then.
"""
KINDS = tuple(ARGUMENTS)


def check_arguments(kind: str, arguments: dict[str, Any]) -> None:
    """Raises WireError (``unknown_kind``, ``bad_value``) that names the argument and what to write."""
    known = ARGUMENTS.get(kind)
    if known is None:
        raise WireError("unknown_kind", f"kind: {kind!r} is none of {', '.join(KINDS)}")
    for name in arguments:
        if name not in known:
            raise WireError("bad_value", f"arguments.{name}: {kind} has no such argument")
    for name, problem in known.items():
        if name not in arguments:
            raise WireError("bad_value", f"arguments.{name}: missing")
        text = problem(arguments[name])
        if text is not None:
            raise WireError("bad_value", f"arguments.{name}: {text}")


def encode(signer: SigningKey, command: Command) -> SignedCommand:
    """Sign ``command``. Raises WireError (``bad_value``) if it is larger than :data:`MAX_BYTES`."""
    value = dump(command)
    if len(value) > MAX_BYTES:
        raise WireError("bad_value", f"a command of {len(value)} bytes; at most {MAX_BYTES} can be sent")
    signature = signer.sign(_signed(signer.kid, value))
    return SignedCommand(value.decode(), signer.kid, base64.urlsafe_b64encode(signature).decode().rstrip("="))


def verify(signed: SignedCommand, verify_keys: Sequence[VerifyKey]) -> bytes:
    """The bytes of the command, if one of ``verify_keys`` signed them; what they say is not looked at.

    Raises WireError with ``bad_value`` (too large, no text), ``unknown_key`` or ``bad_signature``.
    """
    try:
        value = signed.command.encode()
    except UnicodeEncodeError as error:
        raise WireError("bad_value", "not text that UTF-8 can hold") from error
    if len(value) > MAX_BYTES:
        raise WireError("bad_value", f"a command of {len(value)} bytes; at most {MAX_BYTES} are read")
    signer = next((key for key in verify_keys if key.kid == signed.kid), None)
    if signer is None:
        raise WireError("unknown_key", f"signed with key {signed.kid[:64]!r}, which is not trusted here")
    if not re.fullmatch(r"[\w-]{85}[AQgw]", signed.sig, re.ASCII):  # one signature has one text
        raise WireError("bad_signature", "the signature is not base64url of 64 bytes")
    if not signer.verify(base64.urlsafe_b64decode(f"{signed.sig}=="), _signed(signed.kid, value)):
        raise WireError("bad_signature", "the signature does not fit the command")
    return value


def decode(signed: SignedCommand, verify_keys: Sequence[VerifyKey]) -> Command:
    """The command, if one of ``verify_keys`` signed it.

    Raises WireError with ``bad_value``, ``unknown_key``, ``bad_signature`` or ``unknown_kind``.
    """
    value = verify(signed, verify_keys)
    try:
        plain = jsontext.loads(value)
        dump(plain)  # no NaN, no halves of surrogate pairs, wherever in the arguments
    except ValueError as error:
        raise WireError("bad_value", f"not JSON: {error}") from error
    unknown = sorted(set(plain) - {member.name for member in fields(Command)}) if isinstance(plain, dict) else []
    if unknown:
        raise WireError("bad_value", f"{unknown[0]}: this version knows no such member")
    return build(Command, plain)


def check_time(command: Command, at: str) -> None:
    """Whether it may be begun at the wire time ``at``. Raises WireError (``too_early``, ``expired``)."""
    moment = parse_time(at)
    if moment > parse_time(command.not_after):
        raise WireError("expired", f"it was to be begun until {command.not_after}, here it is {at}")
    if (parse_time(command.not_before) - moment).total_seconds() > CLOCK_SECONDS:
        raise WireError("too_early", f"it is not to be begun before {command.not_before}, here it is {at}")


def _signed(kid: str, value: bytes) -> bytes:
    return signed_bytes(CONTEXT, [kid.encode(), value])
