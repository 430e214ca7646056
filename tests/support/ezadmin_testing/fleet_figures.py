"""Many hosts with figures of this moment, written straight to database and Elasticsearch, for pages of all hosts."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import urllib3
from sqlalchemy import insert

from ezadmin_cmdb.database import db, utc_now
from ezadmin_cmdb.hosts.models import Host
from ezadmin_testing.log_events import _post
from ezadmin_wire.names import Names
from ezadmin_wire.times import format_time

BULK = 5000
SLOW = "system.load.norm.1"
MOUNTS = ("/", "/var")


def host_id(number: int) -> str:
    """The id of a host."""
    return f"00000000-0000-4000-8000-f{number:011d}"


def host_name(number: int) -> str:
    """Its name: some are Korean, one is hostile."""
    return "<b>web</b>-0001" if number == 1 else f"{'서버' if number % 10 == 3 else 'web'}-{number:04d}"


def values(number: int) -> dict[str, float]:
    """The figures of a host: by its number, so that each can be told."""
    return {
        "system.cpu.total.norm.pct": 0.97 if number == 5 else 0.85 if number == 6 else (number % 70) / 100,
        "system.memory.actual.used.pct": (number % 80) / 100,
        "system.load.norm.1": (number % 150) / 100,
        "system.network.total.in.bytes_per_sec": 1000.0 * number,
        "system.network.total.out.bytes_per_sec": 500.0 * number,
    }


def used(number: int, mount: str) -> float:
    """How full a file system is."""
    return 0.2 if mount == "/" else 0.93 if number == 7 else (number % 60) / 100


def make_hosts(number: int, silent: int | None = None, never: int | None = None) -> None:
    """Rows of hosts that report, but for one that is ``silent`` and one that ``never`` did."""
    now = utc_now()
    for first in range(0, number, BULK):
        rows: list[dict[str, Any]] = [
            {
                "id": host_id(one), "name": host_name(one), "state": "new" if one == never else "active",
                "agent_collected": None if one == never else now - timedelta(hours=3 if one == silent else 0),
                "cpu_logical": 4,
            }
            for one in range(first, min(first + BULK, number))
        ]  # fmt: skip
        db.session.execute(insert(Host), rows)


def send(elasticsearch: str, names: Names, numbers: list[int], ticks: int = 1, age: int = 2) -> None:
    """Figures of the hosts, the newest ``age`` seconds old, ``ticks`` of them ten seconds apart; disks in the newest alone.

    What agents send once a minute (docs/decisions/0007) is in the oldest alone.
    """
    http, lines = urllib3.PoolManager(1), list[str]()
    for back in range(ticks):
        at = format_time(datetime.now(UTC) - timedelta(seconds=age + 10 * back))
        head = json.dumps({"create": {"_index": names.metrics_index(at)}})
        for one in numbers:
            common = {"@timestamp": at, "event.created": at, "host.id": host_id(one), "host.name": host_name(one)}
            figures = {name: value for name, value in values(one).items() if name != SLOW or back == ticks - 1}
            documents: list[dict[str, Any]] = [{**common, "event.dataset": "system.host", **figures}]
            for mount in MOUNTS if back == 0 else ():
                of_disk = {
                    "event.dataset": "system.filesystem", "system.filesystem.mount_point": mount,
                    "system.filesystem.device_name": f"/dev{mount}", "system.filesystem.used.pct": used(one, mount),
                }  # fmt: skip
                documents.append({**common, **of_disk})
            lines += [line for document in documents for line in (head, json.dumps(document))]
            if len(lines) > 4 * BULK:
                _post(http, f"{elasticsearch}/_bulk", lines)
                lines.clear()
    if lines:
        _post(http, f"{elasticsearch}/_bulk", lines)
    http.request("POST", f"{elasticsearch}/{names.prefix}-metrics-*/_refresh")
    http.clear()
