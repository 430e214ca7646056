"""Golden tests of every collector over recorded trees of /proc and /sys: trees/README.md says of which machines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from ezadmin_agent import registry
from ezadmin_agent.collectors import cpu
from ezadmin_agent.reader import Process, Reader, Usage
from ezadmin_agent.ticks import Ticker

TREES = Path(__file__).with_name("trees")
MACHINES = ("vm-2", "cores-64", "raid-nvme-nfs", "bond")
T = 1_795_000_000


class Tree(Reader):
    """A recorded machine: psutil and our own code parse its files, only system calls are replaced."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._root = TREES / name
        self._machine = json.loads((self._root / "machine.json").read_text())
        self.page_size = 4096
        self.moment(0)

    def moment(self, number: int) -> None:
        """Go to a recorded moment."""
        self.at = 10.0 * number
        self.proc, self.sys = str(self._root / str(number) / "proc"), str(self._root / str(number) / "sys")
        psutil.PROCFS_PATH = self.proc

    def monotonic(self) -> float:
        return 1000.0 + self.at

    def time(self) -> float:
        return T + self.at

    def cpu_count(self) -> int:
        return sum(line[:3] == "cpu" and line[3].isdigit() for line in self.text(f"{self.proc}/stat").splitlines())

    def core_mhz(self) -> list[float]:
        return list(self._machine["mhz"])

    def load(self) -> tuple[float, float, float]:
        one, five, fifteen = self.text(f"{self.proc}/loadavg").split()[:3]
        return float(one), float(five), float(fifteen)

    def uptime(self) -> float:
        return float(self.text(f"{self.proc}/uptime").split()[0])

    def nics(self) -> dict[str, Any]:
        names = ("isup", "duplex", "speed", "mtu")
        return {name: SimpleNamespace(**dict(zip(names, link))) for name, link in self._machine["links"].items()}

    def usage(self, mount_points: Any, deadline: float = 2.0) -> dict[str, Any]:
        found = self._machine["usage"]
        return {point: None if found[point] is None else Usage(*found[point]) for point in mount_points}

    def users(self) -> list[str]:
        return list(self._machine["users"])

    def identity(self, process: Process) -> tuple[Any, str]:
        return "root", self._command_line(process.pid)


@pytest.fixture(autouse=True)
def restore_psutil() -> Iterator[None]:
    yield
    psutil.PROCFS_PATH = "/proc"


def ticks(name: str, moments: int = 2) -> list[list[dict[str, Any]]]:
    tree = Tree(name)
    ticker = Ticker(tree, registry.COLLECTORS)
    ticker.prime()
    found = []
    for number in range(1, moments):
        tree.moment(number)
        tick = ticker.run((T + 10 * number) * 1000)
        found.append([json.loads(line) for line in (*tick.metrics, *(line for _, line in tick.events))])
    assert not ticker.errors
    return found


def only(documents: list[dict[str, Any]], dataset: str) -> list[dict[str, Any]]:
    return [document for document in documents if document["event.dataset"] == dataset]


@pytest.mark.parametrize("name", MACHINES)
def test_golden(name: str) -> None:
    (documents,) = ticks(name)
    path = TREES / name / "expected.json"
    if os.environ.get("EZADMIN_UPDATE_GOLDEN"):
        path.write_text(json.dumps(documents, indent=1, ensure_ascii=False) + "\n")
    assert documents == json.loads(path.read_text())


def test_64_cores_at_work_on_16_and_two_that_go_off_line() -> None:
    first, second = ticks("cores-64", 3)
    host = only(first, "system.host")[0]
    assert host["system.cpu.cores"] == 64
    assert host["system.cpu.total.norm.pct"] == pytest.approx((16 * 950 + 48 * 50) / 64_000, abs=0.001)
    cores = only(first, "system.core")
    assert len(cores) == 64
    assert (cores[3]["system.core.total.pct"], cores[40]["system.core.total.pct"]) == (0.95, 0.05)
    assert only(first, "system.network")[1]["system.network.utilization"] == pytest.approx(0.004)
    busiest = only(first, "system.process")[0]
    assert busiest["system.process.cpu.total.pct"] == 0.95
    assert busiest["process.command_line"].endswith("--token=***")
    host = only(second, "system.host")[0]
    assert "system.cpu.total.norm.pct" not in host  # no false share when the sums change
    assert host["system.cpu.context_switches_per_sec"] == 64_000.0


