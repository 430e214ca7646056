"""``ezadmin-cmdb gateway``: the gateway under uvicorn, with its signals and its certificate."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import ssl
import threading
from asyncio import sslproto
from collections.abc import Iterator
from pathlib import Path
from socket import socket

import uvicorn

from ezadmin_cmdb import own
from ezadmin_cmdb.app import create_core
from ezadmin_cmdb.gateway.app import Gateway
from ezadmin_cmdb.settings import Settings, SettingsError
from ezadmin_wire import WireError
from ezadmin_wire.signing import VerifyKey

_log = logging.getLogger(__name__)
GRACE_SECONDS = 4
CERTIFICATE_SECONDS = 10.0
TLS_BUFFER = 16 << 10
"""asyncio keeps a buffer of 256 KiB for each TLS connection: more than a gigabyte for 5,000 that mostly wait."""


class _Server(uvicorn.Server):
    """uvicorn, whose end begins with an answer to all polls that wait."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM is an order to end, and this program then ends with status 0; uvicorn would kill itself with it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        loop.add_signal_handler(signal.SIGHUP, self._renew)
        yield

    def _end(self) -> None:
        self.should_exit = True

    def _renew(self) -> None:
        gateway = self._gateway.settings.gateway
        if self.config.ssl is None or gateway.cert_file is None or gateway.key_file is None:
            return
        try:
            self.config.ssl.load_cert_chain(gateway.cert_file, gateway.key_file)
            _log.info("the certificate is read anew: new connections meet it")
        except (OSError, ssl.SSLError) as error:
            _log.error("the certificate %s cannot be used, the one of before stays: %s", gateway.cert_file, error)

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Listen, and look after the certificate."""
        await super().startup(sockets)
        if self.should_exit:
            return
        ports = [one.getsockname() for server in self.servers for one in server.sockets]
        _log.info("started", extra={"fields": {"listens": [f"{port[0]}:{port[1]}" for port in ports]}})
        self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        gateway = self._gateway.settings.gateway
        before = _stamp(gateway.cert_file), _stamp(gateway.key_file)
        while gateway.cert_file is not None:
            await asyncio.sleep(CERTIFICATE_SECONDS)
            found = _stamp(gateway.cert_file), _stamp(gateway.key_file)
            if found != before:
                before = found
                self._renew()

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Answer the polls, then end as uvicorn does."""
        self._watcher.cancel()
        _log.info("ending: %d polls are answered", self._gateway.polls.count)
        self._gateway.polls.stop()
        await super().shutdown(sockets)


def _stamp(path: Path | None) -> tuple[int, int] | None:
    try:
        found = None if path is None else path.stat()
    except OSError:
        return None
    return None if found is None else (found.st_mtime_ns, found.st_ino)


def config_key(settings: Settings) -> VerifyKey:
    """The public key of config records. Raises SettingsError."""
    text = settings.gateway.config_public_key
    if text is None:
        return VerifyKey(settings.signing_key().public)
    try:
        return VerifyKey.from_hex(text)
    except WireError as error:
        raise SettingsError(f"[gateway] config_public_key: {error}") from error


def run(settings: Settings) -> int:
    """Serve until SIGTERM; returns the exit status. Raises SettingsError before anything is started."""
    given = settings.gateway
    core = create_core(settings)
    gateway = Gateway(settings, core, config_key(settings))
    for file in (given.cert_file, given.key_file, given.ca_file):
        if file is not None and not file.is_file():
            raise SettingsError(f"[gateway]: {file} is not there")
    sslproto.SSLProtocol.max_size = TLS_BUFFER
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    config = uvicorn.Config(
        gateway.application(),
        host=given.host,
        port=given.port,
        http="httptools",
        ws="websockets-sansio",
        ws_max_size=64 << 10,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # who is believed is our own question
        backlog=4096,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_SECONDS,
        ssl_certfile=given.cert_file,
        ssl_keyfile=given.key_file,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"[gateway]: cert_file and key_file cannot be used: {error}") from error
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    producer = own.start(core, settings, "ezadmin-cmdb gateway")
    server = _Server(config, gateway)
    try:
        asyncio.run(server.serve())
    except SystemExit as error:  # uvicorn cannot listen; it has said why
        return int(error.code or 0)
    finally:
        if producer is not None:
            producer.stop(1.0)
    _log.info("ended")
    status = 0 if server.started else 1
    if any(not one.daemon for one in threading.enumerate() if one is not threading.main_thread()):
        logging.shutdown()
        os._exit(status)  # a thread hangs in a connection: nothing that it could still bring is waited for
    return status
