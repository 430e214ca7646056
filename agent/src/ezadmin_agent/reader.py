"""Where collectors read from: psutil and /proc behind narrow methods, so that tests can feed recorded figures.

What several collectors need in one tick (disk and network counters) is read once per tick.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable, NamedTuple, Optional, TypeVar

import psutil

T = TypeVar("T")


class Mount(NamedTuple):
    """A mounted file system."""

    device: str
    mount_point: str
    type: str
    options: str


class Usage(NamedTuple):
    """What statvfs says, in bytes and inodes: ``free`` for root, ``available`` for users."""

    total: int
    free: int
    available: int
    files: int
    free_files: int


class Reader:
    """Figures of this machine. ``proc`` and ``sys`` are where the kernel's trees are mounted."""

    def __init__(self, proc: str = "/proc", sys: str = "/sys") -> None:
        self.proc = proc
        self.sys = sys
        self._cache: dict[str, Any] = {}
        self._statvfs = _Prober(_usage)

    def begin_tick(self) -> None:
        """Forget what was read in the tick before."""
        self._cache.clear()

    def monotonic(self) -> float:
        """Seconds of a clock that is never set."""
        return time.monotonic()

    def time(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def cpu_times(self) -> Any:
        """psutil's cpu_times of all cores together, in seconds since boot."""
        return psutil.cpu_times()

    def core_times(self) -> Sequence[Any]:
        """psutil's cpu_times per core."""
        return list(psutil.cpu_times(percpu=True))

    def core_mhz(self) -> Sequence[float]:
        """Clock per core in MHz; empty where the machine does not say."""
        try:
            return [frequency.current for frequency in psutil.cpu_freq(percpu=True) or ()]
        except (OSError, NotImplementedError, AttributeError):
            return []

    def cpu_stats(self) -> Any:
        """psutil's cpu_stats: context switches and interrupts since boot."""
        return psutil.cpu_stats()

    def cpu_count(self) -> int:
        """Logical cores."""
        return psutil.cpu_count() or 1

    def load(self) -> tuple[float, float, float]:
        """Load averages of 1, 5 and 15 minutes."""
        return os.getloadavg()

    def memory(self) -> Any:
        """psutil's virtual_memory."""
        return psutil.virtual_memory()

    def swap(self) -> Any:
        """psutil's swap_memory."""
        return psutil.swap_memory()

    def disk_io(self) -> Mapping[str, Any]:
        """psutil's disk_io_counters per device."""
        return self._once("disk_io", lambda: psutil.disk_io_counters(perdisk=True, nowrap=False) or {})

    def block_devices(self) -> Mapping[str, bool]:
        """Whole block devices (no partitions), and whether each is hardware rather than made of others (md, dm, loop)."""
        return self._once("block_devices", self._block_devices)

    def network_io(self) -> Mapping[str, Any]:
        """psutil's net_io_counters per NIC."""
        return self._once("network_io", lambda: psutil.net_io_counters(pernic=True, nowrap=False) or {})

    def nics(self) -> Mapping[str, Any]:
        """psutil's net_if_stats."""
        return self._once("nics", psutil.net_if_stats)

    def hardware_nics(self) -> frozenset[str]:
        """NICs that are devices rather than made of others (bridges, bonds, vlans)."""
        base = f"{self.sys}/class/net"
        return frozenset(name for name in _list(base) if os.path.exists(f"{base}/{name}/device"))

    def mounts(self) -> Sequence[Mount]:
        """All mounts."""
        return [Mount(p.device, p.mountpoint, p.fstype, p.opts) for p in psutil.disk_partitions(all=True)]

    def usage(self, mount_points: Iterable[str], deadline: float = 2.0) -> Mapping[str, Optional[Usage]]:
        """statvfs of each mount point; None for one that did not answer within ``deadline`` seconds (a hung server)."""
        return self._statvfs.probe(mount_points, deadline)

    def process_states(self) -> Mapping[str, int]:
        """Processes per state letter of /proc/PID/stat."""
        states: dict[str, int] = {}
        with os.scandir(self.proc) as entries:
            names = [entry.name for entry in entries if entry.name.isdigit()]
        for name in names:
            try:
                descriptor = os.open(f"{self.proc}/{name}/stat", os.O_RDONLY)
            except OSError:  # ended meanwhile
                continue
            try:
                data = os.read(descriptor, 512)
            except OSError:
                continue
            finally:
                os.close(descriptor)
            at = data.rfind(b")") + 2  # the name before it may hold anything, brackets and spaces too
            letter = data[at : at + 1].decode("ascii", "replace")
            states[letter] = states.get(letter, 0) + 1
        return states

    def threads(self) -> tuple[Optional[int], Optional[int]]:
        """Threads that run or wait for a core, and that wait for a disk (procs_running, procs_blocked of /proc/stat)."""
        found: dict[str, int] = {}
        for line in self.text(f"{self.proc}/stat").splitlines():
            name, _, value = line.partition(" ")
            if name in ("procs_running", "procs_blocked"):
                found[name] = int(value)
        return found.get("procs_running"), found.get("procs_blocked")

    def boot_time(self) -> float:
        """Moment of boot in seconds since 1970."""
        return float(psutil.boot_time())

    def uptime(self) -> float:
        """Seconds since boot, sleep included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def users(self) -> int:
        """Sessions of signed-in users."""
        return len(psutil.users())

    def text(self, path: str) -> str:
        """A file's text; empty if it cannot be read."""
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def _once(self, name: str, read: Callable[[], T]) -> T:
        if name not in self._cache:
            self._cache[name] = read()
        value: T = self._cache[name]
        return value

    def _block_devices(self) -> Mapping[str, bool]:
        base = f"{self.sys}/block"
        return {
            name.replace("!", "/"): not (name.startswith(("dm-", "md", "loop", "ram", "zram", "nbd")))
            for name in _list(base)
        }


def _list(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _usage(mount_point: str) -> Optional[Usage]:
    try:
        found = os.statvfs(mount_point)
    except OSError:
        return None
    unit = found.f_frsize
    return Usage(found.f_blocks * unit, found.f_bfree * unit, found.f_bavail * unit, found.f_files, found.f_ffree)


class _Prober:
    """Calls that may never return, each at most once at a time per item, in threads that are given up when they hang."""

    def __init__(self, call: Callable[[str], Optional[Usage]]) -> None:
        self._call = call
        self._hung: set[str] = set()
        self._lock = threading.Lock()

    def probe(self, items: Iterable[str], deadline: float) -> dict[str, Optional[Usage]]:
        """The result per item; None for those that failed or hang."""
        results: dict[str, Optional[Usage]] = {}
        with self._lock:
            waiting = [item for item in items if item not in self._hung]
        end = time.monotonic() + deadline
        while waiting:
            answers: queue.SimpleQueue[tuple[str, Optional[Usage]]] = queue.SimpleQueue()
            threading.Thread(target=self._work, args=(list(waiting), answers), name="statvfs", daemon=True).start()
            while waiting:
                try:
                    item, result = answers.get(timeout=max(0.01, min(end - time.monotonic(), deadline / 2)))
                except queue.Empty:  # the first that waits hangs; the rest is for a new thread
                    with self._lock:
                        self._hung.add(waiting.pop(0))
                    break
                results[item] = result
                waiting.remove(item)
        return results

    def _work(self, items: list[str], answers: queue.SimpleQueue[tuple[str, Optional[Usage]]]) -> None:
        for item in items:
            result = self._call(item)
            with self._lock:
                given_up = item in self._hung
                self._hung.discard(item)
            if given_up:
                return  # another thread took over what follows
            answers.put((item, result))
