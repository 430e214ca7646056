"""Alerts: what changed its state, when and where."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from builder import links, panels, scope
from builder.queries import ALERTS, Terms, column, count, distinct, events, over_time, table, top
from builder.scope import SCOPE

STATES = Terms("alert.state", len(panels.STATE_COLOURS))
LIMITS = "event.dataset:(alert.threshold OR alert.no_data)"
SURGES = "event.dataset:alert.surge"


def build() -> dashboard.Dashboard:
    """The dashboard ``ezadmin-alerts``."""
    return scope.build(
        "ezadmin-alerts", "Alerts", "상태가 바뀐 것: 임계값, 데이터 없음, 로그 급증.",
        "What changed its state: limits, hosts without data, surges of events.",
        [("", [*_numbers(), _over_time(), _by("By host", "알림이 많은 호스트.", "The hosts with most changes.", "host.name"),
               _by("By figure", "알림이 많은 항목.", "The figures with most changes.", "alert.field"), _flapping()]),
         ("Changes", [panels.event_list("Newest changes", "최근 상태 변화 200건.", "The newest 200 changes of state.",
                                        events("A", ALERTS, SCOPE, 200), height=14)])],
        since="now-24h", averaged=False,
    )  # fmt: skip


def _numbers() -> list[panels.Number]:
    kind = [Terms("event.kind", 1)]
    made = [
        ("Became critical", "위험 상태가 된 횟수.", "Changes to critical.", "alert.state:critical", "red"),
        ("Became warning", "주의 상태가 된 횟수(급증 제외).", "Changes to warning, surges not counted.",
         f"alert.state:warning AND {LIMITS}", "orange"),
        ("Without data", "데이터가 끊긴 횟수.", "Changes to no data.", "alert.state:unknown", "orange"),
        ("Surges", "시작된 로그 급증.", "Surges of events that began.", f"alert.state:warning AND {SURGES}", "orange"),
    ]  # fmt: skip
    shown = [
        panels.number(title, korean, english, table("A", ALERTS, f"{SCOPE} AND {query}", [count()], kind), "short",
                      thresholds=((None, "text"), (1, colour)), empty="0", span=5)
        for title, korean, english, query, colour in made
    ]  # fmt: skip
    hosts = table("A", ALERTS, f"{SCOPE} AND NOT alert.state:ok", [distinct("host.id")], kind)
    return [
        *shown,
        panels.number("Hosts", "알림이 있었던 호스트 수.", "Hosts that had any.", hosts, "short", empty="0", span=4),
    ]


def _over_time() -> panels.Graph:
    return panels.bars(
        "Changes by state", "시간별 상태 변화.", "Changes of state over time.",
        over_time("A", ALERTS, SCOPE, [count()], by=STATES, alias="{{alert.state}}", interval="auto"),
        interval="1m", overrides=panels.state_overrides(), span=24,
    )  # fmt: skip


def _by(title: str, korean: str, english: str, field: str) -> panels.Graph:
    return panels.bars(
        title, korean, english,
        over_time("A", ALERTS, f"{SCOPE} AND NOT alert.state:ok", [count()], by=Terms(field, 15), alias=f"{{{{{field}}}}}",
                  interval="auto"),
        interval="1m", overrides=[panels.linked(links.of_host())] if field == "host.name" else [],
    )  # fmt: skip


def _flapping() -> panels.Table:
    figures = [count(), top("@timestamp")]
    by = [Terms("host.name", 100), Terms("alert.field", 20), Terms("alert.item", 20)]
    shown = {"host.name": "Host", "alert.field": "Figure", "alert.item": "Item"}
    shown |= {column(figures, figures[0]): "Changes", column(figures, figures[1]): "Last change"}
    return panels.listing(
        "Most changes", "상태가 가장 자주 바뀐 것: 임계값이 너무 빠듯할 수 있음.",
        "What changed most often: its limit may be too tight, or its clear level too near.",
        [table("A", ALERTS, SCOPE, figures, by)], shown, sort_by="Changes",
        overrides=[
            panels.by_name("Host", links=links.of_host(links.column("host.name"))),
            panels.by_name("Changes", unit="short"),
            panels.by_name("Last change", unit="dateTimeFromNow"),
        ],
    )  # fmt: skip
