"""One subject, many hosts: CPU, memory, disks, network, processes, connections, cost of the agent."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import dashboard

from builder import links, panels, scope, variables
from builder.fields import unit_of
from builder.fleet import CPU, FILESYSTEM, INODES, LOAD, MEMORY, NOW, NOW_MINUTELY
from builder.queries import METRICS, Figure, Terms, avg, column, latest, over_time, table, top
from builder.scope import by_host, by_item, mixed, of

FULL = panels.FULL
SHARE: dict[str, Any] = {"thresholds": FULL, "full": True}
STATES = ("user", "nice", "system", "iowait", "irq", "softirq", "steal")
ROWS = 1000
TCP = "system.socket.summary.tcp.all"
TCP_STATES = (
    "established",
    "time_wait",
    "close_wait",
    "syn_sent",
    "syn_recv",
    "fin_wait1",
    "fin_wait2",
    "last_ack",
    "closing",
    "close",
    "listening",
)
COLLECTORS = (
    "cpu",
    "memory",
    "disk",
    "network",
    "process",
    "socket",
    "socketstate",
    "filesystem",
    "top",
    "processes",
)
"""Those of the agent's collectors that cost most."""


def built() -> list[dashboard.Dashboard]:
    """The dashboards."""
    return [_cpu(), _memory(), _disk(), _network(), _process(), _connections(), _agent()]


def _cpu() -> dashboard.Dashboard:
    core = "(system.core.id:$core)"
    states = [f"system.cpu.{state}.norm.pct" for state in STATES]
    busy: scope.Sections = [("", [
        by_host("CPU", "평균 CPU 사용률이 높은 호스트 순.", "Share of time that all cores were busy, busiest hosts first.",
                avg(CPU), **SHARE, span=24, height=9),
        by_host("Load per core", "코어당 1분 부하 평균. 1을 넘으면 대기가 생김.",
                "Load of 1 minute divided by the cores; above 1, work waits.", avg(LOAD), thresholds=panels.BUSY),
        mixed("Where time goes", "CPU 시간이 쓰인 곳, 선택한 호스트의 평균.", "Where CPU time goes, mean of the chosen hosts.",
              states, thresholds=FULL, stacked=True, full=True, renames=[(r"system\.cpu\.(.*)\.norm\.pct", "$1")]),
    ])]  # fmt: skip
    why: scope.Sections = [("Why it waits", [
        by_host("Waiting for disks", "디스크를 기다린 시간의 비율.", "Share of time idle while a disk is waited for.",
                avg("system.cpu.iowait.norm.pct")),
        by_host("Taken by the hypervisor", "하이퍼바이저가 다른 VM에 준 시간의 비율.",
                "Steal: share of time that the hypervisor gave to other machines.", avg("system.cpu.steal.norm.pct")),
        by_host("Context switches", "초당 문맥 전환.", "Context switches per second.",
                avg("system.cpu.context_switches_per_sec")),
        by_host("Interrupts", "초당 인터럽트.", "Interrupts per second.", avg("system.cpu.interrupts_per_sec")),
    ])]  # fmt: skip
    cores: scope.Sections = [("Cores", [
        by_item("Busiest cores", "가장 바쁜 코어(호스트 10대, 코어 10개까지, 1분마다 측정).",
                "The busiest cores (10 hosts, 10 cores each), measured each minute.", top("system.core.total.pct"),
                "system.core", "system.core.id", core, **SHARE, span=24, height=9),
    ])]  # fmt: skip
    return scope.build(
        "ezadmin-cpu", "CPU", "호스트별 CPU 사용률, 부하, 대기, 코어.", "CPU of many hosts: use, load, waiting, cores.",
        [*busy, *why, *cores],
        chosen=[variables.item("core", "system.core.id", of("system.core"), "Core")],
    )  # fmt: skip


