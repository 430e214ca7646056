"""The fields of the pipeline's own figures: one table from which template, documentation and field list are made."""

from __future__ import annotations

from typing import NamedTuple

DATASET = "pipeline.worker"
COMMON = ("@timestamp", "event.dataset", "event.created", "process.entity_id", "process.pid")
"""Fields that agents write, too, with the same meaning: declared there."""


class Field(NamedTuple):
    """A field: ``type`` is Elasticsearch's, ``unit`` and ``kind`` are words of the agents' tables."""

    name: str
    type: str
    unit: str
    kind: str
    about: str


FIELDS = (
    Field("pipeline.member", "keyword", "", "keyword", "Name of the worker in its consumer group"),
    Field("pipeline.cpu.pct", "float", "ratio", "gauge", "CPU of the worker: 1 is one core"),
    Field("pipeline.memory.bytes", "long", "byte", "gauge", "Its resident set"),
    Field("pipeline.threads", "integer", "", "gauge", "Its threads"),
    Field("pipeline.partitions", "integer", "", "gauge", "Partitions that it holds"),
    Field("pipeline.messages.read", "long", "", "counter", "Messages read from Kafka since its start"),
    Field("pipeline.messages.bytes", "long", "byte", "counter", "Bytes of their values"),
    Field("pipeline.lines.rate", "float", "1/s", "gauge", "Lines decided per second since the document before"),
    Field("pipeline.lines.kept", "long", "", "counter", "Lines that became documents since its start"),
    Field("pipeline.lines.ignored", "long", "", "counter", "Lines that rules left out"),
    Field("pipeline.lines.sampled", "long", "", "counter", "Lines withheld in surges"),
    Field("pipeline.lines.resent", "long", "", "counter", "Lines that had been seen before"),
    Field("pipeline.letters", "long", "", "counter", "Dead letters written"),
    Field("pipeline.alerts", "long", "", "counter", "Alerts written"),
    Field("pipeline.bulk.requests", "long", "", "counter", "Bulks that Elasticsearch answered"),
    Field("pipeline.bulk.bytes", "long", "byte", "counter", "Bytes of bulks before compression"),
    Field("pipeline.bulk.refused", "long", "", "counter", "Items of bulks that were not taken"),
    Field("pipeline.bulk.ms", "float", "ms", "gauge", "Mean time of a bulk since the document before"),
    Field("pipeline.commit.ms", "float", "ms", "gauge", "Mean time of a commit since the document before"),
    Field("pipeline.waiting.bytes", "long", "byte", "gauge", "Bytes of documents that wait for Elasticsearch"),
    Field("pipeline.lag.messages", "long", "", "gauge", "Messages that wait in its partitions"),
    Field("pipeline.lag.seconds", "float", "s", "gauge", "Age of the oldest of them"),
    Field("pipeline.lag.catch_up", "float", "s", "gauge", "Until nothing waits; absent while what waits gets no less"),
    Field("pipeline.own.dropped", "long", "", "counter", "Own figures and events that found no room in their queue"),
)
