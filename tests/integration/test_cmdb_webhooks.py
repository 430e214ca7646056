"""Webhooks against a real receiver: what is told, signed, tried again, turned off, and never called."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing.cmdb import command
from ezadmin_testing.described import KIM, PASSWORD, application, csrf, empty, host_id, make, sign_in
from flask import Flask
from sqlalchemy import select, update

from ezadmin_cmdb import sealing
from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.database import db, unit_of_work, utc_now
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.errors import Conflict, Forbidden, Invalid
from ezadmin_cmdb.hosts import services as hosts
from ezadmin_cmdb.hosts.models import Drift
from ezadmin_cmdb.rights.services import rights_of
from ezadmin_cmdb.settings import SettingsError, parse
from ezadmin_cmdb.webhooks import calls, services
from ezadmin_cmdb.webhooks.models import DELIVERED, FAILED, WAITING, Delivery, Webhook
from ezadmin_cmdb.webhooks.sender import WebhookSender

LOOPBACK = ip_network("127.0.0.2/32")
"""The only address that the tests allow: the receiver listens there, and 127.0.0.1 is the own network."""


class Receiver:
    """An HTTP server that keeps what it gets and answers ``status``."""

    def __init__(self, address: str = "127.0.0.2") -> None:
        self.status = 200
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((self.path, dict(self.headers), body))
                self.send_response(outer.status)
                if outer.status == 302:
                    self.send_header("Location", "http://127.0.0.1:1/secret")
                self.end_headers()
                self.wfile.write(b"thank you <script>alert(1)</script>")

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer((address, 0), Handler)
        self.port = self._server.server_port
        self.url = f"http://{address}:{self.port}/in?x=1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def told(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _path, _headers, body in self.requests]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture(scope="module")
def module_app(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    with application(database, tmp_path_factory.mktemp("web"), webhooks_allow=(LOOPBACK,)) as app:
        yield app


@pytest.fixture
def app(module_app: Flask) -> Iterator[Flask]:
    empty(module_app)
    with module_app.app_context():
        with unit_of_work():
            accounts.create_user(KIM, "kim", PASSWORD, admin=True)
        yield module_app
        db.session.rollback()


class Browser:
    """A signed-in browser whose requests have contexts of their own: those of the tests stay out of them."""

    def __init__(self, app: Flask) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._client = self._pool.submit(sign_in, app, "kim").result()
        self.token = self._pool.submit(csrf, self._client).result()

    def get(self, path: str) -> Any:
        return self._pool.submit(self._client.get, path).result()

    def post(self, path: str, **options: Any) -> Any:
        return self._pool.submit(self._client.post, path, **options).result()


def hook(url: str, *events: str, name: str = "hook") -> Webhook:
    values = {"name": name, "url": url, "active": True, "events": list(events)}
    made: Webhook = described.create(KIM, find("webhook"), values)
    db.session.commit()
    return made


def all_deliveries() -> list[Delivery]:
    db.session.expire_all()
    return list(db.session.scalars(select(Delivery).order_by(Delivery.id)))


def work(app: Flask, until: Callable[[], bool]) -> None:
    """Let the worker's part work until something holds."""
    stopping = threading.Event()
    sender = WebhookSender(app, stopping)
    sender.start()
    try:
        for _ in range(200):
            db.session.rollback()
            if until():
                return
            stopping.wait(0.05)
        raise AssertionError([(one.event, one.status, one.error) for one in all_deliveries()])
    finally:
        stopping.set()
        sender.join(10)
        assert not sender.failed


def done() -> bool:
    return not [one for one in all_deliveries() if one.status == WAITING]


def test_each_change_is_told_signed_and_in_order(app: Flask, receiver: Receiver) -> None:
    webhook = hook(receiver.url, "site.created", "site.changed", "site.deleted", "host.state", "host.created")
    secret = services.renew_secret(KIM, webhook)
    db.session.commit()
    site = make("site", 1)
    described.update(KIM, find("site"), site, {"country": "대한민국"})
    described.delete(KIM, find("site"), site)
    host = make("host", 1)
    hosts.rename(KIM, host, "other")
    hosts.set_state(KIM, host, "retired")
    assert all_deliveries() == [], "nothing before the commit"
    db.session.commit()
    work(app, done)
    assert [one["event"] for one in receiver.told] == [
        "site.created", "site.changed", "site.deleted", "host.created", "host.state",
    ]  # fmt: skip
    changed = receiver.told[1]
    assert changed["changes"] == {"country": {"before": None, "after": "대한민국"}}
    assert changed["object"]["name"] == "Site 1"
    assert (changed["actor"], changed["source"]) == ("kim", "cli")
    assert receiver.told[4]["changes"]["state"]["after"] == "retired"
    for path, headers, body in receiver.requests:
        assert path == "/in?x=1"
        signed = headers["X-Ezadmin-Timestamp"].encode() + b"." + body
        assert headers["X-Ezadmin-Signature"] == "v1=" + hmac.digest(secret.encode(), signed, hashlib.sha256).hex()
    delivery = all_deliveries()[0]
    assert (delivery.status, delivery.attempts, delivery.answer_status) == (DELIVERED, 1, 200)


