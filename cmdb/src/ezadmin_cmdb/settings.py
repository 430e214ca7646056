"""The settings of the cmdb: one TOML file, checked whole before anything starts."""

from __future__ import annotations

import contextlib
import os
import secrets
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from ezadmin_cmdb.signer.settings import CommandSettings, CommandSettingsError
from ezadmin_cmdb.signer.settings import parse as command_settings
from ezadmin_wire import WireError
from ezadmin_wire.elastic import ElasticConnection
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey

ENVIRONMENT = "EZADMIN_CMDB_CONFIG"


class SettingsError(ValueError):
    """A setting that cannot be used; the text names the file, the key and what to write."""


@dataclass(frozen=True)
class Web:
    """Where the web application listens. ``url``: how browsers reach it, if a proxy stands in between.

    ``cert_file`` and ``key_file``: TLS by itself, both or none.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    url: str | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    workers: int = 2
    threads: int = 8

    @property
    def https(self) -> bool:
        """Whether browsers come by TLS, so that cookies may travel by nothing else."""
        return self.cert_file is not None or (self.url is not None and self.url.startswith("https://"))


@dataclass(frozen=True)
class Groups:
    """What groups outside stand for here: ``teams`` by the name of a group, ``admins`` are groups of administrators.

    ``create_users``: whoever is known outside has an account from his first sign-in on.
    """

    create_users: bool = True
    teams: Mapping[str, str] = field(default_factory=dict)
    admins: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ldap:
    """A directory that knows passwords. ``bind_dn``: who searches it; ``{name}`` and ``{dn}`` stand in the filters."""

    url: str
    base: str
    user_filter: str = "(uid={name})"
    name_attribute: str = "uid"
    group_attribute: str = "memberOf"
    group_base: str | None = None
    group_filter: str = "(member={dn})"
    start_tls: bool = False
    ca_file: Path | None = None
    bind_dn: str | None = None
    password_file: Path | None = None
    groups: Groups = field(default_factory=Groups)

    def password(self) -> str | None:
        """The password of ``bind_dn``. Raises SettingsError."""
        return None if self.password_file is None else _secret(self.password_file, "[ldap] password_file")


@dataclass(frozen=True)
class Oidc:
    """An OpenID Connect provider."""

    issuer: str
    client_id: str
    client_secret_file: Path
    title: str = "OpenID Connect"
    scopes: str = "openid profile email"
    name_claim: str = "preferred_username"
    groups_claim: str = "groups"
    groups: Groups = field(default_factory=Groups)

    def secret(self) -> str:
        """The client's secret. Raises SettingsError."""
        return _secret(self.client_secret_file, "[oidc] client_secret_file")


SECOND_FACTOR = ("nobody", "admins", "everybody")


@dataclass(frozen=True)
class SignIn:
    """How people sign in. ``second_factor``: of whom one is required; everybody may switch it on."""

    second_factor: str = "nobody"


@dataclass(frozen=True)
class ApiLimits:
    """How many requests the API answers: a token may make ``burst`` at once and ``requests_per_minute`` on and on, an
    address may try ``wrong_tokens_per_minute``; 0 for no limit."""

    requests_per_minute: int = 1200
    burst: int = 300
    wrong_tokens_per_minute: int = 30


@dataclass(frozen=True)
class Hosts:
    """When a rule says that a host is silent, and when that it is retired; None for never."""

    silent_after: timedelta = timedelta(minutes=5)
    retired_after: timedelta | None = timedelta(days=90)


