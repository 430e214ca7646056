"""One host: every figure of it over time, its events, and the way to its page."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.builders.elasticsearch import Dataquery
from grafana_foundation_sdk.models import dashboard as model

from builder import links, panels, variables
from builder.fields import unit_of
from builder.fleet import (
    CPU,
    FILESYSTEM,
    INODES,
    LOAD,
    MEMORY,
    NOW,
    NOW_MINUTELY,
    SEEN,
)
from builder.queries import (
    ALERTS,
    HOST_MINUTE,
    LOGS,
    METRICS,
    Figure,
    Terms,
    avg,
    column,
    events,
    latest,
    over_time,
    table,
    top,
    total,
)

ME = "host.id:$host_id"
STATES = {
    "user": "blue",
    "nice": "light-blue",
    "system": "orange",
    "iowait": "red",
    "irq": "purple",
    "softirq": "light-purple",
    "steal": "dark-red",
}
"""Where CPU time goes, idle left out, and colours."""
MEMORY_COLOURS = {"used by programs": "orange", "cached": "blue", "buffers": "light-blue", "free": "green"}
NICS = Terms("system.network.name", 20)
DISKS = Terms("system.diskio.name", 20)
BELOW = "/ (out|write)$/"
"""Series that are drawn below zero."""
MOUNTS = Terms("system.filesystem.mount_point", 50)


def build() -> dashboard.Dashboard:
    """The dashboard ``ezadmin-host``."""
    made = dashboard.Dashboard("Host").uid(variables.HOST).tags([variables.TAG])
    made.description("호스트 한 대의 모든 수치와 이벤트. All figures and events of one host.")
    made.time("now-1h", "now").refresh("30s").timezone("browser").tooltip(model.DashboardCursorSync.CROSSHAIR)
    made.link(variables.other_dashboards())
    made.link(variables.same_hosts())
    made.link(
        variables.link(
            "Logs",
            f"${{ezadmin_url}}/logs/?host=${{host:percentencode}}&{links.TIMES}",
            "The log search of the web application for this host, same time",
        )
    )
    made.link(
        variables.link(
            "Graphs",
            f"${{ezadmin_url}}/graphs/?host=${{host:percentencode}}&{links.MILLISECONDS}",
            "Any figure of this host in the web application, same time",
        )
    )
    made.link(
        variables.link(
            "Host page",
            f"${{ezadmin_url}}/hosts/${{host_id:raw}}?{links.MILLISECONDS}",
            "This host in the web application: inventory",
        )
    )
    for variable in (variables.host(), variables.host_id(), variables.interval(), variables.web_url()):
        made.with_variable(variable)
    for number in _numbers():
        made.with_panel(number)
    for title, group in (
        ("CPU", _cpu()),
        ("Memory", _memory()),
        ("Network", _network()),
        ("Disks", _disks()),
        ("Filesystems", _filesystems()),
        ("Processes", _processes()),
        ("Connections", _connections()),
        ("Agent", _agent()),
        ("Alerts", _alerts()),
        ("Events", _events()),
    ):
        made.with_row(panels.row(title))
        for panel in group:
            made.with_panel(panel)
    return made


def of(dataset: str) -> str:
    """The chosen host's documents of a dataset."""
    return f"event.dataset:{dataset} AND {ME}"


