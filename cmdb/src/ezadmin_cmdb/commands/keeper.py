"""The part of the worker that ends commands of which nothing more can come, deletes those that are old, and keeps true which
configuration is wanted.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import timedelta

from flask import Flask
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ezadmin_cmdb.commands import states
from ezadmin_cmdb.configs import services as configs
from ezadmin_cmdb.database import unit_of_work, utc_now
from ezadmin_cmdb.threads import Part

_log = logging.getLogger(__name__)
SECONDS = 10.0
FORGET_SECONDS = 3600.0


class CommandKeeper(Part):
    """Looks every few seconds. Two of them do no harm: what one has ended the other finds ended."""

    def __init__(self, app: Flask, keep: timedelta | None, stopping: threading.Event) -> None:
        """``keep``: for how long a command is kept after it was made, None for ever."""
        super().__init__("command-keeper", stopping)
        self._app = app
        self._keep = keep
        self._next_forget = 0.0

    def work(self) -> None:
        """Look, and try again what fails."""
        while not self.stopping.wait(SECONDS):
            try:
                with self._app.app_context():
                    with unit_of_work():
                        ended = states.expire()
                    with unit_of_work():
                        changed = configs.refresh_wanted()
                    self._forget()
                if ended or changed:
                    _log.info("commands ended by rule: %d; other configuration wanted on %d hosts", ended, changed)
            except (DBAPIError, PoolTimeout) as error:
                _log.warning("commands wait for the database: %s", error)

    def _forget(self) -> None:
        """Delete what is older than is kept, some at once; the next hour, if that was all."""
        if self._keep is None or time.monotonic() < self._next_forget:
            return
        with unit_of_work():
            rows, commands = states.forget(utc_now() - self._keep)
        if rows:
            _log.info("deleted for their age: %d commands, %d states", commands, rows)
        else:
            self._next_forget = time.monotonic() + FORGET_SECONDS
