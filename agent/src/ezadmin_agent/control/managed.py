"""The managed part of the configuration: taken from a command, kept with its version, put under what the file says.

What ``[[logs]]`` of the agent's own file says about a source holds, key by key; ``managed = false`` there keeps everything
managed away from it. Sources that the file does not name are read as well.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from ezadmin_agent.config import MANAGED, Config
from ezadmin_agent.control import files
from ezadmin_wire import managed
from ezadmin_wire.commands import Command
from ezadmin_wire.errors import WireError
from ezadmin_wire.fields import dump, load
from ezadmin_wire.logs.settings import SYSTEM_LOGS, LogConfig, SettingError, source
from ezadmin_wire.times import parse_time

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kept:
    """``managed.json``: ``version`` as the CMDB knows it; ``confirmed``: when the person did who had it sent."""

    version: int = 0
    confirmed: Optional[str] = None
    command: Optional[str] = None
    config: dict[str, Any] = field(default_factory=dict)


class Managed:
    """What is managed on this host, in ``state_dir``. Read by any thread, changed by one."""

    def __init__(self, state_dir: Path) -> None:
        self._file = file(state_dir)
        self._kept = read(state_dir)
        self.changes = 0
        """How often it changed since the start."""

    @property
    def version(self) -> int:
        """The version in force; 0: nothing is managed."""
        return self._kept.version

    @property
    def entries(self) -> Sequence[Mapping[str, Any]]:
        """The managed sources."""
        return self._kept.config.get(managed.LOGS, [])  # type: ignore[no-any-return]

    def check(self, command: Command, own: Sequence[Mapping[str, Any]]) -> None:
        """Whether the configuration of a command may be taken. Raises WireError (``bad_value``) that names the key."""
        config = command.arguments["config"]
        managed.check(config)
        merge(config.get(managed.LOGS, []), own)
        before = self._kept.confirmed
        if before is not None and parse_time(command.not_before) < parse_time(before):
            raise WireError("bad_value", f"version: {self.version} is in force and was confirmed later")

    def take(self, command: Command) -> str:
        """Take it, whole; returns what to say of it. Raises OSError."""
        kept = Kept(command.arguments["version"], command.not_before, command.id, command.arguments["config"])
        files.write(self._file, dump(kept) + b"\n")
        self._kept = kept
        self.changes += 1
        return f"version {kept.version} is in force"


def file(state_dir: Path) -> Path:
    """Where it is kept."""
    return state_dir / "managed.json"


def read(state_dir: Path) -> Kept:
    """What is kept; nothing if it is damaged, or of a version of the agent that knew more (that is said)."""
    try:
        kept = load(Kept, file(state_dir).read_bytes())
        managed.check(kept.config)
    except FileNotFoundError:
        return Kept()
    except (OSError, WireError) as error:
        log.error("the managed configuration %s is not used: %s", file(state_dir), error)
        return Kept()
    return kept


@dataclass(frozen=True)
class Value:
    """An effective setting of a source and where it comes from."""

    key: str
    value: Any
    origin: str


def own_entries(config: Config, system: Sequence[LogConfig]) -> list[Mapping[str, Any]]:
    """The sources of the agent's own file; without any, those of the ``system``, as they would be written there."""
    if config.entries is not None:
        return list(config.entries)
    return [{"path": str(one.path)} if one.path is not None else {"source": one.kind} for one in system]


def merge(entries: Sequence[Mapping[str, Any]], own: Sequence[Mapping[str, Any]]) -> tuple[LogConfig, ...]:
    """The sources that hold. Raises WireError (``bad_value``) if two that are right alone are wrong together."""
    found = []
    for entry in _combined(entries, own):
        try:
            found.append(source(entry))
        except SettingError as error:
            name = managed.name_of(entry)
            raise WireError(
                "bad_value", f"{name}: {error.key}: {error}, together with this host's own settings"
            ) from error
    return tuple(found)


def origins(
    entries: Sequence[Mapping[str, Any]], own: Sequence[Mapping[str, Any]], managed_as: str, own_as: str
) -> list[list[Value]]:
    """The effective settings of each source, each with the words for where it comes from."""
    by_name = {managed.name_of(entry): entry for entry in own}
    out = []
    for entry in _combined(entries, own):
        said = by_name.get(managed.name_of(entry), {})
        out.append([Value(key, value, own_as if key in said else managed_as) for key, value in entry.items()])
    return out


def _combined(entries: Sequence[Mapping[str, Any]], own: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    alone = {managed.name_of(entry) for entry in own if entry.get(MANAGED) is False}
    over = [{key: value for key, value in entry.items() if key != MANAGED} for entry in own]
    under = [_here(entry) for entry in entries]
    return managed.combined([[entry for entry in under if managed.name_of(entry) not in alone], over])


def _here(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """The entry of the system log as what that is on this host."""
    if entry.get("source") != managed.SYSTEM:
        return entry
    path = next((path for path in SYSTEM_LOGS if os.access(path, os.R_OK)), None)
    where = {"source": "journal"} if path is None else {"path": path}
    return {**where, **{key: value for key, value in entry.items() if key != "source"}}