def _numbers() -> list[panels.Number]:
    def now(figure: Figure, dataset: str = "system.host", seconds: int = NOW) -> Dataquery:
        return table("A", METRICS, latest(of(dataset), seconds), [figure], [Terms("host.name", 1)])

    return [
        panels.number(
            "CPU",
            "최근 2분 평균 CPU 사용률.",
            "Mean CPU of the last 2 minutes.",
            now(avg(CPU)),
            unit_of(CPU),
            thresholds=panels.FULL,
            decimals=1,
        ),
        panels.number(
            "Memory",
            "프로그램이 쓰는 메모리 비율.",
            "Share of memory in use by programs, caches not counted.",
            now(avg(MEMORY)),
            unit_of(MEMORY),
            thresholds=panels.FULL,
            decimals=1,
        ),
        panels.number(
            "Load per core",
            "코어당 1분 부하 평균.",
            "Load average of 1 minute divided by the cores.",
            now(avg(LOAD)),
            unit_of(LOAD),
            thresholds=panels.BUSY,
            decimals=2,
        ),
        panels.number(
            "Fullest filesystem",
            "가장 많이 찬 파일 시스템의 사용률.",
            "Usage of the fullest filesystem.",
            now(top(FILESYSTEM), "system.filesystem", NOW_MINUTELY),
            unit_of(FILESYSTEM),
            thresholds=panels.FULL,
            decimals=1,
        ),
        panels.number(
            "Cores",
            "논리 코어 수.",
            "Logical cores.",
            now(top("system.cpu.cores")),
            unit_of("system.cpu.cores"),
        ),
        panels.number(
            "Processes",
            "프로세스 수.",
            "Processes now.",
            now(avg("system.process.summary.total")),
            unit_of("system.process.summary.total"),
            decimals=0,
        ),
        panels.number(
            "Uptime",
            "부팅 후 지난 시간.",
            "Time since boot.",
            now(top("system.uptime.duration.ms")),
            unit_of("system.uptime.duration.ms"),
            decimals=1,
        ),
        panels.number(
            "Last data",
            "마지막으로 데이터를 보낸 시각.",
            "When the host last sent figures, in the time range.",
            table("A", METRICS, of("system.host"), [top("@timestamp")], [Terms("host.name", 1)]),
            unit_of("@timestamp"),
        ),
    ]


def _cpu() -> list[panels.Graph]:
    states = [avg(f"system.cpu.{state}.norm.pct") for state in STATES]
    loads = [avg("system.load.1"), avg("system.load.5"), avg("system.load.15"), avg("system.cpu.cores")]
    rates = ("context_switches", "interrupts", "soft_interrupts")
    return [
        panels.graph(
            "CPU by state",
            "CPU 시간이 쓰인 곳(모든 코어의 합, 유휴 제외).",
            "Where CPU time goes, all cores together, idle left out.",
            [over_time("A", METRICS, of("system.host"), states, alias="{{field}}")],
            unit_of(CPU),
            field=CPU,
            thresholds=panels.FULL,
            stacked=True,
            full=True,
            renames=[(r"system\.cpu\.(.*)\.norm\.pct", "$1")],
            overrides=[panels.by_name(state, color=panels.fixed(colour)) for state, colour in STATES.items()],
        ),
        panels.graph(
            "CPU by core",
            "코어별 사용률(1분마다 측정).",
            "How busy each core is, measured each minute.",
            [
                over_time(
                    "A",
                    METRICS,
                    of("system.core"),
                    [avg("system.core.total.pct")],
                    by=Terms("system.core.id", 256, by_value=True),
                    alias="core {{system.core.id}}",
                )
            ],
            unit_of("system.core.total.pct"),
            field="system.core.total.pct",
            thresholds=panels.FULL,
            full=True,
        ),
        panels.graph(
            "Load",
            "1분·5분·15분 부하 평균과 코어 수.",
            "Load averages; above the dashed line of cores, work waits.",
            [over_time("A", METRICS, of("system.host"), loads, alias="{{field}}")],
            unit_of("system.load.1"),
            field="system.load.1",
            renames=[(r"system\.load\.(\d+)", "$1 min"), (r"system\.cpu\.cores", "cores")],
            overrides=[_limit("cores")],
        ),
        panels.graph(
            "Context switches and interrupts",
            "초당 문맥 전환과 인터럽트 수.",
            "Context switches and interrupts per second.",
            [
                over_time(
                    "A",
                    METRICS,
                    of("system.host"),
                    [avg(f"system.cpu.{rate}_per_sec") for rate in rates],
                    alias="{{field}}",
                )
            ],
            unit_of("system.cpu.interrupts_per_sec"),
            field="system.cpu.interrupts_per_sec",
            renames=[(r"system\.cpu\.(.*)_per_sec", "$1")],
        ),
    ]


