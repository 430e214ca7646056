"""Parts of the worker that store what agents say in a topic.

Offsets are committed after the database: what was not stored is read again, and what is read again changes nothing.
"""

from __future__ import annotations

import abc
import functools
import logging
import threading
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

from flask import Flask
from kafka import KafkaConsumer
from kafka.errors import CorruptRecordError, KafkaError, UnknownTopicOrPartitionError
from kafka.structs import OffsetAndMetadata, TopicPartition
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ezadmin_cmdb.database import db, unit_of_work
from ezadmin_cmdb.deadletters import DeadLetter, DeadLetters
from ezadmin_cmdb.hosts import services
from ezadmin_cmdb.settings import Settings
from ezadmin_cmdb.threads import Part
from ezadmin_wire import WireError, batch
from ezadmin_wire.unreadable import unreadable

_log = logging.getLogger(__name__)
RETRY_SECONDS = 1.0
RETRY_SECONDS_MAX = 15.0
BATCH_MESSAGES = 100
WAITING_MAX = 1000
"""Messages that may wait in Kafka while hosts still count as heard."""

Records = dict[TopicPartition, list[Any]]


class TopicConsumer(Part, abc.ABC):
    """Stores documents until ``stopping`` is set. ``group`` of consumers; ``what`` it reads, for its messages."""

    group: ClassVar[str]
    what: ClassVar[str]

    def __init__(self, app: Flask, settings: Settings, topic: str, stopping: threading.Event) -> None:
        super().__init__(f"{self.what}-consumer", stopping)
        self._app = app
        self._settings = settings
        self._topic = topic
        self._letters = DeadLetters(settings.kafka, settings.names.dlq)
        self._consumer: Any = None
        self._heard_since: float | None = None

    @abc.abstractmethod
    def store(self, host: str, line: bytes) -> None:
        """Store one document of a host. Raises WireError for one that cannot be."""

    def prepare(self, lines: Sequence[tuple[str, bytes]]) -> None:
        """Called before documents (host, line) are stored, within the same transaction."""

    def heard_for(self) -> float:
        """For how many seconds reports have been stored as they came, 0 while they wait."""
        since = self._heard_since
        return 0.0 if since is None else time.monotonic() - since

    def work(self) -> None:
        """Read and store, and try again what fails."""
        waiting = False
        try:
            while not self.stopping.is_set():
                try:
                    if self._consumer is None:
                        self._consumer = self._connect()
                    records = self._consumer.poll(timeout_ms=500, max_records=BATCH_MESSAGES)
                    if records:
                        self._store(records)
                    self._note_delay()
                    waiting = False
                except CorruptRecordError:
                    self._pass_over_unreadable()
                except KafkaError as error:
                    if not waiting:
                        why = self._settings.kafka.trouble()
                        _log.warning(
                            "%s are not read, tried again each %g s: %s", self.what, RETRY_SECONDS, why or error
                        )
                    waiting = True
                    self._heard_since = None
                    self._disconnect()
                    self.stopping.wait(RETRY_SECONDS)
        finally:
            self._disconnect()

    def _note_delay(self) -> None:
        places = self._consumer.assignment()
        ends = [self._consumer.highwater(place) for place in places]
        if None in ends or not places:
            return  # nothing was fetched yet: neither known to wait nor to be heard
        waiting = sum(end - self._consumer.position(place) for place, end in zip(places, ends, strict=True))
        if waiting > WAITING_MAX:
            self._heard_since = None
        elif self._heard_since is None:
            self._heard_since = time.monotonic()

    def _connect(self) -> Any:
        topic = self._topic
        consumer = KafkaConsumer(
            **self._settings.kafka.options(),
            group_id=self._settings.names.consumer_group(self.group),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=10_000,  # one that was killed holds its partitions up no longer than this
            heartbeat_interval_ms=3_000,
            max_partition_fetch_bytes=2 << 20,
            fetch_max_bytes=8 << 20,
            bootstrap_timeout_ms=3_000,
            metadata_max_age_ms=30_000,
        )
        # kafka-python loses metadata that arrives while it joins a group, and stays without partitions: ask before
        if not consumer.partitions_for_topic(topic):
            consumer.close()
            raise UnknownTopicOrPartitionError(f"topic {topic} does not exist (yet); ezadmin-pipeline setup makes it")
        consumer.subscribe([topic])
        return consumer

    def _pass_over_unreadable(self) -> None:
        """Make a dead letter of each message that the client cannot decode, commit behind it, and connect anew."""
        connect = functools.partial(KafkaConsumer, **self._settings.kafka.options())
        try:
            for place in self._consumer.assignment():
                offset = self._consumer.position(place, timeout_ms=5_000)
                while unreadable(connect, place.topic, place.partition, offset):
                    message = SimpleNamespace(
                        topic=place.topic, partition=place.partition, offset=offset, key=None, headers=[], value=None
                    )
                    self._letters.write([DeadLetter(message, "bad_value", "the message cannot be decoded")])
                    offset += 1
                    self._consumer.commit({place: OffsetAndMetadata(offset, "", -1)})
        except KafkaError as error:
            _log.warning("a message cannot be decoded, and was not passed over yet: %s", error)
            self.stopping.wait(RETRY_SECONDS)
        self._disconnect()

    def _disconnect(self) -> None:
        self._letters.close()
        if self._consumer is not None:
            self._consumer.close(autocommit=False, timeout_ms=2_000)
            self._consumer = None

    def _store(self, records: Records) -> None:
        """Store messages, however often the database refuses; then their dead letters; then their offsets."""
        pause = RETRY_SECONDS
        while not self.stopping.is_set():
            try:
                with self._app.app_context(), unit_of_work():
                    letters = self._store_messages([message for messages in records.values() for message in messages])
                break
            except (DBAPIError, PoolTimeout) as error:
                self._heard_since = None
                _log.warning("%s wait for the database, tried again in %g s: %s", self.what, pause, error)
                if not self._hold(records, pause):
                    return
                pause = min(2 * pause, RETRY_SECONDS_MAX)
        else:
            return
        if self._consumer.paused():
            self._consumer.resume(*self._consumer.paused())
            _log.info("the database is back, %s are stored", self.what)
        self._letters.write(letters)
        self._consumer.commit({
            place: OffsetAndMetadata(messages[-1].offset + 1, "", -1) for place, messages in records.items()
        })  # fmt: skip

    def _hold(self, records: Records, seconds: float) -> bool:
        """Wait, and stay a member of the group; False if the partitions went to another worker meanwhile."""
        self._consumer.pause(*self._consumer.assignment())
        for _ in range(max(1, int(seconds / 0.5))):
            if self.stopping.wait(0.4):
                return False
            late = self._consumer.poll(timeout_ms=100, max_records=1)
            if late:  # of partitions that came in just now and are not paused yet: read again later
                for place, messages in late.items():
                    self._consumer.seek(place, messages[0].offset)
                self._consumer.pause(*late)
        mine = self._consumer.assignment()
        if not records.keys() <= mine:
            _log.info("partitions went to another worker; it stores what was waiting")
            for place in records.keys() & mine:
                self._consumer.seek(place, records[place][0].offset)
            self._consumer.resume(*self._consumer.paused())
            return False
        return True

    def _store_messages(self, messages: Sequence[Any]) -> list[DeadLetter]:
        """Store all documents of the messages; returns the messages that cannot be used, or not every line of them."""
        letters, believed = [], []
        for message in messages:
            try:
                decoded = batch.decode(message.topic, message.key, message.headers, message.value, services.verify_key)
                believed.append((message, decoded.host, list(decoded.lines())))
            except WireError as error:
                letters.append(DeadLetter(message, error.reason, str(error)))
        self.prepare([(host, line) for _message, host, lines in believed for line in lines])
        for message, host, lines in believed:
            failed = []
            for number, line in enumerate(lines):
                refusal = self._store_line(host, line)
                if refusal is not None:
                    failed.append((number, refusal))
            if failed:
                told = "; ".join(f"line {number}: {refusal}" for number, refusal in failed)
                letters.append(DeadLetter(message, failed[0][1].reason, told, [number for number, _ in failed]))
        return letters

    def _store_line(self, host: str, line: bytes) -> WireError | None:
        """Store one document, whole or not at all; returns why not."""
        try:
            with db.session.begin_nested():
                self.store(host, line)
        except WireError as error:
            return error
        except (DataError, IntegrityError) as error:
            return WireError("database_refused", f"the database refuses it: {error.orig}")
        return None