@dataclass(frozen=True)
class Gateway:
    """Where the gateway listens, and what it tells agents.

    ``url``: how agents reach it. ``cert_file`` and ``key_file``: TLS by itself, both or none. ``ca_file``: the authority of the
    certificate that agents meet, pinned into enrolment tokens. ``files``: a folder of files named by their SHA-256.
    ``trusted_proxies``: from whom ``X-Forwarded-For`` is believed. ``agents_kafka``: brokers that agents are sent to, None: their
    data comes through the gateway; ``agents_kafka_tls``: over TLS, with the authority in ``agents_kafka_ca_file`` if it is no
    public one; ``agents_kafka_users``: each host gets a user and a password of its own there. ``config_public_key`` (hex): of
    config records, else that of ``config_signing_key``.
    ``reinstall_after``: how long a machine must not have been heard before another one may take its place. ``old_keys``: how
    long a key that was replaced is still good, as long as data signed with it may lie in Kafka.
    """

    host: str = "127.0.0.1"
    port: int = 8443
    url: str | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    ca_file: Path | None = None
    files: Path | None = None
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    agents_kafka: str | None = None
    agents_kafka_tls: bool = False
    agents_kafka_ca_file: Path | None = None
    agents_kafka_users: bool = False
    config_public_key: str | None = None
    reinstall_after: timedelta = timedelta(minutes=3)
    old_keys: timedelta = timedelta(days=3)


