"""What a host costs on the wire (bar: 15 MB a day, design section 8): a made-up server whose every figure moves.

Counted is what the sender would hand to Kafka: batches as kafka-python builds and compresses them, and a request around
each. The real thing, with a real Kafka, is measured by ``tests/bench/agent``.
"""

from __future__ import annotations

import random
from typing import Any

from ezadmin_testing.recorded import Recorded
from kafka.record.default_records import DefaultRecordBatchBuilder

from ezadmin_agent import registry
from ezadmin_agent.collectors import own
from ezadmin_agent.reader import Process
from ezadmin_agent.ticks import Ticker
from ezadmin_wire import batch, state
from ezadmin_wire.batch import ANY_DATASET
from ezadmin_wire.ids import new_epoch, new_host_id
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.times import format_epoch_ms

BAR = 15e6
REQUEST = 70  # of Kafka's protocol, around a batch: measured on a socket
TICKS = 90
START = 1_795_000_000


class Server(Recorded):
    """380 processes: 100 of the kernel, 40 services of 7; 15 work, others at times; each tick a job comes and goes."""

    def __init__(self) -> None:
        super().__init__()
        self.chance = chance = random.Random(7)
        kernel = [Process(pid, f"kworker/{pid}:1", "I", 2, pid, 1, 5, 0) for pid in range(2, 102)]
        services = []
        for number, first in enumerate(sorted(chance.sample(range(400, 60_000, 10), 40))):
            for pid in range(first, first + 7):
                threads, parent = (chance.randint(1, 30), 1) if pid == first else (1, first)
                rss = chance.randint(300, 60_000) << 12
                services.append(Process(pid, f"service{number}", "S", parent, 0, threads, 3000 + first, rss))
        self.procs = [*kernel, *services]
        self.busy = {p.pid for p in chance.sample(services, 15)}
        self.now = 0.0

    def move(self) -> None:
        """Ten seconds on."""
        chance = self.chance
        self.at += 10
        self.now += 10
        busy = self.busy | {p.pid for p in chance.sample(self.procs[100:380], 5)}
        moved = []
        for one in self.procs[:380]:
            if one.pid in busy:
                one = one._replace(
                    ticks=one.ticks + chance.randint(1, 60), rss=one.rss + (chance.randint(-40, 60) << 12)
                )
            moved.append(one)
        start = int(self.uptime() * 100) - 500
        pid = chance.randint(60_001, 99_999)
        self.procs = [*moved, Process(pid, "cron-job", "R", 1, chance.randint(50, 300), 2, start, 9 << 20)]
        for core in self.cores:
            for name in ("user", "system", "idle", "iowait", "softirq", "steal"):
                setattr(core, name, getattr(core, name) + chance.random() * (80 if name == "idle" else 5) / 10)
        for counters in (self.disks["sda"], self.net["lo"], self.net["eth0"], self.stats):
            for name, value in vars(counters).items():
                setattr(counters, name, value + chance.randint(0, 3 * 10 ** chance.randint(0, 5)))

    def uptime(self) -> float:
        return 1_000_000.25 + self.now

    def time(self) -> float:
        return START + self.now + 0.023

    def identity(self, process: Process) -> tuple[str | None, str]:
        user = ("root", "www-data", "postgres")[process.pid % 3]
        if process.parent == 2:
            return "root", ""
        return (
            user,
            f"/usr/lib/{process.name}/bin/{process.name} --config /etc/{process.name}.conf --port {process.pid}",
        )

    def forget_identities(self, alive: Any) -> None: ...


def figures() -> own.Figures:
    return own.Figures(1.0, 45 << 20, {}, 1, 3, 900, 70_000, 256 << 20, 1000, 100_000, {})


def test_less_than_the_bar_a_day() -> None:
    key, host, epoch = SigningKey.generate(), new_host_id(), new_epoch()
    server = Server()
    ticker = Ticker(server, (*registry.COLLECTORS, own.collector(figures, [c.name for c in registry.COLLECTORS])))
    spent: dict[str, int] = {}

    def send(topic: str, stream: str, dataset: str, lines: list[bytes]) -> None:
        moment = format_epoch_ms(int(server.time() * 1000))
        headers, value = batch.encode(
            key,
            host=host,
            topic=f"ezadmin.{topic}",
            stream=stream,
            epoch=epoch,
            seq=123_456 + len(spent),
            lines=lines,
            dataset=dataset,
            tmin=moment,
            tmax=moment,
            sent=moment,
            count=topic == "logs",
            compact=dataset == ANY_DATASET,
        )
        builder = DefaultRecordBatchBuilder(2, 1, False, 1, 0, 0, 1 << 20)
        builder.append(0, timestamp=int(server.time() * 1000), key=host.encode(), value=value, headers=headers)
        spent[stream] = spent.get(stream, 0) + len(builder.build()) + REQUEST

    ticker.prime()
    for tick in range(TICKS):
        server.move()
        done = ticker.run(int(server.time() * 1000) // 1000 * 1000)
        send("metrics", "metrics", ANY_DATASET, done.metrics)
        for dataset, line in done.events:
            send("logs", "processes", dataset, [line])
        if tick % 6 == 0:
            now = format_epoch_ms(int(server.time() * 1000))
            status = state.AgentStatus(now, "0.1.0", now, 70_000, 3, 4711 * tick, 0, 45 << 20, 0.0025)
            send("state", "state", "agent", [state.encode(status)])
    assert not ticker.errors
    a_day = sum(spent.values()) / TICKS * 8640
    parts = ", ".join(f"{stream} {count / TICKS * 6:,.0f}" for stream, count in spent.items())
    print(f"{a_day / 1e6:.1f} MB a day; bytes a minute: {parts}")
    assert a_day < BAR
