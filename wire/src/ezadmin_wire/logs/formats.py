"""Application fields out of lines: ``json``, ``kv`` (logfmt), or the named groups of a regular expression.

What is taken out of a line becomes time, level and message where a field is known to hold it; everything else goes to
the flattened ``fields``, as strings, at most :data:`MAX_FIELDS` of :data:`MAX_VALUE` characters. A line that is not of
the format stays as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Optional

from ezadmin_wire import jsontext
from ezadmin_wire.logs.levels import level_of, level_of_field
from ezadmin_wire.logs.parse import Parsed, Parser

MAX_FIELDS = 64
MAX_NAME = 128
MAX_VALUE = 1024
MAX_DEPTH = 5
TIMES = ("@timestamp", "timestamp", "time", "ts", "date", "datetime")
LEVELS = ("level", "log.level", "severity", "lvl", "levelname", "loglevel", "priority")
MESSAGES = ("message", "msg", "log", "event")
LOGGERS = ("logger", "log.logger", "logger_name", "name")
_PAIR = re.compile(r'([^\s="]{1,128})=(?:"((?:[^"\\]|\\.)*)"|([^\s"]*))')


class Format:
    """One of the formats. ``times``, ``levels``, ``messages``: the fields that hold these; None: the usual names."""

    def __init__(
        self,
        kind: str,
        pattern: Optional[re.Pattern[str]] = None,
        *,
        time: Optional[str] = None,
        level: Optional[str] = None,
        message: Optional[str] = None,
    ) -> None:
        self._read: Callable[[str], Optional[Mapping[str, str]]]
        if kind == "regex" and pattern is not None:
            self._read = lambda text: _regex(text, pattern)
        else:
            self._read = _json if kind == "json" else _kv
        self._times = TIMES if time is None else (time,)
        self._levels = LEVELS if level is None else (level,)
        self._messages = MESSAGES if message is None else (message,)

    def apply(self, parsed: Parsed, parser: Parser, now_ms: int) -> Parsed:
        """``parsed`` with what its message says."""
        found = self._read(parsed.message)
        if not found:
            return parsed
        fields = dict(found)
        time, level, message = parsed.time, None, parsed.message
        name = _first(fields, self._times)
        if name is not None:
            moment = parser.time_of(fields[name], now_ms)
            if moment is not None:
                time = moment
                del fields[name]
        name = _first(fields, self._levels)
        if name is not None:
            level = level_of_field(fields[name])
            if level is not None:
                del fields[name]
        name = _first(fields, self._messages)
        if name is not None:
            message = fields.pop(name)
        if level is None:
            level = parsed.level if parsed.severity is not None else level_of(message)
        root = dict(parsed.root or {})
        name = _first(fields, LOGGERS)
        if name is not None:
            root["log.logger"] = fields.pop(name)
        return parsed._replace(time=time, level=level, message=message, fields=bounded(fields), root=root)


def _first(fields: Mapping[str, str], names: tuple[str, ...]) -> Optional[str]:
    return next((name for name in names if name in fields), None)


def bounded(fields: Mapping[str, str]) -> dict[str, str]:
    """``fields`` as the flattened ``fields`` of an event takes them: so many, so long, with names that can be."""
    bounded: dict[str, str] = {}
    for name, value in fields.items():
        # levels in a batch's header are counted by looking for the key "log.level"; Elasticsearch refuses NUL and ""
        name = _clean(name)[:MAX_NAME].replace("\x00", "").strip(".")
        if not name or name == "log.level" or ".." in name:
            continue
        bounded[name] = _clean(value)[:MAX_VALUE]
        if len(bounded) >= MAX_FIELDS:
            break
    return bounded


def _clean(text: str) -> str:
    """Without halves of surrogate pairs, which JSON can escape and UTF-8 cannot hold."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _json(text: str) -> Optional[dict[str, str]]:
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = jsontext.loads(text)
    except ValueError:
        return None
    return flat(value) if isinstance(value, dict) else {}


def flat(table: Mapping[str, Any]) -> dict[str, str]:
    """The members of an object, nested ones by dotted name, as text; at most twice :data:`MAX_FIELDS` of them."""
    found: dict[str, str] = {}
    for name, inner in _flatten("", table, MAX_DEPTH):
        found[name] = _clean(inner)
        if len(found) >= 2 * MAX_FIELDS:
            break
    return found


def _flatten(prefix: str, table: Mapping[str, Any], depth: int) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and depth > 1:
            yield from _flatten(f"{name}.", value, depth - 1)
        elif isinstance(value, str):
            yield name, value
        elif value is not None:
            try:
                yield name, json.dumps(value, ensure_ascii=False, separators=(",", ":"))
            except RecursionError:  # what can be read need not be writable
                yield name, "(nested too deep)"


def _kv(text: str) -> Optional[dict[str, str]]:
    found = {}
    for match in _PAIR.finditer(text):
        quoted = match[2]
        found[match[1]] = match[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        if len(found) >= 2 * MAX_FIELDS:
            break
    return found


def _regex(text: str, pattern: re.Pattern[str]) -> Optional[dict[str, str]]:
    match = pattern.search(text, 0, 8192)
    return None if match is None else {name: value for name, value in match.groupdict().items() if value is not None}
