"""What thresholds cost: microseconds per line of metrics with 0, 1, 10 limits on a host, and bytes of state per partition.

    python tests/bench/thresholds.py

A tick is made of the agent's own fields (``es/fields.json``): one document of the host, four NICs, three devices, ten
processes, and each sixth tick eight cores and six filesystems. The share is in what it costs to make documents of the
same lines.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from ezadmin_pipeline.directory import Directory
from ezadmin_pipeline.documents import DocumentMaker
from ezadmin_pipeline.indexer import Chunk
from ezadmin_pipeline.thresholds import State, Thresholds
from ezadmin_wire import config
from ezadmin_wire.batch import Batch
from ezadmin_wire.config import HostRecord, LimitRecord
from ezadmin_wire.names import Names
from ezadmin_wire.times import format_epoch_ms

FIELDS = json.loads((Path(__file__).parents[2] / "es/fields.json").read_text("utf-8"))
START = 1_795_500_000_000
HOSTS = 200
ITEMS = {"system.network": 4, "system.diskio": 3, "system.process": 10, "system.core": 8, "system.filesystem": 6}
LIMITS = [
    LimitRecord("system.cpu.total.norm.pct", warning_raise=0.9, critical_raise=0.97, hold=60, no_data=300),
    LimitRecord("system.memory.actual.used.pct", warning_raise=0.9, critical_raise=0.97),
    LimitRecord("system.load.1", warning_raise=50),
    LimitRecord("system.memory.swap.used.pct", warning_raise=0.9),
    LimitRecord("system.filesystem.used.pct", warning_raise=0.9, critical_raise=0.97, dataset="system.filesystem"),
    LimitRecord("system.filesystem.used_files.pct", warning_raise=0.9, dataset="system.filesystem"),
    LimitRecord("system.network.in.bytes", warning_raise=1e15, dataset="system.network"),
    LimitRecord("system.diskio.io.utilization", warning_raise=0.9, n=3, m=5, dataset="system.diskio"),
    LimitRecord("system.core.total.pct", warning_raise=0.99, dataset="system.core"),
    LimitRecord("system.process.cpu.total.pct", "nginx*", warning_raise=4.0, dataset="system.process"),
]


def document(dataset: str, when: str, item: int, rng: random.Random) -> bytes:
    """One line with all fields of its dataset; ratios below 0.8."""
    values: dict[str, Any] = {"@timestamp": when, "event.dataset": dataset, "event.created": when}
    for field in FIELDS:
        name = field["name"]
        if field["dataset"] != dataset or name in values:
            continue
        if field["type"] in ("float", "double"):
            values[name] = round(rng.random() * 0.8, 4)
        elif field["type"] in ("long", "integer"):
            values[name] = item if field["dimension"] else rng.randrange(10**9)
        elif field["type"] == "keyword":
            values[name] = f"{name.rpartition('.')[2]}-{item}"
    return orjson.dumps(values)


def tick(number: int) -> tuple[str, list[bytes]]:
    """Time and lines of tick ``number``."""
    rng = random.Random(number)
    when = format_epoch_ms(START + number * 10_000)
    lines = [document("system.host", when, 0, rng)]
    for dataset, count in ITEMS.items():
        if number % 6 == 0 or dataset not in ("system.core", "system.filesystem"):
            lines += [document(dataset, when, item, rng) for item in range(count)]
    return when, lines


def host_id(number: int) -> str:
    """The id of a host."""
    return f"00000000-0000-4000-8000-{number:012d}"


def directory(limits: int, **change: Any) -> Directory:
    """All hosts, with so many limits each; ``change``: members of the limits."""
    found = Directory([])
    ids = [f"limit-{i}" for i in range(limits)]
    for i, limit_id in enumerate(ids):
        record = replace(LIMITS[i % len(LIMITS)], **change)
        found._apply(config.ConfigRecord(config.limit_key(limit_id), 1, record))
    for number in range(HOSTS):
        found._apply(config.ConfigRecord(config.host_key(host_id(number)), 1, HostRecord(f"h{number}", limits=ids)))
    return found


def best(work: Callable[[], None], runs: int = 9) -> float:
    """Seconds of CPU of the quickest run."""
    found = []
    for _ in range(runs):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def main() -> None:
    """Measure and print."""
    ticks = [tick(number) for number in range(60)]
    lines = sum(len(group) for _, group in ticks)
    size = sum(len(line) for _, group in ticks for line in group)
    print(f"{len(ticks)} ticks, {lines} lines, {size / lines:.0f} bytes a line")
    maker = DocumentMaker(Names(), directory(0), lambda: datetime.now(UTC))

    def make() -> None:
        for when, group in ticks:
            batch = Batch(
                host=host_id(0), kid="", topic="ezadmin.metrics", stream="metrics", epoch="0" * 16, seq=0, n=len(group),
                dataset="*", tmin=when, tmax=when, levels={}, sent=when, value=b"\n".join(group) + b"\n",
            )  # fmt: skip
            chunk: Any = Chunk(None, 0, fresh=False, context=batch)  # type: ignore[arg-type]
            maker.make(chunk, batch, [(0, batch.n)])

    documents = best(make) / lines * 1e6
    print(f"making documents of them: {documents:.2f} us a line")
    tags = [[(when[:16], "unknown", line) for line in group] for when, group in ticks]
    for limits in (0, 1, 10, 20):
        judge = Thresholds(directory(limits))

        def observe(judge: Thresholds = judge) -> None:
            state = State({})
            for number, group in enumerate(tags):
                judge.observe(state, host_id(0), START + number * 10_000, group)

        cost = best(observe) / lines * 1e6
        print(f"{limits:3} limits: {cost:.3f} us a line ({cost / documents:.0%})")
    rates = {"rate": True, "warning_raise": 1e18, "critical_raise": None}
    for title, change in (("all ok", {}), ("a rate each", rates)):
        judge, state = Thresholds(directory(20, **change)), State({})
        for number in range(2):
            for host in range(HOSTS):
                judge.observe(state, host_id(host), START + number * 10_000, tags[number])
        encoded = len(orjson.dumps(state.to_json()))
        spent = best(lambda state=state: orjson.dumps(state.to_json()))  # type: ignore[misc]
        print(f"state of {HOSTS} hosts x 20 limits, {title}: {encoded} bytes, {spent * 1000:.1f} ms a commit")


if __name__ == "__main__":
    main()
