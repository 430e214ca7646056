"""The client against a small HTTP server: what is sent, and what becomes of answers that no Elasticsearch gives."""

from __future__ import annotations

import base64
import gzip
import http.server
import json
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from ezadmin_pipeline.elastic import ElasticClient, SignInRefused, Unavailable, action
from ezadmin_wire.elastic import ElasticConnection


class Handler(http.server.BaseHTTPRequestHandler):
    answers: ClassVar[dict[str, tuple[int, str | None, bytes]]] = {}
    seen: ClassVar[list[tuple[str, str, dict[str, str], bytes]]] = []
    delay: ClassVar[float] = 0.0

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.seen.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        time.sleep(self.delay)
        status, kind, answer = self.answers[self.path.partition("?")[0]]
        self.send_response(status)
        if kind:
            self.send_header("content-type", kind)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def client() -> Iterator[ElasticClient]:
    Handler.seen.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    client = ElasticClient(ElasticConnection((f"http://127.0.0.1:{server.server_port}",)), timeout=5)
    yield client
    client.close()
    server.shutdown()
    server.server_close()
    thread.join()


def test_what_is_sent(client: ElasticClient) -> None:
    Handler.answers = {
        "/_bulk": (200, "application/json", b'{"errors":false}'),
        "/i/_search": (200, "application/json", b"{}"),
    }
    small = action("create", "i", "1") + b"{}\n"
    large = action("create", "i", "1") + b'{"m":"' + b"x" * 5000 + b'"}\n'
    assert client.request("POST", "/_bulk", params={"timeout": "30s", "a": "b"}, body=small) == (200, {"errors": False})
    client.request("POST", "/_bulk", body=large)
    client.request("GET", "/i/_search", body=b"{}")
    (_, path, headers, body), (_, _, large_headers, large_body), (method, _, search_headers, _) = Handler.seen
    assert path == "/_bulk?timeout=30s&a=b"
    assert headers["content-type"] == "application/x-ndjson"
    assert "content-encoding" not in headers
    assert body == small
    assert large_headers["content-encoding"] == "gzip"
    assert gzip.decompress(large_body) == large
    assert method == "GET"
    assert search_headers["content-type"] == "application/json"


@pytest.mark.parametrize("status", [400, 404, 409, 413, 429, 500, 503])
def test_statuses_are_returned(client: ElasticClient, status: int) -> None:
    Handler.answers = {"/_bulk": (status, "application/json", b'{"error":{"type":"t"}}')}
    assert client.request("POST", "/_bulk", body=b"{}\n") == (status, {"error": {"type": "t"}})
    assert len(Handler.seen) == 1, "the client itself tries nothing again"


@pytest.mark.parametrize(("kind", "body"), [("text/html", b"<html>"), ("application/json", b""), (None, b"")])
def test_a_proxy_that_says_too_large_in_its_own_way(client: ElasticClient, kind: str | None, body: bytes) -> None:
    Handler.answers = {"/_bulk": (413, kind, body)}
    assert client.request("POST", "/_bulk", body=b"{}\n")[0] == 413


@pytest.mark.parametrize(("kind", "body"), [("application/json", b'{"trunc'), ("application/octet-stream", b"?")])
def test_an_answer_that_cannot_be_read_is_none(client: ElasticClient, kind: str, body: bytes) -> None:
    Handler.answers = {"/_bulk": (200, kind, body)}
    with pytest.raises(Unavailable):
        client.request("POST", "/_bulk", body=b"{}\n")


@pytest.mark.parametrize("status", [401, 403])
def test_sign_in_refused(client: ElasticClient, status: int) -> None:
    Handler.answers = {"/_bulk": (status, "application/json", json.dumps({"error": "security"}).encode())}
    with pytest.raises(SignInRefused, match=str(status)):
        client.request("POST", "/_bulk", body=b"{}\n")


def test_time_out(client: ElasticClient, monkeypatch: pytest.MonkeyPatch) -> None:
    Handler.answers = {"/_bulk": (200, "application/json", b"{}")}
    monkeypatch.setattr(Handler, "delay", 1.0)
    assert client.request("POST", "/_bulk", body=b"{}\n")[0] == 200
    monkeypatch.setattr(client, "_timeout", 0.2)
    begin = time.monotonic()
    with pytest.raises(Unavailable):
        client.request("POST", "/_bulk", body=b"{}\n")
    assert time.monotonic() - begin < 0.9
    assert len(Handler.seen) == 2, "not sent again behind our back"


def test_the_time_is_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    client = ElasticClient(ElasticConnection(("http://127.0.0.1:1",)), timeout=77)

    def perform(method: str, target: str, **options: Any) -> Any:
        given.append(options["request_timeout"])
        raise Unavailable("enough")

    monkeypatch.setattr(client._client.transport, "perform_request", perform)
    with pytest.raises(Unavailable):
        client.request("GET", "/")
    client.close()
    assert given == [77]


def test_nobody_answers() -> None:
    client = ElasticClient(ElasticConnection(("http://127.0.0.1:1",)), timeout=1)
    with pytest.raises(Unavailable, match=r"^http://127\.0\.0\.1:1: Connection refused$"):
        client.request("GET", "/_cluster/health")
    client.close()


def test_a_node_that_is_away_costs_nothing() -> None:
    Handler.seen.clear()
    Handler.answers = {"/_bulk": (200, "application/json", b"{}")}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    urls = ("http://127.0.0.1:1", "http://127.0.0.1:2", f"http://127.0.0.1:{server.server_port}")
    client = ElasticClient(ElasticConnection(urls), timeout=5)
    try:
        for _ in range(20):
            assert client.request("POST", "/_bulk", body=b"{}\n") == (200, {})
        assert len(Handler.seen) == 20
    finally:
        client.close()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("members", "header"),
    [
        ({"user": "ez", "password_env": "EZ_SECRET"}, "Basic " + base64.b64encode("ez:geheim ü".encode()).decode()),
        ({"api_key_env": "EZ_SECRET"}, "ApiKey Z2VoZWlt"),
        ({}, None),
    ],
)
def test_sign_in(
    client: ElasticClient, members: dict[str, str], header: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the local distribution knows no API keys: that the header is right is all that can be shown here
    monkeypatch.setenv("EZ_SECRET", "geheim ü" if "user" in members else "Z2VoZWlt")
    Handler.answers = {"/i/_search": (200, "application/json", b"{}")}
    mine = ElasticClient(ElasticConnection(client._connection.urls, **members), timeout=5)  # type: ignore[arg-type]
    mine.request("GET", "/i/_search")
    mine.close()
    assert Handler.seen[-1][2].get("authorization") == header


def test_a_full_disk_is_no_sign_in(client: ElasticClient) -> None:
    answer = {"error": {"type": "cluster_block_exception", "reason": "index create blocked"}}
    Handler.answers = {"/i": (403, "application/json", json.dumps(answer).encode())}
    assert client.request("POST", "/i") == (403, answer)
    answer = {"error": {"type": "security_exception", "reason": "action [x] is unauthorized for user [y]"}}
    Handler.answers = {"/i": (403, "application/json", json.dumps(answer).encode())}
    with pytest.raises(SignInRefused, match=r"unauthorized for user \[y\]"):
        client.request("POST", "/i")


def test_action_lines() -> None:
    assert json.loads(action("create", "i")) == {"create": {"_index": "i"}}
    line = action("index", "i", "1", version=3, version_type="external_gte")
    assert line.endswith(b"\n")
    assert json.loads(line) == {"index": {"_index": "i", "_id": "1", "version": 3, "version_type": "external_gte"}}
