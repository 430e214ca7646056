"""Requests that a host signs with its own key, as the HTTP header ``Authorization``.

``Ezadmin host=<host.id>, kid=<kid>, time=<wire time>, signature=<base64url>``. The signature covers the context
``ezadmin/request/1`` and host, kid, time, method, target (path and query, from ``/api/`` on) and the SHA-256 of the body.
A request is good for :data:`WINDOW_SECONDS` around its time: within them it can be repeated by who has seen it, so what
changes something needs a guard of its own.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from ezadmin_wire.errors import WireError
from ezadmin_wire.ids import is_host_id
from ezadmin_wire.signing import SigningKey, VerifyKey, signed_bytes
from ezadmin_wire.times import now, parse_time

CONTEXT = "ezadmin/request/1"
WINDOW_SECONDS = 300
_CLAIM = re.compile(
    r"Ezadmin host=([0-9a-f-]{36}), kid=([0-9a-f]{16}), time=([0-9TZ:.-]{20,32}), signature=([\w-]{86})", re.ASCII
)


@dataclass(frozen=True)
class Claim:
    """What a request says of itself; nothing of it is true before :meth:`signed_by`."""

    host: str
    kid: str
    time: str
    signature: bytes

    def age(self, at: str) -> float:
        """Seconds from the time of the request to the wire time ``at``; negative if it is from the future."""
        return (parse_time(at) - parse_time(self.time)).total_seconds()

    def signed_by(self, key: VerifyKey, method: str, target: str, body: bytes = b"") -> bool:
        """Whether ``key`` signed exactly this request under this claim."""
        return key.verify(self.signature, _signed(self.host, self.kid, self.time, method, target, body))


def authorization(
    key: SigningKey, *, host: str, method: str, target: str, body: bytes = b"", time: str | None = None
) -> str:
    """The header's value for a request of ``host`` at ``time`` (now)."""
    moment = time or now()
    signature = base64.urlsafe_b64encode(key.sign(_signed(host, key.kid, moment, method, target, body)))
    return f"Ezadmin host={host}, kid={key.kid}, time={moment}, signature={signature.decode().rstrip('=')}"


def parse(header: str) -> Claim:
    """Read the header's value. Raises WireError (``bad_authorization``) for anything else."""
    found = _CLAIM.fullmatch(header)
    try:
        if found is not None and is_host_id(found[1]):
            parse_time(found[3])
            return Claim(found[1], found[2], found[3], base64.urlsafe_b64decode(f"{found[4]}=="))
    except (WireError, ValueError, binascii.Error):
        pass
    raise WireError("bad_authorization", "the header Authorization is not one that a host makes")


def _signed(host: str, kid: str, time: str, method: str, target: str, body: bytes) -> bytes:
    parts = (host, kid, time, method, target, hashlib.sha256(body).hexdigest())
    return signed_bytes(CONTEXT, [part.encode() for part in parts])
