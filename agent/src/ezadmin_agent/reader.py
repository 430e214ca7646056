"""Where collectors read from: psutil and /proc behind narrow methods, so that tests can feed recorded figures.

What several collectors need in one tick (disk and network counters) is read once per tick, and belongs to its begin: so
the rates of a device and of the host are the same figure.
"""

from __future__ import annotations

import os
import pwd
import queue
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable, NamedTuple, Optional, TypeVar

import psutil

from ezadmin_agent.secrets import mask_arguments

T = TypeVar("T")

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", 7)  # Linux's number; a Python built with old headers has no name for it


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


class Process(NamedTuple):
    """A process: ``state`` the kernel's letter, ``ticks`` of CPU it took, ``start`` in ticks since boot, ``rss`` in bytes."""

    pid: int
    name: str
    state: str
    parent: int
    ticks: int
    threads: int
    start: int
    rss: int


_TCP_STATE = re.compile(rb"^ *\d+: [0-9A-F]+:[0-9A-F]{4} [0-9A-F]+:[0-9A-F]{4} ([0-9A-F]{2}) ", re.MULTILINE)


class Reader:
    """Figures of this machine. ``proc`` and ``sys`` are where the kernel's trees are mounted."""

    def __init__(self, proc: str = "/proc", sys: str = "/sys") -> None:
        self.proc = proc
        self.sys = sys
        self._cache: dict[str, Any] = {}
        self._statvfs = _Prober(_usage)
        self._identities: dict[tuple[int, int, str], tuple[Optional[str], str]] = {}
        self._users: dict[int, Optional[str]] = {}
        self._boot: Optional[str] = None
        self._at = time.monotonic()
        self.page_size = os.sysconf("SC_PAGE_SIZE")

    def begin_tick(self) -> None:
        """Forget what was read in the tick before."""
        self._cache.clear()
        self._at = time.monotonic()

    def monotonic(self) -> float:
        """When the tick began, in seconds of a clock that is never set."""
        return self._at

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

    def processes(self) -> Sequence[Process]:
        """Every process, from /proc/PID/stat."""
        return self._once("processes", self._processes)

    def identity(self, process: Process) -> tuple[Optional[str], str]:
        """User and command line (secrets masked, empty for a kernel thread); read once per process and program."""
        key = (process.pid, process.start, process.name)  # exec changes the name
        found = self._identities.get(key)
        if found is None:
            found = self._identities[key] = (self._user(process.pid), self._command_line(process.pid))
        return found

    def forget_identities(self, alive: Iterable[Process]) -> None:
        """Keep what :meth:`identity` remembers only of ``alive``."""
        keys = {(process.pid, process.start, process.name) for process in alive}
        self._identities = {key: found for key, found in self._identities.items() if key in keys}

    def drop_caches(self) -> None:
        """Forget all that can be read again."""
        self._identities.clear()
        self._users.clear()
        self._cache.clear()

    def boot(self) -> str:
        """Eight characters that are new with each boot."""
        if self._boot is None:
            self._boot = self.text(f"{self.proc}/sys/kernel/random/boot_id")[:8]
        return self._boot

    def tcp_states(self) -> Mapping[str, int]:
        """TCP sockets of IPv4 and IPv6 per state, the kernel's number in two hex digits."""
        states: Counter[bytes] = Counter()
        for name in ("tcp", "tcp6"):
            states.update(_TCP_STATE.findall(_bytes(f"{self.proc}/net/{name}")))
        return {state.decode(): count for state, count in states.items()}

    def sockstat(self) -> Mapping[str, int]:
        """Figures of /proc/net/sockstat and sockstat6 as ``TCP.inuse``; memory in pages."""
        found = {}
        for name in ("sockstat", "sockstat6"):
            for line in self.text(f"{self.proc}/net/{name}").splitlines():
                family, _, rest = line.partition(": ")
                words = rest.split()
                found.update({f"{family}.{key}": int(value) for key, value in zip(words[::2], words[1::2])})
        return found

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
        return time.clock_gettime(_BOOTTIME)

    def users(self) -> Sequence[str]:
        """The user of each session."""
        return [user.name for user in psutil.users()]

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

    def _processes(self) -> Sequence[Process]:
        processes = []
        with os.scandir(self.proc) as entries:
            names = [entry.name for entry in entries if entry.name.isdigit()]
        for name in names:
            try:
                descriptor = os.open(f"{self.proc}/{name}/stat", os.O_RDONLY)
            except OSError:  # ended meanwhile
                continue
            try:
                data = os.read(descriptor, 1024)
            except OSError:
                continue
            finally:
                os.close(descriptor)
            # the name may hold anything, brackets and spaces too: it ends at the last bracket (fields: proc(5))
            end = data.rfind(b")")
            fields = data[end + 2 :].split(b" ", 22)
            if len(fields) < 22:
                continue
            processes.append(
                Process(
                    int(name),
                    data[data.find(b"(") + 1 : end].decode("utf-8", "replace"),
                    fields[0].decode("ascii", "replace"),
                    int(fields[1]),
                    int(fields[11]) + int(fields[12]),
                    int(fields[17]),
                    int(fields[19]),
                    int(fields[21]) * self.page_size,
                )
            )
        return processes

    def _user(self, pid: int) -> Optional[str]:
        try:
            uid = os.stat(f"{self.proc}/{pid}").st_uid
        except OSError:
            return None
        if uid not in self._users:
            try:
                self._users[uid] = pwd.getpwuid(uid).pw_name
            except KeyError:
                self._users[uid] = str(uid)
        return self._users[uid]

    def _command_line(self, pid: int) -> str:
        data = _bytes(f"{self.proc}/{pid}/cmdline", 4096)
        return " ".join(mask_arguments(data.rstrip(b"\0").decode("utf-8", "replace").split("\0"))).strip()

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


def _bytes(path: str, limit: int = -1) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return (file.read(limit) if limit >= 0 else file.readall()) or b""
    except OSError:
        return b""


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