def _memory() -> list[panels.Graph]:
    ram = [avg(f"system.memory.{name}") for name in ("total", "actual.used.bytes", "cached", "buffers", "free")]
    swap = [avg("system.memory.swap.total"), avg("system.memory.swap.used.bytes")]
    paging = [avg("system.memory.swap.in.pages_per_sec"), avg("system.memory.swap.out.pages_per_sec")]
    return [
        panels.graph(
            "Memory",
            "메모리: 프로그램 사용량, 캐시, 버퍼, 빈 공간과 전체.",
            "Memory in use by programs, in caches and buffers, free, and in all.",
            [over_time("A", METRICS, of("system.host"), ram, alias="{{field}}")],
            unit_of("system.memory.total"),
            field="system.memory.total",
            renames=[(r"system\.memory\.actual\.used\.bytes", "used by programs"), (r"system\.memory\.(.*)", "$1")],
            overrides=[
                _limit("total"),
                *(panels.by_name(name, color=panels.fixed(colour)) for name, colour in MEMORY_COLOURS.items()),
            ],
        ),
        panels.graph(
            "Memory used",
            "프로그램과 스왑의 사용 비율, 80%와 90% 임계값.",
            "Shares of memory and swap in use, with thresholds at 80 and 90 %.",
            [
                over_time(
                    "A",
                    METRICS,
                    of("system.host"),
                    [avg(MEMORY), avg("system.memory.swap.used.pct")],
                    alias="{{field}}",
                )
            ],
            unit_of(MEMORY),
            field=MEMORY,
            thresholds=panels.FULL,
            full=True,
            renames=[(r"system\.memory\.actual\.used\.pct", "memory"), (r"system\.memory\.swap\.used\.pct", "swap")],
        ),
        panels.graph(
            "Swap",
            "스왑 사용량과 전체 크기.",
            "Swap in use and in all.",
            [over_time("A", METRICS, of("system.host"), swap, alias="{{field}}")],
            unit_of("system.memory.swap.total"),
            field="system.memory.swap.total",
            renames=[(r"system\.memory\.swap\.total", "total"), (r"system\.memory\.swap\.used\.bytes", "used")],
            overrides=[_limit("total")],
        ),
        panels.graph(
            "Swapping",
            "초당 스왑 페이지 수. 나간 페이지는 0 아래로 그림.",
            "Pages read from swap per second; pages written to it are drawn below zero.",
            [over_time("A", METRICS, of("system.host"), paging, alias="{{field}}")],
            unit_of("system.memory.swap.in.pages_per_sec"),
            field="system.memory.swap.in.pages_per_sec",
            renames=[(r"system\.memory\.swap\.(in|out)\.pages_per_sec", "$1")],
            mirrored="/^out$/",
        ),
    ]


