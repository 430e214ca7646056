"""What `up` prints while it works: a line per step, updated in place on a terminal, else every few seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

TERMINAL_SECONDS = 0.2
PLAIN_SECONDS = 5.0


class Step:
    """One step under way; `detail` may be changed at any time and shows at the next tick."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.details: dict[str, str] = {}
        self.started = time.monotonic()

    def detail(self, key: str, text: str | None) -> None:
        """Shows text for one of the things under way; None takes it away."""
        details = dict(self.details)  # replaced, never changed: the ticking thread reads it
        if text is None:
            details.pop(key, None)
        else:
            details[key] = text
        self.details = details

    @property
    def seconds(self) -> float:
        """Since the step began."""
        return time.monotonic() - self.started

    def line(self) -> str:
        """The step as one line."""
        details = "; ".join(self.details.values())
        return f"{self.title} … {self.seconds:.0f} s" + (f"  {details}" if details else "")


class Console:
    """Prints lines and steps to one stream."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.terminal = self.stream.isatty()
        self.started = time.monotonic()
        self._write_lock = threading.Lock()
        self._width = 0

    @property
    def seconds(self) -> float:
        """Since this command began."""
        return time.monotonic() - self.started

    def say(self, text: str) -> None:
        """Prints lines that stay."""
        with self._write_lock:
            self._clear()
            print(text, file=self.stream, flush=True)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Shows that a step is under way until the block ends; the block itself says how it ended."""
        step = Step(title)
        done = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(step, done), daemon=True)
        ticker.start()
        try:
            yield step
        finally:
            done.set()
            ticker.join()
            with self._write_lock:
                self._clear()

    def _tick(self, step: Step, done: threading.Event) -> None:
        while not done.wait(TERMINAL_SECONDS if self.terminal else PLAIN_SECONDS):
            with self._write_lock:
                try:
                    self._show(step)
                except BrokenPipeError:  # nobody reads any more; the main thread finds out by itself
                    return

    def _show(self, step: Step) -> None:
        line = step.line()
        if self.terminal:
            line = line[:100]
            print("\r" + line.ljust(self._width), end="", file=self.stream, flush=True)
            self._width = len(line)
        else:
            print(line[:200], file=self.stream, flush=True)

    def _clear(self) -> None:
        if self._width:
            print("\r" + " " * self._width + "\r", end="", file=self.stream, flush=True)
            self._width = 0
