"""Work that one worker does now and then, on a thread of its own, while it is the one."""

from __future__ import annotations

import threading
import time

_STOP_WITHIN = 2.0


class Rounds:
    """Calls :meth:`round` again and again while :meth:`tick` says that this worker is the one; times in seconds."""

    def __init__(self, name: str, first_after: float, every: float) -> None:
        self._name = name
        self._first_after = first_after
        self.every = every
        self._due: float | None = None
        self._thread: threading.Thread | None = None
        self.stopping = False
        """Set when the worker ends, or is the one no longer: a long round looks at it between its steps."""

    def round(self) -> None:
        """Do it once. What goes wrong is for it to log: nobody waits for it."""
        raise NotImplementedError

    def tick(self, mine: bool) -> None:
        """Called often; ``mine``: whether this worker is the one."""
        self.stopping = not mine
        if not mine:
            self._due = None
            return
        if self._due is None:
            self._due = time.monotonic() + self._first_after
        if time.monotonic() < self._due or (self._thread is not None and self._thread.is_alive()):
            return
        self._due = time.monotonic() + self.every
        self._thread = threading.Thread(target=self.round, name=self._name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Wait a moment for what is under way."""
        self.stopping = True
        if self._thread is not None:
            self._thread.join(_STOP_WITHIN)
