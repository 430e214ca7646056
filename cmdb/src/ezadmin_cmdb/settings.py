"""The settings of the cmdb: one TOML file, checked whole before anything starts."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from ezadmin_wire import WireError
from ezadmin_wire.names import Names
from ezadmin_wire.signing import SigningKey

ENVIRONMENT = "EZADMIN_CMDB_CONFIG"


class SettingsError(ValueError):
    """A setting that cannot be used; the text names the file, the key and what to write."""


@dataclass(frozen=True)
class Settings:
    """What the cmdb needs to know."""

    database: str
    """SQLAlchemy URL."""
    kafka: str
    config_signing_key: Path
    names: Names = field(default_factory=Names)

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
    _known(table, {"prefix", "database", "config_signing_key", "kafka"}, where)
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
    return Settings(
        database=database,
        kafka=_text(_table(table, "kafka", where), "bootstrap", f"{where}: [kafka]"),
        config_signing_key=Path(_text(table, "config_signing_key", where)),
        names=names,
    )


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
