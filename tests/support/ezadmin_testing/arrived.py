"""What an agent has brought into Kafka, line by line under its number."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from ezadmin_testing.processes import wait_until
from ezadmin_wire import batch
from ezadmin_wire.names import Names
from ezadmin_wire.signing import VerifyKey


class Arrived:
    """Reads the data topics and keeps every line by (stream, epoch, seq); each batch is checked as the pipeline does.

    ``others``: there may be batches of other hosts, which are passed over. ``jobs``: the topic of jobs is read as well.
    """

    def __init__(
        self, kafka: str, names: Names, host: str, public: bytes, *, others: bool = False, jobs: bool = False
    ) -> None:
        self._others = others
        self._host = host
        self._keys: dict[str, VerifyKey] = {}
        self.trust(public)
        # a short-lived metadata age: a topic may be deleted and made anew
        self._consumer = KafkaConsumer(
            bootstrap_servers=kafka, auto_offset_reset="earliest", enable_auto_commit=False, metadata_max_age_ms=1000
        )
        topics = (names.metrics, names.logs, names.state, *((names.jobs,) if jobs else ()))
        self._consumer.assign(
            [TopicPartition(t, p) for t in topics for p in self._consumer.partitions_for_topic(t) or ()]
        )
        self.lines: dict[tuple[str, str, int], bytes] = {}
        self.batches: list[batch.Batch] = []

    def trust(self, public: bytes) -> None:
        """The host has this key, too."""
        key = VerifyKey(public)
        self._keys[key.kid] = key

    def read(self) -> None:
        """Take what there is now."""
        for messages in self._consumer.poll(timeout_ms=300, max_records=500).values():
            for message in messages:
                if self._others and message.key != self._host.encode():
                    continue
                found = batch.decode(message.topic, message.key, message.headers, message.value, self._find_key)
                assert found.host == self._host
                assert found.n <= batch.MAX_LINES
                assert len(found.value) <= batch.MAX_BYTES or found.n == 1
                self.batches.append(found)
                for index, line in enumerate(found.lines()):
                    name = (found.stream, found.epoch, found.seq + index)
                    assert self.lines.setdefault(name, line) == line, f"two lines under one number {name}"

    def documents(self, stream: str) -> list[dict[str, Any]]:
        """The documents of a stream in the order of their numbers."""
        return [json.loads(line) for name, line in sorted(self.lines.items()) if name[0] == stream]

    def events(self) -> list[dict[str, Any]]:
        """The events read from files: those of the stream of errors, then the rest."""
        return [*self.documents("errors"), *self.documents("logs")]

    def messages(self) -> list[str]:
        """The messages of the events read from files."""
        return [document["message"] for document in self.events()]

    def wait(self, condition: Callable[[], object], timeout: float, what: str) -> None:
        """Read until ``condition()`` holds."""

        def holds() -> object:
            self.read()
            return condition()

        wait_until(holds, timeout, what)

    def gapless(self, stream: str) -> None:
        """Within each epoch no number is missing."""
        for epoch in {name[1] for name in self.lines if name[0] == stream}:
            numbers = sorted(name[2] for name in self.lines if name[:2] == (stream, epoch))
            assert numbers == list(range(numbers[-1] + 1))

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()

    def _find_key(self, host: str, kid: str) -> VerifyKey | None:
        return self._keys.get(kid) if host == self._host else None
