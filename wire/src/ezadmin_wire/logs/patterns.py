"""Regular expressions of the configuration.

Python's ``re`` backtracks and cannot be interrupted, so an expression that could stall the agent is not taken at all:
one with a repeat inside a repeat (``(a+)*``) by its form, and any other whose time grows too fast by trying it on lines
made to provoke that (``.*.*.*x``, ``(a|a)*``), from short to :data:`MAX_TEXT` characters. An expression never sees more
of a line than that.
"""

from __future__ import annotations

import re
import sys
import time
from typing import Any

if sys.version_info >= (3, 11):
    from re import _parser as sre_parse  # type: ignore[attr-defined]
else:
    import sre_parse

MAX_TEXT = 8192
"""Characters of a line that an expression of the configuration sees."""
SLOW = 0.05
"""Seconds of CPU on one line after which an expression is refused."""


class PatternError(ValueError):
    """An expression that is wrong, or that could stall the agent."""


def compile_safe(text: str) -> re.Pattern[str]:
    """Compile ``text``. Raises PatternError, whose text says what is wrong with it."""
    if len(text) > 2000:
        raise PatternError("the expression is longer than 2000 characters")
    try:
        compiled = re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise PatternError(f"{text!r} is no regular expression: {error}") from error
    if _nested(sre_parse.parse(text), False):
        raise PatternError(f"{text!r} repeats a repeat, such as (a+)*, and could take for ever; write it without")
    _probe(compiled, text)
    return compiled


def _nested(items: Any, inside: bool) -> bool:
    for operation, argument in items:
        name = str(operation)
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            unbounded = argument[1] > 16 and not (len(argument[2]) == 1 and argument[0] == argument[1])
            if (inside and unbounded) or _nested(argument[2], inside or unbounded):
                return True
        elif name == "BRANCH":
            if any(_nested(branch, inside) for branch in argument[1]):
                return True
        elif name == "SUBPATTERN":
            if _nested(argument[-1], inside):
                return True
        elif name == "ATOMIC_GROUP":
            if _nested(argument, inside):
                return True
        elif name in ("ASSERT", "ASSERT_NOT"):
            if _nested(argument[1], inside):
                return True
        elif name == "GROUPREF_EXISTS" and any(_nested(branch, inside) for branch in argument[1:] if branch):
            return True
    return False


def _probe(compiled: re.Pattern[str], text: str) -> None:
    """Search lines made of the expression's own letters, ever longer, and refuse it at the first that takes long."""
    letters = list(dict.fromkeys([*re.sub(r"\\.|[^\w\s./:=\"' -]", "", text)[:8], "a", "0", " ", "=", "/", "."]))[:12]
    units = [*letters, "a ", "a=0 ", "ab", text[:40]]
    for length in (12, 16, 18, 20, 22, 24, 28, 32, 64, 128, 256, 512, 1024, 2048, 4096, MAX_TEXT):
        for unit in units:
            line = (unit * (length // len(unit) + 1))[: length - 1] + "\x00"
            begin = time.thread_time()
            compiled.search(line)
            if time.thread_time() - begin > SLOW:
                raise PatternError(
                    f"{text!r} takes too long on a line of {length} characters; anchor it (^), or let fewer parts match "
                    "the same text (such as .*.*)"
                )
