"""The part of the worker that sends deliveries: a few webhooks at a time, each one's deliveries one after the other."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

from flask import Flask
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ezadmin_cmdb.database import unit_of_work
from ezadmin_cmdb.settings import Settings
from ezadmin_cmdb.threads import Part
from ezadmin_cmdb.webhooks import services

_log = logging.getLogger(__name__)
POLL_SECONDS = 0.5
RETRY_SECONDS = 2.0
AT_A_TIME = 4
CLEAN_SECONDS = 3600.0


class WebhookSender(Part):
    """Sends until ``stopping`` is set. Several workers share the webhooks: each is one's own while it is worked on."""

    def __init__(self, app: Flask, settings: Settings, stopping: threading.Event) -> None:
        super().__init__("webhooks", stopping)
        self._app = app
        self._busy: dict[int, Future[None]] = {}
        self._cleaned = -CLEAN_SECONDS

    def work(self) -> None:
        """Look for what is due."""
        pool = ThreadPoolExecutor(AT_A_TIME, "webhook")
        try:
            while not self.stopping.is_set():
                pause = POLL_SECONDS
                try:
                    self._round(pool)
                except (DBAPIError, PoolTimeout) as error:
                    _log.warning("webhooks wait for the database: %s", error)
                    pause = RETRY_SECONDS
                self.stopping.wait(pause)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _round(self, pool: ThreadPoolExecutor) -> None:
        for webhook_id, future in list(self._busy.items()):
            if future.done():
                del self._busy[webhook_id]
                if error := future.exception():
                    _log.error("a webhook could not be worked on", exc_info=error)
        with self._app.app_context(), unit_of_work():
            for webhook_id in services.due():
                if len(self._busy) >= AT_A_TIME:
                    break
                if webhook_id not in self._busy:
                    self._busy[webhook_id] = pool.submit(self._send, webhook_id)
            if time.monotonic() - self._cleaned > CLEAN_SECONDS:
                services.forget_old()
                self._cleaned = time.monotonic()

    def _send(self, webhook_id: int) -> None:
        with self._app.app_context():
            with unit_of_work():
                if not services.claim(webhook_id):
                    return
            while not self.stopping.is_set():
                with unit_of_work():
                    delivery = services.next_due(webhook_id)
                    if delivery is None or not delivery.webhook.active:
                        services.release(webhook_id)
                        return
                    name = delivery.webhook.name
                    going_on = services.send(delivery)
                    notice = None if delivery.webhook.active else delivery.webhook.notice
                    why = delivery.error or f"it answers {delivery.answer_status}"
                if notice is not None:
                    _log.error("webhook %s is %s", name, notice)
                if not going_on:
                    _log.warning("webhook %s: delivery %d is not taken: %s", name, delivery.id, why)
                    return
            with unit_of_work():
                services.release(webhook_id)