def _network() -> list[panels.Graph]:
    traffic = [avg(f"system.network.{way}.bytes_per_sec") for way in ("in", "out")]
    packets = [avg(f"system.network.{way}.packets_per_sec") for way in ("in", "out")]
    faults = [avg(f"system.network.{way}.{what}_per_sec") for way in ("in", "out") for what in ("errors", "dropped")]
    query = of("system.network")
    return [
        panels.graph(
            "Network by interface",
            "인터페이스별 초당 바이트. 송신은 0 아래로 그림.",
            "Bytes per second of each interface; what is sent is drawn below zero.",
            [over_time("A", METRICS, query, traffic, by=NICS, alias="{{system.network.name}} {{field}}")],
            unit_of("system.network.in.bytes_per_sec"),
            field="system.network.in.bytes_per_sec",
            renames=[(r"(.*) system\.network\.(in|out)\.bytes_per_sec", "$1 $2")],
            mirrored=BELOW,
        ),
        panels.graph(
            "Packets by interface",
            "인터페이스별 초당 패킷. 송신은 0 아래로 그림.",
            "Packets per second of each interface; those sent are drawn below zero.",
            [over_time("A", METRICS, query, packets, by=NICS, alias="{{system.network.name}} {{field}}")],
            unit_of("system.network.in.packets_per_sec"),
            field="system.network.in.packets_per_sec",
            renames=[(r"(.*) system\.network\.(in|out)\.packets_per_sec", "$1 $2")],
            mirrored=BELOW,
        ),
        panels.graph(
            "Errors and drops",
            "인터페이스별 초당 오류와 버려진 패킷. 0이 정상.",
            "Faulty and dropped packets per second of each interface; zero is well.",
            [over_time("A", METRICS, query, faults, by=NICS, alias="{{system.network.name}} {{field}}")],
            unit_of("system.network.in.errors_per_sec"),
            field="system.network.in.errors_per_sec",
            renames=[(r"(.*) system\.network\.(in|out)\.(errors|dropped)_per_sec", "$1 $2 $3")],
        ),
        panels.graph(
            "Share of the link's speed",
            "링크 속도 대비 사용률(속도를 아는 인터페이스만).",
            "Busier direction against the negotiated speed, for interfaces that have one.",
            [
                over_time(
                    "A", METRICS, query, [avg("system.network.utilization")], by=NICS, alias="{{system.network.name}}"
                )
            ],
            unit_of("system.network.utilization"),
            field="system.network.utilization",
            thresholds=panels.FULL,
            full=True,
        ),
    ]


def _disks() -> list[panels.Graph]:
    query = of("system.diskio")
    rates = [avg(f"system.diskio.{way}.bytes_per_sec") for way in ("read", "write")]
    operations = [avg(f"system.diskio.{way}.count_per_sec") for way in ("read", "write")]
    return [
        panels.graph(
            "Disk throughput",
            "장치별 초당 읽기·쓰기 바이트. 쓰기는 0 아래로 그림.",
            "Bytes per second of each device; writes are drawn below zero.",
            [over_time("A", METRICS, query, rates, by=DISKS, alias="{{system.diskio.name}} {{field}}")],
            unit_of("system.diskio.read.bytes_per_sec"),
            field="system.diskio.read.bytes_per_sec",
            renames=[(r"(.*) system\.diskio\.(read|write)\.bytes_per_sec", "$1 $2")],
            mirrored=BELOW,
            legend=panels.BOTTOM,
            span=8,
        ),
        panels.graph(
            "Disk operations",
            "장치별 초당 읽기·쓰기 횟수. 쓰기는 0 아래로 그림.",
            "Operations per second of each device; writes are drawn below zero.",
            [over_time("A", METRICS, query, operations, by=DISKS, alias="{{system.diskio.name}} {{field}}")],
            unit_of("system.diskio.read.count_per_sec"),
            field="system.diskio.read.count_per_sec",
            renames=[(r"(.*) system\.diskio\.(read|write)\.count_per_sec", "$1 $2")],
            mirrored=BELOW,
            legend=panels.BOTTOM,
            span=8,
        ),
        panels.graph(
            "Disk utilization",
            "장치가 일한 시간의 비율.",
            "Share of time that each device had work.",
            [
                over_time(
                    "A", METRICS, query, [avg("system.diskio.io.utilization")], by=DISKS, alias="{{system.diskio.name}}"
                )
            ],
            unit_of("system.diskio.io.utilization"),
            field="system.diskio.io.utilization",
            thresholds=panels.FULL,
            full=True,
            legend=panels.BOTTOM,
            span=8,
        ),
    ]


