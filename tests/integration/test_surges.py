"""A surge through real Kafka and Elasticsearch: one host floods 100 times its usual, its worker is killed in the middle of
it, the others go on untouched; counts are exact, exemplars and errors are there, the surge is told once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing import simulated_hosts
from ezadmin_testing.fleet import Fleet
from ezadmin_testing.processes import Process, wait_until
from kafka import KafkaConsumer, TopicPartition

from ezadmin_wire import batch as wire
from ezadmin_wire.names import Names
from ezadmin_wire.times import format_time

HOSTS = 3
USUAL = 20
BUDGET = 6 * USUAL
ERRORS = 1_000
FLOOD = 100 * USUAL
COMMAND = [sys.executable, "-m", "ezadmin_pipeline.main"]


class Writers:
    """The hosts, and what they sent: number of lines per host, minute and level."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet = fleet
        self.keys = [simulated_hosts.load_key(folder / "keys", number) for number in range(HOSTS)]
        self.seq = [0] * HOSTS
        self.sent: Counter[tuple[str, str, str, str]] = Counter()
        for number, key in enumerate(self.keys):
            fleet.publish_host(simulated_hosts.host_id(number), key, name=f"web-{number}")

    def send(self, number: int, lines: list[tuple[datetime, str, str]]) -> None:
        """Time, level and message of each line, in batches of 250."""
        host = simulated_hosts.host_id(number)
        for start in range(0, len(lines), 250):
            raw = []
            for moment, level, message in lines[start : start + 250]:
                when = format_time(moment)
                fields = {"@timestamp": when, "event.created": when, "event.dataset": "app", "log.level": level}
                raw.append(json.dumps({**fields, "message": message}, separators=(",", ":")).encode())
                self.sent["logs-1m", when[:16], host, level] += 1
            first, last = (format_time(lines[i][0]) for i in (start, min(start + 249, len(lines) - 1)))
            headers, value = wire.encode(
                self.keys[number], host=host, topic=self.fleet.names.logs, stream="logs", epoch="00000000000000cc",
                seq=self.seq[number], lines=raw, dataset="app", tmin=first, tmax=last, sent=last,
            )  # fmt: skip
            self.fleet.send(self.fleet.names.logs, host.encode(), value, headers)
            self.seq[number] += len(raw)

    def usual(self, number: int, begin: datetime, minutes: int) -> None:
        """What the host says when nothing is the matter."""
        lines = []
        for minute in range(minutes):
            at = begin + timedelta(minutes=minute)
            lines += [(at + timedelta(seconds=i), "info", f"GET /items/{i} 200") for i in range(USUAL)]
            lines.append((at, "error", f"payment {minute} failed"))
        self.send(number, lines)


