"""The part of the worker that applies the rules of states."""

from __future__ import annotations

import logging
import threading

from flask import Flask
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ezadmin_cmdb.database import db
from ezadmin_cmdb.hosts import states
from ezadmin_cmdb.hosts.consumer import StateConsumer
from ezadmin_cmdb.threads import Part

_log = logging.getLogger(__name__)
SECONDS = 15.0


class StateKeeper(Part):
    """Applies the rules every few seconds, as long as reports come in without delay.

    While Kafka or the worker was away nobody could be heard: a host is silent only if it could have been heard all the time.
    """

    def __init__(self, app: Flask, consumer: StateConsumer, stopping: threading.Event) -> None:
        super().__init__("state-keeper", stopping)
        self._app = app
        self._consumer = consumer

    def work(self) -> None:
        """Apply the rules, and try again what fails."""
        with self._app.app_context():
            patience = states.settings().silent_after.total_seconds()
        while not self.stopping.wait(min(SECONDS, patience / 4)):
            if self._consumer.heard_for() < patience:
                continue
            with self._app.app_context():
                try:
                    if done := states.apply():
                        _log.info("states of hosts changed by rule: %d", done)
                except (DBAPIError, PoolTimeout) as error:
                    db.session.rollback()
                    _log.warning("states of hosts wait for the database: %s", error)
