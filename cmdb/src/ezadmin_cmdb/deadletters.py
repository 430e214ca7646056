"""Dead letters: messages that cannot be used, kept in ``<prefix>.dlq`` with their reason, for a person.

The form is that of :mod:`ezadmin_wire.deadletters`, so that ``ezadmin-pipeline dlq`` shows and replays them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kafka import KafkaProducer

from ezadmin_wire.deadletters import message_letter
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.times import now

_log = logging.getLogger(__name__)
MAX_REQUEST = 5 << 20
WRITTEN_BY = "cmdb-worker"
ACKNOWLEDGE_SECONDS = 10


@dataclass(frozen=True)
class DeadLetter:
    """A Kafka message that cannot be used, or of which some ``lines`` cannot, and why."""

    message: Any
    reason: str
    error: str
    lines: Sequence[int] = ()


class DeadLetters:
    """Writes dead letters. ``kafka``: how to reach it, ``topic``: the topic of dead letters."""

    def __init__(self, kafka: KafkaConnection, topic: str) -> None:
        self._kafka = kafka
        self._topic = topic
        self._producer: Any = None

    def write(self, letters: list[DeadLetter]) -> None:
        """Write messages with what was wrong with them; returns when Kafka has acknowledged all.

        Raises KafkaError; then all may be written again.
        """
        if not letters:
            return
        if self._producer is None:
            self._producer = KafkaProducer(
                **self._kafka.options(),
                acks="all",
                compression_type="gzip",
                max_request_size=MAX_REQUEST,
                request_timeout_ms=5_000,
                delivery_timeout_ms=ACKNOWLEDGE_SECONDS * 1000,
                max_block_ms=5_000,
                bootstrap_timeout_ms=3_000,
            )
        futures = []
        for letter in letters:
            message = letter.message
            key, value, headers = message_letter(
                message.topic, message.partition, message.offset, message.key, message.headers, message.value,
                letter.reason, letter.error, letter.lines,
            )  # fmt: skip
            headers += [("by", WRITTEN_BY.encode()), ("time", now().encode())]
            futures.append(self._producer.send(self._topic, key=key, value=value, headers=headers))
            _log.warning(
                "dead letter: %s/%d/%d: %s", message.topic, message.partition, message.offset, letter.error,
                extra={"fields": {"error.type": letter.reason}},
            )  # fmt: skip
        for future in futures:
            future.get(timeout=ACKNOWLEDGE_SECONDS + 2)

    def close(self) -> None:
        """Close the connection."""
        if self._producer is not None:
            self._producer.close(timeout=1)
            self._producer = None
