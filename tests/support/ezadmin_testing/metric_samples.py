"""Samples of a host's figures: signed into Kafka as its agent does, and stored as the pipeline does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import urllib3
from kafka import KafkaProducer

from ezadmin_wire import batch as wire
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.times import format_time

HOST = "system.host"


def document(moment: datetime, dataset: str = HOST, **fields: Any) -> dict[str, Any]:
    """The document of a tick; ``fields`` by their names."""
    time = format_time(moment)
    return {"@timestamp": time, "event.created": time, "event.dataset": dataset, **fields}


class Samples:
    """Sends what hosts measured into the topic of metrics."""

    def __init__(self, kafka: str, names: Names) -> None:
        self._producer = KafkaProducer(bootstrap_servers=kafka)
        self._topic = names.metrics
        self._seq = 0

    def send(self, host: str, key: SigningKey, documents: Sequence[Mapping[str, Any]]) -> None:
        """A batch of one dataset; it is in Kafka when this returns."""
        lines = [json.dumps(one, separators=(",", ":")).encode() for one in documents]
        times = [str(one["@timestamp"]) for one in documents]
        headers, value = wire.encode(
            key, host=host, topic=self._topic, stream="metrics", epoch="00000000000000aa", seq=self._seq, lines=lines,
            dataset=str(documents[0]["event.dataset"]), tmin=min(times), tmax=max(times), sent=times[-1],
        )  # fmt: skip
        self._seq += len(lines)
        self._producer.send(self._topic, key=host.encode(), value=value, headers=headers).get(timeout=30)

    def close(self) -> None:
        """Close the connection."""
        self._producer.close()


def store(elasticsearch: str, names: Names, host: str, name: str, documents: Sequence[Mapping[str, Any]]) -> None:
    """Write documents into the indices of metrics, which make their ids of time and dimensions; they can be found at once."""
    lines = []
    for one in documents:
        lines.append(json.dumps({"create": {"_index": names.metrics_index(str(one["@timestamp"]))}}))
        lines.append(json.dumps({**one, "host.id": host, "host.name": name}))
    http = urllib3.PoolManager(1)
    headers = {"Content-Type": "application/x-ndjson"}
    answer = http.request(
        "POST", f"{elasticsearch}/_bulk?refresh=true", body="\n".join([*lines, ""]).encode(), headers=headers
    )
    assert answer.status == 200, answer.data[:2000]
    assert not answer.json()["errors"], answer.data[:2000]
    http.clear()
