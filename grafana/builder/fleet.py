"""Fleet overview: which hosts report, which are near a limit, what events there are."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as model

from builder import links, panels, variables
from builder.fields import unit_of
from builder.queries import (
    FLEET_HOUR,
    FLEET_MINUTE,
    HOST_MINUTE,
    METRICS,
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

CPU = "system.cpu.total.norm.pct"
MEMORY = "system.memory.actual.used.pct"
LOAD = "system.load.norm.1"
FILESYSTEM = "system.filesystem.used.pct"
INODES = "system.filesystem.used_files.pct"
NET_IN = "system.network.total.in.bytes_per_sec"
NET_OUT = "system.network.total.out.bytes_per_sec"
SEEN = "events.seen"

HOSTS = "event.dataset:system.host"
FILESYSTEMS = "event.dataset:system.filesystem"
SEVERE = "log.level:(emergency OR alert OR critical OR error)"
NOW = 120
"""Seconds that count as "now": room for a host whose tick is a minute."""
NOW_MINUTELY = 240
"""The same for figures that are measured each minute."""
TOP = 10


def build() -> dashboard.Dashboard:
    """The dashboard ``ezadmin-fleet``."""
    made = dashboard.Dashboard("Fleet overview").uid(variables.FLEET).tags([variables.TAG])
    made.description("모든 호스트의 현재 상태와 이벤트. All hosts: state now, busiest over time, events by level.")
    made.time("now-1h", "now").refresh("30s").timezone("browser").tooltip(model.DashboardCursorSync.CROSSHAIR)
    made.link(variables.other_dashboards())
    made.link(variables.link("Hosts in ezadmin", "${ezadmin_url}/hosts/", "The host list of the web application"))
    made.with_variable(variables.interval()).with_variable(variables.web_url())
    for panel in (*_numbers(), _hosts()):
        made.with_panel(panel)
    made.with_row(panels.row("Busiest hosts"))
    for panel in _busiest():
        made.with_panel(panel)
    made.with_row(panels.row("Events"))
    for panel in _events():
        made.with_panel(panel)
    return made


def _numbers() -> list[panels.Number]:
    dataset = [Terms("event.dataset", 1)]
    rollup = [Terms("rollup", 1)]
    worst = [Terms("event.dataset", 1)]
    return [
        panels.number(
            "Hosts reporting",
            "최근 2분 안에 데이터를 보낸 호스트 수.",
            "Hosts that sent figures in the last 2 minutes of the time range.",
            table("A", METRICS, latest(HOSTS, NOW), [distinct("host.id")], dataset),
            "short",
            empty="0",
            span=4,
        ),
        panels.number(
            "Hosts seen",
            "선택한 기간에 한 번이라도 데이터를 보낸 호스트 수.",
            "Hosts that sent figures at any time of the time range; more than are reporting means that some fell silent.",
            table("A", METRICS, HOSTS, [distinct("host.id")], dataset),
            "short",
            empty="0",
            span=4,
        ),
        panels.number(
            "Highest CPU",
            "최근 2분 동안 가장 바쁜 표본의 CPU 사용률.",
            "CPU of the busiest host, highest sample of the last 2 minutes.",
            table("A", METRICS, latest(HOSTS, NOW), [top(CPU)], worst),
            unit_of(CPU),
            thresholds=panels.FULL,
            decimals=1,
            span=4,
        ),
        panels.number(
            "Fullest filesystem",
            "가장 많이 찬 파일 시스템의 사용률.",
            "Usage of the fullest filesystem of any host.",
            table("A", METRICS, latest(FILESYSTEMS, NOW_MINUTELY), [top(FILESYSTEM)], worst),
            unit_of(FILESYSTEM),
            thresholds=panels.FULL,
            decimals=1,
            span=4,
        ),
        panels.number(
            "Events",
            "선택한 기간의 이벤트 수(무시·표본 처리된 것 포함, 분 단위 집계에서 합산).",
            "Events of the time range, also those ignored or sampled away; summed from the rollup by minute.",
            table("A", FLEET_MINUTE, "rollup:logs\\-fleet\\-1m", [total(SEEN)], rollup),
            "short",
            empty="0",
            span=4,
        ),
        panels.number(
            "Errors and worse",
            "선택한 기간의 error 이상 이벤트 수.",
            "Events of level error, critical, alert or emergency in the time range.",
            table("A", FLEET_MINUTE, SEVERE, [total(SEEN)], rollup),
            "short",
            thresholds=((None, "text"), (1, "red")),
            empty="0",
            span=4,
        ),
    ]


def _hosts() -> panels.Table:
    by = [Terms("host.id", variables.HOST_LIMIT), Terms("host.name", 1)]
    seen = [top("@timestamp")]
    now = [avg(CPU), avg(MEMORY), avg(LOAD), avg(NET_IN), avg(NET_OUT)]
    disks = [top(FILESYSTEM), top(INODES)]
    columns = {
        "host.name": "Host",
        column(now, now[0]): "CPU",
        column(now, now[1]): "Memory",
        column(now, now[2]): "Load per core",
        column(disks, disks[0]): "Fullest filesystem",
        column(disks, disks[1]): "Fullest inodes",
        column(now, now[3]): "Received",
        column(now, now[4]): "Sent",
        column(seen, seen[0]): "Last data",
        "host.id": "host.id",
    }
    leads = links.of_host(links.column("host.name"), page=links.column("host.id"))
    return panels.listing(
        "Hosts",
        "호스트별 현재 값(최근 2분 평균, 파일 시스템은 최근 4분의 최댓값). 이름을 누르면 호스트 대시보드나 호스트 페이지로 이동.",
        "Each host now: mean of the last 2 minutes, filesystems the fullest of the last 4. A click on the name leads to its "
        "dashboard or host page. A host without figures has fallen silent: see its last data.",
        [
            table("A", METRICS, HOSTS, seen, by),
            table("B", METRICS, latest(HOSTS, NOW), now, by),
            table("C", METRICS, latest(FILESYSTEMS, NOW_MINUTELY), disks, by),
        ],
        columns,
        sort_by="CPU",
        overrides=[
            panels.by_name("Host", links=leads, custom__minWidth=160),
            panels.by_name("CPU", unit=unit_of(CPU), **panels.bar()),
            panels.by_name("Memory", unit=unit_of(MEMORY), **panels.bar()),
            panels.by_name("Fullest filesystem", unit=unit_of(FILESYSTEM), **panels.bar()),
            panels.by_name("Fullest inodes", unit=unit_of(INODES), **panels.bar()),
            panels.by_name(
                "Load per core",
                unit=unit_of(LOAD),
                decimals=2,
                thresholds=panels.steps(panels.BUSY),
                custom__displayMode="color-text",
                custom__width=135,
            ),
            panels.by_name("Received", unit=unit_of(NET_IN), decimals=1, custom__width=110),
            panels.by_name("Sent", unit=unit_of(NET_OUT), decimals=1, custom__width=110),
            panels.by_name("Last data", unit=unit_of("@timestamp"), custom__width=140),
            panels.by_name("host.id", custom__hidden=True),
        ],
    )


def _busiest() -> list[panels.Graph]:
    hosts = Terms("host.name", TOP)
    return [
        panels.graph(
            "CPU of the busiest hosts",
            "평균 CPU 사용률이 가장 높은 호스트 10대.",
            "The 10 hosts with the highest mean CPU.",
            [over_time("A", METRICS, HOSTS, [avg(CPU)], by=hosts, alias="{{host.name}}")],
            unit_of(CPU),
            field=CPU,
            legend=panels.BOTTOM,
            calcs=(),
            thresholds=panels.FULL,
            full=True,
        ),
        panels.graph(
            "Memory of the fullest hosts",
            "프로그램이 쓰는 메모리 비율이 가장 높은 호스트 10대.",
            "The 10 hosts with the largest share of memory in use by programs.",
            [over_time("A", METRICS, HOSTS, [avg(MEMORY)], by=hosts, alias="{{host.name}}")],
            unit_of(MEMORY),
            field=MEMORY,
            legend=panels.BOTTOM,
            calcs=(),
            thresholds=panels.FULL,
            full=True,
        ),
        panels.graph(
            "Network of the busiest hosts",
            "수신량이 가장 많은 호스트 5대. 송신은 0 아래로 그림.",
            "The 5 hosts that receive most; what they send is drawn below zero.",
            [
                over_time(
                    "A",
                    METRICS,
                    HOSTS,
                    [avg(NET_IN), avg(NET_OUT)],
                    by=Terms("host.name", 5),
                    alias="{{host.name}} {{field}}",
                )
            ],
            unit_of(NET_IN),
            field=NET_IN,
            legend=panels.BOTTOM,
            calcs=(),
            renames=[(r"(.*) system\.network\.total\.(in|out)\.bytes_per_sec", "$1 $2")],
            mirrored="/ out$/",
        ),
        panels.graph(
            "Fullest filesystems",
            "파일 시스템이 가장 많이 찬 호스트 10대.",
            "The 10 hosts with the fullest filesystem.",
            [over_time("A", METRICS, FILESYSTEMS, [top(FILESYSTEM)], by=hosts, alias="{{host.name}}")],
            unit_of(FILESYSTEM),
            field=FILESYSTEM,
            legend=panels.BOTTOM,
            calcs=(),
            thresholds=panels.FULL,
            full=True,
        ),
    ]


def _events() -> list[panels.Graph]:
    levels = Terms("log.level", len(panels.LEVEL_COLOURS))
    return [
        panels.bars(
            "Events by level",
            "전체 호스트의 레벨별 이벤트 수(분 단위 집계).",
            "Events of all hosts by level, from the rollup by minute.",
            over_time("A", FLEET_MINUTE, "*", [total(SEEN)], by=levels, alias="{{log.level}}", interval="auto"),
            interval="1m",
            overrides=panels.level_overrides(),
        ),
        panels.bars(
            "Events by host",
            "이벤트가 가장 많은 호스트 10대(분 단위 집계).",
            "The 10 hosts with most events, from the rollup by minute and host.",
            over_time(
                "A", HOST_MINUTE, "*", [total(SEEN)], by=Terms("host.name", TOP), alias="{{host.name}}", interval="auto"
            ),
            interval="1m",
        ),
        panels.bars(
            "Errors by host",
            "error 이상 이벤트가 가장 많은 호스트 10대.",
            "The 10 hosts with most events of level error and worse.",
            over_time(
                "A",
                HOST_MINUTE,
                SEVERE,
                [total(SEEN)],
                by=Terms("host.name", TOP),
                alias="{{host.name}}",
                interval="auto",
            ),
            interval="1m",
        ),
        panels.bars(
            "Events by level, last 30 days",
            "최근 30일의 레벨별 이벤트 수(시간 단위 집계).",
            "Events of all hosts by level over 30 days, from the rollup by hour.",
            over_time("A", FLEET_HOUR, "*", [total(SEEN)], by=levels, alias="{{log.level}}", interval="auto"),
            interval="1h",
            overrides=panels.level_overrides(),
        ).time_from("30d"),
    ]
