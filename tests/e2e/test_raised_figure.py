"""Figures of this machine that are raised for real: agent, Kafka, pipeline and worker make one alert and one mail of each, the
page shows it red, and it clears."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing import cmdb
from ezadmin_testing.described import KIM, PASSWORD, application, csrf, empty, sign_in
from ezadmin_testing.disks import NotPermitted, fill, small_disk
from ezadmin_testing.mail import MailServer
from ezadmin_testing.processes import Process, pipeline, wait_until
from ezadmin_testing.seeing import is_red
from flask.testing import FlaskClient
from playwright.sync_api import Browser, Locator, Page, expect
from werkzeug.serving import make_server

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.database import unit_of_work, utc_now
from ezadmin_cmdb.maintenance.times import FORM
from ezadmin_cmdb.settings import load
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey

AGENT = [sys.executable, "-m", "ezadmin_agent"]
FULL = "system.filesystem.used.pct"
CPU = "system.cpu.total.norm.pct"
RUNNING = "system.process.summary.running"
LOOPS = 60
SILENT_SECONDS = 30
SEEN = 30_000
"""Milliseconds in which a page that renews itself each ten seconds shows what is so."""


class Machine:
    """This machine under an installation of its own, and the application that people use."""

    def __init__(self, client: FlaskClient, agent: Process, host_id: str, url: str) -> None:
        self.client, self.agent, self.host_id, self.url = client, agent, host_id, url
        self.status = agent.log.parent / "agent" / "status.json"
        self._headers = {"X-CSRFToken": csrf(client)}

    def look(self) -> None:
        """Let the agent look at the disks at once: it does so at its start, then each minute."""
        assert self.agent.stop() == 0
        self.start()

    def start(self) -> None:
        """Start the agent; back when it has looked, and so can be stopped again."""
        begun = time.time()
        self.agent.start()
        wait_until(lambda: self.status.exists() and self.status.stat().st_mtime > begun, 40, "the agent runs")

    def add(self, path: str, **values: Any) -> int:
        answer = self.client.post(f"/api/v1/{path}", json=values, headers=self._headers)
        assert answer.status_code == 201, answer.text
        return int(answer.get_json()["id"])

    def change(self, path: str, **values: Any) -> None:
        answer = self.client.patch(f"/api/v1/{path}", json=values, headers=self._headers)
        assert answer.status_code == 200, answer.text

    def has_figures(self) -> bool:
        """Whether its page shows any."""
        return CPU in self.client.get(f"/hosts/{self.host_id}").text

    def alerts(self) -> list[tuple[str, str, str]]:
        """(item, state, state of the figure) of all alerts, also those that are over."""
        found = self.client.get("/api/v1/alerts").get_json()["items"]
        return [(one["item"], one["state"], one["raised"]) for one in found]

    def told_by_mail(self, port: int) -> None:
        """Let everything be told by mail."""
        channel = self.add(
            "notification-channels", name="Mail", kind="mail", active=True, language="en", recipients="ops@example.com",
            sender="ezadmin@example.com", smtp_host="127.0.0.2", smtp_port=port, smtp_security="none",
        )  # fmt: skip
        rule = {"name": "All", "active": True, "minimum": "warning", "clears": True, "collect_seconds": 0}
        self.add("notification-rules", channel=channel, **rule)

    def limit(self, field: str, **values: Any) -> None:
        """A limit on all hosts."""
        limits = [{"field": field, **values}]
        self.add("thresholds", name=field, limits=limits, assignments=[{"level": "global"}])

    @contextmanager
    def seen(self, browser: Browser) -> Iterator[Page]:
        """The page of the host, as somebody sees it who leaves it open."""
        context = browser.new_context(base_url=self.url, locale="en-US", viewport={"width": 1280, "height": 900})
        try:
            page = context.new_page()
            page.set_default_timeout(SEEN)
            page.goto("/sign-in")
            page.fill("#name", "kim")
            page.fill("#password", PASSWORD)
            page.click("main button[type=submit]")
            page.wait_for_url(lambda address: "/sign-in" not in address)
            page.goto(f"/hosts/{self.host_id}")
            yield page
        finally:
            context.close()


def expect_state(figure: Locator, state: str) -> None:
    """A figure is shown so, within what an open page needs to renew itself."""
    expect(figure).to_have_class("state-" + state, timeout=SEEN)
    assert is_red(figure) == (state == "critical")


def shoot(page: Page, name: str) -> None:
    """Keep a picture for who asks for them."""
    if folder := os.environ.get("EZADMIN_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@contextmanager
def busy() -> Iterator[None]:
    """Many endless loops: what else runs here goes before them, but they are there."""
    loops = f"for i in $(seq {LOOPS}); do while :; do :; done & done; wait"
    process = subprocess.Popen(["nice", "-n", "19", "sh", "-c", loops], start_new_session=True)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


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
def machine(
    request: pytest.FixtureRequest, stack: Any, names: Names, database: str, tmp_path: Path
) -> Iterator[Machine]:
    """``param``: the seconds after which it is silent; its agent reports each minute."""
    silent = getattr(request, "param", 300)
    config = cmdb.settings_file(
        tmp_path, database, stack.kafka, names, top=f'secret_key_file = "{tmp_path}/secret"',
        elasticsearch=f'url = "{stack.elasticsearch}"', webhooks='allow = ["127.0.0.2/32"]',
        hosts=f"silent_after_minutes = {silent / 60}",
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
        server = make_server("127.0.0.1", 0, app, threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
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
            yield Machine(
                sign_in(app, "kim"), processes[-1], identity["host.id"], f"http://127.0.0.1:{server.server_port}"
            )
        finally:
            for process in reversed(processes):
                process.stop()
            server.shutdown()


def test_a_full_disk_is_told_once_and_when_it_is_over(
    disk: Path, machine: Machine, smtp: MailServer, browser: Browser
) -> None:
    machine.told_by_mail(smtp.port)
    machine.limit(FULL, item=str(disk), critical_raise=0.9)
    with machine.seen(browser) as page:
        row = page.locator(".tables tr").filter(has=page.get_by_role("rowheader", name=str(disk), exact=True))
        cell = row.locator(f'[data-field="{FULL}"]')
        expect(cell).to_have_class("num", timeout=60_000)

        full = fill(disk)
        machine.look()
        wait_until(lambda: len(smtp.mails) == 1, 40, "a mail")
        assert smtp.mails[0]["Subject"] == f"[ezadmin] Critical: this: {FULL} {disk}"
        assert machine.alerts() == [(str(disk), "critical", "critical")]
        expect(cell).to_have_class("num state-critical", timeout=SEEN)
        assert is_red(cell)
        expect(cell).to_contain_text("!! ")
        expect(cell.locator("a.bell")).to_have_attribute("title", re.compile(rf"{FULL} of {disk} is .*% \(limit 90%\)"))
        shoot(page, "raised-disk")

        full.unlink()
        machine.look()  # once more, with the alert already told: nothing is told twice
        wait_until(lambda: len(smtp.mails) > 1, 40, "a mail that it is over")
        assert smtp.mails[1]["Subject"] == f"[ezadmin] OK: this: {FULL} {disk}"
        assert machine.alerts() == [(str(disk), "ok", "ok")]
        expect(cell).to_have_class("num", timeout=SEEN)
        assert not is_red(cell)

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


def test_a_busy_machine_is_told_once_and_when_it_is_over(machine: Machine, smtp: MailServer, browser: Browser) -> None:
    """Busy: many processes want the CPU at once. How busy the CPU itself is while tests run beside this one nobody knows."""
    machine.told_by_mail(smtp.port)
    machine.limit(RUNNING, critical_raise=LOOPS * 2 / 3, n=2, m=2)
    with machine.seen(browser) as page:
        running = page.locator(f'.tiles [data-field="{RUNNING}"]')
        expect_state(running, "ok")
        with busy():
            wait_until(lambda: len(smtp.mails) == 1, 40, "a mail")
            assert smtp.mails[0]["Subject"] == f"[ezadmin] Critical: this: {RUNNING}"
            assert machine.alerts() == [("", "critical", "critical")]
            expect_state(running, "critical")
            assert float(page.locator(f'.tiles [data-field="{CPU}"]').inner_text().rstrip("%")) > 80
            shoot(page, "raised-load")
        wait_until(lambda: len(smtp.mails) == 2, 40, "a mail that it is over")
        assert smtp.mails[1]["Subject"] == f"[ezadmin] OK: this: {RUNNING}"
        assert machine.alerts() == [("", "ok", "ok")]
        expect_state(running, "ok")
    assert len(smtp.mails) == 2


@pytest.mark.parametrize("machine", [SILENT_SECONDS], indirect=True)
def test_a_host_that_is_down_is_one_alert_and_one_mail(machine: Machine, smtp: MailServer) -> None:
    machine.told_by_mail(smtp.port)
    machine.limit(CPU, warning_raise=9, no_data=SILENT_SECONDS + 20)
    machine.limit(RUNNING, warning_raise=999_999, no_data=SILENT_SECONDS + 20)
    wait_until(machine.has_figures, 40, "the agent runs")
    machine.look()  # the limits hold, and it is heard of
    assert machine.agent.stop() == 0

    wait_until(lambda: len(smtp.mails) == 1, SILENT_SECONDS + 30, "a mail that it is down")
    assert smtp.mails[0]["Subject"] == "[ezadmin] Critical: this: host.state"
    wait_until(lambda: len(machine.alerts()) == 3, 60, "alerts that its figures are missing")
    time.sleep(5)  # the worker looks each 2 s, and sends what it wrote each 0.5 s
    found = {one["rule"]: one for one in machine.client.get("/api/v1/alerts").get_json()["items"]}
    down = found.pop("host_down")
    assert (down["state"], down["suppressed"]) == ("critical", False)
    assert [(one["state"], one["suppressed"]) for one in found.values()] == [("unknown", True)] * 2
    assert len(smtp.mails) == 1, "its other alerts are suppressed"

    machine.agent.start()
    wait_until(lambda: {state for _item, state, _raised in machine.alerts()} == {"ok"}, 20, "all is clear")
    wait_until(lambda: len(smtp.mails) == 2, 5, "a mail that it is back")
    assert smtp.mails[1]["Subject"] == "[ezadmin] OK: this: host.state"
