"""Starting, killing and waiting for the product's own commands."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


class Process:
    """A command that can be killed and started again; its output is appended to one file."""

    def __init__(self, arguments: list[str], log: Path, env: dict[str, str] | None = None) -> None:
        self.arguments = arguments
        self.log = log
        self._env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Process:
        """Start it, if it is not running."""
        if not self.running:
            with self.log.open("ab") as output:
                self._process = subprocess.Popen(self.arguments, stdout=output, stderr=output, env=self._env)
        return self

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self._signal(signal.SIGKILL, 10)

    def stop(self, timeout: float = 15) -> int:
        """SIGTERM; returns the exit status. Killed after ``timeout`` seconds."""
        return self._signal(signal.SIGTERM, timeout)

    def signal(self, number: int) -> None:
        """Send a signal and return at once."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, timeout: float) -> int:
        """Wait for its end; returns the exit status."""
        assert self._process is not None
        return self._process.wait(timeout)

    def _signal(self, number: int, timeout: float) -> int:
        if self._process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
            return -9


def pipeline(config: Path, log: Path) -> Process:
    """A pipeline worker with these settings."""
    command = [sys.executable, "-m", "ezadmin_pipeline.main", "run", "--config", str(config)]
    return Process(command, log)


def pipeline_command(config: Path, *arguments: str) -> str:
    """Run a command of ``ezadmin-pipeline`` to its end; returns what it printed. Fails with its errors."""
    command = [sys.executable, "-m", "ezadmin_pipeline.main", *arguments, "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{' '.join(arguments)}: {done.stderr[-3000:]}"
    return done.stdout


def wait_until(condition: Callable[[], object], timeout: float, what: str) -> None:
    """Wait until ``condition()`` is true; fail naming ``what`` after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(0.1)
