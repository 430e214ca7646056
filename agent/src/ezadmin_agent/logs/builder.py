"""From the lines of a source to the events of one batch: rules, parsing, and the collapse of repeats in a surge.

Repeats are collapsed within one batch only: its events, their counts and the position behind the lines stand in one
frame of the spool, so that the sums are exact whatever is killed. In a surge a batch spans up to RAW_BYTES of input,
which is about as much as a second brings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Union

from ezadmin_agent.logs.patterns import DIGITS, PATTERN_BYTES, pattern_hash, pattern_of
from ezadmin_agent.logs.source import MAX_BYTES, MAX_LINES, Batch, Counts, Mode
from ezadmin_wire.logs.levels import ERROR, rank
from ezadmin_wire.logs.parse import Parsed, Parser, event
from ezadmin_wire.logs.rules import Rules
from ezadmin_wire.times import format_epoch_ms

RAW_BYTES = 8 << 20
"""Bytes of input at most behind one batch."""
CACHE = 4096


@dataclass
class _Group:
    """An event that stands for ``count`` lines of one pattern; ``last`` is the newest, as it was read."""

    line: bytes
    time: str
    pattern: str
    count: int = 1
    last: Union[bytes, str] = b""
    last_time: Optional[str] = None


class Patterns:
    """What is known of lines by their bytes with the digits masked: rank of the level and hash of the pattern."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[int, str]] = {}

    def get(self, key: bytes) -> Optional[tuple[int, str]]:
        """What :meth:`put` was told."""
        return self._known.get(key)

    def put(self, key: bytes, rank: int, pattern: str) -> None:
        """Remember; forget everything when it gets too much."""
        if len(self._known) >= CACHE:
            self._known.clear()
        self._known[key] = (rank, pattern)

    def clear(self) -> None:
        """Forget everything: the rules changed."""
        self._known.clear()


