"""Late events and wrong clocks, through the real Kafka, a worker, and the real Elasticsearch."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ezadmin_testing import simulated_hosts
from ezadmin_testing.fleet import Fleet
from ezadmin_testing.processes import Process, wait_until

from ezadmin_wire import batch as wire
from ezadmin_wire.names import Names
from ezadmin_wire.times import format_time

LINES = 5
RIGHT, AHEAD, BEHIND, NEXT_CENTURY = range(4)
OFF = {
    RIGHT: timedelta(),
    AHEAD: timedelta(days=1),
    BEHIND: timedelta(days=-1),
    NEXT_CENTURY: timedelta(days=36_525),
}


def test_late_events_and_wrong_clocks(stack: Any, make_names: Callable[..., Names], tmp_path: Path) -> None:
    names = make_names()
    fleet = Fleet(stack.kafka, stack.elasticsearch, names, tmp_path)
    now = datetime.now(UTC)
    if now.hour == 23 and now.minute > 50:  # the day shall not change meanwhile
        now -= timedelta(minutes=20)
    truth = {}

    def send(number: int, seq: int, happened: datetime, sent: datetime) -> None:
        key, host, when = (
            simulated_hosts.load_key(tmp_path, number),
            simulated_hosts.host_id(number),
            format_time(happened),
        )
        fields = {"@timestamp": when, "event.created": when, "event.dataset": "test", "log.level": "info"}
        lines = [json.dumps({**fields, "message": f"{number}/{seq + i}"}).encode() for i in range(LINES)]
        headers, value = wire.encode(
            key, host=host, topic=names.logs, stream="logs", epoch="0" * 16, seq=seq, lines=lines, dataset="test",
            tmin=when, tmax=when, sent=format_time(sent),
        )  # fmt: skip
        fleet.send(names.logs, host.encode(), value, headers)
        truth[number, seq] = when

    for number, off in OFF.items():
        fleet.publish_host(simulated_hosts.host_id(number), simulated_hosts.load_key(tmp_path, number))
        send(number, 0, now + off, now + off)
    yesterday, six_days = now - timedelta(days=1), now - timedelta(days=6)
    send(RIGHT, LINES, yesterday, now)
    send(RIGHT, 2 * LINES, six_days, now)

    command = [sys.executable, "-m", "ezadmin_pipeline.main", "run", "--log-format", "json", "--config"]
    worker = Process([*command, str(fleet.settings("times"))], tmp_path / "worker.log")
    worker.start()
    try:
        wait_until(lambda: fleet.lag() == 0, 60, "all is committed")
    finally:
        worker.stop()

    hits = fleet.search_all(f"{names.prefix}-logs-*", source=True)
    assert len(hits) == LINES * len(truth)
    days = {day: names.logs_index(format_time(day)) for day in (now, yesterday, six_days)}
    assert {hit["_index"] for hit in hits} == set(days.values()), "no clock makes an index of its own"
    for hit in hits:
        document = hit["_source"]
        number, seq = map(int, document["message"].split("/"))
        sent = truth[number, seq // LINES * LINES]
        assert document["event.created"] == sent
        if number in (AHEAD, NEXT_CENTURY):
            assert document["event.original_timestamp"] == sent
            assert abs(datetime.fromisoformat(document["@timestamp"]) - datetime.now(UTC)) < timedelta(minutes=10)
        else:
            assert document["@timestamp"] == sent, "an event may be late, and a clock that is behind looks like that"
            assert "event.original_timestamp" not in document
            assert hit["_index"] == names.logs_index(sent)
    sums = fleet.rollup_sums()
    right = simulated_hosts.host_id(RIGHT)
    minutes = {minute: n for (rollup, minute, host, _), n in sums.items() if (rollup, host) == ("logs-1m", right)}
    assert minutes == {format_time(day)[:16]: LINES for day in days}
    assert sum(n for (rollup, *_), n in sums.items() if rollup == "logs-1m") == LINES * len(truth)
    assert {minute[:4] for _, minute, _, _ in sums} <= {str(day.year) for day in days}

    reported = {}
    for text in (tmp_path / "worker.log").read_text().splitlines():
        entry = json.loads(text)
        if "clock.ahead_s" in entry:
            assert entry["host.id"] not in reported, "said once"
            reported[entry["host.id"]] = entry["clock.ahead_s"]
    assert {host: round(ahead / 86400) for host, ahead in reported.items()} == {
        simulated_hosts.host_id(number): off.days for number, off in OFF.items() if off
    }
    assert not fleet.dead_letters()
    fleet.close()
