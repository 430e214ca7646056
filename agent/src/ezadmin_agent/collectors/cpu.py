"""CPU of the host, all cores together, and (once a minute) per core."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

from ezadmin_agent.collectors import Collector, Document, Sample, put, rate
from ezadmin_agent.fields import Field, counter, gauge
from ezadmin_agent.reader import Reader

STATES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
WHAT = {
    "user": "user programs",
    "nice": "user programs of low priority",
    "system": "the kernel",
    "idle": "doing nothing",
    "iowait": "doing nothing while a disk is waited for",
    "irq": "hardware interrupts",
    "softirq": "software interrupts",
    "steal": "taken by the hypervisor for other machines",
}
HZ = 100  # what Linux calls USER_HZ: psutil's seconds times this are the kernel's ticks


def _fields(prefix: str, middle: str, whose: str) -> list[Field]:
    return [
        *(
            gauge(
                f"{prefix}.{state}{middle}.pct", "float", "ratio", f"Share of time that {whose} spent on: {WHAT[state]}"
            )
            for state in STATES
        ),
        gauge(
            f"{prefix}.total{middle}.pct", "float", "ratio", f"Share of time that {whose} spent neither idle nor iowait"
        ),
        *(
            counter(f"{prefix}.{state}.ticks", "", f"Ticks of 10 ms since boot of {whose} on: {WHAT[state]}")
            for state in STATES
        ),
    ]


FIELDS = (
    *_fields("system.cpu", ".norm", "all cores together"),
    gauge(
        "system.cpu.guest.norm.pct", "float", "ratio", "Share of time for virtual machines of this host (part of user)"
    ),
    gauge("system.cpu.cores", "integer", "", "Logical cores"),
    counter("system.cpu.context_switches", "", "Context switches since boot"),
    gauge("system.cpu.context_switches_per_sec", "float", "1/s", "Context switches per second"),
    counter("system.cpu.interrupts", "", "Interrupts since boot"),
    gauge("system.cpu.interrupts_per_sec", "float", "1/s", "Interrupts per second"),
    counter("system.cpu.soft_interrupts", "", "Software interrupts since boot"),
    gauge("system.cpu.soft_interrupts_per_sec", "float", "1/s", "Software interrupts per second"),
)
CORE_FIELDS = (
    Field("system.core.id", "long", "", "keyword", False, "Number of the logical core", dimension=True),
    *_fields("system.core", "", "the core"),
    gauge("system.core.mhz", "float", "mhz", "Clock of the core"),
)


class _State(NamedTuple):
    at: float
    cores: int
    times: Any
    stats: Any


def collect(reader: Reader, previous: Optional[_State]) -> Sample:
    """One fragment of the host document."""
    state = _State(reader.monotonic(), reader.cpu_count(), reader.cpu_times(), reader.cpu_stats())
    document: Document = {"system.cpu.cores": state.cores}
    # a core that came or went changes the sums: one tick without shares is better than a wrong one
    before = previous.times if previous is not None and previous.cores == state.cores else None
    _shares(document, "system.cpu", ".norm", state.times, before)
    for name, attribute in (
        ("context_switches", "ctx_switches"),
        ("interrupts", "interrupts"),
        ("soft_interrupts", "soft_interrupts"),
    ):
        now = getattr(state.stats, attribute)
        document[f"system.cpu.{name}"] = now
        if previous is not None:
            value = rate(now, getattr(previous.stats, attribute), state.at - previous.at)
            put(document, f"system.cpu.{name}_per_sec", value)
    return Sample([document], state)


def collect_cores(reader: Reader, previous: Optional[list[Any]]) -> Sample:
    """One document per core. Shares are those since the run before."""
    times = reader.core_times()
    mhz = reader.core_mhz()
    documents = []
    for number, now in enumerate(times):
        document: Document = {"system.core.id": number}
        before = previous[number] if previous is not None and len(previous) == len(times) else None
        _shares(document, "system.core", "", now, before)
        if number < len(mhz) and mhz[number]:
            document["system.core.mhz"] = round(mhz[number], 1)
        documents.append(document)
    return Sample(documents, list(times))


def _shares(document: Document, prefix: str, middle: str, now: Any, before: Any) -> None:
    """Put ticks and, with a sample before, shares of time; guest time is part of user and nice on Linux."""
    for state in STATES:
        document[f"{prefix}.{state}.ticks"] = round(getattr(now, state, 0.0) * HZ)
    if before is None:
        return
    # iowait may go back a little by itself; a reset makes all go back
    spent = {state: max(0.0, getattr(now, state, 0.0) - getattr(before, state, 0.0)) for state in STATES}
    total = sum(spent.values())
    if total <= 0 or getattr(now, "user", 0.0) < getattr(before, "user", 0.0):
        return
    # the kernel counts in 10 ms: below 100 s of all cores together a fourth decimal says nothing
    places = 3 if total < 100 else 4
    for state in STATES:
        document[f"{prefix}.{state}{middle}.pct"] = round(spent[state] / total, places)
    document[f"{prefix}.total{middle}.pct"] = round(1 - (spent["idle"] + spent["iowait"]) / total, places)
    if prefix == "system.cpu":
        guest = sum(getattr(now, name, 0.0) - getattr(before, name, 0.0) for name in ("guest", "guest_nice"))
        document[f"{prefix}.guest{middle}.pct"] = round(max(0.0, guest) / total, places)


HOST = Collector("cpu", "system.host", FIELDS, collect, slow=("system.cpu.cores", "system.cpu.guest.norm.pct"))
CORES = Collector("core", "system.core", CORE_FIELDS, collect_cores, seconds=60)
