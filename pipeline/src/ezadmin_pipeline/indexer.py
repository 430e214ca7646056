"""Writes documents to Elasticsearch and settles each one: stored, already there, or a dead letter. Never lost.

Errors are judged item by item:

* 201: stored. 409: already there, so a re-send or a repeated read; the same document.
* 429, 5xx, a closed or missing index, one that cannot be made because the cluster is full of shards, a write block: the
  index refuses. That item alone is sent again: for ever if it
  belongs to today's index, or if today's index refuses as well; else for ``retry_past_index`` seconds since the index
  began to refuse and was one of the past, and then it is a dead letter. While today's index takes documents, items that
  wait because one of the past is closed, blocked or not there hold no others up: :data:`ASIDE` bulks' worth of them
  wait, what comes beyond is a dead letter at once.
* ``failed to parse field [F]``: F moves to ``unmapped`` as a string and the item is sent again, up to 8 fields.
* any other: a dead letter.

A request that Elasticsearch refuses as a whole for what is in it (400, 413) is halved until the line to blame stands
alone. Any other without a proper answer, be it from a proxy or a wrong address, is sent again whole, for ever.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import re
from collections.abc import Callable, Iterable, Set
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from itertools import chain, compress, repeat
from operator import not_
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import orjson

from ezadmin_pipeline.elastic import Elastic, SignInRefused, Unavailable
from ezadmin_pipeline.rollups import Tally
from ezadmin_pipeline.window import Window
from ezadmin_wire.batch import Batch

_log = logging.getLogger(__name__)

MAX_MOVED = 8
ASIDE = 4
"""How many times ``bulk_bytes`` may wait for indices of the past without counting as waiting."""
_FLOWS = 60.0
"""Seconds for which a document that today's index took says that it takes them."""
_REFUSALS = frozenset({"index_closed_exception", "index_not_found_exception", "cluster_block_exception"})
_FULL = "maximum normal shards open"  # of a validation_exception: an index that cannot be made now
_FIELD = re.compile(r"failed to parse field \[([^\]]+)\]|object mapping for \[([^\]]+)\] tried to parse")
_BULK_PARAMS = {
    "timeout": "30s",
    "filter_path": "errors,items.*.status,items.*.error.type,items.*.error.reason",
}
_Outcome = tuple[int, Any, float]
"""Status (0: no answer, and why), decoded body, time of the answer."""
_FIRST_DELAY = 0.1
_LAST_DELAY = 5.0
_T = TypeVar("_T")


class Owner(Protocol):
    """The partition that lines come from, told what became of them."""

    live: bool
    """False once the partition was given up: its lines are somebody else's then."""

    def settled(self, lines: int) -> None:
        """So many lines are stored or already there."""

    def conflicted(self, chunk: Chunk, i: int) -> None:
        """Line ``i`` met another document under its name though nobody can have written it before."""

    def died(self, chunk: Chunk, i: int, reason: str, text: str) -> None:
        """Line ``i`` is a dead letter."""


class Plain:
    """Lines of one Kafka message that go as they came, all into one ``index``: what their columns in a :class:`Chunk` are
    made of. A line's action is ``action`` % its number, which counts from ``first``; its document ``prefix`` and the line
    from its second byte on.

    ``keep`` says which lines are not ignored, None for all; ``tally`` counts those, ``ignored`` the others.
    """

    __slots__ = (
        "action",
        "count",
        "first",
        "ignored",
        "index",
        "keep",
        "levels",
        "lines",
        "minutes",
        "prefix",
        "tally",
    )

    def __init__(
        self,
        index: str,
        action: bytes,
        prefix: bytes,
        first: int,
        minutes: list[str],
        levels: list[str],
        lines: list[bytes],
        tally: Tally,
    ) -> None:
        self.index = index
        self.action = action
        self.prefix = prefix
        self.first = first
        self.minutes = minutes
        self.levels = levels
        self.lines = lines
        self.tally = tally
        self.ignored: Tally = {}
        self.keep: list[bool] | None = None
        self.count = len(lines)

    def ignore(self, cells: Set[tuple[str, str]]) -> None:
        """Ignore the lines of these minutes and levels."""
        self.ignored = {cell: self.tally[cell] for cell in cells}
        self.tally = {cell: figures for cell, figures in self.tally.items() if cell not in cells}
        self.count = sum(count for count, _ in self.tally.values())
        minutes = {minute for minute, _ in (*self.tally, *self.ignored)}
        if len(minutes) == 1:
            levels = {level for _, level in self.tally}
            self.keep = list(map(levels.__contains__, self.levels))
        else:
            self.keep = list(map(self.tally.__contains__, zip(self.minutes, self.levels, strict=True)))

    def kept(self, column: Iterable[_T]) -> Iterable[_T]:
        """What stands in ``column`` for the lines that are not ignored."""
        return column if self.keep is None else compress(column, self.keep)

    def size(self) -> int:
        """Bytes of the bulk body, but for a digit or two a line."""
        head = len(self.action) + len(self.prefix) + 8
        return self.count * head + sum(size for _, size in self.tally.values())

    def parts(self) -> Iterable[bytes]:
        """The pieces of the bulk body; a newline stands before each item, not behind it."""
        head = b"\n" + self.action + self.prefix.replace(b"%", b"%%")
        heads = map(head.__mod__, self.kept(range(self.first, self.first + len(self.lines))))
        return chain.from_iterable(zip(heads, [line[1:] for line in self.kept(self.lines)], strict=True))