def _memory() -> dashboard.Dashboard:
    swap = "system.memory.swap"
    parts = ["system.memory.actual.used.bytes", "system.memory.cached", "system.memory.buffers", "system.memory.free"]
    return scope.build(
        "ezadmin-memory", "Memory", "호스트별 메모리와 스왑.", "Memory and swap of many hosts.",
        [("", [
            by_host("Memory used", "프로그램이 쓰는 메모리 비율(캐시 제외).",
                    "Share of memory in use by programs, caches not counted.", avg(MEMORY), **SHARE, span=24, height=9),
            by_host("Available", "프로그램이 더 쓸 수 있는 메모리.", "Memory that programs can still get.",
                    Figure("min", "system.memory.actual.free")),
            mixed("What it is used for", "메모리 용도, 선택한 호스트의 평균.",
                  "What memory is used for, mean of the chosen hosts.", parts,
                  renames=[(r"system\.memory\.actual\.used\.bytes", "programs"), (r"system\.memory\.(.*)", "$1")]),
        ]), ("Swap", [
            by_host("Swap used", "스왑 사용 비율.", "Share of swap in use.", avg(f"{swap}.used.pct"), **SHARE),
            by_host("Read from swap", "초당 스왑에서 읽은 페이지. 계속되면 메모리가 부족함.",
                    "Pages read from swap per second: if it lasts, memory is short.", avg(f"{swap}.in.pages_per_sec")),
            by_host("Written to swap", "초당 스왑에 쓴 페이지.", "Pages written to swap per second.",
                    avg(f"{swap}.out.pages_per_sec")),
            by_host("Swap in use", "스왑 사용량.", "Swap in use, bytes.", avg(f"{swap}.used.bytes")),
        ])],
    )  # fmt: skip


def _disk() -> dashboard.Dashboard:
    device, mount = "system.diskio.name:$device", "system.filesystem.mount_point:$mount"
    return scope.build(
        "ezadmin-disk", "Disks", "호스트별 파일 시스템과 디스크 입출력.", "Filesystems and disk throughput of many hosts.",
        [("Filesystems", [
            _filesystems(),
            by_item("Filesystem usage", "가장 많이 찬 파일 시스템, 80%와 90% 임계값.",
                    "The fullest filesystems over time, with thresholds at 80 and 90 %.", top(FILESYSTEM),
                    "system.filesystem", "system.filesystem.mount_point", f"({mount})", **SHARE),
            by_item("Inode usage", "inode 사용 비율.", "Share of inodes in use.", top(INODES),
                    "system.filesystem", "system.filesystem.mount_point", f"({mount})", **SHARE),
        ]), ("Devices", [
            by_item("Utilization", "장치가 일한 시간의 비율.", "Share of time that each device had work.",
                    avg("system.diskio.io.utilization"), "system.diskio", "system.diskio.name", f"({device})", **SHARE,
                    span=24),
            by_item("Read", "장치별 초당 읽기 바이트.", "Bytes read per second.", avg("system.diskio.read.bytes_per_sec"),
                    "system.diskio", "system.diskio.name", f"({device})"),
            by_item("Written", "장치별 초당 쓰기 바이트.", "Bytes written per second.",
                    avg("system.diskio.write.bytes_per_sec"), "system.diskio", "system.diskio.name", f"({device})"),
            by_item("Read operations", "장치별 초당 읽기 횟수.", "Read operations per second.",
                    avg("system.diskio.read.count_per_sec"), "system.diskio", "system.diskio.name", f"({device})"),
            by_item("Write operations", "장치별 초당 쓰기 횟수.", "Write operations per second.",
                    avg("system.diskio.write.count_per_sec"), "system.diskio", "system.diskio.name", f"({device})"),
        ])],
        chosen=[
            variables.item("mount", "system.filesystem.mount_point", of("system.filesystem"), "Mount"),
            variables.item("device", "system.diskio.name", of("system.diskio"), "Device"),
        ],
    )  # fmt: skip


