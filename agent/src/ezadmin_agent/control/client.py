"""HTTPS to the gateway: one connection that is kept, through a proxy if need be, trusting exactly who it was told to trust.

The standard library's client: the control line costs an agent next to nothing, and nothing more is installed on a host.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional
from urllib.parse import unquote, urlsplit

from ezadmin_agent import __version__
from ezadmin_wire import jsontext, requests
from ezadmin_wire.signing import SigningKey

API = "/api/agent/v1"
MAX_ANSWER = 8 << 20
CONNECT_SECONDS = 10.0
PARTIAL_CHAIN = 0x80000  # X509_V_FLAG_PARTIAL_CHAIN: the pinned certificate is trusted by itself, whoever signed it
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


class GatewayError(OSError):
    """The gateway was not reached, or refuses; the text says why and what to do.

    ``status``: of the answer, 0 without one. ``reason``: the answer's word for it. ``retry``: seconds after which it may be
    tried again, if the gateway says so. ``hint``: what to do.
    """

    def __init__(self, text: str, hint: str = "", *, status: int = 0, reason: str = "", retry: float = 0.0) -> None:
        super().__init__(text)
        self.hint = hint
        self.status = status
        self.reason = reason
        self.retry = retry

    def __str__(self) -> str:
        """Text and hint in one line."""
        text = str(self.args[0])
        return f"{text}; {self.hint}" if self.hint else text


class Answer(NamedTuple):
    """An answer of the gateway, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as an object; empty if it is none."""
        try:
            table = jsontext.loads(self.body)
        except ValueError:
            return {}
        return table if isinstance(table, dict) else {}

    def error(self) -> GatewayError:
        """The refusal that this answer is."""
        table = self.json()
        reason, message = str(table.get("error", "")), str(table.get("message", ""))
        if not reason:
            return GatewayError(
                f"what answers (status {self.status}) is not ezadmin's gateway",
                "check the address, whether it is http or https, and the proxy between if there is one",
                status=self.status,
            )
        try:
            retry = float(self.headers.get("retry-after", "0"))
        except ValueError:
            retry = 0.0
        return GatewayError(
            f"{message or reason} ({self.status} {reason})", status=self.status, reason=reason, retry=max(0.0, retry)
        )


class Address(NamedTuple):
    """Of the gateway: ``secure`` is HTTPS."""

    secure: bool
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Address:
        """Of a URL ``http(s)://host[:port]``. Raises ValueError for anything else."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError(f"{url!r} is not http(s)://host[:port]")
        return cls(parts.scheme == "https", parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))

    @property
    def loopback(self) -> bool:
        """Whether nobody else can listen in."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def check_proxy(url: str) -> None:
    """Raises GatewayError if ``url`` is not ``http://[user:password@]host[:port]``."""
    if not re.fullmatch(r"http://(?:[^\s/@]+@)?(?:\[[0-9a-fA-F:]+\]|[^\s/:@\[\]]+)(?::[0-9]{1,5})?/?", url):
        raise GatewayError(f"the proxy {_bare(url)} is none that is known", "write http://[user:password@]host:port")


