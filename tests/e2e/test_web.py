"""The pages as a person sees them, in Debian's chromium, on a real agent, pipeline, worker and web server.

``EZADMIN_SCREENSHOTS=DIR`` keeps a picture of every page in both languages, light and dark, wide and narrow.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil
import pytest
from axe_playwright_python.sync_playwright import Axe
from ezadmin_testing.cmdb import command, settings_file
from ezadmin_testing.processes import Process, pipeline, wait_until
from playwright.sync_api import Browser, Page, expect, sync_playwright

from ezadmin_pipeline import install
from ezadmin_pipeline.elastic import ElasticClient
from ezadmin_wire.elastic import ElasticConnection
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey

CHROMIUM = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
EVIL_ID = "00000000-0000-4000-8000-0000000000ee"
EVIL_NAME = "<img src=x onerror=alert(1)>gnp"
EVIL_LINE = "<script>alert(2)</script> \x1b[31mred\x1b[0m"
LANGUAGES = {"en": "en-US", "ko": "ko-KR"}
TEXTS = {
    "en": {"hosts": "Hosts", "overview": "Overview", "figures": "Latest figures", "events": "Recent events"},
    "ko": {"hosts": "호스트", "overview": "개요", "figures": "최신 수치", "events": "최근 이벤트"},
}


@dataclass
class Site:
    """ezadmin running under names of its own, with this machine as its host."""

    url: str
    host_id: str
    host_name: str
    password: str
    names: Names
    elastic: ElasticClient
    folder: Path
    kafka: str
    database: str
    elastic_url: str
    processes: list[Process] = field(default_factory=list)

    def newest(self, dataset: str, fields: list[str], **terms: str) -> dict[str, Any]:
        """The newest document of a dataset of this machine, as Elasticsearch holds it."""
        filters = [{"term": {name: value}} for name, value in {"host.id": self.host_id, **terms}.items()]
        body = {
            "size": 1,
            "_source": False,
            "query": {"bool": {"filter": [*filters, {"term": {"event.dataset": dataset}}]}},
            "sort": [{"@timestamp": "desc"}],
            "docvalue_fields": ["@timestamp", *fields],
        }
        _, answer = self.elastic.request(
            "POST", f"/{self.names.prefix}-metrics-*/_search", body=json.dumps(body).encode()
        )
        hits = answer.get("hits", {}).get("hits", [])  # none while the index is being made
        return {name: values[0] for name, values in hits[0]["fields"].items()} if hits else {}

    def web(self, **changed: str) -> tuple[Process, str]:
        """Start a web server, with settings changed."""
        folder = self.folder / f"web-{secrets.token_hex(3)}"
        folder.mkdir()
        port = free_port()
        top = f'secret_key_file = "{self.folder}/secret"\n'
        tables = {"elasticsearch": f'url = "{changed.get("elasticsearch", self.elastic_url)}"', "web": f"port = {port}"}
        database, kafka = changed.get("database", self.database), changed.get("kafka", self.kafka)
        config = settings_file(folder, database, kafka, self.names, top=top, **tables)
        process = Process(command("web", "--config", config), folder / "web.log").start()
        self.processes.append(process)
        wait_until(lambda: answers(port), 30, "the web server")
        return process, f"http://127.0.0.1:{port}"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def output(*words: str | Path) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def site(stack: Any, database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    names, folder = Names(f"t{secrets.token_hex(5)}"), tmp_path_factory.mktemp("site")
    elastic = ElasticClient(ElasticConnection((stack.elasticsearch,)))
    install.make_topics(KafkaConnection(stack.kafka), names, 3)
    install.make_templates(elastic, names)
    config = settings_file(folder, database, stack.kafka, names)
    log = folder / "events.log"
    log.touch()
    agent_config, pipeline_config = folder / "agent.toml", folder / "pipeline.toml"
    agent_config.write_text(
        f'prefix = "{names.prefix}"\nstate_dir = "{folder}/agent"\ninterval = 2\n'
        f'[kafka]\nbootstrap = "{stack.kafka}"\n[[logs]]\npath = "{log}"\n'
    )
    pipeline_config.write_text(
        f'prefix = "{names.prefix}"\npartitions = 3\nsignatures = "required"\n'
        f'config_public_key = "{SigningKey.load(folder / "config.key").public.hex()}"\n'
        f'[kafka]\nbootstrap = "{stack.kafka}"\n[elasticsearch]\nurl = "{stack.elasticsearch}"\n'
    )
    output(*command("db", "upgrade", "--config", config))
    agent = [sys.executable, "-m", "ezadmin_agent"]
    identity = json.loads(output(*agent, "identity", "--config", agent_config))
    for host_id, name, key in [
        (identity["host.id"], identity["host.name"], identity["public_key"]),
        (EVIL_ID, EVIL_NAME, SigningKey.generate().public.hex()),
    ]:
        output(*command("host", "add", "--id", host_id, "--name", name, "--public-key", key, "--config", config))
    admin = output(*command("user", "create-admin", "--print-once", "--config", config))
    password = re.search(r"password: (\S+)", admin)
    assert password is not None
    site = Site(
        "", identity["host.id"], identity["host.name"], password[1], names, elastic, folder, stack.kafka, database,
        stack.elasticsearch,
    )  # fmt: skip
    try:
        site.processes += [
            Process(command("worker", "--config", config), folder / "worker.log").start(),
            pipeline(pipeline_config, folder / "pipeline.log").start(),
        ]
        wait_until(
            lambda: f"published host/{site.host_id}" in (folder / "worker.log").read_text(), 30, "the host's key"
        )
        site.processes.append(Process([*agent, "run", "--config", str(agent_config)], folder / "agent.log").start())
        _, site.url = site.web()
        wait_until(lambda: site.newest("system.filesystem", []), 60, "figures of every collector")
        with log.open("ab") as file:
            file.write(f"{EVIL_LINE}\nERROR: something broke\n데이터베이스에 연결하지 못했습니다\n".encode())
        yield site
    finally:
        for process in reversed(site.processes):
            process.stop()
        _remove(stack, names, elastic)


def _remove(stack: Any, names: Names, elastic: ElasticClient) -> None:
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=stack.kafka)
    admin.delete_topics([topic for topic in admin.list_topics() if topic.startswith(f"{names.prefix}.")])
    admin.close()
    for index in elastic.request("GET", f"/{names.prefix}-*/_settings", params={"expand_wildcards": "all"})[1]:
        elastic.request("DELETE", f"/{index}")
    for name, _ in install.templates(names):
        elastic.request("DELETE", f"/_index_template/{name}")
        elastic.request("DELETE", f"/_component_template/{install.package(name)}")
    elastic.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = shutil.which("chromium")
    assert path, "the browser tests need chromium: apt-get install chromium fonts-noto-cjk"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, site: Site) -> Iterator[Callable[..., Page]]:
    """Opens a page of a new browser; any script error, refused resource or dialog fails the test."""
    wrong: list[str] = []
    contexts = []

    def open_one(language: str = "en", scheme: str = "light", width: int = 1280, url: str | None = None) -> Page:
        context = browser.new_context(
            locale=LANGUAGES[language], color_scheme=scheme, viewport={"width": width, "height": 800},  # type: ignore[arg-type]
            timezone_id="Asia/Seoul", base_url=url or site.url,
        )  # fmt: skip
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: wrong.append(f"script: {error}"))
        page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "console",
            lambda message: (
                wrong.append(message.text) if message.type == "error" and "status of" not in message.text else None
            ),
        )
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert wrong == []


def sign_in(page: Page, site: Site) -> Page:
    page.goto("/sign-in")
    page.fill("#name", "admin")
    page.fill("#password", site.password)
    page.click("main button[type=submit]")
    expect(page.locator("[data-part=database]")).to_be_visible()
    return page


def picture(page: Page, name: str) -> None:
    folder = os.environ.get("EZADMIN_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def accessible(page: Page) -> None:
    """No finding of axe-core, at any level."""
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


def as_bytes(text: str) -> float:
    number, unit = text.split()
    return float(number.replace(",", "")) * 1024 ** ["B", "KiB", "MiB", "GiB", "TiB"].index(unit)


def test_sign_in_refuses_and_admits(open_page: Callable[..., Page], site: Site) -> None:
    page = open_page()
    page.goto("/hosts/?q=x")
    expect(page).to_have_url(re.compile(r"/sign-in\?next="))
    accessible(page)
    picture(page, "sign-in")
    page.fill("#name", "admin")
    page.fill("#password", "wrong")
    page.click("main button[type=submit]")
    expect(page.get_by_role("alert")).to_contain_text("wrong")
    page.fill("#password", site.password)
    page.click("main button[type=submit]")
    expect(page).to_have_url(re.compile(r"/hosts/\?q=x$"))
    page.get_by_role("button", name="admin", exact=True).click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("#password")).to_be_visible()
    page.goto("/")
    expect(page).to_have_url(re.compile("/sign-in"))


@pytest.mark.alone  # it looks at the whole cluster
@pytest.mark.parametrize("language", ["en", "ko"])
def test_from_the_overview_to_this_machine(open_page: Callable[..., Page], site: Site, language: str) -> None:
    texts = TEXTS[language]
    page = sign_in(open_page(language), site)
    expect(page.locator("html")).to_have_attribute("lang", language)
    for part in ("kafka", "elasticsearch", "database", "pipeline", "worker"):
        expect(page.locator(f"[data-part={part}]")).to_have_attribute("data-state", "ok")
    expect(page.get_by_role("heading", level=1)).to_have_text(texts["overview"])
    page.get_by_role("link", name=texts["hosts"], exact=True).first.click()
    page.fill("#q", site.host_name)
    expect(page.locator(".hosts tbody tr")).to_have_count(1)
    expect(page).to_have_url(re.compile("q="))
    page.get_by_role("link", name=site.host_name, exact=True).click()
    expect(page.get_by_role("heading", name=texts["figures"])).to_be_visible()
    expect(page.get_by_role("heading", name=texts["events"])).to_be_visible()


def test_inventory_is_that_of_this_machine(open_page: Callable[..., Page], site: Site) -> None:
    page = sign_in(open_page(), site)
    page.goto(f"/hosts/{site.host_id}")
    shown = {
        row.locator(":scope > dt").inner_text(): row.locator(":scope > dd").inner_text().splitlines()[0]
        for row in page.locator(".pairs:not(.figures) > div").all()
    }
    assert int(shown["Logical cores"]) == os.cpu_count()
    total = next(
        int(line.split()[1]) * 1024 for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line
    )
    assert as_bytes(shown["Memory"]) == pytest.approx(total, rel=0.005)
    assert shown["host.id"] == site.host_id
    text = page.locator("main").inner_text()
    for name, addresses in psutil.net_if_addrs().items():
        for address in addresses:
            if name != "lo" and not name.startswith("veth") and address.family in (socket.AF_INET, socket.AF_INET6):
                assert address.address.partition("%")[0] in text


def test_figures_are_those_of_elasticsearch_and_young(open_page: Callable[..., Page], site: Site) -> None:
    page = sign_in(open_page(), site)
    fields = ["system.memory.free", "system.cpu.total.norm.pct"]  # of every tick
    for _ in range(10):  # until no tick came in between: the page renews itself
        before = site.newest("system.host", fields)
        page.goto(f"/hosts/{site.host_id}")
        cpu = page.locator('#all [data-field="system.cpu.total.norm.pct"]').inner_text()
        memory = page.locator('#all [data-field="system.memory.free"]').inner_text()
        if site.newest("system.host", fields) == before:
            break
    assert float(cpu.rstrip("%")) == pytest.approx(100 * before["system.cpu.total.norm.pct"], abs=0.06)
    assert page.locator('#all [data-field="system.cpu.cores"]').inner_text() == str(os.cpu_count())
    assert as_bytes(memory) == pytest.approx(before["system.memory.free"], rel=0.005)
    moment = page.locator("#figures time").get_attribute("datetime")
    age = page.evaluate("moment => (Date.now() - Date.parse(moment)) / 1000", moment)
    assert age < 20
    shown = {row.locator("th").inner_text() for row in page.locator("table.figures").first.locator("tbody tr").all()}
    assert shown == {
        name for name in psutil.net_if_addrs() if site.newest("system.network", [], **{"system.network.name": name})
    }
    page.wait_for_function("moment => document.querySelector('#figures time')?.dateTime !== moment", arg=moment)


def test_markup_and_terminal_codes_are_text(open_page: Callable[..., Page], site: Site) -> None:
    page = sign_in(open_page(), site)
    page.goto("/hosts/")
    expect(page.get_by_role("link", name=EVIL_NAME)).to_be_visible()
    page.get_by_role("link", name=EVIL_NAME).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(EVIL_NAME)
    expect(page.locator("main")).to_contain_text("has not reported yet")
    page.goto(f"/hosts/{site.host_id}")
    event = page.locator(".event", has_text="<script>alert(2)</script>").first
    expect(event).to_contain_text("[ESC][31mred[ESC][0m")
    expect(page.locator(".event-error", has_text="something broke")).to_be_visible()
    assert page.locator("main img, main script").count() == 0


def test_what_the_agent_read_is_searched(open_page: Callable[..., Page], site: Site) -> None:
    page = sign_in(open_page("ko"), site)
    for query, line in [
        ("level: error and broke", "ERROR: something broke"),
        ("연결", "데이터베이스에 연결하지 못했습니다"),
    ]:
        page.goto(f"/logs/?{urlencode({'q': query, 'host': site.host_name})}")
        expect(page.locator(".log-row")).to_have_count(1)
        expect(page.locator(".log-text")).to_contain_text(line)
    page.locator("[data-event]").click()
    page.click("text=앞뒤 줄")
    expect(page.locator(".log-line")).to_have_count(3)
    assert EVIL_LINE.partition("\x1b")[0] in page.locator(".log-lines").inner_text()


@pytest.mark.parametrize(
    ("language", "scheme", "width"),
    [
        ("en", "light", 1280),
        ("ko", "dark", 360),
        ("ko", "light", 1280),
        *([("en", "dark", 1280), ("ko", "light", 360)] if os.environ.get("EZADMIN_FULL") else []),
    ],
)
def test_every_page_is_accessible_and_fits_a_phone(
    open_page: Callable[..., Page], site: Site, language: str, scheme: str, width: int
) -> None:
    page = sign_in(open_page(language, scheme, width), site)
    expect(page.locator("html")).to_have_attribute("data-bs-theme", scheme)
    for name, path in [
        ("overview", "/"), ("fleet", "/fleet/"), ("hosts", "/hosts/"), ("hosts-none", "/hosts/?q=nothing-like-it"),
        ("host", f"/hosts/{site.host_id}"), ("host-new", f"/hosts/{EVIL_ID}"), ("account", "/account"),
        ("kiosk", f"/hosts/{site.host_id}?kiosk=1"),
        ("sites", "/sites/"), ("site-new", "/sites/new"), ("role-new", "/roles/new"), ("changes", "/changes/"),
        ("host-edit", f"/hosts/{EVIL_ID}/edit"), ("host-history", f"/hosts/{EVIL_ID}/history"), ("user-new", "/users/new"),
        ("logs", "/logs/"), ("log-alerts", "/logs/alerts/"), ("alerts", "/alerts/"),
        ("maintenance-new", "/maintenance-windows/new"), ("channels", "/notification-channels/"),
        ("channel-new", "/notification-channels/new"), ("notification-rules", "/notification-rules/"),
        ("notification-rule-new", "/notification-rules/new"), ("notifications", "/notifications/"),
        ("thresholds", "/thresholds/"), ("threshold-new", "/thresholds/new"),
        ("missing", "/nothing"),
    ]:  # fmt: skip
        page.goto(path)
        accessible(page)
        wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wider <= 0, f"{name} at {width} px is {wider} px too wide"
        picture(page, f"{name}-{language}-{scheme}-{width}")


def test_language_and_appearance_are_kept(open_page: Callable[..., Page], site: Site) -> None:
    page = sign_in(open_page(), site)
    page.get_by_role("button", name="Appearance").click()
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    page.goto("/hosts/")
    page.get_by_role("button", name="English").click()
    page.get_by_role("button", name="한국어").click()
    expect(page).to_have_url(re.compile("/hosts/"))
    expect(page.locator("html")).to_have_attribute("lang", "ko")
    other = sign_in(open_page("en"), site)
    expect(other.locator("html")).to_have_attribute("lang", "ko")
    other.get_by_role("button", name="한국어").click()
    other.get_by_role("button", name="English").click()
    expect(other.locator("html")).to_have_attribute("lang", "en")


def test_elasticsearch_away(open_page: Callable[..., Page], site: Site) -> None:
    process, url = site.web(elasticsearch="http://127.0.0.1:1")
    page = sign_in(open_page(url=url), site)
    expect(page.locator("[data-part=elasticsearch]")).to_have_attribute("data-state", "down")
    page.goto(f"/hosts/{site.host_id}")
    expect(page.locator("main")).to_contain_text("Figures and events are missing")
    expect(page.locator("main")).to_contain_text(os.uname().release)
    accessible(page)
    picture(page, "host-without-elasticsearch")
    assert process.stop() == 0


@pytest.mark.alone  # it looks at the whole cluster
def test_kafka_away(open_page: Callable[..., Page], site: Site) -> None:
    process, url = site.web(kafka="127.0.0.1:1")
    page = sign_in(open_page(url=url), site)
    expect(page.locator("[data-part=kafka]")).to_have_attribute("data-state", "down")
    expect(page.locator("[data-part=pipeline]")).to_have_attribute("data-state", "unknown")
    expect(page.locator("[data-part=elasticsearch]")).to_have_attribute("data-state", "ok")
    page.context.close()  # the counts of its menu may not have been answered yet
    assert process.stop() == 0


@pytest.mark.parametrize("language", ["en", "ko"])
def test_database_away(open_page: Callable[..., Page], site: Site, language: str) -> None:
    process, url = site.web(database="mysql+pymysql://u:secret@127.0.0.1:1/d")
    page = sign_in(open_page(language), site)
    cookies = page.context.cookies()
    down = open_page(language, url=url)
    down.context.add_cookies([{**cookie, "url": url} for cookie in cookies_of(cookies)])
    answer = down.goto("/")
    assert answer is not None
    assert answer.status == 503
    title = {"en": "The database does not answer", "ko": "데이터베이스가 응답하지 않습니다"}[language]
    expect(down.get_by_role("heading", level=1)).to_have_text(title)
    accessible(down)
    picture(down, f"database-away-{language}")
    assert process.stop() == 0


def cookies_of(cookies: Any) -> list[dict[str, str]]:
    return [{"name": cookie["name"], "value": cookie["value"]} for cookie in cookies]
