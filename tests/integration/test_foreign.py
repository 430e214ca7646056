"""Topics of other programs through the real parts: a real rsyslog writes, and every message is counted and found once."""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing.fleet import Fleet
from ezadmin_testing.processes import Process, pipeline, pipeline_command, wait_until
from ezadmin_testing.sending import Agent, event
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from ezadmin_pipeline.foreign import host_id
from ezadmin_wire.names import Names
from ezadmin_wire.times import now

HOST = "00000000-0000-4000-8000-00000000000a"


class Foreigners:
    """An installation with two foreign topics: lines of text, and JSON of which only some hosts are let in."""

    def __init__(self, stack: Any, names: Names, folder: Path) -> None:
        self.fleet = Fleet(stack.kafka, stack.elasticsearch, names, folder)
        self.text, self.json = f"{names.prefix}-text", f"{names.prefix}-json"
        self.admin = KafkaAdminClient(bootstrap_servers=stack.kafka)
        self.config = self.fleet.settings("worker", commit_interval=0.5)
        with self.config.open("a") as file:
            file.write(f'[[foreign]]\ntopic = "{self.text}"\ndataset = "syslog"\n')
            file.write(
                f'[[foreign]]\ntopic = "{self.json}"\nformat = "json"\nhosts = ["web-*", "{socket.gethostname()}"]\n'
            )
        self.log = folder / "worker.log"
        self.worker = pipeline(self.config, self.log)

    def make(self, topic: str) -> None:
        self.admin.create_topics([NewTopic(topic, num_partitions=2, replication_factor=1)])

    def events(self) -> list[dict[str, Any]]:
        found = self.fleet.search_all(f"{self.fleet.names.prefix}-logs-*", source=True)
        return [hit["_source"] | {"_id": hit["_id"]} for hit in found]

    def count(self) -> int:
        return len(self.events())

    def waiting(self) -> int:
        total = json.loads(pipeline_command(self.config, "lag", "--json", "--over", "0.1"))["total"]
        return int(total["messages"])


@pytest.fixture
def foreigners(stack: Any, names: Names, tmp_path: Path) -> Iterator[Foreigners]:
    foreigners = Foreigners(stack, names, tmp_path)
    yield foreigners
    foreigners.worker.stop()
    there = set(foreigners.admin.list_topics())
    foreigners.admin.delete_topics(sorted({foreigners.text, foreigners.json} & there))
    foreigners.admin.close()
    foreigners.fleet.close()