def test_what_is_rolled_back_is_never_told(app: Flask, receiver: Receiver) -> None:
    hook(receiver.url, "site.created")
    make("site", 1)
    db.session.rollback()
    make("site", 2)
    with pytest.raises(Conflict):
        described.create(KIM, find("site"), {"name": "Site 2", "status": "active"})
    db.session.commit()
    assert [json.loads(one.body)["object"]["name"] for one in all_deliveries()] == ["Site 2"]


def test_differences_are_told(app: Flask, receiver: Receiver) -> None:
    make("host", 1)
    hook(receiver.url, "host.drift")
    db.session.add(Drift(host_id=host_id(1), field="memory", declared=8, observed=4, since=utc_now(), status="open"))
    db.session.commit()
    work(app, done)
    assert receiver.told[0]["changes"] == {"memory": {"before": 8, "after": 4}}
    assert receiver.told[0]["object"] == {"type": "host", "id": host_id(1), "name": "Host 1"}


def test_a_failure_is_tried_again_later_and_later(app: Flask, receiver: Receiver) -> None:
    webhook = hook(receiver.url, "site.created")
    receiver.status = 500
    make("site", 1)
    db.session.commit()
    delays = []
    for attempts in range(1, 5):
        work(app, lambda attempts=attempts: all_deliveries()[0].attempts == attempts)  # type: ignore[misc]
        one = all_deliveries()[0]
        assert one.next_attempt is not None
        assert one.answered is not None
        delays.append(one.next_attempt - one.answered)
        assert (one.status, one.answer_status) == (WAITING, 500)
        assert webhook.failing_since is not None
        db.session.execute(update(Delivery).values(next_attempt=utc_now()))
        db.session.execute(update(Webhook).values(paused_until=None))
        db.session.commit()
    assert all(later > 3 * earlier for earlier, later in itertools.pairwise(delays))
    receiver.status = 204
    work(app, done)
    assert all_deliveries()[0].status == DELIVERED
    assert webhook.failing_since is None


def test_one_that_fails_for_days_is_turned_off_and_says_so(app: Flask, receiver: Receiver) -> None:
    webhook = hook(receiver.url, "site.created", "webhook.changed")
    receiver.status = 503
    make("site", 1)
    make("site", 2)
    db.session.commit()
    old = utc_now() - services.GIVE_UP_AFTER - timedelta(minutes=1)
    db.session.execute(update(Webhook).values(failing_since=old))
    db.session.commit()
    work(app, done)
    assert {one.status for one in all_deliveries()} == {FAILED}
    assert not webhook.active
    assert webhook.notice is not None
    assert "it answers 503" in webhook.notice
    last = db.session.scalar(select(Change).order_by(Change.id.desc()))
    assert last is not None
    assert (last.object_type, last.source, last.fields) == ("webhook", "worker", {"active": [True, False]})
    page = Browser(app).get(f"/webhooks/{webhook.id}").text
    assert webhook.notice in page
    make("site", 3)
    db.session.commit()
    assert len(all_deliveries()) == 2, "one that is off is told nothing"
    described.update(KIM, find("webhook"), webhook, {"active": True})
    assert (webhook.notice, webhook.failing_since) == (None, None)


def test_one_receiver_that_hangs_does_not_hold_up_others(app: Flask, receiver: Receiver) -> None:
    with socket.create_server(("127.0.0.2", 0)) as deaf:
        hook(f"http://127.0.0.2:{deaf.getsockname()[1]}/", "site.created", name="deaf")
        hook(receiver.url, "site.created")
        make("site", 1)
        db.session.commit()
        work(app, lambda: len(receiver.requests) == 1)


