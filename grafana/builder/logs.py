"""Events: how many, of which level, from where; surges marked; and the events themselves."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from builder import links, panels, scope, variables
from builder.fleet import SEEN, SEVERE
from builder.queries import HOST_MINUTE, LOGS, Terms, column, events, over_time, table, total
from builder.scope import SCOPE

EVENTS = f"{SCOPE} AND (event.dataset:$dataset) AND (log.level:$level)"
LEVELS = Terms("log.level", len(panels.LEVEL_COLOURS))
NAMES = ("Seen", "Stored", "Left out by rules", "Withheld in surges", "Dead letters")
VALUES = ("seen", "stored", "ignored", "sampled", "dead")
SEVERE_ENCODED = "log.level%3A(emergency%20or%20alert%20or%20critical%20or%20error)"


def build() -> dashboard.Dashboard:
    """The dashboard ``ezadmin-logs``."""
    return scope.build(
        "ezadmin-logs", "Logs", "레벨·호스트·데이터셋별 이벤트 수와 급증.",
        "Events by level, host and dataset; surges are marked.",
        [("", [*_numbers(), _by_level(),
               _by("Events by host", "이벤트가 많은 호스트.", "The hosts with most events.", "host.name"),
               _by("Events by dataset", "이벤트가 많은 데이터셋.", "The datasets with most events.", "event.dataset"),
               _fates(), _hosts()]),
         ("Events", [
             panels.event_list("Newest events", "최근 이벤트 300건. 전체 검색은 위의 'Logs in ezadmin'.",
                               "The newest 300 events; to search them all: 'Logs in ezadmin' above.",
                               events("A", LOGS, EVENTS, 300), height=14),
         ])],
        chosen=[
            variables.item("dataset", "event.dataset", SCOPE, "Dataset", HOST_MINUTE),
            variables.item("level", "log.level", SCOPE, "Level", HOST_MINUTE),
        ],
        averaged=False,
    )  # fmt: skip


def _numbers() -> list[panels.Number]:
    rollup = [Terms("rollup", 1)]
    made = [
        ("Events", "선택한 기간의 이벤트 수(무시·표본 처리 포함).", "Events of the time range, also those not stored.",
         SEEN, EVENTS, panels.PLAIN),
        ("Errors and worse", "error 이상 이벤트 수.", "Events of level error and worse.", SEEN, f"{EVENTS} AND {SEVERE}",
         ((None, "text"), (1, "red"))),
        ("Withheld in surges", "급증 때 저장하지 않은 이벤트 수.", "Events that were counted and not stored in a surge.",
         "events.sampled", EVENTS, ((None, "text"), (1, "orange"))),
        ("Left out by rules", "규칙이 제외한 이벤트 수.", "Events that rules ignored or filtered.", "events.ignored", EVENTS,
         panels.PLAIN),
    ]  # fmt: skip
    return [
        panels.number(title, korean, english, table("A", HOST_MINUTE, query, [total(value)], rollup), "short",
                      thresholds=steps, empty="0", span=6)
        for title, korean, english, value, query, steps in made
    ]  # fmt: skip


def _by_level() -> panels.Graph:
    return panels.bars(
        "Events by level", "레벨별 이벤트 수(분 단위 집계). 급증의 시작과 끝을 표시.",
        "Events by level, from the rollup by minute. Begin and end of surges are marked.",
        over_time("A", HOST_MINUTE, EVENTS, [total(SEEN)], by=LEVELS, alias="{{log.level}}", interval="auto"),
        interval="1m", overrides=[*panels.level_overrides(), panels.linked(links.logs("log.level%3A" + links.SERIES))],
        span=24, height=9,
    )  # fmt: skip


def _by(title: str, korean: str, english: str, field: str) -> panels.Graph:
    where = links.of_host() if field == "host.name" else links.logs(f"{field}%3A" + links.SERIES)
    return panels.bars(
        title, korean, english,
        over_time("A", HOST_MINUTE, EVENTS, [total(SEEN)], by=Terms(field, 15), alias=f"{{{{{field}}}}}", interval="auto"),
        interval="1m", overrides=[panels.linked(where)],
    )  # fmt: skip


def _hosts() -> panels.Table:
    by, figures = [Terms("host.name", 200)], [total(f"events.{value}") for value in VALUES]
    severe = [total(SEEN)]
    shown = {"host.name": "Host"}
    shown |= {column(figures, figure): value for figure, value in zip(figures, NAMES, strict=True)}
    shown |= {column(severe, severe[0]): "Errors and worse"}
    return panels.listing(
        "By host", "호스트별 이벤트: 본 것, 저장, 무시, 표본으로 제외, 버려진 것. 오류 수를 누르면 로그 검색.",
        "What became of the events of each host. A click on the errors opens the log search.",
        [table("A", HOST_MINUTE, EVENTS, figures, by), table("B", HOST_MINUTE, f"{EVENTS} AND {SEVERE}", severe, by)],
        shown, sort_by="Errors and worse", height=10,
        overrides=[
            panels.by_name("Host", links=links.of_host(links.column("host.name"))),
            *(panels.by_name(name, unit="short") for name in NAMES),
            panels.by_name("Errors and worse", unit="short",
                           links=links.of_host(links.column("host.name"), query=SEVERE_ENCODED)[2:3]),
        ],
    )  # fmt: skip


def _fates() -> panels.Graph:
    figures = [total(f"events.{value}") for value in VALUES[1:]]
    return panels.bars(
        "What became of them", "저장, 규칙으로 제외, 급증 때 표본 처리, 버려진 이벤트.",
        "Events stored, left out by rules, withheld in surges, and dead letters.",
        over_time("A", HOST_MINUTE, EVENTS, figures, alias="{{field}}", interval="auto"), interval="1m", span=24, height=7,
        renames=[(r"events\.(.*)", "$1")],
    )  # fmt: skip