def _filesystems() -> panels.Table:
    mount = "system.filesystem.mount_point"
    figures = [top(FILESYSTEM), top(INODES), avg("system.filesystem.available"), avg("system.filesystem.total")]
    names = ("Used", "Inodes used", "Available", "Size")
    shown = {"host.name": "Host", mount: "Mounted on"}
    shown |= {column(figures, figure): name for figure, name in zip(figures, names, strict=True)}
    query = latest(of("system.filesystem", f"({mount}:$mount)"), NOW_MINUTELY)
    return panels.listing(
        "Fullest filesystems now", "지금 가장 많이 찬 파일 시스템(최근 4분). 호스트 이름을 누르면 이동.",
        "The fullest filesystems now (last 4 minutes). A click on the host leads to it.",
        [table("A", METRICS, query, figures, [Terms("host.name", ROWS), Terms(mount, 50)])],
        shown, sort_by="Used", height=10,
        overrides=[
            panels.by_name("Host", links=links.of_host(links.column("host.name"))),
            panels.by_name("Used", unit=unit_of(FILESYSTEM), **panels.bar()),
            panels.by_name("Inodes used", unit=unit_of(INODES), **panels.bar()),
            panels.by_name("Available", unit="bytes", decimals=1, custom__width=120),
            panels.by_name("Size", unit="bytes", decimals=1, custom__width=120),
        ],
    )  # fmt: skip


def _network() -> dashboard.Dashboard:
    total, nic, name = "system.network.total", "(system.network.name:$nic)", "system.network.name"
    trouble = [f"{total}.{way}.{what}_per_sec" for way in ("in", "out") for what in ("errors", "dropped")]
    return scope.build(
        "ezadmin-network", "Network", "호스트와 인터페이스별 송수신, 오류.", "Traffic and errors of many hosts and interfaces.",
        [("", [
            by_host("Received", "호스트별 초당 수신 바이트.", "Bytes received per second, all hardware NICs.",
                    avg(f"{total}.in.bytes_per_sec")),
            by_host("Sent", "호스트별 초당 송신 바이트.", "Bytes sent per second, all hardware NICs.",
                    avg(f"{total}.out.bytes_per_sec")),
            by_host("Packets received", "초당 수신 패킷.", "Packets received per second.",
                    avg(f"{total}.in.packets_per_sec")),
            by_host("Packets sent", "초당 송신 패킷.", "Packets sent per second.", avg(f"{total}.out.packets_per_sec")),
        ]), ("Trouble", [
            by_host("Errors received", "초당 수신 오류. 0이 정상.", "Packets not received because of an error; zero is well.",
                    top(f"{total}.in.errors_per_sec")),
            mixed("Errors and drops", "초당 오류와 버려진 패킷, 선택한 호스트의 평균.",
                  "Faulty and dropped packets per second, mean of the chosen hosts.", trouble,
                  renames=[(r"system\.network\.total\.(in|out)\.(errors|dropped)_per_sec", "$1 $2")]),
        ]), ("Interfaces", [
            by_item("Share of the link's speed", "링크 속도 대비 사용률.",
                    "Busier direction against the negotiated speed, where it is known.", avg("system.network.utilization"),
                    "system.network", name, nic, **SHARE, span=24),
            by_item("Received by interface", "인터페이스별 초당 수신 바이트.", "Bytes received per second.",
                    avg("system.network.in.bytes_per_sec"), "system.network", name, nic),
            by_item("Sent by interface", "인터페이스별 초당 송신 바이트.", "Bytes sent per second.",
                    avg("system.network.out.bytes_per_sec"), "system.network", name, nic),
        ])],
        chosen=[variables.item("nic", name, of("system.network"), "Interface")],
    )  # fmt: skip


