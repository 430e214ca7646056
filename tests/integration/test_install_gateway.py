"""The line that ezadmin shows, pasted on new hosts: the real gateway with TLS of its own authority, a proxy, what is refused."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ezadmin_testing import scratch_hosts
from ezadmin_testing.certificates import Authority
from ezadmin_testing.gateway import GatewayUnderTest
from ezadmin_testing.installing import (
    PROXY_PORT,
    STATE,
    Way,
    gateway_with_bundle,
    host_id,
    new_line,
    paste,
    status,
    token_of,
)
from ezadmin_testing.processes import wait_until
from ezadmin_testing.scratch_hosts import ScratchHost

from ezadmin_wire.names import Names


@pytest.fixture(scope="module")
def gateway(
    stack: Any, module_names: Names, database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayUnderTest]:
    reason = scratch_hosts.usable()
    if reason:
        pytest.skip(reason)
    gateway = gateway_with_bundle(stack, module_names, database, tmp_path_factory.mktemp("gateway"))
    yield gateway
    gateway.stop()


@pytest.fixture
def way(gateway: GatewayUnderTest, stack: Any) -> Iterator[Way]:
    made = Way(gateway, stack.kafka)
    yield made
    made.proxy.close()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[ScratchHost]:
    made = ScratchHost(tmp_path / "host", "web1", network=True)
    yield made
    made.close()


def left(host: ScratchHost) -> list[str]:
    return host.changed()


def test_a_host_that_reaches_kafka(gateway: GatewayUnderTest, way: Way, host: ScratchHost) -> None:
    line = new_line(gateway)
    done = paste(host, line, way.direct(host))
    assert "data goes by kafka" in done.stdout
    assert "runs and sends" in done.stdout
    assert "ezt1." not in done.stdout + done.stderr
    assert (host.path(f"{STATE}/enrolment.json").stat().st_mode & 0o777) == 0o600
    wait_until(lambda: status(host)["control"]["connected"], 30, "it polls")
    assert gateway.run("host", "list").count("web1") == 1
    # the token was good for one host, and this one needs it no more
    assert "nothing to do" in paste(host, line, "--service none").stdout
    host.run("sh", "/opt/ezadmin-agent/uninstall.sh")
    assert left(host) == []
    assert host.processes("ezadmin") == []


def test_a_host_behind_a_proxy(gateway: GatewayUnderTest, way: Way, host: ScratchHost) -> None:
    options = way.proxied(host)
    # what the shell knows of the proxy is for curl; install.sh would take it from there, too
    done = paste(host, new_line(gateway), options, way=f"export https_proxy=http://127.0.0.1:{PROXY_PORT}; ")
    assert f"through http://127.0.0.1:{PROXY_PORT}" in done.stdout
    assert "runs and sends" in done.stdout
    now = status(host)
    assert now["transport"] == "https"
    assert now["kafka"] is None
    way.proxy.cut()
    wait_until(lambda: status(host)["control"]["connected"], 60, "it polls again after the proxy cut all connections")


@pytest.mark.parametrize("what", ["used", "revoked", "damaged"])
def test_a_token_that_is_no_longer_good_leaves_nothing(
    gateway: GatewayUnderTest, way: Way, host: ScratchHost, what: str
) -> None:
    name = f"wrong-{what}"
    line = new_line(gateway, "--name", name)
    if what == "used":
        assert gateway.host(verify=False).enrol(token_of(line)).status_code == 200
    elif what == "revoked":
        gateway.run("enrolment-token", "revoke", name)
    else:
        line = line.replace(token_of(line), token_of(line)[:-3])
    done = paste(host, line, way.direct(host), check=False)
    assert done.returncode == 1
    assert "could not be enrolled" in done.stderr
    assert {"used": "token_used_up", "revoked": "token_revoked", "damaged": "damaged"}[what] in done.stderr
    assert "ezt1." not in done.stdout + done.stderr
    assert left(host) == []


def test_who_stands_in_between_is_found_out(
    gateway: GatewayUnderTest, way: Way, host: ScratchHost, tmp_path: Path
) -> None:
    """Another authority's certificate at the gateway's address: curl asks nothing (the hash decides), install.sh does."""
    line = new_line(gateway)
    script = httpx.get(f"{gateway.base}/api/agent/v1/install.sh", verify=False).content
    host.write("/opt/install.sh", script.decode())
    options = way.direct(host)
    other = Authority(tmp_path / "other").issue("gateway", ("127.0.0.1",))
    between = _Between(other, gateway.port)
    try:
        host.forward(between.port, ("127.0.0.1", between.port))
        wrong = (
            host.path("/opt/install.sh").read_text().replace(f"127.0.0.1:{gateway.port}", f"127.0.0.1:{between.port}")
        )
        host.write("/opt/install.sh", wrong)
        done = host.run("sh", "/opt/install.sh", *options.split(), env={"EZADMIN_TOKEN": token_of(line)}, check=False)
    finally:
        between.close()
    assert done.returncode == 1
    assert "certificate" in done.stderr
    assert "somebody may stand in between" in done.stderr
    assert [path for path in left(host) if path != "/opt/install.sh"] == []


class _Between:
    """TLS with another certificate, forwarding to the gateway what it reads."""

    def __init__(self, certificate: tuple[Path, Path], port: int) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = httpx.get(f"https://127.0.0.1:{port}{self.path}", verify=False).content
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_arguments: object) -> None:  # who refuses the certificate
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*map(str, certificate))
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_port)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_a_host_in_quarantine_waits(gateway: GatewayUnderTest, way: Way, host: ScratchHost) -> None:
    done = paste(host, new_line(gateway, "--quarantine"), way.direct(host))
    assert "it is accepted in the web application" in done.stdout
    gateway.run("host", "accept", host_id(host))
    wait_until(lambda: status(host)["control"]["state"] == "active", 90, "it is listened to")
    wait_until(lambda: any(one["last_ack"] for one in status(host)["streams"].values()), 60, "what it kept is sent")
