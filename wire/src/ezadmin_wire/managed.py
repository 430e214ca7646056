"""The managed part of an agent's configuration: what ``configure`` brings, made in the CMDB for each host.

``{"logs": [{…}, …]}``, each entry with the keys of ``[[logs]]`` in the agent's own file (:mod:`ezadmin_wire.logs.settings`). An
entry names a source by its ``path``, or by ``source`` (and ``listen``): two entries that name the same one are one, key by key.
``"source": "system"``, which an agent's file does not know, is the host's system log, a file or the journal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ezadmin_wire.errors import WireError
from ezadmin_wire.logs.settings import LogConfig, SettingError, source

LOGS, SYSTEM = "logs", "system"
MAX_SOURCES = 200
Entry = Mapping[str, Any]
"""One source, with only the keys that are said."""


def check(config: Mapping[str, Any]) -> tuple[LogConfig, ...]:
    """The sources that a managed configuration describes. Raises WireError (``bad_value``) that names entry and key."""
    for key in config:
        if key != LOGS:
            raise WireError("bad_value", f"{key}: only [[logs]] are managed")
    entries = config.get(LOGS, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise WireError("bad_value", "logs: write tables [[logs]]")
    if len(entries) > MAX_SOURCES:
        raise WireError("bad_value", f"logs: {len(entries)} sources; at most {MAX_SOURCES}")
    found, names = [], set()
    for number, entry in enumerate(entries, start=1):
        try:
            found.append(source({**entry, "source": "journal"} if entry.get("source") == SYSTEM else entry))
        except SettingError as error:
            raise WireError(
                "bad_value", f"[[logs]] number {number} ({name_of(entry)}): {error.key}: {error}"
            ) from error
        if name_of(entry) in names:
            raise WireError("bad_value", f"[[logs]] number {number}: {name_of(entry)} stands there twice")
        names.add(name_of(entry))
    return tuple(found)


def name_of(entry: Entry) -> str:
    """What an entry is about: its path, else its source with the address that it listens on."""
    if "path" in entry:
        return str(entry["path"])
    return " ".join(str(entry[key]) for key in ("source", "listen") if key in entry)


def combined(layers: Sequence[Sequence[Entry]]) -> list[dict[str, Any]]:
    """The entries of all layers, one a source; where two layers say a key of the same source, the later one holds.

    So an agent has what its own file says above what is managed: ``combined([managed, own])``.
    """
    found: dict[str, dict[str, Any]] = {}
    for layer in layers:
        for entry in layer:
            found.setdefault(name_of(entry), {}).update(entry)
    return list(found.values())
