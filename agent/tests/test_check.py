"""``check`` against servers of our own: what it says of certificates, and of what answers in place of the web application."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

import pytest
from ezadmin_testing.certificates import Authority

from ezadmin_agent import check
from ezadmin_agent.config import Config
from ezadmin_agent.identity import Identity
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.signing import SigningKey

HERE = ("127.0.0.1", "localhost")
HOST = Identity("00000000-0000-4000-8000-00000000000a", "web1", SigningKey.generate())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


class _Handler(http.server.BaseHTTPRequestHandler):
    status, body, headers_more = 200, b"", {}  # type: ignore[var-annotated]

    def do_GET(self) -> None:
        self.send_response(self.status)
        for name, value in self.headers_more.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def server(
    status: int = 200, body: object = b"", certificate: Optional[tuple[Path, Path]] = None, **headers: str
) -> Iterator[int]:
    """An HTTP(S) server with one answer; its port."""
    encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler = type("Handler", (_Handler,), {"status": status, "body": encoded, "headers_more": headers})
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    made.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that refuses the certificate
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        made.socket = context.wrap_socket(made.socket, server_side=True)
    thread = threading.Thread(target=made.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield made.server_address[1]
    finally:
        made.shutdown()
        thread.join()
        made.server_close()


def broker(port: int, ca_file: Path, host: str = "127.0.0.1") -> check.Step:
    """The step ``tls`` of a broker there."""
    kafka = KafkaConnection(f"{host}:{port}", tls=True, ca_file=str(ca_file))
    steps = list(check._network(Config(kafka=kafka), kafka, True))
    return next(step for step in steps if step.name.startswith("tls"))


def test_a_good_certificate_is_described(authority: Authority) -> None:
    with server(certificate=authority.issue("good", HERE)) as port:
        step = broker(port, authority.ca_file)
    assert step.ok
    assert "certificate for 127.0.0.1, localhost, signed by ezadmin test authority, valid for 29 more days" in step.text
    assert step.hint == ""


def test_a_certificate_that_ends_soon_is_to_be_renewed(authority: Authority) -> None:
    with server(certificate=authority.issue("soon", HERE, days=3)) as port:
        step = broker(port, authority.ca_file)
    assert step.ok
    assert "valid for 2 more days" in step.text
    assert "renew" in step.hint


def test_certificates_that_are_not_good_are_told_apart(authority: Authority, tmp_path: Path) -> None:
    with server(certificate=authority.issue("old", HERE, days=-1)) as port:
        step = broker(port, authority.ca_file)
        assert (step.ok, "expired" in step.text, "renew" in step.hint) == (False, True, True)
    with server(certificate=authority.issue("other", ("kafka1",))) as port:
        step = broker(port, authority.ca_file)
        assert (step.ok, "127.0.0.1" in step.text, "address that the certificate is for" in step.hint) == (
            *(False, True),
            True,
        )
        step = broker(port, authority.ca_file, "localhost")
        assert (step.ok, "mismatch" in step.text, "name that the certificate is for" in step.hint) == (
            False,
            True,
            True,
        )
    with server(certificate=authority.issue("good", HERE)) as port:
        step = broker(port, Authority(tmp_path, "another").ca_file)
        assert (step.ok, "ca_file must hold" in step.hint) == (False, True)
    with server() as port:
        step = broker(port, authority.ca_file)
        assert (step.ok, step.text.startswith("no TLS"), "listener with TLS" in step.hint) == (False, True, True)


def read_back(url: str, ca_file: Optional[Path] = None, wait: float = 0.5) -> dict[str, check.Step]:
    """The steps towards a web application there."""
    config = Config(server=url, server_ca_file=str(ca_file) if ca_file else None)
    steps = list(check._read_back(config, HOST, "abc0", wait))
    return {step.name.partition(" http")[0]: step for step in steps}


ARRIVED = {"arrived": True, "ingested": "2026-11-24T08:15:30.123+00:00"}


def test_an_event_that_has_arrived_or_not(authority: Authority) -> None:
    with server(body=ARRIVED) as port:
        steps = read_back(f"http://127.0.0.1:{port}")
    assert [step.ok for step in steps.values()] == [True, True, True]
    assert "in Elasticsearch" in steps["read back"].text
    with server(body={**ARRIVED, "arrived": False}) as port:
        steps = read_back(f"http://127.0.0.1:{port}")
    assert steps["read back"].ok is False
    assert "ezadmin-pipeline dlq ls" in steps["read back"].hint
    with server(503, {"detail": "Elasticsearch does not answer", "request_id": "1"}) as port:
        steps = read_back(f"http://127.0.0.1:{port}")
    assert steps["read back"].text == "the web application cannot tell: Elasticsearch does not answer"
    with server(body=ARRIVED, certificate=authority.issue("good", HERE)) as port:
        assert read_back(f"https://127.0.0.1:{port}", authority.ca_file)["read back"].ok


class Ahead:
    """The module ``time`` of a host whose clock is ahead."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.monotonic, self.sleep = time.monotonic, time.sleep

    def time(self) -> float:
        return time.time() + self.seconds


@pytest.mark.parametrize(
    ("ahead", "ok", "text"), [(0, True, "within"), (-60, True, "within 60 s"), (400, False, "ahead")]
)
def test_the_clocks_are_compared(monkeypatch: pytest.MonkeyPatch, ahead: int, ok: bool, text: str) -> None:
    with server(body=ARRIVED) as port:
        monkeypatch.setattr(check, "time", Ahead(ahead))
        steps = read_back(f"http://127.0.0.1:{port}")
    assert steps["clock"].ok is ok
    assert text in steps["clock"].text
    assert bool(steps["clock"].hint) == (ahead != 0)


def test_what_is_no_web_application_is_told_apart(authority: Authority, tmp_path: Path) -> None:
    def step(url: str, ca_file: Optional[Path] = None) -> check.Step:
        (only,) = read_back(url, ca_file).values()
        assert only.ok is False
        return only

    with server(body=b"<html>") as port:
        assert "not ezadmin's web application" in step(f"http://127.0.0.1:{port}").text
    with server(body=[1]) as port:
        assert "not ezadmin's web application" in step(f"http://127.0.0.1:{port}").text
    with server(302, Location="https://elsewhere/") as port:
        assert step(f"http://127.0.0.1:{port}").text == "the server sends us on to https://elsewhere/"
    with server(body=ARRIVED, certificate=authority.issue("good", HERE)) as port:
        assert step(f"https://127.0.0.1:{port}", Authority(tmp_path).ca_file).hint.startswith(
            "server_ca_file must hold"
        )
        assert "is it https:// instead?" in step(f"http://127.0.0.1:{port}").hint
    with server() as port:
        assert "http:// instead" in step(f"https://127.0.0.1:{port}").hint
    assert "nothing listens there" in step("http://127.0.0.1:1").text
    assert "name is not known" in step("http://no.such.host.invalid").text
    assert "server_ca_file /none" in step("https://127.0.0.1:1", Path("/none")).text
