"""The fleet divided: a row and a line for each site, customer or group of hosts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard

from builder import links, panels, scope
from builder.fields import unit_of
from builder.fleet import CPU, FILESYSTEM, LOAD, MEMORY, NET_IN, NET_OUT, NOW, NOW_MINUTELY, SEEN, SEVERE
from builder.queries import (
    HOST_MINUTE,
    METRICS,
    Figure,
    Terms,
    avg,
    column,
    distinct,
    latest,
    over_time,
    table,
    top,
    total,
)
from builder.scope import SCOPE, of


@dataclass(frozen=True)
class Division:
    """By which label, and how it is called."""

    label: str
    title: str
    korean: str

    @property
    def field(self) -> str:
        """Name of the label in documents."""
        return f"labels.{self.label}"


DIVISIONS = (
    Division("site", "Sites", "사이트"),
    Division("customer", "Customers", "고객"),
    Division("group", "Groups of hosts", "호스트 그룹"),
)
SHARE: dict[str, Any] = {"thresholds": panels.FULL, "full": True}


def built() -> list[dashboard.Dashboard]:
    """A dashboard for each division."""
    return [_build(division) for division in DIVISIONS]


def _build(by: Division) -> dashboard.Dashboard:
    name = by.title.lower()
    return scope.build(
        f"ezadmin-{by.label}", by.title, f"{by.korean}별 호스트 수, 부하, 이벤트.",
        f"The fleet divided by {by.label}: hosts, load and events of each. Hosts that have none are not shown.",
        [("", [
            _table(by),
            _graph(by, "Hosts reporting", f"{by.korean}별 데이터를 보낸 호스트 수.", "Hosts that sent figures.",
                   distinct("host.id"), stacked=True, calcs=("lastNotNull", "max")),
            _graph(by, "CPU", f"{by.korean}별 평균 CPU.", f"Mean CPU of {name}.", avg(CPU), **SHARE),
            _graph(by, "Memory", f"{by.korean}별 평균 메모리 사용률.", f"Mean share of memory in use of {name}.", avg(MEMORY),
                   **SHARE),
            _graph(by, "Fullest filesystem", f"{by.korean}에서 가장 많이 찬 파일 시스템.", f"The fullest filesystem of {name}.",
                   top(FILESYSTEM), "system.filesystem", **SHARE),
            _graph(by, "Received per host", f"{by.korean}별 호스트당 평균 수신.", "Bytes received per second, mean of the hosts.",
                   avg(NET_IN)),
            _graph(by, "Sent per host", f"{by.korean}별 호스트당 평균 송신.", "Bytes sent per second, mean of the hosts.",
                   avg(NET_OUT)),
            _events(by, "Events", f"{by.korean}별 이벤트 수.", f"Events of {name}.", SCOPE),
            _events(by, "Errors and worse", f"{by.korean}별 error 이상 이벤트.", f"Events of level error and worse of {name}.",
                    f"{SCOPE} AND {SEVERE}"),
        ])],
    )  # fmt: skip


def _table(by: Division) -> panels.Table:
    terms = [Terms(by.field, 500)]
    hosts, means, fullest = [distinct("host.id")], [avg(CPU), avg(MEMORY), avg(LOAD)], [top(FILESYSTEM)]
    errors = [total(SEEN)]
    shown = {
        by.field: by.title,
        column(hosts, hosts[0]): "Hosts",
        column(means, means[0]): "CPU",
        column(means, means[1]): "Memory",
        column(means, means[2]): "Load per core",
        column(fullest, fullest[0]): "Fullest filesystem",
        column(errors, errors[0]): "Errors and worse",
    }
    value = links.column(by.field)
    targets = (("Hosts side by side", "ezadmin-compare"), ("CPU", "ezadmin-cpu"), ("Disks", "ezadmin-disk"),
               ("Logs", "ezadmin-logs"), ("Alerts", "ezadmin-alerts"))  # fmt: skip
    return panels.listing(
        f"{by.title} now",
        f"{by.korean}별 현재 값(최근 2분 평균, 파일 시스템은 최근 4분, 오류는 선택한 기간). 이름을 누르면 이동.",
        f"{by.title} now: mean of the last 2 minutes, filesystems of the last 4, errors of the time range. A click on the "
        "name leads to its hosts.",
        [
            table("A", METRICS, of("system.host"), hosts, terms),
            table("B", METRICS, latest(of("system.host"), NOW), means, terms),
            table("C", METRICS, latest(of("system.filesystem"), NOW_MINUTELY), fullest, terms),
            table("D", HOST_MINUTE, f"{SCOPE} AND {SEVERE}", errors, terms),
        ],
        shown, sort_by="CPU",
        overrides=[
            panels.by_name(by.title, links=[links.dashboard(title, uid, by.label, value) for title, uid in targets],
                           custom__minWidth=160),
            panels.by_name("Hosts", unit="short"),
            panels.by_name("CPU", unit=unit_of(CPU), **panels.bar()),
            panels.by_name("Memory", unit=unit_of(MEMORY), **panels.bar()),
            panels.by_name("Load per core", unit=unit_of(LOAD), decimals=2),
            panels.by_name("Fullest filesystem", unit=unit_of(FILESYSTEM), **panels.bar()),
            panels.by_name("Errors and worse", unit="short"),
        ],
    )  # fmt: skip


def _graph(
    by: Division, title: str, korean: str, english: str, figure: Figure, dataset: str = "system.host", **how: Any
) -> panels.Graph:
    query = over_time("A", METRICS, of(dataset), [figure], by=Terms(by.field, scope.TOP), alias=f"{{{{{by.field}}}}}")
    counted = figure.aggregation == "cardinality"
    given = {"unit": "short" if counted else unit_of(figure.field), "calcs": ("mean", "max"), **how}
    return panels.graph(title, korean, english, [query], field=None if counted else figure.field, **given)


def _events(by: Division, title: str, korean: str, english: str, asked: str) -> panels.Graph:
    query = over_time(
        "A", HOST_MINUTE, asked, [total(SEEN)], by=Terms(by.field, scope.TOP), alias=f"{{{{{by.field}}}}}",
        interval="auto",
    )  # fmt: skip
    return panels.bars(title, korean, english, query, interval="1m")
