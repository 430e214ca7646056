"""From a line of text to an event: time, program, level, message; written as compact JSON.

Read are the two forms that syslog daemons write into files, RFC 3164 (``Nov 24 08:15:30 host sshd[12]: text``, local
time without a year) and RFC 3339 times (``2026-11-24T08:15:30.123456+01:00 host sshd[12]: text``), with or without a
priority ``<13>`` before. Other lines become a message whole; a time in RFC 3339 form at their begin (also with a space
for the T, as most programs log) is read, too.

The level, where no priority gives one, is what :func:`ezadmin_wire.logs.levels.level_of` finds in the message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from json.encoder import encode_basestring
from typing import Any, NamedTuple, Optional

from ezadmin_wire.levels import SYSLOG_LEVELS
from ezadmin_wire.logs.levels import level_of
from ezadmin_wire.times import format_epoch_ms

_SYSLOG = re.compile(
    r"(?:<(?P<pri>[0-9]{1,3})>)?"
    r"(?P<time>[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2}"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:?[0-9]{2}))"
    r" (?P<host>[^ ]+) (?:(?P<name>[^ \[:]{1,128})(?:\[(?P<pid>[0-9]{1,10})\])?: ?)?(?P<text>.*)",
    re.DOTALL,
)
_ISO = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})[T ](?P<clock>[0-9]{2}:[0-9]{2}:[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,9}))?"
    r"\s?(?P<zone>Z|[+-][0-9]{2}:?[0-9]{2})?"
)
_EPOCH = re.compile(r"[0-9]{9,13}(?:\.[0-9]{1,9})?")
_MONTHS = {
    name: i
    for i, name in enumerate(
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"], start=1
    )
}


class Parsed(NamedTuple):
    """What stands in a line. ``time`` in ms since 1970; None where the line does not say.

    ``fields``: the application's own, for the flattened ``fields``; ``root``: further keys of the event.
    """

    time: Optional[int]
    level: Optional[str]
    message: str
    name: Optional[str] = None
    pid: Optional[int] = None
    host: Optional[str] = None
    severity: Optional[int] = None
    facility: Optional[int] = None
    fields: Optional[Mapping[str, str]] = None
    root: Optional[Mapping[str, Any]] = None


FIRST_MS, LAST_MS = -62_135_596_800_000, 253_402_300_799_999


def known_time(milliseconds: int) -> Optional[int]:
    """``milliseconds`` since 1970 if they lie in the years 1 to 9999, which is all that the wire can write; else None."""
    return milliseconds if FIRST_MS <= milliseconds <= LAST_MS else None


class Parser:
    """Parses lines of one source; remembers the last second it saw, as most lines share it with the one before."""

    def __init__(self, syslog: bool) -> None:
        self._syslog = syslog
        self._seconds: dict[str, Optional[int]] = {}

    def parse(self, line: str, now_ms: int) -> Parsed:
        """Parse ``line``; ``now_ms`` gives a time without a year its year."""
        match = _SYSLOG.match(line) if self._syslog else None
        if match is None:
            iso = _ISO.match(line)
            return Parsed(None if iso is None else self._iso(iso), level_of(line), line)
        stamp = match["time"]
        if stamp[0].isdigit():
            iso = _ISO.match(stamp)
            time = None if iso is None else self._iso(iso)
        else:
            time = self._without_year(stamp, now_ms)
        severity = facility = level = None
        if match["pri"] is not None and int(match["pri"]) < 192:
            facility, severity = divmod(int(match["pri"]), 8)
            level = SYSLOG_LEVELS[severity]
        text = match["text"]
        pid = int(match["pid"]) if match["pid"] else None
        return Parsed(time, level or level_of(text), text, match["name"], pid, match["host"], severity, facility)

    def time_of(self, text: str, now_ms: int) -> Optional[int]:
        """The time that ``text`` begins with, in ms: RFC 3339, ``Nov 24 08:15:30``, or seconds or ms since 1970."""
        iso = _ISO.match(text)
        if iso is not None:
            return self._iso(iso)
        if _EPOCH.fullmatch(text):
            number = float(text)
            return int(number if number > 1e11 else number * 1000)
        if text[:3] in _MONTHS:
            return self._without_year(text[:15], now_ms)
        return None

    def _iso(self, match: re.Match[str]) -> Optional[int]:
        zone = match["zone"] or ""
        key = f"{match['day']}T{match['clock']}{zone}"
        seconds = self._remember(key, lambda: _seconds_of(match["day"], match["clock"], zone))
        if seconds is None:
            return None
        return seconds * 1000 + int((match["fraction"] or "0").ljust(3, "0")[:3])

    def _without_year(self, stamp: str, now_ms: int) -> Optional[int]:
        seconds = self._remember(f"{stamp}/{now_ms // 86_400_000}", lambda: _nearest_year(stamp, now_ms))
        return None if seconds is None else seconds * 1000

    def _remember(self, key: str, compute: Callable[[], Optional[int]]) -> Optional[int]:
        if key not in self._seconds:
            if len(self._seconds) >= 64:
                self._seconds.clear()
            self._seconds[key] = compute()
        return self._seconds[key]


def event(
    parsed: Parsed,
    *,
    dataset: str,
    created_ms: int,
    created: str,
    path: Optional[str] = None,
    offset: Optional[int] = None,
    cut: bool = False,
    logger: Optional[str] = None,
) -> tuple[str, bytes]:
    """The event's ``@timestamp`` and its line. ``created`` is ``created_ms`` as text; it stands in for a missing time."""
    quote = encode_basestring
    time = created if parsed.time is None or parsed.time == created_ms else _time_text(parsed.time)
    parts = [f'{{"@timestamp":"{time}","event.dataset":"{dataset}","event.created":"{created}"']
    if parsed.level is not None:
        parts.append(f'"log.level":"{parsed.level}"')
    parts.append(f'"message":{quote(parsed.message)}')
    if parsed.name is not None:
        parts.append(f'"process.name":{quote(parsed.name)}')
    if parsed.pid is not None:
        parts.append(f'"process.pid":{parsed.pid}')
    if parsed.host is not None:
        parts.append(f'"log.syslog.hostname":{quote(parsed.host)}')
    if parsed.severity is not None:
        parts.append(f'"log.syslog.severity.code":{parsed.severity}')
    if parsed.facility is not None:
        parts.append(f'"log.syslog.facility.code":{parsed.facility}')
    if path is not None:
        parts.append(f'"log.file.path":{quote(path)}')
    if offset is not None:
        parts.append(f'"log.offset":{offset}')
    if cut:
        parts.append('"log.truncated":true')
    if logger is not None:
        parts.append(f'"log.logger":{quote(logger)}')
    if parsed.root:
        parts.append(json.dumps(parsed.root, ensure_ascii=False, separators=(",", ":"))[1:-1])
    if parsed.fields:
        parts.append(f'"fields":{json.dumps(parsed.fields, ensure_ascii=False, separators=(",", ":"))}')
    return time, (",".join(parts) + "}").encode()


