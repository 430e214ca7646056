"""What makes two lines the same: their pattern."""

from __future__ import annotations

import hashlib
import re

DIGITS = bytes.maketrans(b"123456789", b"000000000")
"""Lines that differ in digits alone become the same bytes by it."""
PATTERN_BYTES = 512
"""Bytes of a line that its pattern is made of."""
_VARIABLE = re.compile(
    rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
    rb"|\b(?:0x[0-9a-fA-F]+|(?=[0-9a-f]*[0-9])[0-9a-f]{8,}|(?=[0-9A-F]*[0-9])[0-9A-F]{8,})\b"
    rb"|\b(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}\b"
    rb"|[0-9]+(?:[.:][0-9]+)*"
)


def pattern_of(line: bytes) -> bytes:
    """The pattern of a line: its begin, with uuids, addresses, hexadecimal and decimal numbers masked."""
    return _VARIABLE.sub(b"*", line[:PATTERN_BYTES])


def pattern_hash(pattern: bytes) -> str:
    """A short name of a pattern: 16 hex digits."""
    return hashlib.blake2b(pattern, digest_size=8).hexdigest()
