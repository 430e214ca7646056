"""Counts of processes by state."""

from __future__ import annotations

from ezadmin_agent.collectors import Collector, Document, Sample, put
from ezadmin_agent.fields import gauge
from ezadmin_agent.reader import Reader

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
FIELDS = (
    gauge("system.process.summary.total", "integer", "", "Processes"),
    *(gauge(f"system.process.summary.{word}", "integer", "", f"Processes in the state {word}") for word in WORDS),
    gauge("system.process.summary.threads.running", "integer", "", "Threads that run or wait for a core"),
    gauge("system.process.summary.threads.blocked", "integer", "", "Threads that wait for a disk"),
)


def collect(reader: Reader, _previous: None) -> Sample:
    """One fragment of the host document."""
    counts = dict.fromkeys(WORDS, 0)
    for letter, count in reader.process_states().items():
        counts[STATES.get(letter, "unknown")] += count
    document: Document = {"system.process.summary.total": sum(counts.values())}
    document.update({f"system.process.summary.{word}": count for word, count in counts.items()})
    running, blocked = reader.threads()
    put(document, "system.process.summary.threads.running", running)
    put(document, "system.process.summary.threads.blocked", blocked)
    return Sample([document])


HOST = Collector("process", "system.host", FIELDS, collect)
