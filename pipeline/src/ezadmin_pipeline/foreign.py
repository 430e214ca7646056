"""Topics that other programs write: rsyslog's omkafka, Filebeat, Fluent Bit, Vector, GELF … One message is one event.

Nobody signed it, so what it says of itself is believed only as far as its topic goes. Its host gets a host.id made of the
topic and the name it gives itself (UUID 5; agents' are random, UUID 4), and the label ``foreign`` with the topic's name; it
cannot speak for a host that the cmdb knows. Of the message only what is known is taken: names that the pipeline owns
cannot come in, and what has no field of its own goes to ``fields``.

A message is JSON (an object, nested or flat) or a line of text: RFC 5424, RFC 3164, klog, or whatever stands in it. Time,
level, message and host are looked for under the names that these programs use (:data:`TIMES` …). The event's number is
its offset, so what is read twice is one document, and counts are exact as for agents' events.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from ezadmin_wire import WireError
from ezadmin_wire.batch import MAX_LINE, Batch
from ezadmin_wire.levels import SYSLOG_LEVELS, UNKNOWN
from ezadmin_wire.logs.formats import LOGGERS, bounded, flat
from ezadmin_wire.logs.levels import level_of, level_of_field
from ezadmin_wire.logs.parse import Parsed, Parser, event
from ezadmin_wire.logs.rfc5424 import parse_rfc5424
from ezadmin_wire.names import Names
from ezadmin_wire.times import format_epoch_ms

LABEL = "foreign"
"""Label of hosts that are known from a foreign topic only."""
FORMATS = ("auto", "json", "text")
TIMES = (
    "@timestamp", "timestamp", "time", "ts", "timereported", "timegenerated", "date", "datetime", "eventtime", "asctime",
    "_source_realtime_timestamp", "__realtime_timestamp",
)  # fmt: skip
LEVELS = (
    "log.level", "level", "severity", "loglevel", "log_level", "levelname", "lvl", "log.syslog.severity.name",
    "log.syslog.severity.code", "syslogseverity", "syslogseverity-text", "syslogseverity_text", "priority",
)  # fmt: skip
MESSAGES = (
    "message",
    "msg",
    "log",
    "short_message",
    "rawmsg-after-pri",
    "rawmsg",
    "event.original",
    "full_message",
    "body",
)
HOSTS = (
    "host.name", "host.hostname", "hostname", "log.syslog.hostname", "_hostname", "agent.hostname", "agent.name",
    "beat.hostname", "fromhost", "kubernetes.host", "kubernetes.node.name", "host", "source",
)  # fmt: skip
ROOT: Mapping[str, type] = {
    **dict.fromkeys(
        (
            "event.kind", "event.category", "event.type", "event.action", "event.outcome", "event.code", "event.provider",
            "log.file.path", "log.syslog.appname", "log.syslog.procid", "log.syslog.msgid", "process.name",
            "process.thread.name", "service.name", "user.name", "error.type", "error.message", "error.stack_trace",
            "source.ip", "client.ip", "url.path",
        ),
        str,
    ),
    "log.offset": int,
    "process.pid": int,
    "http.response.status_code": int,
}  # fmt: skip
"""Fields that stand at the root as they come; others go to ``fields``."""
ALIASES = {
    "programname": "process.name",
    "syslog_identifier": "process.name",
    "app-name": "log.syslog.appname",
    "procid": "process.pid",
    "_pid": "process.pid",
    "pid": "process.pid",
    "msgid": "log.syslog.msgid",
    "logger.name": "log.logger",
}
_NAMESPACE = uuid.UUID("6d1c2b0e-6f3a-4c53-9a6e-3f0f5d9f6b1a")
_KLOG = re.compile(
    r"([IWEF])([0-9]{2})([0-9]{2}) ([0-9]{2}:[0-9]{2}:[0-9]{2})\.([0-9]{3})[0-9]* +([0-9]+) ([^\s\]]+)\] "
)
_TAG = re.compile(r"([^\s:\[]{1,128})(?:\[([0-9]{1,10})\])?:?")
_CLF = re.compile(r"[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4}")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True)
class Foreign:
    """A foreign topic: ``format`` is one of :data:`FORMATS`; ``hosts``: patterns of host names that are let in.

    ``host``, ``time``, ``level``, ``message``: the fields (dotted) that hold these, instead of the usual ones.
    """

    topic: str
    dataset: str
    format: str = "auto"
    hosts: tuple[str, ...] = ("*",)
    host: str | None = None
    time: str | None = None
    level: str | None = None
    message: str | None = None


def host_id(topic: str, name: str) -> str:
    """The host.id of the host that calls itself ``name`` in ``topic``: always the same, and no agent's."""
    return str(uuid.uuid5(_NAMESPACE, f"{topic}\n{name.lower()}"))


