"""Rules from the command of the cmdb to the documents in Elasticsearch: two workers, real services."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing import cmdb, simulated_hosts
from ezadmin_testing.fleet import Fleet
from ezadmin_testing.processes import Process, wait_until
from sqlalchemy import create_engine, text

from ezadmin_cmdb.main import main as cmdb_main
from ezadmin_wire import batch as wire
from ezadmin_wire.config import host_key
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.times import format_time

HOSTS = 6
WITHIN = 5.0
"""Seconds after a command in which all workers use what it changed."""


class Installation:
    """A cmdb with its worker, hosts that it knows, and two pipeline workers."""

    def __init__(self, stack: Any, names: Names, database: str, folder: Path) -> None:
        self.folder, self.names, self.kafka, self.database = folder, names, stack.kafka, database
        self.config = cmdb.settings_file(folder, database, stack.kafka, names)
        self.fleet = Fleet(stack.kafka, stack.elasticsearch, names, folder)
        self.fleet._signer = SigningKey.load(folder / "config.key")
        self.settings = self.fleet.settings("pair")
        cmdb.clear(database)
        self.keys = [simulated_hosts.load_key(folder / "keys", number) for number in range(HOSTS)]
        self.seq = 0
        command = [
            sys.executable,
            "-m",
            "ezadmin_pipeline.main",
            "run",
            "--workers",
            "2",
            "--config",
            str(self.settings),
        ]
        self.processes = [cmdb.worker(self.config, folder / "worker.log"), Process(command, folder / "pipeline.log")]

    def run(self, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            cmdb.command(*arguments, "--config", self.config), capture_output=True, text=True, timeout=60
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def pipeline(self, *arguments: str | Path, status: int = 0) -> str:
        command = [sys.executable, "-m", "ezadmin_pipeline.main", *map(str, arguments), "--config", str(self.settings)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    def send(self, message: str) -> list[tuple[str, str]]:
        """One line of every host; returns hosts and times."""
        sent = []
        for number, key in enumerate(self.keys):
            host, when = simulated_hosts.host_id(number), format_time(datetime.now(UTC))
            fields = {"@timestamp": when, "event.created": when, "event.dataset": "test", "log.level": "info"}
            line = json.dumps({**fields, "message": message}, separators=(",", ":")).encode()
            headers, value = wire.encode(
                key, host=host, topic=self.names.logs, stream="logs", epoch="00000000000000bb", seq=self.seq,
                lines=[line], dataset="test", tmin=when, tmax=when, sent=when,
            )  # fmt: skip
            self.fleet.send(self.names.logs, host.encode(), value, headers)
            sent.append((host, when))
        self.seq += 1
        return sent

    def stored(self) -> list[dict[str, Any]]:
        wait_until(lambda: self.fleet.lag() == 0, 30, "all is committed")
        return [hit["_source"] for hit in self.fleet.search_all(f"{self.names.prefix}-logs-*", source=True)]

    def counts(self) -> dict[str, int]:
        return {
            value: sum(
                n for (rollup, *_), n in self.fleet.rollup_sums(f"events.{value}").items() if rollup == "logs-1m"
            )
            for value in ("seen", "stored", "ignored")
        }

    def close(self) -> None:
        for process in self.processes:
            process.stop()
        self.fleet.close()


@pytest.fixture
def installation(stack: Any, names: Names, database: str, tmp_path: Path) -> Iterator[Installation]:
    installation = Installation(stack, names, database, tmp_path)
    yield installation
    installation.close()


def test_a_rule_reaches_all_workers_within_five_seconds(installation: Installation, tmp_path: Path) -> None:
    worker, pipeline = installation.processes
    worker.start()
    for number, key in enumerate(installation.keys):
        name = ("--name", f"sim-{number}", "--public-key", key.public.hex(), "--config", str(installation.config))
        assert cmdb_main(["host", "add", "--id", simulated_hosts.host_id(number), *name]) == 0
    hosts = {host_key(simulated_hosts.host_id(number)) for number in range(HOSTS)}
    wait_until(
        lambda: hosts <= cmdb.config_records(installation.kafka, installation.names, installation.folder).keys(),
        30,
        "the hosts are in Kafka: lines of unknown hosts are dead letters",
    )
    pipeline.start()
    installation.send("first noise")
    wait_until(lambda: len(installation.stored()) == HOSTS, 60, "the hosts are known and the workers work")

    installation.run("rules", "add", "noise", "ignore", "--contains", "noise", "--for", "1h", "--comment", "too much")
    installation.run("rules", "add", "slow", "filter", "--regex", "(x+x+)+y")
    installation.run("rules", "add", "pin", "mask", "--pattern", "pin=[0-9]+", "--replacement", "pin=*")
    time.sleep(WITHIN - 1)
    noise = installation.send("second noise")
    installation.send("pin=1234 " + "x" * 100_000)
    messages = [document["message"] for document in installation.stored()]
    assert len(messages) == 2 * HOSTS
    assert sum(message.startswith("pin=* ") for message in messages) == HOSTS
    assert installation.counts() == {"seen": 3 * HOSTS, "stored": 2 * HOSTS, "ignored": HOSTS}

    file = tmp_path / "rules.json"
    file.write_text(installation.run("rules", "list", "--json").replace('"contains": "noise"', '"contains": "first"'))
    tried = installation.pipeline("try", "--since", "15m", "--rules", file)
    assert f"{3 * HOSTS} lines: {2 * HOSTS} kept ({HOSTS} of them changed), {HOSTS} dropped, 0 dead letters" in tried
    assert f"noise  ignore  {HOSTS} lines" in tried
    assert "  info  first noise" in tried
    assert "slow  filter  0 lines" in tried
    assert "message: pin=1234 xxx" in tried
    assert " -> pin=* xxx" in tried
    assert "in force" in installation.pipeline("try")
    file.write_text('{"rules":[{"id":"x","action":"filter","match":{"regex":"("}}]}')
    assert "rules.json: rule 'x': expression '('" in installation.pipeline("try", "--rules", file, status=1)
    assert "is no duration" in installation.pipeline("try", "--since", "soon", status=2)

    why = installation.pipeline("why", "sim-3", noise[3][1], "--within", "10s")
    assert "rules in force: revision 4, 3 rules" in why
    assert "the last commit was by revision 4" in why
    assert "dropped by noise, not stored  second noise" in why
    assert "changed by pin, stored  pin=1234" in why
    assert f"counted in {noise[3][1][:16]}, test, info: seen " in why
    assert "no host nobody is known" in installation.pipeline("why", "nobody", noise[3][1], status=1)
    assert "Kafka holds no lines" in installation.pipeline("why", "sim-3", "2026-01-01T00:00:00Z")

    installation.run("rules", "remove", "noise")
    time.sleep(WITHIN - 1)
    installation.send("third noise")
    assert len(installation.stored()) == 3 * HOSTS
    assert installation.counts() == {"seen": 4 * HOSTS, "stored": 3 * HOSTS, "ignored": HOSTS}


def test_rules_are_changed_one_after_the_other(installation: Installation, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str, status: int = 0) -> str:  # in this process: there are many
        capsys.readouterr()
        assert cmdb_main([*arguments, "--config", str(installation.config)]) == status
        return "".join(capsys.readouterr())

    assert "no rules yet" in run("rules", "list")
    run("rules", "add", "a", "filter", "--level", "debug", "--host", "web-*", "--field", "process.name=cron")
    run("rules", "add", "b", "label", "--contains", "한글", "--set-label", "team=db", "--first")
    run("rules", "add", "c", "exempt", "--level", "critical", "--before", "a")
    run("rules", "add", "d", "ignore", "--dataset", "nginx", "--until", "2026-01-01T00:00:00+09:00")
    lines = run("rules", "list").splitlines()
    assert [line.split()[1] for line in lines] == ["b", "c", "a", "d"]
    assert "levels debug and hosts web-* and field process.name='cron'" in lines[2]
    assert "expired 2025-12-31T15:00:00.000Z" in lines[3]
    assert "order: d, b, c, a" in run("rules", "move", "d", "--first")
    assert "order: b, d, c, a" in run("rules", "move", "d", "--after", "b")
    run("rules", "remove", "c")
    listed = json.loads(run("rules", "list", "--json"))["rules"]
    assert [rule["id"] for rule in listed] == ["b", "d", "a"]
    assert listed[2]["match"]["fields"] == {"process.name": "cron"}

    for arguments, status, message in (
        (("add", "a", "exempt"), 1, "there is a rule a already"),
        (("add", "x", "filter", "--regex", r"(a)\1"), 1, "no back-references"),
        (("add", "x", "filter"), 1, "every event"),
        (("add", "x", "ignore", "--contains", "y"), 1, "needs a time"),
        (("add", "x", "ignore", "--contains", "y", "--for", "soon"), 2, "30m, 12h or 7d"),
        (("add", "x", "ignore", "--contains", "y", "--until", "soon"), 1, "not an ISO 8601"),
        (("add", "x", "mask", "--pattern", "x", "--replacement", "", "--in-field", "host.name"), 1, "cannot be masked"),
        (("add", "x", "exempt", "--before", "nobody"), 1, "no rule nobody"),
        (("add", "x", "exempt", "--field", "name"), 2, "write NAME=VALUE"),
        (("move", "a"), 2, "say where"),
        (("move", "a", "--first", "--last"), 2, "one place only"),
        (("move", "a", "--before", "a"), 1, "no rule a"),
        (("remove", "nobody"), 1, "no rule nobody"),
    ):
        assert message in run("rules", *arguments, status=status), arguments

    engine = create_engine(installation.database)
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT action, object_id, actor FROM changes WHERE object_type = 'rule' ORDER BY id")
        )
        found = [tuple(row) for row in rows]
        body = connection.scalar(text("SELECT body FROM config_records WHERE record_key = 'rules'"))
    engine.dispose()
    made = [("create", name) for name in "abcd"]
    assert [row[:2] for row in found] == [*made, ("update", "d"), ("update", "d"), ("delete", "c")]
    assert all(row[2] for row in found)
    assert json.loads(body)["rules"] == listed


def test_rules_added_at_the_same_time_are_all_there(installation: Installation) -> None:
    installation.run("rules", "add", "first", "exempt", "--level", "error")
    names = [f"r{number}" for number in range(6)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda name: installation.run("rules", "add", name, "exempt", "--contains", name), names))
    assert {rule["id"] for rule in json.loads(installation.run("rules", "list", "--json"))["rules"]} == {
        "first",
        *names,
    }
