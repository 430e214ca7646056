"""The processes of a stack, found by a mark in their environment: it stays true when supervisord is gone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

MARK = "EZADMIN_LOCAL_PROGRAM"
"""Environment variable of every process of a stack: `<state folder>:<program>`."""


@dataclass(frozen=True)
class Process:
    """One process of a stack."""

    pid: int
    program: str
    start: str
    """Start time in clock ticks since boot: with the pid, what tells it from a later process of the same number."""

    def alive(self) -> bool:
        """True while it has not ended."""
        return _start_time(self.pid) == self.start

    def send(self, number: signal.Signals) -> None:
        """Sends a signal, unless it has ended."""
        if self.alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass

    def rss_bytes(self) -> int:
        """Resident memory."""
        try:
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        except OSError:
            pass
        return 0


def mark(state: Path, program: str) -> str:
    """The value of MARK for a program."""
    return f"{state}:{program}"


def find(state: Path) -> list[Process]:
    """All living processes of a stack, without this one and the ones that started it."""
    wanted = f"{MARK}={state}:".encode()
    own = _ancestors()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) in own:
            continue
        start = _start_time(int(entry.name))
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        for item in environment.split(b"\0"):
            if item.startswith(wanted) and start is not None:
                found.append(Process(int(entry.name), item[len(wanted) :].decode(), start))
    return found


def wait_gone(
    processes: Callable[[], Collection[Process]], seconds: float, interval: float = 0.05
) -> Collection[Process]:
    """Waits until none is left, at most `seconds`; gives back those that are."""
    deadline = time.monotonic() + seconds
    while (left := processes()) and time.monotonic() < deadline:
        time.sleep(interval)
    return left


def _start_time(pid: int) -> str | None:
    """Field 22 of /proc/PID/stat, None for one that ended (also if its parent has not yet asked for its end)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _ancestors() -> set[int]:
    pids = set()
    pid = os.getpid()
    while pid > 0:
        pids.add(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    return pids
