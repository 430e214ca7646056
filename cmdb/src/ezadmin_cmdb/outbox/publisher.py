"""The part of the worker that brings the outbox to Kafka: signed, in order of revisions, until Kafka acknowledged it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flask import Flask
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ezadmin_cmdb.database import db, unit_of_work
from ezadmin_cmdb.outbox import services
from ezadmin_cmdb.outbox.services import Entry
from ezadmin_cmdb.settings import Settings
from ezadmin_cmdb.threads import Part
from ezadmin_wire import WireError
from ezadmin_wire import config as wire
from ezadmin_wire.fields import load
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.signing import SigningKey, VerifyKey

_log = logging.getLogger(__name__)
POLL_SECONDS = 0.3
"""How often the outbox is looked into: what was committed is in Kafka within a second."""
COMPARE_SECONDS = 60.0
"""How often the topic is compared with the database."""
RETRY_SECONDS = 2.0
ACKNOWLEDGE_SECONDS = 10


@dataclass(frozen=True)
class Held:
    """What the topic holds under a key: the highest ``revision`` that readers believed, and the ``value`` that compaction
    will leave, empty for one that nobody believes."""

    revision: int
    value: bytes


class Publisher(Part):
    """Publishes until ``stopping`` is set. Only one process at a time does; others wait for their turn."""

    def __init__(self, app: Flask, settings: Settings, key: SigningKey, stopping: threading.Event) -> None:
        super().__init__("publisher", stopping)
        self._app = app
        self._settings = settings
        self._topic = settings.names.config
        self._key = key
        self._producer: Any = None
        self._compared = -COMPARE_SECONDS

    def work(self) -> None:
        """Publish, and try again what fails."""
        waiting = False
        try:
            while not self.stopping.is_set():
                try:
                    self._round()
                    pause = POLL_SECONDS
                    if waiting:
                        _log.info("configuration is published again")
                    waiting = False
                except (KafkaError, DBAPIError, PoolTimeout, TopicMissing) as error:
                    if not waiting:
                        why = self._settings.kafka.trouble() if isinstance(error, KafkaError) else ""
                        _log.warning(
                            "configuration is not published, tried again each %g s: %s", RETRY_SECONDS, why or error
                        )
                    waiting = True
                    pause = RETRY_SECONDS
                    self._disconnect()
                self.stopping.wait(pause)
        finally:
            self._disconnect()

    def _round(self) -> None:
        with self._app.app_context(), self._alone() as mine:
            if not mine:
                return
            if time.monotonic() - self._compared >= COMPARE_SECONDS:
                self._compare()
                self._compared = time.monotonic()
            with unit_of_work():
                waiting = services.entries(unpublished_only=True)
            if waiting:
                self._publish(waiting)

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Two publishers could write revisions in the wrong order. The lock ends with its connection."""
        name = f"{db.engine.url.database}.publisher"[:64]
        with db.engine.connect() as connection:
            mine = connection.scalar(text("SELECT GET_LOCK(:name, 0)"), {"name": name}) == 1
            connection.commit()
            try:
                yield mine
            finally:
                if mine:
                    connection.execute(text("SELECT RELEASE_LOCK(:name)"), {"name": name})
                    connection.commit()

    def _publish(self, entries: list[Entry]) -> None:
        if self._producer is None:
            self._producer = KafkaProducer(
                **self._settings.kafka.options(),
                acks="all",
                max_request_size=2 << 20,
                request_timeout_ms=5_000,
                delivery_timeout_ms=ACKNOWLEDGE_SECONDS * 1000,
                max_block_ms=5_000,
                bootstrap_timeout_ms=3_000,
            )
        futures = [(entry, self._send(entry)) for entry in entries]
        for entry, future in futures:
            future.get(timeout=ACKNOWLEDGE_SECONDS + 2)
            with unit_of_work():
                services.mark_published(entry.key, entry.revision)
            _log.info("published %s revision %d", entry.key, entry.revision)

    def _send(self, entry: Entry) -> Any:
        if entry.body is None:
            return self._producer.send(self._topic, key=entry.key.encode(), value=None)
        record = load(wire.record_type(entry.key), entry.body.encode())
        key, headers, value = wire.encode(self._key, entry.key, entry.revision, record)
        return self._producer.send(self._topic, key=key, value=value, headers=headers)

    def _compare(self) -> None:
        """Make the topic hold what the database says, and nothing else.

        What is missing or different gets a new revision: readers ignore one that they have met before.
        """
        with unit_of_work():
            services.ensure_rules()
        held = read_topic(self._settings.kafka, self._topic, self._key)
        with unit_of_work():
            known = {entry.key: entry for entry in services.entries(unpublished_only=False)}
            for key, entry in known.items():
                found = held.get(key)
                if entry.body is None:
                    if found is not None:
                        services.renew(key, found.revision)
                        _log.warning("%s stands in the topic and should not: deleting it", key)
                    continue
                right = found is not None and found.value == entry.body.encode() and found.revision == entry.revision
                if not right and (entry.published_revision >= entry.revision or _ahead(found, entry)):
                    services.renew(key, found.revision if found else 0)
                    _log.warning("%s in the topic is not what the database says: publishing it again", key)
            for key in held.keys() - known.keys():
                _log.warning("%s stands in the topic and is not in the database: deleting it", key)
                # its revision is kept: readers ignore a lower one, should the record come again
                services.forget(key, held[key].revision)

    def _disconnect(self) -> None:
        if self._producer is not None:
            self._producer.close(timeout=1)
            self._producer = None


def _ahead(found: Held | None, entry: Entry) -> bool:
    """The topic is further than the database: the database is an older one or a new one."""
    return found is not None and found.revision >= entry.revision


class TopicMissing(Exception):
    """The config topic does not exist."""


def read_topic(kafka: KafkaConnection, topic: str, key: SigningKey) -> dict[str, Held]:
    """What stands in the config topic now; only what is signed by ``key`` is believed.

    Raises KafkaError, TopicMissing.
    """
    consumer = KafkaConsumer(
        **kafka.options(),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        bootstrap_timeout_ms=3_000,
        request_timeout_ms=5_000,
    )
    held: dict[str, Held] = {}
    try:
        partition = TopicPartition(topic, 0)
        if not consumer.partitions_for_topic(topic):
            raise TopicMissing(f"topic {topic} does not exist; run: ezadmin-pipeline setup")
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        end = consumer.end_offsets([partition])[partition]
        while consumer.position(partition) < end:
            for message in consumer.poll(timeout_ms=500).get(partition, []):
                _take(held, message, VerifyKey(key.public))
    finally:
        consumer.close()
    return held


def _take(held: dict[str, Held], message: Any, key: VerifyKey) -> None:
    name = (message.key or b"").decode("utf-8", "replace")
    if not message.value:
        held.pop(name, None)
        return
    before = held[name].revision if name in held else 0
    try:
        revision = wire.decode(message.key, message.headers, message.value, [key]).revision
        held[name] = Held(max(before, revision), message.value)
    except WireError:
        held[name] = Held(before, b"")
