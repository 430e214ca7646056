"""Questions to Kafka: does it answer, and how far behind is a consumer group?"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaConnectionError, KafkaError

from ezadmin_wire.kafka import KafkaConnection

PATIENCE_MS = 2_000
LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class GroupStatus:
    """Members of a consumer group, and messages that it has not committed, by topic.

    ``seconds``: the age of the oldest of them, 0 if there is none, None if it is not known.
    """

    members: int
    lag: dict[str, int]
    seconds: float | None = 0.0


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
            # of what waits one message of each partition is looked at
            few = {"max_partition_fetch_bytes": 16 << 10, "enable_auto_commit": False}
            self._consumer = KafkaConsumer(**self._kafka.options(), **patience, **few)

    def _ask(self, names: list[str]) -> dict[str, GroupStatus]:
        described = self._admin.describe_groups(names)
        committed = self._admin.list_group_offsets(dict.fromkeys(names))
        found = {}
        for name in names:
            offsets = committed.get(name, {})
            ends = self._consumer.end_offsets(list(offsets), timeout_ms=PATIENCE_MS) if offsets else {}
            lag: dict[str, int] = {}
            behind = {}
            for place, offset in offsets.items():
                waiting = max(0, ends[place] - offset.offset)
                lag[place.topic] = lag.get(place.topic, 0) + waiting
                if waiting:
                    behind[place] = offset.offset
            found[name] = GroupStatus(len(described[name]["members"]), lag, self._age(behind))
        return found

    def _age(self, offsets: Mapping[TopicPartition, int]) -> float | None:
        """Seconds since the oldest of these messages was written; what cannot be read within :data:`LOOK_SECONDS` is left out."""
        if not offsets:
            return 0.0
        written: dict[TopicPartition, int] = {}
        until = time.monotonic() + LOOK_SECONDS
        try:
            self._consumer.assign(list(offsets))
            for place, offset in offsets.items():
                self._consumer.seek(place, offset)
            while len(written) < len(offsets) and time.monotonic() < until:
                for place, messages in self._consumer.poll(timeout_ms=100).items():
                    written.setdefault(place, messages[0].timestamp)
                self._consumer.pause(*written)
        except KafkaError:  # one that cannot be decoded, or is gone meanwhile
            pass
        finally:
            self._consumer.assign([])
        return max(0.0, time.time() - min(written.values()) / 1000) if written else None

    def close(self) -> None:
        """Close the connections."""
        for client in (self._admin, self._consumer):
            if client is not None:
                client.close()
        self._admin = self._consumer = None
