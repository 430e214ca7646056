"""The dead letter of a whole Kafka message, as every consumer writes it into ``<prefix>.dlq``.

The value is the message's. The headers, each as text:

===========================  =========================================================================================
id                           names the letter: topic, partition and offset, so what dies twice is one letter
kind, reason, error          ``message``; a short stable word; what was said about it
topic, partition, offset     where the message stands
line                         numbers of the lines that died, from 0, where the others were taken
orig.key, orig.<header>      its key and headers, so that it can be sent again as it was
cut                          what was cut off: a value beyond 2 MiB, or an original key and headers beyond 1 MiB in all,
                             which are then left out. Compressed, such a thing fits through a topic that lets 2 MiB
                             pass, and as a letter through none
===========================  =========================================================================================

The writer adds ``by`` (who) and ``time``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

MAX_VALUE = 2 << 20
MAX_HEADERS = 1 << 20
MAX_ERROR = 1000

Headers = list[tuple[str, bytes]]


class Letter(NamedTuple):
    """Key, value and headers of a dead letter, without ``by`` and ``time``."""

    key: Optional[bytes]
    value: bytes
    headers: Headers


def encode_headers(fields: Sequence[tuple[str, str]]) -> Headers:
    """Headers of texts; half surrogates, which UTF-8 does not have, become ``?``."""
    return [(name, text.encode("utf-8", "replace")) for name, text in fields]


def message_letter(
    topic: str,
    partition: int,
    offset: int,
    key: Optional[bytes],
    headers: Sequence[tuple[str, bytes]],
    value: Optional[bytes],
    reason: str,
    error: str,
    lines: Sequence[int] = (),
) -> Letter:
    """The dead letter of a Kafka message; ``lines``: those that died, where the others were taken."""
    fields = [("id", f"{topic}/{partition}/{offset}"), ("kind", "message"), ("reason", reason)]
    fields += [("error", error[:MAX_ERROR]), ("topic", topic), ("partition", str(partition)), ("offset", str(offset))]
    if lines:
        fields.append(("line", ",".join(map(str, lines))))
    encoded = encode_headers(fields)
    original = [(f"orig.{name}", data) for name, data in headers if isinstance(data, bytes)]
    if key is not None:
        original.insert(0, ("orig.key", key))
    size = sum(len(name) + len(data) for name, data in original)
    if size > MAX_HEADERS:
        encoded.append(("cut", f"key and headers of {size} bytes".encode()))
        return cut(Letter(None, value or b"", encoded))
    return cut(Letter(key, value or b"", [*encoded, *original]))


def cut(letter: Letter) -> Letter:
    """The letter so that it fits through its topic: a longer value loses its end, which is noted."""
    if len(letter.value) <= MAX_VALUE:
        return letter
    note = ("cut", f"value of {len(letter.value)} bytes".encode())
    return Letter(letter.key, letter.value[:MAX_VALUE], [*letter.headers, note])
