"""Samples of hosts that somebody watches, as they come: the topic of metrics is read once, whoever looks.

Nothing is read while nobody looks. Who comes back after a cut finds what he missed: the messages of the last three minutes are
kept as they are, and those from before the gateway began to read are read from Kafka, by their time.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, UnknownTopicOrPartitionError

from ezadmin_cmdb.gateway.directory import ACTIVE, Directory
from ezadmin_wire import WireError, batch
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.signing import VerifyKey

_log = logging.getLogger(__name__)
KEPT_SECONDS = 180.0
KEPT_BYTES = 64 << 20
IDLE_SECONDS = 60.0
POLL_MS = 100
RETRY_SECONDS = 1.0
Document = dict[str, Any]
Deliver = Callable[[str, list[Document], object], None]
Message = tuple[float, bytes, list[tuple[str, bytes]], bytes]
"""When it was written into Kafka (seconds), key, headers, value."""


class Kept:
    """Messages of the last minutes by host, bounded in bytes: the oldest go first."""

    def __init__(self, seconds: float = KEPT_SECONDS, most: int = KEPT_BYTES) -> None:
        self._seconds = seconds
        self._most = most
        self._order: deque[Message] = deque()
        self._of_host: dict[bytes, deque[Message]] = {}
        self.bytes = 0

    def add(self, message: Message) -> None:
        """Keep a message."""
        self._order.append(message)
        self._of_host.setdefault(message[1], deque()).append(message)
        self.bytes += len(message[3])
        while self._order and (self.bytes > self._most or self._order[0][0] < message[0] - self._seconds):
            oldest = self._order.popleft()
            of_host = self._of_host[oldest[1]]
            of_host.popleft()
            if not of_host:
                del self._of_host[oldest[1]]
            self.bytes -= len(oldest[3])

    def of(self, host_id: str) -> list[Message]:
        """What there is of a host, the oldest first."""
        return list(self._of_host.get(host_id.encode(), ()))

    def clear(self) -> None:
        """Forget all."""
        self._order.clear()
        self._of_host.clear()
        self.bytes = 0


class Samples(threading.Thread):
    """Reads the topic while ``watch`` names hosts. ``deliver(host.id, documents, to)`` is called in this thread; ``to`` is None
    for what is new, else who asked for what is kept."""

    def __init__(self, directory: Directory, kafka: KafkaConnection, topic: str, deliver: Deliver) -> None:
        super().__init__(name="samples", daemon=True)
        self._directory = directory
        self._kafka = kafka
        self._topic = topic
        self._deliver = deliver
        self._stopping = threading.Event()
        self._wanted = threading.Event()
        self._watched: frozenset[bytes] = frozenset()
        self._asked: queue.SimpleQueue[tuple[Collection[str], float, object]] = queue.SimpleQueue()
        self.kept = Kept()
        self.refused = 0

    def watch(self, host_ids: Collection[str]) -> None:
        """Whose samples are delivered from now on."""
        self._watched = frozenset(one.encode() for one in host_ids)
        if self._watched:
            self._wanted.set()

    def replay(self, host_ids: Collection[str], since: float, to: object) -> None:
        """Deliver to ``to`` what is kept of hosts and was written after ``since`` (seconds)."""
        self._asked.put((list(host_ids), since, to))

    def stop(self) -> None:
        """End soon."""
        self._stopping.set()
        self._wanted.set()

    def run(self) -> None:
        """The thread."""
        told = False
        while self._wanted.wait() and not self._stopping.is_set():
            consumer: Any = None
            try:
                consumer = self._connect()
                told = False
                self._read(consumer)
                self.kept.clear()
            except KafkaError as error:
                if not told:
                    _log.warning("samples are not read, tried again: %s", self._kafka.trouble() or error)
                told = True
            except Exception:  # noqa: BLE001 - graphs stand still, and nothing else may
                _log.exception("samples are not read, tried again each %g s", RETRY_SECONDS)
            finally:
                if consumer is not None:
                    consumer.close(autocommit=False, timeout_ms=1_000)
            self._stopping.wait(RETRY_SECONDS)

    def _connect(self) -> Any:
        """A consumer that stands where the time that is kept begins."""
        consumer = KafkaConsumer(
            **self._kafka.options(),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            bootstrap_timeout_ms=3_000,
            request_timeout_ms=15_000,
            metadata_max_age_ms=30_000,
            fetch_max_wait_ms=POLL_MS,
            fetch_max_bytes=8 << 20,
        )
        try:
            places = [TopicPartition(self._topic, one) for one in consumer.partitions_for_topic(self._topic) or ()]
            if not places:
                raise UnknownTopicOrPartitionError(f"Kafka has no topic {self._topic}: run ezadmin-pipeline setup")
            consumer.assign(places)
            begin = int((time.time() - KEPT_SECONDS) * 1000)
            ends = consumer.end_offsets(places)  # asked for first: what comes in between is found by its time
            for place, found in consumer.offsets_for_times(dict.fromkeys(places, begin)).items():
                consumer.seek(place, ends[place] if found is None else found.offset)
        except BaseException:
            consumer.close(autocommit=False, timeout_ms=1_000)
            raise
        self.kept.clear()
        return consumer

    def _read(self, consumer: Any) -> None:
        """Until nobody has looked for a while, or the end is asked for."""
        idle_since = None
        while not self._stopping.is_set():
            if self._watched:
                idle_since = None
            else:
                idle_since = idle_since or time.monotonic()
                if time.monotonic() - idle_since > IDLE_SECONDS:
                    self._wanted.clear()
                    if not self._watched:  # nobody came in between
                        return
                    self._wanted.set()
            for records in consumer.poll(timeout_ms=POLL_MS, max_records=2000).values():
                for record in records:
                    if record.key is None or record.value is None:
                        continue
                    message = (record.timestamp / 1000, record.key, record.headers, record.value)
                    self.kept.add(message)
                    if record.key in self._watched:
                        self._tell(message, None)
            while not self._asked.empty():
                host_ids, since, to = self._asked.get()
                for host_id in host_ids:
                    for message in self.kept.of(host_id):
                        if message[0] > since:
                            self._tell(message, to)

    def _tell(self, message: Message, to: object) -> None:
        _, key, headers, value = message
        try:
            found = batch.decode(self._topic, key, headers, value, self._find_key)
            documents = [json.loads(line) for line in found.lines()]
        except (WireError, ValueError, RecursionError):
            self.refused += 1  # the pipeline makes a dead letter of it, and says why
            return
        self._deliver(found.host, [one for one in documents if isinstance(one, dict)], to)

    def _find_key(self, host_id: str, kid: str) -> VerifyKey | None:
        host = self._directory.get(host_id)
        return host.key(kid) if host is not None and host.state == ACTIVE and host.knows(kid) else None
