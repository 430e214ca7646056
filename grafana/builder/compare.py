"""Several hosts, laid over each other: the same figures, one line each."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import dashboard

from builder import links, panels, scope
from builder.fields import unit_of
from builder.fleet import CPU, FILESYSTEM, LOAD, MEMORY, NOW_MINUTELY
from builder.queries import METRICS, Terms, avg, column, latest, table, top
from builder.scope import by_host, of

LINES = Terms("host.name", 50)
SHARE: dict[str, Any] = {"thresholds": panels.FULL, "full": True}


def build() -> dashboard.Dashboard:
    """The dashboard ``ezadmin-compare``."""
    network, disk = "system.network.total", "system.diskio.total"
    return scope.build(
        "ezadmin-compare", "Host comparison", "고른 호스트(최대 50대)를 한 그래프에 겹쳐 비교. 위에서 호스트를 고르세요.",
        "The hosts chosen above (up to 50), laid over each other.",
        [("", [
            _now(),
            by_host("CPU", "CPU 사용률.", "CPU of each host.", avg(CPU), hosts=LINES, **SHARE),
            by_host("Memory", "프로그램이 쓰는 메모리 비율.", "Share of memory in use by programs.", avg(MEMORY), hosts=LINES,
                    **SHARE),
            by_host("Load per core", "코어당 부하.", "Load of 1 minute divided by the cores.", avg(LOAD), hosts=LINES,
                    thresholds=panels.BUSY),
            by_host("Fullest filesystem", "가장 많이 찬 파일 시스템.", "The fullest filesystem of each host.", top(FILESYSTEM),
                    "system.filesystem", hosts=LINES, **SHARE),
            by_host("Received", "초당 수신 바이트.", "Bytes received per second.", avg(f"{network}.in.bytes_per_sec"),
                    hosts=LINES),
            by_host("Sent", "초당 송신 바이트.", "Bytes sent per second.", avg(f"{network}.out.bytes_per_sec"), hosts=LINES),
            by_host("Read", "초당 읽기 바이트.", "Bytes read from disks per second.", avg(f"{disk}.read.bytes_per_sec"),
                    hosts=LINES),
            by_host("Written", "초당 쓰기 바이트.", "Bytes written to disks per second.", avg(f"{disk}.write.bytes_per_sec"),
                    hosts=LINES),
            by_host("Busiest disk", "가장 바쁜 디스크의 사용률.", "How busy the busiest disk is.", avg(f"{disk}.utilization"),
                    hosts=LINES, **SHARE),
            by_host("Swap used", "스왑 사용 비율.", "Share of swap in use.", avg("system.memory.swap.used.pct"), hosts=LINES,
                    **SHARE),
            by_host("Processes", "프로세스 수.", "Processes.", avg("system.process.summary.total"), hosts=LINES),
            by_host("TCP sockets", "TCP 소켓 수.", "TCP sockets.", avg("system.socket.summary.tcp.all.count"), hosts=LINES),
        ])],
    )  # fmt: skip


def _now() -> panels.Table:
    by = [LINES]
    means = [avg(CPU), avg(MEMORY), avg(LOAD)]
    most = [top(CPU), top("system.cpu.cores"), top("system.memory.total"), top("system.uptime.duration.ms")]
    fullest = [top(FILESYSTEM)]
    shown = {
        "host.name": "Host",
        column(means, means[0]): "CPU, mean",
        column(most, most[0]): "CPU, highest",
        column(means, means[1]): "Memory",
        column(means, means[2]): "Load per core",
        column(fullest, fullest[0]): "Fullest filesystem",
        column(most, most[1]): "Cores",
        column(most, most[2]): "Size of memory",
        column(most, most[3]): "Uptime",
    }
    return panels.listing(
        "Side by side", "선택한 기간의 평균과 최댓값(파일 시스템은 최근 4분), 그리고 크기.",
        "Means and highest values of the time range (filesystems: last 4 minutes), and how large each host is.",
        [
            table("A", METRICS, of("system.host"), means, by),
            table("B", METRICS, of("system.host"), most, by),
            table("C", METRICS, latest(of("system.filesystem"), NOW_MINUTELY), fullest, by),
        ],
        shown, sort_by="CPU, mean",
        overrides=[
            panels.by_name("Host", links=links.of_host(links.column("host.name"))),
            panels.by_name("CPU, mean", unit=unit_of(CPU), **panels.bar()),
            panels.by_name("CPU, highest", unit=unit_of(CPU), **panels.bar()),
            panels.by_name("Memory", unit=unit_of(MEMORY), **panels.bar()),
            panels.by_name("Fullest filesystem", unit=unit_of(FILESYSTEM), **panels.bar()),
            panels.by_name("Load per core", unit=unit_of(LOAD), decimals=2),
            panels.by_name("Cores", unit="short"),
            panels.by_name("Size of memory", unit="bytes", decimals=1),
            panels.by_name("Uptime", unit="ms", decimals=1),
        ],
    )  # fmt: skip
