"""The process: a socket, a few threads, one key.

A request is a JSON object on one line, ``{"commands": [command, …]}`` with the members of :class:`ezadmin_wire.commands.Command`;
the answer is one line: ``{"signed": [{"command", "kid", "sig"}, …]}`` in the same order, or ``{"error", "message"}``, and nothing
is signed. Reasons: ``bad_request``, ``bad_value``, ``unknown_kind``, ``bad_time``, ``expired``, ``lives_too_long``,
``duplicate``, ``too_many``, ``halted``, ``cannot_write``, ``forbidden``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import signal
import socket
import socketserver
import stat
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ezadmin_cmdb.signer import settings as settings_module
from ezadmin_cmdb.signer.book import Book, BookError
from ezadmin_cmdb.signer.settings import CommandSettings, CommandSettingsError
from ezadmin_wire import WireError, commands, log
from ezadmin_wire.commands import STOP, Command
from ezadmin_wire.fields import build
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.times import format_time, parse_time

_log = logging.getLogger("ezadmin_cmdb.signer")
MAX_REQUEST = 32 << 20
TIMEOUT_SECONDS = 10.0
CONNECTIONS = 32
CLOCK = timedelta(minutes=5)
"""How far a command's time may lie beside ours: web application and signer are on one machine, or well set."""
_MEMBERS = {member.name for member in fields(Command)}


