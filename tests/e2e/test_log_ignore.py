"""“Ignore such events”: from two clicks on the page to the real pipeline, which leaves out just what the preview counted."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing import cmdb, simulated_hosts
from ezadmin_testing.described import KIM, PASSWORD, application, empty
from ezadmin_testing.fleet import Fleet
from ezadmin_testing.processes import pipeline, wait_until
from flask import Flask
from playwright.sync_api import Browser, Page, expect

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.database import unit_of_work, utc_now
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.logsearch import ignoring
from ezadmin_wire import batch as wire
from ezadmin_wire.config import host_key
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.times import format_time, parse_time

WITHIN = 5.0
"""Seconds after a change in which all workers use it."""
SUCH = ("disk sda1 (of a.host, x_y) is {n} % full", "warning", "df")
MEANT = [0, 0, 0, 0]
"""The hosts of the events that are meant."""
OTHERS = [
    (1, *SUCH), (1, *SUCH), (0, SUCH[0], "error", "df"), (0, SUCH[0], "warning", "du"),
    (0, "disk {n} was changed", "warning", "df"),
]  # fmt: skip
"""Of another host, level, program, or with another message."""


class Hosts:
    """Two hosts that write events, and what became of these."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet = fleet
        self.keys = [simulated_hosts.load_key(folder / "keys", number) for number in range(2)]
        self._seq = Counter[int]()
        self._n = 10

    def say(self, number: int, message: str, level: str, program: str, when: datetime) -> None:
        """One line of a host; ``{n}`` in the message is another number each time."""
        self._n += 1
        moment, now = format_time(when), format_time(datetime.now(UTC))
        line = {
            "@timestamp": moment, "event.created": now, "event.dataset": "test", "log.level": level,
            "process.name": program, "message": message.format(n=self._n),
        }  # fmt: skip
        host = simulated_hosts.host_id(number)
        headers, value = wire.encode(
            self.keys[number], host=host, topic=self.fleet.names.logs, stream="logs", epoch="00000000000000bb",
            seq=self._seq[number], lines=[json.dumps(line).encode()], dataset="test", tmin=moment, tmax=moment, sent=now,
        )  # fmt: skip
        self._seq[number] += 1
        self.fleet.send(self.fleet.names.logs, host.encode(), value, headers)

    def say_all(self, when: datetime | None = None) -> None:
        """What is meant, and what is like it but something else."""
        for one in [*((number, *SUCH) for number in MEANT), *OTHERS]:
            self.say(*one, when or datetime.now(UTC))

    def stored(self) -> Counter[tuple[str, str, str, str]]:
        """The events that are stored, without their numbers: (host, message, level, program)."""
        wait_until(lambda: self.fleet.lag() == 0, 30, "all is committed")
        found = [hit["_source"] for hit in self.fleet.search_all(f"{self.fleet.names.prefix}-logs-*", source=True)]
        return Counter(
            (one["host.id"], re.sub(" [0-9]+ ", " {n} ", one["message"]), one["log.level"], one["process.name"])
            for one in found
        )

    def ignored(self) -> int:
        """How many the pipeline counted as ignored."""
        sums = self.fleet.rollup_sums("events.ignored")
        return sum(number for (rollup, *_), number in sums.items() if rollup == "logs-1m")


