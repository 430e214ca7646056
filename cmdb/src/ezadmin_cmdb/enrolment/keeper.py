"""The part of the worker that ends keys which were replaced."""

from __future__ import annotations

import logging
import threading

from flask import Flask
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ezadmin_cmdb.database import unit_of_work
from ezadmin_cmdb.enrolment import services
from ezadmin_cmdb.threads import Part

_log = logging.getLogger(__name__)
SECONDS = 15.0


class KeyKeeper(Part):
    """Revokes keys when their time is over, until ``stopping`` is set. Two of them do no harm."""

    def __init__(self, app: Flask, stopping: threading.Event) -> None:
        super().__init__("key-keeper", stopping)
        self._app = app

    def work(self) -> None:
        """Look every few seconds, and try again what fails."""
        while not self.stopping.wait(SECONDS):
            try:
                with self._app.app_context(), unit_of_work():
                    if done := services.end_keys():
                        _log.info("keys that were replaced are revoked: %d", done)
            except (DBAPIError, PoolTimeout) as error:
                _log.warning("keys that were replaced wait for the database: %s", error)
