"""The gateway behind Debian's nginx with the configuration that docs/gateway.md gives, word for word."""

from __future__ import annotations

import re
import secrets
import shutil
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from ezadmin_testing.certificates import Authority
from ezadmin_testing.gateway import KIM, PATH, GatewayUnderTest, SimulatedHost, free_port
from ezadmin_testing.processes import Process, wait_until
from flask.sessions import SecureCookieSessionInterface
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.settings import load
from ezadmin_wire import batch, upload
from ezadmin_wire.names import Names
from ezadmin_wire.times import now

ROOT = Path(__file__).resolve().parents[2]
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin")


@dataclass(frozen=True)
class Behind:
    """A gateway, and where nginx offers it."""

    gateway: GatewayUnderTest
    url: str
    trust: ssl.SSLContext

    def host(self) -> SimulatedHost:
        return SimulatedHost(self.url, verify=self.trust)

    def client(self, address: str) -> httpx.Client:
        """Who comes from this address."""
        transport = httpx.HTTPTransport(verify=self.trust, local_address=address)
        return httpx.Client(base_url=self.url, transport=transport, timeout=30)


class _Web(BaseHTTPRequestHandler):
    """Stands where the web application would: says where it was asked."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"web {self.headers['Host']}".encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def documented(port: int, gateway: int, web: int, certificate: Path, key: Path) -> str:
    """The block of docs/gateway.md, with the places of this test."""
    text = (ROOT / "docs/gateway.md").read_text()
    found = re.search(r"^    upstream ezadmin_gateway .*?^    }$", text, re.MULTILINE | re.DOTALL)
    assert found, "docs/gateway.md holds nginx's configuration"
    block = found[0]
    for old, new in (
        ("127.0.0.1:8443", f"127.0.0.1:{gateway}"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("ezadmin.example.com", "127.0.0.1"),
        ("/etc/nginx/ezadmin.pem", str(certificate)),
        ("/etc/nginx/ezadmin.key", str(key)),
        ("127.0.0.1:8000", f"127.0.0.1:{web}"),
    ):
        assert old in block, old
        block = block.replace(old, new)
    return block


@pytest.fixture(scope="module")
def behind(
    stack: Any, module_names: Names, database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Behind]:
    assert NGINX, "apt-get install nginx-light"
    folder = tmp_path_factory.mktemp("nginx")
    authority = Authority(folder / "ca")
    certificate, key = authority.issue("nginx", ("127.0.0.1",))
    port = free_port()
    url = f"https://127.0.0.1:{port}"
    gateway = GatewayUnderTest(
        stack, module_names, database, folder, trusted_proxies='["127.0.0.1/32"]', url=f'"{url}"',
        ca_file=f'"{authority.ca_file}"',
    )  # fmt: skip
    web = HTTPServer(("127.0.0.1", 0), _Web)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    temporary = "".join(
        f"{kind}_temp_path {folder / kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nevents {{ worker_connections 200; }}\n"
        f"http {{\naccess_log off;\n{temporary}{documented(port, gateway.port, web.server_port, certificate, key)}\n}}\n"
    )
    command = [NGINX, "-c", str(config), "-p", str(folder), "-e", str(folder / "nginx-error.log")]
    nginx = Process(command, folder / "nginx.log").start()
    try:
        gateway.start()
        trust = ssl.create_default_context(cafile=str(authority.ca_file))
        wait_until(lambda: httpx.get(f"{url}{PATH}/health", verify=trust).status_code == 200, 20, "nginx answers")
        yield Behind(gateway, url, trust)
    finally:
        nginx.stop()
        gateway.stop()
        web.shutdown()
        web.server_close()


def test_polls_wait_and_are_woken(behind: Behind) -> None:
    host = behind.host()
    assert host.enrol(behind.gateway.token()).status_code == 200
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(host.poll, 30)
        time.sleep(0.7)
        assert not waiting.done()
        command = behind.gateway.command(host.id)
        begin = time.monotonic()
        assert len(waiting.result(30).json()["commands"]) == 1
        assert time.monotonic() - begin < 5
        assert behind.gateway.state_of(command) == "sent"


def test_uploads_pass_as_they_were_signed_and_are_bounded(behind: Behind) -> None:
    host = behind.host()
    assert host.enrol(behind.gateway.token()).status_code == 200
    names = behind.gateway.names
    lines = [b'{"message":"%s"}' % secrets.token_hex(500).encode() for _ in range(400)]
    sent = batch.encode(
        host.key, host=host.id, topic=names.logs, stream="system", epoch="00000000000000aa", seq=0, lines=lines,
        dataset="system.log", tmin=now(), tmax=now(), sent=now(),
    )  # fmt: skip
    assert host.ask("POST", "/batches", upload.encode([sent])).json() == {"results": [{"ok": True}]}
    assert host.ask("POST", "/batches", b"x" * (6 << 20)).status_code == 413


def test_files_and_the_web_application(behind: Behind) -> None:
    host = behind.host()
    assert host.enrol(behind.gateway.token()).status_code == 200
    content = secrets.token_bytes(3 << 20)
    assert host.ask("GET", f"/files/{behind.gateway.store(content)}").content == content
    assert httpx.get(f"{behind.url}/hosts/", verify=behind.trust).text == "web 127.0.0.1"


def test_the_address_of_a_client_is_the_true_one(behind: Behind) -> None:
    """Each address has its own limit of wrong tokens, whatever it says of itself."""

    def ask(client: httpx.Client, number: int) -> int:
        host = behind.host()
        body = host.request("w" * 43)
        headers = host.headers("POST", f"{PATH}/enrol", body) | {"X-Forwarded-For": f"203.0.113.{number}"}
        return client.post(f"{PATH}/enrol", content=body, headers=headers).status_code

    with behind.client("127.0.0.5") as one, behind.client("127.0.0.6") as other:
        answers = [ask(one, number) for number in range(20)]
        assert answers[0] == 401, answers
        assert 429 in answers
        assert ask(other, 1) == 401


def test_a_browser_hears_through_it(behind: Behind) -> None:
    gateway = behind.gateway
    gateway.app.config["SECRET_KEY"] = load(gateway.config).secret_key()
    with gateway.work():
        user = accounts.create_user(KIM, f"u{secrets.token_hex(4)}", "correct horse battery", admin=True)
        token = accounts.open_session(user, "127.0.0.1", None)
    serializer = SecureCookieSessionInterface().get_signing_serializer(gateway.app)
    assert serializer is not None
    address = behind.url.replace("https", "wss") + PATH + "/ws"
    cookie = {"Cookie": f"ezadmin={serializer.dumps({'token': token})}"}
    origin: Any = behind.url
    with connect(address, ssl=behind.trust, additional_headers=cookie, origin=origin, open_timeout=30) as line:
        line.send("nonsense")
        assert "bad_value" in str(line.recv(timeout=20))
    with pytest.raises(InvalidStatus, match="403"):
        connect(address, ssl=behind.trust, origin=origin, open_timeout=30)
