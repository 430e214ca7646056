"""The worker's own figures, each ten seconds a document, and its warnings and errors as events (``pipeline.log``)."""

from __future__ import annotations

import functools
import logging
import math
import os
import socket
import threading
import time
from typing import Any

from kafka import KafkaProducer

from ezadmin_pipeline import __version__
from ezadmin_pipeline.fields import DATASET
from ezadmin_pipeline.measure import Durations
from ezadmin_pipeline.settings import Settings
from ezadmin_wire import WireError
from ezadmin_wire.own import EventHandler, Identity, OwnProducer, entity_id, rss_bytes

TICK = 10.0
LOG_DATASET = "pipeline.log"


class _Since:
    """The mean of durations since it was last asked for."""

    def __init__(self, durations: Durations) -> None:
        self._durations = durations
        self._before = (0, 0.0)

    def mean_ms(self) -> float | None:
        before, self._before = self._before, (self._durations.count, self._durations.sum)
        count = self._before[0] - before[0]
        return round((self._before[1] - before[1]) / count * 1000, 3) if count else None


class Own:
    """What a worker says of itself in documents. ``worker`` gives engine, measures, letters, alerts, directory."""

    def __init__(self, settings: Settings, identity: Identity, worker: Any) -> None:
        self._worker = worker
        self._member = settings.member or socket.gethostname()
        self._entity = entity_id()
        connect = functools.partial(KafkaProducer, **settings.kafka.options())
        self.producer = OwnProducer(identity, settings.names, __version__, connect, self._known)
        self._handler = EventHandler(
            self.producer, LOG_DATASET, "ezadmin-pipeline", ("ezadmin_pipeline", "ezadmin_wire")
        )
        self._bulks = _Since(worker.measures.elastic.bulks)
        self._commits = _Since(worker.measures.commits)
        self._next = time.monotonic() + TICK
        self._before = (time.monotonic(), time.process_time(), 0)

    def start(self) -> None:
        """Begin."""
        logging.getLogger().addHandler(self._handler)
        self.producer.start()

    def close(self) -> None:
        """Send what waits, and end."""
        logging.getLogger().removeHandler(self._handler)
        self.producer.stop()

    def _known(self) -> bool:
        identity = self.producer.identity
        try:
            return self._worker.directory.find_key(identity.host_id, identity.key.kid) is not None
        except WireError:
            return False

    def tick(self) -> None:
        """Write a document if it is time."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + TICK
        self.producer.metrics(DATASET, {name: value for name, value in self.figures().items() if value is not None})

    def figures(self) -> dict[str, Any]:
        """The members of a document, None where there is nothing to say; the rates are since the call before."""
        engine, measures = self._worker.engine, self._worker.measures
        decided = engine.lines + engine.ignored + engine.sampled
        before, self._before = self._before, (time.monotonic(), time.process_time(), decided)
        seconds = max(0.001, self._before[0] - before[0])
        lags = list(measures.lag.lags.values())
        ages = [lag.seconds for lag in lags if lag.seconds is not None]
        catch_up = measures.lag.catch_up
        return {
            "process.entity_id": self._entity,
            "process.pid": os.getpid(),
            "pipeline.member": self._member,
            "pipeline.cpu.pct": round((self._before[1] - before[1]) / seconds, 4),
            "pipeline.memory.bytes": rss_bytes(),
            "pipeline.threads": threading.active_count(),
            "pipeline.partitions": len(engine.shards),
            "pipeline.messages.read": sum(measures.messages.values()),
            "pipeline.messages.bytes": sum(measures.bytes.values()),
            "pipeline.lines.rate": round((decided - before[2]) / seconds, 3),
            "pipeline.lines.kept": engine.lines,
            "pipeline.lines.ignored": engine.ignored,
            "pipeline.lines.sampled": engine.sampled,
            "pipeline.lines.resent": engine.resent,
            "pipeline.letters": sum(self._worker.letters.reasons.values()),
            "pipeline.alerts": self._worker.alerts.written,
            "pipeline.bulk.requests": measures.elastic.bulks.count,
            "pipeline.bulk.bytes": measures.elastic.bulk_bytes,
            "pipeline.bulk.refused": sum(measures.elastic.refused.values()),
            "pipeline.bulk.ms": self._bulks.mean_ms(),
            "pipeline.commit.ms": self._commits.mean_ms(),
            "pipeline.waiting.bytes": engine.indexer.waiting_bytes,
            "pipeline.lag.messages": sum(lag.messages for lag in lags),
            "pipeline.lag.seconds": round(max(ages), 3) if ages else None,
            "pipeline.lag.catch_up": None if math.isinf(catch_up) else round(catch_up, 1),
            "pipeline.own.dropped": self.producer.dropped,
        }
