"""What a part of the worker does that sends what lies in a table: a few receivers at a time, for each one after the other."""

from __future__ import annotations

import logging
import threading
import time
from abc import abstractmethod
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from flask import Flask
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ezadmin_cmdb.database import unit_of_work
from ezadmin_cmdb.threads import Part

_log = logging.getLogger(__name__)
POLL_SECONDS = 0.5
RETRY_SECONDS = 2.0
AT_A_TIME = 4
CLEAN_SECONDS = 3600.0


class DeliverySender(Part):
    """Sends until ``stopping`` is set. Several workers share the receivers: each is one's own while it is worked on."""

    what: str
    """What its receivers are called in the log."""

    def __init__(self, app: Flask, stopping: threading.Event) -> None:
        super().__init__(self.what, stopping)
        self._app = app
        self._busy: dict[int, Future[None]] = {}
        self._cleaned = -CLEAN_SECONDS

    @abstractmethod
    def due(self) -> list[int]:
        """The receivers that have something to be told now."""

    @abstractmethod
    def claim(self, receiver_id: int) -> bool:
        """Take a receiver for this process; False if another one has it."""

    @abstractmethod
    def next_due(self, receiver_id: int) -> Any:
        """What waits longest for a receiver that is turned on, else None."""

    @abstractmethod
    def send(self, delivery: Any) -> tuple[bool, str | None]:
        """Try one; returns whether to go on with others, and what the log is told if not."""

    @abstractmethod
    def release(self, receiver_id: int) -> None:
        """Let others work on a receiver."""

    @abstractmethod
    def forget_old(self) -> None:
        """Delete what is done and old."""

    def work(self) -> None:
        """Look for what is due."""
        pool = ThreadPoolExecutor(AT_A_TIME, self.what)
        try:
            while not self.stopping.is_set():
                pause = POLL_SECONDS
                try:
                    self._round(pool)
                except (DBAPIError, PoolTimeout) as error:
                    _log.warning("%s wait for the database: %s", self.what, error)
                    pause = RETRY_SECONDS
                self.stopping.wait(pause)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _round(self, pool: ThreadPoolExecutor) -> None:
        for receiver_id, future in list(self._busy.items()):
            if future.done():
                del self._busy[receiver_id]
                if error := future.exception():
                    _log.error("%s: a receiver could not be worked on", self.what, exc_info=error)
        with self._app.app_context(), unit_of_work():
            for receiver_id in self.due():
                if len(self._busy) >= AT_A_TIME:
                    break
                if receiver_id not in self._busy:
                    self._busy[receiver_id] = pool.submit(self._send, receiver_id)
            if time.monotonic() - self._cleaned > CLEAN_SECONDS:
                self.forget_old()
                self._cleaned = time.monotonic()

    def _send(self, receiver_id: int) -> None:
        with self._app.app_context():
            with unit_of_work():
                if not self.claim(receiver_id):
                    return
            while not self.stopping.is_set():
                with unit_of_work():
                    delivery = self.next_due(receiver_id)
                    if delivery is None:
                        self.release(receiver_id)
                        return
                    going_on, why = self.send(delivery)
                if not going_on:
                    _log.warning("%s: %s", self.what, why)
                    return
            with unit_of_work():
                self.release(receiver_id)