class Chunk:
    """Lines of one Kafka message on their way to Elasticsearch: parallel lists with, per line, the index, the action line,
    the document, its number in the message, and its ``tags`` (minute, level, the line as it came).

    ``context`` is what the owner needs to know of the message. ``fresh`` says that no other worker can have read the
    message before, so that a 409 is a conflict. ``ignored`` holds the tags of the lines that rules leave out, ``sampled`` of
    those that are withheld in a surge.

    Lines that go as they came are ``plain``, and nobody may ever want their columns: they are made when one is asked for.
    """

    __slots__ = (
        "actions",
        "aside",
        "attempt",
        "context",
        "documents",
        "fresh",
        "ignored",
        "indices",
        "moved",
        "numbers",
        "offset",
        "owner",
        "parked",
        "plain",
        "sampled",
        "tags",
        "why",
    )

    def __init__(self, owner: Owner, offset: int, fresh: bool, context: Any) -> None:
        self.owner = owner
        self.context = context
        self.offset = offset
        self.fresh = fresh
        self.indices: list[str] = []
        self.actions: list[bytes] = []
        self.documents: list[bytes] = []
        self.numbers: list[int] = []
        self.tags: list[tuple[str, str, bytes]] = []
        self.ignored: list[tuple[str, str, bytes]] = []
        self.sampled: list[tuple[str, str, bytes]] = []
        self.plain: Plain | None = None
        self.attempt = 0
        self.moved = 0
        self.parked = False
        self.aside = False
        """Whether a parked line waits for something else than for load to get less."""
        self.why = ("", "")
        """Of a parked line: type and reason of the error."""

    def set_plain(self, plain: Plain) -> None:
        """Take lines that go as they came; there are no others yet."""
        self.plain = plain
        del self.indices, self.actions, self.documents, self.numbers, self.tags, self.ignored

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name not in self.__slots__:
                raise AttributeError(name)
            self._make_columns()
            return getattr(self, name)

    def _make_columns(self) -> None:
        plain, self.plain = self.plain, None
        assert plain is not None  # noqa: S101 - else all columns are there
        self.numbers = list(plain.kept(range(len(plain.lines))))
        self.indices = [plain.index] * plain.count
        self.actions = [plain.action % (plain.first + number) for number in self.numbers]
        self.documents = [plain.prefix + line[1:] for line in plain.kept(plain.lines)]
        tags = list(zip(plain.minutes, plain.levels, plain.lines, strict=True))
        self.tags = list(plain.kept(tags))
        self.ignored = [] if plain.keep is None else list(compress(tags, map(not_, plain.keep)))

    @property
    def count(self) -> int:
        """How many lines are to be stored."""
        return len(self.documents) if self.plain is None else self.plain.count

    def single(self, i: int, document: bytes | None = None) -> Chunk:
        """A chunk of line ``i`` alone, with another document if one is given."""
        other = Chunk(self.owner, self.offset, self.fresh, self.context)
        other.indices = [self.indices[i]]
        other.actions = [self.actions[i]]
        other.documents = [self.documents[i] if document is None else document]
        other.numbers = [self.numbers[i]]
        other.tags = [self.tags[i]]
        other.attempt = self.attempt
        other.moved = self.moved
        return other

    def keep(self, lines: list[int]) -> None:
        """Leave out all lines but these."""
        self.indices = list(map(self.indices.__getitem__, lines))
        self.actions = list(map(self.actions.__getitem__, lines))
        self.documents = list(map(self.documents.__getitem__, lines))
        self.numbers = list(map(self.numbers.__getitem__, lines))
        self.tags = list(map(self.tags.__getitem__, lines))

    def size(self) -> int:
        """Bytes of the bulk body, of plain lines about so many."""
        if self.plain is not None:
            return self.plain.size()
        return sum(map(len, self.actions)) + sum(map(len, self.documents)) + len(self.documents)

    def parts(self) -> Iterable[bytes]:
        """The pieces of the bulk body; a newline stands before each item, not behind it."""
        if self.plain is not None:
            return self.plain.parts()
        return chain.from_iterable(zip(repeat(b"\n"), self.actions, self.documents, strict=False))


