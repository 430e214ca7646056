"""From a page of the cmdb to the documents in Elasticsearch: labels that follow from the rack, reminders as events."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing import cmdb, simulated_hosts
from ezadmin_testing.described import KIM, PASSWORD, csrf, empty, make, sign_in
from ezadmin_testing.fleet import Fleet
from ezadmin_testing.processes import Process, wait_until
from flask import Flask
from sqlalchemy import text

from ezadmin_cmdb import migrate, own
from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.app import create_app
from ezadmin_cmdb.database import db, unit_of_work, utc_now
from ezadmin_cmdb.describe import services
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.settings import load
from ezadmin_wire import batch as wire
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.times import format_time

HOSTS = 3
WITHIN = 60.0
"""Seconds after a change in which new documents have the labels."""


class Installation:
    """The pages of a cmdb, its worker, hosts that it knows, and a pipeline worker."""

    def __init__(self, stack: Any, names: Names, database: str, folder: Path) -> None:
        self.names, self.folder, self.seq = names, folder, 0
        more = {
            "top": f'secret_key_file = "{folder}/secret"\n', "own": f'key = "{folder}/own.key"',
            "elasticsearch": f'url = "{stack.elasticsearch}"',
        }  # fmt: skip
        self.config = cmdb.settings_file(folder, database, stack.kafka, names, **more)
        self.fleet = Fleet(stack.kafka, stack.elasticsearch, names, folder)
        self.fleet._signer = SigningKey.load(folder / "config.key")
        pipeline = [sys.executable, "-m", "ezadmin_pipeline.main", "run", "--config", str(self.fleet.settings("one"))]
        self.worker = cmdb.worker(self.config, folder / "worker.log")
        self.pipeline = Process(pipeline, folder / "pipeline.log")
        self.keys = [simulated_hosts.load_key(folder / "keys", number) for number in range(HOSTS)]
        settings = load(self.config)
        self.app: Flask = create_app(settings)
        self.app.testing = True
        with self.app.app_context():
            migrate.upgrade(db.engine)
        empty(self.app)
        known = own.identity(settings, make=True)
        with self.app.app_context(), unit_of_work():
            accounts.create_user(KIM, "kim", PASSWORD, admin=True)
            hosts.add(KIM, known.host_id, "cmdb", known.key.public.hex(), {})
            for number, key in enumerate(self.keys):
                hosts.add(KIM, simulated_hosts.host_id(number), f"sim-{number}", key.public.hex(), {})
            make("rack", 1)
            make("customer", 1)

    def send(self, message: str) -> None:
        """One line of every host."""
        for number, key in enumerate(self.keys):
            host, when = simulated_hosts.host_id(number), format_time(datetime.now(UTC))
            fields = {"@timestamp": when, "event.created": when, "event.dataset": "test", "log.level": "info"}
            line = json.dumps({**fields, "message": message}).encode()
            headers, value = wire.encode(
                key, host=host, topic=self.names.logs, stream="logs", epoch="00000000000000bb", seq=self.seq,
                lines=[line], dataset="test", tmin=when, tmax=when, sent=when,
            )  # fmt: skip
            self.fleet.send(self.names.logs, host.encode(), value, headers)
        self.seq += 1

    def stored(self, dataset: str, message: str = "") -> list[dict[str, Any]]:
        """The documents of a dataset in Elasticsearch."""
        found = [hit["_source"] for hit in self.fleet.search_all(f"{self.names.prefix}-logs-*", source=True)]
        return [one for one in found if one["event.dataset"] == dataset and message in one["message"]]

    def labels(self, number: int) -> dict[str, str]:
        """The labels of a document that a host sends now."""
        message = secrets.token_hex(6)
        self.send(message)
        wait_until(lambda: len(self.stored("test", message)) == HOSTS, 30, "the lines of all hosts")
        (one,) = [one for one in self.stored("test", message) if one["host.id"] == simulated_hosts.host_id(number)]
        return dict(one.get("labels") or {})

    def close(self) -> None:
        """Stop what runs."""
        self.worker.stop()
        self.pipeline.stop()
        self.fleet.close()
        for name in ("ezadmin_elastic", "ezadmin_kafka"):
            self.app.extensions[name].close()
        with self.app.app_context():
            db.engine.dispose()


@pytest.fixture
def installation(stack: Any, names: Names, database: str, tmp_path: Path) -> Iterator[Installation]:
    installation = Installation(stack, names, database, tmp_path)
    yield installation
    installation.close()


def test_a_rack_that_is_changed_on_a_page_is_a_label_within_a_minute(installation: Installation) -> None:
    installation.worker.start()
    installation.pipeline.start()
    log = installation.folder / "worker.log"
    wait_until(lambda: log.read_text().count("published host/") >= HOSTS + 1, 30, "the hosts")
    assert "rack" not in installation.labels(0)
    client = sign_in(installation.app, "kim")
    form = {
        "name": "sim-0", "state": "active", "rack": "Rack 1", "rack_unit": "4", "customer": "Customer 1",
        "environment": "production", "csrf_token": csrf(client),
    }  # fmt: skip
    answer = client.post(f"/hosts/{simulated_hosts.host_id(0)}/edit", data=form)
    assert answer.status_code == 302, answer.text
    wanted = {
        "site": "Site 1", "room": "Room 1", "rack": "Rack 1", "customer": "Customer 1", "environment": "production",
    }  # fmt: skip
    changed = time.monotonic()
    wait_until(lambda: installation.labels(0) == wanted, WITHIN, "the labels of the place")
    print(f"labels after {time.monotonic() - changed:.1f} s")
    assert installation.labels(1) == {}
    with installation.app.app_context():
        rack = services.find(KIM, find("rack"), str(db.session.scalar(text("SELECT id FROM racks"))))
        texts = {one.name: one.text(one.get(rack)) for one in find("rack").fields if one.editable}
        path = f"/racks/{rack.id}/edit"
    assert client.post(path, data={**texts, "name": "A01", "csrf_token": csrf(client)}).status_code == 302
    wait_until(lambda: installation.labels(0) == wanted | {"rack": "A01"}, WITHIN, "the new name of the rack")


def test_a_reminder_is_an_event_once_also_when_the_worker_is_killed(installation: Installation) -> None:
    with installation.app.app_context(), unit_of_work():
        for name, days in (("soon", 20), ("later", 80), ("far", 200)):
            end = utc_now().date() + timedelta(days=days)
            services.create(KIM, find("contract"), {"name": name, "kind": "lease", "end": end})

    def told() -> list[dict[str, Any]]:
        return [one for one in installation.stored("cmdb.reminder") if one["message"].startswith("contract ")]

    installation.worker.start()
    installation.pipeline.start()
    wait_until(lambda: len(told()) == 2, 60, "two reminders")
    installation.worker.kill()
    with installation.app.app_context(), unit_of_work():
        db.session.execute(text("UPDATE reminder_stream SET sent = 1"))  # as if it had died before it noted the second
        end = utc_now().date() + timedelta(days=5)
        services.create(KIM, find("contract"), {"name": "new", "kind": "lease", "end": end})
    installation.worker.start()
    wait_until(lambda: len(told()) == 3, 60, "the third")
    time.sleep(3)
    assert sorted((one["fields"]["object.name"], one["fields"]["reminder.threshold_days"]) for one in told()) == [
        ("later", "90"), ("new", "30"), ("soon", "30"),
    ]  # fmt: skip
