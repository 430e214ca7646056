"""``ezadmin-pipeline run --workers``: several processes that share the partitions and come back when killed."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from ezadmin_testing import simulated_hosts
from ezadmin_testing.fleet import Fleet
from ezadmin_testing.processes import Process, wait_until

from ezadmin_pipeline.workers import count
from ezadmin_wire import batch as wire
from ezadmin_wire.names import Names
from ezadmin_wire.times import format_time


@pytest.fixture
def fleet(stack, names: Names, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(stack.kafka, stack.elasticsearch, names, tmp_path)
    yield fleet
    fleet.close()


def children(process: Process) -> list[psutil.Process]:
    return psutil.Process(process.pid).children()


def send(fleet: Fleet, hosts: int, seq: int, lines: int, folder: Path) -> None:
    start = simulated_hosts.datetime.now(simulated_hosts.UTC)
    for number in range(hosts):
        key = simulated_hosts.load_key(folder, number)
        moment = format_time(simulated_hosts.moment(number, seq, start))
        headers, value = wire.encode(
            key,
            host=simulated_hosts.host_id(number),
            topic=fleet.names.logs,
            stream="logs",
            epoch="00000000000000bb",
            seq=seq,
            lines=[simulated_hosts.line(number, seq + i, start) for i in range(lines)],
            dataset=simulated_hosts.DATASET,
            tmin=moment,
            tmax=moment,
            sent=moment,
        )
        fleet.send(fleet.names.logs, simulated_hosts.host_id(number).encode(), value, headers)


def stored(fleet: Fleet) -> int:
    return len(fleet.search_all(f"{fleet.names.prefix}-logs-*", source=False))


def test_workers_share_the_work_and_come_back(fleet: Fleet, tmp_path: Path) -> None:
    for number in range(6):
        fleet.publish_host(simulated_hosts.host_id(number), simulated_hosts.load_key(tmp_path / "keys", number))
    command = [sys.executable, "-m", "ezadmin_pipeline.main", "run", "--workers", "2"]
    parent = Process([*command, "--config", str(fleet.settings("pair"))], tmp_path / "pair.log").start()
    try:
        wait_until(lambda: len(children(parent)) == 2, 20, "two workers run")
        send(fleet, 6, 0, 50, tmp_path / "keys")
        wait_until(lambda: fleet.lag() == 0 and stored(fleet) == 300, 40, "all lines are stored")
        log = (tmp_path / "pair.log").read_text
        assert "assigned: " in log()

        victim = children(parent)[0]
        victim.kill()
        send(fleet, 6, 50, 50, tmp_path / "keys")
        wait_until(lambda: fleet.lag() == 0 and stored(fleet) == 600, 40, "the lines sent meanwhile are stored")
        assert "ended with status -9" in log()

        left = children(parent)
        begin = time.monotonic()
        assert parent.stop() == 0
        assert time.monotonic() - begin < 10
        assert not [process for process in left if process.is_running()]
    finally:
        parent.kill()


def test_workers_without_their_parent_stop(fleet: Fleet, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ezadmin_pipeline.main", "run", "--workers", "2"]
    parent = Process([*command, "--config", str(fleet.settings("pair"))], tmp_path / "pair.log").start()
    wait_until(lambda: (tmp_path / "pair.log").read_text().count('"working in') == 2, 30, "two workers run")
    workers = children(parent)
    parent.signal(signal.SIGKILL)
    parent.wait(5)
    wait_until(lambda: not [w for w in workers if w.is_running() and w.status() != "zombie"], 20, "they have ended")


def test_a_wrong_number_is_named(fleet: Fleet, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 to 256"):
        count("0")
    assert count("auto") >= 1
    command = [sys.executable, "-m", "ezadmin_pipeline.main", "run", "--workers", "many"]
    process = Process([*command, "--config", str(fleet.settings("one"))], tmp_path / "out.log").start()
    assert process.wait(20) == 2
    assert "--workers many: write a number" in (tmp_path / "out.log").read_text()
