"""The agent's own figures, once a minute: what it costs, what waits, what was dropped and why."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any, Callable, NamedTuple, Optional

from ezadmin_agent.collectors import Collector, Document, Sample
from ezadmin_agent.fields import Field, counter, gauge
from ezadmin_agent.reader import Reader

DATASET = "ezadmin.agent"
NAME = "own"
PERIOD = 60


class Cost(NamedTuple):
    """What a collector has cost since the agent's start: ``ms`` by the clock, ``cpu_ms`` of CPU."""

    runs: int = 0
    ms: float = 0.0
    cpu_ms: float = 0.0
    errors: int = 0


class Figures(NamedTuple):
    """The agent at one moment. ``dropped``: lines by reason; ``stretch``: the largest factor of the governor."""

    cpu_seconds: float
    rss_bytes: int
    costs: Mapping[str, Cost]
    stretch: int
    queue_lines: int
    queue_bytes: int
    spool_bytes: int
    spool_cap: int
    lines_sent: int
    bytes_sent: int
    dropped: Mapping[str, int]


REASONS = {
    "cap": "the spool was at its cap",
    "level": "the spool was nearly full and their level low",
    "lost": "their place in the spool was damaged",
    "refused": "Kafka refused them for their size",
}


def fields(collectors: Iterable[str]) -> tuple[Field, ...]:
    """The field table; ``collectors`` are those that get a figure of their own, as this one does."""
    return (
        gauge("ezadmin.agent.cpu.pct", "float", "ratio", "CPU of the agent: 1 is one core"),
        gauge("ezadmin.agent.memory.rss.bytes", "long", "byte", "Its resident set"),
        gauge("ezadmin.agent.threads", "integer", "", "Its threads"),
        gauge("ezadmin.agent.governor.stretch", "integer", "", "1, or how many times rarer the rarest collector runs"),
        gauge("ezadmin.agent.collectors.runs", "integer", "", "Runs of collectors since the document before"),
        gauge("ezadmin.agent.collectors.ms", "float", "ms", "Time they took by the clock since then"),
        gauge("ezadmin.agent.collectors.errors", "integer", "", "Runs that failed since then"),
        *(
            gauge(f"ezadmin.agent.collector.{name}.cpu.ms", "float", "ms", f"CPU of the collector {name} since then")
            for name in (*collectors, NAME)
        ),
        gauge("ezadmin.agent.queue.lines", "long", "", "Lines that Kafka has not acknowledged"),
        gauge("ezadmin.agent.queue.bytes", "long", "byte", "Their bytes"),
        gauge("ezadmin.agent.spool.bytes", "long", "byte", "Bytes of the spool on disk"),
        gauge("ezadmin.agent.spool.pct", "float", "ratio", "Share of the spool's cap that is in use"),
        counter("ezadmin.agent.sent.lines", "", "Lines that Kafka acknowledged since the agent's start"),
        counter("ezadmin.agent.sent.bytes", "byte", "Their bytes before compression"),
        *(
            counter(f"ezadmin.agent.dropped.{reason}", "", f"Lines dropped since the agent's start because {text}")
            for reason, text in REASONS.items()
        ),
    )


class _State(NamedTuple):
    at: float
    figures: Figures


def collector(figures: Callable[[], Figures], names: Iterable[str]) -> Collector:
    """The collector of a running agent that is asked by ``figures``."""

    def collect(reader: Reader, previous: Optional[_State]) -> Sample:
        state = _State(reader.monotonic(), figures())
        return Sample([_document(state, previous)], state)

    return Collector(NAME, DATASET, fields(names), collect, seconds=PERIOD)


def _document(state: _State, previous: Optional[_State]) -> Document:
    now = state.figures
    before: Mapping[str, Cost] = previous.figures.costs if previous is not None else {}
    spent: dict[str, Any] = {}
    runs = errors = 0
    clock = 0.0
    for name, cost in now.costs.items():
        old = before.get(name, Cost())
        runs += cost.runs - old.runs
        errors += cost.errors - old.errors
        clock += cost.ms - old.ms
        spent[f"ezadmin.agent.collector.{name}.cpu.ms"] = round(cost.cpu_ms - old.cpu_ms, 1)
    document: Document = {
        "ezadmin.agent.memory.rss.bytes": now.rss_bytes,
        "ezadmin.agent.threads": threading.active_count(),
        "ezadmin.agent.governor.stretch": now.stretch,
        "ezadmin.agent.collectors.runs": runs,
        "ezadmin.agent.collectors.ms": round(clock, 1),
        "ezadmin.agent.collectors.errors": errors,
        **spent,
        "ezadmin.agent.queue.lines": now.queue_lines,
        "ezadmin.agent.queue.bytes": now.queue_bytes,
        "ezadmin.agent.spool.bytes": now.spool_bytes,
        "ezadmin.agent.spool.pct": round(min(1.0, now.spool_bytes / now.spool_cap), 4) if now.spool_cap else 0.0,
        "ezadmin.agent.sent.lines": now.lines_sent,
        "ezadmin.agent.sent.bytes": now.bytes_sent,
    }
    document.update({f"ezadmin.agent.dropped.{reason}": now.dropped.get(reason, 0) for reason in REASONS})
    if previous is not None and state.at > previous.at:
        share = (now.cpu_seconds - previous.figures.cpu_seconds) / (state.at - previous.at)
        document["ezadmin.agent.cpu.pct"] = round(max(0.0, share), 4)
    return document