@dataclass(frozen=True)
class Settings:
    """What the cmdb needs to know."""

    database: str
    """SQLAlchemy URL."""
    kafka: KafkaConnection
    config_signing_key: Path
    names: Names = field(default_factory=Names)
    elasticsearch: ElasticConnection | None = None
    secret_key_file: Path | None = None
    """Holds the secret that browsers' cookies are signed with; made by ``ezadmin-cmdb web`` if it is not there."""
    web: Web = field(default_factory=Web)
    grafana_url: str | None = None
    api: ApiLimits = field(default_factory=ApiLimits)
    hosts: Hosts = field(default_factory=Hosts)
    sign_in: SignIn = field(default_factory=SignIn)
    ldap: Ldap | None = None
    oidc: Oidc | None = None
    own_key: Path | None = None
    """The key that own warnings and errors are signed with; without it they are not written as events."""
    webhooks_allow: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks that webhooks may call though they are not in the open internet."""
    gateway: Gateway = field(default_factory=Gateway)
    commands: CommandSettings = field(default_factory=CommandSettings)

    def secret_key(self) -> bytes:
        """The secret of cookies, made at the first call. Raises SettingsError."""
        if self.secret_key_file is None:
            raise SettingsError(
                'secret_key_file is missing: write secret_key_file = "…", a file that is made if needed'
            )
        try:
            with contextlib.suppress(FileExistsError):
                descriptor = os.open(self.secret_key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "w") as file:
                    file.write(secrets.token_hex(32))
            if self.secret_key_file.stat().st_mode & 0o077:
                raise SettingsError(
                    f"secret_key_file {self.secret_key_file} is readable by others; run: chmod 600 {self.secret_key_file}"
                )
            secret = self.secret_key_file.read_bytes().strip()
        except OSError as error:
            raise SettingsError(f"secret_key_file {self.secret_key_file}: {error.strerror}") from error
        if len(secret) < 32:
            raise SettingsError(f"secret_key_file {self.secret_key_file} holds less than 32 characters; remove it")
        return secret

    def signing_key(self) -> SigningKey:
        """The key that config records are signed with. Raises SettingsError."""
        try:
            return SigningKey.load(self.config_signing_key)
        except WireError as error:
            raise SettingsError(f"config_signing_key: {error}") from error

    @property
    def database_shown(self) -> str:
        """The URL without its password, for messages."""
        return make_url(self.database).render_as_string(hide_password=True)


def load(path: Path | None) -> Settings:
    """Read the settings from ``path``, else from the file that ``EZADMIN_CMDB_CONFIG`` names. Raises SettingsError."""
    if path is None:
        named = os.environ.get(ENVIRONMENT)
        if not named:
            raise SettingsError(f"no configuration: give --config FILE or set {ENVIRONMENT}")
        path = Path(named)
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error
    return parse(table, str(path))


def parse(table: Mapping[str, Any], where: str) -> Settings:
    """Check a decoded TOML table; ``where`` names it in errors. Raises SettingsError."""
    _known(
        table,
        {
            "prefix",
            "database",
            "config_signing_key",
            "kafka",
            "elasticsearch",
            "secret_key_file",
            "web",
            "api",
            "grafana_url",
            "hosts",
            "own",
            "webhooks",
            "gateway",
            "commands",
            "sign_in",
            "ldap",
            "oidc",
        },
        where,
    )
    try:
        names = Names(_text(table, "prefix", where, "ezadmin"))
    except WireError as error:
        raise SettingsError(f"{where}: {error}") from error
    database = _text(table, "database", where)
    try:
        backend = make_url(database).get_backend_name()
    except ArgumentError:
        backend = "no URL"
    if backend not in ("mysql", "mariadb"):
        raise SettingsError(
            f'{where}: database: {backend}; write "mysql+pymysql://user:password@host:port/name?charset=utf8mb4"'
        )
    try:
        kafka = KafkaConnection.parse(_table(table, "kafka", where), f"{where}: [kafka]")
        elasticsearch = None
        if "elasticsearch" in table:
            elasticsearch = ElasticConnection.parse(_table(table, "elasticsearch", where), f"{where}: [elasticsearch]")
    except WireError as error:
        raise SettingsError(str(error)) from error
    own = _table(table, "own", where)
    _known(own, {"key"}, f"{where}: [own]")
    return Settings(
        database=database,
        kafka=kafka,
        config_signing_key=Path(_text(table, "config_signing_key", where)),
        names=names,
        elasticsearch=elasticsearch,
        secret_key_file=Path(_text(table, "secret_key_file", where)) if "secret_key_file" in table else None,
        web=_web(_table(table, "web", where), f"{where}: [web]"),
        grafana_url=_url(table, "grafana_url", where),
        api=_api(_table(table, "api", where), f"{where}: [api]"),
        hosts=_hosts(_table(table, "hosts", where), f"{where}: [hosts]"),
        sign_in=_sign_in(_table(table, "sign_in", where), f"{where}: [sign_in]"),
        ldap=_ldap(_table(table, "ldap", where), f"{where}: [ldap]") if "ldap" in table else None,
        oidc=_oidc(_table(table, "oidc", where), f"{where}: [oidc]") if "oidc" in table else None,
        own_key=Path(_text(own, "key", f"{where}: [own]")) if own else None,
        webhooks_allow=_networks(_table(table, "webhooks", where), f"{where}: [webhooks]"),
        gateway=_gateway(_table(table, "gateway", where), f"{where}: [gateway]"),
        commands=_commands(_table(table, "commands", where), f"{where}: [commands]"),
    )


def _web(table: Mapping[str, Any], where: str) -> Web:
    _known(table, {"host", "port", "url", "workers", "threads", "cert_file", "key_file"}, where)
    given: dict[str, Any] = {}
    for name, most in (("port", 65535), ("workers", 256), ("threads", 1024)):
        if name in table:
            value = table[name]
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise SettingsError(f"{where}: {name} = {value!r}: write a number from 1 to {most}")
            given[name] = value
    if "host" in table:
        given["host"] = _text(table, "host", where)
    given |= {key: Path(_text(table, key, where)) for key in ("cert_file", "key_file") if key in table}
    if ("cert_file" in given) != ("key_file" in given):
        raise SettingsError(f"{where}: cert_file and key_file belong together: write both, or none")
    return Web(**given, url=_url(table, "url", where))


def _api(table: Mapping[str, Any], where: str) -> ApiLimits:
    least = {"requests_per_minute": 0, "burst": 1, "wrong_tokens_per_minute": 0}
    _known(table, set(least), where)
    for name, value in table.items():
        if isinstance(value, bool) or not isinstance(value, int) or not least[name] <= value <= 1_000_000:
            raise SettingsError(f"{where}: {name} = {value!r}: write a whole number from {least[name]} to 1000000")
    return ApiLimits(**table)


def _hosts(table: Mapping[str, Any], where: str) -> Hosts:
    _known(table, {"silent_after_minutes", "retired_after_days"}, where)
    for name, value in table.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 100_000:
            raise SettingsError(f"{where}: {name} = {value!r}: write a number")
    if table.get("silent_after_minutes", 1) == 0:
        raise SettingsError(f"{where}: silent_after_minutes = 0: agents report each minute, so write 3 at least")
    days = table.get("retired_after_days", 90)
    return Hosts(
        silent_after=timedelta(minutes=table.get("silent_after_minutes", 5)),
        retired_after=timedelta(days=days) if days else None,
    )


def _gateway(table: Mapping[str, Any], where: str) -> Gateway:
    texts = {"host", "agents_kafka", "config_public_key"}
    files = {"cert_file", "key_file", "ca_file", "files", "agents_kafka_ca_file"}
    switches = {"agents_kafka_tls", "agents_kafka_users"}
    numbers = {"port": (1, 65535), "reinstall_after_seconds": (1, 86_400), "old_keys_hours": (0, 24 * 366)}
    _known(table, texts | files | switches | set(numbers) | {"url", "trusted_proxies"}, where)
    for name in switches:
        if not isinstance(table.get(name, False), bool):
            raise SettingsError(f"{where}: {name} = {table[name]!r}: write true or false")
    for name, (least, most) in numbers.items():
        value = table.get(name, least)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise SettingsError(f"{where}: {name} = {value!r}: write a whole number from {least} to {most}")
    given: dict[str, Any] = {key: _text(table, key, where) for key in texts if key in table}
    given |= {key: Path(_text(table, key, where)) for key in files if key in table}
    given |= {key: table[key] for key in switches if key in table}
    if "agents_kafka_ca_file" in given and not given.get("agents_kafka_tls"):
        raise SettingsError(f"{where}: agents_kafka_ca_file is of no use without TLS: write agents_kafka_tls = true")
    if ("cert_file" in given) != ("key_file" in given):
        raise SettingsError(f"{where}: cert_file and key_file belong together: write both, or none")
    if len(given.get("config_public_key", "0" * 64)) != 64:
        raise SettingsError(
            f"{where}: config_public_key: write 64 hex digits, as `ezadmin-cmdb key generate` prints them"
        )
    if "port" in table:
        given["port"] = table["port"]
    if "reinstall_after_seconds" in table:
        given["reinstall_after"] = timedelta(seconds=table["reinstall_after_seconds"])
    if "old_keys_hours" in table:
        given["old_keys"] = timedelta(hours=table["old_keys_hours"])
    proxies = _network_list(table.get("trusted_proxies", []), where, "trusted_proxies")
    return Gateway(**given, url=_url(table, "url", where), trusted_proxies=proxies)


def _commands(table: Mapping[str, Any], where: str) -> CommandSettings:
    try:
        return command_settings(table, where)
    except CommandSettingsError as error:
        raise SettingsError(str(error)) from error


def _networks(table: Mapping[str, Any], where: str) -> tuple[IPv4Network | IPv6Network, ...]:
    _known(table, {"allow"}, where)
    return _network_list(table.get("allow", []), where, "allow")


def _network_list(texts: Any, where: str, name: str) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        if not isinstance(texts, list):
            raise ValueError("no list")
        return tuple(ip_network(text) for text in texts)
    except ValueError as error:
        raise SettingsError(f'{where}: {name}: {error}: write networks such as ["10.1.2.0/24"]') from error


def _sign_in(table: Mapping[str, Any], where: str) -> SignIn:
    _known(table, {"second_factor"}, where)
    required = _text(table, "second_factor", where, "nobody")
    if required not in SECOND_FACTOR:
        raise SettingsError(f"{where}: second_factor = {required!r}: write one of {', '.join(SECOND_FACTOR)}")
    return SignIn(required)


_GROUPS = {"create_users", "teams", "admin_groups"}


def _groups(table: Mapping[str, Any], where: str) -> Groups:
    teams, admins = _table(table, "teams", where), table.get("admin_groups", [])
    if not all(isinstance(one, str) and one for one in teams.values()):
        raise SettingsError(f'{where}: teams: write "name of a group" = "name of a team"')
    if not isinstance(admins, list) or not all(isinstance(one, str) and one for one in admins):
        raise SettingsError(f"{where}: admin_groups = {admins!r}: write a list of names")
    return Groups(_yes(table, "create_users", where, True), dict(teams), tuple(admins))


def _yes(table: Mapping[str, Any], key: str, where: str, default: bool) -> bool:
    value = table.get(key, default)
    if not isinstance(value, bool):
        raise SettingsError(f"{where}: {key} = {value!r}: write true or false")
    return value


def _ldap(table: Mapping[str, Any], where: str) -> Ldap:
    texts = {"user_filter", "name_attribute", "group_attribute", "group_base", "group_filter", "bind_dn"}
    files = {"ca_file", "password_file"}
    _known(table, {"url", "base", "start_tls"} | texts | files | _GROUPS, where)
    url, start_tls = _text(table, "url", where), _yes(table, "start_tls", where, False)
    if not url.startswith(("ldap://", "ldaps://")):
        raise SettingsError(f'{where}: url = {url!r}: write "ldaps://…", or "ldap://…" with start_tls = true')
    given: dict[str, Any] = {key: _text(table, key, where) for key in texts if key in table}
    given |= {key: Path(_text(table, key, where)) for key in files if key in table}
    if "{name}" not in given.get("user_filter", "{name}"):
        raise SettingsError(f'{where}: user_filter holds no {{name}}: write as "(uid={{name}})"')
    return Ldap(url, _text(table, "base", where), start_tls=start_tls, groups=_groups(table, where), **given)


def _oidc(table: Mapping[str, Any], where: str) -> Oidc:
    texts = {"title", "scopes", "name_claim", "groups_claim"}
    _known(table, {"issuer", "client_id", "client_secret_file"} | texts | _GROUPS, where)
    given: dict[str, Any] = {key: _text(table, key, where) for key in texts if key in table}
    issuer = _url(table, "issuer", where)
    if issuer is None:
        raise SettingsError(f'{where}: issuer is missing: write issuer = "https://…"')
    secret = Path(_text(table, "client_secret_file", where))
    return Oidc(issuer, _text(table, "client_id", where), secret, groups=_groups(table, where), **given)


def _secret(file: Path, what: str) -> str:
    try:
        if file.stat().st_mode & 0o007:
            raise SettingsError(f"{what} {file} is open to everybody; run: chmod o= {file}")
        return file.read_text().strip()
    except OSError as error:
        raise SettingsError(f"{what} {file}: {error.strerror}") from error


def _url(table: Mapping[str, Any], key: str, where: str) -> str | None:
    if key not in table:
        return None
    text = _text(table, key, where)
    if not text.startswith(("http://", "https://")):
        raise SettingsError(f'{where}: {key} = {text!r}: write "http://…" or "https://…"')
    return text.rstrip("/")


def _known(table: Mapping[str, Any], known: set[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise SettingsError(f"{where}: unknown setting {key!r}; known are {', '.join(sorted(known))}")


def _table(table: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, Mapping):
        raise SettingsError(f"{where}: {key} must be a table: write [{key}] above its settings")
    return value


def _text(table: Mapping[str, Any], key: str, where: str, default: str | None = None) -> str:
    value = table.get(key, default)
    if not isinstance(value, str) or not value:
        raise SettingsError(f'{where}: {key} is missing or no text: write {key} = "…"')
    return value
