"""Writing to Kafka so that it is known to be there: for what must not be lost and is not much."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from ezadmin_pipeline import broker
from ezadmin_wire.kafka import KafkaConnection

_log = logging.getLogger(__name__)
MAX_REQUEST = 5 << 20


@dataclass(frozen=True)
class Outgoing:
    """One message before it is written."""

    key: bytes | None
    value: bytes
    headers: Sequence[tuple[str, bytes]] = field(default_factory=list)


class SafeWriter:
    """Writes messages to ``topic`` and knows which are acknowledged; ``kafka``: how to reach it."""

    what = "messages"
    """What they are, for the log."""

    def __init__(self, kafka: KafkaConnection, topic: str) -> None:
        self._kafka = kafka
        self._topic = topic
        self._producer: Any = None
        self._unsent: list[Outgoing] = []
        self._pending: list[tuple[Outgoing, Any]] = []
        self.written = 0

    def send(self, message: Outgoing) -> None:
        """Take a message; :meth:`flush` makes sure of it."""
        self._unsent.append(message)

    def flush(self, keep_alive: Callable[[], None]) -> None:
        """Return when Kafka has acknowledged every message, however long that takes; ``keep_alive`` may raise.

        Raises KafkaRefused.
        """
        while self._unsent or self._pending:
            messages, self._unsent = self._unsent, []
            try:
                if self._producer is None:
                    self._producer = self._connect()
                for message in messages:
                    self._pending.append((message, self._produce(message)))
                messages = []
            except KafkaError as error:
                self._failed(error)
            sent = [message for message, _ in self._pending]
            self._unsent = [message for message in messages if message not in sent] + self._unsent
            self._settle(keep_alive)
            if self._unsent:
                keep_alive()
                time.sleep(0.5)

    def _settle(self, keep_alive: Callable[[], None]) -> None:
        pending, self._pending = self._pending, []
        for message, future in pending:
            try:
                while not future.is_done:
                    keep_alive()
                    time.sleep(0.01)
                future.get(timeout=0)
                self.written += 1
            except KafkaError as error:
                self._unsent.append(message)
                self._failed(error)

    def _failed(self, error: KafkaError) -> None:
        if self._producer is not None:
            self._producer.close(timeout=0)
            self._producer = None
        broker.refuse(error, self._kafka, f"write {self.what} to {self._topic}")
        _log.warning("%s wait, Kafka does not take them: %s", self.what, broker.explain(error, self._kafka))

    def _connect(self) -> Any:
        return KafkaProducer(
            **self._kafka.options(),
            acks="all",
            compression_type="gzip",
            max_request_size=MAX_REQUEST,
            delivery_timeout_ms=30_000,
            request_timeout_ms=10_000,
            bootstrap_timeout_ms=5_000,
        )

    def headers(self, message: Outgoing) -> list[tuple[str, bytes]]:
        """The headers that ``message`` is written with."""
        return [*message.headers]

    def _produce(self, message: Outgoing) -> Any:
        return self._producer.send(self._topic, key=message.key, value=message.value, headers=self.headers(message))

    def close(self) -> None:
        """Close the connection; messages that were not flushed are lost, so flush first."""
        if self._producer is not None:
            self._producer.close(timeout=5)
