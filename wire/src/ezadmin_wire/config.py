"""Config records: what the cmdb tells pipeline and gateway, in the compacted topic ``config``.

The message's key is ``kind/id`` (``rules``, ``limit/<id>``, ``host/<host.id>``), the value canonical JSON of one of the
records below, the headers, in this order:

========  ==========================================================================================================
v         ``1``
revision  number of the change; grows with every change of the record, also across deletions. A reader keeps the record
          with the highest revision it has met and ignores older ones, so an old record sent again does nothing
kid       id of the cmdb's config signing key
sig       Ed25519 over :func:`ezadmin_wire.signing.signed_bytes` of ``ezadmin/config/1``, the key, the values of the
          headers above, and the value
========  ==========================================================================================================

An empty value (tombstone) deletes the record. It cannot be signed; it takes rights away and gives none, and the cmdb
worker publishes again what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Optional, Union

from ezadmin_wire.errors import WireError
from ezadmin_wire.fields import dump, load
from ezadmin_wire.signing import SigningKey, VerifyKey, signed_bytes

CONTEXT = "ezadmin/config/1"
VERSION = "1"
HEADERS = ("v", "revision", "kid")
HOST_STATES = ("active", "quarantined", "revoked", "retired")
RULE_ACTIONS = ("ignore", "filter", "set_level", "mask", "label", "exempt")


@dataclass(frozen=True)
class HostKey:
    """A public key of a host: ``public`` is 64 hex digits."""

    kid: str
    public: str
    revoked: bool = False


@dataclass(frozen=True)
class HostRecord:
    """``host/<host.id>``: what the pipeline puts on the documents of a host, and the keys it signs with.

    ``labels`` become ``labels.*``; ``limits`` are ids of limit records. Only a host whose ``state`` is ``active``
    is listened to.
    """

    name: str
    state: str = "active"
    labels: dict[str, str] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    keys: list[HostKey] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.state not in HOST_STATES:
            raise WireError("bad_value", f"state: {self.state!r} is none of {', '.join(HOST_STATES)}")


@dataclass(frozen=True)
class Match:
    """Which events a rule is for: all the conditions given must hold; a list holds if one of its entries does."""

    levels: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    contains: Optional[str] = None
    regex: Optional[str] = None


@dataclass(frozen=True)
class Rule:
    """One rule of the ordered list. ``arguments`` depend on the action (``level``, ``field``, ``label`` …)."""

    id: str
    action: str
    match: Match = field(default_factory=Match)
    arguments: dict[str, str] = field(default_factory=dict)
    expires: Optional[str] = None

    def __post_init__(self) -> None:
        if self.action not in RULE_ACTIONS:
            raise WireError("bad_value", f"action: {self.action!r} is none of {', '.join(RULE_ACTIONS)}")


@dataclass(frozen=True)
class RulesRecord:
    """``rules``: ONE record, the ordered list of all rules, so that their order can never be half new."""

    rules: list[Rule] = field(default_factory=list)


@dataclass(frozen=True)
class LimitRecord:
    """``limit/<id>``: a threshold on ``field`` of the items that match ``item`` (``*`` and ``?`` as wildcards).

    ``field`` is one of ``dataset``. A state is raised at its ``raise`` value and cleared at its ``clear`` value; ``hold`` is
    the number of seconds that a value must stay beyond, ``n`` of the last ``m`` samples must be beyond; ``rate`` compares
    the change per second; ``no_data`` is the number of seconds without a sample after which the state is unknown. ``trend``
    (seconds to look back, 0 for none) compares the hours until the figure, if it goes on so, is ``full_at``.
    What exactly that means, and what may be said, stands in :mod:`ezadmin_wire.limits`.
    """

    field: str
    item: str = "*"
    warning_raise: Optional[float] = None
    warning_clear: Optional[float] = None
    critical_raise: Optional[float] = None
    critical_clear: Optional[float] = None
    hold: int = 0
    n: int = 1
    m: int = 1
    rate: bool = False
    dataset: str = "system.host"
    comparison: str = "above"
    no_data: Optional[int] = None
    trend: int = 0
    full_at: float = 1.0


Record = Union[HostRecord, RulesRecord, LimitRecord]
KafkaHeaders = Sequence[tuple[str, bytes]]


@dataclass(frozen=True)
class ConfigRecord:
    """A record with its ``key`` (``kind/id``) and ``revision``; ``record`` is None for a tombstone."""

    key: str
    revision: int
    record: Optional[Record]


def host_key(host_id: str) -> str:
    """The message key of a host's record."""
    return f"host/{host_id}"


def limit_key(limit_id: str) -> str:
    """The message key of a limit."""
    return f"limit/{limit_id}"


RULES_KEY = "rules"


def record_type(key: str) -> type[Record]:
    """The record class for a message key. Raises WireError (``bad_key_name``) for an unknown kind."""
    kind, _, identifier = key.partition("/")
    if key == RULES_KEY:
        return RulesRecord
    if kind == "host" and identifier:
        return HostRecord
    if kind == "limit" and identifier:
        return LimitRecord
    raise WireError("bad_key_name", f"config key {key!r}: expected rules, limit/<id> or host/<host.id>")


def encode(signer: SigningKey, key: str, revision: int, record: Record) -> tuple[bytes, list[tuple[str, bytes]], bytes]:
    """Sign ``record``: (message key, headers, value). Raises WireError if key and record do not belong together."""
    if not isinstance(record, record_type(key)):
        raise WireError("bad_value", f"a {type(record).__name__} does not belong under {key!r}")
    value = dump(record)
    headers = [("v", VERSION.encode()), ("revision", str(revision).encode()), ("kid", signer.kid.encode())]
    signature = signer.sign(signed_bytes(CONTEXT, [key.encode(), *(data for _, data in headers), value]))
    return key.encode(), [*headers, ("sig", signature)], value


def decode(
    key: bytes | None, headers: KafkaHeaders, value: bytes | None, verify_keys: Sequence[VerifyKey]
) -> ConfigRecord:
    """Check and decode a message of the config topic; ``verify_keys`` are the cmdb's public keys that are trusted.

    Raises WireError with ``bad_header``, ``unknown_key``, ``bad_signature``, ``bad_key_name`` or ``bad_value``.
    """
    try:
        name = (key or b"").decode()
    except UnicodeDecodeError as error:
        raise WireError("bad_key_name", "the config key is not UTF-8") from error
    kind = record_type(name)
    if not value:
        return ConfigRecord(name, 0, None)
    if tuple(header for header, _ in headers) != (*HEADERS, "sig"):
        raise WireError("bad_header", f"config {name}: headers are not {', '.join((*HEADERS, 'sig'))}")
    if not all(isinstance(data, bytes) for _, data in headers):  # Kafka's headers may have no value
        raise WireError("bad_header", f"config {name}: a header has no value")
    version, revision, kid, signature = (data for _, data in headers)
    if version != VERSION.encode():
        raise WireError("bad_header", f"config {name}: version {version!r}; this reader knows {VERSION}")
    if not (revision.isdigit() and revision.isascii()):
        raise WireError("bad_header", f"config {name}: revision {revision!r} is not a number")
    signer = next((candidate for candidate in verify_keys if candidate.kid.encode() == kid), None)
    if signer is None:
        raise WireError("unknown_key", f"config {name}: signed with key {kid!r}, which is not trusted here")
    if not signer.verify(signature, signed_bytes(CONTEXT, [key or b"", version, revision, kid, value])):
        raise WireError("bad_signature", f"config {name}: the signature does not fit")
    return ConfigRecord(name, int(revision), load(kind, value))
