"""A part of the worker that runs in a thread of its own."""

from __future__ import annotations

import abc
import logging
import threading

_log = logging.getLogger(__name__)


class Part(threading.Thread, abc.ABC):
    """Works until ``stopping`` is set; sets it itself if it cannot go on, so that the process ends and is started anew."""

    def __init__(self, name: str, stopping: threading.Event) -> None:
        super().__init__(name=name, daemon=True)  # one that hangs in a connection must not hold up the end
        self.stopping = stopping
        self.failed = False

    @abc.abstractmethod
    def work(self) -> None:
        """The part's work; returns after ``stopping`` is set."""

    def run(self) -> None:
        """The thread."""
        try:
            self.work()
        except Exception:  # noqa: BLE001 - whatever it is, the process must not go on with half of its work
            self.failed = True
            _log.critical("%s failed, the worker ends", self.name, exc_info=True)
            self.stopping.set()
