"""What alerts say to people, in English and Korean: of what the real pipeline, the worker and the web application wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from ezadmin_testing.described import KIM, PASSWORD, application, empty, host_id, make, sign_in
from flask import Flask
from flask_babel import force_locale
from sqlalchemy import select

from ezadmin_cmdb.accounts import services as accounts
from ezadmin_cmdb.alerts import keeper, services, states, texts
from ezadmin_cmdb.alerts.models import Alert, AlertEvent
from ezadmin_cmdb.database import db, unit_of_work, utc_now
from ezadmin_cmdb.hosts import states as host_states
from ezadmin_cmdb.hosts import timeline
from ezadmin_cmdb.hosts.models import Host
from ezadmin_cmdb.maintenance.models import MaintenanceWindow
from ezadmin_cmdb.maintenance.times import FORM, ONCE
from ezadmin_pipeline import alerts as pipeline
from ezadmin_pipeline.directory import Directory
from ezadmin_pipeline.surges import Change
from ezadmin_pipeline.thresholds import State, Thresholds
from ezadmin_wire import config as wire
from ezadmin_wire.config import HostRecord, LimitRecord
from ezadmin_wire.times import format_epoch_ms
from ezadmin_wire.trend import NEVER

CPU, DISK, PACKETS = "system.cpu.total.norm.pct", "system.filesystem.used.pct", "system.network.total.in.packets"
MOUNT = "system.filesystem.mount_point"
START = int((datetime.now(UTC) - timedelta(hours=2)).timestamp()) // 600 * 600_000
"""A multiple of what the trend looks back, so that its pieces are the same each time."""


class Judge:
    """The real judge of the pipeline, with one host and one limit; what it says is stored as the worker stores it."""

    def __init__(self, record: LimitRecord) -> None:
        directory = Directory([])
        directory._apply(wire.ConfigRecord(wire.limit_key("lab"), 1, record))
        directory._apply(wire.ConfigRecord(wire.host_key(host_id(1)), 2, HostRecord("Host 1", limits=["lab"])))
        self.record, self.thresholds, self.state = record, Thresholds(directory), State({})

    def send(self, seconds: int, value: float, **more: Any) -> list[str]:
        """A sample; returns what is said in Korean and in English for each change."""
        when = format_epoch_ms(START + seconds * 1000)
        document = {"@timestamp": when, "event.created": when, "event.dataset": self.record.dataset, **more}
        line = orjson.dumps({**document, self.record.field: value})
        return said(
            self.thresholds.observe(
                self.state, host_id(1), START + seconds * 1000, [(when[:16], "unknown", line)]
            )
        )  # fmt: skip


def said(documents: list[dict[str, Any]]) -> list[str]:
    """Take documents of the pipeline as the worker does; returns what they say, Korean and English in turn."""
    found = []
    for document in documents:
        with unit_of_work():
            alert = states.take(states.decode(pipeline.message(document).value), pipeline.identity(document))
        assert alert is not None
        found += both(alert)
    return found


def both(alert: Alert) -> list[str]:
    """What an alert says, and its history says the same."""
    found, newest = [], next(one for one in services.history(alert) if one.kind == "state")
    for language in ("ko", "en"):
        with force_locale(language):
            found.append(texts.of_alert(alert))
            assert texts.of_event(alert, newest) == found[-1]
    return found


@pytest.fixture(scope="module")
def app(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    with application(database, tmp_path_factory.mktemp("web")) as app:
        yield app


@pytest.fixture
def session(app: Flask) -> Iterator[Any]:
    empty(app)
    with app.test_request_context():
        with unit_of_work():
            make("host", 1)
        yield db.session
        db.session.rollback()


@pytest.mark.usefixtures("session")
def test_a_figure_beyond_its_limit() -> None:
    lab = Judge(LimitRecord(DISK, dataset="system.filesystem", item="/d*", critical_raise=0.9, critical_clear=0.85))
    one = {MOUNT: "/data"}
    assert lab.send(0, 0.5, **one) == []
    assert lab.send(60, 0.97, **one) == [
        f"/data의 {DISK}: 97.0% (임계값 90%)", f"{DISK} of /data is 97.0% (limit 90%)",
    ]  # fmt: skip
    assert lab.send(120, 0.1, **one) == [
        f"/data의 {DISK}: 10.0% (임계값 85%)", f"{DISK} of /data is 10.0% (limit 85%)",
    ]  # fmt: skip


@pytest.mark.usefixtures("session")
def test_a_rate() -> None:
    lab = Judge(LimitRecord(PACKETS, rate=True, warning_raise=1500))
    assert lab.send(0, 1000) == []
    assert lab.send(10, 21_000) == [
        f"{PACKETS} 초당: 2,000 (임계값 1500)", f"{PACKETS} per second is 2,000 (limit 1500)",
    ]  # fmt: skip


def test_what_fills(session: Any) -> None:
    lab = Judge(LimitRecord(DISK, dataset="system.filesystem", warning_raise=24, comparison="below", trend=600))
    found = [text for i in range(60) for text in lab.send(10 * i, 0.5 + i / 1000, **{MOUNT: "/"})]
    korean, english = found
    assert korean.startswith(f"/의 {DISK}: 1.")
    assert korean.endswith("시간 후 가득 참 (임계값 24시간)")
    assert english.startswith(f"{DISK} of / is full in 1.")
    assert english.endswith(" h (limit 24 h)")
    alert = session.scalars(select(Alert)).one()
    assert alert.value == pytest.approx(1.3, abs=0.3)
    with force_locale("en"):
        assert texts.value_of(alert) == f"{alert.value:.4g} h", "hours, and no percent"
        assert texts.limit_of(alert) == "24 h"
    found = [text for i in range(60) for text in lab.send(600 + 10 * i, 0.56 - i / 1000, **{MOUNT: "/"})]
    assert re.fullmatch(rf"/의 {DISK}: [0-9.]+시간 후 가득 참 \(임계값 24시간\)", found[0])
    with unit_of_work():
        alert.value, alert.message = NEVER, f"lab: {DISK} of / does not fill (limit 24 h): ok, was warning"
    with force_locale("ko"):
        assert texts.of_alert(alert) == f"/의 {DISK}: 가득 차지 않음 (임계값 24시간)"


@pytest.mark.usefixtures("session")
def test_no_data_and_data_again() -> None:
    lab = Judge(LimitRecord(CPU, warning_raise=0.9, no_data=90))
    assert lab.send(0, 0.5) == []
    lost = [text for i in range(1, 14) for text in said(lab.thresholds.tick(lab.state, START + i * 10_000))]
    assert lost == [f"{CPU}: 90초 동안 데이터 없음", f"{CPU}: no data for 90 seconds"]
    assert lab.send(200, 0.5) == [f"{CPU}: 50.0% – 데이터가 다시 들어옴", f"{CPU} is 50.0% – data comes again"]


@pytest.mark.usefixtures("session")
def test_a_surge() -> None:
    at = {"start": format_epoch_ms(START), "end": format_epoch_ms(START + 60_000)}
    figures: dict[str, Any] = {
        "peak": 4200, "budget": 600, "usual": 12.25, "seen": 16_000, "withheld": 13_000,
        "templates": [{"template": "결제 * 실패", "count": 13_400, "example": "결제 4711 실패"}],
    }  # fmt: skip
    began, over = (Change(host_id(1), "app", "error", over=over, **at, **figures).alert({}) for over in (False, True))
    assert said([began, over]) == [
        "app/error: 1분에 이벤트 4,200건(한도 600). 한도를 넘는 이벤트는 일부만 저장합니다; 가장 많은 것: 결제 * 실패",
        "app/error: 4,200 events in a minute (budget 600): what is over the budget is sampled; most: 결제 * 실패",
        "app/error: 급증이 끝났습니다. 이벤트 16,000건 중 13,000건 보류; 가장 많은 것: 결제 * 실패",
        "app/error: the surge is over: 16,000 events, 13,000 of them withheld; most: 결제 * 실패",
    ]


def test_the_pages_are_in_the_readers_language(app: Flask) -> None:
    empty(app)
    with app.test_request_context():
        with unit_of_work():
            accounts.create_user(KIM, "kim", PASSWORD, admin=True)
            make("host", 1).state = host_states.SILENT
        Judge(LimitRecord(CPU, warning_raise=0.9)).send(0, 0.95)
        keeper.keep()
        ids = dict(db.session.execute(select(Alert.rule, Alert.id)).all())
    browser = sign_in(app, "kim")
    for language, down, busy in (
        ("ko", "호스트가 중단되었습니다. 에이전트가 더 이상 보고하지 않습니다", f"{CPU}: 95.0% (임계값 90%)"),
        ("en", "The host is down: its agent reports no more", f"{CPU} is 95.0% (limit 90%)"),
    ):
        head = {"Accept-Language": language}
        listed = browser.get("/alerts/", headers=head).text
        assert down in listed
        assert busy in listed
        assert browser.get(f"/alerts/{ids['host_down']}", headers=head).text.count(down) == 2, (
            "above and in its history"
        )
        assert browser.get(f"/alerts/{ids['lab']}", headers=head).text.count(busy) == 2
        happened = browser.get(f"/hosts/{host_id(1)}", headers=head).text
        assert down in happened, "also while Elasticsearch is away"
        assert busy in happened
    messages = [one["message"] for one in browser.get("/api/v1/alerts").get_json()["items"]]
    assert "Host 1 is down: its agent reports no more" in messages, "what the API says is the same for everybody"


def test_all_that_happens_to_alerts_is_on_the_hosts_axis_of_time(session: Any) -> None:
    lab = Judge(LimitRecord(CPU, warning_raise=0.9))
    lab.send(0, 0.95)
    now = utc_now()
    with unit_of_work():
        alert = session.scalars(select(Alert)).one()
        services.acknowledge(KIM, alert, now + timedelta(hours=1), "I look")
        services.comment(KIM, alert, "a loop")
    with unit_of_work():
        window = MaintenanceWindow(
            name="Patches", reason="", owner="kim", starts=f"{now - timedelta(hours=1):{FORM}}", timezone="UTC", minutes=120,
            repeats=ONCE, weekdays=[], hosts=[session.get_one(Host, host_id(1))],
        )  # fmt: skip
        session.add(window)
    keeper.keep()
    with unit_of_work():
        window.active = False
    keeper.keep()
    for state in (host_states.SILENT, host_states.ACTIVE):
        with unit_of_work():
            session.get_one(Host, host_id(1)).state = state
        keeper.keep()
    lab.send(60, 0.95), lab.send(120, 0.1)
    with force_locale("en"):
        found = timeline.stored(host_id(1), alerts=True)
    assert [one.time for one in found] == sorted((one.time for one in found), reverse=True)
    alerts = [(str(one.title) or one.level, one.text) for one in reversed(found) if one.kind == timeline.ALERT]
    assert len(alerts) == session.query(AlertEvent).count() == 8, "each once"
    until = alerts[2][1].removeprefix(f"{CPU} · ").removesuffix(" · I look")
    assert until.startswith("until ")
    assert alerts == [
        ("warning", f"{CPU} is 95.0% (limit 90%)"), ("ok", f"{CPU} is 10.0% (limit 90%)"),
        ("Acknowledged", f"{CPU} · {until} · I look"), ("Comment", f"{CPU} · a loop"),
        ("Maintenance", f"{CPU} · Patches"), ("Maintenance is over", CPU),
        ("critical", "The host is down: its agent reports no more"), ("ok", "The host is no longer down"),
    ]  # fmt: skip
    assert {one.kind for one in timeline.stored(host_id(1), alerts=False)} == {timeline.CHANGE}
