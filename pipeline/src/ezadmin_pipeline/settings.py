"""The settings of the pipeline: one TOML file, checked whole before anything starts."""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from ezadmin_pipeline.families import KEPT, IndexSettings
from ezadmin_pipeline.foreign import FORMATS, Foreign
from ezadmin_wire import WireError
from ezadmin_wire.elastic import ElasticConnection
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.names import Names
from ezadmin_wire.signing import VerifyKey

ENVIRONMENT = "EZADMIN_PIPELINE_CONFIG"
SIGNATURE_MODES = ("required", "warn", "off")


class SettingsError(ValueError):
    """A setting that cannot be used; the text names the file, the key and what to write."""


@dataclass(frozen=True)
class SurgeSettings:
    """When events of a host are sampled: see :mod:`ezadmin_pipeline.surges`."""

    floor: int = 600
    """Events per minute, dataset and level of a host that are always stored."""
    factor: float = 6.0
    """How many times its usual rate is stored whole."""
    on: bool = True


class Address(NamedTuple):
    """Where something listens; port 0: one that is free."""

    host: str
    port: int


@dataclass(frozen=True)
class Settings:
    """What a worker needs to know. Times in seconds, sizes in bytes."""

    names: Names = field(default_factory=Names)
    kafka: KafkaConnection = field(default_factory=lambda: KafkaConnection("127.0.0.1:9092"))
    partitions: int = 6
    """Partitions of the data topics that ``setup`` makes (24 for a cluster)."""
    elasticsearch: ElasticConnection = field(default_factory=lambda: ElasticConnection(("http://127.0.0.1:9200",)))
    signatures: str = "required"
    config_public_keys: tuple[str, ...] = ()
    """Public keys (64 hex digits) by which config records are believed."""
    retry_past_index: float = 600.0
    """How long a line waits for an index of the past that refuses it, before it becomes a dead letter."""
    commit_interval: float = 2.0
    bulk_bytes: int = 2 << 20
    """Of one request, before compression. A worker holds up to ``bulk_in_flight`` + 2 of them, as lines, documents, body."""
    bulk_delay: float = 0.2
    bulk_in_flight: int = 3
    """Requests under way at most; fewer while Elasticsearch is slow or refuses."""
    session_timeout: float = 45.0
    """After how long without a sign of life Kafka gives a worker's partitions to others."""
    member: str | None = None
    """Name of this worker in the group: one that comes back under its name within ``session_timeout`` goes on at once."""
    metrics_listen: Address | None = None
    """Where ``/metrics`` is served; of several workers the first one there, the others on the ports after it."""
    surges: SurgeSettings = field(default_factory=SurgeSettings)
    indices: IndexSettings = field(default_factory=IndexSettings)

    foreign: tuple[Foreign, ...] = ()
    """Topics of other programs that are read, too."""
    own_key: Path | None = None
    """The key that a worker's own figures and errors are signed with; without it there are none."""
    own_host_id: str | None = None
    """The host.id that they are of; without it one that follows from the key."""

    def verify_keys(self) -> list[VerifyKey]:
        """The keys by which config records are believed."""
        return [VerifyKey.from_hex(text) for text in self.config_public_keys]


def load(path: Path | None) -> Settings:
    """Read the settings from ``path``, else from the file that ``EZADMIN_PIPELINE_CONFIG`` names.

    Raises SettingsError.
    """
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


_NUMBERS: dict[str, tuple[type[int] | type[float], ...]] = {
    "partitions": (int,),
    "retry_past_index": (int, float),
    "commit_interval": (int, float),
    "bulk_bytes": (int,),
    "bulk_delay": (int, float),
    "bulk_in_flight": (int,),
    "session_timeout": (int, float),
}


def parse(table: Mapping[str, Any], where: str) -> Settings:
    """Check a decoded TOML table; ``where`` names it in errors. Raises SettingsError."""
    known = {
        "prefix",
        "kafka",
        "elasticsearch",
        "signatures",
        "config_public_key",
        "member",
        "metrics_listen",
        "foreign",
        "own",
        "surges",
        "retention",
        "indices",
        *_NUMBERS,
    }
    for key in table:
        if key not in known:
            raise SettingsError(f"{where}: unknown setting {key!r}; known are {', '.join(sorted(known))}")
    values: dict[str, Any] = {}
    for key, types in _NUMBERS.items():
        if key in table:
            value = table[key]
            if isinstance(value, bool) or not isinstance(value, types) or not 0 < value < math.inf:
                kind = "number" if float in types else "whole number"
                raise SettingsError(f"{where}: {key} = {value!r}: write a {kind} above 0")
            values[key] = value
    try:
        values["names"] = Names(_text(table, "prefix", where, "ezadmin"))
    except WireError as error:
        raise SettingsError(f"{where}: {error}") from error
    try:
        values["kafka"] = KafkaConnection.parse(_table(table, "kafka", where), f"{where}: [kafka]")
        values["elasticsearch"] = ElasticConnection.parse(
            _table(table, "elasticsearch", where), f"{where}: [elasticsearch]"
        )
    except WireError as error:
        raise SettingsError(str(error)) from error
    values["surges"] = _surges(_table(table, "surges", where), f"{where}: [surges]")
    values["indices"] = _indices(
        _table(table, "retention", where),
        _table(table, "indices", where),
        f"{where}: [retention]",
        f"{where}: [indices]",
    )
    if "member" in table:
        values["member"] = _text(table, "member", where)
    if "metrics_listen" in table:
        values["metrics_listen"] = address(_text(table, "metrics_listen", where), f"{where}: metrics_listen")
    values["foreign"] = _foreign(table.get("foreign", []), values["names"], where)
    own = _table(table, "own", where)
    for name in own:
        if name not in ("key", "host_id"):
            raise SettingsError(f"{where}: [own]: unknown setting {name!r}; known are key, host_id")
    if own:
        values["own_key"] = Path(_text(own, "key", f"{where}: [own]"))
    if "host_id" in own:
        values["own_host_id"] = _text(own, "host_id", f"{where}: [own]")
    mode = _text(table, "signatures", where, "required")
    if mode not in SIGNATURE_MODES:
        raise SettingsError(f"{where}: signatures = {mode!r}: write one of {', '.join(SIGNATURE_MODES)}")
    values["signatures"] = mode
    keys = table.get("config_public_key", [])
    keys = [keys] if isinstance(keys, str) else keys
    try:
        values["config_public_keys"] = tuple(VerifyKey.from_hex(key).public.hex() for key in keys)
    except (WireError, TypeError) as error:
        raise SettingsError(f"{where}: config_public_key: write 64 hex digits, or a list of such: {error}") from error
    if mode != "off" and not keys:
        raise SettingsError(
            f"{where}: config_public_key is missing: write the public key that `ezadmin-cmdb key generate` printed"
        )
    return Settings(**values)


