"""Levels as programs write them, in the words of :mod:`ezadmin_wire.levels`.

In a line of text, the level is, among its first 128 characters, the first of

* klog's head (Kubernetes, glog): ``I1124 08:15:30.123456``, with I, W, E or F;
* a level word that stands as a label: ``ERROR`` in capitals, ``error:``, ``[Error]``, ``<error>``, ``(error)`` or
  ``level=error``. A word in running text ("no error found") is none.

The words are those of syslog, Java (``SEVERE``, ``FINE``), Python (``CRITICAL``), nginx (``[crit]``, ``[emerg]``) and
their like. No digit has a say in it, apart from klog's shape: lines that differ in digits alone have one level, which
the surge ladder builds on.
"""

from __future__ import annotations

import re
from typing import Any, Optional

from ezadmin_wire.levels import LEVELS, SYSLOG_LEVELS

LEVEL_WORDS = {
    **{level: level for level in (*SYSLOG_LEVELS, "trace")},
    "emerg": "emergency",
    "panic": "emergency",
    "fatal": "critical",
    "crit": "critical",
    "severe": "error",
    "err": "error",
    "warn": "warning",
    "information": "info",
    "fine": "debug",
    "finer": "trace",
    "finest": "trace",
    "verbose": "trace",
}
_IN_FIELDS = {
    **LEVEL_WORDS,
    "informational": "info",
    "config": "info",
    "default": "info",
    "log": "info",
    "dpanic": "critical",
    "failure": "error",
    "e": "error",
    "w": "warning",
    "i": "info",
    "d": "debug",
    "f": "critical",
    "t": "trace",
    "v": "trace",
}
"""Words that mean a level in a field of its own, but not in running text."""
_BUNYAN = {10: "trace", 20: "debug", 30: "info", 40: "warning", 50: "error", 60: "critical"}
LEVEL_OF = {written: level for word, level in LEVEL_WORDS.items() for written in (word, word.title(), word.upper())}
_WORDS = "|".join(sorted(LEVEL_OF, key=len, reverse=True))
_CAPITALS = "|".join(
    # "ALL FINE" in a text is no level; Java writes "FINE:"
    sorted((word for word in LEVEL_OF if word.isupper() and word[:4] not in ("FINE", "VERB")), key=len, reverse=True)
)
_LEVEL = re.compile(
    rf"\b(?:level|lvl|severity)[\"']?\s?[=:]\s?[\"']?(?P<a>{_WORDS})\b"
    rf"|[\[<(](?P<b>{_WORDS})[\]>)]"
    rf"|\b(?P<c>{_WORDS}):"
    rf"|\b(?P<d>{_CAPITALS})\b"
)
_KLOG = re.compile(r"[IWEF][0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]")
_LETTERS = re.compile(r"[A-Za-z]+")
_ANY_LEVEL = frozenset(LEVEL_OF)

RANK = {level: rank for rank, level in enumerate(LEVELS[:-1])}
ERROR = RANK["error"]
INFO = RANK["info"]


def rank(level: Optional[str]) -> int:
    """The level's place, 0 (emergency) to 8 (trace); a line that names none ranks as ``info``."""
    return INFO if level is None else RANK.get(level, INFO)


def level_of(message: str) -> Optional[str]:
    """The level that ``message`` names, by the rule above, or None."""
    if message[:1] in "IWEF" and _KLOG.match(message):
        return _IN_FIELDS[message[0].lower()]
    # most lines hold no such word at all, and this finds it out in a tenth of the time
    if _ANY_LEVEL.isdisjoint(_LETTERS.findall(message, 0, 128)):
        return None
    match = _LEVEL.search(message, 0, 128)
    return None if match is None else LEVEL_OF[match[match.lastgroup or 0]]


def level_of_field(value: Any) -> Optional[str]:
    """The level that the value of a level field means: a word, a syslog severity (0 to 7), or bunyan's 10 to 60."""
    if isinstance(value, bool) or value is None:
        return None
    text = str(value).strip()
    if text.isascii() and text.isdigit():
        number = int(text) if len(text) < 4 else -1
        return SYSLOG_LEVELS[number] if 0 <= number <= 7 else _BUNYAN.get(number)
    return _IN_FIELDS.get(text.lower())
