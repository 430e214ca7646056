"""The kernel's messages from /dev/kmsg; the position is the boot and the number of the last message read.

A message is ``priority,number,microseconds since boot,flags[,…];text`` and lines of ``KEY=value`` behind it, read one
at a time. What the ring lost before it could be read shows as a gap in the numbers and is counted as lost.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from typing import Any, Optional

from ezadmin_agent.logs.builder import Builder, Patterns
from ezadmin_agent.logs.source import CALM, Batch, Counts, Mode, empty
from ezadmin_wire.levels import SYSLOG_LEVELS
from ezadmin_wire.logs.parse import Parsed, Parser
from ezadmin_wire.logs.rules import RuleConfig, Rules

log = logging.getLogger(__name__)

DEVICE = "/dev/kmsg"


class KernelSource:
    """Reads ``device``. ``record(fd)`` reads one message; ``uptime()`` is the clock of their times, in seconds."""

    name = "kernel"
    waits = False
    rereads = True

    def __init__(
        self,
        dataset: str,
        *,
        rules: Optional[Rules] = None,
        from_start: bool = False,
        device: str = DEVICE,
        boot: Optional[str] = None,
        record: Callable[[int], bytes] = lambda fd: os.read(fd, 16384),
        clock: Callable[[], float] = time.time,
        uptime: Callable[[], float] = time.monotonic,
    ) -> None:
        self.dataset = dataset
        self.counts = Counts()
        self._rules = rules or Rules(RuleConfig())
        self._parser = Parser(False)
        self._patterns = Patterns()
        self._from_start = from_start
        self._device = device
        self._boot = boot or _boot_id()
        self._record = record
        self._clock = clock
        self._uptime = uptime
        self._fd = -1
        self._seq: Optional[int] = None  # of the last message read
        self._waiting: Optional[bytes] = None
        self._told = False

    def resume(self, position: Any) -> Any:
        """See :class:`ezadmin_agent.logs.source.Source`."""
        self.close()
        self._waiting = None
        self.counts = Counts.of((position or {}).get("counts"))
        same = bool(position) and position.get("boot") == self._boot
        self._seq = position["seq"] if same else None
        if not self._open():
            return position
        if position is None and not self._from_start:
            while (raw := self._next()) is not None:  # what is there already is not ours
                head = _head(raw)
                self._seq = head[1] if head else self._seq
        return self._position() if self._seq is not None else position

    def read(self, mode: Mode = CALM) -> Batch:
        """See :class:`ezadmin_agent.logs.source.Source`."""
        if self._fd < 0 and not self._open():
            return empty()
        builder = Builder(
            self._rules,
            self._parser,
            self._patterns,
            self.counts,
            dataset=self.dataset,
            now_ms=int(self._clock() * 1000),
            mode=mode,
        )
        boot_ms = int((self._clock() - self._uptime()) * 1000)
        while (raw := self._waiting or self._next()) is not None:
            self._waiting = None
            head = _head(raw)
            if head is None:
                continue
            priority, seq, micros = head
            if self._seq is not None and seq <= self._seq:
                continue
            if self._seq is not None and seq > self._seq + 1:
                self.counts.lost += seq - self._seq - 1
                log.warning("the kernel's ring overran: %d messages are lost", seq - self._seq - 1)
            text = raw.partition(b";")[2].partition(b"\n")[0].decode("utf-8", "replace")
            facility, severity = divmod(priority, 8)
            parsed = Parsed(
                boot_ms + micros // 1000,
                SYSLOG_LEVELS[severity],
                _unescaped(text),
                "kernel" if facility == 0 else None,
                severity=severity,
                facility=facility if facility < 24 else None,
            )
            if not builder.add_parsed(parsed, len(raw)):
                self._waiting = raw
                break
            self._seq = seq
        if not builder.changed:
            return empty()
        return builder.batch(self._position(), builder.full)

    def use(self, rules: Rules) -> None:
        """See :class:`ezadmin_agent.logs.source.Source`."""
        self._rules = rules
        self._patterns.clear()

    def close(self) -> None:
        """Close the device."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _position(self) -> dict[str, Any]:
        return {"boot": self._boot, "seq": self._seq, "counts": self.counts.position()}

    def _open(self) -> bool:
        try:
            self._fd = os.open(self._device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if not self._told:
                log.warning("cannot read %s: %s; the kernel's messages are not read", self._device, error.strerror)
            self._told = True
            return False
        return True

    def _next(self) -> Optional[bytes]:
        while True:
            try:
                return self._record(self._fd) or None
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno == errno.EPIPE:  # overwritten while we looked: the next call gives the oldest left
                    continue
                if error.errno == errno.EINVAL:
                    return None
                raise


def _head(raw: bytes) -> Optional[tuple[int, int, int]]:
    try:
        priority, seq, micros = raw.partition(b";")[0].split(b",")[:3]
        return int(priority), int(seq), int(micros)
    except ValueError:
        return None


def _unescaped(text: str) -> str:
    r"""The kernel writes bytes that are no printable ASCII as ``\x..``."""
    if "\\x" not in text:
        return text
    out, data = bytearray(), text.encode()
    place = 0
    while place < len(data):
        if data[place : place + 2] == b"\\x":
            try:
                out.append(int(data[place + 2 : place + 4], 16))
                place += 4
                continue
            except ValueError:
                pass
        out.append(data[place])
        place += 1
    return out.decode("utf-8", "replace").replace("\n", " ")


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