class Refused(Exception):
    """Nothing is signed. ``reason`` is for programs, the text for people."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Signer:
    """Signs what is within the bounds, and writes it down before. Raises BookError when made, if the file is not whole."""

    def __init__(self, key: SigningKey, settings: CommandSettings, book: Book) -> None:
        self._key = key
        self._settings = settings
        self._book = book
        self._lock = threading.Lock()
        self._recent: deque[tuple[float, int]] = deque()
        self._known: dict[str, datetime] = {}
        oldest = datetime.now(UTC) - 2 * settings.max_lifetime
        for line in book.lines(format_time(oldest)):
            moment = parse_time(line["time"])
            if moment > oldest:
                self._remember(line["id"], line["nonce"], moment)

    def sign(self, request: bytes, peer: dict[str, int]) -> list[dict[str, str]]:
        """The signed commands of a request; ``peer`` is who asks. Raises Refused."""
        found = _read(request)
        now = datetime.now(UTC)
        with self._lock:
            self._check_switch(found)
            self._check(found, now)
            self._check_rate(found)
            try:
                signed = [commands.encode(self._key, one) for one in found]
            except WireError as error:
                raise Refused(error.reason, str(error)) from error
            entries = [self._entry(one, text.command, now, peer) for one, text in zip(found, signed, strict=True)]
            try:
                self._book.add(entries)
            except OSError as error:
                raise Refused("cannot_write", f"the signer cannot write {self._book.path}: {error.strerror}") from error
            for one in found:
                self._remember(one.id, one.nonce, now)
            self._recent.append((time.monotonic(), _counted(found)))
        kinds = sorted({one.kind for one in found})
        _log.info("signed %d commands (%s) of %s", len(found), ", ".join(kinds), found[0].actor, extra={"fields": peer})
        return [asdict(one) for one in signed]

    def _entry(self, one: Command, text: str, now: datetime, peer: dict[str, int]) -> dict[str, Any]:
        """What the book says of a command."""
        said = {
            name: getattr(one, name) for name in ("id", "run", "attempt", "kind", "host", "actor", "nonce", "not_after")
        }
        digest = hashlib.sha256(text.encode()).hexdigest()
        return {"time": format_time(now), **said, "kid": self._key.kid, **peer, "digest": digest}

    def _check_switch(self, found: Sequence[Command]) -> None:
        switch = self._settings.halted
        if switch is not None and switch.exists() and any(one.kind != STOP for one in found):
            raise Refused(
                "halted", f"nothing is signed but {STOP}: {_text(switch)}; `ezadmin-cmdb signer release` ends it"
            )

    def _check(self, found: Sequence[Command], now: datetime) -> None:
        ids: set[str] = set()
        for one in found:
            begin, end = parse_time(one.not_before), parse_time(one.not_after)
            if end <= now:
                raise Refused("expired", f"command {one.id} was to be begun until {one.not_after}")
            if end - begin > self._settings.max_lifetime or end - now > self._settings.max_lifetime + CLOCK:
                hours = self._settings.max_lifetime.total_seconds() / 3600
                raise Refused("lives_too_long", f"a command may wait for {hours:g} hours at most (max_lifetime_hours)")
            if begin < now - CLOCK:
                raise Refused("bad_time", f"command {one.id} begins at {one.not_before}, here it is {format_time(now)}")
            for name in (one.id, one.nonce):
                if name in self._known or name in ids:
                    raise Refused("duplicate", f"{name} was signed before")
                ids.add(name)

    def _check_rate(self, found: Sequence[Command]) -> None:
        most, now = self._settings.max_hosts_per_minute, time.monotonic()
        while self._recent and self._recent[0][0] < now - 60:
            self._recent.popleft()
        if sum(count for _, count in self._recent) + _counted(found) > most:
            raise Refused(
                "too_many",
                f"not more than {most} commands are signed in a minute (max_hosts_per_minute); wait a minute",
            )

    def _remember(self, command_id: str, nonce: str, moment: datetime) -> None:
        self._known[command_id] = self._known[nonce] = moment
        if len(self._known) % 10_000 < 2:
            oldest = moment - 2 * self._settings.max_lifetime
            self._known = {name: at for name, at in self._known.items() if at > oldest}


def _counted(found: Sequence[Command]) -> int:
    return sum(one.kind != STOP for one in found)


def _read(request: bytes) -> list[Command]:
    try:
        plain = json.loads(request)
    except (ValueError, RecursionError) as error:
        raise Refused("bad_request", f"not JSON: {error}") from error
    given = plain.get("commands") if isinstance(plain, dict) and set(plain) == {"commands"} else None
    if not isinstance(given, list) or not given:
        raise Refused("bad_request", 'expected {"commands": [command, …]}')
    found = []
    for value in given:
        if not isinstance(value, dict) or not set(value) <= _MEMBERS:
            raise Refused("bad_request", "a command has other members than commands have")
        try:
            found.append(build(Command, value))
        except WireError as error:
            raise Refused(error.reason, str(error)) from error
        except (TypeError, ValueError) as error:
            raise Refused("bad_value", str(error)) from error
    return found


def _text(switch: Path) -> str:
    try:
        return switch.read_text(errors="replace").strip()[:500] or "halted"
    except OSError:
        return "halted"


class _Nothing(Exception):
    """Somebody looked whether the signer listens, and asked nothing."""


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Listens on the socket; each connection is one request."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: Path, signer: Signer, allowed: frozenset[int]) -> None:
        self.signer = signer
        self.allowed = allowed
        self.places = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__(str(path), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A request that fails ends no other."""
        _log.warning("a request failed", exc_info=True)


