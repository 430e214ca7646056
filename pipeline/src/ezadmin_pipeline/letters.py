"""Reading dead letters, and what people decide about them: replay when the cause is mended, or drop.

Kafka keeps the letters; which of them are settled stands in ``<prefix>-state`` (``_id``: the dead-letter topic and
partition), as ranges of offsets, bound to the topic's id.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from ezadmin_pipeline.deadletters import DeadLetters, line_letter
from ezadmin_pipeline.directory import Directory
from ezadmin_pipeline.documents import DocumentMaker
from ezadmin_pipeline.elastic import Elastic, Unavailable, action
from ezadmin_pipeline.foreign import LABEL
from ezadmin_pipeline.foreign import host_id as foreign_host_id
from ezadmin_pipeline.indexer import Chunk, Indexer
from ezadmin_pipeline.ranges import Ranges
from ezadmin_pipeline.settings import Settings
from ezadmin_pipeline.worker import TopicIds
from ezadmin_pipeline.writer import MAX_REQUEST
from ezadmin_wire.batch import COMPACT, Batch, inflate
from ezadmin_wire.errors import WireError
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.names import Names

KINDS = ("message", "line", "rollup", "alert")
"""What a dead letter can hold; see :mod:`ezadmin_pipeline.deadletters`."""


@dataclass(frozen=True)
class Letter:
    """A dead letter as it stands in Kafka; ``places`` are its copies (partition, offset), the newest last."""

    id: str
    headers: dict[str, bytes]
    key: bytes | None
    value: bytes
    places: list[tuple[int, int]] = field(default_factory=list)

    def text(self, header: str) -> str:
        """A header as text, empty if it is not there."""
        return self.headers.get(header, b"").decode("utf-8", "replace")

    @property
    def host(self) -> str:
        """The host that the letter is about, empty if unknown."""
        return self.text("orig.host") or (self.key or b"").decode("utf-8", "replace")

    def plain(self) -> bytes:
        """The value to be read by people: lines also where the message was compact. It is sent again as it came."""
        if self.text("kind") == "message" and self.text("orig.v") == COMPACT:
            try:
                return inflate(self.value)
            except WireError:
                return self.value
        return self.value


def read_partitions(
    kafka: KafkaConnection,
    topic: str,
    since_ms: int | None = None,
    until_ms: int | None = None,
    partition: int | None = None,
) -> Iterable[Any]:
    """All messages of ``topic`` from ``since_ms`` (else from its beginning) to ``until_ms`` (else to its present end),
    partition by partition, or of one ``partition``."""
    consumer = KafkaConsumer(
        **kafka.options(),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        bootstrap_timeout_ms=10_000,
        fetch_max_bytes=8 << 20,
        max_poll_records=100,
    )
    try:
        numbers = (consumer.partitions_for_topic(topic) or set()) if partition is None else {partition}
        for place in [TopicPartition(topic, number) for number in sorted(numbers)]:
            consumer.assign([place])
            end = consumer.end_offsets([place])[place]
            start = consumer.beginning_offsets([place])[place]
            if since_ms is not None:
                found = consumer.offsets_for_times({place: since_ms})[place]
                start = end if found is None else found.offset
            if until_ms is not None:
                found = consumer.offsets_for_times({place: until_ms})[place]
                end = end if found is None else found.offset
            consumer.seek(place, start)
            while consumer.position(place) < end:
                for message in consumer.poll(timeout_ms=500).get(place, []):
                    if message.offset < end:
                        yield message
    finally:
        consumer.close()


class Settled:
    """Which offsets of the dead-letter topic are settled."""

    def __init__(self, elastic: Elastic, names: Names, topic_id: str) -> None:
        self._elastic = elastic
        self._names = names
        self._topic_id = topic_id
        self._places: dict[int, tuple[int, int] | None] = {}
        self._ranges: dict[int, Ranges] = {}

    def __contains__(self, place: tuple[int, int]) -> bool:
        partition, offset = place
        return not self._load(partition).missing(offset, offset + 1)

    def _load(self, partition: int) -> Ranges:
        if partition not in self._ranges:
            status, answer = self._elastic.request("GET", f"/{self._names.state_index}/_doc/{self._id(partition)}")
            if status not in (200, 404):
                raise Unavailable(f"settled dead letters: {status} {answer}")
            source = answer["_source"] if status == 200 else {}
            self._places[partition] = (answer["_seq_no"], answer["_primary_term"]) if status == 200 else None
            known = source.get("settled", []) if source.get("topic_id") == self._topic_id else []
            self._ranges[partition] = Ranges((start, end) for start, end in known)
        return self._ranges[partition]

    def _id(self, partition: int) -> str:
        return f"{self._names.dlq}-{partition}"

    def add(self, places: Iterable[tuple[int, int]]) -> None:
        """Note that these are settled. Raises Unavailable, also if somebody else noted something at the same time."""
        grouped = defaultdict(list)
        for partition, offset in places:
            grouped[partition].append(offset)
        for partition, offsets in grouped.items():
            ranges = self._load(partition)
            for offset in offsets:
                ranges.add(offset, offset + 1)
            document = {
                "topic": self._names.dlq,
                "partition": partition,
                "topic_id": self._topic_id,
                "settled": ranges.to_list(),
            }
            held = self._places[partition]
            members = {} if held is None else {"if_seq_no": held[0], "if_primary_term": held[1]}
            head = action(
                "create" if held is None else "index", self._names.state_index, self._id(partition), **members
            )
            status, answer = self._elastic.request("POST", "/_bulk", body=head + orjson.dumps(document) + b"\n")
            result = next(iter(answer["items"][0].values())) if status == 200 else {"status": status}
            if result["status"] not in (200, 201):
                raise Unavailable(f"settled dead letters were not noted, try again: {result}")
            self._places[partition] = (result["_seq_no"], result["_primary_term"])


class Box:
    """The dead letters of an installation."""

    def __init__(self, settings: Settings, elastic: Elastic, directory: Directory) -> None:
        self._settings = settings
        self._names = settings.names
        self._elastic = elastic
        self._directory = directory
        ids = TopicIds(settings.kafka)
        try:
            topic_id = ids.read([self._names.dlq]).get(self._names.dlq)
        finally:
            ids.close()
        if topic_id is None:
            raise LookupError(f"topic {self._names.dlq} does not exist; run: ezadmin-pipeline setup")
        self._settled = Settled(elastic, self._names, topic_id)

    def letters(self) -> list[Letter]:
        """The open letters, oldest first; copies of one letter are one."""
        found: dict[str, Letter] = {}
        for message in read_partitions(self._settings.kafka, self._names.dlq):
            place = (message.partition, message.offset)
            if place in self._settled:
                continue
            headers = {name: data for name, data in message.headers if isinstance(data, bytes)}
            identity = headers.get("id", f"{place[0]}/{place[1]}".encode()).decode("utf-8", "replace")
            older = found.get(identity)
            places = [*(older.places if older else []), place]
            found[identity] = Letter(identity, headers, message.key, message.value or b"", places)
        return sorted(found.values(), key=lambda letter: letter.text("time"))

    def drop(self, letters: Iterable[Letter]) -> None:
        """Settle letters without doing anything with them."""
        self._settled.add(place for letter in letters for place in letter.places)

    def replay(self, letters: list[Letter]) -> dict[str, int]:
        """Bring letters in again, each once: messages through their topic, lines, counts and alerts into Elasticsearch.

        Returns how many were ``sent`` (to their topic), ``stored``, ``ignored`` (by the rules of today) or ``dead`` again (as
        new letters). Raises LookupError, before anything is done, for a letter that was cut, or of a kind that this version
        does not know.
        """
        for letter in letters:
            if "cut" in letter.headers:
                raise LookupError(
                    f"dead letter {letter.id} was cut ({letter.text('cut')}), so it cannot be brought in whole: look at it "
                    "with `ezadmin-pipeline dlq show`, and drop it, or give its lines with `dlq edit --file`"
                )
            if letter.text("kind") not in KINDS:
                raise LookupError(
                    f"dead letter {letter.id} is of kind {letter.text('kind')!r}, which is none of {', '.join(KINDS)}: "
                    "look at it with `ezadmin-pipeline dlq show`, and leave it out or drop it"
                )
        figures = {"sent": 0, "stored": 0, "ignored": 0, "dead": 0}
        by_kind: dict[str, list[Letter]] = defaultdict(list)
        for letter in letters:
            by_kind[letter.text("kind")].append(letter)
        self._send(by_kind["message"])
        figures["sent"] = len(by_kind["message"])
        writer = _LineWriter(self._settings, self._elastic, self._directory)
        for letter in by_kind["line"]:
            writer.write(letter)
        figures["dead"] = writer.finish()
        figures["ignored"] = writer.ignored
        figures["stored"] = len(by_kind["line"]) - figures["dead"] - figures["ignored"]
        for letter in by_kind["rollup"] + by_kind["alert"]:
            head = action("index", letter.text("index"), letter.id, version=1, version_type="external_gte")
            status, answer = self._elastic.request("POST", "/_bulk", body=head + letter.value + b"\n")
            result = next(iter(answer["items"][0].values())) if status == 200 else answer
            if status != 200 or result["status"] not in (200, 201, 409):
                raise Unavailable(f"{letter.text('kind')} {letter.id}: {result}")
            figures["stored"] += 1
        self.drop(letters)
        return figures

    def _send(self, letters: list[Letter]) -> None:
        if not letters:
            return
        producer = KafkaProducer(
            **self._settings.kafka.options(), acks="all", compression_type="gzip", max_request_size=MAX_REQUEST
        )
        try:
            sent = []
            for letter in letters:
                headers = [(n[5:], d) for n, d in letter.headers.items() if n.startswith("orig.") and n != "orig.key"]
                key = letter.headers.get("orig.key")
                sent.append(producer.send(letter.text("topic"), key=key, value=letter.value, headers=headers))
            for future in sent:
                future.get(timeout=60)
        finally:
            producer.close(timeout=10)


def batch_of_line(letter: Letter, line: bytes, names: Names) -> Batch:
    """The batch of ``line`` alone in the place of a letter of kind ``line``; under the number that it had."""
    fields = {name: letter.text(f"orig.{name}") for name in ("host", "kid", "stream", "epoch", "dataset", "sent")}
    return Batch(
        topic=letter.text("topic") if letter.text("topic") == names.metrics else names.logs,
        seq=int(letter.text("orig.seq")) + int(letter.text("line")),
        n=1,
        tmin=letter.text("orig.tmin"),
        tmax=letter.text("orig.tmax"),
        levels={},
        value=line + b"\n",
        **fields,
    )


def meet(letter: Letter, directory: Directory) -> None:
    """Tell the directory what the host of a foreign topic calls itself, if the letter is of one."""
    host, name, topic = letter.host, letter.text("orig.kid"), letter.text("topic")
    if name and host == foreign_host_id(topic, name):
        directory.meet(host, name, (LABEL, topic))


class _LineWriter:
    """Writes single lines into Elasticsearch; what dies again becomes a new letter of the same name."""

    live = True

    def __init__(self, settings: Settings, elastic: Elastic, directory: Directory) -> None:
        self._names = names = settings.names
        today: Callable[[], datetime] = lambda: datetime.now(UTC)  # noqa: E731
        self._dead = 0
        self.ignored = 0
        self._directory = directory
        self._documents = DocumentMaker(names, directory, today)
        self._letters = DeadLetters(settings.kafka, names.dlq)
        # nothing is waited for: an index that still refuses gives the letter back at once
        self._indexer = Indexer(
            elastic, current_index=lambda index: "~", clock=time.monotonic, in_flight=1, retry_past_index=0.0
        )

    def write(self, letter: Letter) -> None:
        batch = batch_of_line(letter, letter.value, self._names)
        meet(letter, self._directory)
        chunk = Chunk(self, int(letter.text("offset")), fresh=False, context=(letter, batch))
        for _, raw, error in self._documents.make(chunk, batch, [(batch.seq, batch.seq + 1)]):
            self._bury(letter, batch, raw, error.reason, str(error))
        self.ignored += len(chunk.ignored)
        if chunk.count:
            self._indexer.add(chunk)

    def settled(self, lines: int) -> None:
        pass

    def conflicted(self, chunk: Chunk, i: int) -> None:
        pass

    def died(self, chunk: Chunk, i: int, reason: str, text: str) -> None:
        letter, batch = chunk.context
        self._bury(letter, batch, chunk.tags[i][2], reason, text)

    def _bury(self, letter: Letter, batch: Batch, raw: bytes, reason: str, text: str) -> None:
        self._dead += 1
        offset, partition = int(letter.text("offset")), int(letter.text("partition"))
        self._letters.send(line_letter(letter.text("topic"), partition, offset, 0, batch, raw, reason, text))

    def finish(self) -> int:
        """Wait until all is written; returns how many lines died again."""
        self._indexer.drain(lambda: None)
        self._letters.flush(lambda: None)
        self._letters.close()
        self._indexer.close()
        return self._dead
