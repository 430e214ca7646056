"""What is done with the lines of one source: which are kept, what is masked in them, how they are read.

The order: exclude and include see the line as it was written; then it is masked; then read (time, level, fields); then
the level floor; then the sample. Level error and worse is never sampled away. A line without a level counts as info.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from ezadmin_wire.logs.formats import Format
from ezadmin_wire.logs.levels import RANK
from ezadmin_wire.logs.patterns import MAX_TEXT, compile_safe

ENCODINGS = ("utf-8", "cp949", "euc-kr")
FORMATS = ("json", "kv")


@dataclass(frozen=True)
class Multiline:
    """Which lines make one event. ``start``: a line that matches begins one; ``go_on``: one that matches continues it."""

    start: Optional[str] = None
    go_on: Optional[str] = None
    max_lines: int = 500
    seconds: float = 2.0


@dataclass(frozen=True)
class RuleConfig:
    """The rules of a source, as configured. Expressions are text; ``mask`` pairs one with its replacement."""

    encoding: str = "utf-8"
    multiline: Optional[Multiline] = None
    parse: Optional[str] = None
    time_field: Optional[str] = None
    level_field: Optional[str] = None
    message_field: Optional[str] = None
    min_level: Optional[str] = None
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    mask: Sequence[tuple[str, str]] = ()
    sample: int = 1


class Rules:
    """The rules of a source, compiled. Raises PatternError when made."""

    def __init__(self, config: RuleConfig) -> None:
        self.config = config
        self.encoding = config.encoding
        self.floor = RANK["trace"] if config.min_level is None else RANK[config.min_level]
        self.sample = config.sample
        self.format: Optional[Format] = None
        if config.parse is not None:
            kind = config.parse if config.parse in FORMATS else "regex"
            self.format = Format(
                kind,
                compile_safe(config.parse) if kind == "regex" else None,
                time=config.time_field,
                level=config.level_field,
                message=config.message_field,
            )
        self._include = [(text, compile_safe(text)) for text in config.include]
        self._exclude = [(text, compile_safe(text)) for text in config.exclude]
        self._mask = [(compile_safe(text), replacement) for text, replacement in config.mask]
        for expression, replacement in self._mask:
            expression.sub(replacement, "")  # raises for a group that is not there
        multiline = config.multiline
        self.multiline = multiline
        self._start = None if multiline is None or multiline.start is None else compile_safe(multiline.start)
        self._go_on = None if multiline is None or multiline.go_on is None else compile_safe(multiline.go_on)
        self.plain = not (self._include or self._exclude or self._mask or self.format or self.sample > 1)
        """Whether a line's fate depends on its pattern alone."""

    def dropped_by(self, text: str) -> Optional[str]:
        """The rule that drops a line, or None."""
        for source, expression in self._exclude:
            if expression.search(text, 0, MAX_TEXT):
                return f"exclude {source!r}"
        if self._include and not any(expression.search(text, 0, MAX_TEXT) for _, expression in self._include):
            return "include: none matches"
        return None

    def masked(self, text: str) -> tuple[str, bool]:
        """``text`` with the masks applied, and whether it was cut: nothing leaves that a mask could not look at."""
        if not self._mask:
            return text, False
        cut = len(text) > MAX_TEXT
        if cut:
            text = text[:MAX_TEXT]
            text = text[: max(text.rfind(" "), MAX_TEXT - 256)]  # half a secret would not be known as one
        for expression, replacement in self._mask:
            text = expression.sub(replacement, text)
        return text, cut

    def continues(self, raw: bytes) -> bool:
        """Whether a line belongs to the event before it."""
        text = raw[: 2 * MAX_TEXT].decode(self.encoding, "replace")
        if self._start is not None:
            return not self._start.search(text, 0, MAX_TEXT)
        return self._go_on is not None and bool(self._go_on.search(text, 0, MAX_TEXT))