class Indexer:
    """Sends chunks in bulks of about ``bulk_bytes``, up to ``in_flight`` at a time (0: in the caller's thread), fewer while
    Elasticsearch is slow or refuses (:mod:`ezadmin_pipeline.window`).

    ``current_index`` gives, for an index name, the index of the same kind that today's documents go to; ``clock``
    monotonic seconds. All methods are called from one thread.
    """

    def __init__(
        self,
        elastic: Elastic,
        *,
        current_index: Callable[[str], str],
        clock: Callable[[], float],
        bulk_bytes: int = 4 << 20,
        in_flight: int = 2,
        retry_past_index: float = 600.0,
    ) -> None:
        self._elastic = elastic
        self._current_index = current_index
        self._clock = clock
        self._bulk_bytes = bulk_bytes
        self.window = Window(max(1, in_flight))
        self._pool = ThreadPoolExecutor(in_flight, "bulk") if in_flight else None
        self._retry_past_index = retry_past_index
        self._buffer: list[Chunk] = []
        self._buffered = 0
        self._since: float | None = None
        self._in_flight: dict[Future[_Outcome], tuple[list[Chunk], float]] = {}
        self._retries: list[tuple[float, int, Chunk]] = []
        self._retry_bytes = 0
        self._parked = self._aside = 0
        """Lines that wait for an index of the past; bytes of those that wait aside."""
        self._flowed = float("-inf")
        """When today's index last took a document while something waited aside."""
        self._order = itertools.count()
        self._refused: dict[str, float] = {}
        self.away: str | None = None
        """Why Elasticsearch gives no answer, None while it does."""

    def add(self, chunk: Chunk) -> None:
        """Take a chunk; it is sent when enough is there, or with the next :meth:`pump` or :meth:`drain`."""
        if not self._buffer:
            self._since = self._clock()
        self._buffer.append(chunk)
        self._buffered += chunk.size()
        if self._buffered >= self._bulk_bytes:
            self._flush()

    @property
    def waiting_bytes(self) -> int:
        """Bytes taken and not yet settled, without those in flight, and those that wait aside."""
        return self._buffered + self._retry_bytes - min(self._aside, ASIDE * self._bulk_bytes)

    @property
    def busy(self) -> bool:
        """Whether more should not be added now: all connections are taken, or much waits."""
        if self._pool is not None and len(self._in_flight) >= self.window.size and self._buffered:
            return True
        return self.waiting_bytes >= 2 * self._bulk_bytes

    def pump(self, delay: float = 0.0) -> None:
        """Settle answers that came, send again what is due, and send a buffer older than ``delay`` seconds."""
        self._collect(0.0)
        self._send_due()
        if self._buffer and self._since is not None and self._clock() - self._since >= delay:
            self._flush()

    def drain(self, keep_alive: Callable[[], None]) -> None:
        """Send and wait until everything is settled, but for lines that wait for an index of the past.

        ``keep_alive`` is called again and again meanwhile; it may raise to give up.
        """
        while True:
            self.pump()
            if not self._buffer and not self._in_flight and len(self._retries) == self._parked:
                return
            keep_alive()
            self._collect(0.05)
            if self._pool is None and not self._buffer and self._retries:
                self._send_due(force=True)

    def relieve(self) -> None:
        """Make dead letters of the lines that wait aside, if today's index takes documents: these must not wait for those."""
        if not self._flows():
            return
        aside = [chunk for _, _, chunk in self._retries if chunk.aside]
        self._retries = [entry for entry in self._retries if not entry[2].aside]
        heapq.heapify(self._retries)
        self._retry_bytes -= self._aside
        self._parked -= len(aside)
        self._aside = 0
        for chunk in aside:
            if chunk.owner.live:
                chunk.owner.died(chunk, 0, *chunk.why)

    def _flows(self) -> bool:
        return self._clock() - self._flowed < _FLOWS

    def close(self) -> None:
        """Stop the threads; what is in flight is left to its fate."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _flush(self) -> None:
        chunks, self._buffer, self._buffered, self._since = self._buffer, [], 0, None
        self._submit(chunks)

    def _send_due(self, force: bool = False) -> None:
        now = self._clock()
        batch: list[Chunk] = []
        size = 0
        for _ in range(len(self._retries)):
            if not (force or self._retries[0][0] <= now):
                break
            if self._pool is not None and len(self._in_flight) >= self.window.size:
                break
            _, _, chunk = heapq.heappop(self._retries)
            length = chunk.size()
            self._retry_bytes -= length
            self._parked -= chunk.parked
            if chunk.aside:
                self._aside -= length
            if not chunk.owner.live:
                continue
            batch.append(chunk)
            size += length
            if size >= self._bulk_bytes:
                self._submit(batch)
                batch, size = [], 0
        if batch:
            self._submit(batch)

    def _submit(self, chunks: list[Chunk]) -> None:
        chunks = [chunk for chunk in chunks if chunk.owner.live]
        if not chunks:
            return
        parts = list(chain.from_iterable(chunk.parts() for chunk in chunks))
        parts[0] = parts[0][1:]
        parts.append(b"\n")
        body = b"".join(parts)
        del parts
        if self._pool is None:
            self._take(chunks, self._clock(), self._send(body))
            return
        while len(self._in_flight) >= self.window.size:
            self._collect(0.5)
        self._in_flight[self._pool.submit(self._send, body)] = (chunks, self._clock())

    def _send(self, body: bytes) -> _Outcome:
        try:
            status, answer = self._elastic.request("POST", "/_bulk", params=_BULK_PARAMS, body=body)
        except Unavailable as error:
            return 0, str(error), self._clock()
        return status, answer, self._clock()

    def _collect(self, timeout: float) -> None:
        if not self._in_flight:
            return
        done, _ = wait(self._in_flight, timeout=timeout, return_when=FIRST_COMPLETED)
        for future in done:
            waiting = self._in_flight.pop(future, None)
            if waiting is not None:  # else settled meanwhile: who splits a refused bulk may have to wait for room
                self._take(*waiting, future.result())

    def _take(self, chunks: list[Chunk], sent: float, outcome: _Outcome) -> None:
        status, answer, now = outcome
        throttled = status in (0, 429) or status >= 500
        if status == 0:
            self._no_answer(chunks, answer)
        else:
            throttled |= self._settle(chunks, status, answer)
        if throttled:
            self.window.refused(sent, now)
        else:
            self.window.answered(sent, now)

    def _no_answer(self, chunks: list[Chunk], text: str) -> None:
        if self.away is None:
            _log.warning("Elasticsearch does not take documents, they wait: %s", text)
        self.away = text
        for chunk in chunks:
            chunk.fresh = False  # the request may have been carried out
            self._retry(chunk)

    def _retry(self, chunk: Chunk) -> None:
        delay = min(_LAST_DELAY, _FIRST_DELAY * 2**chunk.attempt)
        chunk.attempt = min(chunk.attempt + 1, 10)
        heapq.heappush(self._retries, (self._clock() + delay, next(self._order), chunk))
        size = chunk.size()
        self._retry_bytes += size
        self._parked += chunk.parked
        if chunk.aside:
            self._aside += size

    def _settle(self, chunks: list[Chunk], status: int, answer: Any) -> bool:
        """Judge an answer; returns whether it refused lines for load."""
        if status in (400, 413):
            self._split(chunks, status, answer)
            return False
        if status != 200 or not isinstance(answer, dict):
            self._no_answer(chunks, f"{status} {answer}")
            return False
        if self.away is not None:
            _log.info("Elasticsearch takes documents again")
            self.away = None
        if not answer["errors"]:
            for chunk in chunks:
                for index in self._refused.keys() & set(chunk.indices) if self._refused else ():
                    del self._refused[index]
                if self._parked and any(index >= self._current_index(index) for index in set(chunk.indices)):
                    self._flowed = self._clock()
                if chunk.owner.live:
                    chunk.owner.settled(chunk.count)
            return False
        throttled = False
        results = iter(answer["items"])
        for chunk in chunks:
            for i in range(len(chunk.documents)):
                result = next(iter(next(results).values()))
                throttled |= result["status"] == 429
                if chunk.owner.live:
                    self._judge(chunk, i, result)
        return throttled

    def _split(self, chunks: list[Chunk], status: int, answer: Any) -> None:
        # the request as a whole was refused (413, 400): halve it until the line that is to blame stands alone
        lines = [(chunk, i) for chunk in chunks for i in range(len(chunk.documents))]
        if len(lines) == 1:
            chunk, i = lines[0]
            chunk.owner.died(chunk, i, "bulk_refused", f"{status} {answer}")
            return
        for half in (lines[: len(lines) // 2], lines[len(lines) // 2 :]):
            self._submit([chunk.single(i) for chunk, i in half])

    def _judge(self, chunk: Chunk, i: int, result: dict[str, Any]) -> None:
        status = result["status"]
        index = chunk.indices[i]
        if status in (200, 201, 409):
            self._refused.pop(index, None)
            if self._parked and index >= self._current_index(index):
                self._flowed = self._clock()
            if status == 409 and chunk.fresh:
                chunk.owner.conflicted(chunk, i)
            chunk.owner.settled(1)
            return
        kind, reason = result["error"]["type"], result["error"].get("reason") or ""
        if refuses(status, kind, reason):
            self._refuse(chunk, i, index, kind, reason)
        elif status in (401, 403):
            raise SignInRefused(f"Elasticsearch refuses to write to {index}: {reason}")
        elif status == 400 and (field := _FIELD.search(reason)):
            self._move(chunk, i, field[1] or field[2], kind, reason)
        else:
            chunk.owner.died(chunk, i, kind, reason)

    def _refuse(self, chunk: Chunk, i: int, index: str, kind: str, reason: str) -> None:
        now = self._clock()
        current = self._current_index(index)
        single = chunk.single(i)
        if index not in self._refused:
            _log.warning("index %s refuses documents, they wait: %s: %s", index, kind, reason)
        if index >= current:
            self._flowed = float("-inf")
            self._refused[index] = now  # at midnight, when it becomes one of the past, its time begins
        else:
            if current in self._refused:  # the trouble is not this index alone
                self._refused[index] = now
            over = now - self._refused.setdefault(index, now) >= self._retry_past_index
            aside = kind in _REFUSALS or _FULL in reason
            many = aside and self._aside + single.size() > ASIDE * self._bulk_bytes
            if over or (many and self._flows()):
                chunk.owner.died(chunk, i, kind, reason)
                return
            single.parked = True
            single.aside = aside
            single.why = (kind, reason)
            if isinstance(single.context, Batch):  # it may wait for minutes, and the rest of its message need not
                single.context = replace(single.context, value=b"")
        self._retry(single)

    def _move(self, chunk: Chunk, i: int, field: str, kind: str, reason: str) -> None:
        document = None if field == "@timestamp" or chunk.moved >= MAX_MOVED else move_field(chunk.documents[i], field)
        if document is None:
            chunk.owner.died(chunk, i, kind, reason)
            return
        single = chunk.single(i, document)
        single.moved = chunk.moved + 1
        single.attempt = 0
        self._retry_now(single)

    def _retry_now(self, chunk: Chunk) -> None:
        heapq.heappush(self._retries, (self._clock(), next(self._order), chunk))
        self._retry_bytes += chunk.size()


def refuses(status: int, kind: str, reason: str) -> bool:
    """Whether the error of an item says that the index takes nothing now, whatever the item holds."""
    return status == 429 or status >= 500 or kind in _REFUSALS or _FULL in reason


def move_field(document: bytes, field: str) -> bytes | None:
    """``document`` with ``field`` (dotted, or nested under part of it) moved into ``unmapped`` as a string.

    None if the document has no such field, or cannot be read here though Elasticsearch could.
    """
    try:
        root = orjson.loads(document)
    except orjson.JSONDecodeError:
        return None
    unmapped = root.pop("unmapped", None)
    if not isinstance(unmapped, dict):
        unmapped = {} if unmapped is None else {"unmapped": _as_text(unmapped)}
        if field == "unmapped":
            return orjson.dumps({**root, "unmapped": unmapped})
    value = _take(root, field)
    if value is _ABSENT:
        return None
    unmapped[field] = _as_text(value)
    return orjson.dumps({**root, "unmapped": unmapped})


_ABSENT: Any = object()


def _take(node: dict[str, Any], field: str) -> Any:
    if field in node:
        return node.pop(field)
    for name, child in node.items():
        if isinstance(child, dict) and field.startswith(name + "."):
            value = _take(child, field[len(name) + 1 :])
            if value is not _ABSENT:
                return value
    return _ABSENT


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
