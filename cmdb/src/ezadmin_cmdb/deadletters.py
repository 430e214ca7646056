"""Dead letters: messages that cannot be used, kept whole in ``<prefix>.dlq`` with their reason, for a person.

The same headers as the pipeline writes, so that ``ezadmin-pipeline dlq`` shows and replays them: ``id`` (topic, partition
and offset: what dies twice is one letter), ``kind`` (``message``), ``reason``, ``error``, ``topic``, ``partition``,
``offset``, ``by``, ``time``, and the original's key and headers as ``orig.key`` and ``orig.<header>``.
"""

from __future__ import annotations

import logging
from typing import Any

from kafka import KafkaProducer

from ezadmin_wire import WireError
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.times import now

_log = logging.getLogger(__name__)
MAX_REQUEST = 5 << 20
WRITTEN_BY = "cmdb-worker"
ACKNOWLEDGE_SECONDS = 10


class DeadLetters:
    """Writes dead letters. ``kafka``: how to reach it, ``topic``: the topic of dead letters."""

    def __init__(self, kafka: KafkaConnection, topic: str) -> None:
        self._kafka = kafka
        self._topic = topic
        self._producer: Any = None

    def write(self, letters: list[tuple[Any, WireError]]) -> None:
        """Write messages with what was wrong with them; returns when Kafka has acknowledged all.

        Raises KafkaError; then all may be written again.
        """
        if not letters:
            return
        if self._producer is None:
            self._producer = KafkaProducer(
                **self._kafka.options(),
                acks="all",
                max_request_size=MAX_REQUEST,
                request_timeout_ms=5_000,
                delivery_timeout_ms=ACKNOWLEDGE_SECONDS * 1000,
                max_block_ms=5_000,
                bootstrap_timeout_ms=3_000,
            )
        futures = []
        for message, error in letters:
            futures.append(
                self._producer.send(
                    self._topic, key=message.key, value=message.value or b"", headers=_headers(message, error)
                )
            )
            _log.warning(
                "message %s/%d/%d is a dead letter: %s", message.topic, message.partition, message.offset, error,
                extra={"fields": {"error.type": error.reason}},
            )  # fmt: skip
        for future in futures:
            future.get(timeout=ACKNOWLEDGE_SECONDS + 2)

    def close(self) -> None:
        """Close the connection."""
        if self._producer is not None:
            self._producer.close(timeout=1)
            self._producer = None


def _headers(message: Any, error: WireError) -> list[tuple[str, bytes]]:
    fields = {
        "id": f"{message.topic}/{message.partition}/{message.offset}",
        "kind": "message",
        "reason": error.reason,
        "error": str(error)[:1000],
        "topic": message.topic,
        "partition": str(message.partition),
        "offset": str(message.offset),
        "by": WRITTEN_BY,
        "time": now(),
    }
    headers = [(name, text.encode("utf-8", "replace")) for name, text in fields.items()]
    if message.key is not None:
        headers.append(("orig.key", message.key))
    return headers + [(f"orig.{name}", data) for name, data in message.headers if isinstance(data, bytes)]
