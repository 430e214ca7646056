"""How a host becomes known: the token that a person makes, what the host asks with it, and what it is answered.

The token is the only thing that a new host knows. It names the gateway, pins its certificate authority and the key that
commands are signed with, so that nobody in between can make the host his own. Host.id and key pair are made on the host; the
request is signed with the new key (:mod:`ezadmin_wire.requests`), which proves that the host has it.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
import zlib
from dataclasses import dataclass, field
from typing import Optional

from ezadmin_wire.errors import WireError
from ezadmin_wire.fields import dump, load
from ezadmin_wire.ids import is_host_id
from ezadmin_wire.signing import SigningKey, VerifyKey, signed_bytes

PREFIX = "ezt1."
CONTEXT_CLONE = "ezadmin/clone/1"


@dataclass(frozen=True)
class Token:
    """What stands in the text that a person pastes.

    ``url`` of the gateway, without a slash at its end; ``secret`` is all that the cmdb asks for (it keeps a hash); ``ca`` is the
    SHA-256 (hex) of the DER of the certificate authority's certificate, None if a public one is trusted or for plain HTTP;
    ``command_key`` is the public key (64 hex digits) that commands must be signed with.
    """

    url: str
    secret: str = field(repr=False)
    command_key: str
    ca: Optional[str] = None

    def __post_init__(self) -> None:
        check_url(self.url)
        VerifyKey.from_hex(self.command_key)
        if self.ca is not None and not re.fullmatch("[0-9a-f]{64}", self.ca):
            raise WireError("bad_token", "ca: not a SHA-256 of 64 hex digits")


def check_url(url: str) -> None:
    """Raises WireError (``bad_token``) if ``url`` is not ``http(s)://host[:port]``, without anything behind it."""
    if not re.fullmatch(r"https?://(\[[0-9a-fA-F:.]+\]|[^\s/?#@:\[\]]+)(:[0-9]{1,5})?", url):
        raise WireError("bad_token", f"url: {url!r} is not http(s)://host[:port]")


def new_secret() -> str:
    """A secret of 192 random bits, safe in URLs."""
    return secrets.token_urlsafe(24)


def write_token(token: Token) -> str:
    """The text of ``token``: no spaces, quotes or signs that a shell would read."""
    value = dump(token)
    return PREFIX + base64.urlsafe_b64encode(zlib.crc32(value).to_bytes(4, "big") + value).decode().rstrip("=")


def read_token(text: str) -> Token:
    """The reverse. Raises WireError (``bad_token``), also for a text that lost characters on its way."""
    text = text.strip()
    if not text.startswith(PREFIX):
        raise WireError("bad_token", f"an enrolment token begins with {PREFIX}")
    try:
        body = text[len(PREFIX) :]
        data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise WireError("bad_token", "the token is damaged; copy it again, whole") from error
    if len(data) < 4 or zlib.crc32(data[4:]).to_bytes(4, "big") != data[:4]:
        raise WireError("bad_token", "the token is damaged; copy it again, whole")
    return load(Token, data[4:])


@dataclass(frozen=True)
class Fingerprint:
    """By what a machine is known again; a disk that was copied brings everything else with it. Hashes, not the values.

    ``machine``: SHA-256 of ``/etc/machine-id``; ``hardware``: of the product's UUID and serial number in DMI, None where
    there is none to read; ``macs``: the addresses of the physical network interfaces, sorted.
    """

    machine: Optional[str] = None
    hardware: Optional[str] = None
    macs: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CloneProof:
    """That the host asking has the key ``kid`` of host ``host``: ``sig`` (hex) of :func:`clone_bytes` by that key."""

    host: str
    kid: str
    sig: str


@dataclass(frozen=True)
class EnrolRequest:
    """``host`` asks to be known with ``public_key``, by a token's ``secret`` or, for a copied disk, a ``clone`` proof."""

    host: str
    public_key: str
    name: str
    version: str
    fingerprint: Fingerprint
    secret: Optional[str] = field(default=None, repr=False)
    clone: Optional[CloneProof] = None

    def __post_init__(self) -> None:
        if not is_host_id(self.host):
            raise WireError("bad_value", f"host: {self.host!r} is not a host.id")
        VerifyKey.from_hex(self.public_key)
        if (self.secret is None) == (self.clone is None):
            raise WireError("bad_value", "secret, clone: exactly one of them must be given")


@dataclass(frozen=True)
class KafkaAccess:
    """How the host reaches the brokers by itself. ``ca`` is a PEM text; ``user`` and ``password`` are for SCRAM-SHA-512."""

    bootstrap: str
    tls: bool = False
    ca: Optional[str] = None
    user: Optional[str] = None
    password: Optional[str] = field(default=None, repr=False)


@dataclass(frozen=True)
class EnrolAnswer:
    """The host is known as ``host``: another one than it asked for if it is a known machine that was installed again.

    ``state`` is ``active`` or ``quarantined``; ``command_keys`` are trusted for commands; ``prefix`` that of the topics.
    ``kafka`` None: data goes through the gateway.
    """

    host: str
    state: str
    command_keys: list[str]
    prefix: str
    kafka: Optional[KafkaAccess] = None


def clone_bytes(old: str, new: str, public_key: str) -> bytes:
    """What the old key signs for host ``new`` with ``public_key``, on a disk copied from host ``old``."""
    return signed_bytes(CONTEXT_CLONE, [old.encode(), new.encode(), public_key.encode()])


def clone_proof(key: SigningKey, old: str, new: str, public_key: str) -> CloneProof:
    """The proof, made with the old host's ``key``."""
    return CloneProof(old, key.kid, key.sign(clone_bytes(old, new, public_key)).hex())
