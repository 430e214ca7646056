"""Figures more often for a while: what the command ``sample`` brings about. It survives a restart by the time of its end."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import NamedTuple, Optional

from ezadmin_agent.control import files
from ezadmin_wire.times import format_epoch_ms

log = logging.getLogger(__name__)


class _Now(NamedTuple):
    interval: int
    end: float  # of this process's monotonic clock
    until: float  # of the wall clock, for people and for a restart


class Sampling:
    """Kept in ``file``. Any thread may ask, one begins and ends."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._now: Optional[_Now] = None
        try:
            table = json.loads(file.read_bytes())
            interval, until, seconds = int(table["interval"]), float(table["until"]), float(table["seconds"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("%s cannot be read, sampling is as usual: %s", file, error)
            return
        left = min(seconds, until - time.time())  # a clock that was set back makes it no longer
        if left > 0:
            self._now = _Now(interval, time.monotonic() + left, until)

    def begin(self, interval: int, seconds: int) -> str:
        """Each ``interval`` seconds for ``seconds``; returns what to say of it. Raises OSError."""
        until = time.time() + seconds
        table = {"interval": interval, "until": until, "seconds": seconds}
        files.write(self._file, json.dumps(table).encode())
        self._now = _Now(interval, time.monotonic() + seconds, until)
        return f"each {interval} s until {format_epoch_ms(int(until * 1000))}"

    def end(self) -> bool:
        """As usual again; whether it was otherwise. Raises OSError."""
        was, self._now = self._now, None
        files.remove(self._file)
        return was is not None

    def interval(self, usual: int) -> int:
        """Seconds between two ticks now."""
        now = self._now
        return usual if now is None or time.monotonic() >= now.end else min(usual, now.interval)

    def status(self) -> Optional[dict[str, object]]:
        """What ``status`` shows; None: as usual."""
        now = self._now
        if now is None or time.monotonic() >= now.end:
            return None
        return {"interval": now.interval, "until": format_epoch_ms(int(now.until * 1000))}
