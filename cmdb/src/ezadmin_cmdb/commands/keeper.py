"""The part of the worker that ends commands of which nothing more can come, and keeps true which configuration is wanted."""

from __future__ import annotations

import logging
import threading

from flask import Flask
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ezadmin_cmdb.commands import states
from ezadmin_cmdb.configs import services as configs
from ezadmin_cmdb.database import unit_of_work
from ezadmin_cmdb.threads import Part

_log = logging.getLogger(__name__)
SECONDS = 10.0


class CommandKeeper(Part):
    """Looks every few seconds. Two of them do no harm: what one has ended the other finds ended."""

    def __init__(self, app: Flask, stopping: threading.Event) -> None:
        super().__init__("command-keeper", stopping)
        self._app = app

    def work(self) -> None:
        """Look, and try again what fails."""
        while not self.stopping.wait(SECONDS):
            try:
                with self._app.app_context():
                    with unit_of_work():
                        ended = states.expire()
                    with unit_of_work():
                        changed = configs.refresh_wanted()
                if ended or changed:
                    _log.info("commands ended by rule: %d; other configuration wanted on %d hosts", ended, changed)
            except (DBAPIError, PoolTimeout) as error:
                _log.warning("commands wait for the database: %s", error)
