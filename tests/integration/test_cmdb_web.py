"""Pages and API on a real database, Elasticsearch and Kafka, without a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update

from ezadmin_cmdb import migrate
from ezadmin_cmdb.accounts import guards
from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.accounts.models import SignInGuard, User, UserSession
from ezadmin_cmdb.actor import cli_actor
from ezadmin_cmdb.app import create_app
from ezadmin_cmdb.database import Base, db, unit_of_work
from ezadmin_cmdb.hosts import reports
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.metrics.fields import datasets
from ezadmin_cmdb.settings import Settings, Web
from ezadmin_pipeline.elastic import ElasticClient
from ezadmin_wire.elastic import ElasticConnection
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey
from ezadmin_wire.state import Address, AgentStatus, Disk, Inventory, Nic
from ezadmin_wire.times import format_time, now

KIM = cli_actor("kim")
PASSWORD = "correct horse battery"
ID = "00000000-0000-4000-8000-00000000000a"
EVIL = "<script>alert(1)</script>\x1b[31m"
CLOSED = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def settings(stack: Any, database: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        database=database,
        kafka=KafkaConnection(stack.kafka),
        config_signing_key=Path("none"),
        elasticsearch=ElasticConnection((stack.elasticsearch,)),
        secret_key_file=tmp_path_factory.mktemp("web") / "secret",
    )


@pytest.fixture(scope="module")
def migrated(settings: Settings) -> None:
    with create_app(settings).app_context():
        migrate.upgrade(db.engine)


@pytest.fixture
def make_app(settings: Settings, migrated: None, names: Names) -> Iterator[Callable[..., Flask]]:
    """Makes the application with some settings changed, on an empty database with one user."""
    made: list[Flask] = []

    def make(**changed: Any) -> Flask:
        app = create_app(replace(settings, names=names, **changed))
        app.testing = True
        app.config["PROPAGATE_EXCEPTIONS"] = False
        made.append(app)
        return app

    with make().app_context():
        with db.engine.begin() as connection:
            for table in reversed(Base.metadata.sorted_tables):
                connection.execute(table.delete())
        with unit_of_work():
            accounts.create_user(KIM, "kim", PASSWORD, admin=True)
    yield make
    for app in made:
        app.extensions["ezadmin_elastic"].close()
        app.extensions["ezadmin_kafka"].close()
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    return make_app()


def token(page: str) -> str:
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    assert found is not None
    return found[1]


def sign_in(app: Flask, password: str = PASSWORD, name: str = "kim", **environment: Any) -> tuple[FlaskClient, Any]:
    client = app.test_client()
    page = client.get("/sign-in").text
    form = {"name": name, "password": password, "csrf_token": token(page)}
    return client, client.post("/sign-in", data=form, **environment)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    client, answer = sign_in(app)
    assert answer.status_code == 302
    return client


def add_host(app: Flask, host_id: str = ID, name: str = "web1", **inventory: Any) -> None:
    with app.app_context(), unit_of_work():
        hosts.add(KIM, host_id, name, SigningKey.generate().public.hex(), {"site": "seoul"})
        given: dict[str, Any] = {
            "hostname": "web1", "os_name": "Debian", "os_version": "12", "cpu_logical": 4, "memory": 8 << 30,
            "serial": "SN-77", "disks": [Disk("sda", size=1 << 40)],
            "nics": [Nic("eth0", mac="00-00-5E-00-53-23", addresses=[Address("192.0.2.17", 24)])],
        }  # fmt: skip
        reports.store(host_id, Inventory(collected=now(), **{**given, **inventory}))
        reports.store(host_id, AgentStatus(now(), "1.2.3", now()))


class Documents:
    """Writes documents as the pipeline does."""

    def __init__(self, elastic: ElasticClient, names: Names) -> None:
        self._elastic, self._names = elastic, names
        self._bulk: list[str] = []

    def metric(self, dataset: str, moment: datetime, **values: Any) -> None:
        text = format_time(moment)
        document = {"@timestamp": text, "event.dataset": dataset, "event.created": text, "host.id": ID, **values}
        self._add({"create": {"_index": self._names.metrics_index(text)}}, document)

    def event(self, moment: datetime, message: str, level: str = "info") -> None:
        text = format_time(moment)
        document = {
            "@timestamp": text, "event.dataset": "syslog", "host.id": ID, "log.level": level, "message": message,
            "process.name": "sshd",
        }  # fmt: skip
        self._add({"create": {"_index": self._names.logs_index(text)}}, document)

    def _add(self, action: dict[str, Any], document: dict[str, Any]) -> None:
        self._bulk += [json.dumps(action), json.dumps(document)]

    def write(self) -> None:
        body = "\n".join([*self._bulk, ""]).encode()
        status, answer = self._elastic.request("POST", "/_bulk", params={"refresh": "true"}, body=body)
        assert status == 200, answer
        assert not answer["errors"], answer


@pytest.fixture
def documents(elastic: ElasticClient, names: Names) -> Documents:
    return Documents(elastic, names)


# -- signing in ---


@pytest.mark.parametrize("path", ["/", "/status", "/hosts/", f"/hosts/{ID}", f"/hosts/{ID}/live", "/account"])
def test_no_page_without_signing_in(app: Flask, path: str) -> None:
    answer = app.test_client().get(path)
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("/sign-in")


def test_sign_in_and_out(app: Flask) -> None:
    client, answer = sign_in(app)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    page = client.get("/account")
    assert page.status_code == 200
    stolen = client.get_cookie("ezadmin")
    assert stolen is not None
    assert client.post("/sign-out", data={"csrf_token": token(page.text)}).status_code == 302
    client.set_cookie("ezadmin", stolen.value)
    assert client.get("/account").status_code == 302, "the old cookie is worth nothing after signing out"


def test_sign_in_goes_only_to_own_pages(app: Flask) -> None:
    for wanted, went in [
        ("/hosts/?q=a", "/hosts/?q=a"), ("//evil.example", "/"), ("https://evil.example/", "/"),
        ("/\\evil.example", "/"), ("javascript:alert(1)", "/"),
    ]:  # fmt: skip
        client = app.test_client()
        form = {"name": "kim", "password": PASSWORD, "csrf_token": token(client.get("/sign-in").text)}
        answer = client.post("/sign-in", query_string={"next": wanted}, data=form)
        assert answer.headers["Location"] == went


def test_wrong_passwords_lock_out_for_a_while(app: Flask) -> None:
    for _ in range(guards.FAILURES_BY_PAIR):
        assert sign_in(app, "wrong")[1].status_code == 401
    assert sign_in(app)[1].status_code == 429, "the right password is not even looked at"
    other = {"REMOTE_ADDR": "192.0.2.9"}
    assert sign_in(app, environ_base=other)[1].status_code == 302, "from elsewhere the user can sign in"
    with app.app_context(), unit_of_work():
        db.session.execute(update(SignInGuard).values(until=datetime.now(UTC)))
    assert sign_in(app)[1].status_code == 302


def test_one_address_guessing_many_names_is_locked_out(app: Flask) -> None:
    for number in range(guards.FAILURES_BY_ADDRESS):
        assert sign_in(app, "wrong", name=f"user{number}")[1].status_code == 401
    assert sign_in(app)[1].status_code == 429


def test_sessions_end(app: Flask) -> None:
    for column, age in [("last_seen", accounts.SESSION_IDLE), ("created", accounts.SESSION_LIFE)]:
        client, _ = sign_in(app)
        assert client.get("/account").status_code == 200
        with app.app_context(), unit_of_work():
            db.session.execute(update(UserSession).values({column: datetime.now(UTC) - age - timedelta(seconds=1)}))
        assert client.get("/account").status_code == 302


def test_a_user_who_is_switched_off_is_out_at_once(app: Flask, client: FlaskClient) -> None:
    with app.app_context(), unit_of_work():
        db.session.execute(update(User).values(active=False))
    assert client.get("/account").status_code == 302
    assert sign_in(app)[1].status_code == 401


def test_change_the_password(app: Flask, client: FlaskClient) -> None:
    other, _ = sign_in(app)
    csrf = token(client.get("/account").text)
    form = {"old": PASSWORD, "new": "another long one", "again": "another long one", "csrf_token": csrf}
    assert client.post("/account/password", data={**form, "again": "x"}).status_code == 400
    assert client.post("/account/password", data={**form, "old": "x"}).status_code == 422
    assert client.post("/account/password", data={**form, "new": "short", "again": "short"}).status_code == 422
    assert client.post("/account/password", data=form).status_code == 302
    assert client.get("/account").status_code == 200
    assert other.get("/account").status_code == 302, "other browsers are signed out"
    assert sign_in(app)[1].status_code == 401
    assert sign_in(app, "another long one")[1].status_code == 302


def test_passwords_are_kept_as_argon2_and_tokens_as_hashes(app: Flask, client: FlaskClient) -> None:
    with client.session_transaction() as session:
        secret = session["token"]
    with app.app_context():
        assert db.session.query(User).one().password_hash.startswith("$argon2id$")
        assert secret not in {session.token_hash for session in db.session.query(UserSession)}


# -- forged requests, headers, cookies ---


def test_a_form_without_its_token_is_refused(client: FlaskClient) -> None:
    assert client.post("/sign-out").status_code == 400
    assert client.get("/account").status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}, 302),
        ({"Origin": "http://localhost"}, 302),
    ],
)
def test_a_form_from_elsewhere_is_refused_even_with_a_token(
    client: FlaskClient, headers: dict[str, str], status: int
) -> None:
    csrf = token(client.get("/account").text)
    assert client.post("/language/ko", data={"csrf_token": csrf}, headers=headers).status_code == status


def test_headers(client: FlaskClient) -> None:
    for path in ("/", "/nothing", "/api/v1/hosts", "/static/app.css"):
        with client.get(path) as answer:
            headers = answer.headers
        policy = headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
    assert client.get("/").headers["Cache-Control"] == "no-store"


def test_behind_tls_cookies_travel_by_nothing_else(make_app: Callable[..., Flask]) -> None:
    app = make_app(web=Web(url="https://ezadmin.example"))
    client = app.test_client()
    through = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "ezadmin.example"}
    page = client.get("/sign-in", headers=through, base_url="https://ezadmin.example")
    cookie = page.headers["Set-Cookie"]
    assert cookie.startswith("__Host-ezadmin=")
    assert "Secure" in cookie
    assert "max-age" in page.headers["Strict-Transport-Security"]


# -- languages ---


def test_language_of_the_browser_then_of_the_account(app: Flask) -> None:
    assert "로그인" in app.test_client().get("/sign-in", headers={"Accept-Language": "ko-KR,ko;q=0.9,en;q=0.5"}).text
    assert "Sign in" in app.test_client().get("/sign-in", headers={"Accept-Language": "de,fr"}).text
    client, _ = sign_in(app)
    csrf = token(client.get("/account").text)
    assert client.post("/language/ko", data={"csrf_token": csrf}).status_code == 302
    other, _ = sign_in(app)
    assert '<html lang="ko"' in other.get("/account", headers={"Accept-Language": "en"}).text
    assert client.post("/language/xx", data={"csrf_token": csrf}).status_code == 422


# -- pages ---


def test_empty_states_say_what_to_do(client: FlaskClient) -> None:
    page = client.get("/hosts/").text
    assert "Hosts: none yet" in page
    assert "ezadmin-cmdb host add" in page
    home = client.get("/").text
    assert "ezadmin-cmdb host add" in home
    assert "ezadmin-pipeline run" in home, "no pipeline runs on these names"


def test_home_judges_parts(app: Flask, client: FlaskClient) -> None:
    add_host(app)
    page = client.get("/").text
    found = dict(re.findall(r'data-part="(\w+)" data-state="(\w+)"', page))
    assert found == {
        "kafka": "ok", "elasticsearch": "ok", "database": "ok", "pipeline": "down", "worker": "down", "agents": "ok",
    }  # fmt: skip


def test_list_search_and_sort(app: Flask, client: FlaskClient) -> None:
    for number, (name, memory) in enumerate([("alpha", 3 << 30), ("beta", 1 << 30), ("gamma", 2 << 30)]):
        add_host(
            app, f"00000000-0000-4000-8000-00000000000{number}", name, memory=memory, hostname=name, serial=f"S{number}",
            nics=[Nic("eth0", mac=f"00-00-5E-00-53-0{number}", addresses=[Address(f"192.0.2.{number}", 24)])],
        )  # fmt: skip

    def listed(**query: str) -> list[str]:
        return re.findall(r'class="name"><a [^>]*>(\w+)<', client.get("/hosts/", query_string=query).text)

    assert listed() == ["alpha", "beta", "gamma"]
    assert listed(sort="memory") == ["beta", "gamma", "alpha"]
    assert listed(sort="-memory") == ["alpha", "gamma", "beta"]
    assert listed(sort="nonsense", page="99") == ["alpha", "beta", "gamma"]
    for words, names in {
        "ALP": ["alpha"], "192.0.2.1": ["beta"], "00:00:5e:00:53:02": ["gamma"], "s2": ["gamma"], "site=seoul": 3,
        "seoul beta": ["beta"], "%": [], "_": [], "site=busan": [],
    }.items():  # fmt: skip
        assert (len(listed(q=words)) if names == 3 else listed(q=words)) == names, words
    assert "Nothing matches" in client.get("/hosts/?q=nothing-like-it").text


def test_host_page_shows_the_newest_value_of_every_field(app: Flask, client: FlaskClient, documents: Documents) -> None:
    add_host(app)
    newest = datetime.now(UTC).replace(microsecond=0)
    minute, outdated = newest - timedelta(seconds=60), newest - timedelta(seconds=75)
    fields = datasets()["system.host"]
    numbers = [name for name, field in fields.items() if field.kind in ("gauge", "counter")]
    documents.metric("system.host", outdated, **dict.fromkeys(numbers, 7))
    documents.metric(
        "system.host", minute,
        **{name: 0.75 if fields[name].unit == "ratio" else 4096 for name in numbers if name != "system.load.15"},
        **{"system.users.names": ["kim", "lee"]},
    )  # fmt: skip
    documents.metric(
        "system.host", newest, **{"system.cpu.total.norm.pct": 0.25, "system.memory.actual.used.pct": 0.25}
    )
    for moment, mounts in ((minute, ("/", "/gone")), (newest, ("/", "/<b>data"))):
        for mount in mounts:
            dimensions = {"system.filesystem.mount_point": mount, "system.filesystem.device_name": "/dev/sda"}
            values = {"system.filesystem.used.pct": 0.5 if moment == newest else 0.6}
            if moment == minute:
                values["system.filesystem.total"] = 1 << 40
            documents.metric("system.filesystem", moment, **dimensions, **values)
    documents.write()
    page = client.get(f"/hosts/{ID}").text
    shown = dict(re.findall(r'data-field="([\w.]+)">([^<]*)<', page))
    assert {name for name in numbers if name not in shown} == {"system.load.15"}, "all but what is older than a minute"
    assert shown["system.cpu.total.norm.pct"] == "25.0%"
    assert shown["system.cpu.iowait.norm.pct"] == "75.0%", "sent a minute ago, and not since"
    assert shown["system.cpu.context_switches"] == "4,096"
    assert shown["system.memory.total"] == "4 KiB"
    assert shown["system.users.names"] == "kim, lee"
    assert "/&lt;b&gt;data" in page
    assert "/gone" not in page
    assert "60.0%" not in page
    answer = client.get(f"/api/v1/hosts/{ID}/metrics/latest").json
    assert [one["dataset"] for one in answer] == ["system.host", "system.filesystem"]
    first, second = answer[1]["items"]
    assert first["dimensions"]["system.filesystem.mount_point"] == "/"
    assert first["values"] == {"system.filesystem.used.pct": 0.5, "system.filesystem.total": 1 << 40}
    assert second["values"] == {"system.filesystem.used.pct": 0.5}
    listed = client.get("/hosts/").text
    assert listed.count("25.0%") == 2, "shares of CPU and memory in use"


def test_nothing_from_hosts_and_logs_takes_effect(app: Flask, client: FlaskClient, documents: Documents) -> None:
    add_host(app, name="<b>bold</b>", os_name=EVIL, vendor='"><img src=x>', hostname="\u202egnp")
    documents.event(datetime.now(UTC), EVIL, "error")
    documents.event(datetime.now(UTC), "line one\nline two", "no such level")
    documents.write()
    for path in ("/hosts/", f"/hosts/{ID}", f"/hosts/{ID}/live", "/hosts/?q=<b>"):
        page = client.get(path).text
        assert "<b>bold" not in page
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", page)
    page = client.get(f"/hosts/{ID}").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;[ESC][31m" in page
    assert "[U+202E]gnp" in page
    assert "level-error" in page
    assert "No level" in page


def test_unknown_hosts_and_pages(client: FlaskClient) -> None:
    for path in (f"/hosts/{ID}", "/nothing", "/hosts/<script>"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert "There is nothing here" in answer.text
        assert "<script>alert" not in answer.text


# -- parts that are away ---


def test_elasticsearch_away(make_app: Callable[..., Flask]) -> None:
    app = make_app(elasticsearch=ElasticConnection((CLOSED,)))
    add_host(app)
    client, _ = sign_in(app)
    for path in (f"/hosts/{ID}", "/hosts/"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "Figures and events are missing" in answer.text
        assert "192.0.2.17" in answer.text, "inventory stays"
    home = client.get("/").text
    assert 'data-part="elasticsearch" data-state="down"' in home
    assert 'data-part="kafka" data-state="ok"' in home
    answer = client.get(f"/api/v1/hosts/{ID}/metrics/latest")
    assert answer.status_code == 503
    assert answer.json is not None
    assert "Elasticsearch does not answer" in answer.json["detail"]


def test_database_away(make_app: Callable[..., Flask], app: Flask) -> None:
    signed_in, _ = sign_in(app)
    cookie = signed_in.get_cookie("ezadmin")
    assert cookie is not None
    down = make_app(database="mysql+pymysql://u:secret@127.0.0.1:1/d")
    client = down.test_client()
    client.set_cookie("ezadmin", cookie.value)
    answer = client.get("/hosts/")
    assert answer.status_code == 503
    assert "The database does not answer" in answer.text
    assert "secret" not in answer.text
    assert client.get("/api/v1/hosts").json["type"] == "/api-docs/#unavailable"
    with client.get("/static/app.css") as asset:
        assert asset.status_code == 200
    assert client.get("/healthz").status_code == 200


# -- API ---


def test_api_hosts(app: Flask, client: FlaskClient) -> None:
    add_host(app)
    found = client.get("/api/v1/hosts?q=seoul").json
    assert (found["total"], found["page"], found["pages"]) == (1, 1, 1)
    (host,) = found["items"]
    assert (host["id"], host["liveness"], host["addresses"]) == (ID, "reporting", ["192.0.2.17"])
    assert host["labels"] == {"site": "seoul"}
    one = client.get(f"/api/v1/hosts/{ID}").json
    assert (one["memory"], one["serial"], one["nics"][0]["addresses"][0]["prefix"]) == (8 << 30, "SN-77", 24)


def test_api_events(app: Flask, client: FlaskClient, documents: Documents) -> None:
    add_host(app)
    moment = datetime.now(UTC)
    for number in range(5):
        documents.event(moment - timedelta(seconds=number), f"event {number}")
    documents.write()
    found = client.get(f"/api/v1/hosts/{ID}/events?limit=3").json
    assert [event["message"] for event in found] == ["event 0", "event 1", "event 2"]


def test_openapi_describes_every_route(app: Flask, client: FlaskClient) -> None:
    described = client.get("/api/v1/openapi.json").json
    assert described["openapi"] == "3.1.0"
    routes = {
        re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/") and rule.endpoint != "api-docs.openapi_json"
    }
    routes -= {"/api/v1/metrics"}  # text for Prometheus, described in docs/operations.md
    assert routes <= {path if path.startswith("/api") else f"/api/v1{path}" for path in described["paths"]}


def test_a_view_that_fails_changes_nothing_and_says_so(app: Flask, client: FlaskClient) -> None:
    def fail() -> str:
        hosts.add(KIM, ID, "half", SigningKey.generate().public.hex(), {})
        raise RuntimeError("broken")

    app.view_functions["hosts.index"] = fail
    answer = client.get("/hosts/")
    assert answer.status_code == 500
    assert "broken" not in answer.text
    with app.app_context():
        assert db.session.query(hosts.Host).count() == 0
