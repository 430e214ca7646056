"""One line of a batch: what is read of it, and the document it becomes.

Bytes stay bytes: a line is peeked (four fields), and the document is the line with a prefix spliced in after ``{``.
Only a line that has to be changed, or that looks as if it held a name that only the pipeline may write, is decoded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple, cast

import msgspec
import orjson

from ezadmin_wire import WireError
from ezadmin_wire.batch import ANY_DATASET, MAX_LINE
from ezadmin_wire.levels import UNKNOWN, known_level
from ezadmin_wire.times import format_time, parse_time

AHEAD = 600.0
"""Seconds that ``@timestamp`` may be ahead of ``event.created``."""
BEHIND = 7 * 86400.0
"""Seconds that ``@timestamp`` may be behind ``event.created``."""
ORIGINAL_TIMESTAMP = "event.original_timestamp"
"""Where a replaced ``@timestamp`` is kept; documents that have it came with an impossible time."""
EDITED = ("event.edited_by", "event.edited_at", "event.edited_letter")
"""Who edited a dead letter before it became this document, when, and which: :mod:`ezadmin_pipeline.edits`."""

# Elasticsearch merges {"host":{"id":…}} into host.id, so an object under these names could speak for another host
_OWNED_ROOTS = frozenset({"host", "agent", "labels", "event"})
_OWNED_PREFIXES = ("host.", "agent.", "labels.")
# _doc_count makes Elasticsearch count one document as many
_OWNED_NAMES = frozenset(
    {"host.id", "host.name", "event.ingested", "event.sample_rate", ORIGINAL_TIMESTAMP, "_doc_count", *EDITED}
)
# a name under an owned prefix, plain or written with escapes; the others are refused by the guarded peek at no cost
_SUSPECTS = (b'"host.', b'"agent.', b'"labels.', b"\\u")
_ENDS_WITH_DOT = re.compile(rb'\."\s*:')  # Elasticsearch drops dots at the end of a name: "event." is "event"
_MINUTE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}")


class BadLine(Exception):
    """A line that cannot become a document; ``reason`` is a short stable word for dead letters and metrics.

    ``minute`` and ``level`` say where it counts, if that could be read.
    """

    def __init__(self, reason: str, text: str, minute: str | None = None, level: str = UNKNOWN) -> None:
        super().__init__(text)
        self.reason = reason
        self.minute = minute
        self.level = level


class _Peek(msgspec.Struct):
    timestamp: str = msgspec.field(name="@timestamp")
    created: str = msgspec.field(name="event.created")
    dataset: str = msgspec.field(name="event.dataset")
    level: str = msgspec.field(name="log.level", default=UNKNOWN)


# a type that no value has: a line that holds the name, however it is written, does not decode
_Nothing = Annotated[int, msgspec.Meta(gt=0, lt=0)]
_Guarded = msgspec.defstruct(
    "_Guarded",
    [
        (f"owned_{i}", _Nothing, msgspec.field(name=name, default=0))
        for i, name in enumerate(sorted(_OWNED_ROOTS | _OWNED_NAMES))
    ],
    bases=(_Peek,),
)

_peek = msgspec.json.Decoder(_Peek).decode
_guarded_peek = cast(Callable[[bytes], _Peek], msgspec.json.Decoder(_Guarded).decode)


class Line(NamedTuple):
    """What a line says of itself. ``minute`` is ``YYYY-MM-DDTHH:MM`` of the time that counts, in UTC."""

    minute: str
    level: str
    document: bytes


def suspicious(value: bytes) -> bool:
    """Whether a batch may hold a name under a prefix that only the pipeline writes; false for nearly all.

    Bytes that are no UTF-8 are suspect, too: Elasticsearch's parser takes overlong ones in names (``c1 a8`` for ``h``),
    so ``host`` could be written with them, and the peek does not look at what it passes over.
    """
    if any(suspect in value for suspect in _SUSPECTS) or _ENDS_WITH_DOT.search(value):
        return True
    try:
        value.decode()
    except UnicodeDecodeError:
        return True
    return False


class LineReader:
    """Turns lines into documents. Holds only caches of texts, so one serves a whole worker."""

    def __init__(self) -> None:
        self._minutes: set[str] = set()

    def read(self, line: bytes, dataset: str, prefix: bytes, suspect: bool) -> Line:
        """Check ``line`` of a batch with this ``dataset`` and put ``prefix`` (``{"host.id":…,``) before it.

        ``suspect`` is the batch's :func:`suspicious`. The result depends on the line alone but for the prefix: never
        on a clock, a rule or a label. Raises BadLine.
        """
        if len(line) > MAX_LINE:
            raise BadLine("too_large", f"{len(line)} bytes in one line; at most {MAX_LINE}")
        if not line.startswith(b"{"):
            raise BadLine("bad_line", "the line does not begin with {")
        name = None
        try:
            try:
                peek = _guarded_peek(line)
                if suspect:
                    name = _owned_name(line)
            except msgspec.ValidationError:
                peek = _peek(line)
                name = _owned_name(line)
            found = self._place(line, peek, prefix)
        except (msgspec.DecodeError, UnicodeDecodeError, orjson.JSONDecodeError, RecursionError) as error:
            raise BadLine("bad_line", str(error)) from error
        if name is not None:
            text = f"the line holds {name!r}, which only the pipeline writes"
            raise BadLine("owned_name", text, found.minute, found.level)
        if dataset not in (ANY_DATASET, peek.dataset):
            text = f"event.dataset is {peek.dataset!r} in a batch of {dataset!r}"
            raise BadLine("wrong_dataset", text, found.minute, found.level)
        return found

    def _place(self, line: bytes, peek: _Peek, prefix: bytes) -> Line:
        timestamp, created = peek.timestamp, peek.created
        minute = timestamp[:16]
        # the same ten minutes and the usual form: nothing to compare
        if timestamp[:15] == created[:15] and len(timestamp) == 24 and timestamp[23] == "Z" and self._known(minute):
            return Line(minute, known_level(peek.level), prefix + line[1:])
        return self._judge_time(line, peek, prefix)

    def _known(self, minute: str) -> bool:
        if minute in self._minutes:
            return True
        if not _MINUTE.fullmatch(minute):  # read by the rules for other forms, and written anew in the usual one
            return False
        try:
            parse_time(minute + ":00.000Z")
        except WireError:
            return False
        if len(self._minutes) > 10_000:
            self._minutes.clear()
        self._minutes.add(minute)
        return True

    def _judge_time(self, line: bytes, peek: _Peek, prefix: bytes) -> Line:
        try:
            created = parse_time(peek.created)
        except WireError as error:
            raise BadLine("bad_time", f"event.created: {error}") from error
        try:
            timestamp = parse_time(peek.timestamp)
        except WireError as error:
            raise BadLine("bad_time", f"@timestamp: {error}") from error
        if -BEHIND <= (timestamp - created).total_seconds() <= AHEAD:
            return Line(format_time(timestamp)[:16], known_level(peek.level), prefix + line[1:])
        document = orjson.loads(line)
        document[ORIGINAL_TIMESTAMP] = peek.timestamp
        document["@timestamp"] = format_time(created)
        return Line(format_time(created)[:16], known_level(peek.level), prefix + orjson.dumps(document)[1:])


def _owned_name(line: bytes) -> str | None:
    for name in orjson.loads(line):
        bare = name.rstrip(".")
        if bare in _OWNED_ROOTS or bare in _OWNED_NAMES or bare.startswith(_OWNED_PREFIXES):
            return str(name)
    return None


def host_prefix(host: str, name: str, labels: Mapping[str, str]) -> bytes:
    """The start of every document of a host, up to where ``event.ingested`` follows."""
    members: dict[str, Any] = {"host.id": host, "host.name": name}
    if labels:
        members["labels"] = dict(labels)
    return orjson.dumps(members)[:-1] + b',"event.ingested":"'
