"""Decides what becomes of every message, and makes sure of it.

The promise: nothing lost, nothing twice, counts exact, whatever is killed, whoever else works on the same partition.

Per partition there is one commit record (:mod:`ezadmin_pipeline.commits`). A worker reads it, goes on at its ``upto``,
and from time to time, at a message boundary f, makes a **barrier**, in this order:

1. every document before f is acknowledged by Elasticsearch, or its dead letter by Kafka;
2. the commit record with ``upto`` = f, the ``seq`` seen, *and the rollup documents of this commit in full* is written
   over the record it was made from: this one write is the commit;
3. the rollup documents are written, with the commit's number as version, and the alerts of this commit, which are in
   the record too (:mod:`ezadmin_pipeline.alerts`); the alerts are acknowledged by their topic;
4. the offset is committed to Kafka, for people to see: nobody goes by it.

Killed before 2: the next owner reads everything again from the old ``upto``. Documents are made anew under the same
``_id`` (409, already there), counts start from the old record. Killed after 2: the next owner writes 3 again from the
record; same documents, same version, alerts under the same id. A second owner at the same time: one of the two fails at
2, forgets all, and reads again. So rollups and seq ranges are always those of one chain of commits, and a decision (a
rule, a revoked key) that differs between two attempts counts only in the attempt that was committed. What an attempt
before that stored of a line that the committed one ignores stays in Elasticsearch: the counts are exact, and documents
are at least what they say.

A line is known by (host, stream, epoch, seq). What was seen is a re-send: not counted, not indexed.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import orjson

from ezadmin_pipeline import alerts, commits, epochs, rollups, thresholds
from ezadmin_pipeline.clocks import Clocks
from ezadmin_pipeline.deadletters import line_letter, message_letter, rollup_letter
from ezadmin_pipeline.directory import Directory
from ezadmin_pipeline.documents import DocumentMaker
from ezadmin_pipeline.elastic import Elastic, SignInRefused, Unavailable, action
from ezadmin_pipeline.foreign import LABEL, ForeignReader, numbering
from ezadmin_pipeline.indexer import Chunk, Indexer, refuses
from ezadmin_pipeline.lines import BadLine, Bounds
from ezadmin_pipeline.ranges import Ranges
from ezadmin_pipeline.rollups import Counts, Key, Tally
from ezadmin_pipeline.settings import Settings, SurgeSettings
from ezadmin_pipeline.surges import Change, Surges
from ezadmin_pipeline.writer import Outgoing
from ezadmin_wire import WireError
from ezadmin_wire import batch as wire
from ezadmin_wire.times import format_time, parse_time

_log = logging.getLogger(__name__)
_MANY_COUNTS = 10_000
"""Rollup documents of one commit after which the next should come soon: they travel in the record."""
_NO_RIGHT = "security_exception"
_KNOWN_COUNTS = 20_000
"""Rollup documents of a partition whose values are kept in memory; others are read when they are needed."""


class Defect(Exception):
    """A message met an error of ours; its partition is to be assigned anew, and then the message becomes a dead letter."""


class Writer(Protocol):
    """Where dead letters and alerts go: a topic that is waited for."""

    def send(self, message: Outgoing) -> None:
        """Take a message."""

    def flush(self, keep_alive: Callable[[], None]) -> None:
        """Return when all that were taken are safe."""


@dataclass(frozen=True)
class Message:
    """A Kafka message; ``fetched`` is monotonic seconds of the clock when it was received, ``taken_ms`` when Kafka took it,
    in milliseconds since 1970 (-1: not known)."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    headers: list[tuple[str, bytes]]
    value: bytes | None
    fetched: float = 0.0
    taken_ms: int = -1


@dataclass(frozen=True)
class PendingAlert:
    """An alert to write after its commit."""

    id: str
    index: str
    full: dict[str, Any]


Pending = commits.PendingRollup | PendingAlert


