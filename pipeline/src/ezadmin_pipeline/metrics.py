"""``/metrics``: what a worker does, for Prometheus.

A scrape reads numbers that stand there anyway; nothing is counted twice, and a worker that nobody asks pays nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ezadmin_pipeline import __version__
from ezadmin_pipeline.measure import Durations
from ezadmin_pipeline.settings import Address

_log = logging.getLogger(__name__)
PREFIX = "ezadmin_pipeline_"
_RETRY = 10.0


class Declared(NamedTuple):
    """A metric: its name without :data:`PREFIX`, kind (counter, gauge, histogram), labels, and what it says."""

    name: str
    kind: str
    labels: tuple[str, ...]
    about: str


METRICS = (
    Declared("info", "gauge", ("version", "member"), "1; who this worker is"),
    Declared("messages_total", "counter", ("topic",), "Messages read from Kafka"),
    Declared("received_bytes_total", "counter", ("topic",), "Bytes of their values"),
    Declared(
        "lines_total",
        "counter",
        ("fate",),
        "Lines by what was decided: kept, ignored (by a rule), sampled (withheld in a surge), resent (seen before)",
    ),
    Declared("surging", "gauge", (), "Surges that are open: host, dataset and level"),
    Declared("rule_hits_total", "counter", ("rule",), "Events that a rule left out, changed or exempted"),
    Declared("dead_letters_total", "counter", ("reason",), "What could not become a document"),
    Declared("conflicts_total", "counter", (), "Metrics whose identity and time were taken: a clone, a clock set back"),
    Declared("unverified_messages_total", "counter", (), 'Taken without a valid signature (signatures = "warn")'),
    Declared("alerts_total", "counter", (), "Alerts written to their topic"),
    Declared("bulk_duration_seconds", "histogram", (), "Time that Elasticsearch took for a bulk"),
    Declared("bulk_bytes_total", "counter", (), "Bytes of bulks before compression"),
    Declared(
        "bulk_items_refused_total",
        "counter",
        ("status",),
        "Items of bulks that were not taken; 429 and 5xx are sent again",
    ),
    Declared("elasticsearch_unanswered_total", "counter", (), "Requests to Elasticsearch without an answer"),
    Declared("elasticsearch_up", "gauge", (), "0 while Elasticsearch takes no documents"),
    Declared("waiting_bytes", "gauge", (), "Bytes of documents that wait for Elasticsearch"),
    Declared("commit_duration_seconds", "histogram", (), "Time of a commit, with all that it waits for"),
    Declared("partitions", "gauge", (), "Partitions that this worker holds"),
    Declared("lag_messages", "gauge", ("topic", "partition"), "Messages of a partition that wait"),
    Declared("lag_seconds", "gauge", ("topic", "partition"), "Age of the oldest of them"),
    Declared("catch_up_seconds", "gauge", (), "Until nothing waits, at the pace of the last minute; +Inf: never so"),
    Declared("hosts", "gauge", (), "Hosts known from the configuration"),
    Declared("rules_revision", "gauge", (), "Revision of the rules in force"),
    Declared("threads", "gauge", (), "Threads of the process"),
)
"""All metrics, beside those of the process itself (``process_resident_memory_bytes`` and its like)."""


class WorkerCollector(Collector):
    """Makes the metrics of one worker when it is asked."""

    def __init__(self, worker: Any, member: str) -> None:
        self._worker = worker
        self._member = member

    def values(self) -> dict[str, Any]:
        """Per metric its value: a number, durations, or numbers by labels."""
        engine, measures = self._worker.engine, self._worker.measures
        elastic, lag = measures.elastic, measures.lag
        lags = lag.lags
        return {
            "info": {(__version__, self._member): 1},
            "messages_total": by_one(measures.messages),
            "received_bytes_total": by_one(measures.bytes),
            "lines_total": by_one(
                {
                    "kept": engine.lines,
                    "ignored": engine.ignored,
                    "sampled": engine.sampled,
                    "resent": engine.resent,
                }
            ),
            "surging": engine.surging,
            "rule_hits_total": by_one(engine.rule_hits),
            "dead_letters_total": by_one(self._worker.letters.reasons),
            "conflicts_total": engine.conflicts,
            "unverified_messages_total": engine.unverified,
            "alerts_total": self._worker.alerts.written,
            "bulk_duration_seconds": elastic.bulks,
            "bulk_bytes_total": elastic.bulk_bytes,
            "bulk_items_refused_total": by_one(elastic.refused),
            "elasticsearch_unanswered_total": elastic.unanswered,
            "elasticsearch_up": int(engine.indexer.away is None),
            "waiting_bytes": engine.indexer.waiting_bytes,
            "commit_duration_seconds": measures.commits,
            "partitions": len(engine.shards),
            "lag_messages": {(topic, str(number)): found.messages for (topic, number), found in lags.items()},
            "lag_seconds": {
                (topic, str(number)): found.seconds
                for (topic, number), found in lags.items()
                if found.seconds is not None
            },
            "catch_up_seconds": lag.catch_up,
            "hosts": self._worker.directory.hosts,
            "rules_revision": self._worker.directory.rules_revision,
            "threads": threading.active_count(),
        }

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        values = self.values()
        for name, kind, labels, about in METRICS:
            yield family(PREFIX + name, kind, labels, about, values[name])


def by_one(numbers: Any) -> dict[tuple[str], float]:
    """Numbers by one label. A copy: the worker goes on counting."""
    return {(str(label),): number for label, number in list(numbers.items())}


def family(name: str, kind: str, labels: Iterable[str], about: str, value: Any) -> Metric:
    """One metric in prometheus_client's terms."""
    if kind == "histogram":
        durations: Durations = value
        buckets = [("+Inf" if bound == float("inf") else str(bound), n) for bound, n in durations.cumulative()]
        return HistogramMetricFamily(name, about, buckets=buckets, sum_value=durations.sum)
    make = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
    found: CounterMetricFamily | GaugeMetricFamily = make(name, about, labels=list(labels))
    rows = value if isinstance(value, dict) else {(): value}
    for row, number in rows.items():
        found.add_metric(row, number)
    return found


class Server:
    """Serves ``/metrics`` of a worker on ``address``; one that is taken is tried again, for the work must go on."""

    def __init__(self, worker: Any, address: Address, member: str) -> None:
        self._address = address
        self._registry = CollectorRegistry()
        self._registry.register(WorkerCollector(worker, member))
        ProcessCollector(registry=self._registry)
        self._server: Any = None
        self._next = 0.0

    def look_after(self) -> None:
        """Begin to serve, unless that is done."""
        if self._server is not None or time.monotonic() < self._next:
            return
        host, port = self._address
        try:
            self._server, _ = start_http_server(port, host, self._registry)
        except OSError as error:
            self._next = time.monotonic() + _RETRY
            _log.error(
                "metrics cannot be served on %s:%d: %s; tried again in %.0f s", host, port, error.strerror, _RETRY
            )
            return
        _log.info("metrics: http://%s:%d/metrics", host, self._server.server_port)

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
