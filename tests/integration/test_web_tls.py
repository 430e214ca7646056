"""The web application with TLS by itself, as a real process."""

from __future__ import annotations

import shutil
import signal
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import httpx
from ezadmin_testing.certificates import Authority
from ezadmin_testing.cmdb import command, settings_file
from ezadmin_testing.gateway import eventually, free_port
from ezadmin_testing.processes import Process, wait_until

from ezadmin_wire.names import Names


def test_tls_by_itself_and_a_renewed_certificate(stack: Any, names: Names, database: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    files = tmp_path / "web.pem", tmp_path / "web.key"

    def issue(name: str) -> None:
        for source, target in zip(authority.issue(name, ("127.0.0.1",)), files, strict=True):
            shutil.copy(source, target)

    port = free_port()
    more = {
        "top": f'secret_key_file = "{tmp_path}/secret"',
        "web": f'port = {port}\nworkers = 1\ncert_file = "{files[0]}"\nkey_file = "{files[1]}"',
    }
    config = settings_file(tmp_path, database, stack.kafka, names, **more)
    start = command("web", "--config", config)
    done = subprocess.run(start, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, "nothing is served without the certificate"
    assert "[web]: cert_file and key_file cannot be used" in done.stderr
    issue("first")
    subprocess.run(command("db", "upgrade", "--config", config), check=True, capture_output=True, timeout=120)
    trust = ssl.create_default_context(cafile=str(authority.ca_file))
    web = Process(start, tmp_path / "web.log").start()

    def status() -> int:
        try:
            return httpx.get(f"https://127.0.0.1:{port}/healthz", verify=trust, timeout=5).status_code
        except httpx.TransportError:
            return 0

    def served() -> bytes | None:
        with (
            socket.create_connection(("127.0.0.1", port), 5) as plain,
            trust.wrap_socket(plain, server_hostname="127.0.0.1") as line,
        ):
            return line.getpeercert(binary_form=True)

    try:
        wait_until(lambda: status() == 200, 60, "it answers over TLS")
        page = httpx.get(f"https://127.0.0.1:{port}/sign-in", verify=trust, timeout=30)
        assert page.status_code == 200
        assert page.headers["Strict-Transport-Security"]
        cookies = page.headers.get_list("set-cookie")
        assert cookies, "the page has a guard against forged requests"
        assert all("Secure" in cookie for cookie in cookies)
        first = served()
        issue("second")
        web.signal(signal.SIGHUP)
        eventually(lambda: served() not in (None, first), 30)
        eventually(lambda: status() == 200, 30)
    finally:
        web.stop()
