"""A host that signs what a test tells it to send."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from ezadmin_testing.fleet import Fleet
from ezadmin_wire import batch as wire
from ezadmin_wire.ids import event_id, event_id_prefix
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.times import format_time, now

EPOCH = "00000000000000aa"


class Agent:
    """A host that numbers and signs what it is told to send."""

    def __init__(self, fleet: Fleet, host: str, known: bool = True) -> None:
        self.fleet = fleet
        self.host = host
        self.key = SigningKey.generate()
        self.seq = 0
        if known:
            fleet.publish_host(host, self.key)

    def batch(self, *lines: bytes) -> tuple[list[tuple[str, bytes]], bytes]:
        seq, self.seq = self.seq, self.seq + len(lines)
        return wire.encode(
            self.key,
            host=self.host,
            topic=self.fleet.names.logs,
            stream="logs",
            epoch=EPOCH,
            seq=seq,
            lines=lines,
            dataset="test",
            tmin=now(),
            tmax=now(),
            sent=now(),
        )

    def send(self, *lines: bytes) -> list[str]:
        """Send a batch; returns the ids of its lines."""
        first = self.seq
        headers, value = self.batch(*lines)
        self.fleet.send(self.fleet.names.logs, self.host.encode(), value, headers)
        return [self.id(first + i) for i in range(len(lines))]

    def id(self, seq: int) -> str:
        return event_id(event_id_prefix(self.host, "logs", EPOCH), seq)


def event(message: str, when: datetime | None = None, **fields: Any) -> bytes:
    moment = format_time(when or datetime.now(UTC))
    document = {"@timestamp": moment, "event.created": moment, "event.dataset": "test", "log.level": "info"}
    return json.dumps({**document, "message": message, **fields}, separators=(",", ":")).encode()
