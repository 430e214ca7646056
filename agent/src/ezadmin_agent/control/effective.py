"""``ezadmin-agent config show``: every setting that holds, and who said so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ezadmin_agent.agent import system_logs
from ezadmin_agent.config import SETTINGS, Config
from ezadmin_agent.control import managed
from ezadmin_agent.secrets import mask_text
from ezadmin_wire.logs import settings as logs
from ezadmin_wire.managed import name_of

DEFAULT, ENROLMENT = "default", "enrolment"


class Effective(NamedTuple):
    """``name`` as ``table.key``; of log sources ``logs[<name>].key``. ``origin``: file, enrolment, managed version or default."""

    name: str
    value: Any
    origin: str


def settings(config: Config, file: Path) -> Iterator[Effective]:
    """All of them, those of log sources last."""
    here = str(file)
    for setting in SETTINGS:
        name = f"{setting.table}.{setting.key}" if setting.table else setting.key
        if setting.table == "logs":
            continue
        value, origin = setting.default, DEFAULT
        held = _held(config, name)
        if name in config.written:
            value, origin = held if held is not None else value, here
        elif held is not None and held != setting.default:
            value, origin = held, ENROLMENT if config.enrolled is not None else DEFAULT
        yield Effective(name, value, origin)
    kept = managed.read(config.state_dir)
    found = config.entries is not None
    own = managed.own_entries(config, () if found else system_logs())
    defaults = {one.key: one.default for one in logs.SETTINGS if one.default is not None}
    sources = managed.origins(
        kept.config.get("logs", []), own, f"managed, version {kept.version}", here if found else DEFAULT
    )
    for values in sources:
        said = {value.key: value.value for value in values}
        about = name_of(said)
        for value in values:
            yield Effective(f"logs[{about}].{value.key}", value.value, value.origin)
        for key, default in defaults.items():
            if key not in said and not (key == "source" and "path" in said):
                yield Effective(f"logs[{about}].{key}", default, DEFAULT)


def _held(config: Config, name: str) -> Any:
    """The value in force of a setting, as it would be written."""
    table, _, key = name.rpartition(".")
    if table == "kafka":
        if key == "proxy":
            return None if config.proxy is None else mask_text(config.proxy)
        return None if config.kafka is None else getattr(config.kafka, key)
    if table == "surge":
        key = {"bytes_per_second": "surge_bytes", "burst_bytes": "surge_burst", "spool_share": "surge_share"}[key]
    if name == "prefix":
        return config.names.prefix
    value = getattr(config, key)
    if name == "gateway_proxy" and value:
        return mask_text(value)
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
