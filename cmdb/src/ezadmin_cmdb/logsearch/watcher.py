"""The part of the worker that looks at searches which shall raise alerts, each of them once a minute."""

from __future__ import annotations

import logging
import threading

from flask import Flask
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ezadmin_cmdb.database import unit_of_work
from ezadmin_cmdb.elastic import Elastic
from ezadmin_cmdb.logsearch import alerting
from ezadmin_cmdb.settings import Settings
from ezadmin_cmdb.threads import Part

_log = logging.getLogger(__name__)
SECONDS = 2.0


class SearchWatcher(Part):
    """Looks which are due. Several workers share them: each one is claimed by one of them."""

    def __init__(self, app: Flask, settings: Settings, stopping: threading.Event) -> None:
        super().__init__("search-watcher", stopping)
        self._app = app
        self._names = settings.names
        self._elastic = Elastic(settings.elasticsearch)

    def work(self) -> None:
        """Until the worker ends; try again what fails."""
        while not self.stopping.wait(SECONDS):
            try:
                with self._app.app_context():
                    while not self.stopping.is_set() and self.watch_next():
                        pass
            except (DBAPIError, PoolTimeout) as error:
                _log.warning("alerts on searches wait for the database: %s", error)
        self._elastic.close()

    def watch_next(self) -> bool:
        """Look at the one that is due first; returns whether there was one."""
        with unit_of_work():
            found = alerting.claim()
        if found is None:
            return False
        with unit_of_work():
            alerting.watch(self._elastic, self._names, found)
        return True
