"""``ezadmin-cmdb web``: the application under gunicorn."""

from __future__ import annotations

import ssl
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from ezadmin_cmdb import own
from ezadmin_cmdb.app import create_app
from ezadmin_cmdb.settings import Settings, SettingsError
from ezadmin_cmdb.status import metrics

GRACE_SECONDS = 8


class Log(Logger):  # type: ignore[misc]
    """gunicorn's own lines go the way of all others: to the root logger."""

    def setup(self, cfg: Any) -> None:
        """Nothing but that; each request is logged by the application."""
        self.error_log.propagate = True


def _count_apart(server: Any, worker: Any) -> None:
    """Each process has its own place among the figures of requests."""
    metrics.REQUESTS.place = worker.age


class Server(BaseApplication):  # type: ignore[misc]
    """gunicorn with threads; each worker process makes its own application, so its own connections."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        """gunicorn's settings, of ours."""
        web = self._settings.web
        given: dict[str, Any] = {
            "bind": [f"{web.host}:{web.port}"],
            "workers": web.workers,
            "threads": web.threads,
            "worker_class": "gthread",
            "timeout": 60,
            "graceful_timeout": GRACE_SECONDS,
            "proc_name": "ezadmin-cmdb web",
            "control_socket_disable": True,
            "logger_class": Log,
            "post_fork": _count_apart,
            # read by each new process: after SIGHUP, which gunicorn answers with new processes, the renewed ones
            "certfile": None if web.cert_file is None else str(web.cert_file),
            "keyfile": None if web.key_file is None else str(web.key_file),
        }
        for name, value in given.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Flask:
        """The application of one worker process."""
        app = create_app(self._settings)
        own.start(app, self._settings, "ezadmin-cmdb web")
        return app


def run(settings: Settings) -> None:
    """Serve until SIGTERM. Raises SettingsError before anything is started."""
    settings.secret_key()  # made once, before the processes that share it
    web = settings.web
    if web.cert_file is not None:
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(web.cert_file, web.key_file)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"[web]: cert_file and key_file cannot be used: {error}") from error
    Server(settings).run()
