"""A gateway under test: the real process, and hosts that speak to it as agents do."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from ezadmin_testing.cmdb import command, settings_file
from ezadmin_testing.processes import Process, wait_until
from ezadmin_wire import requests
from ezadmin_wire.enrolment import CloneProof, EnrolRequest, Fingerprint, read_token
from ezadmin_wire.fields import dump
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey

PATH = "/api/agent/v1"


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class SimulatedHost:
    """A host with its key; makes and signs requests."""

    base: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    key: SigningKey = field(default_factory=SigningKey.generate)
    instance: str = field(default_factory=lambda: secrets.token_hex(8))
    fingerprint: Fingerprint = field(
        default_factory=lambda: Fingerprint(secrets.token_hex(32), secrets.token_hex(32), ["02:00:00:00:00:01"])
    )
    name: str = "web1"
    verify: Any = True

    def headers(self, method: str, target: str, body: bytes = b"", **more: Any) -> dict[str, str]:
        """The header that signs a request."""
        key, host = more.pop("key", self.key), more.pop("host", self.id)
        return {
            "Authorization": requests.authorization(key, host=host, method=method, target=target, body=body, **more)
        }

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        """A signed request; ``more``: other key, host or time for the signature."""
        target = PATH + path
        signed = {**self.headers(method, target, body, **more), **(headers or {})}
        return httpx.request(method, self.base + target, content=body, headers=signed, timeout=70, verify=self.verify)

    def poll(self, wait: float = 0, **more: Any) -> httpx.Response:
        """One poll."""
        return self.ask("GET", f"/poll?wait={wait}&instance={self.instance}", **more)

    def request(self, token: str | None = None, clone: CloneProof | None = None) -> bytes:
        """The body of an enrolment; ``token`` is the text that people paste, or a bare secret."""
        secret = read_token(token).secret if token and token.startswith("ezt1.") else token
        return dump(
            EnrolRequest(self.id, self.key.public.hex(), self.name, "0.6", self.fingerprint, secret=secret, clone=clone)
        )

    def enrol(self, token: str | None = None, clone: CloneProof | None = None, **more: Any) -> httpx.Response:
        """Ask to be known."""
        return self.ask("POST", "/enrol", self.request(token, clone), **more)


class GatewayUnderTest:
    """Settings, database, worker and gateway of one installation."""

    def __init__(self, stack: Any, names: Names, database: str, folder: Path, **gateway: str) -> None:
        self.names, self.folder, self.kafka = names, folder, stack.kafka
        self.port = free_port()
        self.files = folder / "files"
        self.files.mkdir(exist_ok=True)
        self.command_key = SigningKey.generate()
        scheme = "https" if "cert_file" in gateway else "http"
        self.base = f"{scheme}://127.0.0.1:{self.port}"
        lines = {
            "port": str(self.port), "url": f'"{self.base}"', "files": f'"{self.files}"',
            "reinstall_after_seconds": "2", **gateway,
        }  # fmt: skip
        self.config = settings_file(
            folder, database, stack.kafka, names, gateway="\n".join(f"{key} = {value}" for key, value in lines.items()),
            commands=f'public_key = "{self.command_key.public.hex()}"',
        )  # fmt: skip
        self.worker = Process(command("worker", "--config", self.config), folder / "worker.log")
        self.gateway = Process(command("gateway", "--config", self.config), folder / "gateway.log")

    def run(self, *arguments: str, status: int = 0) -> str:
        """A command of ``ezadmin-cmdb``; what it printed on standard output."""
        done = subprocess.run(
            command(*arguments, "--config", self.config), capture_output=True, text=True, timeout=60, env=os.environ
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def start(self) -> None:
        """Bring the database up to date, start worker and gateway, and wait until it answers."""
        self.run("db", "upgrade")
        self.worker.start()
        self.start_gateway()

    def start_gateway(self) -> None:
        """Start the gateway alone."""
        self.gateway.start()
        wait_until(self.ready, 30, "the gateway answers")

    def ready(self) -> bool:
        """Whether it has read its configuration."""
        assert self.gateway.running, self.log()
        try:
            return httpx.get(f"{self.base}{PATH}/health", verify=False, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def log(self) -> str:
        """What the gateway has logged."""
        return (self.folder / "gateway.log").read_text()

    def host(self, **more: Any) -> SimulatedHost:
        """A machine that nobody knows yet."""
        return SimulatedHost(self.base, **more)

    def token(self, *options: str) -> str:
        """A new enrolment token."""
        made = self.run("enrolment-token", "create", "--name", f"t{secrets.token_hex(4)}", "--json", *options)
        return str(json.loads(made)["token"])

    def known(self, *options: str) -> SimulatedHost:
        """A host that has enrolled."""
        host = self.host()
        answer = host.enrol(self.token(*options))
        assert answer.status_code == 200, answer.text
        return host

    def store(self, content: bytes) -> str:
        """Put a file into the folder of downloads; its name."""
        name = hashlib.sha256(content).hexdigest()
        (self.files / name).write_bytes(content)
        return name

    def stop(self) -> None:
        """Stop everything."""
        self.gateway.stop()
        self.worker.stop()


def eventually(check: Any, seconds: float = 10.0) -> Any:
    """What ``check`` returns as soon as that is true."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found or time.monotonic() > deadline:
            assert found, "it did not come about in time"
            return found
        time.sleep(0.05)
