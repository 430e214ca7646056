"""The gateway's part of ``ezadmin-agent check``: from its name to a poll that it answers, and batches through it."""

from __future__ import annotations

import json
import os
import socket
import ssl
import time
from pathlib import Path
from typing import NamedTuple, Optional
from urllib.parse import urlsplit

from ezadmin_agent.config import Config, ConfigError
from ezadmin_agent.control.client import API, Answer, Client, GatewayError
from ezadmin_agent.control.enrolment import QUARANTINED
from ezadmin_agent.control.me import Me
from ezadmin_agent.control.transport import post, results
from ezadmin_wire import requests, times
from ezadmin_wire.errors import WireError
from ezadmin_wire.times import parse_time

TIMEOUT = 5.0
RENEW_DAYS = 14
SKEW_SECONDS = 5.0
CLOCK = "set the clock: is a time service (chrony, systemd-timesyncd) running?"
_HINTS = {
    "unknown_host": "enrol this host: ezadmin-agent enrol TOKEN",
    "unknown_key": "enrol this host again, or is its key that of another machine?",
    "revoked": "a person revoked this host; enrol it again if that was a mistake",
    "retired": "a person retired this host",
    "stale_request": CLOCK,
}


class Failed(Exception):
    """A step did not succeed; ``hint`` says what to do."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.hint = hint


class Found(NamedTuple):
    """What a step found; ``hint``: and yet there is something to do."""

    text: str
    hint: str = ""


class GatewayCheck:
    """Its steps, each to be called once those before it succeeded. All raise Failed."""

    def __init__(self, config: Config, me: Me) -> None:
        self._config = config
        self._me = me
        self._client: Optional[Client] = None
        url = urlsplit(config.gateway_proxy) if config.gateway_proxy else urlsplit(str(config.gateway))
        self.host = url.hostname or ""
        self.port = url.port or (443 if url.scheme == "https" else 80)
        self.proxied = bool(config.gateway_proxy)

    def dns(self) -> Found:
        """The addresses of the gateway, or of the proxy before it."""
        try:
            found = socket.getaddrinfo(self.host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            hint = "check the address of the gateway, or of gateway_proxy, and /etc/resolv.conf"
            raise Failed(f"the name is not known: {error.strerror or error}", hint) from error
        return Found(", ".join(sorted({str(entry[4][0]) for entry in found})))

    def tcp(self) -> Found:
        """Whether the port answers."""
        try:
            with socket.create_connection((self.host, self.port), TIMEOUT) as connection:
                return Found(f"connected from {connection.getsockname()[0]}")
        except OSError as error:
            refused = isinstance(error, ConnectionRefusedError)
            hint = "nothing listens there: does it run, at this port?" if refused else "a firewall, or a wrong address"
            raise Failed(f"no connection: {error.strerror or error}", hint) from error

    def tls(self) -> Found:
        """Whether the certificate is good, for the one authority that is trusted (the pin of the enrolment)."""
        try:
            ca = self._config.gateway_authority()
            self._client = Client(str(self._config.gateway), ca=ca, proxy=self._config.gateway_proxy)
        except (ConfigError, GatewayError) as error:
            raise Failed(str(error), "name the right file in gateway_ca_file") from error
        answer = self._ask("GET", "/health", signed=False)
        if answer.status != 200:
            raise self._failed(answer.error())
        if self._client.context is None:
            return Found("plain HTTP: who listens reads along", "give the gateway a certificate")
        who = "an authority that the system trusts"
        if ca is not None:
            named = self._config.gateway_ca_file is not None
            who = "the authority in gateway_ca_file" if named else "the authority that was pinned at enrolment"
        certificate = self._client.certificate()
        if "notAfter" not in certificate:  # whoever stands before the gateway ended the connection
            return Found(f"certificate of {who}")
        days = int((ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()) // 86400)
        text = f"{certificate['version']}, certificate of {who}, valid for {days} more days"
        return Found(text, "renew the gateway's certificate" if days < RENEW_DAYS else "")

    def signature(self) -> Found:
        """Whether the gateway knows this host by its key."""
        answer = self._ask("GET", "/me")
        if answer.status != 200:
            raise self._failed(answer.error(), answer)
        table = answer.json()
        state = str(table.get("state"))
        text = f"known as {table.get('name')}, key {table.get('kid')}, {state}"
        return Found(text, "accept it in the web application" if state == QUARANTINED else "")

    def clock(self) -> Found:
        """How far this host's clock is from the gateway's."""
        answer = self._ask("GET", "/me")
        try:
            ahead = (parse_time(times.now()) - parse_time(answer.json().get("time"))).total_seconds()  # type: ignore[arg-type]
        except WireError:
            return Found("the gateway tells no time")
        if abs(ahead) > requests.WINDOW_SECONDS:
            raise Failed(
                f"this host's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the gateway's", CLOCK
            )
        text = f"within {max(1.0, abs(ahead)):.0f} s of the gateway's"
        return Found(text, CLOCK if abs(ahead) > SKEW_SECONDS else "")

    def poll(self) -> Found:
        """Whether a poll is answered; commands that it brings are left to the agent."""
        answer = self._ask("GET", f"/poll?wait=0&instance={self._instance()}")
        if answer.status != 200:
            raise self._failed(answer.error(), answer)
        if not self._config.command_keys:
            return Found("answered", "no key is trusted for commands: enrol this host, or write command_keys")
        return Found(f"answered; of commands, those are done: {', '.join(self._config.allow) or 'none'}")

    def batches(self, sent: list[tuple[list[tuple[str, bytes]], bytes]]) -> list[Optional[BaseException]]:
        """What became of each batch that is posted."""
        assert self._client is not None  # noqa: S101 - made by the step before
        try:
            answer = post(self._client, self._me, sent)
            if answer.status != 200:
                raise answer.error()
            return results(answer, len(sent))
        except GatewayError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()

    def _ask(self, method: str, path: str, *, signed: bool = True) -> Answer:
        assert self._client is not None  # noqa: S101 - made by the step before
        try:
            if not signed:
                return self._client.request(method, API + path, timeout=TIMEOUT * 2)
            return self._client.signed(self._me.key, self._me.host, method, path, timeout=TIMEOUT * 2)
        except GatewayError as error:
            raise self._failed(error) from error

    @staticmethod
    def _failed(error: GatewayError, answer: Optional[Answer] = None) -> Failed:
        text = str(error.args[0])
        if error.reason == "stale_request" and answer is not None:
            text = f"this host's clock is wrong: here it is {times.now()}, at the gateway {answer.json().get('time')}"
        return Failed(text, error.hint or _HINTS.get(error.reason, "look into the gateway's log"))

    def _instance(self) -> str:
        """That of the running agent: another one would look like a second machine with the same key."""
        try:
            table = json.loads((Path(self._config.state_dir) / "status.json").read_text(encoding="utf-8"))
            return str(table["control"]["instance"])
        except (OSError, ValueError, KeyError, TypeError):
            return os.urandom(8).hex()
