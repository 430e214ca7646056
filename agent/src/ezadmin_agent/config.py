"""The configuration file (TOML). :data:`SETTINGS` is the one table of it: what is read, checked and explained.

``ezadmin-agent config example`` prints every setting with its comment, made from the same table.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from ezadmin_agent.control import enrolment
from ezadmin_agent.control.enrolment import Enrolment
from ezadmin_wire.commands import KINDS
from ezadmin_wire.enrolment import check_url
from ezadmin_wire.errors import WireError
from ezadmin_wire.kafka import SETTINGS as KAFKA_SETTINGS
from ezadmin_wire.kafka import KafkaConnection, brokers_problem
from ezadmin_wire.logs.settings import SETTINGS as SOURCE_SETTINGS
from ezadmin_wire.logs.settings import (
    LogConfig,
    Setting,
    SettingError,
    between,
    must,
    source,
    values_of,
)
from ezadmin_wire.names import Names
from ezadmin_wire.signing import VerifyKey

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

log = logging.getLogger(__name__)

ENVIRONMENT = "EZADMIN_AGENT_CONFIG"
DEFAULT_FILE = Path("/etc/ezadmin/agent.toml")


class ConfigError(Exception):
    """The configuration file is missing or wrong; the text names file, line and key, and what to write instead."""


@dataclass(frozen=True)
class Config:
    """The whole configuration. ``logs`` None: find the system log. ``cpu_percent`` of one core, ``memory_mib`` resident.

    ``server`` is the URL of the web application, without a slash at its end, ``gateway`` that of the gateway;
    ``transport`` is ``kafka`` or ``https``. Only commands of the kinds ``allow``, as the accounts ``allow_accounts``,
    signed with one of ``command_keys``, are done. ``enrolled``: what enrolment left; it stands behind the settings that
    the file does not have, and ``written`` are those that it has, as ``table.key``. ``entries`` are the ``logs`` as they
    were written.
    """

    state_dir: Path = Path("/var/lib/ezadmin-agent")
    names: Names = field(default_factory=Names)
    interval: int = 10
    server: Optional[str] = None
    server_ca_file: Optional[str] = None
    gateway: Optional[str] = None
    gateway_ca_file: Optional[str] = None
    gateway_proxy: Optional[str] = None
    transport: str = "kafka"
    allow: tuple[str, ...] = KINDS
    allow_accounts: tuple[str, ...] = ()
    command_keys: tuple[str, ...] = ()
    enrolled: Optional[Enrolment] = None
    written: frozenset[str] = field(default=frozenset(), compare=False)
    kafka: Optional[KafkaConnection] = None
    proxy: Optional[str] = None
    cap_bytes: Optional[int] = None
    cpu_percent: float = 2.0
    memory_mib: int = 96
    replay_bytes: int = 4 << 20
    surge_bytes: int = 512 << 10
    surge_burst: int = 16 << 20
    surge_share: float = 0.5
    logs: Optional[tuple[LogConfig, ...]] = None
    entries: Optional[tuple[Mapping[str, Any], ...]] = field(default=None, compare=False)

    def gateway_authority(self) -> Optional[str]:
        """PEM text of the authority that is trusted for the gateway; None: those that the system trusts.

        Raises ConfigError for a file that cannot be read.
        """
        if self.gateway_ca_file is None:
            known = self.enrolled is not None and self.enrolled.gateway == self.gateway
            return self.enrolled.ca if known and self.enrolled is not None else None
        try:
            return Path(self.gateway_ca_file).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not a PEM file"
            raise ConfigError(f"gateway_ca_file {self.gateway_ca_file}: {why}") from error


def _prefix(value: str) -> Optional[str]:
    try:
        Names(value)
    except WireError as error:
        return str(error)
    return None


def _words(value: list[Any]) -> Optional[str]:
    return None if all(isinstance(item, str) and item for item in value) else "write a list of texts"


def _kinds(value: list[Any]) -> Optional[str]:
    return None if all(item in KINDS for item in value) else f"write a list of these: {', '.join(KINDS)}"


def _public_keys(value: list[Any]) -> Optional[str]:
    try:
        for item in value:
            VerifyKey.from_hex(str(item))
    except WireError as error:
        return str(error)
    return None


def _gateway(value: str) -> Optional[str]:
    try:
        check_url(value.rstrip("/"))
    except WireError:
        return 'write "https://host" or "https://host:port"'
    return None


TABLES: Mapping[str, str] = {
    "commands": "What this host does when a signed command says so.",
    "kafka": "Where batches go.",
    "spool": "What is not sent yet waits on disk.",
    "limits": "Over one of these for 12 s, the agent runs its costly collectors less often, and says so in an event.",
    "surge": "A source that brings more than this has its repeats collapsed into one event with a count; errors never.",
    "logs": "One such table per log file. Without any: the system log, as a file or from the journal.",
}
MANY = ("logs",)
MANAGED = "managed"
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
        check=between(1, 60, "write 1 to 60 seconds"),
    ),
    Setting(
        "",
        "server",
        str,
        None,
        'text, such as "https://ezadmin.example.com"',
        'Address of the web application, which "check" asks whether a record has arrived',
        "https://ezadmin.example.com",
        must(r"https?://[^\s/?#]+(/[^\s?#]*)?", 'write "https://host" or "http://host:port"'),
    ),
    Setting(
        "",
        "server_ca_file",
        str,
        None,
        "the path of a PEM file",
        "Certificates of the authority that signed the server's. Without it: those that the system trusts",
        "/etc/ezadmin/server-ca.pem",
    ),
    Setting(
        "",
        "gateway",
        str,
        None,
        'text, such as "https://gateway.example.com:8443"',
        "Address of the gateway, by which commands come. Without it: the one of the enrolment",
        "https://gateway.example.com:8443",
        _gateway,
    ),
    Setting(
        "",
        "gateway_ca_file",
        str,
        None,
        "the path of a PEM file",
        "Certificate of the authority that alone is trusted for the gateway. Without it: the one of the enrolment, or "
        "those that the system trusts",
        "/etc/ezadmin/gateway-ca.pem",
    ),
    Setting(
        "",
        "gateway_proxy",
        str,
        None,
        'text, such as "http://proxy:3128"',
        'Reach the gateway through a proxy (CONNECT); "" for none, whatever was said at enrolment',
        "http://proxy:3128",
        must(r"|http://[^\s/]+(:[0-9]{1,5})?/?", 'write "http://host:port", or "" for none'),
    ),
    Setting(
        "",
        "transport",
        str,
        None,
        '"kafka" or "https"',
        'How data leaves: straight to the brokers ("kafka") or through the gateway ("https"). Without it: "kafka" where '
        "[kafka] or the enrolment names brokers",
        "https",
        must(r"kafka|https", 'write "kafka" or "https"'),
    ),
    Setting(
        "commands",
        "allow",
        list,
        None,
        "a list of kinds of commands",
        f"Kinds of commands that are done; [] for none. Without it: {', '.join(KINDS)}",
        ["inventory", "sample", "stop", "resume"],
        _kinds,
    ),
    Setting(
        "commands",
        "allow_accounts",
        list,
        None,
        "a list of accounts of this host",
        "Accounts that a command may name to run something as. Without it: none",
        ["deploy"],
        _words,
    ),
    Setting(
        "commands",
        "command_keys",
        list,
        None,
        "a list of public keys (64 hex digits each)",
        "Keys that commands must be signed with. Without it: the one of the enrolment token",
        ["0123456789abcdef" * 4],
        _public_keys,
    ),
    *(
        Setting(
            "kafka",
            one.key,
            one.kind,
            one.default,
            one.want,
            f"{one.about}. Required to run" if one.key == "bootstrap" else one.about,
            one.sample,
            brokers_problem if one.key == "bootstrap" else lambda value: None if value != "" else "it is empty",
        )
        for one in KAFKA_SETTINGS
    ),
    Setting(
        "kafka",
        "proxy",
        str,
        None,
        'text, such as "http://proxy:3128"',
        "Reach the brokers through a proxy: http://host:port (CONNECT) or socks5://host:port",
        "http://proxy:3128",
        must(r"(http|socks5)://[^\s/]+:[0-9]{1,5}/?", 'write "http://host:port" or "socks5://host:port"'),
    ),
    Setting(
        "spool",
        "cap_bytes",
        int,
        None,
        "bytes, such as 268435456",
        "Bytes on disk at most. Without it: 256 MiB or 10 % of the free disk, whichever is less",
        268435456,
        between(1 << 20, 1 << 50, "write at least 1048576 (1 MiB)"),
    ),
    Setting(
        "spool",
        "replay_bytes",
        int,
        Config.replay_bytes,
        "bytes per second, such as 4194304",
        "Bytes a second, before compression, at which is sent at most, also what an outage left",
        check=between(64 << 10, 1 << 40, "write at least 65536"),
    ),
    Setting(
        "limits",
        "cpu_percent",
        float,
        Config.cpu_percent,
        "a number, such as 2.0",
        "CPU in percent of one core",
        check=between(0.1, 10000, "write at least 0.1 (percent of one core)"),
    ),
    Setting(
        "limits",
        "memory_mib",
        int,
        Config.memory_mib,
        "MiB, such as 96",
        "Resident memory in MiB",
        check=between(32, 1 << 20, "write at least 32 (MiB)"),
    ),
    Setting(
        "surge",
        "bytes_per_second",
        int,
        Config.surge_bytes,
        "bytes per second, such as 524288",
        "Bytes a second that a source may bring for long",
        check=between(1024, 1 << 40, "write at least 1024"),
    ),
    Setting(
        "surge",
        "burst_bytes",
        int,
        Config.surge_burst,
        "bytes, such as 16777216",
        "Bytes that it may bring at once before",
        check=between(1024, 1 << 40, "write at least 1024"),
    ),
    Setting(
        "surge",
        "spool_share",
        float,
        Config.surge_share,
        "a number, such as 0.5",
        "Share of the spool's room for logs from which on the repeats of all sources are collapsed",
        check=between(0.05, 1, "write 0.05 to 1"),
    ),
    *SOURCE_SETTINGS,
    Setting(
        "logs",
        "managed",
        bool,
        True,
        "true or false",
        "Whether the managed configuration (made in the web application) may say something about this source",
    ),
)


def find(path: Optional[Path]) -> Path:
    """The file that is read: ``path``, else the one that the environment names, else the usual one."""
    return path if path is not None else Path(os.environ.get(ENVIRONMENT) or DEFAULT_FILE)


def load(path: Optional[Path]) -> Config:
    """Read the file of :func:`find`. Raises ConfigError, IdentityError.

    Without a file that somebody named, a host that is enrolled needs none.
    """
    named = path is not None or bool(os.environ.get(ENVIRONMENT))
    path = find(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not named and enrolment.file(Config.state_dir).exists():
            return _Reader(path, "").config({})
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


def state_dir_for_enrolment(path: Optional[Path]) -> Path:
    """The state directory of the configuration; where there is no file that somebody named, the usual one.

    Raises ConfigError, IdentityError.
    """
    if path is None and not os.environ.get(ENVIRONMENT) and not DEFAULT_FILE.exists():
        return Config.state_dir
    return load(path).state_dir


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
        out += [f"# {setting.about}.", f"#{setting.key} = {_toml(value)}"]
    return "\n".join(out) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(inner) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=False)


class Watch:
    """Notices when the configuration file changes. What applies at once are the ``[[logs]]``; the rest needs a restart."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = self._look()

    def changed(self) -> Optional[Config]:
        """The new configuration, once; None if there is none, or if it is wrong: then the old one stays in force."""
        stamp = self._look()
        if stamp is None or stamp == self._stamp:
            return None
        self._stamp = stamp
        try:
            config = load(self._path)
        except ConfigError as error:
            log.error("the new configuration is not used, the one before stays in force: %s", error)
            return None
        log.warning("%s has changed: its [[logs]] apply from now on; other settings after a restart", self._path)
        return config

    def _look(self) -> Optional[tuple[int, int, int]]:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _written(table: Mapping[str, Any]) -> Iterator[str]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from (f"{name}.{key}" for key in value)
        yield name


