"""A proxy before Elasticsearch that makes trouble: refuses some items of a bulk with 429, cuts before or after a request
was carried out, answers late, or with 503.

Everything that it does is real but for the refusal: an item refused never reaches Elasticsearch.
"""

from __future__ import annotations

import gzip
import http.client
import json
import random
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_PASSED = ("content-type", "accept", "authorization")
_REFUSED = {"type": "es_rejected_execution_exception", "reason": "refused by the proxy of the test"}


class ElasticProxy:
    """Listens on a free port of 127.0.0.1 until :meth:`close`; does nothing bad until :attr:`trouble` is set.

    ``trouble`` is the share of bulk requests that something happens to; ``done`` counts what happened, ``"item 429"`` items.
    """

    def __init__(self, target: str, rng: random.Random) -> None:
        self.trouble = 0.0
        self.done: Counter[str] = Counter()
        self._target = urlsplit(target)
        self._rng = rng
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_any(self) -> None:
                proxy._handle(self)

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_any

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def _choose(self) -> str | None:
        with self._lock:
            if self._rng.random() >= self.trouble:
                return None
            choice = self._rng.choice(["item 429", "item 429", "cut before", "cut after", "delay", "503"])
            if choice != "item 429":
                self.done[choice] += 1
            return choice

    def _handle(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("content-length") or 0))
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        choice = self._choose() if urlsplit(request.path).path == "/_bulk" else None
        if choice == "delay":
            time.sleep(self._rng.uniform(0.1, 2.0))
        elif choice == "cut before":
            request.close_connection = True
            return
        elif choice == "503":
            self._answer(request, 503, b'{"error":{"type":"unavailable","reason":"the proxy of the test"}}')
            return
        elif choice == "item 429":
            self._answer(request, *self._refuse_some(request, body))
            return
        status, answer = self._forward(request, body)
        if choice == "cut after":
            request.close_connection = True
            return
        self._answer(request, status, answer)

    def _forward(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        upstream = http.client.HTTPConnection(self._target.hostname or "", self._target.port, timeout=60)
        try:
            headers = {name: value for name, value in request.headers.items() if name.lower() in _PASSED}
            upstream.request(request.command, request.path, body, headers)
            response = upstream.getresponse()
            return response.status, response.read()
        finally:
            upstream.close()

    def _refuse_some(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        lines = body.split(b"\n")
        items = [(lines[i], lines[i + 1]) for i in range(0, len(lines) - 1, 2)]
        with self._lock:
            share = self._rng.choice([0.01, 0.3, 1.0])
            refused = [self._rng.random() < share for _ in items]
            self.done["item 429"] += sum(refused)
        kept = [item for item, out in zip(items, refused, strict=True) if not out]
        results: list[dict[str, Any]] = []
        if kept:
            status, answer = self._forward(request, b"".join(b"%s\n%s\n" % item for item in kept))
            if status != 200:
                return status, answer
            results = json.loads(answer)["items"]
        rest = iter(results)
        merged = [
            {next(iter(json.loads(action))): {"status": 429, "error": _REFUSED}} if out else next(rest)
            for (action, _), out in zip(items, refused, strict=True)
        ]
        errors = any("error" in next(iter(item.values())) for item in merged)
        return 200, json.dumps({"errors": errors, "items": merged}).encode()

    def _answer(self, request: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
        try:
            request.send_response(status)
            request.send_header("content-type", "application/json")
            request.send_header("content-length", str(len(body)))
            request.send_header("x-elastic-product", "Elasticsearch")
            request.end_headers()
            if request.command != "HEAD":
                request.wfile.write(body)
        except OSError:
            request.close_connection = True