def _filesystems() -> list[panels.Graph | panels.Table]:
    query = of("system.filesystem")
    figures = [
        top(FILESYSTEM),
        top(INODES),
        avg("system.filesystem.used.bytes"),
        avg("system.filesystem.available"),
        avg("system.filesystem.total"),
    ]
    names = ("Used", "Inodes used", "In use", "Available", "Size")
    shown = {"system.filesystem.mount_point": "Mounted on"}
    shown |= {column(figures, figure): name for figure, name in zip(figures, names, strict=True)}
    return [
        panels.listing(
            "Filesystems",
            "마운트별 현재 사용량(1분마다 측정).",
            "Each mount now, measured each minute.",
            [table("A", METRICS, latest(query, NOW_MINUTELY), figures, [MOUNTS])],
            shown,
            sort_by="Used",
            overrides=[
                panels.by_name("Used", unit=unit_of(FILESYSTEM), **panels.bar()),
                panels.by_name("Inodes used", unit=unit_of(INODES), **panels.bar()),
                *(
                    panels.by_name(name, unit=unit_of(figure.field), decimals=1, custom__width=100)
                    for name, figure in zip(names[2:], figures[2:], strict=True)
                ),
            ],
            span=12,
            height=8,
        ),
        panels.graph(
            "Filesystem usage",
            "마운트별 사용률, 80%와 90% 임계값.",
            "Usage of each mount over time, with thresholds at 80 and 90 %.",
            [over_time("A", METRICS, query, [top(FILESYSTEM)], by=MOUNTS, alias="{{system.filesystem.mount_point}}")],
            unit_of(FILESYSTEM),
            field=FILESYSTEM,
            thresholds=panels.FULL,
            full=True,
        ),
    ]


def _processes() -> list[panels.Graph]:
    counts = [
        avg(f"system.process.summary.{state}")
        for state in ("total", "running", "sleeping", "idle", "stopped", "zombie")
    ]
    threads = [avg(f"system.process.summary.threads.{state}") for state in ("running", "blocked")]
    return [
        panels.graph(
            "Processes by state",
            "상태별 프로세스 수.",
            "Processes by state.",
            [over_time("A", METRICS, of("system.host"), counts, alias="{{field}}")],
            unit_of("system.process.summary.total"),
            field="system.process.summary.total",
            renames=[(r"system\.process\.summary\.(.*)", "$1")],
        ),
        panels.graph(
            "Threads waiting",
            "실행 중이거나 디스크를 기다리는 스레드, 그리고 로그인 세션 수.",
            "Threads that run or wait for a core, threads that wait for a disk, and sessions of signed-in users.",
            [over_time("A", METRICS, of("system.host"), [*threads, avg("system.users.count")], alias="{{field}}")],
            unit_of("system.process.summary.threads.running"),
            field="system.process.summary.threads.running",
            renames=[(r"system\.process\.summary\.threads\.(.*)", "$1"), (r"system\.users\.count", "users")],
        ),
        _busiest(
            "CPU of the busiest processes",
            "CPU 상위 프로세스(1 = 코어 하나). 상위 5위에 든 동안만 그림.",
            "CPU of the busiest processes; 1 is one core. Drawn while they are among the five busiest or largest.",
            avg("system.process.cpu.total.pct"),
        ),
        _busiest(
            "Memory of the largest processes",
            "메모리 상위 프로세스(RSS). 상위 5위에 든 동안만 그림.",
            "Resident set of the largest processes. Drawn while they are among the five busiest or largest.",
            top("system.process.memory.rss.bytes"),
        ),
    ]


def _busiest(title: str, korean: str, english: str, figure: Figure) -> panels.Graph:
    by = Terms("process.name", 10)
    return panels.graph(
        title,
        korean,
        english,
        [over_time("A", METRICS, of("system.process"), [figure], by=by, alias="{{process.name}}")],
        unit_of(figure.field),
        field=figure.field,
        calcs=("mean", "max"),
    )