class Shard:
    """One partition in the hands of this worker. Everything since its last commit is in memory only."""

    def __init__(
        self,
        engine: Engine,
        record: commits.CommitRecord,
        end: int,
        pending: list[Pending],
        surge_settings: SurgeSettings,
    ) -> None:
        self.live = True
        self.record = record
        self.next = record.upto
        self.end = end
        """The partition's end when it was assigned: what lies beyond was read by nobody before."""
        self.seen = {name: Ranges((a, b) for a, b in ranges) for name, ranges in record.seen.items()}
        self.used = {name: record.idle.get(name, record.saved[:10]) for name in record.seen}
        """Per name of ``seen`` the day on which something of it came last, as of the last commit."""
        self.touched: set[str] = set()
        """The names of which something came since."""
        self.swept = ""
        """The day on which it was last looked what of ``seen`` can be forgotten."""
        self.delta: dict[Key, Counts] = {}
        self._cells: dict[tuple[str, str, str, str], tuple[Counts, ...]] = {}
        """Per minute, host, dataset and level what stands in ``delta`` for it."""
        self.base: OrderedDict[Key, Counts] = OrderedDict()
        self.outstanding = 0
        self.alerts: list[dict[str, Any]] = []
        """What changed its state since the last commit."""
        self.thresholds = thresholds.State(record.thresholds)
        self.unwritten = pending
        """Rollup documents and alerts of the last commit that do not stand yet; the next commit waits for them."""
        self.untold = list(record.alerts)
        """Alerts of the last commit that their topic has not acknowledged yet; the next commit waits for them, too."""
        self.surges = Surges(surge_settings, record.surges, record.exemplars)
        self.shown = -1
        """The ``upto`` last told to Kafka."""
        self._engine = engine

    @property
    def place(self) -> tuple[str, int]:
        """Topic and partition."""
        return self.record.topic, self.record.partition

    @property
    def dirty(self) -> bool:
        """Whether there is something to commit, or something of the last commit to write."""
        return self.changed or self.pending

    @property
    def changed(self) -> bool:
        """Whether there is something to commit."""
        return self.next != self.record.upto or bool(self.alerts)

    @property
    def pending(self) -> bool:
        """Whether something of the last commit is still to be written."""
        return bool(self.unwritten or self.untold)

    def settled(self, lines: int) -> None:
        """See :class:`ezadmin_pipeline.indexer.Owner`."""
        self.outstanding -= lines

    def conflicted(self, chunk: Chunk, i: int) -> None:
        """See :class:`ezadmin_pipeline.indexer.Owner`."""
        self._engine.conflicts += 1
        where = f"{self.record.topic}/{self.record.partition}/{chunk.offset} line {chunk.numbers[i]}"
        _log.error(
            "%s: a document with this identity and time is already there: a cloned host, or a clock set back",
            where,
            extra={"fields": {"host.id": chunk.context.host, "event.original": chunk.documents[i][:500].decode()}},
        )

    def died(self, chunk: Chunk, i: int, reason: str, text: str) -> None:
        """See :class:`ezadmin_pipeline.indexer.Owner`."""
        self.outstanding -= 1
        self._engine.bury_line(self, chunk, i, reason, text)

    def counts(self, minute: str, host: str, dataset: str, level: str) -> tuple[Counts, ...]:
        """The counts since the last commit under which such a line counts."""
        cell = (minute, host, dataset, level)
        found = self._cells.get(cell)
        if found is None:
            keys = rollups.keys_of(*cell)
            found = self._cells[cell] = tuple(self.delta.setdefault(key, Counts()) for key in keys)
        return found

    def take_delta(self, key: Key) -> Counts:
        """Take the counts of ``key`` since the last commit out of the next one."""
        self._cells.clear()
        return self.delta.pop(key)

    def clear_delta(self) -> None:
        """Begin anew after a commit."""
        self._cells.clear()
        self.delta.clear()


