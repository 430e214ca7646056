"""The part of the worker that tells what ends soon: an event (dataset ``cmdb.reminder``) at each threshold, once.

A reminder is a row before it is an event, and its id is the line's number in the stream: what is sent again after a crash is
the same event, and is there once.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence
from typing import Any

from flask import Flask
from kafka import KafkaProducer
from kafka.errors import KafkaError
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ezadmin_cmdb import own
from ezadmin_cmdb.actor import cli_actor
from ezadmin_cmdb.database import db, unit_of_work
from ezadmin_cmdb.datacenter import reminders
from ezadmin_cmdb.datacenter.reminders import Reminder, ReminderStream
from ezadmin_cmdb.hosts.services import verify_key
from ezadmin_cmdb.settings import Settings
from ezadmin_cmdb.threads import Part
from ezadmin_wire import batch
from ezadmin_wire.ids import new_epoch
from ezadmin_wire.times import format_time, now

_log = logging.getLogger(__name__)
DATASET = "cmdb.reminder"
STREAM = "reminder"
SECONDS = 30.0
BATCH_LINES = 200
SUBJECTS = {
    "contract": "contract {} ends on {}", "notice": "contract {} must be cancelled by {}",
    "customer": "the contract of customer {} ends on {}", "host": "the warranty of host {} ends on {}",
    "device": "the warranty of device {} ends on {}",
}  # fmt: skip


class Reminding(Part):
    """Looks and tells until ``stopping`` is set; of several workers one does."""

    def __init__(self, app: Flask, settings: Settings, stopping: threading.Event) -> None:
        super().__init__("reminding", stopping)
        self._app = app
        self._settings = settings
        self._identity = own.identity(settings)
        self._producer: Any = None

    def work(self) -> None:
        """Look each half a minute, tell what is new, and try again what fails."""
        try:
            while not self.stopping.is_set():
                try:
                    with self._app.app_context():
                        self._round()
                except (KafkaError, DBAPIError, PoolTimeout) as error:
                    _log.warning("reminders are not told, tried again in %g s: %s", SECONDS, error)
                    self._disconnect()
                self.stopping.wait(SECONDS)
        finally:
            self._disconnect()

    def _round(self) -> None:
        name = f"{db.engine.url.database}.reminders"[:64]
        with db.engine.connect() as connection:  # the lock ends with its connection
            if connection.scalar(text("SELECT GET_LOCK(:name, 0)"), {"name": name}) != 1:
                return
            try:
                with unit_of_work():
                    reminders.note(reminders.endings(cli_actor("worker"), max(reminders.THRESHOLDS)))
                while not self.stopping.is_set() and self._tell():
                    pass
            finally:
                connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": name})
                connection.commit()

    def _tell(self) -> bool:
        """Send the next reminders; whether there were some. Nothing before the key is known: it would be dead letters."""
        with unit_of_work():
            if verify_key(self._identity.host_id, self._identity.key.kid) is None:
                return False
            stream = db.session.get(ReminderStream, 1)
            if stream is None:
                stream = ReminderStream(id=1, epoch=new_epoch(), sent=0)
                db.session.add(stream)
                db.session.commit()  # what is sent under it must never be sent under another
            query = select(Reminder).where(Reminder.id > stream.sent).order_by(Reminder.id).limit(BATCH_LINES)
            found = db.session.scalars(query).all()
            if not found:
                return False
            self._send(stream.epoch, found)
            stream.sent = found[-1].id
        return True

    def _send(self, epoch: str, found: Sequence[Reminder]) -> None:
        times = [format_time(one.time) for one in found]
        headers, value = batch.encode(
            self._identity.key, host=self._identity.host_id, topic=self._settings.names.logs, stream=STREAM, epoch=epoch,
            seq=found[0].id, lines=[line(one) for one in found], dataset=DATASET, tmin=min(times), tmax=max(times),
            sent=now(), count=True,
        )  # fmt: skip
        if self._producer is None:
            self._producer = KafkaProducer(
                **self._settings.kafka.options(), acks="all", allow_auto_create_topics=False, request_timeout_ms=5_000,
                delivery_timeout_ms=10_000, max_block_ms=5_000, bootstrap_timeout_ms=3_000,
            )  # fmt: skip
        key = self._identity.host_id.encode()
        self._producer.send(self._settings.names.logs, key=key, value=value, headers=headers).get(timeout=12)

    def _disconnect(self) -> None:
        if self._producer is not None:
            self._producer.close(timeout=1)
            self._producer = None


def line(one: Reminder) -> bytes:
    """The event of a reminder."""
    moment = format_time(one.time)
    message = SUBJECTS[one.kind].format(one.object_name, one.day.isoformat())
    when = "it is due or over" if one.threshold == 0 else f"within {one.threshold} days"
    said = {
        "reminder.kind": one.kind, "reminder.day": one.day.isoformat(), "reminder.threshold_days": one.threshold,
        "object.type": "contract" if one.kind == "notice" else one.kind, "object.id": one.object_id,
        "object.name": one.object_name,
    }  # fmt: skip
    document = {
        "@timestamp": moment,
        "event.dataset": DATASET,
        "event.created": moment,
        "log.level": "warning" if one.threshold <= 30 else "notice",
        "log.logger": "ezadmin_cmdb.reminders",
        "message": f"{message}: {when}",
        "process.name": "ezadmin-cmdb",
        "fields": {name: str(value) for name, value in said.items()},
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