def _connections() -> list[panels.Graph]:
    tcp = "system.socket.summary.tcp"
    states = ("established", "time_wait", "close_wait", "syn_sent", "syn_recv", "fin_wait1", "fin_wait2", "last_ack")
    totals = [
        avg(f"{tcp}.all.count"),
        avg("system.socket.summary.udp.all.count"),
        avg("system.socket.summary.all.count"),
    ]
    names = [(r"system\.socket\.summary\.all\.count", "all"), (r"system\.socket\.summary\.(\w+)\.all\.count", "$1")]
    return [
        panels.graph(
            "Sockets",
            "TCP, UDP와 전체 소켓 수.",
            "TCP, UDP and all sockets.",
            [over_time("A", METRICS, of("system.host"), totals, alias="{{field}}")],
            unit_of(f"{tcp}.all.count"),
            field=f"{tcp}.all.count",
            renames=names,
        ),
        panels.graph(
            "TCP sockets by state",
            "상태별 TCP 소켓(1분마다 측정). CLOSE_WAIT가 계속 늘면 프로그램이 닫지 않는 것.",
            "TCP sockets by state, measured each minute. CLOSE_WAIT that only grows: a program does not close them.",
            [
                over_time(
                    "A", METRICS, of("system.host"), [avg(f"{tcp}.all.{state}") for state in states], alias="{{field}}"
                )
            ],
            unit_of(f"{tcp}.all.established"),
            field=f"{tcp}.all.established",
            renames=[(r"system\.socket\.summary\.tcp\.all\.(.*)", "$1")],
        ),
    ]


def _agent() -> list[panels.Graph]:
    return [
        _own("CPU of the agent", "에이전트의 CPU(1 = 코어 하나).", "1 is one core.",
             avg("ezadmin.agent.cpu.pct")),
        _own("Memory of the agent", "에이전트의 메모리(RSS).", "Its resident set.", top("ezadmin.agent.memory.rss.bytes")),
        _own("Spool in use", "보내지 못하고 쌓인 데이터의 비율.", "Share of the spool's cap in use: what could not be sent yet.",
             top("ezadmin.agent.spool.pct"), panels.FULL),
    ]  # fmt: skip


def _own(title: str, korean: str, english: str, figure: Figure, thresholds: panels.Steps | None = None) -> panels.Graph:
    return panels.graph(
        title,
        korean,
        english,
        [over_time("A", METRICS, of("ezadmin.agent"), [figure], alias=title)],
        unit_of(figure.field),
        field=figure.field,
        thresholds=thresholds,
        full=thresholds is not None,
        span=8,
        height=6,
        legend=panels.BOTTOM,
    )


def _alerts() -> list[panels.EventList]:
    return [
        panels.event_list(
            "Changes of state",
            "이 호스트의 최근 알림 100건.",
            "The newest 100 changes of state of this host: limits, no data, surges.",
            events("A", ALERTS, ME, 100),
            height=7,
        )
    ]


def _events() -> list[panels.Graph | panels.EventList]:
    levels = Terms("log.level", len(panels.LEVEL_COLOURS))
    return [
        panels.bars(
            "Events by level",
            "레벨별 이벤트 수(분 단위 집계, 무시된 것 포함).",
            "Events by level from the rollup by minute, those ignored or sampled away included.",
            over_time("A", HOST_MINUTE, ME, [total(SEEN)], by=levels, alias="{{log.level}}", interval="auto"),
            interval="1m",
            overrides=panels.level_overrides(),
            span=24,
            height=7,
        ),
        panels.event_list(
            "Recent events",
            "최근 이벤트 200건.",
            "The newest 200 events of the time range.",
            events("A", LOGS, ME, 200),
        ),
    ]


def _limit(name: str) -> tuple[model.MatcherConfig, list[model.DynamicConfigValue]]:
    """A series drawn as a limit: dashed, not filled."""
    return panels.by_name(
        name,
        color=panels.fixed("#8e8e8e"),
        custom__fillOpacity=0,
        custom__lineStyle={"fill": "dash", "dash": [10, 10]},
    )