def _enrolled(config: Config, enrolled: Enrolment) -> Config:
    """``config`` with what enrolment says where the file says nothing. What belongs together is taken together."""
    given: dict[str, Any] = {}
    if config.gateway is None or config.gateway == enrolled.gateway:
        given["gateway"] = enrolled.gateway
        if "gateway_proxy" not in config.written:
            given["gateway_proxy"] = enrolled.proxy
    if "prefix" not in config.written:
        given["names"] = Names(enrolled.prefix)
    if not config.command_keys:
        given["command_keys"] = tuple(enrolled.command_keys)
    if config.kafka is None and enrolled.kafka is not None:
        given["kafka"] = kafka_of(enrolled, config.state_dir)
    return replace(config, **given)


def kafka_of(enrolled: Enrolment, state_dir: Path) -> Optional[KafkaConnection]:
    """The connection that this host was given at its enrolment."""
    access = enrolled.kafka
    if access is None:
        return None
    return KafkaConnection(
        bootstrap=access.bootstrap,
        tls=access.tls,
        ca_file=None if access.ca is None else str(enrolment.kafka_ca(state_dir)),
        sasl=None if access.user is None else "SCRAM-SHA-512",
        user=access.user,
        password_file=None if access.password is None else str(enrolment.kafka_password(state_dir)),
    )


