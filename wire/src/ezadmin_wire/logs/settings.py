"""The settings of one source of logs, as ``[[logs]]`` of the agent's file and as the managed configuration have them.

:data:`SETTINGS` is the one table of them: what is read, checked and explained.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

from ezadmin_wire.logs.levels import RANK
from ezadmin_wire.logs.patterns import PatternError
from ezadmin_wire.logs.rules import ENCODINGS, Multiline, RuleConfig, Rules

SYSTEM_LOGS = ("/var/log/syslog", "/var/log/messages")
SYSLOG = "system.syslog"
LOG_FILE = "log.file"


class SettingError(ValueError):
    """A setting that cannot be used: ``key`` names it, the text says what to write."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


@dataclass(frozen=True)
class LogConfig:
    """One source of logs. ``path`` may be a glob; or the source is ``journal``, ``kernel``, or a socket to ``listen`` on.

    ``full``: what happens at the spool's cap to a source that could wait: ``wait`` or ``drop``.
    """

    path: Optional[Path]
    dataset: str
    syslog: bool
    from_start: bool
    kind: str = "file"
    listen: Optional[str] = None
    full: str = "wait"
    rules: RuleConfig = field(default_factory=RuleConfig)


@dataclass(frozen=True)
class Setting:
    """A key of the file. ``want``: what to write, for errors; ``about``: for the example, beside the ``sample`` value.

    ``default`` None: unset. ``check`` returns what is wrong with a value of the right kind, or None.
    """

    table: str
    key: str
    kind: type
    default: Any
    want: str
    about: str
    sample: Any = None
    check: Callable[[Any], Optional[str]] = lambda _value: None


def must(pattern: str, text: str) -> Callable[[Any], Optional[str]]:
    """A check: the value must match ``pattern`` whole, else ``text`` is what is wrong."""
    return lambda value: None if re.fullmatch(pattern, value) else text


def between(low: float, high: float, text: str) -> Callable[[Any], Optional[str]]:
    """A check: the value must lie between the two."""
    return lambda value: None if low <= value <= high else text


def _texts(value: list[Any]) -> Optional[str]:
    return None if all(isinstance(item, str) for item in value) else "write a list of regular expressions"


def _multiline(value: Mapping[str, Any]) -> tuple[Optional[Multiline], Optional[str]]:
    text = 'write { start = "regex" } or { continue = "regex" }, with max_lines (2 to 5000) and seconds if need be'
    start, go_on = value.get("start"), value.get("continue")
    max_lines, seconds = value.get("max_lines", Multiline.max_lines), value.get("seconds", Multiline.seconds)
    right = (
        not value.keys() - {"start", "continue", "max_lines", "seconds"}
        and (start is None) != (go_on is None)
        and isinstance(start if go_on is None else go_on, str)
        and isinstance(max_lines, int)
        and 2 <= max_lines <= 5000
        and isinstance(seconds, (int, float))
        and 0 < seconds <= 60
    )
    return (Multiline(start, go_on, max_lines, float(seconds)), None) if right else (None, text)


def _parse(value: Any) -> Optional[str]:
    """The format: a word, or the text of an expression with named groups; None if it is neither."""
    if isinstance(value, dict) and set(value) == {"regex"} and isinstance(value["regex"], str):
        return str(value["regex"]) if "(?P<" in value["regex"] else None
    return value if value in ("json", "kv") else None


