"""Many events in the real pipeline's indices, with its counts: made by arithmetic and written in bulk, so that a test knows them.

Event i of n is a pure function of (i, n, start, length). The templates are those that ``install.make_templates`` wrote; ids and
counts are made by the pipeline's own code.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import urllib3

from ezadmin_pipeline import rollups
from ezadmin_wire.ids import event_id_prefix
from ezadmin_wire.names import Names
from ezadmin_wire.times import format_time

HOSTS = 50
LEVELS = ("info",) * 12 + ("notice", "notice", "debug", "debug", "warning", "warning", "error", "critical")
DATASETS = ("log.file", "log.file", "log.file", "log.journal")
WORDS = ("connection", "request", "session", "transaction", "login", "upload", "backup")
KOREAN = (
    "데이터베이스에 연결하지 못했습니다",
    "서버가 응답하지 않습니다",
    "백업을 마쳤습니다",
    "사용자가 로그인했습니다",
)
HOSTILE = '<img src=x onerror=alert(1)> \x1b[31m =HYPERLINK("http://x") " and * or not : ( ) \\'
KOREAN_EACH, HOSTILE_EACH = 97, 1009
BULK = 8000


def host_id(number: int) -> str:
    """The host.id of host ``number``."""
    return f"10000000-0000-4000-8000-{number:012d}"


@dataclass(frozen=True)
class LogEvents:
    """``number`` events from ``start`` on, evenly over ``length``."""

    number: int
    start: datetime
    length: timedelta

    def time(self, i: int) -> datetime:
        """When event i happened: always two at the same moment."""
        return self.start + self.length * (i // 2 * 2) / self.number

    def host(self, i: int) -> int:
        """Of which host event i is."""
        return i * 31 % HOSTS

    def level(self, i: int) -> str:
        """Its level."""
        return LEVELS[(i * 7 + i // 1000) % len(LEVELS)]

    def dataset(self, i: int) -> str:
        """Its dataset."""
        return DATASETS[(i // HOSTS) % len(DATASETS)]

    def message(self, i: int) -> str:
        """What it says."""
        if i % HOSTILE_EACH == 5:
            return HOSTILE
        if i % KOREAN_EACH == 3:
            return f"{KOREAN[i // KOREAN_EACH % len(KOREAN)]} 번호 {i}"
        peer = f"10.{i % 7}.{i % 250}.{i % 11}"
        return f"{WORDS[i % len(WORDS)]} {i} from {peer} took {i * 13 % 997} ms, status {200 + i % 5 * 100}"

    def document(self, i: int) -> dict[str, Any]:
        """The document of event i."""
        number, time = self.host(i), format_time(self.time(i))
        found: dict[str, Any] = {
            "host.id": host_id(number),
            "host.name": f"log-{number:03d}",
            "labels": {"rack": f"r{number % 5}"},
            "event.ingested": time,
            "@timestamp": time,
            "event.created": time,
            "event.dataset": self.dataset(i),
            "log.level": self.level(i),
            "message": self.message(i),
            "process.name": WORDS[i % len(WORDS)],
            "process.pid": i % 5000,
            "source.ip": f"10.{i % 7}.{i % 250}.{i % 11}",
            "fields": {"order": str(i % 1000)},
        }
        if found["event.dataset"] == "log.file":
            found["log.file.path"] = f"/var/log/app-{i % 3}.log"
            found["log.offset"] = i * 100
        return found

    def id(self, i: int) -> str:
        """The ``_id`` of event i."""
        return f"{event_id_prefix(host_id(self.host(i)), 'logs', '0' * 16)}{i:x}"

    def load(self, elasticsearch: str, names: Names, host_minutes: bool = True) -> None:
        """Write all events and their counts. ``host_minutes``: also those of each host and minute."""
        http = urllib3.PoolManager(1)
        counts: Counter[rollups.Key] = Counter()
        lines = iter(range(self.number))
        while chunk := list(islice(lines, BULK)):
            body = []
            for i in chunk:
                document = self.document(i)
                index = names.logs_index(document["@timestamp"])
                body.append(f'{{"create":{{"_index":"{index}","_id":"{self.id(i)}"}}}}')
                body.append(json.dumps(document, ensure_ascii=False))
                keys = rollups.keys_of(
                    document["@timestamp"][:16], document["host.id"], document["event.dataset"], document["log.level"]
                )
                counts.update(keys if host_minutes else keys[1:])
            _post(http, f"{elasticsearch}/_bulk", body)
        rows = self._count_rows(names, counts)
        while chunk_of_rows := list(islice(rows, BULK)):
            _post(http, f"{elasticsearch}/_bulk", chunk_of_rows)
        http.request("POST", f"{elasticsearch}/{names.prefix}-*/_refresh")
        http.clear()

    def _count_rows(self, names: Names, counts: Counter[rollups.Key]) -> Iterator[str]:
        for key, number in counts.items():
            host = {"host.name": f"log-{int(key.host[-12:]):03d}"} if key.host else {}
            document = rollups.document(key, rollups.Counts(number), names.logs, 0, host)
            yield json.dumps(
                {"index": {"_index": rollups.index_of(key, names), "_id": rollups.document_id(key, names.logs, 0)}}
            )
            yield json.dumps(document)


def write(elasticsearch: str, names: Names, documents: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Write events of now, of host 0 unless they say otherwise; they can be found when this returns. The index and id of each."""
    now = format_time(datetime.now(UTC))
    lines, places = [], []
    for given in documents:
        found = {
            "host.id": host_id(0), "host.name": "log-000", "event.ingested": now, "@timestamp": now, "event.created": now,
            "event.dataset": "log.file", "log.level": "info", **given,
        }  # fmt: skip
        place = (
            names.logs_index(found["@timestamp"]), f"{event_id_prefix(found['host.id'], 'logs', secrets.token_hex(8))}0"
        )  # fmt: skip
        places.append(place)
        lines.append(f'{{"create":{{"_index":"{place[0]}","_id":"{place[1]}"}}}}')
        lines.append(json.dumps(found, ensure_ascii=False))
    http = urllib3.PoolManager(1)
    _post(http, f"{elasticsearch}/_bulk?refresh=true", lines)
    http.clear()
    return places


def _post(http: urllib3.PoolManager, url: str, lines: list[str]) -> None:
    body = ("\n".join(lines) + "\n").encode()
    answer = http.request("POST", url, body=body, headers={"content-type": "application/x-ndjson"}, timeout=120)
    result = json.loads(answer.data)
    if answer.status != 200 or result["errors"]:
        failed = [one for item in result.get("items", ()) for one in item.values() if "error" in one]
        raise AssertionError(f"{answer.status}: {failed[:1] or result}")
