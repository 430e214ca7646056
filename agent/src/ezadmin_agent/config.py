"""The configuration file (TOML). :data:`SETTINGS` is the one table of it: what is read, checked and explained.

``ezadmin-agent config example`` prints every setting with its comment, made from the same table.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

from ezadmin_wire.errors import WireError
from ezadmin_wire.names import Names

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ENVIRONMENT = "EZADMIN_AGENT_CONFIG"
DEFAULT_FILE = Path("/etc/ezadmin/agent.toml")
SYSTEM_LOGS = ("/var/log/syslog", "/var/log/messages")
SYSLOG = "system.syslog"
LOG_FILE = "log.file"


class ConfigError(Exception):
    """The configuration file is missing or wrong; the text names file, line and key, and what to write instead."""


@dataclass(frozen=True)
class LogConfig:
    """One log file."""

    path: Path
    dataset: str
    syslog: bool
    from_start: bool


@dataclass(frozen=True)
class Config:
    """The whole configuration. ``logs`` None: find the system log. ``cpu_percent`` of one core, ``memory_mib`` resident."""

    state_dir: Path = Path("/var/lib/ezadmin-agent")
    names: Names = field(default_factory=Names)
    interval: int = 10
    bootstrap: Optional[str] = None
    proxy: Optional[str] = None
    cap_bytes: Optional[int] = None
    cpu_percent: float = 2.0
    memory_mib: int = 96
    logs: Optional[tuple[LogConfig, ...]] = None


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


def _prefix(value: str) -> Optional[str]:
    try:
        Names(value)
    except WireError as error:
        return str(error)
    return None


def _brokers(value: str) -> Optional[str]:
    for broker in value.split(","):
        if not re.fullmatch(r"\s*(\[[0-9a-fA-F:]+\]|[^\s:,]+):[0-9]{1,5}\s*", broker):
            return f'{broker!r} is no broker; write "host:port"'
    return None


def _must(pattern: str, text: str) -> Callable[[Any], Optional[str]]:
    return lambda value: None if re.fullmatch(pattern, value) else text


def _between(low: float, high: float, text: str) -> Callable[[Any], Optional[str]]:
    return lambda value: None if low <= value <= high else text


TABLES: Mapping[str, str] = {
    "kafka": "Where batches go.",
    "spool": "What is not sent yet waits on disk.",
    "limits": "Over one of these for 12 s, the agent runs its costly collectors less often, and says so in an event.",
    "logs": "One such table per log file. Without any: the system log, as a file or from the journal.",
}
MANY = ("logs",)
SETTINGS: tuple[Setting, ...] = (
    Setting("", "state_dir", str, str(Config.state_dir), "a directory", "Where identity and spool live"),
    Setting("", "prefix", str, "ezadmin", 'text, such as "ezadmin"', "Prefix of the topics", check=_prefix),
    Setting(
        "",
        "interval",
        int,
        10,
        "whole seconds, such as 10",
        "Seconds between two ticks, 1 to 60",
        check=_between(1, 60, "write 1 to 60 seconds"),
    ),
    Setting(
        "kafka",
        "bootstrap",
        str,
        None,
        'text, such as "kafka1:9092,kafka2:9092"',
        "Brokers, several with commas. Required to run",
        "kafka1:9092,kafka2:9092",
        _brokers,
    ),
    Setting(
        "kafka",
        "proxy",
        str,
        None,
        'text, such as "http://proxy:3128"',
        "Reach the brokers through a proxy: http://host:port (CONNECT) or socks5://host:port",
        "http://proxy:3128",
        _must(r"(http|socks5)://[^\s/]+:[0-9]{1,5}/?", 'write "http://host:port" or "socks5://host:port"'),
    ),
    Setting(
        "spool",
        "cap_bytes",
        int,
        None,
        "bytes, such as 268435456",
        "Bytes on disk at most. Without it: 256 MiB or 10 % of the free disk, whichever is less",
        268435456,
        _between(1 << 20, 1 << 50, "write at least 1048576 (1 MiB)"),
    ),
    Setting(
        "limits",
        "cpu_percent",
        float,
        Config.cpu_percent,
        "a number, such as 2.0",
        "CPU in percent of one core",
        check=_between(0.1, 10000, "write at least 0.1 (percent of one core)"),
    ),
    Setting(
        "limits",
        "memory_mib",
        int,
        Config.memory_mib,
        "MiB, such as 96",
        "Resident memory in MiB",
        check=_between(32, 1 << 20, "write at least 32 (MiB)"),
    ),
    Setting(
        "logs",
        "path",
        str,
        None,
        "the file's path",
        "The file",
        "/var/log/app.log",
        _must(r"/.*", "write the absolute path of the log file"),
    ),
    Setting(
        "logs",
        "dataset",
        str,
        None,
        f'text, such as "{LOG_FILE}"',
        f'Name of this kind of events. Without it: "{SYSLOG}" for the system log, else "{LOG_FILE}"',
        LOG_FILE,
        _must(r"[a-z0-9][a-z0-9._-]{0,63}", "use lower-case letters, digits, '.', '_' and '-'"),
    ),
    Setting(
        "logs",
        "format",
        str,
        None,
        '"syslog" or "plain"',
        f'"syslog" or "plain". Without it: "syslog" for the dataset "{SYSLOG}", else "plain"',
        "plain",
        _must(r"syslog|plain", 'write "syslog" or "plain"'),
    ),
    Setting(
        "logs",
        "from",
        str,
        "end",
        '"end" or "start"',
        'Where a file that is there at the first start is read from: "end" or "start"',
        check=_must(r"end|start", 'write "end" or "start"'),
    ),
)


def find(path: Optional[Path]) -> Path:
    """The file that is read: ``path``, else the one that the environment names, else the usual one."""
    return path if path is not None else Path(os.environ.get(ENVIRONMENT) or DEFAULT_FILE)


def load(path: Optional[Path]) -> Config:
    """Read the file of :func:`find`. Raises ConfigError."""
    path = find(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot read the configuration {path}: {error.strerror}. Name it with --config FILE or {ENVIRONMENT}"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text") from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error
    return _Reader(path, text).config(table)


def example() -> str:
    """A whole configuration file with every setting, commented; those with a default are shown with it, switched off."""
    out = [
        "# Configuration of ezadmin-agent. A line that begins with # is not read; such settings show the default",
        "# or a sample.",
    ]
    table = ""
    for setting in SETTINGS:
        if setting.table != table:
            table = setting.table
            header = f"[[{table}]]" if table in MANY else f"[{table}]"
            # a table that may stand there many times is switched off whole: an empty one would be an entry
            out += ["", f"# {TABLES[table]}", f"#{header}" if table in MANY else header]
        value = setting.default if setting.default is not None else setting.sample
        out += [f"# {setting.about}.", f"#{setting.key} = {json.dumps(value, ensure_ascii=False)}"]
    return "\n".join(out) + "\n"


class _Reader:
    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text.splitlines()

    def config(self, table: Mapping[str, Any]) -> Config:
        root = self._table(table, "", also=tuple(TABLES))
        for name in TABLES:
            if name not in MANY and not isinstance(table.get(name, {}), dict):
                raise self._error(name, "", f"write a table [{name}]")
        kafka, spool, limits = (self._table(table.get(name, {}), name) for name in ("kafka", "spool", "limits"))
        logs = table.get("logs")
        if logs is not None and not (isinstance(logs, list) and all(isinstance(entry, dict) for entry in logs)):
            raise self._error("logs", "", "write tables [[logs]]")
        return Config(
            state_dir=Path(root["state_dir"]),
            names=Names(root["prefix"]),
            interval=root["interval"],
            bootstrap=kafka["bootstrap"],
            proxy=kafka["proxy"],
            cap_bytes=spool["cap_bytes"],
            cpu_percent=float(limits["cpu_percent"]),
            memory_mib=limits["memory_mib"],
            logs=None if logs is None else tuple(self._log(entry) for entry in logs),
        )

    def _log(self, table: Mapping[str, Any]) -> LogConfig:
        found = self._table(table, "logs")
        if found["path"] is None:
            raise self._error("path", "logs", "write the absolute path of the log file")
        dataset = found["dataset"] or (SYSLOG if found["path"] in SYSTEM_LOGS else LOG_FILE)
        form = found["format"] or ("syslog" if dataset == SYSLOG else "plain")
        return LogConfig(Path(found["path"]), dataset, form == "syslog", found["from"] == "start")

    def _table(self, table: Mapping[str, Any], where: str, also: tuple[str, ...] = ()) -> dict[str, Any]:
        """The value of every setting of a table, checked; its default where it is absent."""
        settings = [setting for setting in SETTINGS if setting.table == where]
        keys = (*(setting.key for setting in settings), *also)
        for key in table:
            if key not in keys:
                raise self._error(key, where, f"unknown key; there are {', '.join(keys)}")
        return {setting.key: self._value(table, setting) for setting in settings}

    def _value(self, table: Mapping[str, Any], setting: Setting) -> Any:
        if setting.key not in table:
            return setting.default
        value = table[setting.key]
        kinds = (int, float) if setting.kind is float else (setting.kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and setting.kind is not bool):
            raise self._error(setting.key, setting.table, f"write {setting.want}")
        wrong = setting.check(value)
        if wrong is not None:
            raise self._error(setting.key, setting.table, wrong)
        return value

    def _error(self, key: str, where: str, what: str) -> ConfigError:
        """Name the line: the first one that sets ``key`` behind the header of its table."""
        name = f"{where}.{key}" if where else key
        inside = not where
        for number, line in enumerate(self._text, start=1):
            header = re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]", line)
            if header:
                if header[1] == name:
                    return ConfigError(f"{self._path}, line {number}: {name}: {what}")
                inside = header[1] == where
            elif inside and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
                return ConfigError(f"{self._path}, line {number}: {name}: {what}")
        return ConfigError(f"{self._path}: {name}: {what}")
