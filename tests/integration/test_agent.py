"""The real agent process and the real Kafka: everything arrives, signed, once by its number, whatever happens to either."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing.arrived import Arrived
from ezadmin_testing.processes import Process, wait_until
from ezadmin_testing.proxy import CuttingProxy
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import NewTopic

from ezadmin_agent import registry
from ezadmin_agent.logs.fields import FIELDS as LOG_FIELDS
from ezadmin_agent.sender import Sender
from ezadmin_agent.spool import Spools, StreamSpec
from ezadmin_wire import batch, state, times
from ezadmin_wire.ids import new_host_id
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey, VerifyKey

COMMAND = [sys.executable, "-m", "ezadmin_agent"]


class Host:
    """An agent's configuration, process and log file, and what arrived of it."""

    def __init__(self, kafka: str, names: Names, folder: Path, proxy: str | None = None) -> None:
        self.log_file = folder / "events.log"
        self.log_file.touch()
        self.config = folder / "agent.toml"
        self.config.write_text(
            f'prefix = "{names.prefix}"\nstate_dir = "{folder / "agent"}"\ninterval = 1\n'
            f'[kafka]\nbootstrap = "{kafka}"\n' + (f'proxy = "{proxy}"\n' if proxy else "") + "[[logs]]\n"
            f'path = "{self.log_file}"\ndataset = "system.syslog"\n'
        )
        self.agent = Process([*COMMAND, "run", "--config", str(self.config)], folder / "agent.log")
        identity = json.loads(self.run("identity").stdout)
        self.arrived = Arrived(kafka, names, identity["host.id"], bytes.fromhex(identity["public_key"]))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the agent with its configuration."""
        return subprocess.run(
            [*COMMAND, *arguments, "--config", str(self.config)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def status(self) -> dict[str, Any]:
        """What ``status --json`` prints."""
        found: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return found

    def write(self, *lines: str) -> None:
        """Append to the log file."""
        with self.log_file.open("a") as file:
            file.writelines(f"{line}\n" for line in lines)

    def close(self) -> None:
        """Stop everything."""
        self.agent.stop()
        self.arrived.close()


@pytest.fixture
def host(stack: Any, names: Names, tmp_path: Path) -> Iterator[Host]:
    """A host with direct access to Kafka; its agent is not yet started."""
    host = Host(stack.kafka, names, tmp_path)
    yield host
    host.close()


def test_every_dataset_and_log_lines_arrive(host: Host) -> None:
    host.agent.start()
    arrived = host.arrived
    wanted = set(registry.datasets()) - {"system.filesystem", "system.diskio"}  # a container may have neither
    arrived.wait(
        lambda: wanted <= {document["event.dataset"] for document in arrived.documents("metrics")}, 30, "all datasets"
    )
    begin = time.monotonic()
    host.write("Nov 24 08:15:30 box sshd[12]: error: hello-ez-1", "no syslog line")
    arrived.wait(lambda: len(arrived.messages()) == 2, 5, "two log lines")
    assert time.monotonic() - begin < 5
    arrived.wait(lambda: len(arrived.documents("state")) >= 2, 10, "inventory and status")
    arrived.wait(lambda: len({d["@timestamp"] for d in arrived.documents("metrics")}) >= 4, 10, "four ticks")

    for document in arrived.documents("metrics"):
        known = {field.name for field in registry.datasets()[document["event.dataset"]]}
        assert document.keys() <= known
    ticks = [found.tmin for found in arrived.batches if found.stream == "metrics"]
    assert ticks == sorted(set(ticks))  # one batch a tick, strictly increasing
    assert all(found.dataset == "*" for found in arrived.batches if found.stream == "metrics")

    first, second = arrived.events()
    assert (first["message"], first["process.name"], first["process.pid"]) == ("error: hello-ez-1", "sshd", 12)
    assert first["log.level"] == "error"
    assert second["@timestamp"] == second["event.created"]
    assert first.keys() | second.keys() <= {field.name for field in LOG_FIELDS}
    levels: dict[str, int] = {}
    for found in arrived.batches:
        if found.stream in ("logs", "errors"):
            assert found.dataset == "system.syslog"
            for level, count in found.levels.items():
                levels[level] = levels.get(level, 0) + count
    assert levels == {"error": 1, "unknown": 1}
    kinds = {type(state.decode(line)) for name, line in arrived.lines.items() if name[0] == "state"}
    assert kinds == {state.Inventory, state.AgentStatus}

    status = host.status()
    assert status["running"]
    assert status["kafka"]["connected"]
    assert status["rss_bytes"] <= 50 << 20
    assert "running, process" in host.run("status").stdout
    second_agent = host.run("run")
    assert second_agent.returncode == 1
    assert "another agent (process" in second_agent.stderr
    begin = time.monotonic()
    assert host.agent.stop() == 0
    assert time.monotonic() - begin < 10
    assert not host.status()["running"]
    for line in (host.config.parent / "agent.log").read_text().splitlines():
        assert {"@timestamp", "log.level", "log.logger", "message"} <= json.loads(line).keys()


def test_kill_9_while_lines_are_written_and_the_file_rotates(host: Host) -> None:
    seconds, rate = 12, 2000
    done = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        rotate_at = {rate * 3, rate * 7}
        file = host.log_file.open("a")
        begin = time.monotonic()
        while written < seconds * rate:
            for _ in range(rate // 50):
                file.write(f"{'ERROR' if written % 7 == 0 else 'line'} {written}\n")
                written += 1
            file.flush()
            if any(written - rate // 50 < at <= written for at in rotate_at):
                host.log_file.rename(host.log_file.with_name(f"events.log.{written}"))
                # a daemon goes on in the old file until it is told to reopen
                file.write(f"{'ERROR' if written % 7 == 0 else 'line'} {written}\n")
                written += 1
                file.close()
                file = host.log_file.open("a")
            time.sleep(max(0.0, begin + written / rate - time.monotonic()))
        file.close()
        done.set()

    host.agent.start()
    wait_until(lambda: (host.config.parent / "agent/status.json").exists(), 20, "the agent runs")
    time.sleep(1)
    writer = threading.Thread(target=write)
    writer.start()
    kills = 0
    while not done.is_set():
        time.sleep(1.3)
        host.agent.kill()
        kills += 1
        host.agent.start()
    writer.join()
    arrived = host.arrived
    arrived.wait(lambda: len(arrived.messages()) >= written, 60, f"{written} lines after {kills} kills")
    time.sleep(1.5)
    arrived.read()
    assert kills >= 5
    numbers = [int(message.split()[1]) for message in arrived.messages()]
    assert sorted(numbers) == list(range(written))
    arrived.gapless("logs")
    assert len(arrived.documents("errors")) == (written + 6) // 7
    arrived.gapless("errors")
    metrics = arrived.documents("metrics")
    hosts = [d["@timestamp"] for d in metrics if d["event.dataset"] == "system.host"]
    assert len(hosts) == len(set(hosts))  # ticks stay apart over restarts


def test_broker_away_and_back(stack: Any, names: Names, tmp_path: Path) -> None:
    proxy = CuttingProxy()
    proxy.blocked = True
    host = Host(stack.kafka, names, tmp_path, proxy.url)
    try:
        written = 0

        def write(count: int) -> None:
            nonlocal written
            host.write(*(f"line {written + i} {'x' * 300}" for i in range(count)))
            written += count

        host.agent.start()  # with no broker to be reached
        wait_until(lambda: (tmp_path / "agent/status.json").exists(), 20, "the agent runs")
        time.sleep(2)
        write(1000)
        time.sleep(4)
        assert not host.status()["kafka"]["connected"]
        proxy.blocked = False
        arrived = host.arrived
        arrived.wait(lambda: len(arrived.messages()) >= written, 30, "the lines after the start without a broker")
        for _ in range(3):
            write(2000)
            time.sleep(0.5)
            proxy.blocked = True
            proxy.cut()
            for _ in range(10):
                write(500)
                time.sleep(0.5)
            proxy.blocked = False
            time.sleep(1)
            proxy.swallow()
            write(500)
        arrived.wait(lambda: len(arrived.messages()) >= written, 60, f"{written} lines")
        assert sorted(int(m.split()[1]) for m in arrived.messages()) == list(range(written))
        arrived.gapless("logs")
        arrived.gapless("metrics")
        wait_until(lambda: host.status()["streams"]["logs"]["unacked_lines"] == 0, 10, "nothing is left in the spool")
        assert host.status()["rss_bytes"] <= 64 << 20
        assert host.agent.stop() == 0
    finally:
        proxy.close()
        host.close()


@pytest.fixture
def admin(stack: Any) -> Iterator[KafkaAdminClient]:
    """The real Kafka."""
    client = KafkaAdminClient(bootstrap_servers=stack.kafka)
    yield client
    client.close()


def test_topic_deleted_and_made_anew_loses_nothing_that_kafka_did_not_take(
    stack: Any, names: Names, admin: KafkaAdminClient, tmp_path: Path
) -> None:
    key, host = SigningKey.generate(), new_host_id()
    spools = Spools(tmp_path, [StreamSpec("logs", names.logs, 1, False), StreamSpec("metrics", names.metrics, 0, True)])
    options = {"request_timeout_ms": 3000, "delivery_timeout_ms": 6000}
    sender = Sender(spools, host_id=host, key=key, kafka=KafkaConnection(stack.kafka), options=options)
    arrived = Arrived(stack.kafka, names, host, key.public)

    def append(stream: str, first: int, count: int) -> None:
        moment = times.now()
        for number in range(first, first + count):
            spools[stream].append([b'{"message":"%d"}' % number], dataset="d", tmin=moment, tmax=moment)
        spools[stream].sync()

    sender.start()
    append("logs", 0, 100)
    assert sender.wait_acked(20)
    arrived.wait(lambda: len(arrived.messages()) == 100, 20, "what came before")
    admin.delete_topics([names.logs])
    append("logs", 100, 100)
    time.sleep(8)  # longer than a delivery may take
    append("metrics", 0, 10)
    arrived.wait(lambda: len(arrived.documents("metrics")) == 10, 20, "the other stream goes on meanwhile")
    (topic,) = [t for t in names.topics(3) if t.name == names.logs]
    admin.create_topics([NewTopic(topic.name, topic.partitions, 1, topic_configs=topic.settings)])
    append("logs", 200, 100)
    assert sender.wait_acked(40)
    arrived.close()
    again = Arrived(stack.kafka, names, host, key.public)
    again.wait(lambda: len(again.messages()) >= 200, 20, "what came after")
    assert again.messages() == [str(number) for number in range(100, 300)]
    again.close()
    assert sender.stop()
    spools.close()


def test_what_kafka_refuses_for_its_size_is_cut_or_dropped_and_the_rest_goes_on(
    stack: Any, names: Names, admin: KafkaAdminClient, tmp_path: Path
) -> None:
    import random

    small = "small.logs"
    topic = f"{names.prefix}.{small}"
    admin.create_topics([NewTopic(topic, 1, 1, topic_configs={"max.message.bytes": "20000"})])
    key, host = SigningKey.generate(), new_host_id()
    spools = Spools(tmp_path, [StreamSpec("logs", topic, 1, False)])
    sender = Sender(spools, host_id=host, key=key, kafka=KafkaConnection(stack.kafka))
    noise = random.Random(1)  # gzip finds nothing to save in it
    lines = [b"%03d %s" % (i, noise.randbytes(2000).hex().encode()) for i in range(60)]
    lines[30] = b"030 " + noise.randbytes(30_000).hex().encode()
    moment = times.now()
    spools["logs"].append(lines, dataset="d", tmin=moment, tmax=moment)
    spools["logs"].append([b"after"], dataset="d", tmin=moment, tmax=moment)
    spools["logs"].sync()
    sender.start()
    assert sender.wait_acked(40)
    assert sender.stats()["logs"]["lines_refused"] == 1
    consumer = KafkaConsumer(bootstrap_servers=stack.kafka, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(topic, 0)])
    found: dict[int, bytes] = {}
    while 60 not in found:
        for messages in consumer.poll(timeout_ms=500).values():
            for message in messages:
                decoded = batch.decode(
                    topic, message.key, message.headers, message.value, lambda *_: VerifyKey(key.public)
                )
                found.update({decoded.seq + i: line for i, line in enumerate(decoded.lines())})
    assert found == {**{i: line for i, line in enumerate(lines) if i != 30}, 60: b"after"}
    consumer.close()
    assert sender.stop()
    spools.close()
