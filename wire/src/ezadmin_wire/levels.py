"""The levels of events (``log.level``), from the most to the least severe; syslog's eight (RFC 5424 table 2) plus two.

A line without a level counts as ``unknown``.
"""

from __future__ import annotations

LEVELS = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug", "trace", "unknown")
UNKNOWN = "unknown"
SYSLOG_LEVELS = LEVELS[:8]
"""Level by syslog severity 0..7."""
_KNOWN = frozenset(LEVELS)


def known_level(text: str) -> str:
    """The level that an event counts under: ``text`` if it is one of :data:`LEVELS`, else ``unknown``."""
    return text if text in _KNOWN else UNKNOWN