class Client:
    """Talks to the gateway at ``url`` as one host; used by one thread, but for :meth:`interrupt`.

    ``ca``: PEM text of the authority that alone is trusted; None: those that the system trusts. ``proxy``:
    ``http://[user:password@]host:port`` (CONNECT).
    """

    def __init__(self, url: str, *, ca: Optional[str] = None, proxy: Optional[str] = None) -> None:
        self.url = url
        self.address = Address.of(url)
        self.proxy = proxy
        self.context = context(ca) if self.address.secure else None
        self._connection: Optional[http.client.HTTPConnection] = None
        self._lock = threading.Lock()
        self._interrupted = False

    def signed(
        self,
        key: SigningKey,
        host: str,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        headers: Optional[Mapping[str, str]] = None,
        timeout: float = 30.0,
    ) -> Answer:
        """A request of ``host`` for ``path`` below the API, signed with ``key``. Raises GatewayError without an answer."""
        target = API + path
        claim = requests.authorization(key, host=host, method=method, target=target, body=body)
        return self.request(
            method, target, body=body, headers={**(headers or {}), "Authorization": claim}, timeout=timeout
        )

    def request(
        self,
        method: str,
        target: str,
        *,
        body: bytes = b"",
        headers: Optional[Mapping[str, str]] = None,
        timeout: float = 30.0,
    ) -> Answer:
        """The answer, whatever its status. Raises GatewayError if there is none.

        A connection that was idle may have been closed at the other end: then it is tried once more on a new one. (What
        it asks for may be asked twice: polls change nothing, and batches are known by their numbers.)
        """
        sent = {"User-Agent": f"ezadmin-agent/{__version__}", **(headers or {})}
        for kept in (self._connection is not None, False):
            try:
                connection = self._connect(timeout)
                connection.request(method, target, body=body or None, headers=sent)
                answer = connection.getresponse()
                data = answer.read(MAX_ANSWER + 1)
                if len(data) > MAX_ANSWER:
                    raise GatewayError(f"an answer of more than {MAX_ANSWER >> 20} MiB")
                if answer.will_close:
                    self.close()
                return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, data)
            except GatewayError:
                self.close()
                raise
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.close()
                if self._interrupted:
                    raise GatewayError("interrupted") from error
                gone = isinstance(error, (ConnectionError, http.client.BadStatusLine, ssl.SSLEOFError))
                if not (kept and gone):
                    raise self._why(error) from error
        raise AssertionError

    def certificate(self) -> dict[str, object]:
        """The gateway's certificate and the ``version`` of TLS, as of the last request; empty without a connection."""
        tls = None if self._connection is None else self._connection.sock
        if not isinstance(tls, ssl.SSLSocket):
            return {}
        return {**(tls.getpeercert() or {}), "version": tls.version()}

    def close(self) -> None:
        """Close the connection; the next request makes a new one."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def interrupt(self) -> None:
        """End the request that another thread waits for, and all that come."""
        self._interrupted = True
        with self._lock:
            waiting = None if self._connection is None else self._connection.sock
        if waiting is not None:
            try:
                socket.socket.shutdown(waiting, socket.SHUT_RDWR)  # not TLS's own, which would take the object away
            except OSError:
                pass

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        if self._interrupted:
            raise GatewayError("interrupted")
        connection = self._connection
        if connection is not None:
            if connection.sock is not None:
                connection.sock.settimeout(timeout)
            return connection
        host, port = self.address.host, self.address.port
        via = None if self.proxy is None else urlsplit(self.proxy)
        first = (host, port) if via is None else (via.hostname or "", via.port or 80)
        if self.context is not None:
            connection = http.client.HTTPSConnection(*first, timeout=CONNECT_SECONDS, context=self.context)
        else:
            connection = http.client.HTTPConnection(*first, timeout=CONNECT_SECONDS)
        if via is not None:
            headers = {}
            if via.username is not None:
                pair = f"{unquote(via.username)}:{unquote(via.password or '')}"
                headers["Proxy-Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
            connection.set_tunnel(host, port, headers)
        with self._lock:
            self._connection = connection
        connection.connect()
        connection.sock.settimeout(timeout)
        return connection

    def _why(self, error: BaseException) -> GatewayError:
        proxied = f" through the proxy {_bare(self.proxy)}" if self.proxy else ""
        where = f"the gateway {self.url}{proxied}"
        if isinstance(error, ssl.SSLCertVerificationError):
            return GatewayError(
                f"{where}: its certificate is not good: {error.verify_message}",
                _CERTIFICATE.get(error.verify_code, _OTHER),
            )
        if isinstance(error, ssl.SSLError):
            why = (error.reason or str(error)).replace("_", " ").lower()
            return GatewayError(f"{where}: no TLS: {why}", "does another program answer there, or http:// instead?")
        if isinstance(error, socket.gaierror):
            return GatewayError(
                f"{where}: the name is not known: {error.strerror}", "check the address and the name server"
            )
        if isinstance(error, ConnectionRefusedError):
            return GatewayError(f"{where}: nothing listens there", "does it run, at this port?")
        if isinstance(error, (TimeoutError, socket.timeout)):
            return GatewayError(f"{where}: no answer", "a firewall between here and there, or a wrong address")
        ended = isinstance(error, (ConnectionError, http.client.BadStatusLine))
        return GatewayError(
            f"{where}: {getattr(error, 'strerror', None) or error or type(error).__name__}",
            "is it https:// instead?" if ended and not (self.address.secure or self.proxy) else "",
        )


_OTHER = (
    "someone in between, or the gateway has a certificate of another authority: then enrol again with a new token, or "
    "name its authority in gateway_ca_file"
)
_CERTIFICATE = {  # X509_V_ERR_… of OpenSSL
    9: "it is not valid yet: is this host's clock right?",
    10: "it has expired: renew it there, or set this host's clock",
    62: "reach it by a name that its certificate is for",
    64: "reach it by an address that its certificate is for",
}


def context(ca: Optional[str]) -> ssl.SSLContext:
    """TLS >= 1.2 with certificate and name checked, against the authority ``ca`` (PEM text) alone, or the system's.

    Raises GatewayError if ``ca`` holds no certificate.
    """
    # not the default context: that of Python 3.13 refuses what many private authorities sign
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca is None:
        made.load_default_certs()
        return made
    try:
        made.load_verify_locations(cadata=ca)
    except (ssl.SSLError, ValueError) as error:
        raise GatewayError(
            "the gateway's authority is not a PEM certificate", "name another file in gateway_ca_file"
        ) from error
    made.verify_flags |= PARTIAL_CHAIN
    return made


def pinned(url: str, pin: str, proxy: Optional[str]) -> str:
    """The PEM of the authority whose certificate has the SHA-256 ``pin``, as the gateway hands it out.

    It is fetched from whoever answers: what counts is the pin. Raises GatewayError if none fits.
    """
    client = Client(url, proxy=proxy)
    if client.context is not None:
        client.context.check_hostname = False
        client.context.verify_mode = ssl.CERT_NONE
    try:
        answer = client.request("GET", f"{API}/ca.pem")
    finally:
        client.close()
    if answer.status != 200:
        raise answer.error()
    for pem in _PEM.findall(answer.body.decode("ascii", "replace")):
        try:
            if hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest() == pin:
                return str(pem)
        except ValueError:
            continue
    raise GatewayError(
        f"{url}: its certificate authority is not the one that the token was made for",
        "someone may stand in between. If the gateway got another authority, make a new token",
        reason="wrong_authority",
    )


def _bare(proxy: Optional[str]) -> str:
    return re.sub(r"//[^/@]*@", "//", proxy or "")
