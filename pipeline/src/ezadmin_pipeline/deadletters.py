"""Dead letters: what cannot become a document, kept in ``<prefix>.dlq`` with its reason, for a person.

The value is the original: a Kafka message's value (``kind: message``), one line (``kind: line``), or a rollup document
or an alert whose index is gone (``kind: rollup``, ``kind: alert``). The key is the host's id. The headers:

===========================  =========================================================================================
id                           names the letter: the same thing that dies twice is the same letter
kind, reason, error          ``message | line | rollup | alert``; a short stable word; what was said about it
topic, partition, offset     where the original stood; ``line``: its number in the message, from 0
by, time                     ``pipeline`` or ``cmdb-worker``; when
orig.key, orig.<header>      of a message: its key and headers, so that it can be sent again as it was; of a line: the
                             headers of its batch, without ``sig``
index                        of a rollup or an alert: where it belongs
cut                          what was cut off: a value beyond 2 MiB, or an original key and headers beyond 1 MiB in all,
                             which are then left out. Compressed, such a thing fits through a topic that lets 2 MiB
                             pass, and as a letter through none
===========================  =========================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from ezadmin_pipeline.writer import Outgoing, SafeWriter
from ezadmin_wire.batch import Batch
from ezadmin_wire.ids import event_id, event_id_prefix
from ezadmin_wire.times import now

MAX_VALUE = 2 << 20
MAX_HEADERS = 1 << 20
_LINE_HEADERS = ("host", "kid", "stream", "epoch", "seq", "n", "dataset", "tmin", "tmax", "sent")


class DeadLetter(Outgoing):
    """One dead letter before it is written; ``headers`` without ``by`` and ``time``."""


def message_letter(
    topic: str,
    partition: int,
    offset: int,
    key: bytes | None,
    headers: Sequence[tuple[str, bytes]],
    value: bytes | None,
    reason: str,
    error: str,
) -> DeadLetter:
    """The dead letter of a whole Kafka message."""
    place = f"{topic}/{partition}/{offset}"
    fields = [("id", place), ("kind", "message"), ("reason", reason), ("error", error[:1000]), ("topic", topic)]
    fields += [("partition", str(partition)), ("offset", str(offset))]
    encoded = [(name, text.encode("utf-8", "replace")) for name, text in fields]
    original = [(f"orig.{name}", data) for name, data in headers if isinstance(data, bytes)]
    if key is not None:
        original.insert(0, ("orig.key", key))
    size = sum(len(name) + len(data) for name, data in original)
    if size > MAX_HEADERS:
        encoded.append(("cut", f"key and headers of {size} bytes".encode()))
        return _cut(DeadLetter(None, value or b"", encoded))
    return _cut(DeadLetter(key, value or b"", [*encoded, *original]))


def line_letter(
    topic: str, partition: int, offset: int, number: int, batch: Batch, raw: bytes, reason: str, error: str
) -> DeadLetter:
    """The dead letter of line ``number`` of a batch; it is named by the ``_id`` that its document would have had."""
    identity = event_id(event_id_prefix(batch.host, batch.stream, batch.epoch), batch.seq + number)
    fields = [("id", identity), ("kind", "line"), ("reason", reason), ("error", error[:1000]), ("topic", topic)]
    fields += [("partition", str(partition)), ("offset", str(offset)), ("line", str(number))]
    fields += [(f"orig.{name}", str(getattr(batch, name))) for name in _LINE_HEADERS]
    return _cut(
        DeadLetter(batch.host.encode(), raw, [(name, text.encode("utf-8", "replace")) for name, text in fields])
    )


def _cut(letter: DeadLetter) -> DeadLetter:
    if len(letter.value) <= MAX_VALUE:
        return letter
    note = ("cut", f"value of {len(letter.value)} bytes".encode())
    return DeadLetter(letter.key, letter.value[:MAX_VALUE], [*letter.headers, note])


def rollup_letter(identity: str, index: str, document: Mapping[str, Any], reason: str, error: str) -> DeadLetter:
    """The dead letter of counts whose index is not there: a document to be written by itself later."""
    fields = [("id", identity), ("kind", "rollup"), ("reason", reason), ("error", error[:1000]), ("index", index)]
    fields += [("topic", str(document["kafka.topic"])), ("partition", str(document["kafka.partition"]))]
    host = str(document.get("host.id", ""))
    headers = [(name, text.encode("utf-8", "replace")) for name, text in fields]
    return DeadLetter(host.encode() or None, orjson.dumps(document), headers)


class DeadLetters(SafeWriter):
    """Writes dead letters and knows which are acknowledged."""

    what = "dead letters"

    def headers(self, message: Outgoing) -> list[tuple[str, bytes]]:
        """Who wrote the letter, and when, behind its own headers."""
        return [*message.headers, ("by", b"pipeline"), ("time", now().encode())]
