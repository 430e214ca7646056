"""Notifications against a real SMTP server and a real HTTP server: who is told of what, once, and what is kept back."""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from ezadmin_testing.certificates import Authority
from ezadmin_testing.described import KIM, PASSWORD, application, csrf, empty, host_id, make, sign_in
from ezadmin_testing.mail import MailServer
from flask import Flask
from sqlalchemy import select

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.actor import Actor
from ezadmin_cmdb.alerts import keeper
from ezadmin_cmdb.alerts import services as alert_services
from ezadmin_cmdb.alerts import states as alert_states
from ezadmin_cmdb.alerts.models import Alert
from ezadmin_cmdb.changes.models import Change
from ezadmin_cmdb.database import db, unit_of_work, utc_now
from ezadmin_cmdb.describe import services as described
from ezadmin_cmdb.describe.description import find
from ezadmin_cmdb.errors import Forbidden, Invalid
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.hosts.states import SILENT
from ezadmin_cmdb.maintenance.models import MaintenanceWindow
from ezadmin_cmdb.maintenance.times import FORM, ONCE
from ezadmin_cmdb.notifications import engine, services
from ezadmin_cmdb.notifications.models import Channel, Notification, NotificationRule, NotificationState
from ezadmin_cmdb.notifications.sender import NotificationSender
from ezadmin_cmdb.rights.services import rights_of
from ezadmin_cmdb.webhooks.models import DELIVERED, FAILED, WAITING
from ezadmin_wire.times import format_time

LOOPBACK = ip_network("127.0.0.2/32")
"""The only address that the tests allow: the receivers listen there, and 127.0.0.1 is the own network."""


class Receiver:
    """An HTTP server that keeps what it gets and answers ``status`` and ``answer``."""

    def __init__(self) -> None:
        self.status, self.answer = 200, b"ok"
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((self.path, dict(self.headers), json.loads(body)))
                self.send_response(outer.status)
                self.end_headers()
                self.wfile.write(outer.answer)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.2", 0), Handler)
        self.url = f"http://127.0.0.2:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def smtp() -> Iterator[MailServer]:
    made = MailServer()
    yield made
    made.close()


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
            for n in (1, 2):
                make("host", n)
        yield module_app
        db.session.rollback()


def create(model: str, /, **texts: Any) -> Any:
    """Make an object of values as a form sends them."""
    d = find(model)
    with unit_of_work():
        return described.create(KIM, d, described.values_of(KIM, d, texts))


def mail_channel(port: int, **more: Any) -> Channel:
    texts = {
        "name": "Mail", "kind": "mail", "active": "true", "language": "en", "recipients": "ops@example.com\nlee@example.com",
        "sender": "ezadmin@example.com", "smtp_host": "127.0.0.2", "smtp_port": str(port), "smtp_security": "none", **more,
    }  # fmt: skip
    made: Channel = create("notification_channel", **texts)
    return made


def call_channel(url: str, kind: str, **more: Any) -> Channel:
    texts = {"name": kind, "kind": kind, "active": "true", "language": "en", "url": url, **more}
    made: Channel = create("notification_channel", **texts)
    return made


def rule(channel: str = "Mail", **more: Any) -> Any:
    texts = {
        "name": f"To {channel}", "active": "true", "channel": channel, "minimum": "warning", "clears": "true",
        "collect_seconds": "0", **more,
    }  # fmt: skip
    return create("notification_rule", **texts)


def say(state: str, item: str = "/data", host: int = 1, seconds: float = 0) -> Alert:
    """A change of state as the pipeline says it; ``seconds`` after now."""
    said = alert_states.Said(
        format_time(utc_now() + timedelta(seconds=seconds)), host_id(host), "alert.threshold", "limit-1", item, state, "above",
        "system.filesystem.used.pct", f"{item} is {state}", 0.97, 0.95,
    )  # fmt: skip
    with unit_of_work():
        found = alert_states.take(said, None)
    assert found is not None
    return found


def in_the_app(app: Flask, work: Callable[[], object]) -> None:
    """Do it in a session of its own, as another thread of the worker does."""
    with app.app_context():
        work()


def look(seconds: float = 0) -> int:
    """A round of the worker, ``seconds`` later; returns how many messages it wrote."""
    now = utc_now() + timedelta(seconds=seconds)
    with unit_of_work():
        alert_states.end_acknowledgements()
        alert_states.note_windows()
    with unit_of_work():
        engine.settle(engine.changed(), now)
    with unit_of_work():
        return engine.write(now)