def rsyslog(folder: Path, kafka: str, topics: Foreigners) -> tuple[Process, int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    conf = folder / "rsyslog.conf"
    broker = f'broker=["{kafka}"] confParam=["compression.codec=none"] resubmitOnFailure="on"'
    conf.write_text(f"""\
global(workDirectory="{folder}")
module(load="imptcp")
module(load="omkafka")
input(type="imptcp" address="127.0.0.1" port="{port}")
template(name="json" type="string" string="%jsonmesg%")
action(type="omkafka" topic="{topics.text}" template="RSYSLOG_FileFormat" {broker})
action(type="omkafka" topic="{topics.json}" template="json" {broker})
""")
    command = [str(shutil.which("rsyslogd")), "-n", "-f", str(conf), "-i", str(folder / "rsyslog.pid")]
    return Process(command, folder / "rsyslog.log").start(), port


@pytest.mark.skipif(
    shutil.which("rsyslogd") is None, reason="rsyslogd is not installed (Debian: rsyslog, rsyslog-kafka)"
)
def test_what_a_real_rsyslog_writes(foreigners: Foreigners, tmp_path: Path) -> None:
    for topic in (foreigners.text, foreigners.json):
        foreigners.make(topic)
    process, port = rsyslog(tmp_path, foreigners.fleet.kafka, foreigners)
    foreigners.worker.start()
    stamp = now()
    try:
        wait_until(lambda: connects(port), 20, "rsyslog listens")
        with socket.create_connection(("127.0.0.1", port)) as connection:
            for i in range(100):
                connection.sendall(f"<{8 * 4 + i % 8}>{stamp[:-1]}+00:00 web-{i % 3} sshd[{i}]: line {i}\n".encode())
        wait_until(lambda: foreigners.count() == 200, 60, "every event of both topics")
    finally:
        process.stop()
    wait_until(lambda: foreigners.waiting() == 0, 30, "everything is committed")
    found = foreigners.events()
    json_events = [event for event in found if event["event.dataset"] == foreigners.json]
    text_events = [event for event in found if event["event.dataset"] == "syslog"]
    assert (len(json_events), len(text_events)) == (100, 100)
    levels = ["emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"]
    for i, event_ in enumerate(sorted(json_events, key=lambda event: event["process.pid"])):
        assert (event_["message"], event_["process.name"], event_["process.pid"]) == (f"line {i}", "sshd", i)
        assert (event_["log.level"], event_["@timestamp"]) == (levels[i % 8], stamp)
        assert event_["log.syslog.facility.code"] == 4
        assert (event_["host.name"], event_["labels"]) == (f"web-{i % 3}", {"foreign": foreigners.json})
        assert event_["host.id"] == host_id(foreigners.json, f"web-{i % 3}")
    assert {event["message"] for event in text_events} == {f"line {i}" for i in range(100)}
    sums = foreigners.fleet.rollup_sums("events.seen")
    per_host = Counter(host for (rollup, _, host, _), n in sums.items() if rollup == "logs-1m" for _ in range(n))
    assert per_host[host_id(foreigners.json, "web-0")] == per_host[host_id(foreigners.text, "web-0")] == 34
    assert sum(per_host.values()) == 200
    assert foreigners.fleet.dead_letters() == []


def connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_exact_whatever_is_killed_and_dead_letters_as_for_others(foreigners: Foreigners) -> None:
    fleet = foreigners.fleet
    agent = Agent(fleet, HOST)
    foreigners.worker.start()
    agent.send(event("of an agent"))
    wait_until(lambda: foreigners.count() == 1, 30, "a topic that is missing holds nothing up")
    foreigners.make(foreigners.json)
    for i in range(120):
        message = {"message": f"line {i}", "level": 3, "host": f"web-{i % 2}", "timestamp": time.time()}
        fleet.send(foreigners.json, None, json.dumps(message).encode(), [])
        if i in (40, 80):
            time.sleep(1.0)
            foreigners.worker.kill()
            foreigners.worker.start()
    fleet.send(foreigners.json, None, b"{half", [])
    fleet.send(foreigners.json, None, b'{"host":"db-1","message":"not let in"}', [])
    wait_until(lambda: foreigners.waiting() == 0, 60, "the topic that was made later is read, too")
    found = [event for event in foreigners.events() if event["event.dataset"] == foreigners.json]
    assert Counter(event["message"] for event in found) == Counter(f"line {i}" for i in range(120))
    sums = fleet.rollup_sums("events.seen")
    assert sum(n for (rollup, _, host, _), n in sums.items() if rollup == "logs-1m" and host != HOST) == 120
    rows = json.loads(pipeline_command(foreigners.config, "dlq", "stats", "--by", "reason,topic", "--json"))
    assert {(row["reason"], row["topic"]) for row in rows} == {
        ("bad_value", foreigners.json), ("host_not_allowed", foreigners.json)
    }  # fmt: skip

    def letter(reason: str) -> str:
        (line,) = pipeline_command(foreigners.config, "dlq", "ls", "--json", "--reason", reason).splitlines()
        return str(json.loads(line)["id"])

    edit = ("dlq", "edit", letter("host_not_allowed"), "--set", "host=web-9", "--by", "ann")
    assert "1 stored as edited" in pipeline_command(foreigners.config, *edit)
    mended = next(event for event in foreigners.events() if event.get("event.edited_by") == "ann")
    assert (mended["host.name"], mended["message"]) == ("web-9", "not let in")
    assert mended["host.id"] == host_id(foreigners.json, "web-9")
    assert "1 sent to their topic" in pipeline_command(foreigners.config, "dlq", "replay", letter("bad_value"))
    assert foreigners.worker.running


def test_try_why_and_replay_know_them(foreigners: Foreigners, tmp_path: Path) -> None:
    fleet = foreigners.fleet
    foreigners.make(foreigners.json)
    foreigners.worker.start()
    stamp = now()
    for i in range(4):
        message = {"message": f"line {i}", "level": 3 + i % 2, "host": f"web-{i // 2}", "timestamp": stamp}
        fleet.send(foreigners.json, None, json.dumps(message).encode(), [])
    wait_until(lambda: foreigners.count() == 4, 30, "all are stored")
    wait_until(lambda: foreigners.waiting() == 0, 30, "all are committed")
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"rules": [{"id": "quiet", "action": "filter", "match": {"hosts": ["web-1"]}}]}))
    tried = pipeline_command(foreigners.config, "try", "--rules", str(rules))
    assert "4 lines: 2 kept (0 of them changed), 2 dropped, 0 dead letters" in tried
    for host in ("WEB-1", host_id(foreigners.json, "web-1")):
        told = pipeline_command(foreigners.config, "why", host, stamp)
        assert "is no host of the cmdb: foreign topics are looked at" in told
        lines = {line for line in told.splitlines() if "kept, stored  line" in line}  # they are of the same millisecond
        assert lines == {f"{stamp}  error     kept, stored  line 2", f"{stamp}  warning   kept, stored  line 3"}
        assert told.count("seen 1, stored 1") == 2
    before = {(event["_id"], event["message"]) for event in foreigners.events()}
    _, indices = fleet.elastic.request("GET", f"/{fleet.names.prefix}-logs-*")
    for index in indices:
        status, answer = fleet.elastic.request("DELETE", f"/{index}")
        assert status == 200, answer
    replayed = pipeline_command(foreigners.config, "replay", foreigners.json)
    assert "4 lines read: 0 were there, 4 stored, 0 refused, 0 ignored by rules" in replayed
    assert {(event["_id"], event["message"]) for event in foreigners.events()} == before
    assert "4 were there, 0 stored" in pipeline_command(foreigners.config, "replay", foreigners.json)
