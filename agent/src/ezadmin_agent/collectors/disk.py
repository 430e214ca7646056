"""Disk traffic: of the host in total, and per device.

The total counts hardware only: a write to an md or dm device is counted again on the disks under it. Partitions are
left out for the same reason, and loop, ram and unused devices because they say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

from ezadmin_agent.collectors import Collector, Document, Sample, put, rate, significant
from ezadmin_agent.fields import Field, counter, gauge, keyword
from ezadmin_agent.reader import Reader


def _fields(prefix: str, whose: str) -> list[Field]:
    fields = []
    for way, verb in (("read", "read from"), ("write", "written to")):
        fields += [
            counter(
                f"{prefix}.{way}.count",
                "",
                f"Operations that {'read' if way == 'read' else 'wrote'}, {whose}, since boot",
            ),
            gauge(
                f"{prefix}.{way}.count_per_sec", "float", "1/s", f"{way.capitalize()} operations per second, {whose}"
            ),
            counter(f"{prefix}.{way}.bytes", "byte", f"Bytes {verb} {whose} since boot"),
            gauge(f"{prefix}.{way}.bytes_per_sec", "float", "byte/s", f"Bytes {verb} {whose} per second"),
            counter(f"{prefix}.{way}.time", "ms", f"Time spent in {way} operations, {whose}, since boot"),
        ]
    return fields


FIELDS = (
    *_fields("system.diskio.total", "all disks"),
    gauge("system.diskio.total.utilization", "float", "ratio", "Share of time that the busiest disk was at work"),
)
DEVICE_FIELDS = (
    keyword("system.diskio.name", "The block device", dimension=True),
    *_fields("system.diskio", "the device"),
    counter("system.diskio.read.merged", "", "Reads that were joined to another since boot"),
    counter("system.diskio.write.merged", "", "Writes that were joined to another since boot"),
    counter("system.diskio.io.time", "ms", "Time with at least one operation under way, since boot"),
    gauge("system.diskio.io.utilization", "float", "ratio", "Share of time with at least one operation under way"),
)


class _State(NamedTuple):
    at: float
    devices: Mapping[str, Any]


def collect(reader: Reader, previous: Optional[_State]) -> Sample:
    """One fragment of the host document."""
    hardware = [name for name, real in reader.block_devices().items() if real]
    state = _State(reader.monotonic(), {n: io for n, io in reader.disk_io().items() if n in hardware})
    document: Document = {}
    for way in ("read", "write"):
        for what in ("count", "bytes", "time"):
            document[f"system.diskio.total.{way}.{what}"] = sum(
                getattr(io, f"{way}_{what}") for io in state.devices.values()
            )
        if previous is None:
            continue
        for what in ("count", "bytes"):
            rates = [
                rate(getattr(io, f"{way}_{what}"), _before(previous, name, f"{way}_{what}"), state.at - previous.at)
                for name, io in state.devices.items()
            ]
            # summed per device: a disk that was plugged in or out changes the sum of the counters by all it ever did
            document[f"system.diskio.total.{way}.{what}_per_sec"] = significant(sum(r for r in rates if r is not None))
    if previous is not None:
        shares = [
            rate(getattr(io, "busy_time", None), _before(previous, name, "busy_time"), state.at - previous.at)
            for name, io in state.devices.items()
        ]
        busiest = max((share for share in shares if share is not None), default=None)
        if busiest is not None:
            document["system.diskio.total.utilization"] = round(min(1.0, busiest / 1000), 3)
    return Sample([document], state)


def collect_devices(reader: Reader, previous: Optional[_State]) -> Sample:
    """One document per whole device that was ever used."""
    wanted = [name for name in reader.block_devices() if not name.startswith(("loop", "ram"))]
    state = _State(reader.monotonic(), {n: io for n, io in reader.disk_io().items() if n in wanted})
    documents = []
    for name, io in state.devices.items():
        if not io.read_count and not io.write_count:
            continue
        document: Document = {"system.diskio.name": name}
        seconds = state.at - previous.at if previous is not None else 0.0
        for way in ("read", "write"):
            for what in ("count", "bytes", "time"):
                document[f"system.diskio.{way}.{what}"] = getattr(io, f"{way}_{what}")
            for what in ("count", "bytes"):
                before = _before(previous, name, f"{way}_{what}")
                put(
                    document, f"system.diskio.{way}.{what}_per_sec", rate(getattr(io, f"{way}_{what}"), before, seconds)
                )
            put(document, f"system.diskio.{way}.merged", getattr(io, f"{way}_merged_count", None))
        busy = getattr(io, "busy_time", None)
        put(document, "system.diskio.io.time", busy)
        milliseconds = rate(busy, _before(previous, name, "busy_time"), seconds)
        if milliseconds is not None:
            document["system.diskio.io.utilization"] = round(min(1.0, milliseconds / 1000), 3)
        documents.append(document)
    return Sample(documents, state)


def _before(previous: Optional[_State], name: str, attribute: str) -> Optional[float]:
    if previous is None or name not in previous.devices:
        return None
    return getattr(previous.devices[name], attribute, None)


HOST = Collector("disk", "system.host", FIELDS, collect)
DEVICES = Collector("diskio", "system.diskio", DEVICE_FIELDS, collect_devices)