class Engine:
    """Everything between a message and Elasticsearch, without Kafka's consumer: see the module's docstring.

    ``keep_alive`` is called whenever something has to be waited for, and may raise to give up. ``clock`` gives
    monotonic seconds, ``today`` the current UTC date-time. ``threads`` is the number of bulks in flight (0: none).
    """

    def __init__(
        self,
        settings: Settings,
        elastic: Elastic,
        letters: Writer,
        directory: Directory,
        *,
        alert_topic: Writer,
        keep_alive: Callable[[], None],
        clock: Callable[[], float],
        today: Callable[[], datetime] = lambda: datetime.now(UTC),
        threads: int | None = None,
    ) -> None:
        self._settings = settings
        self._names = settings.names
        self._elastic = elastic
        self._letters = letters
        self._alert_topic = alert_topic
        self._directory = directory
        self._keep_alive = keep_alive
        self._clock = clock
        self._today = today
        self._documents = DocumentMaker(self._names, directory, today)
        self._thresholds = thresholds.Thresholds(directory)
        self._caught_up = float("-inf")
        self._refused: dict[str, float] = {}
        self._foreign = {foreign.topic: ForeignReader(foreign, self._names) for foreign in settings.foreign}
        self.shards: dict[tuple[str, int], Shard] = {}
        self.indexer = Indexer(
            elastic,
            current_index=self._current_index,
            clock=clock,
            bulk_bytes=settings.bulk_bytes,
            in_flight=settings.bulk_in_flight if threads is None else threads,
            retry_past_index=settings.retry_past_index,
        )
        self.conflicts = 0
        self.resent = 0
        self.lines = 0
        self.ignored = 0
        self.sampled = 0
        self.unverified = 0
        self.clocks = Clocks()
        self._defects: set[tuple[str, int, int]] = set()
        """Places of messages that met an error of ours."""

    @property
    def rule_hits(self) -> Mapping[str, int]:
        """Events per rule that it left out, changed or exempted, since the start of this worker, attempts included."""
        return self._documents.hits

    @property
    def retimed(self) -> int:
        """Lines whose ``@timestamp`` was replaced, since the start of this worker, attempts included."""
        return self._documents.retimed

    @property
    def surging(self) -> int:
        """Keys (host, dataset, level) in a surge."""
        return sum(shard.surges.open for shard in self.shards.values())

    # partitions come and go

    def assign(self, topic: str, partition: int, topic_id: str, start: int, end: int) -> int:
        """Take a partition that holds offsets ``start`` to ``end``; returns the offset to read from.

        Raises Unavailable if its commit record cannot be read now.
        """
        self.drop(topic, partition)
        record = commits.load(self._elastic, self._names, topic, partition)
        if record is None:
            record = commits.CommitRecord(topic, partition, topic_id, upto=start)
        if record.topic_id != topic_id:
            # a topic made anew: its offsets begin again, but hosts go on numbering, so what was seen still counts
            _log.warning("topic %s was made anew; partition %d is read from its beginning", topic, partition)
            record.topic_id, record.upto = topic_id, start
        elif record.upto > end:
            _log.error(
                "%s/%d ends at %d, before %d which was already read: Kafka lost messages; all of it is read again, "
                "and what was seen is recognised by its numbers",
                *(topic, partition, end, record.upto),
            )
            record.upto = start
        elif record.upto < start:
            _log.error(
                "%s/%d begins at %d: %d messages from %d on were deleted by Kafka before they were read",
                *(topic, partition, start, start - record.upto, record.upto),
            )
            record.upto = start
        shard = Shard(self, record, end, self._pending_of(record), self._settings.surges)
        if not self._settings.surges.on:
            self._tell_surges(shard, shard.surges.end_all())
        self.shards[topic, partition] = shard
        self._write_pending([shard])
        return shard.next

    def drop(self, topic: str, partition: int) -> None:
        """Give a partition up. What is not committed is forgotten; the next owner does it again."""
        shard = self.shards.pop((topic, partition), None)
        if shard is not None:
            shard.live = False

    # messages

    def process(self, message: Message) -> None:
        """Decide about one message, in order within its partition. Messages of partitions not held are ignored.

        Raises Defect: no message may stop a worker, whatever we overlooked. What was decided of it in part must be
        forgotten, so the partition is read again from its record; there the message is buried whole, for a person to
        replay when the error is mended.
        """
        shard = self.shards.get((message.topic, message.partition))
        if shard is None or message.offset < shard.next:
            return
        shard.next = message.offset + 1
        place = (message.topic, message.partition, message.offset)
        try:
            if place in self._defects:
                raise WireError("defect", "an error in ezadmin-pipeline; the worker's log has it")
            foreign = self._foreign.get(message.topic)
            if foreign is None:
                self._take(shard, message, self._decode(message))
            else:
                self._take_foreign(shard, message, foreign)
        except WireError as error:
            _log.warning(
                "dead letter: %s/%d/%d: %s",
                *(message.topic, message.partition, message.offset, error),
                extra={"fields": {"error.type": error.reason, "host.id": _said_host(message)}},
            )
            self._letters.send(
                message_letter(
                    message.topic,
                    message.partition,
                    message.offset,
                    message.key,
                    message.headers,
                    message.value,
                    error.reason,
                    str(error),
                )
            )

    def _decode(self, message: Message) -> wire.Batch:
        mode = self._settings.signatures
        find_key = None if mode == "off" else self._directory.find_key
        try:
            with self._guarded(message):
                return wire.decode(message.topic, message.key, message.headers, message.value, find_key, levels=False)
        except WireError as error:
            if error.reason == "unknown_key" and self._caught_up < message.fetched:
                # the record may have been written just before the batch: read config to its end before judging
                self._caught_up = self._clock()
                self._directory.catch_up()
                return self._decode(message)
            if mode == "warn" and error.reason in ("unknown_key", "bad_signature", "host_not_active"):
                self.unverified += 1
                _log.warning("accepted without a valid signature: %s", error)
                return wire.decode(message.topic, message.key, message.headers, message.value, None, levels=False)
            raise

    def _take(self, shard: Shard, message: Message, batch: wire.Batch) -> None:
        name = f"{batch.host}/{batch.stream}/{batch.epoch}"
        shard.touched.add(name)
        seen = shard.seen.get(name)
        if seen is None:
            seen = shard.seen[name] = Ranges()
            for old in epochs.too_many(shard.seen, batch.host):
                del shard.seen[old]
        new = seen.missing(batch.seq, batch.seq + batch.n)
        self.resent += batch.n - sum(b - a for a, b in new)
        if not new:
            return
        self._decide(shard, message, batch, new)
        seen.add(batch.seq, batch.seq + batch.n)
        self.clocks.check(batch.host, batch.sent, message.taken_ms)

    def _take_foreign(self, shard: Shard, message: Message, foreign: ForeignReader) -> None:
        # nobody sends it again: what was read is behind the record's ``upto``, so no numbers are kept
        stream, epoch = numbering(shard.record.topic_id, message.partition)
        with self._guarded(message):
            batch = foreign.read(message.value, message.taken_ms, stream, epoch, message.offset)
        self._directory.meet(batch.host, batch.kid, (LABEL, message.topic))
        self._decide(shard, message, batch, [(batch.seq, batch.seq + 1)])

    def _decide(self, shard: Shard, message: Message, batch: wire.Batch, new: list[tuple[int, int]]) -> None:
        """Make documents of the lines of ``batch`` whose numbers lie in ``new``, count them and hand them on."""
        counted = batch.topic == self._names.logs
        chunk = Chunk(shard, message.offset, fresh=message.offset >= shard.end and not counted, context=batch)
        with self._guarded(message):
            self._judge(shard, message, batch, new, chunk)
        if chunk.count:
            self.lines += chunk.count
            shard.outstanding += chunk.count
            self.indexer.add(chunk)

    def _judge(
        self, shard: Shard, message: Message, batch: wire.Batch, new: list[tuple[int, int]], chunk: Chunk
    ) -> None:
        counted = batch.topic == self._names.logs
        bounds = Bounds.around(message.taken_ms)
        bad = self._documents.make(chunk, batch, new, bounds)
        if counted:
            self._count(shard, batch, chunk)
        else:
            shard.alerts += self._thresholds.observe(shard.thresholds, batch.host, message.taken_ms, chunk.tags)
        for seq, raw, error in bad:
            self._bury_unread(shard, message, batch, seq, raw, counted, error, bounds)

    @contextmanager
    def _guarded(self, message: Message) -> Iterator[None]:
        """Around what depends on a message alone: an error in there is ours."""
        try:
            yield
        except (WireError, MemoryError):
            raise
        except Exception as error:
            place = (message.topic, message.partition, message.offset)
            self._defects.add(place)
            _log.exception("an error of ours: message %s/%d/%d cannot be decided and becomes a dead letter", *place)
            raise Defect from error

    def _count(self, shard: Shard, batch: wire.Batch, chunk: Chunk) -> None:
        plain = chunk.plain
        if plain is not None:
            tally, ignored = plain.tally, plain.ignored
        else:
            tally, ignored = rollups.tally(chunk.tags), rollups.tally(chunk.ignored)
        self._add(shard, batch, tally, ignored=False)
        if ignored:
            self._add(shard, batch, ignored, ignored=True)
            self.ignored += sum(count for count, _ in ignored.values())
        if self._settings.surges.on:
            self._tell_surges(shard, shard.surges.take(batch, tally, chunk, self._documents.exemption))
        if chunk.sampled:
            self.sampled += len(chunk.sampled)
            for (minute, level), (count, _) in rollups.tally(chunk.sampled).items():
                for counts in shard.counts(minute, batch.host, batch.dataset, level):
                    counts.sampled += count

    def _tell_surges(self, shard: Shard, changes: list[Change]) -> None:
        shard.alerts += [change.alert(self._directory.host(change.host).members) for change in changes]

    def _add(self, shard: Shard, batch: wire.Batch, tally: Tally, ignored: bool) -> None:
        for (minute, level), (count, size) in tally.items():
            for counts in shard.counts(minute, batch.host, batch.dataset, level):
                counts.seen += count
                counts.bytes += size
                if ignored:
                    counts.ignored += count

    # dead letters

    def _bury_unread(
        self,
        shard: Shard,
        message: Message,
        batch: wire.Batch,
        seq: int,
        raw: bytes,
        counted: bool,
        error: BadLine,
        bounds: Bounds | None,
    ) -> None:
        minute = error.minute
        if minute is None:  # a line whose time cannot be read counts in the minute in which its batch began
            begin = format_time(parse_time(batch.tmin))
            minute = (begin if bounds is None or bounds.hold(begin) else bounds.taken)[:16]
        if counted:
            for counts in shard.counts(minute, batch.host, batch.dataset, error.level):
                counts.seen += 1
                counts.dead += 1
                counts.bytes += len(raw)
        self._bury(shard, message.offset, seq - batch.seq, batch, raw, error.reason, str(error))

    def bury_line(self, shard: Shard, chunk: Chunk, i: int, reason: str, text: str) -> None:
        """Make a dead letter of line ``i`` of a chunk that Elasticsearch will not take."""
        batch: wire.Batch = chunk.context
        minute, level, raw = chunk.tags[i]
        if batch.topic == self._names.logs:
            for counts in shard.counts(minute, batch.host, batch.dataset, level):
                counts.dead += 1
        self._bury(shard, chunk.offset, chunk.numbers[i], batch, raw, reason, text)

    def _bury(
        self, shard: Shard, offset: int, number: int, batch: wire.Batch, raw: bytes, reason: str, text: str
    ) -> None:
        record = shard.record
        place = f"{record.topic}/{record.partition}/{offset}/{number}"
        _log.warning(
            "dead letter: %s: %s", place, text, extra={"fields": {"error.type": reason, "host.id": batch.host}}
        )
        self._letters.send(line_letter(record.topic, record.partition, offset, number, batch, raw, reason, text))

    # time

    def tick(self, ends: Mapping[tuple[str, int], int], now: int) -> None:
        """Where a partition is read to its end (``ends``, as Kafka says them at ``now``, ms since 1970), time passes
        without messages: hosts of which nothing comes are noted."""
        for place, end in ends.items():
            shard = self.shards.get(place)
            if shard is not None and shard.next >= end:
                shard.alerts += self._thresholds.tick(shard.thresholds, now)

    # barrier

    def pump(self) -> None:
        """Settle answers, send again what is due, send what has waited long enough."""
        self.indexer.pump(self._settings.bulk_delay)

    @property
    def dirty(self) -> bool:
        """Whether a barrier would commit something."""
        return any(shard.dirty for shard in self.shards.values())

    @property
    def many(self) -> bool:
        """Whether so much waits for the next commit that it should come now, and no more be read before."""
        return sum(len(shard.delta) for shard in self.shards.values()) >= _MANY_COUNTS

    def barrier(self, topic_ids: Mapping[str, str]) -> tuple[dict[tuple[str, int], int], list[tuple[str, int]]]:
        """Commit what was processed; ``topic_ids`` as Kafka says them now, after the last message was received.

        Returns the new ``upto`` of each partition whose commit is complete, and the partitions that must be assigned
        anew: their topic was made anew, or another owner was first. Raises Unavailable if it is not known what was
        committed: then every partition must be assigned anew.
        """
        lost = [place for place, shard in self.shards.items() if topic_ids.get(place[0]) != shard.record.topic_id]
        for place in lost:
            self.drop(*place)
        self.indexer.drain(self._keep_alive)
        if self.many:  # nothing more is read before a commit, and that would wait for an index of the past
            self.indexer.relieve()
        self._write_pending(list(self.shards.values()))
        self._tell_alerts()
        ready = [
            shard for shard in self.shards.values() if shard.changed and not shard.outstanding and not shard.pending
        ]
        ready = [shard for shard in ready if self._know_base(shard)]
        self._letters.flush(self._keep_alive)
        ready = [shard for shard in ready if shard.live]  # waiting may have taken some away
        if ready:
            lost += self._commit(ready)
            self._tell_alerts()
        done = {}
        for place, shard in self.shards.items():
            if not shard.pending and shard.shown != shard.record.upto:
                done[place] = shard.shown = shard.record.upto
        return done, lost

    def _commit(self, ready: list[Shard]) -> list[tuple[str, int]]:
        """Write commit records and then what belongs to them; returns the partitions in which another owner was first."""
        lost = []
        records = [self._next_record(shard) for shard in ready]
        for shard, record, written in zip(
            ready, records, commits.save(self._elastic, self._names, records), strict=True
        ):
            if written:
                for key, counts in shard.delta.items():
                    shard.base[key].add(counts)
                shard.clear_delta()
                shard.record = record
                shard.alerts = []
                shard.unwritten = self._pending_of(record)
                shard.untold = list(record.alerts)
                while len(shard.base) > _KNOWN_COUNTS:
                    shard.base.popitem(last=False)
            else:
                _log.warning("%s/%d has another owner; it is read again from the last commit", *shard.place)
                self.drop(*shard.place)
                lost.append(shard.place)
        self._write_pending([shard for shard in ready if shard.live])
        return lost

    def _next_record(self, shard: Shard) -> commits.CommitRecord:
        old = shard.record
        pending = []
        for key, delta in shard.delta.items():
            counts = Counts()
            counts.add(shard.base[key])
            counts.add(delta)
            members = self._directory.host(key.host).members if key.host else {}
            place = (old.topic, old.partition)
            pending.append(
                commits.PendingRollup(
                    rollups.document_id(key, *place),
                    rollups.index_of(key, self._names),
                    rollups.document(key, counts, *place, members),
                    rollups.document(key, delta, *place, members),
                )
            )
        surges, exemplars = shard.surges.dump()
        idle = self._forget(shard)
        return commits.CommitRecord(
            topic=old.topic,
            partition=old.partition,
            topic_id=old.topic_id,
            commit=old.commit + 1,
            upto=shard.next,
            seen={name: ranges.to_list() for name, ranges in shard.seen.items()},
            idle=idle,
            rollups=pending,
            alerts=list(shard.alerts),
            rules_revision=self._documents.rules_revision,
            thresholds=shard.thresholds.to_json(),
            surges=surges,
            exemplars=exemplars,
            place=old.place,
        )

    def _forget(self, shard: Shard) -> dict[str, str]:
        """Forget what of ``seen`` can be forgotten; returns ``idle`` of the record to be written."""
        today = self._today().date().isoformat()
        shard.used |= dict.fromkeys(shard.touched, today)
        shard.touched.clear()
        if shard.swept != today:
            shard.swept = today
            all_known = self._settings.signatures != "required"
            for name in epochs.forgettable(shard.used, today, lambda host: all_known or self._directory.knows(host)):
                shard.seen.pop(name, None)
        shard.used = {name: day for name, day in shard.used.items() if name in shard.seen}
        return {name: day for name, day in shard.used.items() if day != today}

    def _know_base(self, shard: Shard) -> bool:
        """Read the stored counts of keys that are not in memory; False if that must wait."""
        unknown = [key for key in shard.delta if key not in shard.base]
        for key in shard.delta:
            if key in shard.base:
                shard.base.move_to_end(key)
        if not unknown:
            return True
        place = (shard.record.topic, shard.record.partition)
        docs = [
            {"_index": rollups.index_of(key, self._names), "_id": rollups.document_id(key, *place)} for key in unknown
        ]
        status, answer = self._elastic.request("POST", "/_mget", body=orjson.dumps({"docs": docs}))
        if status != 200:
            raise Unavailable(f"rollup documents: {status} {answer}")
        known = True
        for key, doc in zip(unknown, answer["docs"], strict=True):
            error = doc.get("error")
            if error is None or error["type"] == "index_not_found_exception":
                found = doc.get("found", False)
                shard.base[key] = Counts.from_fields(doc["_source"]) if found else Counts()
                self._refused.pop(doc["_index"], None)
            elif error["type"] == _NO_RIGHT:
                raise SignInRefused(f"Elasticsearch refuses to read {doc['_index']}: {error.get('reason')}")
            elif self._wait_for(doc["_index"], str(error.get("reason"))):
                known = False
            else:
                self._bury_rollup(shard, key, str(error["type"]), str(error.get("reason")))
        return known

    def _wait_for(self, index: str, text: str) -> bool:
        if index not in self._refused:
            _log.warning("index %s cannot be used, what belongs to it waits: %s", index, text)
        now = self._clock()
        if index >= self._current_index(index):
            self._refused[index] = now  # its time begins when it becomes one of the past
            return True
        return now - self._refused.setdefault(index, now) < self._settings.retry_past_index

    def _bury_rollup(self, shard: Shard, key: Key, reason: str, text: str) -> None:
        # what this commit would have added becomes a document of its own, to be written when the index is back
        record = shard.record
        delta = shard.take_delta(key)
        members = self._directory.host(key.host).members if key.host else {}
        document = rollups.document(key, delta, record.topic, record.partition, members)
        identity = rollups.document_id(key, record.topic, record.partition, str(record.commit + 1))
        self._letters.send(rollup_letter(identity, rollups.index_of(key, self._names), document, reason, text))

    def _write_pending(self, shards: list[Shard]) -> None:
        """Write rollup documents and alerts of the last commit of ``shards``, once; what is refused stays ``unwritten``.

        What an index of the past has refused for too long becomes dead letters.
        """
        waiting = [(shard, item) for shard in shards for item in shard.unwritten]
        if not waiting:
            return
        parts = []
        for shard, item in waiting:
            if isinstance(item, PendingAlert):
                parts.append(action("create", item.index, item.id))
            else:
                version = shard.record.commit
                parts.append(action("index", item.index, item.id, version=version, version_type="external_gte"))
            parts.append(orjson.dumps(item.full) + b"\n")
        try:
            status, answer = self._elastic.request("POST", "/_bulk", params={"timeout": "30s"}, body=b"".join(parts))
        except Unavailable as error:
            status, answer = 503, str(error)
        if status != 200:
            _log.warning("rollup documents and alerts wait: %s %s", status, answer)
            return
        for shard in shards:
            shard.unwritten = []
        for (shard, item), outcome in zip(waiting, answer["items"], strict=True):
            result = next(iter(outcome.values()))
            if result["status"] in (200, 201, 409):  # 409: it is there, of counts a later version
                self._refused.pop(item.index, None)
                continue
            kind, reason = result["error"]["type"], str(result["error"].get("reason"))
            if refuses(result["status"], kind, reason) and self._wait_for(item.index, kind):
                shard.unwritten.append(item)
            elif kind == _NO_RIGHT:
                raise SignInRefused(f"Elasticsearch refuses to write to {item.index}: {reason}")
            elif isinstance(item, PendingAlert):
                self._letters.send(alerts.letter(item.full, item.index, kind, reason))
            else:
                identity = f"{item.id}-{shard.record.commit}"
                self._letters.send(rollup_letter(identity, item.index, item.delta, kind, reason))
                self._forget_base(shard, item.id)

    def _tell_alerts(self) -> None:
        """Bring the alerts of commits to their topic; returns when they are acknowledged."""
        shards = [shard for shard in self.shards.values() if shard.untold]
        for shard in shards:
            for document in shard.untold:
                self._alert_topic.send(alerts.message(document))
        self._alert_topic.flush(self._keep_alive)
        for shard in shards:
            shard.untold = []

    def _pending_of(self, record: commits.CommitRecord) -> list[Pending]:
        """What is written after this commit."""
        pending: list[Pending] = list(record.rollups)
        for document in record.alerts:
            index = self._names.alerts_index(document["@timestamp"])
            pending.append(PendingAlert(alerts.identity(document), index, document))
        return pending

    def _forget_base(self, shard: Shard, identity: str) -> None:
        for key in [key for key in shard.base if rollups.document_id(key, *shard.place) == identity]:
            del shard.base[key]

    def _current_index(self, index: str) -> str:
        """Today's index of the same kind as ``index``."""
        today = format_time(self._today())
        names = self._names
        for rollup in rollups.ROLLUPS:
            if index.startswith(f"{names.prefix}-rollup-{rollup}-2"):
                return names.rollup_index(rollup, today)
        if index.startswith(f"{names.prefix}-alerts-"):
            return names.alerts_index(today)
        return names.logs_index(today) if index.startswith(f"{names.prefix}-logs-") else names.metrics_index(today)

    def close(self) -> None:
        """Give up all partitions and stop the threads."""
        for place in list(self.shards):
            self.drop(*place)
        self.indexer.close()


def _said_host(message: Message) -> str:
    """The host that a message says it is of, believed or not."""
    found = [data for name, data in message.headers if name == "host" and isinstance(data, bytes)]
    return found[0].decode("utf-8", "replace") if found else ""
