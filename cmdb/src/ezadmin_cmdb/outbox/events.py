"""Rows of a table as events: the rows are their own outbox.

A row that is committed is sent, one of a request that was rolled back never was there. A line's number in the stream is the
id of its row, so what is sent again after a crash is the same event, and is there once.
"""

from __future__ import annotations

import abc
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from flask import Flask
from kafka import KafkaProducer
from kafka.errors import KafkaError
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ezadmin_cmdb import own
from ezadmin_cmdb.database import db, unit_of_work
from ezadmin_cmdb.settings import Settings
from ezadmin_cmdb.threads import Part
from ezadmin_wire import batch
from ezadmin_wire.ids import new_epoch
from ezadmin_wire.times import format_time, now

_log = logging.getLogger(__name__)
RETRY_SECONDS = 2.0
BATCH_LINES = 200


class Row(Protocol):
    """A row that becomes an event: ids grow, from 1 on; ``time`` is when it happened."""

    id: Any
    time: Any


RowType = TypeVar("RowType", bound=Row)


class EventSender(Part, abc.ABC, Generic[RowType]):
    """Sends what is new each ``poll_seconds`` until ``stopping`` is set; of several workers one does.

    ``state`` is a model of one row: ``epoch`` of the stream, and ``sent``, the id of the last row that Kafka has.
    """

    rows: ClassVar[type[Any]]
    state: ClassVar[type[Any]]
    dataset: ClassVar[str]
    stream: ClassVar[str]
    poll_seconds: ClassVar[float]

    def __init__(self, app: Flask, settings: Settings, stopping: threading.Event) -> None:
        super().__init__(f"events of {self.dataset}", stopping)
        self._app = app
        self._settings = settings
        self._identity = own.identity(settings)
        self._producer: Any = None

    @abc.abstractmethod
    def line(self, row: RowType) -> bytes:
        """The event of a row."""

    def prepare(self) -> None:
        """Called before what is new is looked for, within a unit of work of its own."""

    def work(self) -> None:
        """Send, and try again what fails."""
        waiting = False
        try:
            while not self.stopping.is_set():
                pause = self.poll_seconds
                try:
                    with self._app.app_context(), self._alone() as mine:
                        if mine:
                            with unit_of_work():
                                self.prepare()
                            while not self.stopping.is_set() and self._round():
                                pass
                    waiting = False
                except (KafkaError, DBAPIError, PoolTimeout) as error:
                    if not waiting:
                        why = self._settings.kafka.trouble() if isinstance(error, KafkaError) else ""
                        _log.warning("events of %s are not sent, tried again: %s", self.dataset, why or error)
                    waiting = True
                    pause = max(pause, RETRY_SECONDS)
                    self._disconnect()
                self.stopping.wait(pause)
        finally:
            self._disconnect()

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether this worker is the one. The lock ends with its connection."""
        name = f"{db.engine.url.database}.{self.stream}"[:64]
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
        """Send the next rows; whether there were some. Nothing before we are believed: it would be dead letters."""
        with unit_of_work():
            if not own.believed(self._identity):
                return False
            state = db.session.get(self.state, 1)
            if state is None:
                state = self.state(id=1, epoch=new_epoch(), sent=0)
                db.session.add(state)
                db.session.commit()  # what is sent under it must never be sent under another
            query = select(self.rows).where(self.rows.id > state.sent).order_by(self.rows.id).limit(BATCH_LINES)
            found: Sequence[RowType] = db.session.scalars(query).all()
            if not found:
                return False
            self._send(state.epoch, found)
            state.sent = found[-1].id
        return True

    def _send(self, epoch: str, rows: Sequence[RowType]) -> None:
        times = [format_time(row.time) for row in rows]
        headers, value = batch.encode(
            self._identity.key,
            host=self._identity.host_id,
            topic=self._settings.names.logs,
            stream=self.stream,
            epoch=epoch,
            seq=rows[0].id,
            lines=[self.line(row) for row in rows],
            dataset=self.dataset,
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
