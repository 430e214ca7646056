"""Months: the metrics by the hour, which are kept long after the samples that they were made of."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import dashboard

from builder import links, panels, scope, variables
from builder.fields import unit_of
from builder.fleet import CPU, FILESYSTEM, INODES, LOAD, MEMORY, NET_IN, NET_OUT
from builder.queries import METRICS_HOUR, Figure, Terms, column, over_time, table
from builder.scope import HOSTS, of

SHARE: dict[str, Any] = {"thresholds": panels.FULL, "full": True}
BY_HOST = [Terms("host.name", 500)]
MOUNT = "system.filesystem.mount_point"


def mean(field: str) -> Figure:
    """Mean of a figure: of the hours' means, so each hour weighs alike."""
    return Figure("avg", f"{field}.avg")


def highest(field: str) -> Figure:
    """The highest single value."""
    return Figure("max", f"{field}.max")


def lowest(field: str) -> Figure:
    """The lowest single value."""
    return Figure("min", f"{field}.min")


def build() -> dashboard.Dashboard:
    """The dashboard ``ezadmin-months``."""
    disk = "system.diskio.total.utilization"
    return scope.build(
        "ezadmin-months", "Months", "시간별 최소·평균·최대 값으로 본 몇 달, 몇 년의 추세(3년 보관).",
        "Trends over months and years, from metrics by the hour (kept for three years).",
        [("", [
            _table(),
            _band("CPU", "선택한 호스트 전체의 CPU: 최저, 평균, 최고.", "CPU of all chosen hosts: lowest, mean, highest.", CPU),
            _band("Memory", "선택한 호스트 전체의 메모리 사용률: 최저, 평균, 최고.",
                  "Share of memory in use of all chosen hosts: lowest, mean, highest.", MEMORY),
        ]), ("Hosts", [
            _graph("CPU, mean", "호스트별 평균 CPU.", "Mean CPU of each host.", mean(CPU), **SHARE),
            _graph("CPU, highest", "호스트별 최고 CPU.", "The highest CPU of each host.", highest(CPU), **SHARE),
            _graph("Memory, mean", "호스트별 평균 메모리 사용률.", "Mean share of memory in use.", mean(MEMORY), **SHARE),
            _graph("Memory, highest", "호스트별 최고 메모리 사용률.", "The highest share of memory in use.", highest(MEMORY),
                   **SHARE),
            _graph("Load per core", "호스트별 평균 부하.", "Mean load of 1 minute divided by the cores.", mean(LOAD),
                   thresholds=panels.BUSY),
            _graph("Busiest disk", "가장 바쁜 디스크의 평균 사용률.", "How busy the busiest disk is, mean.", mean(disk), **SHARE),
            _graph("Received", "호스트별 평균 수신.", "Bytes received per second, mean.", mean(NET_IN)),
            _graph("Sent", "호스트별 평균 송신.", "Bytes sent per second, mean.", mean(NET_OUT)),
        ]), ("Filesystems", [
            _filesystems("Usage", "파일 시스템 사용률의 추세.", "How full filesystems became.", highest(FILESYSTEM), **SHARE),
            _filesystems("In use", "파일 시스템 사용량의 추세.", "Bytes in use, mean.", mean("system.filesystem.used.bytes")),
            _filesystems("Inodes", "inode 사용률의 추세.", "Share of inodes in use.", highest(INODES), **SHARE),
            _graph("Processes", "프로세스 수의 추세.", "Processes, mean.", mean("system.process.summary.total")),
        ])],
        source=METRICS_HOUR,
        chosen=[
            variables.item("mount", MOUNT, of("system.filesystem"), "Mount", METRICS_HOUR),
            variables.interval(("1h", "6h", "1d", "7d"), "1h"),
        ],
        since="now-90d", refresh="", averaged=False,
    )  # fmt: skip


def _table() -> panels.Table:
    means, most, full = [mean(CPU), mean(MEMORY)], [highest(CPU), highest(MEMORY)], [highest(FILESYSTEM)]
    shown = {
        "host.name": "Host",
        column(means, means[0]): "CPU, mean",
        column(most, most[0]): "CPU, highest",
        column(means, means[1]): "Memory, mean",
        column(most, most[1]): "Memory, highest",
        column(full, full[0]): "Fullest filesystem",
    }
    return panels.listing(
        "Hosts over this time", "선택한 기간의 평균과 최고. 한가한 호스트와 모자란 호스트를 찾기 위한 표.",
        "Means and highest values of the time range: who has too much, who too little.",
        [
            table("A", METRICS_HOUR, of("system.host"), means, BY_HOST),
            table("B", METRICS_HOUR, of("system.host"), most, BY_HOST),
            table("C", METRICS_HOUR, of("system.filesystem"), full, BY_HOST),
        ],
        shown, sort_by="CPU, mean",
        overrides=[
            panels.by_name("Host", links=links.of_host(links.column("host.name"))),
            *(panels.by_name(name, unit="percentunit", **panels.bar()) for name in list(shown.values())[1:]),
        ],
    )  # fmt: skip


def _graph(title: str, korean: str, english: str, figure: Figure, **how: Any) -> panels.Graph:
    query = over_time("A", METRICS_HOUR, of("system.host"), [figure], by=HOSTS, alias="{{host.name}}")
    overrides = [panels.linked(links.of_host())]
    return _drawn(title, korean, english, query, figure, overrides=overrides, **how).fill_opacity(0)


def _filesystems(title: str, korean: str, english: str, figure: Figure, **how: Any) -> panels.Graph:
    both = [Terms("host.name", 10), Terms(MOUNT, 10)]
    asked = of("system.filesystem", f"({MOUNT}:$mount)")
    query = over_time("A", METRICS_HOUR, asked, [figure], by=both, alias=f"{{{{host.name}}}} {{{{{MOUNT}}}}}")
    return _drawn(title, korean, english, query, figure, **how).fill_opacity(0)


def _band(title: str, korean: str, english: str, field: str) -> panels.Graph:
    figures = [lowest(field), mean(field), highest(field)]
    query = over_time("A", METRICS_HOUR, of("system.host"), figures, alias="{{field}}")
    names = [(r".*\.min$", "lowest"), (r".*\.avg$", "mean"), (r".*\.max$", "highest")]
    return _drawn(title, korean, english, query, figures[1], renames=names, **SHARE)


def _drawn(title: str, korean: str, english: str, query: Any, figure: Figure, **how: Any) -> panels.Graph:
    given = {"calcs": ("mean", "max"), **how}
    return panels.graph(title, korean, english, [query], unit_of(figure.field), field=figure.field, **given)