def _process() -> dashboard.Dashboard:
    name, query = "process.name", of("system.process", "(process.name:$process)")
    figures = [avg("system.process.cpu.total.pct"), top("system.process.cpu.total.pct"),
               top("system.process.memory.rss.bytes"), top("system.process.memory.rss.pct")]  # fmt: skip
    names = ("CPU, mean", "CPU, highest", "Memory", "Share of memory")
    shown = {"host.name": "Host", name: "Process"}
    shown |= {column(figures, figure): title for figure, title in zip(figures, names, strict=True)}
    summary = "system.process.summary"
    return scope.build(
        "ezadmin-process", "Processes", "호스트별 프로세스: CPU와 메모리를 많이 쓰는 것, 상태별 수.",
        "Processes of many hosts: the busiest, the largest, how many in which state.",
        [("", [
            panels.listing(
                "Busiest processes",
                "CPU 또는 메모리 상위 5위에 든 프로세스(호스트·이름별, 1 = 코어 하나).",
                "Processes that were among the five busiest or largest of their host, by name; 1 is one core. The mean is "
                "that of the ticks in which they were among them.",
                [table("A", METRICS, query, figures, [Terms("host.name", 50), Terms(name, 20)])],
                shown, sort_by="CPU, mean", height=11,
                overrides=[
                    panels.by_name("Host", links=links.of_host(links.column("host.name"))),
                    panels.by_name("CPU, mean", unit="percentunit", decimals=1),
                    panels.by_name("CPU, highest", unit="percentunit", decimals=1),
                    panels.by_name("Memory", unit="bytes", decimals=1),
                    panels.by_name("Share of memory", unit="percentunit", decimals=1),
                ],
            ),
            by_item("CPU by process", "프로세스별 CPU(1 = 코어 하나).", "CPU of the busiest processes; 1 is one core.",
                    avg("system.process.cpu.total.pct"), "system.process", name, "(process.name:$process)"),
            by_item("Memory by process", "프로세스별 메모리(RSS).", "Resident set of the largest processes.",
                    top("system.process.memory.rss.bytes"), "system.process", name, "(process.name:$process)"),
        ]), ("How many", [
            by_host("Processes", "프로세스 수.", "Processes.", avg(f"{summary}.total")),
            by_host("Zombies", "부모가 거두지 않은 프로세스.", "Processes that ended and whose parent did not ask how.",
                    top(f"{summary}.zombie")),
            by_host("Threads that want a core", "실행 중이거나 코어를 기다리는 스레드.", "Threads that run or wait for a core.",
                    avg(f"{summary}.threads.running")),
            by_host("Threads that wait for a disk", "디스크를 기다리는 스레드.", "Threads that wait for a disk.",
                    avg(f"{summary}.threads.blocked")),
        ])],
        chosen=[variables.item("process", name, of("system.process"), "Process")],
    )  # fmt: skip


def _connections() -> dashboard.Dashboard:
    return scope.build(
        "ezadmin-connections", "Connections", "호스트별 TCP·UDP 소켓과 상태.", "TCP and UDP sockets of many hosts, by state.",
        [("", [
            by_host("TCP sockets", "TCP 소켓 수.", "TCP sockets, IPv4 and IPv6.", avg(f"{TCP}.count"), span=24, height=9),
            by_host("Established", "연결된 TCP 소켓(1분마다).", "Established TCP connections, each minute.",
                    avg(f"{TCP}.established")),
            by_host("Waiting after their end", "TIME_WAIT 소켓.", "TCP sockets in TIME_WAIT.", avg(f"{TCP}.time_wait")),
            by_host("Waiting to be closed", "CLOSE_WAIT 소켓. 계속 늘면 프로그램이 닫지 않는 것.",
                    "TCP sockets in CLOSE_WAIT: if they only grow, a program does not close them.",
                    avg(f"{TCP}.close_wait")),
            by_host("Orphans", "어떤 프로세스도 갖지 않은 TCP 소켓.", "TCP sockets that no process holds any more.",
                    avg(f"{TCP}.orphan")),
            mixed("TCP sockets by state", "상태별 TCP 소켓, 선택한 호스트의 평균.",
                  "TCP sockets by state, mean of the chosen hosts.", [f"{TCP}.{state}" for state in TCP_STATES[:8]],
                  renames=[(r"system\.socket\.summary\.tcp\.all\.(.*)", "$1")]),
            by_host("UDP sockets", "UDP 소켓 수.", "UDP sockets.", avg("system.socket.summary.udp.all.count")),
            by_host("Memory of TCP sockets", "TCP 소켓이 쓰는 메모리.", "Memory of TCP sockets.",
                    avg("system.socket.summary.tcp.memory")),
            by_host("Memory of UDP sockets", "UDP 소켓이 쓰는 메모리.", "Memory of UDP sockets.",
                    avg("system.socket.summary.udp.memory")),
        ])],
    )  # fmt: skip