@pytest.fixture(scope="module")
def app(stack: Any, module_names: Names, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    folder = tmp_path_factory.mktemp("ignoring")
    config = cmdb.settings_file(folder, database, stack.kafka, module_names)
    fleet = Fleet(stack.kafka, stack.elasticsearch, module_names, folder)
    fleet._signer = SigningKey.load(folder / "config.key")
    made = Hosts(fleet, folder)
    processes = [
        cmdb.worker(config, folder / "worker.log"),
        pipeline(fleet.settings("one", commit_interval=0.3), folder / "pipeline.log"),
    ]
    with application(database, folder, kafka=stack.kafka, elasticsearch=stack.elasticsearch, names=module_names) as app:
        empty(app)
        with app.app_context(), unit_of_work():
            accounts.create_user(KIM, "kim", PASSWORD, admin=True)
            for number, key in enumerate(made.keys):
                hosts.add(KIM, simulated_hosts.host_id(number), f"sim-{number}", key.public.hex(), {})
        processes[0].start()
        known = {host_key(simulated_hosts.host_id(number)) for number in range(2)}
        wait_until(lambda: known <= cmdb.config_records(stack.kafka, module_names, folder).keys(), 30, "hosts in Kafka")
        processes[1].start()
        app.extensions["hosts_of_the_test"] = made
        yield app
    for process in processes:
        process.stop()
    fleet.close()


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    context = browser.new_context(locale="en-US", base_url=url)
    page = context.new_page()
    page.set_default_timeout(15_000)
    page.goto("/sign-in")
    page.fill("#name", "kim")
    page.fill("#password", PASSWORD)
    page.click("main button[type=submit]")
    page.wait_for_url(lambda address: "/sign-in" not in address)
    yield page
    context.close()


def kept(everything: bool, of_all_hosts: bool = False) -> Counter[tuple[str, str, str, str]]:
    """What one :meth:`Hosts.say_all` leaves in the index."""
    meant = [(number, *SUCH) for number in MEANT] if everything else []
    others = [one for one in OTHERS if not of_all_hosts or one[1:] != SUCH]
    return Counter((simulated_hosts.host_id(number), *one) for number, *one in [*meant, *others])  # type: ignore[misc]


def test_what_the_preview_counted_is_ignored_until_it_is_undone_or_over(
    app: Flask, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts_of_it: Hosts = app.extensions["hosts_of_the_test"]
    hosts_of_it.say_all()
    wait_until(lambda: sum(hosts_of_it.stored().values()) == len(MEANT) + len(OTHERS), 60, "the pipeline works")
    expected = kept(True)
    assert hosts_of_it.stored() == expected

    def event() -> None:
        page.goto("/logs/?q=host.name:sim-0 level:warning program:df full")
        page.locator("[data-event]").first.click()

    event()
    page.click("text=Ignore such events")
    expect(page.locator("#preview")).to_have_text(f"In the last 24 hours it would have ignored {len(MEANT)} events.")
    page.click("main form button[type=submit]")
    expect(page.locator("main")).to_contain_text("Such events are ignored until")
    time.sleep(WITHIN - 1)
    hosts_of_it.say_all()
    expected += kept(False)
    assert hosts_of_it.stored() == expected
    assert hosts_of_it.ignored() == len(MEANT)

    page.click("main button:has-text('Undo')")
    expect(page.locator("body")).to_contain_text("such events are kept again")
    time.sleep(WITHIN - 1)
    hosts_of_it.say_all()
    expected += kept(True)
    assert hosts_of_it.stored() == expected
    assert hosts_of_it.ignored() == len(MEANT)

    # of all hosts, and over in some seconds instead of days
    monkeypatch.setattr(ignoring, "utc_now", lambda: utc_now() - timedelta(days=1) + timedelta(seconds=15))
    event()
    page.click("text=Ignore such events")
    page.click("text=all hosts")
    expect(page.locator("#preview")).to_contain_text(f"it would have ignored {2 * len(MEANT) + 3 * 2} events.")
    page.fill("#days", "1")
    page.click("main form button[type=submit]")
    expect(page.locator("main")).to_contain_text("Such events are ignored until")
    with app.app_context():
        rules = [one for one in ignoring.rules.everything(KIM) if one.action == "ignore"]
        over = parse_time(format_time(rules[0].expires))
    time.sleep(WITHIN - 1)
    hosts_of_it.say_all()
    hosts_of_it.say_all(over + timedelta(minutes=1))  # a rule is over with the minute in which it ends
    expected += kept(False, of_all_hosts=True) + kept(True)
    assert hosts_of_it.stored() == expected
    assert hosts_of_it.ignored() == 2 * len(MEANT) + 2
