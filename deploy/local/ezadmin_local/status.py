"""`status`: every part as it is, asked and not assumed."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import Any

from . import machine, processes
from .config import Endpoints
from .layout import GRAFANA, PARTS, PROGRAMS, SERVICES
from .security import PREFIX
from .stack import ASKED, Stack
from .supervisor import ProgramState

WINDOW = "10m"
GROUPS = {part: f"{PREFIX}-{part}" for part in ("pipeline", "cmdb-worker")}
"""Consumer groups of the parts that read from Kafka."""


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
    states = stack.supervisor.states()
    programs = [name for name in PROGRAMS if name in states] or list(SERVICES)
    health_of = {name: _service_health(stack, endpoints, name) for name in (*SERVICES, GRAFANA) if _alive(states, name)}
    groups = None
    if health_of.get("kafka") == "ok" and any(name in states for name in GROUPS):
        groups = _groups(stack)
    health_of |= {name: _part_health(stack, endpoints, name, groups) for name in PARTS if _alive(states, name)}
    memory: dict[str, int] = {}
    for process in processes.find(stack.layout.state):
        memory[process.program] = memory.get(process.program, 0) + process.rss_bytes()
    rows = []
    for name in programs:
        state = states.get(name)
        if state is None or not state.alive:
            rows.append(Row(name, state.state if state else "STOPPED", "down", 0, 0, 0))
        else:
            rows.append(Row(name, state.state, health_of[name], state.pid, memory.get(name, 0), state.since))
    healthy = all(row.healthy for row in rows)
    lag = groups.get(GROUPS["pipeline"]) if groups and "pipeline" in programs else None
    documents = _documents(stack, endpoints) if health_of.get("elasticsearch") == "ok" else None
    if as_json:
        content = {
            "healthy": healthy,
            "state": str(stack.layout.state),
            "parts": [asdict(row) | {"healthy": row.healthy} for row in rows],
            "pipeline": lag,
            "documents_10m": documents,
        }
        print(json.dumps(content, indent=2))
    else:
        _print(stack, rows, lag, documents)
    return 0 if healthy else 1


def _alive(states: dict[str, ProgramState], name: str) -> bool:
    return name in states and states[name].alive


def _service_health(stack: Stack, endpoints: Endpoints, name: str) -> str:
    return stack.ask(name, endpoints, machine.find().mariadb) or "ok"


def _part_health(stack: Stack, endpoints: Endpoints, name: str, groups: dict[str, Any] | None) -> str:
    """What a part of ours says of itself, or what Kafka says of it."""
    if name == "agent":
        return _agent_health(stack)
    if name in ASKED:
        return stack.ask_part(name, endpoints) or "ok"
    if groups is None:
        return "Kafka cannot say whether it reads"
    return "ok" if groups[GROUPS[name]]["members"] else "does not read from Kafka (yet)"


def _agent_health(stack: Stack) -> str:
    result = stack.run_part_command("agent", "status", "--json")
    try:
        status = json.loads(result.stdout)
        running, connected = status["running"], status["kafka"]["connected"]
    except (ValueError, KeyError, TypeError):
        return (result.stderr.strip().splitlines() or ["gives no status"])[-1]
    if not running:
        return "is starting"
    return "ok" if connected else "not connected to Kafka"


def _groups(stack: Stack) -> dict[str, Any] | None:
    """Of the consumer group of each part: its members, and the messages of each topic that it has not committed."""
    result = stack.probe_kafka("groups", *GROUPS.values())
    if result.returncode != 0:
        return None
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def _documents(stack: Stack, endpoints: Endpoints) -> dict[str, int] | None:
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
        buckets = stack.elastic_http.get_json(url, body).get("aggregations", {}).get("datasets", {}).get("buckets", [])
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