def _masks(value: list[Any]) -> Optional[tuple[tuple[str, str], ...]]:
    if not all(isinstance(item, dict) and set(item) == {"regex", "with"} for item in value):
        return None
    found = tuple((item["regex"], item["with"]) for item in value)
    return found if all(isinstance(text, str) for pair in found for text in pair) else None


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "logs",
        "path",
        str,
        None,
        "the file's path",
        "The file; with *, ? or [ it stands for all files of such names, also those that come later",
        "/var/log/app.log",
        must(r"/.*", "write the absolute path of the log file"),
    ),
    Setting(
        "logs",
        "source",
        str,
        "file",
        '"file", "journal", "kernel" or "syslog"',
        'Instead of a path: "journal", "kernel" (/dev/kmsg) or "syslog" (with listen)',
        check=must(r"file|journal|kernel|syslog", 'write "file", "journal", "kernel" or "syslog"'),
    ),
    Setting(
        "logs",
        "listen",
        str,
        None,
        'text, such as "udp://127.0.0.1:5514"',
        'Address of a syslog socket: "udp://host:port" or "tcp://host:port"',
        "udp://127.0.0.1:5514",
        must(r"(udp|tcp)://(\[[0-9a-fA-F:]+\]|[^\s/:]+):[0-9]{1,5}", 'write "udp://host:port" or "tcp://host:port"'),
    ),
    Setting(
        "logs",
        "dataset",
        str,
        None,
        f'text, such as "{LOG_FILE}"',
        f'Name of this kind of events. Without it: "{SYSLOG}" for the system log, else "{LOG_FILE}"',
        LOG_FILE,
        must(r"[a-z0-9][a-z0-9._-]{0,63}", "use lower-case letters, digits, '.', '_' and '-'"),
    ),
    Setting(
        "logs",
        "format",
        str,
        None,
        '"syslog" or "plain"',
        f'"syslog" or "plain". Without it: "syslog" for the dataset "{SYSLOG}", else "plain"',
        "plain",
        must(r"syslog|plain", 'write "syslog" or "plain"'),
    ),
    Setting(
        "logs",
        "from",
        str,
        "end",
        '"end" or "start"',
        'Where a file that is there at the first start is read from: "end" or "start"',
        check=must(r"end|start", 'write "end" or "start"'),
    ),
    Setting(
        "logs",
        "encoding",
        str,
        "utf-8",
        '"utf-8", "cp949" or "euc-kr"',
        'Encoding of the file: "utf-8", "cp949" or "euc-kr"',
        check=must("|".join(ENCODINGS), 'write "utf-8", "cp949" or "euc-kr"'),
    ),
    Setting(
        "logs",
        "multiline",
        dict,
        None,
        '{ start = "regex" } or { continue = "regex" }',
        'Events of several lines: how the first line looks ("start") or each further one ("continue"); and '
        "max_lines (500), seconds (2) to wait for more",
        {"start": r"^\d{4}-"},
        lambda value: _multiline(value)[1],
    ),
    Setting(
        "logs",
        "parse",
        object,
        None,
        '"json", "kv" or { regex = "…" }',
        'Read application fields: "json", "kv" (name=value) or { regex = "…" } with named groups',
        "json",
        lambda value: None if _parse(value) else 'write "json", "kv" or { regex = "(?P<name>…)" }',
    ),
    Setting("logs", "time_field", str, None, "a field's name", "Field that holds the time", "ts"),
    Setting("logs", "level_field", str, None, "a field's name", "Field that holds the level", "severity"),
    Setting("logs", "message_field", str, None, "a field's name", "Field that holds the message", "msg"),
    Setting(
        "logs",
        "min_level",
        str,
        None,
        'a level, such as "warning"',
        "Drop what is less severe; a line without a level counts as info",
        "notice",
        must("|".join(RANK), f"write one of {', '.join(RANK)}"),
    ),
    Setting(
        "logs",
        "include",
        list,
        None,
        "a list of regular expressions",
        "Drop what matches none of these",
        ["^app"],
        _texts,
    ),
    Setting(
        "logs",
        "exclude",
        list,
        None,
        "a list of regular expressions",
        "Drop what matches one of these",
        ["GET /health"],
        _texts,
    ),
    Setting(
        "logs",
        "mask",
        list,
        None,
        'a list of { regex = "…", with = "…" }',
        "Replace before anything leaves the host",
        [{"regex": r"password=\S+", "with": "password=***"}],
        lambda value: None if _masks(value) is not None else 'write a list of { regex = "…", with = "…" }',
    ),
    Setting(
        "logs",
        "sample",
        int,
        1,
        "a whole number, such as 10",
        "Keep 1 in so many; errors and worse always",
        check=between(1, 1_000_000, "write 1 to 1000000"),
    ),
    Setting(
        "logs",
        "full",
        str,
        "wait",
        '"wait" or "drop"',
        'When the spool is nearly full: "wait" leaves the lines in the file, "drop" drops low levels first and counts them',
        check=must(r"wait|drop", 'write "wait" or "drop"'),
    ),
)


def values_of(settings: Sequence[Setting], table: Mapping[str, Any], also: Sequence[str] = ()) -> dict[str, Any]:
    """The value of every setting of a table, checked; its default where it is absent. Raises SettingError."""
    keys = (*(setting.key for setting in settings), *also)
    for key in table:
        if key not in keys:
            raise SettingError(key, f"unknown key; there are {', '.join(keys)}")
    return {setting.key: _value(table, setting) for setting in settings}


def _value(table: Mapping[str, Any], setting: Setting) -> Any:
    if setting.key not in table:
        return setting.default
    value = table[setting.key]
    kinds = (int, float) if setting.kind is float else (setting.kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and setting.kind is not bool):
        raise SettingError(setting.key, f"write {setting.want}")
    wrong = setting.check(value)
    if wrong is not None:
        raise SettingError(setting.key, wrong)
    return value


def source(table: Mapping[str, Any]) -> LogConfig:
    """The source that a table describes. Raises SettingError."""
    found = values_of(SETTINGS, table)
    kind, path = found["source"], found["path"]
    if (kind == "file") != (path is not None):
        raise SettingError("path", "write the absolute path of the log file, or another source, not both")
    if (kind == "syslog") != (found["listen"] is not None):
        raise SettingError("listen", 'write listen = "udp://host:port" with source = "syslog", and only there')
    dataset = found["dataset"] or {"kernel": "system.kernel", "file": LOG_FILE}.get(kind, SYSLOG)
    if path in SYSTEM_LOGS and found["dataset"] is None:
        dataset = SYSLOG
    form = found["format"] or ("syslog" if dataset == SYSLOG else "plain")
    rules = RuleConfig(
        encoding=found["encoding"],
        multiline=None if found["multiline"] is None else _multiline(found["multiline"])[0],
        parse=None if found["parse"] is None else _parse(found["parse"]),
        time_field=found["time_field"],
        level_field=found["level_field"],
        message_field=found["message_field"],
        min_level=found["min_level"],
        include=tuple(found["include"] or ()),
        exclude=tuple(found["exclude"] or ()),
        mask=_masks(found["mask"] or []) or (),
        sample=found["sample"],
    )
    try:
        Rules(rules)
    except (PatternError, re.error, IndexError) as error:
        raise SettingError(_setter(str(error), found), str(error)) from error
    return LogConfig(
        None if path is None else Path(path),
        dataset,
        form == "syslog",
        found["from"] == "start",
        kind,
        found["listen"],
        found["full"],
        rules,
    )


def _setter(error: str, found: Mapping[str, Any]) -> str:
    """The key whose expression ``error`` is about."""
    for key in ("include", "exclude", "mask", "multiline", "parse"):
        texts = json.dumps(found[key], ensure_ascii=False)
        quoted = re.match(r"'(.*?)' (?:is no|repeats|takes)", error)
        if quoted and json.dumps(quoted[1].encode().decode("unicode_escape"), ensure_ascii=False)[1:-1] in texts:
            return key
    return "mask"
