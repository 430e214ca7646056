"""A gateway under test: the real process, and hosts that speak to it as agents do."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import select
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from ezadmin_cmdb import settings
from ezadmin_cmdb.actor import cli_actor
from ezadmin_cmdb.app import create_core
from ezadmin_cmdb.commands import states
from ezadmin_cmdb.commands.models import Command, Run
from ezadmin_cmdb.database import db, unit_of_work, utc_now
from ezadmin_cmdb.enrolment import tokens
from ezadmin_cmdb.signer.settings import CommandSettings
from ezadmin_testing.cmdb import command, settings_file
from ezadmin_testing.processes import Process, wait_until
from ezadmin_wire import commands as wire_commands
from ezadmin_wire import requests
from ezadmin_wire.enrolment import CloneProof, EnrolRequest, Fingerprint, read_token
from ezadmin_wire.fields import dump
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.times import format_time

PATH = "/api/agent/v1"
KIM = cli_actor("kim")


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
            commands=f'public_key = "{self.command_key.public.hex()}"', top=f'secret_key_file = "{folder / "secret"}"',
        )  # fmt: skip
        self.app = create_core(settings.load(self.config))
        self.worker = Process(command("worker", "--config", self.config), folder / "worker.log")
        self.gateway = Process(command("gateway", "--config", self.config), folder / "gateway.log")

    def signed_by(self, signing: CommandSettings) -> None:
        """From here on the commands of a running signer are the good ones; before the start."""
        own = f'public_key = "{self.command_key.public.hex()}"'
        signers = f'public_key = "{signing.public_key}"\nsigner_socket = "{signing.signer_socket}"'
        self.config.write_text(self.config.read_text().replace(own, signers))
        self.app = create_core(settings.load(self.config))

    def run(self, *arguments: str, status: int = 0) -> str:
        """A command of ``ezadmin-cmdb``; what it printed on standard output."""
        done = subprocess.run(
            command(*arguments, "--config", self.config), capture_output=True, text=True, timeout=300, env=os.environ
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def run_wrong(self, *arguments: str) -> str:
        """A command that fails; what it says on standard error."""
        done = subprocess.run(command(*arguments, "--config", self.config), capture_output=True, text=True, timeout=300)
        assert done.returncode == 1, done.stdout + done.stderr
        return done.stderr

    def start(self) -> None:
        """Bring the database up to date, start worker and gateway, and wait until it answers."""
        self.run("db", "upgrade")
        self.worker.start()
        self.start_gateway()

    def start_gateway(self) -> None:
        """Start the gateway alone."""
        self.gateway.start()
        wait_until(self.ready, 120, "the gateway answers")

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

    @contextmanager
    def work(self) -> Iterator[None]:
        """Inside, services may be called; what they did is committed."""
        with self.app.app_context(), unit_of_work():
            yield

    def token(self, **options: Any) -> str:
        """A new enrolment token."""
        with self.work():
            return tokens.create(KIM, f"t{secrets.token_hex(4)}", **options).text

    def known(self, host: SimulatedHost | None = None, **options: Any) -> SimulatedHost:
        """A host that has enrolled."""
        host = host or self.host()
        answer = host.enrol(self.token(**options))
        assert answer.status_code == 200, answer.text
        return host

    def known_with(self, token: str) -> SimulatedHost:
        """A host that has enrolled with this token."""
        host = self.host()
        answer = host.enrol(token)
        assert answer.status_code == 200, answer.text
        return host

    def command(
        self, host_id: str, seconds: float = 300, kind: str = "inventory", arguments: dict[str, Any] | None = None,
        forged: Callable[[wire_commands.Command], wire_commands.SignedCommand] | None = None,
    ) -> str:  # fmt: skip
        """Put a signed command into the database, as the app does when it is confirmed; its id.

        ``forged`` makes what is handed out instead, as who has the database, but not the key, could.
        """
        at = utc_now()
        sent = wire_commands.Command(
            id=str(uuid.uuid4()), run=str(uuid.uuid4()), attempt=1, kind=kind, host=host_id, actor="kim",
            not_before=format_time(at), not_after=format_time(at + timedelta(seconds=seconds)), nonce=secrets.token_hex(16),
            arguments=arguments or {},
        )  # fmt: skip
        signed = (forged or (lambda right: wire_commands.encode(self.command_key, right)))(sent)
        with self.work():
            times = {"created": at, "not_after": at + timedelta(seconds=seconds)}
            run = Run(id=sent.run, kind=sent.kind, arguments={}, actor_name="kim", source="cli", hosts=1, **times)
            row = Command(
                id=sent.id, attempt=1, host_id=host_id, host_name="x", kind=sent.kind, arguments={}, actor_name="kim",
                nonce=sent.nonce, signed=signed.command, kid=signed.kid, sig=signed.sig, of_run=run, not_before=at,
                digest=hashlib.sha256(signed.command.encode()).hexdigest(), **times,
            )  # fmt: skip
            db.session.add(row)
            db.session.flush()
            states.note_queued([(row.id, row.digest)], at, "kim")
        return sent.id

    def state_of(self, command_id: str) -> str:
        """The state of a command."""
        with self.app.app_context():
            return str(db.session.get_one(Command, command_id).state)

    def store(self, content: bytes) -> str:
        """Put a file into the folder of downloads; its name."""
        name = hashlib.sha256(content).hexdigest()
        (self.files / name).write_bytes(content)
        return name

    def stop(self) -> None:
        """Stop everything."""
        self.gateway.stop()
        self.worker.stop()
        with self.app.app_context():
            db.engine.dispose()


class Forwarder:
    """Forwards TCP from a port of its own, as long as it is not told to be ``away``."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._open: list[socket.socket] = []
        self._away = False
        threading.Thread(target=self._accept, daemon=True).start()

    def away(self, away: bool) -> None:
        """Cut all connections, and refuse others, or go on."""
        self._away = away
        if away:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            self._open.clear()

    def close(self) -> None:
        """End."""
        self.away(True)
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # who waits in accept is woken by nothing else
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            if self._away:
                near.close()
                continue
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, socket.create_connection(self._target) as far:
            self._open += [near, far]
            ends = {near: far, far: near}
            with contextlib.suppress(OSError):
                while True:
                    for one in select.select(list(ends), [], [])[0]:
                        data = one.recv(65536)
                        if not data:
                            return
                        ends[one].sendall(data)


def eventually(check: Any, seconds: float = 20.0) -> Any:
    """What ``check`` returns as soon as that is true."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found or time.monotonic() > deadline:
            assert found, "it did not come about in time"
            return found
        time.sleep(0.05)