def written() -> list[Notification]:
    db.session.expire_all()
    return list(db.session.scalars(select(Notification).order_by(Notification.id)))


def work(app: Flask, until: Callable[[], bool]) -> None:
    """Let the worker's part work until something holds."""
    stopping = threading.Event()
    sender = NotificationSender(app, stopping)
    sender.start()
    try:
        for _ in range(200):
            db.session.rollback()
            if until():
                return
            stopping.wait(0.05)
        raise AssertionError([(one.status, one.error) for one in written()])
    finally:
        stopping.set()
        sender.join(5)


def test_one_mail_when_it_is_raised_and_one_when_it_is_over(app: Flask, smtp: MailServer) -> None:
    mail_channel(smtp.port)
    rule()
    say("critical")
    assert look() == 1
    assert look() == 0, "it was told"
    work(app, lambda: len(smtp.mails) == 1)
    mail = smtp.mails[0]
    assert mail["To"] == "ops@example.com, lee@example.com"
    assert mail["Subject"] == "[ezadmin] Critical: Host 1: system.filesystem.used.pct /data"
    assert "system.filesystem.used.pct of /data is 97.0% (limit 95%)" in mail.get_content()
    assert "= 97" in mail.get_content()
    say("ok", seconds=1)
    assert look() == 1
    work(app, lambda: len(smtp.mails) == 2)
    assert smtp.mails[1]["Subject"].startswith("[ezadmin] OK: Host 1")
    assert [(one.status, one.attempts, one.answer_status, one.alerts) for one in written()] == [
        (DELIVERED, 1, 250, 1)
    ] * 2
    assert not db.session.scalars(select(NotificationState)).all()


def test_a_mail_in_korean_says_all_in_korean(app: Flask, smtp: MailServer) -> None:
    mail_channel(smtp.port, language="ko")
    rule()
    say("critical")
    with unit_of_work():
        db.session.get_one(Host, host_id(2)).state = SILENT
        alert_states.note_hosts_down()
    assert look() == 1
    work(app, lambda: len(smtp.mails) == 1)
    text = smtp.mails[0].get_content()
    assert "/data의 system.filesystem.used.pct: 97.0% (임계값 95%)" in text
    assert "호스트가 중단되었습니다. 에이전트가 더 이상 보고하지 않습니다" in text
    words = {
        "host.state",
        "system.filesystem.used.pct",
        "data",
        "ezadmin",
        "Host",
        "UTC",
    }  # names, and the sign of the zone
    assert set(re.findall(r"[A-Za-z][A-Za-z._]+", text)) <= words


def test_what_comes_together_is_one_message_for_each_site(app: Flask, smtp: MailServer) -> None:
    mail_channel(smtp.port, language="ko")
    rule(collect_seconds="30")
    with unit_of_work():
        site = make("site", 1)
        third = make("host", 3)
        third.site = site
    for item in ("/a", "/b", "/c"):
        say("critical", item)
    say("warning", "/d", host=2)
    say("warning", "/e", host=3)
    assert look() == 0, "it is collected"
    assert look(31) == 2
    subjects = sorted(one.subject for one in written())
    assert subjects[0] == "[ezadmin] Site 1: 경고: Host 3: system.filesystem.used.pct /e"
    assert "3" in subjects[1]
    assert sorted(one.alerts for one in written()) == [1, 4]
    rule_again = rule(name="A second rule of the same channel", collect_seconds="0", minimum="critical")
    say("critical", "/f", seconds=2)
    assert look(32) == 1, "one message, though two rules hold for it"
    assert rule_again.id
    assert written()[-1].rule_id is None


def test_what_is_over_before_anybody_was_told_is_not_told(app: Flask, smtp: MailServer) -> None:
    mail_channel(smtp.port)
    rule(collect_seconds="30")
    say("critical")
    look()
    say("ok", seconds=1)
    assert look(31) == 0
    say("critical", seconds=2)
    assert look(32) == 0
    assert look(70) == 1
    for state, seconds in (("ok", 3), ("critical", 4)):  # and back: nobody must know
        say(state, seconds=seconds)
        look(70)
    assert look(140) == 0


