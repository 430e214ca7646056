"""Processes: counts by state and the busiest ones each tick, the whole list once a minute.

All three come from one pass over /proc/PID/stat (a quarter of what psutil takes for the same). Command lines, with the
secrets in them masked, and users are read once per process and only of those that are shown. In the documents of the
busiest they stand when a process is new among them and then once a minute, with what hardly changes, for they weigh more
than the figures.
The list is an event: metrics keep no source, and as one text it costs an index nothing. Every quarter of an hour it is
complete; between, it leaves out what does not change: who a process is and its command line where an earlier list told
them, and kernel threads that did nothing (docs/decisions).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Optional

from ezadmin_agent.collectors import Collector, Document, Sample, put, significant
from ezadmin_agent.fields import COMMON, Field, boolean, gauge, keyword
from ezadmin_agent.reader import Process, Reader
from ezadmin_wire import processes as lists
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
COMPLETE_SECONDS = 899.0
COMMAND_LINE = 128
LIST_COMMAND_LINE = (128, 48, 0)
LIST_BYTES = 200 << 10
HZ = os.sysconf("SC_CLK_TCK")

FIELDS = (
    gauge("system.process.summary.total", "integer", "", "Processes"),
    *(gauge(f"system.process.summary.{word}", "integer", "", f"Processes in the state {word}") for word in WORDS),
    gauge("system.process.summary.threads.running", "integer", "", "Threads that run or wait for a core"),
    gauge("system.process.summary.threads.blocked", "integer", "", "Threads that wait for a disk"),
)


def _passing(name: str, type: str, unit: str, description: str) -> Field:
    """A gauge that is kept in no average of hours: processes come and go, each of them would be a series of its own."""
    return Field(name, type, unit, "gauge", False, description)


TOP_FIELDS = (
    keyword("process.entity_id", "The process: boot, pid and start, so never the same for another one", dimension=True),
    Field("process.pid", "long", "", "keyword", False, "Process id"),
    Field("process.parent.pid", "long", "", "keyword", False, "Process id of its parent"),
    keyword("process.name", "Its name as the kernel keeps it, 15 bytes at most"),
    keyword("process.command_line", "Its arguments, secrets masked, at most 128 characters"),
    Field("process.start", "date", "", "date", False, "When it started"),
    keyword("user.name", "Whose it is"),
    keyword("system.process.state", "running, sleeping, idle, stopped, zombie, dead or unknown"),
    _passing("system.process.cpu.total.pct", "float", "ratio", "CPU it took, as top says it: 1 is one core"),
    _passing(
        "system.process.memory.rss.bytes", "long", "byte", "Its resident set, shared pages included, to three digits"
    ),
    _passing("system.process.memory.rss.pct", "float", "ratio", "Its resident set / memory of the machine"),
    _passing("system.process.num_threads", "integer", "", "Its threads"),
)
LIST_FIELDS = (
    *COMMON,
    keyword("event.kind", "state"),
    keyword("log.level", "info"),
    Field("message", "text", "", "keyword", False, "How many there are"),
    Field("system.processes.count", "long", "", "gauge", False, "Processes that there are"),
    Field(
        "system.processes.list",
        "text",
        "",
        "keyword",
        False,
        "A line per column: its name, then a value per process, parted by tabs (docs/contracts.md)",
    ),
    boolean("system.processes.complete", "True: with all that does not change, too; every 15 min"),
)


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


_Key = tuple[int, int]


class _State(NamedTuple):
    """``ticks`` of CPU per process at the run ``at``; ``told``: what was told in full since ``told_at``."""

    at: float
    ticks: Mapping[_Key, int]
    told: frozenset[_Key]
    told_at: Optional[float]


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
    told: set[_Key] = set()
    told_at = None
    again = True
    if previous is not None:  # what was only primed was not told
        again = previous.told_at is None or at - previous.told_at >= TELL_SECONDS
        told, told_at = (set(), at) if again else (set(previous.told), previous.told_at)
    documents = []
    for process in dict.fromkeys((*busiest, *largest)):
        document: Document = {
            "process.entity_id": f"{reader.boot()}-{process.pid}-{process.start}",
            "process.name": process.name,
            "system.process.memory.rss.bytes": int(significant(process.rss, 3)),
        }
        if process.pid in used:
            document["system.process.cpu.total.pct"] = round(used[process.pid], 3)
        key = (process.pid, process.start)
        if key not in told:
            told.add(key)
            user, command_line = reader.identity(process)
            put(document, "user.name", user)
            document["process.pid"] = process.pid
            if command_line:
                document["process.command_line"] = command_line[:COMMAND_LINE]
            if again:
                document["process.parent.pid"] = process.parent
                document["system.process.state"] = STATES.get(process.state, "unknown")
                document["system.process.memory.rss.pct"] = round(min(1.0, process.rss / total), 4) if total else 0.0
                document["system.process.num_threads"] = process.threads
                document["process.start"] = _started(reader, process)
        documents.append(document)
    return Sample(documents, _State(at, {(p.pid, p.start): p.ticks for p in processes}, frozenset(told), told_at))


def collect_list(reader: Reader, previous: Optional[_State]) -> Sample:
    """One event with the processes. Where it would be too long, command lines are shortened, then the largest pids cut."""
    at = reader.monotonic()
    processes = sorted(reader.processes(), key=lambda p: p.pid)
    used = _used(processes, previous, at, reader.uptime())
    reader.forget_identities(processes)
    complete = previous is None or previous.told_at is None or at - previous.told_at >= COMPLETE_SECONDS
    told: frozenset[_Key] = frozenset() if complete or previous is None else previous.told
    shown = [p for p in processes if complete or not _idle_kernel_thread(p, used)]
    for limit in LIST_COMMAND_LINE:
        text = lists.encode(_row(reader, p, used, limit, (p.pid, p.start) in told) for p in shown)
        if len(json.dumps(text)) <= LIST_BYTES:
            break
    kept = len(shown)
    while len(json.dumps(text)) > LIST_BYTES:
        kept = kept * 9 // 10
        text = lists.encode(_row(reader, p, used, 0, (p.pid, p.start) in told) for p in shown[:kept])
    message = f"{len(processes)} processes" + (f", {len(shown) - kept} of them left out" if kept < len(shown) else "")
    document: Document = {
        "event.kind": "state",
        "log.level": "info",
        "message": message,
        "system.processes.count": len(processes),
        "system.processes.complete": complete,
        "system.processes.list": text,
    }
    told_at = None if previous is None else at if complete else previous.told_at  # what was only primed was not told
    ticks = {(p.pid, p.start): p.ticks for p in processes}
    return Sample([document], _State(at, ticks, frozenset(ticks), told_at))


def _idle_kernel_thread(process: Process, used: Mapping[int, float]) -> bool:
    """Whether it is one of the kernel's own (child of kthreadd, no memory) that took no CPU."""
    return (
        process.rss == 0
        and 2 in (process.pid, process.parent)
        and process.state != "Z"
        and used.get(process.pid, 0.0) < 0.0005
    )


def _row(reader: Reader, process: Process, used: Mapping[int, float], limit: int, told: bool) -> lists.Row:
    user, command_line = (None, "") if told else reader.identity(process)
    return lists.Row(
        pid=process.pid,
        parent=None if told else process.parent,
        user=user,
        state=process.state,
        cpu=used.get(process.pid, 0.0) * 100,
        memory=-(-process.rss >> 20),
        threads=process.threads,
        start=None if told else process.start // HZ,
        command=command_line[:limit] if command_line and limit else f"[{process.name}]",
    )


def _started(reader: Reader, process: Process) -> str:
    return format_epoch_ms(int((reader.boot_time() + process.start / HZ) * 1000))


SLOW = ("system.process.summary.dead", "system.process.summary.unknown")
HOST = Collector("process", "system.host", FIELDS, collect, slow=SLOW)
BUSIEST = Collector("top", "system.process", TOP_FIELDS, collect_top)
LIST = Collector("processes", "system.processes", LIST_FIELDS, collect_list, seconds=60, event=True)
