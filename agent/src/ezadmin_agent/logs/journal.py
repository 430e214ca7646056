"""The systemd journal, read through ``journalctl -f -o json``; the position is the journal's cursor."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any, Optional

from ezadmin_agent.backoff import Backoff
from ezadmin_agent.logs.builder import Builder, Patterns
from ezadmin_agent.logs.source import CALM, MAX_LINE, Batch, Counts, Mode, empty
from ezadmin_wire.levels import SYSLOG_LEVELS
from ezadmin_wire.logs.parse import Parsed, Parser, known_time
from ezadmin_wire.logs.rules import RuleConfig, Rules

log = logging.getLogger(__name__)


def available() -> bool:
    """Whether this machine has a journal that can be read."""
    return shutil.which("journalctl") is not None and any(
        os.path.isdir(place) and os.listdir(place) for place in ("/run/log/journal", "/var/log/journal")
    )


class JournalSource:
    """Follows the journal. ``command`` is how journalctl is called. A journal never read before is read from now on."""

    name = "journal"
    waits = True
    rereads = True

    def __init__(
        self,
        dataset: str,
        *,
        rules: Optional[Rules] = None,
        command: tuple[str, ...] = ("journalctl",),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.counts = Counts()
        self._rules = rules or Rules(RuleConfig())
        self._parser = Parser(False)
        self._patterns = Patterns()
        self.dataset = dataset
        self._command = command
        self._clock = clock
        self._cursor: Optional[str] = None
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._buffer = b""
        self._backoff = Backoff(0.5, 30.0)
        self._start_at = 0.0

    def resume(self, position: Any) -> Any:
        """See :class:`ezadmin_agent.logs.source.Source`."""
        self.close()
        self._buffer = b""
        self.counts = Counts.of((position or {}).get("counts"))
        self._cursor = position["cursor"] if position else self._newest_cursor()
        return self._position()

    def read(self, mode: Mode = CALM) -> Batch:
        """See :class:`ezadmin_agent.logs.source.Source`."""
        builder = Builder(
            self._rules,
            self._parser,
            self._patterns,
            self.counts,
            dataset=self.dataset,
            now_ms=int(self._clock() * 1000),
            mode=mode,
        )
        while True:
            newline = self._buffer.find(b"\n")
            if newline < 0:
                if not self._fill():
                    break
                continue
            entry = _decode(self._buffer[:newline])
            if entry is not None:
                parsed, cut, cursor = entry
                if not builder.add_parsed(parsed, len(parsed.message), cut=cut):
                    break
                self._cursor = cursor
            self._buffer = self._buffer[newline + 1 :]
        if not builder.changed:
            return empty()
        return builder.batch(self._position(), builder.full)

    def use(self, rules: Rules) -> None:
        """See :class:`ezadmin_agent.logs.source.Source`."""
        self._rules = rules
        self._patterns.clear()

    def _position(self) -> Optional[dict[str, Any]]:
        return {"cursor": self._cursor, "counts": self.counts.position()} if self._cursor else None

    def close(self) -> None:
        """End journalctl."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None

    def _newest_cursor(self) -> Optional[str]:
        """Where the journal ends now; None if it is empty: then it is read from its begin."""
        try:
            done = subprocess.run(
                [*self._command, "-n", "1", "-o", "json", "-q"], capture_output=True, timeout=20, check=False
            )
            found = json.loads(done.stdout.splitlines()[-1])
        except (OSError, subprocess.TimeoutExpired, IndexError, ValueError):
            return None
        cursor = found.get("__CURSOR")
        return cursor if isinstance(cursor, str) else None

    def _fill(self) -> bool:
        """Read what journalctl has written; whether there was something."""
        if self._process is None and not self._start():
            return False
        process = self._process
        if process is None or process.stdout is None:
            return False
        try:
            data = os.read(process.stdout.fileno(), 256 << 10)
        except BlockingIOError:
            return False
        if data:
            self._buffer += data
            self._backoff.reset()
            return True
        text = f"journalctl ended with code {process.wait()}"
        self.close()
        self._buffer = b""
        wait = self._backoff.next()
        self._start_at = time.monotonic() + wait
        log.warning("%s; it is started again in %.1f s", text, wait)
        return False

    def _start(self) -> bool:
        if time.monotonic() < self._start_at:
            return False
        command = [*self._command, "-f", "-q", "-o", "json", "--no-pager"]
        command += ["--after-cursor", self._cursor, "-n", "all"] if self._cursor else ["-n", "all"]
        try:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        except OSError as error:
            self._start_at = time.monotonic() + self._backoff.next()
            log.warning("cannot start journalctl: %s", error.strerror)
            return False
        if self._process.stdout is not None:
            os.set_blocking(self._process.stdout.fileno(), False)
        return True


def _decode(raw: bytes) -> Optional[tuple[Parsed, bool, str]]:
    """An entry, whether its message was cut, and its cursor; None for what is no entry."""
    try:
        entry = json.loads(raw)
        cursor = entry["__CURSOR"]
    except (ValueError, KeyError, TypeError):
        return None
    message = _text(entry.get("MESSAGE"))
    data = message.encode("utf-8", "replace")
    cut = len(data) > MAX_LINE
    if cut:
        message = data[:MAX_LINE].decode("utf-8", "ignore")
    severity = _number(entry.get("PRIORITY"), 7)
    stamps = (_number(entry.get(name), 1 << 62) for name in ("_SOURCE_REALTIME_TIMESTAMP", "__REALTIME_TIMESTAMP"))
    times = (known_time(stamp // 1000) for stamp in stamps if stamp is not None)
    name = entry.get("SYSLOG_IDENTIFIER") or entry.get("_COMM")
    parsed = Parsed(
        time=next((time for time in times if time is not None), None),
        level=None if severity is None else SYSLOG_LEVELS[severity],
        message=message,
        name=None if name is None else _text(name),
        pid=_number(entry.get("_PID") or entry.get("SYSLOG_PID"), 1 << 31),
        host=_text(entry["_HOSTNAME"]) if "_HOSTNAME" in entry else None,
        severity=severity,
        facility=_number(entry.get("SYSLOG_FACILITY"), 23),
    )
    return parsed, cut, str(cursor)


def _text(value: Any) -> str:
    """The journal writes text as a string, anything else as a list of bytes, several values as a list of those."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        if all(isinstance(item, int) for item in value):
            return bytes(item & 0xFF for item in value).decode("utf-8", "replace")
        return " ".join(_text(item) for item in value)
    return "" if value is None else str(value)


def _number(value: Any, highest: int) -> Optional[int]:
    try:
        number = int(value)
    except (TypeError, ValueError):
        return None
    return number if 0 <= number <= highest else None
