"""Several workers on one machine: one process a core, because Python decides on one core at a time.

They share nothing but Kafka's consumer group. One that ends is started again, the sooner the longer it had run; each has a
name of its own in the group (``<member>-1`` …), so it goes on where it was without the others noticing.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from ezadmin_pipeline.settings import Address

_log = logging.getLogger(__name__)

_FIRST_DELAY = 1.0
_LAST_DELAY = 60.0
_LONG_ENOUGH = 60.0
_STOP_WITHIN = 10.0
PARENT = "EZADMIN_PIPELINE_PARENT"
"""Environment variable with the pid of the process that started a worker: a worker whose parent is gone stops."""


def count(text: str) -> int:
    """The number of workers that ``--workers`` asks for: a number from 1 to 256, or ``auto``, one a core.

    Raises ValueError.
    """
    if text == "auto":
        return len(os.sched_getaffinity(0))
    number = int(text)
    if not 1 <= number <= 256:
        raise ValueError(f"{number} workers: write 1 to 256, or auto")
    return number


class _Child:
    def __init__(self, arguments: Sequence[str], name: str) -> None:
        self.name = name
        self._arguments = [*arguments, "--member", name]
        self._delay = _FIRST_DELAY
        self._start_at = 0.0
        self._started = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def look_after(self) -> None:
        """Start it when it is due; note its end."""
        now = time.monotonic()
        if self._process is not None:
            status = self._process.poll()
            if status is None:
                return
            self._process = None
            self._delay = _FIRST_DELAY if now - self._started > _LONG_ENOUGH else min(_LAST_DELAY, self._delay * 2)
            self._start_at = now + self._delay
            _log.error("worker %s ended with status %d; started again in %.0f s", self.name, status, self._delay)
        if now >= self._start_at:
            environment = {**os.environ, PARENT: str(os.getpid())}
            self._process = subprocess.Popen(self._arguments, env=environment)
            self._started = now
            _log.info("worker %s started, process %d", self.name, self._process.pid)

    def signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def ended_within(self, seconds: float) -> bool:
        if self._process is None:
            return True
        try:
            self._process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            return False
        return True


def run(number: int, member: str, arguments: Sequence[str], metrics: Address | None) -> int:
    """Keep ``number`` workers running until SIGTERM or SIGINT; ``arguments`` are those of ``ezadmin-pipeline run``.

    Each serves its own ``metrics``: the first there, the others on the ports after it.
    Returns the exit status: 0, or 1 if a worker had to be killed.
    """
    command = [sys.executable, "-m", "ezadmin_pipeline.main", "run", *arguments]
    children = [_Child([*command, *_listen(metrics, i)], f"{member}-{i + 1}") for i in range(number)]
    stop: list[int] = []
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda received, frame: stop.append(received))
    while not stop:
        for child in children:
            child.look_after()
        time.sleep(0.2)
    for child in children:
        child.signal(signal.SIGTERM)
    deadline = time.monotonic() + _STOP_WITHIN
    late = [child for child in children if not child.ended_within(deadline - time.monotonic())]
    for child in late:
        _log.error("worker %s did not stop within %.0f s and is killed", child.name, _STOP_WITHIN)
        child.signal(signal.SIGKILL)
        child.ended_within(5.0)
    return 1 if late else 0


def _listen(metrics: Address | None, i: int) -> list[str]:
    if metrics is None:
        return []
    port = metrics.port + i if metrics.port else 0
    return ["--metrics-listen", f"[{metrics.host}]:{port}" if ":" in metrics.host else f"{metrics.host}:{port}"]


def orphaned() -> bool:
    """Whether the process that started this worker is gone."""
    parent = os.environ.get(PARENT)
    return parent is not None and os.getppid() != int(parent)