def test_test_secret_and_again_by_page_api_and_command(app: Flask, receiver: Receiver, tmp_path: Path) -> None:
    webhook = hook(receiver.url, "site.created")
    client = Browser(app)
    guard = {"csrf_token": client.token}
    page = client.post(f"/webhooks/{webhook.id}/test", data=guard, follow_redirects=True).text
    assert "answered with 200" in page
    assert receiver.told[0]["event"] == "ping"
    shown = client.post(f"/webhooks/{webhook.id}/secret", data=guard).text
    secret = shown.partition('id="secret"')[2].partition(">")[2].partition("<")[0]
    assert len(secret) > 30
    assert secret not in client.get(f"/webhooks/{webhook.id}").text
    assert secret not in client.get(f"/api/v1/webhooks/{webhook.id}").text
    db.session.expire_all()
    assert secret not in webhook.secret, "it lies encrypted in the database"
    headers = {"X-CSRFToken": guard["csrf_token"]}
    tested = client.post(f"/api/v1/webhooks/{webhook.id}/test", headers=headers)
    assert (tested.status_code, tested.json["status"], tested.json["answer_status"]) == (200, "delivered", 200)
    assert (
        services.signature(secret, receiver.requests[1][1]["X-Ezadmin-Timestamp"], receiver.requests[1][2])
        == (receiver.requests[1][1]["X-Ezadmin-Signature"])
    )
    other = client.post(f"/api/v1/webhooks/{webhook.id}/secret", headers=headers).json["secret"]
    assert other != secret
    log = client.get(f"/deliveries/{tested.json['id']}").text
    assert "&lt;script&gt;alert(1)" in log, "request and answer are shown, and harmless"
    again = client.post(f"/api/v1/deliveries/{tested.json['id']}/again", headers=headers)
    assert again.status_code == 202
    work(app, done)
    assert [one["event"] for one in receiver.told] == ["ping"] * 3
    assert receiver.requests[2][2] == receiver.requests[1][2]
    receiver.status = 302
    failed = client.post(f"/webhooks/{webhook.id}/test", data=guard, follow_redirects=True).text
    assert "alert-warning" in failed
    assert "302" in failed, "redirects are not followed"
    webhook.active = False
    db.session.commit()
    refused = client.post(f"/api/v1/deliveries/{tested.json['id']}/again", headers=headers)
    assert refused.status_code == 409


def test_commands(app: Flask, receiver: Receiver, tmp_path: Path) -> None:
    import subprocess

    settings = app.extensions["ezadmin_settings"]
    file = tmp_path / "cmdb.toml"
    file.write_text(
        f'database = "{settings.database}"\nconfig_signing_key = "none"\nsecret_key_file = "{settings.secret_key_file}"\n'
        '[kafka]\nbootstrap = "127.0.0.1:1"\n[webhooks]\nallow = ["127.0.0.2/32"]\n'
    )
    webhook = hook(receiver.url, "site.created")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command("webhook", *arguments, "--config", file), capture_output=True, text=True, check=False
        )

    assert receiver.url in run("list").stdout
    tested = run("test", "hook")
    assert (tested.returncode, "delivered" in tested.stdout) == (0, True), tested.stderr
    secret = run("secret", str(webhook.id)).stdout.strip()
    assert len(secret) > 30
    assert "waits for the worker" in run("again", str(all_deliveries()[0].id)).stdout
    work(app, done)
    _path, headers, body = receiver.requests[1]
    assert services.signature(secret, headers["X-Ezadmin-Timestamp"], body) == headers["X-Ezadmin-Signature"]
    missing = run("test", "no such")
    assert (missing.returncode, "no webhook no such" in missing.stderr) == (1, True)


# -- the own network is not called ---


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.5.5", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fd00::1", "ff02::1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
        "64:ff9b::a00:1", "2002:a00:1::", "192.0.2.1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_called(address: str) -> None:
    assert not calls.may_be_called(ip_address(address), [LOOPBACK])


def test_addresses_that_are_called() -> None:
    for address in ("8.8.8.8", "2001:4860:4860::8888", "127.0.0.2", "::ffff:127.0.0.2", "64:ff9b::808:808"):
        assert calls.may_be_called(ip_address(address), [LOOPBACK])