def test_nothing_for_what_is_acknowledged_in_maintenance_or_suppressed(app: Flask, smtp: MailServer) -> None:
    mail_channel(smtp.port)
    rule(repeat_minutes="5")
    window = MaintenanceWindow(
        name="Patches", reason="monthly", owner="kim", starts=f"{utc_now() - timedelta(minutes=5):{FORM}}",
        timezone="UTC", minutes=60, repeats=ONCE, weekdays=[], hosts=[db.session.get_one(Host, host_id(2))],
    )  # fmt: skip
    with unit_of_work():
        db.session.add(window)
    say("critical", host=2)
    assert look() == 0
    assert look(600) == 0, "in maintenance"
    say("ok", host=2, seconds=1)
    assert look() == 0, "nobody knew of it"
    say("critical", host=2, seconds=2)
    assert look() == 0
    with unit_of_work():
        window.active = False
    assert look() == 1, "it is still so when the window ends"

    alert = say("warning")
    assert look() == 1
    with unit_of_work():
        alert_services.acknowledge(KIM, alert, utc_now() + timedelta(hours=1))
        db.session.scalars(select(Alert).where(Alert.host_id == host_id(2))).one().window_id = None
        for one in db.session.scalars(select(NotificationState).where(NotificationState.alert_id != alert.id)):
            db.session.delete(one)
    assert look(4000) == 0, "acknowledged"
    with unit_of_work():
        alert.acknowledged_until = utc_now() - timedelta(seconds=1)
    assert look() == 1, "told again when the time is over"
    say("critical", seconds=3)
    with unit_of_work():
        alert.suppressed = True
    assert look(8000) == 0, "its host is down"
    with unit_of_work():
        alert.suppressed, alert.unsettled = False, True
    assert look() == 1


def test_it_is_repeated_and_worse_is_told_at_once(app: Flask, smtp: MailServer) -> None:
    mail_channel(smtp.port)
    rule(repeat_minutes="5", clears="false")
    say("warning")
    assert [look(0), look(299), look(301), look(500), look(602)] == [1, 0, 1, 0, 1]
    assert written()[-1].subject.startswith("[ezadmin] still Warning")
    say("critical", seconds=1)
    assert look(603) == 1
    say("ok", seconds=2)
    assert [look(604), look(9999)] == [0, 0], "it is not told of what is over"


def test_rules_choose_hosts_and_states(app: Flask, smtp: MailServer) -> None:
    mail_channel(smtp.port)
    with unit_of_work():
        make("host_group", 1)
    rule(group="Group 1", minimum="critical")
    rule(name="by filter", filter="name=Host 2", minimum="critical")
    say("critical", host=1)
    say("critical", host=2)
    say("warning", "/other", host=1)
    look()
    assert sum(one.alerts for one in written()) == 2
    say("warning", host=1, seconds=1)
    assert look() == 1, "it is better, which is told to whoever heard the worse"
    assert written()[-1].subject.startswith("[ezadmin] Warning")
    with unit_of_work():
        described.update(
            KIM, find("notification_channel"), db.session.scalars(select(Channel)).one(), {"active": False}
        )
    say("ok", host=2, seconds=1)
    assert look() == 0, "the channel is off"
    with unit_of_work():
        described.update(KIM, find("notification_channel"), db.session.scalars(select(Channel)).one(), {"active": True})
    say("critical", host=2, seconds=2)
    assert look() == 1, "what was over while it was off is not taken as told"


