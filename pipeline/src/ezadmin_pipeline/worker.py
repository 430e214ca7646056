"""A worker: Kafka's consumer around the engine. One process, one thread of decisions, one consumer group for all.

Rebalance callbacks run on the client's own thread, so they only leave a note; the loop acts on it. A revoked partition
is dropped without a barrier: what is not committed is read again by the next owner, which costs at most one commit
interval of work and needs no cooperation of a worker that may be dying (``docs/decisions/0002``).
"""

from __future__ import annotations

import ctypes
import functools
import gc
import logging
import queue
import signal
import socket
import time
from collections.abc import Iterable
from typing import Any

from isal import igzip
from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import MemberToRemove
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import (
    CorruptRecordError,
    FencedInstanceIdError,
    KafkaError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from kafka.record import default_records

from ezadmin_pipeline import broker
from ezadmin_pipeline.alerts import AlertTopic
from ezadmin_pipeline.care import Care
from ezadmin_pipeline.deadletters import DeadLetters
from ezadmin_pipeline.directory import TopicDirectory
from ezadmin_pipeline.elastic import ElasticClient, Unavailable
from ezadmin_pipeline.engine import Defect, Engine, Message
from ezadmin_pipeline.hourly import Hourly
from ezadmin_pipeline.measure import MeasuredElastic, Measures
from ezadmin_pipeline.offsets import Offsets
from ezadmin_pipeline.own import Own
from ezadmin_pipeline.settings import Settings
from ezadmin_pipeline.workers import orphaned
from ezadmin_wire.kafka import KafkaConnection
from ezadmin_wire.own import Identity
from ezadmin_wire.unreadable import unreadable

_log = logging.getLogger(__name__)
_ID_CHECK = 5.0
_STOP_WITHIN = 6.0
_LOOK = 5.0
"""Seconds between two looks at how far behind the partitions are."""
_HEAR = 0.2
"""Seconds between two looks at the config topic."""
_FEW, _MANY = 20, 500
"""Messages to take from Kafka's client at once at least, and at most."""
_POLL = 2 << 20
"""Bytes of messages to take from Kafka's client at once, for each time costs as much as some messages."""
_COLLECT = 16 << 20
"""Bytes of messages after which Python looks for cycles."""


class Stopped(Exception):
    """The worker was told to stop and the time for a last commit is over."""


def tune_memory() -> None:
    """Let glibc give buffers of 1 MiB and more back when they are freed; else it keeps them, scattered over many arenas.

    Smaller ones, as of one message, it keeps: to map each anew cost a tenth of all. And let Python hardly ever look for
    cycles by itself: what Kafka's client fetched hangs in cycles, so the need goes by bytes, which the worker counts, and
    not by the number of lines.
    """
    gc.set_threshold(100_000)
    gc.freeze()
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none and need none
    if mallopt is not None:
        mallopt(-3, 1 << 20)  # M_MMAP_THRESHOLD
        mallopt(-1, 4 << 20)  # M_TRIM_THRESHOLD
        mallopt(-8, 2)  # M_ARENA_MAX


def tune_client() -> None:
    """Let Kafka's client unpack gzip by Intel's library: it has no setting for that, and takes three times as long."""
    default_records.gzip_decode = igzip.decompress


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, notes: queue.SimpleQueue[tuple[str, list[TopicPartition]]]) -> None:
        self._notes = notes

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._notes.put(("assigned", list(assigned)))

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._notes.put(("revoked", list(revoked)))


class TopicIds:
    """Asks Kafka for topic ids; a topic that is not there has none."""

    def __init__(self, kafka: KafkaConnection) -> None:
        self._kafka = kafka
        self._admin: Any = None

    def read(self, topics: list[str]) -> dict[str, str]:
        """The id of each topic that exists. Raises KafkaError when Kafka does not answer, or KafkaRefused."""
        try:
            found = self.admin().describe_topics(topics)
        except KafkaError as error:
            self.close()
            broker.refuse(error, self._kafka, f"describe {', '.join(topics)}")
            raise
        for topic in found:
            if topic["error_code"] == broker.TOPIC_AUTHORIZATION_FAILED:
                broker.refuse(TopicAuthorizationFailedError(topic["name"]), self._kafka, f"describe {topic['name']}")
        return {topic["name"]: str(topic["topic_id"]) for topic in found if not topic["error_code"]}

    def admin(self) -> Any:
        """The connection, made when it is first needed."""
        if self._admin is None:
            self._admin = KafkaAdminClient(**self._kafka.options(), bootstrap_timeout_ms=5_000)
        return self._admin

    def close(self) -> None:
        """Close the connection."""
        if self._admin is not None:
            self._admin.close()
            self._admin = None


