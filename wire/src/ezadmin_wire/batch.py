"""The batch: what one Kafka message of ``metrics``, ``logs``, ``state`` and ``jobs`` holds.

The value is NDJSON: ``n`` lines, each one JSON object on one line, each ended by ``\\n``. At most 500 lines and 256 KiB
(:data:`MAX_LINES`, :data:`MAX_BYTES`; a single line may be longer, up to :data:`MAX_LINE`). The headers, in this order:

========  ==========================================================================================================
v         ``1``, or ``2``: the value is compact, see below
host      host.id of the writer; also the message's key (in ``jobs`` a key may also end in it)
kid       id of the key that signed
topic     the topic's name: a batch copied into another topic is worth nothing there
stream    the spool queue that the lines come from
epoch     the life of that queue
seq       number of the first line; line i has seq + i
n         number of lines
dataset   ``event.dataset`` of all lines; ``*`` for a tick of metrics, which holds several
tmin      earliest ``@timestamp``
tmax      latest ``@timestamp``
levels    lines per ``log.level``, as ``error=2,info=5`` sorted by name; lines without one, or with one that
          :mod:`ezadmin_wire.levels` does not know, count as ``unknown``. Empty in topics other than ``logs``
sent      when the batch was signed, by the host's clock
sig       Ed25519, with the host's key, over :func:`signed`: ``ezadmin/batch/1``, the values of the headers above in
          this order, and the SHA-256 of the message's value (Ed25519's own SHA-512 of it would take twice the time)
========  ==========================================================================================================

A *compact* value is the NDJSON as raw deflate with the preset dictionary ``metrics-2.dict``: what the field names of a tick
cost, which are most of it, is then paid once for all. Only metrics are worth it. Another dictionary is another ``v``.

The numbers of a line never change: whoever sends it again sends it under the same (host, stream, epoch, seq).
"""

from __future__ import annotations

import hashlib
import pkgutil
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ezadmin_wire.errors import WireError
from ezadmin_wire.ids import EPOCH_PATTERN, STREAM_PATTERN, is_host_id
from ezadmin_wire.levels import UNKNOWN, known_level
from ezadmin_wire.signing import SigningKey, VerifyKey, signed_bytes
from ezadmin_wire.times import parse_time

CONTEXT = "ezadmin/batch/1"
PLAIN, COMPACT = VERSIONS = ("1", "2")
MAX_LINES = 500
MAX_BYTES = 256 * 1024
MAX_LINE = 512 * 1024
"""A longer line, or a value longer than twice this that is not one line, is a dead letter."""
ANY_DATASET = "*"

HEADERS = ("v", "host", "kid", "topic", "stream", "epoch", "seq", "n", "dataset", "tmin", "tmax", "levels", "sent")
"""The signed headers in their order; ``sig`` comes last."""

