"""One call to another program's address, which people typed in: it must not lead into the own network.

The name is resolved once, every address of it is judged, and the connection goes to one that was judged: a name that
answers differently a moment later (DNS rebinding) gains nothing. Redirects are not followed.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
SECONDS = 10.0
ANSWER_MAX = 4096
NAT64 = ip_network("64:ff9b::/96")


class CallError(Exception):
    """The call was not made, or there was no answer; the text says why."""


@dataclass(frozen=True)
class Answer:
    """What was answered; ``text``: its beginning."""

    status: int
    text: str

    @property
    def accepted(self) -> bool:
        """Whether the receiver took it."""
        return 200 <= self.status < 300


def really(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, else itself."""
    if isinstance(address, IPv6Address):
        if address in NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1] or address
    return address


def may_be_called(address: Address, allowed: Iterable[Network]) -> bool:
    """Whether an address lies in the open internet, or in a network that the settings allow."""
    real = really(address)
    if any(real in network for network in allowed if network.version == real.version):
        return True
    return real.is_global and not real.is_multicast


def resolve(host: str, port: int, allowed: Iterable[Network]) -> Address:
    """The address to call. Raises CallError for a name without addresses, or with one that must not be called."""
    networks = tuple(allowed)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise CallError(f"the name {host} cannot be resolved: {error}") from error
    addresses = [ip_address(str(info[4][0]).partition("%")[0]) for info in found]
    for address in addresses:
        if not may_be_called(address, networks):
            raise CallError(
                f"{host} is {address}, which lies in a network that is not called; "
                f'if it should be: [webhooks] allow = ["{really(address)}"] in the settings of the cmdb'
            )
    if not addresses:
        raise CallError(f"the name {host} has no address")
    return addresses[0]


class _Pinned(http.client.HTTPConnection):
    """A connection to an address, whatever the name would resolve to now; over TLS the certificate must be the name's."""

    def __init__(self, host: str, port: int, address: Address, tls: bool) -> None:
        super().__init__(host, port, timeout=SECONDS)
        self._address = address
        self._tls = tls

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.create_connection((str(self._address), self.port), self.timeout)
        if self._tls:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)


def post(url: str, body: bytes, headers: Mapping[str, str], allowed: Iterable[Network]) -> Answer:
    """POST to an address. Raises CallError."""
    try:
        parts = urlsplit(url)
        host, tls = parts.hostname, parts.scheme == "https"
        port = parts.port or (443 if tls else 80)
    except ValueError as error:
        raise CallError(f"the address cannot be read: {error}") from error
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise CallError("the address must begin with http:// or https://, and hold no user")
    connection = _Pinned(host, port, resolve(host, port, allowed), tls)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("POST", target, body, dict(headers))
        response = connection.getresponse()
        return Answer(response.status, _beginning(response))
    except ssl.SSLError as error:
        raise CallError(f"TLS with {host}: {error.reason or error}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise CallError(f"{host} does not answer: {error or type(error).__name__}") from error
    finally:
        connection.close()


def _beginning(response: http.client.HTTPResponse) -> str:
    until, found = time.monotonic() + SECONDS, b""
    while len(found) < ANSWER_MAX and time.monotonic() < until:
        part = response.read1(ANSWER_MAX - len(found))
        if not part:
            break
        found += part
    return found.decode(errors="replace")