def _agent() -> dashboard.Dashboard:
    own, dataset = "ezadmin.agent", "ezadmin.agent"
    costs = [f"{own}.collector.{name}.cpu.ms" for name in COLLECTORS[:8]]
    now = [avg(f"{own}.cpu.pct"), top(f"{own}.memory.rss.bytes"), top(f"{own}.spool.pct"), top(f"{own}.queue.lines"),
           top(f"{own}.governor.stretch")]  # fmt: skip
    names = ("CPU", "Memory", "Spool", "Lines that wait", "Stretch")
    shown = {"host.name": "Host"} | {column(now, figure): name for figure, name in zip(now, names, strict=True)}
    return scope.build(
        "ezadmin-agent", "Agent cost", "에이전트가 쓰는 CPU·메모리와 밀린 데이터.",
        "What the agents cost, and what waits in their spools.",
        [("", [
            panels.listing(
                "Agents now", "에이전트별 최근 값(최근 4분). 1 = 코어 하나.",
                "Each agent in the last 4 minutes; 1 is one core. Stretch above 1: it measures less often because it costs "
                "too much.",
                [table("A", METRICS, latest(of(dataset), NOW + NOW), now, [Terms("host.name", ROWS)])], shown, sort_by="CPU",
                overrides=[
                    panels.by_name("Host", links=links.of_host(links.column("host.name"))),
                    panels.by_name("CPU", unit="percentunit", decimals=2),
                    panels.by_name("Memory", unit="bytes", decimals=1),
                    panels.by_name("Spool", unit="percentunit", **panels.bar()),
                    panels.by_name("Lines that wait", unit="short"),
                    panels.by_name("Stretch", unit="short"),
                ],
            ),
            by_host("CPU of the agent", "에이전트의 CPU(1 = 코어 하나).", "CPU of the agent; 1 is one core.",
                    avg(f"{own}.cpu.pct"), dataset),
            by_host("Memory of the agent", "에이전트의 메모리(RSS).", "Resident set of the agent.",
                    avg(f"{own}.memory.rss.bytes"), dataset),
            panels.graph(
                "CPU by collector", "수집기별 CPU 시간(1분마다, 선택한 호스트의 평균).",
                "CPU time of the collectors in each minute, mean of the chosen hosts.",
                [over_time("A", METRICS, of(dataset), [avg(cost) for cost in costs], alias="{{field}}")], unit_of(costs[0]),
                field=costs[0], renames=[(r"ezadmin\.agent\.collector\.(.*)\.cpu\.ms", "$1")],
            ),
            by_host("Time of collectors", "수집기가 걸린 시간.", "Time that collectors took by the clock, each minute.",
                    avg(f"{own}.collectors.ms"), dataset),
        ]), ("What waits", [
            by_host("Lines that Kafka has not taken", "Kafka가 아직 받지 않은 줄.", "Lines that Kafka has not acknowledged.",
                    top(f"{own}.queue.lines"), dataset),
            by_host("Spool in use", "스풀 상한 대비 사용률.", "Share of the spool's cap that is in use.",
                    top(f"{own}.spool.pct"), dataset, **SHARE),
            by_host("Failed runs of collectors", "실패한 수집.", "Runs of collectors that failed.",
                    top(f"{own}.collectors.errors"), dataset),
            by_host("Stretch", "수집 간격이 늘어난 배수.", "How many times less often the rarest collector runs; 1 is normal.",
                    top(f"{own}.governor.stretch"), dataset),
        ])],
    )  # fmt: skip