class _Reader:
    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text.splitlines()

    def config(self, table: Mapping[str, Any]) -> Config:
        root = self._table(table, "", also=tuple(TABLES))
        for name in TABLES:
            if name not in MANY and not isinstance(table.get(name, {}), dict):
                raise self._error(name, "", f"write a table [{name}]")
        if isinstance(table.get("kafka"), dict) and "password" in table["kafka"]:
            raise self._error(
                "password", "kafka", "a password does not stand here: write password_file or password_env"
            )
        kafka, spool, limits, surge, commands = (
            self._table(table.get(name, {}), name) for name in ("kafka", "spool", "limits", "surge", "commands")
        )
        logs = table.get("logs")
        if logs is not None and not (isinstance(logs, list) and all(isinstance(entry, dict) for entry in logs)):
            raise self._error("logs", "", "write tables [[logs]]")
        state_dir = Path(root["state_dir"])
        enrolled = enrolment.read(state_dir)
        config = Config(
            state_dir=state_dir,
            names=Names(root["prefix"]),
            interval=root["interval"],
            server=None if root["server"] is None else root["server"].rstrip("/"),
            server_ca_file=root["server_ca_file"],
            gateway=None if root["gateway"] is None else root["gateway"].rstrip("/"),
            gateway_ca_file=root["gateway_ca_file"],
            gateway_proxy=root["gateway_proxy"] or None,
            allow=KINDS if commands["allow"] is None else tuple(commands["allow"]),
            allow_accounts=tuple(commands["allow_accounts"] or ()),
            command_keys=tuple(commands["command_keys"] or ()),
            enrolled=enrolled,
            written=frozenset(_written(table)),
            kafka=self._kafka(kafka),
            proxy=kafka["proxy"],
            cap_bytes=spool["cap_bytes"],
            cpu_percent=float(limits["cpu_percent"]),
            memory_mib=limits["memory_mib"],
            replay_bytes=spool["replay_bytes"],
            surge_bytes=surge["bytes_per_second"],
            surge_burst=surge["burst_bytes"],
            surge_share=float(surge["spool_share"]),
            logs=None if logs is None else tuple(self._log(entry) for entry in logs),
            entries=None if logs is None else tuple(logs),
        )
        if enrolled is not None:
            config = _enrolled(config, enrolled)
        transport = root["transport"] or ("kafka" if config.kafka is not None or config.gateway is None else "https")
        if transport == "https" and config.gateway is None:
            raise self._error(
                "transport", "", 'write gateway = "https://…", or enrol this host: ezadmin-agent enrol TOKEN'
            )
        return replace(config, transport=transport)

    def _kafka(self, found: Mapping[str, Any]) -> Optional[KafkaConnection]:
        """The connection; its files are looked at only where it is used: the agent starts without them, and says so."""
        given = {one.key: found[one.key] for one in KAFKA_SETTINGS}
        if given["bootstrap"] is None:
            return None
        connection = KafkaConnection(**given)
        try:
            connection.check("kafka")
        except WireError as error:
            text = str(error).partition(": ")[2]
            raise self._error(
                next((key for key in given if re.match(rf"{key}\b", text)), "sasl"), "kafka", text
            ) from error
        return connection

    def _log(self, table: Mapping[str, Any]) -> LogConfig:
        try:
            values_of([setting for setting in SETTINGS if setting.table == "logs"], table)
            return source({key: value for key, value in table.items() if key != MANAGED})
        except SettingError as error:
            raise self._error(error.key, "logs", str(error)) from error

    def _table(self, table: Mapping[str, Any], where: str, also: tuple[str, ...] = ()) -> dict[str, Any]:
        """The value of every setting of a table, checked; its default where it is absent."""
        settings = [setting for setting in SETTINGS if setting.table == where]
        try:
            return values_of(settings, table, also)
        except SettingError as error:
            raise self._error(error.key, where, str(error)) from error

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
