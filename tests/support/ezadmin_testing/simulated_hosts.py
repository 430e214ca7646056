"""Many simulated hosts in one process, with the agent's own spool and sender; what they say is made by arithmetic.

Line i of a host is a pure function of (host, i), so a test knows what must arrive without being told. The position of
the source stands in the spool's frames like that of a file: killed at any moment, it goes on where its frames end.

    python -m ezadmin_testing.simulated_hosts --state DIR --kafka HOST:PORT --prefix P --hosts N --lines N --rate N
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ezadmin_agent.sender import Sender
from ezadmin_agent.spool import SpoolFull, Spools, StreamSpec
from ezadmin_wire.batch import ANY_DATASET
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.times import format_time

LEVELS = ("info", "info", "info", "info", "info", "info", "warning", "warning", "error", "critical")
DATASET = "test.simulated"
BATCH = 100
FIGURE = "system.cpu.total.norm.pct"


def host_id(number: int) -> str:
    """The host.id of simulated host ``number``."""
    return f"00000000-0000-4000-8000-{number:012d}"


def floods(number: int) -> bool:
    """Whether a host says in a second what others say in minutes."""
    return number % 25 == 7


def moment(number: int, i: int, start: datetime) -> datetime:
    """When line i of a host happened: 200 ms apart, so that a host's lines cover many minutes; 2 ms where it floods."""
    return start + timedelta(milliseconds=(2 if floods(number) else 200) * i + number)


def level(number: int, i: int) -> str:
    """The level of line i of a host."""
    return LEVELS[(i * 7 + number) % len(LEVELS)]


def kind(i: int) -> str:
    """What line i is about: most are connections, every tenth is a ``health check``, every fiftieth a ``full disk``."""
    return "health check" if i % 10 == 3 else "full disk" if i % 50 == 7 else "connection"


def line(number: int, i: int, start: datetime) -> bytes:
    """Line i of host ``number``."""
    when = format_time(moment(number, i, start))
    fields = {
        "@timestamp": when,
        "event.created": when,
        "event.dataset": DATASET,
        "log.level": level(number, i),
        "message": f'host {number} says line {i}: {kind(i)} from 192.0.2.{i % 250} accepted, "quoted" 한글',
    }
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def figure(number: int, tick: int) -> float:
    """What host ``number`` measures at its tick ``tick``: it goes up and down, no two hosts alike."""
    return ((tick * 7 + number * 3 + tick // 5) % 20) / 20


def tick_time(tick: int, start: datetime) -> str:
    """When tick ``tick`` of a host is: each ten seconds; there is one for each BATCH lines."""
    return format_time(start + timedelta(seconds=10 * tick))


def metrics(number: int, tick: int, start: datetime) -> bytes:
    """The document of a tick."""
    when = tick_time(tick, start)
    fields = {"@timestamp": when, "event.created": when, "event.dataset": "system.host", FIGURE: figure(number, tick)}
    return json.dumps(fields, separators=(",", ":")).encode()


def load_key(state: Path, number: int) -> SigningKey:
    """The key of a simulated host, made when it is first asked for."""
    path = state / f"{number}.key"
    if not path.exists():
        state.mkdir(parents=True, exist_ok=True)
        SigningKey.generate().save(path)
    return SigningKey.load(path)


class SimulatedHost:
    """One host: spool, sender and a generator of lines."""

    def __init__(self, number: int, state: Path, names: Names, kafka: str, proxy: str | None, start: datetime) -> None:
        self.number = number
        self._start = start
        streams = [
            StreamSpec("logs", names.logs, priority=1, droppable=False),
            StreamSpec("metrics", names.metrics, priority=1, droppable=False),
        ]
        self._spools = Spools(state / f"spool-{number}", streams)
        self._spool = self._spools["logs"]
        self._ticks = self._spools["metrics"]
        options = {"request_timeout_ms": 5_000, "delivery_timeout_ms": 10_000, "reconnect_backoff_max_ms": 500}
        if proxy:
            options["proxy_url"] = proxy
        self._sender = Sender(
            self._spools,
            host_id=host_id(number),
            key=load_key(state, number),
            kafka=KafkaConnection(kafka),
            options=options,
        )
        self._sender.start()

    def write(self, upto: int, count: int) -> bool:
        """Write the next ``count`` lines, to ``upto`` at most; False when that is reached."""
        position = self._spool.positions.get("gen", 0)
        while position < upto and count > 0:
            n = min(BATCH, count, upto - position)
            lines = [line(self.number, i, self._start) for i in range(position, position + n)]
            first, last = (format_time(moment(self.number, i, self._start)) for i in (position, position + n - 1))
            try:
                self._spool.append(lines, dataset=DATASET, tmin=first, tmax=last, positions={"gen": position + n})
            except SpoolFull:
                break
            position, count = position + n, count - n
        self._spool.sync()
        self._tick(position // BATCH)
        return position < upto

    def _tick(self, upto: int) -> None:
        for tick in range(self._ticks.positions.get("tick", 0), upto):
            when = tick_time(tick, self._start)
            line = metrics(self.number, tick, self._start)
            self._ticks.append([line], dataset=ANY_DATASET, tmin=when, tmax=when, positions={"tick": tick + 1})
        self._ticks.sync()

    def finish(self, timeout: float) -> bool:
        """Whether all that was written is acknowledged within ``timeout`` seconds."""
        done = self._sender.wait_acked(timeout)
        self._sender.stop(5)
        self._spools.close()
        return done


def expected(hosts: int, lines: int, start: datetime) -> Iterator[tuple[int, int, str, str]]:
    """(host number, i, level, minute) of every line."""
    for number in range(hosts):
        for i in range(lines):
            yield number, i, level(number, i), format_time(moment(number, i, start))[:16]


def main() -> int:
    """Write and send until every host has ``--lines`` lines acknowledged."""
    parser = argparse.ArgumentParser()
    for name in ("state", "kafka", "prefix", "start"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("hosts", "lines", "rate"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--proxy")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    start = datetime.fromisoformat(options.start).astimezone(UTC)
    names = Names(options.prefix)
    hosts = [
        SimulatedHost(number, Path(options.state), names, options.kafka, options.proxy, start)
        for number in range(options.hosts)
    ]
    share = max(1, options.rate // options.hosts // 5)
    open_hosts = list(hosts)
    while open_hosts:
        begin = time.monotonic()
        open_hosts = [host for host in open_hosts if host.write(options.lines, share)]
        time.sleep(max(0.0, 0.2 - (time.monotonic() - begin)))
    acknowledged = [host.finish(240) for host in hosts]
    return 0 if all(acknowledged) else 1


if __name__ == "__main__":
    sys.exit(main())