def test_two_workers_write_each_message_once(app: Flask, smtp: MailServer) -> None:
    mail_channel(smtp.port)
    rule()
    for n in range(40):
        say("critical", f"/{n}")
    barrier = threading.Barrier(3)

    def rounds() -> None:
        with app.app_context():
            barrier.wait()
            for _ in range(10):
                with unit_of_work():
                    engine.settle(engine.changed())
                with unit_of_work():
                    engine.write()

    threads = [threading.Thread(target=rounds) for _ in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sum(one.alerts for one in written()) == 40


def test_a_server_that_refuses_gets_it_later_and_the_channel_says_so(app: Flask, smtp: MailServer) -> None:
    channel = mail_channel(smtp.port)
    rule()
    smtp.refuse = "451 not now"
    say("critical")
    look()
    work(app, lambda: written()[0].attempts == 1)
    one = written()[0]
    assert one.status == WAITING
    assert one.error == "127.0.0.2 answers 451 not now"
    assert one.next_attempt is not None
    assert timedelta(seconds=5) < one.next_attempt - utc_now() <= timedelta(seconds=10)
    assert channel.failing_since is not None
    assert channel.notice == one.error
    smtp.refuse = None
    with unit_of_work():
        one.next_attempt, channel.paused_until = utc_now(), None
    work(app, lambda: len(smtp.mails) == 1)
    db.session.expire_all()
    assert (one.status, one.attempts, channel.failing_since, channel.notice) == (DELIVERED, 2, None, None)
    with unit_of_work():
        services.again(KIM, one)
        smtp.refuse = "550 never"
        old = written()[-1]
        old.created = utc_now() - timedelta(days=2)
    work(app, lambda: written()[-1].status == FAILED)
    assert channel.active


def test_tls_and_passwords(app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("mail", ("127.0.0.2",))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    for security, options in (
        ("starttls", {"tls_context": context, "require_starttls": True}),
        ("tls", {"ssl_context": context, "auth_require_tls": False}),
    ):
        server = MailServer(**options)
        try:
            channel = mail_channel(server.port, name=security, smtp_security=security, smtp_user="ezadmin")
            with unit_of_work():
                services.set_secret(KIM, channel, "good secret")
            assert "good secret" not in (channel.secret or "")
            with unit_of_work():
                assert (
                    "certificate verify failed" in (services.test(KIM, channel).error or "").replace("_", " ").lower()
                )
            monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
            with unit_of_work():
                made = services.test(KIM, channel)
            assert (made.status, made.error) == (DELIVERED, None)
            assert server.users == [(b"ezadmin", b"good secret")]
            assert len(server.mails) == 1
            with unit_of_work():
                services.set_secret(KIM, channel, "bad secret")
            with unit_of_work():
                assert "535" in (services.test(KIM, channel).error or "")
            monkeypatch.delenv("SSL_CERT_FILE")
            with unit_of_work():
                described.update(KIM, find("notification_channel"), channel, {"smtp_user": "somebody"})
            assert channel.secret is None, "a password does not follow to another place"
        finally:
            server.close()


def test_calls_in_the_form_of_each_service(app: Flask, receiver: Receiver) -> None:
    hook = f"{receiver.url}/in"
    channels = {
        "generic": call_channel(hook, "generic"), "slack": call_channel(hook, "slack", target="#ops"),
        "teams": call_channel(hook, "teams"), "telegram": call_channel(receiver.url, "telegram", target="-100"),
        "kakaowork": call_channel(hook, "kakaowork", target="42"), "naverworks": call_channel(hook, "naverworks"),
        "own": call_channel(hook, "generic", name="own", body='{"msg": "{subject} {nothing}", "at": ["{site}", 1]}'),
    }  # fmt: skip
    with unit_of_work():
        services.set_secret(KIM, channels["telegram"], "12:token")
        services.set_secret(KIM, channels["naverworks"], "bearer")
    for name in channels:
        rule(name, name=name)
    say("critical", '/<b>*x* "{text}"')
    assert look() == len(channels)
    work(app, lambda: all(one.status == DELIVERED for one in written()))
    got = dict.fromkeys(channels)
    by_id = {channel.id: name for name, channel in channels.items()}
    for one in written():
        got[by_id[one.channel_id]] = json.loads(one.body)
    subject = 'Critical: Host 1: system.filesystem.used.pct /<b>*x* "{text}"'
    assert got["generic"]["alerts"][0]["state"] == "critical"
    assert got["generic"]["subject"] == f"[ezadmin] {subject}"
    assert got["slack"]["channel"] == "#ops"
    assert "&lt;b&gt;" in got["slack"]["text"]
    card = got["teams"]["attachments"][0]["content"]
    assert card["type"] == "AdaptiveCard"
    assert "/<b\\>\\*x\\*" in card["body"][0]["text"]
    assert got["telegram"]["chat_id"] == "-100"
    assert subject in got["telegram"]["text"]
    assert got["kakaowork"]["conversation_id"] == "42"
    assert len(got["kakaowork"]["text"]) <= 500
    assert got["naverworks"]["content"] == {"type": "text", "text": got["telegram"]["text"]}
    assert got["own"] == {"msg": f"[ezadmin] {subject} {{nothing}}", "at": ["", 1]}
    sent = {path for path, _headers, _body in receiver.requests}
    assert sent == {"/in", "/bot12:token/sendMessage"}
    assert [h["Authorization"] for _p, h, _b in receiver.requests if "Authorization" in h] == ["Bearer bearer"]
    receiver.answer = b'{"success": false, "error": {"code": "no_room"}}'
    with unit_of_work():
        made = services.test(KIM, channels["kakaowork"])
    assert made.status == FAILED
    assert "no_room" in (made.answer or "")


def test_what_is_refused(app: Flask, receiver: Receiver) -> None:
    for wrong, field in (
        ({"recipients": ""}, "recipients"), ({"recipients": "ops"}, "recipients"), ({"sender": ""}, "sender"),
        ({"smtp_host": "127.0.0.1"}, "smtp_host"), ({"smtp_host": ""}, "smtp_host"),
        ({"smtp_user": "u", "smtp_security": "none"}, "smtp_security"), ({"kind": "slack"}, "url"),
        ({"kind": "telegram"}, "target"), ({"kind": "slack", "url": "http://127.0.0.1/"}, "url"),
        ({"kind": "slack", "url": "http://u:p@example.com/"}, "url"),
        ({"kind": "generic", "url": receiver.url, "body": "{nothing}"}, "body"),
    ):  # fmt: skip
        with pytest.raises(Invalid) as caught:
            mail_channel(25, **wrong)
        assert field in (caught.value.fields or {caught.value.field: ""}), (wrong, caught.value)
        db.session.rollback()
    channel = mail_channel(25, smtp_host="localhost")
    with unit_of_work():
        assert "[webhooks] allow" in (services.test(KIM, channel).error or ""), "a name that leads into the own network"
    with pytest.raises(Invalid):
        rule(filter="colour=red")
    db.session.rollback()
    with unit_of_work():
        user = accounts.create_user(KIM, "lee", PASSWORD, admin=False)
    lee = Actor("lee", "ui", rights=rights_of(user))
    with pytest.raises(Forbidden):
        services.test(lee, channel)
    telegram = call_channel("https://api.telegram.invalid", "telegram", target="1")
    with pytest.raises(Invalid):
        services.set_secret(KIM, telegram, "1:a/../x")


def test_pages_and_api(app: Flask, smtp: MailServer) -> None:
    channel = mail_channel(smtp.port)
    channel_id = channel.id
    db.session.rollback()
    pool = ThreadPoolExecutor(1)  # requests have contexts of their own
    client = pool.submit(sign_in, app, "kim").result()
    token = pool.submit(csrf, client).result()

    def get(path: str) -> str:
        return str(pool.submit(client.get, path).result().text)

    def post(path: str, **data: str) -> str:
        sent = {"csrf_token": token, **data}
        return str(pool.submit(client.post, path, data=sent, follow_redirects=True).result().text)

    page = f"/notification-channels/{channel_id}"
    assert "Test it" in get(page)
    answer = post(f"{page}/test")
    assert "The test was sent by Mail." in answer
    assert len(smtp.mails) == 1
    answer = post(f"{page}/secret", secret="s3cret-token")
    assert "s3cret-token" not in answer
    assert "It has a password or token" in answer
    assert "s3cret-token" not in get(f"/api/v1{page}")
    assert "s3cret-token" not in get("/notification-channels/?format=csv")
    db.session.rollback()
    assert any("secret" in one.fields for one in db.session.scalars(select(Change)))
    number = written()[0].id
    answer = post(f"/notifications/{number}/again")
    assert "Test of the channel" in answer
    assert [one.status for one in written()] == [DELIVERED, WAITING]
    for model, names in (("channels", ["active"]), ("rules", ["active", "clears"])):
        boxes = re.findall(r'<input [^>]*type="checkbox"[^>]*>', get(f"/notification-{model}/new"))
        ticked = [re.search(r'name="(\w+)"', box) for box in boxes if " checked" in box]
        assert [one[1] for one in ticked if one] == names, "a new one does something"
    sent = {"name": "Off", "minimum": "critical", "channel": str(channel_id)}
    assert "Off" in post("/notification-rules/new", **sent)
    db.session.rollback()
    off = db.session.scalars(select(NotificationRule)).one()
    assert (off.active, off.clears) == (False, False), "a form without a tick"


def test_the_worker_looks_by_itself(app: Flask, smtp: MailServer) -> None:
    mail_channel(smtp.port)
    rule()
    say("critical")
    keeper.keep()
    assert len(written()) == 1


def test_an_alert_that_comes_while_the_worker_looks_which_hosts_are_down_waits(
    app: Flask, smtp: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    mail_channel(smtp.port)
    rule()
    with unit_of_work():
        db.session.get_one(Host, host_id(1)).state = SILENT
    note_windows = alert_states.note_windows

    def another_comes() -> int:
        done = note_windows()
        monkeypatch.undo()
        late = threading.Thread(target=lambda: in_the_app(app, lambda: say("critical")))
        late.start()
        late.join(10)
        return done

    monkeypatch.setattr(alert_states, "note_windows", another_comes)
    for _round in range(3):
        keeper.keep()
    assert {one.rule: one.suppressed for one in db.session.scalars(select(Alert))} == {
        "host_down": False,
        "limit-1": True,
    }
    assert [one.subject for one in written()] == ["[ezadmin] Critical: Host 1: host.state"]
