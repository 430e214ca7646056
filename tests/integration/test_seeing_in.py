"""What a worker says about itself, on the real stack: /metrics, lag."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing.cmdb import read
from ezadmin_testing.fleet import Fleet
from ezadmin_testing.processes import pipeline, pipeline_command, wait_until
from ezadmin_testing.sending import Agent, event
from prometheus_client.parser import text_string_to_metric_families

from ezadmin_pipeline.fields import COMMON, DATASET, FIELDS
from ezadmin_pipeline.metrics import METRICS, PREFIX
from ezadmin_wire import batch, state
from ezadmin_wire import config as wire
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey, VerifyKey

HOST = "00000000-0000-4000-8000-00000000000a"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def fleet(stack, names: Names, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(stack.kafka, stack.elasticsearch, names, tmp_path)
    yield fleet
    fleet.close()


class Scrape:
    """The metrics of a worker, as Prometheus reads them."""

    def __init__(self, log: Path) -> None:
        lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        (url,) = [line["message"].split()[1] for line in lines if line["message"].startswith("metrics: http")]
        self.text = urllib.request.urlopen(url, timeout=5).read().decode()
        self.families = {family.name: family for family in text_string_to_metric_families(self.text)}

    def value(self, name: str, **labels: str) -> float:
        samples = [s for family in self.families.values() for s in family.samples if s.name == PREFIX + name]
        return sum(s.value for s in samples if labels.items() <= s.labels.items())


def test_metrics_of_a_worker_are_what_happened(fleet: Fleet, tmp_path: Path) -> None:
    agent = Agent(fleet, HOST)
    rule = wire.Rule("quiet", "filter", wire.Match(contains="noise"))
    fleet.publish("rules", wire.RulesRecord([rule]))
    agent.send(*(event(f"line {i}") for i in range(7)), event("noise"), b'{"half":')
    fleet.send(fleet.names.logs, HOST.encode(), b"no batch\n", [])
    log = tmp_path / "worker.log"
    config = fleet.settings("worker", metrics_listen="127.0.0.1:0", commit_interval=0.5)
    waiting = json.loads(pipeline_command(config, "lag", "--json", "--over", "0.1"))
    assert waiting["total"]["messages"] == 2
    assert waiting["total"]["seconds"] < 60
    assert waiting["total"]["catch_up"] is None, "nobody works, so it will never be caught up"
    worker = pipeline(config, log).start()
    try:
        wait_until(lambda: fleet.lag() == 0, 60, "everything is committed")
        wait_until(lambda: Scrape(log).value("partitions") == 6, 20, "all partitions are held")
        found = Scrape(log)
        assert found.value("messages_total", topic=fleet.names.logs) == 2
        assert found.value("lines_total", fate="kept") == 7
        assert found.value("lines_total", fate="ignored") == 1
        assert found.value("rule_hits_total", rule="quiet") == 1
        assert found.value("dead_letters_total", reason="bad_line") == 1
        assert found.value("dead_letters_total", reason="bad_header") == 1
        assert found.value("bulk_duration_seconds_count") >= 1
        assert found.value("commit_duration_seconds_bucket", le="+Inf") >= 1
        assert found.value("elasticsearch_up") == 1
        assert found.value("hosts") == 1
        assert found.value("lag_messages") == found.value("lag_seconds") == found.value("catch_up_seconds") == 0
        assert found.families["process_resident_memory_bytes"].samples[0].value > 20e6
        declared = {PREFIX + name.removesuffix("_total") for name, *_ in METRICS}
        assert declared <= set(found.families)
        assert {name for name in found.families if name.startswith(PREFIX)} == declared
        assert json.loads(pipeline_command(config, "lag", "--json", "--over", "0.1"))["total"]["messages"] == 0
        assert "caught up in" in pipeline_command(config, "lag", "--over", "0.1")
    finally:
        assert worker.stop() == 0


def test_a_worker_tells_of_itself_in_documents(fleet: Fleet, tmp_path: Path) -> None:
    config = fleet.settings("worker", commit_interval=0.5)
    with config.open("a") as file:
        file.write(f'[own]\nkey = "{tmp_path / "own.key"}"\n')
    identity = json.loads(pipeline_command(config, "identity"))
    assert json.loads(pipeline_command(config, "identity")) == identity
    key, host = SigningKey.load(tmp_path / "own.key"), identity["host.id"]
    worker = pipeline(config, tmp_path / "worker.log").start()
    try:
        # as long as nobody knows the key, nothing is sent that would only become dead letters
        wait_until(
            lambda: "own figures and errors are not sent" in (tmp_path / "worker.log").read_text(), 30, "warning"
        )
        fleet.send(fleet.names.logs, HOST.encode(), b"no batch\n", [])
        wait_until(lambda: len(fleet.dead_letters()) == 1, 30, "the dead letter of another")
        fleet.publish_host(host, key, name="the-pipeline")

        def told() -> list[dict[str, Any]]:
            return [hit["_source"] for hit in fleet.search_all(f"{fleet.names.prefix}-logs-*", source=True)]

        wait_until(told, 30, "its events")
        event = next(event for event in told() if event["message"].startswith("dead letter"))
        assert (event["host.id"], event["host.name"], event["log.level"]) == (host, "the-pipeline", "warning")
        assert (event["event.dataset"], event["error.type"]) == ("pipeline.log", "bad_header")
        wait_until(lambda: figures(fleet, DATASET), 30, "its figures")
        (first, *_) = figures(fleet, DATASET)
        assert first["pipeline.messages.read"] >= [1]
        assert first["pipeline.letters"] == [1]
        assert first["process.entity_id"][0].split("-")[1] == str(worker.pid)
        (status, *_) = read(fleet.kafka, fleet.names.state)
        decoded = batch.decode(status.topic, status.key, status.headers, status.value, lambda *_: VerifyKey(key.public))
        assert isinstance(state.decode(decoded.lines()[0]), state.AgentStatus)
        assert len(fleet.dead_letters()) == 1
    finally:
        assert worker.stop() == 0


def figures(fleet: Fleet, dataset: str) -> list[dict[str, Any]]:
    fleet.elastic.request("POST", f"/{fleet.names.prefix}-metrics-*/_refresh")
    names = [field.name for field in FIELDS] + list(COMMON)
    body = {
        "size": 100,
        "query": {"term": {"event.dataset": dataset}},
        "docvalue_fields": names,
        "sort": [{"@timestamp": "desc"}],
    }
    status, answer = fleet.elastic.request(
        "POST", f"/{fleet.names.prefix}-metrics-*/_search", body=json.dumps(body).encode()
    )
    return [hit["fields"] for hit in answer["hits"]["hits"]] if status == 200 else []


def test_the_documentation_lists_every_metric() -> None:
    rows = [
        f"| `{PREFIX}{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {about} |"
        for name, kind, labels, about in METRICS
    ]
    text = (ROOT / "docs/operations.md").read_text("utf-8")
    assert [line for line in text.splitlines() if line.startswith(f"| `{PREFIX}")] == rows, "\n".join(rows)
