"""`status`: every part as it is, asked and not assumed."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import Any

from . import health, machine, processes
from .config import PREFIX, Endpoints
from .layout import PARTS, SERVICES
from .stack import Stack

WINDOW = "10m"


@dataclass(frozen=True)
class Row:
    """One part. health: "ok", or why not. since: seconds since 1970, 0 where it does not run."""

    part: str
    state: str
    health: str
    pid: int
    memory_bytes: int
    since: int

    @property
    def healthy(self) -> bool:
        """True if it runs and works."""
        return self.health == "ok"


def show(stack: Stack, as_json: bool) -> int:
    """Prints the state of the stack; gives back 0 if every part is healthy, else 1."""
    endpoints = stack.endpoints()
    rows = _rows(stack, endpoints)
    healthy = bool(rows) and all(row.healthy for row in rows)
    works = {row.part for row in rows if row.healthy}
    lag = _lag(stack, endpoints) if {"kafka", "pipeline"} <= works else None
    documents = _documents(endpoints) if "elasticsearch" in works else None
    if as_json:
        print(
            json.dumps(
                {
                    "healthy": healthy,
                    "state": str(stack.layout.state),
                    "parts": [asdict(row) | {"healthy": row.healthy} for row in rows],
                    "pipeline": lag,
                    "documents_10m": documents,
                },
                indent=2,
            )
        )
    else:
        _print(stack, rows, lag, documents)
    return 0 if healthy else 1


def _rows(stack: Stack, endpoints: Endpoints) -> list[Row]:
    states = stack.supervisor.states()
    memory: dict[str, int] = {}
    for process in processes.find(stack.layout.state):
        memory[process.program] = memory.get(process.program, 0) + process.rss_bytes()
    programs = [name for name in (*SERVICES, *PARTS) if name in states] or list(SERVICES)
    rows = []
    for name in programs:
        state = states.get(name)
        if state is None or not state.alive:
            rows.append(Row(name, state.state if state else "STOPPED", "down", 0, 0, 0))
            continue
        reason = _ask(stack, name, endpoints) if state.state == "RUNNING" or name in SERVICES else "is starting"
        rows.append(Row(name, state.state, reason or "ok", state.pid, memory.get(name, 0), state.since))
    return rows


def _ask(stack: Stack, name: str, endpoints: Endpoints) -> str | None:
    if name in SERVICES:
        return stack.ask(name, endpoints, machine.find().mariadb)
    return None


def _lag(stack: Stack, endpoints: Endpoints) -> dict[str, Any] | None:
    """Members of the pipeline's consumer group, and the messages of each topic that it has not committed."""
    result = stack.probe_kafka("lag", endpoints.kafka, f"{PREFIX}-pipeline")
    if result.returncode != 0:
        return None
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def _documents(endpoints: Endpoints) -> dict[str, int] | None:
    """Documents of the last ten minutes, by dataset."""
    body = {
        "size": 0,
        "query": {"range": {"@timestamp": {"gte": f"now-{WINDOW}"}}},
        "aggs": {"datasets": {"terms": {"field": "event.dataset", "size": 100}}},
    }
    url = (
        f"{endpoints.elasticsearch}/{PREFIX}-metrics-*,{PREFIX}-logs-*/_search"
        "?ignore_unavailable=true&allow_no_indices=true&filter_path=aggregations"
    )
    try:
        buckets = health.get_json(url, body).get("aggregations", {}).get("datasets", {}).get("buckets", [])
    except OSError:
        return None
    return {bucket["key"]: bucket["doc_count"] for bucket in buckets}


def _print(stack: Stack, rows: list[Row], lag: dict[str, Any] | None, documents: dict[str, int] | None) -> None:
    table = [("part", "state", "health", "pid", "memory", "since")]
    for row in rows:
        memory = f"{row.memory_bytes / (1 << 20):.0f} MB" if row.memory_bytes else "-"
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.since)) if row.since else "-"
        table.append((row.part, row.state, row.health, str(row.pid or "-"), memory, since))
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print(f"memory in all: {sum(row.memory_bytes for row in rows) / (1 << 20):.0f} MB")
    if lag is not None:
        topics = ", ".join(f"{topic} {count}" for topic, count in sorted(lag["topics"].items())) or "nothing read yet"
        print(f"messages the pipeline has yet to commit ({lag['members']} workers): {topics}")
    if documents is not None:
        counts = ", ".join(f"{dataset} {count}" for dataset, count in sorted(documents.items())) or "none"
        print(f"documents of the last {WINDOW}: {counts}")
    if not any(row.pid for row in rows):
        print(f"nothing of the stack in {stack.layout.state} is running; start it: deploy/local/up")
