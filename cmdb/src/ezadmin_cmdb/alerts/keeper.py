"""The part of the worker that keeps alerts true: hosts that are down, maintenance, acknowledgements that are over."""

from __future__ import annotations

import logging
import threading
import time

from flask import Flask
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ezadmin_cmdb.alerts import states
from ezadmin_cmdb.database import unit_of_work
from ezadmin_cmdb.notifications import engine
from ezadmin_cmdb.threads import Part

_log = logging.getLogger(__name__)
SECONDS = 2.0
FORGET_SECONDS = 3600.0


class AlertKeeper(Part):
    """Looks every few seconds. Two of them do no harm: what one has changed the other finds changed."""

    def __init__(self, app: Flask, stopping: threading.Event) -> None:
        super().__init__("alert-keeper", stopping)
        self._app = app
        self._next_forget = 0.0

    def work(self) -> None:
        """Look, and try again what fails."""
        while not self.stopping.wait(SECONDS):
            try:
                with self._app.app_context():
                    keep()
                    if time.monotonic() >= self._next_forget:
                        with unit_of_work():
                            forgotten = states.forget()
                        if not forgotten:
                            self._next_forget = time.monotonic() + FORGET_SECONDS
            except (DBAPIError, PoolTimeout) as error:
                _log.warning("alerts wait for the database: %s", error)


def keep() -> None:
    """One round, in transactions of its own.

    Rules see only alerts that were there before it was looked which hosts are down or in maintenance: nobody knows that yet of
    one that comes meanwhile.
    """
    with unit_of_work():
        changed = engine.changed()
        states.end_acknowledgements()
        states.note_hosts_down()
        states.note_windows()
    with unit_of_work():
        engine.settle(changed)
    with unit_of_work():
        engine.write()
