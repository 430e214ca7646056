"""Memory and swap."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

from ezadmin_agent.collectors import Collector, Document, Sample, put, rate
from ezadmin_agent.fields import counter, gauge
from ezadmin_agent.reader import Reader

FIELDS = (
    gauge("system.memory.total", "long", "byte", "Memory of the machine"),
    gauge("system.memory.free", "long", "byte", "Memory used for nothing at all"),
    gauge("system.memory.cached", "long", "byte", "Page cache"),
    gauge("system.memory.buffers", "long", "byte", "Buffers of block devices"),
    gauge("system.memory.used.bytes", "long", "byte", "total - free, so with the cache"),
    gauge("system.memory.used.pct", "float", "ratio", "used.bytes / total"),
    gauge("system.memory.actual.free", "long", "byte", "Memory that programs can still get (MemAvailable)"),
    gauge("system.memory.actual.used.bytes", "long", "byte", "total - actual.free: what programs really use"),
    gauge("system.memory.actual.used.pct", "float", "ratio", "actual.used.bytes / total"),
    gauge("system.memory.swap.total", "long", "byte", "Swap space"),
    gauge("system.memory.swap.free", "long", "byte", "Swap space not in use"),
    gauge("system.memory.swap.used.bytes", "long", "byte", "Swap space in use"),
    gauge("system.memory.swap.used.pct", "float", "ratio", "swap.used.bytes / swap.total; 0 without swap"),
    counter("system.memory.swap.in.pages", "", "Pages of 4 KiB read from swap since boot"),
    gauge("system.memory.swap.in.pages_per_sec", "float", "1/s", "Pages read from swap per second"),
    counter("system.memory.swap.out.pages", "", "Pages of 4 KiB written to swap since boot"),
    gauge("system.memory.swap.out.pages_per_sec", "float", "1/s", "Pages written to swap per second"),
)
PSUTIL_PAGE = 4096  # psutil multiplies the kernel's page counts by this, whatever the page size


class _State(NamedTuple):
    at: float
    pages_in: int
    pages_out: int


def collect(reader: Reader, previous: Optional[_State]) -> Sample:
    """One fragment of the host document."""
    memory, swap = reader.memory(), reader.swap()
    state = _State(reader.monotonic(), swap.sin // PSUTIL_PAGE, swap.sout // PSUTIL_PAGE)
    total = memory.total
    document: Document = {
        "system.memory.total": total,
        "system.memory.free": memory.free,
        "system.memory.used.bytes": total - memory.free,
        "system.memory.used.pct": _ratio(total - memory.free, total),
        "system.memory.actual.free": memory.available,
        "system.memory.actual.used.bytes": total - memory.available,
        "system.memory.actual.used.pct": _ratio(total - memory.available, total),
        "system.memory.swap.total": swap.total,
        "system.memory.swap.free": swap.free,
        "system.memory.swap.used.bytes": swap.used,
        "system.memory.swap.used.pct": _ratio(swap.used, swap.total),
        "system.memory.swap.in.pages": state.pages_in,
        "system.memory.swap.out.pages": state.pages_out,
    }
    put(document, "system.memory.cached", _get(memory, "cached"))
    put(document, "system.memory.buffers", _get(memory, "buffers"))
    if previous is not None:
        seconds = state.at - previous.at
        put(document, "system.memory.swap.in.pages_per_sec", rate(state.pages_in, previous.pages_in, seconds))
        put(document, "system.memory.swap.out.pages_per_sec", rate(state.pages_out, previous.pages_out, seconds))
    return Sample([document], state)


def _ratio(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0


def _get(memory: Any, name: str) -> Optional[int]:
    return getattr(memory, name, None)


SLOW = ("total", "buffers", "used.bytes", "used.pct", "actual.used.bytes", "swap.total", "swap.free", "swap.used.bytes")
HOST = Collector("memory", "system.host", FIELDS, collect, slow=[f"system.memory.{name}" for name in SLOW])