class Handler(socketserver.BaseRequestHandler):
    """One connection."""

    server: Server

    def handle(self) -> None:
        """Read one line, answer with one."""
        with self.server.places:
            self.request.settimeout(TIMEOUT_SECONDS)
            pid, uid, _gid = struct.unpack("3i", self.request.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            peer = {"uid": uid, "pid": pid}
            try:
                answer: dict[str, Any] = {"signed": self._signed(peer)}
            except _Nothing:
                return
            except Refused as error:
                _log.warning("refused: %s", error, extra={"fields": {**peer, "reason": error.reason}})
                answer = {"error": error.reason, "message": str(error)}
            except OSError as error:
                _log.warning("a connection ended early: %s", error, extra={"fields": peer})
                return
            try:
                self.request.sendall(json.dumps(answer, ensure_ascii=False).encode() + b"\n")
                if "error" in answer:
                    self._drain()
            except OSError as error:
                _log.warning("an answer was not taken: %s", error, extra={"fields": peer})

    def _drain(self) -> None:
        """Take what still comes: closed over unread bytes, a socket loses the answer that says why."""
        self.request.shutdown(socket.SHUT_WR)
        self.request.settimeout(1.0)
        for _ in range(64):
            if not self.request.recv(1 << 16):
                return

    def _signed(self, peer: dict[str, int]) -> list[dict[str, str]]:
        if peer["uid"] not in self.server.allowed:
            raise Refused("forbidden", f"processes of user {peer['uid']} may not ask (signer_users)")
        return self.server.signer.sign(self._line(), peer)

    def _line(self) -> bytes:
        data, until = bytearray(), time.monotonic() + TIMEOUT_SECONDS
        while not data.endswith(b"\n"):
            part = self.request.recv(1 << 16)
            if not part and not data:
                raise _Nothing
            if not part or len(data) + len(part) > MAX_REQUEST or time.monotonic() > until:
                raise Refused("bad_request", f"a request is one line of at most {MAX_REQUEST} bytes, sent at once")
            data += part
        return bytes(data)


def serve(settings: CommandSettings) -> int:
    """Sign until SIGTERM or SIGINT. Raises CommandSettingsError, BookError, WireError before anything is listened to."""
    if settings.signing_key is None or settings.signer_socket is None or settings.signer_log is None:
        raise CommandSettingsError("[commands]: signing_key and signer_socket are missing; write the paths of both")
    key = SigningKey.load(settings.signing_key)
    if settings.public_key not in (None, key.public.hex()):
        raise CommandSettingsError(
            f"[commands]: public_key is not that of {settings.signing_key}: it is {key.public.hex()}"
        )
    book = Book(settings.signer_log)
    signer = Signer(key, settings, book)
    path = settings.signer_socket
    _prepare(path)
    before = os.umask(0o177)  # nobody may connect before the mode is as it shall be
    try:
        server = Server(path, signer, frozenset({os.getuid(), *settings.signer_users}))
    finally:
        os.umask(before)
    if settings.signer_users:
        path.chmod(0o660)

    def stop(number: int, frame: object) -> None:
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    _log.info("started", extra={"fields": {"kid": key.kid, "public_key": key.public.hex(), "signed": book.head.number}})
    try:
        server.serve_forever(poll_interval=0.2)
    finally:
        server.server_close()
        path.unlink(missing_ok=True)
        book.close()
    _log.info("ended")
    return 0


def _prepare(path: Path) -> None:
    """The socket's folder is there and nobody else may put something into it; what a killed signer left is removed."""
    path.parent.mkdir(mode=0o710, exist_ok=True)
    mode = path.parent.stat().st_mode
    if mode & 0o022:
        raise CommandSettingsError(
            f"[commands]: signer_socket: others may write into {path.parent}; run: chmod 710 {path.parent}"
        )
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise CommandSettingsError(f"[commands]: signer_socket: {path} is there and is no socket")
    except FileNotFoundError:
        return
    path.unlink()  # the book is ours alone, so no other signer of this key listens on it


def main(arguments: Sequence[str]) -> int:
    """Run; returns the exit status: 0 ended, 1 failed, 2 wrong settings."""
    parser = argparse.ArgumentParser("ezadmin-cmdb signer")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--log-format", default="json")
    given = parser.parse_args(arguments)
    log.configure(given.log_level, given.log_format)
    try:
        return serve(settings_module.load(given.config))
    except (CommandSettingsError, WireError) as error:
        print(f"ezadmin-cmdb: {error}", file=sys.stderr)
        return 2
    except (BookError, OSError) as error:
        print(f"ezadmin-cmdb: {error}", file=sys.stderr)
        return 1
