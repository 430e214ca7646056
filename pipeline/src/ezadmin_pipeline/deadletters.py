"""Dead letters: what cannot become a document, kept in ``<prefix>.dlq`` with its reason, for a person.

The value is the original: a Kafka message's value (``kind: message``), one line (``kind: line``), or a rollup document
or an alert whose index is gone (``kind: rollup``, ``kind: alert``). The key is the host's id. The headers:

===========================  =========================================================================================
id                           names the letter: the same thing that dies twice is the same letter
kind, reason, error          ``message | line | rollup | alert``; a short stable word; what was said about it
topic, partition, offset     where the original stood; ``line``: its number in the message, from 0 (of a message of which
                             other lines were taken: the numbers of those that were not)
by, time                     ``pipeline`` or ``cmdb-worker``; when
orig.key, orig.<header>      of a message: its key and headers, so that it can be sent again as it was; of a line: the
                             headers of its batch, without ``sig``
index                        of a rollup or an alert: where it belongs
cut                          what was cut off: see :mod:`ezadmin_wire.deadletters`
===========================  =========================================================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from ezadmin_pipeline.writer import Outgoing, SafeWriter
from ezadmin_wire import deadletters as wire
from ezadmin_wire.batch import Batch
from ezadmin_wire.deadletters import MAX_ERROR
from ezadmin_wire.ids import event_id, event_id_prefix
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.times import now

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
    return DeadLetter(*wire.message_letter(topic, partition, offset, key, headers, value, reason, error))


def line_letter(
    topic: str, partition: int, offset: int, number: int, batch: Batch, raw: bytes, reason: str, error: str
) -> DeadLetter:
    """The dead letter of line ``number`` of a batch; it is named by the ``_id`` that its document would have had."""
    identity = event_id(event_id_prefix(batch.host, batch.stream, batch.epoch), batch.seq + number)
    fields = [("id", identity), ("kind", "line"), ("reason", reason), ("error", error[:MAX_ERROR]), ("topic", topic)]
    fields += [("partition", str(partition)), ("offset", str(offset)), ("line", str(number))]
    fields += [(f"orig.{name}", str(getattr(batch, name))) for name in _LINE_HEADERS]
    return DeadLetter(*wire.cut(wire.Letter(batch.host.encode(), raw, wire.encode_headers(fields))))


def rollup_letter(identity: str, index: str, document: Mapping[str, Any], reason: str, error: str) -> DeadLetter:
    """The dead letter of counts whose index is not there: a document to be written by itself later."""
    fields = [("id", identity), ("kind", "rollup"), ("reason", reason), ("error", error[:MAX_ERROR]), ("index", index)]
    fields += [("topic", str(document["kafka.topic"])), ("partition", str(document["kafka.partition"]))]
    host = str(document.get("host.id", ""))
    headers = [(name, text.encode("utf-8", "replace")) for name, text in fields]
    return DeadLetter(host.encode() or None, orjson.dumps(document), headers)


class DeadLetters(SafeWriter):
    """Writes dead letters and knows which are acknowledged."""

    what = "dead letters"

    def __init__(self, kafka: KafkaConnection, topic: str) -> None:
        super().__init__(kafka, topic)
        self.reasons: Counter[str] = Counter()
        """Letters taken since the start, by reason."""

    def send(self, message: Outgoing) -> None:
        """Take a letter; :meth:`flush` makes sure of it."""
        self.reasons[dict(message.headers)["reason"].decode()] += 1
        super().send(message)

    def headers(self, message: Outgoing) -> list[tuple[str, bytes]]:
        """Who wrote the letter, and when, behind its own headers."""
        return [*message.headers, ("by", b"pipeline"), ("time", now().encode())]