_SECONDS: dict[int, str] = {}


def _time_text(milliseconds: int) -> str:
    """As format_epoch_ms; remembers seconds, which neighbouring lines share."""
    second, rest = divmod(milliseconds, 1000)
    text = _SECONDS.get(second)
    if text is None:
        if len(_SECONDS) >= 64:
            _SECONDS.clear()
        text = _SECONDS[second] = format_epoch_ms(second * 1000)[:19]
    return f"{text}.{rest:03d}Z"


def _seconds_of(day: str, clock: str, zone: str) -> Optional[int]:
    if zone and zone != "Z" and ":" not in zone:
        zone = f"{zone[:3]}:{zone[3:]}"
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone == 'Z' else zone}")
        seconds = int(moment.timestamp())  # without a zone: local time
    except (ValueError, OverflowError, OSError):
        return None
    return seconds if known_time(seconds * 1000) is not None else None


def _nearest_year(stamp: str, now_ms: int) -> Optional[int]:
    """Local time without a year: of the years around now, the one that lies nearest to it and at most a day ahead."""
    now = datetime.fromtimestamp(now_ms / 1000, tz=timezone.utc)
    latest = now + timedelta(days=1)
    best: Optional[datetime] = None
    for year in (now.year - 1, now.year, now.year + 1):
        try:
            hour, minute, second = (int(part) for part in stamp[7:].split(":"))
            month, day = _MONTHS[stamp[:3]], int(stamp[4:6])
            moment = datetime(year, month, day, hour, minute, second).astimezone()
        except (ValueError, KeyError, OverflowError):
            continue
        if moment <= latest:
            best = moment
    return None if best is None else int(best.timestamp())
