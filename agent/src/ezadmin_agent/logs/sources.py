"""The log sources of a configuration: files that globs find, sockets, kernel and journal; and their change while it runs."""

from __future__ import annotations

import fnmatch
import glob
import logging
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from ezadmin_agent.logs.file import FileSource
from ezadmin_agent.logs.journal import JournalSource
from ezadmin_agent.logs.kernel import KernelSource
from ezadmin_agent.logs.source import Counts, Source
from ezadmin_agent.logs.syslog import SyslogSource
from ezadmin_wire.logs.rules import Rules
from ezadmin_wire.logs.settings import LogConfig

log = logging.getLogger(__name__)

GLOB_SECONDS = 2.0
MAX_FILES = 500
"""Files of one glob that are followed at once."""
PACKED = (".gz", ".xz", ".zst", ".bz2")
_ROTATED = re.compile(r"[.-](?:[0-9].*|old|bak)")


@dataclass
class _Entry:
    config: LogConfig
    rules: Rules
    sources: dict[str, Source]


class SourceSet:
    """Sources by configuration. ``load`` returns a new configuration when the file changed, else None; it never raises."""

    def __init__(
        self,
        configs: Sequence[LogConfig],
        *,
        load: Callable[[], Optional[Sequence[LogConfig]]] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        journal: Callable[[str, Rules], Source] = lambda dataset, rules: JournalSource(dataset, rules=rules),
    ) -> None:
        self._load = load
        self._clock = clock
        self._journal = journal
        self._looked = -GLOB_SECONDS
        self._full: dict[str, bool] = {}
        self._entries = {_key(config): _Entry(config, Rules(config.rules), {}) for config in configs}

    @property
    def sources(self) -> list[Source]:
        """All sources that are read now; other threads may ask, too."""
        return [source for entry in list(self._entries.values()) for source in list(entry.sources.values())]

    def waits(self, source: Source) -> bool:
        """Whether the source is left unread at the spool's cap, rather than thinned out."""
        drop = any(source.name in e.sources and e.config.full == "drop" for e in self._entries.values())
        return source.waits and not drop

    def refresh(self, positions: Mapping[str, Any]) -> dict[str, Any]:
        """Look for new and vanished files and a new configuration; returns the positions to be remembered for it."""
        configs = self._load()
        if configs is not None:
            self._reconfigure(configs)
        elif self._clock() - self._looked < GLOB_SECONDS:
            return {}
        self._looked = self._clock()
        marks: dict[str, Any] = {}
        for key, entry in self._entries.items():
            if entry.config.kind == "file":
                self._files(key, entry, {**positions, **marks}, marks)
            elif not entry.sources:
                source = self._other(entry)
                marks[source.name] = source.resume(positions.get(source.name))
                entry.sources[source.name] = source
        return {name: mark for name, mark in marks.items() if mark is not None or name in positions}

    def resume(self, positions: Mapping[str, Any]) -> dict[str, Any]:
        """Take all sources back to ``positions``; returns those of sources that had none."""
        fresh = {}
        for source in self.sources:
            position = source.resume(positions.get(source.name))
            if source.name not in positions and position is not None:
                fresh[source.name] = position
        return fresh

    def close(self) -> None:
        """Give up all sources."""
        for source in self.sources:
            source.close()

    # ------------------------------------------------------------------

    def _reconfigure(self, configs: Sequence[LogConfig]) -> None:
        wanted = {_key(config): config for config in configs}
        for key in self._entries.keys() - wanted.keys():
            for source in self._entries.pop(key).sources.values():
                source.close()
        for key, config in wanted.items():
            entry = self._entries.get(key)
            if entry is None:
                self._entries[key] = _Entry(config, Rules(config.rules), {})
            elif entry.config != config:
                entry.config, entry.rules = config, Rules(config.rules)
                for source in entry.sources.values():
                    source.use(entry.rules)

    def _other(self, entry: _Entry) -> Source:
        config, rules = entry.config, entry.rules
        if config.kind == "journal":
            return self._journal(config.dataset, rules)
        if config.kind == "kernel":
            return KernelSource(config.dataset, rules=rules, from_start=config.from_start)
        return SyslogSource(str(config.listen), config.dataset, rules=rules)

    def _files(self, key: str, entry: _Entry, positions: Mapping[str, Any], marks: dict[str, Any]) -> None:
        pattern = str(entry.config.path)
        if not glob.has_magic(pattern):
            if not entry.sources:
                self._follow(entry, pattern, entry.config.from_start, positions, marks)
            return
        known = positions.get(key)
        paths = self._paths(pattern, entry)
        for source in list(entry.sources.values()):
            if isinstance(source, FileSource) and source.over:
                marks[source.name] = None
                known = {"counts": _sum(known, source.counts).position()}
                marks[key] = known
                source.close()
                del entry.sources[source.name]
        if known is not None:
            # read before the last end of the agent, and not under any name that is there now
            before = [
                name[5:] for name, at in positions.items() if name.startswith("file:") and at and name not in marks
            ]
            paths[:0] = [p for p in before if _fits(p, pattern) and f"file:{p}" not in entry.sources and p not in paths]
        for path in paths:
            if f"file:{path}" in entry.sources or (
                f"file:{path}" not in positions and self._is_read(path, entry, marks)
            ):
                continue
            if len(entry.sources) >= MAX_FILES:
                if not self._full.get(key):
                    log.warning("%s: more than %d files; the rest is not read", pattern, MAX_FILES)
                self._full[key] = True
                break
            self._full[key] = False
            self._follow(entry, path, known is not None or entry.config.from_start, positions, marks)
        if known is None:
            marks[key] = {}

    def _follow(
        self, entry: _Entry, path: str, from_start: bool, positions: Mapping[str, Any], marks: dict[str, Any]
    ) -> None:
        config = entry.config
        source = FileSource(Path(path), config.dataset, syslog=config.syslog, from_start=from_start, rules=entry.rules)
        known = positions.get(source.name)
        position = source.resume(known)
        if known is None:
            marks[source.name] = position
        entry.sources[source.name] = source

    def _paths(self, pattern: str, entry: _Entry) -> list[str]:
        """What the glob finds, without packed files and without the rotated siblings of others that it finds."""
        found = sorted(path for path in glob.glob(pattern) if not path.endswith(PACKED) and os.path.isfile(path))
        bases = {*found, *(name[5:] for name in entry.sources)}
        return [path for path in found if not _rotated(path, bases)]

    def _is_read(self, path: str, entry: _Entry, marks: dict[str, Any]) -> bool:
        """Whether a new path is a file that another source reads, under an earlier name."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return True
        try:
            stat = os.fstat(fd)
            for source in list(entry.sources.values()):
                if not isinstance(source, FileSource) or not source.holds(stat.st_dev, stat.st_ino, fd):
                    continue
                if os.path.lexists(source.path):
                    return True
                # renamed for good: it is read on under its new name
                position = source.position()
                source.close()
                del entry.sources[source.name]
                marks[source.name] = None
                renamed = FileSource(
                    Path(path), entry.config.dataset, syslog=entry.config.syslog, from_start=True, rules=entry.rules
                )
                marks[renamed.name] = renamed.resume(position)
                entry.sources[renamed.name] = renamed
                return True
        finally:
            os.close(fd)
        return False


def _key(config: LogConfig) -> str:
    if config.kind == "file":
        return f"glob:{config.path}"
    return f"{config.kind}:{config.listen or ''}"


def _sum(known: Any, more: Counts) -> Counts:
    counts = Counts.of((known or {}).get("counts"))
    counts.add(more)
    return counts


def _rotated(path: str, bases: set[str]) -> bool:
    return any(
        path[cut:] and path[:cut] in bases and _ROTATED.fullmatch(path, cut)
        for cut in range(path.rfind("/") + 2, len(path))
        if path[cut] in ".-"
    )


def _fits(path: str, pattern: str) -> bool:
    return path.count("/") == pattern.count("/") and fnmatch.fnmatchcase(path, pattern)
