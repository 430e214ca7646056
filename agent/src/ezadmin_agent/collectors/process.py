"""Processes: counts by state and the busiest ones each tick, the whole list once a minute.

All three come from one pass over /proc/PID/stat (a quarter of what psutil takes for the same). Command lines, with the
secrets in them masked, and users are read once per process and only of those that are shown. In the documents of the
busiest they, and what hardly changes, stand when a process is new among them and then once a minute, for they weigh
more than the figures.
The list is an event: metrics keep no source, and as one text it costs an index nothing (docs/decisions).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Optional

from ezadmin_agent.collectors import Collector, Document, Sample, put
from ezadmin_agent.fields import COMMON, Field, gauge, keyword
from ezadmin_agent.reader import Process, Reader
from ezadmin_wire.times import format_epoch_ms

STATES = {  # letters of /proc/PID/stat (proc(5)); a process that waits for a disk sleeps too, as Metricbeat counts it
    "R": "running",
    "S": "sleeping",
    "D": "sleeping",
    "I": "idle",
    "T": "stopped",
    "t": "stopped",
    "Z": "zombie",
    "X": "dead",
    "x": "dead",
}
WORDS = ("running", "sleeping", "idle", "stopped", "zombie", "dead", "unknown")
TOP = 5
TELL_SECONDS = 59.0
COMMAND_LINE = 256
LIST_COMMAND_LINE = (128, 48, 0)
LIST_BYTES = 200 << 10
HZ = os.sysconf("SC_CLK_TCK")

FIELDS = (
    gauge("system.process.summary.total", "integer", "", "Processes"),
    *(gauge(f"system.process.summary.{word}", "integer", "", f"Processes in the state {word}") for word in WORDS),
    gauge("system.process.summary.threads.running", "integer", "", "Threads that run or wait for a core"),
    gauge("system.process.summary.threads.blocked", "integer", "", "Threads that wait for a disk"),
)
TOP_FIELDS = (
    keyword("process.entity_id", "The process: boot, pid and start, so never the same for another one", dimension=True),
    Field("process.pid", "long", "", "keyword", False, "Process id"),
    Field("process.parent.pid", "long", "", "keyword", False, "Process id of its parent"),
    keyword("process.name", "Its name as the kernel keeps it, 15 bytes at most"),
    keyword("process.command_line", "Its arguments, secrets masked, at most 256 characters"),
    Field("process.start", "date", "", "date", False, "When it started"),
    keyword("user.name", "Whose it is"),
    keyword("system.process.state", "running, sleeping, idle, stopped, zombie, dead or unknown"),
    gauge("system.process.cpu.total.pct", "float", "ratio", "CPU it took, as top says it: 1 is one core"),
    gauge("system.process.memory.rss.bytes", "long", "byte", "Memory it holds (resident set, shared pages included)"),
    gauge("system.process.memory.rss.pct", "float", "ratio", "Its resident set / memory of the machine"),
    gauge("system.process.num_threads", "integer", "", "Its threads"),
)
LIST_FIELDS = (
    *COMMON,
    keyword("event.kind", "state"),
    keyword("log.level", "info"),
    Field("message", "text", "", "keyword", False, "How many there are"),
    Field("system.processes.count", "long", "", "gauge", False, "Processes in the list"),
    Field(
        "system.processes.list",
        "text",
        "",
        "keyword",
        False,
        "A heading and a line per process, parted by tabs; start: s after boot",
    ),
)
HEADING = "pid\tparent\tuser\tstate\tcpu %\trss KiB\tthreads\tstart\tcommand"


def collect(reader: Reader, _previous: None) -> Sample:
    """One fragment of the host document."""
    counts = dict.fromkeys(WORDS, 0)
    for process in reader.processes():
        counts[STATES.get(process.state, "unknown")] += 1
    document: Document = {"system.process.summary.total": sum(counts.values())}
    document.update({f"system.process.summary.{word}": count for word, count in counts.items()})
    running, blocked = reader.threads()
    put(document, "system.process.summary.threads.running", running)
    put(document, "system.process.summary.threads.blocked", blocked)
    return Sample([document])


class _State(NamedTuple):
    at: float
    ticks: Mapping[tuple[int, int], int]
    told: Mapping[tuple[int, int], float]


def _used(processes: Iterable[Process], previous: Optional[_State], at: float, uptime: float) -> dict[int, float]:
    """Share of one core per pid since the run before; a process without a figure then counts if it has started since."""
    if previous is None or at <= previous.at:
        return {}
    seconds = at - previous.at
    used = {}
    for process in processes:
        before = previous.ticks.get((process.pid, process.start))
        if before is None and uptime - process.start / HZ <= seconds + 1:
            before = 0
        if before is not None and process.ticks >= before:
            used[process.pid] = (process.ticks - before) / HZ / seconds
    return used


def collect_top(reader: Reader, previous: Optional[_State]) -> Sample:
    """One document per process among the five that took most CPU or the five that hold most memory."""
    at = reader.monotonic()
    processes = reader.processes()
    used = _used(processes, previous, at, reader.uptime())
    busiest = sorted((p for p in processes if used.get(p.pid)), key=lambda p: (-used[p.pid], p.pid))[:TOP]
    largest = sorted((p for p in processes if p.rss), key=lambda p: (-p.rss, p.pid))[:TOP]
    total = reader.memory().total
    told_before = previous.told if previous is not None else {}
    told: dict[tuple[int, int], float] = {}
    documents = []
    for process in dict.fromkeys((*busiest, *largest)):
        document: Document = {
            "process.entity_id": f"{reader.boot()}-{process.pid}-{process.start}",
            "process.pid": process.pid,
            "process.name": process.name,
            "system.process.memory.rss.bytes": process.rss,
        }
        if process.pid in used:
            document["system.process.cpu.total.pct"] = round(used[process.pid], 4)
        key = (process.pid, process.start)
        told[key] = told_before.get(key, -TELL_SECONDS)
        if at - told[key] >= TELL_SECONDS or previous is None:
            told[key] = at
            user, command_line = reader.identity(process)
            put(document, "user.name", user)
            document["process.parent.pid"] = process.parent
            document["system.process.state"] = STATES.get(process.state, "unknown")
            document["system.process.memory.rss.pct"] = round(min(1.0, process.rss / total), 4) if total else 0.0
            document["system.process.num_threads"] = process.threads
            document["process.start"] = _started(reader, process)
            if command_line:
                document["process.command_line"] = command_line[:COMMAND_LINE]
        documents.append(document)
    # what was only primed was not told
    return Sample(documents, _State(at, {(p.pid, p.start): p.ticks for p in processes}, told if previous else {}))


def collect_list(reader: Reader, previous: Optional[_State]) -> Sample:
    """One event with every process. Where it would be too long, command lines are shortened, then the largest pids cut."""
    at = reader.monotonic()
    processes = sorted(reader.processes(), key=lambda p: p.pid)
    used = _used(processes, previous, at, reader.uptime())
    reader.forget_identities(processes)
    for limit in LIST_COMMAND_LINE:
        rows = [HEADING, *(_row(reader, process, used.get(process.pid), limit) for process in processes)]
        kept = _fitting(rows)
        if kept == len(rows):
            break
    left_out = len(rows) - kept
    message = f"{len(processes)} processes" + (f", {left_out} of them left out" if left_out else "")
    document: Document = {
        "event.kind": "state",
        "log.level": "info",
        "message": message,
        "system.processes.count": len(processes),
        "system.processes.list": "\n".join(rows[:kept]),
    }
    return Sample([document], _State(at, {(p.pid, p.start): p.ticks for p in processes}, {}))


def _fitting(rows: Sequence[str]) -> int:
    """How many rows an event can hold."""
    size = 0
    for number, row in enumerate(rows):
        size += len(json.dumps(row)) + 2
        if size > LIST_BYTES:
            return number
    return len(rows)


def _row(reader: Reader, process: Process, used: Optional[float], limit: int) -> str:
    user, command_line = reader.identity(process)
    command = command_line[:limit].translate(_BREAKS) if command_line and limit else f"[{process.name}]"
    cpu = f"{used * 100:.3g}" if used else "0"
    return "\t".join(
        (
            str(process.pid),
            str(process.parent),
            user or "",
            process.state,
            cpu,
            str(process.rss >> 10),
            str(process.threads),
            str(process.start // HZ),
            command.translate(_BREAKS),
        )
    )


_BREAKS = {ord(character): " " for character in "\t\n\r"}


def _started(reader: Reader, process: Process) -> str:
    return format_epoch_ms(int((reader.boot_time() + process.start / HZ) * 1000))


HOST = Collector("process", "system.host", FIELDS, collect)
BUSIEST = Collector("top", "system.process", TOP_FIELDS, collect_top)
LIST = Collector("processes", "system.processes", LIST_FIELDS, collect_list, seconds=60, event=True)
