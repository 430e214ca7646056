"""A gateway for the unit tests of the agent: what it answers can be told, what it was asked can be seen.

It checks signatures as the real one does, knows hosts by their keys, and holds polls. What a real one cannot be made to do
(lie, answer late, forget) is what it is for.
"""

from __future__ import annotations

import gzip
import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Optional

from ezadmin_wire import batch, requests, times, upload
from ezadmin_wire.commands import Command, SignedCommand, encode
from ezadmin_wire.enrolment import EnrolRequest, Token, new_secret, write_token
from ezadmin_wire.errors import WireError
from ezadmin_wire.fields import load
from ezadmin_wire.ids import new_host_id
from ezadmin_wire.signing import SigningKey, VerifyKey, signed_bytes

API = "/api/agent/v1"
Reply = tuple[int, dict[str, Any]]


@dataclass
class FakeGateway:
    """Listens on a free port of 127.0.0.1 until :meth:`close`; with TLS if a ``certificate`` (PEM, key) is given."""

    certificate: Optional[tuple[Path, Path]] = None
    ca_file: Optional[Path] = None
    kafka: Optional[dict[str, Any]] = None
    secret: str = field(default_factory=new_secret)
    key: SigningKey = field(default_factory=SigningKey.generate)
    state: str = "active"
    hosts: dict[str, dict[str, VerifyKey]] = field(default_factory=dict)
    enrolled_as: Optional[str] = None
    """The host.id that the next enrolment is answered with."""
    waiting: list[SignedCommand] = field(default_factory=list)
    answers: dict[str, Callable[[], Optional[Reply]]] = field(default_factory=dict)
    """By path: an answer in place of the usual one; None: the usual one."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    enrolments: list[EnrolRequest] = field(default_factory=list)
    polls: list[str] = field(default_factory=list)
    batches: list[batch.Batch] = field(default_factory=list)
    judge: Callable[[batch.Batch], Optional[str]] = lambda _: None

    def __post_init__(self) -> None:
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                gateway._serve(self)

            def do_POST(self) -> None:
                gateway._serve(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        scheme = "http"
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*map(str, self.certificate))
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            scheme = "https"
        self.port = self._server.server_address[1]
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self._changed = threading.Condition()
        self._closed = False
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def token(self, **changed: Any) -> str:
        """An enrolment token for this gateway."""
        given: dict[str, Any] = {"url": self.url, "secret": self.secret, "command_key": self.key.public.hex()}
        return write_token(Token(**{**given, **changed}))

    def know(self, host: str, public: bytes) -> None:
        """Have the host and its key known."""
        self.hosts.setdefault(host, {})[VerifyKey(public).kid] = VerifyKey(public)

    def command(self, host: str, kind: str, *, key: Optional[SigningKey] = None, **changed: Any) -> SignedCommand:
        """A command for ``host``, signed; it is not given out yet."""
        now = time.time()
        given: dict[str, Any] = {
            "id": new_host_id(),
            "run": new_host_id(),
            "attempt": 1,
            "kind": kind,
            "host": host,
            "actor": "kim",
            "not_before": times.format_epoch_ms(int(now * 1000)),
            "not_after": times.format_epoch_ms(int(now * 1000) + 600_000),
            "nonce": SigningKey.generate().public.hex()[:32],
        }
        return encode(key or self.key, Command(**{**given, **changed}))

    def give(self, *signed: SignedCommand) -> None:
        """Give commands out, at each poll from now on."""
        with self._changed:
            self.waiting += signed
            self._changed.notify_all()

    def close(self) -> None:
        """Stop listening."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    # ------------------------------------------------------------------

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        path = request.path.partition("?")[0]
        self.asked.append((request.command, request.path))
        told = self.answers.get(path.replace(API, ""))
        reply = told() if told is not None else None
        if path == f"{API}/ca.pem" and self.ca_file is not None:
            self._send(request, 200, self.ca_file.read_bytes())
            return
        if path == f"{API}/health":
            reply = 200, {"status": "ok"}
        if reply is None:
            reply = self._answer(request, path, body)
        self._send(request, reply[0], json.dumps(reply[1]).encode(), reply[1].get("retry"))

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, status: int, body: bytes, retry: Optional[int] = None) -> None:
        try:
            request.send_response(status)
            request.send_header("Content-Length", str(len(body)))
            if retry is not None:
                request.send_header("Retry-After", str(retry))
            request.end_headers()
            request.wfile.write(body)
        except OSError:
            request.close_connection = True

    def _answer(self, request: BaseHTTPRequestHandler, path: str, body: bytes) -> Reply:
        try:
            claim = requests.parse(request.headers.get("Authorization", ""))
        except WireError as error:
            return 401, {"error": error.reason, "message": str(error)}
        if path == f"{API}/enrol":
            return self._enrol(claim, request, body)
        known = self.hosts.get(claim.host)
        if known is None:
            return 404, {"error": "unknown_host", "message": "no such host"}
        key = known.get(claim.kid)
        if key is None:
            return 403, {"error": "unknown_key", "message": "the host has no such key"}
        if not claim.signed_by(key, request.command, request.path, body):
            return 401, {"error": "bad_signature", "message": "the signature does not fit"}
        if self.state == "revoked":
            return 403, {"error": "revoked", "message": "this host was revoked"}
        if path == f"{API}/me":
            return 200, {"host": claim.host, "kid": claim.kid, "state": self.state, "time": times.now()}
        if path == f"{API}/poll":
            return self._poll(request.path)
        if path == f"{API}/keys":
            return self._keys(claim.host, json.loads(body))
        if path == f"{API}/batches":
            return self._batches(claim.host, gzip.decompress(body))
        return 404, {"error": "not_found", "message": path}

    def _enrol(self, claim: requests.Claim, request: BaseHTTPRequestHandler, body: bytes) -> Reply:
        asked = load(EnrolRequest, body)
        if not claim.signed_by(VerifyKey.from_hex(asked.public_key), "POST", request.path, body):
            return 401, {"error": "bad_signature", "message": "the signature does not fit"}
        if asked.clone is None and asked.secret != self.secret:
            return 401, {"error": "token_unknown", "message": "the enrolment token is not known"}
        self.enrolments.append(asked)
        host = self.enrolled_as or asked.host
        self.know(host, bytes.fromhex(asked.public_key))
        keys = [self.key.public.hex()]
        answer = {"host": host, "state": self.state, "command_keys": keys, "prefix": "tfake", "kafka": self.kafka}
        return 200, answer

    def _poll(self, path: str) -> Reply:
        self.polls.append(path)
        wait = float(dict(pair.split("=") for pair in path.partition("?")[2].split("&"))["wait"])
        before = (self.state, len(self.waiting))
        with self._changed:
            self._changed.wait_for(
                lambda: self.waiting or self._closed or (self.state, len(self.waiting)) != before, wait
            )
        if self.state == "revoked":
            return 403, {"error": "revoked", "message": "this host was revoked"}
        found = [] if self.state == "quarantined" else [asdict(one) for one in self.waiting]
        return 200, {"commands": found, "time": times.now(), "state": self.state}

    def _keys(self, host: str, table: dict[str, str]) -> Reply:
        key = VerifyKey.from_hex(table["public_key"])
        signed = signed_bytes("ezadmin/rotate/1", [host.encode(), table["public_key"].encode()])
        if not key.verify(bytes.fromhex(table["proof"]), signed):
            return 401, {"error": "bad_proof", "message": "the proof does not fit"}
        self.know(host, key.public)
        return 200, {}

    def _batches(self, host: str, body: bytes) -> Reply:
        results: list[dict[str, Any]] = []
        for headers, value in upload.decode(body):
            topic = dict(headers)["topic"].decode()
            try:
                found = batch.decode(
                    topic, host.encode(), headers, value, lambda owner, kid: self.hosts.get(owner, {}).get(kid)
                )
            except WireError as error:
                results.append({"error": error.reason, "message": str(error)})
                continue
            verdict = self.judge(found)
            if verdict is None:
                self.batches.append(found)
                results.append({"ok": True})
            else:
                results.append({"error": verdict, "message": "told so"})
        return 200, {"results": results}