def _surges(table: Mapping[str, Any], where: str) -> SurgeSettings:
    for name, value in table.items():
        if name == "on":
            good, what = isinstance(value, bool), "true or false"
        elif name == "floor":
            good, what = type(value) is int and value > 0, "a whole number above 0"
        elif name == "factor":
            good, what = type(value) in (int, float) and 2 <= value < math.inf, "a number from 2 on"
        else:
            raise SettingsError(f"{where}: unknown setting {name!r}; known are on, floor, factor")
        if not good:
            raise SettingsError(f"{where}: {name} = {value!r}: write {what}")
    return SurgeSettings(**table)


def _indices(retention: Mapping[str, Any], indices: Mapping[str, Any], where: str, where_indices: str) -> IndexSettings:
    for name, value in retention.items():
        if name not in KEPT:
            raise SettingsError(f"{where}: unknown setting {name!r}; known are {', '.join(KEPT)}")
        if type(value) is not int or not 0 <= value <= 36_500:
            raise SettingsError(f"{where}: {name} = {value!r}: write a whole number of days; 0 keeps for ever")
    for name, value in indices.items():
        least, most = {"shards": (1, 100), "replicas": (0, 10), "days_ahead": (1, 7)}.get(name, (0, -1))
        if most < 0:
            raise SettingsError(f"{where_indices}: unknown setting {name!r}; known are shards, replicas, days_ahead")
        if type(value) is not int or not least <= value <= most:
            raise SettingsError(f"{where_indices}: {name} = {value!r}: write a whole number from {least} to {most}")
    return IndexSettings(kept={**KEPT, **retention}, **indices)


def _foreign(tables: Any, names: Names, where: str) -> tuple[Foreign, ...]:
    if not isinstance(tables, list) or not all(isinstance(table, Mapping) for table in tables):
        raise SettingsError(f"{where}: write [[foreign]] above the settings of each foreign topic")
    found: dict[str, Foreign] = {}
    known = [member.name for member in fields(Foreign)]
    for table in tables:
        here = f"{where}: [[foreign]]"
        for name in table:
            if name not in known:
                raise SettingsError(f"{here}: unknown setting {name!r}; known are {', '.join(known)}")
        values = {name: _text(table, name, here) for name in known if name in table and name != "hosts"}
        topic = _text(table, "topic", here)
        if topic.startswith(f"{names.prefix}.") or topic in found:
            why = "is one of ezadmin's own" if topic not in found else "stands twice"
            raise SettingsError(f"{here}: topic = {topic!r} {why}")
        values.setdefault("dataset", re.sub("[^a-z0-9._-]", "-", topic.lower()).lstrip("._-")[:64])
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", values["dataset"]):
            raise SettingsError(
                f"{here}: dataset = {values['dataset']!r}: write a-z, 0-9, '.', '_' and '-', at most 64"
            )
        if values.get("format", FORMATS[0]) not in FORMATS:
            raise SettingsError(f"{here}: format = {values['format']!r}: write one of {', '.join(FORMATS)}")
        hosts = table.get("hosts", ["*"])
        if not isinstance(hosts, list) or not hosts or not all(isinstance(one, str) and one for one in hosts):
            raise SettingsError(f'{here}: hosts = {hosts!r}: write patterns of names, such as ["web-*"]')
        found[topic] = Foreign(**values, hosts=tuple(hosts))
    return tuple(found.values())


def address(text: str, where: str) -> Address:
    """``host:port``, with an IPv6 address in brackets. Raises SettingsError."""
    host, sign, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not sign or not host or not port.isdecimal() or int(port) > 65535:
        raise SettingsError(f'{where} = {text!r}: write "host:port", such as "127.0.0.1:9464"')
    return Address(host, int(port))


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