_DICTIONARY = pkgutil.get_data("ezadmin_wire", "metrics-2.dict") or b""
_LEVEL = re.compile(rb'"log\.level":"((?:[^"\\]|\\.)*)"')
_DATASET = re.compile(r"\*|[a-z0-9][a-z0-9._-]{0,63}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
_LEVEL_NAME = re.compile(r"[a-z]{1,16}")

KafkaHeaders = Sequence[tuple[str, bytes]]


@dataclass(frozen=True)
class Batch:
    """The decoded headers of a batch and its value. ``levels`` holds lines per level."""

    host: str
    kid: str
    topic: str
    stream: str
    epoch: str
    seq: int
    n: int
    dataset: str
    tmin: str
    tmax: str
    levels: Mapping[str, int]
    sent: str
    value: bytes

    def lines(self) -> list[bytes]:
        """The lines without their newline; the same list each time."""
        return self._lines

    @cached_property
    def _lines(self) -> list[bytes]:
        lines = self.value.split(b"\n")
        lines.pop()
        return lines

    def check_levels(self) -> None:
        """Raise WireError (``wrong_levels``) if the value has other levels than the header says."""
        if self.levels and count_levels(self.value) != self.levels:
            header = encode_levels(self.levels)
            raise WireError("wrong_levels", f"header levels says {header}, the value has other counts")


def count_levels(value: bytes) -> dict[str, int]:
    """Lines per level of an NDJSON ``value``, by looking for ``"log.level":"…"`` in the bytes.

    A quote inside a string is escaped in JSON, so the pattern never matches inside a message. A key written with
    escapes or spaces is not found and counts as ``unknown``, as does a level that is none: an agent writes compact JSON.
    """
    counts: dict[str, int] = {}
    for name, count in Counter(_LEVEL.findall(value)).items():
        level = known_level(name.decode("utf-8", "replace"))
        counts[level] = counts.get(level, 0) + count
    rest = value.count(b"\n") - sum(counts.values())
    if rest > 0:
        counts[UNKNOWN] = counts.get(UNKNOWN, 0) + rest
    return counts


def encode_levels(levels: Mapping[str, int]) -> str:
    """``{"info": 5, "error": 2}`` as ``error=2,info=5``."""
    return ",".join(f"{name}={count}" for name, count in sorted(levels.items()) if count)


def decode_levels(text: str) -> dict[str, int]:
    """The reverse of :func:`encode_levels`. Raises WireError (``bad_header``)."""
    levels: dict[str, int] = {}
    for part in text.split(",") if text else []:
        name, sign, count = part.partition("=")
        if not sign or not _LEVEL_NAME.fullmatch(name) or name in levels:
            raise WireError("bad_header", f"header levels: {text!r}")
        levels[name] = _number("levels", count)
    return levels


def encode(
    key: SigningKey,
    *,
    host: str,
    topic: str,
    stream: str,
    epoch: str,
    seq: int,
    lines: Iterable[bytes],
    dataset: str,
    tmin: str,
    tmax: str,
    sent: str,
    count: bool = True,
    compact: bool = False,
) -> tuple[list[tuple[str, bytes]], bytes]:
    """Make the headers and value of a batch of ``lines`` (without newlines) and sign it with the host's ``key``.

    ``count`` fills ``levels`` (logs); ``compact`` makes the value compact. Raises WireError (``bad_value``) for no lines
    or a line with a newline in it.
    """
    parts = list(lines)
    value = b"\n".join(parts) + b"\n"
    if not parts or value.count(b"\n") != len(parts):
        raise WireError("bad_value", "a batch holds at least one line, and no line holds a newline")
    fields = {
        "v": COMPACT if compact else PLAIN,
        "host": host,
        "kid": key.kid,
        "topic": topic,
        "stream": stream,
        "epoch": epoch,
        "seq": str(seq),
        "n": str(len(parts)),
        "dataset": dataset,
        "tmin": tmin,
        "tmax": tmax,
        "levels": encode_levels(count_levels(value)) if count else "",
        "sent": sent,
    }
    if compact:
        value = deflate(value)
    headers = [(name, fields[name].encode()) for name in HEADERS]
    signature = key.sign(signed(headers, value))
    return [*headers, ("sig", signature)], value


def signed(headers: KafkaHeaders, value: bytes) -> bytes:
    """The bytes that the signature of a message covers; ``headers`` are :data:`HEADERS`."""
    return signed_bytes(CONTEXT, [*(data for _, data in headers), hashlib.sha256(value).digest()])


def deflate(value: bytes) -> bytes:
    """``value`` made compact."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, _DICTIONARY)
    return packer.compress(value) + packer.flush()


def inflate(value: bytes) -> bytes:
    """The reverse of :func:`deflate`. Raises WireError (``bad_value``), also for more than 2 * MAX_LINE bytes."""
    unpacker = zlib.decompressobj(-15, _DICTIONARY)
    try:
        plain = unpacker.decompress(value, 2 * MAX_LINE)
    except zlib.error as error:
        raise WireError("bad_value", f"a compact value that is none: {error}") from error
    if not unpacker.eof or unpacker.unused_data:
        raise WireError("bad_value", "a compact value that is cut off, has something behind its end, or is too large")
    return plain


def decode(
    topic: str,
    key: bytes | None,
    headers: KafkaHeaders,
    value: bytes | None,
    find_key: Callable[[str, str], VerifyKey | None] | None,
    *,
    levels: bool = True,
) -> Batch:
    """Check a Kafka message and decode it; the lines themselves are not looked into.

    ``levels=False`` leaves :meth:`Batch.check_levels` to a caller who may know the levels in a cheaper way.

    ``find_key(host, kid)`` gives the host's key, or None if this host has no such key (or it was revoked); pass None
    instead of a function to leave signatures unchecked. ``key`` must be the header ``host`` (in ``jobs``: end in it).

    Raises WireError with the reason ``bad_header``, ``bad_value`` (empty, no newline at its end, too large),
    ``wrong_topic``, ``wrong_key`` (message key is another host's), ``unknown_key``, ``bad_signature``, ``wrong_count``
    or ``wrong_levels``.
    """
    if not value:
        raise WireError("bad_value", "the value is empty")
    fields = _fields(headers)
    if fields["v"] == PLAIN:
        _check_end(value)
    host = fields["host"]
    if fields["topic"] != topic:
        raise WireError("wrong_topic", f"made for topic {fields['topic']!r}, found in {topic!r}")
    if not is_host_id(host):
        raise WireError("bad_header", f"header host is not a host.id: {host!r}")
    owner = host.encode()
    if key is None or not (key.endswith(owner) if topic.endswith(".jobs") else key == owner):
        raise WireError("wrong_key", f"the message's key {key!r} is not that of host {host}")
    if find_key is not None:
        verify_key = find_key(host, fields["kid"])
        if verify_key is None:
            raise WireError("unknown_key", f"host {host} has no valid key {fields['kid']}")
        signature = headers[-1][1]
        if not verify_key.verify(signature, signed(headers[:-1], value)):
            raise WireError("bad_signature", f"the signature is not that of host {host}, key {fields['kid']}")
    if fields["v"] == COMPACT:
        value = inflate(value)
        _check_end(value)
    batch = Batch(
        host=host,
        kid=fields["kid"],
        topic=topic,
        stream=fields["stream"],
        epoch=fields["epoch"],
        seq=_number("seq", fields["seq"]),
        n=_number("n", fields["n"]),
        dataset=fields["dataset"],
        tmin=fields["tmin"],
        tmax=fields["tmax"],
        levels=decode_levels(fields["levels"]),
        sent=fields["sent"],
        value=value,
    )
    _check_fields(batch)
    if batch.n > 1 and len(value) > 2 * MAX_LINE:
        raise WireError("bad_value", f"{len(value)} bytes in one batch; at most {2 * MAX_LINE}")
    found = len(batch.lines())
    if found != batch.n:
        raise WireError("wrong_count", f"header n says {batch.n} lines, the value has {found}")
    if levels:
        batch.check_levels()
    return batch


def _check_end(value: bytes) -> None:
    if not value.endswith(b"\n"):
        raise WireError("bad_value", "the value does not end with a newline")


def _fields(headers: KafkaHeaders) -> dict[str, str]:
    names = tuple(name for name, _ in headers)
    if names != (*HEADERS, "sig"):
        missing = [name for name in (*HEADERS, "sig") if name not in names]
        raise WireError("bad_header", f"headers are not those of a batch: missing {missing}, found {list(names)}")
    empty = [name for name, data in headers if not isinstance(data, bytes)]
    if empty:  # Kafka's headers may have no value
        raise WireError("bad_header", f"headers without a value: {empty}")
    try:
        fields = {name: data.decode("ascii") for name, data in headers[:-1]}
    except UnicodeDecodeError as error:
        raise WireError("bad_header", "a header is not ASCII text") from error
    if fields["v"] not in VERSIONS:
        raise WireError("bad_header", f"version {fields['v']!r} of the batch format; this reader knows {VERSIONS}")
    return fields


def _number(name: str, text: str) -> int:
    # no sign, no leading zero, no underscore: one number has one text, so no two header lists mean the same
    if not _NUMBER.fullmatch(text):
        raise WireError("bad_header", f"header {name} is not a number: {text!r}")
    return int(text)


def _check_fields(batch: Batch) -> None:
    if not STREAM_PATTERN.fullmatch(batch.stream):
        raise WireError("bad_header", f"header stream: {batch.stream!r}")
    if not EPOCH_PATTERN.fullmatch(batch.epoch):
        raise WireError("bad_header", f"header epoch: {batch.epoch!r}")
    if not _DATASET.fullmatch(batch.dataset):
        raise WireError("bad_header", f"header dataset: {batch.dataset!r}")
    if batch.n < 1:
        raise WireError("bad_header", "header n: a batch has at least one line")
    for name in ("tmin", "tmax", "sent"):
        try:
            parse_time(getattr(batch, name))
        except WireError as error:
            raise WireError("bad_header", f"header {name}: {error}") from error
