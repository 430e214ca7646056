"""The part of the worker that makes an event (dataset ``cmdb.audit``) of each entry of the audit log.

The entries are their own outbox: an entry that is committed is sent, one of a request that was rolled back never was there. A
line's number in the stream is that of its entry, so what is sent again after a crash is the same event, and is there once.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from flask import Flask
from kafka import KafkaProducer
from kafka.errors import KafkaError
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ezadmin_cmdb import own
from ezadmin_cmdb.audit.models import AuditEntry, AuditStream
from ezadmin_cmdb.audit.services import FAILURE
from ezadmin_cmdb.database import db, unit_of_work
from ezadmin_cmdb.hosts.services import verify_key
from ezadmin_cmdb.settings import Settings
from ezadmin_cmdb.threads import Part
from ezadmin_wire import batch
from ezadmin_wire.ids import new_epoch
from ezadmin_wire.times import format_time, now

_log = logging.getLogger(__name__)
DATASET = "cmdb.audit"
STREAM = "audit"
POLL_SECONDS = 0.5
RETRY_SECONDS = 2.0
BATCH_LINES = 200
MAX_DETAILS = 1_000
"""Of an event, characters; the entry has all, and its hash stands in the event."""


class AuditSender(Part):
    """Sends until ``stopping`` is set; of several workers one does."""

    def __init__(self, app: Flask, settings: Settings, stopping: threading.Event) -> None:
        super().__init__("audit", stopping)
        self._app = app
        self._settings = settings
        self._identity = own.identity(settings)
        self._producer: Any = None

    def work(self) -> None:
        """Send, and try again what fails."""
        waiting = False
        try:
            while not self.stopping.is_set():
                pause = POLL_SECONDS
                try:
                    with self._app.app_context(), self._alone() as mine:
                        while mine and not self.stopping.is_set() and self._round():
                            pass
                    waiting = False
                except (KafkaError, DBAPIError, PoolTimeout) as error:
                    if not waiting:
                        why = self._settings.kafka.trouble() if isinstance(error, KafkaError) else ""
                        _log.warning("entries of the audit log are not sent as events, tried again: %s", why or error)
                    waiting = True
                    pause = RETRY_SECONDS
                    self._disconnect()
                self.stopping.wait(pause)
        finally:
            self._disconnect()

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """The lock ends with its connection."""
        name = f"{db.engine.url.database}.audit"[:64]
        with db.engine.connect() as connection:
            mine = connection.scalar(text("SELECT GET_LOCK(:name, 0)"), {"name": name}) == 1
            connection.commit()
            try:
                yield mine
            finally:
                if mine:
                    connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": name})
                    connection.commit()

    def _round(self) -> bool:
        """Send the next entries; whether there were some. Nothing before the key is known: it would be dead letters."""
        known = self._identity
        with unit_of_work():
            if verify_key(known.host_id, known.key.kid) is None:
                return False
            stream = db.session.get(AuditStream, 1)
            if stream is None:
                stream = AuditStream(id=1, epoch=new_epoch(), sent=0)
                db.session.add(stream)
                db.session.flush()
            query = select(AuditEntry).where(AuditEntry.id > stream.sent).order_by(AuditEntry.id).limit(BATCH_LINES)
            entries = db.session.scalars(query).all()
            if not entries:
                return False
            self._send(stream.epoch, entries)
            stream.sent = entries[-1].id
        return True

    def _send(self, epoch: str, entries: Sequence[AuditEntry]) -> None:
        times = [format_time(entry.time) for entry in entries]
        headers, value = batch.encode(
            self._identity.key,
            host=self._identity.host_id,
            topic=self._settings.names.logs,
            stream=STREAM,
            epoch=epoch,
            seq=entries[0].id,
            lines=[line(entry) for entry in entries],
            dataset=DATASET,
            tmin=min(times),
            tmax=max(times),
            sent=now(),
            count=True,
        )
        if self._producer is None:
            self._producer = KafkaProducer(
                **self._settings.kafka.options(),
                acks="all",
                compression_type="gzip",
                allow_auto_create_topics=False,
                request_timeout_ms=5_000,
                delivery_timeout_ms=10_000,
                max_block_ms=5_000,
                bootstrap_timeout_ms=3_000,
            )
        key = self._identity.host_id.encode()
        self._producer.send(self._settings.names.logs, key=key, value=value, headers=headers).get(timeout=12)

    def _disconnect(self) -> None:
        if self._producer is not None:
            self._producer.close(timeout=1)
            self._producer = None


def line(entry: AuditEntry) -> bytes:
    """The event of an entry."""
    moment = format_time(entry.time)
    what = entry.object_name or entry.object_id
    about = (
        f" {entry.object_type} {what}"
        if entry.object_type and what
        else f" {entry.object_type}"
        if entry.object_type
        else ""
    )
    place = f" from {entry.address}" if entry.address else ""
    said = {
        "audit.number": entry.id, "audit.hash": entry.hash, "audit.kind": entry.kind, "event.action": entry.action,
        "event.outcome": entry.outcome, "user.name": entry.actor, "source": entry.source, "source.ip": entry.address,
        "object.type": entry.object_type, "object.id": entry.object_id, "object.name": entry.object_name,
        "http.request.id": entry.request_id, "details": entry.details[:MAX_DETAILS],
    }  # fmt: skip
    document = {
        "@timestamp": moment,
        "event.dataset": DATASET,
        "event.created": moment,
        "log.level": "warning" if entry.outcome == FAILURE else "info",
        "log.logger": "ezadmin_cmdb.audit",
        "message": f"{entry.actor}: {entry.kind} {entry.action}{about}{place}: {entry.outcome}",
        "process.name": "ezadmin-cmdb",
        "fields": {name: str(value) for name, value in said.items() if value is not None},
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
