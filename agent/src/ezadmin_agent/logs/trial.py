"""``ezadmin-agent logs try``: what the rules of a source do with each line of a file, without sending anything."""

from __future__ import annotations

import fnmatch
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Optional

from ezadmin_agent.logs.builder import Builder, Patterns
from ezadmin_agent.logs.file import FileSource
from ezadmin_agent.logs.source import CALM, Counts
from ezadmin_wire.logs.parse import Parser
from ezadmin_wire.logs.rules import RuleConfig, Rules
from ezadmin_wire.logs.settings import LogConfig


class Verdict(NamedTuple):
    """What becomes of an event: ``dropped_by`` names the rule, None: it is kept, as ``document``."""

    text: str
    dropped_by: Optional[str]
    document: dict[str, Any]


def entry_for(path: Path, entries: Sequence[LogConfig]) -> Optional[LogConfig]:
    """The first source whose path is the file, or whose glob fits it."""
    for entry in entries:
        if entry.path is not None and (entry.path == path or fnmatch.fnmatchcase(str(path), str(entry.path))):
            return entry
    return None


def judge(path: Path, entry: LogConfig, now_ms: int) -> Iterator[Verdict]:
    """Judge every event of the file in turn. Raises OSError."""
    path.open("rb").close()
    # the events as they are cut out of the file, and then one by one through the rules themselves
    whole = RuleConfig(encoding=entry.rules.encoding, multiline=entry.rules.multiline)
    now = [0.0]
    source = FileSource(path, "x", syslog=False, from_start=True, rules=Rules(whole), monotonic=lambda: now[0])
    source.resume(None)
    rules, parser, counts = Rules(entry.rules), Parser(entry.syslog), Counts()
    waited = 0
    try:
        while waited < 3:  # the last event of several lines is taken when it has not grown for a while
            batch = source.read()
            now[0] += 3600.0
            waited = 0 if batch.lines else waited + 1
            for line in batch.lines:
                yield _judge(json.loads(line)["message"], rules, parser, counts, entry.dataset, now_ms)
    finally:
        source.close()


def _judge(text: str, rules: Rules, parser: Parser, counts: Counts, dataset: str, now_ms: int) -> Verdict:
    before = replace(counts)
    builder = Builder(rules, parser, Patterns(), counts, dataset=dataset, now_ms=now_ms, mode=CALM)
    builder.add(text.encode(rules.encoding, "replace"))
    lines = builder.batch(None, False).lines
    if lines:
        return Verdict(text, None, json.loads(lines[0]))
    if counts.sampled > before.sampled:
        return Verdict(text, f"sample 1 in {rules.sample}", {})
    return Verdict(text, rules.dropped_by(text) or f"min_level {rules.config.min_level}", {})


def summary(kept: Counter[str], dropped: Counter[str]) -> list[str]:
    """Counts in words: kept by level, dropped by rule."""
    out = [
        f"{sum(kept.values()) + sum(dropped.values())} events: {sum(kept.values())} kept, {sum(dropped.values())} dropped"
    ]
    out += [f"  keep {count:8}  level {level}" for level, count in kept.most_common()]
    out += [f"  drop {count:8}  {rule}" for rule, count in dropped.most_common()]
    return out
