"""Why a Kafka broker cannot be talked to: its name, its port, TLS, a certificate, or the sign-in.

kafka-python says of all this only that no broker answers; it even drops a broker's answer to a wrong password when that comes
together with the end of the connection, as it always does. So this speaks the few requests before the first real one by itself:
ApiVersions v0, SaslHandshake v1 and SaslAuthenticate v0 (Kafka's protocol guide), PLAIN (RFC 4616) and SCRAM (RFC 5802).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import socket
import ssl
import struct
from typing import NamedTuple, Optional

_API_VERSIONS, _SASL_HANDSHAKE, _SASL_AUTHENTICATE = (18, 0), (17, 1), (36, 0)
_LARGEST_ANSWER = 1 << 20
SPEAKS_TLS = "it speaks TLS"
_TLS_ALERT = b"\x15\x03"
"""How a listener with TLS answers who speaks without; as a size it would be too large."""
_HINT_TLS = "write tls = true if this listener is one with TLS"
_HINT_CERTIFICATE = "it may ask for a certificate: certificate_file and key_file, signed by its authority"
_HINT_LISTENER = "is this a listener with TLS, and does it take our certificate?"


class Refusal(str):
    """A problem that waiting does not mend: the broker refuses who we are."""


class Credentials(NamedTuple):
    """How to sign in."""

    mechanism: str
    user: str
    password: str


def probe(
    host: str, port: int, context: Optional[ssl.SSLContext], credentials: Optional[Credentials], timeout: float
) -> Optional[str]:
    """Connect to one broker and sign in; what is wrong, a :class:`Refusal` if it is about who we are, or None.

    ``context`` None: without TLS. ``timeout`` in seconds, of each step.
    """
    hint = _HINT_TLS if context is None else _HINT_CERTIFICATE
    try:
        with socket.create_connection((host, port), timeout=timeout) as plain:
            if context is None:
                return _talk(plain, credentials, hint)
            try:
                with context.wrap_socket(plain, server_hostname=host) as secured:
                    return _talk(secured, credentials, hint)
            except ssl.SSLCertVerificationError as error:
                return f"its certificate is not good: {error.verify_message}; is ca_file the right authority?"
            except ssl.SSLError as error:
                return f"no TLS: {why(error)}; {_HINT_LISTENER}"
    except OSError as error:
        return why(error)


def why(error: OSError) -> str:
    """An error of the system or of TLS in words."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return error.strerror or str(error)


class _EndedError(Exception):
    """The broker ended the connection, or says what no broker says."""


def _talk(connection: socket.socket, credentials: Optional[Credentials], hint: str) -> Optional[str]:
    try:
        _ask(connection, _API_VERSIONS, b"")
    except _EndedError as error:
        return f"{error}; {hint}"
    except ssl.SSLError as error:  # TLS 1.3: that the broker wants a certificate shows only now
        return f"it refuses: {why(error)}; {hint}"
    except socket.timeout:
        return f"it takes the connection, but does not answer as Kafka; {hint}"
    except OSError as error:
        return f"it ends the connection: {why(error)}; {hint}"
    if credentials is None:
        return None
    try:
        return _sign_in(connection, credentials)
    except (_EndedError, OSError) as error:
        return f"it ends the sign-in: {why(error) if isinstance(error, OSError) else error}"


def _sign_in(connection: socket.socket, credentials: Credentials) -> Optional[str]:
    name = credentials.mechanism.encode()
    answer = _ask(connection, _SASL_HANDSHAKE, struct.pack(">h", len(name)) + name)
    (error,) = struct.unpack_from(">h", answer)
    if error:
        offered = ", ".join(_strings(answer[2:])) or "none"
        return Refusal(f"it does not know sasl = {credentials.mechanism}; this listener takes: {offered}")
    if credentials.mechanism == "PLAIN":
        token = "\0".join((credentials.user, credentials.user, credentials.password)).encode()
        return _authenticate(connection, token)[0]
    digest = credentials.mechanism.rpartition("SCRAM-")[2].replace("SHA-", "sha").lower()
    user = credentials.user.replace("=", "=3D").replace(",", "=2C")
    first = f"n={user},r={secrets.token_urlsafe(24)}"
    problem, reply = _authenticate(connection, f"n,,{first}".encode())
    if problem is not None:
        return problem
    try:
        parts = dict(part.split("=", 1) for part in reply.decode().split(","))
        salt, rounds = base64.b64decode(parts["s"]), int(parts["i"])
        final = f"c=biws,r={parts['r']}"
    except (ValueError, KeyError) as error:
        raise _EndedError(f"its answer is no SCRAM: {reply[:80]!r}") from error
    salted = hashlib.pbkdf2_hmac(digest, credentials.password.encode(), salt, rounds)
    key = hmac.digest(salted, b"Client Key", digest)
    signature = hmac.digest(hashlib.new(digest, key).digest(), f"{first},{reply.decode()},{final}".encode(), digest)
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature))).decode()
    return _authenticate(connection, f"{final},p={proof}".encode())[0]


def _authenticate(connection: socket.socket, token: bytes) -> tuple[Optional[str], bytes]:
    answer = _ask(connection, _SASL_AUTHENTICATE, struct.pack(">i", len(token)) + token)
    error, length = struct.unpack_from(">hh", answer)
    text = answer[4 : 4 + max(0, length)].decode("utf-8", "replace")
    if error:
        return Refusal(text or f"it refuses the sign-in (error {error})"), b""
    return None, answer[8 + max(0, length) :]


def _ask(connection: socket.socket, api: tuple[int, int], body: bytes) -> bytes:
    """Send a request and return its answer without header. Raises _EndedError, or OSError."""
    head = struct.pack(">hhih", *api, 1, -1)
    connection.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
    begin = _read(connection, 4)
    if begin.startswith(_TLS_ALERT):
        raise _EndedError(SPEAKS_TLS)
    (size,) = struct.unpack(">i", begin)
    (number,) = struct.unpack(">i", _read(connection, 4))
    if number != 1 or not 4 <= size <= _LARGEST_ANSWER:
        raise _EndedError("what answers is no Kafka broker")
    return _read(connection, size - 4)


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise _EndedError("it ends the connection" if not data else "what answers is no Kafka broker")
        data += piece
    return data


def _strings(data: bytes) -> list[str]:
    (count,) = struct.unpack_from(">i", data)
    found, at = [], 4
    for _ in range(max(0, min(count, 100))):
        (length,) = struct.unpack_from(">h", data, at)
        found.append(data[at + 2 : at + 2 + length].decode("utf-8", "replace"))
        at += 2 + length
    return found
