"""The configuration file (TOML).

``state_dir``       where identity and spool live (default ``/var/lib/ezadmin-agent``)
``prefix``          prefix of the topics (``ezadmin``)
``interval``        seconds between two ticks, 1 to 60 (10)
``[kafka]``         ``bootstrap``: brokers as ``host:port``, several with commas. Required for ``run``. ``proxy``: reach them
                    through a proxy, ``http://host:port`` (CONNECT) or ``socks5://host:port``
``[spool]``         ``cap_bytes``: bytes on disk at most (default 256 MiB or 10 % of the free disk, whichever is less)
``[[logs]]``        one table per log file: ``path``; ``dataset`` (``system.syslog`` for the system log, else ``log.file``);
                    ``format``: ``syslog`` or ``plain`` (by the dataset); ``from``: ``end`` or ``start``, where a file that
                    is there at the first start is read from (``end``). Without any: the system log file, else the journal
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

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
    """The whole configuration. ``logs`` None: find the system log."""

    state_dir: Path = Path("/var/lib/ezadmin-agent")
    names: Names = field(default_factory=Names)
    interval: int = 10
    bootstrap: Optional[str] = None
    proxy: Optional[str] = None
    cap_bytes: Optional[int] = None
    logs: Optional[tuple[LogConfig, ...]] = None


def load(path: Optional[Path]) -> Config:
    """Read ``path``, else the file that the environment names, else the usual one. Raises ConfigError."""
    if path is None:
        path = Path(os.environ.get(ENVIRONMENT) or DEFAULT_FILE)
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


class _Reader:
    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text.splitlines()

    def config(self, table: Mapping[str, Any]) -> Config:
        self._known(table, "", ("state_dir", "prefix", "interval", "kafka", "spool", "logs"))
        kafka = self._get(table, "kafka", dict, {}, "a table [kafka]")
        self._known(kafka, "kafka", ("bootstrap", "proxy"))
        spool = self._get(table, "spool", dict, {}, "a table [spool]")
        self._known(spool, "spool", ("cap_bytes",))
        interval = self._get(table, "interval", int, 10, "whole seconds, such as 10")
        if not 1 <= interval <= 60:
            raise self._error("interval", "", "write 1 to 60 seconds")
        cap_bytes = self._get(spool, "cap_bytes", int, None, "bytes, such as 268435456", "spool")
        if cap_bytes is not None and cap_bytes < 1 << 20:
            raise self._error("cap_bytes", "spool", "write at least 1048576 (1 MiB)")
        bootstrap = self._get(kafka, "bootstrap", str, None, 'text, such as "kafka1:9092,kafka2:9092"', "kafka")
        if bootstrap is not None:
            for broker in bootstrap.split(","):
                if not re.fullmatch(r"\s*(\[[0-9a-fA-F:]+\]|[^\s:,]+):[0-9]{1,5}\s*", broker):
                    raise self._error("bootstrap", "kafka", f'{broker!r} is no broker; write "host:port"')
        proxy = self._get(kafka, "proxy", str, None, 'text, such as "http://proxy:3128"', "kafka")
        if proxy is not None and not re.fullmatch(r"(http|socks5)://[^\s/]+:[0-9]{1,5}/?", proxy):
            raise self._error("proxy", "kafka", 'write "http://host:port" or "socks5://host:port"')
        try:
            names = Names(self._get(table, "prefix", str, "ezadmin", 'text, such as "ezadmin"'))
        except WireError as error:
            raise self._error("prefix", "", str(error)) from error
        logs = self._get(table, "logs", list, None, "tables [[logs]]")
        return Config(
            state_dir=Path(self._get(table, "state_dir", str, str(Config.state_dir), "a directory")),
            names=names,
            interval=interval,
            bootstrap=bootstrap,
            proxy=proxy,
            cap_bytes=cap_bytes,
            logs=None if logs is None else tuple(self._log(entry) for entry in logs),
        )

    def _log(self, table: Any) -> LogConfig:
        if not isinstance(table, dict):
            raise self._error("logs", "", "write tables [[logs]]")
        self._known(table, "logs", ("path", "dataset", "format", "from"))
        path = self._get(table, "path", str, None, "the file's path", "logs")
        if path is None or not path.startswith("/"):
            raise self._error("path", "logs", "write the absolute path of the log file")
        default = SYSLOG if path in SYSTEM_LOGS else LOG_FILE
        dataset = self._get(table, "dataset", str, default, f'text, such as "{LOG_FILE}"', "logs")
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", dataset):
            raise self._error("dataset", "logs", "use lower-case letters, digits, '.', '_' and '-'")
        form = self._get(
            table, "format", str, "syslog" if dataset == SYSLOG else "plain", '"syslog" or "plain"', "logs"
        )
        start = self._get(table, "from", str, "end", '"end" or "start"', "logs")
        if form not in ("syslog", "plain"):
            raise self._error("format", "logs", 'write "syslog" or "plain"')
        if start not in ("end", "start"):
            raise self._error("from", "logs", 'write "end" or "start"')
        return LogConfig(Path(path), dataset, form == "syslog", start == "start")

    def _known(self, table: Mapping[str, Any], where: str, keys: tuple[str, ...]) -> None:
        for key in table:
            if key not in keys:
                raise self._error(key, where, f"unknown key; there are {', '.join(keys)}")

    def _get(self, table: Mapping[str, Any], key: str, kind: type, default: Any, want: str, where: str = "") -> Any:
        value = table.get(key, default)
        if value is not default and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise self._error(key, where, f"write {want}")
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
