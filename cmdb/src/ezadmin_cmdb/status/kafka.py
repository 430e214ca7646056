"""Questions to Kafka: does it answer, and how far behind is a consumer group?"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer
from kafka.errors import KafkaConnectionError

from ezadmin_wire.kafka import KafkaConnection

PATIENCE_MS = 2_000


@dataclass(frozen=True)
class GroupStatus:
    """Members of a consumer group, and messages that it has not committed, by topic."""

    members: int
    lag: dict[str, int]


class KafkaProbe:
    """Asks Kafka; keeps its connections, for a web page asks again and again. Made at first use, one asker at a time."""

    def __init__(self, kafka: KafkaConnection) -> None:
        self._kafka = kafka
        self._lock = threading.Lock()
        self._admin: Any = None
        self._consumer: Any = None

    def groups(self, names: list[str]) -> dict[str, GroupStatus]:
        """The status of consumer groups. Raises KafkaError."""
        with self._lock:
            try:
                self._connect()
                return self._ask(names)
            except Exception:
                self.close()
                raise

    def _connect(self) -> None:
        if self._admin is None:
            # a client that finds no broker says only that, and leaves its sockets to the garbage collector
            found = self._kafka.probe(PATIENCE_MS / 1000)
            if all(found.values()):
                raise KafkaConnectionError("; ".join(f"{server}: {problem}" for server, problem in found.items()))
            patience = {"bootstrap_timeout_ms": PATIENCE_MS, "request_timeout_ms": PATIENCE_MS}
            self._admin = KafkaAdminClient(**self._kafka.options(), **patience)
            self._consumer = KafkaConsumer(**self._kafka.options(), **patience)

    def _ask(self, names: list[str]) -> dict[str, GroupStatus]:
        described = self._admin.describe_groups(names)
        committed = self._admin.list_group_offsets(dict.fromkeys(names))
        found = {}
        for name in names:
            offsets = committed.get(name, {})
            ends = self._consumer.end_offsets(list(offsets), timeout_ms=PATIENCE_MS) if offsets else {}
            lag: dict[str, int] = {}
            for place, offset in offsets.items():
                lag[place.topic] = lag.get(place.topic, 0) + max(0, ends[place] - offset.offset)
            found[name] = GroupStatus(len(described[name]["members"]), lag)
        return found

    def close(self) -> None:
        """Close the connections."""
        for client in (self._admin, self._consumer):
            if client is not None:
                client.close()
        self._admin = self._consumer = None
