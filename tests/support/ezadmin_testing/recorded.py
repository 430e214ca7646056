"""A reader that gives recorded figures, as a test sets them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ezadmin_agent.reader import Mount, Process, Reader, Usage


def times(**seconds: float) -> Any:
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice")
    return SimpleNamespace(**{name: seconds.get(name, 0.0) for name in names})


def disk(n: int) -> Any:
    """An io counter whose figures are all different and grow with ``n``."""
    return SimpleNamespace(
        read_count=n,
        write_count=2 * n,
        read_bytes=1000 * n,
        write_bytes=2000 * n,
        read_time=3 * n,
        write_time=4 * n,
        read_merged_count=5 * n,
        write_merged_count=6 * n,
        busy_time=100 * n,
    )


def nic(n: int) -> Any:
    return SimpleNamespace(
        bytes_recv=1000 * n,
        bytes_sent=500 * n,
        packets_recv=10 * n,
        packets_sent=5 * n,
        errin=n,
        errout=0,
        dropin=0,
        dropout=n,
    )


def link(up: bool = True, duplex: int = 2, speed: int = 1000, mtu: int = 1500) -> Any:
    return SimpleNamespace(isup=up, duplex=duplex, speed=speed, mtu=mtu)


class Recorded(Reader):
    """Figures of a small machine: two cores, one disk with a partition and an md on it, one NIC, a bridge, a veth."""

    def __init__(self) -> None:
        self.at = 1000.0
        self.page_size = 4096
        self.procs = [
            Process(number, f"p{number}", state, 1, 100 * number, 1, 10 * number, 1 << number)
            for number, state in enumerate("RRSSSSSSSSSSDIIIIZ?", start=1)
        ]
        self.cores = [times(user=10, system=5, idle=100, iowait=1), times(user=20, system=5, idle=90)]
        self.stats = SimpleNamespace(ctx_switches=1000, interrupts=500, soft_interrupts=100)
        self.disks = {"sda": disk(10), "sda1": disk(10), "md0": disk(10), "loop0": disk(3), "nvme0n1": disk(0)}
        self.net = {"lo": nic(50), "eth0": nic(100), "br0": nic(100), "veth1": nic(9)}
        self.links = {"lo": link(speed=0, duplex=0), "eth0": link(), "br0": link(speed=4294967295), "veth1": link()}
        self.mounted = [
            Mount("/dev/sda1", "/", "ext4", "rw"),
            Mount("/dev/sda1", "/var/lib/bind", "ext4", "rw"),
            Mount("nas:/home", "/home", "nfs4", "rw,hard"),
            Mount("tmpfs", "/run", "tmpfs", "rw"),
            Mount("overlay", "/var/lib/docker/overlay2/x", "overlay", "rw"),
            Mount("/dev/loop0", "/snap/core", "squashfs", "ro"),
        ]
        self.usages: dict[str, Usage | None] = {"/": Usage(1000, 400, 300, 100, 90), "/home": None}

    def begin_tick(self) -> None: ...
    def monotonic(self) -> float:
        return self.at

    def time(self) -> float:
        return 1_795_000_000.5

    def cpu_times(self) -> Any:
        return times(**{name: sum(getattr(core, name) for core in self.cores) for name in vars(times())})

    def core_times(self) -> list[Any]:
        return list(self.cores)

    def core_mhz(self) -> list[float]:
        return [2600.04, 0.0]

    def cpu_stats(self) -> Any:
        return self.stats

    def cpu_count(self) -> int:
        return len(self.cores)

    def load(self) -> tuple[float, float, float]:
        return 1.0, 0.5, 0.25

    def memory(self) -> Any:
        return SimpleNamespace(total=1000, free=100, available=400, cached=250, buffers=50)

    def swap(self) -> Any:
        return SimpleNamespace(total=200, used=50, free=150, sin=8 * 4096, sout=4 * 4096)

    def disk_io(self) -> dict[str, Any]:
        return self.disks

    def block_devices(self) -> dict[str, bool]:
        return {name: name in ("sda", "nvme0n1") for name in self.disks if name != "sda1"}

    def network_io(self) -> dict[str, Any]:
        return self.net

    def nics(self) -> dict[str, Any]:
        return self.links

    def hardware_nics(self) -> frozenset[str]:
        return frozenset({"eth0"})

    def mounts(self) -> list[Mount]:
        return self.mounted

    def usage(self, mount_points: Any, deadline: float = 2.0) -> dict[str, Usage | None]:
        return {point: self.usages[point] for point in mount_points}

    def processes(self) -> list[Process]:
        return self.procs

    def identity(self, process: Process) -> tuple[str | None, str]:
        return "root", "" if process.state == "I" else f"/usr/bin/{process.name} --password=*** -v"

    def forget_identities(self, alive: Any) -> None: ...

    def boot(self) -> str:
        return "0123abcd"

    def tcp_states(self) -> dict[str, int]:
        return {"0A": 3, "01": 5, "06": 2, "07": 1, "0C": 1}

    def sockstat(self) -> dict[str, int]:
        return {"TCP.inuse": 8, "TCP.orphan": 1, "TCP.mem": 4, "UDP.inuse": 2, "UDP.mem": 3, "UDP6.inuse": 1}

    def threads(self) -> tuple[int, int]:
        return 3, 1

    def boot_time(self) -> float:
        return 1_794_000_000.0

    def uptime(self) -> float:
        return 1_000_000.25

    def users(self) -> list[str]:
        return ["ann", "root", "ann"]