@pytest.fixture
def fleet(stack: Any, names: Names, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(stack.kafka, stack.elasticsearch, names, tmp_path)
    yield fleet
    fleet.close()


def told(fleet: Fleet) -> set[str]:
    """Ids of the alerts in the topic."""
    consumer = KafkaConsumer(
        bootstrap_servers=fleet.kafka, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    places = [TopicPartition(fleet.names.alerts, number) for number in range(fleet.partitions)]
    consumer.assign(places)
    consumer.seek_to_beginning(*places)
    ends = consumer.end_offsets(places)
    ids = set()
    while any(consumer.position(place) < ends[place] for place in places):
        for found in consumer.poll(timeout_ms=500).values():
            ids |= {dict(message.headers)["id"].decode() for message in found}
    consumer.close()
    return ids


def test_one_host_floods(fleet: Fleet, tmp_path: Path) -> None:
    settings = fleet.settings("one")
    with settings.open("a") as file:
        file.write("[surges]\nfloor = 30\n")

    def command(*arguments: str) -> str:
        done = subprocess.run(
            [*COMMAND, *arguments, "--config", str(settings)], capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout

    command("setup")
    writers = Writers(fleet, tmp_path)
    worker = Process([*COMMAND, "run", "--config", str(settings)], tmp_path / "worker.log").start()
    begin = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=4)
    moment = begin + timedelta(hours=2)
    minute = format_time(moment)[:16]
    loud = simulated_hosts.host_id(0)
    try:
        for number in range(HOSTS):
            writers.usual(number, begin, 120)
        flood = [(moment, "info", f"GET /items/{i} 503") for i in range(FLOOD)]
        flood[1_900:1_900] = [(moment, "info", "backend db-1 gone, giving up")] * 3
        flood += [(moment, "error", f"payment {i} failed") for i in range(ERRORS)]
        writers.send(0, flood[:1_500])
        worker.kill()
        writers.send(0, flood[1_500:])
        worker.start()
        for number in range(HOSTS):
            writers.usual(number, moment + timedelta(minutes=1), 10)
        wait_until(lambda: fleet.lag() == 0, 90, "all is committed")
        wait_until(lambda: len(fleet.search_all(f"{fleet.names.prefix}-alerts-*", source=False)) == 4, 30, "alerts")

        # counts
        place = ("logs-1m", minute, loud)
        seen, kept, withheld = (fleet.rollup_sums(f"events.{name}") for name in ("seen", "stored", "sampled"))
        assert {key: count for key, count in seen.items() if key[0] == "logs-1m"} == writers.sent
        assert {key for key in withheld if key[0] == "logs-1m"} == {(*place, "info"), (*place, "error")}
        assert seen == kept + withheld

        # documents
        documents = fleet.search_all(f"{fleet.names.prefix}-logs-*", source=True)
        stored: Counter[tuple[str, ...]] = Counter()
        scaled: Counter[tuple[str, ...]] = Counter()
        messages: defaultdict[str, list[str]] = defaultdict(list)
        for hit in documents:
            document = hit["_source"]
            key = ("logs-1m", document["@timestamp"][:16], document["host.id"], document["log.level"])
            stored[key] += 1
            scaled[key] += document.get("event.sample_rate", 1)
            if key[1:3] == (minute, loud) and "event.sample_rate" not in document:
                messages[key[3]].append(document["message"])
        assert stored == Counter({key: count for key, count in kept.items() if key[0] == "logs-1m"})
        assert BUDGET + 20 < stored[*place, "info"] < 6 * BUDGET
        assert {key for key in stored if scaled[key] != writers.sent[key]} <= {(*place, "info"), (*place, "error")}
        for level, budget in (("info", BUDGET), ("error", 100)):
            truth = writers.sent[*place, level]
            assert abs(scaled[*place, level] - truth) < 3 * truth / budget**0.5, level
        assert set(messages["error"]) == {f"payment {i} failed" for i in range(120)}
        assert {f"GET /items/{i} 503" for i in range(140)} <= set(messages["info"])
        assert messages["info"].count("backend db-1 gone, giving up") == 3

        # alerts
        found = {hit["_id"]: hit["_source"] for hit in fleet.search_all(f"{fleet.names.prefix}-alerts-*", source=True)}
        assert told(fleet) == set(found)
        ends = {document["alert.item"]: document for document in found.values() if document["alert.state"] == "ok"}
        starts = {document["alert.item"]: document for document in found.values() if document["alert.state"] != "ok"}
        assert set(starts) == set(ends) == {"app/info", "app/error"}
        end = ends["app/info"]
        assert (end["host.id"], end["host.name"], end["event.start"]) == (loud, "web-0", f"{minute}:00.000Z")
        assert (end["alert.value"], end["alert.limit"], end["surge.usual"]) == (FLOOD + 3, BUDGET, USUAL)
        assert end["surge.withheld"] == withheld[*place, "info"]
        assert [one["template"] for one in end["surge.templates"]] == ["GET /items/* *", "backend db-* gone, giving up"]

        # explained
        why = command("why", "web-0", f"{minute}:00Z", "--within", "10s", "--late", "4h")
        assert f"surge {minute}:00.000Z to {minute}:59.999Z: app/info: the surge since" in why
        assert "surges, as of the last commit: app, info: budget 120 a minute, usual 20.0" in why
        assert "kept, stored as one of " in why
        assert "kept, not stored: withheld in a surge  GET /items/" in why
        tried = command("try", "--since", "5m")
        assert "lines are above the floor of their minute, host, dataset and level" in tried
        assert f"{minute}  web-0  app/info: {FLOOD + 3} lines, the floor is 30" in tried
        assert worker.stop() == 0
        assert "Traceback" not in (tmp_path / "worker.log").read_text()
    finally:
        worker.kill()
