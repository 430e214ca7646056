"""Telling Kafka how far the partitions are: for people, and for ``ezadmin-pipeline lag``. What counts is the commit record.

Kafka takes no offsets while the group is being rebalanced, and its client says so only to who asks for the answer. What was
committed just then would look as if it waited until something new came; so it is told again until Kafka has taken note.
"""

from __future__ import annotations

import logging
import queue
import time
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

_log = logging.getLogger(__name__)
AGAIN_SECONDS = 1.0

Told = dict[TopicPartition, OffsetAndMetadata]


class Offsets:
    """What Kafka is not known to have noted. One thread but for the answers, which come on the client's own."""

    def __init__(self) -> None:
        self._open: Told = {}
        self._answers: queue.SimpleQueue[tuple[Told, Any]] = queue.SimpleQueue()
        self._next = 0.0

    def set(self, place: TopicPartition, offset: int) -> None:
        """The partition is committed up to ``offset``; told with the next :meth:`tell`."""
        self._open[place] = OffsetAndMetadata(offset, "", -1)

    def forget(self, place: TopicPartition) -> None:
        """The partition is somebody else's."""
        self._open.pop(place, None)

    def clear(self) -> None:
        """No partition is ours."""
        self._open.clear()

    def tick(self, consumer: Any) -> None:
        """Tell again what was not noted, if it is time."""
        if self._open and time.monotonic() >= self._next:
            self.tell(consumer)

    def tell(self, consumer: Any) -> None:
        """Tell Kafka all that it has not noted of the partitions that ``consumer`` has."""
        self._hear()
        self._next = time.monotonic() + AGAIN_SECONDS
        mine = consumer.assignment()
        offsets = {place: offset for place, offset in self._open.items() if place in mine}
        if not offsets:
            return
        try:
            consumer.commit_async(offsets, callback=lambda told, answer: self._answers.put((told, answer)))
        except (KafkaError, AssertionError) as error:
            _log.info("offsets were not committed to Kafka, and will be told again: %r", error)

    def _hear(self) -> None:
        while not self._answers.empty():
            told, answer = self._answers.get()
            if isinstance(answer, Exception):
                _log.info("offsets were not committed to Kafka, and will be told again: %r", answer)
                continue
            for place, offset in told.items():
                if self._open.get(place) == offset:
                    del self._open[place]