class ForeignReader:
    """Reads the messages of one foreign topic."""

    def __init__(self, foreign: Foreign, names: Names) -> None:
        self._foreign = foreign
        self._names = names
        self._syslog = Parser(syslog=True)
        self._lower = {name: (getattr(foreign, name),) for name in ("host", "time", "level", "message")}

    def read(self, value: bytes | None, taken_ms: int, stream: str, epoch: str, seq: int) -> Batch:
        """The message's event as a batch of one line, which nobody signed; ``kid`` holds the name of its host.

        ``taken_ms``: when Kafka took it. Raises WireError: ``bad_value``, ``too_large``, ``host_not_allowed``.
        """
        if not value or not value.strip():
            raise WireError("bad_value", "the message is empty")
        if len(value) > MAX_LINE:
            raise WireError("too_large", f"{len(value)} bytes in one event; at most {MAX_LINE}")
        table = self._object(value)
        if table is None:
            text = value.decode("utf-8", "replace").rstrip("\r\n\x00")
            parsed, path, offset = self._text(text, taken_ms), None, None
            host = parsed.host
        else:
            parsed, host, path, offset = self._json(table, taken_ms)
        host = (host or self._foreign.topic).strip()[:255] or self._foreign.topic
        if not any(fnmatch.fnmatchcase(host.lower(), pattern.lower()) for pattern in self._foreign.hosts):
            raise WireError("host_not_allowed", f"host {host!r} is none of those allowed in {self._foreign.topic}")
        created = format_epoch_ms(taken_ms)
        time, line = event(
            parsed._replace(host=host),
            dataset=self._foreign.dataset,
            created_ms=taken_ms,
            created=created,
            path=path,
            offset=offset,
        )
        return Batch(
            host=host_id(self._foreign.topic, host),
            kid=host,
            topic=self._names.logs,
            stream=stream,
            epoch=epoch,
            seq=seq,
            n=1,
            dataset=self._foreign.dataset,
            tmin=time,
            tmax=time,
            levels={parsed.level or UNKNOWN: 1},
            sent=created,
            value=line + b"\n",
        )

    def _object(self, value: bytes) -> dict[str, Any] | None:
        if self._foreign.format == "text" or (self._foreign.format == "auto" and value.lstrip()[:1] != b"{"):
            return None
        try:
            table = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            if self._foreign.format == "auto":
                return None
            raise WireError("bad_value", f"the message is no JSON: {error}") from error
        if not isinstance(table, dict):
            raise WireError("bad_value", "the message is no JSON object")
        return table

    def _text(self, text: str, now_ms: int) -> Parsed:
        parsed = parse_rfc5424(text, self._syslog, now_ms) or self._syslog.parse(text, now_ms)
        found = _KLOG.match(parsed.message)
        if found is None:
            return parsed
        stamp = f"{_MONTHS[min(12, max(1, int(found[2]))) - 1]} {int(found[3]):2} {found[4]}"
        time = parsed.time if parsed.host is not None else self._syslog.time_of(stamp, now_ms)
        if time is not None and parsed.host is None:
            time += int(found[5])
        return parsed._replace(
            time=time,
            level=level_of_field(found[1]),
            message=parsed.message[found.end() :],
            root={**(parsed.root or {}), "log.logger": found[7]},
        )

    def _json(self, table: Mapping[str, Any], now_ms: int) -> tuple[Parsed, str | None, str | None, int | None]:
        fields = _Fields(table)
        host = fields.take(self._lower["host"] if self._foreign.host else HOSTS)
        time_text = fields.take(self._lower["time"] if self._foreign.time else TIMES)
        level_text = fields.take(self._lower["level"] if self._foreign.level else LEVELS)
        message = fields.take(self._lower["message"] if self._foreign.message else MESSAGES)
        severity, facility = self._priority(fields)
        parsed = self._text((message or "").strip(), now_ms)
        level = level_of_field(level_text)
        if level is None and severity is not None:
            level = SYSLOG_LEVELS[severity]
        if level is None and level_text is not None:
            level = level_of(f"{level_text}:")
        root = dict(parsed.root or {})
        for name, kind in ROOT.items():
            value = fields.take((name,))
            if value is None:
                continue
            if kind is str:
                root[name] = value
            elif value.isascii() and value.isdigit() and len(value) < 19:
                root[name] = int(value)
            else:
                fields.rest[name] = value
        for alias, name in ALIASES.items():
            value = fields.take((alias,))
            if value is None or value == "-":
                continue
            if ROOT.get(name) is not int:
                root.setdefault(name, value)
            elif value.isascii() and value.isdigit() and len(value) < 19:
                root.setdefault(name, int(value))
        tag = _TAG.fullmatch(fields.take(("syslogtag",)) or "")
        if tag is not None:
            root.setdefault("process.name", tag[1])
            if tag[2]:
                root.setdefault("process.pid", int(tag[2]))
        logger = fields.take(LOGGERS)
        if logger is not None:
            root["log.logger"] = logger
        path, offset = root.pop("log.file.path", None), root.pop("log.offset", None)
        program, pid = root.pop("process.name", parsed.name), root.pop("process.pid", parsed.pid)
        time = None if time_text is None else moment(time_text, self._syslog, now_ms)
        if time is None and time_text is not None:
            fields.rest["unread.timestamp"] = time_text
        read = Parsed(
            time=parsed.time if time is None else time,
            level=level or parsed.level,
            message=parsed.message,
            name=program,
            pid=pid,
            severity=parsed.severity if severity is None else severity,
            facility=parsed.facility if facility is None else facility,
            fields=bounded(fields.rest) or None,
            root=root or None,
        )
        return read, host or parsed.host, path, offset

    @staticmethod
    def _priority(fields: _Fields) -> tuple[int | None, int | None]:
        """Severity and facility of a syslog priority in a field."""
        text = (fields.take(("pri", "log.syslog.priority")) or "").strip("<>")
        if text.isascii() and text.isdigit() and len(text) < 4 and int(text) <= 191:
            facility, severity = divmod(int(text), 8)
            return severity, facility
        text = fields.take(("syslogfacility", "log.syslog.facility.code")) or ""
        return None, int(text) if text.isascii() and text.isdigit() and len(text) < 4 else None


