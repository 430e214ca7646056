"""Graphs in a browser: how it was from Elasticsearch, how it goes on through a real gateway, and what it says of both."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from ezadmin_testing.commands import signer
from ezadmin_testing.described import KIM, PASSWORD
from ezadmin_testing.gateway import GatewayUnderTest, SimulatedHost
from ezadmin_testing.metric_samples import Samples, document, store
from ezadmin_testing.processes import Process
from flask import Flask
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select

from ezadmin_cmdb import settings
from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.app import create_app
from ezadmin_cmdb.commands.models import Command
from ezadmin_cmdb.database import db
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.graphs import faster, views
from ezadmin_cmdb.hosts.models import Host
from ezadmin_pipeline.elastic import ElasticClient
from ezadmin_pipeline.hourly import Hourly
from ezadmin_pipeline.settings import Settings
from ezadmin_wire.elastic import ElasticConnection
from ezadmin_wire.names import Names
from ezadmin_wire.times import format_time

CPU = "system.cpu.total.norm.pct"
MEMORY = "system.memory.actual.used.bytes"
DISK = "system.filesystem.used.pct"
GRAFANA = "https://grafana.example"
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
SEEN = """
window.plots = [];
window.written = [];
const { fillText } = CanvasRenderingContext2D.prototype;
CanvasRenderingContext2D.prototype.fillText = function (text, ...more) {
  window.written.push(text);
  fillText.call(this, text, ...more);
};
let plot;
Object.defineProperty(window, "uPlot", {
  get: () => plot,
  set(original) {
    plot = class extends original {
      constructor(...given) {
        super(...given);
        window.plots = [...window.plots.filter((one) => one.root.isConnected), this];
      }
    };
  },
});
"""
"""Notes the plots of a page, and what is written on their canvases."""
COLUMNS = """() => window.plots.map((one) => one.data.map((column) => [...column].map((at) => at === undefined ? "none" : at)))"""
"""The data of each plot, as it is drawn: a missing value is passed over, a null is a gap."""
LANGUAGES = {"en": "en-US", "ko": "ko-KR"}


@pytest.fixture(scope="module")
def gateway(
    stack: Any, module_names: Names, database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayUnderTest]:
    """With a signer; the limits say 60 and 80 % of CPU, and what cannot be a line: changes, and hours until full."""
    folder = tmp_path_factory.mktemp("gateway")
    with signer(folder) as signing:
        gateway = GatewayUnderTest(stack, module_names, database, folder)
        gateway.signed_by(signing)
        gateway.start()
        with gateway.work():
            accounts.create_user(KIM, "kim", PASSWORD, admin=True)
            limits = [
                {"field": CPU, "warning_raise": 0.6, "critical_raise": 0.8},
                {"field": CPU, "compare": "rate", "warning_raise": 0.33},
                {"field": DISK, "compare": "full", "trend": 3600, "comparison": "below", "warning_raise": 24},
                {"field": DISK, "item": "/data*", "warning_raise": 0.85},
                {"field": MEMORY, "warning_raise": 2 << 30, "critical_raise": 100 << 30},
            ]
            everywhere = {"name": "Everywhere", "limits": limits, "assignments": [{"level": "global"}]}
            described.create(KIM, find("threshold_template"), everywhere)
        yield gateway
        gateway.stop()


@pytest.fixture(scope="module")
def app(gateway: GatewayUnderTest, stack: Any) -> Iterator[Flask]:
    elasticsearch = ElasticConnection((stack.elasticsearch,))
    app = create_app(replace(settings.load(gateway.config), elasticsearch=elasticsearch, grafana_url=GRAFANA))
    yield app
    for name in ("ezadmin_elastic", "ezadmin_kafka"):
        app.extensions[name].close()
    with app.app_context():
        db.engine.dispose()


@pytest.fixture(scope="module")
def samples(stack: Any, module_names: Names) -> Iterator[Samples]:
    samples = Samples(stack.kafka, module_names)
    yield samples
    samples.close()


@pytest.fixture(scope="module")
def hosts(gateway: GatewayUnderTest, stack: Any, module_names: Names) -> list[SimulatedHost]:
    """Two hosts with ten minutes behind them; the first was silent for three of them."""
    found = [gateway.known(gateway.host(name=name)) for name in ("alpha", "beta")]
    now = datetime.now(UTC).replace(microsecond=0)
    for number, host in enumerate(found):
        times = [now - timedelta(seconds=10 * i) for i in range(60, 0, -1) if number or not 20 <= i < 38]
        keep(gateway, stack, host, *(document(one, **{CPU: 0.2 + 0.1 * number}) for one in times))
    return found


def keep(gateway: GatewayUnderTest, stack: Any, host: SimulatedHost, *documents: dict[str, Any]) -> None:
    """Store what a host measured."""
    store(stack.elasticsearch, gateway.names, host.id, name_of(gateway, host), documents)


def name_of(gateway: GatewayUnderTest, host: SimulatedHost) -> str:
    with gateway.app.app_context():
        return db.session.get_one(Host, host.id).name


@pytest.fixture
def open_page(browser: Browser, url: str) -> Iterator[Callable[..., Page]]:
    """Opens a page, signed in; any script error or refused resource fails the test."""
    wrong: list[str] = []
    contexts = []

    def open_one(language: str = "en", scheme: Any = "light", width: int = 1280) -> Page:
        context = browser.new_context(
            locale=LANGUAGES[language], color_scheme=scheme, viewport={"width": width, "height": 900}, base_url=url
        )
        contexts.append(context)
        page = context.new_page()
        page.add_init_script(SEEN)
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
        page.on(
            "console",
            lambda said: wrong.append(said.text) if said.type == "error" and "WebSocket" not in said.text else None,
        )
        page.goto("/sign-in")
        page.fill("#name", "kim")
        page.fill("#password", PASSWORD)
        page.click("main button[type=submit]")
        page.wait_for_url(lambda address: "/sign-in" not in address)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert wrong == []


def address(hosts: list[SimulatedHost], more: str = "") -> str:
    return "/graphs/?" + "&".join(f"host={host.id}" for host in hosts) + more


def test_how_it_was_and_goes_on_without_holes(
    open_page: Callable[..., Page], gateway: GatewayUnderTest, hosts: list[SimulatedHost], samples: Samples
) -> None:
    page = open_page()
    page.goto(address(hosts))
    row = page.locator("#graph-lines tr").first
    expect(page.locator("#graph-lines tr")).to_have_count(2)
    expect(row).to_contain_text("20%")
    expect(page.locator("#graph-state")).to_have_text("Live")

    def send(value: float) -> None:
        samples.send(hosts[0].id, hosts[0].key, [document(datetime.now(UTC), **{CPU: value})])

    send(0.77)
    expect(row).to_contain_text("77%")
    known = int(row.locator("[data-points]").get_attribute("data-points") or 0)
    gateway.gateway.kill()
    expect(page.locator("#graph-state")).to_have_text("Connecting again…")
    send(0.88)  # nobody is there
    gateway.start_gateway()
    expect(page.locator("#graph-state")).to_have_text("Live", timeout=60_000)
    send(0.99)
    expect(row).to_contain_text("99%")
    assert int(row.locator("[data-points]").get_attribute("data-points") or 0) == known + 2
    assert page.locator("canvas").count() == 1
    row.locator("input").uncheck()
    expect(row.locator("input")).not_to_be_checked()


def columns(page: Page, hosts: int) -> list[list[list[Any]]]:
    """The data of each plot, once the lines of all hosts are there: times, then a column for each value of each line."""
    expect(page.locator("#graph-lines [data-points]")).to_have_count(hosts)
    page.wait_for_function("window.plots.length && window.plots.every((one) => one.data.length > 1)")
    found: list[list[list[Any]]] = page.evaluate(COLUMNS)
    return found


def test_a_gap_stays_a_gap(open_page: Callable[..., Page], hosts: list[SimulatedHost]) -> None:
    page = open_page()
    now = round(datetime.now(UTC).timestamp() * 1000)
    with page.expect_response("**/graphs/history*") as answer:
        page.goto(address(hosts, f"&from={now - 900_000}&to={now}"))
    lines = answer.value.json()["lines"]
    assert [len(line["points"]) for line in lines] == [42, 60]
    (plot,) = columns(page, 2)
    assert len(plot) == 1 + 2 * 3, "mean, least and greatest of both"
    points = [at / 1000 for at, *_ in lines[0]["points"]]
    distances = [after - before for before, after in itertools.pairwise(points)]
    begin = points[distances.index(max(distances))]
    end = begin + max(distances)
    assert end - begin > 170
    within = [values for values in zip(*plot, strict=True) if begin < values[0] < end]
    assert len(within) >= 16, "the other host has values there"
    assert all(one is None for values in within for one in values[1:4]), "no line crosses"
    assert not any(one is None for values in within for one in values[4:]), "that of the other is whole"
    rest = [values for values in zip(*plot, strict=True) if not begin <= values[0] <= end]
    assert not any(one is None for values in rest for one in values[1:]), "and nothing else is broken"


def test_a_step_has_its_least_mean_and_greatest_value(
    open_page: Callable[..., Page], gateway: GatewayUnderTest, stack: Any
) -> None:
    host = gateway.known()
    now = datetime.now(UTC).replace(second=5, microsecond=0)
    times = [now - timedelta(seconds=10 * i) for i in range(6 * 30, 6, -1)]
    keep(gateway, stack, host, *(document(one, **{CPU: (0.1, 0.2, 0.6)[i % 3]}) for i, one in enumerate(times)))
    page = open_page()
    page.goto(address([host], "&range=6h"))
    (plot,) = columns(page, 1)
    assert len(plot) == 4
    whole = list(zip(*plot, strict=True))[1:-1]
    assert len(whole) > 20
    for _at, mean, least, most in whole:
        assert (mean, least, most) == pytest.approx((0.3, 0.1, 0.6))
    assert page.evaluate("window.plots[0].bands.map((one) => one.series)") == [[3, 2]]


@pytest.fixture(scope="module")
def many(gateway: GatewayUnderTest, stack: Any) -> list[SimulatedHost]:
    """Eight hosts, of which the last is not like the others."""
    found = [gateway.known(gateway.host(name=f"node{n}")) for n in range(8)]
    now = datetime.now(UTC).replace(microsecond=0)
    for number, host in enumerate(found):
        value = 0.9 if number == 7 else 0.2 + number / 100
        keep(
            gateway, stack, host, *(document(now - timedelta(seconds=10 * i), **{CPU: value}) for i in range(60, 0, -1))
        )
    return found


def test_many_hosts_as_one_band_and_who_is_outside_is_named(
    open_page: Callable[..., Page], gateway: GatewayUnderTest, many: list[SimulatedHost]
) -> None:
    page = open_page()
    page.goto(address(many))
    (plot,) = columns(page, 8)
    assert len(plot) == 1 + 8, "lines without bands"
    page.click("text=Range of all")
    (plot,) = columns(page, 8)
    assert len(plot) == 1 + 3 + 1, "mean, least and greatest of all, and a line"
    mean = (sum(0.2 + n / 100 for n in range(7)) + 0.9) / 8
    ends = next(values for values in zip(*plot, strict=True) if isinstance(values[1], float))
    assert ends[1:4] == pytest.approx((mean, 0.2, 0.9))
    expect(page.locator("#graph-far")).to_have_text(f"Far from the others: {name_of(gateway, many[7])} (90%)")
    row = page.locator("#graph-lines tr", has_text=name_of(gateway, many[7]))
    row.locator("input").uncheck()
    expect(page.locator("#graph-far")).to_have_text("No host is far from the others.")


def test_thresholds_are_drawn_also_those_that_are_far(
    open_page: Callable[..., Page], gateway: GatewayUnderTest, hosts: list[SimulatedHost], stack: Any
) -> None:
    def drawn(more: str) -> tuple[set[str], float]:
        page.goto(address(hosts[:1], more))
        columns(page, 1)
        texts = {one for one in page.evaluate("window.written") if re.search("Warning|Critical", one)}
        return texts, page.evaluate("window.plots[0].scales.y.max")

    # the host has samples of whole seconds already, and a second one of a moment is refused
    now = datetime.now(UTC).replace(microsecond=500_000)
    disk = {"system.filesystem.type": "ext4", "system.filesystem.device_name": "sda"}
    for i in range(10, 0, -1):
        at = now - timedelta(seconds=30 * i)
        of_disks = [
            document(at, "system.filesystem", **{"system.filesystem.mount_point": place, DISK: 0.4, **disk})
            for place in ("/", "/data1")
        ]
        keep(gateway, stack, hosts[0], document(at + timedelta(seconds=5), **{MEMORY: 1 << 30}), *of_disks)
    page = open_page()
    texts, top = drawn("")
    assert texts == {"Warning 60%", "Critical 80%"}, "20 % is far below, and changes per second are no values"
    assert 0.8 < top <= 1
    expect(page.locator(".graph-limits")).to_contain_text("warning ≥ 60.0%, critical ≥ 80.0% · Everywhere")
    texts, top = drawn(f"&field={MEMORY}")
    assert texts == {"Warning 2 GiB", "▲ Critical 100 GiB"}
    assert 2 << 30 < top < 3 << 30, "100 times the height stands at the edge"
    texts, _ = drawn(f"&field={DISK}&item=/data*")
    assert texts == {"Warning 85% (/data*)"}
    texts, top = drawn(f"&field={DISK}&item=/")
    assert texts == set(), "neither the limit of other disks, nor hours until full"
    assert top < 0.5


def test_who_was_away_for_longer_than_is_kept_reads_the_history_again(
    open_page: Callable[..., Page], gateway: GatewayUnderTest, stack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "KEPT_SECONDS", 2)
    host = gateway.known()
    now = datetime.now(UTC).replace(microsecond=0)
    keep(gateway, stack, host, *(document(now - timedelta(seconds=10 * i), **{CPU: 0.2}) for i in range(30, 1, -1)))
    page = open_page()
    page.goto(address([host]))
    row = page.locator("#graph-lines tr")
    expect(row).to_contain_text("20%")
    expect(page.locator("#graph-state")).to_have_text("Live")
    gateway.gateway.kill()
    expect(page.locator("#graph-state")).to_have_text("Connecting again…")
    # meanwhile it is stored, and Kafka has lost it again
    keep(gateway, stack, host, document(datetime.now(UTC), **{CPU: 0.42}))
    page.wait_for_timeout(2_500)
    with page.expect_response("**/graphs/history*", timeout=90_000):
        gateway.start_gateway()
    expect(page.locator("#graph-state")).to_have_text("Live", timeout=60_000)
    expect(row).to_contain_text("42%")
    (plot,) = columns(page, 1)
    assert [one for one in plot[1] if isinstance(one, float)][-1] == pytest.approx(0.42), "it is drawn, too"


def test_weeks_are_read_from_what_is_kept_by_the_hour(
    open_page: Callable[..., Page], gateway: GatewayUnderTest, stack: Any
) -> None:
    host = gateway.known()
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    begin = today - 20 * DAY
    for day in range(4):
        times = [begin + day * DAY + timedelta(minutes=20 * n + 1) for n in range(72)]
        keep(gateway, stack, host, *(document(one, **{CPU: (0.1, 0.2, 0.6)[n % 3]}) for n, one in enumerate(times)))
    elastic = ElasticClient(ElasticConnection((stack.elasticsearch,)))
    try:
        hourly = Hourly(Settings(names=gateway.names), elastic, lambda _host: {"host.name": "x"})
        assert len(list(hourly.make())) >= 96
        for day in range(3):  # as they are dropped after their time
            elastic.request("DELETE", f"/{gateway.names.metrics_index(format_time(begin + day * DAY))}")
        elastic.request("POST", f"/{gateway.names.prefix}-rollup-*/_refresh")
    finally:
        elastic.close()
    newest = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=30)
    keep(gateway, stack, host, document(newest, **{CPU: 0.9}))
    page = open_page()
    with page.expect_response("**/graphs/history*") as answer:
        page.goto(address([host], "&range=30d"))
    found = answer.value.json()
    assert found["by_hour"]
    assert found["step"] >= 3600
    (line,) = found["lines"]
    *old, last = line["points"]
    assert old[0][0] >= begin.timestamp() * 1000
    assert old[-1][0] > (begin + 3 * DAY + 18 * HOUR).timestamp() * 1000
    for point in old:
        assert point[1:] == pytest.approx([0.1, 0.3, 0.6], rel=1e-5)
    assert last[1:] == pytest.approx([0.9, 0.9, 0.9]), "what is not over yet comes from the samples"
    expect(page.locator("#graph-note")).to_contain_text("From what is kept by the hour")
    expect(page.locator("#graph-lines tr")).to_contain_text("10%")
    # an hour of a day whose samples are gone
    hour = round((begin + DAY + 5 * HOUR).timestamp() * 1000)
    with page.expect_response("**/graphs/history*") as answer:
        page.goto(address([host], f"&from={hour + 600_000}&to={hour + 7_200_000}"))
    found = answer.value.json()
    assert found["by_hour"]
    assert [at for at, *_ in found["lines"][0]["points"]] == [hour, hour + 3_600_000]


def test_a_second_between_samples_of_a_real_agent_at_the_press_of_a_button(
    open_page: Callable[..., Page], gateway: GatewayUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faster, "SECONDS", 25)
    (tmp_path / "app.log").touch()
    config = tmp_path / "agent.toml"
    config.write_text(f'state_dir = "{tmp_path}/agent"\ninterval = 10\n[[logs]]\npath = "{tmp_path}/app.log"\n')
    agent = [sys.executable, "-m", "ezadmin_agent"]
    enrol = [*agent, "enrol", gateway.token(), "--json", "--config", str(config)]
    done = subprocess.run(enrol, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    host = json.loads(done.stdout)["host.id"]
    process = Process([*agent, "run", "--config", str(config)], tmp_path / "agent.log", dict(os.environ))
    process.start()
    try:
        page = open_page()
        page.goto(f"/graphs/?host={host}")
        button = page.locator("#graph-faster button")
        said = page.locator("#graph-faster [role=status]")
        expect(button).to_contain_text("on 1 host")
        expect(page.locator("#graph-lines [data-points]")).to_have_count(1, timeout=60_000)
        expect(said).to_have_text("")
        button.click()
        expect(said).to_contain_text("1 s steps on 1 of 1, 0:", timeout=30_000)
        expect(button).to_have_text("Again")
        steps = """() => { const x = window.plots[0].data[0], n = x.length;
          return n > 9 && x.slice(n - 8).every((at, i) => !i || Math.abs(at - x[n - 9 + i] - 1) < 0.5); }"""
        page.wait_for_function(steps)
        (plot,) = columns(page, 1)
        assert None not in plot[1], "what was slower before is no gap now"
        page.reload()
        expect(said).to_contain_text("1 s steps on 1 of 1, 0:")
        expect(said).to_have_text("", timeout=40_000)
        expect(button).to_contain_text("on 1 host")
        with gateway.app.app_context():
            (command,) = db.session.scalars(select(Command).where(Command.host_id == host)).all()
            assert (command.kind, command.actor_name, command.state) == ("sample", "kim", "done")
    finally:
        process.stop()


def test_the_time_goes_along_to_logs_and_grafana(
    open_page: Callable[..., Page], gateway: GatewayUnderTest, hosts: list[SimulatedHost]
) -> None:
    page = open_page()
    names = [name_of(gateway, host) for host in hosts]

    def leads(to: str) -> tuple[str, dict[str, list[str]]]:
        href = page.locator(f".graph-elsewhere a:has-text('{to}')").get_attribute("href") or ""
        return href.partition("?")[0], parse_qs(urlsplit(href).query)

    page.goto(address(hosts, "&range=6h"))
    where = {"var-host": names, "from": ["now-6h"], "to": ["now"]}
    assert leads("In Grafana") == (f"{GRAFANA}/d/ezadmin-compare", where)
    assert leads("Logs")[1]["q"] == [" or ".join(f'host.id: "{host.id}"' for host in hosts)]
    page.goto(address(hosts[:1], "&from=1764000000000&to=1764003600000"))
    where = {"var-host": names[:1], "from": ["1764000000000"], "to": ["1764003600000"]}
    assert leads("In Grafana") == (f"{GRAFANA}/d/ezadmin-host", where)
    exact = {"from": ["2025-11-24T16:00:00.000Z"], "to": ["2025-11-24T17:00:00.000Z"]}
    assert leads("Logs") == ("/logs/", {"host": [hosts[0].id], **exact})
    page.goto(f"/hosts/{names[0]}?from=1764000000000&to=1764003600000")
    href = page.locator("a", has_text="Graphs in Grafana").get_attribute("href") or ""
    assert parse_qs(urlsplit(href).query) == where
    page.click("text=Logs at this time")
    assert parse_qs(urlsplit(page.url).query) == {"host": [hosts[0].id], **exact}
    page.go_back()
    page.click("text=Graphs at this time")
    assert "from=1764000000000&to=1764003600000" in page.url
    expect(page.locator("#graph-state")).to_contain_text("Not live")


def test_zoomed_and_one_graph_for_each_host(open_page: Callable[..., Page], hosts: list[SimulatedHost]) -> None:
    page = open_page()
    page.goto(address(hosts, "&view=each"))
    expect(page.locator("canvas")).to_have_count(2)
    over = page.locator(".u-over").first
    box = over.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + 50, steps=5)
    with page.expect_navigation():
        page.mouse.up()
    assert re.search(r"from=\d{13}&to=\d{13}", page.url)
    expect(page.locator("#graph-state")).to_contain_text("Not live")
    expect(page.locator("canvas")).to_have_count(2)
    page.click("text=Back to now")
    expect(page.locator("#graph-state")).to_have_text("Live")


def test_what_cannot_be_drawn_is_said(open_page: Callable[..., Page], hosts: list[SimulatedHost]) -> None:
    page = open_page()
    for more, text in [
        ("&field=nothing", "There is no figure nothing to draw."), ("&range=9y", "The time is one of"),
        ("&host=nobody", "There is no host nobody that you may see figures of."), ("&from=1&to=x", "milliseconds"),
    ]:  # fmt: skip
        page.goto(address(hosts, more))
        expect(page.locator("main")).to_contain_text(text)


@pytest.mark.parametrize(
    ("language", "scheme", "width"),
    [("en", "light", 1280), ("ko", "dark", 1280), ("ko", "light", 360), ("en", "dark", 360)],
)
def test_pages_are_accessible_and_fit(
    open_page: Callable[..., Page], hosts: list[SimulatedHost], many: list[SimulatedHost], language: str, scheme: str,
    width: int,
) -> None:  # fmt: skip
    page = open_page(language, scheme, width)
    for name, shown, plots in [("graphs", hosts, 1), ("each", hosts, 2), ("band", many, 1)]:
        page.goto(address(shown, f"&view={name}"))
        expect(page.locator("#graph-lines [data-points]")).to_have_count(len(shown))
        expect(page.locator("canvas")).to_have_count(plots)
        folder = os.environ.get("EZADMIN_SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=Path(folder) / f"{name}-{language}-{scheme}-{width}.png", full_page=True)
        results = Axe().run(page)
        assert results.violations_count == 0, f"{name}: {results.generate_report()}"
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{name} is {wide} px too wide"
