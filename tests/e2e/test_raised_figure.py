"""A disk of this machine fills: agent, Kafka, pipeline and worker make one alert and one mail of it, and one when it is over."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing import cmdb
from ezadmin_testing.described import KIM, PASSWORD, application, csrf, empty, sign_in
from ezadmin_testing.disks import NotPermitted, fill, small_disk
from ezadmin_testing.mail import MailServer
from ezadmin_testing.processes import Process, pipeline, wait_until
from flask.testing import FlaskClient

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.database import unit_of_work, utc_now
from ezadmin_cmdb.maintenance.times import FORM
from ezadmin_cmdb.settings import load
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey

AGENT = [sys.executable, "-m", "ezadmin_agent"]
FULL = "system.filesystem.used.pct"


class Machine:
    """This machine under an installation of its own, and the application that people use."""

    def __init__(self, client: FlaskClient, agent: Process, host_id: str) -> None:
        self.client, self.agent, self.host_id = client, agent, host_id
        self._headers = {"X-CSRFToken": csrf(client)}

    def look(self) -> None:
        """Let the agent look at the disks at once: it does so at its start, then each minute."""
        assert self.agent.stop() == 0
        self.agent.start()

    def add(self, path: str, **values: Any) -> int:
        answer = self.client.post(f"/api/v1/{path}", json=values, headers=self._headers)
        assert answer.status_code == 201, answer.text
        return int(answer.get_json()["id"])

    def change(self, path: str, **values: Any) -> None:
        answer = self.client.patch(f"/api/v1/{path}", json=values, headers=self._headers)
        assert answer.status_code == 200, answer.text

    def alerts(self) -> list[tuple[str, str, str]]:
        """(item, state, state of the figure) of all alerts, also those that are over."""
        found = self.client.get("/api/v1/alerts").get_json()["items"]
        return [(one["item"], one["state"], one["raised"]) for one in found]

    def cell(self, place: Path) -> str:
        """The class of the cell of the host's page that says how full the disk is."""
        row = re.search(
            rf'<th scope="row" class="mono">{re.escape(str(place))}</th>(.*?)</tr>',
            self.client.get(f"/hosts/{self.host_id}").text,
            re.DOTALL,
        )
        found = row and re.search(rf'<td class="([^"]*)"[^>]*data-field="{re.escape(FULL)}"', row[1])
        return found[1] if found else ""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    try:
        with small_disk(tmp_path) as place:
            yield place
    except NotPermitted as error:
        pytest.skip(f"needs to mount a small disk: {error}")


@pytest.fixture
def smtp() -> Iterator[MailServer]:
    made = MailServer()
    yield made
    made.close()


@pytest.fixture
def machine(stack: Any, names: Names, database: str, tmp_path: Path, disk: Path) -> Iterator[Machine]:
    config = cmdb.settings_file(
        tmp_path, database, stack.kafka, names, top=f'secret_key_file = "{tmp_path}/secret"',
        elasticsearch=f'url = "{stack.elasticsearch}"', webhooks='allow = ["127.0.0.2/32"]',
    )  # fmt: skip
    agent_config, pipeline_config = tmp_path / "agent.toml", tmp_path / "pipeline.toml"
    agent_config.write_text(
        f'prefix = "{names.prefix}"\nstate_dir = "{tmp_path}/agent"\ninterval = 1\n[kafka]\nbootstrap = "{stack.kafka}"\n'
        f'[[logs]]\npath = "{tmp_path}/events.log"\n'
    )
    public_key = SigningKey.load(tmp_path / "config.key").public.hex()
    pipeline_config.write_text(
        f'prefix = "{names.prefix}"\npartitions = 3\nsignatures = "required"\nconfig_public_key = "{public_key}"\n'
        f'commit_interval = 0.3\n[kafka]\nbootstrap = "{stack.kafka}"\n[elasticsearch]\nurl = "{stack.elasticsearch}"\n'
    )
    (tmp_path / "events.log").touch()
    done = subprocess.run([*AGENT, "identity", "--config", agent_config], capture_output=True, text=True, timeout=60)
    identity = json.loads(done.stdout)
    processes = [
        cmdb.worker(config, tmp_path / "worker.log"),
        pipeline(pipeline_config, tmp_path / "pipeline.log"),
        Process([*AGENT, "run", "--config", str(agent_config)], tmp_path / "agent.log"),
    ]
    settings = load(config)
    with application(
        database, tmp_path, kafka=stack.kafka, elasticsearch=stack.elasticsearch, names=names,
        webhooks_allow=settings.webhooks_allow,
    ) as app:  # fmt: skip
        empty(app)
        with app.app_context(), unit_of_work():
            accounts.create_user(KIM, "kim", PASSWORD, admin=True)
        words = ("host", "add", "--id", identity["host.id"], "--name", "this", "--public-key", identity["public_key"])
        subprocess.run(cmdb.command(*words, "--config", config), check=True, timeout=60, capture_output=True)
        try:
            processes[0].start()
            wait_until(
                lambda: f"published host/{identity['host.id']}" in (tmp_path / "worker.log").read_text(), 40, "its key"
            )
            for process in processes[1:]:
                process.start()
            yield Machine(sign_in(app, "kim"), processes[-1], identity["host.id"])
        finally:
            for process in reversed(processes):
                process.stop()