def test_raid_counts_hardware_once_and_a_hung_nfs_says_so() -> None:
    (documents,) = ticks("raid-nvme-nfs")
    host = only(documents, "system.host")[0]
    assert host["system.diskio.total.write.count_per_sec"] == 200.0  # sda and sdb, not md0 again
    assert host["system.diskio.total.read.bytes_per_sec"] == pytest.approx((800 + 720 + 40_000) * 51.2, rel=5e-4)
    assert host["system.diskio.total.utilization"] == 0.99
    assert host["system.memory.swap.out.pages_per_sec"] == 250.0
    devices = [document["system.diskio.name"] for document in only(documents, "system.diskio")]
    assert sorted(devices) == ["dm-0", "md0", "nvme0n1", "sda", "sdb"]
    mounts = {d["system.filesystem.mount_point"]: d for d in only(documents, "system.filesystem")}
    assert set(mounts) == {"/", "/data", "/home"}
    assert mounts["/home"]["system.filesystem.responding"] is False
    assert "system.filesystem.files" not in mounts["/data"]
    assert host["system.fsstat.total_size.total"] == 2_100_000_000_000
    eth0 = only(documents, "system.network")[-1]
    assert eth0["system.network.in.errors_per_sec"] == 0.2
    assert eth0["system.network.link.duplex"] == "half"


def test_a_bond_counts_its_members_once_and_a_reset_gives_no_peak() -> None:
    (documents,) = ticks("bond")
    host = only(documents, "system.host")[0]
    assert host["system.network.total.in.bytes_per_sec"] == 10**8  # eth0; eth1 was reset, bond0 is made of both
    nics = {document["system.network.name"]: document for document in only(documents, "system.network")}
    assert set(nics) == {"lo", "eth0", "eth1", "bond0", "bond0.100", "br0"}
    assert nics["eth0"]["system.network.utilization"] == 0.08
    assert "system.network.in.bytes_per_sec" not in nics["eth1"]
    assert "system.network.utilization" not in nics["eth1"]
    assert "system.network.link.speed_mbps" not in nics["br0"]


def test_node_exporter_reads_the_same_from_its_recordings() -> None:
    """Its files and its expected values: an implementation of its own, in another language."""
    root = TREES / "node-exporter"
    expected = json.loads((root / "expected.json").read_text())
    psutil.PROCFS_PATH = str(root / "proc")
    reader = Reader(proc=str(root / "proc"))
    found: dict[str, float] = {}
    for name, io in reader.disk_io().items():
        figures = {
            "reads_completed": io.read_count,
            "read_bytes": io.read_bytes,
            "reads_merged": io.read_merged_count,
            "read_time_seconds": io.read_time / 1000,
            "writes_completed": io.write_count,
            "written_bytes": io.write_bytes,
            "writes_merged": io.write_merged_count,
            "write_time_seconds": io.write_time / 1000,
            "io_time_seconds": io.busy_time / 1000,
        }
        found.update({f'node_disk_{what}_total{{device="{name}"}}': value for what, value in figures.items()})
    for number, times in enumerate(reader.core_times()):
        found.update(
            {f'node_cpu_seconds_total{{cpu="{number}",mode="{mode}"}}': getattr(times, mode) for mode in cpu.STATES}
        )
    found.update({f"node_sockstat_{name.replace('.', '_')}": value for name, value in reader.sockstat().items()})
    stats, memory, swap = reader.cpu_stats(), reader.memory(), reader.swap()
    running, blocked = reader.threads()
    found.update(
        {
            "node_context_switches_total": stats.ctx_switches,
            "node_intr_total": stats.interrupts,
            "node_procs_running": float(running or 0),
            "node_procs_blocked": float(blocked or 0),
            "node_boot_time_seconds": reader.boot_time(),
            "node_memory_MemTotal_bytes": memory.total,
            "node_memory_MemFree_bytes": memory.free,
            "node_memory_Buffers_bytes": memory.buffers,
            "node_memory_SwapTotal_bytes": swap.total,
            "node_memory_SwapFree_bytes": swap.free,
            "node_vmstat_pswpin": swap.sin / 4096,
            "node_vmstat_pswpout": swap.sout / 4096,
        }
    )
    assert len(expected) > 200
    assert {name: found.get(name) for name in expected} == pytest.approx(expected, rel=1e-6)
    processes = {process.pid: process for process in reader.processes()}
    assert (processes[1].name, processes[1].parent, processes[1].rss // reader.page_size) == ("systemd", 0, 2507)
    assert (processes[11].name, processes[11].state) == ("rcu_preempt", "I")