class Builder:
    """Makes one batch. ``full``: a line did not fit any more. ``changed``: the counts or lines changed."""

    def __init__(
        self,
        rules: Rules,
        parser: Parser,
        patterns: Patterns,
        counts: Counts,
        *,
        dataset: str,
        now_ms: int,
        mode: Mode,
        path: Optional[str] = None,
    ) -> None:
        self._rules = rules
        self._parser = parser
        self._patterns = patterns
        self._counts = counts
        self._dataset = dataset
        self._path = path
        self._now_ms = now_ms
        self._mode = mode
        self._fast = mode.collapse and rules.plain
        self._entries: list[Union[bytes, _Group]] = []
        self._urgent: list[int] = []
        self._groups: dict[str, _Group] = {}
        self._size = 0
        self.raw = 0
        self.created = format_epoch_ms(now_ms)
        self._tmin = self._tmax = self.created
        self.full = False
        self.changed = False

    def add(self, raw: bytes, offset: Optional[int] = None, *, cut: bool = False) -> bool:
        """Add a line, or the lines of one event; False, and ``full``, if it has to wait for the next batch."""
        if self.raw >= RAW_BYTES:
            self.full = True
            return False
        key = b""
        if self._fast:
            # a syslog priority is a number that means a level
            key = raw[:PATTERN_BYTES].translate(DIGITS)
            if raw[:1] == b"<":
                key = raw[:5] + key
            known = self._patterns.get(key)
            if known is not None and self._repeat(known, raw):
                return True
        text = raw.rstrip(b"\r").decode(self._rules.encoding, "ignore" if cut else "replace")
        if self._rules.dropped_by(text) is not None:
            return self._filtered(raw)
        text, shortened = self._rules.masked(text)
        parsed = self._parser.parse(text, self._now_ms)
        if self._rules.format is not None:
            parsed = self._rules.format.apply(parsed, self._parser, self._now_ms)
        return self._judge(parsed, raw, offset, cut or shortened, key)

    def add_parsed(self, parsed: Parsed, size: int, *, cut: bool = False) -> bool:
        """As :meth:`add`, for an event that came apart already; ``size``: its bytes."""
        if self.raw >= RAW_BYTES:
            self.full = True
            return False
        if self._rules.dropped_by(parsed.message) is not None:
            self.raw += size
            return self._filtered(b"")
        text, shortened = self._rules.masked(parsed.message)
        if text != parsed.message:
            parsed = parsed._replace(message=text)
        if self._rules.format is not None:
            parsed = self._rules.format.apply(parsed, self._parser, self._now_ms)
        if not self._judge(parsed, b"", None, cut or shortened, b""):
            return False
        self.raw += size
        return True

    def batch(self, position: Any, more: bool) -> Batch:
        """The batch; ``position`` is where the source stands now."""
        lines = [entry if isinstance(entry, bytes) else self._close(entry) for entry in self._entries]
        return Batch(lines, self._tmin, self._tmax, position, more, self.raw, self._urgent)

    # ------------------------------------------------------------------

    def _repeat(self, known: tuple[int, str], raw: bytes) -> bool:
        """Take a line whose pattern is known already; False if it must be read whole."""
        place, pattern = known
        counts = self._counts
        if place > self._rules.floor:
            return self._filtered(raw)
        if place >= self._mode.shed:
            counts.dropped += 1
        elif place > ERROR and pattern in self._groups:
            self._fold(self._groups[pattern], raw)
        else:
            return False
        counts.read += 1
        self.raw += len(raw) + 1
        self.changed = True
        return True

    def _fold(self, group: _Group, last: Union[bytes, str]) -> None:
        counts = self._counts
        if group.count == 1:  # until now it was an event like any other
            counts.kept -= 1
            counts.folded += 1
            counts.folds += 1
        group.count += 1
        group.last = last
        counts.folded += 1

    def _filtered(self, raw: bytes) -> bool:
        self._counts.read += 1
        self._counts.filtered += 1
        self.raw += len(raw) + 1
        self.changed = True
        return True

    def _judge(self, parsed: Parsed, raw: bytes, offset: Optional[int], cut: bool, key: bytes) -> bool:
        counts, rules = self._counts, self._rules
        place = rank(parsed.level)
        pattern = ""
        if self._mode.collapse and place > ERROR:
            pattern = pattern_hash(
                pattern_of(raw if key else parsed.message[:PATTERN_BYTES].encode("utf-8", "replace"))
                + (parsed.level or "").encode()
            )
        if key:
            self._patterns.put(key, place, pattern)
        if place > rules.floor:
            return self._filtered(raw)
        if rules.sample > 1 and place > ERROR and counts.turn % rules.sample:
            counts.read += 1
            counts.sampled += 1
        elif place >= self._mode.shed:
            counts.read += 1
            counts.dropped += 1
        elif pattern and pattern in self._groups:
            group = self._groups[pattern]
            self._fold(group, raw)
            group.last_time = self._time(parsed)
            counts.read += 1
        elif not self._append(parsed, offset, cut, pattern, place <= ERROR):
            return False
        if rules.sample > 1 and place > ERROR:
            counts.turn += 1
        self.raw += len(raw) + 1
        self.changed = True
        return True

    def _append(self, parsed: Parsed, offset: Optional[int], cut: bool, pattern: str, urgent: bool) -> bool:
        if len(self._entries) >= MAX_LINES:
            self.full = True
            return False
        moment, line = event(
            parsed,
            dataset=self._dataset,
            created_ms=self._now_ms,
            created=self.created,
            path=self._path,
            offset=offset,
            cut=cut,
        )
        size = len(line) + (161 if pattern else 1)  # room for what _close adds
        if self._entries and self._size + size > MAX_BYTES:
            self.full = True
            return False
        self._tmin = min(self._tmin, moment) if self._entries else moment
        self._tmax = max(self._tmax, moment) if self._entries else moment
        if urgent:
            self._urgent.append(len(self._entries))
        if pattern:
            group = self._groups[pattern] = _Group(line, moment, pattern)
            self._entries.append(group)
        else:
            self._entries.append(line)
        self._size += size
        self._counts.read += 1
        self._counts.kept += 1
        return True

    def _close(self, group: _Group) -> bytes:
        if group.count == 1:
            return group.line
        last = group.last_time
        if isinstance(group.last, bytes) and group.last and self._fast:
            last = self._time(self._parser.parse(group.last.decode(self._rules.encoding, "replace"), self._now_ms))
        more = (
            f',"event.count":{group.count},"event.start":"{group.time}","event.end":"{last or group.time}"'
            f',"log.pattern.hash":"{group.pattern}"}}'
        )
        return group.line[:-1] + more.encode()

    def _time(self, parsed: Parsed) -> str:
        return self.created if parsed.time is None else format_epoch_ms(parsed.time)