def test_a_full_disk_is_told_once_and_when_it_is_over(machine: Machine, disk: Path, smtp: MailServer) -> None:
    channel = machine.add(
        "notification-channels", name="Mail", kind="mail", active=True, language="en", recipients="ops@example.com",
        sender="ezadmin@example.com", smtp_host="127.0.0.2", smtp_port=smtp.port, smtp_security="none",
    )  # fmt: skip
    machine.add(
        "notification-rules",
        name="All",
        active=True,
        channel=channel,
        minimum="warning",
        clears=True,
        collect_seconds=0,
    )
    machine.add(
        "thresholds", name="Full", limits=[{"field": FULL, "item": str(disk), "critical_raise": 0.9}],
        assignments=[{"level": "global"}],
    )  # fmt: skip
    wait_until(lambda: machine.cell(disk), 60, "the page shows the disk")
    assert "state-" not in machine.cell(disk)

    full = fill(disk)
    machine.look()
    wait_until(lambda: len(smtp.mails) == 1, 40, "a mail")
    assert smtp.mails[0]["Subject"] == f"[ezadmin] Critical: this: {FULL} {disk}"
    assert machine.alerts() == [(str(disk), "critical", "critical")]
    wait_until(lambda: "state-critical" in machine.cell(disk), 10, "the page marks it")

    full.unlink()
    machine.look()  # once more, with the alert already told: nothing is told twice
    wait_until(lambda: len(smtp.mails) > 1, 40, "a mail that it is over")
    assert smtp.mails[1]["Subject"] == f"[ezadmin] OK: this: {FULL} {disk}"
    assert machine.alerts() == [(str(disk), "ok", "ok")]
    wait_until(lambda: "state-critical" not in machine.cell(disk), 10, "the page marks it no more")

    window = machine.add(
        "maintenance-windows", name="Patches", reason="monthly", active=True, minutes=60, timezone="UTC", repeats="once",
        starts=f"{utc_now() - timedelta(minutes=5):{FORM}}", hosts=[machine.host_id],
    )  # fmt: skip
    fill(disk)
    machine.look()
    wait_until(lambda: machine.alerts() == [(str(disk), "maintenance", "critical")], 40, "an alert in maintenance")
    time.sleep(5)  # the worker looks each 2 s, and sends what it wrote each 0.5 s
    assert len(machine.client.get("/api/v1/notifications").get_json()["items"]) == len(smtp.mails) == 2
    machine.change(f"maintenance-windows/{window}", active=False)
    wait_until(lambda: len(smtp.mails) > 2, 20, "what the window kept back is told after it")
    assert len(smtp.mails) == 3
    assert smtp.mails[2]["Subject"] == smtp.mails[0]["Subject"]