def resolver(answers: list[list[str]]) -> tuple[Callable[..., Any], list[str]]:
    """A getaddrinfo whose answers change, and the names that it was asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *more: Any, **named: Any) -> list[Any]:
        asked.append(str(host))
        addresses = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return getaddrinfo, asked


def test_a_name_that_answers_differently_a_moment_later(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the first answer is judged and called, whatever the name means then."""
    own = Receiver("127.0.0.1")
    try:
        real = socket.getaddrinfo
        rebinding, asked = resolver([["127.0.0.2"], ["127.0.0.1"]])

        def getaddrinfo(host: str, *more: Any, **named: Any) -> Any:
            return real(host, *more, **named) if host[0].isdigit() else rebinding(host, *more, **named)

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        url = f"http://rebinding.example.com:{receiver.port}/"
        assert calls.post(url, b"{}", {}, [LOOPBACK]).status == 200
        assert asked == ["rebinding.example.com"], "the name is looked up once"
        assert len(receiver.requests) == 1
        assert receiver.requests[0][1]["Host"] == f"rebinding.example.com:{receiver.port}"
        with pytest.raises(calls.CallError, match=r"127\.0\.0\.1, which lies in a network that is not called"):
            calls.post(f"http://rebinding.example.com:{own.port}/", b"{}", {}, [LOOPBACK])
        assert own.requests == []
    finally:
        own.close()


def test_one_bad_address_of_several_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolver([["8.8.8.8", "10.0.0.1"]])[0])
    with pytest.raises(calls.CallError, match=r"10\.0\.0\.1"):
        calls.resolve("both.example.com", 80, [LOOPBACK])


def test_other_ways_in(receiver: Receiver) -> None:
    for url in (
        "file:///etc/passwd", "gopher://127.0.0.2/", "http://user:password@127.0.0.2/", "http:///", "http://0x7f000001/",
        "http://2130706433/", "http://localhost/", "http://127.1/", "http://[::ffff:127.0.0.1]/", "http://x:99999/",
    ):  # fmt: skip
        with pytest.raises(calls.CallError):
            calls.post(url, b"", {}, [LOOPBACK])
    assert receiver.requests == []


def test_what_cannot_be_set(app: Flask) -> None:
    for url in ("http://10.0.0.1/", "http://[::1]/", "https://a:b@example.com/", "ftp://example.com/", "http://x:0/"):
        with pytest.raises(Invalid):
            described.create(
                KIM, find("webhook"), {"name": url, "url": url, "active": True, "events": ["site.created"]}
            )
        db.session.rollback()


def test_nobody_is_told_of_what_he_may_not_see(app: Flask, receiver: Receiver) -> None:
    user = accounts.create_user(KIM, "lee", PASSWORD, admin=False)
    role = described.create(KIM, find("role"), {"name": "r", "permissions": ["webhook.change", "delivery.view"]})
    described.create(KIM, find("grant"), {"user": user, "role": role})
    lee = Actor("lee", "ui", rights_of(user))
    webhook = hook(receiver.url, "site.created")
    delivery = services.test(KIM, webhook)
    db.session.commit()
    for attempt in (
        lambda: described.create(
            lee, find("webhook"), {"name": "x", "url": receiver.url, "active": True, "events": ["site.created"]}
        ),
        lambda: described.update(lee, find("webhook"), webhook, {"url": "https://lee.example.com/"}),
        lambda: described.update(lee, find("webhook"), webhook, {"events": ["webhook.created"]}),
        lambda: services.renew_secret(lee, webhook),
        lambda: services.test(lee, webhook),
        lambda: services.again(lee, delivery),
    ):
        savepoint = db.session.begin_nested()
        with pytest.raises(Forbidden):
            attempt()
        savepoint.rollback()
        db.session.expire_all()


def test_secrets_are_sealed() -> None:
    sealed = sealing.seal(b"k" * 64, "webhook", "secret")
    assert sealing.unseal(b"k" * 64, "webhook", sealed) == "secret"
    for key, purpose in ((b"x" * 64, "webhook"), (b"k" * 64, "other")):
        with pytest.raises(sealing.SealBroken):
            sealing.unseal(key, purpose, sealed)


def test_settings() -> None:
    given = {"database": "mysql+pymysql://x@y/z", "config_signing_key": "k", "kafka": {"bootstrap": "b:1"}}
    assert parse({**given, "webhooks": {"allow": ["10.1.0.0/16"]}}, "f").webhooks_allow == (ip_network("10.1.0.0/16"),)
    for wrong in ("10.1.0.0/16", ["10.1.0.1/16"], ["x"], [1.5]):
        with pytest.raises(SettingsError, match="webhooks"):
            parse({**given, "webhooks": {"allow": wrong}}, "f")