class Worker:
    """Runs until SIGTERM or SIGINT."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topics = [settings.names.metrics, settings.names.logs]
        self._foreign = [foreign.topic for foreign in settings.foreign]
        self._notes: queue.SimpleQueue[tuple[str, list[TopicPartition]]] = queue.SimpleQueue()
        self._reading: set[str] = set()
        self._asked = True
        self._to_assign: set[TopicPartition] = set()
        self._retry_assign = 0.0
        self._reread: dict[TopicPartition, int] = {}
        self._offsets = Offsets()
        self._consumer: Any = None
        self._last_poll = 0.0
        self._broken = False
        self._all_paused = False
        self._stop_at: float | None = None
        self._ids = TopicIds(settings.kafka)
        self._elastic = ElasticClient(settings.elasticsearch)
        self.measures = Measures(MeasuredElastic(self._elastic))
        self.letters = DeadLetters(settings.kafka, settings.names.dlq)
        self.alerts = AlertTopic(settings.kafka, settings.names.alerts)
        self.directory = TopicDirectory(settings.kafka, settings.names.config, settings.verify_keys(), self._keep_alive)
        self.engine = Engine(
            settings,
            self.measures.elastic,
            self.letters,
            self.directory,
            alert_topic=self.alerts,
            keep_alive=self._keep_alive,
            clock=time.monotonic,
        )
        self._next_barrier = 0.0
        self._next_id_check = 0.0
        self._care = Care(settings, self._elastic)
        self._hourly = Hourly(settings, self._elastic, lambda host: self.directory.host(host).members)
        self._next_look = 0.0
        self._next_hear = 0.0
        self._at_once = _FEW
        self._uncollected = 0
        self._metrics: Any = None
        if settings.metrics_listen is not None:
            from ezadmin_pipeline.metrics import Server  # a worker that nobody asks does not load it

            self._metrics = Server(self, settings.metrics_listen, settings.member or socket.gethostname())

        self._own: Own | None = None
        if settings.own_key is not None:
            self._own = Own(settings, Identity.load(settings.own_key, settings.own_host_id), self)

    def run(self) -> None:
        """Work until told to stop."""
        tune_memory()
        tune_client()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        try:
            if self._metrics is not None:
                self._metrics.look_after()
            _log.info("reading the configuration from %s", self._settings.names.config)
            self.directory.catch_up()
            gc.collect()
            gc.freeze()  # records of hosts live long, and may be many
            if self._own is not None:
                self._own.start()
            while self._stop_at is None:
                try:
                    self._session()
                except FencedInstanceIdError:
                    _log.critical("another worker took over the name %s; names must differ", self._settings.member)
                    raise
                except (KafkaError, ConnectionError) as error:
                    if isinstance(error, KafkaError):
                        broker.refuse(error, self._settings.kafka, f"read {', '.join(self._topics)}")
                    _log.warning("Kafka: %s; connecting anew", broker.explain(error, self._settings.kafka))
                    self._drop_everything()
                    self._collect()
                    time.sleep(1.0)
        except Stopped:
            _log.warning("stopped before everything was committed; the next worker reads the rest again")
        finally:
            if self._own is not None and self._own.producer.is_alive():
                self._own.close()
            if self._metrics is not None:
                self._metrics.close()
            self._care.close()
            self._hourly.close()
            self.engine.close()
            self.directory.close()
            self.letters.close()
            self.alerts.close()
            self._ids.close()
            self._elastic.close()
        _log.info("stopped", extra={"fields": self.figures()})

    def _leave(self) -> None:
        """Give the name up, so that others get the partitions now and not after ``session_timeout``."""
        if self._settings.member is None:
            return
        group = self._settings.names.consumer_group("pipeline")
        try:
            self._ids.admin().remove_group_members(group, [MemberToRemove(group_instance_id=self._settings.member)])
        except KafkaError as error:
            _log.info("the name %s stays in the group for a while: %r", self._settings.member, error)

    def figures(self) -> dict[str, int | dict[str, int]]:
        """What this worker has done since its start."""
        engine = self.engine
        return {
            "lines": engine.lines,
            "ignored": engine.ignored,
            "rule_hits": dict(engine.rule_hits),
            "resent": engine.resent,
            "conflicts": engine.conflicts,
            "dead_letters": self.letters.written,
            "alerts": self.alerts.written,
        }

    def _stop(self, number: int, frame: object) -> None:
        self._stop_at = time.monotonic() + _STOP_WITHIN

    def _session(self) -> None:
        settings = self._settings
        self._broken = False
        self._consumer = KafkaConsumer(
            **settings.kafka.options(),
            group_id=settings.names.consumer_group("pipeline"),
            partition_assignment_strategy=(CooperativeStickyAssignor,),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            allow_auto_create_topics=False,
            group_instance_id=settings.member,
            session_timeout_ms=int(settings.session_timeout * 1000),
            heartbeat_interval_ms=int(settings.session_timeout * 1000 / 5),
            metadata_max_age_ms=5_000,
            # compressed; what is fetched and not yet taken is a worker's memory, however much waits in Kafka
            fetch_max_bytes=2 << 20,
            max_partition_fetch_bytes=512 << 10,
            max_poll_records=_FEW,
            bootstrap_timeout_ms=5_000,
        )
        try:
            # the client loses metadata that arrives while it joins a group, and stays without partitions: ask before
            for topic in self._topics:
                if not self._consumer.partitions_for_topic(topic):
                    self._ids.read([topic])  # it may be there, and we not be allowed to see it
                    raise UnknownTopicOrPartitionError(
                        f"topic {topic} does not exist (yet); ezadmin-pipeline setup makes it"
                    )
            self._subscribe(self._ids.read(self._foreign) if self._foreign else ())
            _log.info("working in consumer group %s", settings.names.consumer_group("pipeline"))
            while self._stop_at is None:
                try:
                    self._turn()
                except CorruptRecordError:
                    self._pass_over_unreadable()
                    raise
                if orphaned():
                    _log.warning("the process that started this worker is gone")
                    self._stop(signal.SIGTERM, None)
            self._barrier()
        finally:
            consumer, self._consumer = self._consumer, None
            consumer.close(autocommit=False, timeout_ms=2_000)
        self._leave()

    def _subscribe(self, foreign: Iterable[str]) -> None:
        """Read our own topics, and the ``foreign`` ones that there are: one that is missing holds nothing up."""
        self._reading = {*self._topics, *foreign}
        self._asked = not self._foreign
        for topic in self._foreign:
            if topic not in self._reading:
                _log.warning("foreign topic %s does not exist (yet); it is read from when it is made", topic)
        self._consumer.subscribe(sorted(self._reading), listener=_Listener(self._notes))

    def _turn(self) -> None:
        self._apply_notes()
        self._assign_waiting()
        many = self.engine.many
        self._pause_while(many or self.engine.indexer.busy or self.engine.indexer.away is not None)
        records = self._poll(50 if self.engine.indexer.waiting_bytes else 200)
        fetched = time.monotonic()
        if fetched >= self._next_hear:
            self._next_hear = fetched + _HEAR
            self.directory.poll()
        size = 0
        for place, messages in records.items():
            self._process(place, messages, fetched)
            size += sum(len(message.value or b"") for message in messages)
        if size:
            self._at_once = max(_FEW, min(_MANY, _POLL * sum(map(len, records.values())) // size))
        self._uncollected += size
        if self._uncollected >= _COLLECT:
            self._collect()
        self.engine.pump()
        mine = (self._settings.names.metrics, 0) in self.engine.shards
        self._care.tick(mine)
        self._hourly.tick(mine)
        now = time.monotonic()
        self._look()
        if (
            self.engine.many and not many
        ):  # with what has just come; if the barrier cannot commit it, all waits for the next
            self._next_barrier = now
        if now >= self._next_barrier and (self.engine.dirty or now >= self._next_id_check):
            self._barrier()
        self._offsets.tick(self._consumer)

    def _collect(self) -> None:
        self._uncollected = 0
        gc.collect()

    def _look(self) -> None:
        """Note now and then how far behind the partitions are; asks Kafka, for a paused client hears of no new ends."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK
        self._collect()  # a worker with nothing to read makes cycles, too
        if self._metrics is not None:
            self._metrics.look_after()
        if self._own is not None:
            self._own.tick()
        shards = dict(self.engine.shards)
        try:
            places = [TopicPartition(*place) for place in shards]
            ends = self._consumer.end_offsets(places, timeout_ms=2_000) if places else {}
        except KafkaError as error:
            _log.info("Kafka does not say how far behind this worker is: %s", error)
            return
        standing = [(*place, shards[tuple(place)].next, end) for place, end in ends.items()]
        now = time.time()
        self.measures.lag.update(standing, now)
        self.engine.tick({(place.topic, place.partition): end for place, end in ends.items()}, int(now * 1000))

    def _poll(self, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        self._last_poll = time.monotonic()
        records: dict[TopicPartition, list[Any]] = self._consumer.poll(timeout_ms=timeout_ms, max_records=self._at_once)
        coordinator = self._consumer._coordinator
        if coordinator._join_task is not None and not coordinator.need_rejoin():
            # kafka-python 3.0.12: the leader of a group joins again when the topics' metadata has changed, forgets why while
            # the answer is under way, and if poll() times out just then, never looks at the answer: a worker without
            # partitions, for ever (seen in a third of the starts right after Kafka's).
            coordinator.request_rejoin()
        return records

    def _process(self, place: TopicPartition, messages: list[Any], fetched: float) -> None:
        for message in messages:
            shard = self.engine.shards.get((place.topic, place.partition))
            if shard is None:
                return
            if message.offset > shard.next and not self._hole_is_real(place, shard.next):
                return
            if message.offset < shard.next:
                # the client was sent back to the beginning: the topic may not be the one it was
                self._next_barrier = self._next_id_check = 0.0
                self._take_anew([(place.topic, place.partition)])
                return
            try:
                self.engine.process(
                    Message(
                        place.topic,
                        place.partition,
                        message.offset,
                        message.key,
                        message.headers,
                        message.value,
                        fetched,
                        message.timestamp,
                    )
                )
            except Defect:
                self._take_anew([(place.topic, place.partition)])
                return
            self.measures.read(message)

    def _hole_is_real(self, place: TopicPartition, expected: int) -> bool:
        """Whether the messages from ``expected`` on are gone; else the partition is read again from there, once."""
        if self._reread.get(place) == expected:
            _log.error("%s/%d: messages from offset %d on are missing in Kafka", *place, expected)
            del self._reread[place]
            return True
        self._reread[place] = expected
        self._consumer.seek(place, expected)
        return False

    def _pass_over_unreadable(self) -> None:
        """Make a dead letter of the message that the client cannot decode, and commit behind it: see
        :mod:`ezadmin_wire.unreadable`.
        """
        self._broken = True
        connect = functools.partial(KafkaConsumer, **self._settings.kafka.options())
        for (topic, partition), shard in list(self.engine.shards.items()):
            while shard.live and unreadable(connect, topic, partition, shard.next):
                _log.error("%s/%d/%d cannot be decoded", topic, partition, shard.next)
                self.engine.process(Message(topic, partition, shard.next, None, [], None, time.monotonic()))
        self._barrier()

    # partitions come and go

    def _apply_notes(self) -> None:
        while not self._notes.empty():
            kind, places = self._notes.get()
            _log.info("%s: %s", kind, ", ".join(f"{place.topic}/{place.partition}" for place in sorted(places)))
            for place in places:
                self.engine.drop(*place)
                self._offsets.forget(place)
                self._to_assign.discard(place)
                if kind == "assigned":
                    self._to_assign.add(place)
                    self._all_paused = False
                    self._retry_assign = 0.0
            self._ask_for_all()

    def _ask_for_all(self) -> None:
        """Join once more if a topic is missing: Kafka gives a member that comes back under its name what it had, also if
        it now reads more.
        """
        if self._asked or self._consumer is None:
            return
        self._asked = True
        if self._reading - {place.topic for place in self._consumer.assignment()}:
            self._consumer._coordinator.request_rejoin()

    def _take_anew(self, places: Iterable[tuple[str, int]]) -> None:
        for topic, partition in places:
            self.engine.drop(topic, partition)
            self._to_assign.add(TopicPartition(topic, partition))

    def _assign_waiting(self) -> None:
        if not self._to_assign or time.monotonic() < self._retry_assign:
            return
        self._to_assign &= self._consumer.assignment()
        waiting = sorted(self._to_assign)
        if not waiting:
            return
        self._consumer.pause(*waiting)
        try:
            ids = self._ids.read([*self._topics, *self._foreign])
            begins = self._consumer.beginning_offsets(waiting, timeout_ms=5_000)
            ends = self._consumer.end_offsets(waiting, timeout_ms=5_000)
            for place in waiting:
                if place.topic in ids:
                    offset = self.engine.assign(
                        place.topic, place.partition, ids[place.topic], begins[place], ends[place]
                    )
                    self._consumer.seek(place, offset)
                    self._consumer.resume(place)
                    self._offsets.set(place, offset)  # who had it before may not have come to tell it
                    self._reread.pop(place, None)
                    self._to_assign.discard(place)
                    self._all_paused = False
        except Unavailable as error:
            _log.warning("commit records cannot be read, partitions wait: %s", error)
        except (KafkaError, AssertionError) as error:
            # the partition was taken away meanwhile, or its topic is just being made: the next turn knows more
            _log.warning("partitions wait: %r", error)
        self._retry_assign = time.monotonic() + 1.0

    def _pause_while(self, busy: bool) -> None:
        if busy and not self._all_paused:
            self._consumer.pause(*self._consumer.assignment())
            self._all_paused = True
        elif not busy and self._all_paused:
            self._consumer.resume(*(self._consumer.assignment() - self._to_assign))
            self._all_paused = False

    def _drop_everything(self) -> None:
        for place in list(self.engine.shards):
            self.engine.drop(*place)
        self._to_assign.clear()
        self._offsets.clear()
        while not self._notes.empty():
            self._notes.get()
        self._all_paused = False

    # barrier

    def _barrier(self) -> None:
        now = time.monotonic()
        self._next_barrier = now + self._settings.commit_interval
        self._next_id_check = now + _ID_CHECK
        try:
            ids = self._ids.read([*self._topics, *self._foreign])
        except KafkaError as error:
            _log.warning("nothing is committed while Kafka does not say which topics it has: %s", error)
            return
        if self._consumer is not None and not ids.keys() <= self._reading:
            self._subscribe(topic for topic in self._foreign if topic in ids)
        start = time.perf_counter()
        try:
            done, lost = self.engine.barrier(ids)
        except Unavailable as error:
            _log.warning("commit failed, everything since the last one is read again: %s", error)
            self._take_anew(list(self.engine.shards))
            return
        self._take_anew(lost)
        if done:
            self.measures.commits.add(time.perf_counter() - start)
            for place, upto in done.items():
                self._offsets.set(TopicPartition(*place), upto)
            self._offsets.tell(self._consumer)

    def _keep_alive(self) -> None:
        """Called while the engine waits: stay in the group, hear what is taken away, and stop when told so."""
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            raise Stopped
        if self._consumer is None:
            if self._stop_at is not None:
                raise Stopped
            return
        if self._broken or time.monotonic() - self._last_poll < 0.5:
            return
        self._pause_while(True)
        # everything is paused, so what comes belongs to partitions just assigned: they are read from their record later
        self._poll(0)
        self._apply_notes()
        self._look()