class _Fields:
    """The members of an object by dotted name; ``rest`` holds what was not taken yet. Names are found in any case."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.rest: dict[str, str] = dict(flat(table))
        self._names = {name.lower(): name for name in reversed(self.rest)}

    def take(self, names: Sequence[str]) -> str | None:
        """The first of ``names`` that is there and not empty, which is taken out."""
        for name in names:
            found = self._names.get(name.lower())
            if found is not None and self.rest.get(found):
                return self.rest.pop(found)
        return None


def moment(text: str, parser: Parser, now_ms: int) -> int | None:
    """The time that ``text`` says, in ms since 1970: ISO 8601, syslog's, a web server's, or seconds to nanoseconds since 1970."""
    digits = text.replace(".", "", 1)
    if digits.isascii() and digits.isdigit():
        whole, _, fraction = text.partition(".")
        if not 9 <= len(whole) <= 19:
            return None
        power = 3 if len(whole) <= 11 else 0 if len(whole) <= 14 else -3 if len(whole) <= 17 else -6
        if power == 3:
            return int(whole) * 1000 + int(fraction.ljust(3, "0")[:3] or 0)
        return int(whole) // int(10**-power)
    if _CLF.fullmatch(text):
        try:
            return int(datetime.strptime(text, "%d/%b/%Y:%H:%M:%S %z").astimezone(UTC).timestamp() * 1000)
        except (ValueError, OverflowError):  # the form of a time, and none
            return None
    return parser.time_of(text, now_ms)


def numbering(topic_id: str, partition: int) -> tuple[str, str]:
    """Stream and epoch that the events of a partition are numbered in: new if the topic is made anew."""
    return f"p{partition}", hashlib.blake2b(topic_id.encode(), digest_size=8).hexdigest()
