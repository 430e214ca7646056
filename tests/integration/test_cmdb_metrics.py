"""``/metrics`` of the web application: all its processes together, what waits, who may ask; how far behind in seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from ezadmin_testing.cmdb import command, settings_file
from ezadmin_testing.described import KIM, PASSWORD
from ezadmin_testing.gateway import free_port
from ezadmin_testing.processes import Process, wait_until
from flask import Flask
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata
from prometheus_client.parser import text_string_to_metric_families

from ezadmin_cmdb import settings
from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.accounts import tokens
from ezadmin_cmdb.app import create_core
from ezadmin_cmdb.database import db, unit_of_work, utc_now
from ezadmin_cmdb.outbox.models import ConfigRecord
from ezadmin_cmdb.status.kafka import KafkaProbe
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.names import Names


class Web:
    """The real web application with two processes."""

    def __init__(self, folder: Path, database: str, stack: Any, names: Names) -> None:
        port = free_port()
        more = {"top": f'secret_key_file = "{folder}/secret"', "web": f"port = {port}\nworkers = 2"}
        self.config = settings_file(folder, database, stack.kafka, names, **more)
        self.url = f"http://127.0.0.1:{port}"
        self.core: Flask = create_core(settings.load(self.config))
        self.process = Process(command("web", "--config", self.config), folder / "web.log").start()
        wait_until(self._answers, 60, "it answers")

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def figures(self, path: str = "/metrics", **options: Any) -> dict[str, float]:
        """The figures by name and labels."""
        answer = httpx.get(self.url + path, timeout=30, **options)
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return {
            one.name + "".join(f" {label}={value}" for label, value in sorted(one.labels.items())): one.value
            for family in text_string_to_metric_families(answer.text)
            for one in family.samples
        }


@pytest.fixture(scope="module")
def web(stack: Any, module_names: Names, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    web = Web(tmp_path_factory.mktemp("web"), database, stack, module_names)
    yield web
    web.process.stop()
    with web.core.app_context():
        db.engine.dispose()


def test_requests_of_all_processes_are_counted(web: Web) -> None:
    ok = "ezadmin_cmdb_web_requests_total route=page status=2xx"
    before = web.figures()
    with ThreadPoolExecutor(8) as pool:  # a connection each, so that both processes answer some
        assert all(one.status_code == 200 for one in pool.map(httpx.get, [f"{web.url}/sign-in"] * 60))
    assert httpx.get(f"{web.url}/api/v1/hosts").status_code == 401
    assert httpx.get(f"{web.url}/static/app.js").status_code == 200
    seen = [web.figures() for _ in range(4)]
    assert {one[ok] - before[ok] for one in seen} == {60}, "whichever process is asked"
    after = seen[-1]
    for name in ("api status=4xx", "static status=2xx"):
        key = f"ezadmin_cmdb_web_requests_total route={name}"
        assert after[key] - before[key] == 1
    took = "ezadmin_cmdb_web_request_duration_seconds"
    assert after[f"{took}_count route=page"] - before[f"{took}_count route=page"] == 60
    assert after[f"{took}_bucket le=+Inf route=page"] == after[f"{took}_count route=page"]
    assert after[f"{took}_sum route=page"] > before[f"{took}_sum route=page"]


def test_only_this_machine_or_a_token_may_ask(web: Web) -> None:
    forwarded = httpx.get(f"{web.url}/metrics", headers={"X-Forwarded-For": "127.0.0.1"})
    assert forwarded.status_code == 404
    assert httpx.get(f"{web.url}/api/v1/metrics").status_code == 401
    with web.core.app_context(), unit_of_work():
        user = accounts.create_user(KIM, "kim", PASSWORD, admin=True)
        db.session.flush()
        right = tokens.create(KIM, user, "prometheus", ["status.view"])[1]
        wrong = tokens.create(KIM, user, "other", ["site.view"])[1]
    found = web.figures("/api/v1/metrics", headers={"Authorization": f"Bearer {right}"})
    assert found["ezadmin_cmdb_database_up"] == found["ezadmin_cmdb_kafka_up"] == 1
    refused = httpx.get(f"{web.url}/api/v1/metrics", headers={"Authorization": f"Bearer {wrong}"})
    assert refused.status_code == 403


def test_what_waits(web: Web, stack: Any, module_names: Names) -> None:
    before = web.figures()
    assert before["ezadmin_cmdb_outbox_waiting"] == 0
    assert before["ezadmin_cmdb_commands state=queued"] == 0
    assert before["ezadmin_cmdb_webhook_deliveries status=waiting"] == 0
    assert before["ezadmin_cmdb_notification_messages status=waiting"] == 0
    assert before["ezadmin_cmdb_notification_overdue_seconds"] == 0
    assert "ezadmin_cmdb_worker_members group=cmdb-worker-alerts" in before
    with web.core.app_context(), unit_of_work():
        db.session.add(ConfigRecord(key="rules", revision=2, body="{}", published_revision=1, updated=utc_now()))
    place = TopicPartition(module_names.state, 0)
    producer = KafkaProducer(bootstrap_servers=stack.kafka)
    for _ in range(3):
        producer.send(module_names.state, b"x", partition=0).get(timeout=20)
    producer.close()
    written = time.monotonic()
    group = module_names.consumer_group("cmdb-worker")
    consumer = KafkaConsumer(bootstrap_servers=stack.kafka, group_id=group, enable_auto_commit=False)
    consumer.assign([place])
    consumer.commit({place: OffsetAndMetadata(1, "", -1)})
    time.sleep(2)
    found = web.figures()
    assert found["ezadmin_cmdb_outbox_waiting"] == 1
    assert found["ezadmin_cmdb_worker_members group=cmdb-worker"] == 0
    assert found[f"ezadmin_cmdb_worker_lag_messages group=cmdb-worker topic={module_names.state}"] == 2
    age = "ezadmin_cmdb_worker_lag_seconds group=cmdb-worker"
    assert 2 <= found[age] < time.monotonic() - written + 1
    assert web.figures()[age] >= found[age], "asked again it answers as well"
    probe = KafkaProbe(KafkaConnection(stack.kafka))
    assert (probe.groups([group])[group].seconds or 0) >= 2
    consumer.commit({place: OffsetAndMetadata(3, "", -1)})
    consumer.close()
    standing = probe.groups([group])[group]
    assert (standing.lag, standing.seconds) == ({module_names.state: 0}, 0.0)
    probe.close()
